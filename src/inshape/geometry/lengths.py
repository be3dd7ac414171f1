"""One axis of a sliding window: how far it is padded and how many steps it takes."""

from __future__ import annotations

from typing import Literal


def same_padding(
    length_px: int, kernel_px: int, stride_px: int, dilation_px: int = 1
) -> tuple[int, int]:
    """What TensorFlow's ``"same"`` pads along one axis; it depends on the length's remainder.

    Example:
        >>> same_padding(224, kernel_px=3, stride_px=2), same_padding(225, kernel_px=3, stride_px=2)
        ((0, 1), (1, 1))

    Source: "padding" in the TensorFlow guide of ``tf.nn``.
    """
    steps = -(-length_px // stride_px)
    reach = (steps - 1) * stride_px + (kernel_px - 1) * dilation_px + 1
    total = max(reach - length_px, 0)
    return total // 2, total - total // 2


def window_padding(
    length_px: int | None,
    kernel_px: int,
    stride_px: int,
    *,
    dilation_px: int = 1,
    padding: Literal["same", "valid"] = "valid",
    pads_px: tuple[int, int] = (0, 0),
) -> tuple[int, int] | None:
    """All zeros around one axis of a window layer's input: its explicit ones and ``"same"``.

    Example:
        >>> window_padding(None, 3, 1, padding="same"), window_padding(None, 3, 2, padding="same")
        ((1, 1), None)
    """
    before, after = pads_px
    if padding == "valid":
        return before, after
    if length_px is None and stride_px == 1:
        total = (kernel_px - 1) * dilation_px
        return before + total // 2, after + total - total // 2
    if length_px is None:
        return None
    same = same_padding(length_px + before + after, kernel_px, stride_px, dilation_px)
    return before + same[0], after + same[1]


def output_length(
    length_px: int | None,
    kernel_px: int,
    stride_px: int,
    *,
    dilation_px: int = 1,
    padding: Literal["same", "valid"] = "valid",
    pads_px: tuple[int, int] = (0, 0),
) -> int | None:
    """Pixels that a sliding window leaves along one axis.

    Example:
        >>> output_length(97, 3, 2, padding="same"), output_length(97, 3, 2, pads_px=(0, 1))
        (49, 48)
    """
    if length_px is None:
        return None
    padded = length_px + sum(pads_px)
    if padding == "same":
        return -(-padded // stride_px)
    return max(0, (padded - (kernel_px - 1) * dilation_px - 1) // stride_px + 1)

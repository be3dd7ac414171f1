r"""Convolution kernels composed with a resampling of their input.

Resampling a picture and convolving it are both linear, so one convolution can do both.

**Up.** Let x be the small picture and u the one enlarged f times with half-pixel centres: along one
axis u[f q + r] = sum over i of P_r[i] x[q + i], where the phase r = 0 .. f-1 and the weights P_r of
the interpolation belong to the source coordinate (r + 1/2) / f - 1/2. A convolution of u with taps
w[t], stride f s and p zeros in front computes, for output o,

    y[o] = sum_t w[t] u[f s o - p + t]
         = sum_t w[t] sum_i P_r(t)[i] x[s o + q(t) + i],    f q(t) + r(t) = t - p, 0 <= r(t) < f
         = sum_j W[j] x[s o + j],                           W[j] = sum_t w[t] P_r(t)[j - q(t)]

which is a convolution of x with taps W and stride s. For f = 2, three taps, stride 2 and no zeros
in front (TensorFlow's ``same`` at an even size): nearest gives W[-1..1] = 0, w0 + w1, w2, and
bilinear w0/4, 3 (w0 + w1)/4 + w2/4, w1/4 + 3 w2/4.

The zeros in front are as many as W reaches before 0. Those behind follow from the count of outputs:
floor((f S + p + p' - k) / (f s)) = floor((S + floor((p + p' - k) / f)) / s) for every size S.

**Down.** Averaging blocks of f x f pixels and then convolving with taps w, stride s and zeros p is
a convolution with every tap repeated f times and divided by f (per axis), stride f s, zeros f p.

**Borders.** With nearest, and with averaging where f divides the picture's size, both ways agree
everywhere. Bilinear and bicubic differ where a tap reaches over the border: a resizing layer
repeats the border pixel there, a convolution sees zeros.

**Size.** An odd kernel stays odd and is centred on the pixel that W[0] reads, which adds a zero tap
where the reach is one-sided: with stride 1 that is an ordinary ``same`` convolution, it is 3x3 for
3x3 stems with nearest as with bilinear, and the zero taps may learn. An even kernel (a patch
embedding) is kept as small as it can be.

Sources: half-pixel centres as in ``tf.image.resize`` and Keras's ``Resizing``; cubic convolution
with a = -1/2 from Keys, "Cubic convolution interpolation for digital image processing", IEEE
Trans. ASSP 29(6), 1981; resampling patch embeddings as linear maps from FlexiViT, Beyer et al.,
2022 (arXiv:2212.08013).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import StrategyError, UnknownName, WeightsError
from ..geometry.spec import Pads
from ..graph.edits import ResampleKernel

Array: TypeAlias = NDArray[Any]
AxisGeometry: TypeAlias = tuple[int, int, tuple[int, int]]
"""Kernel, stride and zeros (before, after) along one axis, in pixels."""

UP_METHODS = ("nearest", "bilinear", "bicubic")


@dataclass(frozen=True, slots=True)
class ComposedKernel:
    """A convolution that does a resampling and an older convolution at once.

    Attributes:
        kernel: (height, width, input channels, filters).
        stride_hw: its step in pixels.
        pads: the zeros around its input, ``((top, bottom), (left, right))``.
    """

    kernel: Array
    stride_hw: tuple[int, int]
    pads: Pads


def composed_up_geometry(
    kernel_px: int, stride_px: int, pads_px: tuple[int, int], factor: int, method: str
) -> AxisGeometry:
    """Kernel, stride and zeros along one axis once enlarging the input is part of the convolution.

    Args:
        kernel_px: taps of the convolution, at least 1.
        stride_px: its step, a multiple of ``factor``.
        pads_px: zeros before and after the enlarged input.
        factor: how many times the input is enlarged, at least 1.
        method: ``"nearest"``, ``"bilinear"`` or ``"bicubic"``.

    Returns:
        Kernel, stride and (before, after) on the small input.

    Raises:
        StrategyError: if the factor is no integer of at least 1 or does not divide the stride.
        UnknownName: if there is no such method.

    Example:
        >>> composed_up_geometry(3, 2, (0, 1), 2, "nearest")
        (3, 1, (1, 1))
        >>> composed_up_geometry(3, 2, (0, 1), 2, "bicubic")
        (5, 1, (2, 2))
    """
    _check_factor(factor)
    _check_method(method)
    if stride_px % factor:
        raise StrategyError(
            f"enlarging {factor} times does not divide a stride of {stride_px}; expected a divisor "
            "of the stem's stride; use strategy='resize'"
        )
    if factor == 1:
        return kernel_px, stride_px, pads_px
    first, last = _reach(kernel_px, pads_px[0], factor, method)
    spare = (sum(pads_px) - kernel_px) // factor
    return last - first + 1, stride_px // factor, (-first, spare + last + 1)


def composed_down_geometry(
    kernel_px: int, stride_px: int, pads_px: tuple[int, int], factor: int
) -> AxisGeometry:
    """Kernel, stride and zeros along one axis once averaging the input is part of the convolution.

    Args:
        kernel_px: taps of the convolution, at least 1.
        stride_px: its step.
        pads_px: zeros before and after the reduced input.
        factor: pixels per averaged block, at least 1.

    Returns:
        Kernel, stride and (before, after) on the large input.

    Raises:
        StrategyError: if the factor is no integer of at least 1.

    Example:
        >>> composed_down_geometry(3, 2, (0, 1), 2)
        (6, 4, (0, 2))
    """
    _check_factor(factor)
    before, after = pads_px
    return kernel_px * factor, stride_px * factor, (before * factor, after * factor)


def resampled_geometry(
    kernel_hw: tuple[int, int],
    stride_hw: tuple[int, int],
    pads: Pads,
    *,
    factor: int,
    direction: Literal["up", "down"],
    method: str,
) -> tuple[tuple[int, int], tuple[int, int], Pads]:
    """What a ``ResampleKernel`` edit needs to know, before there are any weights.

    Args:
        kernel_hw: taps of the convolution, height and width.
        stride_hw: its step; a multiple of ``factor`` where the direction is ``"up"``.
        pads: zeros around its input after resampling, ``((top, bottom), (left, right))``.
        factor: how many times the input is enlarged or reduced, at least 1.
        direction: ``"up"`` or ``"down"``.
        method: ``"nearest"``, ``"bilinear"`` or ``"bicubic"`` for up, ``"area"`` for down.

    Returns:
        Kernel, stride and zeros of the composed convolution.

    Raises:
        StrategyError: if the factor does not fit.
        UnknownName: if there is no such method or direction.

    Example:
        >>> resampled_geometry((3, 3), (2, 2), ((0, 1), (0, 1)),
        ...                    factor=2, direction="up", method="bilinear")
        ((3, 3), (1, 1), ((1, 1), (1, 1)))
    """
    _check_direction(direction, method)
    axes: list[AxisGeometry] = []
    for kernel_px, stride_px, pads_px in zip(kernel_hw, stride_hw, pads, strict=True):
        if direction == "up":
            axes.append(composed_up_geometry(kernel_px, stride_px, pads_px, factor, method))
        else:
            axes.append(composed_down_geometry(kernel_px, stride_px, pads_px, factor))
    (kernel_h, stride_h, pads_h), (kernel_w, stride_w, pads_w) = axes
    return (kernel_h, kernel_w), (stride_h, stride_w), (pads_h, pads_w)


def compose_up(
    kernel: Array,
    *,
    stride_hw: tuple[int, int],
    pads: Pads,
    factor: int,
    method: str,
) -> ComposedKernel:
    """The convolution of a small picture that equals enlarging it and convolving with ``kernel``.

    Args:
        kernel: (height, width, input channels, filters).
        stride_hw: its step on the enlarged picture, a multiple of ``factor`` on each axis.
        pads: zeros around the enlarged picture, ``((top, bottom), (left, right))``.
        factor: how many times the picture is enlarged, at least 1.
        method: ``"nearest"``, ``"bilinear"`` or ``"bicubic"``.

    Returns:
        The composed kernel (of the kernel's dtype), its stride and its zeros.

    Raises:
        StrategyError: if the factor does not divide the stride.
        UnknownName: if there is no such method.

    Example:
        >>> composed = compose_up(np.ones((3, 3, 1, 1)), stride_hw=(2, 2),
        ...                       pads=((0, 1), (0, 1)), factor=2, method="bilinear")
        >>> composed.kernel.sum(axis=0).ravel() / 3
        array([0.25, 1.75, 1.  ])
        >>> composed.stride_hw, composed.pads
        ((1, 1), ((1, 1), (1, 1)))
    """
    kernel_hw = (kernel.shape[0], kernel.shape[1])
    new_hw, new_stride_hw, new_pads = resampled_geometry(
        kernel_hw, stride_hw, pads, factor=factor, direction="up", method=method
    )
    if factor == 1:
        return ComposedKernel(kernel.copy(), stride_hw, pads)
    rows, columns = (
        _up_matrix(old_px, before, factor, method, new_px, new_before)
        for old_px, (before, _), new_px, (new_before, _) in zip(
            kernel_hw, pads, new_hw, new_pads, strict=True
        )
    )
    return ComposedKernel(_both_axes(kernel, rows, columns), new_stride_hw, new_pads)


def compose_down(
    kernel: Array, *, stride_hw: tuple[int, int], pads: Pads, factor: int
) -> ComposedKernel:
    """The convolution of a large picture that equals averaging blocks and convolving the result.

    Args:
        kernel: (height, width, input channels, filters).
        stride_hw: its step on the reduced picture.
        pads: zeros around the reduced picture, ``((top, bottom), (left, right))``.
        factor: pixels per block along each axis, at least 1.

    Returns:
        The composed kernel (of the kernel's dtype), its stride and its zeros.

    Raises:
        StrategyError: if the factor is no integer of at least 1.

    Example:
        >>> row = np.array([1.0, 2.0]).reshape(1, 2, 1, 1)
        >>> compose_down(row, stride_hw=(1, 1), pads=((0, 0), (1, 0)), factor=2).kernel[0, :, 0, 0]
        array([0.25, 0.25, 0.5 , 0.5 ])
    """
    kernel_hw = (kernel.shape[0], kernel.shape[1])
    _, new_stride_hw, new_pads = resampled_geometry(
        kernel_hw, stride_hw, pads, factor=factor, direction="down", method="area"
    )
    rows, columns = (np.repeat(np.eye(px), factor, axis=0) / factor for px in kernel_hw)
    return ComposedKernel(_both_axes(kernel, rows, columns), new_stride_hw, new_pads)


def resampled_kernel(
    kernel: Array, edit: ResampleKernel, *, stride_hw: tuple[int, int], pads: Pads
) -> Array:
    """The kernel that a ``ResampleKernel`` edit asks for.

    Args:
        kernel: the old kernel, (height, width, input channels, filters).
        edit: the decision.
        stride_hw: the old stride.
        pads: the old zeros around the resampled input, ``((top, bottom), (left, right))``.

    Returns:
        The composed kernel, of the old one's dtype.

    Raises:
        StrategyError: if the factor does not fit.
        UnknownName: if there is no such method or direction.
        WeightsError: if the result is not the convolution that the edit describes.
    """
    _check_direction(edit.direction, edit.method)
    if edit.direction == "up":
        composed = compose_up(
            kernel, stride_hw=stride_hw, pads=pads, factor=edit.factor, method=edit.method
        )
    else:
        composed = compose_down(kernel, stride_hw=stride_hw, pads=pads, factor=edit.factor)
    kernel_hw = (composed.kernel.shape[0], composed.kernel.shape[1])
    got = (kernel_hw, composed.stride_hw, composed.pads)
    planned = (edit.kernel_hw, edit.stride_hw, edit.pads)
    if got != planned:
        raise WeightsError(
            f"kernel {kernel.shape[:2]} resampled {edit.direction} by {edit.factor} gives "
            f"(kernel, stride, zeros) {got}, the plan expects {planned}; make the plan again for "
            "this model"
        )
    return composed.kernel


def _check_factor(factor: int) -> None:
    if factor < 1 or factor != int(factor):
        raise StrategyError(
            f"resampling factor {factor}; expected an integer of at least 1; use strategy='resize' "
            "for other factors"
        )


def _check_method(method: str) -> None:
    if method not in UP_METHODS:
        raise UnknownName("interpolation", method, UP_METHODS)


def _check_direction(direction: str, method: str) -> None:
    if direction not in ("up", "down"):
        raise UnknownName("resampling direction", direction, ("up", "down"))
    if direction == "down" and method != "area":
        raise UnknownName("way to reduce", method, ("area",))


def _both_axes(kernel: Array, rows: Array, columns: Array) -> Array:
    composed = np.einsum("ai,bj,ijcd->abcd", rows, columns, kernel.astype(np.float64))
    return composed.astype(kernel.dtype)


def _phase_weights(phase: int, factor: int, method: str) -> dict[int, float]:
    """Weights of the small picture's pixels, by offset, in one pixel of the enlarged one."""
    if method == "nearest":
        return {0: 1.0}
    position = (phase + 0.5) / factor - 0.5
    below = math.floor(position)
    reach = 1 if method == "bilinear" else 2
    weigh = _triangle if method == "bilinear" else _keys_cubic
    weights = {i: weigh(abs(position - i)) for i in range(below - reach + 1, below + reach + 1)}
    # An odd factor puts one pixel of the enlarged picture exactly on one of the small picture.
    return {i: weight for i, weight in weights.items() if abs(weight) > 1e-12}


def _triangle(distance: float) -> float:
    return max(0.0, 1.0 - distance)


def _keys_cubic(distance: float) -> float:
    if distance <= 1.0:
        return (1.5 * distance - 2.5) * distance**2 + 1.0
    if distance < 2.0:
        return ((-0.5 * distance + 2.5) * distance - 4.0) * distance + 2.0
    return 0.0


def _reach(kernel_px: int, before_px: int, factor: int, method: str) -> tuple[int, int]:
    """The first and last pixel, from ``stride * output``, that the composed kernel reads."""
    offsets = [
        tap + i
        for tap, phase in (divmod(t - before_px, factor) for t in range(kernel_px))
        for i in _phase_weights(phase, factor, method)
    ]
    first, last = min(offsets), max(offsets)
    if kernel_px % 2:
        reach = max(-first, last)
        first, last = -reach, reach
    return first, last


def _up_matrix(
    old_px: int, before_px: int, factor: int, method: str, new_px: int, new_before_px: int
) -> Array:
    matrix = np.zeros((new_px, old_px))
    for t in range(old_px):
        tap, phase = divmod(t - before_px, factor)
        for i, weight in _phase_weights(phase, factor, method).items():
            matrix[new_before_px + tap + i, t] += weight
    return matrix

"""What edits mean for one layer's configuration, and for what stands in front of the network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from ..geometry.lengths import same_padding
from ..geometry.spec import Front, Pads
from .edits import (
    Bypass,
    Edit,
    PoolToGrid,
    ResampleKernel,
    SetConstants,
    SetDilation,
    SetEpsilon,
    SetFront,
    SetPadding,
    SetPads,
    SetStride,
)

FRONT_NAMES = frozenset(("fit_picture", "repeat_channel", "project_channels"))


def front_layers(picture: Any, edits: Sequence[Edit]) -> tuple[Any, keras.layers.Layer | None]:
    """Put the resizing and channel layers in front, if an edit asks for them."""
    front = next((e.front for e in reversed(edits) if isinstance(e, SetFront)), Front())
    x = picture
    if front.resize_hw is not None:
        height, width = front.resize_hw
        x = keras.layers.Resizing(
            height,
            width,
            interpolation=front.interpolation,
            pad_to_aspect_ratio=front.fit == "letterbox",
            crop_to_aspect_ratio=front.fit == "crop",
            name="fit_picture",
        )(x)
    projection = None
    if front.channels == "repeat":
        x = keras.layers.Concatenate(name="repeat_channel")([x] * front.network_channels)
    elif front.channels == "project":
        projection = keras.layers.Conv2D(
            front.network_channels, 1, use_bias=False, name="project_channels"
        )
        x = projection(x)
    return x, projection


class Changes:
    """The edits of one layer, sorted by what they do."""

    def __init__(self) -> None:
        self.config: dict[str, Any] = {}
        self.pads: Pads | None = None
        self.bypass = False
        self.grid_hw: tuple[int, int] | None = None

    def add(self, edit: Edit) -> None:
        """Take one edit of this layer in; a later one replaces an earlier one."""
        match edit:
            case SetStride(_, stride_hw):
                self.config["strides"] = stride_hw
            case SetDilation(_, dilation_hw):
                self.config["dilation_rate"] = dilation_hw
            case ResampleKernel():
                self.config |= {"kernel_size": edit.kernel_hw, "strides": edit.stride_hw}
                self._pad(edit.pads, edit.kernel_hw, edit.stride_hw)
            case SetPadding(_, "same" | "valid" as padding):
                self.config["padding"], self.pads = padding, None
            case SetPadding():
                self.config["padding"], self.pads = "valid", edit.padding  # pyright: ignore[reportAttributeAccessIssue]
            case SetPads(_, pads):
                self.config["padding"] = pads
            case Bypass():
                self.bypass = True
            case PoolToGrid(_, grid_hw):
                self.grid_hw = grid_hw
            case SetConstants(_, constants):
                self.config |= {key: list(values) for key, values in constants}
            case SetEpsilon(_, epsilon):
                self.config["epsilon"] = epsilon
            case SetFront():
                pass

    def _pad(self, pads: Pads, kernel_hw: tuple[int, int], stride_hw: tuple[int, int]) -> None:
        """Pad as ``"same"`` where that is equal at every size, which needs no layer of its own."""
        at_stride_one = tuple(same_padding(k, k, 1) for k in kernel_hw)
        same = stride_hw == (1, 1) and pads == at_stride_one
        self.config["padding"] = "same" if same else "valid"
        self.pads = None if same else pads

"""A resizing layer in front; the network keeps a working size of its own."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

from ..errors import StrategyError, check_choice
from ..geometry.spec import GraphSpec, InputLayers
from ..shapes import InputShape
from ..weights.channels import ChannelRule
from .channels import plan_channels, with_channels
from .decision import Decision
from .layers import fitted

Fit: TypeAlias = Literal["stretch", "letterbox", "crop"]
Interpolation: TypeAlias = Literal["bilinear", "nearest"]

_OUTSIDE = ("bicubic", "area", "lanczos3", "lanczos5", "gaussian", "mitchellcubic", "antialias")


def resize(
    spec: GraphSpec,
    target: InputShape,
    *,
    working_hw: tuple[int, int] | None = None,
    fit: Fit = "stretch",
    interpolation: Interpolation = "bilinear",
    channels: ChannelRule = "auto",
) -> Decision:
    """Plan a resizing layer inside the model, in front of the network at its working size.

    Example:
        >>> from inshape.geometry.sizes import map_shapes
        >>> from inshape.geometry.spec import LayerSpec
        >>> picture = LayerSpec(0, "image", "input", (), 0, native_shape=(224, 224, 3))
        >>> conv = LayerSpec(1, "conv", "conv", (0,), 1, kernel_hw=(3, 3), out_channels=8)
        >>> spec = GraphSpec("tiny", (picture, conv), (1,), InputShape(224, 224, 3))
        >>> target = InputShape(97, 64, 3)
        >>> map_shapes(resize(spec, target).spec, target)[-1]
        (222, 222, 8)
    """
    check_choice("fit", fit, get_args(Fit))
    if str(interpolation) in _OUTSIDE:
        raise StrategyError(
            f"interpolation {interpolation!r} does not run on LiteRT's builtin operators inside a "
            "model, expected 'bilinear' or 'nearest'; bicubic and antialiased resampling belong to "
            "the preparation of the data, outside the model"
        )
    check_choice("interpolation", interpolation, get_args(Interpolation))
    if working_hw is not None and not _is_size(working_hw):
        raise StrategyError(
            f"working_hw={working_hw!r}; expected height and width, such as (192, 192)"
        )
    height, width = spec.input_shape.hw if working_hw is None else working_hw
    if height is None or width is None:
        raise StrategyError(
            f"{spec.name} has no native height and width ({spec.input_shape}), so a working size "
            "is expected; give one, such as working_hw=(224, 224)"
        )
    channel_plan = plan_channels(spec, target, channels)
    resized = spec.but(input_layers=InputLayers((height, width), fit, interpolation))
    changed = fitted(with_channels(resized, channel_plan), target)
    return Decision(
        strategy="resize", source=spec, spec=changed, input_shape=target, channels=channel_plan
    )


def _is_size(value: object) -> bool:
    return isinstance(value, tuple | list) and len(value) == 2 and min(value) >= 1  # pyright: ignore[reportUnknownArgumentType]

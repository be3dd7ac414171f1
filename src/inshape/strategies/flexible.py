"""Height and width unknown until run time."""

from __future__ import annotations

from ..geometry.spec import GraphSpec
from ..shapes import InputShape
from ..weights.channels import ChannelRule
from .decision import Decision
from .rebuild import keep_layers


def flexible(spec: GraphSpec, target: InputShape, *, channels: ChannelRule = "auto") -> Decision:
    """Plan a model for any height and width, with the right padding at every size.

    Example:
        >>> from inshape.geometry.spec import LayerSpec
        >>> picture = LayerSpec(0, "image", "input", (), 0, native_shape=(224, 224, 3))
        >>> conv = LayerSpec(1, "conv", "conv", (0,), 1, kernel_hw=(3, 3), out_channels=8)
        >>> spec = GraphSpec("tiny", (picture, conv), (1,), InputShape(224, 224, 3))
        >>> print(flexible(spec, InputShape(97, 64, 3)).input_shape)
        ?x?x3
    """
    anywhere = InputShape(None, None, target.channels)
    plan = keep_layers("flexible", spec, anywhere, channels)
    native = spec.input_shape
    shown = InputShape(
        target.height or native.height, target.width or native.width, target.channels
    )
    return plan.but(shown_shape=shown)

"""The same layers at another height and width."""

from __future__ import annotations

from ..errors import StrategyError
from ..geometry.sizes import map_shapes
from ..geometry.spec import GraphSpec
from ..graph.padding import unclear_pads
from ..shapes import InputShape
from ..weights.channels import ChannelRule
from .channels import plan_channels, with_channels
from .decision import Decision
from .layers import fitted


def rebuild(spec: GraphSpec, target: InputShape, *, channels: ChannelRule = "auto") -> Decision:
    """Plan the same layers at another height and width.

    Every padding that depends on the parity of the size is computed anew. For larger inputs, and
    non-square ones.

    Example:
        >>> from inshape.geometry.spec import LayerSpec
        >>> picture = LayerSpec(0, "image", "input", (), 0, native_shape=(224, 224, 3))
        >>> conv = LayerSpec(1, "conv", "conv", (0,), 1, kernel_hw=(3, 3), stride_hw=(2, 2),
        ...                  padding="same", out_channels=8)
        >>> spec = GraphSpec("tiny", (picture, conv), (1,), InputShape(224, 224, 3))
        >>> target = InputShape(97, 64, 1)
        >>> map_shapes(rebuild(spec, target).spec, target)[-1]
        (49, 32, 8)
    """
    require_static(target, "rebuild")
    return keep_layers("rebuild", spec, target, channels)


def keep_layers(
    strategy: str,
    spec: GraphSpec,
    target: InputShape,
    channels: ChannelRule,
    changed: GraphSpec | None = None,
) -> Decision:
    """Decide to keep the layers, those of a graph that was changed before if one is given."""
    channel_plan = plan_channels(spec, target, channels)
    changed = fitted(with_channels(changed or spec, channel_plan), target)
    map_shapes(changed, target)
    notes = tuple(
        f"padding layer {name} stays as it is; if its amounts were computed from the size of the "
        "map (keras.applications' correct_pad), name it so, or use strategy='resize'"
        for name in unclear_pads(spec)
    )
    return Decision(
        strategy=strategy,
        source=spec,
        spec=changed,
        input_shape=target,
        channels=channel_plan,
        notes=notes,
    )


def require_static(target: InputShape, strategy: str) -> None:
    """Refuse an unknown height or width."""
    if not target.is_static:
        raise StrategyError(
            f"input {target}: strategy {strategy!r} needs a fixed height and width; "
            "use strategy='flexible' for unknown ones"
        )

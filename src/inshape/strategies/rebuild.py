"""The same layers at another height and width."""

from __future__ import annotations

from ..errors import StrategyError
from ..geometry.sizes import map_shapes
from ..geometry.spec import Front, GraphSpec
from ..graph.edits import Edit, SetFront, applied
from ..graph.padding import unclear_pads
from ..shapes import InputShape
from ..weights.channels import ChannelRule
from .channels import ChannelPlan, plan_channels
from .decision import Decision
from .layers import fitted


def rebuild(spec: GraphSpec, target: InputShape, *, channels: ChannelRule = "auto") -> Decision:
    """Plan the same layers at another height and width.

    Every padding that depends on the parity of the size is computed anew. For larger inputs, and
    non-square ones.

    Args:
        spec: a graph as read.
        target: a fixed height and width, and any channels.
        channels: how pretrained channels become the new ones.

    Returns:
        The plan.

    Raises:
        StrategyError: if the height or width is unknown.
        ShapeError: if a map vanishes, or a layer is tied to another shape.

    Example:
        >>> from inshape.geometry.spec import LayerSpec
        >>> picture = LayerSpec(0, "image", "input", (), 0, native_shape=(224, 224, 3))
        >>> conv = LayerSpec(1, "conv", "conv", (0,), 1, kernel_hw=(3, 3), stride_hw=(2, 2),
        ...                  padding="same", out_channels=8)
        >>> spec = GraphSpec("tiny", (picture, conv), (1,), InputShape(224, 224, 3))
        >>> print(rebuild(spec, InputShape(97, 64, 1)).geometry.final_map)
        49x32
    """
    require_static(target, "rebuild")
    return layers_plan("rebuild", spec, target, channels)


def layers_plan(
    strategy: str,
    spec: GraphSpec,
    target: InputShape,
    channels: ChannelRule,
    first: tuple[Edit, ...] = (),
) -> Decision:
    """A plan that keeps the layers, with some edits made first."""
    channel_plan = plan_channels(spec, target, channels)
    edits = (*first, *channel_plan.edits, *front_edits(channel_plan))
    edits = (*edits, *fitted(applied(spec, edits), target))
    map_shapes(applied(spec, edits), target)
    notes = tuple(
        f"padding layer {name} stays as it is; if its amounts were computed from the size of the "
        "map "
        "(keras.applications' correct_pad), name it so, or use strategy='resize'"
        for name in unclear_pads(spec)
    )
    return Decision(strategy, spec, target, edits, channel_plan, notes=notes)  # pyright: ignore[reportArgumentType]


def front_edits(channels: ChannelPlan) -> tuple[Edit, ...]:
    """The edit that puts a channel layer in front, where the channel plan asks for one."""
    if channels.front is None:
        return ()
    return (SetFront(Front(channels=channels.front, network_channels=channels.old)),)


def require_static(target: InputShape, strategy: str) -> None:
    """Refuse an unknown height or width.

    Raises:
        StrategyError: if one is unknown.
    """
    if not target.is_static:
        raise StrategyError(
            f"input {target}: strategy {strategy!r} needs a fixed height and width; "
            "use strategy='flexible' for unknown ones"
        )

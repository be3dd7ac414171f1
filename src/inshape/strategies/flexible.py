"""Height and width unknown until run time."""

from __future__ import annotations

from ..errors import FixedShape, MapMismatch, ShapeError
from ..geometry.rules import Map
from ..geometry.sizes import fixed_size_advice, map_shapes
from ..geometry.spec import GraphSpec, LayerSpec
from ..shapes import InputShape, Size
from ..text import format_shape
from ..weights.channels import ChannelRule
from .decision import Decision
from .numbers import renumbered
from .rebuild import keep_layers

_STEPS_PX = (1, 2, 4, 8, 16, 32, 64, 128)
_TRIED = ((0, 0), (1, 0), (0, 3), (5, 2))


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
    decision = keep_layers("flexible", spec, anywhere, channels)
    fixed = decision.spec
    decision = decision.but(spec=_scaled(fixed))
    native = spec.input_shape
    shown = InputShape(
        target.height or native.height, target.width or native.width, target.channels
    )
    return decision.but(shown_shape=shown, size_step_px=_size_step(decision.spec, fixed, shown))


def _scaled(spec: GraphSpec) -> GraphSpec:
    """The graph in which a resizing to the size of another map enlarges by a factor.

    A mask that is brought to the picture's size is then as large at every size that the factor
    leads to, which is for `_size_step` to find out.
    """
    if not spec.input_shape.is_static:
        return spec
    rows, columns = spec.input_shape.hw
    twice = InputShape((rows or 0) * 2, (columns or 0) * 2, spec.input_shape.channels)
    try:
        renewed = renumbered(spec, twice)
    except ShapeError:  # as `_size_step` will find, and say
        return spec
    for old, new in zip(spec, renewed, strict=True):
        factors = _factors(old, spec[old.inputs[0]].native_shape[:2]) if old != new else None
        if factors is not None:
            spec = spec.with_call(old.index, op="upsample", stride_hw=factors, target_hw=None)
    return spec


def _factors(layer: LayerSpec, read_hw: Map) -> tuple[int, int] | None:
    if layer.op != "resize" or not layer.is_plain or layer.target_hw is None:
        return None
    lengths = [(n or 0, target) for n, target in zip(read_hw, layer.target_hw, strict=True)]
    if any(n < 2 or target % n for n, target in lengths):  # one place spreads over any map
        return None
    rows, columns = (target // n for n, target in lengths)
    return rows, columns


def _size_step(spec: GraphSpec, fixed: GraphSpec, shown: InputShape) -> int:
    """How far apart the sizes are that the network takes, tried at odd and non-square ones.

    At these it has the maps of the network that is rebuilt at a fixed size.

    Raises:
        FixedShape: if it takes no other size than its own, as one that holds numbers of it.
    """
    height, width = shown.hw
    if height is None or width is None:
        return 1  # nothing is shown of it, and nothing said
    first: MapMismatch | None = None
    for step in _STEPS_PX:
        sizes = (Size(height + rows * step, width + columns * step) for rows, columns in _TRIED)
        try:
            for size in sizes:
                _check_at(spec, fixed, InputShape(*size.hw, shown.channels))
        except MapMismatch as mismatch:
            first = first or mismatch
        else:
            return step
    raise FixedShape(
        f"of any size, only {shown.size} was found to fit ({str(first).split('; ')[0]}); use "
        f"strategy='rebuild' at {shown.size}, or strategy='resize'"
    )


def _check_at(spec: GraphSpec, fixed: GraphSpec, shape: InputShape) -> None:
    try:
        maps = map_shapes(spec, shape)
    except FixedShape as refusal:
        problem, _, _ = str(refusal).partition("; ")
        raise FixedShape(
            f"height and width are unknown, and {problem}; {fixed_size_advice(spec)}"
        ) from None
    tied = next((a for a, b in zip(spec, renumbered(spec, shape), strict=True) if a != b), None)
    if tied is not None:
        raise FixedShape(
            f'height and width are unknown, and "{tied.name}" holds a number of the size '
            f"{spec.input_shape.size}, which would be another one at {shape.size}; "
            f"{fixed_size_advice(spec)}"
        )
    if spec != fixed:
        rebuilt = map_shapes(renumbered(fixed, shape), shape)
        for layer, scaled, wanted in zip(spec, maps, rebuilt, strict=True):
            if scaled != wanted:
                raise MapMismatch(
                    f'"{layer.name}" puts out {format_shape(scaled[:2])} at {shape.size}, expected '
                    f"{format_shape(wanted[:2])}"
                )

"""Height and width unknown until run time."""

from __future__ import annotations

from ..errors import FixedShape, MapMismatch
from ..geometry.sizes import fixed_size_advice, map_shapes
from ..geometry.spec import GraphSpec
from ..shapes import InputShape, Size
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
    native = spec.input_shape
    shown = InputShape(
        target.height or native.height, target.width or native.width, target.channels
    )
    return decision.but(shown_shape=shown, size_step_px=_size_step(decision.spec, shown))


def _size_step(spec: GraphSpec, shown: InputShape) -> int:
    """How far apart the sizes are that the network takes, tried at odd and non-square ones.

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
                _check_at(spec, InputShape(*size.hw, shown.channels))
        except MapMismatch as mismatch:
            first = first or mismatch
        else:
            return step
    raise FixedShape(
        f"of any size, only {shown.size} was found to fit ({str(first).split('; ')[0]}); use "
        f"strategy='rebuild' at {shown.size}, or strategy='resize'"
    )


def _check_at(spec: GraphSpec, shape: InputShape) -> None:
    try:
        map_shapes(spec, shape)
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

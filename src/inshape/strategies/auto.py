"""Chooses a strategy by stated rules."""

from __future__ import annotations

from ..errors import StrategyError
from ..geometry.spec import GraphSpec
from ..geometry.warnings import NEAR
from ..shapes import InputShape
from ..text import format_shape
from .restride import size_ratio, stem_factor
from .stem import resizable_stem

TINY = 0.2


def choose(spec: GraphSpec, target: InputShape) -> tuple[str, str]:
    """Choose a strategy for an input shape.

    The size is measured as the root of the area, relative to the network's native one:

    | input | strategy | why |
    |---|---|---|
    | height or width unknown | `flexible` | one model for many sizes |
    | any, for a network whose output is as large as its input | `rebuild` | a mask stays one |
    | below 0.2 of native | `resize` | even a stem of stride 1 would leave a map of a few pixels |
    | 0.2 to 0.65, divisible stem stride | `restride` | objects keep the size they were trained at |
    | 0.2 to 0.65 otherwise | `resize` | the same, by an enlargement in front |
    | 0.65 and more | `rebuild` | the layers as they are cost least and lose little |

    The bound of 0.65 comes from the table that ``python -m benchmarks.zero_shot`` prints; the one
    of 0.2 is a judgement, below the sizes measured there.

    Example:
        >>> from inshape.geometry.spec import LayerSpec
        >>> picture = LayerSpec(0, "image", "input", (), 0)
        >>> conv = LayerSpec(1, "conv", "conv", (0,), 1, kernel_hw=(3, 3), stride_hw=(2, 2))
        >>> spec = GraphSpec("tiny", (picture, conv), (1,), InputShape(224, 224, 3))
        >>> [choose(spec, InputShape(n, n, 3))[0] for n in (32, 96, 192, 320)]
        ['resize', 'restride', 'rebuild', 'rebuild']
    """
    if not target.is_static:
        return "flexible", f"height or width of {target} is unknown until run time"
    if _puts_out_pictures(spec):
        return "rebuild", "the output is as large as the picture, and stays so"
    if not spec.input_shape.is_static:
        return "rebuild", f"{spec.name} has no native size that {target} could be compared to"
    ratio = size_ratio(spec, target)
    size = f"{target.size} is {ratio:.2f} times the native size {spec.input_shape.size}"
    if ratio < TINY:
        return "resize", f"{size}, too small for the layers even with a stem of stride 1"
    if ratio >= NEAR:
        return "rebuild", f"{size}, near enough or larger"
    if any(layer.op == "resize" for layer in spec):
        return "rebuild", f"{size}, but the network resizes pictures itself"
    return _enlarged(spec, target, size)


def _enlarged(spec: GraphSpec, target: InputShape, size: str) -> tuple[str, str]:
    """By the stem where its stride can be divided, or else in front of the network."""
    try:
        resizable_stem(spec)
    except StrategyError:
        return "resize", f"{size}, and there is no single stem whose stride could be divided"
    direction, factor = stem_factor(spec, target)
    if direction != "up" or factor == 1:
        return "resize", f"{size}, and the stem's stride cannot be divided"
    return (
        "restride",
        f"{size}; a stem of a {factor} times smaller stride shows the layers behind it "
        f"what they would see of {_times(target, factor)}",
    )


def _times(shape: InputShape, factor: int) -> str:
    return format_shape([None if px is None else factor * px for px in shape.hw])


def _puts_out_pictures(spec: GraphSpec) -> bool:
    """Whether an output is a map as large as the input, such as a mask or another picture."""
    shapes = (spec[i].native_shape for i in spec.outputs)
    return any(len(s) == 3 and s[:2] == spec.input_shape.hw and None not in s for s in shapes)

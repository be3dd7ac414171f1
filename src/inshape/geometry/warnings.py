"""What a user should know about an input shape before training at it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import lcm
from typing import Literal, TypeAlias

from ..errors import ShapeError
from ..shapes import InputShape, Size
from .paths import final_call, main_path
from .receptive import ReceptiveField, receptive_fields
from .rules import Map
from .sizes import least_size, map_shapes, network_shape
from .spec import GraphSpec, InputLayers, LayerSpec

Code: TypeAlias = Literal[
    "small-final-map",
    "large-final-map",
    "not-a-multiple",
    "field-exceeds-input",
    "far-aspect-ratio",
]
NEAR = 0.65
"""Of a length: from there on the layers do well as they are, by ``benchmarks.zero_shot``."""
FAR_ASPECT_RATIO = 1.5
LARGE_MAP_RATIO = 4.0
_AXES = (("height", "row"), ("width", "column"))
_NAMED_LAYERS = 4
_STEM_EDGE_PX = 2
# What there is to advise beside the strategy that was taken; any other may take both of the two.
_KEEP_MAP: dict[str | None, str] = {
    "resize": "a larger working size keeps its size",
    "restride": "strategy='resize' keeps its size",
}
_SHRINK_MAP: dict[str | None, str] = {
    "resize": "a smaller working size",
    "restride": "strategy='resize'",
}


@dataclass(frozen=True, slots=True)
class ShapeWarning:
    """One thing to know about an input shape.

    Attributes:
        code: what it is about; stable, for programs.
        message: one line for people: what came, what it means, what to do.
    """

    code: Code
    message: str

    def __str__(self) -> str:
        return self.message


def shape_warnings(
    spec: GraphSpec,
    native: InputShape,
    target: InputShape,
    *,
    source: GraphSpec | None = None,
    strategy: str | None = None,
) -> tuple[ShapeWarning, ...]:
    """What to know about a network at a target shape, compared with its native one.

    ``source`` is the network before a strategy changed its strides, positions as in ``spec``. No
    warning advises the ``strategy`` that did.

    Example:
        >>> from inshape.geometry.spec import LayerSpec
        >>> picture = LayerSpec(index=0, name="image", op="input", inputs=(), layer=0)
        >>> pool = LayerSpec(index=1, name="pool", op="max_pool", inputs=(0,), layer=1,
        ...                  kernel_hw=(32, 32), stride_hw=(32, 32), padding="same")
        >>> spec = GraphSpec("tiny", (picture, pool), (1,), InputShape.of("64x64x1"))
        >>> print(*shape_warnings(spec, InputShape.of("64x64x1"), InputShape.of("97x96x1")))
        input 97x96x1: height 97 is not a multiple of 32; 31 rows padded at "pool" (97 -> 4);
        nearest: 96, 128
    """
    working = network_shape(spec, target)
    subject = f"input {target}"
    if working.hw != target.hw:
        subject += f" at working size {working.size}"
    fields = receptive_fields(spec, target)
    final = final_call(spec, fields)
    new = map_shapes(spec, target)
    old = _recorded(spec, native) or _maps_at(spec, native)
    trained = fields[final] if source is None else receptive_fields(source, native)[final]
    before = old[final] if old else ()
    warnings = [
        *_final_map_warnings(
            f'{subject}: the final map at "{spec[final].name}"', before, new[final], strategy
        ),
        *_multiple_warnings(subject, spec, (native, working), new, fields),
        *_field_warnings(subject, (native, working), (trained, fields[final]), strategy),
        *_aspect_warnings(spec, native, target, working),
    ]
    if strategy == "restride" and _is_near(before, new[final]):
        # The strides were changed for the map's sake, and it is as near as it can be.
        warnings = [w for w in warnings if w.code not in _OF_SMALL_MAPS]
    return tuple(sorted(warnings, key=lambda w: _ORDER.index(w.code)))


_ORDER: tuple[Code, ...] = (
    "small-final-map",
    "not-a-multiple",
    "field-exceeds-input",
    "far-aspect-ratio",
    "large-final-map",
)


_OF_SMALL_MAPS: tuple[Code, ...] = ("small-final-map", "field-exceeds-input")


def _is_near(native: Map, new: Map) -> bool:
    """Whether a map is as near to the native one as inputs that auto leaves to the layers."""
    pairs = list(zip(native[:2], new[:2], strict=True)) if len(native) == len(new) == 3 else []
    return bool(pairs) and all(a and b and b >= NEAR * a for a, b in pairs)


def _recorded(spec: GraphSpec, native: InputShape) -> tuple[Map, ...]:
    """The maps as they were read, before any edit; none if they were read at another shape."""
    recorded = tuple(layer.native_shape for layer in spec)
    return recorded if native == spec.input_shape and all(recorded) else ()


def _maps_at(spec: GraphSpec, working: InputShape) -> tuple[Map, ...]:
    """The maps of the graph as it is at a working shape; none if it cannot take that."""
    try:
        return map_shapes(spec.but(input_layers=InputLayers()), working)
    except ShapeError:
        return ()


def _final_map_warnings(
    final_map: str, old: Map, new: Map, strategy: str | None
) -> list[ShapeWarning]:
    if len(old) != 3 or len(new) != 3:
        return []
    was, now = Size(*old[:2]), Size(*new[:2])
    pairs = [(a, b) for a, b in zip(was.hw, now.hw, strict=True) if a is not None and b is not None]
    warnings: list[ShapeWarning] = []
    if any(b < a for a, b in pairs):
        advice = _KEEP_MAP.get(strategy, "strategy='resize' keeps its size, 'restride' may")
        text = f"{final_map} is {now}, smaller than the native {was}; {advice}"
        warnings.append(ShapeWarning("small-final-map", text))
    if len(pairs) == 2:
        (h, new_h), (w, new_w) = pairs
        ratio = new_h * new_w / (h * w)
        if ratio > LARGE_MAP_RATIO:
            advice = _SHRINK_MAP.get(
                strategy, "strategy='resize', or a larger stride by 'restride'"
            )
            text = (
                f"{final_map} is {now}, {ratio:.1f} times as many places as the native {was}; "
                f"objects look larger to it than in training, so consider {advice}"
            )
            warnings.append(ShapeWarning("large-final-map", text))
    return warnings


def _multiple_warnings(
    subject: str,
    spec: GraphSpec,
    shapes: tuple[InputShape, InputShape],
    maps: Sequence[Map],
    fields: Sequence[ReceptiveField],
) -> list[ShapeWarning]:
    path = [i for i in main_path(spec, fields) if not fields[i].whole]
    by_axis = [_multiple_line(spec, shapes, maps, path, axis) for axis in range(len(_AXES))]
    both = _for_both([line for line in by_axis if line])
    return [ShapeWarning("not-a-multiple", f"{subject}: {both}")] if both else []


def _multiple_line(
    spec: GraphSpec,
    shapes: tuple[InputShape, InputShape],
    maps: Sequence[Map],
    path: Sequence[int],
    axis: int,
) -> str:
    """What a length along an axis is no multiple of, what that changes and which lengths fit."""
    native, working = shapes
    name, length, trained = _AXES[axis][0], working.hw[axis], native.hw[axis]
    stride = _total_stride(spec, path, axis)
    offset = 0 if trained is None else trained % stride
    if length is None or length % stride == offset:
        return ""
    of = f"the native {trained} plus or minus a multiple" if offset else "a multiple"
    below = length - (length - offset) % stride
    fit = below + stride
    even = _maps_at(spec, replace(working, **{name: fit}))
    changes = _changes(spec, path, axis, (even, maps))
    smallest = least_size(spec).hw[axis] or 1
    near = ", ".join(str(n) for n in (below, fit) if n >= smallest)
    return f"{name} {length} is not {of} of {stride}; {changes}nearest: {near}"


def _for_both(by_axis: Sequence[str]) -> str:
    """What is said of the two axes, once where it is the same."""
    if len(by_axis) < 2:
        return "".join(by_axis)
    height, width = by_axis
    if height == width.replace("width", "height").replace("column", "row"):
        one = height.replace("height", "height and width").replace(" is not ", " are not ", 1)
        return re.sub(r"\brow(s?)\b", r"row\1 and column\1", one)
    return f"{height}; {width}"


def _total_stride(spec: GraphSpec, path: Sequence[int], axis: int) -> int:
    """The product of all strides on the main path up to the coarsest map."""
    total, coarsest = 1, 1
    for i in path:
        if spec[i].op in ("resize", "adaptive_pool"):
            break
        if spec[i].is_window:
            total *= spec[i].stride_hw[axis]
        elif spec[i].op == "upsample":
            total = max(1, total // spec[i].stride_hw[axis])
        coarsest = lcm(coarsest, total)
    return coarsest


def _changes(
    spec: GraphSpec, path: Sequence[int], axis: int, maps: tuple[Sequence[Map], Sequence[Map]]
) -> str:
    """Which strided layers pad or lose more than they do at a size that fits."""
    even, new = maps
    words: list[str] = []
    for i in path:
        layer = spec[i]
        if not layer.is_window or layer.stride_hw[axis] == 1:
            continue
        now, before = _edges(spec, layer, axis, new), _edges(spec, layer, axis, even)
        for verb, here, there in zip(("padded", "lost"), now, before, strict=True):
            if here > there:
                unit = _AXES[axis][1] + "s" * (here - there > 1)
                length = new[_unpadded(spec, layer)][axis]
                words.append(
                    f'{here - there} {unit} {verb} at "{layer.name}" ({length} -> {new[i][axis]})'
                )
    if len(words) > _NAMED_LAYERS:
        words[_NAMED_LAYERS:] = [f"and {len(words) - _NAMED_LAYERS} more"]
    return ", ".join(words) + "; " if words else ""


def _unpadded(spec: GraphSpec, layer: LayerSpec) -> int:
    """The call whose map a window layer reads, before a zero-padding between them."""
    source = spec[layer.inputs[0]]
    return source.inputs[0] if source.op == "pad" else source.index


def _edges(spec: GraphSpec, layer: LayerSpec, axis: int, maps: Sequence[Map]) -> tuple[int, int]:
    """Zeros that the windows read along one axis, and pixels of the map that none of them reads."""
    length = maps[layer.inputs[0]][axis] if maps else None
    if length is None:
        return 0, 0
    kernel, stride = layer.kernel_hw[axis], layer.stride_hw[axis]
    before, after = layer.zeros_along(axis, length) or (0, 0)
    unread = (length + before + after - (kernel - 1) * layer.dilation_hw[axis] - 1) % stride
    source = spec[layer.inputs[0]]
    if source.op == "pad":
        before, after = before + source.pads[axis][0], after + source.pads[axis][1]
    return before + max(0, after - unread), max(0, unread - after)


def _exceeds(now: float | None, length: int | None, before: float | None, old: int | None) -> bool:
    """Whether a field is larger than a smaller input, and has not shrunk as that has."""
    if now is None or length is None or old is None or not now > length < old:
        return False
    # Other strides may have shrunk the field as the input was, but for the stem's own kernel.
    return before is None or now - before * length / old > _STEM_EDGE_PX


def _field_warnings(
    subject: str,
    shapes: tuple[InputShape, InputShape],
    fields: tuple[ReceptiveField, ReceptiveField],
    strategy: str | None,
) -> list[ShapeWarning]:
    (native, working), (trained, new) = shapes, fields
    words = [
        (f"{now:g} px along the", name, f"of {length}")
        for (name, _), now, before, length, old in zip(
            _AXES, new.field_hw, trained.field_hw, working.hw, native.hw, strict=True
        )
        if _exceeds(now, length, before, old)
    ]
    if not words:
        return []
    along = ", ".join(map(" ".join, words))
    if len(words) == 2 and words[0][::2] == words[1][::2]:
        along = " ".join((words[0][0], "height and width", words[0][2]))
    advice = "a larger working size" if strategy == "resize" else "strategy='resize'"
    text = (
        f"{subject}: the final map's receptive field is larger than the input, {along} "
        f"(native {native.size}); more of it is zero padding than in training; {advice} avoids it"
    )
    return [ShapeWarning("field-exceeds-input", text)]


def _aspect_warnings(
    spec: GraphSpec, native: InputShape, target: InputShape, working: InputShape
) -> list[ShapeWarning]:
    effects = {
        "stretch": "pictures are distorted; use fit='letterbox' or 'crop', or a working size of "
        "the picture's shape",
        "letterbox": "much of the working size stays empty; use one of the picture's shape",
        "crop": "much of the picture is cut off; use fit='letterbox', or a working size of the "
        "picture's shape",
    }
    warnings: list[ShapeWarning] = []
    resized = spec.input_layers.resize_hw is not None
    if resized and _is_far(target, working):
        text = (
            f"input {target}: width / height {_ratio_word(target)} is far from the working size "
            f"{working.size} ({_ratio_word(working)}); {effects[spec.input_layers.fit]}"
        )
        warnings.append(ShapeWarning("far-aspect-ratio", text))
    if _is_far(working, native):
        text = (
            f"input {target}: {'the working ' if resized else ''}width / height "
            f"{_ratio_word(working)} is far from the native {_ratio_word(native)}, at which the "
            "weights were trained; expect to fine-tune the backbone, not the head alone"
        )
        warnings.append(ShapeWarning("far-aspect-ratio", text))
    return warnings


def _is_far(one: InputShape, other: InputShape) -> bool:
    first, second = _ratio(one), _ratio(other)
    if first is None or second is None:
        return False
    return max(first / second, second / first) > FAR_ASPECT_RATIO


def _ratio(shape: InputShape) -> float | None:
    return None if shape.height is None or shape.width is None else shape.width / shape.height


def _ratio_word(shape: InputShape) -> str:
    return f"{_ratio(shape) or 0:.2f}"

"""Patches: early maps computed piece by piece, so that they are never in memory as a whole.

A piece of a late map depends on a piece of an early one. What lies between two maps is computed
for one piece after the other and put together at the end; neighbouring pieces overlap in the maps
between, which costs operations and saves memory (Lin et al., "MCUNetV2: Memory-Efficient
Patch-based Inference for Tiny Deep Learning", arXiv 2110.15352). The answers stay what they are:
every value is computed from the same values by the same kernel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import attrgetter
from typing import Any, TypeAlias

from ..errors import GraphError
from ..shapes import InputShape
from ..text import format_shape
from .rules import Map
from .sizes import map_shapes
from .spec import NO_PADS, GraphSpec, LayerSpec, OpKind, Pads

Region: TypeAlias = tuple[tuple[int, int], tuple[int, int]]
"""Rows and columns of a map: the first, and the one behind the last."""

_BY_PLACE = ("norm", "rescale", "activation", "elementwise", "identity", "concat")
"""What computes each place of a map from the same place."""
_MOVING = ("pad", "crop")


@dataclass(frozen=True, slots=True)
class Patches:
    """Where a network is computed piece by piece.

    Attributes:
        grid_hw: rows and columns of pieces.
        start: the call whose map is cut into pieces.
        end: the call whose map is put together from them.
    """

    grid_hw: tuple[int, int]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Step:
    """One call for one piece.

    Attributes:
        call: its position.
        region: of its whole map, what is computed.
        read: of each of the whole maps that it reads, what it needs.
        pads: the zeros around that; only pieces at the border have some.
    """

    call: int
    region: Region
    read: Region
    pads: Pads


@dataclass(frozen=True, slots=True)
class Span:
    """Calls that can be computed piece by piece.

    Attributes:
        start: the call whose map is cut.
        ends: the calls whose maps can be put together again, in order.
    """

    start: int
    ends: tuple[int, ...]


def find_spans(spec: GraphSpec, shapes: Sequence[Map]) -> list[Span]:
    """Find where a network can be cut into pieces, and where they can be put together.

    Both are at calls that everything passes through. An end has no other behind it before the next
    window, so that activations belong to the pieces. What needs a whole map, such as
    squeeze-and-excite, lies between two spans.

    Example:
        >>> picture = LayerSpec(0, "image", "input", (), 0)
        >>> stem = LayerSpec(1, "stem", "conv", (0,), 1, kernel_hw=(3, 3), out_channels=8)
        >>> relu = LayerSpec(2, "relu", "activation", (1,), 2)
        >>> pool = LayerSpec(3, "pool", "global_pool", (2,), 3)
        >>> spec = GraphSpec("tiny", (picture, stem, relu, pool), (3,), InputShape(9, 8, 1))
        >>> find_spans(spec, map_shapes(spec, InputShape(9, 8, 1)))
        [Span(start=0, ends=(2,))]
    """
    calls = _needed_calls(spec)
    waists = _waists(spec, calls)
    spans: list[Span] = []
    start, ends = waists[0], list[int]()
    for before, waist in pairwise(waists):
        between = calls_between(spec, before, waist)
        is_by_place = all(_is_by_place(x, shapes) for x in between)
        if not all(_is_local(spec, x, shapes) for x in between):
            spans.append(Span(start, tuple(ends)))
            start, ends = waist, []
        elif is_by_place and not ends:
            start = waist
        elif spec[waist].op not in _MOVING:  # whose maps are larger than what they read
            if is_by_place:
                ends.pop()
            ends.append(waist)
    spans.append(Span(start, tuple(ends)))
    return list(filter(attrgetter("ends"), spans))


def first_whole(spec: GraphSpec, shapes: Sequence[Map]) -> int | None:
    """The first call that needs the whole of a map, if one does."""
    calls = _needed_calls(spec)[1:]
    return next((x.index for x in calls if not _is_local(spec, x, shapes)), None)


def _needed_calls(spec: GraphSpec) -> list[LayerSpec]:
    needed = spec.needed()
    return [layer for layer in spec if layer.index in needed]


def _waists(spec: GraphSpec, calls: Sequence[LayerSpec]) -> list[int]:
    """The calls that every path from the picture to the outputs passes through."""
    reach, waists = 0, list[int]()
    last_read = {i: x.index for x in calls for i in x.inputs}
    last_read |= dict.fromkeys(spec.outputs, len(spec))
    for layer in calls:
        if reach <= layer.index:
            waists.append(layer.index)
        reach = max(reach, last_read.get(layer.index, 0))
    return waists


def _is_by_place(layer: LayerSpec, shapes: Sequence[Map]) -> bool:
    """Whether each place of its map is computed from the same place of those that it reads."""
    if not layer.is_local or layer.op not in _BY_PLACE or layer.answering is not None:
        return False
    out, *read = (shapes[i] for i in (layer.index, *layer.inputs))
    if {(len(one), one[:2]) for one in (out, *read)} != {(3, out[:2])}:
        return False
    if layer.op == "concat":
        return layer.axis == -1
    is_per_channel = all(len(values) in (1, out[2]) for _, values in layer.constants)
    return is_per_channel and not layer.holds_rows


def _is_local(spec: GraphSpec, layer: LayerSpec, shapes: Sequence[Map]) -> bool:
    """Whether a piece of its map needs no more than a piece of what it reads."""
    if _is_by_place(layer, shapes) or not layer.is_local:
        return layer.is_local
    if layer.op in _MOVING:
        return True
    is_shared = sum(x.layer == layer.layer for x in spec) > 1
    if not layer.is_window or not layer.is_plain or is_shared or layer.grid_first is not None:
        return False
    # A mean leaves its own padding out, and a maximum takes it for less than any value.
    return layer.is_conv or layer.pads_at(shapes[layer.inputs[0]]) == layer.pads


def pieces_of(length: int, count: int) -> list[tuple[int, int]]:
    """A length cut into pieces of about the same size.

    Example:
        >>> pieces_of(7, 3)
        [(0, 2), (2, 4), (4, 7)]
    """
    return list(pairwise(i * length // count for i in range(count + 1)))


def steps_of(
    spec: GraphSpec, shapes: Sequence[Map], patches: Patches
) -> list[list[tuple[Step, ...]]]:
    """What is computed for every piece, by row and column of the grid; `steps_along` is its half.

    Raises:
        GraphError: if the map is too small for the grid.
    """
    start, end = patches.start, patches.end
    along = [steps_along(spec, shapes, start, end, (a, n)) for a, n in enumerate(patches.grid_hw)]
    by_row, by_column = along
    if by_row is None or by_column is None:
        size = format_shape(shapes[end][:2])
        raise GraphError(
            f'patches {format_shape(patches.grid_hw)} of "{spec[end].name}", which is {size}; '
            "expected pieces with a part of every map before; use fewer"
        )
    calls = calls_between(spec, start, end)
    return [[_crossed(calls, row, column) for column in by_column] for row in by_row]


def calls_between(spec: GraphSpec, start: int, end: int) -> list[LayerSpec]:
    """The calls behind one up to another, without those that no output needs."""
    return [x for x in _needed_calls(spec) if start < x.index <= end]


AxisStep: TypeAlias = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
"""Of one call along one axis: what is computed, what is read and the zeros before and behind it."""


def steps_along(
    spec: GraphSpec, shapes: Sequence[Map], start: int, end: int, pieces: tuple[int, int]
) -> list[list[AxisStep]] | None:
    """What the calls between two compute along an axis, for each of so many pieces.

    Rows and columns do not know of each other, so each axis is followed by itself. ``None`` if
    there are fewer places than pieces, or a piece would be made of padding alone.
    """
    axis, count = pieces
    length = shapes[end][axis] or 0
    calls = calls_between(spec, start, end)
    found = [_steps_along(axis, piece, calls, shapes) for piece in pieces_of(length, count)]
    known = [steps for steps in found if steps is not None]
    return known if count <= length and len(known) == len(found) else None


def _steps_along(
    axis: int, piece: tuple[int, int], calls: Sequence[LayerSpec], shapes: Sequence[Map]
) -> list[AxisStep] | None:
    wanted: dict[int, tuple[int, int]] = {calls[-1].index: piece}
    steps: list[AxisStep] = []
    for layer in reversed(calls):
        region = wanted[layer.index]
        first, stop = _reads(layer, axis, region, shapes)
        length = shapes[layer.inputs[0]][axis] or 0
        read = max(first, 0), min(stop, length)
        if read[0] >= read[1]:
            return None
        steps.append((region, read, (read[0] - first, stop - read[1])))
        for source in layer.inputs:
            low, high = wanted.get(source, read)
            wanted[source] = min(low, read[0]), max(high, read[1])
    return steps[::-1]


def _reads(
    layer: LayerSpec, axis: int, region: tuple[int, int], shapes: Sequence[Map]
) -> tuple[int, int]:
    """What a call reads for some places of its map, beyond the border too."""
    first, stop = region
    if layer.op in _MOVING:
        shift = layer.pads[axis][0] * (-1 if layer.op == "pad" else 1)
        return first + shift, stop + shift
    if not layer.is_window:
        return region
    zeros = layer.zeros_along(axis, shapes[layer.inputs[0]][axis])
    assert zeros is not None
    stride, reach = layer.stride_hw[axis], (layer.kernel_hw[axis] - 1) * layer.dilation_hw[axis]
    before = zeros[0]
    return first * stride - before, (stop - 1) * stride - before + reach + 1


def _crossed(
    calls: Sequence[LayerSpec], rows: Sequence[AxisStep], columns: Sequence[AxisStep]
) -> tuple[Step, ...]:
    return tuple(
        Step(layer.index, *((r, c) for r, c in zip(row, column, strict=True)))
        for layer, row, column in zip(calls, rows, columns, strict=True)
    )


def size_of(region: Region) -> tuple[int, int]:
    """Rows and columns of a region."""
    (top, bottom), (left, right) = region
    return bottom - top, right - left


def patched(spec: GraphSpec, shape: InputShape, regions: Sequence[Patches]) -> GraphSpec:
    """The graph that computes the same piece by piece at an input shape, in one region or several.

    Pieces follow each other, so that the memory of one is free for the next. Calls that no output
    needs are left out, so positions change.

    Example:
        >>> picture = LayerSpec(0, "image", "input", (), 0)
        >>> stem = LayerSpec(1, "stem", "conv", (0,), 1, kernel_hw=(3, 3), out_channels=8)
        >>> spec = GraphSpec("tiny", (picture, stem), (1,), InputShape(9, 8, 1))
        >>> halves = patched(spec, InputShape(9, 8, 1), [Patches((2, 1), 0, 1)])
        >>> [(x.op, x.slices or x.inputs) for x in halves][1:3]
        [('slice', ((0, 5, None), (0, 8, None))), ('conv', (1,))]
        >>> [(x.op, x.slices or x.inputs) for x in halves][3:]
        [('slice', ((3, 9, None), (0, 8, None))), ('conv', (3,)), ('concat', (2, 4))]
    """
    return _Expansion(spec, map_shapes(spec, shape)).result(regions)


class _Expansion:
    def __init__(self, spec: GraphSpec, shapes: Sequence[Map]) -> None:
        self.spec, self.shapes = spec, shapes
        self.layers: list[LayerSpec] = []
        self.owners: dict[int, int] = {}

    def result(self, regions: Sequence[Patches]) -> GraphSpec:
        by_end = {patches.end: patches for patches in regions}
        inside = {i for patches in regions for i in range(patches.start + 1, patches.end)}
        places: dict[int, int] = {}
        for layer in _needed_calls(self.spec):
            if layer.index in by_end:
                patches = by_end[layer.index]
                places[layer.index] = self._pieces(patches, places[patches.start])
            elif layer.index not in inside:
                inputs = tuple(places[i] for i in layer.inputs)
                places[layer.index] = self._add(layer, inputs)
        outputs = tuple(places[i] for i in self.spec.outputs)
        return self.spec.but(layers=tuple(self.layers), outputs=outputs)

    def _pieces(self, patches: Patches, start: int) -> int:
        grid = steps_of(self.spec, self.shapes, patches)
        rows = [
            self._joined([self._piece(steps, patches, start) for steps in row], 1) for row in grid
        ]
        return self._joined(rows, 0)

    def _piece(self, steps: Sequence[Step], patches: Patches, start: int) -> int:
        height, width, _ = self.shapes[patches.start]
        whole = (0, height or 0), (0, width or 0)
        known: dict[int, tuple[int, Region]] = {patches.start: (start, whole)}
        slices: dict[tuple[int, Region], int] = {}
        for step in steps:
            layer = self.spec[step.call]
            inputs: list[int] = []
            for source in layer.inputs:
                place, region = known[source]
                if region != step.read:
                    key = source, step.read
                    if key not in slices:
                        slices[key] = self._slice(place, region, step.read)
                    place = slices[key]
                inputs.append(place)
            if layer.op in _MOVING and step.pads == NO_PADS:
                place = inputs[0]
            else:
                shape = (*size_of(step.region), self.shapes[step.call][-1])
                facts = {"padding": "valid"} if layer.is_window else {}
                place = self._add(layer, tuple(inputs), pads=step.pads, native_shape=shape, **facts)
            known[step.call] = place, step.region
        return known[patches.end][0]

    def _slice(self, place: int, region: Region, wanted: Region) -> int:
        parts = relative(region, wanted)
        return self._new(
            "slice",
            (place,),
            (*size_of(wanted), self.layers[place].native_shape[-1]),
            slices=tuple((*part, None) for part in parts),
        )

    def _joined(self, places: Sequence[int], axis: int) -> int:
        if len(places) == 1:
            return places[0]
        shapes = [self.layers[place].native_shape for place in places]
        shape = list(shapes[0])
        shape[axis] = sum(s[axis] or 0 for s in shapes)
        return self._new("concat", tuple(places), tuple(shape), axis=axis)

    def _new(self, op: OpKind, inputs: tuple[int, ...], shape: Map, **facts: Any) -> int:
        index = len(self.layers)
        self.layers.append(
            LayerSpec(index, f"patch_{op}", op, inputs, index, native_shape=shape, **facts)
        )
        return index

    def _add(self, layer: LayerSpec, inputs: tuple[int, ...], **facts: Any) -> int:
        index = len(self.layers)
        owner = self.owners.setdefault(layer.layer, index)
        params = layer.params if owner == index else 0
        facts.setdefault("native_shape", self.shapes[layer.index])
        self.layers.append(
            layer.but(index=index, layer=owner, inputs=inputs, params=params, **facts)
        )
        return index


def relative(region: Region, wanted: Region) -> Region:
    """Where a part of the whole map lies in a piece of it."""
    (top, _), (left, _) = region
    (first_row, last_row), (first_column, last_column) = wanted
    return (first_row - top, last_row - top), (first_column - left, last_column - left)

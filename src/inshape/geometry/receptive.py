"""Receptive fields: which pixels of the input each pixel of a map depends on.

The recurrences are those of Araujo, Norris and Sim, "Computing Receptive Fields of Convolutional
Neural Networks" (Distill, 2019), section "Arbitrary computation graphs", along each axis by itself.
Pixels are counted on what the network's first layer reads, that is after ``spec.input_layers``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias, TypeVar

from ..shapes import InputShape
from .rules import Map, read_map
from .sizes import map_shapes
from .spec import GraphSpec, LayerSpec

AxisPair: TypeAlias = tuple[float | None, float | None]
"""A value in pixels along the height and along the width."""
_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class AxisField:
    """The receptive field along one axis; ``None`` is unknown or, for ``jump_px``, without meaning.

    Attributes:
        field_px: pixels from the first one read to the last.
        jump_px: pixels between the fields of two neighbours: the cumulative stride.
        centre_px: the middle of the first output pixel's field; 0 is the middle of the first pixel
            of the input. It depends on the size's parity, and is ``None`` where that is unknown.
    """

    field_px: float | None
    jump_px: float | None
    centre_px: float | None

    def span(self, index: int) -> tuple[float, float] | None:
        """The first and the last pixel that an output pixel depends on, beyond the border too.

        Example:
            >>> AxisField(field_px=3, jump_px=2, centre_px=1).span(5)
            (10.0, 12.0)
        """
        if self.field_px is None or self.jump_px is None or self.centre_px is None:
            return None
        middle = self.centre_px + index * self.jump_px
        return middle - (self.field_px - 1) / 2, middle + (self.field_px - 1) / 2


UNKNOWN = AxisField(None, None, None)


@dataclass(frozen=True, slots=True)
class ReceptiveField:
    """What one pixel of a map depends on.

    Attributes:
        height: along the rows.
        width: along the columns.
        whole: the value has no place in the picture: it stands behind a global pool or a flatten,
            and its field is the whole input.
        global_context: it depends on the whole picture through some path, such as a
            squeeze-and-excite branch; ``height`` and ``width`` leave that path out.
        aligned: the paths that met on the way agreed on the cumulative stride; if they did not,
            the largest is given.
    """

    height: AxisField
    width: AxisField
    whole: bool = False
    global_context: bool = False
    aligned: bool = True

    @property
    def stride_hw(self) -> AxisPair:
        """The cumulative stride in pixels, height first."""
        return self.height.jump_px, self.width.jump_px

    @property
    def field_hw(self) -> AxisPair:
        """The size of the field in pixels, height first."""
        return self.height.field_px, self.width.field_px


def receptive_fields(spec: GraphSpec, shape: InputShape) -> tuple[ReceptiveField, ...]:
    """The receptive field of every call at an input shape.

    Exact for windows, pads, crops, additions and concatenations. Upsampling is taken as nearest and
    resizing as bilinear, with the mean position. A call that is not known (``opaque``) and keeps
    its map's size is taken to work pixel by pixel. Where paths of equal stride meet, the field is
    the span of them all.

    Example:
        >>> from inshape.geometry.spec import LayerSpec
        >>> picture = LayerSpec(index=0, name="image", op="input", inputs=(), layer=0)
        >>> stem = LayerSpec(index=1, name="stem", op="conv", inputs=(0,), layer=1,
        ...                  kernel_hw=(3, 5), stride_hw=(2, 2), padding="same", out_channels=16)
        >>> spec = GraphSpec("tiny", (picture, stem), (1,), InputShape.of("224x224x3"))
        >>> field = receptive_fields(spec, InputShape.of("97x64x1"))[1]
        >>> field.height, field.width
        (AxisField(field_px=3, jump_px=2, centre_px=0.0), AxisField(field_px=5, jump_px=2,
        centre_px=1.0))
    """
    shapes = map_shapes(spec, shape)
    fields: list[ReceptiveField] = []
    picture: Map = shape.hw
    for layer in spec:
        if layer.op == "input":
            picture = shapes[layer.index]
            fields.append(ReceptiveField(AxisField(1, 1, 0.0), AxisField(1, 1, 0.0)))
            continue
        read = [fields[i] for i in layer.inputs]
        if layer.op == "concat" and layer.axis != -1:
            read = read[:1]  # the others are its neighbours
        maps = [shapes[i] for i in layer.inputs]
        fields.append(_next(layer, read, maps, shapes[layer.index], picture))
    return tuple(fields)


_MOVING = ("pad", "crop", "upsample", "adaptive_pool", "resize", "conv_transpose", "slice")


def _next(
    layer: LayerSpec,
    read: Sequence[ReceptiveField],
    maps: Sequence[Map],
    out: Map,
    picture: Map,
) -> ReceptiveField:
    merged = _merged(read)
    if merged.whole:
        return merged
    if _loses_place(layer, out, maps):
        return _whole(picture, merged.aligned)
    if layer.op == "opaque" and not _keeps_place(out, maps):
        return ReceptiveField(UNKNOWN, UNKNOWN, global_context=merged.global_context, aligned=False)
    axes: list[AxisField] = []
    before = read_map(layer, maps[0])
    for axis, field in enumerate((merged.height, merged.width)):
        if layer.grid_first is not None:
            field = _pooled_to_grid(field, maps[0][axis], before[axis])
        if layer.is_window or layer.op in _MOVING:
            field = _along(layer, axis, field, before[axis], out[axis])
        axes.append(field)
    return replace(merged, height=axes[0], width=axes[1])


def _loses_place(layer: LayerSpec, out: Map, maps: Sequence[Map]) -> bool:
    """Whether each of its values depends on the whole map that it reads."""
    if layer.op in ("flatten", "reshape"):
        return len(out) < 3 or out[:2] != maps[0][:2]
    if layer.op == "slice":
        return len(out) < 3
    return layer.op == "global_pool" or (layer.op == "adaptive_pool" and layer.target_hw == (1, 1))


def _keeps_place(out: Map, maps: Sequence[Map]) -> bool:
    return bool(maps) and len(out) == 3 and None not in out[:2] and out[:2] == maps[0][:2]


def _whole(picture: Map, aligned: bool) -> ReceptiveField:
    height, width = (AxisField(n, None, None if n is None else (n - 1) / 2) for n in picture[:2])
    return ReceptiveField(height, width, whole=True, global_context=True, aligned=aligned)


def _merged(read: Sequence[ReceptiveField]) -> ReceptiveField:
    """The field of several maps together; global ones count only where there is no other."""
    placed = [field for field in read if not field.whole]
    if not placed:
        return read[0] if read else ReceptiveField(UNKNOWN, UNKNOWN)
    heights, widths = zip(*((f.height, f.width) for f in placed), strict=True)
    return ReceptiveField(
        _spanned(heights),
        _spanned(widths),
        global_context=any(f.global_context for f in read),
        aligned=all(f.aligned for f in placed) and len({f.stride_hw for f in placed}) == 1,
    )


def _spanned(fields: Sequence[AxisField]) -> AxisField:
    """What several fields of one place cover together."""
    if len(set(fields)) == 1:
        return fields[0]
    sizes = _all_known(f.field_px for f in fields)
    jumps = _all_known(f.jump_px for f in fields)
    if sizes is None or jumps is None:
        return UNKNOWN
    spans = _all_known(f.span(0) for f in fields)
    if spans is None:
        return AxisField(max(sizes), max(jumps), None)
    if min(jumps) < max(jumps):
        return AxisField(max(sizes), max(jumps), fields[sizes.index(max(sizes))].centre_px)
    starts, ends = zip(*spans, strict=True)
    first, last = min(starts), max(ends)
    return AxisField(_tidy(last - first + 1), jumps[0], (first + last) / 2)


def _all_known(values: Iterable[_Value | None]) -> list[_Value] | None:
    known: list[_Value] = []
    for value in values:
        if value is None:
            return None
        known.append(value)
    return known


def _along(
    layer: LayerSpec, axis: int, field: AxisField, length: int | None, out: int | None
) -> AxisField:
    """One layer's step along one axis."""
    stride, pads = layer.stride_hw[axis], layer.pads[axis]
    match layer.op:
        case "pad":
            return _stepped(field, shift=-pads[0])
        case "crop":
            return _stepped(field, shift=pads[0])
        case "upsample":
            return _stepped(field, shift=(1 / stride - 1) / 2, factor=1 / stride)
        case "conv_transpose":
            # An output pixel is made of every stride-th tap.
            reach = -(-layer.kernel_hw[axis] // stride) - 1
            return _stepped(field, reach=reach, shift=(1 / stride - 1) / 2, factor=1 / stride)
        case "slice":
            return _sliced(layer, axis, field)
        case "adaptive_pool":
            return _pooled_to_grid(field, length, out)
        case "resize":
            return _resized(field, length, out)
        case _:
            reach = (layer.kernel_hw[axis] - 1) * layer.dilation_hw[axis]
            zeros = layer.zeros_along(axis, length)
            shift = None if zeros is None else reach / 2 - zeros[0]
            return _stepped(field, reach=reach, shift=shift, factor=stride)


def _resized(field: AxisField, length: int | None, out: int | None) -> AxisField:
    if length is None or out is None:
        return UNKNOWN
    ratio = length / out
    # Bilinear sampling reads two neighbours.
    return _stepped(field, reach=int(ratio != 1), shift=(ratio - 1) / 2, factor=ratio)


def _sliced(layer: LayerSpec, axis: int, field: AxisField) -> AxisField:
    start, _, step = layer.slices[axis] if axis < len(layer.slices) else (None, None, None)
    if (start or 0) < 0 or (step or 1) < 0:
        return UNKNOWN
    return _stepped(field, shift=start or 0, factor=step or 1)


def _pooled_to_grid(field: AxisField, length: int | None, cells: int | None) -> AxisField:
    if length is None or cells is None:
        return UNKNOWN
    widest = max(-(-(i + 1) * length // cells) - i * length // cells for i in range(cells))
    ratio = length / cells
    return _stepped(field, reach=widest - 1, shift=(ratio - 1) / 2, factor=ratio)


def _stepped(
    field: AxisField, *, reach: float = 0, shift: float | None = 0, factor: float = 1
) -> AxisField:
    """A layer that reads ``reach + 1`` pixels, first around ``shift``, every ``factor`` pixels."""
    if field.field_px is None or field.jump_px is None:
        return UNKNOWN
    centre = field.centre_px
    moved = None if centre is None or shift is None else float(centre + shift * field.jump_px)
    return AxisField(
        _tidy(field.field_px + reach * field.jump_px), _tidy(field.jump_px * factor), moved
    )


def _tidy(value: float) -> float:
    """An integer where it is one, for display."""
    return int(value) if value == int(value) else value

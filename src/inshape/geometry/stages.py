"""A network's geometry stage by stage, as a value that can be printed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..shapes import InputShape, Size
from ..text import (
    Printable,
    format_bytes,
    format_count,
    format_pair,
    format_shape,
    join_some,
    table,
)
from .amounts import total_of
from .arena import alive_bytes
from .cost import costs
from .operators import layout
from .paths import final_call, main_path, stage_groups, stage_members
from .receptive import AxisPair, ReceptiveField, receptive_fields
from .rules import Map
from .sizes import map_shapes, network_shape
from .spec import GraphSpec


@dataclass(frozen=True, slots=True)
class Stage:
    """Calls at one cumulative stride, one after the other on the main path.

    Side branches count towards the stage that they join. ``None`` is unknown until run time.

    Attributes:
        name: ``input`` for the picture, ``stem`` for the first convolution, ``stage 2`` and so on
            behind it, ``head`` behind the last map.
        first: the name of its first layer on the main path.
        last: the name of its last one.
        map_size: the size of its last map; ``None`` in the head.
        channels: of that map, or of the head's vector.
        stride_hw: pixels of the network's input per pixel of the map; ``(None, None)`` in the head,
            which stands behind a global pool or a flatten.
        field_hw: the receptive field of the last map in pixels; the whole input in the head.
        global_context: whether it depends on the whole picture besides, as by squeeze-and-excite.
        macs: multiply-accumulate operations.
        params: parameters.
        activation_bytes: the most that is alive at once of the int8 file's tensors while it runs.
    """

    name: str
    first: str
    last: str
    map_size: Size | None
    channels: int | None
    stride_hw: AxisPair
    field_hw: AxisPair
    global_context: bool
    macs: int | None
    params: int | None
    activation_bytes: int | None


@dataclass(frozen=True, slots=True, repr=False)
class Geometry(Printable):
    """A network's geometry at one input shape.

    Attributes:
        name: the model's name.
        input_shape: the picture's shape.
        working_shape: what the network's first layer reads, after ``spec.input_layers``.
        stages: from the picture to the output.
        final_map: the last map before the head.
        final_channels: its channels.
        final_stride_hw: its cumulative stride in pixels.
        final_field_hw: its receptive field in pixels.
        macs: multiply-accumulate operations for one picture.
        known_macs: those of the layers of which they are known: all of them, or at least so many.
        uncounted: the layers of which they are not known.
        params: parameters.
        activation_bytes: the most that is alive at once of the int8 file's tensors.
        peak_at: the layer that runs then.
    """

    name: str
    input_shape: InputShape
    working_shape: InputShape
    stages: tuple[Stage, ...]
    final_map: Size
    final_channels: int | None
    final_stride_hw: AxisPair
    final_field_hw: AxisPair
    macs: int | None
    known_macs: int
    uncounted: tuple[str, ...]
    params: int | None
    activation_bytes: int | None
    peak_at: str | None

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; shapes and sizes as they are written, ``96x128x1``."""
        fields = asdict(self)
        fields["input_shape"] = str(self.input_shape)
        fields["working_shape"] = str(self.working_shape)
        fields["final_map"] = str(self.final_map)
        for stage, row in zip(self.stages, fields["stages"], strict=True):
            row["map_size"] = None if stage.map_size is None else str(stage.map_size)
        return fields

    def describe(self, width: int | None = None) -> str:
        """Stage by stage; the layers' names where there is room for all columns."""
        heads = ["stage", "map", "stride", "field", "MACs", "params", "activations"]
        rows = [*map(_row, self.stages), ("total", "", "", "", *_cost_words(self))]
        if width is None:
            heads.append("layers")
            rows = [
                (*row, name)
                for row, name in zip(rows, [*map(_layers, self.stages), ""], strict=True)
            ]
        return "\n".join([_title(self), *table(heads, rows, left=2, width=width), *_footer(self)])


def geometry(spec: GraphSpec, shape: InputShape) -> Geometry:
    """The geometry of a network at an input shape.

    Example:
        >>> from inshape.geometry.spec import LayerSpec
        >>> picture = LayerSpec(index=0, name="image", op="input", inputs=(), layer=0)
        >>> stem = LayerSpec(index=1, name="stem", op="conv", inputs=(0,), layer=1,
        ...                  kernel_hw=(3, 3), stride_hw=(2, 2), padding="same", out_channels=16)
        >>> spec = GraphSpec("tiny", (picture, stem), (1,), InputShape.of("224x224x3"))
        >>> print(geometry(spec, InputShape.of("97x64x1")))
        tiny at 97x64x1
        stage  map       stride  field    MACs  params  activations
        input  97x64x1        1      1       0       0     30.3 KiB
        stem   49x32x16       2      3  225.8K     144    122.5 KiB
        total                           225.8K     144    122.5 KiB
        activations: the int8 file's, the most alive at once; the peak is at "stem"
    """
    shapes = map_shapes(spec, shape)
    fields = receptive_fields(spec, shape)
    rows = stages(spec, shape)
    alive = _alive_by_call(spec, shape)
    peak_at = None if alive is None else max(alive, key=alive.__getitem__)
    cost = costs(spec, shape)
    last = final_call(spec, fields)
    return Geometry(
        name=spec.name,
        input_shape=shape,
        working_shape=network_shape(spec, shape),
        stages=rows,
        final_map=_size(shapes[last]),
        final_channels=shapes[last][-1],
        final_stride_hw=fields[last].stride_hw,
        final_field_hw=fields[last].field_hw,
        macs=total_of(c.macs for c in cost),
        known_macs=sum(c.macs or 0 for c in cost),
        uncounted=tuple(x.name for x, c in zip(spec, cost, strict=True) if c.macs is None),
        params=total_of(stage.params for stage in rows),
        activation_bytes=None if alive is None else max(alive.values()),
        peak_at=None if peak_at is None else spec[peak_at].name,
    )


def stages(spec: GraphSpec, shape: InputShape) -> tuple[Stage, ...]:
    """The calls of the main path grouped by cumulative stride."""
    shapes = map_shapes(spec, shape)
    fields = receptive_fields(spec, shape)
    cost = costs(spec, shape)
    alive = _alive_by_call(spec, shape)
    groups = stage_groups(spec, main_path(spec, fields), fields)
    members = stage_members(spec, groups, fields)
    rows: list[Stage] = []
    names = _names(spec, groups, fields)
    for name, path, calls in zip(names, groups, members, strict=True):
        at = path[-1]
        peak = None if alive is None else max(alive.get(i, 0) for i in calls)
        field = fields[at]
        rows.append(
            Stage(
                name=name,
                first=spec[path[0]].name,
                last=spec[path[-1]].name,
                map_size=None if field.whole else _size(shapes[at]),
                channels=shapes[at][-1],
                stride_hw=field.stride_hw,
                field_hw=field.field_hw,
                global_context=field.global_context,
                macs=total_of(cost[i].macs for i in calls),
                params=total_of(cost[i].params for i in calls),
                activation_bytes=peak,
            )
        )
    return tuple(rows)


def _names(
    spec: GraphSpec, groups: Sequence[Sequence[int]], fields: Sequence[ReceptiveField]
) -> list[str]:
    """What people call the stages, counted from the first convolution, whatever its stride is.

    So a stage has the same name at the native shape and at another one.
    """
    kernels = (n for n, group in enumerate(groups) if any(spec[i].is_conv for i in group))
    stem = next(kernels, 1)
    names: list[str] = []
    for number, group in enumerate(groups):
        if fields[group[-1]].whole:
            names.append("head")
        elif number <= stem:
            names.append("stem" if number == stem else "input")
        else:
            names.append(f"stage {number - stem + 1}")
    return names


def _layers(stage: Stage) -> str:
    return stage.first if stage.first == stage.last else f"{stage.first} .. {stage.last}"


def _alive_by_call(spec: GraphSpec, shape: InputShape) -> dict[int, int] | None:
    """The most that is alive while a call's operators run, of calls that have such."""
    operators = layout(spec, shape)
    if operators is None:
        return None
    alive: dict[int, int] = {}
    for operator, size in zip(operators.operators, alive_bytes(operators), strict=True):
        alive.update((call, max(size, alive.get(call, 0))) for call in operator.calls)
    return alive


def _size(shape: Map) -> Size:
    return Size(shape[0], shape[1]) if len(shape) == 3 else Size(None, None)


def _row(stage: Stage) -> tuple[str, ...]:
    in_head = stage.map_size is None
    shape = (stage.channels,) if stage.map_size is None else (*stage.map_size.hw, stage.channels)
    return (
        stage.name,
        format_shape(shape),
        "-" if in_head else format_pair(stage.stride_hw),
        "whole" if in_head else format_pair(stage.field_hw) + "*" * stage.global_context,
        *_cost_words(stage),
    )


def _cost_words(cost: Stage | Geometry) -> tuple[str, ...]:
    return (
        format_count(cost.macs),
        format_count(cost.params),
        format_bytes(cost.activation_bytes),
    )


def _title(geometry: Geometry) -> str:
    title = f"{geometry.name} at {geometry.input_shape}"
    if geometry.working_shape != geometry.input_shape:
        title += f", made {geometry.working_shape} in front"
    return title


def _footer(geometry: Geometry) -> list[str]:
    at = "" if geometry.peak_at is None else f'; the peak is at "{geometry.peak_at}"'
    lines: list[str] = []
    if geometry.uncounted and geometry.working_shape.is_static:
        lines.append(
            f"MACs: at least {format_count(geometry.known_macs)}; those of "
            f"{join_some(geometry.uncounted)} are not known"
        )
    lines += [f"activations: the int8 file's, the most alive at once{at}"]
    if any(s.global_context and s.map_size is not None for s in geometry.stages):
        lines.append("* and the whole picture besides, through global pooling inside")
    return lines

"""A network's geometry as a drawing: each stage's map laid over the picture that it reads."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, TypeAlias

from ..shapes import InputShape
from ..text import clip_name, format_count, format_pair

_Geometry: TypeAlias = Mapping[str, Any]
_Stage: TypeAlias = Mapping[str, Any]
_Box: TypeAlias = tuple[float, float, float, float]

SIDE = 128
"""Height and width of a drawing, in its own units."""
_PICTURE = 112.0
_CLOSEST = 2.2
_EDGE = 1.5


@dataclass(frozen=True, slots=True)
class StageDrawing:
    """One stage at one input shape; boxes are left, top, width and height."""

    map_text: str
    stride_text: str
    field_text: str
    is_global: bool
    """Whether the map depends on the whole picture besides."""
    macs: int | None
    share: float
    """Of the most multiply-accumulates that any stage drawn takes, in [0, 1]."""
    frame: _Box | None
    """The picture; ``None`` where the map is not known."""
    grid: str
    """The map's pixels as an SVG path; empty where they are too small to be told apart."""
    field: _Box | None
    """The receptive field, as much of it as fits into the drawing."""
    is_beyond: bool
    """Whether the field is larger than the picture."""


@dataclass(frozen=True, slots=True)
class Row:
    """A stage at the native shape and at the new one; ``None`` where there is no such stage."""

    name: str
    """What people call it."""
    first: str
    """Its first layer."""
    native: StageDrawing | None
    new: StageDrawing | None


@dataclass(frozen=True, slots=True)
class _Scale:
    """One scale for all drawings of a page, so that they can be compared."""

    units_per_px: float
    most_macs: int

    @classmethod
    def of(cls, geometries: Sequence[_Geometry]) -> _Scale:
        lengths = [n or 0 for g in geometries for n in InputShape.of(g["working_shape"]).hw]
        macs = [stage["macs"] or 0 for g in geometries for stage in _maps(g)]
        return cls(_PICTURE / max([1, *lengths]), max([1, *macs]))

    def box(self, size_hw: Sequence[float | None]) -> _Box | None:
        """A centred box of so many pixels, cut where the drawing ends; ``None`` if not known."""
        height, width = size_hw
        if height is None or width is None:
            return None
        tall, wide = (min(self.units_per_px * n, SIDE - 2 * _EDGE) for n in (height, width))
        return (SIDE - wide) / 2, (SIDE - tall) / 2, wide, tall


def draw_stages(native: _Geometry | None, new: _Geometry) -> tuple[Row, ...]:
    """The stages of two geometries as plain values, from the picture to the last map.

    Stages are paired by their layers. The native geometry may be unknown; heads are left out.
    """
    scale = _Scale.of([new] if native is None else [native, new])
    pairs = _pair([] if native is None else _maps(native), _maps(new))
    return tuple(
        Row(
            # Records of before stages had names are numbered.
            (after or before or {}).get("name", f"stage {number}"),
            clip_name((before or after or {})["first"]),
            _draw(native, before, scale),
            _draw(new, after, scale),
        )
        for number, (before, after) in enumerate(pairs, 1)
    )


def drawing_html(native: _Geometry | None, new: _Geometry) -> str:
    """The stages as a table of drawings for a notebook, in its own colours, light or dark.

    A row per shape: the picture cut into the map's pixels, and the receptive field laid over it.
    """
    rows = draw_stages(native, new)
    heads = "".join(f"<th>{html.escape(row.name)}</th>" for row in rows)
    lines = [(new["working_shape"], [row.new for row in rows])]
    if native is not None and native["working_shape"] != new["working_shape"]:
        lines.insert(0, (native["working_shape"], [row.native for row in rows]))
    body = "".join(
        f"<tr><th>{html.escape(str(shape))}</th>{''.join(map(_cell, stages))}</tr>"
        for shape, stages in lines
    )
    return (
        '<div style="overflow-x:auto"><table><thead><tr><th></th>'
        f"{heads}</tr></thead><tbody>{body}</tbody></table></div>"
        "<p><small>The picture, cut into the pixels of each map; orange: the receptive field, the "
        "part of the picture that one of them depends on, dashed where it is larger than the "
        "picture.</small></p>"
    )


def _cell(stage: StageDrawing | None) -> str:
    if stage is None:
        return "<td>–</td>"
    map_text, stride_text = html.escape(stage.map_text), html.escape(stage.stride_text)
    words = f"{map_text}<br>stride {stride_text}<br>{format_count(stage.macs)} MACs"
    return (
        f'<td style="text-align:left;vertical-align:top">{_svg(stage)}<small>{words}</small></td>'
    )


def _svg(stage: StageDrawing) -> str:
    if stage.frame is None:
        return ""
    dashes = ' stroke-dasharray="4 3"' if stage.is_beyond else ""
    fill = "none" if stage.grid else "currentColor"
    field = ""
    if stage.field is not None:
        field = (
            f'<rect {_at(stage.field)} fill="#e8811a33" stroke="#e8811a" stroke-width="2"{dashes}/>'
        )
    return (
        f'<svg width="{SIDE * 3 // 4}" height="{SIDE * 3 // 4}" viewBox="0 0 {SIDE} {SIDE}" '
        f'role="img" aria-label="receptive field {html.escape(stage.field_text)}">'
        f'<rect {_at(stage.frame)} fill="{fill}" fill-opacity="0.15" stroke="currentColor"/>'
        f'<path d="{stage.grid}" stroke="currentColor" stroke-width="0.5" fill="none"/>'
        f"{field}</svg><br>"
    )


def _at(box: _Box) -> str:
    left, top, width, height = box
    return f'x="{left}" y="{top}" width="{width}" height="{height}"'


def _maps(geometry: _Geometry) -> list[_Stage]:
    return [stage for stage in geometry["stages"] if stage["map_size"] is not None]


def _pair(
    native: Sequence[_Stage], new: Sequence[_Stage]
) -> list[tuple[_Stage | None, _Stage | None]]:
    """Stages of the same layers side by side, from the picture on.

    Layers that an edit takes away move the ends of a stage, and other channels change its
    parameters; that all of these change is rare, and such stages are paired by their place before
    the next pair.
    """
    pairs: list[tuple[_Stage | None, _Stage | None]] = []
    i, j = len(native), len(new)
    while True:
        skipped = _steps_to_match(native[:i], new[:j])
        a, b = skipped or (i, j)
        pairs += zip_longest(reversed(native[i - a : i]), reversed(new[j - b : j]))
        if skipped is None:
            return pairs[::-1]
        pairs.append((native[i - 1 - a], new[j - 1 - b]))
        i, j = i - a - 1, j - b - 1


def _steps_to_match(native: Sequence[_Stage], new: Sequence[_Stage]) -> tuple[int, int] | None:
    """How many stages of each stand behind the last two that are the same; the fewest count."""
    matches = [
        (a, b)
        for a, one in enumerate(reversed(native))
        for b, other in enumerate(reversed(new))
        if _is_same(one, other)
    ]
    return min(matches, key=lambda match: (sum(match), match), default=None)


def _is_same(one: _Stage, other: _Stage) -> bool:
    has_params = bool(one["params"])
    return one["last"] == other["last"] or (has_params and one["params"] == other["params"])


def _draw(geometry: _Geometry | None, stage: _Stage | None, scale: _Scale) -> StageDrawing | None:
    if geometry is None or stage is None:
        return None
    picture_hw = InputShape.of(geometry["working_shape"]).hw
    map_hw = InputShape.of(f"{stage['map_size']}x1").hw
    field_hw = stage["field_hw"]
    frame = None if None in map_hw else scale.box(picture_hw)
    field = None if frame is None else scale.box(field_hw)
    return StageDrawing(
        map_text=f"{stage['map_size'].replace('x', '×')}×{stage['channels']}",
        stride_text=format_pair(stage["stride_hw"]).replace("x", "×"),
        field_text=format_pair(field_hw).replace("x", "×"),
        is_global=stage["global_context"],
        macs=stage["macs"],
        share=(stage["macs"] or 0) / scale.most_macs,
        frame=_round(frame),
        grid="" if frame is None else _grid(frame, [n or 1 for n in map_hw]),
        field=_round(field),
        is_beyond=_exceeds(field_hw, picture_hw),
    )


def _exceeds(field_hw: Sequence[float | None], picture_hw: Sequence[int | None]) -> bool:
    lengths = zip(field_hw, picture_hw, strict=True)
    return any(f > n for f, n in lengths if f is not None and n is not None)


def _grid(frame: _Box, map_hw: Sequence[int]) -> str:
    """Lines between the pixels of a map."""
    left, top, width, height = frame
    rows, columns = map_hw
    if min(width / columns, height / rows) < _CLOSEST:
        return ""
    down = [f"M{left + width * i / columns:.1f} {top:.1f}v{height:.1f}" for i in range(1, columns)]
    across = [f"M{left:.1f} {top + height * i / rows:.1f}h{width:.1f}" for i in range(1, rows)]
    return "".join([*down, *across])


def _round(box: _Box | None) -> _Box | None:
    if box is None:
        return None
    left, top, width, height = (round(n, 1) for n in box)
    return left, top, width, height

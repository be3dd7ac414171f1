"""A network's geometry as a drawing: each stage's map laid over the picture that it reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from ..shapes import InputShape
from ..text import clip_name, format_pair

_Stage: TypeAlias = Mapping[str, Any]
_Pair: TypeAlias = tuple[_Stage | None, _Stage | None]

SIDE = 128
"""Height and width of a drawing, in its own units."""

_PICTURE = 112.0
_CLOSEST = 2.2
_EDGE = 1.5


@dataclass(frozen=True, slots=True)
class StageDrawing:
    """One stage at one input shape.

    Attributes:
        map_word: height, width and channels of its map.
        stride_word: pixels per pixel of the map.
        field_word: the receptive field in pixels.
        is_global: whether the map depends on the whole picture besides.
        macs: multiply-accumulate operations; ``None`` where unknown.
        share: of the most that any stage drawn takes, in [0, 1].
        frame: left, top, width and height of the picture; ``None`` where the map is not known.
        grid: the map's pixels as an SVG path; empty where they are too small to be told apart.
        field: left, top, width and height of the receptive field, as far as it is in the drawing.
        is_beyond: whether the field is larger than the picture.
    """

    map_word: str
    stride_word: str
    field_word: str
    is_global: bool
    macs: int | None
    share: float
    frame: tuple[float, float, float, float] | None
    grid: str
    field: tuple[float, float, float, float] | None
    is_beyond: bool


@dataclass(frozen=True, slots=True)
class Row:
    """A stage at the native shape and at the new one.

    Attributes:
        first: its first layer.
        native: ``None`` where the native network has no such stage.
        new: likewise.
    """

    first: str
    native: StageDrawing | None
    new: StageDrawing | None


def rows_of(native: Mapping[str, Any] | None, new: Mapping[str, Any]) -> tuple[Row, ...]:
    """The stages of two geometries side by side, paired by their layers.

    Args:
        native: what `geometry.stages.Geometry.as_dict` says of the source; may be unknown.
        new: the same of the network at the new shape.

    Returns:
        From the picture to the last map; heads are left out.
    """
    sides = [g for g in (native, new) if g is not None]
    longest = max((n or 0 for g in sides for n in InputShape.of(g["working_shape"]).hw), default=0)
    most = max((s["macs"] or 0 for g in sides for s in _maps(g)), default=0)
    scale = _PICTURE / max(longest, 1)

    def drawn(g: Mapping[str, Any], stage: Mapping[str, Any] | None) -> StageDrawing | None:
        return None if stage is None else _drawn(g, stage, scale, most)

    pairs = _paired([] if native is None else _maps(native), _maps(new))
    return tuple(
        Row(
            clip_name((before or own or {})["first"]),
            None if native is None else drawn(native, before),
            drawn(new, own),
        )
        for before, own in pairs
    )


def _maps(geometry: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [s for s in geometry["stages"] if s["map_size"] is not None]


def _paired(native: Sequence[_Stage], new: Sequence[_Stage]) -> list[_Pair]:
    """Stages of the same layers side by side, from the picture on.

    Layers that an edit takes away move the ends of a stage, and other channels change its
    parameters; that all of these change is rare, and such stages are paired by their place before
    the next pair.
    """
    found: list[_Pair] = []
    i, j = len(native), len(new)
    while i or j:
        steps = [
            (a, b)
            for a in range(i)
            for b in range(j)
            if _is_same(native[i - 1 - a], new[j - 1 - b])
        ]
        a, b = min(steps, key=lambda step: (sum(step), step)) if steps else (i, j)
        found += [
            (native[i - 1 - k] if k < a else None, new[j - 1 - k] if k < b else None)
            for k in range(max(a, b))
        ]
        if steps:
            found.append((native[i - 1 - a], new[j - 1 - b]))
        i, j = (i - a - 1, j - b - 1) if steps else (0, 0)
    return found[::-1]


def _is_same(one: _Stage, other: _Stage) -> bool:
    return one["last"] == other["last"] or (
        bool(one["params"]) and one["params"] == other["params"]
    )


def _drawn(
    geometry: Mapping[str, Any], stage: Mapping[str, Any], scale: float, most: int
) -> StageDrawing:
    picture_hw = InputShape.of(geometry["working_shape"]).hw
    map_hw = [_count(part) for part in stage["map_size"].split("x")]
    field_hw = stage["field_hw"]
    macs = stage["macs"]
    frame = grid = field = None
    if None not in picture_hw and None not in map_hw:
        height, width = (scale * (n or 0) for n in picture_hw)
        frame = ((SIDE - width) / 2, (SIDE - height) / 2, width, height)
        grid = _grid(frame, [n or 1 for n in map_hw])
        if None not in field_hw:
            reach = [min(scale * n, SIDE - 2 * _EDGE) for n in field_hw]
            field = ((SIDE - reach[1]) / 2, (SIDE - reach[0]) / 2, reach[1], reach[0])
    return StageDrawing(
        map_word=f"{stage['map_size'].replace('x', '×')}×{stage['channels']}",
        stride_word=format_pair(stage["stride_hw"]).replace("x", "×"),
        field_word=format_pair(field_hw).replace("x", "×"),
        is_global=stage["global_context"],
        macs=macs,
        share=0.0 if not macs or not most else macs / most,
        frame=None if frame is None else _rounded(frame),
        grid=grid or "",
        field=None if field is None else _rounded(field),
        is_beyond=any(
            f is not None and n is not None and f > n
            for f, n in zip(field_hw, picture_hw, strict=True)
        ),
    )


def _count(text: str) -> int | None:
    return int(text) if text.isdecimal() else None


def _grid(frame: tuple[float, float, float, float], map_hw: Sequence[int]) -> str:
    """Lines between the pixels of a map."""
    left, top, width, height = frame
    rows, columns = map_hw
    if min(width / columns, height / rows) < _CLOSEST:
        return ""
    down = [f"M{left + width * i / columns:.1f} {top:.1f}v{height:.1f}" for i in range(1, columns)]
    across = [f"M{left:.1f} {top + height * i / rows:.1f}h{width:.1f}" for i in range(1, rows)]
    return "".join([*down, *across])


def _rounded(box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    left, top, width, height = (round(n, 1) for n in box)
    return left, top, width, height

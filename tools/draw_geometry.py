"""Draw what happens to maps, strides, receptive fields, kernels and channels.

    python -m tools.draw_geometry            # writes docs/img/*.svg
    python -m tools.draw_geometry --check    # says which files are not what it would write

Everything that is drawn is computed by the library: plans of real networks, paddings, composed
kernels, channel matrices.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from inshape.geometry.lengths import output_length, same_padding
from inshape.geometry.receptive import AxisField, receptive_fields
from inshape.geometry.spec import GraphSpec, LayerSpec, Resampling
from inshape.geometry.stages import geometry
from inshape.shapes import InputShape
from inshape.strategies.dilate import dilated
from inshape.weights.channels import channel_matrix
from inshape.weights.resample import compose
from tools.svg import FAINT, FIELD, INK, MAP, ZERO, Drawing, number

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "img"
NETWORK = "MobileNetV3Small-minimalistic"

_SCALE = 0.42  # drawn pixels per pixel of the picture
_GAP_PX = 26
_LEAST_CELL_PX = 2.5
_CELL_PX = 34


@cache
def plan(shape: str, **options: Any) -> Any:
    """A plan of the network that is drawn."""
    import inshape

    return inshape.plan(NETWORK, shape, **options)


def maps(title: str, rows: Sequence[tuple[str, GraphSpec, InputShape]]) -> str:
    """Networks row by row: the picture, then the map of every stage on the picture's own scale.

    A map's middle pixel is filled, its receptive field outlined, cut off at the picture's border.
    """
    drawing = Drawing(title)
    top = 0.0
    for label, spec, shape in rows:
        stages = geometry(spec, shape)
        fields = dict(zip((x.name for x in spec), receptive_fields(spec, shape), strict=True))
        drawing.text(0, top + 12, label, size_px=14, bold=True)
        top += 24
        left = 0.0
        working = stages.working_shape
        if working.size != shape.size:
            left = _picture(drawing, left, top, shape) + _GAP_PX
            drawing.text(left - _GAP_PX / 2, top + 20, "→", size_px=14, anchor="middle")
        for stage in stages.stages:
            if stage.map_size is not None:
                cells = stage.map_size.height or 1, stage.map_size.width or 1
                field = fields[stage.last]
                left = _map(drawing, left, top, working, cells, (field.height, field.width))
                left += _GAP_PX
        top += (working.height or 0) * _SCALE + 58
    return str(drawing)


def _picture(drawing: Drawing, left: float, top: float, shape: InputShape) -> float:
    height, width = (shape.height or 0) * _SCALE, (shape.width or 0) * _SCALE
    drawing.rect(left, top, width, height, fill=MAP)
    drawing.text(left, top + height + 15, f"picture {shape.height}x{shape.width}")
    return left + max(width, 92)


def _map(
    drawing: Drawing,
    left: float,
    top: float,
    shape: InputShape,
    cells: tuple[int, int],
    field: tuple[AxisField, AxisField],
) -> float:
    """One map over its picture; returns where it ends on the right."""
    height, width = (shape.height or 0) * _SCALE, (shape.width or 0) * _SCALE
    step_y, step_x = height / cells[0], width / cells[1]
    if min(step_y, step_x) < _LEAST_CELL_PX:
        drawing.rect(left, top, width, height, fill=MAP)
    else:
        drawing.rect(left, top, width, height)
        for row in range(1, cells[0]):
            y = top + row * step_y
            drawing.line(left, y, left + width, y, stroke=FAINT, stroke_px=0.6)
        for column in range(1, cells[1]):
            x = left + column * step_x
            drawing.line(x, top, x, top + height, stroke=FAINT, stroke_px=0.6)
        drawing.rect(
            left + cells[1] // 2 * step_x, top + cells[0] // 2 * step_y, step_x, step_y, fill=MAP
        )
    (first_y, last_y), (first_x, last_x) = (
        _seen(axis, count // 2, length)
        for axis, count, length in zip(field, cells, (height, width), strict=True)
    )
    drawing.rect(
        left + first_x, top + first_y, last_x - first_x, last_y - first_y, stroke=FIELD, stroke_px=2
    )
    drawing.text(left, top + height + 15, f"{cells[0]}x{cells[1]}")
    strides, fields = (
        _pair([axis.jump_px for axis in field]),
        _pair([axis.field_px for axis in field]),
    )
    drawing.text(left, top + height + 29, f"stride {strides}", fill=FAINT)
    drawing.text(left, top + height + 43, f"field {fields}", fill=FIELD)
    return left + max(width, 92)


def _seen(axis: AxisField, index: int, length: float) -> tuple[float, float]:
    """Where the field of a map's pixel begins and ends, drawn, within the picture."""
    span = axis.span(index)
    assert span is not None
    return max(0.0, span[0] * _SCALE), min(length, (span[1] + 1) * _SCALE)


def _pair(values: Sequence[float | None]) -> str:
    words = ["?" if value is None else number(value) for value in values]
    return words[0] if words[0] == words[1] else "x".join(words)


def _native() -> tuple[str, GraphSpec, InputShape]:
    source = plan("96x96x3", strategy="rebuild").decision.source
    return f"{source.input_shape.size}, native", source, source.input_shape


def _changed(shape: str, label: str, **options: Any) -> tuple[str, GraphSpec, InputShape]:
    new = plan(shape, **options)
    return f"{new.input_shape.size} {label}", new.spec, new.input_shape


def resized() -> str:
    """`resize`: the picture is enlarged before the network."""
    return maps(
        "A 96x96 picture enlarged to 224x224 before an unchanged network",
        [_changed("96x96x3", "by resize", strategy="resize")],
    )


def rebuilt() -> str:
    """`rebuild`: the same layers at the native and at other sizes."""
    return maps(
        "The same layers at three sizes: the maps change, strides and fields do not",
        [
            _native(),
            _changed("96x96x3", "by rebuild", strategy="rebuild"),
            _changed("97x130x3", "by rebuild", strategy="rebuild"),
        ],
    )


def restrided() -> str:
    """`restride`: the stem's stride is halved."""
    return maps(
        "A stem of half the stride keeps the maps of a picture twice as large",
        [
            _changed("96x96x3", "by rebuild", strategy="rebuild"),
            _changed("96x96x3", "by restride", strategy="restride"),
        ],
    )


def dense() -> str:
    """`restride` with an output stride: a denser last map."""
    return maps(
        "The last stage's stride replaced by dilation",
        [_native(), _changed("224x224x3", "with output_stride=16", output_stride=16)],
    )


def flexible() -> str:
    """`flexible`: one network at several sizes."""
    spec = plan("?x?x3").spec
    shapes = [InputShape.of(text) for text in ("96x160x3", "97x130x3", "224x224x3")]
    rows = [(f"{shape.size} by one model", spec, shape) for shape in shapes]
    return maps("One model at three sizes", rows)


def padding() -> str:
    """Three taps at stride 2: zeros that belong to the length, and zeros that do not."""
    drawing = Drawing("Where three taps at stride 2 stand on 8 and on 7 pixels")
    top = 0.0
    stale = same_padding(8, 3, 2)
    for length, pads, label in (
        (8, stale, "8 pixels, padded for an even length: right"),
        (7, stale, "7 pixels, still padded for an even length: one output fewer, shifted"),
        (7, same_padding(7, 3, 2), "7 pixels, padded for an odd length: right"),
    ):
        count = output_length(length, 3, 2, pads_px=pads)
        top = _windows(drawing, top, length, pads, count or 0, f"{label} ({count} outputs)")
    return str(drawing)


def _windows(
    drawing: Drawing, top: float, length: int, pads: tuple[int, int], count: int, label: str
) -> float:
    drawing.text(0, top + 12, label, bold=True)
    top += 22
    for place in range(-pads[0], length + pads[1]):
        left = (place + 1) * _CELL_PX
        inside = 0 <= place < length
        drawing.rect(left, top, _CELL_PX, 24, fill=MAP if inside else ZERO)
        word = str(place) if inside else "0"
        drawing.text(left + _CELL_PX / 2, top + 16, word, anchor="middle")
    for output in range(count):
        first = 2 * output - pads[0]
        left, y = (first + 1) * _CELL_PX, top + 32 + 9 * (output % 2)
        drawing.line(left + 3, y, left + 3 * _CELL_PX - 3, y, stroke=FIELD, stroke_px=3)
    return top + 68


def dilation() -> str:
    """A stride removed, and the later layer dilated: the old values and new ones between."""
    picture = LayerSpec(0, "picture", "input", (), 0)
    first = LayerSpec(1, "first", "conv", (0,), 1, (3, 3), (2, 2), padding="same", out_channels=1)
    second = LayerSpec(2, "second", "conv", (1,), 2, (3, 3), (1, 1), padding="same", out_channels=1)
    shape = InputShape(12, 12, 1)
    spec = GraphSpec("two layers", (picture, first, second), (2,), shape)
    drawing = Drawing("A stride of 2 replaced by a dilation of 2 in the next layer")
    top = 0.0
    for label, network in (
        ("stride 2, then 3 taps", spec),
        ("stride 1, then 3 taps 2 apart", dilated(spec, shape, 1)),
    ):
        drawing.text(0, top + 12, label, bold=True)
        top = _taps(drawing, top + 34, network, shape.height or 0)
    return str(drawing)


def _taps(drawing: Drawing, top: float, spec: GraphSpec, length: int) -> float:
    """Pixels of each map at their places in the picture, and the taps between maps."""
    jump, centre = 1.0, 0.0
    places = [float(n) for n in range(length)]
    for row, layer in enumerate(spec):
        if row:
            kernel, stride, apart = layer.kernel_hw[0], layer.stride_hw[0], layer.dilation_hw[0]
            pads = layer.pads[0]
            if layer.padding == "same":
                pads = same_padding(len(places), kernel, stride, apart)
            count = output_length(len(places), kernel, stride, dilation_px=apart, pads_px=pads)
            before = places
            centre += ((kernel - 1) * apart / 2 - pads[0]) * jump
            starts = [output * stride - pads[0] for output in range(count or 0)]
            jump *= stride
            places = [centre + output * jump for output in range(count or 0)]
            for start, place in zip(starts, places, strict=True):
                for tap in range(kernel):
                    index = start + tap * apart
                    if 0 <= index < len(before):
                        drawing.line(
                            before[index] * _CELL_PX, top - 44, place * _CELL_PX, top, stroke=FAINT
                        )
        for place in places:
            on_old_grid = row == 0 or (place - places[0]) % 2 == 0
            fill = INK if on_old_grid else FIELD
            drawing.rect(place * _CELL_PX - 5, top - 5, 10, 10, fill=fill, stroke=fill)
        drawing.text((length + 0.8) * _CELL_PX, top + 4, layer.name)
        top += 44
    return top


def stem() -> str:
    """The kernel of a halved stem, tap by tap, for each interpolation."""
    drawing = Drawing("Taps of the composed stem from those of the pretrained one")
    top = 0.0
    for method in ("nearest", "bilinear", "bicubic"):
        columns = []
        for tap in range(3):
            kernel = np.zeros((3, 3, 1, 1))
            kernel[tap, 1] = 1  # the middle column alone, so that one axis shows
            composed = compose(kernel, Resampling(2, "up", method, (2, 2), ((0, 1), (0, 1))))
            columns.append(composed.kernel[:, :, 0, 0].sum(axis=1))
        matrix = np.stack(columns, axis=1)
        heads = [f"w{tap}" for tap in range(3)]
        names = [f"W{row}" for row in range(len(matrix))]
        top = _matrix(drawing, top, f"{method}, stride 2 -> 1", matrix, heads, names)
    return str(drawing)


def channels() -> str:
    """Channel rules as matrices: rows are new channels, columns pretrained ones."""
    drawing = Drawing("What each channel rule makes of red, green and blue")
    top = 0.0
    for rule, count in (("sum", 1), ("mean", 1), ("luma", 1), ("zero", 4), ("tile", 4)):
        matrix = np.asarray(channel_matrix(rule, count, 3))
        names = ["grey"] if count == 1 else [f"band {n}" for n in range(count)]
        top = _matrix(
            drawing, top, f"{rule}, 3 -> {count}", matrix, ["red", "green", "blue"], names
        )
    return str(drawing)


def _matrix(
    drawing: Drawing,
    top: float,
    label: str,
    matrix: np.ndarray,
    heads: Sequence[str],
    names: Sequence[str],
) -> float:
    drawing.text(0, top + 12, label, bold=True)
    width, height = 62, 24
    top += 34
    for column, head in enumerate(heads):
        x = 64 + (column + 0.5) * width
        drawing.text(x, top - 5, head, anchor="middle", fill=FAINT)
    for row, name in enumerate(names):
        drawing.text(56, top + row * height + 16, name, anchor="end", fill=FAINT)
        for column in range(len(heads)):
            value = float(matrix[row, column])
            left = 64 + column * width
            fill = "none" if abs(value) < 5e-4 else MAP if value > 0 else ZERO
            drawing.rect(left, top + row * height, width, height, fill=fill, stroke=FAINT)
            word = f"{value:.3f}".rstrip("0").rstrip(".")
            middle = top + row * height + 16
            drawing.text(left + width / 2, middle, word, anchor="middle")
    return top + len(names) * height + 26


DRAWINGS: dict[str, Callable[[], str]] = {
    "resize_maps": resized,
    "rebuild_maps": rebuilt,
    "rebuild_padding": padding,
    "restride_maps": restrided,
    "restride_stem": stem,
    "restride_dense": dense,
    "restride_dilation": dilation,
    "flexible_maps": flexible,
    "channels": channels,
}


def main() -> int:
    """Write the drawings, or check them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing")
    check = parser.parse_args().check
    old = [
        name
        for name, draw in DRAWINGS.items()
        if _differs(FOLDER / f"{name}.svg", draw(), write=not check)
    ]
    if check and old:
        print(f"not as drawn: {', '.join(old)}; run python -m tools.draw_geometry")
    return int(check and bool(old))


def _differs(path: Path, drawn: str, *, write: bool) -> bool:
    if path.is_file() and path.read_text(encoding="utf-8") == drawn:
        return False
    if write:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(drawn, encoding="utf-8")
    return True


if __name__ == "__main__":
    sys.exit(main())

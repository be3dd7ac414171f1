"""What the page shows of an input shape: the plan, a row per strategy, the lines that do the same.

Nothing here knows of the page. A network's graph is read once, with random weights, and kept.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import Any

from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ..backbones import find
from ..data.drawing import as_image, in_rgb
from ..data.prepare import Fit
from ..errors import InshapeError
from ..geometry.drawing import draw_stages
from ..geometry.paths import main_path, stage_groups
from ..geometry.receptive import receptive_fields
from ..geometry.sizes import map_shapes, network_shape
from ..limits import COMPUTED, Limits
from ..planning import Network, Plan, PlanRequest, decide_plan, look_up
from ..reporting.page import render_part
from ..requests import command_of, make
from ..shapes import InputShape
from ..strategies.decide import STRATEGIES

Box = tuple[float, float, float, float]
"""Left, top, right and bottom, in pixels of the picture; the last ones included."""
_KEPT = 64
_SHOWN_PX = 384
_MARK = (255, 96, 0)


@dataclass(frozen=True, slots=True)
class StrategyRow:
    """What a strategy costs at a shape, or why it cannot be."""

    strategy: str
    macs: int | None = None
    flash_bytes: int | None = None
    ram_bytes: int | None = None
    final_map: str = ""
    fits: bool = False
    verdict: str = ""
    """``"fits"``, or the limit that is exceeded; empty without limits. Or why there is no plan."""


@cache
def open_graph(backbone: str) -> Network:
    """A network by its name, read once for all tabs; a file is no name.

    Raises:
        UnknownName: if there is no such name.
    """
    return look_up(find(backbone), top=False)


def ask(backbone: str, shape: str, strategy: str, classes: int) -> PlanRequest:
    """The request that the controls stand for.

    Raises:
        RequestError: if a value cannot be what it is for.
    """
    values: dict[str, Any] = {"backbone": find(backbone).name, "input_shape": shape}
    return make(PlanRequest, **values, strategy=strategy, classes=classes)


@lru_cache(_KEPT)
def plan_of(backbone: str, shape: str, strategy: str, classes: int) -> Plan:
    """The plan that ``inshape inspect`` prints for the same values.

    Raises:
        RequestError: if it cannot be planned.
    """
    return decide_plan(ask(backbone, shape, strategy, classes), open_graph(backbone))


def draw(plan: Plan) -> str:
    """The plan's words and drawing, as HTML in which every name is text."""
    values = plan.as_dict()
    stages = draw_stages(values["native_geometry"], values["geometry"])
    return render_part("plan", {"plan": values, "stages": stages})


def compare_strategies(
    backbone: str, shape: str, classes: int, limits: Limits
) -> tuple[StrategyRow, ...]:
    """Every strategy at a shape, and whether it keeps to what the device allows."""
    return tuple(_row(backbone, shape, name, classes, limits) for name in STRATEGIES)


def _row(backbone: str, shape: str, strategy: str, classes: int, limits: Limits) -> StrategyRow:
    try:
        plan = plan_of(backbone, shape, strategy, classes)
    except InshapeError as error:
        return StrategyRow(strategy, verdict=str(error))
    row = StrategyRow(
        strategy=strategy,
        macs=plan.geometry.macs,
        flash_bytes=plan.footprint.flash_bytes,
        ram_bytes=plan.footprint.ram_bytes,
        final_map=str(plan.geometry.final_map),
    )
    if not limits.is_any:
        return row
    excess = limits.exceeded_by(row, COMPUTED)
    if excess is not None and limits.but(max_ram=None).exceeded_by(row, COMPUTED) is None:
        excess += "; patches may meet it (inspect --max-ram)"  # looking for them takes seconds
    return replace(row, fits=excess is None, verdict=excess or "fits")


def draw_rows(rows: tuple[StrategyRow, ...], chosen: str) -> str:
    """The table of the strategies, with the chosen one marked."""
    return render_part("strategies", {"rows": rows, "chosen": chosen})


def python_lines(request: PlanRequest) -> str:
    """The lines of Python that plan and build the same.

    Example:
        >>> print(python_lines(ask("MobileNetV3Small", "96x128x1", "restride", 5)))
        import inshape
        <BLANKLINE>
        plan = inshape.plan("MobileNetV3Small", "96x128x1", classes=5, strategy="restride")
        print(plan)
        model = plan.build()
    """
    strategy = request.options.strategy
    options = "" if strategy == "auto" else f', strategy="{strategy}"'
    return (
        "import inshape\n\n"
        f'plan = inshape.plan("{request.backbone}", "{request.input_shape}", '
        f"classes={request.classes}{options})\n"
        "print(plan)\nmodel = plan.build()"
    )


def command_line(request: PlanRequest) -> str:
    """The command that prints the same plan.

    Example:
        >>> command_line(ask("MobileNetV3Small", "96x128x1", "auto", 5))
        'inshape inspect MobileNetV3Small 96x128x1 --classes 5'
    """
    return command_of("inspect", request) or ""


def field_at(plan: Plan, stage: int, point_yx: tuple[float, float]) -> Box | None:
    """What a pixel of a stage's last map depends on: the one at a point of the input picture.

    Stages count from 1, as in the drawing, where the native shape may have some that the new one
    has not; then, and behind the last, the one before is meant. The box may reach beyond the
    picture; ``None`` where the field is not known.
    """
    shape = plan.static_shape
    fields = receptive_fields(plan.spec, shape)
    groups = stage_groups(plan.spec, main_path(plan.spec, fields), fields)
    ends = [group[-1] for group in groups if not fields[group[-1]].whole]
    rows = draw_stages(plan.native_geometry.as_dict(), plan.geometry.as_dict())
    number = max(1, sum(row.new is not None for row in rows[:stage]))
    at_stage = ends[number - 1]
    field, map_hw = fields[at_stage], map_shapes(plan.spec, shape)[at_stage][:2]
    scales, offsets = _into_network(plan)
    spans: list[tuple[float, float]] = []
    for at, scale, offset, axis, length in zip(
        point_yx, scales, offsets, (field.height, field.width), map_hw,
        strict=True,
    ):  # fmt: skip
        if axis.jump_px is None or axis.centre_px is None or length is None:
            return None
        # The middle of pixel 0 is 0 here, and half a pixel from the border in between.
        inside = (at + 0.5) * scale + offset - 0.5
        nearest = round((inside - axis.centre_px) / axis.jump_px)
        span = axis.span(min(max(nearest, 0), length - 1))
        assert span is not None
        spans.append(((span[0] - offset) / scale, (span[1] + 1 - offset) / scale - 1))
    (top, bottom), (left, right) = spans
    return left, top, right, bottom


def _into_network(plan: Plan) -> tuple[tuple[float, float], tuple[float, float]]:
    """Scale and offset, height first, from the input picture to what the network reads."""
    layers = plan.spec.input_layers
    if layers.resize_hw is None:
        return (1.0, 1.0), (0.0, 0.0)
    here = _known(plan.static_shape)
    there = _known(network_shape(plan.spec, plan.static_shape))
    ratios = there[0] / here[0], there[1] / here[1]
    if layers.fit == "letterbox":
        ratios = min(ratios), min(ratios)
    elif layers.fit == "crop":
        ratios = max(ratios), max(ratios)
    top, left = ((t - h * r) / 2 for t, h, r in zip(there, here, ratios, strict=True))
    return ratios, (top, left)


def _known(shape: InputShape) -> tuple[int, int]:
    height, width = shape.hw
    assert height is not None
    assert width is not None
    return height, width


def enlarge(pixels: NDArray[Any], box: Box | None = None) -> Image.Image:
    """A prepared picture, each pixel as a square, with a receptive field drawn on it."""
    picture = as_image(in_rgb(pixels))
    (width, height), times = picture.size, max(1, _SHOWN_PX // max(picture.size))
    picture = picture.resize((width * times, height * times), Image.Resampling.NEAREST)
    if box is None:
        return picture
    # What lies beyond the picture is drawn at its border.
    left, top = (max(0, n) for n in box[:2])
    right, bottom = (min(n, most - 1) for n, most in zip(box[2:], (width, height), strict=True))
    corners = (left * times, top * times, (right + 1) * times - 1, (bottom + 1) * times - 1)
    ImageDraw.Draw(picture).rectangle([round(n) for n in corners], outline=_MARK, width=3)
    return picture


def point_in(size_hw: tuple[int, int], clicked_xy: tuple[float, float]) -> tuple[float, float]:
    """Row and column of the prepared picture that a click on the enlarged one means.

    Example:
        >>> import numpy as np
        >>> point_in((96, 64), (0, 383)), enlarge(np.zeros((96, 64, 1))).size
        ((95, 0), (256, 384))
    """
    times = max(1, _SHOWN_PX // max(size_hw))
    x, y = clicked_xy
    return y // times, x // times


FITS: tuple[Fit, ...] = ("stretch", "letterbox", "crop")

"""The Shape tab's numbers, lines and boxes, without a page."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

import inshape
from inshape.errors import UnknownName
from inshape.geometry.drawing import draw_stages
from inshape.limits import Limits
from inshape.studio import shape

BACKBONE = "MobileNetV3Small-minimalistic"
SHAPE = "97x64x1"


@pytest.fixture(scope="module")
def plan():
    return shape.plan_of(BACKBONE, SHAPE, "restride", 5)


def test_the_plan_is_the_one_that_inspect_prints(plan):
    assert str(plan) == str(inshape.plan(BACKBONE, SHAPE, strategy="restride", classes=5))


def test_the_drawing_holds_the_numbers_of_the_plan(plan):
    drawing = shape.draw(plan)
    assert str(plan.geometry.final_map).replace("x", "×") in drawing
    for stage in plan.geometry.stages[:-1]:
        assert f"<b>{str(stage.map_size).replace('x', '×')}×{stage.channels}</b>" in drawing


def test_the_lines_of_python_make_the_same_plan(plan):
    lines = shape.python_lines(plan.request).replace("print(plan)\nmodel = plan.build()", "")
    names = {}
    exec(lines, names)
    assert str(names["plan"]) == str(plan)
    assert shape.command_line(plan.request) == (
        f"inshape inspect {BACKBONE} {SHAPE} --classes 5 --strategy restride"
    )


def test_every_strategy_has_a_row_with_its_verdict(plan):
    limit = plan.footprint.ram_bytes
    rows = {r.strategy: r for r in shape.compare_strategies(BACKBONE, SHAPE, 5, Limits())}
    assert set(rows) == {"resize", "rebuild", "restride", "flexible"}
    assert rows["restride"].ram_bytes == limit
    assert {row.verdict for row in rows.values()} == {""}
    exact = shape.compare_strategies(BACKBONE, SHAPE, 5, Limits(max_ram=limit))
    assert next(r for r in exact if r.strategy == "restride").fits
    below = shape.compare_strategies(BACKBONE, SHAPE, 5, Limits(max_ram=limit - 1))
    over = next(r for r in below if r.strategy == "restride")
    assert not over.fits
    assert over.verdict.startswith("RAM ")


def test_a_strategy_that_cannot_be_says_why():
    rows = shape.compare_strategies(BACKBONE, "0x64x1", 5, Limits())
    assert {row.macs for row in rows} == {None}
    assert all("0x64x1" in row.verdict for row in rows)


def test_a_file_is_no_name(tmp_path):
    keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Conv2D(2, 3)]).save(tmp_path / "a.keras")
    with pytest.raises(UnknownName, match=r"unknown backbone '.*a\.keras'"):
        shape.plan_of(str(tmp_path / "a.keras"), SHAPE, "auto", 5)


@pytest.fixture(scope="module")
def small():
    """A network whose fields do not cover the picture."""
    layers = keras.layers
    image = keras.Input((40, 30, 1))
    x = layers.Conv2D(4, 3, strides=2, padding="same")(image)
    x = layers.DepthwiseConv2D(5, strides=2, padding="same")(x)
    return keras.Model(image, layers.Conv2D(3, 1)(x))


@pytest.mark.parametrize("options", [{"strategy": "rebuild"}, {"strategy": "resize"}])
def test_a_field_is_where_the_gradient_is(small, randomise, options):
    plan = inshape.plan(small, "45x33x1", head="top", **options)
    model = randomise(plan.build(weights=None))
    picture = tf.Variable(np.ones((1, 45, 33, 1), np.float32))
    rows, columns = plan.geometry.final_map.hw
    at = np.array([20, 11])
    box = shape.field_at(plan, 9, tuple(at))
    with tf.GradientTape() as tape:
        maps = model(picture)
        # The pixel of the last map whose place is nearest to the point.
        y, x = (at * (rows / 45, columns / 33)).astype(int)
        value = tf.reduce_sum(maps[0, y, x])
    gradient = tape.gradient(value, picture)[0, ..., 0].numpy()
    where_y, where_x = np.nonzero(gradient)
    found = where_x.min(), where_y.min(), where_x.max(), where_y.max()
    # A resizing layer reads the pixels between which a place lies.
    slack = 1.0 if options["strategy"] == "resize" else 0.0
    assert np.abs(np.array(box) - found).max() <= slack


def test_a_field_is_that_of_its_stage(small):
    plan = inshape.plan(small, "45x33x1", head="top", strategy="rebuild")
    boxes = [shape.field_at(plan, stage, (20, 11)) for stage in (1, 2, 3)]
    fields = [stage.field_hw for stage in plan.geometry.stages]
    assert [(b[3] - b[1] + 1, b[2] - b[0] + 1) for b in boxes] == fields[:3]
    assert boxes[0] == (11, 20, 11, 20)


def test_stages_are_numbered_as_they_are_drawn(plan):
    rows = draw_stages(plan.native_geometry.as_dict(), plan.geometry.as_dict())
    assert [row.new is None for row in rows][:2] == [True, False]  # the stem's stride is gone
    for number, row in enumerate(rows[1:], 2):
        left, top, right, bottom = shape.field_at(plan, number, (48, 32))
        assert f"{bottom - top + 1:g}×{right - left + 1:g}" in (
            row.new.field_text, f"{row.new.field_text}×{row.new.field_text}"
        )  # fmt: skip


def test_a_click_means_the_pixel_that_is_drawn_there():
    pixels = np.zeros((96, 64, 1), np.uint8)
    pixels[70, 12] = 255
    large = np.asarray(shape.enlarge(pixels))[..., 0]
    y, x = (int(n.mean()) for n in np.nonzero(large))
    assert shape.point_in((96, 64), (x, y)) == (70, 12)


def test_a_field_is_drawn_around_its_pixels():
    drawn = np.asarray(shape.enlarge(np.zeros((96, 96, 3), np.uint8), (10, 20, 14, 24)))
    rows, columns = np.nonzero(drawn.sum(axis=-1))
    assert (rows.min() // 4, rows.max() // 4) == (20, 24)
    assert (columns.min() // 4, columns.max() // 4) == (10, 14)

"""Shapes as users write them, and what is no shape."""

from __future__ import annotations

import re

import keras
import numpy as np
import pytest

import inshape
from inshape.errors import ShapeError
from inshape.shapes import InputShape, Size

HOW = "write HxWxC, such as 96x128x1 (height x width x channels; ? for an unknown height or width)"


@pytest.mark.parametrize(
    ("written", "axes"),
    [
        ("97x64x1", (97, 64, 1)),
        (" 97 × 64 X 4 ", (97, 64, 4)),
        ("97,64,3", (97, 64, 3)),
        ("?x64x1", (None, 64, 1)),
        ((97, 64, 1), (97, 64, 1)),
        ([None, None, 3], (None, None, 3)),
        (np.array([97, 64, 1]), (97, 64, 1)),
        ((97.0, 64.0, 1), (97, 64, 1)),
        (InputShape(97, None, 2), (97, None, 2)),
    ],
)
def test_a_shape_is_read_as_it_is_written(written, axes):
    shape = InputShape.of(written)
    assert shape.as_tuple() == axes
    assert all(n is None or type(n) is int for n in shape.as_tuple())
    assert shape.size == Size(*axes[:2])
    assert shape.is_static == (None not in axes)
    assert InputShape.of(str(shape)) == shape


def test_the_shape_of_a_model_is_read():
    assert str(InputShape.of(keras.Input((97, None, 1)).shape[1:])) == "97x?x1"


@pytest.mark.parametrize(
    ("written", "came"),
    [
        (300, "input 300 is not a shape, expected a height, a width and channels"),
        (96.5, "input 96.5 is not a shape, expected a height, a width and channels"),
        (None, "input None is not a shape, expected a height, a width and channels"),
        ((97.5, 64, 1), "input (97.5, 64, 1) is not a shape, expected a height, a width and"),
        ((97, 64, True), "input (97, 64, True) is not a shape, expected a height, a width and"),
        (("97", "64", "1"), "input ('97', '64', '1') is not a shape, expected a height, a width"),
        ((97, "?", 1), "input (97, '?', 1) is not a shape, expected a height, a width and"),
        ((float("nan"), 64, 1), "input (nan, 64, 1) is not a shape, expected a height, a width"),
        ((float("inf"), 64, 1), "input (inf, 64, 1) is not a shape, expected a height, a width"),
        (np.array(300), "input array(300) is not a shape, expected a height, a width and channels"),
        (np.ones((2, 3)), "input array([[1., 1., 1.], [1., 1., 1.]]) is not a shape, expected"),
        ("97x64", "input '97x64' is not a shape"),
        ("97x64x?", "input '97x64x?' is not a shape"),
        ("-97x64x1", "input '-97x64x1' is not a shape"),
        ((97, 64), "input (97, 64) has 2 axes, expected 3"),
        ((1, 97, 64, 1), "input (1, 97, 64, 1) has 4 axes, expected 3"),
        ((), "input () has 0 axes, expected 3"),
        ((97, 64, None), "input (97, 64, None) has no channel count, expected a number"),
        ((0, 64, 1), "input 0x64x1: height is 0, expected at least 1"),
        ("97x0x1", "input 97x0x1: width is 0, expected at least 1"),
        ((97, 64, -3), "input 97x64x-3: channels is -3, expected at least 1"),
    ],
)
def test_what_is_no_shape_is_refused_in_one_line(written, came):
    with pytest.raises(ShapeError, match=re.escape(came)) as caught:
        InputShape.of(written)
    assert str(caught.value).endswith(HOW)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "call",
    [
        lambda: inshape.plan("MobileNetV3Small", 300),
        lambda: inshape.train("photos", 300, out="runs/a"),
        lambda: inshape.compare("photos", shapes=300),
        lambda: inshape.compare("photos", shapes=["96x96x1", 300]),
    ],
    ids=["plan", "train", "compare", "compare in a list"],
)
def test_every_command_refuses_a_bare_number(call):
    with pytest.raises(ShapeError, match=r"input 300 is not a shape, expected a height"):
        call()


def test_a_known_height_and_width_is_asked_for_where_it_matters():
    assert InputShape.of("97x64x1").as_static_tuple() == (97, 64, 1)
    with pytest.raises(ShapeError, match=re.escape("input ?x64x1; expected a known height and")):
        InputShape.of("?x64x1").as_static_tuple()

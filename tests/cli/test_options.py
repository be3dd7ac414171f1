"""How the values of options are written."""

import re

import pytest
from inshape.cli.options import head_of, numbers_of, planned, recipe_of, size_of, weights_of

from inshape.errors import RequestError, ShapeError, UnknownName

NOTHING = {
    "strategy": "auto",
    "channels": "auto",
    "working": None,
    "fit": None,
    "interpolation": None,
    "stem": None,
    "factor": None,
    "output_stride": None,
}


@pytest.mark.parametrize(
    ("text", "size"), [("160x224", (160, 224)), ("97X64", (97, 64)), (" 1 × 9 ", (1, 9))]
)
def test_a_size_is_height_by_width(text, size):
    assert size_of("--working", text) == size


@pytest.mark.parametrize("text", ["160", "160x", "0x96", "96x0", "-1x3", "96x96x3", "axb", ""])
def test_what_is_not_a_size(text):
    expected = f"--working {text!r} is not a size; write HxW, height first, such as 160x224"
    with pytest.raises(ShapeError, match=re.escape(expected)):
        size_of("--working", text)


@pytest.mark.parametrize(
    ("text", "head"), [(None, None), ("top", "top"), ("gem", "gem"), ("2x3", (2, 3))]
)
def test_a_head_is_a_name_or_a_grid(text, head):
    assert head_of(text) == head


def test_a_head_that_is_half_a_grid():
    with pytest.raises(ShapeError, match=re.escape("--head '2x' is not a size")):
        head_of("2x")


def test_numbers_stand_between_commas():
    assert numbers_of("--features", "4, 8,16") == (4, 8, 16)
    assert numbers_of("--features", None) is None


def test_what_is_not_a_list_of_numbers():
    expected = (
        "--features '4;8' is not a list of numbers; write them with commas, such as 4,8,16,32"
    )
    with pytest.raises(RequestError, match=re.escape(expected)):
        numbers_of("--features", "4;8")


@pytest.mark.parametrize(("text", "weights"), [("none", None), ("None", None), ("a.h5", "a.h5")])
def test_weights_may_be_none(text, weights):
    assert weights_of(text) == weights


def test_options_that_were_not_given_are_left_out():
    assert planned(**NOTHING) == {"strategy": "auto", "channels": "auto"}


def test_options_that_were_given():
    asked = NOTHING | {"channels": "0,1,2,-", "working": "97x64", "stem": "nearest", "factor": 2}
    assert planned(**asked) == {
        "strategy": "auto",
        "channels": (0, 1, 2, None),
        "working_hw": (97, 64),
        "stem": "nearest",
        "factor": 2,
    }


def test_an_unknown_channel_rule():
    with pytest.raises(UnknownName, match=re.escape("unknown channel rule 'summ'; did you mean")):
        planned(**NOTHING | {"channels": "summ"})


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", True),
        ("On", True),
        ("true", True),
        ("no", False),
        ("OFF", False),
        ("maybe", "maybe"),
    ],
)
def test_truth_is_written_in_many_ways(text, value):
    assert recipe_of([f"flip={text}"]) == {"flip": value}

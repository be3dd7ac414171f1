"""What a page is made of: drawings, pictures and the commands that repeat a result."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from inshape.comparison.choose import fronts_of
from inshape.comparison.request import CompareRequest
from inshape.comparison.result import Candidate
from inshape.data.prepare import PictureOptions, Preparation
from inshape.data.sources import open_source
from inshape.geometry.drawing import SIDE, draw_stages
from inshape.reporting.comparison_page import _pictures
from inshape.reporting.thumbnails import Album, embed_input, examples_of, resize_inside
from inshape.requests import command_of, make
from inshape.tasks.bootstrap import Score


def stage(first, last, size, field, macs=100, params=0):
    return {
        "first": first, "last": last, "map_size": size, "channels": 8, "stride_hw": [1, 1],
        "field_hw": field, "global_context": False, "macs": macs, "params": params,
    }  # fmt: skip


def geometry(shape, *stages):
    return {"working_shape": shape, "stages": list(stages)}


def test_a_drawing_is_to_scale_and_has_the_pixels_of_the_map():
    native = geometry("200x100x3", stage("a", "b", "20x10", [50, 20], 400))
    new = geometry("97x64x1", stage("a", "b", "7x5", [300, 30], 100))
    (row,) = draw_stages(native, new)
    wide, tall = row.native.frame[2:]
    assert tall == pytest.approx(2 * wide)
    assert row.new.frame[2:] == pytest.approx((wide * 0.64, tall * 97 / 200), abs=0.1)
    assert row.native.field[2:] == pytest.approx((wide * 0.2, tall * 0.25), abs=0.1)
    # Lines between 10 columns and 20 rows, and between 5 and 7.
    assert (row.native.grid.count("v"), row.native.grid.count("h")) == (9, 19)
    assert (row.new.grid.count("v"), row.new.grid.count("h")) == (4, 6)
    assert (row.native.is_beyond, row.new.is_beyond) == (False, True)
    left, top, width, height = row.new.field  # as much of it as there is room for
    assert 0 < top < top + height < SIDE
    assert left + width / 2 == pytest.approx(SIDE / 2, abs=0.1)
    assert (row.native.share, row.new.share) == (1.0, 0.25)
    assert (row.new.map_text, row.new.field_text) == ("7×5×8", "300×30")


def test_pixels_that_are_too_small_are_not_drawn():
    (row,) = draw_stages(None, geometry("224x224x3", stage("a", "b", "112x112", [3, 3])))
    assert row.native is None
    assert row.new.grid == ""
    assert row.new.frame is not None


def test_a_map_of_unknown_size_has_no_drawing():
    (row,) = draw_stages(None, geometry("?x64x3", stage("a", "b", "?x32", [3, 3], None)))
    assert row.new.frame is None
    assert row.new.macs is None
    assert row.new.map_text == "?×32×8"


def pairs(native, new):
    size, field = "4x4", [3, 3]
    rows = draw_stages(
        geometry("9x9x3", *(stage(a, b, size, field, params=p) for a, b, p in native)),
        geometry("9x9x3", *(stage(a, b, size, field, params=p) for a, b, p in new)),
    )
    return [(row.native is not None, row.new is not None, row.first) for row in rows]


def test_stages_of_the_same_layers_stand_side_by_side():
    native = [("in", "scale", 0), ("stem", "relu", 10), ("pad2", "c", 20), ("pad3", "d", 30)]
    # The stem lost its stride and has one channel; the paddings are gone.
    restrided = [("in", "pad2", 7), ("two", "pad3", 20), ("three", "d", 30)]
    assert pairs(native, restrided) == [
        (True, False, "in"), (True, True, "stem"), (True, True, "pad2"), (True, True, "pad3"),
    ]  # fmt: skip
    # The last stage lost its stride and is one with the stage before.
    dilated = [("in", "scale", 0), ("stem", "relu", 10), ("two", "d", 50)]
    assert pairs(native, dilated) == [
        (True, True, "in"), (True, True, "stem"), (True, False, "pad2"), (True, True, "pad3"),
    ]  # fmt: skip
    assert pairs(native, native) == [(True, True, first) for first, *_ in native]


@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
@pytest.mark.parametrize(
    ("fit", "options"),
    [
        ("stretch", {}),
        ("letterbox", {"pad_to_aspect_ratio": True}),
        ("crop", {"crop_to_aspect_ratio": True}),
    ],
)
@pytest.mark.parametrize(("shape", "goal"), [((12, 9, 1), (24, 18)), ((20, 11, 3), (40, 40))])
def test_a_resizing_layer_is_shown_as_it_is(fit, options, interpolation, shape, goal, rng):
    pixels = rng.uniform(0, 255, shape).astype("float32")
    layer = keras.layers.Resizing(*goal, interpolation=interpolation, **options)
    expected = keras.ops.convert_to_numpy(layer(pixels[None]))[0]
    resized = resize_inside(pixels, goal, fit=fit, interpolation=interpolation)
    assert resized.shape == expected.shape
    np.testing.assert_allclose(resized, expected, atol=0.01)


def test_examples_are_of_different_classes():
    pixels = np.zeros((40, 8, 8, 1), np.uint8)
    examples = examples_of(open_source((pixels, [f"class {i % 20:02}" for i in range(40)])))
    assert [e["label"] for e in examples] == [
        "class 00", "class 04", "class 08", "class 11", "class 15", "class 19",
    ]  # fmt: skip
    assert [e["picture"] for e in examples] == ["[0]", "[4]", "[8]", "[11]", "[15]", "[19]"]


@pytest.mark.parametrize("bands", [1, 2, 3, 4])
def test_pictures_of_any_bands_can_be_shown(bands, rng):
    pixels = rng.integers(0, 255, (2, 30, 20, bands), np.uint8)
    album = Album.of(None, open_source((pixels, ["a", "b"])))
    thumbnail = album.original("[1]", Preparation.of((15, 10, bands)))
    assert (thumbnail.width, thumbnail.height) == (107, 160)
    assert album.original("[7]", Preparation.of((15, 10, bands))) is None


def test_arrays_in_a_file_are_found_again(tmp_path, rng):
    pixels = rng.integers(0, 255, (4, 12, 10), np.uint8)
    np.savez(tmp_path / "a.npz", x=pixels, y=np.array([0, 1, 0, 1]))
    names = open_source(tmp_path / "a.npz").names
    picture = Album.of(str(tmp_path / "a.npz")).picture(names[2], Preparation.of("12x10x1"))
    np.testing.assert_array_equal(picture[..., 0], pixels[2])


def test_every_cost_has_its_front():
    def candidate(name, accuracy, **costs):
        return Candidate(
            name, "8x8x1", "rebuild", accuracy=Score(accuracy, accuracy, accuracy), **costs
        )

    fronts = fronts_of(
        [
            candidate("a", 0.9, latency_ms=5.0, macs=10),
            candidate("b", 0.8, latency_ms=1.0, macs=20),
            candidate("c", 0.7, latency_ms=2.0, macs=5),
            candidate("d", 0.95, macs=30),  # was not timed
        ]
    )
    assert fronts == {
        "latency_ms": ["b 8x8x1 rebuild", "a 8x8x1 rebuild"],
        "macs": ["c 8x8x1 rebuild", "a 8x8x1 rebuild", "d 8x8x1 rebuild"],
    }


def test_pictures_that_are_no_file_have_no_command():
    assert command_of("compare", make(CompareRequest, source=np.zeros((2, 8, 8)))) is None


def test_a_command_says_what_was_asked_for(photos):
    request = make(
        CompareRequest, source=photos, shapes=["64x48x1"], strategies=["resize", "rebuild"],
        backbones=["net"], weights=None, pictures=50, latency=False, finetune=2, seed=4,
        out="a b", max_flash=1e6, max_ram=262144, min_accuracy=0.8,
    )  # fmt: skip
    text = command_of("compare", request)
    for part in (
        "--shapes 64x48x1", "--strategies resize,rebuild", "--backbone net", "--weights none",
        "--max-flash 1000000B", "--max-ram 262144B", "--min-accuracy 0.8", "--no-latency",
        "--finetune 2", "--pictures 50", "--seed 4", "--out 'a b'",
    ):  # fmt: skip
        assert part in text, part
    assert "e+" not in text
    timed = command_of("compare", request.but(latency=True, max_latency=2.5))
    assert "--max-latency 2.5ms" in timed
    assert "--strategies" not in command_of("compare", request.but(strategies=None))
    named = make(CompareRequest, source=photos, candidates=["net 64x48x1 resize"])
    assert command_of("compare", named) is None


def test_candidates_are_shown_pictures_as_they_read_them(photos):
    catalogue = open_source(photos)
    example = {"picture": catalogue.names[0], "label": "any"}
    candidate = {"input_shape": "40x9x1", "strategy": "rebuild", "error": None}
    options = PictureOptions(picture_fit="letterbox", fill=200)
    shown = _pictures([candidate], Album(catalogue), [example], options)
    (view,) = shown["views"]
    expected = embed_input(catalogue.load_compact(0, options.at("40x9x1")))
    assert view["pictures"] == [{**example, "picture": expected}]

"""Sizes, fits and value ranges, against hand arithmetic and TensorFlow's own resizing."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from inshape.data.prepare import (
    PictureOptions,
    Preparation,
    prepare,
    scaled_hw,
    target_hw,
)
from inshape.errors import DataError, RequestError, UnknownName
from inshape.requests import make, restore
from inshape.training.request import TrainRequest

tf = pytest.importorskip("tensorflow")


def noise(height: int, width: int, bands: int, kind: str = "float32") -> np.ndarray:
    return (np.random.default_rng(height).random((height, width, bands)) * 255).astype(kind)


@pytest.mark.parametrize(
    ("own_hw", "shape"),
    [((50, 37), "23x41x3"), ((31, 64), "97x64x1"), ((64, 64), "32x32x4"), ((40, 29), "17x13x2")],
)
@pytest.mark.parametrize(
    ("interpolation", "antialias"),
    [
        ("bilinear", True),
        ("bicubic", True),
        ("bilinear", False),
        ("bicubic", False),
        ("area", True),
        ("nearest", True),
    ],
)
def test_stretching_equals_tensorflow(own_hw, shape, interpolation, antialias):
    preparation = Preparation.of(shape, interpolation=interpolation, antialias=antialias)
    picture = noise(*own_hw, preparation.shape.channels)
    expected = tf.image.resize(
        picture,
        preparation.shape.hw,
        method=interpolation,
        antialias=antialias and interpolation != "area",  # TensorFlow's area averages by itself
    )
    # TensorFlow reads its point-sampled cubic from a table of 1024 entries.
    tolerance = 0.3 if (interpolation, antialias) == ("bicubic", False) else 2e-3
    got = prepare(picture, preparation)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, np.clip(expected, 0, 255), atol=tolerance)


@pytest.mark.parametrize("bands", [1, 2, 3, 4, 7])
def test_bytes_stay_whole_numbers_near_the_float_result(bands):
    # Far from 0 and 255, where older versions of Pillow clip what the first pass overshoots.
    picture = noise(61, 43, bands, "uint8") // 2 + np.uint8(64)
    preparation = Preparation.of((20, 33, bands), colour="bands", interpolation="bicubic")
    got = prepare(picture, preparation)
    exact = prepare(picture.astype(np.float32), preparation)
    assert np.array_equal(got, np.rint(got))
    # Each of the two passes rounds once, and the cubic's weights amplify the first by up to 1.25.
    assert np.abs(got - exact).max() <= 0.5 * 1.25 + 0.51


def test_a_fourth_band_is_not_taken_for_transparency():
    picture = np.full((8, 8, 4), 200, np.uint8)
    picture[..., 3] = 0
    got = prepare(picture, Preparation.of("4x4x4"))
    assert got[..., :3].min() == 200.0
    assert got[..., 3].max() == 0.0


def test_letterbox_keeps_the_aspect_ratio_and_centres():
    got = prepare(
        np.full((50, 100, 1), 200, np.uint8), Preparation.of("41x60x1", fit="letterbox", fill=7.0)
    )
    # 100 -> 60 wide, so 50 -> 30 high, and 11 rows are left: 5 above and 6 below.
    assert (got[5:35] == 200.0).all()
    assert (got[:5] == 7.0).all()
    assert (got[35:] == 7.0).all()


def test_crop_keeps_the_centre():
    ramp = np.broadcast_to(np.arange(100, dtype=np.float32)[None, :, None], (40, 100, 1))
    got = prepare(ramp, Preparation.of("40x40x1", fit="crop"))
    np.testing.assert_allclose(got[0, :, 0], np.arange(30, 70))


def test_crop_margin_equals_resizing_to_256_and_cutting_224():
    picture = noise(300, 300, 3, "uint8")
    margin = Preparation.of("224x224x3", fit="crop", crop_margin=0.875, interpolation="bicubic")
    whole = prepare(picture, Preparation.of("256x256x3", interpolation="bicubic"))
    np.testing.assert_allclose(prepare(picture, margin), whole[16:240, 16:240], atol=1.01)


def test_non_square_crop_of_an_odd_picture():
    preparation = Preparation.of("31x17x1", fit="crop", crop_margin=0.5)
    assert prepare(noise(97, 64, 1), preparation).shape == (31, 17, 1)
    # The wider ratio is 31/97 = 0.3196 against 17/64 = 0.2656; half of it is cut away.
    assert scaled_hw(preparation, (97, 64)) == pytest.approx((62.0, 64 * 62 / 97))


@pytest.mark.parametrize(
    ("shape", "own_hw", "expected_hw"),
    [
        ("?x?x3", (30, 41), (30, 41)),
        ("?x64x1", (97, 128), (48, 64)),
        ("50x?x3", (25, 13), (50, 26)),
    ],
)
def test_unknown_axes_follow_the_picture(shape, own_hw, expected_hw):
    preparation = Preparation.of(shape)
    assert target_hw(preparation, own_hw) == expected_hw
    assert prepare(noise(*own_hw, preparation.shape.channels), preparation).shape[:2] == expected_hw


def test_sixteen_bits_and_full_scale_map_to_255():
    picture = np.array([[0, 257, 65535, 4095]], np.uint16)[..., None]
    shape = Preparation.of("1x4x1")
    np.testing.assert_allclose(prepare(picture, shape).ravel(), [0, 1, 255, 4095 / 257], rtol=1e-6)
    twelve = Preparation.of("1x4x1", full_scale=4095.0)
    np.testing.assert_allclose(
        prepare(picture, twelve).ravel(), [0, 257 * 255 / 4095, 255, 255], rtol=1e-6
    )
    signed = np.array([[-3000, -1024, 1023, 3071]], np.int16)[..., None]
    scan = Preparation.of("1x4x1", full_scale="-1024:3071")
    np.testing.assert_allclose(
        prepare(signed, scan).ravel(), [0, 0, 2047 * 255 / 4095, 255], rtol=1e-6
    )
    gaps = np.array([[np.nan, -np.inf, 1e38, 1.0]])[..., None]
    ready = prepare(gaps, Preparation.of("1x4x1", full_scale=(-1, 1)))
    assert ready.ravel().tolist() == [0, 0, 0, 255]
    unit = prepare(np.array([[[0.0], [0.5], [1.0]]]), Preparation.of("1x3x1", full_scale=1.0))
    np.testing.assert_allclose(unit.ravel(), [0, 127.5, 255])
    assert prepare(np.array([[[False], [True]]]), Preparation.of("1x2x1")).ravel().tolist() == [
        0,
        255,
    ]


def test_the_argument_stays_as_it_was():
    picture = noise(20, 30, 3)
    before = picture.copy()
    prepare(picture, Preparation.of("20x30x3"))[:] = 0
    assert np.array_equal(picture, before)


def test_json_carries_a_preparation():
    preparation = Preparation.of(
        "?x64x4", fit="crop", crop_margin=0.9, full_scale=1e4, antialias=False
    )
    assert Preparation.from_dict(json.loads(json.dumps(preparation.as_dict()))) == preparation


@pytest.mark.parametrize(
    ("picture", "options", "message"),
    [
        (
            np.zeros((2, 2, 4), np.uint8),
            {},
            "picture with 4 channels; expected 3 for 8x6x3; convert its colour first",
        ),
        (np.zeros((1, 2, 2, 3), np.uint8), {}, "picture of shape (1, 2, 2, 3); expected (height,"),
        (np.zeros((2, 2, 3), np.int32), {}, "picture of type int32 has no agreed white"),
        (np.zeros((2, 2, 3), "U1"), {}, "picture of type <U1; expected uint8, uint16 or float"),
        (np.full((2, 2, 3), np.nan), {}, "picture holds NaN or infinity; expected finite values"),
        (
            np.array([[[-1.0, 0.0, 300.0]]]),
            {},
            "float picture with values from -1 to 300; expected 0 to 255; set full_scale",
        ),
    ],
)
def test_pictures_that_do_not_fit_are_refused(picture, options, message):
    with pytest.raises(DataError, match=re.escape(message)):
        prepare(picture, Preparation.of("8x6x3", **options))


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        (
            "8x6x4",
            {"colour": "rgb"},
            "colour 'rgb' with 4 channels; expected 3; use colour='bands'",
        ),
        ("8x6x3", {"crop_margin": 0.0}, "crop_margin 0.0; expected more than 0 and at most 1"),
        ("8x6x3", {"fill": 300.0}, "fill 300.0; expected 0 to 255; use 0 for a black border"),
        ("8x6x3", {"full_scale": 0.0}, "full_scale 0.0; expected LOW:HIGH, the stored values of"),
    ],
)
def test_preparations_that_cannot_be_are_refused(shape, options, message):
    with pytest.raises(DataError, match=re.escape(message)):
        Preparation.of(shape, **options)


def test_picture_options_become_the_preparation():
    assert PictureOptions().at("97x64x1") == Preparation.of("97x64x1")
    options = {
        "picture_fit": "letterbox",
        "picture_interpolation": "area",
        "antialias": False,
        "colour": "bands",
        "crop_margin": 0.5,
        "fill": 7.5,
        "full_scale": [-1024.0, 4095.0],
    }
    expected = {name.removeprefix("picture_"): value for name, value in options.items()}
    chosen = make(PictureOptions, **options)
    assert chosen.as_dict() == options  # every option is one of these
    ready = chosen.at("97x64x1")
    assert ready == Preparation.of("97x64x1", **expected)
    assert json.loads(json.dumps(ready.as_dict())) == {"shape": "97x64x1", **expected}
    assert restore(PictureOptions, chosen.as_dict()) == chosen


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crop_margin": 1.5}, "crop_margin 1.5; expected more than 0 and at most 1; use 0.875"),
        ({"fill": 300}, "fill 300.0; expected 0 to 255; use 0 for a black border"),
        ({"full_scale": -1.0}, "full_scale=-1.0; expected LOW:HIGH, the stored values of black"),
        ({"full_scale": "4095:0"}, "full_scale='4095:0'; expected LOW:HIGH"),
        ({"full_scale": (0, "x")}, "full_scale=(0, 'x'); expected LOW:HIGH"),
        ({"full_scale": "0:nan"}, "full_scale='0:nan'; expected LOW:HIGH"),
        ({"full_scale": "0:1:2"}, "full_scale='0:1:2'; expected LOW:HIGH"),
        ({"picture_fit": "strech"}, "unknown picture_fit 'strech'; did you mean stretch? choose"),
        ({"fill": "white"}, "fill='white'; expected a number"),
    ],
)
def test_picture_options_are_refused_before_anything_is_read(options, message):
    with pytest.raises(RequestError, match=re.escape(message)):
        make(TrainRequest, source="none", shape="97x64x1", out="run", **options)


def test_unknown_words_list_the_choices():
    message = "unknown fit 'strech'; did you mean stretch? choose from: stretch, letterbox, crop"
    with pytest.raises(UnknownName, match=re.escape(message)):
        Preparation.of("8x6x3", fit="strech")

"""Which stored values are black and white, for every kind of picture of more than 8 bits."""

from __future__ import annotations

import re

import numpy as np
import pytest
import tifffile
from PIL import Image

from inshape.data import decode, survey
from inshape.data.batches import Batches
from inshape.data.colour import Picture
from inshape.data.prepare import Preparation
from inshape.data.ranges import Evidence, find_range
from inshape.data.sources import open_source
from inshape.data.survey import with_range
from inshape.errors import DataError

from .test_decode import write_colour_png_of_16_bits

SHAPE = Preparation.of("12x16x1")


def values(low: float, high: float, kind: str, *, fill: float | None = None) -> np.ndarray:
    """Pictures (4, 12, 16, 1) from the one value to the other, a corner of each filled."""
    pictures = np.linspace(low, high, 4 * 12 * 16).reshape(4, 12, 16, 1)
    if fill is not None:
        pictures[:, :3, 2:7] = fill
    return pictures.astype(kind)


def range_of(pictures: np.ndarray) -> tuple[tuple[float, float] | None, str]:
    found = find_range([Evidence.of(Picture(picture, "grey")) for picture in pictures])
    return (None, "") if found is None else (found.full_scale, found.message)


@pytest.mark.parametrize(
    ("pictures", "full_scale"),
    [
        (values(0, 4093, "uint16"), (0, 4095)),  # 12 bits
        (values(0, 1001, "int32"), (0, 1023)),  # 10 bits
        (values(0, 9871, "uint16"), (0, 10000)),  # reflectances
        (values(3, 65533, "uint16"), (0, 65535)),
        (values(0, 255, "uint16"), (0, 255)),
        (values(0, 123456, "uint32"), (0, 123456)),
        (values(-1024, 3071, "int16"), (-1024, 3071)),  # a CT
        (values(-1024, 3071, "int16", fill=-3024), (-1024, 3071)),  # with its padding
        (values(29000, 31000, "uint16"), (29000, 31000)),  # heat
        (values(0, 4000, "uint16", fill=65535), (0, 4095)),
        (values(0, 60000, "uint16", fill=65535), (0, 65535)),  # overexposed
        (values(0, 1, "float32"), (0, 1)),
        (values(0, 0.2, "float64"), (0, 0.2)),
        (values(-1, 1, "float32"), (-1, 1)),
        (values(0, 8000, "float32"), (0, 8191)),
        (values(0.0, 0.9, "float32", fill=-9999), (0, 1)),
        (values(0.0, 0.9, "float32", fill=np.nan), (0, 1)),
        (values(0.0, 0.9, "float64", fill=-1.7e308), (0, 1)),
        (values(0, 250, "float32"), None),  # as they should be
        (values(0, 250, "float32", fill=np.nan), (0, 255)),
        (values(0, 255, "uint8"), None),
        (values(0, 0, "uint16"), None),
    ],
)
def test_the_range_is_that_of_the_kind(pictures, full_scale):
    found, _ = range_of(pictures)
    assert found == (None if full_scale is None else pytest.approx(full_scale))


def test_what_was_taken_is_said():
    _, message = range_of(values(0, 4093, "uint16"))
    assert message == (
        "pictures of uint16 are read with full_scale 0:4095, since their values are 0 to 4093 in 4 "
        "pictures that were looked at; set full_scale to LOW:HIGH to read them otherwise"
    )
    for fill, name in ((-9999, "-9999"), (np.nan, "NaN")):
        _, message = range_of(values(0, 0.9, "float32", fill=fill))
        assert f"; {name} stands for missing pixels, which become black" in message
    hot = values(0, 4093, "uint16")
    hot[0, 0, 0] = 60000
    found, message = range_of(hot)
    assert found == (0, 65535)
    assert re.search(r"; yet 99\.9 % of the values in most are up to [\d.]+ only;", message)


def test_an_isolated_least_value_of_few_levels_is_no_gap():
    signs = np.random.default_rng(0).integers(-1, 2, (4, 12, 16, 1)).astype(np.int16)
    assert range_of(signs)[0] == (-1, 1)


def test_floats_and_whole_numbers_have_no_common_range():
    pictures = [*values(0, 1, "float32"), *values(0, 4000, "uint16")]
    message = "pictures of float32, uint16; expected whole numbers alone or floats alone, which"
    with pytest.raises(DataError, match=re.escape(message)):
        with_range(open_source((pictures, [0, 1] * 4)), SHAPE)


def write_tiffs(folder, pictures, tags=()):
    """A folder per class, and in each picture's tags what is said of it."""
    for index, picture in enumerate(pictures):
        path = folder / "ab"[index % 2] / f"{index}.tif"
        path.parent.mkdir(exist_ok=True, parents=True)
        extra = [(code, "s" if code == 42113 else "H", 0 if code == 42113 else 1, value, False)
                 for code, value in (tags[index] if tags else ())]  # fmt: skip
        tifffile.imwrite(path, picture[..., 0], photometric="minisblack", extratags=extra)
    return open_source(folder)


@pytest.mark.parametrize(
    ("maxima", "full_scale"),
    [
        ([4095] * 4, (0, 4095)),  # what all say, although no value comes near
        ([250, 500, 750, 1000], (0, 1023)),  # a statistic of each file
        ([65535] * 4, (0, 1023)),  # no more than the type
        ([800] * 4, (0, 1023)),  # which is not true
    ],
)
def test_tags_come_first(tmp_path, maxima, full_scale):
    tags = [[(281, high)] for high in maxima]
    catalogue = write_tiffs(tmp_path, values(0, 1000, "uint16"), tags)
    preparation, (message,) = with_range(catalogue, SHAPE)
    assert preparation.full_scale == full_scale
    assert ("as their TIFF tags say" in message) == (full_scale == (0, 4095))


def test_white_is_zero_in_12_bits_too(tmp_path):
    stored = values(0, 4095, "uint16")[0]
    tifffile.imwrite(tmp_path / "w.tif", stored[..., 0], photometric="miniswhite")
    ready = decode.load(tmp_path / "w.tif", Preparation.of("12x16x1", full_scale=4095))
    np.testing.assert_allclose(ready, 255 - stored * (255 / 4095), atol=1e-3)


@pytest.mark.parametrize(("kind", "top"), [("int16", 3071.0), ("uint16", 3071.0), ("uint8", 200.0)])
def test_declared_gaps_are_black_and_named(tmp_path, kind, top):
    gap = 255 if kind == "uint8" else 9999
    low = -1024 if kind == "int16" else 0
    pictures = values(low, top, kind, fill=gap)
    catalogue = write_tiffs(tmp_path, pictures, [[(42113, str(gap))]] * 4)
    batches = Batches.open(catalogue, SHAPE)
    ready = next(batches.iterate())[0].astype(float)
    full = 255.0 if kind == "uint8" else batches.preparation.full_scale[1]
    order = [int(name.split("/")[1][0]) for name in batches.catalogue.names]
    scale = 255 / (full - low)
    expected = np.where(pictures == gap, 0, (pictures.astype(float) - low) * scale)[order]
    np.testing.assert_allclose(ready, expected, atol=1e-3)
    (message,) = batches.catalogue.warnings
    assert f"{gap} stands for missing pixels, which become black" in message


def test_a_colour_of_8_bits_is_missing_only_with_all_its_bands(tmp_path):
    stored = np.array([[[255, 255, 255], [255, 10, 20]]], np.uint8)
    tag = [(42113, "s", 0, "255", False)]
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", extratags=tag)
    with pytest.warns(UserWarning, match="255 stands for missing pixels, which become black"):
        ready = decode.load(tmp_path / "a.tif", Preparation.of("1x2x3"))
    assert ready.ravel().tolist() == [0, 0, 0, 255, 10, 20]


def test_one_range_for_the_whole_set_and_for_use(tmp_path):
    pictures = values(0, 4093, "uint16")  # each brighter than the one before
    catalogue = write_tiffs(tmp_path, pictures)
    batches = Batches.open(catalogue, SHAPE)
    assert batches.preparation.full_scale == (0, 4095)
    (message,) = batches.catalogue.warnings
    assert "full_scale 0:4095" in message
    for index, (name, expected) in enumerate(
        zip(catalogue.names, next(batches.iterate())[0], strict=True)
    ):
        alone = decode.load(tmp_path / name, batches.preparation)
        np.testing.assert_array_equal(alone, expected)
        again = Batches.open(catalogue.take([index]), batches.preparation)
        np.testing.assert_array_equal(next(again.iterate())[0][0], expected)
        assert again.catalogue.warnings == catalogue.warnings == ()


def test_arrays_are_read_as_files_are(tmp_path):
    pictures = values(-1024, 3071, "int16")
    for index, picture in enumerate(pictures):
        path = tmp_path / "ab"[index % 2] / f"{index}.npy"
        path.parent.mkdir(exist_ok=True)
        np.save(path, picture)
    for source in (tmp_path, (pictures, [0, 1, 0, 1])):
        batches = Batches.open(open_source(source), SHAPE)
        assert batches.preparation.full_scale == (-1024, 3071)
        ready = next(batches.iterate())[0]
        assert (ready.min(), ready.max()) == (0, 255)


def test_pictures_of_8_bits_are_not_looked_at(tmp_path, monkeypatch):
    for name in ("a/1.png", "b/2.jpg", "a/3.tif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((9, 8), ord(name[0]), np.uint8)).save(tmp_path / name)
    catalogue = open_source(tmp_path)
    monkeypatch.setattr(type(catalogue), "decode", None)
    assert with_range(catalogue, SHAPE) == (SHAPE, ())


def test_a_deep_picture_that_the_sample_missed_is_found(monkeypatch):
    monkeypatch.setattr(survey, "GLANCE", 2)
    pictures = [*np.zeros((5, 12, 16, 1), np.uint8)]
    pictures[3] = values(0, 4000, "uint16")[3]
    batches = Batches.open(open_source((pictures, [0, 1, 0, 1, 0])), SHAPE)
    assert batches.preparation.full_scale == (0, 4095)
    assert next(batches.iterate())[0][3].max() == pytest.approx(4000 * 255 / 4095)


def test_the_kept_pictures_are_those_of_the_range(tmp_path):
    catalogue = open_source((values(0, 4000, "uint16"), [0, 1, 0, 1]))
    largest = []
    for full_scale in (None, (0, 8000), None):
        preparation = Preparation.of("12x16x1", full_scale=full_scale)
        batches = Batches.open(catalogue, preparation, cache="disk", cache_dir=tmp_path)
        largest.append(next(batches.iterate())[0].max())
    assert largest == pytest.approx([4000 * 255 / 4095, 127.5, 4000 * 255 / 4095])
    assert batches.cache_report.reused


def test_colour_pngs_that_lose_their_bits_are_refused(tmp_path):
    for name, top in (("a/1", 4095), ("b/2", 4000)):
        (tmp_path / name).parent.mkdir()
        stored = np.random.default_rng(0).integers(0, top, (9, 8, 3)).astype(np.uint16)
        write_colour_png_of_16_bits(tmp_path / f"{name}.png", stored)
    message = "16-bit colour PNGs with values up to 4096, of which 8 bits are read: 16 levels of"
    with pytest.raises(DataError, match=re.escape(message)):
        Batches.open(open_source(tmp_path), Preparation.of("9x8x3"))
    whole = np.random.default_rng(0).integers(0, 65535, (9, 8, 3)).astype(np.uint16)
    write_colour_png_of_16_bits(tmp_path / "a" / "1.png", whole)
    assert Batches.open(open_source(tmp_path), Preparation.of("9x8x3")).catalogue.warnings == ()

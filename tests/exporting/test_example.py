"""The lines of an example that prepare a picture, against what training does."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from tests.labels import classes

from inshape.data.decode import load
from inshape.data.prepare import Preparation
from inshape.exporting.example import compose_example

PREPARATIONS = {
    "stretch": Preparation.of("96x96x3"),
    "wide": Preparation.of("40x97x3"),
    "100": Preparation.of("100x100x3"),
    "grey": Preparation.of("97x64x1"),
    "letterbox": Preparation.of("96x61x3", fit="letterbox", fill=114.0),
    "grey letterbox": Preparation.of("33x64x1", fit="letterbox"),
    "crop": Preparation.of("96x61x3", fit="crop", crop_margin=0.875),
    "grey crop": Preparation.of("64x64x1", fit="crop"),
    "bicubic": Preparation.of("64x80x3", interpolation="bicubic"),
    "nearest": Preparation.of("64x80x3", interpolation="nearest"),
    "grey nearest": Preparation.of("64x80x1", interpolation="nearest"),
    "12 bits": Preparation.of("97x64x1", full_scale=4095),
    "12 bits in colour": Preparation.of("64x61x3", full_scale=4095, interpolation="bicubic"),
    "signed letterbox": Preparation.of("33x64x3", full_scale="-1024:3071", fit="letterbox", fill=7),
    "signed crop": Preparation.of("61x96x1", full_scale="-1024.5:3071", fit="crop"),
}


def picture(width, height, mode="RGB"):
    rng = np.random.default_rng(width)
    bands = {"RGB": 3, "RGBA": 4, "L": 1, "LA": 2}[mode]
    coarse = rng.integers(0, 256, (height // 8 + 1, width // 8 + 1, bands), np.uint8)
    pixels = np.repeat(np.repeat(coarse, 8, axis=0), 8, axis=1)[:height, :width]
    return Image.fromarray(pixels[..., 0] if bands == 1 else pixels, mode)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Large JPEGs that are decoded smaller, turned ones, and pictures with transparency."""
    folder = tmp_path_factory.mktemp("pictures")
    picture(640, 480).save(folder / "large.jpg", quality=95)
    picture(240, 240).save(folder / "square.jpg", quality=95)
    picture(401, 1203).save(folder / "tall.jpg", quality=95)
    turned = Image.Exif()
    turned[0x0112] = 6
    picture(640, 300).save(folder / "turned.jpg", quality=95, exif=turned)
    picture(300, 200, "L").save(folder / "grey.jpg", quality=95)
    picture(150, 90).convert("CMYK").save(folder / "cmyk.jpg", quality=95)
    picture(57, 43).save(folder / "small.png")
    picture(130, 117, "RGBA").save(folder / "clear.png")
    picture(61, 99, "LA").save(folder / "clear_grey.png")
    picture(64, 50).quantize(16).save(folder / "palette.png", transparency=3)
    picture(96, 96).save(folder / "fits.png")
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def deep_pictures(tmp_path_factory):
    """Grey pictures of more than 8 bits, of every kind that Pillow reads."""
    folder = tmp_path_factory.mktemp("deep")
    coarse = np.random.default_rng(0).integers(-1500, 5000, (13, 17))
    stored = np.kron(coarse, np.ones((8, 8), int))
    no_data = [(42113, "s", 0, "-9999", False)]
    Image.fromarray(np.maximum(stored, 0).astype(np.uint16)).save(folder / "a.png")
    for kind, name in (("uint16", "minisblack"), ("uint16", "miniswhite"), ("int16", "minisblack")):
        values = np.maximum(stored, 0) if kind == "uint16" else stored
        tifffile.imwrite(folder / f"{kind}_{name}.tif", values.astype(kind), photometric=name)
    floats = stored + 0.25
    floats[3:9, 4:60] = -9999
    floats[10:12] = np.nan
    tifffile.imwrite(
        folder / "gaps.tif", floats.astype(np.float32), photometric="minisblack", extratags=no_data
    )
    return sorted(folder.iterdir())


def prepared_by_the_example(text, path):
    """The array that its lines, up to the model, make of a picture."""
    space = {"__file__": "model.onnx.py"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["example", str(path)])
        exec(text[: text.index("model = ")], space)
    return space["pixels"]


@pytest.mark.parametrize("name", PREPARATIONS)
def test_its_pixels_are_those_of_training(name, pictures, deep_pictures):
    preparation = PREPARATIONS[name]
    text = compose_example(
        Path("model.onnx"), preparation, classes(2), io="float32", is_fixed=True, is_final=True
    )  # fmt: skip
    for path in [*pictures, *(deep_pictures if preparation.full_scale else [])]:
        expected = load(path, preparation)[None]
        got = prepared_by_the_example(text, path)
        assert got.dtype == np.float32
        np.testing.assert_array_equal(got, expected, err_msg=path.name)


def test_a_large_jpeg_is_decoded_smaller_by_both(pictures):
    """Else the test above would not show that the example does it too."""
    path = next(p for p in pictures if p.name == "large.jpg")
    whole = np.asarray(Image.open(path).resize((96, 96), Image.Resampling.BILINEAR))
    assert np.abs(load(path, PREPARATIONS["stretch"]) - whole).max() > 0


def test_it_is_short():
    text = compose_example(
        Path("model.onnx"), PREPARATIONS["stretch"], classes(2),
        io="float32", is_fixed=True, is_final=True,
    )  # fmt: skip
    lines = [line for line in text.splitlines() if line and not line.startswith(('"""', "import"))]
    assert len([line for line in lines if not line.startswith("from")]) <= 15


@pytest.mark.parametrize(
    "preparation",
    [
        Preparation.of("96x96x4"),
        Preparation.of("?x?x3"),
        Preparation.of("96x96x3", interpolation="area"),
        Preparation.of("96x96x3", antialias=False),
        Preparation.of("96x96x3", fit="letterbox", fill=0.5),
    ],
)
def test_there_is_none_where_pillow_cannot_prepare_the_picture(preparation):
    assert (
        compose_example(
            Path("a.onnx"), preparation, classes(2), io="float32", is_fixed=True, is_final=True
        )
        is None
    )


def test_there_is_none_for_a_file_that_needs_a_framework():
    text = compose_example(
        Path("a.keras"),
        PREPARATIONS["grey"],
        classes(2),
        io="float32",
        is_fixed=True,
        is_final=True,
    )
    assert text is None

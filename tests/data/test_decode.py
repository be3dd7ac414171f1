"""Real files, written by Pillow, tifffile and by hand."""

from __future__ import annotations

import re
import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from inshape.data.colour import Picture, luma, to_channels
from inshape.data.decode import SUFFIXES, decode, load, stored_shape
from inshape.data.prepare import Preparation, prepare
from inshape.errors import DataError, UnreadablePicture

RNG = np.random.default_rng(0)


def noise(*shape: int, kind: str = "uint8") -> np.ndarray:
    return RNG.integers(0, np.iinfo(kind).max, shape).astype(kind)


def smooth(height: int, width: int) -> np.ndarray:
    """An RGB picture that JPEG keeps nearly exactly."""
    y, x = np.mgrid[:height, :width]
    waves = [127 + 120 * np.sin(y / 23 + k) * np.cos(x / 31 - k) for k in range(3)]
    return np.stack(waves, -1).astype(np.uint8)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "webp", "gif"])
@pytest.mark.parametrize("shape", [(33, 20), (33, 20, 3)])
def test_lossless_files_come_back_as_they_were(tmp_path, suffix, shape):
    stored = noise(*shape)
    if suffix == "gif":
        stored = stored // 64 * 64  # a palette of at most 64 colours
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(stored).save(path, **({"lossless": True} if suffix == "webp" else {}))
    got = decode(path)
    if len(shape) == 2 and suffix in ("webp", "gif"):
        stored = np.repeat(stored[..., None], 3, -1) if got.bands == "rgb" else stored[..., None]
    assert np.array_equal(got.array, stored[..., None] if stored.ndim == 2 else stored)
    assert got.bands == ("rgb" if got.array.shape[-1] == 3 else "grey")
    assert stored_shape(path) == got.array.shape


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
def test_orientation_is_undone(tmp_path, orientation, suffix):
    upright = smooth(40, 24)
    # What a camera stores so that the tag brings it upright, by the EXIF table.
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.swapaxes(0, 1),
        6: np.rot90(upright),
        7: np.rot90(upright, 2).swapaxes(0, 1),
        8: np.rot90(upright, -1),
    }[orientation]
    path = tmp_path / f"a.{suffix}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 95, "subsampling": 0} if suffix == "jpg" else {}
    Image.fromarray(np.ascontiguousarray(stored)).save(path, exif=exif, **options)
    got = decode(path).array
    assert got.shape == upright.shape == stored_shape(path)
    assert np.abs(got.astype(int) - upright).max() <= (12 if suffix == "jpg" else 0)


@pytest.mark.parametrize("shape", ["60x45x3", "45x60x1"])
def test_jpeg_at_reduced_scale_stays_near_full_scale(tmp_path, shape):
    path = tmp_path / "a.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(smooth(640, 480)).save(path, quality=95, exif=exif)
    preparation = Preparation.of(shape)
    reduced = decode(path, preparation)
    full = decode(path)
    assert full.array.shape == (480, 640, 3)
    assert reduced.array.shape[0] < 300
    assert reduced.array.shape[0] >= 1.2 * preparation.shape.hw[0]
    expected = prepare(to_channels(full, preparation), preparation)
    assert np.abs(load(path, preparation) - expected).mean() < 1.0


@pytest.mark.parametrize(
    "options", [{"antialias": False}, {"interpolation": "nearest"}, {"fit": "crop"}]
)
def test_jpeg_is_reduced_only_where_pixels_are_averaged(tmp_path, options):
    path = tmp_path / "a.jpg"
    Image.fromarray(smooth(640, 480)).save(path)
    height = decode(path, Preparation.of("60x45x3", **options)).array.shape[0]
    assert height == (80 if "fit" in options else 640)


def test_grey_from_jpeg_is_its_luma(tmp_path):
    path = tmp_path / "a.jpg"
    Image.fromarray(smooth(97, 64)).save(path, quality=95, subsampling=0)
    grey = load(path, Preparation.of("97x64x1"))
    weights = np.array([0.299, 0.587, 0.114])
    assert np.abs(grey[..., 0] - decode(path).array @ weights).max() < 1.5


def test_palette_and_transparency(tmp_path):
    colours = Image.fromarray(noise(9, 7, 3)).quantize(16)
    colours.save(tmp_path / "p.png")
    got = decode(tmp_path / "p.png")
    assert got.bands == "rgb"
    assert np.array_equal(got.array, np.asarray(colours.convert("RGB")))
    colours.save(tmp_path / "t.png", transparency=0)
    assert decode(tmp_path / "t.png").bands == "rgb+alpha"
    assert stored_shape(tmp_path / "t.png") == stored_shape(tmp_path / "p.png") == (9, 7, 3)
    rgba = np.zeros((1, 3, 4), np.uint8)
    rgba[0, :, 3] = (0, 51, 255)
    Image.fromarray(rgba).save(tmp_path / "a.png")
    # Black over white: 255, 255 * (1 - 0.2), 0.
    assert load(tmp_path / "a.png", Preparation.of("1x3x3"))[0, :, 1].tolist() == [255, 204, 0]
    assert load(tmp_path / "a.png", Preparation.of("1x3x1"))[0, :, 0].tolist() == [255, 204, 0]
    assert load(tmp_path / "a.png", Preparation.of("1x3x4"))[0, :, 3].tolist() == [0, 51, 255]


def test_sixteen_bit_png_keeps_its_bits(tmp_path):
    stored = noise(13, 8, kind="uint16")
    Image.fromarray(stored).save(tmp_path / "a.png")
    got = decode(tmp_path / "a.png")
    assert got.array.dtype == np.uint16
    assert np.array_equal(got.array[..., 0], stored)
    with pytest.warns(UserWarning, match="pictures of uint16 are read with full_scale 0:65535, "):
        ready = load(tmp_path / "a.png", Preparation.of("13x8x1"))
    np.testing.assert_allclose(ready[..., 0], stored / 257.0, rtol=1e-5)


def write_colour_png_of_16_bits(path, array):
    def chunk(kind, data):
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    height, width, _ = array.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def test_sixteen_bit_colour_png_is_within_one_level(tmp_path):
    stored = noise(5, 7, 3, kind="uint16")
    write_colour_png_of_16_bits(tmp_path / "a.png", stored)
    ready = load(tmp_path / "a.png", Preparation.of("5x7x3"))
    assert np.abs(ready - stored / 257.0).max() <= 1.0
    message = "a.png: a 16-bit colour PNG is read in 8 bits, so full_scale does not apply"
    with pytest.raises(DataError, match=re.escape(message)):
        load(tmp_path / "a.png", Preparation.of("5x7x3", full_scale=4095.0))


@pytest.mark.parametrize("kind", ["uint8", "uint16"])
@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((21, 16, 5), {"photometric": "minisblack", "planarconfig": "contig"}),
        ((5, 21, 16), {"photometric": "minisblack", "planarconfig": "separate"}),
        ((5, 21, 16), {}),  # five pages
        ((21, 16, 5), {}),  # 21 pages of 16x5
        ((5, 21, 16), {"ome": True, "metadata": {"axes": "CYX"}}),
        ((5, 21, 16), {"imagej": True, "metadata": {"axes": "CYX"}}),
    ],
)
def test_tiff_of_five_bands(tmp_path, kind, shape, options):
    stored = noise(*shape, kind=kind)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, stored, **options)
    expected = stored if shape[-1] == 5 else np.moveaxis(stored, 0, -1)
    got = decode(path, Preparation.of("21x16x5"))
    assert got.bands == "bands"
    assert np.array_equal(got.array, expected)


def test_tiff_stack_without_a_match_is_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", noise(5, 21, 16))
    message = "a stack of shape (5, 21, 16) with axes 'QYX'; expected one picture of 4 bands"
    with pytest.raises(DataError, match=re.escape(message)):
        decode(tmp_path / "a.tif", Preparation.of("21x16x4"))


@pytest.mark.parametrize("shape", [(2, 21, 16, 3), (3, 21, 16), (21, 16, 3), (4, 21, 16)])
@pytest.mark.parametrize("target", ["21x16x1", "21x16x3"])
def test_of_tiff_pages_the_first_is_read(tmp_path, shape, target):
    stored = noise(*shape)
    kind = "rgb" if len(shape) == 4 else "minisblack"
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as file:
        for page in stored:
            file.write(page, photometric=kind, contiguous=False)
    got = decode(path, Preparation.of(target))
    assert got.bands == ("rgb" if kind == "rgb" else "grey")
    assert np.array_equal(got.array, stored[0] if kind == "rgb" else stored[0][..., None])
    tifffile.imwrite(path, stored, photometric=kind)  # the same as one series of pages
    assert np.array_equal(decode(path, Preparation.of(target)).array, got.array)
    assert np.array_equal(decode(path).array, got.array)


def test_rgb_planes_of_one_page(tmp_path):
    stored = noise(3, 21, 16)
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", planarconfig="separate")
    got = decode(tmp_path / "a.tif", Preparation.of("21x16x3"))
    assert (got.bands, got.array.tolist()) == ("rgb", np.moveaxis(stored, 0, -1).tolist())


def test_tiff_transparency_only_where_declared(tmp_path):
    stored = noise(12, 9, 4)
    plain, declared = tmp_path / "plain.tif", tmp_path / "alpha.tif"
    tifffile.imwrite(plain, stored, photometric="rgb", extrasamples=["unspecified"])
    tifffile.imwrite(declared, stored, photometric="rgb", extrasamples=["unassalpha"])
    assert decode(plain).bands == "bands"
    assert decode(declared).bands == "rgb+alpha"
    assert (stored_shape(plain), stored_shape(declared)) == ((12, 9, 4), (12, 9, 3))
    for path in (plain, declared):
        assert np.array_equal(load(path, Preparation.of("12x9x4")), stored)
    alpha = stored[..., 3:] / 255.0
    expected = stored[..., :3] * alpha + 255 * (1 - alpha)
    assert np.abs(load(declared, Preparation.of("12x9x3")) - expected).max() <= 0.51
    message = (
        "plain.tif: 4 bands of unstated meaning; expected 3 (rgb); use an input with 4 channels"
    )
    with pytest.raises(DataError, match=re.escape(message)):
        load(plain, Preparation.of("12x9x3"))


def test_premultiplied_tiff(tmp_path):
    stored = np.array([[[20, 40, 60, 102]]], np.uint8)  # alpha 0.4
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", extrasamples=["assocalpha"])
    assert load(tmp_path / "a.tif", Preparation.of("1x1x3")).ravel().tolist() == [173, 193, 213]


def test_white_is_zero_and_float_tiff(tmp_path):
    stored = noise(11, 6)
    tifffile.imwrite(tmp_path / "w.tif", stored, photometric="miniswhite")
    assert np.array_equal(load(tmp_path / "w.tif", Preparation.of("11x6x1"))[..., 0], 255 - stored)
    floats = RNG.random((11, 6), np.float32)
    tifffile.imwrite(tmp_path / "f.tif", floats)
    ready = load(tmp_path / "f.tif", Preparation.of("11x6x1", full_scale=1.0))
    np.testing.assert_allclose(ready[..., 0], floats * 255, rtol=1e-6)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_deflate", "packbits"])
def test_compressed_tiff(tmp_path, compression):
    stored = noise(17, 10, 3)
    Image.fromarray(stored).save(tmp_path / "a.tif", compression=compression)
    assert np.array_equal(decode(tmp_path / "a.tif").array, stored)


def test_a_side_of_16_pixels_is_no_depth_of_16_bits(tmp_path):
    stored = noise(16, 160, 3)
    Image.fromarray(stored).save(tmp_path / "a.tif", compression="tiff_lzw")
    assert np.array_equal(decode(tmp_path / "a.tif").array, stored)
    Image.fromarray(stored).save(tmp_path / "a.png")
    ready = load(tmp_path / "a.png", Preparation.of("16x160x3", full_scale=255.0))
    assert np.array_equal(ready, stored)


def test_palette_tiff(tmp_path):
    image = Image.fromarray(noise(9, 7, 3)).quantize(8)
    image.save(tmp_path / "a.tif")
    assert np.array_equal(decode(tmp_path / "a.tif").array, np.asarray(image.convert("RGB")))


def test_npy_pictures(tmp_path):
    stored = noise(9, 14, 6, kind="uint16")
    np.save(tmp_path / "a.npy", stored)
    assert np.array_equal(decode(tmp_path / "a.npy").array, stored)
    assert stored_shape(tmp_path / "a.npy") == (9, 14, 6)
    np.save(tmp_path / "grey.npy", stored[..., 0])
    preparation = Preparation.of("9x14x3", full_scale=65535)
    assert load(tmp_path / "grey.npy", preparation).shape == (9, 14, 3)
    np.save(tmp_path / "many.npy", stored[None])
    message = "many.npy: array of shape (1, 9, 14, 6); expected (height, width, bands)"
    with pytest.raises(UnreadablePicture, match=re.escape(message)):
        decode(tmp_path / "many.npy")


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "bmp", "tif", "npy"])
@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5])
def test_damaged_files_are_unreadable_and_named(tmp_path, suffix, kept):
    path = tmp_path / f"broken.{suffix}"
    if suffix == "npy":
        np.save(path, noise(60, 80, 3))
    else:
        Image.fromarray(noise(60, 80, 3)).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(UnreadablePicture, match=re.escape(f"{path}: ")) as caught:
        decode(path, Preparation.of("30x40x3"))
    assert "\n" not in str(caught.value)


def test_other_files_are_unreadable(tmp_path):
    text = tmp_path / "notes.jpg"
    text.write_text("these are notes")
    message = f"{text}: not a picture that can be identified; expected a whole picture"
    with pytest.raises(UnreadablePicture, match=re.escape(message)):
        decode(text)
    missing = tmp_path / "none.jpg"
    with pytest.raises(UnreadablePicture, match=re.escape(f"{missing}: no such file; expected a")):
        decode(missing)
    text.write_bytes(b"")
    with pytest.raises(UnreadablePicture, match=re.escape(f"{text}: the file is empty; expected")):
        decode(text)


def test_values_that_do_not_fit_name_the_file(tmp_path):
    path = tmp_path / "signed.npy"
    np.save(path, np.zeros((4, 4, 3), np.int16))
    message = f"{path}: picture of type int16 has no agreed white; expected uint8"
    with pytest.raises(DataError, match=re.escape(message)):
        load(path, Preparation.of("4x4x3"))


@pytest.mark.parametrize(
    ("bands", "count", "shape", "message"),
    [
        ("grey", 1, "4x5x4", "x: 1 band (grey); expected 4 (bands); use an input with 1 channel,"),
        ("rgb", 3, "4x5x4", "x: 3 bands (rgb); expected 4 (bands); use an input with 3 channels,"),
        ("bands", 2, "4x5x1", "x: 2 bands of unstated meaning; expected 1 (grey)"),
        ("bands", 4, "4x5x3", "x: 4 bands of unstated meaning; expected 3 (rgb)"),
    ],
)
def test_bands_that_cannot_become_the_channels(bands, count, shape, message):
    with pytest.raises(DataError, match=re.escape(message)):
        to_channels(Picture(noise(4, 5, count), bands), Preparation.of(shape), "x")


def test_grey_is_repeated_and_luma_is_weighed():
    grey = noise(4, 7, 1)
    assert np.array_equal(
        to_channels(Picture(grey, "grey"), Preparation.of("4x7x3")), np.repeat(grey, 3, -1)
    )
    rgb = noise(4, 7, 3, kind="uint16")
    expected = np.rint(rgb @ np.array([0.299, 0.587, 0.114]))
    assert np.abs(luma(rgb)[..., 0].astype(int) - expected).max() <= 1


def test_cmyk_becomes_rgb(tmp_path):
    Image.fromarray(smooth(40, 30)).convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    got = decode(tmp_path / "a.jpg", Preparation.of("40x30x3"))
    assert got.bands == "rgb"
    assert stored_shape(tmp_path / "a.jpg") == (40, 30, 3)
    assert np.abs(got.array.astype(int) - smooth(40, 30)).mean() < 3
    assert load(tmp_path / "a.jpg", Preparation.of("40x30x1")).shape == (40, 30, 1)


def test_every_ending_that_pillow_writes_is_read(tmp_path):
    Image.init()
    smallest = Image.fromarray(smooth(8, 6))
    for suffix in sorted(SUFFIXES - {".npy"}):
        kind = Image.EXTENSION[suffix]
        assert kind in Image.OPEN or kind == "MPO"  # which opens as a JPEG
        if kind in Image.SAVE:
            path = tmp_path / f"a{suffix}"
            (smallest.convert("1") if kind == "XBM" else smallest).save(path, kind)
            assert decode(path).array.shape[:2] == stored_shape(path)[:2] == (8, 6)


@pytest.mark.parametrize(
    ("kind", "suffix"), [("jpeg", ".tif"), ("tiff", ".jpg"), ("png", ".npy"), ("npy", ".png")]
)
def test_contents_count_and_not_endings(tmp_path, kind, suffix):
    stored, path = noise(9, 7, 1, kind="uint16"), tmp_path / f"a{suffix}"
    with path.open("wb") as file:
        if kind == "npy":
            np.save(file, stored)
        elif kind == "tiff":
            tifffile.imwrite(file, stored[..., 0])
        else:
            Image.fromarray(smooth(9, 7)).save(file, kind)
    got = decode(path, Preparation.of("9x7x1"))
    assert got.array.shape[:2] == stored_shape(path)[:2] == (9, 7)
    assert np.array_equal(got.array, stored) == (kind in ("npy", "tiff"))


def test_a_large_jpeg_is_decoded_at_reduced_scale(tmp_path, monkeypatch):
    # As 196 megapixels are to the real limits.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    monkeypatch.setattr("inshape.data.decode.MOST_PIXELS", 2000)
    monkeypatch.setattr("inshape.data.decode._MOST_PROGRESSIVE", 2000)
    image, path = Image.fromarray(smooth(80, 64)), tmp_path / "a.jpg"
    image.save(path)
    assert decode(path, Preparation.of("8x8x3")).array.shape == (20, 16, 3)
    assert stored_shape(path) == (80, 64, 3)
    message = f"{path}: 64x80 pixels; expected at most 2,000 in all; scale it down or cut it"
    for preparation in (None, Preparation.of("80x64x3"), Preparation.of("8x8x3", antialias=False)):
        with pytest.raises(UnreadablePicture, match=re.escape(message)):
            decode(path, preparation)
    image.save(path, progressive=True)
    with pytest.raises(UnreadablePicture, match=re.escape(message)):
        decode(path, Preparation.of("8x8x3"))


def test_few_bytes_that_stand_for_gigabytes_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((3000, 600), np.uint8), compression="zlib")
    monkeypatch.setattr("inshape.data.decode.MOST_PIXELS", 1_000_000)
    message = "a.tif: 600x3000 pixels; expected at most 1,000,000 in all; scale it down or cut it"
    with pytest.raises(UnreadablePicture, match=re.escape(message)):
        decode(path)
    assert stored_shape(path) == (3000, 600, 1)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    monkeypatch.setattr("inshape.data.decode._MOST_BYTES", 50_000)
    Image.fromarray(smooth(80, 64)).save(tmp_path / "a.png")
    message = "a.png: too many pixels; expected at most 1,000,000; scale it down or cut it into"
    with pytest.raises(UnreadablePicture, match=re.escape(message)):
        decode(tmp_path / "a.png")
    tifffile.imwrite(path, noise(80, 64, 10), photometric="minisblack", planarconfig="contig")
    message = "a.tif: 50.0 KiB of pixels; expected at most 48.8 KiB; scale it down or cut it"
    with pytest.raises(UnreadablePicture, match=re.escape(message)):
        decode(path)

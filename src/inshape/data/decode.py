"""Picture files to arrays: what Pillow reads, TIFF by tifffile, and ``.npy``."""

from __future__ import annotations

import importlib
import math
import os
import re
import struct
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from ..errors import DataError, UnreadablePicture
from ..text import format_bytes
from .colour import Bands, Picture, as_shown, to_channels
from .prepare import FullScale, Preparation, is_plain, prepare_compact, scaled_hw
from .ranges import Evidence, find_range

SUFFIXES = frozenset(
    (
        ".jpg .jpeg .jpe .jfif .mpo .png .apng .webp .avif .avifs .bmp .dib .gif .tif .tiff .npy "
        ".jp2 .j2k .j2c .jpc .jpf .jpx .ppm .pgm .pbm .pnm .pfm .tga .icb .vda .vst .qoi .pcx "
        ".sgi .rgb .rgba .bw .dds .psd .ras .xbm .xpm"
    ).split()
)
"""File name endings that count as pictures, in lower case: what Pillow reads as photos or scans.
Icons, documents and formats that need a program of their own are left out."""
HEIC_SUFFIXES = frozenset((".heic", ".heif", ".hif"))
"""Those that count where pillow-heif is installed."""
HEIC_ADVICE = "for HEIC run: pip install pillow-heif"

PREFIX_BYTES = 16
"""How many of a file's first bytes tell what is in it."""
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_NPY = b"\x93NUMPY"
_JPEG = b"\xff\xd8\xff"
_STARTS = (
    _JPEG, *_TIFF, _NPY, b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"BM", b"qoif", b"8BPS",
    b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51",
)  # fmt: skip
_PPM = re.compile(rb"P[1-6Ff]\s")
_AVIF_BRANDS = (b"avif", b"avis")
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")

MOST_PIXELS = 2 * 89_478_485
"""Beyond which a picture is refused, as Pillow does by default: a few kB can stand for gigabytes.
A JPEG that is decoded at reduced scale may have more."""
_MOST_BYTES = 16 * MOST_PIXELS  # of a TIFF, which may have any number of bands
_TOO_LARGE = "scale it down or cut it into tiles"
_MOST_PROGRESSIVE = 2 * MOST_PIXELS  # which is held whole, whatever the scale

DRAFT_GAP = 1.2
"""How many times the wanted size a JPEG decoded at reduced scale must at least have. At 320 -> 96
pixels this allows half scale, 1.7 times as fast, at a mean difference of 0.9 grey levels."""

_EIGHT_BITS = (_JPEG, b"GIF8", b"BM", b"RIFF")
_ORIENTATION = 0x0112
_SAMPLES = 0x0115
_LEAST_VALUES, _MOST_VALUES = (0x0118, 0x0154), (0x0119, 0x0155)
_GDAL_NO_DATA = 0xA481
_FLIPS: dict[int, Image.Transpose] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_PLAIN_MODES: dict[str, Bands] = {
    "L": "grey",
    "I;16": "grey",
    "I": "grey",
    "F": "grey",
    "LA": "grey+alpha",
    "RGB": "rgb",
    "RGBA": "rgb+alpha",
}
# What Pillow, tifffile and NumPy raise on damaged files; anything else is a defect of ours.
DAMAGE = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    struct.error,
    MemoryError,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)


def starts_as_picture(prefix: bytes) -> bool:
    """Whether a file that starts so is a picture that can be read here.

    Example:
        >>> starts_as_picture(b"GIF89a"), starts_as_picture(b"%PDF-1.7")
        (True, False)
    """
    brand = _brand(prefix)
    return (
        prefix.startswith(_STARTS)
        or _PPM.match(prefix) is not None
        or (prefix[:4] == b"RIFF" and prefix[8:12] == b"WEBP")
        or brand in _AVIF_BRANDS
        or (brand in _HEIC_BRANDS and has_heic())
    )


def _brand(prefix: bytes) -> bytes:
    """The kind of an ISO media file, such as AVIF and HEIC are."""
    return prefix[8:12] if prefix[4:8] == b"ftyp" else b""


@cache
def has_heic() -> bool:
    """Whether Pillow reads HEIC, which pillow-heif teaches it."""
    try:
        importlib.import_module("pillow_heif").register_heif_opener()
    except ImportError:
        return False
    return True


def load(path: str | os.PathLike[str], preparation: Preparation) -> NDArray[np.float32]:
    """Read a picture file into the float32 array in [0, 255] that the model takes.

    A picture of more than 8 bits is read by the preparation's full scale; without one, the range
    that this picture uses is taken, with a warning that says which.

    Raises:
        UnreadablePicture: if the file holds no whole picture.
        DataError: if its bands or values do not fit, naming the file.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "white.png"
        ...     Image.new("L", (40, 30), 255).save(path)
        ...     load(path, Preparation.of("15x20x3")).mean().item()
        255.0
    """
    picture = decode(path, preparation)
    if preparation.full_scale is None:
        found = find_range([Evidence.of(picture)])
        if found is not None:
            warnings.warn(found.message, UserWarning, stacklevel=2)
            preparation = replace(preparation, full_scale=found.full_scale)
    return _prepare_file(picture, preparation, path).astype(np.float32)


def load_compact(path: str | os.PathLike[str], preparation: Preparation) -> NDArray[Any]:
    """The same values as `load`, as bytes where that loses nothing (`prepare_compact`)."""
    return _prepare_file(decode(path, preparation), preparation, path)


def _prepare_file(
    picture: Picture, preparation: Preparation, path: str | os.PathLike[str]
) -> NDArray[Any]:
    channels = to_channels(as_shown(picture, preparation), preparation, str(path))
    try:
        return prepare_compact(channels, preparation)
    except DataError as problem:
        raise DataError(f"{path}: {problem}") from None


def decode(path: str | os.PathLike[str], preparation: Preparation | None = None) -> Picture:
    """Read a picture file as it was stored, upright; `as_shown` makes more of it brighter.

    EXIF and TIFF orientation is undone. Palettes become RGB, CMYK and YCbCr too. Of an animation
    or a TIFF of several pages the first is read, unless its pages are named as channels. 16-bit
    grey and TIFF pictures keep their 16 bits; Pillow gives a 16-bit *colour* PNG in 8 bits. A
    ``.npy`` file holds ``(height, width)`` or ``(height, width, bands)``.

    With a preparation, a JPEG is decoded at reduced scale where the wanted size is much smaller,
    and its luma alone where grey is wanted; where bands are wanted, neither grey nor RGB, the pages
    of a grey TIFF are bands.

    Raises:
        UnreadablePicture: if the file holds no whole picture.
        DataError: if it does but cannot be used, naming the file.
    """
    path = Path(path)
    try:
        return _decode_file(path, preparation)
    except DataError:
        raise
    except FileNotFoundError as problem:
        raise UnreadablePicture(
            f"{path}: no such file; expected a picture; check the path"
        ) from problem
    except DAMAGE as problem:
        reason = " ".join(str(problem).split()) or type(problem).__name__
        if isinstance(problem, Image.UnidentifiedImageError):
            reason = "not a picture that can be identified"
        raise UnreadablePicture(
            f"{path}: {reason}; expected a whole picture; restore or remove the file"
        ) from problem


def stored_hw(path: str | os.PathLike[str]) -> tuple[int, int] | None:
    """Height and width of a picture; ``None`` if it cannot be read, which preparing it says."""
    try:
        height, width, _ = stored_shape(path)
    except DataError:
        return None
    return height, width


def stored_shape(path: str | os.PathLike[str]) -> tuple[int, int, int]:
    """Height, width and channels of a picture as `decode` gives it, without reading its pixels.

    Transparency is no channel.

    Raises:
        UnreadablePicture: if the file holds no picture.
        DataError: if it does but cannot be used, naming the file.
    """
    path = Path(path)
    try:
        prefix = _prefix(path)
        if prefix.startswith(_NPY):
            return _shape_of(_from_npy(path, mapped=True))
        if prefix.startswith(_TIFF):
            return _shape_of(_from_tiff(path, None, pixels=False))
        return _pillow_shape(path)
    except DataError:
        raise
    except DAMAGE as problem:
        raise UnreadablePicture(
            f"{path}: {problem}; expected a whole picture; restore or remove the file"
        ) from problem


def has_range(path: Path) -> bool:
    """Whether a file holds more than 8 bits, or declares values to be missing; by its first bytes.

    A file that cannot be read has none; decoding it says what is wrong with it.
    """
    try:
        prefix = _prefix(path)
        if prefix.startswith(_EIGHT_BITS):
            return False
        if prefix.startswith(_NPY):
            return not is_plain(_from_npy(path, mapped=True).array.dtype)
        if prefix.startswith(_TIFF):
            with tifffile.TiffFile(path) as file:
                page: Any = file.pages[0]
                return not is_plain(page.dtype) or _GDAL_NO_DATA in page.tags
        with _open(path) as image:
            return image.mode in ("I", "F") or "16" in image.mode + _raw_modes(image)
    except (DataError, *DAMAGE):
        return False


def _shape_of(picture: Picture) -> tuple[int, int, int]:
    height, width, bands = picture.colours.shape
    return height, width, bands


def _pillow_shape(path: Path) -> tuple[int, int, int]:
    with _open(path) as image:
        height, width = image.height, image.width
        grey = image.mode in ("1", "L", "LA", "I", "F") or image.mode.startswith("I;16")
        if _is_sideways(_orientation_of(image)):
            height, width = width, height
    return height, width, 1 if grey else 3


def _orientation_of(image: Image.Image) -> int:
    # Damage in the metadata is no reason to lose the picture.
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except (*DAMAGE, Warning):
        return 1


def _is_sideways(orientation: int) -> bool:
    return orientation >= 5  # the EXIF table's upper half exchanges rows and columns


def _decode_file(path: Path, preparation: Preparation | None) -> Picture:
    if path.stat().st_size == 0:
        raise UnreadablePicture(
            f"{path}: the file is empty; expected a whole picture; restore or remove the file"
        )
    # By what is in the file: endings are given by hand and by programs that convert nothing.
    prefix = _prefix(path)
    if prefix.startswith(_NPY):
        return _from_npy(path)
    if prefix.startswith(_TIFF):
        return _from_tiff(path, preparation)
    return _from_pillow(path, preparation)


def _prefix(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(PREFIX_BYTES)


def _open(path: Path) -> Image.Image:
    prefix = _prefix(path)
    if prefix.startswith(_JPEG):
        # Image.open would refuse a large one before it can be decoded at reduced scale, and would
        # take the second picture of a stereo camera's file for a reason not to.
        return JpegImageFile(path)
    is_heic = _brand(prefix) in _HEIC_BRANDS and not has_heic()
    try:
        return Image.open(path)
    except Image.DecompressionBombError:
        raise UnreadablePicture(
            f"{path}: too many pixels; expected at most {MOST_PIXELS:,}; {_TOO_LARGE}"
        ) from None
    except Image.UnidentifiedImageError:
        if not is_heic:
            raise
        raise UnreadablePicture(
            f"{path}: HEIC, which takes pip install pillow-heif; expected it to be installed; "
            "do so, or save the picture as JPEG"
        ) from None


def _check_size(path: Path, height: int, width: int, most: int) -> None:
    if height * width > most:
        raise UnreadablePicture(
            f"{path}: {width}x{height} pixels; expected at most {most:,} in all; {_TOO_LARGE}"
        )


def _from_npy(path: Path, *, mapped: bool = False) -> Picture:
    array = np.load(path, allow_pickle=False, mmap_mode="r" if mapped else None)
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or 0 in array.shape:
        raise UnreadablePicture(
            f"{path}: array of shape {array.shape}; expected (height, width, bands); "
            "save one picture per file, bands last"
        )
    return Picture(array, "bands")


def _from_pillow(path: Path, preparation: Preparation | None) -> Picture:
    with _open(path) as image:
        if image.info.get("progressive"):
            _check_size(path, image.height, image.width, _MOST_PROGRESSIVE)
        stored = _raw_modes(image)  # gone once the pixels are there, which a PNG's EXIF may cause
        orientation = _orientation_of(image)
        if preparation is not None and image.format == "JPEG":
            _draft(image, preparation, sideways=_is_sideways(orientation))
        _check_size(path, image.height, image.width, MOST_PIXELS)
        is_shortened = (
            image.format == "PNG" and "16" in stored and image.mode in ("RGB", "RGBA", "LA")
        )
        if is_shortened and preparation is not None and preparation.full_scale is not None:
            raise DataError(
                f"{path}: a 16-bit colour PNG is read in 8 bits, so full_scale does not apply to "
                "it; expected 16-bit grey or TIFF; save it as TIFF"
            )
        upright = _plain(image)
        if orientation in _FLIPS:
            upright = upright.transpose(_FLIPS[orientation])
        array = _bands_of(upright)
    return Picture(array, _PLAIN_MODES[upright.mode], is_shortened=is_shortened)


def _bands_of(image: Image.Image) -> NDArray[Any]:
    """The pixels, bands last; whole numbers of 32 bits are those of 16 that Pillow has widened."""
    array = np.asarray(image)
    if array.dtype == np.int32 and array.min() >= 0 and array.max() <= 65535:
        array = array.astype(np.uint16)
    return array[..., None] if array.ndim == 2 else array


def _draft(image: Image.Image, preparation: Preparation, *, sideways: bool) -> None:
    height, width = image.height, image.width
    if preparation.antialias and preparation.interpolation != "nearest":
        upright_hw = (width, height) if sideways else (height, width)
        wanted = scaled_hw(preparation, upright_hw)
        wanted_height, wanted_width = (wanted[1], wanted[0]) if sideways else wanted
        # Rounded, so that 100 pixels scaled to 240 and back never ask for the 121st of 120.
        height = math.ceil(round(wanted_height * DRAFT_GAP, 6))
        width = math.ceil(round(wanted_width * DRAFT_GAP, 6))
    mode = "L" if preparation.colour == "grey" and image.mode == "RGB" else image.mode
    image.draft(mode, (width, height))


def _raw_modes(image: Image.Image) -> str:
    """How the pixels are stored, such as ``RGB;16B``; sizes and offsets hold digits as well."""
    decoders = [tile[3] for tile in getattr(image, "tile", ())]
    first = (args if isinstance(args, str) else next(iter(args or ()), "") for args in decoders)
    return " ".join(map(str, first))


def _plain(image: Image.Image) -> Image.Image:
    """Convert rare modes to those that NumPy and the colour rules know."""
    if image.mode == "1":
        return image.convert("L")
    if image.mode in ("P", "PA"):
        return image.convert("RGBA" if image.has_transparency_data else "RGB")
    if image.mode in ("L", "RGB") and image.has_transparency_data:
        return image.convert("LA" if image.mode == "L" else "RGBA")
    if image.mode in _PLAIN_MODES:
        image.load()
        return image
    if image.mode.startswith("I;16"):
        return image.convert("I")
    return image.convert("RGBA" if image.mode in ("RGBa", "La") else "RGB")


@dataclass(frozen=True, slots=True)
class _StoredTiff:
    """What a TIFF file holds and says, as it stands there."""

    array: NDArray[Any]
    axes: str
    photometric: str
    extras: tuple[str, ...]
    orientation: int
    declared: FullScale | None
    no_data: float | None


def _from_tiff(path: Path, preparation: Preparation | None, *, pixels: bool = True) -> Picture:
    try:
        stored = _read_tiff(path, preparation, pixels)
    except ValueError as problem:
        if "imagecodecs" not in str(problem):
            raise
        return _from_packed_tiff(path, preparation, str(problem))
    if stored is None:
        return _from_pillow(path, preparation)
    array = _bands_last(stored.array, stored.axes, path, preparation)
    if stored.orientation in _FLIPS:
        array = _turned(array, stored.orientation)
    bands = _tiff_bands(array.shape[-1], stored.photometric, stored.extras)
    array = np.ascontiguousarray(array) if pixels else array
    return Picture(
        array,
        bands,
        premultiplied=stored.extras == ("ASSOCALPHA",),
        declared=stored.declared,
        is_inverted=stored.photometric == "MINISWHITE",
        no_data=stored.no_data,
    )


def _read_tiff(path: Path, preparation: Preparation | None, pixels: bool) -> _StoredTiff | None:
    """The file's contents; ``None`` for palettes, YCbCr and the like, which Pillow converts."""
    with tifffile.TiffFile(path) as file:
        page: Any = file.pages[0]
        photometric = page.photometric.name if page.photometric is not None else ""
        if photometric not in ("MINISBLACK", "MINISWHITE", "RGB"):
            return None
        stack: Any = file.series[0]
        source = stack if _is_one_picture(stack, preparation) else page
        if pixels:
            _check_size(path, page.imagelength, page.imagewidth, MOST_PIXELS)
            if source.nbytes > _MOST_BYTES:
                raise UnreadablePicture(
                    f"{path}: {format_bytes(source.nbytes)} of pixels; expected at most "
                    f"{format_bytes(_MOST_BYTES)}; {_TOO_LARGE}"
                )
        # Without its pixels a picture is zeros that take no memory.
        blank = np.broadcast_to(np.uint8(0), source.shape)
        tag = page.tags.get(_ORIENTATION)
        return _StoredTiff(
            array=np.asarray(source.asarray()) if pixels else blank,
            axes=str(source.axes),
            photometric=photometric,
            extras=tuple(getattr(extra, "name", "") for extra in page.extrasamples),
            orientation=1 if tag is None else int(tag.value),
            declared=_declared_range(page),
            no_data=_declared_no_data(page),
        )


def _declared_range(page: Any) -> FullScale | None:
    """The least and the greatest value by the tags, if they say more than the type does."""
    low, high = _tagged(page, _LEAST_VALUES), _tagged(page, _MOST_VALUES)
    bits = page.bitspersample
    if high is None and not isinstance(bits, tuple) and bits not in (8, 16, 32, 64):
        high = 2**bits - 1
    if high is None:
        return None
    try:
        ends = float(np.min(low)) if low is not None else 0.0, float(np.max(high))
    except (TypeError, ValueError):
        return None  # text, or nothing
    whole = np.iinfo(page.dtype).max if page.dtype.kind in "ui" else math.inf
    return ends if ends[0] < ends[1] < whole else None


def _tagged(page: Any, codes: Iterable[int]) -> Any:
    """The value of the first of some tags that is there."""
    return next((page.tags[code].value for code in codes if code in page.tags), None)


def _declared_no_data(page: Any) -> float | None:
    """The value that GDAL's tag declares to be missing; NaN is known without it."""
    tag = page.tags.get(_GDAL_NO_DATA)
    try:
        value = math.nan if tag is None else float(str(tag.value).strip(" \0"))
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _is_one_picture(stack: Any, preparation: Preparation | None) -> bool:
    """Whether pages are the bands of one picture: the file says so, or bands are wanted of it."""
    if len(stack.shape) != 3 or stack.keyframe.samplesperpixel != 1:
        return False
    return "C" in stack.axes or (preparation is not None and preparation.colour == "bands")


def _from_packed_tiff(path: Path, preparation: Preparation | None, reason: str) -> Picture:
    # libtiff, which Pillow carries, knows LZW and JPEG, but only for the modes that Pillow has.
    with Image.open(path) as image:
        tags: Any = getattr(image, "tag_v2", {})
        whole = "16" not in _raw_modes(image) or image.mode.startswith("I;16")
        known = len(image.getbands()) == int(tags.get(_SAMPLES, 1))
    if whole and known:
        return _from_pillow(path, preparation)
    raise DataError(
        f"{path}: {reason}; expected a TIFF without compression or with deflate; "
        "run: pip install imagecodecs"
    )


def _tiff_bands(count: int, photometric: str, extras: tuple[str, ...]) -> Bands:
    colours = 3 if photometric == "RGB" else 1
    if count == colours:
        return "rgb" if colours == 3 else "grey"
    if count == colours + 1 and extras in (("UNASSALPHA",), ("ASSOCALPHA",)):
        return "rgb+alpha" if colours == 3 else "grey+alpha"
    return "bands"


def _bands_last(
    array: NDArray[Any], axes: str, path: Path, preparation: Preparation | None
) -> NDArray[Any]:
    if array.ndim == 2:
        return array[..., None]
    for letter in "SC":
        if letter in axes and array.ndim == 3:
            return np.moveaxis(array, axes.index(letter), -1)
    channels = None if preparation is None else preparation.shape.channels
    if array.ndim == 3:
        first, last = array.shape[0] == channels, array.shape[-1] == channels
        if first != last:
            return np.moveaxis(array, 0, -1) if first else array
    raise DataError(
        f"{path}: a stack of shape {array.shape} with axes {axes!r}; expected one picture"
        f"{'' if channels is None else f' of {channels} bands'}; save it with its bands as samples "
        "(tifffile: photometric='minisblack', planarconfig='contig')"
    )


def _turned(array: NDArray[Any], orientation: int) -> NDArray[Any]:
    if _is_sideways(orientation):
        array = np.swapaxes(array, 0, 1)
    rows = -1 if orientation in (3, 4, 7, 8) else 1
    columns = -1 if orientation in (2, 3, 6, 7) else 1
    return array[::rows, ::columns]

"""Pictures inside a page: looked for where the data are, and written into it as text."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.catalogue import Catalogue
from ..data.decode import load_compact
from ..data.drawing import as_image, as_uri
from ..data.prepare import Fit, Preparation, prepare
from ..data.resize import Interpolation
from ..data.sources import open_source
from ..errors import InshapeError
from ..shapes import InputShape

_EXAMPLES = 6
_SIDE = 160
_WIDEST = 3
_LOSSLESS = 128
_QUALITY = 82
_ARRAYS = (".npz", ".npy")


def examples_of(catalogue: Catalogue) -> list[dict[str, str]]:
    """A few pictures to show, of different classes.

    Example:
        >>> from inshape.data.sources import open_source
        >>> examples_of(open_source((np.zeros((3, 8, 8, 1), np.uint8), ["b", "a", "b"])))
        [{'picture': '[1]', 'label': 'a'}, {'picture': '[0]', 'label': 'b'}]
    """
    strata = catalogue.strata
    there = [stratum for stratum in np.unique(strata) if stratum >= 0]
    places = np.linspace(0, len(there) - 1, min(_EXAMPLES, len(there))).round().astype(int)
    firsts = [int(np.flatnonzero(strata == there[i])[0]) for i in places]
    return [
        {"picture": catalogue.names[i], "label": catalogue.task.text(catalogue.labels[i])}
        for i in firsts
    ]


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A picture inside a page, with its size in pixels."""

    uri: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Album:
    """The pictures of a source, as far as they are still there."""

    catalogue: Catalogue | None = None
    root: Path | None = None
    """The folder that names start from, where the pictures are files."""

    @classmethod
    def of(cls, source: str | None, catalogue: Catalogue | None = None) -> Album:
        """The pictures of a source as a record names it, or those that are at hand."""
        path = None if source is None else Path(source)
        if path is not None and path.is_file() and path.suffix.lower() in _ARRAYS:
            with suppress(InshapeError):
                return cls(catalogue or open_source(path, labels="optional"))
        if path is None or not path.exists():
            return cls(catalogue)
        return cls(catalogue, path if path.is_dir() else path.parent)

    def picture(self, name: str, preparation: Preparation) -> NDArray[Any] | None:
        """One picture prepared, ``(height, width, channels)`` in [0, 255].

        ``None`` if it is not there any more or cannot be prepared so.
        """
        try:
            if self.catalogue is not None and name in self.catalogue.names:
                index = self.catalogue.names.index(name)
                return self.catalogue.load_compact(index, preparation)
            if self.root is not None and (self.root / name).is_file():
                return load_compact(self.root / name, preparation)
        except InshapeError:
            return None
        return None

    def original(self, name: str, preparation: Preparation) -> Thumbnail | None:
        """One picture as people know it, in colour and in its own proportions.

        Where it cannot be read as colours, it is read in the bands of the model.
        """
        for channels in (3, preparation.shape.channels):
            shape = (_SIDE, None, channels)
            pixels = self.picture(name, Preparation.of(shape, full_scale=preparation.full_scale))
            if pixels is not None:
                return embed(pixels[:, : _WIDEST * _SIDE], is_photo=True)
        return None


def embed_input(pixels: NDArray[Any]) -> Thumbnail:
    """What goes into a model: every pixel of a small picture, a large one as a photo."""
    return embed(pixels, is_photo=max(pixels.shape[:2]) > _LOSSLESS)


def embed(pixels: NDArray[Any], *, is_photo: bool = False) -> Thumbnail:
    """A picture in [0, 255] as text: a photo as JPEG, else as PNG, which keeps every pixel.

    Of three bands and more the first three are shown as colours, else the first in grey.

    Example:
        >>> embed(np.zeros((2, 3, 1), np.uint8)).uri[:22]
        'data:image/png;base64,'
    """
    bands = pixels[..., :3] if pixels.shape[-1] >= 3 else pixels[..., 0]
    image = as_image(bands)
    kept: dict[str, Any] = {"quality": _QUALITY} if is_photo else {"optimize": True}
    uri = as_uri(image, "jpeg" if is_photo else "png", **kept)
    return Thumbnail(uri, image.width, image.height)


def resize_inside(
    pixels: NDArray[Any],
    size_hw: tuple[int, int],
    *,
    fit: Fit = "stretch",
    interpolation: Interpolation = "bilinear",
) -> NDArray[Any]:
    """What a resizing layer inside the model makes of a prepared picture, without Keras."""
    height, width = pixels.shape[:2]
    values = np.asarray(pixels, np.float32)
    # As Keras does it: cut, or filled by the same on both sides, in whole pixels; then stretched.
    wanted = (int(width * size_hw[0] / size_hw[1]), int(height * size_hw[1] / size_hw[0]))
    if fit == "crop":
        rows, columns = min(height, wanted[0]), min(width, wanted[1])
        top, left = (height - rows) // 2, (width - columns) // 2
        values = values[top : top + rows, left : left + columns]
    elif fit == "letterbox":
        missing = (max(0, wanted[0] - height), max(0, wanted[1] - width))
        values = np.pad(values, [*((n // 2, n // 2) for n in missing), (0, 0)])
    preparation = Preparation(
        InputShape(*size_hw, pixels.shape[-1]),
        interpolation=interpolation,
        antialias=False,  # a resizing layer reads the same few pixels at every scale
        colour="bands",
    )
    return prepare(values, preparation)

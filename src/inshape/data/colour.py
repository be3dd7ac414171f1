"""What a picture's bands mean, and how they become the bands that a model takes."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..text import plural
from .prepare import FullScale, Preparation, is_plain, is_present

Bands: TypeAlias = Literal["grey", "grey+alpha", "rgb", "rgb+alpha", "bands"]

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in a grey value (ITU-R BT.601, as in JPEG)."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded picture and what its file says about its bands."""

    array: NDArray[Any]
    """``(height, width, bands)`` in the file's own type and range."""
    bands: Bands
    """What they mean; ``"bands"`` where the file does not say."""
    premultiplied: bool = False
    """Whether the colours were multiplied by the transparency."""
    declared: FullScale | None = None
    """The least and the greatest value that the file allows, where it says so."""
    is_inverted: bool = False
    """Whether less is brighter in it."""
    is_shortened: bool = False
    """Whether its file holds 16 bits, of which 8 were read."""
    no_data: float | None = None
    """The value that the file declares to stand for missing pixels."""

    @property
    def colours(self) -> NDArray[Any]:
        """The bands without declared transparency."""
        return self.array[..., :-1] if self.bands.endswith("+alpha") else self.array

    @property
    def missing(self) -> NDArray[np.bool_]:
        """Where it holds what it declares to be missing, ``(height, width, bands or 1)``.

        In a picture of 8 bits, whose every value is common, all the bands of a pixel must hold it.
        """
        value = math.nan if self.no_data is None else self.no_data
        if is_plain(self.array.dtype):
            return np.all(np.isin(self.colours, value), axis=-1)[..., None]
        return np.isin(self.array, value)


def to_channels(picture: Picture, preparation: Preparation, name: str = "picture") -> NDArray[Any]:
    """Turn a picture's bands into the channels that the model takes.

    A colour picture becomes grey by luma, a grey one RGB by repetition. Transparency is composited
    over white, but only where the file declares it. A model of other bands takes a file with just
    as many bands as they are, declared transparency included, because people do store a fourth
    band there. ``name`` is what an error calls the picture.

    Raises:
        DataError: if the bands cannot become the channels, naming the picture.

    Example:
        >>> red = Picture(np.full((2, 3, 3), (255, 0, 0), np.uint8), "rgb")
        >>> int(to_channels(red, Preparation.of("2x3x1"))[0, 0, 0])
        76
    """
    wanted, channels = preparation.colour, preparation.shape.channels
    if wanted == "bands" and picture.array.shape[-1] == channels:
        return picture.array
    array, bands = _opaque(picture)
    if wanted == "bands" and array.shape[-1] == channels:
        return array
    if bands == "bands":
        bands = {1: "grey", 3: "rgb"}.get(array.shape[-1])
    if wanted == "bands" or bands not in ("grey", "rgb"):
        raise _mismatch(picture, preparation, name)
    if bands == wanted:
        return array
    return luma(array) if wanted == "grey" else np.repeat(array, 3, axis=-1)


def as_shown(picture: Picture, preparation: Preparation) -> Picture:
    """The picture with more for brighter, and black where its file declares it to be missing."""
    if picture.no_data is None and not picture.is_inverted:
        return picture
    array, full_scale = picture.array, preparation.full_scale
    low = 0.0 if full_scale is None or is_plain(array.dtype) else full_scale[0]
    if picture.is_inverted:
        array = _inverted(array, full_scale)
    if array.dtype.kind in "ui":
        limits = np.iinfo(array.dtype)
        low = min(max(math.floor(low), limits.min), limits.max)
    array = np.where(picture.missing, array.dtype.type(low), array)
    return replace(picture, array=array, is_inverted=False, no_data=None)


def _inverted(array: NDArray[Any], full_scale: FullScale | None) -> NDArray[Any]:
    """The picture with its values from the other end of its range, or of its type's."""
    kind = array.dtype
    if kind.kind == "b":
        return ~array
    if full_scale is None or is_plain(kind):
        return (np.iinfo(kind).max - array) if kind.kind == "u" else -array
    low, high = full_scale
    values = array.astype(np.float32)
    inverted = np.float32(low + high) - np.clip(values, low, high)
    return np.where(is_present(values), inverted, np.float32(low))


def luma(array: NDArray[Any]) -> NDArray[Any]:
    """The grey picture ``(..., 1)`` of an RGB one, of its type, rounded if of whole numbers."""
    grey = array.astype(np.float32) @ np.asarray(LUMA, np.float32)[:, None]
    return _like(grey, array.dtype)


def _opaque(picture: Picture) -> tuple[NDArray[Any], Bands]:
    """Composite declared transparency over white."""
    array, bands = picture.array, picture.bands
    if bands not in ("grey+alpha", "rgb+alpha"):
        return array, bands
    kind = array.dtype
    white = np.float32(np.iinfo(kind).max if kind.kind in "ui" else 1.0)
    values, alpha = array[..., :-1].astype(np.float32), array[..., -1:].astype(np.float32) / white
    over = (values if picture.premultiplied else values * alpha) + white * (1 - alpha)
    return _like(np.clip(over, 0, white), kind), "grey" if bands == "grey+alpha" else "rgb"


def _like(values: NDArray[Any], kind: np.dtype[Any]) -> NDArray[Any]:
    return values.astype(kind) if kind.kind == "f" else np.rint(values).astype(kind)


def _mismatch(picture: Picture, preparation: Preparation, name: str) -> DataError:
    count, channels = picture.array.shape[-1], preparation.shape.channels
    meaning = "of unstated meaning" if picture.bands == "bands" else f"({picture.bands})"
    return DataError(
        f"{name}: {plural(count, 'band')} {meaning}; expected {channels} ({preparation.colour}); "
        f"use an input with {plural(count, 'channel')}, such as HxWx{count}, or convert the file"
    )

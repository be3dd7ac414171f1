"""What a picture's bands mean, and how they become the bands that a model takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from .prepare import Preparation

Bands: TypeAlias = Literal["grey", "grey+alpha", "rgb", "rgb+alpha", "bands"]

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in a grey value (ITU-R BT.601, as in JPEG)."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded picture and what its file says about its bands.

    Args:
        array: ``(height, width, bands)`` in the file's own type and range.
        bands: what they mean; ``"bands"`` where the file does not say.
        premultiplied: whether the colours were multiplied by the transparency.
    """

    array: NDArray[Any]
    bands: Bands
    premultiplied: bool = False


def to_channels(picture: Picture, preparation: Preparation, name: str = "picture") -> NDArray[Any]:
    """Turn a picture's bands into the channels that the model takes.

    A colour picture becomes grey by luma, a grey one RGB by repetition. Transparency is composited
    over white, but only where the file declares it. A model of other bands takes a file with just
    as many bands as they are, declared transparency included, because people do store a fourth
    band there.

    Args:
        picture: what was decoded.
        preparation: which channels are wanted, and what they mean.
        name: what to call the picture in an error.

    Returns:
        ``(height, width, channels)`` in the picture's own type.

    Raises:
        DataError: if the bands cannot become the channels, naming the picture.

    Example:
        >>> red = Picture(np.full((2, 3, 3), (255, 0, 0), np.uint8), "rgb")
        >>> int(to_channels(red, Preparation.of("2x3x1"))[0, 0, 0])
        76
    """
    wanted, channels = preparation.colour, preparation.shape.channels
    array, bands = picture.array, picture.bands
    if wanted == "bands":
        if array.shape[-1] == channels:
            return array
        array, bands = _opaque(picture)
        if array.shape[-1] == channels:
            return array
        raise _mismatch(picture, preparation, name)
    array, bands = _opaque(picture)
    if bands == "bands":
        bands = {1: "grey", 3: "rgb"}.get(array.shape[-1])
    if bands not in ("grey", "rgb"):
        raise _mismatch(picture, preparation, name)
    if bands == wanted:
        return array
    return luma(array) if wanted == "grey" else np.repeat(array, 3, axis=-1)


def luma(array: NDArray[Any]) -> NDArray[Any]:
    """The grey picture of an RGB one.

    Args:
        array: ``(..., 3)`` of any type.

    Returns:
        ``(..., 1)`` of the same type, rounded if it is of whole numbers.
    """
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
    held = f"{count} {'band' if count == 1 else 'bands'}"
    if picture.bands != "bands":
        held += f" ({picture.bands})"
    else:
        held += " of unstated meaning"
    return DataError(
        f"{name}: {held}; expected {channels} ({preparation.colour}); use an input with "
        f"{count} {'channel' if count == 1 else 'channels'}, such as HxWx{count}, "
        "or convert the file"
    )

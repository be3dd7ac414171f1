"""What a linear model sees of maps: the same places of every picture, whatever the maps' size."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_FEWEST, _MOST = 8, 128
_IN_ALL = 20_000
"""So many rows tell networks apart, and a fit on them takes seconds."""


def draw_places(pictures: int, seed: int) -> NDArray[np.float32]:
    """Places ``(places, 2)`` as shares of height and width, fewer where there are more pictures.

    They are drawn one in each cell of a grid, so that no part of a picture is left out.

    Example:
        >>> places = draw_places(1000, 0)
        >>> places.shape, float(places.min()) >= 0, float(places.max()) < 1
        ((16, 2), True, True)
    """
    count = min(_MOST, max(_FEWEST, _IN_ALL // max(1, pictures)))
    side = int(count**0.5)
    cells = np.stack(np.meshgrid(np.arange(side), np.arange(side), indexing="ij"), axis=-1)
    drawn = np.random.default_rng(seed).random((side * side, 2))
    return ((cells.reshape(-1, 2) + drawn) / side).astype(np.float32)


def rows_of(
    features: NDArray[np.float32], places: NDArray[np.float32] | None
) -> NDArray[np.float32]:
    """Features as a linear model sees them: a vector a picture, or maps at places."""
    return features.reshape(len(features), -1) if places is None else at_places(features, places)


def at_places(maps: NDArray[np.floating], places: NDArray[np.float32]) -> NDArray[np.float32]:
    """Maps ``(pictures, rows, columns, channels)`` at places, ``(pictures, places, 1, channels)``.

    Between the centres of a map's places its values are mixed, as a bilinear resizing to the
    picture mixes them: a linear model then answers as if its own map had been enlarged.

    Example:
        >>> maps = np.array([[[[0.0], [4.0]]]], "float32")
        >>> at_places(maps, np.array([[0.5, 0.25], [0.5, 0.5]], "float32")).ravel().tolist()
        [0.0, 2.0]
    """
    near: list[tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]] = []
    for axis, length in enumerate(maps.shape[1:3]):
        at = np.clip(places[:, axis] * length - 0.5, 0, length - 1)
        low = np.floor(at).astype(np.intp)
        near.append((low, np.minimum(low + 1, length - 1), (at - low).astype(np.float32)))
    (top, bottom, down), (left, right, across) = near
    across = across[None, :, None]
    upper = maps[:, top, left] * (1 - across) + maps[:, top, right] * across
    lower = maps[:, bottom, left] * (1 - across) + maps[:, bottom, right] * across
    down = down[None, :, None]
    return (upper * (1 - down) + lower * down)[:, :, None].astype(np.float32)

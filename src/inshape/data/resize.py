"""Resampling a picture of any number of bands, in its own precision."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Interpolation: TypeAlias = Literal["bilinear", "bicubic", "nearest", "area"]

_FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "nearest": Image.Resampling.NEAREST,
}


def resample(
    picture: NDArray[Any],
    box: tuple[float, float, float, float],
    size_hw: tuple[int, int],
    *,
    method: Interpolation = "bilinear",
    antialias: bool = True,
) -> NDArray[Any]:
    """Resample a part of a picture, every band on its own.

    ``picture`` is uint8 or float32, ``box`` the top, left, bottom and right of the part in pixels,
    which need not be whole. The result has the picture's type; a cubic one may overshoot its range
    in float32.

    Example:
        >>> steps = np.arange(4, dtype=np.float32).reshape(1, 4, 1)
        >>> resample(steps, (0, 0, 1, 4), (1, 2), method="area").ravel().tolist()
        [0.5, 2.5]
    """
    if picture.shape[:2] == size_hw and box == (0.0, 0.0, *size_hw):
        return picture
    bands = picture.shape[-1]
    if picture.dtype == np.uint8 and bands == 3:
        return _resample_plane(picture, box, size_hw, method, antialias)
    # Each band by itself: Pillow takes four for RGBA and weighs the colours by the fourth.
    planes = [
        _resample_plane(np.ascontiguousarray(picture[..., band]), box, size_hw, method, antialias)
        for band in range(bands)
    ]
    return np.stack(planes, axis=-1)


def _resample_plane(
    plane: NDArray[Any],
    box: tuple[float, float, float, float],
    size_hw: tuple[int, int],
    method: Interpolation,
    antialias: bool,
) -> NDArray[Any]:
    top, left, bottom, right = box
    if method == "area" or (method == "bicubic" and not antialias):
        # Pillow's box filter takes whole pixels only, and its point-sampled bicubic is another
        # curve (a = -1) than the antialiased one.
        rows = _tap_weights((top, bottom), plane.shape[0], size_hw[0], method)
        columns = _tap_weights((left, right), plane.shape[1], size_hw[1], method)
        values = np.einsum("ih,hw...,jw->ij...", rows, plane, columns, optimize=True)
        return (
            np.clip(values.round(), 0, 255).astype(np.uint8) if plane.dtype == np.uint8 else values
        )
    image = Image.fromarray(plane)
    size_wh = (size_hw[1], size_hw[0])
    if antialias or method == "nearest":
        return np.asarray(image.resize(size_wh, _FILTERS[method], box=(left, top, right, bottom)))
    # Image.resize widens its kernel when it reduces; Image.transform reads the same few pixels at
    # every scale.
    step_x, step_y = (right - left) / size_wh[0], (bottom - top) / size_wh[1]
    affine = (step_x, 0.0, left, 0.0, step_y, top)
    return np.asarray(image.transform(size_wh, Image.Transform.AFFINE, affine, _FILTERS[method]))


def _tap_weights(
    span: tuple[float, float], length: int, goal: int, method: Interpolation
) -> NDArray[np.float32]:
    """Weights (goal, length) that resample a span of one axis of ``length`` pixels."""
    start, stop = span
    step = (stop - start) / goal
    pixels = np.arange(length)[None, :]
    if method == "area":
        edges = start + step * np.arange(goal + 1)[:, None]
        overlap = np.minimum(edges[1:], pixels + 1) - np.maximum(edges[:-1], pixels)
        weights = np.clip(overlap, 0.0, None)
    else:
        centres = start + step * (np.arange(goal)[:, None] + 0.5) - 0.5
        weights = _keys(np.abs(pixels - centres))
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def _keys(distance: NDArray[Any]) -> NDArray[Any]:
    """The cubic convolution kernel with a = -0.5 (Keys 1981)."""
    near = (1.5 * distance - 2.5) * distance**2 + 1.0
    far = ((-0.5 * distance + 2.5) * distance - 4.0) * distance + 2.0
    return np.where(distance < 1.0, near, np.where(distance < 2.0, far, 0.0))

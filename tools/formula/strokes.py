"""Glyph-like curves: a class is a skeleton of a few strokes, as in writing.

Each picture moves the points of the skeleton, slants it and takes another pen.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from .outlines import SUPERSAMPLED

_STEPS = 12
_GRID = 4


def draw(rng: np.random.Generator, count: int, px: int, varied: np.random.Generator) -> NDArray:
    """Pictures of one glyph.

    Args:
        rng: draws the skeleton, the class.
        count: how many pictures.
        px: their height and width.
        varied: draws what differs between the pictures.

    Returns:
        uint8 ``(count, px, px)``, light on black.
    """
    skeleton = [_stroke(rng) for _ in range(int(rng.integers(1, 4)))]
    if len(skeleton) > 1 and rng.random() < 0.6:  # most letters hang together
        points, curved = skeleton[1]
        points[0] = skeleton[0][0][int(rng.integers(len(skeleton[0][0])))]
        skeleton[1] = points, curved
    return np.stack([_picture(skeleton, px, varied) for _ in range(count)])


def _stroke(rng: np.random.Generator) -> tuple[NDArray, bool]:
    """Points in [-1, 1] that a stroke passes through, and whether it is curved."""
    if rng.random() < 0.25:  # a loop or a piece of one
        start, span = rng.uniform(0, 2 * np.pi), rng.uniform(np.pi, 2 * np.pi)
        angles = start + np.linspace(0, span, 7) * rng.choice([-1, 1])
        radii, centre = rng.uniform(0.25, 0.8, 2), rng.uniform(-0.35, 0.35, 2)
        return centre + radii * np.stack([np.sin(angles), np.cos(angles)], 1), True
    cells = rng.permutation(_GRID * _GRID)[: int(rng.integers(2, 6))]
    points = np.stack(np.divmod(cells, _GRID), 1) / (_GRID - 1) * 2 - 1
    return points + rng.uniform(-0.15, 0.15, points.shape), bool(rng.random() < 0.7)


def _picture(
    skeleton: list[tuple[NDArray, bool]], px: int, varied: np.random.Generator
) -> NDArray[np.uint8]:
    size = px * SUPERSAMPLED
    picture = Image.new("L", (size, size))
    pen = ImageDraw.Draw(picture)
    bend = np.eye(2) + varied.normal(0, 0.13, (2, 2))
    width = max(3, round(size * float(np.exp(varied.uniform(np.log(0.02), np.log(0.14))))))
    for points, curved in skeleton:
        moved = (points + varied.normal(0, 0.075, points.shape)) @ bend
        line = _through(moved) if curved and len(moved) > 2 else moved
        placed = (np.clip(line, -1.15, 1.15) * 0.36 + 0.5) * size
        corners = [(float(x), float(y)) for y, x in placed]
        pen.line(corners, fill=255, width=width, joint="curve")
        for x, y in (corners[0], corners[-1]):
            pen.ellipse([x - width / 2, y - width / 2, x + width / 2, y + width / 2], fill=255)
    return np.asarray(picture.reduce(SUPERSAMPLED))


def _through(points: NDArray) -> NDArray:
    """A Catmull-Rom curve through the points."""
    padded = np.concatenate([2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]])
    before, start, end, after = padded[:-3], padded[1:-2], padded[2:-1], padded[3:]
    t = np.linspace(0, 1, _STEPS, endpoint=False)[:, None, None]
    curve = 0.5 * (
        2 * start
        + (end - before) * t
        + (2 * before - 5 * start + 4 * end - after) * t**2
        + (3 * start - before - 3 * end + after) * t**3
    )
    return np.concatenate([np.moveaxis(curve, 0, 1).reshape(-1, 2), points[-1:]])

"""Flat shapes: polygons, stars, rings, crosses and mirror-symmetric silhouettes.

A class is an outline and how it is filled; its pictures stretch, turn and dent it. Drawn four times
too large and averaged, so that edges are smooth.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

SUPERSAMPLED = 4
_POINTS = 96
_FILLS = ("full", "full", "line", "stripes", "checks", "shaded", "halves")
_KINDS = ("polygon", "star", "gear", "wave", "ring", "cross", "moon", "twins", "row")


def draw(rng: np.random.Generator, count: int, px: int, varied: np.random.Generator) -> NDArray:
    """Pictures of one flat shape.

    Args:
        rng: draws the shape, the class.
        count: how many pictures.
        px: their height and width.
        varied: draws what differs between the pictures.

    Returns:
        uint8 ``(count, px, px)``, light on black.
    """
    kind = "silhouette" if rng.random() < 0.5 else str(rng.choice(_KINDS))
    fill = str(rng.choice(_FILLS))
    shape = {
        "corners": int(rng.integers(3, 9)),
        "depth": float(rng.uniform(0.3, 0.75)),
        "ratio": float(np.exp(rng.uniform(-0.5, 0.5))),
        "turn": float(rng.uniform(0, 2 * np.pi)),
        "cycles": int(rng.integers(3, 8)),
        "slope": float(rng.uniform(0, np.pi)),
        "profile": _profile(rng),
    }
    return np.stack([_picture(kind, fill, shape, px, varied) for _ in range(count)])


def _profile(rng: np.random.Generator) -> NDArray:
    """Half widths of a silhouette from top to bottom, with a sudden change here and there."""
    knots = rng.uniform(0.12, 1.0, 7)
    knots[[0, -1]] *= rng.uniform(0.1, 1.0, 2)
    smooth = np.interp(np.linspace(0, 6, _POINTS // 2), np.arange(7), knots)
    for _ in range(int(rng.integers(0, 3))):
        at = int(rng.integers(5, _POINTS // 2 - 5))
        smooth[at:] *= rng.uniform(0.4, 1.6)
    return np.clip(smooth, 0.05, 1.0)


def _picture(
    kind: str, fill: str, shape: dict, px: int, varied: np.random.Generator
) -> NDArray[np.uint8]:
    size = px * SUPERSAMPLED
    mask = Image.new("L", (size, size))
    pen = ImageDraw.Draw(mask)
    parts = _parts(kind, shape, varied)
    stretch = np.exp(varied.uniform(-0.12, 0.12, 2)) * 0.42
    for points, value in parts:
        dents = varied.normal(0, 0.012, points.shape)
        placed = ((points + dents) * stretch + 0.5) * size
        corners = [(float(x), float(y)) for y, x in placed]
        if fill == "line":
            width = max(2, round(size * float(varied.uniform(0.02, 0.06))))
            pen.line([*corners, corners[0], corners[1]], fill=value, width=width, joint="curve")
        else:
            pen.polygon(corners, fill=value)
    flat = np.asarray(mask.reduce(SUPERSAMPLED), np.float32)
    return np.round(flat * _filling(fill, shape, px, varied)).astype(np.uint8)


def _parts(kind: str, shape: dict, varied: np.random.Generator) -> list[tuple[NDArray, int]]:
    """Outlines, ``(points, 2)`` rows and columns in [-1, 1], each with its grey, back to front."""
    angles = np.linspace(0, 2 * np.pi, _POINTS, endpoint=False)
    turn = shape["turn"] + varied.uniform(-0.2, 0.2)
    corners, depth, ratio = shape["corners"], shape["depth"], shape["ratio"]
    if kind == "silhouette":
        half = shape["profile"] * np.exp(varied.normal(0, 0.05, len(shape["profile"])).cumsum() / 6)
        rows = np.linspace(-1, 1, len(half))
        right, left = np.stack([rows, half], 1), np.stack([rows, -half], 1)[::-1]
        return [(np.concatenate([right, left]) * [1.0, min(ratio, 1.1)], 255)]
    if kind in ("polygon", "twins", "row"):
        one = _ring(np.arange(corners) * 2 * np.pi / corners + turn, 1.0, ratio)
        if kind == "polygon":
            return [(one, 255)]
        places = [(-0.4, -0.5), (0.4, 0.5)] if kind == "twins" else [(0, -0.7), (0, 0), (0, 0.7)]
        return [(one * (0.5 if kind == "twins" else 0.3) + place, 255) for place in places]
    if kind == "star":
        tips = np.arange(2 * corners)
        return [(_ring(tips * np.pi / corners + turn, np.where(tips % 2, depth, 1.0), ratio), 255)]
    if kind == "gear":
        return [(_ring(angles, np.where(np.sin(corners * angles + turn) > 0, 1.0, depth), 1), 255)]
    if kind == "wave":
        return [(_ring(angles, 0.75 + 0.25 * depth * np.sin(corners * angles + turn), ratio), 255)]
    if kind == "ring":
        outer = _ring(angles, 1.0, ratio)
        return [(outer, 255), (outer * depth, 0)]
    if kind == "moon":
        disc = _ring(angles, 1.0, 1.0)
        return [(disc, 255), (disc * 0.85 + [0.6 * np.sin(turn), 0.6 * np.cos(turn)], 0)]
    arms = depth * 0.5
    bar = np.array([[-1, -arms], [-1, arms], [1, arms], [1, -arms]])
    turned = _rotated(bar, turn), _rotated(bar[:, ::-1] * [1.0, ratio], turn)
    return [(bar, 255) for bar in turned]


def _ring(angles: NDArray, radius: NDArray | float, ratio: float) -> NDArray:
    wide, high = min(1.0, ratio), min(1.0, 1 / ratio)
    return np.stack([high * radius * np.sin(angles), wide * radius * np.cos(angles)], 1)


def _rotated(points: NDArray, angle: float) -> NDArray:
    cos, sin = np.cos(angle), np.sin(angle)
    return points @ np.array([[cos, -sin], [sin, cos]])


def _filling(fill: str, shape: dict, px: int, varied: np.random.Generator) -> NDArray:
    axis = np.arange(px) / px
    slope = shape["slope"] + varied.uniform(-0.15, 0.15)
    along = axis[None, :] * np.cos(slope) + axis[:, None] * np.sin(slope)
    across = axis[:, None] * np.cos(slope) - axis[None, :] * np.sin(slope)
    phase = varied.uniform(0, 1)
    first = (along * shape["cycles"] * 1.5 + phase) % 1 < 0.5
    second = (across * shape["cycles"] * 1.5 + phase) % 1 < 0.5
    if fill == "stripes":
        return np.where(first, 1.0, 0.45)
    if fill == "checks":
        return np.where(first ^ second, 1.0, 0.45)
    if fill == "shaded":
        return 0.45 + 0.55 * (along - along.min()) / np.ptp(along)
    if fill == "halves":
        return np.where(along > np.median(along) + varied.uniform(-0.06, 0.06), 1.0, 0.5)
    return np.ones((px, px))

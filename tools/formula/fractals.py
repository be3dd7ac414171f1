"""Iterated function systems, drawn by the chaos game.

The systems are sampled by their singular values, which makes nearly all of them worth looking at
(Anderson and Farrell 2022, arXiv 2110.03091); a class is a system, and its pictures shrink and move
its maps a little, as in FractalDB (Kataoka et al. 2020, arXiv 2101.08515).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_WALKERS = 160
_UNSEEN = 12  # steps until a walker is on the attractor
_SEEN = 48
_MARGIN = 0.06
_LEAST_FILL = 0.06


def draw(rng: np.random.Generator, count: int, px: int, varied: np.random.Generator) -> NDArray:
    """Pictures of one system.

    Args:
        rng: draws the system, the class.
        count: how many pictures.
        px: their height and width.
        varied: draws what differs between the pictures.

    Returns:
        uint8 ``(count, px, px)``, light on black.
    """
    for _ in range(50):
        matrices, offsets = _system(rng)
        sample = _pictures(matrices, offsets, 4, px, np.random.default_rng(0))
        if (sample > 40).mean() > _LEAST_FILL:
            break
    return _pictures(matrices, offsets, count, px, varied)


def _system(rng: np.random.Generator) -> tuple[NDArray, NDArray]:
    """The matrices ``(maps, 2, 2)`` and offsets ``(maps, 2)`` of a contracting system."""
    maps = int(rng.integers(2, 7))
    low, high = (5 + maps) / 2, (6 + maps) / 2
    while True:
        values = np.sort(rng.uniform(0.05, 1.0, (maps, 2)))[:, ::-1]
        if low <= (values[:, 0] + 2 * values[:, 1]).sum() <= high:
            break
    signs = rng.choice([-1.0, 1.0], (maps, 2))
    middle = np.zeros((maps, 2, 2))
    middle[:, 0, 0], middle[:, 1, 1] = (values * signs).T
    turns = _rotations(rng.uniform(0, 2 * np.pi, (2, maps)))
    return turns[0] @ middle @ turns[1], rng.uniform(-1.0, 1.0, (maps, 2))


def _rotations(angles: NDArray) -> NDArray:
    cos, sin = np.cos(angles), np.sin(angles)
    return np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], -2)


def _pictures(
    matrices: NDArray, offsets: NDArray, count: int, px: int, rng: np.random.Generator
) -> NDArray:
    maps = len(matrices)
    weights = np.abs(np.linalg.det(matrices)) + 0.01
    # Shrinking keeps a system contracting, stretching might not.
    own_matrices = matrices * rng.uniform(0.88, 1.0, (count, maps, 1, 1))
    own_offsets = offsets * rng.uniform(0.8, 1.2, (count, maps, 2))
    table = np.concatenate([own_matrices.reshape(count, maps, 4), own_offsets], -1)
    table = table.astype(np.float32).reshape(count * maps, 6)
    first = (np.arange(count) * maps)[:, None]
    levels = np.cumsum(weights / weights.sum())[:-1]
    points = np.zeros((count, _WALKERS, 2), np.float32)
    seen = np.empty((_SEEN, count, _WALKERS, 2), np.float32)
    for step in range(_UNSEEN + _SEEN):
        chosen = np.searchsorted(levels, rng.random((count, _WALKERS)))
        a, b, c, d, e, f = np.moveaxis(table[first + chosen], -1, 0)
        x, y = points[..., 0], points[..., 1]
        points = np.stack([a * x + b * y + e, c * x + d * y + f], -1)
        if step >= _UNSEEN:
            seen[step - _UNSEEN] = points
    return _densities(np.moveaxis(seen, 0, 1).reshape(count, -1, 2), px)


def _densities(points: NDArray, px: int) -> NDArray:
    """How often each pixel was met, on a logarithmic scale, one picture per row of points."""
    low, high = np.quantile(points, [0.005, 0.995], axis=1)
    extent = np.maximum((high - low).max(-1), 1e-6)[:, None, None]
    centred = (points - ((low + high) / 2)[:, None]) / extent * (1 - 2 * _MARGIN) + 0.5
    cells = np.floor(centred * px).astype(np.int64)
    inside = ((cells >= 0) & (cells < px)).all(-1)
    flat = cells[..., 0] * px + cells[..., 1] + (np.arange(len(points)) * px * px)[:, None]
    counts = np.bincount(flat[inside], minlength=len(points) * px * px).reshape(-1, px * px)
    logs = np.log1p(counts)
    most = np.maximum(np.quantile(logs, 0.985, axis=1, keepdims=True), np.log(3.0))
    return np.round(255 * np.minimum(logs / most, 1)).astype(np.uint8).reshape(-1, px, px)

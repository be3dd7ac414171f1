"""Textures that fill the picture: bands of noise, gratings and cells.

A class fixes the kind, the frequency, the direction and the shape of the wave; its pictures differ
in phase and noise, and a little in frequency and direction.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_KINDS = ("noise", "noise", "grating", "grating", "cells")
_GRATINGS = ("line", "plaid", "rings", "spokes", "spiral", "checks", "chirp")
_WAVES = ("sine", "square", "saw", "thin")
_SHAPES = ("plain", "threshold", "ridges")


def draw(rng: np.random.Generator, count: int, px: int, varied: np.random.Generator) -> NDArray:
    """Pictures of one texture.

    Args:
        rng: draws the texture, the class.
        count: how many pictures.
        px: their height and width.
        varied: draws what differs between the pictures.

    Returns:
        uint8 ``(count, px, px)``.
    """
    kind = str(rng.choice(_KINDS))
    grey = {"noise": _noise, "grating": _grating, "cells": _cells}[kind](rng, count, px, varied)
    return np.round(255 * np.clip(grey, 0, 1)).astype(np.uint8)


def _jitter(varied: np.random.Generator, count: int, share: float) -> NDArray:
    return np.exp(varied.uniform(-share, share, (count, 1, 1)))


def _noise(rng: np.random.Generator, count: int, px: int, varied: np.random.Generator) -> NDArray:
    """White noise through a ring in the frequency plane, along all directions or around one."""
    centre = np.exp(rng.uniform(np.log(2.0), np.log(18.0)))
    width = float(rng.choice([0.2, 0.7]))
    direction = rng.uniform(0, np.pi)
    tightness = float(rng.choice([0.0, 0.0, 3.0, 10.0]))
    shape = str(rng.choice(_SHAPES))
    fy = np.fft.fftfreq(px, 1 / px)[:, None]
    fx = np.fft.rfftfreq(px, 1 / px)[None, :]
    radius = np.hypot(fy, fx) + 1e-6
    own = centre * _jitter(varied, count, 0.1)
    ring = np.exp(-((np.log(radius / own) / width) ** 2) / 2)
    turned = direction + varied.uniform(-0.15, 0.15, (count, 1, 1))
    ring = ring * np.exp(tightness * (np.cos(2 * (np.arctan2(fy, fx) - turned)) - 1))
    white = np.fft.rfft2(varied.normal(size=(count, px, px)))
    grey = np.fft.irfft2(white * ring, s=(px, px))
    grey = grey / (grey.std((1, 2), keepdims=True) + 1e-9)
    if shape == "plain":
        return 0.5 + 0.22 * grey
    if shape == "threshold":
        return 0.5 + 2 * (grey - 0.3)
    return 1 - np.abs(grey) * 1.2


def _grating(rng: np.random.Generator, count: int, px: int, varied: np.random.Generator) -> NDArray:
    kind, wave = str(rng.choice(_GRATINGS)), str(rng.choice(_WAVES))
    cycles = np.exp(rng.uniform(np.log(2.5), np.log(16.0)))
    own = cycles * _jitter(varied, count, 0.1)
    angle = rng.uniform(0, np.pi) + varied.uniform(-0.12, 0.12, (count, 1, 1))
    phase = varied.uniform(0, 1, (count, 1, 1))
    axis = (np.arange(px) + 0.5) / px - 0.5
    y, x = axis[:, None], axis[None, :]
    along = x * np.cos(angle) + y * np.sin(angle)
    across = y * np.cos(angle) - x * np.sin(angle)
    dy, dx = varied.uniform(-0.25, 0.25, (2, count, 1, 1))
    radius, turn = np.hypot(y - dy, x - dx), np.arctan2(y - dy, x - dx) / (2 * np.pi)
    arms = max(2, round(cycles))
    if kind == "plaid":
        other = varied.uniform(0, 1, (count, 1, 1))
        return (_wave(along * own + phase, wave) + _wave(across * own + other, wave)) / 2
    if kind == "checks":
        return _wave(along * own + phase, "square") != _wave(across * own + phase, "square")
    place = {
        "line": along * own,
        "rings": radius * own,
        "spokes": turn * arms,
        "spiral": radius * own + turn * min(arms, 4),
        "chirp": own * (along + 0.6 * along**2 * np.sign(along)),
    }[kind]
    return _wave(place + phase, wave)


def _wave(place: NDArray, wave: str) -> NDArray:
    if wave == "sine":
        return 0.5 + 0.5 * np.sin(2 * np.pi * place)
    within = place % 1.0
    if wave == "square":
        return np.where(within < 0.5, 1.0, 0.0)
    return within if wave == "saw" else np.where(within < 0.2, 1.0, 0.0)


def _cells(rng: np.random.Generator, count: int, px: int, varied: np.random.Generator) -> NDArray:
    """Distances to the points of a jittered grid (Worley 1996): dots, cells or their borders."""
    across = int(rng.integers(3, 10))
    loose = float(rng.choice([0.05, 0.3, 0.8]))
    shown = str(rng.choice(["dots", "near", "borders", "tiles"]))
    brick = bool(rng.integers(2))
    stretch = float(np.exp(rng.uniform(-0.6, 0.6)))
    pictures = np.empty((count, px, px))
    axis = np.arange(px) / px
    for number in range(count):
        rows, columns = np.mgrid[-1 : across + 1, -1 : across + 1].astype(float)
        columns += 0.5 * (rows % 2) * brick
        grid = np.stack([rows, columns], -1).reshape(-1, 2)
        grid = (grid + 0.5 + loose * varied.uniform(-0.5, 0.5, grid.shape)) / across
        grid += varied.uniform(-0.5, 0.5, 2) / across
        dy = (axis[:, None, None] - grid[:, 0]) * stretch
        apart = np.sqrt(dy**2 + (axis[None, :, None] - grid[:, 1]) ** 2) * across
        nearest = np.partition(apart, 1, axis=-1)[..., :2]
        if shown == "dots":
            grey = 4 * (0.33 - nearest[..., 0]) + 0.5
        elif shown == "near":
            grey = nearest[..., 0] * 1.3
        elif shown == "borders":
            grey = 5 * (0.18 - (nearest[..., 1] - nearest[..., 0])) + 0.5
        else:
            shades = varied.uniform(0, 1, len(grid))
            grey = shades[apart.argmin(-1)]
        pictures[number] = grey
    return pictures

"""Which classes there are, and the pictures of one class, kept on disk."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from . import fractals, outlines, strokes, textures

FAMILIES = {"fractals": fractals, "textures": textures, "outlines": outlines, "strokes": strokes}
"""Modules with a ``draw(rng, count, px, varied)``."""

COUNTS = {"fractals": 120, "textures": 90, "outlines": 110, "strokes": 160}
"""Classes of each family."""


@dataclass(frozen=True, slots=True)
class FormulaClass:
    """One class of pictures.

    Attributes:
        family: which module draws it.
        number: which of the family's.
    """

    family: str
    number: int

    def draw(self, count: int, px: int, seed: int) -> NDArray[np.uint8]:
        """Its pictures.

        Args:
            count: how many.
            px: height and width.
            seed: the same seed gives the same pictures.

        Returns:
            uint8 ``(count, px, px)``, light on black.

        Example:
            >>> FormulaClass("strokes", 3).draw(2, 32, seed=0).shape
            (2, 32, 32)
        """
        key = (seed, list(FAMILIES).index(self.family), self.number)
        chosen, varied = np.random.default_rng((*key, 0)), np.random.default_rng((*key, 1))
        return FAMILIES[self.family].draw(chosen, count, px, varied)


def classes(counts: dict[str, int] | None = None) -> tuple[FormulaClass, ...]:
    """Every class, family after family.

    Args:
        counts: classes of each family, `COUNTS` if not given.

    Example:
        >>> len(classes())
        480
    """
    counts = COUNTS if counts is None else counts
    return tuple(FormulaClass(f, number) for f in counts for number in range(counts[f]))


def rendered(
    folder: Path, wanted: tuple[FormulaClass, ...], *, count: int, px: int, seed: int
) -> Iterator[NDArray[np.uint8]]:
    """The pictures of each class, drawn or taken from the folder where they were drawn before.

    Args:
        folder: a file per class is kept there; an interrupted rendering goes on where it was.
        wanted: the classes.
        count: pictures of each.
        px: their height and width.
        seed: see `FormulaClass.draw`.

    Yields:
        uint8 ``(count, px, px)``, class after class.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for one in wanted:
        path = folder / f"{one.family}-{one.number}-{count}x{px}-{seed}.npy"
        if not path.exists():
            partial = path.with_suffix(f".{os.getpid()}.partial")
            with partial.open("wb") as file:
                np.save(file, one.draw(count, px, seed))
            partial.replace(path)
        yield np.load(path)

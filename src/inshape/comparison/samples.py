"""The pictures that candidates are measured on, decoded once per size and number of channels."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.batches import Batches
from ..data.catalogue import Catalogue
from ..data.prepare import Preparation
from ..errors import DataError
from ..shapes import InputShape
from .probe import folds_of
from .store import CandidateStore, without

_FIRST_ROUND = 800
_LEAST = 10
_CHUNK = 256


class Samples:
    """The readable pictures in the order in which the rounds take them.

    Attributes:
        catalogue: those that can be read.
        first: how many of them the first round takes; all of them if there is one round only.
        seconds: spent on decoding.
    """

    def __init__(self, catalogue: Catalogue, seed: int, store: CandidateStore) -> None:
        """Nothing is decoded before it is asked for.

        Args:
            catalogue: labelled pictures.
            seed: of the order.
            store: knows which pictures an earlier call could not read.
        """
        self.seconds = 0.0
        self._seed = seed
        self._store = store
        self._kept: dict[InputShape, NDArray[Any]] = {}
        self._known = store.unreadable()
        self._take(without(catalogue, self._known or frozenset()))

    @property
    def labels(self) -> NDArray[np.int32]:
        """Their classes, in the rounds' order."""
        return self.catalogue.labels[self._order]

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return len(self.catalogue.class_names)

    def folds(self, count: int) -> list[NDArray[np.intp]]:
        """Held-out rows of the folds of the first pictures, copies of a picture in one of them.

        Args:
            count: how many pictures, in the rounds' order.
        """
        rows = self._order[:count]
        return folds_of(self.catalogue.labels[rows], self._seed, self.catalogue.contents[rows])

    def find_readable(self, shapes: Sequence[InputShape]) -> None:
        """Leave out what cannot be read, unless an earlier call knew.

        Args:
            shapes: at the first of these that fits the pictures they are decoded to find out.

        Raises:
            DataError: if more than 5 % or a whole class cannot be read, or no shape fits.
        """
        problem: DataError | None = None
        for shape in shapes if self._known is None else ():
            try:
                self.at(shape)
                break
            except DataError as error:
                problem = problem or error
        else:
            if problem is not None:
                raise problem
        self.folds(len(self.catalogue))  # refuses what is left too small

    def at(self, shape: InputShape) -> NDArray[Any]:
        """All pictures at a static shape.

        Args:
            shape: height, width and channels.

        Returns:
            ``(pictures, *shape)`` in [0, 255], as bytes where that loses nothing.
        """
        if shape not in self._kept:
            begun = time.perf_counter()
            batches = Batches.open(self.catalogue, Preparation.of(shape))
            if len(batches.catalogue) != len(self.catalogue):
                self._take(batches.catalogue)
                self._kept.clear()
            if self._known is None:
                self._known = frozenset(s.name for s in batches.skipped)
                self._store.keep_unreadable(sorted(self._known))
            size = tuple(int(n or 0) for n in shape.as_tuple())
            made = np.empty((len(batches), *size), batches.kind)
            place = np.empty(len(batches), np.intp)
            place[self._order] = np.arange(len(batches))
            done = 0
            for pixels, _ in batches.iterate(None, _CHUNK):
                made[place[done : done + len(pixels)]] = pixels
                done += len(pixels)
            self._kept[shape] = made
            self.seconds += time.perf_counter() - begun
        return self._kept[shape]

    def _take(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self._order, self.first = rounds(catalogue.labels, self._seed)


def rounds(labels: NDArray[np.integer[Any]], seed: int) -> tuple[NDArray[np.intp], int]:
    """The order of pictures in which the first ones are a sample of every class.

    Args:
        labels: class numbers.
        seed: of the draws.

    Returns:
        Row numbers, and how many of them are for the first round: about 800, the same share of
        every class, but ten pictures of each where it has so many.

    Example:
        >>> order, first = rounds(np.arange(2000) % 2, 0)
        >>> first, np.bincount(order[:first] % 2).tolist()
        (800, [400, 400])
    """
    rng = np.random.default_rng([seed, 1])
    order = rng.permutation(len(labels))
    share = min(1.0, _FIRST_ROUND / max(1, len(labels)))
    first: list[int] = []
    for label in np.unique(labels):
        own = order[labels[order] == label]
        first += own[: max(_LEAST, math.ceil(share * len(own)))].tolist()
    rest = order[~np.isin(order, first)]
    return np.concatenate([np.array(first, np.intp), rest]), len(first)

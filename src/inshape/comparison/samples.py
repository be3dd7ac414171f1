"""The pictures that candidates are measured on, decoded once per size and number of channels."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.batches import Batches
from ..data.catalogue import Catalogue
from ..errors import DataError
from ..features.places import draw_places
from ..shapes import InputShape
from ..tasks.task import Labels
from .measure import Round
from .probe import probe_folds
from .request import CompareRequest
from .store import CandidateStore

_FIRST_ROUND = 800
_LEAST = 10
_CHUNK = 256


class Samples:
    """The readable pictures in the order in which the rounds take them."""

    catalogue: Catalogue
    """Those that can be read."""
    first: int
    """How many of them the first round takes; all of them if there is one round only."""
    seconds: float
    """Spent on decoding."""

    def __init__(
        self, catalogue: Catalogue, request: CompareRequest, store: CandidateStore
    ) -> None:
        """Take labelled pictures; none is decoded before it is needed."""
        self.seconds = 0.0
        self._seed = request.seed
        self._options = request.picture_options
        self._store = store
        self._decoded: dict[InputShape, tuple[NDArray[Any], Labels]] = {}
        lies = bool(catalogue.task.lies_as)
        self._places = draw_places(len(catalogue), request.seed) if lies else None
        self._unreadable = store.load_unreadable()
        missing = self._unreadable or frozenset[str]()
        self._take(
            catalogue.take([i for i, name in enumerate(catalogue.names) if name not in missing])
        )

    def round_of(self, count: int, shape: InputShape) -> Round:
        """The labels of the first pictures at a static shape, and their folds."""
        _, labels = self._at(shape)
        return Round(self.catalogue.task.probed(), labels[:count], self.folds(count), self._places)

    def folds(self, count: int) -> list[NDArray[np.intp]]:
        """Of the first pictures, the rows that are held out together.

        Raises:
            DataError: if there are too few.
        """
        return probe_folds(self.catalogue.take(self._order[:count]), self._seed)

    def find_readable(self, shapes: Iterable[InputShape]) -> None:
        """Leave out what cannot be read, unless an earlier call knew.

        To find out, the pictures are decoded at the first of these shapes that fits them.

        Raises:
            DataError: if more than 5 % or a whole class cannot be read, or no shape fits.
        """
        problem: DataError | None = None
        for shape in shapes if self._unreadable is None else ():
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
        """All pictures at a static shape, in [0, 255], as bytes where that loses nothing."""
        return self._at(shape)[0]

    def _at(self, shape: InputShape) -> tuple[NDArray[Any], Labels]:
        """The pictures, and what a probe has to answer of each."""
        if shape not in self._decoded:
            begun = time.perf_counter()
            batches = Batches.open(self.catalogue, self._options.at(shape))
            if len(batches.catalogue) != len(self.catalogue):
                self._take(batches.catalogue)
                self._decoded.clear()
            if self._unreadable is None:
                self._unreadable = frozenset(s.name for s in batches.skipped)
                self._store.save_unreadable(self._unreadable)
            pictures = np.empty((len(batches), *shape.as_static_tuple()), batches.kind)
            place = np.empty(len(batches), np.intp)
            place[self._order] = np.arange(len(batches))
            parts: list[Labels] = []
            for pixels, labels in batches.iterate(None, _CHUNK):
                start = sum(map(len, parts))
                pictures[place[start : start + len(pixels)]] = pixels
                if self._places is not None:
                    labels = batches.catalogue.task.at_places(labels, self._places)
                parts.append(labels)
            self._decoded[shape] = pictures, np.concatenate(parts)[self._order]
            self.seconds += time.perf_counter() - begun
        return self._decoded[shape]

    def _take(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self._order, self.first = order_of(catalogue.strata, self._seed)


def order_of(labels: NDArray[np.integer[Any]], seed: int) -> tuple[NDArray[np.intp], int]:
    """The order of pictures in which the first ones are a sample of every class.

    The first round takes about 800, the same share of every class, but ten pictures of each where
    it has so many.

    Example:
        >>> order, first = order_of(np.arange(2000) % 2, 0)
        >>> first, np.bincount(order[:first] % 2).tolist()
        (800, [400, 400])
    """
    rng = np.random.default_rng([seed, 1])
    order = rng.permutation(len(labels))
    share = min(1.0, _FIRST_ROUND / max(1, len(labels)))
    first: list[int] = []
    for label in np.unique(labels):
        of_class = order[labels[order] == label]
        first += of_class[: max(_LEAST, math.ceil(share * len(of_class)))].tolist()
    rest = order[~np.isin(order, first)]
    return np.concatenate([np.array(first, np.intp), rest]), len(first)

"""The probe's folds, the same for every candidate, and what its answers say of two candidates."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom
from sklearn.model_selection import KFold, StratifiedKFold

from ..data.catalogue import Catalogue
from ..errors import DataError
from ..text import plural

FOLDS = 5
LEVEL = 0.025
"""The probability of calling answers worse that are as good, one-sided."""


def folds_of(
    labels: NDArray[np.integer[Any]], seed: int, contents: NDArray[Any] | None = None
) -> list[NDArray[np.intp]]:
    """Row numbers that are held out together, stratified, the same for the same pictures and seed.

    There are five folds, or as many as the largest class has pictures; a class of fewer stands in
    some of them. ``contents`` is a hash of each picture; without it no two are the same.

    Raises:
        DataError: if a class has fewer than two different pictures.

    Example:
        >>> labels, contents = np.array([0, 0, 0, 0, 1, 1]), np.array([*"ababcd"], "S1")
        >>> sorted(rows.tolist() for rows in folds_of(labels, 0, contents))
        [[0, 2, 5], [1, 3, 4]]
    """
    # Copies of a picture stand in one fold, or the classifier would be tested on what it was fitted
    # to.
    group = _number_contents(len(labels), contents)
    different = _count_different(labels, group)
    firsts = np.unique(group, return_index=True)[1]
    splitter = StratifiedKFold(min(FOLDS, max(different)), shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of classes with fewer pictures than folds
        held_out = [rows for _, rows in splitter.split(firsts, labels[firsts])]
    return [np.flatnonzero(np.isin(group, rows)) for rows in held_out]


def probe_folds(catalogue: Catalogue, seed: int) -> list[NDArray[np.intp]]:
    """The folds of pictures by their classes, or of those whose labels lie on them as they come.

    Raises:
        DataError: if there are too few pictures.
    """
    if not catalogue.task.lies_as:
        return folds_of(catalogue.strata, seed, catalogue.contents)
    group = _number_contents(len(catalogue), catalogue.contents)
    different = np.unique(group)
    if len(different) < FOLDS:
        raise DataError(
            f"{plural(len(different), 'different picture')}; expected {FOLDS} or more to compare "
            "on; add pictures"
        )
    splitter = KFold(FOLDS, shuffle=True, random_state=seed)
    return [np.flatnonzero(np.isin(group, rows)) for _, rows in splitter.split(different)]


def _number_contents(count: int, contents: NDArray[Any] | None) -> NDArray[np.intp]:
    """The same number for copies of a picture, in the order in which they are first met."""
    if contents is None:
        return np.arange(count)
    names = [content.tobytes() for content in contents]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return np.array([numbers[name] for name in names], np.intp)


def _count_different(labels: NDArray[np.integer[Any]], group: NDArray[np.intp]) -> list[int]:
    """How many different pictures each class has, two at least."""
    classes = np.unique(labels)
    different = [len(np.unique(group[labels == label])) for label in classes]
    fewest = min(different, default=0)
    if len(classes) > 1 and fewest > 1:
        return different
    pictures = int((labels == classes[different.index(fewest)]).sum()) if different else 0
    copies = ", all of them copies of one" if pictures > fewest else ""
    raise DataError(
        f"a class with {plural(pictures, 'picture')}{copies}, of "
        f"{plural(len(classes), 'class', 'classes')}; expected two classes or "
        "more with at least two different pictures each; add pictures or leave the class out"
    )


def is_worse(scores: Sequence[float], than: Sequence[float], *, level: float = LEVEL) -> bool:
    """Whether answers are significantly worse than others to the same pictures.

    ``level`` is the probability of saying so by chance.

    Example:
        >>> is_worse([0, 1] * 50, [1] * 100), is_worse([0, 1] * 50, [0, 1] * 50)
        (True, False)
    """
    # Only pictures that one answered better than the other tell them apart; under chance either is
    # as likely: the sign test, which for right and wrong is McNemar's in its exact form
    # (Psychometrika 12, 1947).
    difference = np.asarray(scores, float) - np.asarray(than, float)
    lost, won = int((difference < 0).sum()), int((difference > 0).sum())
    return bool(binom.sf(lost - 1, lost + won, 0.5) < level)


def is_close(scores: Sequence[float], to: Sequence[float]) -> bool:
    """Whether answers are as good as others within one standard error of the difference.

    Example:
        >>> best = [1] * 90 + [0] * 10
        >>> is_close([1] * 89 + [0] * 11, best), is_close([1] * 80 + [0] * 20, best)
        (True, False)
    """
    # The rule by which the simplest of several models is taken (Breiman and others, Classification
    # and Regression Trees, 1984, 3.4.3). A test would call much worse answers to few pictures as
    # good, since it cannot show the opposite.
    difference = np.asarray(scores, float) - np.asarray(to, float)
    error = float(difference.std(ddof=1)) / len(difference) ** 0.5
    return bool(difference.mean() >= -error * (1 + 1e-9))

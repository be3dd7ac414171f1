"""The probe: a linear classifier on frozen features, on the same folds for every candidate."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom
from sklearn.model_selection import StratifiedKFold

from ..errors import DataError
from ..evaluation.metrics import Score

FOLDS = 5
LEVEL = 0.025
"""The probability of calling answers worse that are as good, one-sided."""

_RESAMPLES = 2000


def folds_of(
    labels: NDArray[np.integer[Any]], seed: int, contents: NDArray[Any] | None = None
) -> list[NDArray[np.intp]]:
    """Held-out rows of each fold, stratified, the same for the same pictures and seed.

    Copies of a picture stand in one fold, or the classifier would be asked what it was told.

    Args:
        labels: class numbers.
        seed: of the shuffling.
        contents: a hash of each picture; by default no two are the same.

    Returns:
        Row numbers of five folds, or of as many as the largest class has pictures. A class of
        fewer stands in some of them.

    Raises:
        DataError: if a class has fewer than two different pictures.

    Example:
        >>> labels, contents = np.array([0, 0, 0, 0, 1, 1]), np.array([*"ababcd"], "S1")
        >>> sorted(rows.tolist() for rows in folds_of(labels, 0, contents))
        [[0, 2, 5], [1, 3, 4]]
    """
    names = [*range(len(labels))] if contents is None else [c.tobytes() for c in contents]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    group = np.array([numbers[name] for name in names], np.intp)
    classes = np.unique(labels)
    pictures = [int((labels == label).sum()) for label in classes]
    different = [len(np.unique(group[labels == label])) for label in classes]
    fewest = min(different, default=0)
    if len(classes) < 2 or fewest < 2:
        held = pictures[different.index(fewest)] if pictures else 0
        copies = ", all of them copies of one" if held > fewest else ""
        raise DataError(
            f"a class with {held} pictures{copies}, of {len(classes)} classes; expected two "
            "classes or more with at least two different pictures each; add pictures or leave the "
            "class out"
        )
    firsts = np.unique(group, return_index=True)[1]
    splitter = StratifiedKFold(min(FOLDS, max(different)), shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of classes with fewer pictures than folds
        held_out = [held for _, held in splitter.split(firsts, labels[firsts])]
    return [np.flatnonzero(np.isin(group, held)) for held in held_out]


def accuracy_of(right: NDArray[np.bool_], seed: int = 0) -> Score:
    """The share of right answers with its bootstrap interval.

    Args:
        right: of each picture.
        seed: of the draws.
    """
    draws = _drawn(right.astype(float), seed)
    low, high = np.quantile(draws, [0.025, 0.975])
    return Score(float(right.mean()), float(low), float(high))


def is_worse(right: NDArray[np.bool_], than: NDArray[np.bool_], *, level: float = LEVEL) -> bool:
    """Whether answers are significantly worse than others to the same pictures.

    Only pictures that one answered rightly and the other did not tell them apart; under chance
    either is as likely (McNemar's test in its exact form, Psychometrika 12, 1947).

    Args:
        right: of each picture.
        than: the others'.
        level: the probability of saying so by chance, in (0, 1).

    Returns:
        Whether they are.

    Example:
        >>> worse = np.arange(100) % 2 == 0
        >>> is_worse(worse, np.ones(100, bool)), is_worse(worse, worse)
        (True, False)
    """
    lost, won = int((than & ~right).sum()), int((right & ~than).sum())
    return bool(binom.sf(lost - 1, lost + won, 0.5) < level)


def is_close(right: NDArray[np.bool_], to: NDArray[np.bool_]) -> bool:
    """Whether answers are as good as others within one standard error of the difference.

    The rule by which the simplest of several models is taken (Breiman and others, Classification
    and Regression Trees, 1984, 3.4.3). A test would call much worse answers to few pictures as
    good, since it cannot show the opposite.

    Args:
        right: of each picture.
        to: the others'.

    Returns:
        Whether they are.

    Example:
        >>> best = np.arange(100) < 90
        >>> is_close(np.arange(100) < 89, best), is_close(np.arange(100) < 80, best)
        (True, False)
    """
    difference = right.astype(float) - to.astype(float)
    error = float(difference.std(ddof=1)) / len(difference) ** 0.5
    return bool(difference.mean() >= -error * (1 + 1e-9))


def _drawn(values: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    return np.array(
        [values[rng.integers(len(values), size=len(values))].mean() for _ in range(_RESAMPLES)]
    )

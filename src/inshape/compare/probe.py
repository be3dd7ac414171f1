"""The probe: a linear classifier on frozen features, on the same folds for every candidate."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from ..errors import DataError
from ..evaluate.metrics import Score

FOLDS = 5
_STRENGTH = 30.0
_ITERATIONS = 150
_RESAMPLES = 2000


def folds_of(labels: NDArray[np.integer[Any]], seed: int) -> list[NDArray[np.intp]]:
    """Held-out rows of each fold, stratified, the same for the same labels and seed.

    Args:
        labels: class numbers.
        seed: of the shuffling.

    Returns:
        Row numbers per fold; as many folds as the rarest class has pictures, from 2 to 5.

    Raises:
        DataError: if a class has fewer than two pictures.
    """
    counts = np.unique(labels, return_counts=True)[1]
    if len(counts) < 2 or counts.min() < 2:
        raise DataError(
            f"a class with {counts.min() if len(counts) else 0} pictures, of {len(counts)} "
            "classes; expected two classes or more with at least two pictures each; add pictures "
            "or leave the class out"
        )
    splitter = StratifiedKFold(min(FOLDS, int(counts.min())), shuffle=True, random_state=seed)
    return [held for _, held in splitter.split(np.zeros(len(labels)), labels)]


def probed(
    features: NDArray[np.floating[Any]],
    labels: NDArray[np.integer[Any]],
    folds: list[NDArray[np.intp]],
) -> NDArray[np.bool_]:
    """Which pictures a regularised logistic regression answers rightly when they are held out.

    Args:
        features: ``(pictures, features)``.
        labels: class numbers.
        folds: held-out rows.

    Returns:
        ``(pictures,)``.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> labels = np.arange(40) % 2
        >>> rows = labels[:, None] * 4.0 + rng.normal(size=(40, 3))
        >>> probed(rows, labels, folds_of(labels, 0)).mean() > 0.9
        np.True_
    """
    right = np.zeros(len(labels), bool)
    for held in folds:
        kept = np.setdiff1d(np.arange(len(labels)), held)
        model = make_pipeline(
            StandardScaler(),
            LogisticRegression(C=_STRENGTH / len(kept), max_iter=_ITERATIONS, tol=1e-3),
        )
        # More threads only get in the way of matrices with so few columns.
        with warnings.catch_warnings(), threadpool_limits(1):
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(features[kept], labels[kept])
        right[held] = model.predict(features[held]) == labels[held]
    return right


def accuracy_of(right: NDArray[np.bool_], seed: int = 0) -> Score:
    """The share of right answers with its bootstrap interval.

    Args:
        right: of each picture.
        seed: of the draws.
    """
    draws = _drawn(right.astype(float), seed)
    low, high = np.quantile(draws, [0.025, 0.975])
    return Score(float(right.mean()), float(low), float(high))


def is_worse(right: NDArray[np.bool_], than: NDArray[np.bool_], seed: int = 0) -> bool:
    """Whether answers are significantly worse than others to the same pictures.

    Args:
        right: of each picture.
        than: the others'.
        seed: of the draws.

    Returns:
        Whether 97.5 % of the paired bootstrap's differences are below zero.

    Example:
        >>> worse = np.arange(100) % 2 == 0
        >>> is_worse(worse, np.ones(100, bool)), is_worse(worse, worse)
        (True, False)
    """
    difference = right.astype(float) - than.astype(float)
    return bool(np.quantile(_drawn(difference, seed), 0.975) < 0)


def _drawn(values: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    return np.array(
        [values[rng.integers(len(values), size=len(values))].mean() for _ in range(_RESAMPLES)]
    )

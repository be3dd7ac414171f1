"""A number measured on pictures, with its bootstrap interval."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LEVEL = 0.95
_DRAWN_AT_ONCE = 2**18
"""Pictures whose numbers stay in the processor's cache."""


@dataclass(frozen=True, slots=True)
class Score:
    """A number and the interval that holds 95 % of its bootstrap resamples."""

    value: float
    low: float
    high: float

    def as_dict(self) -> dict[str, float | None]:
        """Plain values for JSON, which has no NaN."""
        values = {"value": self.value, "low": self.low, "high": self.high}
        return {name: None if np.isnan(v) else round(v, 6) for name, v in values.items()}

    def __str__(self) -> str:
        if np.isnan(self.value):
            return "-"
        return f"{self.value:.3f}  [{self.low:.3f}, {self.high:.3f}]"


def mean_score(values: NDArray[Any], *, resamples: int = 1000, seed: int = 0) -> Score:
    """The mean of one value per picture; what is NaN is left out, and of no values it is NaN.

    Example:
        >>> mean_score(np.array([True, False, True, True])).value
        0.75
    """
    numbers = np.asarray(values, np.float64)
    numbers = numbers[~np.isnan(numbers)]
    if not len(numbers):
        return Score(float("nan"), float("nan"), float("nan"))
    (score,) = with_intervals(
        lambda rows: numbers[rows].mean(axis=-1)[None], len(numbers), resamples=resamples, seed=seed
    )
    return score


def with_intervals(
    statistics: Callable[[NDArray[np.integer[Any]]], NDArray[np.float64]],
    pictures: int,
    *,
    resamples: int,
    seed: int,
) -> list[Score]:
    """Scores with percentile intervals (Efron and Tibshirani 1993, chapter 13).

    ``statistics`` maps rows of picture numbers, ``(draws, pictures)``, to ``(scores, draws)``.
    """
    values = statistics(np.arange(pictures)[None])[:, 0]
    if pictures == 1:  # SciPy refuses it; all its draws are the same
        return [Score(float(v), float(v), float(v)) for v in values]

    from scipy.stats import bootstrap  # slow to import

    def of_draws(rows: NDArray[np.integer[Any]], axis: int) -> NDArray[np.float64]:
        return statistics(rows)

    with warnings.catch_warnings():
        # Of draws without a value, which are left out below, and of the spread of a single draw.
        warnings.simplefilter("ignore", RuntimeWarning)
        draws = bootstrap(
            (np.arange(pictures),),
            of_draws,
            n_resamples=resamples,
            batch=max(1, _DRAWN_AT_ONCE // pictures),
            vectorized=True,
            method="percentile",
            rng=np.random.default_rng(seed),
        ).bootstrap_distribution
    return [_as_score(value, row) for value, row in zip(values, draws, strict=True)]


def _as_score(value: float, draws: NDArray[np.float64]) -> Score:
    # A class has no recall in a draw without a picture of it: the interval is of the other draws.
    known = draws[~np.isnan(draws)]
    if np.isnan(value) or not len(known):
        return Score(float(value), float("nan"), float("nan"))
    low, high = np.quantile(known, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return Score(float(value), float(low), float(high))

"""Scores of a classifier on labelled pictures, each with a bootstrap interval."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError

_LEVEL = 0.95
_BINS = 15
_DRAWN_AT_ONCE = 2**18
"""Pictures whose numbers stay in the processor's cache."""
_TOP = 5
_MIN_CLASSES_FOR_TOP = 10


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


@dataclass(frozen=True, slots=True)
class ClassScores:
    """How well one class is recognised."""

    name: str
    pictures: int
    """How many of it there are."""
    precision: Score
    """Share of it among the pictures that were taken for it; NaN if none was."""
    recall: Score
    """Share of its pictures that were recognised; NaN if there are none."""


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """All scores on a set of pictures."""

    pictures: int
    accuracy: Score
    """Share of pictures whose most probable class is the right one (top-1)."""
    top5: Score | None
    """Share of pictures with the right class among the five most probable; from ten classes on."""
    balanced_accuracy: Score
    """Mean recall of the classes that occur."""
    macro_f1: Score
    """Mean F1 of the classes that occur or are guessed."""
    calibration_error: Score
    """Expected calibration error of the most probable class, 15 bins of equal width (Guo et al.,
    arXiv 1706.04599). Its resamples lie a little higher than the value."""
    classes: tuple[ClassScores, ...]
    confusion: NDArray[np.int64]
    """Counts ``(right class, guessed class)``."""
    reliability: NDArray[np.float64]
    """Pictures, mean probability of the guess, and accuracy in each of 15 bins of probability,
    ``(15, 3)``; NaN in an empty bin."""


def score(
    probabilities: NDArray[np.floating[Any]],
    labels: NDArray[np.integer[Any]],
    class_names: Sequence[str],
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> Scores:
    """Score the probabilities of pictures, ``(pictures, classes)``, whose class numbers are known.

    Raises:
        DataError: if there are no pictures, or the numbers do not fit each other.

    Example:
        >>> scores = score(np.eye(2)[[0, 1, 1, 1]], np.array([0, 0, 1, 1]), ["cat", "dog"])
        >>> scores.accuracy.value, scores.confusion.tolist()
        (0.75, [[1, 1], [0, 2]])
    """
    count, classes = len(labels), len(class_names)
    if not count:
        raise DataError("no pictures to score; expected at least one; check the source")
    if probabilities.shape != (count, classes):
        raise DataError(
            f"probabilities of shape {probabilities.shape}; expected {(count, classes)} for "
            f"{count} pictures and {classes} classes; evaluate with the classes of the training"
        )
    statistics = _statistics(np.asarray(probabilities, np.float64), np.asarray(labels), classes)
    scores = _bootstrap(statistics, count, resamples=resamples, seed=seed)
    accuracy, balanced, f1, calibration, top5 = scores[:5]
    right, guessed = np.asarray(labels), probabilities.argmax(axis=1)
    confusion = np.bincount(right * classes + guessed, minlength=classes**2)
    confusion = confusion.reshape(classes, classes)
    return Scores(
        pictures=count,
        accuracy=accuracy,
        top5=top5 if classes >= _MIN_CLASSES_FOR_TOP else None,
        balanced_accuracy=balanced,
        macro_f1=f1,
        calibration_error=calibration,
        classes=tuple(
            ClassScores(name, int(total), precision, recall)
            for name, total, precision, recall in zip(
                class_names,
                confusion.sum(axis=1),
                scores[5 : 5 + classes],
                scores[5 + classes :],
                strict=True,
            )
        ),
        confusion=confusion,
        reliability=_reliability(probabilities.max(axis=1), guessed == right),
    )


def _reliability(
    confidence: NDArray[np.floating[Any]], is_right: NDArray[np.bool_]
) -> NDArray[np.float64]:
    bins = _bins(confidence)
    count = np.bincount(bins, minlength=_BINS)
    with np.errstate(invalid="ignore"):
        means = [np.bincount(bins, v, _BINS) / count for v in (confidence, is_right)]
    return np.stack([count.astype(np.float64), *means], axis=1)


def _bins(confidence: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
    # The last bin is closed, so that a confidence of 1 belongs to it.
    return np.minimum((confidence * _BINS).astype(int), _BINS - 1)


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
    (score,) = _bootstrap(
        lambda rows: numbers[rows].mean(axis=-1)[None], len(numbers), resamples=resamples, seed=seed
    )
    return score


def _bootstrap(
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


def _statistics(
    probabilities: NDArray[np.float64], labels: NDArray[Any], classes: int
) -> Callable[[NDArray[np.integer[Any]]], NDArray[np.float64]]:
    """A function from picture numbers, ``(draws, pictures)``, to all scores of each draw."""
    guessed = probabilities.argmax(axis=1)
    confidence = probabilities.max(axis=1)
    is_right = guessed == labels
    bins = _bins(confidence)
    # Only what is above the label counts: a sort would put it anywhere among its equals.
    of_label = probabilities[np.arange(len(labels)), labels]
    in_top = (probabilities > of_label[:, None]).sum(axis=1) < _TOP

    def compute(rows: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
        def total(
            groups: NDArray[Any], count: int, weights: NDArray[Any] | None = None
        ) -> NDArray[np.float64]:
            # One bincount for all draws: each has its own run of ``count`` groups.
            cells = groups[rows] + count * np.arange(len(rows))[:, None]
            flat = None if weights is None else weights[rows].ravel()
            sums = np.bincount(cells.ravel(), flat, count * len(rows))
            return sums.reshape(len(rows), count).astype(np.float64)

        hits = total(labels, classes, is_right)
        actual, predicted = total(labels, classes), total(guessed, classes)
        with np.errstate(invalid="ignore", divide="ignore"):
            precision, recall = hits / predicted, hits / actual
            f1 = 2 * hits / (actual + predicted)
        # |accuracy - confidence| of a bin times its share is the sum of its gaps over all pictures.
        gaps = total(bins, _BINS, confidence - is_right)
        means = [
            is_right[rows].mean(axis=1),
            np.nanmean(recall, axis=1),
            np.nanmean(f1, axis=1),
            np.abs(gaps).sum(axis=1) / rows.shape[1],
            in_top[rows].mean(axis=1),
        ]
        return np.concatenate([np.stack(means), precision.T, recall.T])

    return compute


def as_probabilities(outputs: NDArray[np.float32], *, is_probability: bool) -> NDArray[np.float32]:
    """A classifier's outputs, ``(pictures, outputs)``, as ``(pictures, classes)``.

    A single output is that of the second of two classes. Rows sum to 1, except those of a sigmoid
    for each of several classes, which are left as they are.

    Example:
        >>> as_probabilities(np.array([[0.0, 0.0]], "float32"), is_probability=False).tolist()
        [[0.5, 0.5]]
        >>> as_probabilities(np.array([[0.25]], "float32"), is_probability=True).tolist()
        [[0.75, 0.25]]
    """
    if outputs.shape[1] == 1:
        from scipy.special import expit  # slow to import

        of_second = outputs if is_probability else expit(outputs)
        return np.concatenate([1 - of_second, of_second], axis=1)
    if is_probability:
        return outputs
    from scipy.special import softmax  # slow to import

    return softmax(outputs, axis=1)


def classify(
    ask: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    pictures: NDArray[np.float32],
    *,
    is_probability: bool,
    mirrored: bool = False,
) -> NDArray[np.float32]:
    """Probabilities of prepared pictures ``(pictures, height, width, channels)``.

    Of ``mirrored`` ones, the mean of each picture's and of its mirror image's.
    """
    ways = (pictures, pictures[:, :, ::-1]) if mirrored else (pictures,)
    answers = [as_probabilities(ask(way), is_probability=is_probability) for way in ways]
    return np.mean(answers, axis=0)

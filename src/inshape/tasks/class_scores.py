"""Scores of a classifier on labelled pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from .bootstrap import Score, with_intervals

_BINS = 15
_TOP = 5
_MIN_CLASSES_FOR_TOP = 10


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
class ClassificationScores:
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

    @property
    def main(self) -> Score:
        """The accuracy."""
        return self.accuracy

    def named(self) -> dict[str, Score]:
        """The scores of all pictures together."""
        known = {
            "accuracy": self.accuracy,
            "top-5 accuracy": self.top5,
            "balanced accuracy": self.balanced_accuracy,
            "macro F1": self.macro_f1,
            "calibration error": self.calibration_error,
        }
        return {name: score for name, score in known.items() if score is not None}

    @property
    def in_units(self) -> tuple[str, ...]:
        """None: all are shares."""
        return ()

    def by_output(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Precision and recall of each class."""
        rows = [(c.name, str(c.pictures), str(c.precision), str(c.recall)) for c in self.classes]
        return ("class", "pictures", "precision", "recall"), rows

    def as_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold."""
        return {
            "pictures": self.pictures,
            "accuracy": self.accuracy.as_dict(),
            "top5": None if self.top5 is None else self.top5.as_dict(),
            "balanced_accuracy": self.balanced_accuracy.as_dict(),
            "macro_f1": self.macro_f1.as_dict(),
            "calibration_error": self.calibration_error.as_dict(),
            "classes": [
                {
                    "name": c.name,
                    "pictures": c.pictures,
                    "precision": c.precision.as_dict(),
                    "recall": c.recall.as_dict(),
                }
                for c in self.classes
            ],
            "confusion": self.confusion.tolist(),
            "reliability": [
                {
                    "pictures": int(count),
                    "probability": None if np.isnan(mean) else round(float(mean), 6),
                    "accuracy": None if np.isnan(right) else round(float(right), 6),
                }
                for count, mean, right in self.reliability
            ],
        }


def score(
    probabilities: NDArray[np.floating[Any]],
    labels: NDArray[np.integer[Any]],
    class_names: Sequence[str],
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> ClassificationScores:
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
    scores = with_intervals(statistics, count, resamples=resamples, seed=seed)
    accuracy, balanced, f1, calibration, top5 = scores[:5]
    right, guessed = np.asarray(labels), probabilities.argmax(axis=1)
    confusion = np.bincount(right * classes + guessed, minlength=classes**2)
    confusion = confusion.reshape(classes, classes)
    return ClassificationScores(
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

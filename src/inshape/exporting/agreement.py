"""An exported file against the Keras model, picture by picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..evaluation.metrics import Score, mean_score


@dataclass(frozen=True, slots=True)
class Agreement:
    """How two sets of answers to the same pictures differ; see `ExportFile` for the fields."""

    pictures: int
    agreement: float
    accuracy: Score
    accuracy_change: Score
    max_difference: float
    mean_difference: float
    is_finite: bool


def compare_answers(
    answers: NDArray[np.floating[Any]],
    reference: NDArray[np.floating[Any]],
    labels: NDArray[np.integer[Any]],
    *,
    seed: int = 0,
) -> Agreement:
    """Agreement with Keras on all pictures, accuracy on those whose class is known (not below 0).

    Example:
        >>> eye = np.eye(2)
        >>> result = compare_answers(eye[[0, 1, 1, 1]], eye[[0, 1, 0, 1]], np.array([0, 1, 0, 0]))
        >>> result.agreement, result.accuracy.value, result.accuracy_change.value
        (0.75, 0.5, -0.25)
    """
    # argmax gives 0 for NaN, so that a file of NaN would agree on every picture of the first class.
    finite = np.isfinite(answers).all(axis=1)
    guesses = np.where(finite, answers.argmax(axis=1), -1)
    expected = reference.argmax(axis=1)
    known = labels >= 0
    right = (guesses == labels)[known].astype(float)
    change = right - (expected == labels)[known]
    difference = np.abs(np.asarray(answers, np.float64) - reference)
    return Agreement(
        pictures=len(answers),
        agreement=float((guesses == expected).mean()),
        # The same seed draws the same pictures for both: the change is a paired one.
        accuracy=mean_score(right, seed=seed),
        accuracy_change=mean_score(change, seed=seed),
        max_difference=float(difference.max()),
        mean_difference=float(difference.mean()),
        is_finite=bool(finite.all()),
    )

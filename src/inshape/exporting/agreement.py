"""An exported file against the Keras model, picture by picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..tasks.bootstrap import Score
from ..tasks.task import Labels, Task


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
    task: Task,
    answers: NDArray[np.floating[Any]],
    reference: NDArray[np.floating[Any]],
    labels: Labels,
    *,
    seed: int = 0,
) -> Agreement:
    """Agreement with Keras on all pictures, accuracy on those whose label is known.

    Example:
        >>> from inshape.tasks.classification import Classification
        >>> eye, task = np.eye(2), Classification(("a", "b"))
        >>> expected, labels = eye[[0, 1, 0, 1]], np.array([0, 1, 0, 0])
        >>> result = compare_answers(task, eye[[0, 1, 1, 1]], expected, labels)
        >>> result.agreement, result.accuracy.value, result.accuracy_change.value
        (0.75, 0.5, -0.25)
    """
    # The largest of NaN is the first, so that a file of NaN would agree on every picture of it.
    finite = np.isfinite(answers.reshape(len(answers), -1)).all(axis=1)
    known = task.is_known(labels)
    accuracy, change = task.compare(answers[known], reference[known], labels[known], seed=seed)
    difference = np.abs(np.asarray(answers, np.float64) - reference)
    return Agreement(
        pictures=len(answers),
        agreement=float((finite & task.is_same(answers, reference)).mean()),
        accuracy=accuracy,
        accuracy_change=change,
        max_difference=float(difference.max()),
        mean_difference=float(difference.mean()),
        is_finite=bool(finite.all()),
    )

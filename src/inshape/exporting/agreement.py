"""An exported file against the Keras model, picture by picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..evaluation.metrics import Score, mean_score
from ..runtime.runners import Runner


@dataclass(frozen=True, slots=True)
class Parity:
    """How two sets of answers to the same pictures differ; see `ExportFile` for the fields."""

    pictures: int
    agreement: float
    accuracy: Score
    accuracy_change: Score
    max_difference: float
    mean_difference: float
    is_finite: bool


def answers(run: Runner, pictures: NDArray[Any], *, at_once: int = 1) -> NDArray[np.float32]:
    """The outputs for pictures, one call each as on a device, unless told otherwise.

    Args:
        run: an exported file.
        pictures: ``(pictures, height, width, channels)`` in [0, 255].
        at_once: pictures per call, 1 or more; a last smaller call is filled up with zeros.

    Returns:
        float32 ``(pictures, classes)``.
    """
    parts: list[NDArray[np.float32]] = []
    for start in range(0, len(pictures), at_once):
        part = np.asarray(pictures[start : start + at_once], np.float32)
        count = len(part)
        if count < at_once:
            part = np.pad(part, [(0, at_once - count), *[(0, 0)] * (part.ndim - 1)])
        parts.append(run(part)[:count])
    return np.concatenate(parts)


def compared(
    own: NDArray[np.floating[Any]],
    reference: NDArray[np.floating[Any]],
    labels: NDArray[np.integer[Any]],
    *,
    seed: int = 0,
) -> Parity:
    """Compare answers.

    Args:
        own: the file's, ``(pictures, classes)``.
        reference: Keras's.
        labels: the right classes; below 0 where unknown.
        seed: of the bootstrap, which draws the same pictures for both.

    Returns:
        Agreement and differences on all pictures; accuracies on those whose class is known, NaN if
        there are none. A picture with an answer that is no finite number agrees with nothing.

    Example:
        >>> eye = np.eye(2)
        >>> found = compared(eye[[0, 1, 1, 1]], eye[[0, 1, 0, 1]], np.array([0, 1, 0, 0]))
        >>> found.agreement, found.accuracy.value, found.accuracy_change.value
        (0.75, 0.5, -0.25)
    """
    finite = np.isfinite(own).all(axis=1)
    guesses = np.where(finite, own.argmax(axis=1), -1)
    expected = reference.argmax(axis=1)
    known = labels >= 0
    right = (guesses == labels)[known].astype(float)
    change = right - (expected == labels)[known]
    difference = np.abs(np.asarray(own, np.float64) - reference)
    return Parity(
        pictures=len(own),
        agreement=float((guesses == expected).mean()),
        accuracy=mean_score(right, seed=seed),
        accuracy_change=mean_score(change, seed=seed),
        max_difference=float(difference.max()),
        mean_difference=float(difference.mean()),
        is_finite=bool(finite.all()),
    )

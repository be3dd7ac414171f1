"""The linear head on frozen features: fitted exactly rather than by steps."""

from __future__ import annotations

import math
import warnings
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from ..tasks.task import Labels, Task

_STRENGTHS = (10.0, 30.0, 100.0, 300.0)
_PROBE_STRENGTH = 30.0
_MOST_ROWS = 20_000
_ITERATIONS = 200
_PROBE_ITERATIONS = 150
_LEAST_SCALE = 1.0
_PROBE_LEAST_SCALE = 0.01
"""The smallest spread that a feature is divided by, in medians of those of all that fire."""
_PRIOR_POWER = 0.5
"""Standard deviation of the logarithm of a temperature before any picture is known."""


@dataclass(frozen=True, slots=True, eq=False)
class LinearFit:
    """A linear model, as the weights of a dense layer."""

    kernel: NDArray[np.float32]
    """``(features, outputs)``."""
    bias: NDArray[np.float32]
    strength: float
    """The loss's weight against the penalty that did best on the validation rows."""
    score: float
    """On the validation rows, as is the loss."""
    loss: float


def fit_linear(
    task: Task,
    views: Sequence[NDArray[Any]],
    labels: Labels,
    validation: tuple[NDArray[Any], Labels],
    *,
    output_weights: NDArray[np.float32],
    seed: int,
) -> LinearFit:
    """Fit a regularised linear model for a task and choose its penalty by validation.

    Each view holds the features of all rows, whose labels are the same. From more than 20,000 rows
    that many are drawn, which bounds memory and time. Without validation rows a middle penalty is
    taken.
    """
    rows, labels = _draw(task, views, np.asarray(labels), seed)
    held_out, held_out_labels = validation
    regression = _Regression(task, rows, labels, _ITERATIONS, _LEAST_SCALE)
    row_weights = task.row_weights(task.targets(labels), output_weights)
    best: LinearFit | None = None
    for strength in _STRENGTHS if len(held_out) else _STRENGTHS[1:2]:
        with _undisturbed():
            kernel, bias = regression.fit(strength, row_weights)
        score, loss = task.score_and_loss(held_out @ kernel + bias, held_out_labels)
        if best is None or loss < best.loss:
            best = LinearFit(kernel=kernel, bias=bias, strength=strength, score=score, loss=loss)
    assert best is not None
    return best


def cross_validated(
    task: Task,
    features: NDArray[np.floating[Any]],
    labels: Labels,
    folds: Sequence[NDArray[np.intp]],
    *,
    threads: int = 1,
) -> NDArray[np.float64]:
    """How well a regularised linear model answers each row when it is held out.

    A row is a vector, or one for each of a picture's places ``(places, 1, features)``, whose labels
    are then ``(places, 1)``. A fold is the rows that are held out together. As many folds as there
    are threads are fitted at the same time.
    """
    answers = np.zeros((*features.shape[:-1], len(task.names)))

    def fit(held_out: NDArray[np.intp]) -> None:
        rest = np.setdiff1d(np.arange(len(labels)), held_out)
        answers[held_out] = _probe(task, features[rest], labels[rest], features[held_out])

    with _undisturbed():
        if threads == 1:
            for held_out in folds:
                fit(held_out)
        else:
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(fit, folds))
    return task.row_scores(answers, labels)


def probe(
    task: Task, rows: NDArray[Any], labels: Labels, others: NDArray[Any]
) -> NDArray[np.floating[Any]]:
    """What the same model answers to other rows than it was fitted to."""
    with _undisturbed():
        return _probe(task, rows, labels, others)


def _probe(
    task: Task, rows: NDArray[Any], labels: Labels, others: NDArray[Any]
) -> NDArray[np.floating[Any]]:
    regression = _Regression(task, rows, labels, _PROBE_ITERATIONS, _PROBE_LEAST_SCALE)
    kernel, bias = regression.fit(_PROBE_STRENGTH)
    return task.answers(others @ kernel + bias, is_final=False)


class _Regression:
    """A linear model on standardised rows, for one strength after the other."""

    def __init__(
        self,
        task: Task,
        rows: NDArray[Any],
        labels: Labels,
        iterations: int,
        least_scale: float,
    ) -> None:
        rows, labels = task.one_by_one(rows, labels)
        self._mean = np.asarray(np.mean(rows, axis=0, dtype=np.float64))
        self._scale = np.asarray(np.std(rows, axis=0, dtype=np.float64))
        # A channel that hardly ever fires would get a weight beside which an 8-bit file holds no
        # other. The floor follows the other channels: those of random weights are all small. At
        # their median, a head of 30 photos a class is a point better and its int8 file agrees on a
        # point more, since small channels are the ones that rounding changes most.
        firing = self._scale[self._scale > 0]
        floor = least_scale * np.median(firing) if len(firing) else 1.0
        np.maximum(self._scale, floor, out=self._scale)
        standardised = ((rows - self._mean) / self._scale).astype(np.float32)
        self._solver = task.solver(standardised, labels, iterations=iterations)

    def fit(
        self, strength: float, row_weights: NDArray[np.float32] | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Kernel and bias of a dense layer on features that are not standardised."""
        kernel, bias = self._solver.solve(strength, row_weights)
        # w * (x - mean) / scale + b is (w / scale) * x + (b - (w / scale) * mean).
        kernel = kernel / self._scale
        return kernel.T.astype(np.float32), (bias - kernel @ self._mean).astype(np.float32)


@contextmanager
def _undisturbed() -> Generator[None]:
    """One thread for each fit, and no warning that it stopped near the optimum only."""
    # A second thread only gets in the way of matrices with so few columns: with two, the fit takes
    # ten times as long. Near the optimum is enough: training goes on from here, and the probe
    # compares. Both settings are of the whole process, so that threads must not make them each.
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield


def _draw(
    task: Task, views: Sequence[NDArray[Any]], labels: Labels, seed: int
) -> tuple[NDArray[np.float32], Labels]:
    """The rows of all views, or as many of each as can be held."""
    chosen = sample_of(task.strata(labels), _MOST_ROWS // len(views), seed)
    if len(chosen) < len(labels):
        views, labels = [view[chosen] for view in views], labels[chosen]
    rows = np.concatenate([np.asarray(view, np.float32) for view in views])
    return rows, np.concatenate([labels] * len(views))


def sample_of(strata: NDArray[np.intp], most: int, seed: int) -> NDArray[np.intp]:
    """All rows, or about so many of them with one of each class at least, in their order."""
    if len(strata) <= most:
        return np.arange(len(strata))
    chosen = np.random.default_rng(seed).choice(len(strata), most, replace=False)
    return np.union1d(chosen, np.unique(strata, return_index=True)[1])


def temperature(task: Task, logits: NDArray[np.float32], labels: Labels) -> float:
    """The number to divide logits by so that their probabilities fit the labels best.

    Label smoothing and mixing make a network less sure than it may be. One number on validation
    data mends most of that and changes no answer (Guo et al., arXiv 1706.04599). Temperatures far
    from 1 need pictures that ask for them: their logarithm is taken to be normal around 0.

    It lies between 0.05 and 20, and is 1 without rows, or for a task without probabilities.

    Example:
        >>> logits = np.log(np.array([[0.9, 0.1], [0.9, 0.1]], "float32"))
        >>> from inshape.tasks.classification import Classification
        >>> of_two, labels = Classification(("a", "b")), np.array([0, 1] * 50)
        >>> temperature(of_two, np.tile(logits, (50, 1)), labels) > 3  # right once in two
        True
    """
    if not len(labels) or not task.is_calibrated:
        return 1.0

    def loss(power: float) -> float:
        # Few pictures, all of them right, would ask for a network that is sure of everything.
        doubt = (power / _PRIOR_POWER) ** 2 / (2 * len(labels))
        return task.score_and_loss(logits / math.exp(power), labels)[1] + doubt

    widest = math.log(20.0)
    minimum = minimize_scalar(loss, bounds=(-widest, widest), method="bounded")
    return math.exp(float(minimum.x))

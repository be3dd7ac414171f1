"""The best linear classifier on frozen features, found exactly rather than by steps."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

_STRENGTHS = (10.0, 30.0, 100.0, 300.0)
_MOST_ROWS = 20_000
_ITERATIONS = 200
_USUAL_POWER = 0.5
"""Standard deviation of the logarithm of a temperature before any picture is seen."""


@dataclass(frozen=True, slots=True, eq=False)
class LinearFit:
    """A multinomial logistic regression, as the weights of a dense layer.

    Attributes:
        kernel: float32 ``(features, classes)``.
        bias: float32 ``(classes,)``.
        strength: the loss's weight against the penalty that did best on the validation rows.
        accuracy: on the validation rows.
        loss: cross-entropy on the validation rows.
    """

    kernel: NDArray[np.float32]
    bias: NDArray[np.float32]
    strength: float
    accuracy: float
    loss: float


def fit_linear(
    views: Sequence[NDArray[Any]],
    labels: NDArray[np.integer[Any]],
    validation: tuple[NDArray[Any], NDArray[np.integer[Any]]],
    *,
    classes: int,
    class_weights: NDArray[np.float32],
    seed: int,
) -> LinearFit:
    """Fit a regularised multinomial logistic regression and choose its penalty by validation.

    Features are standardised for the fit and the scaling is folded into the weights. From more than
    20,000 rows that many are drawn, which bounds memory and time.

    Args:
        views: features of every view, each ``(rows, features)``.
        labels: class numbers of the rows of each view.
        validation: rows and labels to choose the penalty by; with none, a middle one is taken.
        classes: how many there are.
        class_weights: of each class in the loss.
        seed: which rows are drawn from many.

    Returns:
        The fit with the least validation loss.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> labels = rng.integers(0, 3, 60)
        >>> rows = np.eye(3)[labels] * 3 + rng.normal(size=(60, 3))
        >>> fit = fit_linear([rows], labels, (rows, labels), classes=3,
        ...                  class_weights=np.ones(3, "float32"), seed=0)
        >>> fit.kernel.shape, fit.accuracy > 0.8
        ((3, 3), True)
    """
    rows, labels = _drawn(views, np.asarray(labels), seed)
    held, held_labels = validation
    mean = np.asarray(np.mean(rows, axis=0, dtype=np.float64))
    scale = np.asarray(np.std(rows, axis=0, dtype=np.float64))
    scale[scale < 1e-6] = 1.0
    scaled = ((rows - mean) / scale).astype(np.float32)
    model = LogisticRegression(max_iter=_ITERATIONS, warm_start=True, tol=1e-3)
    best: LinearFit | None = None
    for strength in _STRENGTHS if len(held) else _STRENGTHS[1:2]:
        model.C = strength / len(rows)
        # A second thread only gets in the way of matrices with so few columns: with two, the fit
        # takes ten times as long.
        with warnings.catch_warnings(), threadpool_limits(1):
            # Near the optimum is enough: the second phase goes on from here.
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(scaled, labels, sample_weight=class_weights[labels])
        kernel, bias = _weights(model, classes, mean, scale)
        logits = held @ kernel + bias if len(held) else np.zeros((0, classes))
        accuracy, loss = scores(logits, held_labels)
        if best is None or loss < best.loss:
            best = LinearFit(kernel, bias, strength, accuracy, loss)
    assert best is not None
    return best


def temperature(logits: NDArray[np.float32], labels: NDArray[np.integer[Any]]) -> float:
    """The number to divide logits by so that their probabilities fit the labels best.

    Label smoothing and mixing make a network less sure than it may be. One number on validation
    data mends most of that and changes no answer (Guo et al., arXiv 1706.04599). Temperatures far
    from 1 need pictures that ask for them: their logarithm is taken to be normal around 0.

    Args:
        logits: ``(rows, classes)``.
        labels: class numbers.

    Returns:
        The temperature, between 0.05 and 20; 1 without rows.

    Example:
        >>> logits = np.log(np.array([[0.9, 0.1], [0.9, 0.1]], "float32"))
        >>> temperature(np.tile(logits, (50, 1)), np.array([0, 1] * 50)) > 3  # right once in two
        True
    """
    if not len(labels):
        return 1.0

    def loss(power: float) -> float:
        # Few pictures, all of them right, would ask for a network that is sure of everything.
        doubt = (power / _USUAL_POWER) ** 2 / (2 * len(labels))
        return scores(logits / math.exp(power), labels)[1] + doubt

    widest = math.log(20.0)
    found = minimize_scalar(loss, bounds=(-widest, widest), method="bounded")
    return math.exp(float(found.x))


def scores(
    logits: NDArray[np.floating[Any]], labels: NDArray[np.integer[Any]]
) -> tuple[float, float]:
    """Accuracy and mean cross-entropy.

    Args:
        logits: ``(rows, classes)``.
        labels: class numbers.

    Returns:
        Both; NaN and infinity where there are no rows.
    """
    if not len(labels):
        return float("nan"), float("inf")
    shifted = logits - logits.max(axis=1, keepdims=True)
    logs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    accuracy = float((logits.argmax(axis=1) == labels).mean())
    return accuracy, float(-logs[np.arange(len(labels)), labels].mean())


def _drawn(
    views: Sequence[NDArray[Any]], labels: NDArray[Any], seed: int
) -> tuple[NDArray[np.float32], NDArray[Any]]:
    """The rows of all views, or as many of each as can be held."""
    most = _MOST_ROWS // len(views)
    if len(labels) <= most:
        return np.concatenate([np.asarray(v, np.float32) for v in views]), np.tile(
            labels, len(views)
        )
    chosen = np.random.default_rng(seed).choice(len(labels), most, replace=False)
    first_of_each = np.unique(labels, return_index=True)[1]
    chosen = np.union1d(chosen, first_of_each)
    rows = np.concatenate([np.asarray(v[chosen], np.float32) for v in views])
    return rows, np.tile(labels[chosen], len(views))


def _weights(
    model: LogisticRegression,
    classes: int,
    mean: NDArray[np.float64],
    scale: NDArray[np.float64],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The fit as a dense layer's weights on unscaled features."""
    coefficients, intercepts = np.asarray(model.coef_), np.asarray(model.intercept_)
    if len(coefficients) == 1:  # two classes: one logit, here split evenly over both
        coefficients = np.concatenate([-coefficients, coefficients]) / 2
        intercepts = np.concatenate([-intercepts, intercepts]) / 2
    kernel = np.zeros((len(mean), classes))
    bias = np.full(classes, intercepts.min() - 5.0)  # a class without pictures is never guessed
    kernel[:, model.classes_] = (coefficients / scale).T
    bias[model.classes_] = intercepts - (coefficients / scale) @ mean
    return kernel.astype(np.float32), bias.astype(np.float32)

"""A linear model that tells classes apart."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .task import Labels

_LEFT_OUT = 5.0
"""How far the logit of a class without rows lies below the others."""


class Logistic:
    """scikit-learn's, for classes some of which may have no rows."""

    def __init__(self, rows: NDArray[Any], labels: Labels, classes: int, iterations: int) -> None:
        from sklearn.linear_model import LogisticRegression  # slow to import

        self._rows, self._labels, self._classes = rows, labels, classes
        # Each strength begins where the one before it ended.
        self._model: Any = LogisticRegression(max_iter=iterations, warm_start=True, tol=1e-3)

    def solve(
        self, strength: float, row_weights: NDArray[np.float32] | None = None
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Kernel ``(classes, features)`` and bias, as `LinearSolver` has them."""
        # scikit-learn sums the loss over rows: as a mean, one strength suits every number of them.
        self._model.C = strength / len(self._rows)
        self._model.fit(self._rows, self._labels, sample_weight=row_weights)
        coefficients = np.asarray(self._model.coef_)
        intercepts = np.asarray(self._model.intercept_)
        if len(coefficients) == 1:  # two classes: one logit, here split evenly over both
            coefficients = np.concatenate([-coefficients, coefficients]) / 2
            intercepts = np.concatenate([-intercepts, intercepts]) / 2
        kernel = np.zeros((self._classes, coefficients.shape[1]))
        bias = np.full(self._classes, intercepts.min() - _LEFT_OUT)  # is never guessed
        kernel[self._model.classes_] = coefficients
        bias[self._model.classes_] = intercepts
        return kernel, bias

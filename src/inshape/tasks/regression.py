"""A number per picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, RequestError
from ..heads import Head
from .bootstrap import Score, with_intervals
from .names import check_class_names
from .task import Answer, Labels, Mistake, Task, Value, check_outputs

_BINS = 8
"""Strata of about as many pictures, by their number."""
_AS_GOOD = 0.2
"""Standard deviations of the labels within which two answers come to the same: less than 0.04 of
R2 lies between them."""
_MOST_POINTS = 1000


def read_number(word: str) -> float | None:
    """A number in a column; ``None`` if it is none, or not finite.

    Example:
        >>> read_number(" 2.5 "), read_number("cat"), read_number("nan")
        (2.5, None, None)
    """
    try:
        number = float(word)
    except ValueError:
        return None
    return number if np.isfinite(number) and abs(number) < np.finfo(np.float32).max else None


@dataclass(frozen=True, slots=True)
class Regression(Task):
    """A number, such as an age or a count.

    Labels are ``(pictures,)``, NaN where they are unknown. The network learns them less their mean
    and in their standard deviations; its last layer puts both back.

    Example:
        >>> task = Regression(("age",)).fitted(np.array([10.0, 30.0]))
        >>> task.mean, task.deviation, task.targets(np.array([40.0])).tolist()
        (20.0, 10.0, [[2.0]])
    """

    mean: float = 0.0
    """Of the labels that are trained on."""
    deviation: float = 1.0

    name: ClassVar[str] = "regression"
    score_name: ClassVar[str] = "r2"
    probe_name: ClassVar[str] = "R2"
    fewest: ClassVar[int] = 1
    loss: ClassVar[tuple[str, Mapping[str, Any]]] = ("MeanSquaredError", {})
    metric_activation: ClassVar[str] = "linear"
    is_calibrated: ClassVar[bool] = False
    output_words: ClassVar[tuple[str, str, str]] = ("values", "logits", "The number itself.")

    @property
    def metric(self) -> tuple[str, Mapping[str, Any]]:
        """The share of variance that is explained."""
        return "R2Score", {}

    @property
    def guessing_loss(self) -> float:
        """Of always answering the mean."""
        return 1.0

    @classmethod
    def of(cls, values: Sequence[Value], names: Sequence[str] | None) -> Regression:
        """A single number, by the name of its column."""
        check_class_names(names or ())
        return cls(tuple(names or ("value",)))

    def read(self, values: Sequence[Value]) -> Labels:
        """The numbers.

        Raises:
            DataError: if one is none.
        """
        numbers = [np.nan if value is None else _number(value) for value in values]
        return np.asarray(numbers, np.float64)

    def is_known(self, labels: Labels) -> NDArray[np.bool_]:
        """Whether there is a number."""
        return ~np.isnan(labels)

    def text(self, label: Any) -> str:
        """The number."""
        return "" if np.isnan(label) else f"{float(label):.6g}"

    def strata(self, labels: Labels) -> NDArray[np.intp]:
        """Eighths of the pictures, by their number."""
        known = self.is_known(labels)
        bins = np.full(len(labels), -1, np.intp)
        edges = np.quantile(labels[known], np.arange(1, _BINS) / _BINS) if known.any() else []
        # Bins that are empty, as many equal numbers make them, leave no gap.
        found = np.searchsorted(edges, labels[known], side="right")
        bins[known] = np.unique(found, return_inverse=True)[1]
        return bins

    def stratum_name(self, stratum: int) -> str:
        """Which part of all numbers."""
        return f"part {stratum + 1} of the values"

    def counts(self, labels: Labels) -> dict[str, int]:
        """How many have a number."""
        return {self.names[0]: int(self.is_known(labels).sum())}

    def has(self, labels: Labels, name: str) -> NDArray[np.bool_]:
        """Whether there is a number."""
        return self.is_known(labels)

    def fitted(self, labels: Labels) -> Regression:
        """With mean and standard deviation of the labels.

        Raises:
            DataError: if all are the same.
        """
        known = labels[self.is_known(labels)]
        deviation = float(known.std()) if len(known) else 0.0
        if not deviation > 0:
            raise DataError(
                f"{len(known)} pictures with the same {self.names[0]}; expected different numbers "
                "to learn from; add pictures"
            )
        return replace(self, mean=float(known.mean()), deviation=deviation)

    def head(self, head: Head) -> Head:
        """A single output, brought to the numbers' mean and spread."""
        check_outputs(head, self.names, ("logits",))
        return head.but(classes=1, activation="logits", scale=self.deviation, offset=self.mean)

    def targets(self, labels: Labels, smoothing: float = 0.0) -> NDArray[np.float32]:
        """Numbers less their mean, in standard deviations; there is nothing to smooth."""
        return ((labels - self.mean) / self.deviation).astype(np.float32)[:, None]

    def row_weights(
        self, targets: NDArray[np.float32], weights: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Each row counts the same."""
        return np.ones(len(targets), np.float32)

    def output_weights(self, labels: Labels, power: float) -> NDArray[np.float32]:
        """One.

        Raises:
            RequestError: if classes are to be weighed.
        """
        if power:
            raise RequestError(
                "class_weights for pictures with a number each; expected 'none'; leave it out"
            )
        return np.ones(1, np.float32)

    def solver(self, rows: NDArray[Any], labels: Labels, *, iterations: int) -> _Ridge:
        """Ridge regression."""
        return _Ridge(rows, self.targets(labels)[:, 0])

    def score_and_loss(self, logits: NDArray[Any], labels: Labels) -> tuple[float, float]:
        """R2, and mean squared error in variances of what was trained on."""
        if not len(labels):
            return float("nan"), float("inf")
        targets = self.targets(labels)
        errors = (logits - targets) ** 2
        spread = ((targets - targets.mean()) ** 2).mean()
        return float(1 - errors.mean() / max(spread, 1e-12)), float(errors.mean())

    def row_scores(self, answers: NDArray[Any], labels: Labels) -> NDArray[np.float64]:
        """1 less the squared error in variances of the labels; the mean of them is R2."""
        spread = max(float(np.nanvar(labels)) if len(labels) else 0.0, 1e-12)
        return 1 - (answers[:, 0].astype(np.float64) - labels) ** 2 / spread

    def guessing(self, labels: Labels) -> tuple[float, str]:
        """0, which is R2's own measure."""
        return 0.0, "always answering the mean"

    def answers(self, outputs: NDArray[Any], *, is_final: bool) -> NDArray[Any]:
        """Numbers, ``(pictures, 1)``."""
        return outputs if is_final else outputs * self.deviation + self.mean

    def soften(self, logits: NDArray[Any]) -> NDArray[np.float32]:
        """As they are."""
        return np.asarray(logits, np.float32)

    def is_same(self, answers: NDArray[Any], others: NDArray[Any]) -> NDArray[np.bool_]:
        """Whether they are within a fifth of the labels' standard deviation."""
        return (np.abs(answers - others) <= _AS_GOOD * self.deviation)[:, 0]

    def lead(self, answers: NDArray[Any]) -> NDArray[np.float64]:
        """A number has no other that it might have been."""
        return np.full(len(answers), np.nan)

    def answer(self, row: NDArray[Any], top: int, threshold: float | None) -> Answer:
        """The number."""
        return Answer(label=self.text(row[0]), value=float(row[0]))

    def score(
        self, answers: NDArray[Any], labels: Labels, *, resamples: int = 1000, seed: int = 0
    ) -> RegressionScores:
        """Mean absolute error, root mean squared error, and R2."""
        if not len(labels):
            raise DataError("no pictures to score; expected at least one; check the source")
        given = answers[:, 0].astype(np.float64)
        errors = given - labels

        def compute(rows: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
            drawn, right = errors[rows], labels[rows]
            squares = (drawn**2).mean(axis=1)
            with np.errstate(invalid="ignore", divide="ignore"):
                r2 = 1 - squares / right.var(axis=1)
            r2 = np.where(np.isfinite(r2), r2, np.nan)
            return np.stack([np.abs(drawn).mean(axis=1), np.sqrt(squares), r2, drawn.mean(axis=1)])

        found = with_intervals(compute, len(labels), resamples=resamples, seed=seed)
        points = np.stack([labels, given], axis=1)[:_MOST_POINTS]
        mae, rmse, r2, bias = found
        return RegressionScores(self.names[0], len(labels), mae, rmse, r2, bias, points)

    def mistakes(
        self, answers: NDArray[Any], labels: Labels, pictures: Sequence[str], most: int
    ) -> tuple[Mistake, ...]:
        """The pictures whose number is furthest off."""
        errors = np.abs(answers[:, 0] - labels)
        worst = np.argsort(-errors, kind="stable")[:most]
        return tuple(
            Mistake(
                pictures[i], self.text(labels[i]), self.text(answers[i, 0]), None, float(errors[i])
            )
            for i in map(int, worst)
        )

    def program(self, *, is_final: bool) -> list[str]:
        """The number."""
        if is_final:
            return ["print(float(answer[0]))"]
        return [f"print(float(answer[0]) * {self.deviation!r} + {self.mean!r})"]

    def as_dict(self) -> dict[str, Any]:
        """With mean and deviation."""
        return {"name": self.name, "mean": self.mean, "deviation": self.deviation}


@dataclass(frozen=True, slots=True, eq=False)
class RegressionScores:
    """All scores of numbers."""

    name: str
    """What the numbers are."""
    pictures: int
    mae: Score
    """Mean absolute error, in the labels' own unit."""
    rmse: Score
    """Root mean squared error, in the labels' own unit."""
    r2: Score
    """Share of the labels' variance that is explained; 0 for always answering the mean."""
    bias: Score
    """How much too large the numbers are on average."""
    points: NDArray[np.float64]
    """Label and answer of each picture, ``(pictures, 2)``; of many, the first thousand."""

    @property
    def main(self) -> Score:
        """R2."""
        return self.r2

    def named(self) -> dict[str, Score]:
        """The scores of all pictures together."""
        return {
            "R2": self.r2,
            "mean absolute error": self.mae,
            "root mean squared error": self.rmse,
            "bias": self.bias,
        }

    @property
    def in_units(self) -> tuple[str, ...]:
        """All but R2."""
        return tuple(self.named())[1:]

    def by_output(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """There is one output, of which all has been said."""
        return (), []

    def as_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold."""
        names = ("mae", "rmse", "r2", "bias")
        return {
            "pictures": self.pictures,
            **{name: getattr(self, name).as_dict() for name in names},
            "classes": [],
            "points": self.points.round(6).tolist(),
        }


def _number(value: Value) -> float:
    number = read_number(value) if isinstance(value, str) else value
    if not isinstance(number, float | int) or not np.isfinite(number):
        raise DataError(
            f"label {value!r}; expected a finite number in every row; correct it, or leave the "
            "task out"
        )
    return float(number)


class _Ridge:
    """scikit-learn's."""

    def __init__(self, rows: NDArray[Any], targets: NDArray[Any]) -> None:
        self._rows, self._targets = rows, targets

    def solve(
        self, strength: float, row_weights: NDArray[np.float32] | None = None
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        from sklearn.linear_model import Ridge  # slow to import

        model: Any = Ridge(alpha=len(self._rows) / strength)
        model.fit(self._rows, self._targets, sample_weight=row_weights)
        return np.atleast_2d(model.coef_), np.atleast_1d(model.intercept_)

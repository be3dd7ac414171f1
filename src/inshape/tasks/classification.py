"""One class per picture."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from ..heads import Head
from .class_scores import ClassificationScores, score
from .logistic import Logistic
from .names import names_among, same_name
from .task import Answer, Labels, Mistake, Task, Value, by_weight, check_outputs

UNSURE = "unsure"
"""The label of an answer below the threshold."""


@dataclass(frozen=True, slots=True)
class Classification(Task):
    """One of several classes.

    Labels are class numbers, ``(pictures,)``, and -1 where they are unknown.

    Example:
        >>> task = Classification(("cat", "dog"))
        >>> print(task.read(["dog", None]), task.targets(np.array([1]), 0.5))
        [ 1 -1] [[0.25 0.75]]
    """

    name: ClassVar[str] = "classification"
    score_name: ClassVar[str] = "accuracy"
    probe_name: ClassVar[str] = "accuracy"
    fewest: ClassVar[int] = 2
    loss: ClassVar[tuple[str, Mapping[str, Any]]] = (
        "CategoricalCrossentropy",
        {"from_logits": True},
    )
    metric_activation: ClassVar[str] = "linear"
    is_calibrated: ClassVar[bool] = True
    output_words: ClassVar[tuple[str, str, str]] = (
        "probabilities",
        "logits",
        "How probable each class is.",
    )

    @property
    def metric(self) -> tuple[str, Mapping[str, Any]]:
        """The share of right answers."""
        return "CategoricalAccuracy", {}

    @property
    def guessing_loss(self) -> float:
        """Of all classes being as probable."""
        return math.log(max(2, len(self.names)))

    @classmethod
    def of(cls, values: Sequence[Value], names: Sequence[str] | None) -> Classification:
        """The classes that occur, or those that are known."""
        return cls(names_among({cast("str", v) for v in values if v is not None}, names))

    def read(self, values: Sequence[Value]) -> Labels:
        """Class numbers."""
        numbers: dict[Value, int] = {None: -1}
        numbers |= {same_name(name): number for number, name in enumerate(self.names)}
        return np.asarray([numbers[value] for value in values], np.int32)

    def is_known(self, labels: Labels) -> NDArray[np.bool_]:
        """Whether there is a class."""
        return labels >= 0

    def text(self, label: Any) -> str:
        """The name of the class."""
        return self.names[int(label)] if label >= 0 else ""

    def strata(self, labels: Labels) -> NDArray[np.intp]:
        """The classes."""
        return labels.astype(np.intp)

    def stratum_name(self, stratum: int) -> str:
        """The name of the class."""
        return self.names[stratum]

    def counts(self, labels: Labels) -> dict[str, int]:
        """Pictures per class."""
        counts = np.bincount(labels[labels >= 0], minlength=len(self.names))
        return dict(zip(self.names, counts.tolist(), strict=True))

    def has(self, labels: Labels, name: str) -> NDArray[np.bool_]:
        """Whether pictures are of a class."""
        return labels == self.names.index(name)

    def head(self, head: Head) -> Head:
        """A softmax, or logits."""
        check_outputs(head, self.names, ("softmax", "logits"))
        return head.but(classes=len(self.names))

    def targets(self, labels: Labels, smoothing: float = 0.0) -> NDArray[np.float32]:
        """One-hot, some of each spread over all classes (Szegedy et al., arXiv 1512.00567)."""
        hot = np.eye(len(self.names), dtype=np.float32)[labels]
        return hot * np.float32(1.0 - smoothing) + np.float32(smoothing / len(self.names))

    def row_weights(
        self, targets: NDArray[np.float32], weights: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Those of the classes; targets may be mixed and smoothed, and so is a row's weight."""
        return targets @ weights

    def output_weights(self, labels: Labels, power: float) -> NDArray[np.float32]:
        """The weight of each class in the loss; 1 on average over the pictures."""
        counts = np.array(list(self.counts(labels).values()), np.float64)
        weights = by_weight(counts, power)
        # Over pictures and not over classes, so that the loss and with it the right learning rate
        # stay as large as without weights.
        return (weights * counts.sum() / (weights * counts).sum()).astype(np.float32)

    def solver(self, rows: NDArray[Any], labels: Labels, *, iterations: int) -> Logistic:
        """Multinomial logistic regression."""
        return Logistic(rows, labels, len(self.names), iterations)

    def score_and_loss(self, logits: NDArray[Any], labels: Labels) -> tuple[float, float]:
        """Accuracy and mean cross-entropy."""
        if not len(labels):
            return float("nan"), float("inf")
        shifted = logits - logits.max(axis=1, keepdims=True)
        logs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        accuracy = float((logits.argmax(axis=1) == labels).mean())
        return accuracy, float(-logs[np.arange(len(labels)), labels].mean())

    def row_scores(self, answers: NDArray[Any], labels: Labels) -> NDArray[np.float64]:
        """1 where the most probable class is the right one."""
        return (answers.argmax(axis=1) == labels).astype(np.float64)

    def guessing(self, labels: Labels) -> tuple[float, str]:
        """The share of the largest class."""
        counts = self.counts(labels)
        largest = max(counts, key=lambda name: counts[name])
        return counts[largest] / sum(counts.values()), f"always answering {largest!r}"

    def answers(self, outputs: NDArray[Any], *, is_final: bool) -> NDArray[Any]:
        """Probabilities, ``(pictures, classes)``.

        A single output is that of the second of two classes. Rows sum to 1, except those of a
        sigmoid for each of several classes, which are left as they are.

        Example:
            >>> task = Classification(("cat", "dog"))
            >>> task.answers(np.array([[0.25]], "float32"), is_final=True).tolist()
            [[0.75, 0.25]]
        """
        if outputs.shape[1] == 1:
            from scipy.special import expit  # slow to import

            of_second = outputs if is_final else expit(outputs)
            return np.concatenate([1 - of_second, of_second], axis=1)
        return outputs if is_final else _softmax(outputs)

    def soften(self, logits: NDArray[Any]) -> NDArray[np.float32]:
        """Probabilities."""
        return _softmax(np.asarray(logits, np.float64)).astype(np.float32)

    def is_same(self, answers: NDArray[Any], others: NDArray[Any]) -> NDArray[np.bool_]:
        """Whether the most probable class is the same."""
        return answers.argmax(axis=1) == others.argmax(axis=1)

    def lead(self, answers: NDArray[Any]) -> NDArray[np.float64]:
        """How much more probable the likeliest class is than the next."""
        if answers.shape[1] < 2:
            return np.full(len(answers), np.nan)
        return np.diff(np.sort(answers, axis=1)[:, -2:], axis=1)[:, 0]

    def answer(self, row: NDArray[Any], top: int, threshold: float | None) -> Answer:
        """The most probable class, or ``"unsure"`` if it is below the threshold."""
        order = np.argsort(-row, kind="stable")[:top]
        is_sure = row[order[0]] >= (threshold or 0.0)
        return Answer(
            label=self.names[order[0]] if is_sure else UNSURE,
            probability=float(row[order[0]]),
            top=tuple((self.names[i], float(row[i])) for i in order),
        )

    def score(
        self, answers: NDArray[Any], labels: Labels, *, resamples: int = 1000, seed: int = 0
    ) -> ClassificationScores:
        """Accuracy, F1, calibration and confusions."""
        return score(answers, labels, self.names, resamples=resamples, seed=seed)

    def mistakes(
        self, answers: NDArray[Any], labels: Labels, pictures: Sequence[str], most: int
    ) -> tuple[Mistake, ...]:
        """The most confidently wrong pictures."""
        guesses = answers.argmax(axis=1)
        # Right answers sort last and are left out below.
        confidence = np.where(guesses == labels, -1.0, answers.max(axis=1))
        worst = np.argsort(-confidence, kind="stable")[:most]
        return tuple(
            Mistake(
                picture=pictures[i],
                label=self.names[int(labels[i])],
                guess=self.names[int(guesses[i])],
                probability=float(confidence[i]),
            )
            for i in map(int, worst)
            if confidence[i] >= 0
        )

    def program(self, *, is_final: bool) -> list[str]:
        """The class alone."""
        return ["print(labels[int(answer.argmax())])"]


def _softmax(logits: NDArray[Any]) -> NDArray[Any]:
    from scipy.special import softmax  # slow to import

    return softmax(logits, axis=1)

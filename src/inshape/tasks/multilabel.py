"""Any number of tags per picture."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..heads import Head
from .bootstrap import Score, with_intervals
from .names import names_among, same_name
from .task import Answer, Labels, Mistake, Task, Value, by_weight, check_outputs

SEPARATOR = "|"
"""What stands between the tags of a picture in a table."""
_THRESHOLD = 0.5
_NEVER, _UNKNOWN = -20.0, -1
"""The logit of a tag that no picture has, and each entry of a row whose tags are not known."""


def read_tags(word: str) -> tuple[str, ...]:
    """Tags in a column.

    Example:
        >>> read_tags("cat| dog"), read_tags("")
        (('cat', 'dog'), ())
    """
    return tuple(tag for part in word.split(SEPARATOR) if (tag := part.strip()))


@dataclass(frozen=True, slots=True)
class MultiLabel(Task):
    """Each of several tags or not.

    Labels are rows of 0 and 1, ``(pictures, tags)``, and -1 where they are unknown.

    Example:
        >>> task = MultiLabel(("cat", "dog"))
        >>> task.read([("dog",), (), None]).tolist(), task.text(np.array([1, 1]))
        ([[0, 1], [0, 0], [-1, -1]], 'cat|dog')
    """

    name: ClassVar[str] = "multi-label"
    score_name: ClassVar[str] = "f1"
    probe_name: ClassVar[str] = "F1 per picture"
    fewest: ClassVar[int] = 1
    loss: ClassVar[tuple[str, Mapping[str, Any]]] = ("BinaryCrossentropy", {"from_logits": True})
    metric_activation: ClassVar[str] = "sigmoid"
    is_calibrated: ClassVar[bool] = True
    output_words: ClassVar[tuple[str, str, str]] = (
        "probabilities",
        "logits",
        "How probable each tag is, whatever the others are.",
    )

    @property
    def metric(self) -> tuple[str, Mapping[str, Any]]:
        """Macro F1."""
        return "F1Score", {"average": "macro", "threshold": _THRESHOLD}

    @property
    def guessing_loss(self) -> float:
        """Of every tag being there or not with the same probability."""
        return math.log(2)

    @classmethod
    def of(cls, values: Sequence[Value], names: Sequence[str] | None) -> MultiLabel:
        """The tags that occur, or those that are known."""
        occurring = {same_name(tag) for value in values for tag in _tags(value)}
        return cls(names_among(occurring, names))

    def read(self, values: Sequence[Value]) -> Labels:
        """Rows of 0 and 1."""
        numbers = {same_name(name): number for number, name in enumerate(self.names)}
        rows = np.zeros((len(values), len(self.names)), np.int8)
        for row, value in zip(rows, values, strict=True):
            if value is None:
                row[:] = _UNKNOWN
            for tag in _tags(value):
                row[numbers[same_name(tag)]] = 1
        return rows

    def is_known(self, labels: Labels) -> NDArray[np.bool_]:
        """Whether the tags are known."""
        return np.asarray((labels >= 0).all(axis=1))

    def text(self, label: Any) -> str:
        """The tags."""
        return SEPARATOR.join(n for n, is_set in zip(self.names, label, strict=True) if is_set > 0)

    def strata(self, labels: Labels) -> NDArray[np.intp]:
        """The rarest tag of each picture; one more stratum is of those without tags."""
        counts = (labels > 0).sum(axis=0)
        rarity = np.where(labels > 0, counts, len(labels) + 1)
        rarest = rarity.argmin(axis=1) if labels.shape[1] else np.zeros(len(labels), np.intp)
        strata = np.where((labels > 0).any(axis=1), rarest, len(self.names))
        return np.where(self.is_known(labels), strata, -1).astype(np.intp)

    def stratum_name(self, stratum: int) -> str:
        """The tag."""
        return self.names[stratum] if stratum < len(self.names) else "no tag"

    def counts(self, labels: Labels) -> dict[str, int]:
        """Pictures per tag."""
        return dict(zip(self.names, (labels > 0).sum(axis=0).tolist(), strict=True))

    def has(self, labels: Labels, name: str) -> NDArray[np.bool_]:
        """Whether pictures have a tag."""
        return labels[:, self.names.index(name)] > 0

    def head(self, head: Head) -> Head:
        """A sigmoid for each tag, or logits."""
        check_outputs(head, self.names, ("sigmoid", "logits"))
        activation = "logits" if head.activation == "logits" else "sigmoid"
        return head.but(classes=len(self.names), activation=activation)

    def targets(self, labels: Labels, smoothing: float = 0.0) -> NDArray[np.float32]:
        """0 and 1, each moved towards one half."""
        return np.asarray(labels, np.float32) * np.float32(1 - smoothing) + np.float32(
            smoothing / 2
        )

    def row_weights(
        self, targets: NDArray[np.float32], weights: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """The mean of those of a row's tags; 1 for a row without."""
        total = targets.sum(axis=1)
        return np.where(total > 0, targets @ weights / np.maximum(total, 1e-6), 1.0).astype(
            np.float32
        )

    def output_weights(self, labels: Labels, power: float) -> NDArray[np.float32]:
        """The weight of each tag; 1 on average over all tags that are set."""
        counts = np.array(list(self.counts(labels).values()), np.float64)
        weights = by_weight(counts, power)
        total = (weights * counts).sum()
        return (weights * (counts.sum() / total if total else 1.0)).astype(np.float32)

    def solver(self, rows: NDArray[Any], labels: Labels, *, iterations: int) -> _OneByOne:
        """A logistic regression for each tag."""
        return _OneByOne(rows, labels, iterations)

    def score_and_loss(self, logits: NDArray[Any], labels: Labels) -> tuple[float, float]:
        """Macro F1 and mean cross-entropy."""
        if not len(labels):
            return float("nan"), float("inf")
        losses = np.maximum(logits, 0) - logits * labels + np.log1p(np.exp(-np.abs(logits)))
        f1 = _f1(*_hits(logits > 0, labels > 0, axis=0))
        # As Keras does it, a tag that neither occurs nor is given counts as 0.
        return float(np.nan_to_num(f1).mean()), float(losses.mean())

    def row_scores(self, answers: NDArray[Any], labels: Labels) -> NDArray[np.float64]:
        """The F1 of each picture's tags; 1 where there are none and none is given."""
        f1 = _f1(*_hits(answers >= _THRESHOLD, labels > 0, axis=1))
        return np.where(np.isnan(f1), 1.0, f1)

    def guessing(self, labels: Labels) -> tuple[float, str]:
        """The macro F1 of giving every tag to every picture."""
        shares = (labels > 0).mean(axis=0)
        return float((2 * shares / (1 + shares)).mean()), "giving every tag to every picture"

    def answers(self, outputs: NDArray[Any], *, is_final: bool) -> NDArray[Any]:
        """The probability of each tag, ``(pictures, tags)``."""
        return outputs if is_final else self.soften(outputs)

    def soften(self, logits: NDArray[Any]) -> NDArray[np.float32]:
        """Probabilities."""
        from scipy.special import expit  # slow to import

        return np.asarray(expit(logits), np.float32)

    def is_same(self, answers: NDArray[Any], others: NDArray[Any]) -> NDArray[np.bool_]:
        """Whether all tags are the same."""
        return ((answers >= _THRESHOLD) == (others >= _THRESHOLD)).all(axis=1)

    def lead(self, answers: NDArray[Any]) -> NDArray[np.float64]:
        """Twice how far the least sure tag is from one half."""
        return 2 * np.abs(np.asarray(answers, np.float64) - _THRESHOLD).min(axis=1)

    def answer(self, row: NDArray[Any], top: int, threshold: float | None) -> Answer:
        """The tags at or above the threshold, which is one half by default."""
        order = np.argsort(-row, kind="stable")[:top]
        least = _THRESHOLD if threshold is None else threshold
        return Answer(
            label=self.text(row >= least),
            probability=float(row[order[0]]),
            top=tuple((self.names[i], float(row[i])) for i in order),
        )

    def score(
        self, answers: NDArray[Any], labels: Labels, *, resamples: int = 1000, seed: int = 0
    ) -> MultiLabelScores:
        """Mean average precision, F1, and each tag by itself."""
        if not len(labels):
            raise DataError("no pictures to score; expected at least one; check the source")
        given, right = answers >= _THRESHOLD, labels > 0
        tags = len(self.names)

        def compute(rows: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
            # How often each picture was drawn, ``(draws, pictures)``.
            drawn = np.stack([np.bincount(row, minlength=len(labels)) for row in rows])
            hits = drawn @ (given & right).astype(np.float64)
            actual, predicted = drawn @ right.astype(float), drawn @ given.astype(float)
            with np.errstate(invalid="ignore", divide="ignore"):
                precision, recall = hits / predicted, hits / actual
            f1 = _f1(hits, actual, predicted)
            micro = _f1(hits.sum(axis=1), actual.sum(axis=1), predicted.sum(axis=1))
            exact = drawn @ (given == right).all(axis=1).astype(float) / rows.shape[1]
            average = np.stack(
                [_average_precision(drawn, answers[:, t], right[:, t]) for t in range(tags)], axis=1
            )
            means = [_nan_mean(average), np.nan_to_num(f1).mean(axis=1), micro, exact]
            return np.concatenate([np.stack(means), average.T, precision.T, recall.T])

        found = with_intervals(compute, len(labels), resamples=resamples, seed=seed)
        by_tag: Any = zip(
            self.names,
            right.sum(axis=0).tolist(),
            *(found[4 + i * tags : 4 + (i + 1) * tags] for i in range(3)),
            strict=True,
        )
        tags_scored = tuple(TagScores(*one) for one in by_tag)
        average, macro, micro, exact = found[:4]
        return MultiLabelScores(len(labels), average, macro, micro, exact, tags_scored)

    def mistakes(
        self, answers: NDArray[Any], labels: Labels, pictures: Sequence[str], most: int
    ) -> tuple[Mistake, ...]:
        """The pictures with the most confidently wrong tags."""
        gaps = np.abs(answers - (labels > 0))
        worst = np.argsort(-gaps.max(axis=1), kind="stable")[:most]
        return tuple(
            Mistake(
                picture=pictures[i],
                label=self.text(labels[i]),
                guess=self.text(answers[i] >= _THRESHOLD),
                probability=float(gaps[i].max()),
            )
            for i in map(int, worst)
            if gaps[i].max() > _THRESHOLD
        )

    def program(self, *, is_final: bool) -> list[str]:
        """The tags alone."""
        least = _THRESHOLD if is_final else 0
        return [
            f"tags = [name for name, score in zip(labels, answer) if score >= {least}]",
            'print("|".join(tags))',
        ]


@dataclass(frozen=True, slots=True)
class TagScores:
    """How well one tag is recognised."""

    name: str
    pictures: int
    """How many have it."""
    average_precision: Score
    """The mean precision at each of its pictures, in the order of its probability."""
    precision: Score
    """Share of pictures that have it among those that were given it; NaN if none was."""
    recall: Score
    """Share of its pictures that were given it; NaN if there are none."""


@dataclass(frozen=True, slots=True)
class MultiLabelScores:
    """All scores of tags; what is given is what has a probability of at least one half."""

    pictures: int
    mean_average_precision: Score
    """Over the tags that occur (mAP)."""
    macro_f1: Score
    """Mean F1 of the tags."""
    micro_f1: Score
    """F1 of all tags of all pictures together."""
    exact: Score
    """Share of pictures with all tags right and no other."""
    tags: tuple[TagScores, ...]

    @property
    def main(self) -> Score:
        """The macro F1."""
        return self.macro_f1

    def named(self) -> dict[str, Score]:
        """The scores of all pictures together."""
        return {
            "macro F1": self.macro_f1,
            "mean average precision": self.mean_average_precision,
            "micro F1": self.micro_f1,
            "all tags right": self.exact,
        }

    @property
    def in_units(self) -> tuple[str, ...]:
        """None: all are shares."""
        return ()

    def by_output(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Each tag."""
        rows = [
            (t.name, str(t.pictures), str(t.average_precision), str(t.precision), str(t.recall))
            for t in self.tags
        ]
        return ("tag", "pictures", "average precision", "precision", "recall"), rows

    def as_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold."""
        names = ("mean_average_precision", "macro_f1", "micro_f1", "exact")
        each = ("average_precision", "precision", "recall")
        return {
            "pictures": self.pictures,
            **{name: getattr(self, name).as_dict() for name in names},
            "classes": [
                {
                    "name": tag.name,
                    "pictures": tag.pictures,
                    **{name: getattr(tag, name).as_dict() for name in each},
                }
                for tag in self.tags
            ],
        }


def _tags(value: Value) -> tuple[str, ...]:
    """The tags of a label; a single word may be one or several."""
    if value is None:
        return ()
    return read_tags(value) if isinstance(value, str) else tuple(map(str, value))  # pyright: ignore[reportArgumentType]


def _hits(
    given: NDArray[np.bool_], right: NDArray[np.bool_], axis: int
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Right answers, labels and answers along an axis."""
    return (given & right).sum(axis=axis), right.sum(axis=axis), given.sum(axis=axis)


def _f1(hits: NDArray[Any], actual: NDArray[Any], predicted: NDArray[Any]) -> NDArray[np.float64]:
    """NaN where there is nothing to find and nothing was found."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return 2 * hits / (actual + predicted)


def _average_precision(
    drawn: NDArray[np.integer[Any]], answers: NDArray[Any], right: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Of a tag in each draw, which says how often each picture is in it."""
    order = np.argsort(-answers, kind="stable")
    ranked = answers[order]
    # Equal answers, of which a file of 8 bits has many, are found together.
    last_alike = np.searchsorted(-ranked, -ranked, side="right") - 1
    drawn = drawn[:, order]
    positives = drawn * right[order]
    found = positives.cumsum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = (found / drawn.cumsum(axis=1))[:, last_alike]
        return np.nansum(precision * positives, axis=1) / found[:, -1]


def _nan_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.where(known, values, 0.0).sum(axis=1) / known.sum(axis=1)


class _OneByOne:
    """scikit-learn's logistic regression for each tag by itself."""

    def __init__(self, rows: NDArray[Any], labels: Labels, iterations: int) -> None:
        from sklearn.linear_model import LogisticRegression  # slow to import

        self._rows, self._labels = rows, labels > 0
        self._models: list[Any] = [
            LogisticRegression(max_iter=iterations, warm_start=True, tol=1e-3)
            for _ in range(labels.shape[1])
        ]

    def solve(
        self, strength: float, row_weights: NDArray[np.float32] | None = None
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        kernel = np.zeros((len(self._models), self._rows.shape[1]))
        bias = np.zeros(len(self._models))
        for tag, model in enumerate(self._models):
            labels = self._labels[:, tag]
            if labels.all() or not labels.any():  # there is nothing to learn
                bias[tag] = _NEVER if not labels.any() else -_NEVER
                continue
            model.C = strength / len(self._rows)
            model.fit(self._rows, labels, sample_weight=row_weights)
            kernel[tag], bias[tag] = model.coef_[0], model.intercept_[0]
        return kernel, bias

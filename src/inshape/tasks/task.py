"""What every task can be asked; each kind of label has a file of its own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import RequestError
from ..heads import Head
from ..strategies.decide import StrategyOptions
from ..text import join_some
from .bootstrap import Score, mean_score


class Moving(Protocol):
    """A label that lies on its picture, and is brought to an input with it: a mask, boxes."""

    def at(self, preparation: Any) -> NDArray[Any]:
        """It as an array, moved as a preparation of the data's moves the picture."""
        ...


Value: TypeAlias = str | tuple[str, ...] | float | Moving | None
"""A label as a source gives it: a class, tags, a number, what lies on the picture, or ``None``
where it is unknown."""
Labels: TypeAlias = NDArray[Any]
"""One entry or row per picture, as `Task.read` makes them. Those that lie on their pictures are an
array of `Moving` objects, and arrays once they have been brought to an input."""


class Scores(Protocol):
    """All scores of answers to labelled pictures."""

    @property
    def pictures(self) -> int:
        """How many there are."""
        ...

    @property
    def main(self) -> Score:
        """The one that a training and a comparison go by."""
        ...

    def named(self) -> dict[str, Score]:
        """The scores of all pictures together, by what people call them."""
        ...

    @property
    def in_units(self) -> tuple[str, ...]:
        """Of those names, what is measured in the labels' own unit; the others are shares."""
        ...

    def by_output(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """A table with a row per class or tag: its heads, and its cells as text."""
        ...

    def as_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold."""
        ...


@dataclass(frozen=True, slots=True)
class Mistake:
    """A picture that was answered wrongly."""

    picture: str
    """Its path, or ``"[17]"``."""
    label: str
    guess: str
    probability: float | None = None
    """Of the guess, or how sure the worst of its tags is wrong; ``None`` for numbers."""
    off_by: float | None = None
    """For numbers, how far the guess is from the label; for masks, 1 less their mean IoU; for
    boxes, 1 less their F1."""
    drawn: tuple[str, str] | None = None
    """Of what lies on a picture, the right one and the guess, small, as pictures in text."""


@dataclass(frozen=True, slots=True)
class Box:
    """Something in a picture."""

    label: str
    """Its class."""
    edges: tuple[float, ...]
    """Top, left, bottom and right: shares of the input, or pixels of the picture."""
    probability: float | None = None
    """``None`` of a label."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model says of one picture."""

    label: str
    probability: float | None = None
    """Of the most probable class or tag, in [0, 1]; ``None`` for numbers."""
    top: tuple[tuple[str, float], ...] = ()
    """The most probable classes or tags with their probabilities, the most probable first."""
    value: float | None = None
    """For numbers, the number itself."""
    boxes: tuple[Box, ...] | None = None
    """For detection, what is where in the input."""


class LinearSolver(Protocol):
    """Finds the best linear head on standardised features, for one penalty after the other."""

    def solve(
        self, strength: float, row_weights: NDArray[np.float32] | None = None
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Kernel ``(outputs, features)`` and bias ``(outputs,)``.

        ``strength`` is the weight of the mean loss against half the squared norm of the kernel.
        """
        ...


@dataclass(frozen=True, slots=True)
class Task(ABC):
    """What a label is, and what follows from it for heads, losses, scores and answers.

    Rooms hand a task on and ask it; none asks which one it is.
    """

    names: tuple[str, ...]
    """Of the model's outputs, in their order."""

    name: ClassVar[str]
    """What it is called in a request and a record."""
    score_name: ClassVar[str]
    """What the score is called that a training goes by, the larger the better, at most 1."""
    probe_name: ClassVar[str]
    """What the mean of `row_scores` is called."""
    fewest: ClassVar[int]
    """Classes or tags that there must be to learn anything."""
    loss: ClassVar[tuple[str, Mapping[str, Any]]]
    """A class of ``keras.losses`` for logits, and its options."""
    metric_activation: ClassVar[str]
    """What makes answers of logits, by its name in ``keras.activations``."""
    is_calibrated: ClassVar[bool]
    """Whether logits are divided by a temperature at the end of a training."""
    moves_as: ClassVar[str] = ""
    """By which word Keras's layers that change pictures at random know labels that lie on them;
    empty for labels of whole pictures, which alone can be mixed."""
    lies_as: ClassVar[Literal["", "masks", "boxes"]] = ""
    """What answers are that lie on their pictures; see `mask` and `boxes`."""
    not_built: ClassVar[tuple[str, ...]] = ()
    """What cannot be done with it yet, by the names of options and commands."""
    most_lost: ClassVar[float] = 1.0
    """How much less the score of a file may be for certain, where answers that are the same
    picture by picture do not say that it is the same."""
    output_words: ClassVar[tuple[str, str, str]]
    """What an exported file's output is called: final, before the last activation, and what each
    number of it says."""

    @property
    @abstractmethod
    def metric(self) -> tuple[str, Mapping[str, Any]] | None:
        """A class of ``keras.metrics`` that measures the score, and its options.

        ``None`` for a score that no sum over batches gives: it is then taken of all answers.
        """

    @property
    def target_width(self) -> int:
        """The last axis of `targets`, behind which a teacher's answers may stand."""
        return len(self.names)

    @property
    def output_width(self) -> int:
        """The last axis of a model's outputs."""
        return len(self.names)

    @property
    @abstractmethod
    def guessing_loss(self) -> float:
        """The loss of a network that has learned nothing."""

    @classmethod
    @abstractmethod
    def of(cls, values: Sequence[Value], names: Sequence[str] | None) -> Task:
        """The task of labels as a source gives them; the names where they are known before."""

    @abstractmethod
    def read(self, values: Sequence[Value]) -> Labels:
        """Labels as arrays: unknown ones are such that `is_known` tells."""

    @abstractmethod
    def is_known(self, labels: Labels) -> NDArray[np.bool_]:
        """Of each picture, whether its label is known."""

    @abstractmethod
    def text(self, label: Any) -> str:
        """One label as people read it; empty if it is unknown."""

    def key(self, label: Any) -> str:
        """One label such that other labels have other keys."""
        return self.text(label)

    @abstractmethod
    def strata(self, labels: Labels) -> NDArray[np.intp]:
        """A number for each picture, by which splits, folds and samples are kept in proportion.

        It is -1 where the label is unknown.
        """

    @abstractmethod
    def stratum_name(self, stratum: int) -> str:
        """What the pictures of a stratum have in common."""

    @abstractmethod
    def counts(self, labels: Labels) -> dict[str, int]:
        """Pictures per class or tag, or of all with a number."""

    @abstractmethod
    def has(self, labels: Labels, name: str) -> NDArray[np.bool_]:
        """Of each picture, whether it is of a class or has a tag."""

    def fitted(self, labels: Labels) -> Task:
        """The same task with what it needs to know of the labels that are trained on."""
        return self

    @abstractmethod
    def head(self, head: Head) -> Head:
        """What stands behind the last map for this task.

        Raises:
            RequestError: if another number of outputs or an activation that does not suit is asked
                for.
        """

    def options(self, options: StrategyOptions, *, is_static: bool) -> StrategyOptions:
        """How the input shape is changed where the request leaves it open."""
        return options

    @abstractmethod
    def targets(self, labels: Labels, smoothing: float = 0.0) -> NDArray[np.float32]:
        """What the loss is given, ``(pictures, ..., outputs)``."""

    @abstractmethod
    def row_weights(
        self, targets: NDArray[np.float32], weights: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """How much each row, or each place of it, counts in the loss, from the outputs' weights."""

    @abstractmethod
    def output_weights(self, labels: Labels, power: float) -> NDArray[np.float32]:
        """The weight of each class or tag: its share of the pictures to the power of ``-power``."""

    def probed(self) -> Task:
        """What a linear model on frozen features answers: this task, or one that stands for it."""
        return self

    def at_places(self, labels: Labels, places: NDArray[np.float32]) -> Labels:
        """What `probed` has to answer, of labels that lie on their pictures.

        Args:
            labels: brought to an input.
            places: ``(places, 2)`` as shares of height and width.

        Returns:
            A class number for each place, ``(pictures, places, 1)``.
        """
        return labels

    def one_by_one(self, rows: NDArray[Any], labels: Labels) -> tuple[NDArray[Any], Labels]:
        """Features and labels as a linear model is fitted to them, a vector each."""
        return rows, labels

    @abstractmethod
    def solver(self, rows: NDArray[Any], labels: Labels, *, iterations: int) -> LinearSolver:
        """Fits a linear head on standardised rows, ``(rows, features)``."""

    def losses(self) -> Callable[[Any, Any], Any]:
        """From targets and logits, both tensors of Keras, to the loss of each row or place."""
        import keras  # which training has loaded

        kind, settings = self.loss
        losses = getattr(keras.losses, kind)(reduction=None, **settings)
        return lambda targets, logits: losses(targets, self.align(logits, targets))

    def align(self, logits: Any, targets: Any) -> Any:
        """Logits as the loss compares them with targets, both of them tensors of Keras."""
        return logits

    def counted(self, weights: Any) -> Any:
        """Weights in the loss as those that the metric takes, tensors of Keras."""
        return weights

    def mirrored(self, labels: Labels) -> Labels:
        """Labels of pictures whose left and right are exchanged."""
        return labels

    @abstractmethod
    def score_and_loss(self, logits: NDArray[Any], labels: Labels) -> tuple[float, float]:
        """What a training goes by; NaN and infinity without rows."""

    @abstractmethod
    def row_scores(self, answers: NDArray[Any], labels: Labels) -> NDArray[np.float64]:
        """How well each picture is answered, at most 1; the mean is the score of a probe."""

    def compare(
        self, answers: NDArray[Any], reference: NDArray[Any], labels: Labels, *, seed: int = 0
    ) -> tuple[Score, Score]:
        """The score of answers, and how much more it is than that of others to the same pictures.

        Answers that are not finite count as wrong.
        """
        finite = np.isfinite(answers).all(axis=1)
        right = np.where(finite, self.row_scores(np.nan_to_num(answers), labels), 0.0)
        change = right - self.row_scores(reference, labels)
        # The same seed draws the same pictures for both: the change is a paired one.
        return mean_score(right, seed=seed), mean_score(change, seed=seed)

    @abstractmethod
    def guessing(self, labels: Labels) -> tuple[float, str]:
        """The score of the best answer that looks at no picture, and what that answer is."""

    @abstractmethod
    def answers(self, outputs: NDArray[Any], *, is_final: bool) -> NDArray[Any]:
        """A model's outputs as answers; ``is_final`` unless they are logits."""

    def ask(
        self,
        network: Callable[[NDArray[np.float32]], NDArray[np.float32]],
        pictures: NDArray[np.float32],
        *,
        is_final: bool,
        mirrored: bool = False,
    ) -> NDArray[Any]:
        """A network's answers to prepared pictures ``(pictures, height, width, channels)``.

        Of ``mirrored`` ones, the mean of each picture's and of its mirror image's.
        """
        ways = (pictures, pictures[:, :, ::-1]) if mirrored else (pictures,)
        return np.mean([self.answers(network(way), is_final=is_final) for way in ways], axis=0)

    @abstractmethod
    def soften(self, logits: NDArray[Any]) -> NDArray[np.float32]:
        """A teacher's logits as targets for a student."""

    @abstractmethod
    def is_same(self, answers: NDArray[Any], others: NDArray[Any]) -> NDArray[np.bool_]:
        """Of each picture, whether two answers come to the same."""

    @abstractmethod
    def lead(self, answers: NDArray[Any]) -> NDArray[np.float64]:
        """How far each answer is from being another one, in probability; NaN for numbers."""

    def mask(self, answer: NDArray[Any], size_hw: tuple[int, ...]) -> NDArray[np.uint8] | None:
        """The class number of each pixel of a picture of this size, where answers are masks."""
        return None

    def boxes(self, rows: NDArray[Any], threshold: float | None = None) -> tuple[Box, ...] | None:
        """What is where, of one answer or one label brought to an input, where that is boxes."""
        return None

    @abstractmethod
    def answer(self, row: NDArray[Any], top: int, threshold: float | None) -> Answer:
        """What a model's answer to one picture says."""

    @abstractmethod
    def score(
        self, answers: NDArray[Any], labels: Labels, *, resamples: int = 1000, seed: int = 0
    ) -> Scores:
        """All scores of answers to labelled pictures."""

    @abstractmethod
    def mistakes(
        self, answers: NDArray[Any], labels: Labels, pictures: Sequence[str], most: int
    ) -> tuple[Mistake, ...]:
        """The worst answers, the worst first."""

    @abstractmethod
    def program(self, *, is_final: bool) -> list[str]:
        """Lines of Python that print what the array ``answer`` says; ``labels`` are the names."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values for a record; the names have a file of their own."""
        return {"name": self.name}


def check_outputs(head: Head, names: Sequence[str], activations: Sequence[str]) -> None:
    """Refuse a head that is asked for otherwise than labels need it.

    Raises:
        RequestError: if the number of classes or the activation is another.
    """
    if head.classes not in (None, len(names)):
        raise RequestError(
            f"a head of {head.classes} classes, and pictures of {len(names)} ({join_some(names)}); "
            "expected as many; leave classes out of the head"
        )
    if head.activation not in ("auto", None, *activations):
        raise RequestError(
            f"a head with {head.activation!r}, and labels that need "
            f"{' or '.join(map(repr, activations))}; leave activation out, or name the task: "
            "classification for one class per picture, multi-label for tags, regression for numbers"
        )


def refuse_not_built(task: Task, request: Any) -> None:
    """Refuse options that are on and cannot be met for a task yet.

    Raises:
        RequestError: naming the first of them.
    """
    for name in task.not_built:
        if getattr(request, name, None):
            raise RequestError(
                f"{name} is not built yet for {task.name}; expected none; leave {name} out"
            )


def by_weight(shares: NDArray[Any], power: float) -> NDArray[np.float64]:
    """Counts as weights; what does not occur has none."""
    return np.where(shares > 0, np.maximum(shares, 1.0) ** -power, 0.0)

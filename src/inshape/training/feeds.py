"""What a training step learns from: batches that a seed, an epoch and a step number fix."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice, repeat
from typing import Any, Protocol, TypeAlias

import keras
import numpy as np
from numpy.typing import NDArray

from ..data.augment import Augmenter
from ..data.batches import Batches
from ..tasks.task import Labels, Task
from .devices import count_replicas
from .teacher import Teacher

Batch: TypeAlias = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Rows ``(batch, ...)`` and targets ``(batch, outputs)``."""
Network: TypeAlias = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""From rows to what a network makes of them."""

_VALIDATION_BATCH = 64
_LEAST = 1e-9
"""Of a sum that is divided by, where no place of a batch counts."""


class Feed(Protocol):
    """What is learned from, and what is learned is judged by."""

    @property
    def steps(self) -> int:
        """Batches in an epoch; a last, smaller one is left out unless it is the only one."""
        ...

    @property
    def rows(self) -> int:
        """Rows in each batch."""
        ...

    def epoch(self, number: int) -> Iterator[Batch]:
        """The batches of an epoch, the same for the same seed."""
        ...

    def validation(self, size: int) -> Iterator[NDArray[np.float32]]:
        """The rows of the validation split in batches of a size."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class FeatureFeed:
    """Batches of cached features; each row comes from a view drawn at random."""

    views: Sequence[NDArray[Any]]
    """Features per view, each ``(pictures, ...)``."""
    labels: Sequence[NDArray[np.float32]]
    """Targets per view, each ``(pictures, outputs)`` and what a teacher adds."""
    held_out: NDArray[Any]
    """Features of the validation split."""
    batch_size: int
    seed: int
    mixup: float = 0.0
    """Alpha of the mixing of rows and labels, 0 for none (manifold mixup, Verma et al., arXiv
    1806.05236)."""

    @property
    def steps(self) -> int:
        """Batches in an epoch."""
        return max(1, len(self.labels[0]) // self.batch_size)

    @property
    def rows(self) -> int:
        """Rows in each batch."""
        return min(self.batch_size, len(self.labels[0]))

    def epoch(self, number: int) -> Iterator[Batch]:
        """The batches of an epoch."""
        # Never a generator that is carried along: a resumed training has to draw in an epoch what
        # it would have drawn without the cut.
        order = np.random.default_rng([self.seed, number]).permutation(len(self.labels[0]))
        for step in range(self.steps):
            rng = np.random.default_rng([self.seed, number, step])
            pictures = order[step * self.batch_size : (step + 1) * self.batch_size]
            views = rng.integers(len(self.views), size=len(pictures))
            places = list(zip(views, pictures, strict=True))
            rows = np.stack([self.views[v][i] for v, i in places]).astype(np.float32)
            labels = np.stack([self.labels[v][i] for v, i in places])
            yield mix(rows, labels, self.mixup, rng)

    def validation(self, size: int) -> Iterator[NDArray[np.float32]]:
        """The rows of the validation split in batches of a size."""
        for first in range(0, len(self.held_out), size):
            yield np.asarray(self.held_out[first : first + size], np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class PictureFeed:
    """Batches of augmented pictures."""

    batches: Batches
    change: Augmenter
    """Random changes; mixing of pictures is part of it."""
    task: Task
    smoothing: float
    """Share of the label spread over all answers."""
    batch_size: int
    seed: int
    frozen: Network | None = None
    """The frozen layers, run on every batch where their features would not fit on the disk."""
    teacher: Teacher | None = None
    """Whose answers to the same crops stand behind the labels."""

    @property
    def steps(self) -> int:
        """Batches in an epoch."""
        return max(1, self.batches.steps("train", self.batch_size, drop_remainder=True))

    @property
    def rows(self) -> int:
        """Rows in each batch."""
        return min(self.batch_size, len(self.batches.catalogue.indices("train")))

    def epoch(self, number: int) -> Iterator[Batch]:
        """The batches of an epoch."""
        pictures = self.batches.iterate(
            "train", self.batch_size, shuffle=True, seed=self.seed, epoch=number
        )
        steps = range(self.steps)
        answers = repeat(None) if self.teacher is None else self.teacher.answers_of_epoch(number)
        yield from read_ahead(
            self._augment(rows, labels, number * self.steps + step, of_teacher)
            for step, (rows, labels), of_teacher in zip(steps, pictures, answers, strict=False)
        )

    def validation(self, size: int) -> Iterator[NDArray[np.float32]]:
        """The rows of the validation split in batches of a size."""
        for pictures, _ in self.batches.iterate("validation", size):
            rows = np.asarray(pictures, np.float32)
            yield rows if self.frozen is None else self.frozen(rows)

    def _augment(
        self,
        pictures: NDArray[Any],
        labels: Labels,
        step: int,
        of_teacher: NDArray[np.float32] | None,
    ) -> Batch:
        aims = targets_of(self.task, labels, self.smoothing)
        if self.teacher is not None and of_teacher is not None:
            # Side by side, so that mixup and cutmix mix them alike.
            aims = self.teacher.targets(of_teacher, aims)
        changed, targets = self.change(np.asarray(pictures, np.float32), aims, step=step)
        rows = np.asarray(keras.ops.convert_to_numpy(changed), np.float32)
        if self.frozen is not None:
            rows = self.frozen(rows)
        return rows, np.asarray(keras.ops.convert_to_numpy(targets), np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class MixedFeed:
    """Batches of labelled pictures with batches of unlabelled ones among them."""

    labelled: Feed
    unlabelled: Feed
    seed: int

    @property
    def steps(self) -> int:
        """Batches in an epoch."""
        return self.labelled.steps + self.unlabelled.steps

    @property
    def rows(self) -> int:
        """Rows in the larger batches."""
        return max(self.labelled.rows, self.unlabelled.rows)

    def epoch(self, number: int) -> Iterator[Batch]:
        """The batches of an epoch, in an order that is drawn."""
        feeds = (self.labelled, self.unlabelled)
        epochs = [feed.epoch(number) for feed in feeds]
        turns = np.repeat([0, 1], [feed.steps for feed in feeds])
        for turn in np.random.default_rng([self.seed, number]).permutation(turns):
            yield next(epochs[turn])

    def validation(self, size: int) -> Iterator[NDArray[np.float32]]:
        """The rows of the validation split in batches of a size."""
        return self.labelled.validation(size)


def targets_of(task: Task, labels: Labels, smoothing: float) -> NDArray[np.float32] | None:
    """Labels for a loss; ``None`` for pictures without."""
    return task.targets(labels, smoothing) if task.is_known(labels).all() else None


def _in_shares(rows: int) -> int:
    """So many rows, or as few more as devices can share equally."""
    return -(-rows // count_replicas()) * count_replicas()


class _InOrder(keras.utils.PyDataset):
    """Batches of rows, labels and weights, one after the other.

    They begin again when Keras asks for another one than the next. Each has the same number of
    rows: what is missing is filled up with rows that do not count, so that devices can take equal
    shares.
    """

    def __init__(self, batches: int, rows: int) -> None:
        super().__init__()
        self._count = batches
        self.rows = rows
        self._following = -1
        self._batches: Iterator[Any] = iter(())

    @property
    def num_batches(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> tuple[NDArray[np.float32], ...]:
        if index != self._following:
            self._batches = islice(self.begin(), index, None)
        self._following = index + 1
        batch = next(self._batches)
        missing = self.rows - len(batch[0])
        return tuple(np.pad(x, [(0, missing), *[(0, 0)] * (x.ndim - 1)]) for x in batch)

    def on_epoch_begin(self) -> None:
        self._following = -1

    def begin(self) -> Iterator[tuple[NDArray[np.float32], ...]]:
        """The batches from the first on."""
        raise NotImplementedError


class Training(_InOrder):
    """A feed's batches for `keras.Model.fit`: rows, soft labels, and weights that sum to 1."""

    def __init__(self, feed: Feed, task: Task, output_weights: NDArray[np.float32]) -> None:
        """Weigh each row by its classes or tags; ``epoch`` is the one that is read next."""
        super().__init__(feed.steps, _in_shares(feed.rows))
        self.epoch = 0
        self._feed = feed
        self._task = task
        self._output_weights = output_weights

    def begin(self) -> Iterator[tuple[NDArray[np.float32], ...]]:
        """The batches of the epoch."""
        for rows, labels in self._feed.epoch(self.epoch):
            # A teacher's answers stand behind.
            hard = labels[..., : self._task.target_width]
            weights = self._task.row_weights(hard, self._output_weights)
            yield rows, labels, weights / max(float(weights.sum()), _LEAST)


class Validation(_InOrder):
    """A feed's validation split for Keras: rows, targets and weights."""

    def __init__(self, feed: Feed, task: Task, labels: Labels) -> None:
        batches = -(-len(labels) // _VALIDATION_BATCH)
        rows = _in_shares(-(-len(labels) // batches))
        super().__init__(-(-len(labels) // rows), rows)
        self._feed = feed
        self._labels, self._task = task.targets(labels), task
        self._ones = np.ones(len(task.names), np.float32)
        # Keras sums over a batch and takes the mean over batches: this makes it that over rows, or
        # over the places in them that count.
        total = sum(float(self._weights(n).sum(dtype=np.float64)) for n in range(self._count))
        self._share = self._count / max(total, _LEAST)

    def begin(self) -> Iterator[tuple[NDArray[np.float32], ...]]:
        """The batches from the first on."""
        for number, rows in enumerate(self._feed.validation(self.rows)):
            yield rows, self._labels_of(number), self._weights(number) * np.float32(self._share)

    def _labels_of(self, number: int) -> NDArray[np.float32]:
        return self._labels[number * self.rows :][: self.rows]

    def _weights(self, number: int) -> NDArray[np.float32]:
        return self._task.row_weights(self._labels_of(number), self._ones)


def mix(
    rows: NDArray[np.float32],
    labels: NDArray[np.float32],
    alpha: float,
    rng: np.random.Generator,
) -> Batch:
    """Mix each row and its label with another of the batch by shares from a Beta distribution."""
    if not alpha:
        return rows, labels
    drawn = rng.beta(alpha, alpha, len(rows))
    # The row itself keeps the larger share, so that every picture of the epoch is still in it.
    share = np.maximum(drawn, 1.0 - drawn).astype(np.float32)
    partner = rng.permutation(len(rows))
    return _blend(rows, rows[partner], share), _blend(labels, labels[partner], share)


def _blend(
    first: NDArray[np.float32], second: NDArray[np.float32], share: NDArray[np.float32]
) -> NDArray[np.float32]:
    wide = share.reshape(-1, *[1] * (first.ndim - 1))
    return np.asarray(wide * first + (1 - wide) * second, np.float32)


def read_ahead(batches: Iterator[Batch]) -> Iterator[Batch]:
    """The same batches, the next one computed while the current one is used."""
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(next, batches, None)
        while (batch := following.result()) is not None:
            following = pool.submit(next, batches, None)
            yield batch

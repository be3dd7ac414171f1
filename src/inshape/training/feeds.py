"""What a training step learns from: batches that a seed, an epoch and a step number fix."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from typing import Any, Protocol, TypeAlias

import keras
import numpy as np
from numpy.typing import NDArray

from ..data.augment import Augmenter
from ..data.batches import Batches

Batch: TypeAlias = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Rows ``(batch, ...)`` and soft labels ``(batch, classes)``."""


class Feed(Protocol):
    """Training batches."""

    @property
    def steps(self) -> int:
        """Batches in an epoch."""
        ...

    def epoch(self, number: int, start: int) -> Iterator[Batch]:
        """The batches of an epoch from one of them on."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class FeatureFeed:
    """Batches of cached features; each row comes from a view drawn at random.

    Attributes:
        views: features per view, each ``(pictures, ...)``.
        labels: soft labels per view, each ``(pictures, classes)``.
        batch_size: rows per batch.
        seed: of the run.
        mixup: alpha of the mixing of rows and labels, 0 for none (manifold mixup, Verma et al.,
            arXiv 1806.05236).
    """

    views: Sequence[NDArray[Any]]
    labels: Sequence[NDArray[np.float32]]
    batch_size: int
    seed: int
    mixup: float = 0.0

    @property
    def steps(self) -> int:
        """Batches in an epoch; a last, smaller one is left out unless it is the only one."""
        return max(1, len(self.labels[0]) // self.batch_size)

    def epoch(self, number: int, start: int) -> Iterator[Batch]:
        """The batches of an epoch, the same for the same seed.

        Args:
            number: the epoch, from 0.
            start: the first batch wanted.

        Yields:
            Rows and soft labels.
        """
        order = np.random.default_rng([self.seed, number]).permutation(len(self.labels[0]))
        for step in range(start, self.steps):
            rng = np.random.default_rng([self.seed, number, step])
            chosen = order[step * self.batch_size : (step + 1) * self.batch_size]
            drawn = rng.integers(len(self.views), size=len(chosen))
            picked = list(zip(drawn, chosen, strict=True))
            rows = np.stack([self.views[v][i] for v, i in picked]).astype(np.float32)
            labels = np.stack([self.labels[v][i] for v, i in picked])
            yield mixed(rows, labels, self.mixup, rng)


@dataclass(frozen=True, slots=True, eq=False)
class PictureFeed:
    """Batches of augmented pictures.

    Attributes:
        batches: the prepared pictures.
        change: random changes; mixing of pictures is part of it.
        classes: how many.
        smoothing: share of the label spread over all classes.
        batch_size: pictures per batch.
        seed: of the run.
        front: a frozen network to run the changed pictures through, where its features would not
            fit on the disk.
        teacher: gives a teacher's soft labels of the same crops, batch by batch from an epoch and a
            step on.
    """

    batches: Batches
    change: Augmenter
    classes: int
    smoothing: float
    batch_size: int
    seed: int
    front: Callable[[NDArray[np.float32]], NDArray[np.float32]] | None = None
    teacher: Callable[[int, int], Iterator[NDArray[np.float32]]] | None = None

    @property
    def steps(self) -> int:
        """Batches in an epoch; a last, smaller one is left out unless it is the only one."""
        return max(1, self.batches.steps("train", self.batch_size, drop_remainder=True))

    def epoch(self, number: int, start: int) -> Iterator[Batch]:
        """The batches of an epoch, the same for the same seed.

        Args:
            number: the epoch, from 0.
            start: the first batch wanted.

        Yields:
            Pictures and soft labels.
        """
        read = self.batches.iterate(
            "train", self.batch_size, shuffle=True, seed=self.seed, epoch=number, start=start
        )
        steps = range(start, self.steps)
        taught = repeat(None) if self.teacher is None else self.teacher(number, start)
        yield from ahead(
            self._changed(pictures, labels, number * self.steps + step, soft)
            for step, (pictures, labels), soft in zip(steps, read, taught, strict=False)
        )

    def _changed(
        self,
        pictures: NDArray[Any],
        labels: NDArray[np.int32],
        step: int,
        taught: NDArray[np.float32] | None,
    ) -> Batch:
        soft = soft_labels(labels, self.classes, self.smoothing)
        if taught is not None:
            soft = np.concatenate([soft, taught], axis=1)
        changed, targets = self.change(np.asarray(pictures, np.float32), soft, step=step)
        rows = np.asarray(keras.ops.convert_to_numpy(changed), np.float32)
        if self.front is not None:
            rows = self.front(rows)
        return rows, np.asarray(keras.ops.convert_to_numpy(targets), np.float32)


def soft_labels(
    labels: NDArray[np.integer[Any]], classes: int, smoothing: float
) -> NDArray[np.float32]:
    """One-hot labels, some of each spread over all classes (Szegedy et al., arXiv 1512.00567).

    Args:
        labels: class numbers.
        classes: how many there are.
        smoothing: the share that is spread, in [0, 1).

    Returns:
        float32 ``(labels, classes)``, each row summing to 1.

    Example:
        >>> print(soft_labels(np.array([1]), 4, 0.2))
        [[0.05 0.85 0.05 0.05]]
    """
    hot = np.eye(classes, dtype=np.float32)[labels]
    return hot * np.float32(1.0 - smoothing) + np.float32(smoothing / classes)


def mixed(
    rows: NDArray[np.float32],
    labels: NDArray[np.float32],
    alpha: float,
    rng: np.random.Generator,
) -> Batch:
    """Mix each row and its label with another of the batch.

    Args:
        rows: ``(batch, ...)``.
        labels: ``(batch, classes)``.
        alpha: of the Beta distribution of the shares; 0 hands the batch back.
        rng: where the shares and partners come from.

    Returns:
        The mixed batch; each row keeps at least half of itself.
    """
    if not alpha:
        return rows, labels
    drawn = rng.beta(alpha, alpha, len(rows))
    share = np.maximum(drawn, 1.0 - drawn).astype(np.float32)
    partner = rng.permutation(len(rows))
    return _mix(rows, rows[partner], share), _mix(labels, labels[partner], share)


def _mix(
    first: NDArray[np.float32], second: NDArray[np.float32], share: NDArray[np.float32]
) -> NDArray[np.float32]:
    wide = share.reshape(-1, *[1] * (first.ndim - 1))
    return np.asarray(wide * first + (1 - wide) * second, np.float32)


def ahead(batches: Iterator[Batch]) -> Iterator[Batch]:
    """The same batches, the next one made while the current one is used."""
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(next, batches, None)
        while (batch := following.result()) is not None:
            following = pool.submit(next, batches, None)
            yield batch

"""A trained network at its native shape, asked about the same crops that a student sees."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import keras
import numpy as np
from numpy.typing import NDArray

from ..data.augment import augmenter
from ..data.batches import Batches
from ..features.extract import Extraction
from ..features.views import View
from ..heads import LOGITS
from ..progress import Progress
from ..runs import Run
from ..runtime.frozen import Forward
from ..tasks.task import Task
from .recipe import Recipe

_SAMPLE = 32


@dataclass(frozen=True, slots=True)
class Teaching:
    """How a teacher's answers count."""

    share: float
    """Of its soft labels in the loss, in (0, 1]; the rest is that of the hard labels."""
    temperature: float
    """By which both networks' logits are divided."""

    def soften(self, task: Task, logits: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """A teacher's soft labels, ``(rows, outputs)``.

        Example:
            >>> from inshape.tasks.classification import Classification
            >>> logits = np.log([[16.0, 4.0, 1.0]])
            >>> print(Teaching(0.5, 2.0).soften(Classification(("a", "b", "c")), logits).round(3))
            [[0.571 0.286 0.143]]
        """
        return task.soften(np.asarray(logits, np.float64) / self.temperature)


Losses: TypeAlias = Callable[[Any, Any], Any]
"""From targets and logits to a loss for each row."""


def losses_of(task: Task) -> Losses:
    """The loss of each row, which the mean or the sum is taken of elsewhere."""
    kind, settings = task.loss
    return getattr(keras.losses, kind)(reduction=None, **settings)


def distillation_losses(labels: Any, logits: Any, losses: Losses, teaching: Teaching) -> Any:
    """The loss of each row against hard labels and the soft ones in the columns behind them.

    Example:
        >>> from inshape.tasks.classification import Classification
        >>> losses = losses_of(Classification(("a", "b")))
        >>> both = np.array([[1.0, 0.0, 0.5, 0.5]], "float32")
        >>> logits = np.array([[3.0, 3.0]], "float32")
        >>> of_both = distillation_losses(both, logits, losses, Teaching(0.25, 2.0))
        >>> print(np.round(np.asarray(of_both), 4))
        [1.213]
    """
    outputs = logits.shape[-1]
    hard, soft = labels[:, :outputs], labels[:, outputs:]
    cooled = losses(soft, logits / teaching.temperature)
    plain = losses(hard, logits)
    # Division by the temperature makes the soft part's gradients smaller by its square: without the
    # factor, the share would mean something else at every temperature (Hinton, Vinyals and Dean,
    # arXiv 1503.02531, section 2.1).
    return (1.0 - teaching.share) * plain + teaching.share * teaching.temperature**2 * cooled


class Teacher:
    """Soft labels for a student's pictures.

    Shifts, zooms and mirrorings are drawn relative to the size of a picture, from a seed and a step
    number: with the student's own, the teacher sees the same crop in more pixels.
    """

    def __init__(
        self, run: Run, student: Batches, recipe: Recipe, *, seed: int, progress: Progress
    ) -> None:
        """Open a complete run as the teacher of a student with these pictures and this recipe."""
        self.teaching = Teaching(recipe.distil_share, recipe.distil_temperature)
        self._recipe = recipe
        self._seed = seed
        self._task = student.catalogue.task
        self._progress = progress
        # The changes are those that the student's channels allow: a grey student's have no hue, and
        # one more layer among the teacher's would give the others another seed.
        self._channels = student.preparation.shape.channels
        model = run.load_model()
        self._model = keras.Model(model.inputs[0], model.get_layer(LOGITS).output)
        with progress.bar("preparing pictures for the teacher") as advance:
            self._batches = Batches.open(student.catalogue, run.preparation, progress=advance)

    def soft_labels_of_views(
        self, views: Sequence[View], folder: Path
    ) -> list[NDArray[np.float32]]:
        """Soft labels of the training pictures' views; the answers are kept in the folder."""
        extraction = Extraction(
            self._model,
            self._batches,
            augment=self._recipe.augment,
            flip=self._recipe.flip,
            seed=self._seed,
            channels=self._channels,
        )
        labels: list[NDArray[np.float32]] = []
        for view in views:
            with self._progress.bar(f"the teacher's answers: {view}") as advance:
                logits = extraction.rows("train", view, folder, lambda: self._forward, advance)
            labels.append(self.teaching.soften(self._task, logits))
        return labels

    def soft_labels_of_epoch(self, number: int) -> Iterator[NDArray[np.float32]]:
        """Soft labels of an epoch's crops, batch by batch."""
        recipe = self._recipe
        # Without mixup and cutmix: these mix labels, and the feed mixes the soft ones as well.
        change = augmenter(
            recipe.augment,
            channels=self._channels,
            seed=self._seed,
            flip=recipe.flip,
            rand_augment=recipe.rand_augment,
        )
        steps = max(1, self._batches.steps("train", recipe.batch_size, drop_remainder=True))
        batches = self._batches.iterate(
            "train", recipe.batch_size, shuffle=True, seed=self._seed, epoch=number
        )
        for step, (pictures, _) in zip(range(steps), batches, strict=False):
            crops, _ = change(np.asarray(pictures, np.float32), step=number * steps + step)
            rows = np.asarray(keras.ops.convert_to_numpy(crops), np.float32)
            yield self.teaching.soften(self._task, self._forward(rows))

    @cached_property
    def _forward(self) -> Forward:
        pictures, _ = next(self._batches.iterate("train", _SAMPLE, shuffle=True, seed=self._seed))
        return Forward(self._model, np.asarray(pictures, np.float32))

"""A trained network at its native shape, asked about the same crops that a student sees."""

from __future__ import annotations

import copy
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
from ..features.cut import Cut, section, stage_ends
from ..features.extract import Extraction
from ..features.views import View
from ..heads import LOGITS
from ..progress import Progress
from ..runs import Run
from ..runtime.frozen import Forward
from ..tasks.task import Task
from .recipe import Recipe

_SAMPLE = 32


Losses: TypeAlias = Callable[[Any, Any], Any]
"""From targets and logits to a loss for each row."""


@dataclass(frozen=True, slots=True)
class Teaching:
    """How a teacher's answers count."""

    share: float
    """Of its soft labels in the loss, in (0, 1]; the rest is that of the hard labels."""
    temperature: float
    """By which both networks' logits are divided."""
    map_weight: float = 0.0
    """Of its last map in the loss."""
    channels: int = 0
    """Of that map."""

    def targets(
        self, task: Task, answers: NDArray[np.float32], hard: NDArray[np.float32] | None
    ) -> NDArray[np.float32]:
        """What a student is to learn: hard labels, soft labels and a map, side by side.

        ``answers`` are the teacher's logits with the flat map behind them. Where there are no hard
        labels, its own probabilities take their place.

        Example:
            >>> from inshape.tasks.classification import Classification
            >>> answers = np.array([[2.773, 1.386, 0.0, 5.0]], np.float32)
            >>> task = Classification(("a", "b", "c"))
            >>> print(Teaching(0.5, 2.0).targets(task, answers, None).round(3))
            [[0.762 0.19  0.048 0.572 0.286 0.143 5.   ]]
        """
        logits = np.asarray(answers[:, : len(task.names)], np.float64)
        hard = task.soften(logits) if hard is None else hard
        soft = task.soften(logits / self.temperature)
        return np.concatenate([hard, soft, answers[:, len(task.names) :]], axis=1)

    def losses(self, targets: Any, answers: Any, plain: Losses, outputs: int) -> Any:
        """The loss of each row, from what `targets` made and a student's logits with its flat map.

        Example:
            >>> from inshape.tasks.classification import Classification
            >>> plain = Classification(("a", "b")).losses()
            >>> both = np.array([[1.0, 0.0, 0.5, 0.5]], "float32")
            >>> logits = np.array([[3.0, 3.0]], "float32")
            >>> print(np.round(np.asarray(Teaching(0.25, 2.0).losses(both, logits, plain, 2)), 4))
            [1.213]
        """
        hard, soft = targets[:, :outputs], targets[:, outputs : 2 * outputs]
        logits = answers[:, :outputs]
        cooled = plain(soft, logits / self.temperature)
        # Division by the temperature makes the soft part's gradients smaller by its square: without
        # the factor, the share would mean something else at every temperature (Hinton, Vinyals and
        # Dean, arXiv 1503.02531, section 2.1).
        of_labels = (1.0 - self.share) * plain(hard, logits)
        of_labels += self.share * self.temperature**2 * cooled
        # On JAX, Keras tries a loss out on answers that are not those of training: without a map.
        if not self.channels or answers.shape[-1] == outputs:
            return of_labels
        at_places = (-1, (targets.shape[-1] - 2 * outputs) // self.channels, self.channels)
        wanted = keras.ops.reshape(targets[:, 2 * outputs :], at_places)
        shown = keras.ops.reshape(answers[:, outputs:], at_places)
        # The direction alone: how large the values of a map are depends on the size of the picture.
        unlike = 1.0 + keras.losses.cosine_similarity(wanted, shown)
        of_map: Any = keras.ops.mean(unlike, axis=-1)
        return of_labels + self.map_weight * of_map


class Teacher:
    """The answers of a trained network to a student's pictures: logits, and its last map.

    Shifts, zooms and mirrorings are drawn relative to the size of a picture, from a seed and a step
    number: with the student's own, the teacher sees the same crop in more pixels.
    """

    def __init__(
        self,
        run: Run,
        student: Batches,
        recipe: Recipe,
        shown: Cut | None,
        *,
        batch_size: int,
        seed: int,
        progress: Progress,
    ) -> None:
        """Open a complete run as the teacher of a student with these pictures and this recipe.

        ``shown`` is where the student shows its last map, if the teacher's is to be its example.
        """
        self._preparation = run.preparation
        self._recipe = recipe
        self._batch_size = batch_size
        self._seed = seed
        self._task = student.catalogue.task
        self._progress = progress
        # The changes are those that the student's channels allow: a grey student's have no hue, and
        # one more layer among the teacher's would give the others another seed.
        self._channels = student.preparation.shape.channels
        model = run.load_model()
        logits = model.get_layer(LOGITS).output
        self._model = keras.Model(model.inputs[0], logits)
        channels = 0
        if recipe.distil_maps and shown is not None:
            channels = shown.channels
            self._model = _with_map(self._model, run.preparation.shape.hw, shown)
        self.teaching = Teaching(
            recipe.distil_share, recipe.distil_temperature, recipe.distil_maps, channels
        )
        self._batches = self._open(student)

    def of(self, student: Batches) -> Teacher:
        """The same teacher of other pictures."""
        self._forward  # noqa: B018 - which both share
        other = copy.copy(self)
        other._batches = other._open(student)
        return other

    def targets(
        self, answers: NDArray[np.float32], hard: NDArray[np.float32] | None
    ) -> NDArray[np.float32]:
        """See `Teaching.targets`."""
        return self.teaching.targets(self._task, answers, hard)

    def answers_to_views(self, views: Sequence[View], folder: Path) -> Iterator[NDArray[Any]]:
        """Answers to each view of the training pictures; they are kept in the folder."""
        extraction = Extraction(
            self._model,
            self._batches,
            augment=self._recipe.augment,
            flip=self._recipe.flip,
            seed=self._seed,
            channels=self._channels,
        )
        for view in views:
            with self._progress.bar(f"the teacher's answers: {view}") as advance:
                yield extraction.rows("train", view, folder, lambda: self._forward, advance)

    def answers_of_epoch(self, number: int) -> Iterator[NDArray[np.float32]]:
        """Answers to an epoch's crops, batch by batch."""
        recipe = self._recipe
        # Without mixup and cutmix: these mix targets, and the feed mixes the teacher's as well.
        change = augmenter(
            recipe.augment,
            channels=self._channels,
            seed=self._seed,
            flip=recipe.flip,
            rand_augment=recipe.rand_augment,
        )
        steps = max(1, self._batches.steps("train", self._batch_size, drop_remainder=True))
        batches = self._batches.iterate(
            "train", self._batch_size, shuffle=True, seed=self._seed, epoch=number
        )
        for step, (pictures, _) in zip(range(steps), batches, strict=False):
            crops, _ = change(np.asarray(pictures, np.float32), step=number * steps + step)
            yield self._forward(np.asarray(keras.ops.convert_to_numpy(crops), np.float32))

    def _open(self, student: Batches) -> Batches:
        with self._progress.bar("preparing pictures for the teacher") as advance:
            return Batches.open(student.catalogue, self._preparation, progress=advance)

    @cached_property
    def _forward(self) -> Forward:
        pictures, _ = next(self._batches.iterate("train", _SAMPLE, shuffle=True, seed=self._seed))
        return Forward(self._model, np.asarray(pictures, np.float32))


def _with_map(model: keras.Model, size_hw: Any, shown: Cut) -> keras.Model:
    """A teacher's logits with the map behind them that a student shows, at the student's size."""
    *_, end = stage_ends(model, size_hw, 1)
    both = section(model, None, None, end)
    logits, last_map = both.outputs
    assert shown.map_hw is not None
    if end.map_hw != shown.map_hw:
        last_map = keras.layers.Resizing(*shown.map_hw)(last_map)
    flat = keras.layers.Flatten()(last_map)
    return keras.Model(both.inputs[0], keras.layers.Concatenate()([logits, flat]))

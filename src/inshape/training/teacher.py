"""A trained network at its native shape, asked about the same crops that a student sees."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

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
from .recipe import Recipe
from .teaching import Teaching

_SAMPLE = 32


class Teacher:
    """Soft labels for a student's pictures.

    Shifts, zooms and mirrorings are drawn relative to the size of a picture, from a seed and a step
    number: with the student's own, the teacher sees the same crop in more pixels. The changes are
    those that the student's channels allow, since one more would give the others another seed.

    Attributes:
        teaching: how its answers count.
    """

    def __init__(self, run: Run, student: Batches, recipe: Recipe, *, seed: int, show: Progress):
        """Open a teacher.

        Args:
            run: its run, complete.
            student: the student's pictures, which it sees at its own shape.
            recipe: the student's.
            seed: of the student's run.
            show: tells how far the work is.
        """
        self.teaching = Teaching(recipe.distil_share, recipe.distil_temperature)
        self._recipe = recipe
        self._seed = seed
        self._show = show
        self._channels = student.preparation.shape.channels
        model = run.load_model()
        self._model = keras.Model(model.inputs[0], model.get_layer(LOGITS).output)
        with show.bar("preparing pictures for the teacher") as advance:
            self._batches = Batches.open(student.catalogue, run.preparation, progress=advance)

    def of_views(self, views: Sequence[View], folder: Path) -> list[NDArray[np.float32]]:
        """Soft labels of the training pictures' views.

        Args:
            views: which versions of every picture.
            folder: where its answers are kept.

        Returns:
            One array per view, ``(pictures, classes)``.
        """
        made = Extraction(
            self._model,
            self._batches,
            augment=self._recipe.augment,
            flip=self._recipe.flip,
            seed=self._seed,
            channels=self._channels,
        )
        found: list[NDArray[np.float32]] = []
        for view in views:
            with self._show.bar(f"the teacher's answers: {view}") as advance:
                logits = made.rows("train", view, folder, lambda: self._forward, advance)
            found.append(self.teaching.soft(logits))
        return found

    def of_epoch(self, number: int, start: int) -> Iterator[NDArray[np.float32]]:
        """Soft labels of the crops of an epoch, batch by batch.

        Args:
            number: the epoch, from 0.
            start: the first batch wanted.

        Yields:
            ``(batch, classes)``.
        """
        recipe = self._recipe
        change = augmenter(
            recipe.augment,
            channels=self._channels,
            seed=self._seed,
            flip=recipe.flip,
            rand_augment=recipe.rand_augment,
        )
        steps = max(1, self._batches.steps("train", recipe.batch_size, drop_remainder=True))
        read = self._batches.iterate(
            "train", recipe.batch_size, shuffle=True, seed=self._seed, epoch=number, start=start
        )
        for step, (pictures, _) in zip(range(start, steps), read, strict=False):
            crops, _ = change(np.asarray(pictures, np.float32), step=number * steps + step)
            rows = np.asarray(keras.ops.convert_to_numpy(crops), np.float32)
            yield self.teaching.soft(self._forward(rows))

    @cached_property
    def _forward(self) -> Forward:
        pictures, _ = next(self._batches.iterate("train", _SAMPLE, shuffle=True, seed=self._seed))
        return Forward(self._model, np.asarray(pictures, np.float32))

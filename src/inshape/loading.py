"""`load`: pictures as a plan wants them, for a training loop of one's own."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from .data.batches import Batches
from .data.prepare import PictureOptions
from .data.sources import Source, open_source
from .data.split import split
from .planning import Plan
from .requests import make
from .tasks.find import TaskName


class Pictures(keras.utils.PyDataset):
    """Prepared pictures in batches: give it to ``fit``, index it, or loop over an epoch of it.

    A batch is float32 pictures ``(batch, height, width, channels)`` in [0, 255] and their labels:
    int32 class numbers, rows of 0 and 1 for tags, or floats for numbers.
    """

    def __init__(
        self, batches: Batches, part: str, *, batch_size: int, seed: int, shuffle: bool
    ) -> None:
        """Take one part of the pictures, shuffled anew after every epoch or in their order."""
        super().__init__()
        self.class_names: tuple[str, ...] = batches.catalogue.class_names
        """The classes by their numbers, or the names of tags."""
        self._batches, self._positions = batches, batches.catalogue.indices(part)
        self._batch_size, self._seed, self._shuffle = batch_size, seed, shuffle
        self._epoch = 0

    def __len__(self) -> int:
        return -(-len(self._positions) // self._batch_size)

    def __getitem__(self, index: int) -> tuple[NDArray[np.float32], NDArray[Any]]:
        if not 0 <= index < len(self):
            raise IndexError(index)  # which ends a loop over it
        order = self._positions
        if self._shuffle:
            order = np.random.default_rng([self._seed, self._epoch]).permutation(order)
        chosen = order[index * self._batch_size : (index + 1) * self._batch_size]
        batches = self._batches
        (pictures,) = batches.store.batches([batches.slots[chosen]])
        return np.asarray(pictures, np.float32), batches.labels_at(chosen)

    def on_epoch_end(self) -> None:
        """Draw another order; ``fit`` calls it, and a loop of one's own may."""
        self._epoch += 1


def load(
    source: Source,
    plan: Plan,
    *,
    batch_size: int = 32,
    validation: float = 0.1,
    seed: int = 0,
    task: TaskName = "auto",
    **picture_options: Any,
) -> tuple[Pictures, Pictures]:
    """Read pictures as a plan wants them, for a training loop of your own.

    They are prepared as `inshape.train` would prepare them: resized to the plan's height and width,
    grey, RGB or bands by its channels, with values in [0, 255], which the model scales itself.
    Unreadable pictures are left out, identical ones stand on one side of the split.

    Args:
        source: the pictures: a folder per class, folders train/ and val/, a table, ``.npz`` or
            ``(pictures, labels)``.
        plan: the plan, or the one of an adapted model.
        batch_size: pictures per batch; the last batch of an epoch may have fewer.
        validation: the fraction held out where the source has no split of its own.
        seed: fixes the split and the order.
        task: ``"classification"``, ``"multi-label"``, ``"regression"``, or by the labels.
        picture_options: those of `inshape.data.prepare.PictureOptions`, such as
            ``picture_fit="letterbox"``.

    Returns:
        The pictures for training, shuffled anew after each epoch, and those for validation, each a
        ``keras.utils.PyDataset``.

    Raises:
        DataError: if the pictures cannot be used.
        UnknownName: if there is no such option.

    Example:
        >>> import inshape
        >>> plan = inshape.plan("MobileNetV3Small", "33x48x1", classes=2)
        >>> pictures = np.random.default_rng(0).integers(0, 255, (20, 40, 60, 3), dtype="uint8")
        >>> train, validation = inshape.load((pictures, ["cat", "dog"] * 10), plan, batch_size=8)
        >>> [x.shape for x, y in train], train.class_names
        ([(8, 33, 48, 1), (8, 33, 48, 1), (2, 33, 48, 1)], ('cat', 'dog'))
    """
    catalogue = split(open_source(source, task=task), validation=validation, seed=seed)
    preparation = make(PictureOptions, **picture_options).at(plan.static_shape)
    batches = Batches.open(catalogue, preparation)
    train, held_out = (
        Pictures(batches, part, batch_size=batch_size, seed=seed, shuffle=part == "train")
        for part in ("train", "validation")
    )
    return train, held_out

"""Which versions of every picture are run through the frozen network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..data.augment import Augmentation, Augmenter, augmenter
from ..errors import RequestError
from ..runtime.runners import Runner
from ..runtime.shares import BATCH, Ask
from ..tasks.task import Labels, Task

View: TypeAlias = Literal["plain", "mirrored"] | int
"""As prepared; with left and right exchanged; or the n-th random version."""

Change: TypeAlias = Callable[[NDArray[Any], int], NDArray[np.float32]]


def views(count: int, augment: Augmentation, *, flip: bool = True) -> tuple[View, ...]:
    """The plain picture, its mirror image if that is allowed, then random versions.

    Raises:
        RequestError: if the count is below 1.

    Example:
        >>> views(4, "light"), views(2, "light", flip=False), views(4, "none")
        (('plain', 'mirrored', 2, 3), ('plain', 1), ('plain',))
    """
    if count < 1:
        raise RequestError(
            f"views={count}; expected at least 1; use 1 for the plain pictures alone"
        )
    if augment == "none":
        return ("plain",)
    numbered: list[View] = list(range(count))
    numbered[0] = "plain"
    if flip and count > 1:
        numbered[1] = "mirrored"
    return tuple(numbered)


def change_for(
    view: View,
    augment: Augmentation,
    *,
    channels: int,
    seed: int,
    flip: bool,
    moves_as: str = "",
) -> Change:
    """What a view does to a batch ``(pictures, height, width, channels)`` in [0, 255].

    The function takes the batch and its number in the pass; it returns float32 pictures, the same
    ones for the same number. Changes are chosen such that labels which are moved as ``moves_as``
    can go with them.
    """
    if view == "plain":
        return lambda pictures, number: np.asarray(pictures, np.float32)
    if view == "mirrored":
        return lambda pictures, number: np.asarray(pictures, np.float32)[:, :, ::-1]
    import keras  # which the workers of a cluster load for random views alone

    change = _random(view, augment, channels=channels, seed=seed, flip=flip, moves_as=moves_as)

    def changed(pictures: NDArray[Any], number: int) -> NDArray[np.float32]:
        result, _ = change(np.asarray(pictures, np.float32), step=number)
        return np.asarray(keras.ops.convert_to_numpy(result), np.float32)

    return changed


def targets_of_view(
    task: Task,
    labels: Labels,
    view: View,
    augment: Augmentation,
    *,
    size_hw: tuple[int, int],
    smoothing: float,
    **settings: Any,
) -> NDArray[np.float32]:
    """What is to be learned from a view of pictures that run through it in batches of `BATCH`.

    Labels of whole pictures stay as they are, others are moved. ``settings`` are those of
    `change_for`.
    """
    if not task.moves_as or view == "plain":
        return task.targets(labels, smoothing)
    if view == "mirrored":
        return task.targets(task.mirrored(labels), smoothing)
    targets = task.targets(labels, smoothing)
    change = _random(view, augment, moves_as=task.moves_as, **settings)
    moved: list[Labels] = []
    for number, start in enumerate(range(0, len(targets), BATCH)):
        part = targets[start : start + BATCH]
        # What is drawn depends on the size of a batch of pictures, not on what they show.
        blank = np.zeros((len(part), *size_hw, settings["channels"]), np.float32)
        _, result = change(blank, part.astype(np.float32), step=number)
        moved.append(np.asarray(result).astype(targets.dtype))
    return np.concatenate(moved)


def _random(view: int, augment: Augmentation, *, seed: int, **settings: Any) -> Augmenter:
    return augmenter(augment, seed=seed + 104_729 * view, **settings)


def of_view(change: Callable[[], Change], make: Callable[[], Runner]) -> Ask:
    """Made by the workers of a cluster: what answers a view of each picture."""
    changed, run = change(), make()
    return lambda pictures, number: run(changed(pictures, number))

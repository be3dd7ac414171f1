"""A model's answers to prepared pictures, by LiteRT where their number makes that faster."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.batches import Batches
from ..runtime.frozen import Forward
from ..tasks.task import Task

_BATCH = 16
"""Few enough that the maps of a batch do not set the peak memory of a whole training."""
_WORTH_CONVERTING = 500
"""Pictures from which on the conversion to LiteRT, a few seconds, is won back."""


def ask(
    network: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    task: Task,
    pictures: NDArray[np.float32],
    *,
    is_final: bool,
    mirrored: bool = False,
) -> NDArray[Any]:
    """Answers to prepared pictures ``(pictures, height, width, channels)``.

    ``is_final`` unless the network gives logits. Of ``mirrored`` ones, the mean of each picture's
    and of its mirror image's.
    """
    ways = (pictures, pictures[:, :, ::-1]) if mirrored else (pictures,)
    return np.mean([task.answers(network(way), is_final=is_final) for way in ways], axis=0)


def predict_answers(
    model: Any, task: Task, batches: Batches, *, mirrored: bool = False
) -> NDArray[Any]:
    """``(pictures, outputs)`` in the catalogue's order, whatever the model's last activation."""
    engine = "auto" if len(batches) >= _WORTH_CONVERTING else "keras"
    is_final = gives_answers(model)
    forward: Forward | None = None
    parts: list[NDArray[Any]] = []
    for pictures, _ in batches.iterate(None, _BATCH):
        rows = np.asarray(pictures, np.float32)
        if forward is None:
            forward = Forward(model, rows, engine=engine)
        parts.append(ask(forward, task, rows, is_final=is_final, mirrored=mirrored))
    return np.concatenate(parts)


def gives_answers(model: Any) -> bool:
    """Whether a functional model ends in more than logits: in a softmax, a sigmoid or a scaling."""
    import keras

    last: Any = model.outputs[0]._keras_history.operation
    known = (keras.activations.softmax, keras.activations.sigmoid)
    is_activated = getattr(last, "activation", None) in known
    return is_activated or isinstance(last, keras.layers.Softmax | keras.layers.Rescaling)

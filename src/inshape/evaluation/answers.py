"""A model's answers to prepared pictures, by LiteRT where their number makes that faster."""

from __future__ import annotations

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


def predict_answers(
    model: Any, task: Task, batches: Batches, *, mirrored: bool = False
) -> NDArray[Any]:
    """``(pictures, outputs)`` in the catalogue's order, whatever the model's last activation."""
    is_final = gives_answers(model)
    forward: Forward | None = None
    parts: list[NDArray[Any]] = []
    for pictures, _ in batches.iterate(None, _BATCH):
        rows = np.asarray(pictures, np.float32)
        if forward is None:
            forward = prepare(model, rows, len(batches))
        parts.append(task.ask(forward, rows, is_final=is_final, mirrored=mirrored))
    return np.concatenate(parts)


def prepare(model: Any, sample: NDArray[np.float32], count: int) -> Forward:
    """A model, ready to be asked about so many pictures."""
    return Forward(model, sample, engine="auto" if count >= _WORTH_CONVERTING else "keras")


def gives_answers(model: Any) -> bool:
    """Whether a functional model ends in more than logits: in a softmax, a sigmoid or a scaling."""
    import keras

    last: Any = model.outputs[0]._keras_history.operation
    known = (keras.activations.softmax, keras.activations.sigmoid)
    is_activated = getattr(last, "activation", None) in known
    return is_activated or isinstance(last, keras.layers.Softmax | keras.layers.Rescaling)

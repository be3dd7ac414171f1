"""Class probabilities of prepared pictures, by LiteRT where their number makes that faster."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from ..data.batches import Batches
from ..runtime.frozen import Forward
from .metrics import classify

_BATCH = 16
"""Few enough that the maps of a batch do not set the peak memory of a whole training."""
_WORTH_CONVERTING = 500
"""Pictures from which on the conversion to LiteRT, a few seconds, is won back."""


def predict_probabilities(
    model: keras.Model, batches: Batches, *, mirrored: bool = False
) -> NDArray[np.float32]:
    """``(pictures, classes)`` in the catalogue's order, whatever the model's last activation."""
    is_probability = gives_probabilities(model)
    forward: Forward | None = None
    parts: list[NDArray[np.float32]] = []
    for pictures, _ in batches.iterate(None, _BATCH):
        rows = np.asarray(pictures, np.float32)
        if forward is None:
            forward = prepare(model, rows, len(batches))
        parts.append(classify(forward, rows, is_probability=is_probability, mirrored=mirrored))
    return np.concatenate(parts)


def prepare(model: keras.Model, sample: NDArray[np.float32], count: int) -> Forward:
    """A model, ready to be asked about so many pictures."""
    return Forward(model, sample, engine="auto" if count >= _WORTH_CONVERTING else "keras")


def gives_probabilities(model: keras.Model) -> bool:
    """Whether a functional model's last layer is a softmax or a sigmoid, or has one."""
    last: Any = model.outputs[0]._keras_history.operation
    activation = getattr(last, "activation", None)
    known = (keras.activations.softmax, keras.activations.sigmoid)
    return activation in known or type(last).__name__ == "Softmax"

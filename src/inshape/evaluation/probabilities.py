"""Class probabilities of prepared pictures, by LiteRT where their number makes that faster."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from ..data.batches import Batches
from ..runtime.frozen import Forward
from .metrics import as_probabilities

_BATCH = 16
"""Few enough that the maps of a batch do not set the peak memory of a whole training."""
_WORTH_CONVERTING = 500
"""Pictures from which on the conversion to LiteRT, a few seconds, is won back."""


def predict_probabilities(model: keras.Model, batches: Batches) -> NDArray[np.float32]:
    """``(pictures, classes)`` in the catalogue's order, of a model with or without a softmax."""
    engine = "auto" if len(batches) >= _WORTH_CONVERTING else "keras"
    forward: Forward | None = None
    parts: list[NDArray[np.float32]] = []
    for pictures, _ in batches.iterate(None, _BATCH):
        rows = np.asarray(pictures, np.float32)
        if forward is None:
            forward = Forward(model, rows, engine=engine)
        parts.append(forward(rows))
    return as_probabilities(np.concatenate(parts), is_softmax=ends_in_softmax(model))


def ends_in_softmax(model: keras.Model) -> bool:
    """Whether a functional model's last layer is a softmax, by itself or as an activation."""
    last: Any = model.outputs[0]._keras_history.operation
    activation = getattr(last, "activation", None)
    return activation is keras.activations.softmax or type(last).__name__ == "Softmax"

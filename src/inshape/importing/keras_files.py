"""Files of Keras 3."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..errors import RequestError
from ..graph.saving import load_model
from .imported import Imported


def read(path: Path, outputs: Sequence[str]) -> Imported:
    """Load a whole model, which ends where it ends."""
    if outputs:
        raise RequestError(
            f"outputs={list(outputs)} with {path}; expected a .tflite file; leave outputs out, and "
            "make keras.Model(model.inputs, [model.get_layer(name).output]) of it"
        )
    return Imported(load_model(path))

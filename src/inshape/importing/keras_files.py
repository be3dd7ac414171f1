"""Files of Keras, of its versions 2 and 3."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..errors import RequestError
from ..graph.saving import load_model
from .imported import Imported, range_notes
from .keras2 import keras_version, read_model


def read(path: Path, outputs: Sequence[str]) -> Imported:
    """Load a whole model, which ends where it ends."""
    if outputs:
        raise RequestError(
            f"outputs={list(outputs)} with {path}; expected a .tflite or .onnx file; "
            "leave outputs out, and cut the model there: "
            "keras.Model(model.inputs, [model.get_layer(name).output])"
        )
    model = read_model(path) if keras_version(path).startswith("2.") else load_model(path)
    is_of_run = (path.parent / "run.json").is_file()  # trained on pixels from 0 to 255
    return Imported(model, () if is_of_run else range_notes(model))

"""Conversions by TensorFlow, in a process of their own, where Keras runs on another backend."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, GraphError
from .apart import Ended, run_apart

if TYPE_CHECKING:
    import keras

_MODULE = f"{__package__}.tensorflow_process"


def is_needed() -> bool:
    """Whether this process cannot convert a model itself."""
    import keras  # slow to import

    return keras.backend.backend() != "tensorflow"


def call_in_tensorflow(
    function: str,
    model: keras.Model,
    path: Path,
    pictures: Sequence[NDArray[np.float32]] = (),
    **options: Any,
) -> None:
    """Have `convert` or `to_litert` write a file from a model, by a process with TensorFlow.

    Raises:
        GraphError: if the format has no operator for a layer, or the model cannot be read there.
        DataError: if there is nothing to calibrate a quantised file on.
    """
    with tempfile.TemporaryDirectory() as folder:
        saved, sample = Path(folder, "model.keras"), Path(folder, "pictures.npy")
        model.save(saved)
        np.save(sample, np.asarray(pictures, np.float32))
        task = {"function": function, "model": str(saved), "pictures": str(sample)}
        task |= {"path": str(path), "options": options}
        try:
            printed, _ = run_apart(
                _MODULE, text=json.dumps(task), environment={"KERAS_BACKEND": "tensorflow"}
            )
        except Ended as problem:
            raise GraphError(
                f"TensorFlow cannot convert model {model.name!r} in a process of its own "
                f"({problem}); expected layers that can be loaded there; set "
                "KERAS_BACKEND=tensorflow and register your own layers"
            ) from problem
    refusal = json.loads(printed.splitlines()[-1])
    if refusal is not None:
        kind, message = refusal
        raise {"DataError": DataError, "GraphError": GraphError}[kind](message)

"""Conversions by TensorFlow, in a process of their own, where Keras runs on another backend."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from ..errors import GraphError
from .apart import Ended, run_apart


def is_needed() -> bool:
    """Whether this process cannot convert a model itself."""
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
    """
    with tempfile.TemporaryDirectory() as folder:
        saved, sample = Path(folder, "model.keras"), Path(folder, "pictures.npy")
        model.save(saved)
        np.save(sample, np.asarray(pictures, np.float32))
        task = {"function": function, "model": str(saved), "pictures": str(sample)}
        task |= {"path": str(path), "options": options}
        try:
            printed, _ = run_apart(
                __name__, text=json.dumps(task), environment={"KERAS_BACKEND": "tensorflow"}
            )
        except Ended as problem:
            raise GraphError(
                f"TensorFlow cannot convert model {model.name!r} in a process of its own "
                f"({problem}); expected layers that can be loaded there; set "
                "KERAS_BACKEND=tensorflow and register your own layers"
            ) from problem
    refusal = json.loads(printed.splitlines()[-1])
    if refusal:
        raise GraphError(refusal)


def main() -> None:
    """Carry out the task on standard input; the refusal, or an empty text, is the last line."""
    from .conversion import convert
    from .formats import FORMATS
    from .litert_files import to_litert

    task = json.load(sys.stdin)
    model: Any = keras.saving.load_model(task["model"], compile=False)
    path, options = Path(task["path"]), task["options"]
    refusal = ""
    try:
        if task["function"] == "convert":
            options["form"] = FORMATS[options["form"]]
            convert(model, path=path, pictures=list(np.load(task["pictures"])), **options)
        else:
            path.write_bytes(to_litert(model, **options))
    except GraphError as error:
        refusal = str(error)
    print(json.dumps(refusal))


if __name__ == "__main__":
    main()

"""`read_file`: which reader takes which file.

A new kind is a module with ``read(path, outputs) -> Imported`` and a line in `READERS`.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path

from ..errors import UnknownName, WeightsError
from .imported import Imported

READERS = {
    ".keras": "keras_files",
    ".h5": "keras_files",
    ".hdf5": "keras_files",
    ".tflite": "litert",
    ".onnx": "onnx",
}
"""The module here that reads files of a suffix."""


def is_model_file(path: Path) -> bool:
    """Whether a path is named as a model file is."""
    return path.suffix.lower() in READERS


def read_file(path: Path, outputs: Sequence[str] = ()) -> Imported:
    """Read a model file.

    Args:
        path: the file; see `READERS` for its suffix.
        outputs: where to stop, by the names that the file has for it; nothing is the file's end.

    Raises:
        WeightsError: if there is no such file, or no whole network in it.
        GraphError: if it holds what no Keras layer computes.
        UnknownName: if it has no such output, or is of another kind.
    """
    if not is_model_file(path):
        raise UnknownName("kind of model file", path.suffix or path.name, READERS)
    if not path.is_file():
        kinds = ", ".join(READERS)
        raise WeightsError(f"no model file at {path}; expected one ({kinds}), or a backbone's name")
    reader = importlib.import_module(f"{__package__}.{READERS[path.suffix.lower()]}")
    return reader.read(path, outputs)

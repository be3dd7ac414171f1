"""Keras's own files, with as many threads as TensorFlow is set to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from .conversion import Conversion

if TYPE_CHECKING:
    import keras

    from .runners import Runner


def write(model: keras.Model, path: Path, conversion: Conversion) -> None:
    """Write a file."""
    model.save(path)


def load(path: Path, threads: int) -> Runner:
    """A file, ready to run."""
    from ..graph.saving import load_model

    model: Any = load_model(path)
    return lambda picture: model.predict(picture, verbose=0)

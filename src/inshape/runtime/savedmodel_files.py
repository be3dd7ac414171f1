"""SavedModels, each a folder, with as many threads as TensorFlow is set to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .conversion import Conversion, quiet

if TYPE_CHECKING:
    import keras

    from .runners import Runner


def write(model: keras.Model, path: Path, conversion: Conversion) -> None:
    """Write a folder."""
    with quiet("absl"):
        model.export(path, verbose=False)


def load(path: Path, threads: int) -> Runner:
    """A folder, ready to run."""
    import tensorflow as tf

    loaded: Any = tf.saved_model.load(str(path))

    def run(picture: NDArray[np.float32]) -> NDArray[np.float32]:
        return loaded.serve(tf.constant(picture)).numpy()

    return run

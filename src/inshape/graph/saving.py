"""Keras models in files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

from ..errors import WeightsError
from ..text import first_line
from ..writing import write_atomically

if TYPE_CHECKING:
    import keras


def load_model(path: Path) -> keras.Model:
    """Load a ``.keras`` file that may hold inshape's own layers.

    Raises:
        WeightsError: if there is no whole model in it, or one that would run code.
    """
    import keras  # here, so that run folders can be listed without a framework

    from . import layers

    custom_layers = {
        f"inshape>{kind.__name__}": kind
        for kind in (layers.AdaptivePooling2D, layers.GeneralizedMeanPooling2D)
    }
    try:
        return cast("keras.Model", keras.saving.load_model(path, custom_layers, compile=False))
    except Exception as error:  # zipfile, h5py and Keras each raise their own
        raise WeightsError(
            f"{path} cannot be loaded ({first_line(error)}); expected a whole model; save it with "
            "model.save('name.keras'), or train anew"
        ) from error


def save_model(model: keras.Model, path: Path) -> None:
    """Save a model atomically."""
    write_atomically(path, model.save)

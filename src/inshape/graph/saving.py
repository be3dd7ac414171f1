"""Keras models in files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

from ..errors import RequestError
from ..writing import write_atomically

if TYPE_CHECKING:
    import keras


def load_model(path: Path) -> keras.Model:
    """Load a ``.keras`` file that may hold inshape's custom_layers layers."""
    import keras  # here, so that run folders can be listed without a framework

    from . import layers

    custom_layers = {
        f"inshape>{kind.__name__}": kind
        for kind in (layers.AdaptivePooling2D, layers.GeneralizedMeanPooling2D)
    }
    try:
        return cast("keras.Model", keras.saving.load_model(path, custom_layers, compile=False))
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise RequestError(
            f"{path} cannot be loaded ({reason}); expected a model that Keras saved; train anew"
        ) from error


def save_model(model: keras.Model, path: Path) -> None:
    """Save a model atomically."""
    write_atomically(path, model.save)

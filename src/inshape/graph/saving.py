"""Keras models in files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

from ..errors import RequestError
from ..writing import write_atomically

if TYPE_CHECKING:
    import keras


def load_model(path: Path) -> keras.Model:
    """Load a ``.keras`` file that may hold inshape's own layers.

    Args:
        path: the file.

    Returns:
        The model.

    Raises:
        RequestError: if it cannot be read.
    """
    import keras  # here, so that run folders can be listed without a framework

    from . import layers

    own = {
        f"inshape>{kind.__name__}": kind
        for kind in (layers.AdaptivePooling2D, layers.GeneralizedMeanPooling2D)
    }
    try:
        return cast("keras.Model", keras.saving.load_model(path, own, compile=False))
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise RequestError(
            f"{path} cannot be loaded ({reason}); expected a model that Keras saved; train anew"
        ) from error


def save_model(model: keras.Model, path: Path) -> None:
    """Save a model atomically.

    Args:
        model: what to save.
        path: a path that ends in ``.keras``.

    Raises:
        RunError: if it cannot be written.
    """
    write_atomically(path, model.save)

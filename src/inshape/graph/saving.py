"""Keras models in files."""

from __future__ import annotations

import json
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, cast

from ..errors import WeightsError
from ..text import first_line
from ..writing import write_atomically
from .hdf5 import DAMAGE, open_checked

if TYPE_CHECKING:
    import keras


def load_model(path: Path) -> keras.Model:
    """Load a ``.keras`` file, or a whole model in HDF5, that may hold inshape's own layers.

    Raises:
        WeightsError: if there is no whole model in it, or one that would run code.
    """
    import h5py
    import keras  # here, so that run folders can be listed without a framework

    from . import layers

    if path.is_file() and h5py.is_hdf5(path) and not _holds_model(path):
        raise WeightsError(
            f"{path} holds weights without their model, expected a whole model; give the "
            "architecture's name as backbone and the file as weights"
        )
    with suppress(*DAMAGE), open_checked(path):  # damage is what loading it will tell
        pass
    custom_layers = {
        f"inshape>{kind.__name__}": kind
        for kind in (layers.AdaptivePooling2D, layers.GeneralizedMeanPooling2D)
    }
    try:
        return cast("keras.Model", keras.saving.load_model(path, custom_layers, compile=False))
    except Exception as error:  # zipfile, h5py and Keras each raise their own
        reason = first_line(str(error).partition(" Full object config")[0] or error)
        version = _version_of_keras(path)
        if version.startswith("2."):
            raise WeightsError(
                f"{path} was saved by Keras {version} and cannot be loaded by Keras 3 ({reason}); "
                "expected a .keras file of Keras 3; save it there with model.save('model.h5') and "
                "give that file"
            ) from error
        raise WeightsError(
            f"{path} cannot be loaded ({reason}); expected a whole model; save it with "
            "model.save('name.keras'), or train anew"
        ) from error


def _version_of_keras(path: Path) -> str:
    """The version that wrote a file; empty where it does not say so."""
    try:
        with zipfile.ZipFile(path) as archive:
            return str(json.loads(archive.read("metadata.json"))["keras_version"])
    except (OSError, KeyError, ValueError, TypeError, zipfile.BadZipFile):
        return ""


def _holds_model(path: Path) -> bool:
    import h5py

    try:
        with h5py.File(path, "r") as file:
            return "model_config" in file.attrs
    except OSError:
        return True  # which loading it will tell


def save_model(model: keras.Model, path: Path) -> None:
    """Save a model atomically."""
    write_atomically(path, model.save)

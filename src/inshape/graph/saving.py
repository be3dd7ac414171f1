"""Keras models in files."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from ..errors import RunError, WeightsError
from ..text import first_line
from ..writing import write_atomically
from .finite import problem_in, problem_of
from .hdf5 import DAMAGE, open_checked

if TYPE_CHECKING:
    import keras


def load_model(path: Path) -> keras.Model:
    """Load a ``.keras`` file, or a whole model in HDF5, that may hold inshape's own layers.

    Raises:
        WeightsError: if there is no whole model in it, or one that would run code.
    """
    odd = _odd_arrays(path)
    for name, values in odd:
        if values.dtype.kind not in "biu":
            raise _odd_weights(path, f"{name} {problem_of(values)}")
    model = _loaded(path)
    problem = problem_in(model.variables)
    # Counters and seeds are whole numbers in the model as well.
    whole = {tuple(v.shape) for v in model.variables if "float" not in str(v.dtype)}
    for name, values in odd:
        if values.shape not in whole:
            problem = f"{name} {problem_of(values)}"
    if problem:
        raise _odd_weights(path, problem)
    return model


def _loaded(path: Path) -> keras.Model:
    """The model in a file, whatever its weights are."""
    import h5py
    import keras  # here, so that run folders can be listed without a framework

    from . import layers

    if path.is_file() and h5py.is_hdf5(path) and not _holds_model(path):
        raise WeightsError(
            f"{path} holds weights without their model, expected a whole model; give the "
            "architecture's name as backbone and the file as weights"
        )
    custom_layers = {f"inshape>{kind.__name__}": kind for kind in layers.OWN}
    try:
        return cast("keras.Model", keras.saving.load_model(path, custom_layers, compile=False))
    except Exception as error:  # zipfile, h5py and Keras each raise their own
        reason = first_line(str(error).partition(" Full object config")[0] or error)
        if "Could not locate" in str(error):
            raise WeightsError(
                f"{path} cannot be loaded ({reason}); expected Keras's own layers; no code is run "
                "for a file: load it in Python with keras.saving.load_model(path, custom_objects="
                "{...}) and pass the keras.Model"
            ) from error
        raise WeightsError(
            f"{path} cannot be loaded ({reason}); expected a whole model; save it with "
            "model.save('name.keras'), or train anew"
        ) from error


def _odd_weights(path: Path, problem: str) -> WeightsError:
    return WeightsError(
        f"{path}: {problem}; expected finite floating-point numbers; take an earlier state of the "
        "model, or train anew with a lower learning rate"
    )


def _odd_arrays(path: Path) -> list[tuple[str, NDArray[Any]]]:
    """The weights in a file that are no floating-point numbers: their kind and shape alone.

    Keras casts whatever it reads to what a layer wants, and drops the imaginary part on the way.
    """
    import h5py

    odd: list[tuple[str, NDArray[Any]]] = []

    def collect(name: str, item: Any) -> None:
        is_weight = isinstance(item, h5py.Dataset) and not name.startswith("optimizer")
        if is_weight and item.dtype.kind != "f" and item.attrs.get("dtype") != "bfloat16":
            odd.append((name, np.broadcast_to(np.empty((), item.dtype), item.shape)))

    with suppress(*DAMAGE), open_checked(path) as file:  # damage is what loading it will tell
        file.visititems(collect)
    return odd


def _holds_model(path: Path) -> bool:
    import h5py

    try:
        with h5py.File(path, "r") as file:
            return "model_config" in file.attrs
    except DAMAGE:
        return True  # which loading it will tell


def save_model(model: keras.Model, path: Path) -> None:
    """Save a model atomically.

    Raises:
        RunError: if its weights are not finite, or the file cannot be written.
    """
    problem = problem_in(model.variables)
    if problem:
        raise RunError(
            f"{path} is not written: {problem}; expected finite numbers; train with a lower "
            "learning rate, or from other weights"
        )
    write_atomically(path, model.save)

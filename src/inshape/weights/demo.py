"""The demonstration checkpoint that comes with inshape, ``weights="demo"``.

It is of `BACKBONE` alone, without a classifier, as float16. `tools.pretrain_demo` made it from
pictures that come out of formulas (fractals, textures, outlines, glyph-like strokes), so that
neither a download nor a licence stands behind it. It shows what pretraining does where nothing can
be downloaded. It has never seen a photo and is worse than ImageNet's weights: take those for work.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..backbones import DEMO as BACKBONE
from ..backbones import Backbone
from ..errors import NoClassifier, WeightsError
from ..graph.finite import problem_of

if TYPE_CHECKING:
    import keras

PATH = Path(__file__).with_name("demo.safetensors")


def load_demo(backbone: Backbone, *, include_top: bool) -> keras.Model:
    """The network with the demonstration checkpoint, at its native shape.

    Example:
        >>> from inshape.backbones import find
        >>> load_demo(find(BACKBONE), include_top=False).count_params()
        441000
    """
    if backbone.name != BACKBONE:
        raise WeightsError(
            f"weights='demo' is a checkpoint of {BACKBONE}, expected weights of {backbone.name}; "
            f"use {BACKBONE} as backbone, or give weights='imagenet', a file or None"
        )
    if include_top:
        raise NoClassifier(
            f"weights='demo' holds {BACKBONE} without its classifier, expected one; use a new "
            "head, such as classes=10"
        )
    model = backbone.build(include_top=False)
    arrays = _read(PATH)
    wanted = _variables(model)
    problem = next(_misfits(arrays, wanted), None)
    if problem:
        raise WeightsError(f"{PATH} does not fit {BACKBONE}: {problem}; install inshape again")
    for name, variable in wanted.items():
        variable.assign(arrays[name].astype(np.float32))
    return model


def _misfits(arrays: Mapping[str, NDArray[Any]], wanted: Mapping[str, Any]) -> Iterator[str]:
    """What of the checkpoint is not as the network has it."""
    for name, variable in wanted.items():
        expected, actual = tuple(variable.shape), _shape_of(arrays.get(name))
        if actual != expected:
            yield f"{name} expects {expected}, found {actual}"
    yield from (f"{name} has no place" for name in arrays if name not in wanted)
    yield from (f"{n} {problem}" for n in wanted if (problem := problem_of(arrays[n], n)))


def save_demo(model: keras.Model, path: Path, about: dict[str, str]) -> None:
    """Write a network's weights as float16, each under its layer's and its own name."""
    from safetensors.numpy import save

    arrays = {name: np.asarray(v, np.float16) for name, v in _variables(model).items()}
    partial = path.with_suffix(f".{os.getpid()}.partial")
    partial.write_bytes(save(arrays, metadata=about))
    partial.replace(path)


def _variables(model: Any) -> dict[str, Any]:
    return {
        f"{layer.name}/{variable.name}": variable
        for layer in model.layers
        for variable in layer.weights
    }


def _read(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise WeightsError(
            f"{path} cannot be read ({' '.join(str(error).split())}), expected the demonstration "
            "checkpoint; install inshape again"
        ) from error


def _shape_of(array: Any) -> tuple[int, ...] | None:
    return None if array is None else tuple(array.shape)

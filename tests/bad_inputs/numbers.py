"""Numbers that are none: NaN, infinity and their like in weights, records and options."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import inshape
from inshape.adaptation import attach
from inshape.backbones import find
from inshape.graph.saving import load_model, save_model
from inshape.heads import Head
from inshape.reporting.api import report
from inshape.runs import Run
from inshape.weights import demo
from inshape.weights.sources import load_source
from inshape.writing import write_json

from .case import BadInput

_BACKBONE = "MobileNetV3Small-minimalistic"

_KINDS: dict[str, Callable[[Any], Any]] = {
    "NaN": lambda v: np.where(np.arange(v.size).reshape(v.shape) == 1, np.nan, v),
    "1e38": lambda v: np.full_like(v, 1e38),
    "complex numbers": lambda v: v.astype(complex),
    "whole numbers": lambda v: np.ones(v.shape, np.int64),
    "text": lambda v: np.full(v.shape, "a", "S1"),
}
_ANSWER = r"(NaN or infinity in|whose square is beyond|complex|whole numbers|text).*; expected"


@cache
def _network() -> keras.Model:
    return find(_BACKBONE).build(include_top=False)


@cache
def _small() -> keras.Model:
    image = keras.Input((8, 6, 1))
    features = keras.layers.Conv2D(2, 3, name="stem")(image)
    return attach(keras.Model(image, features), Head(classes=2))


def _ruined() -> keras.Model:
    model = keras.models.clone_model(_small())
    model.set_weights([np.full_like(w, np.nan) for w in _small().get_weights()])
    return model


def _replaced(path: Path, kind: str) -> Path:
    """A file whose first kernel is something else."""
    kernels: list[str] = []
    with h5py.File(path, "r+") as file:
        file.visititems(
            lambda name, item: kernels.append(name) if getattr(item, "ndim", 0) == 4 else None
        )
        values = file[kernels[0]][()]
        del file[kernels[0]]
        file[kernels[0]] = _KINDS[kind](values)
    return path


def _weights_file(kind: str) -> Callable[[Path], object]:
    def give(folder: Path) -> object:
        path = folder / "a.weights.h5"
        _network().save_weights(path)
        return load_source(find(_BACKBONE), _replaced(path, kind), include_top=False)

    return give


def _whole_model(kind: str) -> Callable[[Path], object]:
    def give(folder: Path) -> object:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Keras on the age of this format
            _small().save(folder / "a.h5")
        return load_model(_replaced(folder / "a.h5", kind))

    return give


def _demo(folder: Path) -> object:
    arrays = load_file(demo.PATH)
    name = next(iter(arrays))
    arrays[name] = np.full_like(arrays[name], np.inf)
    save_file(arrays, folder / "demo.safetensors")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "PATH", folder / "demo.safetensors")
        return demo.load_demo(find(_BACKBONE), include_top=False)


def _record(folder: Path) -> object:
    run = Run.create(folder / "run", {"metrics": {"loss": 1.5}})
    path = run.folder / "run.json"
    path.write_text(path.read_text().replace("1.5", "NaN"))
    return Run.open(run.folder)


def _comparison(folder: Path) -> object:
    (folder / "comparison.json").write_text('{"candidates": [{"name": "a", "macs": Infinity}]}')
    return report(folder)


def _learning_rate(value: str) -> Callable[[Path], object]:
    return lambda folder: inshape.train(folder, "64x64x3", out=folder / "run", learning_rate=value)


BAD_INPUTS = [
    *(BadInput(f"{kind} in a .weights.h5 file", _weights_file(kind), _ANSWER) for kind in _KINDS),
    *(BadInput(f"{kind} in a whole model", _whole_model(kind), _ANSWER) for kind in _KINDS),
    BadInput("infinity in the demonstration checkpoint", _demo, "NaN or infinity.*install inshape"),
    BadInput(
        "a model of NaN that is to be saved",
        lambda folder: save_model(_ruined(), folder / "a.keras"),
        "is not written: .*NaN or infinity",
    ),
    BadInput(
        "a model of NaN that is to be adapted",
        lambda _: inshape.adapt(_ruined(), "10x8x1", classes=2),
        "NaN or infinity.*expected finite",
    ),
    BadInput("NaN in run.json", _record, "run.json cannot be read .*NaN.*no finite number"),
    BadInput("infinity in comparison.json", _comparison, "cannot be read .*Infinity"),
    BadInput(
        "a score that is NaN",
        lambda folder: write_json(folder / "a.json", {"validation": {"loss": float("nan")}}),
        r"a result is nan \(validation.loss\)",
    ),
    BadInput("a learning rate of nan", _learning_rate("nan"), "learning_rate"),
    BadInput("a learning rate of inf", _learning_rate("inf"), "learning_rate"),
]

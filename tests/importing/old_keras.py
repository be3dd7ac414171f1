"""Whole models written as Keras 2 wrote them, by hand: it cannot be installed beside Keras 3."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import h5py
import numpy as np

Arrays: TypeAlias = Sequence[np.ndarray]


def layer(kind: str, name: str, *reads: str, **config: Any) -> dict[str, Any]:
    """The record of a layer that is called once."""
    inbound = [[[read, 0, 0, {}] for read in reads]] if reads else []
    config = {"name": name, "trainable": True, "dtype": "float32", **config}
    return {"class_name": kind, "config": config, "name": name, "inbound_nodes": inbound}


def function(word: str, name: str, node: Any) -> dict[str, Any]:
    """The record of one of TensorFlow's functions."""
    record = layer("TFOpLambda", name, function=word)
    return {**record, "inbound_nodes": [node]}


def picture(*shape: int) -> dict[str, Any]:
    return layer("InputLayer", "picture", batch_input_shape=[None, *shape], ragged=False)


def functional(layers: Sequence[Mapping[str, Any]], name: str = "net") -> dict[str, Any]:
    first, last = layers[0]["name"], layers[-1]["name"]
    config = {"name": name, "layers": list(layers), "input_layers": [[first, 0, 0]]}
    config["output_layers"] = [[last, 0, 0]]
    return {"class_name": "Functional", "config": config}


def write_h5(
    path: Path, model: Mapping[str, Any], weights: Mapping[str, Arrays], version: str = "2.4.0"
) -> Path:
    """Write a file of layers by their names."""
    names = [record["name"] for record in _records(model)]
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"] = version.encode()  # early versions wrote bytes
        file.attrs["model_config"] = json.dumps(model).encode()
        group = file.create_group("model_weights")
        group.attrs["layer_names"] = [name.encode() for name in names]
        for name in names:
            arrays = dict(enumerate(weights.get(name, ())))
            one = group.create_group(name)
            one.attrs["weight_names"] = [f"{name}/{i}:0".encode() for i in arrays]
            for i, values in arrays.items():
                one[f"{name}/{i}:0"] = values
    return path


def write_archive(
    path: Path, model: Mapping[str, Any], weights: Mapping[str, Arrays], version: str = "2.15.0"
) -> Path:
    """Write a file of layers by their paths."""
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        for name, arrays in weights.items():
            for i, values in enumerate(arrays):
                file[f"_layer_checkpoint_dependencies/{name}/vars/{i}"] = values
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps(model))
        archive.writestr("metadata.json", json.dumps({"keras_version": version}))
        archive.writestr("model.weights.h5", content.getvalue())
    return path


def _records(model: Mapping[str, Any]) -> list[Any]:
    config = model["config"]
    records = config if isinstance(config, list) else config["layers"]
    return [{"name": record["config"]["name"]} for record in records]

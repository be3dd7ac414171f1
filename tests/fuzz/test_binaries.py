"""Files of arrays, weights and models."""

from __future__ import annotations

import importlib.util
import io
import json
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest
from safetensors.numpy import save
from tests.importing.test_litert import OPERATORS
from tests.litert import LiteRTNet, small_net

from inshape.data.arrays import list_npz
from inshape.data.sources import open_source
from inshape.graph.saving import _holds_model, _odd_arrays
from inshape.importing.api import read_file
from inshape.importing.keras2 import keras_version
from inshape.training.checkpoint import Checkpoint, Standing
from inshape.weights.files import open_weights

from .reader import Edit, Reader, damage_archive, damage_bytes, damage_json, fuzz, of_file


def _packed(write: Callable[[Any], object]) -> bytes:
    content = io.BytesIO()
    write(content)
    return content.getvalue()


def _npz() -> bytes:
    return _packed(lambda file: np.savez(file, x=np.zeros((4, 2, 3), np.uint8), y=np.arange(4)))


def _npy() -> bytes:
    return _packed(lambda file: np.save(file, np.zeros((4, 2, 3), np.uint8)))


def _open_npy(path: Path) -> object:
    np.save(path.with_name("y.npy"), np.arange(4) % 2)
    return open_source(path)


@cache
def _keras() -> bytes:
    image = keras.Input((4, 4, 1))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(2, 3)(image))
    with TemporaryDirectory() as folder:
        keras.Model(image, x).save(Path(folder, "a.keras"))
        return Path(folder, "a.keras").read_bytes()


def _h5() -> bytes:
    with zipfile.ZipFile(io.BytesIO(_keras())) as archive:
        return archive.read("model.weights.h5")


def _weights(path: Path) -> None:
    """Every array of a file, as they are read into a network."""
    with open_weights(path) as stored:
        groups = getattr(stored, "_groups", None)
        if groups is None:
            for name in stored._tensors.shapes:
                stored._tensors.read(name)
            return
        for key in groups:
            slot: Any = SimpleNamespace(key=key)
            stored.shapes(slot), stored.arrays(slot), stored.name_of(key)
        stored.count_layers("conv2d"), stored.beyond(())


def _model(path: Path) -> None:
    """What is looked at in a model before Keras loads it."""
    _odd_arrays(path)
    keras_version(path)
    _holds_model(path)
    _weights(path)


def _state() -> dict[str, Any]:
    """As much of timm's smallest network as it is known by."""
    stages = (1, 2, 3, 2, 3)
    names = [f"blocks.{i}.{j}.conv_dw.weight" for i, n in enumerate(stages) for j in range(n)]
    state = {name: np.ones((1, 1), np.float16) for name in ("conv_stem.weight", *names)}
    state["blocks.5.0.conv.weight"] = np.ones((576, 1), np.float32)
    state["blocks.1.0.se.conv_reduce.weight"] = np.ones(1, np.int64)
    return state


def _safetensors() -> bytes:
    return save(_state(), {"arch": "mobilenetv3_small_100"})


_TYPES = ("F64", "BF16", "F8_E4M3", "F8_E5M2", "C64", "U16", "BOOL", "I8", "F4", "X")


def damage_safetensors(content: bytes, edit: Edit) -> bytes:
    """Damage the header, whose length stands before it, or the whole."""
    place, how = edit
    if how % 4 == 0:
        return damage_bytes(content, (place, how // 4))
    length = int.from_bytes(content[:8], "little")
    header, rest = content[8 : 8 + length], content[8 + length :]
    if how % 4 == 1:
        names = json.loads(header)
        name = list(names)[place % len(names)]
        if "dtype" in names[name]:
            names[name]["dtype"] = _TYPES[how // 4 % len(_TYPES)]
        names[("blocks.9999999.0.", "features.1.block.0.0.weight")[how // 64 % 2]] = names[name]
        header = json.dumps(names).encode()
    else:
        header = damage_json(header, (place, how // 4))
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + rest


def _pickled() -> bytes:
    import torch

    state = {name: torch.tensor(values) for name, values in _state().items()}
    state["odd"] = torch.ones(1, dtype=torch.complex64)
    state["tiny"] = torch.ones(1).to(torch.float8_e4m3fn)
    return _packed(lambda file: torch.save(state, file))


def _checkpoint() -> bytes:
    with TemporaryDirectory() as folder:
        path = Path(folder, "a.npz")
        Checkpoint(Standing(1), [np.ones(3)], [np.ones(2, np.float32)]).save(path)
        return path.read_bytes()


_NUMBERS = (0, 1, 2, 3, 4, 127, 128, 255, 2**16, 2**20, 2**31 - 1, 2**31, 2**32 - 1, 2**32 - 4)


def damage_litert(content: bytes, edit: Edit) -> bytes:
    """Put an odd number in the place of one, of one or four bytes, or damage any bytes."""
    place, how = edit
    if how % 4 == 0:
        return damage_bytes(content, (place, how // 4))
    odd = _NUMBERS[how // 8 % len(_NUMBERS)]
    width = (1, 4)[how // 4 % 2]
    at = place % (len(content) // width) * width
    if how % 4 == 1:  # near what is there: an offset to a neighbour, a length that is a bit more
        there = int.from_bytes(content[at : at + width], "little")
        odd = there + odd % 16 - 8
    number = (odd % 256**width).to_bytes(width, "little")
    return content[:at] + number + content[at + width :]


def _litert() -> bytes:
    net = small_net()
    return net.content(*net.graph.outputs)


def _of_all_operators() -> bytes:
    net = LiteRTNet((7, 6, 3))
    return net.content(*(build(net) for build, _ in OPERATORS.values()))


READERS = [
    Reader(
        "tflite, all operators",
        of_file("a.tflite", read_file),
        _of_all_operators,
        damage_litert,
        inputs=20,
    ),
    Reader("tflite", of_file("a.tflite", read_file), _litert, damage_litert, inputs=300),
    Reader("npz", of_file("a.npz", list_npz), _npz, damage_archive),
    Reader("npy", of_file("x.npy", _open_npy), _npy, damage_bytes),
    Reader("weights.h5", of_file("a.weights.h5", _weights), _h5, damage_bytes),
    Reader("keras", of_file("a.keras", _model), _keras, damage_archive),
    Reader("safetensors", of_file("a.bin", _weights), _safetensors, damage_safetensors),
    Reader("checkpoints", of_file("a.npz", Checkpoint.load), _checkpoint, damage_archive),
]
if importlib.util.find_spec("torch") is not None:
    READERS.append(Reader("pth", of_file("a.pth", _weights), _pickled, damage_archive))


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_files_are_read_or_refused_in_one_line(reader, tmp_path):
    fuzz(reader, tmp_path)

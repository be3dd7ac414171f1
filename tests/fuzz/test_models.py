"""Models that others made: LiteRT files, what they say of themselves, Keras's HDF5 and ONNX."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import h5py
import keras
import numpy as np
import pytest
from tests.importing.old_keras import function, functional, layer, picture, write_h5

from inshape.data.prepare import Preparation
from inshape.errors import RequestError
from inshape.evaluation.classifier import open_classifier
from inshape.importing.api import read_file
from inshape.importing.litert_file import litert_schema
from inshape.runtime.apart import Ended, run_apart
from inshape.runtime.cards import CARD
from inshape.runtime.flatbuffer import pack_model, read_model
from inshape.runtime.litert_files import to_litert
from inshape.shapes import InputShape

from .asking import SHAPE, ask
from .reader import TIMES, Edit, Reader, damage_bytes, damage_json, fuzz, of_file

_MODELS = 160  # inputs; to build and load a network takes ten milliseconds
_CARDS = 800
_LITERT = 300


def _network() -> keras.Model:
    image = keras.Input(InputShape.of(SHAPE).as_tuple())
    x = keras.layers.Conv2D(4, 3, strides=2, padding="same", activation="relu")(image)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, keras.layers.Dense(2, activation="softmax")(x))


@cache
def _litert() -> bytes:
    return to_litert(_network())


def _card(shape: str = SHAPE) -> bytes:
    card = {
        "inshape": "1.0", "format": "litert", "labels": ["a", "b"],
        "input": {"shape": shape, "layout": "NHWC", "dtype": "float32", "batch": 1},
        "output": {"kind": "probabilities", "dtype": "float32"},
        "preparation": Preparation.of(shape).as_dict(),
    }  # fmt: skip
    return json.dumps(card).encode()


def _with_card() -> bytes:
    """A LiteRT file with the archive that stands behind its network."""
    return _carded(_litert(), _card())


def _carded(network: bytes, card: bytes) -> bytes:
    packed = BytesIO(network)
    with zipfile.ZipFile(packed, "a") as archive:
        archive.writestr(CARD, card)
    return packed.getvalue()


def damage_card(content: bytes, edit: Edit) -> bytes:
    """Damage the card in the archive behind a network, or any of the whole."""
    place, how = edit
    if how % 3 == 0:
        return damage_bytes(content, (place, how // 3))
    with zipfile.ZipFile(BytesIO(content)) as archive:
        card = damage_json(archive.read(CARD), (place, how // 3))
    return _carded(_litert(), card)


@cache
def _of_keras_3() -> bytes:
    with TemporaryDirectory() as folder:
        path = Path(folder, "a.h5")
        _network().save(path)
        return path.read_bytes()


@cache
def _of_keras_2() -> bytes:
    ones = np.ones((3, 3, 2, 1), np.float32)
    block = layer("Sequential", "block", "product", layers=[
        layer("DepthwiseConv2D", "conv", kernel_size=[3, 3], groups=1, use_bias=False,
              batch_input_shape=[None, 4, 4, 2], activation="hard_sigmoid"),
    ])  # fmt: skip
    block["inbound_nodes"] = [[["product", 0, 0, {}]], [["block", 1, 0, {"training": False}]]]
    padded = function(
        "pad", "padded", ["block", 1, 0, {"paddings": [[0, 0], [1, 1], [1, 1], [0, 0]]}]
    )
    block["inbound_nodes"][1][0][0] = "padded"
    model = functional([
        picture(4, 4, 2),
        function("math.multiply", "product", ["picture", 0, 0, {"y": 0.5, "name": None}]),
        block,
        padded,
        layer("GlobalAveragePooling2D", "pool", "block"),
    ])  # fmt: skip
    model["config"]["layers"][-1]["inbound_nodes"] = [[["block", 2, 0, {}]]]
    with TemporaryDirectory() as folder:
        return write_h5(Path(folder, "a.h5"), model, {"block": [ones]}).read_bytes()


def damage_h5(content: bytes, edit: Edit) -> bytes:
    """Damage what an HDF5 file says of its network, or the whole."""
    place, how = edit
    # In one that is damaged already, the library may go round for ever, or end the process.
    is_whole = content in (_of_keras_2(), _of_keras_3())
    if how % 3 == 0 or not is_whole:
        return damage_bytes(content, (place, how // 3))
    file = BytesIO(content)
    with h5py.File(file, "r+") as stored:
        config = stored.attrs["model_config"]
        config = config.encode() if isinstance(config, str) else config
        stored.attrs["model_config"] = damage_json(config, (place, how // 3))
    return file.getvalue()


@cache
def _onnx() -> bytes:
    from onnx import TensorProto, helper, numpy_helper

    arrays = {
        "w": np.ones((4, 3, 3, 3), np.float32),
        "shape": np.array([0, 2, 2, 6, 5]),
        "flat": np.array([0, -1]),
        "matrix": np.ones((120, 2), np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Reshape", ["b", "shape"], ["c"]),
        helper.make_node("Transpose", ["c"], ["d"], perm=[0, 2, 1, 3, 4]),
        helper.make_node("Reshape", ["d", "flat"], ["e"]),
        helper.make_node("Gemm", ["e", "matrix"], ["f"], alpha=0.5),
        helper.make_node("Softmax", ["f"], ["y"], axis=-1),
    ]
    graph = helper.make_graph(
        nodes, "net", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 12, 10])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])],
        [numpy_helper.from_array(values, name) for name, values in arrays.items()],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()


def _load_h5(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of TensorFlow's variables
        read_file(path)


READERS = [
    Reader("cards in files", of_file("a.tflite", open_classifier), _with_card, damage_card, _CARDS),
    Reader("models in HDF5", of_file("a.h5", _load_h5), _of_keras_3, damage_h5, _MODELS),
    Reader("ONNX", of_file("a.onnx", read_file), _onnx, damage_bytes, _MODELS),
    Reader("models of Keras 2", of_file("a.h5", _load_h5), _of_keras_2, damage_h5, _MODELS),
]


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_models_are_read_or_refused_in_one_line(reader, tmp_path):
    fuzz(reader, tmp_path)


_ODD = (0, 1, -1, 2, 7, 255, 2**16, 2**31 - 1, -(2**31))


def damage_litert(draw: random.Random) -> bytes:
    """Change what a network says, where everything lies inside the file all the same."""
    model = read_model(_litert())
    slots = list(_numbers(model))
    for _ in range(draw.choice((1, 2))):
        parent, key = draw.choice(slots)
        value = draw.choice(_ODD)
        with suppress(OverflowError, ValueError):  # it is of fewer bits
            if isinstance(parent, np.ndarray):
                parent[key] = value
                continue
            old = getattr(parent, key)
            few = isinstance(old, list | np.ndarray)
            setattr(parent, key, old[: value % 3] if few else type(old)(value))
    with suppress(TypeError):
        return pack_model(model)
    return _litert()


def _numbers(part: Any) -> Iterator[tuple[Any, Any]]:
    """Every place of a number, or of several, in a network's description."""
    for key, value in vars(part).items():
        if isinstance(value, int | float):
            yield part, key
        elif isinstance(value, list | np.ndarray):
            yield part, key
            if isinstance(value, np.ndarray) and key != "data":
                value = np.array(value)
                setattr(part, key, value)
                yield from ((value, i) for i in range(len(value)))
            for one in value:
                if hasattr(one, "__dict__"):
                    yield from _numbers(one)
        elif hasattr(value, "__dict__"):
            yield from _numbers(value)


def test_no_litert_file_ends_the_process(tmp_path):
    draw = random.Random(None if TIMES else 0)
    paths = [tmp_path / f"{number}.tflite" for number in range(_LITERT * max(TIMES, 1))]
    for path in paths:
        path.write_bytes(_carded(damage_litert(draw), _card()))
    words = [sys.executable, "-m", "tests.fuzz.asking", *map(str, paths)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert not [(answer, fault) for answer, fault in answers if fault]
    assert len(answers) == len(paths), f"{paths[len(answers)]} ended it"


def test_a_process_that_is_ended_says_by_what():
    with pytest.raises(Ended, match="it was ended by SIGKILL"):
        run_apart("timeit", "import os; os.kill(os.getpid(), 9)")


def _refusal(path: Path, content: bytes, card: bytes) -> str:
    path.write_bytes(_carded(content, card))
    with pytest.raises(RequestError) as refused:
        ask(path)
    return str(refused.value)


def test_a_file_that_does_not_fit_its_card_is_refused(tmp_path):
    path = tmp_path / "a.tflite"
    refusal = _refusal(path, _litert(), _card("12x10x3"))
    assert refusal.startswith(f"{path} cannot answer pictures of 12x10x3 (")
    assert refusal.endswith(
        "); expected the file and the card that were exported together; export it again"
    )


def _without_weights(model: Any) -> str:
    """The interpreter looks for a kernel that is left out all the same, wherever that is."""
    convolution = model.subgraphs[0].operators[0]
    convolution.inputs = np.array([convolution.inputs[0], -1, convolution.inputs[2]], np.int32)
    return "operator 0 lacks inputs or outputs"


def _without_network(model: Any) -> str:
    model.subgraphs = []
    return "it holds no network"


def _without_kind(model: Any) -> str:
    model.subgraphs[0].operators[1].opcodeIndex = 99
    return "operator 1 is of no kind"


def _without_scale(model: Any) -> str:
    (graph,) = model.subgraphs
    graph.tensors[graph.inputs[0]].type = litert_schema().TensorType.INT8
    return "is int8 without a scale; expected float32, or whole numbers that have one"


@pytest.mark.parametrize(
    "damage", [_without_weights, _without_network, _without_kind, _without_scale]
)
def test_what_would_end_the_interpreter_is_refused(damage, tmp_path):
    model = read_model(_litert())
    reason = damage(model)
    assert reason in _refusal(tmp_path / "a.tflite", pack_model(model), _card())

"""Quantised files: ranges by error and corrected biases against the usual way."""

from __future__ import annotations

from itertools import pairwise

import keras
import numpy as np
import pytest

from inshape.exporting import int8
from inshape.exporting.agreement import answers
from inshape.runtime.int8 import int8_content, least_error
from inshape.runtime.conversion import convert
from inshape.runtime.formats import FORMATS
from inshape.runtime.runners import load

layers = keras.layers
constant = keras.initializers.Constant


@pytest.fixture(scope="module")
def network():
    """Channels of very different ranges, with a few outliers: what naive int8 does worst."""
    keras.utils.set_random_seed(1)
    image = keras.Input((16, 12, 3))
    x = layers.Rescaling(1 / 127.5, offset=-1)(image)
    x = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu")(x)
    x = layers.DepthwiseConv2D(3, padding="same", activation="relu6")(x)
    x = layers.Conv2D(16, 1, activation="relu")(x)
    model = keras.Model(image, layers.Dense(5)(layers.GlobalAveragePooling2D()(x)))
    kernel, bias = model.layers[2].get_weights()
    model.layers[2].set_weights([kernel * np.geomspace(0.3, 12, 8), bias + 0.1])
    return model


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(0)
    scale = rng.uniform(0.2, 1.0, (48, 1, 1, 1))
    return (rng.uniform(0, 255, (48, 16, 12, 3)) * scale).astype("float32")


@pytest.fixture(scope="module")
def errors(network, pictures, tmp_path_factory):
    """Mean differences from Keras of four ways to quantise, on pictures of their own."""
    folder = tmp_path_factory.mktemp("files")
    convert(network, FORMATS["litert"], folder / "float.tflite")
    content = (folder / "float.tflite").read_bytes()
    expected = network.predict(pictures[24:], verbose=0)
    found = {}
    for name, options in {
        "naive": {"clipped": False, "corrected": False},
        "clipped": {"corrected": False},
        "both": {},
    }.items():
        path = folder / f"{name}.tflite"
        path.write_bytes(int8_content(content, [p[None] for p in pictures[:24]], **options))
        got = answers(load(path), pictures[24:])
        found[name] = (np.abs((got - expected).mean(axis=0)).mean(), len(path.read_bytes()))
    return found, len(content)


def test_corrected_biases_bring_the_means_back(errors):
    found, _ = errors
    assert found["both"][0] < 0.7 * found["clipped"][0]
    assert found["both"][0] < 0.7 * found["naive"][0]


@pytest.mark.parametrize("io", ["float32", "int8", "uint8"])
def test_input_and_output_are_of_the_type_asked_for(io, network, pictures, tmp_path):
    from ai_edge_litert.interpreter import Interpreter

    path = tmp_path / "a.tflite"
    convert(network, FORMATS["litert-int8"], path, pictures=[p[None] for p in pictures[:8]], io=io)
    reader = Interpreter(model_path=str(path))
    sides = (*reader.get_input_details(), *reader.get_output_details())
    assert {side["dtype"] for side in sides} == {np.dtype(io).type}
    expected = network.predict(pictures, verbose=0)
    got = answers(load(path), pictures)
    assert np.abs(got - expected).mean() < 0.1 * np.abs(expected).max()


def test_biases_are_corrected_on_pictures_from_all_over(monkeypatch):
    """Calibration pictures come class by class, so that the first ones are of a few classes."""
    seen = []
    monkeypatch.setattr(int8, "_ranges", lambda *args, **options: {})
    monkeypatch.setattr(int8, "_quantised", lambda *args: b"")
    monkeypatch.setattr(int8, "_with_corrected_biases", lambda *args: seen.append(args[2]))
    for count in (3, 64, 100, 400):
        int8_content(b"", [np.full((1, 1, 1, 1), n, np.float32) for n in range(count)])
    numbers = [[int(p.item()) for p in each] for each in seen]
    assert numbers[:2] == [[0, 1, 2], list(range(64))]
    assert [len(each) for each in numbers] == [3, 64, 100, 200]
    assert [each[-1] for each in numbers] == [2, 63, 99, 399]
    assert all(0 < b - a < 8 for each in numbers for a, b in pairwise(each))


def test_the_slow_part_tells_how_far_it_is(network, pictures, tmp_path):
    told = []
    convert(
        network, FORMATS["litert-int8"], tmp_path / "a.tflite",
        pictures=[p[None] for p in pictures[:4]], told=lambda *progress: told.append(progress),
    )  # fmt: skip
    assert len(told) >= 3  # layers that have a bias
    assert told == [(n, len(told)) for n in range(1, len(told) + 1)]


def test_outliers_are_clipped_where_that_shows_the_rest_better():
    rng = np.random.default_rng(0)
    values = np.append(rng.normal(size=200_000), [40.0, -35.0])
    low, high = least_error(values, -35.0, 40.0)
    assert -35.0 < low < -3.0
    assert 3.0 < high < 40.0
    even = rng.uniform(-1, 1, 100_000)
    assert least_error(even, -1.0, 1.0) == pytest.approx((-1.0, 1.0), abs=0.06)
    assert least_error(np.zeros(3), 0.0, 0.0) == (0.0, 0.0)


def test_the_quantizer_keeps_quiet(tmp_path, capsys):
    """It shows a progress bar for more than a hundred tensors, and tells nobody how to stop it."""
    image = x = keras.Input((8, 8, 2))
    for _ in range(36):
        x = layers.Conv2D(2, 1, activation="relu", kernel_initializer=constant(0.5))(x)
    model = keras.Model(image, layers.Dense(2)(layers.Flatten()(x)))
    sample = [np.full((1, 8, 8, 2), level, np.float32) for level in (0, 100, 255)]
    convert(model, FORMATS["litert-int8"], tmp_path / "a.tflite", pictures=sample)
    assert "Applying" not in capsys.readouterr().err


def test_a_layer_that_only_gives_zeros_is_quantised(tmp_path):
    """Its range is not nothing, which the fast kernels refuse."""
    image = keras.Input((8, 8, 2))
    x = layers.Conv2D(2, 1, activation="relu", kernel_initializer=constant(-0.5))(image)
    x = layers.Conv2D(2, 1, activation="relu", kernel_initializer=constant(0.5))(x)
    model = keras.Model(image, layers.Dense(2, bias_initializer=constant(3.0))(layers.Flatten()(x)))
    sample = [np.full((1, 8, 8, 2), level, np.float32) for level in (100, 255)]
    convert(model, FORMATS["litert-int8"], tmp_path / "a.tflite", pictures=sample)
    np.testing.assert_allclose(load(tmp_path / "a.tflite")(sample[0]), [[3.0, 3.0]], atol=0.05)


def test_weights_have_a_scale_for_each_output_channel(network, pictures, tmp_path):
    from ai_edge_litert.interpreter import Interpreter

    path = tmp_path / "a.tflite"
    convert(network, FORMATS["litert-int8"], path, pictures=[p[None] for p in pictures[:8]])
    kernels = [
        (len(t["quantization_parameters"]["scales"]), t["shape"])
        for t in Interpreter(model_path=str(path)).get_tensor_details()
        if t["dtype"] is np.int8 and len(t["shape"]) == 4 and t["shape"][0] != 1
    ]
    assert sorted(shape[0] for _, shape in kernels) == [8, 16]
    assert all(count == shape[0] for count, shape in kernels)


def test_equal_vectors_are_written_once(network, pictures, tmp_path):
    """Every channel of every layer has its own zero point of eight bytes, which is always 0."""
    from ai_edge_litert.interpreter import Interpreter
    from ai_edge_litert.tools import flatbuffer_utils

    path = tmp_path / "a.tflite"
    convert(network, FORMATS["litert-int8"], path, pictures=[p[None] for p in pictures[:8]])
    content = path.read_bytes()
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    plain = bytes(flatbuffer_utils.convert_object_to_bytearray(model))
    assert len(content) < len(plain) - 8 * 16  # the larger layer has 16 channels
    answers_of = []
    for each in (content, plain):
        reader = Interpreter(model_content=each)
        reader.allocate_tensors()
        reader.set_tensor(reader.get_input_details()[0]["index"], pictures[:1])
        reader.invoke()
        answers_of.append(reader.get_tensor(reader.get_output_details()[0]["index"]))
        zeros = [t["quantization_parameters"]["zero_points"] for t in reader.get_tensor_details()]
        assert {len(z) for z in zeros} >= {8, 16}
    np.testing.assert_array_equal(*answers_of)

"""What a micro-controller needs, against TensorFlow Lite for Microcontrollers itself."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from inshape.runtime import arena
from inshape.runtime.arena import arena_of
from inshape.runtime.conversion import convert
from inshape.runtime.formats import FORMATS
from inshape.runtime.runners import load

layers = keras.layers


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    keras.utils.set_random_seed(3)
    image = keras.Input((24, 20, 3))
    x = layers.Rescaling(1 / 127.5, offset=-1)(image)
    x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False)(x)
    x = layers.Activation("hard_silu")(layers.BatchNormalization()(x))
    x = layers.DepthwiseConv2D(3, strides=2, padding="same")(x)
    x = layers.Conv2D(16, 1, activation="relu")(x)
    model = keras.Model(image, layers.Dense(7)(layers.GlobalAveragePooling2D()(x)))
    path = tmp_path_factory.mktemp("files") / "a.tflite"
    rng = np.random.default_rng(0)
    sample = [rng.uniform(0, 255, (1, 24, 20, 3)).astype(np.float32) for _ in range(8)]
    convert(model, FORMATS["litert-int8"], path, pictures=sample, io="int8")
    return path


def test_tensors_take_what_meets_at_one_moment(file):
    """By hand: at least the input and the stem's output, at most another 12 x 10 x 8 besides."""
    least = 12 * 10 * 8 + 24 * 20 * 3
    assert least <= arena_of(file).tensor_bytes <= least + 12 * 10 * 8


def test_a_file_of_any_size_has_no_arena(tmp_path):
    image = keras.Input((None, None, 2))
    model = keras.Model(image, layers.GlobalAveragePooling2D()(layers.Conv2D(3, 3)(image)))
    convert(model, FORMATS["litert"], tmp_path / "a.tflite")
    assert arena_of(tmp_path / "a.tflite") is None


def test_the_interpreter_for_micro_controllers_runs_in_just_that_arena(file):
    runtime = pytest.importorskip("tflite_micro.python.tflite_micro.runtime")
    needs = arena_of(file)
    assert needs.least_bytes >= needs.total_bytes > needs.tensor_bytes
    content = file.read_bytes()
    run = runtime.Interpreter.from_bytes(content, arena_size=needs.least_bytes)
    picture = np.random.default_rng(1).integers(-128, 128, (1, 24, 20, 3), np.int8)
    run.set_input(picture, 0)
    run.invoke()
    expected = load(file)(picture.astype(np.float32) + 128)
    details = run.get_output_details(0)["quantization_parameters"]
    output = (run.get_output(0).astype(np.float32) - details["zero_points"]) * details["scales"]
    np.testing.assert_allclose(output, expected, atol=2 * float(details["scales"][0]))
    with pytest.raises(RuntimeError):
        runtime.Interpreter.from_bytes(content, arena_size=needs.least_bytes - 16)


def test_without_it_only_the_tensors_are_known(file, monkeypatch):
    monkeypatch.setattr(arena, "_MODULE", "a_package_that_is_not_there")
    assert arena_of(file).total_bytes is None

"""The fast way to run a frozen network gives what Keras gives."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from inshape.runtime.frozen import TOLERANCE, Forward
from inshape.runtime.litert import Setting

layers = keras.layers


def network(shape, randomise):
    image = keras.Input(shape)
    x = layers.Rescaling(1 / 127.5, offset=-1)(image)
    x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False)(x)
    x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
    x = layers.DepthwiseConv2D(3, padding="same")(x)
    x = layers.Activation("hard_silu")(x)
    return randomise(keras.Model(image, layers.Conv2D(5, 1)(x)))


@pytest.mark.parametrize(
    ("shape", "setting"),
    [
        ((33, 20, 1), Setting(workers=1, threads=2, batch=4)),
        ((16, 16, 3), Setting(workers=2, threads=1, batch=3)),
        ((None, None, 2), None),
    ],
)
def test_it_agrees_with_keras_for_any_number_of_pictures(shape, setting, rng, randomise):
    model = network(shape, randomise)
    size = (shape[0] or 21, shape[1] or 34, shape[2])
    pictures = rng.uniform(0, 255, (17, *size)).astype("float32")
    forward = Forward(model, pictures, setting=setting)
    assert (forward.engine, forward.reason) == ("litert", "")
    assert forward.difference <= TOLERANCE
    expected = np.asarray(model(pictures))
    for count in (17, 4, 1):
        output = forward(pictures[:count])
        assert output.shape == expected[:count].shape
        largest = np.abs(expected).max()
        np.testing.assert_allclose(output, expected[:count], atol=TOLERANCE * largest, rtol=0)


def test_it_holds_the_weights_of_the_moment_it_was_made(rng, randomise):
    model = network((9, 7, 1), randomise)
    pictures = rng.uniform(0, 255, (2, 9, 7, 1)).astype("float32")
    forward = Forward(model, pictures)
    before = forward(pictures)
    randomise(model, seed=5)
    np.testing.assert_array_equal(forward(pictures), before)


def test_what_litert_cannot_run_goes_through_keras(rng):
    image = keras.Input((9, 7, 1))
    x = layers.Resizing(18, 14, interpolation="bicubic")(image)  # becomes a Flex operator
    model = keras.Model(image, layers.Conv2D(2, 3)(x))
    pictures = rng.uniform(0, 255, (3, 9, 7, 1)).astype("float32")
    forward = Forward(model, pictures)
    assert forward.engine == "keras"
    assert forward.reason.startswith("LiteRT cannot run it (")
    np.testing.assert_array_equal(forward(pictures), model(pictures))


@keras.saving.register_keras_serializable("test")
class Differs(layers.Layer):
    """Gives something else each time it is traced."""

    traces = 0

    def call(self, inputs):
        Differs.traces += 1
        return inputs * float(Differs.traces)


def test_what_does_not_agree_goes_through_keras(rng):
    image = keras.Input((9, 7, 1))
    model = keras.Model(image, Differs()(image))
    pictures = rng.uniform(1, 255, (3, 9, 7, 1)).astype("float32")
    forward = Forward(model, pictures)
    assert forward.engine == "keras"
    assert forward.reason.startswith("LiteRT differs from Keras by ")


def test_keras_can_be_asked_for(rng, randomise):
    model = network((9, 7, 1), randomise)
    pictures = rng.uniform(0, 255, (3, 9, 7, 1)).astype("float32")
    forward = Forward(model, pictures, engine="keras")
    assert (forward.engine, forward.reason) == ("keras", "asked for")
    np.testing.assert_array_equal(forward(pictures), model(pictures))


@pytest.mark.backends
def test_many_pictures_do_not_go_layer_by_layer(rng):
    """Where LiteRT does not run a network, a graph of the backend does."""
    image = keras.Input((9, 7, 1))
    calls = []

    class Counted(layers.Layer):
        def call(self, inputs):
            calls.append(inputs.shape)
            return inputs * 2.0

    model = keras.Model(image, Counted()(layers.Conv2D(3, 3)(image)))
    pictures = rng.uniform(0, 255, (160, 9, 7, 1)).astype("float32")
    expected = keras.ops.convert_to_numpy(model(pictures))
    calls.clear()
    forward = Forward(model, pictures[:4], engine="keras")
    np.testing.assert_allclose(forward(pictures), expected, rtol=1e-5)
    rows = np.concatenate([forward(pictures[i : i + 16]) for i in range(0, 160, 16)])
    np.testing.assert_allclose(rows, expected, rtol=1e-5)
    graphs = keras.backend.backend() in ("tensorflow", "jax")
    assert len(calls) <= 3 if graphs else len(calls) == 15
    assert not model.compiled
    assert len(forward(pictures[:0])) == 0

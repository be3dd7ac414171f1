"""Batch norm put back where a file has lost it."""

from __future__ import annotations

import re

import keras
import numpy as np
import pytest

import inshape
from inshape.errors import GraphError
from inshape.importing.batch_norm import reopen_batch_norm

layers = keras.layers


@pytest.fixture(scope="module")
def folded() -> keras.Model:
    keras.utils.set_random_seed(3)
    image = keras.Input((17, 12, 1), name="image")
    x = layers.Conv2D(4, 3, strides=2, padding="same", name="stem")(image)
    x = layers.DepthwiseConv2D(3, use_bias=False, name="depthwise")(layers.ReLU(6.0)(x))
    gate = layers.Conv2D(4, 1, name="gate")(layers.GlobalAveragePooling2D(keepdims=True)(x))
    x = x[:, 1:] * layers.Activation("sigmoid")(gate)
    x = layers.BatchNormalization(name="norm")(layers.Conv2D(5, 1, name="normed")(x))
    x = layers.GlobalAveragePooling2D()(x)
    model = keras.Model(image, layers.Dense(3, name="scores")(x), name="folded")
    model.get_layer("stem").bias.assign([0.5, -1.0, 2.0, 0.0])
    return model


@pytest.fixture(scope="module")
def batches() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.uniform(0, 2, (n, 17, 12, 1)).astype("float32") for n in (16, 8)]


def test_reopened_norms_hold_the_statistics_and_change_no_answer(folded, batches):
    before = [w.copy() for w in folded.get_weights()]
    model = reopen_batch_norm(folded, batches)
    norms = [x.name for x in model.layers if isinstance(x, layers.BatchNormalization)]
    # Not behind the gate, which is no map, nor where there is one already.
    assert norms == ["stem_bn", "depthwise_bn", "norm"]
    pictures = np.concatenate(batches)
    np.testing.assert_allclose(model(pictures), folded(pictures), rtol=1e-4, atol=1e-5)
    stem = keras.Model(folded.inputs[0], folded.get_layer("stem").output)
    maps = np.asarray(stem(pictures))
    norm = model.get_layer("stem_bn")
    bias = np.asarray(folded.get_layer("stem").bias)
    np.testing.assert_allclose(norm.moving_mean + bias, maps.mean((0, 1, 2)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(norm.moving_variance, maps.var((0, 1, 2)), rtol=1e-3)
    assert all(map(np.array_equal, before, folded.get_weights()))
    # By the statistics of the very same pictures it computes the same too.
    np.testing.assert_allclose(
        model(pictures, training=True), folded(pictures, training=True), rtol=0.02, atol=0.01
    )


def test_nothing_to_reopen_is_refused(batches):
    image = keras.Input((17, 12, 1))
    x = layers.Conv2D(2, 3, activation="relu")(image)
    model = keras.Model(image, layers.GlobalAveragePooling2D()(x), name="plain")
    with pytest.raises(
        GraphError, match=re.escape("model 'plain' has no convolution without batch norm behind")
    ):
        reopen_batch_norm(model, batches)


def test_training_reopens_the_norms_of_a_file(folded, tmp_path):
    path = tmp_path / "folded.keras"
    folded.save(path)
    rng = np.random.default_rng(1)
    pictures = rng.integers(0, 255, (12, 17, 12, 1), dtype="uint8"), ["a", "b"] * 6
    run = inshape.train(
        pictures, "17x12x1", backbone=path, out=tmp_path / "run", strategy="rebuild",
        epochs=0, head_epochs=1, reopen_bn=True, validation=0.25,
    )  # fmt: skip
    assert "stem_bn" in {layer.name for layer in run.load_model().layers}

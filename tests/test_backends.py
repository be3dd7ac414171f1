"""The engine on every Keras backend: the same equalities on TensorFlow, JAX and PyTorch."""

from __future__ import annotations

import os

import keras
import numpy as np
import pytest
from tools.pages import blocks

import inshape
from inshape.errors import DataError
from inshape.features.heatmaps import Heatmaps
from inshape.runtime.conversion import convert
from inshape.runtime.formats import FORMATS

pytestmark = pytest.mark.backends


@pytest.fixture(scope="module")
def source(randomise):
    # Parity-dependent padding, squeeze-and-excite and hard-swish are all in it.
    model = keras.applications.MobileNetV3Small(
        input_shape=(64, 64, 3), alpha=0.75, weights=None, classes=10, classifier_activation=None
    )
    return randomise(model, seed=1)


def answer(model: keras.Model, pictures: np.ndarray) -> np.ndarray:
    return keras.ops.convert_to_numpy(model(pictures, training=False))


def pictures_of(rng, *shape: int) -> np.ndarray:
    return rng.uniform(0, 255, (2, *shape)).astype("float32")


def difference(one: np.ndarray, other: np.ndarray) -> float:
    """The largest difference, relative to the largest value."""
    assert one.shape == other.shape
    return float(np.abs(one - other).max() / np.abs(other).max())


def test_the_backend_is_the_one_that_was_asked_for():
    assert keras.backend.backend() == os.environ.get("KERAS_BACKEND", "tensorflow")


@pytest.fixture(scope="module")
def native(source):
    """The constructor's own model at 97x64 with the same weights."""
    model = keras.applications.MobileNetV3Small(
        input_shape=(97, 64, 3), alpha=0.75, weights=None, classes=10, classifier_activation=None
    )
    model.set_weights(source.get_weights())
    return model


def test_rebuilt_is_what_the_constructor_builds(source, native, rng):
    model = inshape.adapt(source, (97, 64, 3), strategy="rebuild", head="top")
    pictures = pictures_of(rng, 97, 64, 3)
    assert difference(answer(model, pictures), answer(native, pictures)) < 1e-5


def test_one_channel_by_sum_is_three_equal_ones(source, native, rng):
    grey = inshape.adapt(source, (97, 64, 1), strategy="rebuild", channels="sum", head="top")
    pictures = pictures_of(rng, 97, 64, 1)
    assert difference(answer(grey, pictures), answer(native, pictures.repeat(3, axis=-1))) < 1e-4


def test_a_resampled_stem_is_an_enlarged_picture(source, rng):
    small = inshape.adapt(source, (32, 32, 3), strategy="restride", stem="nearest", head="top")
    pictures = pictures_of(rng, 32, 32, 3)
    enlarged = pictures.repeat(2, axis=1).repeat(2, axis=2)
    assert difference(answer(small, pictures), answer(source, enlarged)) < 1e-4


def test_any_size_is_each_size(source, native, rng):
    model = inshape.adapt(source, "?x?x3", strategy="flexible", head="top")
    for one_size, size_hw in ((native, (97, 64)), (source, (64, 64))):
        pictures = pictures_of(rng, *size_hw, 3)
        assert difference(answer(model, pictures), answer(one_size, pictures)) < 1e-5


def test_a_saved_model_answers_as_before(source, rng, tmp_path):
    model = inshape.adapt(source, (97, 64, 1), strategy="resize", head="gem", classes=4)
    pictures = pictures_of(rng, 97, 64, 1)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert difference(answer(loaded, pictures), answer(model, pictures)) < 1e-6


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of both phases on pictures that a colour tells apart."""
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 2
    pictures = rng.integers(0, 120, (60, 20, 24, 3)).astype("uint8")
    pictures[labels == 1, ..., 0] += 100
    keras.utils.set_random_seed(0)
    image = keras.Input((32, 32, 3))
    x = keras.layers.Conv2D(6, 3, strides=2, padding="same", use_bias=False)(image)
    x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    x = keras.layers.Conv2D(8, 3, strides=2, padding="same", activation="relu")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    network = keras.Model(image, keras.layers.Dense(5, activation="softmax")(x))
    seen = []
    run = inshape.train(
        (pictures, labels), "16x20x3", out=tmp_path_factory.mktemp("runs") / "run",
        backbone=network, weights=None, strategy="rebuild", epochs=2, batch_size=8,
        validation=0.5, patience=9,
        callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(
            (epoch, logs["val_accuracy"])
        ))],
    )  # fmt: skip
    return run, pictures, seen


def test_a_training_learns_and_shows_every_epoch(trained):
    run, _, seen = trained
    assert [int(row["epoch"]) - 1 for row in run.history_rows()] == [epoch for epoch, _ in seen]
    assert [row["phase"] for row in run.history_rows()] == ["head", "body", "body"]
    assert run.record["metrics"]["validation"]["accuracy"] > 0.9
    assert all("litert" in engine for engine in run.record["metrics"]["engine"])


def test_exports_agree_whatever_the_backend_is(trained):
    run, pictures, _ = trained
    labels = np.arange(60) % 2
    exports = inshape.export(run, ["litert", "savedmodel"], data=(pictures, labels), timing=False)
    assert [file.agreement for file in exports.files] == [1.0, 1.0]
    assert all(file.max_difference < 1e-5 for file in exports.files)


def test_a_conversion_is_refused_alike_on_every_backend(trained, tmp_path):
    run, _, _ = trained
    with pytest.raises(DataError, match="no calibration pictures"):
        convert(run.load_model(), FORMATS["litert-int8"], tmp_path / "a.tflite")


def test_heat_maps_need_no_certain_backend(trained):
    run, pictures, _ = trained
    model = run.load_model()
    heat = Heatmaps(model, (16, 20))(pictures[:2, :16, :20].astype("float32"), np.array([0, 1]))
    assert heat.shape == (2, 4, 5)
    assert heat.max() == pytest.approx(1.0)


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="the loop is JAX's")
def test_the_page_s_jax_loop_trains(repo_dir, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (repo_dir / "docs" / "tutorials" / "own_loop.md").read_text(encoding="utf-8")
    code = [b.code for b in blocks(text) if b.kind != "text" and "tensorflow" not in b.code]
    names: dict[str, object] = {}
    for block in code:
        exec(block, names)
    assert np.isfinite(float(names["value"]))

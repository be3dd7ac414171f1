"""Random changes that repeat themselves for the same seed and step."""

from __future__ import annotations

import re

import keras
import numpy as np
import pytest

from inshape.data.augment import augmenter
from inshape.errors import DataError, UnknownName


def batch(channels=3):
    return np.random.default_rng(0).uniform(0, 255, (6, 21, 16, channels)).astype("float32")


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("kind", ["light", "strong"])
def test_pictures_stay_in_range_and_change(kind, channels):
    pictures = batch(channels)
    before = pictures.copy()
    changed, labels = augmenter(kind, channels=channels, seed=1)(pictures, step=0)
    changed = np.asarray(changed)
    assert labels is None
    assert changed.shape == pictures.shape
    assert changed.min() >= 0.0
    assert changed.max() <= 255.0
    assert changed.max() > 200.0  # a wrong value range would squeeze them
    assert all(np.abs(a - b).mean() > 1.0 for a, b in zip(changed, pictures, strict=True))
    assert np.array_equal(pictures, before)


def test_a_step_repeats_itself_whatever_came_before():
    one, two = (augmenter("strong", seed=7, mixup=0.2, cutmix=1.0) for _ in range(2))
    labels = np.eye(6, dtype="float32")
    for step in range(3):
        one(batch(), labels, step=step)
    here, there = one(batch(), labels, step=5), two(batch(), labels, step=5)
    for got, expected in zip(here, there, strict=True):
        assert np.array_equal(np.asarray(got), np.asarray(expected))
    assert not np.array_equal(np.asarray(here[0]), np.asarray(two(batch(), labels, step=6)[0]))
    other = augmenter("strong", seed=8)(batch(), step=5)[0]
    assert not np.array_equal(np.asarray(here[0]), np.asarray(other))


def test_the_same_inside_a_compiled_function():
    tf = pytest.importorskip("tensorflow")
    if keras.backend.backend() != "tensorflow":
        pytest.skip("compiles with TensorFlow")
    change = augmenter("light", seed=2)
    compiled = tf.function(lambda pictures, step: change(pictures, step=step)[0])
    for step in (0, 9):
        expected = np.asarray(change(batch(), step=step)[0])
        np.testing.assert_allclose(compiled(batch(), tf.constant(step)), expected, atol=1e-3)


def test_mixing_labels_as_pictures():
    # Picture i is constant i, so that the mixed label can be read off the mixed picture.
    levels = np.array([0.0, 100.0], "float32")
    pictures = np.ones((2, 8, 6, 1), "float32") * levels[:, None, None, None]
    for options in ({"mixup": 0.5}, {"cutmix": 1.0}):
        change = augmenter("none", channels=1, seed=3, **options)
        for step in range(4):
            mixed, labels = change(pictures, np.eye(2, dtype="float32"), step=step)
            share = np.asarray(mixed).mean(axis=(1, 2, 3)) / 100.0
            # CutMix weighs by the exact area and cuts whole pixels.
            tolerance = 1e-5 if "mixup" in options else 0.35
            np.testing.assert_allclose(np.asarray(labels)[:, 1], share, atol=tolerance)
            np.testing.assert_allclose(np.asarray(labels).sum(axis=1), 1.0, rtol=1e-5)


def test_mixing_needs_one_hot_labels():
    message = (
        "MixUp mixes labels too and got none of shape (batch, classes); expected one-hot labels"
    )
    for labels in (None, np.zeros(6, "int32")):
        with pytest.raises(DataError, match=re.escape(message)):
            augmenter("none", mixup=0.2)(batch(), labels, step=0)


def test_none_leaves_the_pictures_alone():
    assert np.array_equal(np.asarray(augmenter("none")(batch(), step=3)[0]), batch())


def test_flip_can_be_forbidden():
    names = [type(layer).__name__ for layer in augmenter("light", flip=False).layers]
    assert "RandomFlip" not in names
    assert "RandomFlip" in [type(layer).__name__ for layer in augmenter("light").layers]


def test_what_needs_rgb_is_left_out_with_a_note():
    changer = augmenter("strong", channels=1, rand_augment=0.3)
    assert changer.notes == (
        "RandAugment and changes of saturation and hue need RGB and are left out with 1 channel",
    )
    assert augmenter("strong", channels=3).notes == ()
    changed, _ = augmenter("none", rand_augment=0.3, seed=1)(batch(), step=0)
    assert np.asarray(changed).shape == (6, 21, 16, 3)


def test_unknown_kinds_and_factors():
    message = "unknown augmentation 'lite'; did you mean light? choose from: none, light, strong"
    with pytest.raises(UnknownName, match=re.escape(message)):
        augmenter("lite")
    with pytest.raises(DataError, match=re.escape("mixup 2.0; expected 0 to 1; use 0 for none")):
        augmenter("light", mixup=2.0)

"""Features: right rows, computed once, under a name that follows from what made them."""

from __future__ import annotations

import re
from dataclasses import replace

import keras
import numpy as np
import pytest

from inshape.caching import key_of
from inshape.data.batches import Batches
from inshape.data.prepare import Preparation
from inshape.data.sources import open_source
from inshape.data.split import split
from inshape.errors import RequestError, RunError
from inshape.features.extract import Extraction, carry_on, model_hash
from inshape.features.views import change_for, views
from inshape.runtime.frozen import Forward
from inshape.shapes import InputShape

layers = keras.layers


def network(shape=(13, 10, 1), seed=0):
    keras.utils.set_random_seed(seed)
    image = keras.Input(shape)
    return keras.Model(image, layers.Conv2D(3, 3, activation="relu")(image))


def pictures_in(shape, rng, count=20):
    pixels = rng.integers(0, 255, (count, *shape), np.uint8)
    catalogue = split(open_source((pixels, [0, 1] * (count // 2))), validation=0.2)
    return Batches.open(catalogue, Preparation(InputShape.of(shape)))


@pytest.fixture(scope="module")
def batches():
    return pictures_in((13, 10, 1), np.random.default_rng(3))


@pytest.fixture(scope="module")
def extraction(batches):
    return Extraction(network(), batches)


@pytest.fixture(scope="module")
def forward(extraction):
    return forward_of(extraction)


def by_keras(extraction, split, mirror=False):
    pictures = np.concatenate([x for x, _ in extraction.batches.iterate(split)])
    pictures = pictures[:, :, ::-1] if mirror else pictures
    return np.asarray(extraction.network(pictures.astype("float32")))


def forward_of(extraction):
    sample, _ = next(extraction.batches.iterate("train", 4))
    runner = Forward(extraction.network, sample.astype("float32"))
    return lambda: runner


def never():
    pytest.fail("ran the network")


@pytest.mark.parametrize("shape", [(13, 10, 1), (8, 8, 3), (7, 12, 4)])
def test_rows_are_the_networks_own(shape, rng, tmp_path):
    extraction = Extraction(network(shape), pictures_in(shape, rng))
    forward = forward_of(extraction)
    for view, mirror in (("plain", False), ("mirrored", True)):
        for part in ("train", "validation"):
            rows = extraction.rows(part, view, tmp_path, forward)
            expected = by_keras(extraction, part, mirror)
            np.testing.assert_allclose(rows, expected, atol=1e-4 * np.abs(expected).max(), rtol=0)


def test_features_carried_on_lie_beside_those_they_come_from(extraction, forward, tmp_path):
    rows = extraction.rows("train", "plain", tmp_path, forward)
    maps = keras.Input(rows.shape[1:])
    behind = keras.Model(maps, layers.GlobalAveragePooling2D()(layers.Conv2D(5, 3)(maps)))
    pooled = carry_on(rows, Forward(behind, np.asarray(rows[:4])), behind)
    assert isinstance(pooled, np.memmap)  # many pictures' features need not fit in memory
    expected = np.asarray(behind(np.asarray(rows)))
    np.testing.assert_allclose(pooled, expected, atol=1e-4 * np.abs(expected).max(), rtol=0)
    assert len(list(tmp_path.glob("*.npy"))) == 2
    carry_on(rows, lambda rows: pytest.fail("it is there already"), behind)  # type: ignore[arg-type]
    behind.layers[1].kernel.assign(2 * behind.layers[1].kernel)
    other = carry_on(rows, Forward(behind, np.asarray(rows[:4])), behind)
    assert np.abs(other - pooled).max() > 0.1


def test_random_views_differ_and_repeat(extraction, forward, tmp_path):
    first, second = (extraction.rows("train", n, tmp_path, forward) for n in (2, 3))
    assert np.abs(first - second).max() > 1
    again = extraction.rows("train", 2, tmp_path / "elsewhere", forward)
    np.testing.assert_array_equal(first, again)


def test_a_file_that_is_there_is_not_made_again(extraction, forward, tmp_path):
    first = extraction.rows("train", "plain", tmp_path, forward)
    again = extraction.rows("train", "plain", tmp_path, never)
    np.testing.assert_array_equal(first, again)
    assert extraction.bytes("train", 1) == first.nbytes


def test_a_damaged_file_is_made_again(extraction, forward, tmp_path):
    first = np.array(extraction.rows("train", "plain", tmp_path, forward))
    (path,) = tmp_path.glob("*.npy")
    content = bytearray(path.read_bytes())
    content[-2] ^= 64
    path.write_bytes(content)
    text = f"{path} is damaged (its content has changed); it is made again"
    with pytest.warns(UserWarning, match=re.escape(text)):
        again = extraction.rows("train", "plain", tmp_path, forward)
    np.testing.assert_array_equal(first, again)


def test_half_precision_keeps_three_digits(extraction, forward, tmp_path):
    whole = extraction.rows("train", "plain", tmp_path, forward)
    half = replace(extraction, stored="float16").rows("train", "plain", tmp_path, forward)
    assert half.dtype == np.float16
    np.testing.assert_allclose(half, whole, rtol=1e-3, atol=1e-3)


def test_the_key_follows_from_what_matters(extraction, rng):
    def key(extraction, split, view):
        return key_of(extraction.facts(split, view))

    plain = key(extraction, "train", "plain")
    assert key(extraction, "train", "plain") == plain
    assert key(replace(extraction, network=network()), "train", "plain") == plain  # other names
    others = {
        key(extraction, "validation", "plain"),
        key(extraction, "train", "mirrored"),
        key(extraction, "train", 2),
        key(replace(extraction, seed=1), "train", 2),
        key(replace(extraction, augment="strong"), "train", 2),
        key(replace(extraction, flip=False), "train", 2),
        key(replace(extraction, channels=3), "train", 2),
        key(replace(extraction, stored="float16"), "train", "plain"),
        key(replace(extraction, network=network(seed=1)), "train", "plain"),
        key(replace(extraction, batches=pictures_in((13, 10, 1), rng)), "train", "plain"),
    }
    assert len(others | {plain}) == 11
    assert key(replace(extraction, seed=1), "train", "plain") == plain  # nothing random in it


def test_the_hash_sees_structure():
    image = keras.Input((9, 7, 1))
    plain = keras.Model(image, layers.ReLU()(image))
    limited = keras.Model(image, layers.ReLU(6.0)(image))
    assert model_hash(plain) != model_hash(limited)


def test_a_folder_that_cannot_be_written_is_one_line(extraction, forward, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=re.escape(f"cannot write features to {tmp_path / 'file'}")):
        extraction.rows("train", "plain", tmp_path / "file", forward)


def test_too_few_views_are_refused():
    with pytest.raises(RequestError, match=re.escape("views=0; expected at least 1")):
        views(0, "light")


def test_random_views_stay_in_range(rng):
    pictures = rng.integers(0, 255, (4, 13, 10, 1), np.uint8)
    changed = change_for(3, "strong", channels=1, seed=0, flip=True)(pictures, 0)
    assert changed.shape == pictures.shape
    assert changed.dtype == np.float32
    assert changed.min() >= 0
    assert changed.max() <= 255

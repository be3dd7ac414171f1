"""Features: right rows, computed once, under a name that follows from what made them."""

from __future__ import annotations

import re
from dataclasses import replace

import keras
import numpy as np
import pytest

from inshape.data.batches import Batches
from inshape.data.prepare import Preparation
from inshape.data.sources import open_source
from inshape.data.split import split
from inshape.errors import RequestError, RunError
from inshape.features.extract import Extraction, carried_on, model_hash
from inshape.features.views import change_for, views
from inshape.runtime.frozen import Forward

layers = keras.layers


def front(shape=(13, 10, 1), seed=0):
    keras.utils.set_random_seed(seed)
    image = keras.Input(shape)
    return keras.Model(image, layers.Conv2D(3, 3, activation="relu")(image))


def pictures_in(shape, rng, count=20):
    pixels = rng.integers(0, 255, (count, *shape), np.uint8)
    catalogue = split(open_source((pixels, [0, 1] * (count // 2))), validation=0.2)
    return Batches.open(catalogue, Preparation(shape_of(shape)))


def shape_of(shape):
    from inshape.shapes import InputShape

    return InputShape.of(shape)


@pytest.fixture
def made(rng):
    return Extraction(front(), pictures_in((13, 10, 1), rng))


def by_keras(made, split, mirror=False):
    pictures = np.concatenate([x for x, _ in made.batches.iterate(split)])
    pictures = pictures[:, :, ::-1] if mirror else pictures
    return np.asarray(made.front(pictures.astype("float32")))


def forward_of(made):
    sample, _ = next(made.batches.iterate("train", 4))
    return lambda: Forward(made.front, sample.astype("float32"))


@pytest.mark.parametrize("shape", [(13, 10, 1), (8, 8, 3), (7, 12, 4)])
@pytest.mark.parametrize(("view", "mirror"), [("plain", False), ("mirrored", True)])
def test_rows_are_the_networks_own(shape, view, mirror, rng, tmp_path):
    made = Extraction(front(shape), pictures_in(shape, rng))
    for part in ("train", "validation"):
        rows = made.rows(part, view, tmp_path, forward_of(made))
        expected = by_keras(made, part, mirror)
        np.testing.assert_allclose(rows, expected, atol=1e-4 * np.abs(expected).max(), rtol=0)


def test_features_carried_on_lie_beside_those_they_come_from(made, tmp_path):
    rows = made.rows("train", "plain", tmp_path, forward_of(made))
    maps = keras.Input(rows.shape[1:])
    behind = keras.Model(maps, layers.GlobalAveragePooling2D()(layers.Conv2D(5, 3)(maps)))
    found = carried_on(rows, Forward(behind, np.asarray(rows[:4])), behind)
    assert isinstance(found, np.memmap)  # many pictures' features need not fit in memory
    expected = np.asarray(behind(np.asarray(rows)))
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max(), rtol=0)
    assert len(list(tmp_path.iterdir())) == 2
    carried_on(rows, lambda rows: pytest.fail("it is there already"), behind)  # type: ignore[arg-type]
    behind.layers[1].kernel.assign(2 * behind.layers[1].kernel)
    other = carried_on(rows, Forward(behind, np.asarray(rows[:4])), behind)
    assert np.abs(other - found).max() > 0.1


def test_random_views_differ_and_repeat(made, tmp_path):
    first, second = (made.rows("train", n, tmp_path, forward_of(made)) for n in (2, 3))
    assert np.abs(first - second).max() > 1
    (tmp_path / f"{made.key('train', 2)}.npy").unlink()
    again = made.rows("train", 2, tmp_path, forward_of(made))
    np.testing.assert_array_equal(first, again)


def test_a_file_that_is_there_is_not_made_again(made, tmp_path):
    first = made.rows("train", "plain", tmp_path, forward_of(made))
    again = made.rows("train", "plain", tmp_path, lambda: pytest.fail("ran the network"))
    np.testing.assert_array_equal(first, again)
    assert made.bytes("train", 1) == first.nbytes


def test_half_precision_keeps_three_digits(made, tmp_path):
    whole = np.array(made.rows("train", "plain", tmp_path, forward_of(made)))
    made = replace(made, stored="float16")
    half = made.rows("train", "plain", tmp_path, forward_of(made))
    assert half.dtype == np.float16
    np.testing.assert_allclose(half, whole, rtol=1e-3, atol=1e-3)


def test_the_name_follows_from_what_matters(made, rng):
    key = made.key("train", "plain")
    assert made.key("train", "plain") == key
    assert replace(made, front=front()).key("train", "plain") == key  # built again: other names
    others = {
        made.key("validation", "plain"),
        made.key("train", "mirrored"),
        made.key("train", 2),
        replace(made, seed=1).key("train", 2),
        replace(made, augment="strong").key("train", 2),
        replace(made, stored="float16").key("train", "plain"),
        replace(made, front=front(seed=1)).key("train", "plain"),
        replace(made, batches=pictures_in((13, 10, 1), rng)).key("train", "plain"),
    }
    assert len(others | {key}) == 9
    assert replace(made, seed=1).key("train", "plain") == key  # nothing random in it


def test_the_hash_sees_structure():
    image = keras.Input((9, 7, 1))
    plain = keras.Model(image, layers.ReLU()(image))
    limited = keras.Model(image, layers.ReLU(6.0)(image))
    assert model_hash(plain) != model_hash(limited)


def test_a_folder_that_cannot_be_written_is_one_line(made, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=re.escape(f"cannot write features to {tmp_path / 'file'}")):
        made.rows("train", "plain", tmp_path / "file", forward_of(made))


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

"""Pictures for a training loop of one's own."""

from __future__ import annotations

import re

import keras
import numpy as np
import pytest
from PIL import Image

import inshape
from inshape.data.prepare import Preparation, prepare
from inshape.errors import DataError, UnknownName


@pytest.fixture(scope="module")
def plan():
    return inshape.plan("MobileNetV3Small-minimalistic", "33x48x1", classes=2)


@pytest.fixture
def photos(tmp_path, rng):
    for name, level in (("dark", 40), ("light", 200)):
        (tmp_path / name).mkdir()
        for number in range(10):
            pixels = np.clip(rng.normal(level, 20, (50, 71, 3)), 0, 255).astype("uint8")
            Image.fromarray(pixels).save(tmp_path / name / f"{number}.png")
    return tmp_path


def test_pictures_are_prepared_as_the_plan_wants_them(photos, plan):
    train, validation = inshape.load(photos, plan, batch_size=7, validation=0.3)
    assert [len(y) for _, y in train] == [7, 7]
    assert [len(y) for _, y in validation] == [6]
    assert train.class_names == ("dark", "light")
    pictures, labels = validation[0]
    assert (pictures.dtype, pictures.shape) == (np.float32, (6, 33, 48, 1))
    assert [float(x.mean() > 120) for x in pictures] == labels.tolist()
    with Image.open(photos / "dark" / "0.png") as picture:
        expected = prepare(np.asarray(picture.convert("L"))[..., None], Preparation.of("33x48x1"))
    every = np.concatenate([x for x, _ in (*train, *validation)])
    assert min(np.abs(x - expected).max() for x in every) <= 1.0  # kept as bytes, grey too


def test_every_epoch_has_an_order_of_its_own_and_a_seed_fixes_it(photos, plan):
    def orders(seed):
        train, _ = inshape.load(photos, plan, seed=seed)
        for _ in range(2):
            yield train[0][0]
            train.on_epoch_end()

    first, second = orders(0)
    np.testing.assert_array_equal(first, next(orders(0)))
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(np.sort(first, axis=None), np.sort(second, axis=None))


def test_keras_fits_it(photos, plan):
    train, validation = inshape.load(photos, plan, picture_fit="letterbox")
    model = keras.Sequential(
        [
            keras.Input((33, 48, 1)),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Dense(2),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss, metrics=["accuracy"])
    history = model.fit(train, validation_data=validation, epochs=2, verbose=0).history
    assert np.isfinite(history["val_loss"]).all()


def test_what_cannot_be_read_or_meant_is_said(tmp_path, photos, plan):
    with pytest.raises(DataError):
        inshape.load(tmp_path / "nowhere", plan)
    with pytest.raises(UnknownName, match=re.escape("unknown option 'fit'")):
        inshape.load(photos, plan, fit="crop")

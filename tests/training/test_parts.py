"""Recipe, optimizer, feeds: each against hand arithmetic or another library."""

from __future__ import annotations

import re
from itertools import pairwise

import keras
import numpy as np
import pytest
from tests.labels import classes

from inshape.data.augment import augmenter
from inshape.data.batches import Batches
from inshape.data.prepare import Preparation
from inshape.data.sources import open_source
from inshape.data.split import split
from inshape.errors import RequestError, UnknownName
from inshape.features.views import views
from inshape.requests import restore
from inshape.training import feeds, student
from inshape.training.feeds import (
    FeatureFeed,
    PictureFeed,
    Training,
    Validation,
    mix,
    read_ahead,
)
from inshape.training.recipe import Recipe
from inshape.training.student import layer_scales, layerwise, schedule

# Recipe


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"views": 0}, "views=0; expected 1 or more"),
        ({"validation": 1.5}, "validation=1.5; expected 0.001 to 0.9"),
        ({"label_smoothing": 1.0}, "label_smoothing=1.0; expected 0 to 0.99"),
        ({"layer_decay": 0.0}, "layer_decay=0.0; expected 1e-06 to 1"),
        ({"learning_rate": -1.0}, "learning_rate=-1.0; expected 0 or more"),
        ({"mixup": 1.5}, "mixup=1.5; expected 0 to 1"),
        ({"unfreeze": -1}, "unfreeze=-1; expected 0 or more"),
        ({"flip": "never"}, "flip='never'; expected true or false"),
        ({"distil": 1}, "distil=1; expected true or false"),
        ({"epochs": "abc"}, "epochs='abc'; expected a whole number"),
        ({"batch_size": 16.5}, "batch_size=16.5; expected a whole number"),
        ({"patience": True}, "patience=True; expected a whole number"),
        ({"views": 2.5}, "views=2.5; expected a whole number"),
        ({"mixup": False}, "mixup=False; expected a number"),
        ({"learning_rate": float("nan")}, "learning_rate=nan; expected a number"),
        ({"unfreeze": 1.5}, "unfreeze=1.5; expected a word or a whole number"),
    ],
)
def test_what_is_out_of_range_or_of_another_type_is_refused(changes, text):
    with pytest.raises(RequestError, match=re.escape(text)):
        Recipe().but(**changes)


def test_unknown_words_and_options_list_the_choices():
    text = "unknown class_weights 'balance'; did you mean balanced?"
    with pytest.raises(UnknownName, match=re.escape(text)):
        Recipe(class_weights="balance")
    text = "unknown option 'epoch'; did you mean epochs?"
    with pytest.raises(UnknownName, match=re.escape(text)):
        Recipe().but(epoch=3)


@pytest.mark.parametrize("fold", ["5/2", "0/2", "1/1", "2", "a/b", "1/" + "9" * 5000, "²/3"])
def test_a_fold_is_one_of_several(fold):
    with pytest.raises(RequestError, match="such as 2/5"):
        Recipe(fold=fold)


def test_strong_changes_have_a_view_to_change():
    assert views(Recipe().view_count, "light") == ("plain", "mirrored")
    assert views(Recipe(augment="strong").view_count, "strong") == ("plain", "mirrored", 2)
    assert Recipe(augment="strong", views=2).view_count == 2


def test_a_recipe_comes_back_from_plain_values():
    recipe = Recipe(epochs=3, unfreeze=2, mixup=0.0)
    assert restore(Recipe, recipe.as_dict()) == recipe


def test_the_rate_rises_to_its_peak_and_falls_to_nothing():
    recipe = Recipe(learning_rate=0.5, warmup_epochs=2)
    rate = schedule(recipe, 7, 6)
    rates = [float(rate(s)) for s in range(42)]
    assert max(rates) == 0.5
    assert rates[:15] == pytest.approx(np.linspace(0.5 / 14, 0.5, 15))
    assert rates[28] == pytest.approx(0.25)  # half way down
    assert all(a >= b for a, b in pairwise(rates[14:]))
    assert 0 < rates[-1] < 0.01


def test_a_short_training_warms_up_for_half_of_it_at_most():
    recipe = Recipe(learning_rate=1.0, warmup_epochs=5)
    rate = schedule(recipe, 10, 2)
    assert float(rate(10)) == 1.0
    assert float(rate(15)) < 1.0


def test_a_training_without_a_warm_up_begins_at_the_peak():
    rate = schedule(Recipe(learning_rate=0.5, warmup_epochs=0), 10, 2)
    assert [float(rate(step)) for step in (0, 10)] == pytest.approx([0.5, 0.25])


# Optimizer


adamw = layerwise(keras.optimizers.AdamW)


def two_variables():
    return [
        keras.Variable(np.linspace(-1, 1, 6, dtype="float32").reshape(2, 3)),
        keras.Variable(np.array([0.5, -0.5, 2.0], "float32")),
    ]


def gradients(step):
    rng = np.random.default_rng(step)
    return [
        keras.ops.convert_to_tensor(rng.normal(size=s).astype("float32")) for s in ((2, 3), (3,))
    ]


def test_at_scale_one_it_is_keras_adamw():
    ours, theirs = two_variables(), two_variables()
    optimizer = adamw(ours, [1.0, 1.0], decay=0.1, learning_rate=0.05)
    judge = keras.optimizers.AdamW(0.05, weight_decay=0.1)
    judge.exclude_from_weight_decay(var_list=theirs[1:])
    judge.build(theirs)
    for step in range(5):
        optimizer.apply(gradients(step), ours)
        judge.apply(gradients(step), theirs)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_a_scale_is_a_rate():
    ours, slow = two_variables(), two_variables()
    optimizer = adamw(ours, [0.1, 1.0], decay=0.2, learning_rate=0.05)
    judge = adamw(slow, [1.0, 1.0], decay=0.2, learning_rate=0.005)
    optimizer.apply(gradients(0), ours)
    judge.apply(gradients(0), slow)
    np.testing.assert_allclose(ours[0], slow[0], rtol=1e-6)
    assert np.abs(np.asarray(ours[1]) - np.asarray(slow[1])).max() > 0.01


def test_rates_rise_geometrically_through_every_stage():
    scales = layer_scales([2, 1, 1, 0], 1e-2)
    assert scales == pytest.approx([1e-6, 1e-4, 1e-3, 1e-2])
    assert layer_scales([], 0.1) == []


@pytest.mark.parametrize("size_hw", [(32, 24), (None, None)])
def test_a_layers_rate_goes_by_its_stage_and_not_by_what_is_unfrozen(size_hw):
    image = keras.Input((*size_hw, 1))
    x = image
    for name in ("a", "b", "c"):
        x = keras.layers.Conv2D(4, 3, strides=2 if name != "c" else 1, padding="same", name=name)(x)
    squeezed = keras.layers.GlobalAveragePooling2D(keepdims=True)(x)
    x = x * keras.layers.Conv2D(4, 1, name="squeeze")(squeezed)
    whole = keras.Model(image, keras.layers.GlobalAveragePooling2D()(x))
    from_b = keras.Model(whole.get_layer("a").output, whole.output)
    scales = {}
    for body in (whole, from_b):
        head = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        taught = student.Student(body, head, moves_statistics=False, seed=0)
        scales[body] = student._scales(taught, 0.01)
    assert scales[whole][2:] == scales[from_b]
    kernels = [1e-4, 1e-2, 10 ** (-4 / 3), 10 ** (-2 / 3), 1]  # a; b, c and the squeeze; head
    assert scales[whole][::2] == pytest.approx(kernels)


# Feeds


def feature_feed(mixup=0.0, count=21):
    rows = np.arange(count * 2, dtype="float32").reshape(count, 2)
    labels = classes(3).targets(np.arange(count) % 3, 0.1)
    return FeatureFeed([rows, rows + 1000], [labels] * 2, rows[:5], 4, seed=7, mixup=mixup)


def picture_feed(frozen=None, shape=(9, 7, 1)):
    pixels = np.random.default_rng(0).integers(0, 255, (30, *shape), np.uint8)
    catalogue = split(open_source((pixels, [0, 1, 2] * 10)), validation=0.1)
    batches = Batches.open(catalogue, Preparation.of(tuple(shape)))
    change = augmenter("light", channels=shape[-1], seed=3, mixup=0.2)
    return PictureFeed(batches, change, classes(3), 0.1, 4, seed=7, frozen=frozen)


@pytest.mark.parametrize(
    "make",
    [feature_feed, lambda: feature_feed(0.4), picture_feed, lambda: picture_feed(shape=(8, 8, 3))],
)
def test_keras_gets_the_batches_of_an_epoch_from_wherever_it_asks(make):
    feed = make()
    data = Training(feed, classes(3), np.ones(3, "float32"))
    data.epoch = 2
    whole = list(feed.epoch(2))
    assert len(whole) == data.num_batches == feed.steps
    for number in (0, 1, 0, 1, 2, 3):  # Keras looks at the first two, and begins
        rows, labels, weights = data[number]
        np.testing.assert_array_equal(rows, whole[number][0])
        np.testing.assert_array_equal(labels, whole[number][1])
        assert weights.sum() == pytest.approx(1.0)
    data.epoch = 3
    data.on_epoch_begin()
    assert np.abs(whole[0][0] - data[0][0]).max() > 0


@pytest.mark.parametrize(("count", "replicas"), [(5, 1), (65, 2), (1025, 6), (2176, 3)])
def test_every_validation_row_counts_once_on_any_number_of_devices(count, replicas, monkeypatch):
    monkeypatch.setattr(feeds, "count_replicas", lambda: replicas)
    rows = np.arange(count, dtype="float32")[:, None]
    labels = np.arange(count, dtype="int32") % 3
    data = Validation(FeatureFeed([rows], [np.eye(3)[labels]], rows, 4, seed=0), classes(3), labels)
    batches = [data[number] for number in range(data.num_batches)]
    assert {len(part) for batch in batches for part in batch} == {data.rows}
    assert data.rows % replicas == 0
    seen, hard, weights = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    np.testing.assert_array_equal(seen[:count], rows)
    np.testing.assert_array_equal(hard[:count].argmax(axis=1), labels)
    assert not weights[count:].any()
    # Keras takes the mean over batches of what it sums up in each.
    assert (weights * 7.0).sum() / len(batches) == pytest.approx(7.0)


def test_rows_keep_their_labels_and_come_from_all_views():
    drawn = []
    for rows, labels in feature_feed().epoch(0):
        numbers = rows[:, 0].astype(int) % 1000 // 2
        np.testing.assert_array_equal(labels.argmax(axis=1), numbers % 3)
        drawn += rows[:, 0].tolist()
    assert len(set(drawn)) == len(drawn) == 20  # the last of 21 does not fill a batch
    assert {value >= 1000 for value in drawn} == {True, False}


def test_frozen_layers_see_the_changed_pictures():
    fed = next(iter(picture_feed().epoch(0)))[0]
    through = next(iter(picture_feed(frozen=lambda rows: rows[:, :1] + 1).epoch(0)))[0]
    np.testing.assert_array_equal(through, fed[:, :1] + 1)


def test_mixing_keeps_sums_and_ranges(rng):
    rows = rng.uniform(0, 1, (6, 3, 2)).astype("float32")
    labels = np.eye(6, dtype="float32")
    mixed_rows, mixed_labels = mix(rows, labels, 0.4, rng)
    np.testing.assert_allclose(mixed_labels.sum(axis=1), 1.0, rtol=1e-6)
    assert (np.diag(mixed_labels) >= 0.5).all()
    # The labels say what share of which row each one is, since they began one-hot.
    expected = np.tensordot(mixed_labels, rows, axes=1)
    np.testing.assert_allclose(mixed_rows, expected, rtol=1e-5)
    assert mix(rows, labels, 0.0, rng)[0] is rows


def test_smoothed_labels_by_hand():
    np.testing.assert_allclose(classes(4).targets(np.array([2, 0]), 0.2), [
        [0.05, 0.05, 0.85, 0.05],
        [0.85, 0.05, 0.05, 0.05],
    ])  # fmt: skip


def test_batches_made_ahead_keep_their_order_and_errors():
    assert list(read_ahead(iter([(i, i) for i in range(5)]))) == [(i, i) for i in range(5)]

    def broken():
        yield 1, 1
        raise RequestError("lost")

    with pytest.raises(RequestError, match="lost"):
        list(read_ahead(broken()))

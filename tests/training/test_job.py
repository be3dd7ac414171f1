"""What the phases are given: class weights, and pictures or features to learn from."""

from __future__ import annotations

import re
import shutil
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from tests.labels import classes

from inshape.data.augment import augmenter
from inshape.data.batches import Batches
from inshape.data.prepare import Preparation
from inshape.data.sources import open_source
from inshape.features.cut import section
from inshape.progress import Progress
from inshape.requests import make
from inshape.runs import Run
from inshape.training import api, phases
from inshape.training.checkpoint import Standing
from inshape.training.feeds import FeatureFeed, PictureFeed
from inshape.training.job import ROOM, Features, Job
from inshape.training.recipe import Recipe
from inshape.training.request import TrainRequest

layers = keras.layers
SHAPE = (12, 9, 3)


def job_of(folder, counts=(12, 4), **choices):
    """A job on noise: so many pictures for training of each class, and one for validation."""
    rng = np.random.default_rng(0)
    labels = np.concatenate([np.full(n + 1, i) for i, n in enumerate(counts)])
    catalogue = open_source((rng.integers(0, 255, (len(labels), *SHAPE), np.uint8), labels))
    last = np.cumsum(np.array(counts) + 1) - 1
    catalogue.splits[:] = "train"
    catalogue.splits[last] = "validation"
    keras.utils.set_random_seed(1)
    image = keras.Input(SHAPE)
    x = layers.Conv2D(4, 3, strides=2, padding="same", name="stem")(image)
    x = layers.DepthwiseConv2D(3, strides=2, padding="same", name="last")(x)
    x = layers.Dropout(0.2, name="head_dropout")(layers.GlobalAveragePooling2D()(x))
    x = layers.Dense(len(counts), name="head_logits")(x)
    model = keras.Model(image, layers.Activation("softmax")(x))
    few = {"batch_size": 8, "views": 1, "augment": "none", "mixup": 0.0, "seed": 5}
    request = make(TrainRequest, source=None, shape=SHAPE, out=folder, **{**few, **choices})
    batches = Batches.open(catalogue, Preparation.of(SHAPE))
    return Job(Run.create(folder, {}), request, batches, model, Progress())


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("none", [1.0, 1.0]),
        ("balanced", [16 / (2 * 12), 16 / (2 * 4)]),  # each class half of the 16 pictures' weight
        # 12 a + 4 b = 16 with a : b as the roots of 4 and 12.
        ("sqrt", [16 / (12 + 4 * 3**0.5), 16 * 3**0.5 / (12 + 4 * 3**0.5)]),
    ],
)
def test_class_weights_by_hand(kind, expected, tmp_path):
    job = job_of(tmp_path / "run", class_weights=kind)
    np.testing.assert_allclose(job.output_weights, expected, rtol=1e-6)


def test_features_are_learned_from_where_that_changes_nothing(tmp_path):
    feed = Features(job_of(tmp_path / "run")).body_feed()
    assert isinstance(feed, FeatureFeed)


def test_the_layout_is_measured_once(tmp_path, monkeypatch):
    from inshape.runtime import frozen as forward

    measured = []
    fastest = forward._fastest
    monkeypatch.setattr(forward, "_fastest", lambda *a: measured.append(a) or fastest(*a))
    features = Features(job_of(tmp_path / "run"))
    (rows,), validation = features.head_rows()
    assert (rows.shape, validation.shape) == ((16, 4), (2, 4))
    assert len(features.engines) == 2
    assert len(measured) == 1


def test_whether_features_are_stored_is_decided_once(tmp_path, monkeypatch):
    """The run's own files fill the disk, and a resumed run must not go another way for it."""
    job = job_of(tmp_path / "run")
    assert Features(job).has_room
    Features(job).head_rows()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=0))
    extraction = Features(job)._extraction(job.body_cut)
    written = sum(file.stat().st_size for file in job.feature_folder.glob("*.npy"))
    need = extraction.bytes("train", 1) + extraction.bytes("validation", 1)
    assert Features(job).has_room == (need <= written / 2)
    for decided, kind in ((True, FeatureFeed), (False, PictureFeed)):
        settled = replace(job, run=job.run.updated(**{ROOM: decided}))
        assert isinstance(Features(settled).body_feed(), kind)


@pytest.mark.parametrize("nested", [False, True])
def test_layers_that_came_frozen_are_unfrozen(nested, tmp_path):
    """As they are in the usual Keras transfer model, whose base is saved with trainable=False."""
    job = job_of(tmp_path / "run", unfreeze="all")
    base = keras.Model(job.model.inputs[0], job.model.get_layer("last").output, name="base")
    if nested:
        image = keras.Input(SHAPE)
        x = layers.GlobalAveragePooling2D()(base(image))
        x = layers.Dense(2, name="head_logits")(layers.Dropout(0.2, name="head_dropout")(x))
        job = replace(job, model=keras.Model(image, layers.Activation("softmax")(x)))
    base.get_layer("stem").trainable = False
    base.trainable = False
    body = phases._body_phase(job, "body").student.body
    assert {v.path for v in body.trainable_variables} == {v.path for v in base.weights}
    assert len(body.trainable_variables) == 4


def test_strong_changes_without_a_random_view_are_said(tmp_path):
    text = (
        "augment='strong' has no effect on 2 views, which are the plain pictures and their mirror"
    )
    with pytest.warns(UserWarning, match=re.escape(text)):
        phases.train_head(job_of(tmp_path / "a", augment="strong", views=2))
    phases.train_head(job_of(tmp_path / "b", augment="strong", views=None))
    phases.train_head(job_of(tmp_path / "c", augment="strong", views=1, unfreeze="all"))


def test_cached_features_of_the_head_are_the_networks_own(tmp_path):
    """All of them, of every view: 1e-4 straight from pictures, 1e-3 over maps kept as float16."""
    for unfreeze, within in (("none", 1e-4), ("last", 1e-3)):
        job = job_of(
            tmp_path / unfreeze, counts=(40, 30), augment="light", views=2, unfreeze=unfreeze
        )
        of_views, validation = Features(job).head_rows()
        whole = section(job.logits_model, None, job.head_cut)
        pictures, others = (
            next(job.batches.iterate(split, 1000))[0].astype("float32")
            for split in ("train", "validation")
        )
        expected = [np.asarray(whole(p)) for p in (pictures, pictures[:, :, ::-1], others)]
        for got, want in zip((*of_views, validation), expected, strict=True):
            assert got.dtype == np.float32
            assert len(got) == len(want) > 1
            assert np.abs(got - want).max() <= within * np.abs(want).max()


@pytest.mark.parametrize("choice", ["cutmix", "rand_augment"])
def test_what_needs_new_pictures_gets_them_in_every_epoch(choice, tmp_path):
    job = job_of(tmp_path / "run", **{choice: 0.5})
    feed = Features(job).body_feed()
    assert isinstance(feed, PictureFeed)
    frozen = section(job.logits_model, None, job.body_cut)
    change = augmenter("none", seed=5, **{choice: 0.5})
    is_changed = []
    for epoch in (0, 1):
        rows, labels = next(feed.epoch(epoch))
        pictures, hard = next(job.batches.iterate("train", 8, shuffle=True, seed=5, epoch=epoch))
        soft = classes(2).targets(hard, job.recipe.label_smoothing)
        changed, mixed = change(pictures.astype("float32"), soft, step=epoch * feed.steps)
        expected = np.asarray(frozen(changed))
        np.testing.assert_allclose(rows, expected, atol=1e-4 * np.abs(expected).max())
        np.testing.assert_allclose(labels, mixed, atol=1e-6)
        plain = np.asarray(frozen(pictures.astype("float32")))
        is_changed.append(np.abs(expected - plain).max() > 0.05 * np.abs(plain).max())
    assert any(is_changed)


def test_an_average_is_what_a_phase_keeps(tmp_path):
    """So slow an average stays where its first step was, though the network itself moves."""
    moved = {}
    for ema in (0.0, 0.9999):
        job = job_of(tmp_path / str(ema), ema=ema, epochs=2, learning_rate=0.02, patience=9)
        before = np.array(job.model.get_layer("last").kernel)
        # The best epoch is kept; here none is better than the last one of a bad start.
        job.model.get_layer("head_logits").bias.assign([-5.0, 5.0])
        facts = phases.train_body(job)["validation"]
        assert facts["epoch"] > 0
        moved[ema] = np.abs(np.array(job.model.get_layer("last").kernel) - before).max()
    assert 0 < moved[0.9999] < 0.3 * moved[0.0]


@pytest.mark.parametrize("right", [13, 14])
def test_always_the_largest_class_is_no_better_than_guessing(right, tmp_path):
    job = job_of(tmp_path / "run")
    job.batches.catalogue.splits[:] = "validation"  # 13 pictures and 5
    logits = np.eye(2)[[0] * 13 + [1] * (right - 13) + [0] * (18 - right)]
    accuracy, _ = job.task.score_and_loss(logits, job.labels("validation"))
    job = replace(job, run=job.run.updated(metrics={"validation": {"accuracy": accuracy}}))
    text = "accuracy 0.722 is no better than always answering '0', which has 0.722: the"
    expected = pytest.warns(UserWarning, match=text) if right == 13 else nullcontext()
    with expected:
        api._note_guessing(job)
    assert len(job.notes) == (right == 13)


def list_pictures(rng, count, splits="", **choices):
    """The pictures of seven classes that a training uses."""
    pictures = rng.integers(0, 255, (count, *SHAPE), np.uint8)
    source = open_source((pictures, np.arange(count) % 7))
    source.splits[: len(splits)] = [{"v": "validation", "t": "train"}[s] for s in splits]
    request = make(TrainRequest, source=source, shape=SHAPE, out=Path("a"), **choices)
    return api._list_pictures(request, Progress())


def test_fewer_than_thirty_to_validate_on_are_said_with_what_makes_them_enough(rng):
    (line,) = list_pictures(rng, 77, validation=0.1).warnings
    assert line == (
        "validated on 7 pictures, of which each is 14 % of the accuracy; expected 30 or more; add "
        "pictures, or hold out more of them (validation=0.5)"
    )
    # Two fifths are 30.8, but only four of each class's eleven.
    assert len(list_pictures(rng, 77, validation=0.4).indices("validation")) == 28
    assert list_pictures(rng, 77, validation=0.5).warnings == ()
    (line,) = list_pictures(rng, 49, validation=0.1).warnings
    assert line.endswith("expected 30 or more; add pictures")
    (line,) = list_pictures(rng, 59, "t" * 30 + "v" * 29).warnings
    assert line == (
        "validated on 29 pictures, of which each is 3 % of the accuracy; expected 30 or more; put "
        "more pictures into the validation split"
    )
    assert list_pictures(rng, 60, "t" * 30 + "v" * 30).warnings == ()


@pytest.mark.parametrize(
    ("losses", "best_epoch", "line"),
    [
        (
            (1e13, 2.0),
            1,
            "body: the loss came to 1e+13 in epoch 3, where guessing has 1.10: the training "
            "diverged; the weights of epoch 2 are kept; lower learning_rate, which is 0.02",
        ),
        ((2.0, 1e13), -1, "1e+13 in epoch 3, .*; the weights from before the first epoch are kept"),
        ((2.0, 22.0), 0, "the loss came to 22 in epoch 3"),  # 20 ln 3 = 21.97
        ((21.9, 21.9), 0, None),
        ((1e13, 2.0), 2, None),  # made up for by the end of the epoch
    ],
)
def test_a_loss_that_no_learning_has_is_said(losses, best_epoch, line):
    notes = []
    phase = SimpleNamespace(
        name="body", recipe=Recipe(learning_rate=0.02), teaching=None,
        task=classes(3), note=notes.append,
    )  # fmt: skip
    row = dict(zip(("loss", "val_loss"), losses, strict=True), epoch=3)
    phases._note_divergence(phase, Standing(epoch=3, best_epoch=best_epoch, history=[row]))
    assert len(notes) == (line is not None)
    if line is not None:
        assert re.search(line.replace("+", r"\+"), notes[0])

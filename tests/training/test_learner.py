"""The learner and the loop: what learns, what stays, and that a phase can be cut anywhere."""

from __future__ import annotations

import re
import signal
import warnings
from dataclasses import replace

import keras
import numpy as np
import pytest

from inshape.errors import RunError
from inshape.features.linear import scores
from inshape.progress import Progress
from inshape.training import phases
from inshape.training.checkpoint import Checkpoint, Standing
from inshape.training.feeds import FeatureFeed, smooth_labels
from inshape.training.learner import Learner
from inshape.training.phases import Phase, Stopped, run_phase
from inshape.training.recipe import Recipe

layers = keras.layers
CLASSES = 3


def networks(shape, seed=0):
    keras.utils.set_random_seed(seed)
    image = keras.Input(shape)
    x = layers.Conv2D(6, 3, padding="same", use_bias=False, name="early")(image)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.Conv2D(6, 3, padding="same", name="late")(x)
    body = keras.Model(image, layers.GlobalAveragePooling2D()(x))
    features = keras.Input((6,))
    head = keras.Model(
        features, layers.Dense(CLASSES, name="head_logits")(layers.Dropout(0.3)(features))
    )
    return body, head


def rows_of(shape, count=48):
    rng = np.random.default_rng(1)
    labels = np.arange(count) % CLASSES
    pattern = rng.normal(size=(CLASSES, *shape))
    rows = (pattern[labels] * 0.7 + rng.normal(size=(count, *shape))).astype("float32")
    return rows, labels.astype(np.int32)


def phase_of(tmp_path, shape=(9, 7, 1), recipe=None, **changes):
    recipe = recipe or Recipe(learning_rate=0.02, batch_size=8, patience=20)
    rows, labels = rows_of(shape)
    body, head = networks(shape)
    soft = [smooth_labels(labels, CLASSES, 0.1)] * 2
    feed = FeatureFeed([rows, rows[:, :, ::-1]], soft, rows, 8, seed=5, mixup=0.2)
    phase = Phase(
        name="body",
        learner=Learner(body, head, recipe, seed=5),
        feed=feed,
        labels=labels,
        class_weights=np.ones(CLASSES, "float32"),
        epochs=4,
        path=tmp_path / "body.npz",
        progress=Progress(),
        on_epoch=lambda history: None,
        note=warnings.warn,
    )
    return replace(phase, **changes)


def test_statistics_stay_and_all_else_learns():
    body, head = networks((9, 7, 1))
    learner = Learner(body, head, Recipe(), seed=0)
    rows, labels = rows_of((9, 7, 1))
    before = {v.path: np.array(v) for v in body.weights + head.weights}
    soft = smooth_labels(labels, CLASSES, 0.0)
    for _ in range(2):
        learner.step(rows, soft, np.ones(len(rows), "float32"), 0.01)
    after = {v.path: np.array(v) for v in body.weights + head.weights}
    still = {p for p in before if np.array_equal(before[p], after[p])}
    assert {p.rsplit("/", 1)[1] for p in still} == {"moving_mean", "moving_variance"}


def test_statistics_move_if_asked():
    body, head = networks((9, 7, 1))
    learner = Learner(body, head, Recipe(batch_norm="train"), seed=0)
    rows, labels = rows_of((9, 7, 1))
    before = np.array(body.get_layer(index=2).moving_mean)
    learner.step(rows, smooth_labels(labels, CLASSES, 0.0), np.ones(len(rows), "float32"), 0.01)
    assert np.abs(np.array(body.get_layer(index=2).moving_mean) - before).max() > 0


def test_early_layers_learn_more_slowly():
    body, head = networks((9, 7, 1))
    learner = Learner(body, head, Recipe(layer_decay=0.01, weight_decay=0.0), seed=0)
    rows, labels = rows_of((9, 7, 1))
    before = {v.path: np.array(v) for v in learner.variables}
    learner.step(rows, smooth_labels(labels, CLASSES, 0.0), np.ones(len(rows), "float32"), 0.01)
    moved = {v.path: np.abs(np.array(v) - before[v.path]).max() for v in learner.variables}
    # Adam's first step is the rate itself, whatever the gradient.
    assert moved["early/kernel"] == pytest.approx(0.01 * 0.01, rel=0.01)
    assert moved["late/kernel"] == pytest.approx(0.01 * 0.1, rel=0.01)
    assert moved["head_logits/kernel"] == pytest.approx(0.01, rel=0.01)


def test_the_loss_is_keras_own_and_weights_count():
    body, head = networks((9, 7, 1))
    head = keras.Model(head.inputs, head.get_layer("head_logits")(head.inputs[0]))  # no dropout
    rows, labels = rows_of((9, 7, 1))
    soft = smooth_labels(labels, CLASSES, 0.1)
    weights = np.array([0.5, 1.0, 2.0], "float32")[labels]
    losses = keras.losses.categorical_crossentropy(soft, head(body(rows)), from_logits=True)
    expected = np.average(np.array(losses), weights=weights)
    loss = Learner(body, head, Recipe(), seed=0).step(rows, soft, weights, 0.0)
    assert loss == pytest.approx(expected, rel=1e-5)


def test_dropout_acts_in_training_alone():
    body, head = networks((9, 7, 1))
    rows, labels = rows_of((9, 7, 1))
    learner = Learner(body, head, Recipe(), seed=0)
    soft, weights = smooth_labels(labels, CLASSES, 0.0), np.ones(len(rows), "float32")
    losses = [learner.step(rows, soft, weights, 0.0) for _ in range(2)]
    assert losses[0] != losses[1]
    np.testing.assert_array_equal(learner.logits(rows), learner.logits(rows))
    again = Learner(*networks((9, 7, 1)), Recipe(), seed=0)
    assert again.step(rows, soft, weights, 0.0) == losses[0]


def test_averaged_weights_follow_the_formula():
    body, head = networks((9, 7, 1))
    learner = Learner(body, head, Recipe(ema=0.9), seed=0)
    rows, labels = rows_of((9, 7, 1))
    expected = learner.weights(averaged=False)
    for _ in range(3):
        learner.step(rows, smooth_labels(labels, CLASSES, 0.0), np.ones(len(rows), "float32"), 0.05)
        now = learner.weights(averaged=False)
        expected = [0.9 * e + 0.1 * n for e, n in zip(expected, now, strict=True)]
    for got, wanted in zip(learner.weights(), expected, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "ema", "cut_at"),
    [((9, 7, 1), 0.0, (0, 1)), ((8, 8, 3), 0.0, (1, 4)), ((9, 7, 1), 0.5, (2, 6))],
)
def test_a_phase_that_is_cut_ends_as_if_it_had_not_been(
    tmp_path, shape, ema, cut_at, stop_at, monkeypatch
):
    recipe = Recipe(learning_rate=0.02, batch_size=8, patience=20, ema=ema)
    whole = phase_of(tmp_path, shape, recipe)
    begun = whole.learner.state()
    expected, weights = run_phase(whole), whole.learner.weights()

    class Killed(Exception):
        pass

    def kill():
        raise Killed

    path = tmp_path / "cut.npz"
    monkeypatch.setattr(phases, "_SAVE_EVERY_S", 0.0)  # a checkpoint after every step
    epoch, step = cut_at
    killing = stop_at(epoch * whole.feed.steps + step, kill)
    whole.learner.restore(begun)
    with pytest.raises(Killed):
        run_phase(replace(whole, path=path, progress=killing))
    assert path.exists() == (cut_at != (0, 1))
    resumed = phase_of(tmp_path, shape, recipe, path=path)
    assert run_phase(resumed) == expected
    for a, b in zip(resumed.learner.weights(), weights, strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_best_epoch_is_kept_and_waiting_ends(tmp_path):
    # So high a rate that it only gets worse after a while.
    recipe = Recipe(learning_rate=0.5, batch_size=8, patience=2, warmup_epochs=0)
    phase = phase_of(tmp_path, recipe=recipe, epochs=30)
    standing = run_phase(phase)
    accuracies = [row["val_accuracy"] for row in standing.history]
    assert standing.epoch < 30
    assert standing.epoch - 1 - max(standing.best_epoch, 0) == 2
    rows, labels = rows_of((9, 7, 1))
    accuracy, loss = scores(phase.learner.logits(rows), labels)
    assert (accuracy, loss) == pytest.approx((standing.best_accuracy, standing.best_loss))
    assert accuracy >= max(accuracies)


def test_what_only_gets_worse_ends_as_it_began(tmp_path):
    rows, labels = rows_of((9, 7, 1))
    phase = phase_of(tmp_path, recipe=Recipe(learning_rate=50.0, warmup_epochs=0, patience=2))
    for _ in range(60):  # to near perfection first
        phase.learner.step(
            rows, smooth_labels(labels, CLASSES, 0.0), np.ones(len(rows), "float32"), 0.02
        )
    before = phase.learner.weights()
    with pytest.warns(UserWarning, match="the loss came to .* the training diverged"):
        assert run_phase(phase).best_epoch == -1
    for a, b in zip(phase.learner.weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_loss_that_is_not_finite_ends_the_phase_with_the_best_weights(tmp_path, monkeypatch):
    recipe = Recipe(learning_rate=0.02, batch_size=8, patience=20)
    phase = phase_of(tmp_path, recipe=recipe)
    real, steps, best = phase.learner.step, [], []

    def step(*args):
        steps.append(real(*args))
        if len(steps) == phase.feed.steps + 2:  # the second of the second epoch
            kernel = phase.learner.head.weights[0]
            kernel.assign(np.full(kernel.shape, np.nan, "float32"))
            return float("nan")
        return steps[-1]

    monkeypatch.setattr(phase.learner, "step", step)
    phase = replace(phase, on_epoch=lambda rows: best.append(phase.learner.weights()))
    line = (
        "body: a loss that is nan in epoch 2, step 2; stopped there, and the weights of epoch 1 "
        "are kept; lower learning_rate, which is 0.02"
    )
    with pytest.warns(UserWarning, match=re.escape(line)):
        standing = run_phase(phase)
    assert (standing.epoch, standing.best_epoch, len(standing.history)) == (1, 0, 1)
    for a, b in zip(phase.learner.weights(), best[0], strict=True):
        np.testing.assert_array_equal(a, b)
    # The checkpoint of the epoch before is whole: a resumed phase begins with finite numbers.
    Checkpoint.load(phase.path)


def test_weights_that_are_not_finite_are_not_scored_by_their_first_class(tmp_path, monkeypatch):
    """argmax gives 0 for NaN, so that the largest class would be right by chance."""
    phase = phase_of(tmp_path)
    phase = replace(phase, labels=np.zeros_like(phase.labels))
    before = phase.learner.weights()
    ruined = [np.full_like(w, np.nan) for w in before]
    real = phase.learner.step

    def step(*args):
        loss = real(*args)
        phase.learner.set_weights(ruined)
        return loss

    monkeypatch.setattr(phase.learner, "step", step)
    with pytest.warns(UserWarning, match="a (validation )?loss that is nan"):
        run_phase(phase)
    for a, b in zip(phase.learner.weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_checkpoint_that_is_not_finite_is_refused(tmp_path):
    path = tmp_path / "a.npz"
    Checkpoint(Standing(), {"model/0": np.array([1.0, np.inf])}, [np.zeros(2)]).save(path)
    with pytest.raises(RunError, match="holds NaN or infinity; expected finite numbers; remove it"):
        Checkpoint.load(path)


def test_ctrl_c_saves_after_the_step(tmp_path, stop_at):
    before = signal.getsignal(signal.SIGINT)
    phase = phase_of(tmp_path)
    press = stop_at(phase.feed.steps + 2, lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(Stopped):
        run_phase(replace(phase, progress=press))
    assert signal.getsignal(signal.SIGINT) is before
    saved = Checkpoint.load(tmp_path / "body.npz").standing
    assert (saved.epoch, saved.step) == (1, 2)


def test_a_damaged_checkpoint_is_one_line(tmp_path):
    path = tmp_path / "body.npz"
    Checkpoint(Standing(), {"model/0": np.ones(3)}, [np.zeros(2, "float32")]).save(path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(RunError, match=re.escape(f"{path} cannot be read (")):
        Checkpoint.load(path)


def test_a_phase_with_a_damaged_checkpoint_is_trained_again(tmp_path):
    whole = phase_of(tmp_path)
    run_phase(whole)
    expected = whole.learner.weights()
    damaged = phase_of(tmp_path)
    content = bytearray(damaged.path.read_bytes())
    content[len(content) // 2] ^= 1  # one bit
    damaged.path.write_bytes(content)
    with pytest.warns(
        UserWarning, match=r"cannot be read .*; body is trained again from its start"
    ):
        run_phase(damaged)
    for a, b in zip(damaged.learner.weights(), expected, strict=True):
        np.testing.assert_array_equal(a, b)

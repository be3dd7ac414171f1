"""The student and its phases: what learns, what stays, and that a phase can be cut anywhere."""

from __future__ import annotations

import functools
import re
import warnings
from dataclasses import replace

import keras
import numpy as np
import pytest
from tests.labels import classes

from inshape.errors import RunError, UnknownName
from inshape.progress import Progress
from inshape.training import phases
from inshape.training.checkpoint import Checkpoint, Standing
from inshape.training.feeds import FeatureFeed
from inshape.training.phases import Phase, run_phase
from inshape.training.recipe import Recipe
from inshape.training.student import (
    Student,
    compile_student,
    optimizer_class,
    optimizers,
    restore_state,
    state_of,
    weights_of,
)
from inshape.training.teacher import Teaching

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


STILL = {"learning_rate": 0.01, "warmup_epochs": 0.0}


def student_of(recipe=None, shape=(9, 7, 1), parts=None, steps=1000):
    """A student whose learning rate hardly changes over a few steps."""
    recipe = recipe or Recipe(**STILL)
    body, head = parts or networks(shape)
    student = Student(body, head, moves_statistics=recipe.batch_norm == "train", seed=5)
    compile_student(student, classes(CLASSES), recipe, steps, 1)
    return student


def step(student, rows, labels, weights=None):
    """Learn from a batch, weighed as a phase's data are; the loss."""
    weights = np.ones(len(rows), "float32") if weights is None else weights
    return student.train_on_batch(rows, labels, weights / weights.sum())[0]


def phase_of(tmp_path, shape=(9, 7, 1), recipe=None, epochs=4, **changes):
    recipe = recipe or Recipe(learning_rate=0.02, batch_size=8, patience=20)
    rows, labels = rows_of(shape)
    soft = [classes(CLASSES).targets(labels, 0.1)] * 2
    feed = FeatureFeed([rows, rows[:, :, ::-1]], soft, rows, 8, seed=5, mixup=0.2)
    student = Student(*networks(shape), moves_statistics=recipe.batch_norm == "train", seed=5)
    compile_student(student, classes(CLASSES), recipe, feed.steps, epochs)
    phase = Phase(
        name="body",
        student=student,
        recipe=recipe,
        feed=feed,
        task=classes(CLASSES),
        labels=labels,
        output_weights=np.ones(CLASSES, "float32"),
        epochs=epochs,
        path=tmp_path / "body.npz",
        progress=Progress(),
        on_epoch=lambda history: None,
        note=warnings.warn,
    )
    return replace(phase, **changes)


@pytest.mark.backends
def test_statistics_stay_and_all_else_learns():
    student = student_of()
    rows, labels = rows_of((9, 7, 1))
    before = [
        (v.path, value) for v, value in zip(student.weights, weights_of(student), strict=True)
    ]
    for _ in range(2):
        step(student, rows, classes(CLASSES).targets(labels, 0.0))
    after = weights_of(student)
    still = {p for (p, old), new in zip(before, after, strict=True) if np.array_equal(old, new)}
    assert {p.rsplit("/", 1)[1] for p in still} == {"moving_mean", "moving_variance"}


def test_statistics_move_if_asked():
    student = student_of(Recipe(**STILL, batch_norm="train"))
    rows, labels = rows_of((9, 7, 1))
    mean = student.body.get_layer(index=2).moving_mean
    before = np.array(mean)
    step(student, rows, classes(CLASSES).targets(labels, 0.0))
    assert np.abs(np.array(mean) - before).max() > 0


@pytest.mark.backends
def test_early_layers_learn_more_slowly():
    student = student_of(Recipe(**STILL, layer_decay=0.01, weight_decay=0.0))
    rows, labels = rows_of((9, 7, 1))
    before = {v.path: keras.ops.convert_to_numpy(v).copy() for v in student.trainable_variables}
    step(student, rows, classes(CLASSES).targets(labels, 0.0))
    moved = {
        v.path: np.abs(keras.ops.convert_to_numpy(v) - before[v.path]).max()
        for v in student.trainable_variables
    }
    # Adam's first step is the rate itself, whatever the gradient.
    assert moved["early/kernel"] == pytest.approx(0.01 * 0.01, rel=0.01)
    assert moved["late/kernel"] == pytest.approx(0.01 * 0.1, rel=0.01)
    assert moved["head_logits/kernel"] == pytest.approx(0.01, rel=0.01)


def test_kernels_decay_and_vectors_do_not():
    student = student_of(Recipe(**STILL, weight_decay=0.5, optimizer="sgd"))
    optimizer = student.optimizer
    kernel, bias = student.head.get_layer("head_logits").weights
    before = np.array(kernel), np.array(bias)
    optimizer.apply([keras.ops.zeros(v.shape) for v in student.trainable_variables])
    np.testing.assert_allclose(np.array(kernel), before[0] * (1 - 0.01 * 0.5), rtol=1e-5)
    np.testing.assert_array_equal(np.array(bias), before[1])


@pytest.mark.parametrize("name", sorted(optimizers()))
def test_any_of_keras_optimizers_trains(name):
    student = student_of(Recipe(**STILL, optimizer=name.upper(), layer_decay=0.5))
    assert name in type(student.optimizer).__mro__[1].__name__.lower()
    rows, labels = rows_of((9, 7, 1))
    before = weights_of(student)
    assert np.isfinite(step(student, rows, classes(CLASSES).targets(labels, 0.0)))
    kinds = {np.array_equal(a, b) for a, b in zip(before, weights_of(student), strict=True)}
    assert kinds == {True, False}


def test_an_optimizer_that_keras_lacks_is_named():
    with pytest.raises(UnknownName, match=r"optimizer.*'adamx'.*adamw"):
        optimizer_class("adamx")


@pytest.mark.backends
def test_the_loss_is_keras_own_and_weights_count():
    body, head = networks((9, 7, 1))
    head = keras.Model(head.inputs, head.get_layer("head_logits")(head.inputs[0]))  # no dropout
    rows, labels = rows_of((9, 7, 1))
    soft = classes(CLASSES).targets(labels, 0.1)
    weights = np.array([0.5, 1.0, 2.0], "float32")[labels]
    losses = keras.losses.categorical_crossentropy(soft, head(body(rows)), from_logits=True)
    expected = np.average(keras.ops.convert_to_numpy(losses), weights=weights)
    student = student_of(parts=(body, head))
    assert step(student, rows, soft, weights) == pytest.approx(expected, rel=1e-5)


def test_dropout_acts_in_training_alone():
    still = Recipe(learning_rate=1e-12, warmup_epochs=0.0, weight_decay=0.0)
    student = student_of(still)
    rows, labels = rows_of((9, 7, 1))
    soft = classes(CLASSES).targets(labels, 0.0)
    first = step(student, rows, soft)
    student.reset_metrics()
    assert step(student, rows, soft) != first
    np.testing.assert_array_equal(*(student.predict(rows, verbose=0) for _ in range(2)))
    assert step(student_of(still), rows, soft) == first


@pytest.mark.backends
def test_averaged_weights_follow_the_formula(tmp_path):
    """Keras's average begins with the weights after the first step."""
    recipe = Recipe(learning_rate=0.05, batch_size=8, patience=20, ema=0.9)
    phase = phase_of(tmp_path, recipe=recipe, epochs=1)
    seen = []

    class Look(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if keras.backend.backend() == "jax":  # which holds them elsewhere during an epoch
                self.model.jax_state_sync()
            seen.append(weights_of(phase.student))

    run_phase(replace(phase, callbacks=[Look()]))
    expected = seen[0]
    for now in seen[1:]:
        expected = [0.9 * e + 0.1 * n for e, n in zip(expected, now, strict=True)]
    assert len(seen) == phase.feed.steps
    for got, wanted in zip(Checkpoint.load(phase.path).best, expected, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-6)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A phase that was not cut: as it began, how it stood and its weights, once for a choice."""

    @functools.cache
    def run(shape, ema):
        recipe = Recipe(learning_rate=0.02, batch_size=8, patience=20, ema=ema)
        phase = phase_of(tmp_path_factory.mktemp("whole"), shape, recipe)
        begun = state_of(phase.student)
        return phase, begun, run_phase(phase), weights_of(phase.student)

    return run


@pytest.mark.parametrize(
    ("shape", "ema", "cut_at"),
    [
        ((9, 7, 1), 0.0, (0, 1)),
        ((8, 8, 3), 0.0, (1, 4)),
        pytest.param((9, 7, 1), 0.5, (2, 5), marks=pytest.mark.backends),
    ],
)
def test_a_phase_that_is_cut_ends_as_if_it_had_not_been(tmp_path, whole, shape, ema, cut_at):
    phase, begun, expected, weights = whole(shape, ema)
    assert expected.best_epoch >= 0

    class Kill(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.epoch = epoch

        def on_train_batch_end(self, batch, logs=None):
            if (self.epoch, batch) == cut_at:
                raise KeyboardInterrupt

    path = tmp_path / "cut.npz"
    restore_state(phase.student, begun)
    with pytest.raises(KeyboardInterrupt):
        run_phase(replace(phase, path=path, callbacks=[Kill()]))
    assert path.exists() == (cut_at[0] > 0)
    resumed = phase_of(tmp_path, shape, phase.recipe, path=path)
    assert run_phase(resumed) == expected
    for a, b in zip(weights_of(resumed.student), weights, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.backends
def test_callbacks_of_the_user_see_every_epoch(tmp_path):
    seen = []
    look = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: seen.append((epoch, sorted(logs))),
        on_train_begin=lambda logs: seen.append("begin"),
        on_train_end=lambda logs: seen.append("end"),
    )
    run_phase(phase_of(tmp_path, callbacks=[look], epochs=2))
    names = ["accuracy", "loss", "val_accuracy", "val_loss"]
    assert seen == ["begin", (0, names), (1, names), "end"]


def test_usual_callbacks_of_keras_work_on_a_phase(tmp_path):
    common = [
        keras.callbacks.ModelCheckpoint(tmp_path / "whole.keras"),
        keras.callbacks.ModelCheckpoint(tmp_path / "a.weights.h5", save_weights_only=True),
        keras.callbacks.CSVLogger(tmp_path / "log.csv"),
        keras.callbacks.TensorBoard(tmp_path / "board"),
        keras.callbacks.EarlyStopping(patience=1),
    ]
    phase = phase_of(tmp_path, callbacks=common, epochs=2)
    run_phase(phase)
    loaded = keras.saving.load_model(tmp_path / "whole.keras")
    rows, _ = rows_of((9, 7, 1))
    assert loaded.predict(rows, verbose=0).shape == (len(rows), CLASSES)
    assert (tmp_path / "log.csv").read_text().count("\n") == 3
    assert list((tmp_path / "board").rglob("events*"))


def test_as_many_right_answers_are_as_good_whatever_float32_makes_of_them(tmp_path):
    """27 of 30, with a better loss; Keras says 0.89999998."""
    phase = phase_of(tmp_path)
    keeper = phases._Keeper(replace(phase, labels=np.zeros(30, "int32")), lambda *_: None)
    keeper.standing = Standing(best_score=27 / 30, best_loss=0.36)
    keeper.on_test_end({"accuracy": float(np.float32(0.9)) - 6e-8, "loss": 0.35})
    assert (keeper.standing.best_epoch, keeper.standing.best_score) == (0, 27 / 30)
    keeper.on_test_end({"accuracy": float(np.float32(0.9)) + 6e-8, "loss": 0.37})
    assert keeper.standing.best_loss == 0.35


def test_penalties_of_the_network_stay_out_of_the_loss():
    body, head = networks((9, 7, 1))
    config = body.get_config()
    for layer in config["layers"]:
        if layer["name"] == "late":
            layer["config"]["kernel_regularizer"] = keras.regularizers.L2(5.0)
    penalised = keras.Model.from_config(config)
    penalised.set_weights(body.get_weights())
    assert penalised.losses
    rows, labels = rows_of((9, 7, 1))
    soft = classes(CLASSES).targets(labels, 0.0)
    losses = [student_of(parts=(b, head)).test_on_batch(rows, soft) for b in (body, penalised)]
    np.testing.assert_allclose(*losses, rtol=1e-6)


def test_accuracy_is_that_of_the_hard_labels_while_a_teacher_teaches():
    rows, labels = rows_of((9, 7, 1))
    hard = classes(CLASSES).targets(labels, 0.0)
    soft = np.roll(hard, 1, axis=1)
    student = student_of()
    expected = (student.predict(rows, verbose=0).argmax(axis=1) == labels).mean()
    compile_student(student, classes(CLASSES), Recipe(), 10, 1, Teaching(0.9, 2.0))
    both = np.concatenate([hard, 2 * soft], axis=1)
    weights = np.full(len(rows), 1 / len(rows), "float32")
    assert student.test_on_batch(rows, both, weights)[1] == pytest.approx(expected)


def test_what_is_recorded_is_computed_in_full_precision(tmp_path):
    phase = phase_of(tmp_path, recipe=Recipe(precision="bfloat16", batch_size=8), epochs=1)
    run_phase(phase)
    logits = phase.validation_logits()
    rows, _ = rows_of((9, 7, 1))
    expected = keras.ops.convert_to_numpy(phase.student(rows, training=False))
    np.testing.assert_allclose(logits, expected, atol=1e-5)


def test_the_best_epoch_is_kept_and_waiting_ends(tmp_path):
    # So high a rate that it only gets worse after a while.
    recipe = Recipe(learning_rate=0.5, batch_size=8, patience=2, warmup_epochs=0)
    phase = phase_of(tmp_path, recipe=recipe, epochs=30)
    standing = run_phase(phase)
    accuracies = [row["val_accuracy"] for row in standing.history]
    assert standing.epoch < 30
    assert standing.epoch - 1 - standing.best_epoch == 2
    accuracy, loss = phase.task.score_and_loss(phase.validation_logits(), phase.labels)
    assert (accuracy, loss) == pytest.approx((standing.best_score, standing.best_loss))
    assert accuracy >= max(accuracies) - 1e-6


def test_epochs_that_rise_go_on_though_the_start_was_better(tmp_path, monkeypatch):
    scores = iter([0.9, 0.1, 0.2, 0.3, 0.4, 0.3, 0.2, 0.1])  # the first is that of the start
    kind = type(classes(CLASSES))
    monkeypatch.setattr(kind, "metric", None)
    monkeypatch.setattr(kind, "score_and_loss", lambda self, logits, labels: (next(scores), 0.5))
    phase = phase_of(tmp_path, recipe=Recipe(batch_size=8, patience=2), epochs=12)
    standing = run_phase(phase)
    assert (standing.epoch, standing.best_epoch, standing.best_score) == (6, -1, 0.9)


def test_what_only_gets_worse_ends_as_it_began(tmp_path):
    rows, labels = rows_of((9, 7, 1))
    phase = phase_of(tmp_path, recipe=Recipe(learning_rate=50.0, warmup_epochs=0, patience=2))
    parts = phase.student.body, phase.student.head
    learning = student_of(Recipe(learning_rate=0.02, warmup_epochs=0), parts=parts)
    for _ in range(60):  # to near perfection first
        step(learning, rows, classes(CLASSES).targets(labels, 0.0))
    before = weights_of(phase.student)
    with pytest.warns(UserWarning, match="the loss came to .* the training diverged"):
        assert run_phase(phase).best_epoch == -1
    for a, b in zip(weights_of(phase.student), before, strict=True):
        np.testing.assert_array_equal(a, b)


class Ruin(keras.callbacks.Callback):
    """Makes every kernel of the head NaN before one step."""

    def __init__(self, epoch, batch):
        super().__init__()
        self.place, self.epoch = (epoch, batch), -1

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        if (self.epoch, batch) == self.place:
            for weight in self.model.head.weights:
                weight.assign(np.full(weight.shape, np.nan, "float32"))


@pytest.mark.backends
def test_a_loss_that_is_not_finite_ends_the_phase_with_the_best_weights(tmp_path):
    best = []
    phase = phase_of(tmp_path, callbacks=[Ruin(1, 1)])
    phase = replace(phase, on_epoch=lambda rows: best.append(weights_of(phase.student)))
    line = (
        "body: a loss that is nan in epoch 2, step 2; stopped there, and the weights of epoch 1 "
        "are kept; lower learning_rate, which is 0.02"
    )
    with pytest.warns(UserWarning, match=re.escape(line)):
        standing = run_phase(phase)
    assert (standing.epoch, standing.best_epoch, len(standing.history)) == (1, 0, 1)
    for a, b in zip(weights_of(phase.student), best[0], strict=True):
        np.testing.assert_array_equal(a, b)
    # The checkpoint of the epoch before is whole: a resumed phase begins with finite numbers.
    Checkpoint.load(phase.path)


def test_weights_that_are_not_finite_are_not_scored_by_their_first_class(tmp_path):
    """argmax gives 0 for NaN, so that the largest class would be right by chance."""

    class RuinAfterwards(Ruin):
        def on_train_batch_end(self, batch, logs=None):
            self.on_train_batch_begin(batch)

        def on_train_batch_begin(self, batch, logs=None):
            if batch == self.place[1] and logs is None:
                super().on_train_batch_begin(batch)

    phase = phase_of(tmp_path)
    last = phase.feed.steps - 1
    phase = replace(phase, labels=np.zeros_like(phase.labels), callbacks=[RuinAfterwards(0, last)])
    before = weights_of(phase.student)
    with pytest.warns(UserWarning, match="a (validation )?loss that is nan"):
        run_phase(phase)
    for a, b in zip(weights_of(phase.student), before, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_checkpoint_that_is_not_finite_is_refused(tmp_path):
    path = tmp_path / "a.npz"
    Checkpoint(Standing(), [np.array([1.0, np.inf])], [np.zeros(2)]).save(path)
    with pytest.raises(RunError, match="holds NaN or infinity; expected finite numbers; remove it"):
        Checkpoint.load(path)


def test_a_damaged_checkpoint_is_one_line(tmp_path):
    path = tmp_path / "body.npz"
    Checkpoint(Standing(), [np.ones(3)], [np.zeros(2, "float32")]).save(path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(RunError, match=re.escape(f"{path} cannot be read (")):
        Checkpoint.load(path)


def test_a_phase_with_a_damaged_checkpoint_is_trained_again(tmp_path, whole):
    phase, _, _, expected = whole((9, 7, 1), 0.0)
    damaged = phase_of(tmp_path)
    content = bytearray(phase.path.read_bytes())
    content[len(content) // 2] ^= 1  # one bit
    damaged.path.write_bytes(content)
    with pytest.warns(
        UserWarning, match=r"cannot be read .*; body is trained again from its start"
    ):
        run_phase(damaged)
    for a, b in zip(weights_of(damaged.student), expected, strict=True):
        np.testing.assert_array_equal(a, b)

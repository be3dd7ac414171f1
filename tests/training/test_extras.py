"""Teachers, what is tried once a model is trained, TensorBoard and MLflow, mostly on one run."""

from __future__ import annotations

import re
import shutil
from collections import Counter

import keras
import numpy as np
import pytest
from tensorflow.python.summary.summary_iterator import summary_iterator
from tests.labels import classes

from inshape.choosing import train
from inshape.data.augment import augmenter
from inshape.data.batches import Batches
from inshape.data.prepare import Preparation
from inshape.data.sources import open_source
from inshape.errors import RequestError, RunError
from inshape.features.views import change_for
from inshape.progress import Progress
from inshape.runs import Run
from inshape.shapes import InputShape
from inshape.training import api, journals, phases
from inshape.training.api import resume
from inshape.training.feeds import PictureFeed
from inshape.training.job import Features, Job
from inshape.training.journals import EventFiles, MlflowRun
from inshape.training.phases import Stopped
from inshape.training.post_training import try_fixres, try_recalibration
from inshape.training.recipe import Recipe
from inshape.training.request import request_of
from inshape.training.teacher import Teacher, Teaching

layers = keras.layers
STEPS = ("recalibrate", "fixres")

# Teachers


def test_a_teacher_at_the_native_shape_leaves_a_run_of_its_own(taught):
    teacher = Run.open(taught.folder / "teacher")
    assert teacher.status == "complete"
    assert str(teacher.preparation.shape) == "32x24x1"
    facts = taught.record["metrics"]["distil"]
    assert facts["teacher"] == teacher.record["metrics"]["validation"]["accuracy"]
    assert facts["with"]["epochs"] == 2
    assert taught.record["done"] == ["teacher", "head", "body", "distil", "recalibrate", "fixres"]
    assert taught.record["data"]["train"] == teacher.record["data"]["train"]
    names = [row["phase"] for row in taught.history_rows()]
    assert names == ["head", "body", "body", "distil", "distil", *["fixres"] * 5]


def test_the_better_student_is_kept(taught):
    facts = taught.record["metrics"]["distil"]
    ranks = {k: (facts[k]["accuracy"], -facts[k]["loss"]) for k in ("with", "without")}
    assert facts["kept"] == (ranks["with"] > ranks["without"])


def test_a_stopped_teacher_is_gone_on_with(
    taught, train_small, network, tmp_path, monkeypatch, assert_same_run
):
    """Even of a model that is no file, which nothing in the record could name."""

    def stop(*_):
        raise KeyboardInterrupt

    in_memory = keras.models.load_model(network)
    choices = {"distil": True, "recalibrate": True, "fixres": True}
    with monkeypatch.context() as patch:
        patch.setattr(phases, "run_phase", stop)
        with pytest.raises(Stopped, match=re.escape(f"--resume {tmp_path / 'a'}")):
            train_small(tmp_path / "a", backbone=in_memory, **choices)
    stopped = Run.open(tmp_path / "a")
    assert stopped.status == "interrupted"
    assert not stopped.record["done"]
    # Had it been stopped before the teacher was begun, this would begin the same one.
    request = request_of(stopped).of_teacher(InputShape.of("32x24x1"), tmp_path / "again")
    again = api._start(request, Progress()).model
    begun = keras.models.load_model(stopped.folder / "teacher" / "checkpoints" / "initial.keras")
    for a, b in zip(again.weights, begun.weights, strict=True):
        np.testing.assert_array_equal(a, b)
    # The student behind it is trained as it is without a teacher.
    with monkeypatch.context() as patch:
        patch.setattr(api, "train_head", stop)
        with pytest.raises(Stopped):
            resume(stopped)
    assert Run.open(stopped.folder).record["done"] == ["teacher"]
    teachers = [Run.open(run.folder / "teacher") for run in (stopped, taught)]
    assert_same_run(*teachers)


def test_other_channels_can_be_taught(tmp_path):
    """Two bands: the teacher is made of them too, and the run ends complete."""
    keras.utils.set_random_seed(3)
    image = keras.Input((32, 24, 1))
    x = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu")(image)
    x = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu")(x)
    network = keras.Model(image, layers.Dense(7)(layers.GlobalAveragePooling2D()(x)))
    pixels = np.random.default_rng(0).integers(0, 255, (24, 34, 24, 2), np.uint8)
    pixels[::2, :, ::8] = 255
    run = train(
        (pixels, [0, 1] * 12), "16x12x2", out=tmp_path / "a", backbone=network, weights=None,
        strategy="rebuild", channels="tile", distil=True, epochs=1, batch_size=8, validation=0.25,
        views=1, learning_rate=1e-4,
    )  # fmt: skip
    assert run.status == "complete"
    assert str(Run.open(run.folder / "teacher").preparation.shape) == "32x24x2"


def test_a_teacher_sees_the_crops_of_its_student():
    """Shrunk to the student's size, a teacher's random crop is the student's crop."""
    rng = np.random.default_rng(0)
    coarse = rng.uniform(0, 255, (6, 4, 4, 1)).astype("float32")
    small, large = (np.kron(coarse, np.ones((1, n, n, 1), "float32")) for n in (8, 32))
    crops = [
        np.asarray(augmenter("light", channels=1, seed=5)(p, step=3)[0]) for p in (small, large)
    ]
    shrunk = crops[1].reshape(6, 32, 4, 32, 4, 1).mean(axis=(2, 4))
    changed = np.abs(crops[0] - small).mean()
    assert np.abs(shrunk - crops[0]).mean() < 0.35 * changed


def test_a_teacher_in_colour_makes_its_grey_students_changes(tmp_path):
    """Another layer among them would give the erased box another seed."""
    rng = np.random.default_rng(0)
    catalogue = open_source((rng.integers(0, 255, (8, 16, 12, 3), np.uint8), [0, 1] * 4))
    catalogue.splits[:] = "train"
    image = keras.Input((16, 12, 3))
    boxes = layers.Flatten(name="head_logits")(layers.AveragePooling2D(4)(image))
    model = keras.Model(image, layers.Activation("softmax")(boxes))
    preparation = Preparation.of("16x12x3")
    run = Run.create(tmp_path / "run", {"preparation": preparation.as_dict()})
    run.save_model(model)
    student = Batches.open(catalogue, Preparation.of("16x12x1"))
    recipe = Recipe(augment="strong", flip=False)
    teacher = Teacher(run, student, recipe, None, batch_size=8, seed=5, progress=Progress())
    colour = Batches.open(catalogue, preparation)
    small = keras.Model(image, boxes)
    pictures, _ = next(colour.iterate("train", 8, shuffle=True, seed=5, epoch=1))
    change = augmenter("strong", channels=1, seed=5, flip=False)
    expected = small(change(pictures.astype("float32"), step=1)[0])
    (logits,) = teacher.answers_of_epoch(1)
    np.testing.assert_allclose(logits, expected, atol=0.1)
    change = change_for(2, "strong", channels=1, seed=5, flip=False)
    pictures, _ = next(colour.iterate("train", 1000))
    expected = small(change(pictures, 0))
    (logits,) = teacher.answers_to_views([2], tmp_path)
    np.testing.assert_allclose(logits, expected, atol=0.1)


def test_soft_labels_reach_the_steps_of_an_epoch(taught):
    request = request_of(taught).but(unfreeze="all", mixup=0.0)
    catalogue = api._list_pictures(request, Progress())
    batches = Batches.open(catalogue, taught.preparation)
    job = Job(taught, request, batches, taught.load_model(), Progress())
    teacher = Teacher(
        Run.open(taught.folder / "teacher"), batches, request.recipe, job.last_map,
        batch_size=job.batch_size, seed=0, progress=Progress(),
    )  # fmt: skip
    assert teacher.teaching.channels == 8  # the map before the last convolution is the narrowest
    feed = Features(job).body_feed(teacher)
    assert isinstance(feed, PictureFeed)
    epoch, second = (list(feed.epoch(1)) for _ in range(2))
    (_, labels), (_, again) = epoch[1], second[1]
    assert labels.shape == (8, 6 + 4 * 3 * 8)
    np.testing.assert_allclose(labels[:, 3:6].sum(axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(labels, again)
    both = np.concatenate([y for _, y in epoch])
    agree = (both[:, :3].argmax(axis=1) == both[:, 3:6].argmax(axis=1)).mean()
    assert agree > 0.6  # rows of the teacher belong to rows of the student


def test_the_loss_of_a_student_that_agrees_has_no_slope():
    teaching = Teaching(share=1.0, temperature=3.0)
    logits = keras.Variable(np.array([[2.0, -1.0, 0.5]], "float32"))
    aims = teaching.targets(classes(3), logits.numpy(), np.eye(3, dtype="float32")[:1])
    import tensorflow as tf

    with tf.GradientTape() as tape:
        loss = teaching.losses(aims, logits.value, classes(3).losses(), 3)
    np.testing.assert_allclose(tape.gradient(loss, logits.value), 0, atol=1e-5)


def test_a_map_counts_by_its_direction_at_each_place():
    rng = np.random.default_rng(0)
    teaching = Teaching(share=0.5, temperature=2.0, map_weight=3.0, channels=4)
    plain = classes(2).losses()
    wanted, shown = (rng.normal(size=(5, 6, 4)).astype("float32") for _ in range(2))
    logits = rng.normal(size=(5, 2)).astype("float32")
    beside = [np.concatenate([logits, m.reshape(5, -1)], axis=1) for m in (wanted, shown)]
    hard = np.eye(2, dtype="float32")[[0, 1, 1, 0, 1]]
    np.testing.assert_array_equal(teaching.targets(classes(2), beside[0], hard)[:, :2], hard)
    aims = teaching.targets(classes(2), beside[0], None)
    losses = [np.asarray(teaching.losses(aims, rows, plain, 2)) for rows in (*beside, logits)]
    norms = np.linalg.norm(wanted, axis=-1) * np.linalg.norm(shown, axis=-1)
    unlike = 1 - (wanted * shown).sum(axis=-1) / norms
    np.testing.assert_allclose(losses[0], losses[2], rtol=1e-4)  # the same map, and none at all
    np.testing.assert_allclose(losses[1] - losses[2], 3 * unlike.mean(axis=1), rtol=1e-4)


# What is tried afterwards


@pytest.mark.parametrize("name", STEPS)
def test_what_is_tried_afterwards_reports_both_sides(name, taught):
    facts = taught.record["metrics"][name]
    if name == "recalibrate":
        assert facts["before"] != facts["after"]
    ranks = {k: (facts[k]["accuracy"], -facts[k]["loss"]) for k in ("before", "after")}
    assert not facts["kept"] or ranks["after"] > ranks["before"]
    assert facts["kept"] or ranks["after"][0] <= ranks["before"][0]


def test_the_model_answers_as_the_record_says(taught):
    """The last step that was kept is what the file holds."""
    metrics = taught.record["metrics"]
    assert metrics["validation"]["accuracy"] >= metrics["head"]["accuracy"]
    catalogue = api._list_pictures(request_of(taught), Progress())  # with the split of the run
    batches = Batches.open(catalogue, taught.preparation)
    model = taught.load_model()
    answers = [
        (model.predict_on_batch(p.astype("float32")), y) for p, y in batches.iterate("validation")
    ]
    logits = np.log(np.maximum(np.concatenate([a for a, _ in answers]), 1e-30))
    accuracy, loss = classes(logits.shape[1]).score_and_loss(
        logits, np.concatenate([y for _, y in answers])
    )
    assert accuracy == pytest.approx(metrics["validation"]["accuracy"], abs=1e-6)
    assert loss == pytest.approx(metrics["validation"]["loss"], rel=1e-3)


def statistics_of(model):
    return {
        name: np.concatenate([np.array(w) for w in model.get_layer(name).non_trainable_weights])
        for name in ("stem_bn", "last_bn")
    }


def test_what_is_worse_is_taken_back(tried, network):
    """Statistics of pictures at half the size: with them, this network knows less."""
    for name in STEPS:
        if tried[name].record["metrics"][name]["kept"]:
            continue
        before = statistics_of(keras.models.load_model(network))
        after = statistics_of(tried[name].load_model())
        for layer, values in before.items():
            np.testing.assert_array_equal(after[layer], values)
    assert not tried["recalibrate"].record["metrics"]["recalibrate"]["kept"]


@pytest.mark.parametrize(
    ("step", "moved"), [(try_recalibration, {"stem_bn", "last_bn"}), (try_fixres, {"last_bn"})]
)
def test_spoilt_statistics_are_mended(step, moved, tried, tmp_path):
    shutil.copytree(tried["recalibrate"].folder, tmp_path / "a")
    run = Run.open(tmp_path / "a")
    request = request_of(run)
    batches = Batches.open(api._list_pictures(request, Progress()), run.preparation)
    model = run.load_model()
    mean = model.get_layer("last_bn").moving_mean
    mean.assign(np.array(mean) + 5)  # nothing passes the activation behind it
    before = statistics_of(model)
    stem = np.array(model.get_layer("stem").kernel)
    facts = step(Job(run, request, batches, model, Progress()))
    (tried_facts,) = (facts[name] for name in STEPS if name in facts)
    assert tried_facts["kept"]
    assert tried_facts["after"]["loss"] < tried_facts["before"]["loss"]
    assert facts["validation"]["accuracy"] == tried_facts["after"]["accuracy"]
    after = statistics_of(model)
    assert {
        name for name in after if not np.allclose(after[name], before[name], atol=1e-5)
    } == moved
    np.testing.assert_array_equal(model.get_layer("stem").kernel, stem)


@pytest.mark.parametrize("name", STEPS)
def test_a_step_that_was_taken_and_not_noted_is_taken_again(
    name, tried, train_small, tmp_path, monkeypatch, assert_same_run
):
    """Killed between the step's model and the record: taken twice, it would compare with itself."""
    note = api._note

    def stopped(run, step, facts, seconds):
        if step == name:
            raise KeyboardInterrupt
        return note(run, step, facts, seconds)

    with monkeypatch.context() as patch:
        patch.setattr(api, "_note", stopped)
        with pytest.raises(Stopped):
            train_small(tmp_path / "a", unfreeze="none", **{name: True})
    assert (tmp_path / "a" / "checkpoints" / f"{name}.keras").exists()
    assert_same_run(resume(tmp_path / "a"), tried[name])


def test_a_network_without_batch_norm_has_nothing_to_recalibrate(photos, train_small, tmp_path):
    image = keras.Input((16, 12, 1))
    x = keras.layers.Conv2D(4, 3, strides=2, activation="relu", name="stem")(image)
    model = keras.Model(image, keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(x)))
    run = train_small(
        tmp_path / "a", backbone=model, unfreeze="none", views=1, recalibrate=True, fixres=True
    )
    facts = run.record["metrics"]
    assert facts["recalibrate"] == {"kept": False, "reason": "no batch norm"}
    assert {"before", "after", "kept"} == facts["fixres"].keys()  # of the classifier alone


# TensorBoard and MLflow


def events_of(run):
    """How often each tag was written at each step."""
    return Counter(
        (value.tag, event.step)
        for file in sorted((run.folder / "logs").iterdir())
        for event in summary_iterator(str(file))
        for value in event.summary.value
    )


def test_every_epoch_is_in_the_event_files_once(taught):
    events = events_of(taught)
    assert set(events.values()) == {1}
    assert {("head/val_accuracy", 1), ("body/loss", 2), ("distil/learning_rate", 1)} <= set(events)
    assert {("request", 0), ("plan", 0), ("data", 0), ("versions", 0)} <= set(events)


def test_event_files_are_written_anew_when_a_run_goes_on(plain, tmp_path):
    shutil.copytree(plain.folder, tmp_path / "a")
    copy = Run.open(tmp_path / "a")
    files = EventFiles(copy)
    files.write(copy.history_rows())
    assert events_of(copy) == events_of(plain)


def test_event_files_that_cannot_be_written_are_one_line(plain, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "logs").write_text("in the way")
    with pytest.raises(RunError, match=re.escape(f"cannot write {tmp_path / 'run' / 'logs'}: ")):
        EventFiles(Run(tmp_path / "run", plain.record))


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A store of MLflow's in a folder."""
    pytest.importorskip("mlflow")
    # The skinny package has no database of its own, and the folder store wants to be allowed.
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    return (tmp_path / "mlruns").as_uri()


def client_of(uri):
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def test_a_run_is_kept_in_mlflow_too_if_need_be_later(store, train_small, tmp_path, monkeypatch):
    """Its training is kept as it goes; the server is away at the end of it."""

    def unreachable(self, run):
        raise self._refused(OSError("no route"))

    with monkeypatch.context() as patch:
        patch.setattr(MlflowRun, "finish", unreachable)
        with pytest.raises(RunError, match=re.escape("does not take the run: no route; expected")):
            train_small(tmp_path / "a", mlflow=store)
    client = client_of(store)
    run_id = Run.open(tmp_path / "a").record["mlflow"]["run_id"]
    losses = client.get_metric_history(run_id, "body/val_loss")
    assert [m.step for m in losses] == [1, 2]
    run = resume(tmp_path / "a")
    assert run.status == "complete"
    assert run.record["mlflow"]["run_id"] == run_id
    assert list(run.checkpoints.iterdir()) == []
    kept = client.get_run(run_id)
    assert kept.info.status == "FINISHED"
    assert "model.keras" in [a.path for a in client.list_artifacts(kept.info.run_id)]
    # Options by their own names, whatever group they stand in; the address is left out.
    expected = {"epochs": "2", "shape": "16x12x1", "strategy": "rebuild", "pool": "avg"}
    assert expected.items() <= kept.data.params.items()
    assert "mlflow" not in kept.data.params
    accuracy = run.record["metrics"]["validation"]["accuracy"]
    assert kept.data.metrics["validation/accuracy"] == accuracy


def test_without_mlflow_nothing_is_begun(train_small, tmp_path, monkeypatch):
    monkeypatch.setattr(journals.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RequestError, match=re.escape("pip install 'mlflow-skinny>=3.0'")):
        train_small(tmp_path / "a", mlflow="http://a:5000")
    assert list(tmp_path.iterdir()) == []


def test_a_finished_run_is_prolonged(plain, tmp_path):
    """Its history goes on, nothing gets worse, and a kill on the way changes nothing."""
    folders = [tmp_path / name for name in ("at_once", "killed")]
    for folder in folders:
        shutil.copytree(plain.folder, folder)
    before = plain.record["metrics"]["validation"]
    at_once = api.resume(folders[0], prolong=2)

    class Kill(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                raise KeyboardInterrupt

    with pytest.raises(Stopped):
        api.resume(folders[1], prolong=2, callbacks=[Kill()])
    with pytest.raises(RequestError, match=r"is not over yet .*; finish it first, without prolong"):
        api.resume(folders[1], prolong=2)
    killed = api.resume(folders[1])
    rows = [row for row in at_once.history_rows() if row not in plain.history_rows()]
    assert [(row["phase"], row["epoch"]) for row in rows] == [
        ("prolonged-1", "1"), ("prolonged-1", "2"),
    ]  # fmt: skip
    assert at_once.record["metrics"]["validation"]["accuracy"] >= before["accuracy"]
    assert at_once.history_rows() == killed.history_rows()
    for a, b in zip(*(r.load_model().get_weights() for r in (at_once, killed)), strict=True):
        np.testing.assert_array_equal(a, b)
    again = api.resume(folders[0], prolong=1)
    assert again.record["prolonged"] == [2, 1]
    assert again.record["done"][-1] == "prolonged-2"


def test_a_frozen_backbone_is_not_prolonged(tried):
    with pytest.raises(RequestError, match=r"has a frozen backbone.* such as with unfreeze='last'"):
        api.resume(tried["fixres"], prolong=2)


def test_a_run_that_cannot_be_gone_on_with_stays_complete(network, tmp_path):
    """Of pictures that were no files, which have to be given again."""
    rng = np.random.default_rng(0)
    pictures, labels = rng.integers(0, 255, (40, 17, 12, 1)).astype("uint8"), np.arange(40) % 2
    run = train(
        (pictures, labels), "17x12x1", out=tmp_path / "run", backbone=network, weights=None,
        strategy="rebuild", epochs=1, validation=0.25, hidden=8, head_epochs=1,
    )  # fmt: skip
    with pytest.raises(RequestError, match="give source="):
        resume(run, prolong=1)
    assert Run.open(run.folder).status == "complete"
    assert resume(run, source=(pictures, labels), prolong=1).record["prolonged"] == [1]

"""Teachers, what is tried after a training, TensorBoard, MLflow and figures."""

from __future__ import annotations

import json
import re

import keras
import numpy as np
import pytest
from inshape.training.loop import Stopped
from inshape.training.teaching import Teaching, distilled
from inshape.training.tracking import Tracking
from PIL import Image

from inshape.choosing import train
from inshape.data.augment import augmenter
from inshape.data.batches import Batches
from inshape.errors import RequestError, RunError, UnknownName
from inshape.progress import Progress
from inshape.runs import Run
from inshape.training.api import resume
from inshape.training.feeds import PictureFeed
from inshape.training.job import Job
from inshape.training.recipe import Recipe
from inshape.training.teacher import Teacher

layers = keras.layers
CHOICES = {"epochs": 2, "batch_size": 8, "validation": 0.25, "learning_rate": 0.01}


def backbone():
    """A small network whose own shape is 32x24x1."""
    keras.utils.set_random_seed(3)
    image = keras.Input((32, 24, 1))
    x = layers.Rescaling(1 / 127.5, offset=-1, name="scale")(image)
    x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False, name="stem")(x)
    x = layers.ReLU(name="stem_relu")(layers.BatchNormalization(name="stem_bn")(x))
    x = layers.DepthwiseConv2D(3, strides=2, padding="same", name="last_stride")(x)
    x = layers.Conv2D(16, 1, use_bias=False, name="last")(x)
    x = layers.ReLU(name="last_relu")(layers.BatchNormalization(name="last_bn")(x))
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(image, layers.Dense(7, name="classifier")(x), name="small")


def results(run):
    """What a run measured; how fast its frozen layers are laid out may differ from time to time."""
    return {name: value for name, value in run.record["metrics"].items() if name != "engine"}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Stripes that lie, stand or lean, 16 of each."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:64, :48]
    for name, way in (("lie", rows), ("stand", columns), ("lean", rows + columns)):
        (folder / name).mkdir()
        for i in range(16):
            level = 128 + 60 * np.sin(way * 0.6 + rng.uniform(0, 6))
            pixels = np.clip(level + rng.normal(0, 60, level.shape), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i:02}.png")
    return folder


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    path = tmp_path_factory.mktemp("network") / "small.keras"
    backbone().save(path)
    return path


@pytest.fixture(scope="module")
def taught(photos, network, tmp_path_factory):
    """A run with everything that can be tried."""
    return train(
        photos, "16x12x1", out=tmp_path_factory.mktemp("runs") / "a", backbone=network,
        weights=None, strategy="rebuild", distil=True, recalibrate=True, fixres=True, **CHOICES,
    )  # fmt: skip


def test_a_teacher_at_the_native_shape_leaves_a_run_of_its_own(taught):
    teacher = Run.open(taught.folder / "teacher")
    assert teacher.status == "complete"
    assert str(teacher.preparation.shape) == "32x24x1"
    facts = taught.record["metrics"]["distil"]
    assert facts["teacher"] == teacher.record["metrics"]["validation"]["accuracy"]
    assert facts["with"]["epochs"] == 2
    assert taught.record["done"] == ["teacher", "head", "body", "distil", "recalibrate", "fixres"]
    assert taught.record["data"]["train"] == teacher.record["data"]["train"]
    phases = [row["phase"] for row in taught.history()]
    assert phases == ["head", "body", "body", "distil", "distil", *["fixres"] * 5]


def test_the_better_student_is_kept(taught):
    facts = taught.record["metrics"]["distil"]
    ranks = {k: (facts[k]["accuracy"], -facts[k]["loss"]) for k in ("with", "without")}
    assert facts["kept"] == (ranks["with"] > ranks["without"])


@pytest.mark.parametrize("name", ["recalibrate", "fixres"])
def test_what_is_tried_afterwards_reports_both_sides(name, taught):
    facts = taught.record["metrics"][name]
    if name == "recalibrate":
        assert facts["before"] != facts["after"]
    ranks = {k: (facts[k]["accuracy"], -facts[k]["loss"]) for k in ("before", "after")}
    assert not facts["kept"] or ranks["after"] > ranks["before"]
    assert facts["kept"] or ranks["after"][0] <= ranks["before"][0]


def test_the_model_answers_as_the_record_says(taught, photos):
    """The last step that was kept is what the file holds."""
    from inshape.features.linear import scores

    metrics = taught.record["metrics"]
    assert metrics["validation"]["accuracy"] >= metrics["head"]["accuracy"]
    # The split of the run, from its own catalogue.
    from inshape.training.pipeline import catalogue_of

    recipe = Recipe(**taught.record["request"]["recipe"])
    batches = Batches.open(catalogue_of(photos, recipe, 0, Progress(None)), taught.preparation)
    model = taught.load_model()
    found = [
        (model.predict_on_batch(p.astype("float32")), y) for p, y in batches.iterate("validation")
    ]
    logits = np.log(np.maximum(np.concatenate([f for f, _ in found]), 1e-30))
    accuracy, loss = scores(logits, np.concatenate([y for _, y in found]))
    assert accuracy == pytest.approx(metrics["validation"]["accuracy"], abs=1e-6)
    assert loss == pytest.approx(metrics["validation"]["loss"], rel=1e-3)


@pytest.mark.parametrize("name", ["recalibrate", "fixres"])
def test_a_step_changes_the_statistics_of_what_it_keeps(name, photos, network, tmp_path):
    asked = {**CHOICES, "unfreeze": "none", name: True}
    run = train(
        photos, "16x12x1", out=tmp_path / "a", backbone=network, weights=None,
        strategy="rebuild", **asked,
    )  # fmt: skip
    model, original = run.load_model(), keras.models.load_model(network)
    moved = {
        bn: not np.allclose(
            model.get_layer(bn).moving_mean, original.get_layer(bn).moving_mean, atol=1e-5
        )
        for bn in ("stem_bn", "last_bn")
    }
    # Statistics that are worse are taken back.
    kept = run.record["metrics"][name]["kept"]
    assert moved == {"stem_bn": kept and name == "recalibrate", "last_bn": kept}
    np.testing.assert_array_equal(model.get_layer("stem").kernel, original.get_layer("stem").kernel)


def test_a_stopped_teacher_is_gone_on_with(photos, network, tmp_path, monkeypatch):
    def train_it(out):
        return train(
            photos, "16x12x1", out=out, backbone=network, weights=None, strategy="rebuild",
            distil=True, **CHOICES,
        )  # fmt: skip

    from inshape.training import phases

    def stop(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(phases, "run_phase", stop)
        with pytest.raises(Stopped, match=re.escape(f"--resume {tmp_path / 'a'}")):
            train_it(tmp_path / "a")
    assert Run.open(tmp_path / "a").status == "interrupted"
    assert not Run.open(tmp_path / "a").record["done"]
    resumed, straight = resume(tmp_path / "a"), train_it(tmp_path / "b")
    assert results(resumed) == results(straight)
    for one, other in zip(resumed.load_model().weights, straight.load_model().weights, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", ["recalibrate", "fixres"])
def test_a_step_that_was_done_and_not_noted_is_done_again(
    name, photos, network, tmp_path, monkeypatch
):
    """Killed between the step's model and the record: taken twice, it would compare with itself."""
    from inshape.training import pipeline as course

    def train_it(out):
        return train(
            photos, "16x12x1", out=out, backbone=network, weights=None, strategy="rebuild",
            **{**CHOICES, "unfreeze": "none", name: True},
        )  # fmt: skip

    noted = course._noted

    def stopped(run, step, facts, seconds):
        if step == name:
            raise KeyboardInterrupt
        return noted(run, step, facts, seconds)

    with monkeypatch.context() as patched:
        patched.setattr(course, "_noted", stopped)
        with pytest.raises(Stopped):
            train_it(tmp_path / "a")
    assert (tmp_path / "a" / "checkpoints" / f"{name}.keras").exists()
    resumed, straight = resume(tmp_path / "a"), train_it(tmp_path / "b")
    assert results(resumed) == results(straight)
    for one, other in zip(resumed.load_model().weights, straight.load_model().weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_teacher_sees_the_crops_of_its_student(taught, photos):
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


def test_soft_labels_reach_the_steps_of_an_epoch(taught, photos):
    from inshape.training.pipeline import catalogue_of

    recipe = Recipe(**taught.record["request"]["recipe"]).of({"unfreeze": "all", "mixup": 0.0})
    batches = Batches.open(catalogue_of(photos, recipe, 0, Progress(None)), taught.preparation)
    teacher = Teacher(
        Run.open(taught.folder / "teacher"), batches, recipe, seed=0, show=Progress(None)
    )
    job = Job(taught, recipe, batches, taught.load_model(), Progress(None))
    from inshape.training.job import Features

    feed, _ = Features(job).body_feed(teacher)
    assert isinstance(feed, PictureFeed)
    epoch = list(feed.epoch(1, 0))
    (_, labels), (_, later) = (
        epoch[1],
        next(iter(feed.epoch(1, 1))),
    )
    assert labels.shape == (8, 6)
    np.testing.assert_allclose(labels[:, 3:].sum(axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(labels, later)
    hard = np.concatenate([y for _, y in epoch])
    agree = (hard[:, :3].argmax(axis=1) == hard[:, 3:].argmax(axis=1)).mean()
    assert agree > 0.6  # rows of the teacher belong to rows of the student


def test_the_loss_of_a_student_that_agrees_has_no_slope():
    teaching = Teaching(share=1.0, temperature=3.0)
    logits = keras.Variable(np.array([[2.0, -1.0, 0.5]], "float32"))
    soft = teaching.soft(logits.numpy())
    import tensorflow as tf

    with tf.GradientTape() as tape:
        loss = distilled(np.concatenate([np.eye(3)[:1], soft], axis=1), logits.value, teaching)
    np.testing.assert_allclose(tape.gradient(loss, logits.value), 0, atol=1e-5)


def test_what_a_teacher_cannot_do_is_refused(photos, network, tmp_path):
    asked = {"out": tmp_path / "a", "backbone": network, "weights": None}
    with pytest.raises(RequestError, match="expected a smaller input than the teacher's"):
        train(photos, "32x24x1", distil=True, **asked)
    text = "distil at 16x28x1 with a network whose own shape is 32x24x1; expected a smaller input"
    with pytest.raises(RequestError, match=text):
        train(photos, "16x28x1", distil=True, **asked)
    with pytest.raises(RequestError, match=re.escape("distil at ?x?x1 with a network whose own")):
        train(photos, "?x?x1", distil=True, **asked)
    with pytest.raises(RequestError, match="distil with a frozen backbone"):
        train(photos, "16x12x1", distil=True, unfreeze="none", **asked)
    with pytest.raises(UnknownName, match="training option 'distill'"):
        train(photos, "16x12x1", distill=True, **asked)
    assert not (tmp_path / "a").exists()


def test_every_epoch_is_in_the_event_files_once(taught):
    from tensorflow.python.summary.summary_iterator import summary_iterator

    found = [
        (value.tag, event.step)
        for file in sorted((taught.folder / "logs").iterdir())
        for event in summary_iterator(str(file))
        for value in event.summary.value
    ]
    assert len(found) == len(set(found))
    assert {("head/val_accuracy", 1), ("body/loss", 2), ("distil/learning_rate", 1)} <= set(found)
    assert ("request", 0) in found


def test_event_files_are_written_anew_when_a_run_goes_on(taught, tmp_path):
    import shutil

    from inshape.training.logs import Logs
    from tensorflow.python.summary.summary_iterator import summary_iterator

    shutil.copytree(taught.folder, tmp_path / "a")
    copy = Run.open(tmp_path / "a")
    logs = Logs(copy)
    logs.write(copy.history())
    tags = [
        value.tag
        for file in (copy.folder / "logs").iterdir()
        for event in summary_iterator(str(file))
        for value in event.summary.value
    ]
    assert tags.count("head/val_loss") == 1


def test_logs_that_cannot_be_written_are_one_line(taught, tmp_path):
    from inshape.training.logs import Logs

    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "logs").write_text("in the way")
    with pytest.raises(RunError, match=re.escape(f"cannot write {tmp_path / 'run' / 'logs'}: ")):
        Logs(Run(tmp_path / "run", taught.record))


def test_learning_curves_are_a_picture(taught):
    with Image.open(taught.folder / "plots" / "learning.png") as picture:
        assert picture.size == (840, 480)
        assert len(picture.convert("RGB").getcolors(100_000)) > 10


def test_a_run_is_kept_in_mlflow_too(photos, network, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    # The skinny package has no database of its own, and the folder store wants to be allowed.
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    uri = (tmp_path / "mlruns").as_uri()
    run = train(
        photos, "16x12x1", out=tmp_path / "a", backbone=network, weights=None,
        strategy="rebuild", mlflow=uri, **CHOICES,
    )  # fmt: skip
    client = mlflow.MlflowClient(tracking_uri=uri)
    told = client.get_run(run.record["mlflow"]["run_id"])
    assert told.data.params["epochs"] == "2"
    assert (
        told.data.metrics["validation/accuracy"] == run.record["metrics"]["validation"]["accuracy"]
    )
    rates = client.get_metric_history(told.info.run_id, "body/val_loss")
    assert [m.step for m in rates] == [1, 2]


def test_a_run_that_mlflow_did_not_take_is_handed_over_later(
    photos, network, tmp_path, monkeypatch
):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    uri = (tmp_path / "mlruns").as_uri()

    def unreachable(self, run):
        raise self._failed(OSError("no route"))

    with monkeypatch.context() as patched:
        patched.setattr(Tracking, "finish", unreachable)
        with pytest.raises(RunError, match=re.escape("does not take the run: no route; expected")):
            train(
                photos, "16x12x1", out=tmp_path / "a", backbone=network, weights=None,
                strategy="rebuild", mlflow=uri, **CHOICES, unfreeze="none",
            )  # fmt: skip
    run = resume(tmp_path / "a")
    assert run.status == "complete"
    assert list(run.checkpoints.iterdir()) == []
    client = mlflow.MlflowClient(tracking_uri=uri)
    told = client.get_run(run.record["mlflow"]["run_id"])
    assert told.info.status == "FINISHED"
    assert "model.keras" in [a.path for a in client.list_artifacts(told.info.run_id)]


def test_recorded_extras_are_plain_json(taught):
    told = json.loads((taught.folder / "run.json").read_text())
    assert told == json.loads(json.dumps(dict(taught.record)))

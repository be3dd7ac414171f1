"""The whole training: a run folder that is complete, and that says what stands in its way."""

from __future__ import annotations

import json
import re
import resource
import shutil
import signal

import keras
import numpy as np
import pytest

import inshape
from inshape.choosing import train
from inshape.cli.app import run as program
from inshape.comparison import api as comparing
from inshape.comparison.request import CompareRequest
from inshape.data.batches import Batches
from inshape.data.prepare import Preparation
from inshape.data.sources import open_source
from inshape.errors import (
    DataError,
    GraphError,
    NoCandidate,
    OutputExists,
    RequestError,
    RunError,
    UnknownName,
    WeightsError,
)
from inshape.graph.read import read
from inshape.heads import Head, classifier_input
from inshape.prediction import predict
from inshape.progress import Progress
from inshape.requests import make
from inshape.runs import Run
from inshape.training import api, job
from inshape.training.api import resume
from inshape.training.request import TrainRequest
from inshape.writing import write_json


@pytest.mark.parametrize(
    ("shape", "choices"),
    [
        ("17x12x1", {"unfreeze": "last"}),
        ("20x20x3", {"unfreeze": "all"}),
        ("?x?x1", {"unfreeze": 1, "strategy": "auto"}),
    ],
)
def test_a_run_is_complete_in_itself(shape, choices, photos, build_network, train_small, tmp_path):
    network = build_network((18, 14, int(shape[-1])))
    before = [np.array(w) for w in network.weights]
    run = train_small(tmp_path / "run", shape, backbone=network, picture_fit="letterbox", **choices)
    assert run.status == "complete"
    assert run.labels == ("lean", "lie", "stand")
    assert run.preparation.fit == "letterbox"
    assert run.preparation.shape.is_static
    assert [p.name for p in run.checkpoints.iterdir()] == []
    record = json.loads((run.folder / "run.json").read_text())
    assert record == json.loads(json.dumps(dict(run.record)))
    assert record["request"]["recipe"]["unfreeze"] == choices["unfreeze"]
    assert record["data"]["train"] == {"lean": 12, "lie": 12, "stand": 12}
    assert len(record["data"]["fingerprint"]) == 64
    phases = [row["phase"] for row in run.history_rows()]
    assert phases == ["head", "body", "body"]
    model = run.load_model()
    assert model.input_shape[1:] == tuple(
        None if part == "?" else int(part) for part in shape.split("x")
    )
    assert model.count_params() == record["plan"]["geometry"]["params"]
    predictions = predict(run, photos)
    correct = np.mean([p.picture.split("/")[-2] == p.label for p in predictions])
    assert correct > 0.6
    validation = record["metrics"]["validation"]
    assert validation["accuracy"] >= record["metrics"]["head"]["accuracy"]
    (last,) = [r for r in run.history_rows() if r["phase"] == "body" and int(r["epoch"]) == 2]
    assert validation["epochs"] == 2
    if validation["epoch"] == 2:  # after the temperature, the same answers with better odds
        assert validation["accuracy"] == pytest.approx(float(last["val_accuracy"]), abs=1e-6)
        assert validation["loss"] <= float(last["val_loss"]) + 1e-6
    for a, b in zip(before, network.weights, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_grid_is_trained_too_and_the_user_hears_of_it(photos, train_small, tmp_path, capsys):
    """A broken picture is left out, as are changes of colour; both are said."""
    folder = tmp_path / "photos"
    shutil.copytree(photos, folder)
    (folder / "lie" / "00.png").write_bytes((folder / "lie" / "00.png").read_bytes()[:300])
    with pytest.warns(UserWarning, match=re.escape("are left out with 1 channel")):
        run = train_small(
            tmp_path / "a", source=folder, head=Head(pool=(2, 2), dropout=0.0), unfreeze="none",
            augment="strong", show=True,
        )  # fmt: skip
    assert run.record["metrics"]["validation"] == run.record["metrics"]["head"]
    # Four places of the grid, 16 channels of each, instead of the dense layer behind the pooling.
    assert run.load_model().get_layer("head_logits").kernel.shape == (64, 3)
    (skipped,) = run.record["data"]["skipped"]
    assert skipped["name"] == "lie/00.png"
    said = capsys.readouterr().err
    assert f"left out 1 that cannot be read: lie/00.png ({skipped['reason']})" in said
    assert "47 pictures in memory (9.0 KiB; fits in" in said
    assert said.count("pictures in memory") == 1


def test_the_pretrained_dense_layer_is_kept_and_the_classifier_is_not(
    tried, network, train_small, tmp_path
):
    model = tried["recalibrate"].load_model()
    original = keras.models.load_model(network)
    np.testing.assert_array_equal(
        model.get_layer("dense").kernel, original.get_layer("dense").kernel
    )
    assert model.get_layer("head_logits").kernel.shape == (24, 3)
    assert "classifier" not in [layer.name for layer in model.layers]
    without = train_small(tmp_path / "b", unfreeze="none", views=1, pretrained_dense=False)
    assert without.load_model().get_layer("head_logits").kernel.shape == (16, 3)


def test_the_same_seed_gives_the_same_run(plain, train_small, tmp_path, assert_same_run):
    assert_same_run(plain, train_small(tmp_path / "b", seed=1), exactly=False)
    other = train_small(tmp_path / "c", seed=2)
    weights = [run.load_model().get_weights() for run in (plain, other)]
    assert any(np.abs(a - c).max() > 1e-4 for a, c in zip(*weights, strict=True))


def test_features_that_do_not_fit_are_computed_again_for_every_batch(
    train_small, tmp_path, monkeypatch
):
    monkeypatch.setattr(job, "_DISK_SHARE", 0.0)
    run = train_small(tmp_path / "run", head=Head(pool="gem"), head_epochs=2)
    assert run.status == "complete"
    assert run.record["features_fit_on_disk"] is False
    assert [row["phase"] for row in run.history_rows()] == ["head", "head", "body", "body"]


def test_a_complete_run_is_handed_back(tmp_path):
    request = make(TrainRequest, source=None, shape="9x7x1", out=tmp_path / "run")
    run = Run.create(tmp_path / "run", {"request": request.as_dict()}).updated(status="complete")
    # Killed between its last words and the removal of what they were made from.
    (run.checkpoints / "features").mkdir()
    (run.checkpoints / "features" / "a.npy").touch()
    (run.checkpoints / "body.keras").touch()
    assert resume(run.folder).folder == run.folder
    assert list(run.checkpoints.iterdir()) == []


# The shape that the pictures choose


@pytest.fixture(scope="module")
def drawings(photos):
    """The pictures as arrays; a user of Python has them at hand."""
    listed = open_source(photos)
    return next(Batches.open(listed, Preparation.of("34x24x1")).iterate(batch_size=99))


def test_auto_chooses_among_what_the_limits_allow(drawings, network, tmp_path, capsys):
    choices = {"backbone": network, "weights": None, "unfreeze": "none", "views": 1}
    run = inshape.train(drawings, "auto", out=tmp_path / "a", max_macs="0.1M", show=True, **choices)
    record = run.record["request"]
    assert record["options"]["strategy"] in ("restride", "resize")  # by rebuild it would cost more
    assert run.record["plan"]["strategy"] == record["options"]["strategy"]
    assert run.record["plan"]["geometry"]["macs"] <= 0.1e6
    assert record["limits"]["max_macs"] == 100_000
    # A shape beside limits would be refused.
    assert run.record["command"] is None or "--max-macs" not in run.record["command"]
    assert "the data: 48 training pictures" in capsys.readouterr().err  # the comparison is shown
    with pytest.raises(NoCandidate, match=re.escape("kMACs is over 1.0 kMACs")) as nothing:
        inshape.train(drawings, "auto", out=tmp_path / "b", max_macs="1k", **choices)
    assert len(nothing.value.comparison.candidates) == 3
    assert not (tmp_path / "b").exists()


def test_auto_compares_what_will_be_trained(drawings, tmp_path, monkeypatch):
    """With the network, the head and the pictures that were asked for."""
    requests: list[CompareRequest] = []

    def refuse(request, progress):
        requests.append(request)
        raise NoCandidate("none", None)

    monkeypatch.setattr(comparing, "run_comparison", refuse)
    head = Head(hidden=1024, pool="gem", classes=3)
    with pytest.raises(NoCandidate):
        train(
            drawings, "auto", out=tmp_path / "a", backbone="MobileNetV3Small-minimalistic",
            weights="demo", strategy="rebuild", seed=3,
            head=head, full_scale=99, picture_fit="crop", colour="grey", max_flash="600KiB",
        )  # fmt: skip
    (request,) = requests
    assert request.backbones == ("MobileNetV3Small-minimalistic",)
    assert (request.weights, request.strategies) == ("demo", ("rebuild",))
    assert (request.head, request.seed, request.limits.max_flash) == (head, 3, 600 * 1024)
    options = request.picture_options
    assert (options.full_scale, options.picture_fit, options.colour) == ((0, 99), "crop", "grey")


def test_limits_at_a_shape_choose_how_to_get_there(drawings, tmp_path, monkeypatch):
    """But for that on the RAM, which patches keep without a comparison."""
    requests: list[CompareRequest] = []

    def refuse(request, progress):
        requests.append(request)
        raise NoCandidate("none", None)

    monkeypatch.setattr(comparing, "run_comparison", refuse)
    choices = {"out": tmp_path / "a", "weights": "demo", "max_ram": "1KiB"}
    with pytest.raises(NoCandidate):
        train(drawings, "32x32x3", **choices, max_macs="1M")
    (request,) = requests
    assert [str(shape) for shape in request.shapes] == ["32x32x3"]
    assert (request.limits.max_macs, request.limits.max_ram) == (1_000_000, 1024)
    with pytest.raises(RequestError, match=re.escape("1.0 KiB")):
        train(drawings, "32x32x3", **choices)
    assert len(requests) == 1


def test_auto_takes_no_model_of_python(drawings, build_network, tmp_path):
    text = (
        "backbone is a model, with the input auto; expected a name or a file, which can be opened"
    )
    with pytest.raises(RequestError, match=re.escape(text)):
        train(drawings, "auto", out=tmp_path / "a", backbone=build_network())


def test_the_classes_are_those_of_the_pictures(photos, network, tmp_path):
    request = make(
        TrainRequest, source=photos, shape="17x12x1", out=tmp_path / "a", backbone=network,
        weights=None, head=Head(classes=3), max_ram="9MiB", max_macs="90M",
    )  # fmt: skip
    text = "a head of 7 classes, and pictures of 3 (lean, lie, stand); expected as many; leave"
    with pytest.raises(RequestError, match=re.escape(text)):
        api._start(request.but(head=Head(classes=7)), Progress())
    assert list(tmp_path.iterdir()) == []
    # What can be said without them is said without them, and without limits that were met; that on
    # the RAM is for patches to keep.
    command = api._start(request, Progress()).run.record["command"]
    assert command == (
        f"inshape train {photos} --input 17x12x1 --out {tmp_path / 'a-again'} --backbone {network} "
        "--weights none --max-ram 9437184B"
    )


def test_what_contradicts_a_shape_or_auto_is_refused(photos, tmp_path):
    text = "stem with limits, by which every strategy is compared as it is by itself; expected one"
    with pytest.raises(RequestError, match=re.escape(text)):
        train(photos, "9x7x1", out=tmp_path / "a", max_macs="1M", stem="plain")
    text = "stem with the input auto, by which every strategy is compared as it is by itself;"
    with pytest.raises(RequestError, match=re.escape(text)):
        train(photos, "auto", out=tmp_path / "a", stem="plain")
    Run.create(tmp_path / "a", {})
    with pytest.raises(OutputExists, match=re.escape(f"{tmp_path / 'a'} exists already")):
        train(photos, "auto", out=tmp_path / "a")


# What cannot be trained


def test_bad_requests_leave_nothing_behind(photos, network, tmp_path):
    out = tmp_path / "run"
    choices = {"out": out, "backbone": network, "weights": None}
    with pytest.raises(DataError, match=re.escape("no such file or folder")):
        train(tmp_path / "nowhere", "17x12x1", **choices)
    with pytest.raises(RequestError, match=re.escape("0x12x1")):
        train(photos, "0x12x1", **choices)
    text = "unknown part to unfreeze 'lost'; did you mean last? choose from: none, last, all, stem,"
    with pytest.raises(UnknownName, match=re.escape(text)):
        train(photos, "17x12x1", **choices, unfreeze="lost")
    with pytest.raises(
        UnknownName, match=re.escape("unknown option 'distill'; did you mean distil")
    ):
        train(photos, "17x12x1", **choices, distill=True)
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_takes_any_size_needs_one_to_train_at(photos, tmp_path):
    image = keras.Input((None, None, 1))
    x = keras.layers.Conv2D(4, 3, strides=2, padding="same")(image)
    model = keras.Model(image, keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(x)))
    with pytest.raises(RequestError, match="give a height and a width"):
        train(photos, "?x?x1", out=tmp_path / "a", backbone=model, weights=None)
    assert list(tmp_path.iterdir()) == []


def test_a_model_without_weights_has_no_classifier():
    image = keras.Input((9, 7, 1))
    model = keras.Model(image, keras.layers.GlobalAveragePooling2D()(image), name="bare")
    text = "model 'bare' has no classifier to replace"
    with pytest.raises(GraphError, match=re.escape(text)):
        classifier_input(read(model))


def test_pictures_that_do_not_fit_leave_nothing_behind(photos, network, build_network, tmp_path):
    folder = tmp_path / "photos"
    shutil.copytree(photos, folder)
    np.save(folder / "lie" / "four.npy", np.zeros((9, 7, 4), np.uint8))
    text = f"{folder / 'lie' / 'four.npy'}: 4 bands of unstated meaning; expected 3 (rgb)"
    choices = {"out": tmp_path / "a", "weights": None}
    with pytest.raises(DataError, match=re.escape(text)):
        train(folder, "20x20x3", backbone=build_network((20, 20, 3)), **choices)
    for broken in ("four.npy", "00.png", "01.png"):
        (folder / "lie" / broken).write_bytes(b"no picture")
    with pytest.raises(DataError, match=re.escape("3 of 49 pictures cannot be read; expected at")):
        train(folder, "17x12x1", backbone=network, **choices)
    assert [p.name for p in tmp_path.iterdir()] == ["photos"]


def test_a_disk_that_is_full_from_the_start_leaves_no_folder(train_small, tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, before[1]))
    try:
        with pytest.raises(RunError) as full:
            train_small(tmp_path / "run")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    text = "initial.keras: File too large; what was there is unchanged; free some space"
    assert f"cannot write {tmp_path / 'run' / 'checkpoints'}/{text}" in str(full.value)
    assert list(tmp_path.iterdir()) == []


def test_weights_that_do_not_fit_leave_nothing_behind(photos, network, tmp_path):
    wrong = tmp_path / "wrong.weights.h5"
    keras.models.load_model(network).save_weights(wrong)
    with pytest.raises(WeightsError, match="does not fit MobileNetV3Small"):
        train(photos, "32x32x3", out=tmp_path / "run", backbone="MobileNetV3Small", weights=wrong)
    assert not (tmp_path / "run").exists()


def test_an_output_that_exists_is_refused_before_any_work(network, tmp_path):
    run = Run.create(tmp_path / "run", {})
    with pytest.raises(OutputExists, match=re.escape(f"{run.folder} exists already")):
        train(tmp_path / "nowhere", "17x12x1", out=run.folder, backbone=network, weights=None)


def test_pictures_are_looked_at_before_anything_is_fetched_or_built(tmp_path, monkeypatch, capsys):
    def fetch(*_):
        raise AssertionError("the data had to be looked at first")

    monkeypatch.setattr("inshape.training.api.open_for_training", fetch)
    monkeypatch.setattr("inshape.comparison.api._list_candidates", fetch)
    monkeypatch.setattr(Run, "load_model", fetch)
    monkeypatch.setattr("inshape.evaluation.classifier.load", fetch)
    prepared = Preparation.of("32x32x3").as_dict()
    run = Run.create(tmp_path / "run", {}).updated(preparation=prepared, status="complete")
    run.save_labels(["a", "b"])
    run.model_path.touch()
    file = tmp_path / "a.tflite"
    file.touch()
    card = {"labels": ["a", "b"], "preparation": prepared, "input": {"shape": "32x32x3"}}
    write_json(file.with_name("a.tflite.json"), {**card, "output": {"kind": "logits"}})
    (tmp_path / "empty").mkdir()
    for call in (
        lambda: train(tmp_path / "empty", "32x32x3", out=tmp_path / "new"),
        lambda: inshape.train(tmp_path / "empty", "auto", out=tmp_path / "new"),
        lambda: inshape.compare(tmp_path / "empty", "32x32x3"),
        lambda: inshape.evaluate(run, tmp_path / "empty"),
        lambda: inshape.evaluate(file, tmp_path / "empty"),
        lambda: inshape.predict(run, tmp_path / "empty"),
        lambda: inshape.predict(file, tmp_path / "empty"),
    ):
        with pytest.raises(DataError, match="empty: nothing in it, no pictures"):
            call()
    words = ["train", f"{tmp_path / 'empty'}", "--input", "32x32x3", "--out", f"{tmp_path / 'new'}"]
    assert program(words) == 2
    assert "empty: nothing in it, no pictures" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_what_cannot_be_resumed_is_named(photos, tmp_path):
    def unfinished(name, source, **record):
        request = make(TrainRequest, source=source, shape="9x7x1", out=tmp_path / name)
        return Run.create(request.out, {"request": request.as_dict(), "done": [], **record})

    with pytest.raises(RequestError, match=re.escape("was trained on pictures that were no files")):
        resume(unfinished("arrays", np.zeros(3)))
    with pytest.raises(
        RequestError, match=re.escape("has lost initial.keras; expected it among its checkpoints")
    ):
        resume(unfinished("early", photos))
    run = unfinished("moved", photos, data={"fingerprint": "0" * 64})
    (run.checkpoints / "initial.keras").touch()
    text = "expected 000000000000); restore them or train anew"
    with pytest.raises(DataError, match=re.escape(text)):
        resume(run)


def test_what_a_teacher_cannot_do_is_refused(photos, network, tmp_path):
    choices = {"out": tmp_path / "a", "backbone": network, "weights": None, "distil": True}
    with pytest.raises(RequestError, match="expected a smaller input than the teacher's"):
        train(photos, "32x24x1", **choices)
    text = "distil at 16x28x1 with a network whose own shape is 32x24x1; expected a smaller input"
    with pytest.raises(RequestError, match=text):
        train(photos, "16x28x1", **choices)
    with pytest.raises(RequestError, match=re.escape("distil at ?x?x1 with a network whose own")):
        train(photos, "?x?x1", **choices)
    with pytest.raises(RequestError, match="distil with a frozen backbone"):
        train(photos, "16x12x1", **choices, unfreeze="none")
    assert not (tmp_path / "a").exists()

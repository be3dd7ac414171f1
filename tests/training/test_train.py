"""The whole training: a run folder that is complete, and resumable after anything."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
from PIL import Image

from inshape.choosing import train
from inshape.errors import (
    DataError,
    GraphError,
    OutputExists,
    RequestError,
    UnknownName,
    WeightsError,
)
from inshape.heads import Head, with_new_classifier
from inshape.prediction import predict
from inshape.runs import Run
from inshape.training.api import resume
from inshape.training.job import Job
from inshape.training.recipe import Recipe

layers = keras.layers
QUICK = Recipe(epochs=2, batch_size=8, validation=0.25, learning_rate=0.01)

# Trains the same small network in a process of its own, so that it can be killed.
PROGRAM = """
import sys, keras, pathlib
from inshape.train import Recipe, train, resume
import inshape.training.loop
sys.modules["inshape.training.loop"]._SAVE_EVERY_S = 0.0
folder, photos, network = map(pathlib.Path, sys.argv[1:4])
if (folder / "run.json").exists():
    resume(folder, show=True)
else:
    recipe = Recipe(epochs=int(sys.argv[4]), patience=1000, batch_size=4, validation=0.25)
    train(photos, "17x12x1", out=folder, backbone=network, weights=None, strategy="rebuild",
          recipe=recipe, show=True)
"""


def backbone(shape=(17, 12, 1)):
    """A small network with two resolutions, and a classifier behind a widening layer."""
    keras.utils.set_random_seed(3)
    image = keras.Input(shape)
    x = layers.Rescaling(1 / 127.5, offset=-1, name="scale")(image)
    x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False, name="stem")(x)
    x = layers.ReLU(name="stem_relu")(layers.BatchNormalization(name="stem_bn")(x))
    x = layers.DepthwiseConv2D(3, strides=2, padding="same", name="last_stride")(x)
    x = layers.Conv2D(16, 1, activation="relu", name="last")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.Dense(24, activation="relu", name="neck")(x)
    return keras.Model(image, layers.Dense(7, name="classifier")(x), name="small")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Stripes that lie, stand or lean, 16 of each, as files."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:34, :24]
    for name, way in (("lie", rows), ("stand", columns), ("lean", rows + columns)):
        (folder / name).mkdir()
        for i in range(16):
            level = 128 + 60 * np.sin(way * 1.2 + rng.uniform(0, 6))
            pixels = np.clip(level + rng.normal(0, 20, level.shape), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i:02}.png")
    return folder


@pytest.mark.parametrize(
    ("shape", "unfreeze"), [("17x12x1", "last"), ("20x20x3", "all"), ("?x?x1", 1)]
)
def test_a_run_is_complete_in_itself(shape, unfreeze, photos, tmp_path):
    channels = int(shape[-1])
    network = backbone((18, 14, channels))
    before = [np.array(w) for w in network.weights]
    run = train(
        photos, shape, out=tmp_path / "run", backbone=network, weights=None,
        recipe=QUICK.of({"unfreeze": unfreeze}), preparation={"fit": "letterbox"},
    )  # fmt: skip
    assert run.status == "complete"
    assert run.labels == ("lean", "lie", "stand")
    assert run.preparation.fit == "letterbox"
    assert run.preparation.shape.is_static
    assert [p.name for p in run.checkpoints.iterdir()] == []
    record = json.loads((run.folder / "run.json").read_text())
    assert record["request"]["recipe"]["unfreeze"] == unfreeze
    assert record["data"]["train"] == {"lean": 12, "lie": 12, "stand": 12}
    assert len(record["data"]["fingerprint"]) == 64
    assert [row["phase"] for row in run.history()] == ["head", "body", "body"]
    model = run.load_model()
    assert model.input_shape[1:] == tuple(
        None if part == "?" else int(part) for part in shape.split("x")
    )
    found = predict(run, photos)
    right = np.mean([p.picture.split("/")[-2] == p.label for p in found])
    assert right > 0.6
    validation = record["metrics"]["validation"]
    assert validation["accuracy"] >= record["metrics"]["head"]["accuracy"]
    (last,) = [r for r in run.history() if r["phase"] == "body" and int(r["epoch"]) == 2]
    assert validation["epochs"] == 2
    if validation["epoch"] == 2:  # after the temperature, the same answers with better odds
        assert validation["accuracy"] == pytest.approx(float(last["val_accuracy"]), abs=1e-6)
        assert validation["loss"] <= float(last["val_loss"]) + 1e-6
    for a, b in zip(before, network.weights, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("head", [Head(pool="gem"), Head(hidden=8), Head(pool=(2, 2), dropout=0.0)])
def test_every_head_can_be_trained(head, photos, tmp_path):
    run = train(
        photos, "17x12x1", out=tmp_path / "run", backbone=backbone(), weights=None, head=head,
        strategy="rebuild", recipe=QUICK.of({"unfreeze": "none", "head_epochs": 3}),
    )  # fmt: skip
    assert run.status == "complete"
    assert run.record["metrics"]["validation"] == run.record["metrics"]["head"]


def test_the_neck_is_kept_and_the_classifier_is_not(photos, tmp_path):
    network = backbone()
    run = train(
        photos, "17x12x1", out=tmp_path / "run", backbone=network, weights=None,
        strategy="rebuild", recipe=QUICK.of({"unfreeze": "none"}),
    )  # fmt: skip
    model = run.load_model()
    neck = model.get_layer("neck")
    np.testing.assert_array_equal(neck.kernel, network.get_layer("neck").kernel)
    assert model.get_layer("head_logits").kernel.shape == (24, 3)
    assert "classifier" not in [layer.name for layer in model.layers]
    without = train(
        photos, "17x12x1", out=tmp_path / "b", backbone=network, weights=None, views=1,
        strategy="rebuild", recipe=QUICK.of({"unfreeze": "none"}), head=Head(neck=False),
    )  # fmt: skip
    assert without.load_model().get_layer("head_logits").kernel.shape == (16, 3)


def test_a_model_without_weights_has_no_classifier():
    image = keras.Input((9, 7, 1))
    model = keras.Model(image, layers.GlobalAveragePooling2D()(image), name="bare")
    text = "model 'bare' has no classifier to replace"
    with pytest.raises(GraphError, match=re.escape(text)):
        with_new_classifier(model, Head(classes=2))


def test_the_same_seed_gives_the_same_run(photos, tmp_path):
    runs = [
        train(
            photos, "17x12x1", out=tmp_path / name, backbone=backbone(), weights=None,
            strategy="rebuild", recipe=QUICK, seed=seed,
        )
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    ]  # fmt: skip
    weights = [run.load_model().get_weights() for run in runs]
    for a, b in zip(weights[0], weights[1], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert any(np.abs(a - c).max() > 1e-4 for a, c in zip(weights[0], weights[2], strict=True))


def test_features_that_do_not_fit_are_computed_again_for_every_batch(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[Job.__module__], "_DISK_SHARE", 0.0)
    run = train(
        photos, "17x12x1", out=tmp_path / "run", backbone=backbone(), weights=None,
        strategy="rebuild", recipe=QUICK,
    )  # fmt: skip
    assert run.status == "complete"
    assert len(run.history()) == 3


def program(*arguments):
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *map(str, arguments)],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )  # fmt: skip


def epochs_seen(folder):
    try:
        return len(Run.open(folder).history())
    except RequestError:
        return 0


def finish(process):
    _, told = process.communicate(timeout=300)
    assert process.returncode == 0, told


def wait_for(done, process, seconds=300):
    end = time.monotonic() + seconds
    while not done():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_killed_run_goes_on_to_the_same_result(photos, tmp_path):
    network = tmp_path / "network.keras"
    backbone().save(network)
    finish(program(tmp_path / "whole", photos, network, 5))
    cut = tmp_path / "cut"
    killed = program(cut, photos, network, 5)
    wait_for(lambda: epochs_seen(cut) >= 2, killed)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert Run.open(cut).status == "running"
    finish(program(cut, photos, network, 5))
    runs = [Run.open(tmp_path / name) for name in ("whole", "cut")]
    assert runs[0].history() == runs[1].history()
    weights = [run.load_model().get_weights() for run in runs]
    for a, b in zip(*weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_ctrl_c_saves_and_says_how_to_go_on(photos, tmp_path):
    network = tmp_path / "network.keras"
    backbone().save(network)
    cut = tmp_path / "cut"
    stopped = program(cut, photos, network, 500)
    wait_for(lambda: epochs_seen(cut) >= 3, stopped)
    stopped.send_signal(signal.SIGINT)
    _, told = stopped.communicate(timeout=60)
    assert stopped.returncode != 0
    assert f"stopped; go on with: inshape train --resume {cut}" in told
    run = Run.open(cut)
    assert run.status == "interrupted"
    assert (run.checkpoints / "body.npz").exists()
    assert run.load_model().output_shape == (None, 3)  # with the head trained, it can be used


def test_a_complete_run_is_handed_back(tmp_path):
    run = Run.create(tmp_path / "run", {"request": {}}).updated(status="complete")
    # Killed between its last words and the removal of what they were made from.
    (run.checkpoints / "features").mkdir()
    (run.checkpoints / "features" / "a.npy").touch()
    (run.checkpoints / "body.keras").touch()
    assert resume(run.folder).folder == run.folder
    assert list(run.checkpoints.iterdir()) == []


def test_bad_requests_leave_nothing_behind(photos, tmp_path):
    out = tmp_path / "run"
    with pytest.raises(DataError, match=re.escape("no such file or folder")):
        train(tmp_path / "nowhere", "17x12x1", out=out, backbone=backbone(), weights=None)
    with pytest.raises(RequestError, match=re.escape("0x12x1")):
        train(photos, "0x12x1", out=out, backbone=backbone(), weights=None)
    text = "unknown part to unfreeze 'lost'; did you mean last? choose from: none, last, all, stem,"
    with pytest.raises(UnknownName, match=re.escape(text)):
        train(photos, "17x12x1", out=out, backbone=backbone(), weights=None, unfreeze="lost")
    assert list(tmp_path.iterdir()) == []


def test_pictures_that_do_not_fit_leave_nothing_behind(photos, tmp_path):
    folder = tmp_path / "photos"
    shutil.copytree(photos, folder)
    np.save(folder / "lie" / "four.npy", np.zeros((9, 7, 4), np.uint8))
    text = f"{folder / 'lie' / 'four.npy'}: 4 bands of unstated meaning; expected 3 (rgb)"
    with pytest.raises(DataError, match=re.escape(text)):
        train(folder, "20x20x3", out=tmp_path / "a", backbone=backbone((20, 20, 3)), weights=None)
    for broken in ("four.npy", "00.png", "01.png"):
        (folder / "lie" / broken).write_bytes(b"no picture")
    with pytest.raises(DataError, match=re.escape("3 of 49 pictures cannot be read; expected at")):
        train(folder, "17x12x1", out=tmp_path / "a", backbone=backbone(), weights=None)
    assert [p.name for p in tmp_path.iterdir()] == ["photos"]


def test_unreadable_pictures_are_said_and_listed(photos, tmp_path, capsys):
    folder = tmp_path / "photos"
    shutil.copytree(photos, folder)
    (folder / "lie" / "00.png").write_bytes((folder / "lie" / "00.png").read_bytes()[:300])
    run = train(
        folder, "17x12x1", out=tmp_path / "a", backbone=backbone(), weights=None, show=True,
        strategy="rebuild", recipe=QUICK.of({"unfreeze": "none"}), views=1,
    )  # fmt: skip
    (skipped,) = run.record["data"]["skipped"]
    assert skipped["name"] == "lie/00.png"
    assert f"left out 1 that cannot be read: lie/00.png ({skipped['reason']})" in (
        capsys.readouterr().err
    )


def test_what_is_kept_and_what_is_left_out_is_said(photos, tmp_path, capsys):
    with pytest.warns(UserWarning, match=re.escape("are left out with 1 channel")):
        train(
            photos, "17x12x1", out=tmp_path / "run", backbone=backbone(), weights=None,
            strategy="rebuild", show=True, recipe=QUICK.of({"unfreeze": "none"}),
            augment="strong",
        )  # fmt: skip
    told = capsys.readouterr().err
    assert "48 pictures in memory (9.8 kB; fits in" in told
    assert told.count("pictures in memory") == 1


FULL = """
import resource, signal, sys
from pathlib import Path
from inshape.errors import RunError
from inshape.train import train
photos, network, out = map(Path, sys.argv[1:4])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[4]),) * 2)
try: train(photos, "17x12x1", out=out, backbone=network, weights=None, strategy="rebuild", epochs=2)
except RunError as error: print("LINE", error)
"""


def test_a_disk_that_is_full_from_the_start_leaves_no_folder(photos, tmp_path):
    network = tmp_path / "network.keras"
    backbone().save(network)
    done = subprocess.run(
        [sys.executable, "-c", FULL, photos, network, tmp_path / "run", "12000"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("LINE")]
    text = "initial.keras: File too large; what was there is unchanged; free some space"
    assert f"cannot write {tmp_path / 'run' / 'checkpoints'}/{text}" in line
    assert [p.name for p in tmp_path.iterdir()] == ["network.keras"]


def test_weights_that_do_not_fit_leave_nothing_behind(photos, tmp_path):
    wrong = tmp_path / "wrong.weights.h5"
    backbone().save_weights(wrong)
    with pytest.raises(WeightsError, match="does not fit MobileNetV3Small"):
        train(photos, "32x32x3", out=tmp_path / "run", backbone="MobileNetV3Small", weights=wrong)
    assert not (tmp_path / "run").exists()


def test_an_output_that_exists_is_refused_before_any_work(tmp_path):
    run = Run.create(tmp_path / "run", {})
    with pytest.raises(OutputExists, match=re.escape(f"{run.folder} exists already")):
        train(tmp_path / "nowhere", "17x12x1", out=run.folder, backbone=backbone(), weights=None)


def test_what_cannot_be_resumed_is_named(photos, tmp_path):
    record = {"seed": 0, "done": [], "request": {"source": None, "recipe": Recipe().as_dict()}}
    run = Run.create(tmp_path / "arrays", record)
    with pytest.raises(RequestError, match=re.escape("was trained on pictures that were no files")):
        resume(run)
    record["request"]["source"] = str(photos)
    run = Run.create(tmp_path / "early", record)
    with pytest.raises(
        RequestError, match=re.escape("has lost initial.keras; expected it among its checkpoints")
    ):
        resume(run)
    run = Run.create(tmp_path / "moved", {**record, "data": {"fingerprint": "0" * 64}})
    (run.checkpoints / "initial.keras").touch()
    text = "expected 000000000000); restore them or train anew"
    with pytest.raises(DataError, match=re.escape(text)):
        resume(run)

"""`inshape train`, `evaluate` and `predict` on real JPEG files."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from inshape.runs import Run

SMALL = ("--backbone", "MobileNetV3Small-minimalistic", "--weights", "none")
QUICK = ("--epochs", 1, "--views", 1, "--augment", "none", "--unfreeze", "last")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Two classes that differ in brightness, not square, of odd sizes."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(3)
    for label, level in (("dark", 40), ("light", 200)):
        (folder / label).mkdir()
        for i in range(12):
            pixels = np.clip(rng.normal(level, 25, (51 + i, 67, 3)), 0, 255).astype("uint8")
            Image.fromarray(pixels).save(folder / label / f"{i:02}.jpg")
    return folder


@pytest.fixture(scope="module")
def trained(call, photos, tmp_path_factory):
    """A run at 49x64x1, and what training printed."""
    out = tmp_path_factory.mktemp("runs") / "a"
    answer = call("train", photos, "--input", "49x64x1", "--out", out, *SMALL, *QUICK, "--json")
    assert answer.code == 0, answer.err
    return out, answer


def test_training_answers_with_the_record(trained):
    out, answer = trained
    record = json.loads((out / "run.json").read_text())
    assert answer.json == {"run": str(out), **record}
    assert record["status"] == "complete"
    assert record["request"]["shape"] == "49x64x1"
    assert record["request"]["recipe"]["epochs"] == 1
    assert f"{out}: validation accuracy" in answer.err


def test_the_model_takes_the_shape(trained):
    run = Run.open(trained[0])
    assert run.load_model().input_shape == (None, 49, 64, 1)
    assert run.labels == ("dark", "light")


def test_evaluate(call, trained, photos):
    text = call("evaluate", trained[0], photos)
    assert text.code == 0, text.err
    assert "accuracy" in text.out
    values = call("evaluate", trained[0], photos, "--json").json
    assert values["pictures"] == 24
    assert {"value", "low", "high"} <= set(values["accuracy"])
    # Counted anew from the confusion matrix.
    confusion = np.array(values["confusion"])
    assert values["accuracy"]["value"] == pytest.approx(np.trace(confusion) / 24, abs=1e-6)


def test_predict_a_file_several_and_a_folder(call, trained, photos):
    files = [photos / "dark" / "00.jpg", photos / "light" / "03.jpg"]
    one = call("predict", trained[0], files[0], "--json").json["predictions"]
    two = call("predict", trained[0], *files, "--top", 1, "--json").json["predictions"]
    every = call("predict", trained[0], photos, "--json").json["predictions"]
    assert [p["picture"] for p in two] == [str(f) for f in files]
    assert (len(one), len(two), len(every)) == (1, 2, 24)
    assert [len(p["top"]) for p in two] == [1, 1]
    assert one[0]["probability"] == pytest.approx(two[0]["probability"], abs=1e-4)
    assert sum(t["probability"] for t in one[0]["top"]) == pytest.approx(1, abs=1e-4)


def test_a_finished_run_is_handed_back(call, trained):
    answer = call("train", "--resume", trained[0], "--json")
    assert answer.code == 0, answer.err
    assert answer.json["status"] == "complete"


def test_an_output_folder_that_exists_is_left_alone(call, trained, photos):
    before = (trained[0] / "run.json").read_text()
    answer = call("train", photos, "--input", "49x64x1", "--out", trained[0], *SMALL)
    assert answer.code == 2
    assert answer.err.startswith(f"inshape: error: {trained[0]} exists already")
    assert answer.err.count("\n") == 1
    assert (trained[0] / "run.json").read_text() == before


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ["train"],
            "train needs pictures, --input and --out; write: "
            "inshape train PICTURES --input 96x96x3 --out runs/a",
        ),
        (
            ["train", "--resume", "runs/a", "--input", "96x96x3"],
            "--resume goes on with the run as it was begun; leave out --input and --out",
        ),
        (
            ["train", "x", "--input", "96x96", "--out", "y"],
            "input '96x96' is not a shape; write HxWxC, such as 96x128x1 "
            "(height x width x channels; ? for an unknown height or width)",
        ),
        (
            ["train", "x", "--input", "96x96x3", "--out", "y", "--set", "mixup"],
            "--set 'mixup': expected NAME=VALUE, such as mixup=0",
        ),
        (
            ["evaluate", "nowhere", "x"],
            "nowhere holds no run.json; expected a run folder; train one with inshape train",
        ),
    ],
)
def test_a_bad_request_is_one_line(call, words, line):
    answer = call(*words)
    assert answer.code == 2
    assert answer.err == f"inshape: error: {line}\n"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--set", "mixup_=0"], "unknown training option 'mixup_'; did you mean mixup?"),
        (["--epochs", -1], "epochs=-1; expected 0 or more"),
        (["--augment", "lots"], "unknown augment 'lots'"),
        (["--pool", "agv"], "unknown pool 'agv'; did you mean avg?"),
        (["--picture-fit", "squash"], "unknown fit 'squash'"),
    ],
)
def test_a_bad_choice_is_one_line_and_writes_nothing(call, photos, tmp_path, words, told):
    out = tmp_path / "run"
    answer = call("train", photos, "--input", "49x64x1", "--out", out, *SMALL, *words)
    assert answer.code == 2
    assert re.match(rf"inshape: error: .*{re.escape(told)}", answer.err)
    assert answer.err.count("\n") == 1
    assert not out.exists()


@pytest.mark.parametrize("kind", ["empty", "one class"])
def test_a_folder_that_cannot_be_used(call, tmp_path, photos, kind):
    folder = tmp_path / "photos"
    folder.mkdir()
    if kind == "one class":
        (folder / "dark").symlink_to(photos / "dark")
    answer = call("train", folder, "--input", "49x64x1", "--out", tmp_path / "run", *SMALL)
    assert answer.code == 2
    assert answer.err.splitlines()[-1].startswith("inshape: error: ")
    assert not (tmp_path / "run").exists()

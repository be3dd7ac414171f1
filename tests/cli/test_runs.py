"""`inshape train`, `evaluate` and `predict` on real JPEG files."""

import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from inshape.runs import Run

SMALL = ("--backbone", "MobileNetV3Small-minimalistic", "--weights", "none")
QUICK = ("--epochs", 1, "--views", 1, "--augment", "none", "--unfreeze", "last")


def drawn(folder, seed):
    """Two classes that differ in brightness, not square, of odd sizes."""
    rng = np.random.default_rng(seed)
    for label, level in (("dark", 40), ("light", 200)):
        (folder / label).mkdir()
        for i in range(12):
            pixels = np.clip(rng.normal(level, 25, (51 + i, 67, 3)), 0, 255).astype("uint8")
            Image.fromarray(pixels).save(folder / label / f"{i:02}.jpg")
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return drawn(tmp_path_factory.mktemp("photos"), 3)


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    """Photos that no run has seen."""
    return drawn(tmp_path_factory.mktemp("others"), 4)


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


@pytest.mark.filterwarnings("default::UserWarning")
def test_evaluate(call, trained, photos):
    """On the folder that the run was trained on, only what was held out counts."""
    held = sum(json.loads((trained[0] / "run.json").read_text())["data"]["validation"].values())
    told = f"measured on the {held} of 24 that were held out; split 'all' takes every one"
    text = call("evaluate", trained[0], photos)
    assert text.code == 0, text.err
    assert "accuracy" in text.out
    assert text.err.count("warning:") == 1
    assert told in text.err
    answer = call("evaluate", trained[0], photos, "--split", "validation", "--json")
    assert "warning" not in answer.err
    values = answer.json
    assert (values["pictures"], values["split"], values["seen_in_training"]) == (
        held, "validation", 0,
    )  # fmt: skip
    assert {"value", "low", "high"} <= set(values["accuracy"])


@pytest.mark.filterwarnings("default::UserWarning")
def test_evaluate_everything(call, trained, photos):
    answer = call("evaluate", trained[0], photos, "--split", "all", "--json")
    values = answer.json
    trained_on = sum(json.loads((trained[0] / "run.json").read_text())["data"]["train"].values())
    assert (values["pictures"], values["seen_in_training"]) == (24, trained_on)
    assert f"warning: {trained_on} of 24 pictures were trained on" in answer.err
    # Counted anew from the confusion matrix.
    confusion = np.array(values["confusion"])
    assert values["accuracy"]["value"] == pytest.approx(np.trace(confusion) / 24, abs=1e-6)


@pytest.mark.filterwarnings("default::UserWarning")
def test_another_folder_with_pictures_of_the_training(call, trained, photos, tmp_path):
    for label in ("dark", "light"):
        (tmp_path / label).mkdir()
        Image.new("RGB", (60, 50), "gray" if label == "dark" else "white").save(
            tmp_path / label / "new.png"
        )
        shutil.copy(photos / label / "00.jpg", tmp_path / label / "copy.jpg")
        shutil.copy(photos / label / "01.jpg", tmp_path / label / "other.jpg")
    answer = call("evaluate", trained[0], tmp_path, "--json")
    # No more than one picture of a class was held out, so at least one of its two was trained on.
    assert answer.json["pictures"] == 6
    assert 2 <= answer.json["seen_in_training"] <= 4
    seen = answer.json["seen_in_training"]
    assert f"warning: {seen} of 6 pictures were trained on, which makes the scores" in answer.err


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


def test_a_run_that_another_process_trains_is_left_alone(call, trained):
    program = (
        "import sys, time; from pathlib import Path; from inshape.runs import locked\n"
        "with locked(Path(sys.argv[1])): print('held', flush=True); time.sleep(600)"
    )
    words = [sys.executable, "-c", program, str(trained[0])]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        answer = call("train", "--resume", trained[0])
        holder.kill()  # and the lock is gone with it
    assert answer.code == 2
    assert answer.err == (
        f"inshape: error: {trained[0]} is being trained by another process; expected one at a "
        "time; wait for it, or stop it first\n"
    )
    assert call("train", "--resume", trained[0]).code == 0


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
            "--resume goes on with the run as it was begun; leave out --input",
        ),
        (
            ["train", "p", "--resume", "runs/a", "--epochs", "20", "--no-flip", "--set", "mixup=0"],
            "--resume goes on with the run as it was begun; leave out --epochs, --flip, --set",
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
        (["--set", "distil=maybe"], "distil='maybe'; expected true or false"),
        (["--seed", -1], "seed=-1; expected a whole number from 0 to 2147483647"),
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


@pytest.fixture(scope="module")
def exported(call, trained, others):
    words = ("export", trained[0], "--to", "litert,litert-int8", "--data", others, "--no-timing")
    answer = call(*words, "--calibration", 10, "--min-agreement", 0, "--json")
    assert answer.code == 0, answer.err
    return answer


def test_export_answers_with_one_object(exported, trained):
    told = exported.json
    assert told["run"] == str(trained[0])
    first = told["exports"][0]
    assert {"format", "path", "size_bytes", "agreement", "accuracy", "latency_ms"} <= set(first)
    assert first["agreement"] == 1.0
    assert {"value", "low", "high"} == set(first["accuracy"])
    assert "model-int8.tflite" in exported.err


def test_a_file_below_the_wanted_agreement_ends_with_1(
    call, trained, others, tmp_path, monkeypatch
):
    from inshape.exporting import api as front

    monkeypatch.setattr(
        front, "answer", lambda run, pictures, **how: np.eye(2)[np.arange(len(pictures)) % 2]
    )
    words = ("export", trained[0], "--data", others, "--out", tmp_path / "x", "--no-timing")
    answer = call(*words, "--json")
    assert answer.code == 1
    assert answer.json["exports"][0]["failed"]
    assert (tmp_path / "x" / "model.tflite").exists()


def test_export_refuses_in_one_line(call, trained, exported):
    answer = call("export", trained[0], "--to", "litert")
    assert answer.code == 2
    assert answer.err.count("\n") == 1
    assert "exists already; expected a new file; add --replace" in answer.err
    answer = call("export", trained[0], "--to", "coreml")
    assert answer.code == 2
    assert "format 'coreml'" in answer.err
    assert "litert-int8" in answer.err


def test_bench_measures_a_file(call, exported):
    path = exported.json["exports"][1]["path"]
    told = call("bench", path, "--threads", 1, "--json").json
    assert told["input_shape"] == "49x64x1"
    assert told["runtime"] == "litert"
    assert 0 < told["timings"][0]["median_ms"] <= told["timings"][0]["p95_ms"]
    answer = call("bench", path + ".txt")
    assert answer.code == 2
    assert "no such file; expected an exported model" in answer.err


def test_predict_with_an_exported_file(call, exported, photos):
    path = exported.json["exports"][0]["path"]
    told = call("predict", path, photos / "light" / "03.jpg", "--json").json
    assert told["predictions"][0]["label"] in ("dark", "light")


def test_compare_answers_with_one_object(call, photos, tmp_path):
    words = ("compare", photos, "--shapes", "33x40x1,2x2x1", "--strategies", "rebuild")
    answer = call(
        *words, "--backbones", "MobileNetV3Small-minimalistic", "--weights", "none",
        "--no-latency", "--out", tmp_path / "c", "--json",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    told = answer.json
    by_shape = {c["input_shape"]: c for c in told["candidates"]}
    assert {"input_shape", "strategy", "backbone", "accuracy", "macs", "latency_ms"} <= set(
        by_shape["33x40x1"]
    )
    assert {"value", "low", "high"} == set(by_shape["33x40x1"]["accuracy"])
    assert told["recommendation"]["command"].startswith("inshape train ")
    assert len(list((tmp_path / "c" / "candidates").iterdir())) >= 1


def test_limits_without_auto_are_refused(call, photos, tmp_path):
    words = ("train", photos, "--input", "33x40x1", "--out", tmp_path / "a", "--max-macs", "1M")
    answer = call(*words, *SMALL)
    assert answer.code == 2
    assert "limits with --input 33x40x1; expected --input auto" in answer.err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--stem", "plain"], "--stem with --input auto, which compares every strategy as it is"),
        (["--output-stride", 16], "--output-stride with --input auto"),
    ],
)
def test_what_no_candidate_is_measured_with_is_refused(call, photos, tmp_path, words, told):
    answer = call("train", photos, "--input", "auto", "--out", tmp_path / "a", *SMALL, *words)
    assert answer.code == 2
    assert answer.err.startswith(f"inshape: error: {told}")
    assert answer.err.count("\n") == 1


def test_the_table_comes_before_the_error_where_nothing_meets_the_limits(call, photos):
    words = ("compare", photos, "--shapes", "33x40x1", "--strategies", "rebuild", "--max-macs", 9)
    small = ("--backbones", "MobileNetV3Small-minimalistic", "--weights", "none", "--no-latency")
    answer = call(*words, *small, "--json")
    assert answer.code == 2
    assert answer.json["recommendation"] is None
    assert "33x40x1" in answer.err
    last = answer.err.splitlines()[-1]
    assert last.startswith("inshape: error: no candidate meets the limits; the nearest, ")


def test_the_input_is_chosen_by_the_pictures(call, photos, tmp_path, monkeypatch):
    from inshape.comparison import defaults as usual

    monkeypatch.setattr(usual, "_SIDES", (32, 64))
    answer = call(
        "train", photos, "--input", "auto", "--max-macs", "100M", "--out", tmp_path / "a",
        *SMALL, *QUICK, "--json",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    request = answer.json["request"]
    assert request["shape"] in ("32x32x3", "64x64x3", "32x64x3")
    assert request["strategy"] in ("rebuild", "restride")

"""`inshape train`, `evaluate` and `predict` on real JPEG files."""

import json
import shlex
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from inshape.cli.commands import command_for
from inshape.cli.parser import parse
from inshape.comparison.request import CompareRequest
from inshape.requests import make
from inshape.runs import Run
from inshape.training.request import TrainRequest

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
def trained(call, photos, tmp_path_factory, small):
    """A run at 49x64x1, and what training printed."""
    out = tmp_path_factory.mktemp("runs") / "a"
    answer = call("train", photos, "--input", "49x64x1", "--out", out, *small, *QUICK, "--json")
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
    text = f"measured on the {held} of 24 that were held out; split 'all' takes every one"
    answer = call("evaluate", trained[0], photos)
    assert answer.code == 0, answer.err
    assert "accuracy" in answer.out
    assert answer.err.count("warning:") == 1
    assert text in answer.err
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


def test_an_output_folder_that_exists_is_left_alone(call, trained, photos, small):
    before = (trained[0] / "run.json").read_text()
    answer = call("train", photos, "--input", "49x64x1", "--out", trained[0], *small)
    assert answer.code == 2
    assert answer.err.startswith(f"inshape: error: {trained[0]} exists already")
    assert answer.err.count("\n") == 1
    assert (trained[0] / "run.json").read_text() == before


def test_the_record_s_command_makes_the_same_request(trained):
    """Typed again, it trains the same into a folder beside."""
    run = Run.open(trained[0])
    words = shlex.split(run.record["command"])[1:]
    command, rest = command_for(words)
    request = parse(command.kind, rest, program="inshape train", description="")
    assert request.out == run.folder.with_name(f"{run.folder.name}-again")
    assert {**request.as_dict(), "out": str(run.folder)} == run.record["request"]


def test_what_holds_no_run_is_one_line(call):
    answer = call("evaluate", "nowhere", "x")
    assert answer.code == 2
    assert answer.err == (
        "inshape: error: nowhere holds no run.json; expected a run folder; train one with inshape "
        "train\n"
    )


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--epochs", -1], "--epochs -1; expected 0 or more"),
        (["--augment", "lots"], "unknown augment 'lots'; choose from: none, light, strong"),
        (["--distil=maybe"], "--distil takes no value; expected --distil alone"),
        (["--mixup"], "--mixup has no value; expected --mixup NUMBER"),
        (["--seed", -1], "--seed -1; expected 0 to 2147483647"),
        (["--pool", "agv"], "unknown pool 'agv'; did you mean avg?"),
        (["--picture-fit", "squash"], "unknown picture_fit 'squash'; choose from: stretch, "),
        (["--crop-margin", 0], "crop_margin 0.0; expected more than 0 and at most 1"),
    ],
)
def test_a_bad_choice_is_one_line_and_writes_nothing(call, photos, tmp_path, words, text, small):
    out = tmp_path / "run"
    answer = call("train", photos, "--input", "49x64x1", "--out", out, *small, *words)
    assert answer.code == 2
    assert answer.err.startswith(f"inshape: error: {text}")
    assert answer.err.count("\n") == 1
    assert not out.exists()


def test_limits_hold_at_a_named_input_too(call, photos, tmp_path, small):
    out = tmp_path / "run"
    options = ("--input", "49x64x1", "--out", out, "--strategy", "rebuild", "--max-macs", "1K")
    answer = call("train", photos, *small, *options)
    assert answer.code == 2
    assert "no candidate meets the limits; the nearest, small.keras 49x64x1 rebuild" in (
        answer.err.replace(str(small[1]), "small.keras")
    )
    assert not out.exists()


def test_what_people_write_is_understood():
    words = ["photos", "--input", "9x9x1", "--out", "a", "--lr=0.25", "--weights", "demo"]
    request = parse(TrainRequest, words, program="inshape train", description="")
    assert request.recipe.learning_rate == 0.25
    assert request.backbone == "MobileNetV3Small-minimalistic"
    request = parse(TrainRequest, [*words, "--backbone", "VGG16"], program="", description="")
    assert request.backbone == "VGG16"
    compared = make(CompareRequest, source="photos", weights="demo")
    assert compared.backbones == ("MobileNetV3Small-minimalistic",)


@pytest.mark.parametrize("kind", ["empty", "one class"])
def test_a_folder_that_cannot_be_used(call, tmp_path, photos, kind, small):
    folder = tmp_path / "photos"
    folder.mkdir()
    if kind == "one class":
        (folder / "dark").symlink_to(photos / "dark")
    answer = call("train", folder, "--input", "49x64x1", "--out", tmp_path / "run", *small)
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
    answer = exported.json
    assert answer["run"] == str(trained[0])
    first = answer["exports"][0]
    assert {"format", "path", "size_bytes", "agreement", "accuracy", "latency_ms"} <= set(first)
    assert first["agreement"] == 1.0
    assert {"value", "low", "high"} == set(first["accuracy"])
    assert "model-int8.tflite" in exported.err


def test_a_file_below_the_wanted_agreement_ends_with_1(
    call, trained, others, tmp_path, monkeypatch
):
    from inshape.exporting import api

    monkeypatch.setattr(
        api, "answer", lambda runner, pictures, **how: np.eye(2)[np.arange(len(pictures)) % 2]
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
    answer = call("bench", path, "--threads", 1, "--json").json
    assert answer["input_shape"] == "49x64x1"
    assert answer["runtime"] == "litert"
    assert 0 < answer["timings"][0]["median_ms"] <= answer["timings"][0]["p95_ms"]
    answer = call("bench", path + ".txt")
    assert answer.code == 2
    assert "no such file; expected an exported model" in answer.err


def test_predict_with_an_exported_file(call, exported, photos):
    path = exported.json["exports"][0]["path"]
    answer = call("predict", path, photos / "light" / "03.jpg", "--json").json
    assert answer["predictions"][0]["label"] in ("dark", "light")


def test_compare_answers_with_one_object(call, photos, tmp_path, small):
    words = ("compare", photos, "--shapes", "33x40x1,2x2x1", "--strategies", "rebuild")
    answer = call(
        *words, *small, "--no-latency", "--out", tmp_path / "c", "--json",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    by_shape = {c["input_shape"]: c for c in answer.json["candidates"]}
    assert {"input_shape", "strategy", "backbone", "accuracy", "macs", "latency_ms"} <= set(
        by_shape["33x40x1"]
    )
    assert {"value", "low", "high"} == set(by_shape["33x40x1"]["accuracy"])
    assert answer.json["recommendation"]["command"].startswith("inshape train ")
    assert len(list((tmp_path / "c" / "candidates").iterdir())) >= 1


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--stem", "plain"], "stem with the input auto, by which every strategy is compared as"),
        (["--output-stride", 16], "output_stride with the input auto"),
    ],
)
def test_what_no_candidate_is_measured_with_is_refused(call, photos, tmp_path, words, text, small):
    answer = call("train", photos, "--input", "auto", "--out", tmp_path / "a", *small, *words)
    assert answer.code == 2
    assert answer.err.startswith(f"inshape: error: {text}")
    assert answer.err.count("\n") == 1


@pytest.mark.parametrize(
    "words",
    [
        ("compare", "--shapes", "33x40x1", "--no-latency", "--strategies", "rebuild"),
        ("train", "--input", "auto", "--out", "not/there", "--strategy", "rebuild"),
    ],
)
def test_the_table_comes_before_the_error_where_nothing_meets_the_limits(
    call, photos, words, small
):
    answer = call(*words, photos, *small, "--max-macs", 9, "--json")
    assert answer.code == 2
    assert answer.json["recommendation"] is None
    assert {c["name"].split()[-1] for c in answer.json["candidates"]} == {"rebuild"}
    assert all(c["input_shape"] in answer.err for c in answer.json["candidates"])
    last = answer.err.splitlines()[-1]
    assert last.startswith("inshape: error: no candidate meets the limits; the nearest, ")


def test_the_input_is_chosen_by_the_pictures(call, photos, tmp_path, monkeypatch, small):
    from inshape.comparison import defaults

    monkeypatch.setattr(defaults, "_SIDES", (32, 64))
    answer = call(
        "train", photos, "--input", "auto", "--max-macs", "100M", "--out", tmp_path / "a",
        *small, *QUICK, "--json",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    request = answer.json["request"]
    assert request["shape"] in ("32x32x3", "64x64x3", "32x64x3")
    assert request["options"]["strategy"] in ("rebuild", "restride", "resize")
    assert request["limits"]["max_macs"] == 100_000_000

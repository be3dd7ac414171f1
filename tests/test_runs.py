"""The run folder: whole files, clear refusals, and the way back from disk."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from inshape import writing
from inshape.data.prepare import Preparation
from inshape.errors import OutputExists, RequestError, RunError
from inshape.runs import Run, check_new_run, locked, versions
from inshape.writing import lock, new_part, write_atomically, write_json, write_text


@pytest.fixture
def run(tmp_path):
    return Run.create(tmp_path / "a", {"seed": 3})


def test_a_run_says_in_short_what_it_is(tmp_path):
    run = Run.create(tmp_path / "a", {"plan": {"long": "x" * 10_000}})
    assert repr(run) == f"<Run {tmp_path / 'a'}: its training is running>"
    run.save_labels(["cat", "dog"])
    run.save_history([{"phase": "head", "epoch": 1, "loss": 0.5, "val_loss": ""}])
    assert run.history == [{"phase": "head", "epoch": 1.0, "loss": 0.5, "val_loss": None}]
    metrics = {"validation": {"accuracy": 0.75}}
    run = run.updated(status="complete", metrics=metrics, plan=None)
    assert run.metrics == metrics
    assert str(run) == f"{run.folder}: validation accuracy 0.7500"
    scores = [{"name": "accuracy", "value": 0.75, "low": 0.5, "high": 0.9}]
    write_json(run.folder / "held_out.json", {"pictures": 40, "scores": scores})
    (run.folder / "report.html").touch()
    assert str(run).splitlines() == [
        f"{run.folder}: validation accuracy 0.7500 [0.500, 0.900] on 40 pictures",
        f"  report: {run.folder / 'report.html'}",
    ]


def test_a_new_run_holds_its_record_and_folders(run):
    record = json.loads((run.folder / "run.json").read_text())
    assert (record["status"], record["seed"], record["format"]) == ("running", 3, 1)
    assert record["versions"]["keras"] == keras.__version__
    assert run.checkpoints.is_dir()
    assert run.exports.is_dir()


def test_a_run_comes_back_from_disk(run):
    run.updated(status="complete", metrics={"accuracy": 0.5})
    again = Run.open(run.folder)
    assert again.status == "complete"
    assert again.record["metrics"] == {"accuracy": 0.5}
    assert Run.open(again) is again


def test_updating_leaves_the_old_value_alone(run):
    later = run.updated(status="complete")
    assert (run.status, later.status) == ("running", "complete")


@pytest.mark.parametrize("shape", ["97x64x1", "96x96x3", "33x50x4"])
def test_labels_preparation_and_history_come_back(run, shape):
    preparation = Preparation.of(shape, fit="letterbox", fill=12.0)
    run = run.updated(preparation=preparation.as_dict())
    run.save_labels(["a b", "ä", "z"])
    run.save_history(
        [{"phase": "a", "epoch": 1, "loss": 0.5}, {"phase": "b", "epoch": 2, "val_loss": 0.25}]
    )
    again = Run.open(run.folder)
    assert again.preparation == preparation
    assert again.labels == ("a b", "ä", "z")
    assert again.history_rows() == [
        {"phase": "a", "epoch": "1", "loss": "0.5", "val_loss": ""},
        {"phase": "b", "epoch": "2", "loss": "", "val_loss": "0.25"},
    ]


def test_labels_are_json_for_machines_and_lines_for_people(run):
    labels = ["a, b", "ä", '"']
    run.save_labels(labels)
    assert json.loads((run.folder / "labels.json").read_text(encoding="utf-8")) == labels
    assert (run.folder / "labels.txt").read_text(encoding="utf-8") == 'a, b\nä\n"\n'
    (run.folder / "labels.json").unlink()  # a run of before there was one
    assert run.labels == tuple(labels)


@pytest.mark.parametrize(
    "text", ["[", '{"a": 0}', '["a", 1]', '["a", "a"]', "[" * 100_000, "\udcff"]
)
def test_labels_that_are_no_list_of_names_are_refused(run, text):
    run.save_labels(["a", "b"])
    (run.folder / "labels.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(RequestError, match=r"labels.json cannot be read .* expected a JSON list"):
        _ = run.labels


def test_history_before_the_first_epoch_is_empty(run):
    assert run.history_rows() == []


@pytest.mark.parametrize("shape", [(9, 7, 1), (8, 8, 3)])
def test_the_model_comes_back_with_the_same_output(run, shape, rng):
    image = keras.Input(shape)
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3)(image))
    model = keras.Model(image, keras.layers.Dense(2)(x))
    run.save_model(model)
    pictures = rng.uniform(0, 255, (2, *shape)).astype("float32")
    np.testing.assert_array_equal(run.model(pictures), model(pictures))


def test_what_an_unfinished_run_lacks_is_named(run):
    hint = f"finish it with inshape train --resume {run.folder}"
    for what, ask in (
        ("labels.json", lambda: run.labels),
        ("preparation", lambda: run.preparation),
        ("model.keras", run.load_model),
    ):
        text = f"{run.folder} holds no {what} yet (its training is running)"
        with pytest.raises(RequestError, match=re.escape(text)) as caught:
            ask()
        assert hint in str(caught.value)


def test_a_folder_that_exists_is_refused(run, tmp_path):
    text = f"{run.folder} exists already; expected a new folder; resume it (--resume {run.folder})"
    with pytest.raises(OutputExists, match=re.escape(text)):
        Run.create(run.folder, {})
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "photo.jpg").touch()
    with pytest.raises(OutputExists, match=re.escape("move it away or name another")):
        Run.create(tmp_path / "b", {})


def test_an_empty_folder_is_taken(tmp_path):
    (tmp_path / "empty").mkdir()
    assert Run.create(tmp_path / "empty", {}).status == "running"


@pytest.mark.parametrize("there", [False, True])
def test_a_run_folder_appears_whole_or_not_at_all(tmp_path, there):
    folder = tmp_path / "a"
    if there:
        folder.mkdir()

    def half(new):
        new.save_labels(["cat"])
        assert not (folder / "run.json").exists()
        raise RunError("full")

    with pytest.raises(RunError, match="full"):
        Run.create(folder, {}, fill=half)
    assert [p.name for p in tmp_path.rglob("*")] == (["a"] if there else [])
    # What a kill leaves behind is no reason to refuse the folder.
    (folder / ".part-a-0" if there else tmp_path / ".part-a-0").mkdir()
    run = Run.create(folder, {"seed": 3}, fill=lambda new: new.save_labels(["cat", "dog"]))
    assert run.folder == folder
    assert run.labels == ("cat", "dog")
    assert Run.open(folder).record == run.record
    names = {"run.json", "labels.json", "labels.txt", "checkpoints", "exports"}
    assert {p.name for p in folder.iterdir()} - {".part-a-0"} == names


def names(folder):
    return {p.name for p in folder.iterdir()}


def test_what_killed_writers_left_goes_with_the_next_one(tmp_path):
    others = {".a-0123abcd.md", ".b-0123abcd.txt", ".a-notes.txt", "a-0123abcd.txt"}
    for name in {".a-0123abcd.txt", *others}:
        (tmp_path / name).write_text("half")
    with new_part(tmp_path, ".a-", ".txt") as living:
        write_text(tmp_path / "a.txt", "whole")
        assert names(tmp_path) == {"a.txt", living.name, *others}
    assert names(tmp_path) == {"a.txt", *others}


def test_where_nothing_can_be_locked_only_what_is_old_goes(tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "fcntl", None)
    old, young = tmp_path / ".a-0123abcd.txt", tmp_path / ".a-0123abce.txt"
    for path in (old, young):
        path.write_text("half")
    os.utime(old, (0, 0))
    write_text(tmp_path / "a.txt", "whole")
    assert names(tmp_path) == {"a.txt", young.name}


def test_what_a_killed_training_left_goes_with_the_next_one(tmp_path):
    (tmp_path / ".part-b-0123abcd" / "checkpoints").mkdir(parents=True)
    (tmp_path / "a" / ".part-a-0123abcd").mkdir(parents=True)
    Run.create(tmp_path / "a", {})
    assert names(tmp_path) == {"a"}
    assert names(tmp_path / "a") == {"run.json", "checkpoints", "exports"}


def test_a_kill_while_a_run_is_moved_into_a_folder_leaves_the_run(tmp_path, monkeypatch):
    folder = tmp_path / "mount"
    folder.mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(writing, "_remove", lambda path: None)  # nobody is left to do it
        moved = []

        def rename(path, goal):
            if path.parent.parent == folder and len(moved) == 2:
                raise KeyboardInterrupt
            moved.append(goal)
            return os.rename(path, goal)

        patch.setattr(Path, "rename", rename)
        with pytest.raises(KeyboardInterrupt):
            Run.create(folder, {"seed": 3})
    assert "run.json" not in names(folder)
    with pytest.raises(OutputExists, match=re.escape(f"resume it (--resume {folder})")):
        Run.create(folder, {})
    assert names(folder) == {"run.json", "checkpoints", "exports"}
    assert Run.open(folder).record["seed"] == 3


@pytest.mark.parametrize("there", [False, True])
def test_of_two_that_make_one_run_the_slower_is_refused(tmp_path, there):
    folder = tmp_path / "a"
    if there:
        folder.mkdir()

    def fill(new):
        (new.checkpoints / "initial.keras").touch()
        if new.record["seed"] == 1:
            Run.create(folder, {"seed": 2}, fill=fill)

    with pytest.raises(OutputExists, match=re.escape(f"{folder} exists already")):
        Run.create(folder, {"seed": 1}, fill=fill)
    assert Run.open(folder).record["seed"] == 2
    assert names(tmp_path) == {"a"}
    assert names(folder) == {"run.json", "checkpoints", "exports"}


def test_a_run_that_is_being_trained_is_refused(run):
    text = f"{run.folder} is being trained by another process; expected one at a time; wait for"
    with lock(run.folder) as is_locked:
        assert is_locked
        with pytest.raises(RequestError, match=re.escape(text)):
            check_new_run(run.folder)
    with pytest.raises(OutputExists, match="resume it"):
        check_new_run(run.folder)


def test_the_lock_of_a_dead_process_is_none(run):
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from inshape.writing import lock\n"
        "with lock(Path(sys.argv[1])) as is_locked:\n"
        "    print(is_locked, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    process = subprocess.run(
        [sys.executable, "-c", code, run.folder], capture_output=True, text=True, check=False
    )
    assert (process.stdout, process.returncode) == ("True\n", -signal.SIGKILL)
    with locked(run.folder):
        pass


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    text = f"cannot make {tmp_path / 'file' / 'a'}: Not a directory"
    with pytest.raises(RunError, match=re.escape(text)):
        Run.create(tmp_path / "file" / "a", {})


def test_folders_that_are_no_runs_are_named(tmp_path):
    text = f"{tmp_path} holds no run.json; expected a run folder"
    with pytest.raises(RequestError, match=re.escape(text)):
        Run.open(tmp_path)
    (tmp_path / "run.json").write_text('{"format"')
    with pytest.raises(RequestError, match=re.escape("run.json cannot be read (Expecting")):
        Run.open(tmp_path)
    (tmp_path / "run.json").write_text('{"format": 9}')
    text = f"{tmp_path} has run format 9; expected 1"
    with pytest.raises(RequestError, match=re.escape(text)):
        Run.open(tmp_path)


def test_what_was_exported_is_no_run(run, tmp_path):
    (run.exports / "savedmodel").mkdir()
    for name in ("model.tflite", "savedmodel/saved_model.pb"):
        (run.exports / name).touch()
    for path in (run.exports / "model.tflite", run.exports / "savedmodel"):
        text = f"{path} is an exported file; expected a run folder; name {run.folder}"
        with pytest.raises(RequestError, match=f"^{re.escape(text)}$"):
            Run.open(path)
    (tmp_path / "b.onnx").touch()
    text = f"{tmp_path / 'b.onnx'} is an exported file; expected a run folder; name the one it came"
    with pytest.raises(RequestError, match=re.escape(text)):
        Run.open(tmp_path / "b.onnx")
    (tmp_path / "b.txt").touch()
    with pytest.raises(RequestError, match=re.escape("b.txt is a file; expected a run folder")):
        Run.open(tmp_path / "b.txt")


@pytest.mark.parametrize("value", [17, None, ["runs/a"]])
def test_what_is_no_folder_is_one_line(value):
    text = f"{value!r} is no run; expected a run folder; write its path"
    with pytest.raises(RequestError, match=re.escape(text)):
        Run.open(value)


def test_a_damaged_model_is_one_line(run):
    run.model_path.write_bytes(b"PK nothing")
    with pytest.raises(RequestError, match=re.escape(f"{run.model_path} cannot be loaded (")):
        run.load_model()


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def half(part):
        part.write_text("ne")
        raise OSError(28, "No space left on device")

    text = f"cannot write {path}: No space left on device; what was there is unchanged"
    with pytest.raises(RunError, match=re.escape(text)):
        write_atomically(path, half)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_real_limit_on_file_size_leaves_the_old_file(tmp_path):
    code = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "from inshape.errors import RunError\n"
        "from inshape.writing import write_json\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "path = Path(sys.argv[1])\n"
        "write_json(path, {'a': 1})\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "try: write_json(path, {'a': 'b' * 10_000})\n"
        "except RunError as error: print(error)\n"
    )
    path = tmp_path / "a.json"
    process = subprocess.run(
        [sys.executable, "-c", code, path], capture_output=True, text=True, check=True
    )
    assert process.stdout.startswith(f"cannot write {path}: File too large; what was there")
    assert json.loads(path.read_text()) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_no_reader_ever_meets_half_a_file(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"a": "x" * 100_000})
    with path.open() as reader:
        write_json(path, {"a": "y"})
        assert json.load(reader) == {"a": "x" * 100_000}
    assert json.loads(path.read_text()) == {"a": "y"}


def test_versions_name_what_a_result_depends_on():
    assert {"python", "keras", "numpy", "inshape"} <= set(versions())


def test_opening_a_run_loads_no_framework(run):
    code = (
        "import sys; from inshape.runs import Run; Run.open(sys.argv[1]).status\n"
        "assert not {'keras', 'tensorflow'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, run.folder], check=True)

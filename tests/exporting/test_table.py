"""The table of a folder's exports, and what is left of an export that goes wrong."""

from __future__ import annotations

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from inshape.errors import OutputExists, RunError
from inshape.exporting import api, writer
from inshape.exporting.api import export
from inshape.runtime.formats import FORMATS
from inshape.runtime.timing import Timing


def table(folder):
    return json.loads((folder / "exports.json").read_text())


@pytest.fixture
def own(run, tmp_path):
    """A run of this test alone, in a folder that is the current one's."""
    return shutil.copytree(
        run.folder, tmp_path / "runs" / "a", ignore=shutil.ignore_patterns("exports")
    )


@pytest.mark.parametrize("name", ["exports.json", "exports.txt"])
def test_a_table_of_something_else_is_not_replaced(name, run, tmp_path):
    (tmp_path / name).write_text('{"mine": 1}')
    text = f"{tmp_path / name} exists already and is no table of exports; expected a new file"
    with pytest.raises(OutputExists, match=re.escape(text)):
        export(run, "keras", out=tmp_path, timing=False)
    assert (tmp_path / name).read_text() == '{"mine": 1}'


def test_rows_stay_whatever_folder_the_next_export_is_called_from(own, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    export("runs/a", "keras", timing=False)
    monkeypatch.chdir(tmp_path / "runs")
    export("a", "litert", timing=False)
    export("a", "savedmodel", timing=False, out=tmp_path / "other")
    assert [row["path"] for row in table(own / "exports")["exports"]] == [
        "model.keras", "model.tflite", "../../../other/savedmodel",
    ]  # fmt: skip
    assert [row["path"] for row in table(tmp_path / "other")["exports"]] == ["savedmodel"]
    text = (own / "exports" / "exports.txt").read_text()
    for word in ("model.keras", "model.tflite", "../../../other/savedmodel"):
        assert word in text
    shutil.move(own, tmp_path / "moved")
    (tmp_path / "moved" / "exports" / "model.keras").unlink()
    export(tmp_path / "moved", "litert", timing=False, replace=True)
    names = [row["path"] for row in table(tmp_path / "moved" / "exports")["exports"]]
    assert names == ["model.tflite"]


def test_what_other_rows_were_judged_on_is_said(own, elsewhere):
    export(own, "keras", timing=False)
    export(own, "litert", timing=False, data=elsewhere, min_agreement=0.5)
    first, second = table(own / "exports")["exports"]
    assert first["fingerprint"] != second["fingerprint"]
    assert (second["source"], second["min_agreement"]) == (str(elsewhere), 0.5)
    text = (own / "exports" / "exports.txt").read_text()
    assert f"60 pictures in {elsewhere}, Keras itself" in text
    line = f"model.keras was compared on 18 pictures in {first['source']} (fingerprint "
    assert f"{line}{first['fingerprint'][:12]}), of which it had to agree on 97.0\xa0%" in text
    assert "model.tflite was compared" not in text


@pytest.fixture
def refuse(monkeypatch):
    """Lets the runtime of LiteRT files refuse them."""
    real = api.load

    def refuse(error):
        def load(path):
            if path.suffix == ".tflite":
                raise error
            return real(path)

        monkeypatch.setattr(api, "load", load)

    return refuse


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RunError("no room"), "no room"),
        (ValueError("strange\nand long"), "unexpected ValueError: strange"),
    ],
)
def test_a_file_that_its_runtime_refuses_keeps_no_other_back(inshape, error, reason, own, refuse):
    refuse(error)
    done = inshape("export", own, "--to", "litert,keras", "--no-timing", "--json")
    assert done.code == 1
    answer = json.loads(done.out)
    assert [row["format"] for row in answer["exports"]] == ["keras"]
    assert answer["refused"] == [{"format": "litert", "reason": reason, "written": True}]
    text = (own / "exports" / "exports.txt").read_text()
    assert f"litert was written but cannot be used: {reason}" in text


def test_a_refusal_stays_in_the_table_until_the_format_is_tried_again(inshape, own, refuse):
    refuse(RunError("no room"))
    alone = inshape("export", own, "--to", "litert", "--no-timing", "--json")
    assert alone.code == 1
    assert json.loads(alone.out)["exports"] == []
    refused = [{"format": "litert", "reason": "no room", "written": True}]
    assert json.loads(alone.out)["refused"] == refused
    export(own, "keras", timing=False)
    assert table(own / "exports")["refused"] == refused


def test_a_file_that_cannot_be_timed_keeps_its_row(own, monkeypatch):
    def timed(path, shape, *, threads, batch):
        if path.suffix == ".tflite":
            raise RunError("it was killed")
        return Timing(threads, 30, 2.5, 3.0, 40.0, 10.0)

    monkeypatch.setattr(api, "time_file", timed)
    exports = export(own, "litert")
    (row,) = table(own / "exports")["exports"]
    assert row["problem"] == "it was killed"
    assert (row["agreement"], row["failed"], row["latency_ms"]) == (1.0, True, None)
    assert [f.format for f in exports.failed] == ["litert"]
    assert "model.tflite could not be measured: it was killed" in str(exports)


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def failing_at(move, monkeypatch):
    """A disk that is full at one of the moves, and then has room again for what is moved back."""
    real, calls = os.replace, []

    def replace(source, goal):
        calls.append(goal)
        if len(calls) == move + 1:
            raise OSError(28, "No space left on device")
        real(source, goal)

    monkeypatch.setattr(writer.os, "replace", replace)


def test_what_was_there_is_unchanged_when_its_successor_cannot_be_moved(own, monkeypatch):
    export(own, "litert", timing=False)
    before = contents(own / "exports")
    failing_at(4, monkeypatch)
    with pytest.raises(RunError, match="what was there is unchanged; free some space"):
        export(own, "litert", timing=False, replace=True)
    assert contents(own / "exports") == before


@pytest.mark.parametrize("form", ["openvino", "savedmodel"])
def test_all_files_are_exchanged_or_none(form, exports, tmp_path, monkeypatch):
    """At every move, of files and of a folder."""
    path = tmp_path / "there" / Path(exports[form].path).name
    new = tmp_path / "place" / "new"
    for folder in (path.parent, new):
        folder.mkdir(parents=True)
    goals = writer._with_companions(FORMATS[form], path)
    present = [goal for goal in goals if (Path(exports[form].path).parent / goal.name).exists()]
    for goal in present:
        source = Path(exports[form].path).parent / goal.name
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, goal)
        copy(source, new / goal.name)
    changed = new / path.name / "saved_model.pb" if path.is_dir() else new / path.name
    changed.write_bytes(b"new")
    before, after = contents(path.parent), contents(new)
    for move in range(2 * len(present) + 1):
        with monkeypatch.context() as patch:
            failing_at(move, patch)
            with pytest.raises(OSError, match="No space left"):
                writer._exchange(goals, new.parent)
        assert contents(path.parent) == before
        assert contents(new) == after
    writer._exchange(goals, new.parent)
    assert contents(path.parent) == after != before
    assert contents(new.parent / "old") == before


class Cut(BaseException):
    """A kill, as far as what has been written is concerned."""


@pytest.fixture
def earlier(tmp_path):
    """A folder with an earlier export, and the scratch of one that is to come."""
    folder = tmp_path / "there"
    place = folder / ".export-0123abcd" / "savedmodel"
    (place / "new" / "savedmodel" / "variables").mkdir(parents=True)
    for name in ("savedmodel/saved_model.pb", "savedmodel/variables/a", "savedmodel.json"):
        (place / "new" / name).write_text("new")
    (folder / "savedmodel").mkdir()
    for name in ("savedmodel/saved_model.pb", "savedmodel.json", "savedmodel.py", "other"):
        (folder / name).write_text("old")
    return folder, place


def cut_at(move, monkeypatch):
    """A kill before one of the moves."""
    real, calls = os.replace, []

    def replace(source, goal):
        calls.append(goal)
        if len(calls) == move + 1:
            raise Cut
        real(source, goal)

    monkeypatch.setattr(writer.os, "replace", replace)


def visible(folder):
    return {name: content for name, content in contents(folder).items() if name.parts[0][0] != "."}


@pytest.mark.parametrize("move", range(6))
@pytest.mark.parametrize("again", [None, 0, 1, 2, 3])
def test_a_killed_export_is_taken_back(move, again, earlier, monkeypatch):
    """At every move, and where taking it back is killed as well."""
    folder, place = earlier
    before = visible(folder)
    goals = writer._with_companions(FORMATS["savedmodel"], folder / "savedmodel")
    with monkeypatch.context() as patch:
        cut_at(move, patch)
        with pytest.raises(Cut):
            writer._exchange(goals, place)
    if again is not None:
        with monkeypatch.context() as patch, suppress(Cut):
            cut_at(again, patch)
            writer.take_back(folder)
    writer.take_back(folder)
    assert visible(folder) == before
    assert not place.parent.exists()


def test_what_an_export_has_finished_is_not_taken_back(earlier):
    folder, place = earlier
    goals = writer._with_companions(FORMATS["savedmodel"], folder / "savedmodel")
    writer._exchange(goals, place)
    after = visible(folder)
    assert set(after.values()) == {b"new", b"old"}
    assert "savedmodel.py" not in {name.as_posix() for name in after}
    (place.parent / "done").touch()
    writer.take_back(folder)
    assert visible(folder) == after
    assert not place.parent.exists()


def test_an_export_that_fails_takes_back_all_that_it_wrote(own, monkeypatch):
    export(own, "litert", timing=False)
    before = contents(own / "exports")

    def fail(*_):
        raise RunError("the disk is full")

    monkeypatch.setattr(api, "keep_table", fail)
    with pytest.raises(RunError, match="the disk is full"):
        export(own, "litert", timing=False, batch=2, replace=True)
    assert contents(own / "exports") == before


def test_a_program_that_fits_no_more_does_not_stay(own):
    pytest.importorskip("tf2onnx")
    export(own, "onnx", timing=False)
    assert (own / "exports" / "model.onnx.py").exists()
    export(own, "onnx", timing=False, batch=4, replace=True)
    assert not (own / "exports" / "model.onnx.py").exists()


@pytest.mark.parametrize("name", ["litert", "onnx", "openvino", "savedmodel"])
def test_loading_is_measured_without_the_import_of_the_runtime(name, exports, run_program):
    words = """
import sys
from contextlib import suppress
from inshape.runtime import timing
modules = []
timing._peak_mb = lambda: modules.append(set(sys.modules)) or 1.0
file = timing.File(sys.argv[1], (1, 17, 13, 3), (1,))
(result,) = timing.measure([file], timing.Effort(1, 1, 5, 0.0))
assert result.runs == 5 and 0 < result.median_ms <= result.p95_ms, result
print(sys.argv[2] in modules[0])
"""
    module = {
        "litert": "ai_edge_litert.interpreter", "onnx": "onnxruntime", "openvino": "openvino",
        "savedmodel": "tensorflow",
    }[name]  # fmt: skip
    if name == "savedmodel":  # these programs have imported TensorFlow, which takes seconds
        assert FORMATS[name].runtime == module
        done = run_program(words, exports[name].path, module)
    else:
        command = [sys.executable, "-c", words, exports[name].path, module]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["True"], done.stderr


def test_what_is_imported_before_a_keras_file_is_loaded_has_imported_keras():
    """`timed_exports` times one in a process of its own; another would take seconds more."""
    runtime = importlib.import_module(FORMATS["keras"].runtime)
    assert runtime.keras is sys.modules["keras"]

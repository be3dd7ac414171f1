"""The table of a folder's exports, and what is left of an export that goes wrong."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from inshape.cli.app import app
from inshape.errors import OutputExists, RunError
from inshape.exporting import api as front
from inshape.exporting import writer as files
from inshape.exporting.api import export


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
    export(tmp_path / "moved", "litert", timing=False, replace_files=True)
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
    told = f"model.keras was compared on 18 pictures in {first['source']} (fingerprint "
    assert f"{told}{first['fingerprint'][:12]}), of which it had to agree on 97.0%" in text
    assert "model.tflite was compared" not in text


@pytest.mark.parametrize("error", [RunError("no room"), ValueError("strange\nand long")])
def test_a_file_that_its_runtime_refuses_keeps_no_other_back(error, own, monkeypatch):
    real = front.load

    def load(path):
        if path.suffix == ".tflite":
            raise error
        return real(path)

    monkeypatch.setattr(front, "load", load)
    words = ["export", str(own), "--to", "litert,keras", "--no-timing", "--json"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 1
    told = json.loads(done.stdout)
    assert [row["format"] for row in told["exports"]] == ["keras"]
    reason = "no room" if isinstance(error, RunError) else "unexpected ValueError: strange"
    assert told["refused"] == [{"format": "litert", "reason": reason, "written": True}]
    text = (own / "exports" / "exports.txt").read_text()
    assert f"litert was written but cannot be used: {reason}" in text
    export(own, "savedmodel", timing=False)
    assert table(own / "exports")["refused"] == told["refused"]
    alone = CliRunner().invoke(app, [*words[:3], "litert", *words[4:], "--replace"])
    assert alone.exit_code == 1
    assert json.loads(alone.stdout)["exports"] == []


def test_a_file_that_cannot_be_timed_keeps_its_row(own, monkeypatch):
    real = front.timed

    def timed(path, *args, **options):
        if path.suffix == ".tflite":
            raise RunError("it was killed")
        return real(path, *args, **options)

    monkeypatch.setattr(front, "timed", timed)
    found = export(own, "litert")
    (row,) = table(own / "exports")["exports"]
    assert row["problem"] == "it was killed"
    assert (row["agreement"], row["failed"], row["latency_ms"]) == (1.0, True, None)
    assert [f.format for f in found.failed] == ["litert"]
    assert "model.tflite could not be measured: it was killed" in str(found)


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("form", ["openvino", "savedmodel"])
@pytest.mark.parametrize("moves", [1, 2, 3])
def test_what_was_there_is_unchanged_when_its_successor_cannot_be_moved(
    form, moves, own, monkeypatch
):
    if form == "openvino":
        pytest.importorskip("openvino")
    export(own, form, timing=False)
    before = contents(own / "exports")
    real, calls = os.replace, []

    def replace(source, goal):
        calls.append(goal)
        if len(calls) == moves + 1:
            raise OSError(28, "No space left on device")
        real(source, goal)

    monkeypatch.setattr(files.os, "replace", replace)
    with pytest.raises(RunError, match="what was there is unchanged; free some space"):
        export(own, form, timing=False, replace_files=True)
    assert contents(own / "exports") == before


def test_a_program_that_fits_no_more_does_not_stay(own):
    pytest.importorskip("tf2onnx")
    export(own, "onnx", timing=False)
    assert (own / "exports" / "model.onnx.py").exists()
    export(own, "onnx", timing=False, batch=4, replace_files=True)
    assert not (own / "exports" / "model.onnx.py").exists()


@pytest.mark.parametrize("name", ["litert", "onnx", "openvino", "savedmodel", "keras"])
def test_loading_is_measured_without_the_import_of_the_runtime(name, exports):
    modules = {"litert": "ai_edge_litert.interpreter", "onnx": "onnxruntime"}
    words = """
import sys
from pathlib import Path
from inshape.export import timing
seen = []
timing._peak_mb = lambda: seen.append(set(sys.modules)) or 1.0
timing._SECONDS = 0.0
timing.measure(Path(sys.argv[1]), (1, 17, 13, 3), 1)
print(sys.argv[2] in seen[0])
"""
    module = modules.get(name, {"savedmodel": "tensorflow"}.get(name, name))
    command = [sys.executable, "-c", words, exports[name].path, module]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True"]

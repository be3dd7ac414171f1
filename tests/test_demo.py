"""The demonstration's pictures and commands."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

import inshape
from inshape import demo
from inshape.cli.commands import command_for
from inshape.cli.console import Console
from inshape.cli.parser import parse
from inshape.demo import (
    SHAPE,
    Way,
    before_training,
    describe,
    run_demo,
    steps,
    write_digits,
)
from inshape.errors import OutputExists
from inshape.tasks.bootstrap import Score
from inshape.weights.demo import BACKBONE


def test_every_digit_is_written_once(tmp_path):
    digits = load_digits()
    # Every ninth of a class, its first one included.
    few = sum(-(-int((digits.target == label).sum()) // 9) for label in range(10))
    assert write_digits(tmp_path / "a") == (few, 1797 - few)
    counts = {
        part: len(list((tmp_path / "a" / "digits" / part).rglob("*.png")))
        for part in ("train", "test")
    }
    assert counts == {"train": few, "test": 1797 - few}
    for label in range(10):
        own = list((tmp_path / "a" / "digits" / "train" / str(label)).iterdir())
        assert 19 <= len(own) <= 21
    first = digits.images[0]
    with Image.open(tmp_path / "a" / "digits" / "train" / "0" / "0.png") as picture:
        assert digits.target[0] == 0
        np.testing.assert_allclose(np.asarray(picture), first * 255 / 16, atol=0.51)
    text = re.escape(f"{tmp_path / 'a'} exists already; expected a new folder")
    with pytest.raises(OutputExists, match=text):
        write_digits(tmp_path / "a")


SCORE = {"value": 0.9, "low": 0.85, "high": 0.94}
WAYS = [Way("native", "224x224x3", "7x7", 2.1, 52_000_000, Score(0.85, 0.8, 0.9))]


def leave_results(out):
    """What the commands leave behind, as far as the demonstration reads it."""
    for run, value in (("run", 0.9), ("run-rebuild", 0.7)):
        (out / run / "exports").mkdir(parents=True)
        (out / run / "metrics.json").write_text(json.dumps({"accuracy": {**SCORE, "value": value}}))
    row = {"path": "model-int8.tflite", "size_bytes": 2048, "arena_bytes": None}
    table = {"exports": [{**row, "tensor_bytes": 1024, "planned_ram_bytes": 4096}]}
    (out / "run" / "exports" / "exports.json").write_text(json.dumps(table))


@pytest.fixture
def steps_only(monkeypatch):
    """Leaves out what is computed here rather than by a command."""
    monkeypatch.setattr(demo, "before_training", lambda: WAYS)


def test_the_shown_commands_are_the_commands_that_run(tmp_path, monkeypatch, capsys, steps_only):
    ran = []

    def run(words, **options):
        if not ran:
            leave_results(tmp_path / "a")
        ran.append(tuple(words))
        assert options["stdout"] is None
        return subprocess.CompletedProcess(words, 0)

    monkeypatch.setattr(subprocess, "run", run)
    assert run_demo(tmp_path / "a", Console(False, sys.stdout)) == 0
    printed = capsys.readouterr().out
    shown = re.findall(r"^\$ (.*)$", printed, re.MULTILINE)
    expected = steps(tmp_path / "a")
    assert shown == [step.command for step in expected]
    before, *titles = re.findall(r"^# (.*)$", printed, re.MULTILINE)
    assert titles == [step.title for step in expected]
    assert before.endswith("on 199 pictures")
    assert len(re.findall(r"^\(\d+ s\)$", printed, re.MULTILINE)) == 1 + len(expected)
    assert ran == [(sys.executable, "-m", "inshape", *step.words) for step in expected]
    assert "  restride: 0.900  [0.850, 0.940]\n  rebuild: 0.700  [0.850, 0.940]\n" in printed
    assert "model-int8.tflite, flash 2.0 KiB, RAM 4.0 KiB\n" in printed
    assert max(map(len, describe(WAYS))) <= 80


def test_as_json_the_commands_print_elsewhere(tmp_path, monkeypatch, steps_only):
    def run(words, **options):
        if words[3] == "inspect":
            leave_results(tmp_path / "a")
        assert options["stdout"] is sys.stderr
        return subprocess.CompletedProcess(words, 0)

    monkeypatch.setattr(subprocess, "run", run)
    answer = io.StringIO()
    run_demo(tmp_path / "a", Console(True, answer))
    values = json.loads(answer.getvalue())
    assert values["run"] == str(tmp_path / "a/run")
    assert [way["name"] for way in values["before"]] == ["native"]
    assert values["trained"]["rebuild"]["value"] == 0.7
    assert values["file"]["ram_bytes"] == 4096


def test_the_program_takes_every_command(tmp_path):
    for step in steps(tmp_path):
        command, words = command_for(list(step.words))
        request = parse(command.kind, words, program="inshape", description="")
        if step.words[0] == "train":
            assert request.backbone == BACKBONE
            assert not request.recipe.flip


def test_what_is_recommended_is_what_is_trained(tmp_path):
    """Both runs by the same command, the first by the strategy that inspect chooses."""
    first, other = (step.words for step in steps(tmp_path) if step.words[0] == "train")
    changed = {(a, b) for a, b in zip(first, other, strict=True) if a != b}
    assert changed == {
        ("restride", "rebuild"),
        (str(tmp_path / "run"), str(tmp_path / "run-rebuild")),
    }
    assert inshape.plan(BACKBONE, SHAPE).strategy == "restride"


@pytest.mark.slow
def test_a_strategy_keeps_what_the_usual_way_loses(monkeypatch):
    """On a few of the pictures: the usual way is near chance, restride near the native network."""
    monkeypatch.setattr(demo, "_TESTED", 32)
    native, usual, restride = before_training(["restride"])
    assert (usual.name, restride.name) == ("Keras itself", "restride *")
    assert usual.accuracy.value < 0.4
    assert restride.accuracy.value > 0.6 < native.accuracy.value
    assert (usual.last_map, restride.last_map, native.last_map) == ("4x4", "7x7", "7x7")


def test_a_picture_that_is_classified_was_not_trained_on(tmp_path):
    write_digits(tmp_path / "a")
    (words,) = (step.words for step in steps(tmp_path / "a") if step.words[0] == "predict")
    assert Path(words[2]).is_file()


def test_the_report_is_a_step_of_its_own(tmp_path):
    assert steps(tmp_path)[-1].words == ("report", str(tmp_path / "run"))


def test_a_step_that_fails_ends_the_demonstration(tmp_path, monkeypatch, steps_only):
    failed = subprocess.CompletedProcess((), 2)
    monkeypatch.setattr(subprocess, "run", lambda words, **options: failed)
    assert run_demo(tmp_path / "a", Console(False, sys.stdout)) == 2

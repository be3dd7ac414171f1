"""The demonstration's pictures and commands."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from inshape.cli.commands import command_for
from inshape.cli.console import Console
from inshape.cli.parser import parse
from inshape.demo import SHAPE, Gain, gains, run_demo, steps, write_digits
from inshape.errors import OutputExists
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


def leave_results(out):
    """What the commands leave behind, as far as the demonstration reads it."""
    for start, run, value in (("demo", "run", 0.9), ("none", "run-none", 0.7)):
        (out / f"compare-{start}").mkdir()
        score = {"value": value, "low": value - 0.05, "high": value + 0.04}
        record = {"candidates": [{"accuracy": score, "pictures": 200}, {"accuracy": None}]}
        (out / f"compare-{start}" / "comparison.json").write_text(json.dumps(record))
        (out / run).mkdir()
        metrics = {"accuracy": {**score, "high": value + 0.2}, "pictures": 1597}
        (out / run / "metrics.json").write_text(json.dumps(metrics))


def test_the_shown_commands_are_the_commands_that_run(tmp_path, monkeypatch, capsys):
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
    assert re.findall(r"^# (.*)$", printed, re.MULTILINE) == [step.title for step in expected]
    assert len(re.findall(r"^\(\d+ s\)$", printed, re.MULTILINE)) == len(expected)
    assert ran == [(sys.executable, "-m", "inshape", *step.words) for step in expected]
    assert all(SHAPE in step.command and BACKBONE in step.command for step in expected[:5])
    assert "trained, on 1597 other pictures: 0.900 [0.850, 1.100] from the checkpoint" in printed


def test_as_json_the_commands_print_elsewhere(tmp_path, monkeypatch):
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
    assert [gain["pictures"] for gain in values["gains"]] == [200, 1597]


def test_the_program_takes_every_command(tmp_path):
    for step in steps(tmp_path):
        command, words = command_for(list(step.words))
        request = parse(command.kind, words, program="inshape", description="")
        if step.words[0] == "train":
            assert (request.recipe.batch_norm, request.recipe.layer_decay) == ("train", 1.0)
            assert not request.recipe.flip


def test_both_starts_are_trained_by_the_same_command(tmp_path):
    first, other = (step.words for step in steps(tmp_path) if step.words[0] == "train")
    changed = {(a, b) for a, b in zip(first, other, strict=True) if a != b}
    assert changed == {
        ("demo", "none"),
        (str(tmp_path / "run"), str(tmp_path / "run-none")),
    }


def test_a_gain_is_clear_where_the_intervals_do_not_meet(tmp_path):
    leave_results(tmp_path)
    probe, trained = gains(tmp_path)
    assert (probe.pictures, trained.pictures) == (200, 1597)
    assert probe.pretrained == (0.9, 0.85, pytest.approx(0.94))
    assert probe.is_clear
    assert not trained.is_clear
    assert str(trained).endswith("0.700 [0.650, 0.900] from random weights; the intervals meet")
    assert not Gain("", 1, (0.9, 0.8, 1.0), (0.7, 0.6, 0.8)).is_clear


def test_the_report_is_a_step_of_its_own(tmp_path):
    assert steps(tmp_path)[-1].words == ("report", str(tmp_path / "run"))


def test_a_step_that_fails_ends_the_demonstration(tmp_path, monkeypatch):
    failed = subprocess.CompletedProcess((), 2)
    monkeypatch.setattr(subprocess, "run", lambda words, **options: failed)
    assert run_demo(tmp_path / "a", Console(False, sys.stdout)) == 2

"""The demonstration's pictures and commands."""

from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pytest
import typer
from PIL import Image
from sklearn.datasets import load_digits

from inshape.cli.demo import demo
from inshape.demo import SHAPE, steps, write_digits
from inshape.errors import OutputExists


def test_every_digit_is_written_once(tmp_path):
    assert write_digits(tmp_path / "a") == 1797
    counts = {
        part: len(list((tmp_path / "a" / "digits" / part).rglob("*.png")))
        for part in ("train", "test")
    }
    assert counts == {"train": 1347, "test": 450}
    digits = load_digits()
    first = digits.images[0]
    with Image.open(tmp_path / "a" / "digits" / "test" / "0" / "0.png") as picture:
        assert digits.target[0] == 0
        np.testing.assert_allclose(np.asarray(picture), first * 255 / 16, atol=0.51)
    text = re.escape(f"{tmp_path / 'a'} exists already; expected a new folder")
    with pytest.raises(OutputExists, match=text):
        write_digits(tmp_path / "a")


def test_the_shown_commands_are_the_commands_that_run(tmp_path, monkeypatch, capsys):
    done = []

    def run(words, **options):
        done.append(tuple(words))
        return subprocess.CompletedProcess(words, 0)

    monkeypatch.setattr(subprocess, "run", run)
    demo(out=tmp_path / "a")
    shown = re.findall(r"^\$ (.*)$", capsys.readouterr().out, re.MULTILINE)
    asked = steps(tmp_path / "a")
    assert shown == [step.command for step in asked]
    assert done == [(sys.executable, "-m", "inshape", *step.words) for step in asked]
    assert all(SHAPE in step.command for step in asked[:3])


def test_a_step_that_fails_ends_the_demonstration(tmp_path, monkeypatch):
    failed = subprocess.CompletedProcess((), 2)
    monkeypatch.setattr(subprocess, "run", lambda words, **options: failed)
    with pytest.raises(typer.Exit) as stopped:
        demo(out=tmp_path / "a")
    assert stopped.value.exit_code == 2

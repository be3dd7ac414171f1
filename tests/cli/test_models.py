"""`inshape models`, `inshape doctor` and the shell's completion."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import keras
import pytest

from inshape.backbones import backbones, listed
from inshape.cli.app import run
from inshape.cli.completion import for_named_shell


def complete(*words: str) -> list[str]:
    """What bash is offered for the last word."""
    done = subprocess.run(
        [sys.executable, "-m", "inshape"],
        capture_output=True,
        text=True,
        check=True,
        env={
            **os.environ,
            "COMP_WORDS": " ".join(["inshape", *words]),
            "COMP_CWORD": str(len(words)),
            "_INSHAPE_COMPLETE": "complete_bash",
        },
    )
    return done.stdout.split()


def test_models_lists_every_backbone(call):
    answer = call("models")
    assert (answer.code, answer.err) == (0, "")
    assert answer.out == f"{listed()}\n"
    names = [line.split()[0] for line in answer.out.splitlines()[1 : 1 + len(backbones())]]
    assert names == [backbone.name for backbone in backbones()]


def test_models_as_json(call):
    assert call("models", "nasnet", "--json").json == listed("nasnet").as_dict()


def test_a_part_that_no_name_holds(call):
    answer = call("models", "EfficientNetB9")
    assert answer.code == 2
    assert answer.err.startswith(
        "inshape: error: unknown backbone 'EfficientNetB9'; did you mean EfficientNetB"
    )


def test_models_loads_no_framework():
    code = (
        "import sys; from inshape.cli.app import run; run(['models'])\n"
        "heavy = {'keras', 'tensorflow', 'jax', 'torch', 'sklearn'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_doctor_as_json(call):
    answer = call("doctor", "--json")
    assert answer.code == 0
    assert answer.json["versions"]["keras"] == keras.__version__
    assert answer.json["problems"] == []
    assert {"name", "purpose", "missing", "command"} == set(answer.json["extras"][0])
    assert "no problems found" in answer.err


def test_doctor_fails_where_something_is_missing(call, monkeypatch):
    monkeypatch.setattr("inshape.doctor._loaded", lambda: (None, (), ["no backend"]))
    answer = call("doctor")
    assert answer.code == 1
    assert answer.out.endswith("problem: no backend\n")


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["mod"], ["models"]),
        (["inspect", "NASNetM"], ["NASNetMobile"]),
        (
            ["train", "photos", "--backbone", "MobileNetV2-1"],
            ["MobileNetV2-1.3", "MobileNetV2-1.4"],
        ),
        (["inspect", "VGG16", "--strategy", "re"], ["resize", "rebuild", "restride"]),
        (["inspect", "VGG16", "--channels", "s"], ["sum"]),
        (["export", "run", "--to", "litert,o"], ["litert,onnx", "litert,openvino"]),
    ],
)
def test_the_shell_completes(words, offered):
    assert complete(*words) == offered


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_the_script_for_bash_is_shown_and_works(shell, tmp_path):
    answer = shell("--show-completion", "bash")
    assert (answer.code, answer.err) == (0, "")
    # As in a shell: the program is on the path, and the function fills COMPREPLY.
    program = tmp_path / "inshape"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m inshape "$@"\n')
    program.chmod(0o755)
    asked = 'COMP_WORDS=(inshape mod); COMP_CWORD=1; _inshape_completion inshape; echo "$COMPREPLY"'
    done = subprocess.run(
        ["bash", "-c", f"{answer.out}\n{asked}"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
    )
    assert done.stdout.strip() == "models"


def test_completion_is_installed_for_the_shell_that_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert run(["--install-completion", "bash"]) == 0
    script = tmp_path / ".bash_completions" / "inshape.sh"
    assert "_INSHAPE_COMPLETE=complete_bash" in script.read_text()
    assert str(script) in (tmp_path / ".bashrc").read_text()
    assert str(script) in capsys.readouterr().out


@pytest.mark.parametrize(
    "words", [[], ["models"], ["--show-completion"], ["--show-completion", "csh"], ["a", "bash"]]
)
def test_other_words_are_left_to_the_commands(words):
    assert not for_named_shell(words)

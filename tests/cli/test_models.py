"""`inshape models`, `inshape doctor` and the shell's completion."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import keras
import pytest

from inshape.backbones import backbones, list_backbones


def test_models_lists_every_backbone(call):
    answer = call("models")
    assert (answer.code, answer.err) == (0, "")
    assert answer.out == f"{list_backbones()}\n"
    names = [line.split()[0] for line in answer.out.splitlines()[1 : 1 + len(backbones())]]
    assert names == [backbone.name for backbone in backbones()]


def test_models_as_json(call):
    assert call("models", "nasnet", "--json").json == list_backbones("nasnet").as_dict()


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
    monkeypatch.setattr("inshape.doctor._load_backend", lambda: (None, (), ["no backend"]))
    answer = call("doctor")
    assert answer.code == 1
    assert answer.out.endswith("problem: no backend\n")


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["mod"], ["models"]),
        (["no such command", "a"], []),
        (["inspect", "NASNetM"], ["NASNetMobile"]),
        (["inspect", "VGG16", "NASNetM"], []),
        (["train", "a", "--backbone", "MobileNetV2-1."], ["MobileNetV2-1.3", "MobileNetV2-1.4"]),
        (["compare", "photos", "--backbone", "VGG16,VGG1"], ["VGG16,VGG16", "VGG16,VGG19"]),
        (["compare", "photos", "--strategies", "resize,f"], ["resize,flexible"]),
        (["inspect", "VGG16", "--strategy", "re"], ["resize", "rebuild", "restride"]),
        (["inspect", "VGG16", "--channels", "s"], ["sum"]),
        (["inspect", "VGG16", "--channels", "k"], []),
        (["export", "run", "--to", "litert,o"], ["litert,onnx", "litert,openvino"]),
        (["train", "--res"], ["--resume"]),
        (
            ["train", "--resume", "a", "--"],
            ["--resume", "--source", "--unlabelled", "--prolong", "--ray", "--json", "--wide",
             "--debug", "--help"],
        ),
        (["train", "--distil-"], ["--distil-share", "--distil-temperature", "--distil-maps"]),
        (["doctor", "--"], ["--json", "--wide", "--debug", "--help"]),
    ],
)  # fmt: skip
def test_the_shell_completes(call, words, offered):
    answer = call("--complete", *words)
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.split() == offered


def test_completion_is_quick():
    """Every press of Tab starts the program: nothing heavy is loaded, not even the parser."""
    code = (
        "import sys; from inshape.cli.app import run; run(['--complete', 'train', '--epo'])\n"
        "heavy = {'keras', 'tensorflow', 'jax', 'torch', 'sklearn', 'scipy', 'tyro'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "--epochs\n"), done.stderr


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_the_script_for_bash_is_shown_and_works(call, tmp_path):
    answer = call("--show-completion", "bash")
    assert (answer.code, answer.err) == (0, "")
    # As in a shell: the program is on the path, and the function fills COMPREPLY.
    program = tmp_path / "inshape"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m inshape "$@"\n')
    program.chmod(0o755)
    words = "COMP_WORDS=(inshape export run --to litert,o); COMP_CWORD=4; _inshape inshape"
    done = subprocess.run(
        ["bash", "-c", f'{answer.out}\n{words}; printf "%s\\n" "${{COMPREPLY[@]}}"'],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
    )
    assert done.stdout.split() == ["litert,onnx", "litert,openvino"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "powershell"])
def test_completion_is_installed_for_the_shell_that_is_named(call, shell, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    shown = call("--show-completion", shell)
    answers = [call("--install-completion", shell) for _ in range(2)]
    assert [answer.code for answer in answers] == [0, 0]
    (script,) = (path for path in tmp_path.rglob("*inshape*") if path.is_file())
    assert script.read_text() == shown.out[:-1]
    assert f"{shell} completion installed in {script}" in answers[0].out
    # What stands in a shell's own file stays, and is added to once.
    others = [path for path in tmp_path.rglob("*") if path.is_file() and path != script]
    assert len(others) == (0 if shell == "fish" else 1)
    for path in others:
        assert path.read_text().count(str(script)) == 1


def test_the_shell_is_the_one_that_runs(call, monkeypatch):
    monkeypatch.setenv("SHELL", "/usr/bin/fish")
    assert call("--show-completion").out.startswith("complete -c inshape")
    assert call("--show-completion", "pwsh").out.startswith("Register-ArgumentCompleter")
    monkeypatch.delenv("SHELL")
    answer = call("--show-completion")
    assert answer.code == 2
    assert answer.err.startswith("inshape: error: no shell named; expected one of bash, zsh, fish")

"""Exit codes, and one line per error."""

from __future__ import annotations

import subprocess
import sys

import pytest

import inshape
from inshape.cli.commands import COMMANDS


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_help_lists_the_commands(call, words):
    answer = call(*words)
    assert (answer.code, answer.err) == (0, "")
    for command in COMMANDS:
        assert f"\n  {command} " in answer.out


def test_the_program_is_a_module(shell):
    answer = shell("--version")
    assert (answer.code, answer.out, answer.err) == (0, f"{inshape.__version__}\n", "")
    answer = shell("inspect", "MobileNetV3Small", "--xyzzy")
    line = "inshape: error: no such option: --xyzzy; see inshape inspect --help\n"
    assert (answer.code, answer.out, answer.err) == (2, "", line)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["inspct"], "unknown command 'inspct'; did you mean inspect? choose from: inspect, adapt"),
        (["-x"], "unknown command '-x'; choose from: inspect, adapt, "),
        (["inspect"], "missing: BACKBONE, HxWxC; see inshape inspect --help\n"),
        (["inspect", "VGG16"], "missing: HxWxC; see inshape inspect --help\n"),
        (["train"], "missing: PICTURES, --input, --out; see inshape train --help\n"),
        (["train", "p", "--input", "8x8x1"], "missing: --out; see inshape train --help\n"),
        (["predict", "runs/a"], "missing: PICTURES...; see inshape predict --help\n"),
        (["inspect", "--xyzzy"], "no such option: --xyzzy; see inshape inspect --help\n"),
        (
            ["train", "p", "--epoch", "3"],
            "no such option: --epoch; did you mean --epochs?; see inshape train --help\n",
        ),
        (
            ["inspect", "VGG16", "8x8x1", "--no-json"],
            "no such option: --no-json; did you mean --json?; see inshape inspect --help\n",
        ),
        (
            ["inspect", "VGG16", "8x8x1", "--factor"],
            "--factor has no value; expected --factor N; see inshape inspect --help\n",
        ),
        (
            ["inspect", "VGG16", "8x8x1", "--factor", "--json"],
            "--factor has no value; expected --factor N; see inshape inspect --help\n",
        ),
        (
            ["inspect", "VGG16", "8x8x1", "--debug=yes"],
            "--debug takes no value; expected --debug alone; see inshape inspect --help\n",
        ),
        (
            ["inspect", "VGG16", "8x8x1", "9x9x1", "more"],
            "'9x9x1' is one value too many; see inshape inspect --help\n",
        ),
        (["doctor", "me"], "'me' is one value too many; see inshape doctor --help\n"),
        (["inspect", "VGG16", "8x8x1", "-x"], "'-x' is one value too many; see inshape inspect "),
        (
            ["inspect", "VGG16", "96x96x1", "--input", "96x96x3"],
            "'96x96x1' is one value too many; see inshape inspect --help\n",
        ),
        (
            ["inspect", "MobileNetV3Small", "--input", "96x96"],
            "input '96x96' is not a shape; write HxWxC, such as 96x128x1 "
            "(height x width x channels; ? for an unknown height or width)\n",
        ),
        (
            ["train", "--resume", "runs/a", "--input", "96x96x3"],
            "--resume goes on with the run as it was begun; leave out --input\n",
        ),
        (
            ["train", "p", "--resume=runs/a", "--epochs", "20", "--no-flip", "--batch_size=4"],
            "--resume goes on with the run as it was begun; leave out --epochs, --flip, "
            "--batch-size\n",
        ),
        (["train", "--resume"], "--resume has no value; expected --resume RUN; see inshape train"),
        (
            ["train", "--resume", "a", "--xyzzy"],
            "no such option: --xyzzy; see inshape train --help\n",
        ),
        (["--show-completion", "csh"], "unknown shell 'csh'; did you mean zsh? choose from: bash"),
    ],
)
def test_a_bad_request_is_one_line_and_exit_code_2(call, words, line):
    answer = call(*words)
    assert answer.code == 2
    assert answer.out == ""
    assert answer.err.startswith(f"inshape: error: {line}")
    assert answer.err.count("\n") == 1


def test_what_is_wrong_is_one_line_however_narrow_the_terminal(call, monkeypatch):
    monkeypatch.setenv("COLUMNS", "12")
    answer = call("train", "p", "--distil-temperatur", "3")
    assert "no such option: --distil-temperatur; did you mean --distil-temperature?" in answer.err


def test_a_traceback_appears_only_with_debug(call):
    words = ["inspect", "MobileNetV3Small", "--input", "0x96x3"]
    plain, debug = call(*words), call(*words, "--debug")
    assert plain.err.count("\n") == 1
    assert "input 0x96x3: height is 0, expected at least 1" in plain.err
    assert "Traceback" in debug.err
    assert debug.err.splitlines()[-1] == plain.err.strip()
    assert plain.code == debug.code == 2


def test_an_option_is_read_in_its_other_spellings(call):
    whole = call("inspect", "MobileNetV3Small", "97x64x1", "--output-stride", 16, "--json")
    other = call("inspect", "--output_stride=16", "--json", "--", "MobileNetV3Small", "97x64x1")
    for answer in (whole, other):
        assert answer.code == 0, answer.err
        assert answer.json["input_shape"] == "97x64x1"
        assert answer.json["strategy"] == "restride"


def test_a_reader_that_has_seen_enough_is_no_error():
    code = "import sys; from inshape.cli.app import run; sys.exit(run(['models']))"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.close()
        err = process.stderr.read()
    assert err == b""

"""Exit codes, and one line per error."""

import pytest

import inshape


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_help_lists_the_commands(shell, words):
    answer = shell(*words)
    assert answer.code == 0
    assert answer.err == ""
    for command in ("inspect", "adapt", "train", "evaluate", "predict"):
        assert f"\n  {command} " in answer.out


@pytest.mark.parametrize("command", ["inspect", "adapt", "train", "evaluate", "predict"])
def test_every_command_takes_json_and_debug(call, command):
    answer = call(command, "--help")
    assert answer.code == 0
    assert "--json" in answer.out
    assert "--debug" in answer.out


def test_the_version(shell):
    answer = shell("--version")
    assert (answer.code, answer.out) == (0, f"{inshape.__version__}\n")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["inspct"], "No such command 'inspct'. Did you mean 'inspect'?; see inshape --help"),
        (["inspect"], "Missing argument 'BACKBONE'; see inshape inspect --help"),
        (["inspect", "--bogus"], "No such option: --bogus; see inshape inspect --help"),
        (
            ["inspect", "MobileNetV3Small", "--input", "96x96"],
            "input '96x96' is not a shape; write HxWxC, such as 96x128x1 "
            "(height x width x channels; ? for an unknown height or width)",
        ),
    ],
)
def test_a_bad_request_is_one_line_and_exit_code_2(shell, words, line):
    answer = shell(*words)
    assert answer.code == 2
    assert answer.out == ""
    assert answer.err == f"inshape: error: {line}\n"


def test_a_traceback_appears_only_with_debug(shell):
    words = ["inspect", "MobileNetV3Small", "--input", "0x96x3"]
    plain, debug = shell(*words), shell(*words, "--debug")
    assert plain.err.count("\n") == 1
    assert "input 0x96x3: height is 0, expected at least 1" in plain.err
    assert "Traceback" in debug.err
    assert debug.err.splitlines()[-1] == plain.err.strip()
    assert plain.code == debug.code == 2

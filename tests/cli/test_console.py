"""Text for people, JSON for machines, errors as lines."""

import io
import json
import re
import sys
import warnings

import pytest

from inshape.cli.console import Ended, open_console
from inshape.comparison.result import Candidate, Comparison
from inshape.errors import DataError, RunError


def test_text_goes_to_standard_output(capsys):
    with open_console(as_json=False, debug=False) as out:
        out.answer("two words", {"words": 2})
    assert capsys.readouterr() == ("two words\n", "")


class Terminal(io.StringIO):
    """Standard output that says it is a terminal."""

    def isatty(self):
        return True


def test_sentences_are_folded_in_a_terminal_and_whole_in_a_pipe(monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    dropped = Candidate("net", "8x8x1", "rebuild", macs=1, dropped=f"{'much ' * 20}over")
    comparison = Comparison("photos", 9, None, (dropped,))
    for out, is_folded in ((Terminal(), True), (io.StringIO(), False)):
        monkeypatch.setattr(sys, "stdout", out)
        with open_console(as_json=False, debug=False) as console:
            console.answer(comparison, {}, then=[f"inshape train {'photos' * 20}"])
        command = f"  inshape train {'photos' * 20}"  # which can be copied
        lines = out.getvalue().splitlines()
        assert (command in lines) == is_folded
        assert (max(len(line) for line in lines if line != command) <= 60) == is_folded
        assert "much over" in " ".join(out.getvalue().split())


def test_json_stands_alone_on_standard_output(capsys):
    with open_console(as_json=True, debug=False) as out:
        print("progress")
        out.answer("two words", {"words": 2, "name": "Jacke für Übergang"})
    printed = capsys.readouterr()
    assert json.loads(printed.out) == {"words": 2, "name": "Jacke für Übergang"}
    assert printed.out.count("\n") == 1
    assert printed.err == "progress\ntwo words\n"


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (DataError("no pictures in x"), 2, "error: no pictures in x"),
        (RunError("the disk is full"), 1, "error: the disk is full"),
        (DataError("two\nlines"), 2, r"error: two\nlines"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (ZeroDivisionError("by 0"), 1, "error: unexpected ZeroDivisionError: by 0; --debug shows"),
    ],
)
def test_an_error_is_a_line_and_an_exit_code(capsys, error, code, line):
    with pytest.raises(Ended) as ended, open_console(as_json=False, debug=False):
        raise error
    assert ended.value.code == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert re.fullmatch(rf"inshape: {re.escape(line)}.*\n", printed.err)


def test_debug_shows_the_traceback(capsys):
    with pytest.raises(Ended), open_console(as_json=False, debug=True):
        raise DataError("no pictures in x")
    shown = capsys.readouterr().err
    assert "Traceback (most recent call last)" in shown
    assert shown.endswith("inshape: error: no pictures in x\n")


def test_a_warning_is_a_line(capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        with open_console(as_json=False, debug=False):
            warnings.warn("values in [0, 1]\nlook scaled", stacklevel=1)
    assert capsys.readouterr().err == "inshape: warning: values in [0, 1] look scaled\n"


def test_standard_output_is_as_before_afterwards():
    before, shown = sys.stdout, warnings.showwarning
    with pytest.raises(Ended), open_console(as_json=True, debug=False):
        raise DataError("no pictures in x")
    assert sys.stdout is before
    assert warnings.showwarning is shown

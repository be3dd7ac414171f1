"""What the user is shown of long work: lines and bars on standard error, or nothing."""

from __future__ import annotations

from io import StringIO

from rich.console import Console

from inshape.progress import Progress

LINE = "stopped; go on with: inshape train --resume /a/folder whose [bold]name[/bold]/is as long as"


def on_terminal():
    return Progress(Console(file=StringIO(), force_terminal=True, width=60))


def test_a_line_is_neither_wrapped_nor_read_as_markup(capsys):
    """A command in it can be copied."""
    Progress.to_stderr(True).say(LINE)
    captured = capsys.readouterr()
    assert captured.err == f"{LINE}\n"
    assert captured.out == ""


def test_who_wants_no_progress_sees_none(capsys):
    quiet = Progress.to_stderr(False)
    quiet.say(LINE)
    quiet.show(LINE)
    with quiet.bar("pictures") as advance:
        advance(1, 2)
    assert capsys.readouterr() == ("", "")


def test_a_bar_is_for_terminals(capsys):
    with Progress.to_stderr(True).bar("pictures") as advance:
        advance(1, 2)
    assert capsys.readouterr() == ("", "")
    for in_bytes, amount in ((False, "1/2"), (True, "1/2 bytes")):
        shown = on_terminal()
        with shown.bar("pictures", in_bytes=in_bytes) as advance:
            advance(1, 2)
        text = shown.console.file.getvalue()
        assert "pictures" in text
        assert amount in text

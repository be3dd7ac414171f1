"""What the user is shown of long work: lines and bars on standard error, or nothing."""

from __future__ import annotations

from io import StringIO

from rich.console import Console

from inshape.progress import Progress


class Kernel:
    """A notebook's shell, as IPython hands it out, and what is displayed below the cell."""

    kernel = object()

    def __init__(self, monkeypatch):
        self.shown: list[str] = []
        monkeypatch.setattr("IPython.get_ipython", lambda: self)
        monkeypatch.setattr("IPython.display.display", self.display)

    def display(self, value, display_id):
        self.shown.append(value.data)
        return self

    def update(self, value):
        self.shown.append(value.data)


def test_progress_shows_by_itself_in_a_notebook_and_a_terminal(monkeypatch, capsys):
    quiet = Progress.to_stderr(None)  # neither
    assert quiet == Progress()
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert Progress.to_stderr(None).console is not None
    assert Progress.to_stderr(False) == Progress()
    notebook = Kernel(monkeypatch)
    progress = Progress.to_stderr(None)
    progress.say(LINE)
    assert capsys.readouterr().out == f"{LINE}\n"
    with progress.bar("<pictures>") as advance:
        for done in range(1, 101):
            advance(done, 100)
    first, *between, end = notebook.shown
    assert (first, end) == ("&lt;pictures&gt;", "")
    assert between[-1].endswith('<progress value="100" max="100"></progress> 100/100')
    assert len(between) < 20  # not every change is sent


def test_a_log_has_a_line_now_and_then(monkeypatch, capsys):
    seconds = iter([0, 4, 9.9, 10, 12, 21, 1000, 1050, 1120])
    monkeypatch.setattr("inshape.progress.time.monotonic", lambda: next(seconds))
    with Progress.to_stderr(True).bar("decoding") as advance:
        for done in range(1, 9):
            advance(done, 8)
    said = [line.removeprefix("decoding: ") for line in capsys.readouterr().err.splitlines()]
    assert said == ["3 of 8", "5 of 8", "6 of 8", "8 of 8"]  # fewer and fewer


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

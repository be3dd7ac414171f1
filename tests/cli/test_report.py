"""`inshape report`."""

from __future__ import annotations

import webbrowser

import pytest

from inshape.runs import Run


@pytest.fixture
def run(tmp_path):
    return Run.create(tmp_path / "run", {})


def test_a_page_is_written_and_opened(call, run, monkeypatch):
    opened = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    path = run.folder / "report.html"
    answer = call("report", run.folder)
    assert (answer.code, answer.out.strip(), opened) == (0, str(path), [])
    assert path.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert call("report", run.folder, "--json").json == {"report": str(path)}
    assert call("report", run.folder, "--open").code == 0
    assert opened == [path.as_uri()]


def test_what_is_no_run_is_one_line(call, tmp_path):
    answer = call("report", tmp_path)
    assert answer.code == 2
    assert answer.err.startswith(f"inshape: error: {tmp_path} holds neither run.json nor")
    assert answer.err.count("\n") == 1

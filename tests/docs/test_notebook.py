"""The notebook runs from top to bottom and prints what is saved in it."""

from __future__ import annotations

import json
from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = sorted((Path(__file__).resolve().parents[2] / "docs").rglob("*.ipynb"))

# Plain Python, as the cells are: a kernel of Jupyter's would take its seconds to start.
PROGRAM = """
import contextlib, io, json, sys
names, printed = {"__name__": "__main__"}, []
for cell in json.loads(sys.argv[1]):
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(cell, "<cell>", "exec"), names)
    printed.append(out.getvalue())
print(json.dumps(printed))
"""


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_notebook_prints_what_is_saved(path, tmp_path, run_program):
    cells = [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
    sources = json.dumps([cell.source for cell in cells])
    ended = run_program(PROGRAM, sources, folder=tmp_path)
    assert ended.returncode == 0, ended.stderr
    saved = [
        "".join(out.text for out in cell.outputs if out.get("name") == "stdout") for cell in cells
    ]
    assert json.loads(ended.stdout.splitlines()[-1]) == saved
    assert any(saved)


def test_there_is_a_notebook():
    assert [path.name for path in NOTEBOOKS] == ["photos_300.ipynb"]

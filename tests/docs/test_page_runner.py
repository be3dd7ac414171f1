"""The runner of the pages' code sees what fails and what differs."""

from __future__ import annotations

import doctest
import importlib
import re

import pytest
from tools.pages import PageError, blocks, run

PAGE = """
# Sum

```python
a = 1
print(a + 1)
```

```text
{shown}
```

```sh
{command}
```
"""


@pytest.fixture(name="page")
def _page(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(shown="2", command="inshape --version"):
        path = tmp_path / "page.md"
        path.write_text(PAGE.format(shown=shown, command=command), encoding="utf-8")
        return path

    return write


def test_a_page_that_is_right(page):
    run(page())


def test_dots_stand_for_anything(page):
    run(page(shown="..."))


def test_another_output_is_an_error_that_names_the_line(page):
    with pytest.raises(PageError, match=re.escape("page.md:5: Expected:\n    3\nGot:\n    2\n")):
        run(page(shown="3"))


def test_a_command_that_fails_is_an_error(page):
    with pytest.raises(PageError, match=re.escape("inshape inspect VGG61 96x96x3: exit code 2")):
        run(page(command="inshape inspect VGG61 96x96x3"))
    with pytest.raises(PageError, match=re.escape("ls nowhere: exit code 2")):
        run(page(command="ls nowhere"))


def test_names_live_on_from_block_to_block(tmp_path):
    path = tmp_path / "page.md"
    path.write_text("```python\nb = 3\n```\n\n```python\nprint(b)\n```\n\n```text\n3\n```\n")
    run(path)


def test_only_the_kinds_asked_for_are_run(page):
    run(page(command="inshape nothing"), kinds=["python"])


def test_an_update_writes_what_was_printed(page):
    path = page(shown="3")
    run(path, update=True)
    assert path.read_text(encoding="utf-8") == PAGE.format(shown="2", command="inshape --version")


def test_an_update_leaves_dots_alone(page):
    path = page(shown="3 ...")
    with pytest.raises(PageError, match=re.escape("Expected:\n    3 ...\nGot:\n    2\n")):
        run(path, update=True)
    assert "3 ..." in path.read_text(encoding="utf-8")


def test_the_runner_leaves_no_block_out():
    text = "```python title='a'\nx\n```\n  \n```text\ny\n```\n```sh\nz\n```\n"
    assert [(b.kind, b.code) for b in blocks(text)] == [
        ("python", "x\n"),
        ("text", "y\n"),
        ("sh", "z\n"),
    ]


@pytest.mark.parametrize("name", ["pages", "svg", "docs_hooks", "griffe_docstrings"])
def test_examples_in_the_tools_hold(name):
    result = doctest.testmod(importlib.import_module(f"tools.{name}"))
    assert result.attempted > 0
    assert result.failed == 0

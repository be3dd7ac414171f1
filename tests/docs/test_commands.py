"""Every `inshape ...` in README and documentation is one that the command line takes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer
from tools.pages import blocks, commands

from inshape.cli.app import app

REPO = Path(__file__).resolve().parents[2]
PAGES = [REPO / "README.md", *sorted((REPO / "docs").rglob("*.md"))]
GROUP = typer.main.get_command(app)


def lines_of(text: str) -> list[str]:
    """Whole commands: lines of shell blocks and of indented ones, continued lines joined."""
    code = "".join(block.code for block in blocks(text) if block.kind == "sh")
    code += "".join(re.findall(r"^ {4}(inshape .*\n)", text, re.MULTILINE))
    return [line for line in commands(code) if line.startswith("inshape ")]


def spans_of(text: str) -> list[str]:
    """Commands in running text, which may leave arguments out."""
    return re.findall(r"`(inshape [^`\n]+)`", text)


def check(line: str, *, whole: bool) -> None:
    """Parse a command as the program would, without running it."""
    words = shlex.split(line, comments=True)[1:]
    if words[0].startswith("-"):
        assert words[0] in ("--version", "--help", "--install-completion", "--show-completion")
        return
    assert words[0] in GROUP.commands, f"no such command: {line}"
    command = GROUP.commands[words[0]]
    if whole:
        command.make_context(words[0], words[1:])
        return
    known = {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
    for word in words[1:]:
        assert not word.startswith("-") or word in known, f"no such option {word}: {line}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(REPO).as_posix())
def test_commands_are_spelt_as_the_program_takes_them(page):
    text = page.read_text(encoding="utf-8")
    for line in lines_of(text):
        check(line, whole=True)
    for line in spans_of(text):
        check(line, whole=False)


def test_the_readme_holds_the_commands_of_the_main_job():
    text = (REPO / "README.md").read_text(encoding="utf-8")
    names = {shlex.split(line)[1] for line in lines_of(text)}
    assert {"inspect", "compare", "train", "evaluate", "export", "predict"} <= names
    assert len(spans_of(text)) > 3


@pytest.mark.parametrize(
    "line", ["inshape trian a", "inshape train a --input 96x96x3 --oot b", "inshape inspect"]
)
def test_a_misspelt_command_is_seen(line):
    (found,) = lines_of(f"Say:\n\n    {line}\n")
    with pytest.raises((AssertionError, typer.TyperException)):
        check(found, whole=True)


def test_a_misspelt_option_in_running_text_is_seen():
    (found,) = spans_of("Say `inshape train --unfreze none` then.")
    with pytest.raises(AssertionError, match="--unfreze"):
        check(found, whole=False)

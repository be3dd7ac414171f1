"""Every `inshape ...` in README and documentation is one that the command line takes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from tools.pages import blocks, commands

from inshape.cli.commands import COMMANDS, command_for
from inshape.cli.parser import parse
from inshape.errors import RequestError
from inshape.requests import options_of

REPO = Path(__file__).resolve().parents[2]
PAGES = [REPO / "README.md", *sorted((REPO / "docs").rglob("*.md"))]
PROGRAM = ("--version", "--help", "--install-completion", "--show-completion")


def lines_of(text: str) -> list[str]:
    """Whole commands: lines of shell blocks and of indented ones, continued lines joined."""
    code = "".join(block.code for block in blocks(text) if block.kind == "sh")
    code += "".join(re.findall(r"^ {4}(inshape (?:.*\\\n)*.*\n)", text, re.MULTILINE))
    return [line for line in commands(code) if line.startswith("inshape ")]


def spans_of(text: str) -> list[str]:
    """Commands in running text, which may leave arguments out."""
    return re.findall(r"`(inshape [^`\n]+)`", text)


def check(line: str, *, whole: bool) -> None:
    """Read a command as the program would, without running it."""
    words = shlex.split(line, comments=True)[1:]
    if words[0].startswith("-"):
        assert words[0] in PROGRAM
        return
    assert words[0] in COMMANDS, f"no such command: {line}"
    command, rest = command_for(words)
    if whole:
        parse(command.kind, rest, program="inshape", description="")
        return
    known = {"--json", "--debug", "--help"}
    for option in options_of(command.kind):
        known |= {f"--{option.flag}"} | (
            {f"--no-{option.flag}"} if option.default is True else set()
        )
    for word in rest:
        assert not word.startswith("-") or word in known, f"no such option {word}: {line}"


def problems_of(page: Path) -> list[str]:
    text = page.read_text(encoding="utf-8")
    problems = []
    for lines, whole in ((lines_of(text), True), (spans_of(text), False)):
        for line in lines:
            try:
                check(line, whole=whole)
            except (AssertionError, RequestError) as error:
                problems.append(f"{page.relative_to(REPO)}: {line}: {error}")
    return problems


def test_commands_are_spelt_as_the_program_takes_them(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # where no output is there already
    assert [problem for page in PAGES for problem in problems_of(page)] == []


def test_the_readme_holds_the_commands_of_the_main_job():
    text = (REPO / "README.md").read_text(encoding="utf-8")
    names = {shlex.split(line)[1] for line in lines_of(text)}
    assert {"inspect", "compare", "train", "evaluate", "export", "predict"} <= names
    assert len(spans_of(text)) > 2


@pytest.mark.parametrize(
    "line", ["inshape trian a", "inshape train a --input 96x96x3 --oot b", "inshape inspect"]
)
def test_a_misspelt_command_is_seen(line):
    (command,) = lines_of(f"Say:\n\n    {line}\n")
    with pytest.raises((AssertionError, RequestError)):
        check(command, whole=True)


def test_a_misspelt_option_in_running_text_is_seen():
    (command,) = spans_of("Say `inshape train --unfreze none` then.")
    with pytest.raises(AssertionError, match="--unfreze"):
        check(command, whole=False)

"""Run the code of a page of documentation in order, and compare what it prints with the page.

    python -m tools.pages docs/tutorials/grey_to_int8.md
    python -m tools.pages --update docs/faq.md

Fenced blocks marked ``python`` share one namespace; those marked ``sh`` are commands, of which
``inshape ...`` runs in the same process, so that TensorFlow is loaded once. A block marked ``text``
right behind one of these is what that block prints, with ``...`` for what changes from run to run.
Everything happens in an empty temporary folder. ``--update`` writes what was printed into the page,
where the page shows something else; what has a ``...`` is left to be mended by hand.
"""

from __future__ import annotations

import argparse
import contextlib
import doctest
import io
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_FENCE = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_CHECKER = doctest.OutputChecker()
_FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
RUNNABLE = ("python", "sh")


class PageError(Exception):
    """A block that failed, or printed something else than the page shows."""


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block.

    Attributes:
        kind: the word behind the fence.
        code: what stands between the fences.
        line: of the file, on which the code begins.
        span: where the code begins and ends in the text.
    """

    kind: str
    code: str
    line: int
    span: tuple[int, int]


def blocks(text: str) -> tuple[Block, ...]:
    r"""The fenced blocks of a page.

    Example:
        >>> [(b.kind, b.code, b.line) for b in blocks("Say:\n\n```sh\ninshape demo\n```\n")]
        [('sh', 'inshape demo\n', 4)]
    """
    return tuple(
        Block(fence[1], fence[2], text[: fence.start(2)].count("\n") + 1, fence.span(2))
        for fence in _FENCE.finditer(text)
    )


def steps(text: str, kinds: Sequence[str] = RUNNABLE) -> Iterator[tuple[Block, Block | None]]:
    """The blocks to run, each with the one that shows its output."""
    fenced = blocks(text)
    for block, after in zip(fenced, (*fenced[1:], None), strict=True):
        if block.kind in kinds:
            yield block, after if after is not None and after.kind == "text" else None


def run(page: Path, *, kinds: Sequence[str] = RUNNABLE, update: bool = False) -> None:
    """Run a page in the current folder.

    Args:
        page: a Markdown file.
        kinds: the blocks to run.
        update: write what was printed into the page instead of comparing.

    Raises:
        PageError: if a block fails or prints something else than the page shows.
    """
    text = page.read_text(encoding="utf-8")
    names: dict[str, Any] = {"__name__": "__main__"}
    printed: list[tuple[Block, str]] = []
    for block, shown in steps(text, kinds):
        where = f"{page}:{block.line}"
        print(f"--- {where}\n{block.code}", file=sys.stderr, flush=True)
        got = _python(block.code, where, names) if block.kind == "python" else _shell(block.code)
        print(got, file=sys.stderr, flush=True)
        if shown is None or _CHECKER.check_output(shown.code, got, _FLAGS):
            continue
        if not update or "..." in shown.code:
            example = doctest.Example(block.code, shown.code)
            raise PageError(f"{where}: {_CHECKER.output_difference(example, got, _FLAGS)}")
        printed.append((shown, got))
    for shown, got in reversed(printed):
        text = text[: shown.span[0]] + got.rstrip("\n") + "\n" + text[shown.span[1] :]
    if printed:
        page.write_text(text, encoding="utf-8")


def commands(code: str) -> list[str]:
    r"""The commands of a shell block, continued lines joined and comments left out.

    Example:
        >>> commands("inshape train a \\\n  --out b  # slow\n\n# then\nls")
        ['inshape train a --out b', 'ls']
    """
    lines = code.replace("\\\n", " ").splitlines()
    return [shlex.join(words) for line in lines if (words := shlex.split(line, comments=True))]


def _python(code: str, where: str, names: dict[str, Any]) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(code, where, "exec"), names)
    return out.getvalue()


def _shell(code: str) -> str:
    from inshape.cli.app import run as inshape

    printed: list[str] = []
    for command in commands(code):
        words = shlex.split(command)
        if words[0] == "inshape":
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                exit_code = inshape(words[1:])
            printed.append(out.getvalue())
        else:
            path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
            process = subprocess.run(
                words, capture_output=True, text=True, check=False, env={**os.environ, "PATH": path}
            )
            exit_code = process.returncode
            printed.append(process.stdout + process.stderr)
        if exit_code:
            raise PageError(f"{command}: exit code {exit_code}\n{''.join(printed)}")
    return "".join(printed)


def main() -> int:
    """Run the pages that the program was called with."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("pages", nargs="+", type=Path)
    parser.add_argument("--update", action="store_true", help="write what was printed")
    parser.add_argument("--only", default=",".join(RUNNABLE), help="kinds of blocks, with commas")
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    for page in [page.resolve() for page in options.pages]:
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            try:
                run(page, kinds=options.only.split(","), update=options.update)
            except PageError as error:
                print(error, file=sys.stderr)
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

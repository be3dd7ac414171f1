"""What MkDocs reads besides the pages in ``docs/``.

- Measured tables: every page that lies in ``docs/`` itself and is not named in ``mkdocs.yml`` is
  added under *Measurements*, so that a benchmark only has to write its file.
- Notebooks: turned into pages with the outputs that are saved in them; nothing is executed.
- The command line's reference: what every command answers to ``--help``.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any
from unittest import mock

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

MEASUREMENTS = "Measurements"
COMMANDS = "reference/commands.md"
_HELP_WIDTH = 80


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add the measured tables to the navigation, and let it point to pages of notebooks."""
    nav: list[Any] = list(config.nav or ())
    named = set(paths(nav))
    tables = [
        path.name for path in sorted(Path(config.docs_dir).glob("*.md")) if path.name not in named
    ]
    config.nav = [
        {MEASUREMENTS: tables} if isinstance(part, dict) and MEASUREMENTS in part else pages(part)
        for part in nav
    ]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are written from something else."""
    for file in list(files):
        if file.src_uri.endswith(".ipynb"):
            files.remove(file)
            page = file.src_uri.removesuffix(".ipynb") + ".md"
            text, outputs = from_notebook(Path(config.docs_dir, file.src_uri))
            files.append(File.generated(config, page, content=text))
            folder = Path(page).parent
            for name, content in outputs.items():
                path = (folder / name).as_posix()
                files.append(File.generated(config, path, content=content))
    files.append(File.generated(config, COMMANDS, content=commands_page()))
    return files


def paths(nav: Any) -> Iterator[str]:
    """Every path in a navigation.

    Example:
        >>> list(paths([{"Home": "index.md"}, {"More": ["a.md", {"B": "b.md"}]}]))
        ['index.md', 'a.md', 'b.md']
    """
    if isinstance(nav, str):
        yield nav
    elif nav is not None:
        for part in nav.values() if isinstance(nav, dict) else nav:
            yield from paths(part)


def pages(nav: Any) -> Any:
    """The same navigation with the page of a notebook where the notebook stood.

    Example:
        >>> pages([{"A": ["a.ipynb", {"B": "b.md"}]}])
        [{'A': ['a.md', {'B': 'b.md'}]}]
    """
    if isinstance(nav, str):
        return nav.removesuffix(".ipynb") + ".md" if nav.endswith(".ipynb") else nav
    if isinstance(nav, dict):
        return {title: pages(part) for title, part in nav.items()}
    return [pages(part) for part in nav]


def from_notebook(path: Path) -> tuple[str, dict[str, bytes]]:
    """A notebook as Markdown, and its pictures by name."""
    from nbconvert.exporters import MarkdownExporter

    text, resources = MarkdownExporter().from_filename(
        str(path), resources={"unique_key": path.stem, "output_files_dir": f"{path.stem}_files"}
    )
    return text, dict(resources["outputs"])


def commands_page() -> str:
    """Every command's own help as a page."""
    from inshape.cli.commands import COMMANDS

    lines = [
        "# Command line",
        "",
        "Every command takes `--json` for machines. Errors go to standard error as one line; the "
        "exit code is 2 for a bad request, 1 for a run that failed, 130 if interrupted. "
        "`inshape --install-completion` lets the shell complete commands, options, backbones and "
        "formats; `inshape --show-completion bash` prints the script.",
        "",
    ]
    for name in COMMANDS:
        lines += [f"## inshape {name}", "", "```text", help_of(name), "```", ""]
        if name == "train":
            resuming = help_of(name, "--resume", "RUN")
            lines += ["## inshape train --resume", "", "```text", resuming, "```", ""]
    return "\n".join(lines)


def help_of(*words: str) -> str:
    """What the program prints for a command and ``--help``, at a width that a page shows whole."""
    from inshape.cli.app import run

    printed = io.StringIO()
    with mock.patch.dict(os.environ, COLUMNS=str(_HELP_WIDTH)), redirect_stdout(printed):
        run([*words, "--help"])
    return "\n".join(line.rstrip() for line in printed.getvalue().strip().splitlines())

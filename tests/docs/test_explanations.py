"""The code of the README, the explanations and the answers runs, and prints what is shown."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tools.pages import blocks

REPO = Path(__file__).resolve().parents[2]
PAGES = [REPO / "docs" / "index.md", REPO / "docs" / "faq.md"]
PAGES += sorted((REPO / "docs" / "explanation").glob("*.md"))
README = REPO / "README.md"


def run(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tools.pages", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        cwd=REPO,
    )


def test_every_strategy_has_a_page_with_code_and_a_drawing():
    names = {page.stem for page in PAGES}
    for name in ("resize", "rebuild", "restride", "flexible", "channels"):
        assert name in names
        text = (REPO / "docs" / "explanation" / f"{name}.md").read_text(encoding="utf-8")
        assert ".svg)" in text
        assert any(block.kind == "python" for block in blocks(text))


@pytest.mark.slow
def test_the_pages_do_what_they_say():
    # One process for all: each takes longer to load TensorFlow than to run.
    process = run(*PAGES)
    assert process.returncode == 0, process.stderr[-4000:]


@pytest.mark.slow
def test_the_readme_prints_what_it_shows():
    shown = [block.kind for block in blocks(README.read_text(encoding="utf-8"))]
    assert shown[:2] == ["python", "text"]
    process = run("--only", "python", README)
    assert process.returncode == 0, process.stderr[-4000:]

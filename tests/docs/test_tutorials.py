"""The code of every tutorial runs, and prints what the page shows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
PAGES = sorted((REPO / "docs" / "tutorials").glob("*.md"))


def test_there_is_a_tutorial_for_every_task():
    assert {page.stem for page in PAGES} == {
        "grey_to_int8",
        "video_frames",
        "four_bands",
        "variable_sizes",
        "features",
        "own_model",
        "tags_and_numbers",
    }


@pytest.mark.slow
def test_the_pages_do_what_they_say():
    # One process for all, each page in an empty folder of its own: TensorFlow is loaded once.
    process = subprocess.run(
        [sys.executable, "-m", "tools.pages", *map(str, PAGES)],
        capture_output=True,
        text=True,
        check=False,
        cwd=REPO,
    )
    assert process.returncode == 0, process.stderr[-4000:]

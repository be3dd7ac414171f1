"""The code of the README and of every page runs, and prints what is shown."""

from __future__ import annotations

from pathlib import Path

import pytest
from tools.pages import blocks

REPO = Path(__file__).resolve().parents[2]
README = REPO / "README.md"
PAGES = [README, REPO / "docs" / "index.md", REPO / "docs" / "faq.md"]
PAGES += sorted((REPO / "docs" / "explanation").glob("*.md"))
TUTORIALS = sorted((REPO / "docs" / "tutorials").glob("*.md"))


def test_every_strategy_has_a_page_with_code_and_a_drawing():
    names = {page.stem for page in PAGES}
    for name in ("resize", "rebuild", "restride", "flexible", "channels"):
        assert name in names
        text = (REPO / "docs" / "explanation" / f"{name}.md").read_text(encoding="utf-8")
        assert ".svg)" in text
        assert any(block.kind == "python" for block in blocks(text))


def test_there_is_a_tutorial_for_every_task():
    assert {page.stem for page in TUTORIALS} == {
        "grey_to_int8",
        "video_frames",
        "four_bands",
        "variable_sizes",
        "features",
        "own_loop",
        "own_model",
        "only_tflite",
        "tags_and_numbers",
        "masks",
        "boxes",
    }


def test_the_readme_begins_with_code_and_its_output():
    shown = [block.kind for block in blocks(README.read_text(encoding="utf-8"))]
    assert shown[:2] == ["python", "text"]
    assert set(shown) == {"python", "text"}


@pytest.mark.slow
def test_the_pages_do_what_they_say(run_program):
    # One process for all, each page in an empty folder of its own: TensorFlow is loaded once.
    program = "import sys; from tools.pages import main; sys.exit(main())"
    process = run_program(program, *PAGES, *TUTORIALS, folder=REPO)
    assert process.returncode == 0, process.stderr[-4000:]

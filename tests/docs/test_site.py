"""The site builds without a warning, and its pages fetch nothing from elsewhere."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
import typer
from tools.docs_hooks import commands_page, on_config
from tools.griffe_examples import renamed

from inshape.cli.app import app

REPO = Path(__file__).resolve().parents[2]
TABLES = sorted((REPO / "docs").glob("*.md"))
CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)


class Fetched(HTMLParser):
    """Addresses that a browser loads by itself, links left out."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "src" or (name == "href" and tag == "link"):
                self.found.append(value or "")


@pytest.fixture(name="site", scope="module")
def _site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder],
        capture_output=True,
        text=True,
        check=False,
        cwd=REPO,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip() == ""
    return folder


def text_of(page: Path) -> str:
    return re.sub(r"<[^>]+>", "", page.read_text(encoding="utf-8"))


def test_nothing_is_fetched_from_elsewhere(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 15
    for page in pages:
        reader = Fetched()
        reader.feed(page.read_text(encoding="utf-8"))
        assert reader.found
        for address in reader.found:
            assert not re.match(r"(\w+:)?//", address), f"{page}: {address}"
    for style in site.rglob("*.css"):
        assert not re.search(r"url\(\s*['\"]?(\w+:)?//", style.read_text(encoding="utf-8"))


def test_every_measured_table_is_in_the_navigation(site):
    home = (site / "index.html").read_text(encoding="utf-8")
    for table in TABLES:
        assert f'href="{table.stem}.html"' in home


def test_a_new_table_is_added_by_itself(tmp_path):
    from mkdocs.config import load_config

    (tmp_path / "index.md").write_text("# Home\n")
    (tmp_path / "speed.md").write_text("# Speed\n")
    config = load_config(str(REPO / "mkdocs.yml"), docs_dir=str(tmp_path))
    config.nav = ["index.md", {"Measurements": []}, {"More": ["a.ipynb"]}]
    assert on_config(config).nav == ["index.md", {"Measurements": ["speed.md"]}, {"More": ["a.md"]}]


def test_the_search_finds_a_word_of_a_docstring_and_of_a_notebook(site):
    index = json.loads((site / "search" / "search_index.json").read_text(encoding="utf-8"))
    places = {
        word: {entry["location"].split("#")[0] for entry in index["docs"] if word in entry["text"]}
        for word in ("nothing is downloaded", "quarter of an hour")
    }
    assert "reference/python.html" in places["nothing is downloaded"]
    assert places["quarter of an hour"] == {"tutorials/first_look.html"}


def test_the_notebook_is_shown_with_what_it_printed(site):
    page = text_of(site / "tutorials" / "first_look.html")
    assert "restride - 96x96 is 0.43 times the native size" in page
    assert list((site / "tutorials" / "first_look_files").glob("*.png"))


def test_the_reference_shows_examples_as_code(site):
    page = (site / "reference" / "python.html").read_text(encoding="utf-8")
    assert "<blockquote>" not in page
    assert text_of(site / "reference" / "python.html").count("Examples:") > 5


def test_the_reference_holds_every_command():
    page = commands_page()
    for name in typer.main.get_command(app).commands:
        assert f"## inshape {name}\n\n```text\nUsage: inshape {name} " in page


def test_only_the_section_is_renamed():
    text = "For Example: this.\n\nExample:\n    >>> 1\n    1"
    assert renamed(text) == "For Example: this.\n\nExamples:\n    >>> 1\n    1"


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
def test_pages_opened_from_disk_are_searched_and_ask_for_nothing(site):
    from playwright.sync_api import sync_playwright

    asked: list[str] = []
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.goto((site / "index.html").as_uri())
        page.locator("input[data-md-component=search-query]").fill("letterbox")
        first = page.locator(".md-search-result__item a").first
        first.wait_for(timeout=120_000, state="attached")
        assert "letterbox" in page.locator(".md-search-result").inner_text()
        browser.close()
    assert asked
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []

"""The site builds without a warning, and its pages fetch nothing from elsewhere."""

from __future__ import annotations

import base64
import html
import io
import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import pytest
from PIL import Image
from tools.docs_hooks import commands_page, from_notebook, on_config
from tools.griffe_docstrings import rename_examples

from inshape.cli.commands import COMMANDS
from inshape.requests import options_of
from inshape.training.request import TrainRequest

REPO = Path(__file__).resolve().parents[2]
TABLES = sorted((REPO / "docs").glob("*.md"))
CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)


class Fetched(HTMLParser):
    """Addresses that a browser loads by itself, links left out."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "src" or (name == "href" and tag == "link"):
                self.addresses.append(value or "")


@pytest.fixture(name="site", scope="module")
def _site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    process = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder],
        capture_output=True,
        text=True,
        check=False,
        cwd=REPO,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )
    assert process.returncode == 0, process.stderr
    assert process.stderr.strip() == ""
    return folder


def text_of(page: Path) -> str:
    return re.sub(r"<[^>]+>", "", page.read_text(encoding="utf-8"))


def test_nothing_is_fetched_from_elsewhere(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 15
    for page in pages:
        reader = Fetched()
        reader.feed(page.read_text(encoding="utf-8"))
        assert reader.addresses
        for address in reader.addresses:
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
        word: {
            entry["location"].split("#")[0]
            for entry in index["docs"]
            if word in entry["text"].lower()
        }
        for word in ("nothing is downloaded", "three answers are pasted")
    }
    assert "reference/python.html" in places["nothing is downloaded"]
    assert places["three answers are pasted"] == {"tutorials/photos_300.html"}


def test_the_notebook_is_shown_with_what_it_printed(site):
    page = text_of(site / "tutorials" / "photos_300.html")
    assert "rebuild - 300x300 is 1.34 times the native size" in page


def test_pictures_of_a_notebook_are_files_of_its_page(tmp_path):
    png = io.BytesIO()
    Image.new("L", (1, 1)).save(png, "png")
    dot = base64.b64encode(png.getvalue()).decode()
    output = nbformat.v4.new_output("display_data", {"image/png": dot})
    cell = nbformat.v4.new_code_cell("draw()", outputs=[output])
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "drawn.ipynb")
    text, files = from_notebook(tmp_path / "drawn.ipynb")
    ((name, content),) = files.items()
    assert name.startswith("drawn_files/")
    assert content == png.getvalue()
    assert f"]({name})" in text


def test_the_reference_shows_examples_as_code(site):
    page = (site / "reference" / "python.html").read_text(encoding="utf-8")
    assert "<blockquote>" not in page
    assert text_of(site / "reference" / "python.html").count("Examples:") > 5


def test_the_reference_shows_every_option_of_a_request(site):
    page = text_of(site / "reference" / "python.html")
    assert "{options}" not in page
    for option in options_of(TrainRequest):
        assert re.search(rf"^\s*{option.name}:? ", page, re.MULTILINE), option.name
        assert option.text[:40] in html.unescape(page), option.name


def test_the_reference_holds_every_command():
    page = commands_page()
    for name in COMMANDS:
        assert f"## inshape {name}\n\n```text\nusage: inshape {name} " in page
    assert "--resume RUN" in page
    assert max(map(len, page.split("```text")[1].splitlines())) <= 96


def test_only_the_section_is_renamed():
    text = "For Example: this.\n\nExample:\n    >>> 1\n    1"
    assert rename_examples(text) == "For Example: this.\n\nExamples:\n    >>> 1\n    1"


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
def test_pages_opened_from_disk_are_searched_and_ask_for_nothing(site):
    from playwright.sync_api import sync_playwright

    requests: list[str] = []
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.on("request", lambda request: requests.append(request.url))
        page.goto((site / "index.html").as_uri())
        page.locator("input[data-md-component=search-query]").fill("letterbox")
        first = page.locator(".md-search-result__item a").first
        first.wait_for(timeout=120_000, state="attached")
        assert "letterbox" in page.locator(".md-search-result").inner_text()
        browser.close()
    assert requests
    assert [url for url in requests if not url.startswith(("file:", "data:", "blob:"))] == []

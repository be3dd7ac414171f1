"""The pages in a real browser: nothing loaded, nothing wrong, nothing too wide, all legible."""

from __future__ import annotations

import json
import re
from contextlib import contextmanager

import numpy as np
import pytest

from inshape.evaluation.result import Evaluation
from inshape.reporting.api import report
from inshape.tasks.class_scores import score

POINTS = "#plot-{} .scatterlayer .points path"


@contextmanager
def opened(browser, path, width=1280, **context):
    """A page, its messages and its requests."""
    page = browser.new_page(viewport={"width": width, "height": 800}, **context)
    log = []
    page.on("console", lambda message: log.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: log.append(f"error: {error}"))
    page.on("request", lambda request: log.append(request.url[:60]))
    page.goto(path.resolve().as_uri())
    try:
        yield page, log
    finally:
        page.close()


def luminance(colour):
    """Relative luminance of ``rgb(...)``, as WCAG 2.1 defines it."""
    values = np.array([float(n) for n in re.findall(r"[\d.]+", colour)[:3]]) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.fixture(scope="module")
def pages(comparison, trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    return {
        "pareto": report(comparison, out=folder / "comparison.html"),
        "learning": trained.folder / "report.html",
    }


@pytest.mark.parametrize("name", ["pareto", "learning"])
def test_a_page_asks_for_nothing_and_complains_of_nothing(browser, pages, name):
    with opened(browser, pages[name]) as (page, log):
        page.wait_for_selector(f"#plot-{name} .main-svg")
        page.wait_for_timeout(200)
        own, *rest = [line for line in log if not line.startswith("data:")]
        assert own.startswith("file:")
        assert rest == []
        # The class of that name is text, and no dialogue stopped the page.
        assert "<script>alert(1)" in page.inner_text("body")


def test_every_candidate_of_a_known_cost_is_a_point_in_every_view(browser, pages):
    with opened(browser, pages["pareto"]) as (page, _):
        page.wait_for_selector("#plot-pareto .main-svg")
        buttons = page.query_selector_all("#switch-pareto button")
        words = [button.inner_text() for button in buttons]
        assert words == ["Latency", "MACs", "Flash", "RAM"]
        titles = set()
        for button in buttons:
            button.click()
            # Six candidates; the one that failed has no cost.
            assert page.locator(POINTS.format("pareto")).count() == 5
            assert button.get_attribute("aria-pressed") == "true"
            titles.add(page.text_content("#plot-pareto .xtitle"))
        assert len(titles) == 4
        front = page.evaluate("document.getElementById('plot-pareto').data[0]")
        assert front["name"] == "Pareto front"


def test_both_phases_are_drawn(browser, pages, trained):
    with opened(browser, pages["learning"]) as (page, _):
        page.wait_for_selector("#plot-learning .main-svg")
        rows = trained.history_rows()
        values = sum(1 for row in rows for n in ("loss", "val_loss", "val_accuracy") if row[n])
        assert {row["phase"] for row in rows} == {"head", "body"}
        assert page.locator(POINTS.format("learning")).count() == values


@pytest.mark.parametrize("name", ["pareto", "learning"])
def test_a_telephone_shows_a_page_whole_and_legible_in_both_schemes(browser, pages, name):
    title = f"getComputedStyle(document.querySelector('#plot-{name} .ytitle')).fill"
    with opened(browser, pages[name], 390, color_scheme="light") as (page, _):
        page.wait_for_selector(f"#plot-{name} .main-svg")
        before = page.evaluate(title)
        check_telephone(page, name, "light")
        page.emulate_media(color_scheme="dark")
        page.wait_for_function(f"{title} !== '{before}'")  # the plot follows the scheme
        check_telephone(page, name, "dark")
        assert luminance(page.evaluate(title)) > luminance(before)


def check_telephone(page, name, scheme):
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.evaluate("document.body.scrollWidth") <= 390
    colours = page.evaluate(
        """name => {
            const of = q => getComputedStyle(document.querySelector(q));
            return {
                paper: of('body').backgroundColor,
                ink: of('p').color, link: of('nav a').color, head: of('thead th').color,
                caption: of('.note').color, plot: of('#plot-' + name + ' .ytitle').fill,
            };
        }""",
        name,
    )
    paper = colours.pop("paper")
    assert (luminance(paper) < 0.2) == (scheme == "dark")
    assert {n: contrast(c, paper) for n, c in colours.items() if contrast(c, paper) < 4.5} == {}


def test_many_classes_are_a_map_of_colours(browser, run, rng):
    names = [f"class {i}" for i in range(40)]
    labels = rng.integers(40, size=400)
    scores = score(rng.dirichlet(np.ones(40), 400), labels, names, resamples=20)
    evaluation = Evaluation(run=str(run.folder), source="elsewhere", shape="17x12x1", scores=scores)
    (run.folder / "metrics.json").write_text(json.dumps(evaluation.as_dict()))
    with opened(browser, report(run), 390) as (page, log):
        page.wait_for_selector("#plot-confusion .heatmaplayer image")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        counts = page.evaluate("document.getElementById('plot-confusion').data[0].customdata")
        assert counts == scores.confusion.tolist()
        assert [line for line in log if not line.startswith(("file:", "data:"))] == []


def test_without_scripts_the_tables_are_there(browser, pages):
    with opened(browser, pages["pareto"], 390, java_script_enabled=False) as (page, _):
        text = page.inner_text("#plot")
        assert "the table below holds the same numbers" in text
        assert page.locator("#table tbody tr").count() == 6

"""What stands in a page, read without a browser."""

from __future__ import annotations

import html
import json
import re
import shutil
from html.parser import HTMLParser
from itertools import pairwise

import plotly.graph_objects as go
import pytest

from inshape.data.prepare import Preparation
from inshape.data.sources import open_source
from inshape.errors import OutputExists, RequestError, UnknownName
from inshape.evaluation.api import evaluate
from inshape.exporting.result import ExportFile, Exports, Refusal
from inshape.reporting import api
from inshape.reporting.api import leave_report, report
from inshape.runs import Run
from inshape.runtime.timing import Timing
from inshape.tasks.bootstrap import Score
from inshape.text import format_bytes

VOID = {"meta", "link", "img", "rect", "path", "br"}


class Page(HTMLParser):
    """A page's tags, its text without scripts and styles, and what it would load."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.words, self.open = [], [], []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        self.text = re.sub(r"\s+", " ", " ".join(self.words)).replace("\N{NO-BREAK SPACE}", " ")

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("script", "style"):
            self.words.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def plots_of(path):
    text = path.read_text(encoding="utf-8")
    script = re.search(r'<script type="application/json" id="plots">(.*?)</script>', text, re.S)
    return json.loads(script[1])


@pytest.fixture(scope="module")
def comparison_page(comparison, tmp_path_factory):
    return report(comparison, out=tmp_path_factory.mktemp("comparison") / "page.html")


@pytest.fixture(params=["comparison", "run"])
def any_page(request, comparison_page, trained):
    return comparison_page if request.param == "comparison" else trained.folder / "report.html"


def test_a_page_is_whole_and_accessible(any_page):
    page = Page(any_page)
    assert page.open == []
    assert page.all("html") == [{"lang": "en"}]
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h\d", tag)]
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))
    assert page.all("img")
    assert all(image["alt"] for image in page.all("img"))
    assert all({"width", "height"} <= set(image) for image in page.all("img"))
    drawings = [svg for svg in page.all("svg") if svg.get("role") == "img"]
    assert len(drawings) >= 4
    assert all(svg["aria-label"] for svg in drawings)
    assert all(th.get("scope") in ("row", "col") for th in page.all("th"))
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = {a["href"] for a in page.all("a")}
    assert targets <= {f"#{name}" for name in ids}


def test_a_page_names_nothing_outside_itself(any_page):
    page = Page(any_page)
    for tag, attributes in page.tags:
        for name in ("src", "href", "srcset", "action", "data", "poster"):
            link = attributes.get(name)
            assert link is None or link.startswith(("data:", "#")), (tag, link[:80])
    (policy,) = [m for m in page.all("meta") if m.get("http-equiv")]
    assert policy["content"].startswith("default-src 'none'")
    style = re.search(r"<style>(.*?)</style>", any_page.read_text(encoding="utf-8"), re.S)[1]
    assert "url(" not in style
    assert "@import" not in style


def test_a_page_has_one_copy_of_plotly_and_no_script_of_the_user(any_page):
    text = any_page.read_text(encoding="utf-8")
    assert len(re.findall(r"<script[ >]", without_scripts(text))) == 3
    assert text.count("plotly.js v") == 1
    assert "<script>alert(1)" not in text
    assert html.escape("<script>alert(1)") in text


def without_scripts(text):
    """The page without what stands inside its scripts."""
    return re.sub(r"(<script[^>]*>).*?(</script>)", r"\1\2", text, flags=re.S)


def test_a_comparison_is_shown_as_it_was_measured(comparison, comparison_page, photos):
    page = Page(comparison_page)
    for part in (
        "96×64×1 by rebuild", comparison.reason, f"inshape train {photos} --input 96x64x1",
        "80.0 % 77.0 to 82.0 %", "1.50 ms", "4 threads 0.75 ms", "30.0M", "2.0 MiB", "300.0 KiB",
        "9.00 ms is over 5.00 ms", "worse than <b>that</b>",
        "failed: VanishingMap: no pixels <left>",
        "1 of 6 candidates failed", "on the Pareto front", "recommended",
        "Why: small <pictures>", "Head: average pooling, 3 classes", "Warning: an odd size",
        "Note: the stem is resampled",
        "building models 3.0 s timing 1.5 s frozen features 20 s linear probes 1 min 1 s decoding "
        "pictures 0.5 s 50 s in all.",
        f"inshape compare {photos}", "f" * 64, "Limits: latency at most 5.00 ms.", "3.15.0",
        "64×48×1 rebuild", "64×48×1 resize, resized to 97×64×1 inside",
        "needs 2.0 KiB of flash and 5.0 KiB of RAM",
    ):  # fmt: skip
        assert part in page.text, part
    # Three pictures: originals, and the views of 64x48, 64x48 inside 97x64, 96x64, 224x224.
    assert len(page.all("img")) == 3 * 5


def test_the_plots_are_what_plotly_takes(comparison, comparison_page, run):
    (pareto,) = plots_of(comparison_page).values()
    assert [view["word"] for view in pareto["views"]] == ["Latency", "MACs", "Flash", "RAM"]
    for view, expected in zip(
        pareto["views"], ([1.0, 1.5, 4.0], [30.0, 80.0], [], []), strict=True
    ):
        line, *points = go.Figure(coloured(view["data"]), coloured(pareto["layout"])).data
        assert list(line.x) == expected
        assert sum(len(trace.x) for trace in points) == 5
    assert [view["limit"] for view in pareto["views"]] == [5.0, None, None, None]
    best = next(t for t in pareto["views"][0]["data"] if t["name"] == "Recommended")
    assert (best["x"], best["y"]) == ([1.5], [0.8])
    assert best["error_y"]["array"] == [pytest.approx(0.02)]
    assert best["error_y"]["arrayminus"] == [pytest.approx(0.03)]
    (dropped,) = [t for t in pareto["views"][0]["data"] if t["name"] == "Dropped"]
    assert "worse than &lt;b&gt;that" in dropped["text"][0]
    learning = plots_of(report(run))["learning"]
    figure = go.Figure(coloured(learning["data"]), coloured(learning["layout"]))
    body = [row for row in run.history_rows() if row["phase"] == "body"]
    (accuracy,) = [
        t for t in figure.data if t.name == "validation accuracy" and len(t.x) == len(body)
    ]
    assert list(accuracy.y) == [float(row["val_accuracy"]) for row in body]
    assert list(accuracy.x) == [1 + int(row["epoch"]) for row in body]


def coloured(value):
    """A figure with a colour in place of each name of one."""
    if isinstance(value, dict):
        return {name: coloured(each) for name, each in value.items()}
    if isinstance(value, list):
        return [coloured(each) for each in value]
    return "black" if isinstance(value, str) and value.startswith("--") else value


def test_a_training_leaves_its_page(trained, photos):
    page = Page(trained.folder / "report.html")
    record = trained.record
    held_out = json.loads((trained.folder / "held_out.json").read_text())
    assert held_out["accuracy"]["value"] == pytest.approx(
        record["metrics"]["validation"]["accuracy"], abs=1e-6
    )
    assert held_out["pictures"] == sum(record["data"]["validation"].values()) == 9
    share = f"{100 * held_out['accuracy']['value']:.1f} %"
    for part in (
        "small at 17×12×1", f"Accuracy {share} on 9 pictures that were held out", str(photos),
        "27 pictures: ", "These pictures also chose the best epoch", record["data"]["fingerprint"],
        record["versions"]["keras"], "and to 18×14×1 inside the model", "training the head",
        "No command repeats this training", "class by class".capitalize(),
        "stretch, bilinear", "after the resizing layer", "average pooling, 3 classes",
        f"{format_bytes(record['plan']['footprint']['flash_bytes'])} of flash",
        "None yet: inshape export",
    ):  # fmt: skip
        assert part in page.text, part
    wrong = len(held_out["mistakes"])
    # An original, what the model takes and what its resizing layer makes of it, of each class.
    assert len(page.all("img")) == 3 * 3 + wrong
    for row in trained.history_rows():
        assert f"{float(row['val_loss']):.4f}" in page.text


def test_an_evaluation_makes_the_page_anew(run, photos):
    before = Page(run.folder / "report.html").text
    with pytest.warns(UserWarning, match="27 of 36 pictures were trained on"):
        evaluate(run, photos, split="all", resamples=20)
    after = Page(run.folder / "report.html").text
    assert "on 9 pictures that were held out" in before
    assert "on 36 pictures." in after
    assert "chose the best epoch" not in after


def test_exports_are_a_table(run):
    score = Score(0.9, 0.8, 0.95)
    files = [
        ExportFile(
            format=name, path=f"exports/{name}.tflite", size_bytes=3_000_000, pictures=50,
            agreement=agreement, accuracy=score, accuracy_change=Score(-0.02, -0.04, 0.0),
            max_difference=0.25, mean_difference=0.01, tensor_bytes=None, arena_bytes=None,
            timings=(Timing(1, 9, 2.5, 3.0, 40.0, 10.0), Timing(4, 9, 1.25, 2.0, 40.0, 10.0)),
            is_trusted=agreement > 0.97,
        )
        for name, agreement in (("litert", 1.0), ("litert-int8", 0.91))
    ]  # fmt: skip
    exports = Exports(
        str(run.folder), "photos <b>", "f" * 64, 0.97, "accuracy", score, (), tuple(files),
        (Refusal("onnx", "it lacks <i>this</i>"), Refusal("openvino", "no answer", True)),
    )  # fmt: skip
    record = exports.as_dict()
    earlier = {"source": "other photos", "fingerprint": "e" * 64, "min_agreement": 0.9}
    record["exports"].append({**record["exports"][0], **earlier, "path": "old.tflite"})
    (run.exports / "exports.json").write_text(json.dumps(record))
    text = Page(report(run)).text
    for part in (
        "litert.tflite", "100.0 %", "91.0 % , too low", "-2.0 -4.0 to +0.0", "2.50 ms",
        "4 threads 1.25 ms", "agrees on less than 97 %", "2.9 MiB", "those in photos <b> ;",
        "onnx was not written: it lacks <i>this</i>",
        "openvino was written but cannot be used: no answer",
    ):  # fmt: skip
        assert part.replace(" ,", ",") in text.replace(" ,", ","), part
    assert text.count("others, in") == 1
    assert "50 pictures others, in other photos at least 90.0 % required" in text
    (run.exports / "exports.json").write_text("{ cut sho")
    assert "None yet" in Page(report(run)).text


def test_what_was_gained_is_the_record_of_the_run(run):
    path = run.folder / "baseline.json"
    record = json.loads(path.read_text())
    assert record["trained_on"] == 27  # measured in the training
    score = {"value": 0.5, "low": 0.25, "high": 0.75}
    record.update(score=score, trained={**score, "value": 0.625}, repeats=3)
    record["gain"] = {"value": 0.125, "low": -0.0625, "high": 0.3}
    path.write_text(json.dumps(record))
    text = Page(report(run)).text
    for part in (
        "Gained over plain Keras +12.5 points, -6.2 to +30.0",
        "on the grey pictures repeated 3 times , frozen, under a linear model that was fitted to "
        "27 of the 27 pictures for training. Both answered the same 9 pictures for validation. The "
        "gain is that of strategy resize and of the training together",
        "Plain Keras, frozen 50.0 % 25.0 to 75.0 % This training 62.5 % 25.0 to 75.0 % "
        "Gained, in points +12.5 -6.2 to +30.0",
    ):  # fmt: skip
        assert part.replace(" ,", ",") in text.replace(" ,", ","), part
    del record["trained"], record["gain"]  # while it is being trained
    path.write_text(json.dumps(record))
    text = Page(report(run)).text
    assert "Plain Keras, frozen 50.0 %" in text
    assert "This training" not in text
    path.unlink()
    assert "plain Keras" not in Page(report(run)).text.replace("baseline: plain Keras", "")


def test_pictures_that_are_gone_are_said_to_be(run, comparison, tmp_path):
    moved = json.loads((run.folder / "run.json").read_text())
    moved["request"]["source"] = str(tmp_path / "gone")
    (run.folder / "run.json").write_text(json.dumps(moved))
    held_out = json.loads((run.folder / "held_out.json").read_text())
    mistake = {"picture": "lie/00.png", "label": "lie", "guess": "lean", "probability": 0.9}
    held_out.update(source=str(tmp_path / "gone"), mistakes=[mistake])
    (run.folder / "held_out.json").write_text(json.dumps(held_out))
    page = Page(report(run.folder))
    assert page.all("img") == []
    gone = f"they are no longer in {tmp_path / 'gone'} , or never were files"
    assert f"3 of the example pictures cannot be shown: {gone}" in page.text
    assert "picture not available" in page.text
    values = {**comparison.as_dict(), "source": str(tmp_path / "gone")}
    (tmp_path / "comparison.json").write_text(json.dumps(values))
    page = Page(report(tmp_path))
    assert page.all("img") == []
    assert "3 of the example pictures cannot be shown" in page.text


def test_a_run_that_is_not_complete_has_a_page(run, tmp_path):
    for name in ("history.csv", "held_out.json"):
        (run.folder / name).unlink()
    begun = run.updated(status="interrupted", metrics={}, seconds={}, done=[])
    text = Page(report(begun)).text
    assert "This training is interrupted" in text
    assert f"inshape train --resume {run.folder}" in text
    assert "No epoch is complete yet." in text
    assert "Nothing has been measured yet" in text
    prepared = Preparation.of("8x9x1").as_dict()
    bare = Run.create(tmp_path / "bare", {"preparation": prepared})
    text = Page(report(bare)).text
    assert "still running, or was killed" in text
    assert "has no plan" in text


def test_arrays_are_shown_while_they_are_at_hand(run, rng):
    pixels = rng.integers(0, 255, (6, 20, 15), dtype="uint8")
    names = sorted(run.labels)
    catalogue = open_source((pixels, [names[i % 3] for i in range(6)]))
    record = json.loads((run.folder / "run.json").read_text())
    record["request"]["source"] = None
    record["data"]["examples"] = [{"picture": "[4]", "label": names[1]}]
    (run.folder / "run.json").write_text(json.dumps(record))
    leave_report(run.folder, catalogue)
    shown = [
        i
        for i in Page(run.folder / "report.html").all("img")
        if "as the model reads it" in i["alt"]
    ]
    assert len(shown) == 1
    text = Page(report(run.folder)).text
    assert "from Python, no file or folder" in text
    gone = "1 of the example pictures cannot be shown: they are no longer in the data"
    assert gone in text


def test_another_file_of_that_name_is_left_alone(run):
    path = run.folder / "report.html"
    path.write_text("<p>my own notes")
    text = f"{path} exists already and is no report; expected a new file; move it away"
    with pytest.raises(OutputExists, match=re.escape(text)):
        report(run)
    message = f"{path} is not written ({text}); everything else is; write it with inshape report"
    with pytest.warns(UserWarning, match=re.escape(message)):
        leave_report(run.folder)
    assert path.read_text() == "<p>my own notes"


def test_a_page_that_fails_is_one_warning(run, photos, monkeypatch):
    def fails(*arguments):
        raise ZeroDivisionError("first line\nsecond line")

    monkeypatch.setattr(api, "render_run", fails)
    text = (
        r"report.html is not written \(.*first line.*\); everything else is; write it with inshape"
    )
    with pytest.warns(UserWarning, match=text) as caught:
        evaluation = evaluate(run, photos, split="validation", resamples=20)
    assert sum("report.html" in str(warning.message) for warning in caught) == 1
    assert evaluation.scores.pictures == 9
    assert (run.folder / "metrics.json").exists()


def test_what_is_neither_run_nor_comparison_is_refused(tmp_path, comparison):
    text = f"{tmp_path} holds neither run.json nor comparison.json; expected the folder of a run"
    with pytest.raises(RequestError, match=re.escape(text)):
        report(tmp_path)
    (tmp_path / "comparison.json").write_text('{"candidates": [{}]}')
    text = f"{tmp_path / 'comparison.json'} cannot be read (KeyError('name')); expected the record"
    with pytest.raises(RequestError, match=re.escape(text)):
        report(tmp_path)
    text = "a comparison that is in no folder; expected a page to write; give out='report.html'"
    with pytest.raises(RequestError, match=re.escape(text)):
        report(comparison)


def test_a_folder_that_holds_both_gives_the_page_that_is_asked_for(run, comparison):
    (run.folder / "comparison.json").write_text(json.dumps(comparison.as_dict()))
    pages = {}
    for kind in ("run", "comparison", None):
        pages[kind] = Page(report(run.folder, kind=kind)).text
        leave_report(run.folder, kind=kind)
        assert Page(run.folder / "report.html").text == pages[kind]
    assert "Comparison of 6 candidates" in pages["comparison"]
    assert "Comparison of" not in pages["run"]
    assert pages[None] == pages["run"]
    with pytest.raises(UnknownName, match=re.escape("kind 'page'; choose from: run, comparison")):
        report(run.folder, kind="page")
    (run.folder / "run.json").unlink()
    with pytest.raises(RequestError, match=r"holds no run\.json"):
        report(run.folder, kind="run")


def test_a_comparison_of_failures_only_has_a_page(comparison, tmp_path):
    values = comparison.as_dict()
    values.update(
        candidates=values["candidates"][-1:], recommendation=None, pareto_front=[], seconds={}
    )
    for name in ("plan", "pareto_fronts"):
        del values[name]
    (tmp_path / "comparison.json").write_text(json.dumps(values))
    path = report(tmp_path)
    page = Page(path)
    assert "No candidate is recommended" in page.text
    assert "No candidate could be measured" in page.text
    assert "1 of 1 candidates failed; the table says why" in page.text
    assert len(path.read_text(encoding="utf-8")) < 200_000  # without Plotly


def test_a_report_is_quick_and_loads_no_framework(trained, tmp_path):
    import subprocess
    import sys

    folder = shutil.copytree(trained.folder, tmp_path / "copy")
    code = (
        "import sys, inshape\n"
        f"inshape.report({str(folder)!r})\n"
        "assert not {'keras', 'tensorflow', 'sklearn'} & set(sys.modules)\n"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr

"""Tables fit a terminal of 80 and of 120 columns, and show everything with --wide."""

from __future__ import annotations

import numpy as np
import pytest

import inshape
from inshape.backbones import list_backbones
from inshape.cli.app import overview
from inshape.cli.commands import COMMANDS
from inshape.comparison.result import Candidate, Comparison
from inshape.doctor import diagnose
from inshape.evaluation.result import Evaluation
from inshape.exporting.bench import Bench
from inshape.exporting.result import ExportFile, Exports
from inshape.runtime.timing import Timing
from inshape.shapes import InputShape
from inshape.tasks.bootstrap import Score
from inshape.tasks.class_scores import score
from inshape.tasks.task import Mistake

SCORE = Score(0.8765, 0.8123, 0.9234)
TIMINGS = tuple(Timing(n, 50, 1234.5, 2345.6, 345.6, 512.3) for n in (1, 16))
BACKBONES = ("MobileNetV3Small-0.75-minimalistic", "EfficientNetV2B0", "ResNet152V2")


def comparison() -> Comparison:
    candidates = tuple(
        Candidate(
            name, "128x160x3", "restride", "auto", SCORE, 400, latency_ms=1234.5,
            macs=123_400_000_000, params=12, flash_bytes=123_456_789, ram_bytes=123_456_789,
            finetuned=0.9123,
        )
        for name in BACKBONES
    )  # fmt: skip
    best = candidates[0].name
    return Comparison("photos", 400, None, candidates, (best,), best, "cheapest", "inshape train")


def exports() -> Exports:
    files = tuple(
        ExportFile(
            format="litert-int8", path=f"runs/a/exports/model-int8-{n}.tflite",
            size_bytes=123_456_789, pictures=400, agreement=0.9712, accuracy=SCORE,
            accuracy_change=Score(-0.0123, -0.0456, 0.0123), max_difference=0.0123,
            mean_difference=0.0012, timings=TIMINGS, tensor_bytes=None, arena_bytes=None,
            is_trusted=False, problem=None,
        )
        for n in range(2)
    )  # fmt: skip
    return Exports("runs/a", "photos", "f" * 64, 0.97, "accuracy", SCORE, TIMINGS, files)


def evaluation() -> Evaluation:
    rng = np.random.default_rng(0)
    names = ("a class with quite a long name that goes on", "b")
    labels = rng.integers(0, 2, 40)
    scores = score(rng.dirichlet(np.ones(2), 40), labels, names, resamples=20)
    mistake = Mistake("photos/" + "deep/" * 30 + "1.jpg", names[0], "b" * 60, 0.987)
    return Evaluation("runs/a", "photos", "97x64x1", scores, mistakes=(mistake,))


def bench() -> Bench:
    return Bench("model.tflite", "litert", InputShape.of("97x64x1"), 1, TIMINGS)


VALUES = {
    "inspect": lambda: inshape.plan("MobileNetV3Small-minimalistic", "1024x1280x1", classes=5),
    "compare": comparison,
    "export": exports,
    "evaluate": evaluation,
    "bench": bench,
    "models": list_backbones,
    "doctor": diagnose,
}
MORE = {
    "inspect": ["layers\n", "expanded_conv_depthwise .. "],
    "compare": ["MACs", "flash", "RAM"],
    "export": ["max, mean diff", "change", "peak RAM"],
    "evaluate": ["b" * 60, "deep/" * 30],
    "models": ["source"],
}


def columns(line: str) -> bool:
    """Whether a line stands in a table: words with wide gaps between."""
    return len(line.strip().split("  ")) > 1


@pytest.mark.parametrize("name", VALUES)
def test_tables_fit(name):
    value = VALUES[name]()
    wide = value.describe()
    for width in (80, 120):
        lines = value.describe(width).splitlines()
        tables = [line for line in lines if columns(line)]
        assert all(len(line) <= width for line in tables), max(tables, key=len)
        assert len(tables) > 1
    for words in MORE.get(name, ()):
        assert words in wide
        assert words not in value.describe(80).partition("not shown:")[0]
    assert str(value) == value.describe(80)
    assert len(repr(value)) < 200
    page = value._repr_html_()
    assert page.count("<svg") == {"inspect": 12}.get(name, 0)  # six stages at two shapes
    assert ("<table" if name in ("inspect", "compare") else "<pre>") in page


@pytest.mark.parametrize("width", [80, 120])
def test_help_fits(call, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    assert max(map(len, overview().splitlines())) <= 80
    for name in COMMANDS:
        _, *lines = call(name, "--help").out.splitlines()  # the first is how it is called
        assert max(map(len, lines)) <= width


def test_the_terminal_says_how_wide_tables_are(call, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    narrow, wide = call("models", "mobilenetv3"), call("models", "mobilenetv3", "--wide")
    assert "not shown: source (--wide shows it, --json has it)" in narrow.out
    assert "not shown" not in wide.out
    monkeypatch.setenv("COLUMNS", "120")
    assert call("models", "mobilenetv3").out == wide.out

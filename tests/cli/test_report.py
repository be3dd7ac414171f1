"""`inshape report`, and the commands that a record says to repeat a result with."""

from __future__ import annotations

import importlib
import shlex
import webbrowser
from types import SimpleNamespace

import numpy as np
import pytest
from inshape.comparison.record import command_of as compare_command

from inshape.heads import Head
from inshape.limits import Limits
from inshape.runs import Run
from inshape.shapes import InputShape
from inshape.training.recipe import Recipe
from inshape.training.request import Request


@pytest.fixture
def run(tmp_path):
    return Run.create(tmp_path / "run", {})


def test_a_page_is_written_and_opened(call, run, monkeypatch):
    opened = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    path = run.folder / "report.html"
    answer = call("report", run.folder)
    assert (answer.code, answer.out.strip(), opened) == (0, str(path), [])
    assert path.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert call("report", run.folder, "--json").json == {"report": str(path)}
    assert call("report", run.folder, "--open").code == 0
    assert opened == [path.as_uri()]


def test_what_is_no_run_is_one_line(call, tmp_path):
    answer = call("report", tmp_path)
    assert answer.code == 2
    assert answer.err.startswith(f"inshape: error: {tmp_path} holds neither run.json nor")


REQUESTS = [
    {},
    {
        "shape": "?x?x1", "backbone": "ResNet50", "strategy": "flexible", "channels": "luma",
        "recipe": Recipe(unfreeze=2, mixup=0.0, flip=False, distil=True, augment="none"),
        "head": Head(pool="gem", dropout=0.5, hidden=64), "mlflow": "file:x", "seed": 3,
    },
    {
        "shape": "97x64x4", "channels": (0, 1, None, 2), "head": Head(pool=(2, 3)),
        "weights": "a b.h5", "strategy": "resize", "preparation": {"fit": "crop"},
        "plan_options": {"working_hw": (96, 64), "fit": "letterbox", "interpolation": "nearest"},
    },
    {
        "strategy": "restride",
        "plan_options": {"stem": "plain", "factor": 2, "output_stride": 16},
        "recipe": Recipe(unfreeze="conv_7", learning_rate=3e-4),
    },
]  # fmt: skip


@pytest.mark.parametrize("changes", REQUESTS)
def test_a_record_s_command_asks_for_the_same_training(call, changes, tmp_path, monkeypatch):
    fields = {"shape": "96x96x3", "backbone": "MobileNetV3Small", "weights": None, **changes}
    asked = Request(source=tmp_path, **{**fields, "shape": InputShape.of(fields["shape"])})
    told = asked.command(tmp_path / "my run")
    received = []

    def begin(request, out, output):
        received.append((request, out))
        return SimpleNamespace(folder=out, record={"metrics": {"validation": {"accuracy": 1.0}}})

    monkeypatch.setattr(importlib.import_module("inshape.training.api"), "begin", begin)
    answer = call(*shlex.split(told)[1:])
    assert answer.code == 0, answer.err
    ((request, out),) = received
    assert request.as_dict() == asked.as_dict()
    assert request.seed == asked.seed
    assert out == tmp_path / "my run-again"


@pytest.mark.parametrize(
    "changes",
    [
        {"source": np.zeros(3)}, {"preparation": {"fill": 3.0}}, {"backbone": object()},
        {"head": Head(activation="logits")},
    ],
)  # fmt: skip
def test_what_only_python_can_say_has_no_command(changes, tmp_path):
    fields = {"source": tmp_path, "backbone": "MobileNetV3Small", "weights": None, **changes}
    assert Request(shape=InputShape.of("96x96x3"), **fields).command(tmp_path) is None


def test_a_record_s_command_asks_for_the_same_comparison(call, tmp_path, monkeypatch):
    asked = {
        "shapes": ["64x48x1", "97x64x1"], "strategies": ["resize"], "backbones": ["a", "b"],
        "channels": ["sum", "luma"], "weights": None, "pictures": 50, "latency": False,
        "finetune": 2, "seed": 4, "out": str(tmp_path / "a b"),
        "limits": Limits(2.5, 3e7, 1e6, 262144.0, 0.8),
    }  # fmt: skip
    received = []

    def compare(source, **options):
        received.append({"source": source, **options})
        return SimpleNamespace(as_dict=dict)

    monkeypatch.setattr(importlib.import_module("inshape.compare"), "compare", compare)
    answer = call(*compare_command(tmp_path, {**asked, "candidates": None})[1:])
    assert answer.code == 0, answer.err
    (found,) = received
    assert found.pop("show") is True
    assert found.pop("source") == tmp_path
    lists = ("shapes", "strategies", "backbones", "channels")
    assert {n: list(v) if n in lists else v for n, v in found.items()} == {
        **asked, "out": tmp_path / "a b", "ray": None,
    }  # fmt: skip

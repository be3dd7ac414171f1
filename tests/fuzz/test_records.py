"""JSON that inshape wrote and others may have changed."""

from __future__ import annotations

import json
from contextlib import suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import keras
import numpy as np
import pytest

from inshape.backbones import find
from inshape.caching import Cache, key_of
from inshape.comparison.api import _refuse_other_file
from inshape.comparison.result import Candidate, Comparison
from inshape.data.catalogue import Listing, read_catalogue
from inshape.data.prepare import Preparation
from inshape.errors import OutputExists
from inshape.evaluation.classifier import open_classifier
from inshape.evaluation.leakage import count_trained_on, split_as_trained
from inshape.exporting.result import Exports, check_table, keep_table
from inshape.planning import plan
from inshape.reporting.api import _render
from inshape.runs import Run
from inshape.runtime.cards import batch_in, read_card
from inshape.tasks.bootstrap import Score
from inshape.training.request import TrainRequest, request_of
from inshape.weights.origin import STAGES
from inshape.weights.state_dict import StateDict
from inshape.weights.tensors import Tensors

from .reader import Reader, damage_json, fuzz, of_file

_PAGES = 200  # inputs; to render one takes ten milliseconds
_PREPARATION = Preparation.of("24x20x1", fit="letterbox", full_scale=(0.0, 4095.0)).as_dict()


@cache
def _plan() -> dict[str, Any]:
    image = keras.Input((18, 14, 1))
    x = keras.layers.Conv2D(4, 3, strides=2, padding="same")(image)
    network = keras.Model(image, keras.layers.GlobalAveragePooling2D()(x))
    return plan(network, "24x20x1", strategy="resize", classes=2).as_dict()


def _dumped(make: Any) -> Any:
    return lambda: json.dumps(make()).encode()


def _run() -> dict[str, Any]:
    request = TrainRequest(
        source="photos", shape="24x20x1", out=Path("run"), weights=None
    ).as_dict()
    score = {"accuracy": 0.5, "loss": 0.75, "temperature": 1.0, "epoch": 1, "epochs": 2}
    return {
        "format": 1, "status": "complete", "versions": {"python": "3.11.0"}, "request": request,
        "plan": _plan(), "preparation": _PREPARATION, "task": {"name": "classification"},
        "data": {
            "fingerprint": "f" * 64, "pictures": {"train": 5, "validation": 2},
            "train": {"a": 3, "b": 2}, "validation": {"a": 1, "b": 1},
            "skipped": [{"name": "c.png", "reason": "cut short"}], "warnings": ["a warning"],
            "examples": [{"picture": "a/0.png", "label": "a"}],
        },
        "done": ["head", "body"], "seconds": {"head": 1.5}, "notes": ["a note"],
        "metrics": {"head": score, "validation": score},
    }  # fmt: skip


def _open_run(path: Path) -> None:
    run = Run.open(path.parent)
    (path.parent / "labels.json").write_text('["a", "b"]')
    (path.parent / "model.keras").touch()
    open_classifier(run)
    request_of(run)
    pictures = _pictures()
    count_trained_on(run, pictures, split_as_trained(run, pictures))


@cache
def _pictures() -> Any:
    arrays = np.arange(8 * 12, dtype=np.uint8).reshape(8, 4, 3)
    return read_catalogue(Listing(arrays=arrays, classes=[*"abababab"]))


def _page(path: Path) -> None:
    _render(path.parent, path.parent, None, None)


def _comparison() -> dict[str, Any]:
    score = Score(0.75, 0.5, 1.0)
    candidates = (
        *(
            Candidate("VGG16", shape, "rebuild", accuracy=score, latency_ms=2.0, macs=3)
            for shape in ("24x20x1", "32x32x1")
        ),
        Candidate("VGG16", "2x2x1", "rebuild", error="no pixels left"),
    )
    record = {
        "request": {"command": "inshape compare photos", "seed": 7, "limits": {"max_latency": 5.0}},
        "data": {"fingerprint": "f", "classes": {"a": 1}, "examples": [], "warnings": []},
        "versions": {"python": "3.11.0"}, "plan": _plan(),
        "pareto_fronts": {"latency_ms": [candidates[0].name]},
    }  # fmt: skip
    return Comparison(
        "photos", 40, None, candidates, (candidates[0].name,), candidates[0].name, "it is best",
        "inshape train photos", {"build": 3.0, "all": 5.0}, record,
    ).as_dict()  # fmt: skip


def _open_comparison(path: Path) -> None:
    _page(path)
    _refuse_other_file(path)


def _card() -> dict[str, Any]:
    return {
        "inshape": "1.0", "format": "litert", "labels": ["a", "b"],
        "input": {"shape": "24x20x1", "layout": "NHWC", "dtype": "float32", "batch": 1},
        "output": {"kind": "probabilities", "dtype": "float32"}, "preparation": _PREPARATION,
        "model": {"backbone": "net", "strategy": "rebuild", "channels": "sum"},
    }  # fmt: skip


def _open_card(path: Path) -> None:
    model = path.with_suffix("")
    model.touch()
    open_classifier(model)
    batch_in(read_card(model) or {})


_SCORE = {"value": 0.5, "low": 0.25, "high": 0.75}


def _evaluation() -> dict[str, Any]:
    return {
        "task": "classification",
        "run": "a", "source": "photos", "split": "all", "seen_in_training": 0, "shape": "24x20x1",
        "pictures": 3, "accuracy": _SCORE, "top5": None, "balanced_accuracy": _SCORE,
        "macro_f1": _SCORE, "calibration_error": _SCORE,
        "classes": [
            {"name": name, "pictures": 2, "precision": _SCORE, "recall": _SCORE} for name in "ab"
        ],
        "scores": [{"name": "accuracy", "is_share": True, **_SCORE}],
        "confusion": [[1, 1], [0, 2]],
        "reliability": [{"pictures": 1, "probability": 0.5, "accuracy": None}], "by_size": {},
        "mistakes": [{"picture": "b.png", "label": "a", "guess": "b", "probability": 0.75}],
        "skipped": [{"picture": "c.png", "reason": "cut short"}],
    }  # fmt: skip


def _exports() -> dict[str, Any]:
    timing = {"threads": 1, "load_ms": 3.0, "median_ms": 1.5, "p95_ms": 2.0, "peak_mb": None}
    row = {
        "format": "litert", "path": "model.tflite", "size_bytes": 2048, "pictures": 3,
        "agreement": 1.0, "accuracy": _SCORE, "accuracy_change": _SCORE, "max_difference": 1e-6,
        "mean_difference": 1e-7, "latency_ms": 1.5, "latency_p95_ms": 2.0, "load_ms": 3.0,
        "peak_mb": None, "timings": [timing], "tensor_bytes": 512, "arena_bytes": None,
        "planned_flash_bytes": 2000, "planned_ram_bytes": 500, "failed": False, "problem": None,
        "cause": None, "source": "photos", "fingerprint": "f", "min_agreement": 0.9,
    }  # fmt: skip
    return {
        "run": "a", "source": "photos", "fingerprint": "f", "min_agreement": 0.9,
        "score_name": "accuracy", "keras": {"accuracy": _SCORE, "timings": [timing]},
        "exports": [row],
        "refused": [{"format": "onnx", "reason": "no operator", "written": False}],
    }  # fmt: skip


def _page_with(path: Path) -> None:
    """The page of a whole run beside a record that is not."""
    (path.parent / "run.json").write_bytes(_dumped(_run)())
    if path.name == "exports.json":
        (path.parent / "exports").mkdir(exist_ok=True)
        path.replace(path.parent / "exports" / path.name)
    _page(path)


def _open_exports(path: Path) -> None:
    (path.parent / "model.tflite").touch()
    score = Score(**_SCORE)
    with suppress(OutputExists):  # it is no table of ours
        check_table(path.parent)
        keep_table(path.parent, Exports("a", "photos", "f", 0.9, "accuracy", score, (), ()))


_FACTS = {"format": 1}


def _kept() -> bytes:
    with TemporaryDirectory() as folder:
        entry = Cache(Path(folder)).note(_FACTS, {"names": ["a.png"]})
        return entry.path.read_bytes()


def _config() -> dict[str, Any]:
    trained = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25], "num_classes": 10}
    return {"architecture": "mobilenetv3_small_100", "num_classes": 10, "pretrained_cfg": trained}


def _origin(path: Path) -> None:
    # By which timm's smallest network is known.
    blocks = [f"blocks.{i}.{j}.conv_pw.weight" for i, n in enumerate(STAGES[11]) for j in range(n)]
    shapes = dict.fromkeys(["conv_stem.weight", *blocks, "blocks.1.0.se.conv_reduce.weight"], (1,))
    shapes["blocks.5.0.conv.weight"] = (576, 96, 1, 1)
    tensors = Tensors(shapes, np.zeros)
    StateDict(path.with_name("tf_mobilenetv3.safetensors"), tensors).misfit(
        find("MobileNetV3Small")
    )


READERS = [
    Reader("run.json", of_file("run.json", _open_run), _dumped(_run), damage_json),
    Reader(
        "labels.json",
        of_file("labels.json", lambda path: Run(path.parent, {"status": "complete"}).labels),
        lambda: b'["cat", "dog"]',
        damage_json,
    ),
    Reader("page of a run", of_file("run.json", _page), _dumped(_run), damage_json, _PAGES),
    Reader(
        "page with metrics.json",
        of_file("metrics.json", _page_with),
        _dumped(_evaluation),
        damage_json,
        _PAGES,
    ),
    Reader(
        "page with exports.json",
        of_file("exports.json", _page_with),
        _dumped(_exports),
        damage_json,
        _PAGES,
    ),
    Reader(
        "exports.json",
        of_file("exports.json", _open_exports),
        _dumped(_exports),
        damage_json,
        _PAGES,
    ),
    Reader(
        "comparison.json",
        of_file("comparison.json", _open_comparison),
        _dumped(_comparison),
        damage_json,
        _PAGES,
    ),
    Reader("cards", of_file("a.tflite.json", _open_card), _dumped(_card), damage_json),
    Reader(
        "records of caches",
        of_file(f"{key_of(_FACTS)}.json", lambda path: Cache(path.parent).load(_FACTS)),
        _kept,
        damage_json,
    ),
    Reader("config.json", of_file("config.json", _origin), _dumped(_config), damage_json),
]


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_records_are_read_or_refused_in_one_line(reader, tmp_path):
    fuzz(reader, tmp_path)

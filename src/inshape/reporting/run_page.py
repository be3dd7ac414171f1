"""The page of a training run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..data.catalogue import Catalogue
from ..data.prepare import Preparation
from ..geometry.drawing import draw_stages
from ..runs import Run
from ..tasks.find import restore_task
from ..writing import read_json
from .page import render
from .plots import plot_answers, plot_confusion, plot_learning
from .thumbnails import Album, Thumbnail, embed, embed_input, resize_inside

_EVALUATED, _HELD_OUT = "metrics.json", "held_out.json"
_BASELINE, _EXPORTS = "baseline.json", "exports.json"
_MOST_CELLS = 24
_MOST_CONFUSIONS = 6
_TRIED = ("distil", "recalibrate", "fixres")


def render_run(run: Run, catalogue: Catalogue | None = None) -> str:
    """A run, complete or not, as HTML, with the pictures if they are at hand."""
    record = run.record
    request, data = record.get("request", {}), record.get("data", {})
    metrics, plan = record.get("metrics", {}), record.get("plan")
    examples = data.get("examples", [])
    history = run.history_rows()
    task = restore_task(record.get("task"), ())
    learning = plot_learning(history, task.score_name)
    plots = {} if learning is None else {"learning": learning}
    evaluated = _evaluation(run.folder, record, catalogue)
    return render(
        "run",
        {
            "folder": str(run.folder),
            "record": record,
            "request": request,
            "data": data,
            "metrics": metrics,
            "validation": metrics.get("validation"),
            "history": history,
            "score_name": task.score_name,
            "plan": plan,
            "stages": draw_stages(plan["native_geometry"], plan["geometry"]) if plan else (),
            "examples": examples,
            "pictures": _pictures(Album.of(request.get("source"), catalogue), examples, record),
            "baseline": _read(run.folder / _BASELINE),
            "exports": _read(run.exports / _EXPORTS),
            "tried": {name: metrics[name] for name in _TRIED if name in metrics},
            **evaluated,
            "plots": plots | evaluated["plots"],
        },
    )


def _evaluation(
    folder: Path, record: Mapping[str, Any], catalogue: Catalogue | None
) -> dict[str, Any]:
    """The last evaluation, or else the one on the held-out pictures that ends a training."""
    evaluated = _read(folder / _EVALUATED)
    evaluation = evaluated or _read(folder / _HELD_OUT)
    if evaluation is None:
        empty = dict.fromkeys(("cells", "confusions", "mistakes"), ())
        return {"evaluation": None, "is_held_out": False, "is_table": True, "plots": {}, **empty}
    names = [c["name"] for c in evaluation["classes"]]
    counts = evaluation.get("confusion", ())
    is_table = len(names) <= _MOST_CELLS
    plots = {} if is_table or not counts else {"confusion": plot_confusion(counts, names)}
    if "points" in evaluation:
        plots["answers"] = plot_answers(evaluation["points"])
    return {
        "evaluation": evaluation,
        "is_held_out": evaluated is None,
        "is_table": is_table,
        "cells": [[{"count": n, "share": n / max(1, sum(row))} for n in row] for row in counts],
        "confusions": _confusions(counts, names),
        "mistakes": _mistakes(evaluation, record, catalogue),
        "plots": plots,
    }


def _read(path: Path) -> dict[str, Any] | None:
    try:
        return read_json(path)
    except (OSError, ValueError):
        return None


def _confusions(counts: Sequence[Sequence[int]], names: Sequence[str]) -> list[dict[str, Any]]:
    """The most frequent ones."""
    confusions: list[dict[str, Any]] = [
        {"label": names[i], "guess": names[j], "count": n, "share": n / max(1, sum(row))}
        for i, row in enumerate(counts)
        for j, n in enumerate(row)
        if i != j and n
    ]
    return sorted(confusions, key=lambda c: (-c["count"], -c["share"]))[:_MOST_CONFUSIONS]


def _mistakes(
    evaluation: Mapping[str, Any], record: Mapping[str, Any], catalogue: Catalogue | None
) -> list[dict[str, Any]]:
    """The most confidently wrong pictures, each with the picture where it is still there."""
    album, preparation = Album.of(evaluation["source"], catalogue), _preparation(record)

    def thumbnail(mistake: Mapping[str, Any]) -> Thumbnail | None:
        if preparation is None or "drawn" not in mistake:
            return preparation and album.original(mistake["picture"], preparation)
        pixels = album.picture(mistake["picture"], preparation)  # on which they lie
        return None if pixels is None else embed(pixels, is_photo=True)

    return [{**mistake, "thumbnail": thumbnail(mistake)} for mistake in evaluation["mistakes"]]


def _preparation(record: Mapping[str, Any]) -> Preparation | None:
    values = record.get("preparation")
    return None if values is None else Preparation.from_dict(values)


def _pictures(
    album: Album, examples: Sequence[Mapping[str, str]], record: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Examples as they are, as the model takes them, and as its resizing layer hands them on."""
    preparation = _preparation(record)
    if preparation is None:
        return []
    layer = _resizing_layer(record.get("plan") or {})
    pictures: list[dict[str, Any]] = []
    for example in examples:
        pixels = album.picture(example["picture"], preparation)
        if pixels is not None:
            pictures.append(
                {
                    **example,
                    "original": album.original(example["picture"], preparation),
                    "input": embed_input(pixels),
                    "inside": layer and embed(resize_inside(pixels, **layer), is_photo=True),
                }
            )
    return pictures


def _resizing_layer(plan: Mapping[str, Any]) -> dict[str, Any] | None:
    """The resizing layer inside the model, if there is one."""
    added = plan.get("input_layers", {"resize_hw": None})
    if added["resize_hw"] is None:
        return None
    return {
        "size_hw": tuple(added["resize_hw"]),
        "fit": added["fit"],
        "interpolation": added["interpolation"],
    }

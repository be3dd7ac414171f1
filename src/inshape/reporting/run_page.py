"""The page of a training run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..data.catalogue import Catalogue
from ..data.prepare import Preparation
from ..runs import Run
from .drawing import rows_of
from .page import rendered
from .plots import confusion, learning
from .thumbnails import Album, Thumbnail, embedded, resized_inside

_EVALUATION = ("metrics.json", "held_out.json")
_EXPORTS = "exports.json"
_MOST_CELLS = 24
_MIXUPS = 6
_LOSSLESS = 128
_TRIED = ("distil", "recalibrate", "fixres")


def training_page(run: Run, catalogue: Catalogue | None = None) -> str:
    """A training run as HTML, whatever of it there is.

    Args:
        run: complete or not.
        catalogue: the pictures, if they are at hand.

    Returns:
        The page.
    """
    record = run.record
    evaluation, from_file = _evaluation(run.folder)
    plan = record.get("plan")
    history = run.history()
    figures = {} if (curves := learning(history)) is None else {"learning": curves}
    names = [c["name"] for c in evaluation["classes"]] if evaluation else []
    if evaluation and len(names) > _MOST_CELLS:
        figures["confusion"] = confusion(evaluation["confusion"], names)
    source = record.get("request", {}).get("source")
    examples = record.get("data", {}).get("examples", [])
    return rendered(
        "training",
        {
            "folder": str(run.folder),
            "record": record,
            "request": record.get("request", {}),
            "data": record.get("data", {}),
            "metrics": record.get("metrics", {}),
            "validation": record.get("metrics", {}).get("validation"),
            "history": history,
            "plan": plan,
            "stages": ()
            if plan is None
            else rows_of(plan.get("native_geometry"), plan["geometry"]),
            "evaluation": evaluation,
            "is_held_out": from_file == _EVALUATION[1],
            "cells": _cells(evaluation["confusion"]) if evaluation else [],
            "is_table": len(names) <= _MOST_CELLS,
            "mixups": _mixups(evaluation["confusion"], names) if evaluation else [],
            "mistakes": _mistakes(evaluation, record, catalogue) if evaluation else [],
            "pictures": _examples(Album.of(source, catalogue), examples, record),
            "examples": examples,
            "exports": _read(run.exports / _EXPORTS),
            "tried": {n: record["metrics"][n] for n in _TRIED if n in record.get("metrics", {})},
            "figures": figures,
        },
    )


def _evaluation(folder: Path) -> tuple[dict[str, Any] | None, str | None]:
    """The last evaluation, or else the look at the held-out pictures after the training."""
    for name in _EVALUATION:
        found = _read(folder / name)
        if found is not None:
            return found, name
    return None, None


def _read(path: Path) -> dict[str, Any] | None:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _cells(counts: Sequence[Sequence[int]]) -> list[list[dict[str, float]]]:
    """Counts and shares of the right class."""
    return [[{"count": n, "share": n / max(1, sum(row))} for n in row] for row in counts]


def _mixups(counts: Sequence[Sequence[int]], names: Sequence[str]) -> list[dict[str, Any]]:
    """The most frequent confusions."""
    found: list[dict[str, Any]] = [
        {"label": names[i], "guess": names[j], "count": n, "share": n / max(1, sum(row))}
        for i, row in enumerate(counts)
        for j, n in enumerate(row)
        if i != j and n
    ]
    return sorted(found, key=lambda m: (-m["count"], -m["share"]))[:_MIXUPS]


def _mistakes(
    evaluation: Mapping[str, Any], record: Mapping[str, Any], catalogue: Catalogue | None
) -> list[dict[str, Any]]:
    """The most confidently wrong pictures, each with the picture where it is still there."""
    album = Album.of(evaluation["source"], catalogue)
    preparation = _preparation(record)
    return [
        {
            **mistake,
            "thumbnail": None
            if preparation is None
            else album.original(mistake["picture"], preparation),
        }
        for mistake in evaluation["mistakes"]
    ]


def _preparation(record: Mapping[str, Any]) -> Preparation | None:
    values = record.get("preparation")
    return None if values is None else Preparation.from_dict(values)


def _examples(
    album: Album, examples: Sequence[Mapping[str, str]], record: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Examples as they are, as the model takes them, and as its resizing layer hands them on."""
    preparation = _preparation(record)
    if preparation is None:
        return []
    edits = (record.get("plan") or {}).get("edits", [])
    front = next((e["front"] for e in edits if e["edit"] == "SetFront"), None)
    found: list[dict[str, Any]] = []
    for example in examples:
        pixels = album.picture(example["picture"], preparation)
        if pixels is None:
            continue
        inside: Thumbnail | None = None
        if front is not None and front["resize_hw"] is not None:
            height, width = front["resize_hw"]
            inside = embedded(
                resized_inside(
                    pixels, (height, width), fit=front["fit"], interpolation=front["interpolation"]
                ),
                is_photo=True,
            )
        found.append(
            {
                **example,
                "original": album.original(example["picture"], preparation),
                "seen": embedded(pixels, is_photo=max(pixels.shape[:2]) > _LOSSLESS),
                "inside": inside,
            }
        )
    return found

"""The page of a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..data.catalogue import Catalogue
from ..data.prepare import PictureOptions, Preparation
from ..geometry.drawing import draw_stages
from ..limits import ALL, Limits, format_cost
from ..requests import restore
from ..shapes import InputShape
from ..text import format_percent, label_files
from .page import render
from .plots import Candidates, Figure, plot_pareto
from .thumbnails import Album, Thumbnail, embed_input, resize_inside

_MOST_VIEWS = 12
_ALL = "all"  # the whole comparison beside its parts, which may run at the same time
_LIMITED = {
    "latency_ms": "latency",
    "macs": "multiply-accumulates",
    "flash_bytes": "flash",
    "ram_bytes": "RAM",
    "accuracy": "accuracy",
}


@dataclass(frozen=True, slots=True)
class _View:
    """How networks see a picture: the shape that goes in, and what a layer inside makes of it."""

    shape: str
    inside: str | None

    @classmethod
    def of(cls, candidate: Mapping[str, Any]) -> _View:
        shape, working = candidate["input_shape"], candidate.get("working_shape")
        if "?" in shape:
            return cls(working or shape, None)
        is_resized = candidate["strategy"] == "resize" and working not in (None, shape)
        return cls(shape, working if is_resized else None)

    @property
    def pixels(self) -> tuple[int, int]:
        """By which views are sorted."""
        sizes = (InputShape.of(s).hw if s else (0, 0) for s in (self.shape, self.inside))
        shape, inside = ((height or 0) * (width or 0) for height, width in sizes)
        return shape, inside

    def of_picture(self, album: Album, name: str, preparation: Preparation) -> Thumbnail | None:
        """One picture in this view; ``None`` if it is gone."""
        pixels = album.picture(name, preparation)
        if pixels is None:
            return None
        if self.inside is not None:
            height, width = InputShape.of(self.inside).hw
            pixels = resize_inside(pixels, (height or 1, width or 1))
        return embed_input(pixels)


def pareto_of(record: Mapping[str, Any]) -> Figure | None:
    """Score against cost, by what ``comparison.json`` says; see `plot_pareto`."""
    limits = restore(Limits, record.get("request", {}).get("limits", {}))
    fronts, score_name = record.get("pareto_fronts", {}), record.get("score_name", "accuracy")
    return plot_pareto(_describe(record), fronts, limits, score_name)


def render_comparison(record: Mapping[str, Any], catalogue: Catalogue | None = None) -> str:
    """What ``comparison.json`` says as HTML, with the pictures if they are at hand."""
    candidates, request = _describe(record), record.get("request", {})
    limits = restore(Limits, request.get("limits", {}))
    options = restore(PictureOptions, request.get("picture_options", {}))
    score_name = record.get("score_name", "accuracy")
    pareto = pareto_of(record)
    plan = record.get("plan")
    seconds = record.get("seconds", {})
    examples = record.get("data", {}).get("examples", [])
    return render(
        "comparison",
        {
            "record": record,
            "score_name": score_name,
            "candidates": candidates,
            "best": next((c for c in candidates if c["group"] == "recommended"), None),
            "failed": [c for c in candidates if c["error"] is not None],
            "limits": _limits_text(limits),
            "seconds": {part: value for part, value in seconds.items() if part != _ALL},
            "total": seconds.get(_ALL),
            "plan": plan,
            "stages": draw_stages(plan["native_geometry"], plan["geometry"]) if plan else (),
            "pictures": _pictures(
                candidates, Album.of(record["source"], catalogue), examples, options
            ),
            "plots": {} if pareto is None else {"pareto": pareto},
        },
    )


def _describe(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The candidates as the page shows them, in the record's order."""
    labels = label_files(c["backbone"] for c in record["candidates"])
    described: list[dict[str, Any]] = []
    for c in record["candidates"]:
        channels = "" if c["channels"] == "auto" else f" {c['channels']}"
        backbone = f"{labels[c['backbone']]} " if len(labels) > 1 else ""
        score = c["accuracy"] if c["accuracy"] and c["accuracy"]["value"] is not None else None
        group, status = _verdict(c, record, score is not None)
        short = f"{backbone}{c['input_shape']} {c['strategy']}{channels}"
        described.append({**c, "accuracy": score, "short": short, "status": status, "group": group})
    return described


def _verdict(
    candidate: Mapping[str, Any], record: Mapping[str, Any], is_probed: bool
) -> tuple[str, str]:
    """How a candidate is drawn, and what is said of it."""
    if candidate["error"] is not None:
        return "unprobed", f"failed: {candidate['error']}"
    if candidate["dropped"] is not None:
        return "dropped" if is_probed else "unprobed", candidate["dropped"]
    if not is_probed:
        return "unprobed", "not probed"
    if candidate["name"] == (record.get("recommendation") or {}).get("name"):
        return "recommended", "recommended"
    return "contender", "on the Pareto front" if candidate["name"] in record["pareto_front"] else ""


def _limits_text(limits: Limits) -> str:
    """What the device allows, in words."""
    parts: list[str] = []
    for name in ALL:
        limit = limits.of(name)
        if limit is None:
            continue
        is_least = name == "accuracy"
        value = format_percent(limit) if is_least else format_cost(name, limit)
        parts.append(f"{_LIMITED[name]} at {'least' if is_least else 'most'} {value}")
    return ", ".join(parts) or "none"


def _pictures(
    candidates: Candidates,
    album: Album,
    examples: Sequence[Mapping[str, str]],
    options: PictureOptions,
) -> dict[str, Any]:
    """Example pictures in every view that a candidate's network has, and the originals."""
    views = _views(candidates)
    if not views:
        return {"originals": [], "views": [], "missing": len(examples)}
    prepared = {view: options.at(view.shape) for view in views}
    first = next(iter(prepared.values()))
    shown = [e for e in examples if album.picture(e["picture"], first) is not None]
    return {
        "originals": [{**e, "picture": album.original(e["picture"], first)} for e in shown],
        "views": [
            {
                "shape": view.shape,
                "inside": view.inside,
                "strategies": strategies,
                "pictures": [
                    {**e, "picture": view.of_picture(album, e["picture"], prepared[view])}
                    for e in shown
                ],
            }
            for view, strategies in views.items()
            if shown
        ],
        "missing": len(examples) - len(shown),
    }


def _views(candidates: Candidates) -> dict[_View, list[str]]:
    """The views of a known size, the smallest first, each with the strategies that share it."""
    views: dict[_View, list[str]] = {}
    for c in candidates:
        if c["error"] is None:  # else no network ever saw a picture
            strategies = views.setdefault(_View.of(c), [])
            if c["strategy"] not in strategies:
                strategies.append(c["strategy"])
    static = [view for view in views if InputShape.of(view.shape).is_static]
    return {view: views[view] for view in sorted(static, key=lambda v: v.pixels)[:_MOST_VIEWS]}

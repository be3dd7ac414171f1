"""The page of a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..data.catalogue import Catalogue
from ..data.prepare import Preparation
from ..errors import InshapeError
from ..shapes import InputShape
from .drawing import rows_of
from .page import rendered
from .plots import pareto
from .thumbnails import Album, Thumbnail, embedded, resized_inside
from .words import megabytes, millions, millis, percent

_MOST_VIEWS = 12
_LOSSLESS = 128
_ALL = "all"  # the whole comparison beside its parts, which may run at the same time


def comparison_page(record: Mapping[str, Any], catalogue: Catalogue | None = None) -> str:
    """A comparison as HTML.

    Args:
        record: what ``comparison.json`` says.
        catalogue: the pictures, if they are at hand.

    Returns:
        The page.
    """
    candidates = _described(record)
    figure = pareto(candidates, record)
    plan = record.get("plan")
    seconds = record.get("seconds") or {}
    album = Album.of(record["source"], catalogue)
    examples = record.get("data", {}).get("examples", [])
    return rendered(
        "comparison",
        {
            "record": record,
            "candidates": candidates,
            "best": next((c for c in candidates if c["group"] == "recommended"), None),
            "failed": [c for c in candidates if c["error"] is not None],
            "limits": _limits(record),
            "seconds": {part: taken for part, taken in seconds.items() if part != _ALL},
            "total": seconds.get(_ALL),
            "plan": plan,
            "stages": ()
            if plan is None
            else rows_of(plan.get("native_geometry"), plan["geometry"]),
            "pictures": _pictures(candidates, album, examples),
            "figures": {} if figure is None else {"pareto": figure},
        },
    )


def _described(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The candidates as the page shows them, in the record's order."""
    best = (record.get("recommendation") or {}).get("name")
    backbones = {c["backbone"] for c in record["candidates"]}
    found: list[dict[str, Any]] = []
    for c in record["candidates"]:
        channels = "" if c["channels"] == "auto" else f" {c['channels']}"
        short = f"{c['input_shape']} {c['strategy']}{channels}"
        if len(backbones) > 1:
            short = f"{c['backbone'].replace(chr(92), '/').rsplit('/', 1)[-1]} {short}"
        score = c["accuracy"] if c["accuracy"] and c["accuracy"]["value"] is not None else None
        status, group = "", "contender"
        if c["error"] is not None:
            status, group = f"failed: {c['error']}", "unprobed"
        elif c["dropped"] is not None:
            status, group = c["dropped"], "dropped" if score else "unprobed"
        elif score is None:
            status, group = "not probed", "unprobed"
        elif c["name"] == best:
            status, group = "recommended", "recommended"
        elif c["name"] in record["front"]:
            status = "on the front"
        found.append({**c, "accuracy": score, "short": short, "status": status, "group": group})
    return found


def _limits(record: Mapping[str, Any]) -> str:
    """What the device allows, in words."""
    limits = record.get("request", {}).get("limits", {})
    words = (
        ("latency_ms", "latency at most", millis),
        ("macs", "multiply-accumulates at most", millions),
        ("flash_bytes", "int8 file at most", megabytes),
        ("ram_bytes", "int8 memory at most", megabytes),
        ("accuracy", "accuracy at least", percent),
    )
    told = [f"{word} {of(limits[n])}" for n, word, of in words if limits.get(n) is not None]
    return ", ".join(told) or "none"


def _pictures(
    candidates: Sequence[Mapping[str, Any]], album: Album, examples: Sequence[Mapping[str, str]]
) -> dict[str, Any]:
    """Example pictures at every size that a candidate's network reads, and the originals."""
    views: dict[tuple[str, str | None], list[str]] = {}
    for c in candidates:
        if c["error"] is not None:
            continue  # no network ever saw a picture
        shape, working = c["input_shape"], c.get("working_shape")
        if "?" in shape:
            shape, working = working or shape, None
        inside = working if c["strategy"] == "resize" and working not in (None, shape) else None
        names = views.setdefault((shape, inside), [])
        if c["strategy"] not in names:
            names.append(c["strategy"])
    order = sorted(views, key=lambda view: (_pixels(view[0]), _pixels(view[1] or "")))
    kept = [view for view in order if InputShape.of(view[0]).is_static][:_MOST_VIEWS]
    if not kept:
        return {"originals": [], "views": [], "missing": len(examples)}
    prepared = {shape: Preparation.of(shape) for shape, _ in kept}
    shown = [e for e in examples if album.picture(e["picture"], prepared[kept[0][0]]) is not None]
    first = prepared[kept[0][0]]
    return {
        "originals": [{**e, "picture": album.original(e["picture"], first)} for e in shown],
        "views": [
            {
                "shape": shape,
                "inside": inside,
                "strategies": views[shape, inside],
                "pictures": [
                    {**e, "picture": _seen(album, e["picture"], prepared[shape], inside)}
                    for e in shown
                ],
            }
            for shape, inside in (kept if shown else [])
        ],
        "missing": len(examples) - len(shown),
    }


def _seen(
    album: Album, name: str, preparation: Preparation, inside: str | None
) -> Thumbnail | None:
    pixels = album.picture(name, preparation)
    if pixels is None:
        return None
    if inside is not None:
        height, width = InputShape.of(inside).hw
        pixels = resized_inside(pixels, (height or 1, width or 1))
    return embedded(pixels, is_photo=max(pixels.shape[:2]) > _LOSSLESS)


def _pixels(shape: str) -> int:
    """Pixels of a shape; none for what is no static shape."""
    try:
        height, width = InputShape.of(shape).hw
    except InshapeError:
        return 0
    return (height or 0) * (width or 0)

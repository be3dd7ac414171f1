"""Plotly figures as plain values; colours are names of the page's style, such as ``--accent``.

The page's script puts the colours in, so that a figure follows the light or the dark scheme.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

Figure: TypeAlias = dict[str, Any]

COSTS = {
    "latency_ms": ("Latency", "latency of one picture, one thread (ms)", 1.0),
    "macs": ("MACs", "multiply-accumulates for one picture (millions)", 1e6),
    "flash_bytes": ("File size", "int8 file, estimated (MB)", 1e6),
    "ram_bytes": ("Memory", "int8 activations at their peak, estimated (kB)", 1e3),
}
"""What a candidate can be weighed by: a word, the axis's title, and the unit it is shown in."""

_POINT = 11
_STRIP = [0.0, 0.1]
_ABOVE = [0.16, 1.0]


def pareto(candidates: Sequence[Mapping[str, Any]], comparison: Mapping[str, Any]) -> Figure | None:
    """Accuracy against cost, with a view for each kind of cost.

    Every candidate of a known cost is one point: with its interval where it was probed, in a strip
    below the axis where it was not.

    Args:
        candidates: as `report.comparison` describes them.
        comparison: the record.

    Returns:
        A figure with its ``views``, each with a word, the axis's title, the limit that was set, and
        the traces; ``None`` if no cost is known.
    """
    known = [cost for cost in COSTS if any(c.get(cost) is not None for c in candidates)]
    if not known:
        return None
    groups = [
        ("Recommended", "recommended", "star", 19, "--good"),
        ("Contenders", "contender", "circle", _POINT, "--accent"),
        ("Dropped", "dropped", "circle-open", _POINT, "--faint"),
        ("Not probed", "unprobed", "x-thin-open", _POINT, "--faint"),
    ]
    limits = comparison.get("request", {}).get("limits", {})
    fronts = comparison.get("fronts") or {known[0]: comparison.get("front", [])}
    views: list[dict[str, Any]] = []
    for cost in known:
        traces = [_front_line(candidates, fronts.get(cost, []), cost)]
        traces += [_points(candidates, cost, *group) for group in groups]
        traces.append(_finetuned(candidates, cost))
        word, title, unit = COSTS[cost]
        limit = limits.get(cost)
        views.append(
            {
                "word": word,
                "title": title,
                "limit": None if limit is None else limit / unit,
                "data": traces,
            }
        )
    layout: Figure = {
        "xaxis": {"title": {"text": views[0]["title"]}, "rangemode": "tozero"},
        "yaxis": {"title": {"text": "probe accuracy"}, "tickformat": ".0%", "domain": _ABOVE},
        "hovermode": "closest",
    }
    if any(c["group"] == "unprobed" for c in candidates):
        layout["yaxis2"] = {
            "domain": _STRIP, "range": [-1, 1], "tickvals": [0], "ticktext": ["not<br>probed"],
            "zeroline": False, "showgrid": False, "fixedrange": True,
        }  # fmt: skip
        layout["xaxis"]["anchor"] = "free"
        layout["xaxis"]["position"] = 0.0
    else:
        layout["yaxis"]["domain"] = [0.0, 1.0]
    return {"data": views[0]["data"], "layout": layout, "views": views}


def _points(
    candidates: Sequence[Mapping[str, Any]],
    cost: str,
    title: str,
    group: str,
    symbol: str,
    size: int,
    colour: str,
) -> Figure:
    unit = COSTS[cost][2]
    own = [c for c in candidates if c["group"] == group and c.get(cost) is not None]
    trace: Figure = {
        "type": "scatter",
        "mode": "markers",
        "name": title,
        "x": [c[cost] / unit for c in own],
        "y": [0 if group == "unprobed" else c["accuracy"]["value"] for c in own],
        "text": [_told(c) for c in own],
        "hovertemplate": "%{text}<extra></extra>",
        "marker": {
            "symbol": symbol, "size": size, "color": colour,
            "line": {"width": 2 if symbol.endswith("open") else 1.5,
                     "color": colour if symbol.endswith("open") else "--paper"},
        },
        "showlegend": bool(own),
    }  # fmt: skip
    if group == "unprobed":
        return {**trace, "yaxis": "y2"} if own else trace
    trace["error_y"] = {
        "type": "data",
        "symmetric": False,
        "array": [_reach(c["accuracy"], "high") for c in own],
        "arrayminus": [_reach(c["accuracy"], "low") for c in own],
        "color": colour,
        "thickness": 1.5,
        "width": 4,
    }
    return trace


def _reach(score: Mapping[str, Any], end: str) -> float:
    return 0.0 if score.get(end) is None else abs(score[end] - score["value"])


def _front_line(candidates: Sequence[Mapping[str, Any]], names: Sequence[str], cost: str) -> Figure:
    by_name = {c["name"]: c for c in candidates}
    own = [by_name[n] for n in names if n in by_name and by_name[n].get(cost) is not None]
    return {
        "type": "scatter",
        "mode": "lines",
        "name": "Pareto front",
        "x": [c[cost] / COSTS[cost][2] for c in own],
        "y": [c["accuracy"]["value"] for c in own],
        "line": {"color": "--good", "width": 2, "dash": "dot", "shape": "hv"},
        "hoverinfo": "skip",
        "showlegend": len(own) > 1,
    }


def _finetuned(candidates: Sequence[Mapping[str, Any]], cost: str) -> Figure:
    own = [c for c in candidates if c.get("finetuned") is not None and c.get(cost) is not None]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": "Fine-tuned",
        "x": [c[cost] / COSTS[cost][2] for c in own],
        "y": [c["finetuned"] for c in own],
        "text": [f"{_told(c)}<br>fine-tuned {c['finetuned']:.1%}" for c in own],
        "hovertemplate": "%{text}<extra></extra>",
        "marker": {"symbol": "diamond", "size": _POINT, "color": "--warm"},
        "showlegend": bool(own),
    }


def _told(candidate: Mapping[str, Any]) -> str:
    """A candidate in the box beside the pointer."""
    score = candidate["accuracy"]
    lines = [f"<b>{html.escape(candidate['short'])}</b>"]
    if score is not None and score["low"] is not None:
        lines.append(f"{score['value']:.1%} [{score['low']:.1%}, {score['high']:.1%}]")
    costs = []
    for cost, (_, _, unit) in COSTS.items():
        if candidate.get(cost) is not None:
            word = {"latency_ms": "ms", "macs": "MMACs", "flash_bytes": "MB", "ram_bytes": "kB RAM"}
            costs.append(f"{candidate[cost] / unit:.3g} {word[cost]}")
    lines.append(", ".join(costs))
    if candidate["status"]:
        lines.append(html.escape(candidate["status"]))
    return "<br>".join(lines)


def learning(history: Sequence[Mapping[str, str]]) -> Figure | None:
    """Loss and accuracy over the epochs of every phase, one phase after the other.

    Args:
        history: the rows of ``history.csv``.

    Returns:
        A figure; ``None`` for fewer than two epochs, of which no curve can be drawn.
    """
    if len(history) < 2:
        return None
    data: list[Figure] = []
    shapes: list[dict[str, Any]] = []
    notes: list[dict[str, Any]] = []
    start = 0
    looks = (
        ("loss", "training loss", "y", "--accent", "solid"),
        ("val_loss", "validation loss", "y", "--warm", "solid"),
        ("val_accuracy", "validation accuracy", "y2", "--good", "solid"),
    )
    for number, phase in enumerate(dict.fromkeys(row["phase"] for row in history)):
        own = [row for row in history if row["phase"] == phase]
        epochs = [start + int(row["epoch"]) for row in own]
        for name, title, axis, colour, dash in looks:
            data.append(
                {
                    "type": "scatter",
                    "mode": "lines+markers",
                    "name": title,
                    "legendgroup": name,
                    "showlegend": number == 0,
                    "x": epochs,
                    "y": [_value(row.get(name)) for row in own],
                    "yaxis": axis,
                    "line": {"color": colour, "width": 2, "dash": dash},
                    "marker": {"size": 7, "color": colour},
                    "hovertemplate": html.escape(phase)
                    + " %{x}: %{y:.4f}<extra>"
                    + title
                    + "</extra>",
                }
            )
        if start:
            shapes.append(
                {
                    "type": "line", "xref": "x", "yref": "paper", "x0": start + 0.5,
                    "x1": start + 0.5, "y0": 0, "y1": 1,
                    "line": {"color": "--rule-strong", "width": 1, "dash": "dash"},
                }
            )  # fmt: skip
        notes.append(
            {
                "text": html.escape(phase), "x": start + 0.6, "y": 1, "xref": "x",
                "yref": "paper", "xanchor": "left", "yanchor": "bottom", "showarrow": False,
            }
        )  # fmt: skip
        start = epochs[-1]
    layout = {
        "xaxis": {"title": {"text": "epoch"}, "range": [0.5, start + 0.5], "dtick": _tick(start)},
        "yaxis": {"title": {"text": "loss"}, "domain": [0.54, 1.0], "rangemode": "tozero"},
        "yaxis2": {
            "title": {"text": "accuracy"}, "domain": [0.0, 0.46], "tickformat": ".0%",
            "anchor": "x",
        },
        "shapes": shapes,
        "annotations": notes,
        "hovermode": "closest",
    }  # fmt: skip
    return {"data": data, "layout": layout}


def _value(text: str | None) -> float | None:
    try:
        found = float(text or "nan")
    except ValueError:
        return None
    return found if found == found and abs(found) != float("inf") else None


def _tick(epochs: int) -> int:
    return max(1, -(-epochs // 12))


def confusion(counts: Sequence[Sequence[int]], names: Sequence[str]) -> Figure:
    """A confusion matrix as a map of colours, for more classes than a table can show.

    Args:
        counts: of each right class, taken for each class.
        names: of the classes.
    """
    labels = [html.escape(name) for name in names]
    shares = [[n / max(1, sum(row)) for n in row] for row in counts]
    return {
        "data": [
            {
                "type": "heatmap",
                "z": shares,
                "customdata": [list(row) for row in counts],
                "x": labels,
                "y": labels,
                "zmin": 0,
                "zmax": 1,
                "colorscale": [[0, "--panel"], [1, "--accent"]],
                "colorbar": {"tickformat": ".0%", "thickness": 12, "title": {"text": "of class"}},
                "hovertemplate": "%{y} taken for %{x}: %{customdata} (%{z:.0%})<extra></extra>",
            }
        ],
        "layout": {
            "xaxis": {"title": {"text": "taken for"}, "type": "category", "tickangle": -90},
            "yaxis": {"title": {"text": "is"}, "type": "category", "autorange": "reversed"},
        },
    }

"""Plotly figures as plain values; colours are names of the page's style, such as ``--accent``.

The page's script puts the colours in, so that a plot follows the light or the dark scheme.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from ..limits import Limits, format_cost

Figure: TypeAlias = dict[str, Any]
Candidates: TypeAlias = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class _Cost:
    """What a candidate costs: the word on its button, its axis, and the unit of that axis."""

    word: str
    title: str
    unit: float


@dataclass(frozen=True, slots=True)
class _Group:
    """How candidates of one kind are drawn."""

    name: str
    title: str
    symbol: str
    colour: str
    size: int = 11


_COSTS = {
    "latency_ms": _Cost("Latency", "latency of one picture, one thread (ms)", 1.0),
    "macs": _Cost("MACs", "multiply-accumulates for one picture (millions)", 1e6),
    "flash_bytes": _Cost("Flash", "flash of the int8 file (MiB)", 2**20),
    "ram_bytes": _Cost("RAM", "RAM of the int8 file (KiB)", 2**10),
}
_GROUPS = (
    _Group("recommended", "Recommended", "star", "--good", 19),
    _Group("contender", "Contenders", "circle", "--accent"),
    _Group("dropped", "Dropped", "circle-open", "--faint"),
    _Group("unprobed", "Not probed", "x-thin-open", "--faint"),
)
_FINETUNED = _Group("finetuned", "Fine-tuned", "diamond", "--warm")
_CURVES = (
    ("loss", "training loss", "y", "--accent"),
    ("val_loss", "validation loss", "y", "--warm"),
)
_STRIP = [0.0, 0.1]
_ABOVE = [0.16, 1.0]
_TICKS = 12


def plot_pareto(
    candidates: Candidates,
    fronts: Mapping[str, Sequence[str]],
    limits: Limits,
    score_name: str = "accuracy",
) -> Figure | None:
    """Score against cost, with a view for each kind of cost; ``None`` if no cost is known.

    Every candidate of a known cost is one point: with its interval where it was probed, in a strip
    below the axis where it was not.
    """
    known = [cost for cost in _COSTS if _with(candidates, cost)]
    if not known:
        return None
    views = [
        {
            "word": _COSTS[cost].word,
            "title": _COSTS[cost].title,
            "limit": _scaled(limits.of(cost), cost),
            "data": [
                _front_line(candidates, fronts.get(cost, ()), cost),
                *(_points(candidates, cost, group) for group in _GROUPS),
                _finetuned(candidates, cost),
            ],
        }
        for cost in known
    ]
    layout: Figure = {
        "xaxis": {"title": {"text": views[0]["title"]}, "rangemode": "tozero"},
        "yaxis": {
            "title": {"text": f"probe {score_name}"},
            "tickformat": ".0%",
            "domain": [0.0, 1.0],
        },
        "hovermode": "closest",
    }
    if any(c["group"] == "unprobed" for c in candidates):
        layout["yaxis"]["domain"] = _ABOVE
        layout["yaxis2"] = {
            "domain": _STRIP, "range": [-1, 1], "tickvals": [0], "ticktext": ["not<br>probed"],
            "zeroline": False, "showgrid": False, "fixedrange": True,
        }  # fmt: skip
        layout["xaxis"] |= {"anchor": "free", "position": 0.0}
    return {"data": views[0]["data"], "layout": layout, "views": views}


def _with(candidates: Candidates, field: str) -> Candidates:
    return [c for c in candidates if c.get(field) is not None]


def _scaled(value: float | None, cost: str) -> float | None:
    return None if value is None else value / _COSTS[cost].unit


def _markers(candidates: Candidates, cost: str, group: _Group) -> Figure:
    """Points without a height yet."""
    is_open = group.symbol.endswith("open")
    return {
        "type": "scatter",
        "mode": "markers",
        "name": group.title,
        "x": [_scaled(c[cost], cost) for c in candidates],
        "text": [_hover_text(c) for c in candidates],
        "hovertemplate": "%{text}<extra></extra>",
        "marker": {
            "symbol": group.symbol, "size": group.size, "color": group.colour,
            "line": {"width": 2, "color": group.colour} if is_open
            else {"width": 1.5, "color": "--paper"},
        },
        "showlegend": bool(candidates),
    }  # fmt: skip


def _points(candidates: Candidates, cost: str, group: _Group) -> Figure:
    members = [c for c in _with(candidates, cost) if c["group"] == group.name]
    trace = _markers(members, cost, group)
    if group.name == "unprobed":
        # Without a point, an axis of its own would leave an empty strip.
        return trace | {"y": [0] * len(members)} | ({"yaxis": "y2"} if members else {})
    scores = [c["accuracy"] for c in members]
    return trace | {
        "y": [score["value"] for score in scores],
        "error_y": {
            "type": "data",
            "symmetric": False,
            "array": [_reach(score, "high") for score in scores],
            "arrayminus": [_reach(score, "low") for score in scores],
            "color": group.colour,
            "thickness": 1.5,
            "width": 4,
        },
    }


def _reach(score: Mapping[str, Any], end: str) -> float:
    return 0.0 if score.get(end) is None else abs(score[end] - score["value"])


def _front_line(candidates: Candidates, names: Sequence[str], cost: str) -> Figure:
    by_name = {c["name"]: c for c in _with(candidates, cost)}
    members = [by_name[name] for name in names if name in by_name]
    return {
        "type": "scatter",
        "mode": "lines",
        "name": "Pareto front",
        "x": [_scaled(c[cost], cost) for c in members],
        "y": [c["accuracy"]["value"] for c in members],
        "line": {"color": "--good", "width": 2, "dash": "dot", "shape": "hv"},
        "hoverinfo": "skip",  # its points are drawn again, with their intervals
        "showlegend": len(members) > 1,
    }


def _finetuned(candidates: Candidates, cost: str) -> Figure:
    members = _with(_with(candidates, "finetuned"), cost)
    trace = _markers(members, cost, _FINETUNED)
    del trace["marker"]["line"]
    return trace | {
        "y": [c["finetuned"] for c in members],
        "text": [f"{_hover_text(c)}<br>fine-tuned {c['finetuned']:.1%}" for c in members],
    }


def _hover_text(candidate: Mapping[str, Any]) -> str:
    """A candidate in the box beside the pointer."""
    score = candidate["accuracy"]
    lines = [f"<b>{html.escape(candidate['short'])}</b>"]
    if score is not None and score["low"] is not None:
        lines.append(f"{score['value']:.1%} [{score['low']:.1%}, {score['high']:.1%}]")
    known = [name for name in _COSTS if candidate.get(name) is not None]
    parts = {"flash_bytes": " flash", "ram_bytes": " RAM"}
    lines.append(", ".join(format_cost(n, candidate[n]) + parts.get(n, "") for n in known))
    if candidate["status"]:
        lines.append(html.escape(candidate["status"]))
    return "<br>".join(lines)


def plot_learning(
    history: Sequence[Mapping[str, str]], score_name: str = "accuracy"
) -> Figure | None:
    """Loss and score over the epochs of every phase, one phase after the other.

    Of fewer than two epochs, as ``history.csv`` lists them, there is no curve: ``None``.
    """
    if len(history) < 2:
        return None
    traces: list[Figure] = []
    shapes: list[Figure] = []
    annotations: list[Figure] = []
    start = 0
    for phase in dict.fromkeys(row["phase"] for row in history):
        rows = [row for row in history if row["phase"] == phase]
        traces += _curves(rows, phase, start, score_name)
        if start:
            shapes.append(
                {
                    "type": "line", "xref": "x", "yref": "paper", "x0": start + 0.5,
                    "x1": start + 0.5, "y0": 0, "y1": 1,
                    "line": {"color": "--rule-strong", "width": 1, "dash": "dash"},
                }
            )  # fmt: skip
        annotations.append(
            {
                "text": html.escape(phase), "x": start + 0.6, "y": 1, "xref": "x", "yref": "paper",
                "xanchor": "left", "yanchor": "bottom", "showarrow": False,
                # A phase may be shorter than its name.
                "yshift": 13 * (len(annotations) % 2),
            }
        )  # fmt: skip
        start += int(rows[-1]["epoch"])
    epochs = {"range": [0.5, start + 0.5], "dtick": max(1, -(-start // _TICKS))}
    layout = {
        "xaxis": {"title": {"text": "epoch"}, "anchor": "y2", **epochs},
        "yaxis": {"title": {"text": "loss"}, "domain": [0.54, 1.0], "rangemode": "tozero"},
        "yaxis2": {
            "title": {"text": score_name}, "domain": [0.0, 0.46], "tickformat": ".0%",
            "anchor": "x",
        },
        "shapes": shapes,
        "annotations": annotations,
        "hovermode": "closest",
    }  # fmt: skip
    return {"data": traces, "layout": layout}


def _curves(
    rows: Sequence[Mapping[str, str]], phase: str, start: int, score_name: str
) -> list[Figure]:
    """The curves of a phase that begins after ``start`` epochs; the first one's have a legend."""
    score = (f"val_{score_name}", f"validation {score_name}", "y2", "--good")
    return [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": title,
            "legendgroup": name,
            "showlegend": start == 0,
            "x": [start + int(row["epoch"]) for row in rows],
            "y": [_finite(row.get(name)) for row in rows],
            "yaxis": axis,
            "line": {"color": colour, "width": 2, "dash": "solid"},
            "marker": {"size": 7, "color": colour},
            "hovertemplate": f"{html.escape(phase)} %{{x}}: %{{y:.4f}}<extra>{title}</extra>",
        }
        for name, title, axis, colour in (*_CURVES, score)
    ]


def _finite(text: str | None) -> float | None:
    """JSON has no NaN, and a browser would not read the page's values with one."""
    try:
        value = float(text or "nan")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def plot_answers(points: Sequence[Sequence[float]]) -> Figure:
    """Answers against labels, both numbers; on the line they are equal."""
    ends = [min(map(min, points)), max(map(max, points))]
    return {
        "data": [
            {
                "type": "scatter", "mode": "lines", "x": ends, "y": ends, "hoverinfo": "skip",
                "line": {"color": "--rule-strong", "width": 1, "dash": "dash"},
            },
            {
                "type": "scatter",
                "mode": "markers",
                "x": [label for label, _ in points],
                "y": [answer for _, answer in points],
                "marker": {"size": 7, "color": "--accent", "opacity": 0.6},
                "hovertemplate": "is %{x:.4g}, taken for %{y:.4g}<extra></extra>",
            },
        ],
        "layout": {
            "xaxis": {"title": {"text": "label"}},
            "yaxis": {"title": {"text": "answer"}},
            "showlegend": False,
            "hovermode": "closest",
        },
    }  # fmt: skip


def plot_confusion(counts: Sequence[Sequence[int]], names: Sequence[str]) -> Figure:
    """A confusion matrix as a map of colours, for more classes than a table can show."""
    labels = [html.escape(name) for name in names]
    return {
        "data": [
            {
                "type": "heatmap",
                "z": [[n / max(1, sum(row)) for n in row] for row in counts],
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
            "xaxis": {"title": {"text": "predicted class"}, "type": "category", "tickangle": -90},
            "yaxis": {"title": {"text": "class"}, "type": "category", "autorange": "reversed"},
        },
    }

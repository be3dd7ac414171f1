"""What a comparison measured: its candidates, which are worth a thought, and the one to take."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..errors import RequestError
from ..extras import install
from ..geometry.drawing import drawing_html
from ..tasks.bootstrap import Score
from ..text import Printable, format_bytes, format_count, label_files, table

_COLUMNS = (
    "backbone", "input_shape", "strategy", "channels", "accuracy", "low", "high", "pictures",
    "latency_ms", "macs", "params", "flash_bytes", "float32_bytes", "ram_bytes", "finetuned",
    "status", "error",
)  # fmt: skip
_TITLES = (
    "backbone", "input", "strategy", "probe {} [95 %]", "fine-tuned", "ms", "MACs", "flash", "RAM",
)  # fmt: skip
_SPARE = ("MACs", "flash", "RAM", "fine-tuned")
"""What a narrow terminal can do without."""
_MARKS = {"recommended": "*", "on the Pareto front": "+"}
_NOT_SHOWN = ("right", "first", "plan")
"""What the store keeps of a candidate and a comparison's file does not."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to the user's classes, and what it costs and reaches."""

    backbone: str
    """Its name or file."""
    input_shape: str
    """``HxWxC``."""
    strategy: str
    """Its name; behind a colon is an output stride, as in ``restride:16``."""
    channels: str = "auto"
    accuracy: Score | None = None
    """Of a linear model on the frozen features, cross-validated; for tags it is the mean F1 of a
    picture's tags, for numbers R2."""
    pictures: int = 0
    """That the accuracy was measured on."""
    right: tuple[float, ...] = field(default=(), repr=False)
    """How well each of those pictures was answered, in a fixed order: 1 if rightly."""
    first: tuple[float, ...] = field(default=(), repr=False)
    """The same of the first round's pictures, where there was a second round or was to be."""
    latency_ms: float | None = None
    """For one picture, LiteRT float32, one thread, median."""
    latencies: tuple[tuple[int, float, float], ...] = ()
    """Threads, median and 95th percentile in milliseconds."""
    timed_on: str = ""
    """The processor, cores and versions with which it was timed."""
    macs: int | None = None
    """Multiply-accumulates for one picture; this and the rest of the costs are its plan's."""
    params: int | None = None
    flash_bytes: int | None = None
    """Of the int8 file; its plan's, and this and the RAM are computed, not measured."""
    float32_bytes: int | None = None
    """Of a float32 file, estimated."""
    ram_bytes: int | None = None
    """Of the arena that TensorFlow Lite for Microcontrollers takes for that file."""
    static_shape: str | None = None
    """The input shape, or the one that numbers are of where it is unknown."""
    working_shape: str | None = None
    """What the network's first layer reads, behind a resizing layer."""
    plan: Mapping[str, Any] | None = field(default=None, repr=False)
    """Its plan as plain values."""
    seconds: Mapping[str, float] = field(default_factory=dict[str, float])
    """What the measurements took, by part."""
    finetuned: float | None = None
    """Validation accuracy after fine-tuning, if it was done."""
    finetuned_on: int = 0
    """Pictures of that validation."""
    dropped: str | None = None
    """Why it was not measured to the end, if it was not."""
    error: str | None = None
    """Why it could not be measured at all."""

    @property
    def name(self) -> str:
        """The candidate in a few words."""
        return f"{self.backbone} {self.input_shape} {self.strategy}" + (
            "" if self.channels == "auto" else f" {self.channels}"
        )

    @property
    def options(self) -> dict[str, Any]:
        """What a plan is asked for.

        Example:
            >>> Candidate("MobileNetV3Small", "96x128x3", "restride:16").options
            {'channels': 'auto', 'strategy': 'restride', 'output_stride': 16}
        """
        strategy, _, stride = self.strategy.partition(":")
        return {
            "channels": self.channels,
            "strategy": strategy,
            **({"output_stride": int(stride)} if stride else {}),
        }

    @property
    def is_contender(self) -> bool:
        """Whether it was measured to the end and is within the limits."""
        return self.error is None and self.dropped is None and self.accuracy is not None

    def as_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold; `from_dict` reads them back."""
        return {
            **{name: getattr(self, name) for name in self.__slots__},
            "accuracy": None if self.accuracy is None else self.accuracy.as_dict(),
            "latencies": [list(row) for row in self.latencies],
            "seconds": dict(self.seconds),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Candidate:
        """The candidate that `as_dict` wrote down.

        Example:
            >>> probed = Candidate("MobileNetV3Small", "64x64x1", "rebuild", right=(0.0, 1.0),
            ...                    accuracy=Score(0.5, 0.0, 1.0), latencies=((1, 2.0, 3.0),))
            >>> Candidate.from_dict(probed.as_dict()) == probed
            True
        """
        accuracy = values["accuracy"]
        fields: dict[str, Any] = {
            **values,
            "accuracy": None if accuracy is None else Score(**accuracy),
            **{name: tuple(map(float, values[name])) for name in ("right", "first")},
            "latencies": tuple((int(t), float(m), float(p)) for t, m, p in values["latencies"]),
        }
        return cls(**fields)

    def but(self, **changes: Any) -> Candidate:
        """The same candidate with some fields changed."""
        return replace(self, **changes)


@dataclass(frozen=True, slots=True, repr=False)
class Comparison(Printable):
    """All candidates and the one to take: print it, or read its ``recommendation``.

    Example:
        >>> timed = Candidate("VGG16", "64x64x1", "rebuild", latency_ms=2.0, ram_bytes=2**17)
        >>> comparison = Comparison("photos", 40, None, (timed,), recommended=timed.name)
        >>> comparison.recommendation.input_shape
        '64x64x1'
    """

    source: str
    """The pictures."""
    pictures: int
    """How many there are to train on."""
    weights: str | None
    """With which the candidates were measured."""
    candidates: tuple[Candidate, ...]
    """In the order of their accuracy."""
    pareto_front: tuple[str, ...] = ()
    """Names of the candidates that none is both faster and better than."""
    recommended: str | None = None
    """The name of the one to take; ``None`` if none was measured."""
    reason: str = ""
    """Why, in one sentence."""
    command: str = ""
    """What to go on with; empty where the pictures are no files."""
    seconds: Mapping[str, float] = field(default_factory=dict[str, float])
    """Where the time of this call went, by part; ``all`` by the clock."""
    record: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What else its file says, as plain values: the ``request`` with the command that repeats it,
    the ``data`` with their fingerprint, the ``versions``, the ``plan`` of the one to take, the
    ``pareto_fronts`` of every kind of cost, the ``task``, and its ``score_name``."""

    @property
    def recommendation(self) -> Candidate | None:
        """The candidate to take."""
        return next((c for c in self.candidates if c.name == self.recommended), None)

    def as_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold."""
        best = self.recommendation
        return {
            "source": self.source,
            "pictures": self.pictures,
            "weights": self.weights,
            "candidates": [
                {"name": c.name}
                | {name: value for name, value in c.as_dict().items() if name not in _NOT_SHOWN}
                for c in self.candidates
            ],
            "pareto_front": list(self.pareto_front),
            "recommendation": None
            if best is None
            else {
                "name": best.name,
                "backbone": best.backbone,
                "input_shape": best.input_shape,
                "strategy": best.strategy,
                "channels": best.channels,
                "reason": self.reason,
                "command": self.command,
            },
            "seconds": dict(self.seconds),
            **self.record,
        }

    def to_pandas(self) -> Any:
        """The candidates as a ``pandas.DataFrame``, a row each.

        Raises:
            RequestError: if pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError:
            raise RequestError(
                f"a table needs pandas; expected it to be installed; {install('pandas')}"
            ) from None
        return pd.DataFrame([self._row(c) for c in self.candidates], columns=list(_COLUMNS))

    def _row(self, c: Candidate) -> dict[str, Any]:
        score = c.accuracy
        return {
            **{name: getattr(c, name) for name in _COLUMNS if hasattr(c, name)},
            "accuracy": None if score is None else score.value,
            "low": None if score is None else score.low,
            "high": None if score is None else score.high,
            "status": self._status(c),
        }

    def _status(self, c: Candidate) -> str:
        if c.error is not None:
            return f"failed: {c.error}"
        if c.dropped is not None:
            return c.dropped
        if c.name == self.recommended:
            return "recommended"
        return "on the Pareto front" if c.name in self.pareto_front else ""

    def _repr_html_(self) -> str:
        """The table in a notebook."""
        heads, grid = self._grid()
        rows = "".join(
            f'<tr style="{self._style(c)}">'
            + "".join(f"<td>{html.escape(cell)}</td>" for cell in (*cells, self._status(c)))
            + "</tr>"
            for c, cells in zip(self.candidates, grid, strict=True)
        )
        head = "".join(f"<th>{html.escape(name)}</th>" for name in (*heads, ""))
        caption, reason = html.escape(self._title), html.escape(self.reason)
        plan = self.record.get("plan")
        drawing = drawing_html(plan["native_geometry"], plan["geometry"]) if plan else ""
        command = f"<pre>{html.escape(self.command)}</pre>" if self.command else ""
        return (
            '<div style="overflow-x:auto"><table>'
            f'<caption style="text-align:left">{caption}</caption>'
            f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
            f"<p>{reason}</p>{command}{drawing}"
        )

    def _style(self, c: Candidate) -> str:
        """A row's look in a notebook, whose own colours stay."""
        if c.name == self.recommended:
            return "font-weight:bold"
        return "" if c.is_contender else "opacity:0.55"

    @property
    def _title(self) -> str:
        backbones = {c.backbone for c in self.candidates}
        one = f", {label_files(backbones)[min(backbones)]}" if len(backbones) == 1 else ""
        return f"{self.source}: {self.pictures} training pictures{one}"

    def _grid(self) -> tuple[list[str], list[tuple[str, ...]]]:
        """The heads of the columns and each candidate's cells; no column that says nothing."""
        labels = label_files(c.backbone for c in self.candidates)
        rows = [(labels[c.backbone], *_cells(c)) for c in self.candidates]
        score_name = self.record.get("score_name", "accuracy")
        titles = [title.format(score_name) for title in _TITLES]
        columns = list(zip(*rows, strict=True))
        is_one = len({row[0] for row in rows}) == 1  # the backbone, which the title names
        shown = [i for i, column in enumerate(columns) if set(column) != {"-"}][is_one:]
        return [titles[i] for i in shown], [tuple(row[i] for i in shown) for row in rows]

    def describe(self, width: int | None = None) -> str:
        """The candidates as a table, why some are out of the question, and the one to take."""
        if not self.candidates:
            return "\n".join([self._title, self.reason])
        heads, grid = self._grid()
        rows = [(self._mark(c), *cells) for c, cells in zip(self.candidates, grid, strict=True)]
        left = heads.index("strategy") + 2
        lines = [self._title, *table(["", *heads], rows, left=left, width=width, spare=_SPARE)]
        lines.append("* recommended, + on the Pareto front: none is both cheaper and better, x out")
        lines += [f"  {c.name}: {self._status(c)}" for c in self.candidates if not c.is_contender]
        times = ", ".join(f"{part} {seconds:.0f} s" for part, seconds in self.seconds.items())
        lines += [f"time: {times}"] if times else []
        if self.recommended is not None:
            lines += ["", self.reason]
            lines += [self.command] if self.command else []
        return "\n".join(lines)

    def _mark(self, c: Candidate) -> str:
        status = self._status(c)
        return _MARKS.get(status, "x" if status else "")


def _cells(c: Candidate) -> tuple[str, ...]:
    """What is shown of a candidate beside its backbone; a dash is unknown."""
    return (
        c.input_shape,
        c.strategy + ("" if c.channels == "auto" else f", {c.channels}"),
        "-" if c.accuracy is None else str(c.accuracy),
        "-" if c.finetuned is None else f"{c.finetuned:.3f}",
        "-" if c.latency_ms is None else f"{c.latency_ms:.2f}",
        "-" if c.macs is None else format_count(c.macs),
        "-" if c.flash_bytes is None else format_bytes(c.flash_bytes),
        "-" if c.ram_bytes is None else format_bytes(c.ram_bytes),
    )

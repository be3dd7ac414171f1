"""What a comparison found: its candidates, which are worth a thought, and the one to take."""

from __future__ import annotations

import html
import io
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ..errors import InshapeError, RequestError
from ..evaluation.metrics import Score

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

_COLUMNS = (
    "backbone", "input_shape", "strategy", "channels", "accuracy", "low", "high", "pictures",
    "latency_ms", "macs", "params", "flash_bytes", "float32_bytes", "ram_bytes", "finetuned",
    "status", "error",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to the user's classes, and what it costs and reaches.

    Attributes:
        backbone: its name or file.
        input_shape: ``HxWxC``.
        strategy: how the backbone gets the shape.
        channels: how its stem gets the channels.
        accuracy: of a linear classifier on the frozen features, cross-validated.
        pictures: that the accuracy was measured on.
        right: for each of those pictures ``1`` if it was answered rightly, in a fixed order.
        first: the same of the first round's pictures, where there was a second round or was to be.
        latency_ms: for one picture, LiteRT float32, one thread, median.
        latencies: threads, median and 95th percentile in milliseconds.
        timed_on: the processor, cores and versions with which it was timed.
        macs: multiply-accumulate operations for one picture.
        params: parameters.
        flash_bytes: of an int8 file, estimated: parameters, scales, biases and records.
        float32_bytes: of a float32 file, estimated as four.
        ram_bytes: peak memory of int8 activations, and at least of the picture as float32 and int8
            together, estimated; without an interpreter's own records.
        working_shape: what the network's first layer reads, after a resizing layer in front.
        seconds: what the measurements took, by part.
        finetuned: validation accuracy after fine-tuning, if it was done.
        finetuned_on: pictures of that validation.
        dropped: why it was not measured to the end, if it was not.
        error: why it could not be measured at all.
    """

    backbone: str
    input_shape: str
    strategy: str
    channels: str = "auto"
    accuracy: Score | None = None
    pictures: int = 0
    right: str = ""
    first: str = ""
    latency_ms: float | None = None
    latencies: tuple[tuple[int, float, float], ...] = ()
    timed_on: str = ""
    macs: int | None = None
    params: int | None = None
    flash_bytes: int | None = None
    float32_bytes: int | None = None
    ram_bytes: int | None = None
    static_shape: str | None = None
    working_shape: str | None = None
    plan: Mapping[str, Any] | None = None
    seconds: Mapping[str, float] = field(default_factory=dict[str, float])
    finetuned: float | None = None
    finetuned_on: int = 0
    dropped: str | None = None
    error: str | None = None

    @property
    def name(self) -> str:
        """The candidate in a few words."""
        return f"{self.backbone} {self.input_shape} {self.strategy}" + (
            "" if self.channels == "auto" else f" {self.channels}"
        )

    @property
    def is_contender(self) -> bool:
        """Whether it was measured to the end and is within the limits."""
        return self.error is None and self.dropped is None and self.accuracy is not None

    def as_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold; `from_dict` reads them back."""
        names = [n for n in self.__slots__ if n not in ("accuracy", "latencies", "seconds")]
        return {
            **{name: getattr(self, name) for name in names},
            "accuracy": None if self.accuracy is None else self.accuracy.as_dict(),
            "latencies": [list(row) for row in self.latencies],
            "seconds": dict(self.seconds),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Candidate:
        """The candidate that `as_dict` wrote down.

        Example:
            >>> made = Candidate("MobileNetV3Small", "64x64x1", "rebuild", macs=3, right="01",
            ...                  accuracy=Score(0.5, 0.0, 1.0), latencies=((1, 2.0, 3.0),))
            >>> Candidate.from_dict(made.as_dict()) == made
            True
        """
        accuracy = values["accuracy"]
        fields: dict[str, Any] = {
            **values,
            "accuracy": None if accuracy is None else Score(**accuracy),
            "latencies": tuple((int(t), float(m), float(p)) for t, m, p in values["latencies"]),
        }
        return cls(**fields)

    def but(self, **changes: Any) -> Candidate:
        """The same candidate with some fields changed."""
        return replace(self, **changes)


def reason_of(error: BaseException) -> str:
    """Why a candidate could not be measured, in one line.

    Args:
        error: what was raised.

    Example:
        >>> reason_of(MemoryError("no more"))
        'MemoryError: no more'
    """
    if isinstance(error, InshapeError):
        return str(error)
    first = (str(error).strip().splitlines() or [""])[0][:200]
    return f"{type(error).__name__}: {first}"


@dataclass(frozen=True, slots=True)
class Comparison:
    """All candidates and the one to take.

    Attributes:
        source: the pictures.
        pictures: how many there are to train on.
        weights: with which the candidates were measured.
        candidates: in the order of their accuracy.
        front: names of the candidates that none is both faster and better than.
        recommended: the name of the one to take; ``None`` if none was measured.
        reason: why, in one sentence.
        command: what to go on with; empty where the pictures are no files.
        seconds: where the time of this call went, by part; ``all`` by the clock.
        record: what else its file says, as plain values: the ``request`` with the command that
            repeats it, the ``data`` with their fingerprint, the ``versions``, the ``plan`` of the
            one to take, and the ``fronts`` of every kind of cost.
    """

    source: str
    pictures: int
    weights: str | None
    candidates: tuple[Candidate, ...]
    front: tuple[str, ...] = ()
    recommended: str | None = None
    reason: str = ""
    command: str = ""
    seconds: Mapping[str, float] = field(default_factory=dict[str, float])
    record: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def recommendation(self) -> Candidate | None:
        """The candidate to take."""
        return next((c for c in self.candidates if c.name == self.recommended), None)

    def as_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold."""
        return {
            "source": self.source,
            "pictures": self.pictures,
            "weights": self.weights,
            "candidates": [
                {
                    "name": c.name,
                    **{k: v for k, v in c.as_dict().items() if k not in ("right", "first", "plan")},
                }
                for c in self.candidates
            ],
            "front": list(self.front),
            "recommendation": None
            if self.recommendation is None
            else {
                "name": self.recommended,
                **{
                    name: getattr(self.recommendation, name)
                    for name in ("backbone", "input_shape", "strategy", "channels")
                },
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
                "a table needs pandas; expected it to be installed; pip install 'inshape[pandas]'"
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
        return "on the front" if c.name in self.front else ""

    def _repr_html_(self) -> str:
        """The table in a notebook."""
        rows = "".join(
            f'<tr style="{self._style(c)}">'
            + "".join(f"<td>{html.escape(cell)}</td>" for cell in self._cells(c))
            + "</tr>"
            for c in self.candidates
        )
        head = "".join(f"<th>{html.escape(name)}</th>" for name in _TITLES)
        caption = html.escape(f"{self.source}: {self.pictures} training pictures")
        told = html.escape(self.reason)
        command = f"<pre>{html.escape(self.command)}</pre>" if self.command else ""
        return (
            '<div style="overflow-x:auto"><table>'
            f'<caption style="text-align:left">{caption}</caption>'
            f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
            f"<p>{told}</p>{command}"
        )

    def _style(self, c: Candidate) -> str:
        """A row's look in a notebook, whose own colours stay."""
        if c.name == self.recommended:
            return "font-weight:bold"
        return "" if c.is_contender else "opacity:0.55"

    def _cells(self, c: Candidate) -> tuple[str, ...]:
        return (
            c.backbone.rsplit("/", 1)[-1],
            c.input_shape,
            c.strategy + ("" if c.channels == "auto" else f", {c.channels}"),
            "-" if c.accuracy is None else str(c.accuracy),
            "-" if c.finetuned is None else f"{c.finetuned:.3f}",
            "-" if c.latency_ms is None else f"{c.latency_ms:.2f}",
            "-" if c.macs is None else f"{c.macs / 1e6:.0f}",
            "-" if c.flash_bytes is None else f"{c.flash_bytes / 1e6:.2f}",
            "-" if c.ram_bytes is None else f"{c.ram_bytes / 1e3:.0f}",
            self._status(c),
        )

    def __str__(self) -> str:
        text = io.StringIO()
        Console(width=160, file=text, color_system=None).print(self, crop=False)
        return "\n".join(line.rstrip() for line in text.getvalue().splitlines())

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The table of a terminal, what is out of the question greyed."""
        # As Text, since brackets in names and paths are no markup.
        title = Text(f"{self.source}: {self.pictures} training pictures")
        table = Table(*_TITLES, title=title, title_justify="left")
        for c in self.candidates:
            style = "dim" if not c.is_contender else "bold" if c.name == self.recommended else ""
            table.add_row(*map(Text, self._cells(c)), style=style)
        yield table
        told = ", ".join(f"{part} {seconds:.0f} s" for part, seconds in self.seconds.items())
        yield f"time: {told}"
        if self.recommended is not None:
            yield Text(self.reason)
            if self.command:
                # In one line, however long, so that it can be copied.
                yield Text(self.command, no_wrap=True, overflow="ignore")


_TITLES = (
    "backbone", "input", "strategy", "probe accuracy [95 %]", "fine-tuned", "ms, 1 thread", "MMACs",
    "int8 MB", "int8 maps kB", "",
)  # fmt: skip

"""What an export wrote and how far each file can be trusted: the values, and their table.

The table of a folder, ``exports.json`` and ``exports.txt``, is one that every export adds to.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import OutputExists, RequestError
from ..geometry.operators import Granularity
from ..runtime.timing import Timing
from ..tasks.bootstrap import Score
from ..text import NONE, Printable, format_bytes, format_number, format_percent, plural, table
from ..writing import read_json, reading, write_atomically, write_json

TABLE = "exports.json"
"""Files in it are named relative to its folder, so that both can be moved."""
_TEXT = "exports.txt"
_COLUMNS = ("file", "size", "agreement", "accuracy", "change", "max, mean diff", "load")
_SPARE = ("max, mean diff", "load", "peak RAM", "change", "accuracy")


@dataclass(frozen=True, slots=True)
class ExportFile:
    """An exported file beside the Keras model, on the same pictures."""

    format: str
    path: str
    size_bytes: int
    """Of the file, or of all files of a folder."""
    pictures: int
    """Compared on."""
    agreement: float
    """Share of pictures that both take for the same class."""
    accuracy: Score
    accuracy_change: Score
    """The file's minus Keras's, with a paired interval."""
    max_difference: float
    """The largest difference of two probabilities, or numbers."""
    mean_difference: float
    timings: tuple[Timing, ...]
    """With one thread and with all."""
    tensor_bytes: int | None
    """Of a full-integer file, the most that its tensors take at one moment."""
    arena_bytes: int | None
    """What TensorFlow Lite for Microcontrollers took of its arena when it ran such a file; ``None``
    where it is not installed or lacks an operator."""
    is_trusted: bool
    """Whether all answers are finite, agreement is as high as wanted and it could be timed."""
    problem: str | None = None
    """Why it could not be timed."""
    cause: str | None = None
    """Where it agrees less than was asked for, the likely cause and what to try."""
    planned_flash_bytes: int | None = None
    """Of a full-integer file, the size that the plan predicted."""
    planned_ram_bytes: int | None = None
    """Of a full-integer file, what the plan predicted for the arena."""
    max_ram: int | None = None
    """The limit that it was to meet."""
    computed_as: str | None = None
    """The patches by which it does, in words."""
    granularity: Granularity | None = None
    """Of a full-integer file, what of its weights has a scale."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold."""
        single = self.timings[0].as_dict() if self.timings else {}
        return {
            "format": self.format,
            "path": self.path,
            "size_bytes": self.size_bytes,
            "pictures": self.pictures,
            "agreement": round(self.agreement, 6),
            "accuracy": self.accuracy.as_dict(),
            "accuracy_change": self.accuracy_change.as_dict(),
            "max_difference": _round(self.max_difference),
            "mean_difference": _round(self.mean_difference),
            "latency_ms": single.get("median_ms"),
            "latency_p95_ms": single.get("p95_ms"),
            "load_ms": single.get("load_ms"),
            "peak_mb": single.get("peak_mb"),
            "timings": [timing.as_dict() for timing in self.timings],
            "tensor_bytes": self.tensor_bytes,
            "arena_bytes": self.arena_bytes,
            "planned_flash_bytes": self.planned_flash_bytes,
            "planned_ram_bytes": self.planned_ram_bytes,
            "max_ram": self.max_ram,
            "computed_as": self.computed_as,
            "granularity": self.granularity,
            "failed": not self.is_trusted,
            "problem": self.problem,
            "cause": self.cause,
        }


@dataclass(frozen=True, slots=True)
class Refusal:
    """A format that the model could not be exported to."""

    format: str
    reason: str
    """Such as the layer that it has no operator for, and what to use instead."""
    is_written: bool = False
    """Whether there is a file all the same, which its own runtime does not run."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold."""
        return {"format": self.format, "reason": self.reason, "written": self.is_written}


@dataclass(frozen=True, slots=True, repr=False)
class Exports(Printable):
    """All files of an export."""

    run: str
    source: str
    """Where the pictures come from that the files are compared on."""
    fingerprint: str
    """Of these pictures."""
    min_agreement: float
    score_name: str
    """What the accuracy is: for tags the F1 of a picture, for numbers R2."""
    keras_accuracy: Score
    keras_timings: tuple[Timing, ...]
    files: tuple[ExportFile, ...]
    refused: tuple[Refusal, ...] = ()

    @property
    def failed(self) -> tuple[ExportFile, ...]:
        """The files that agree with the model less than was asked for, or could not be timed."""
        return tuple(f for f in self.files if not f.is_trusted)

    def as_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold."""
        conditions = {
            "source": self.source,
            "fingerprint": self.fingerprint,
            "min_agreement": self.min_agreement,
        }
        return {
            "run": self.run,
            **conditions,
            "score_name": self.score_name,
            "keras": {
                "accuracy": self.keras_accuracy.as_dict(),
                "timings": [timing.as_dict() for timing in self.keras_timings],
            },
            # Each row says on what it was compared: a later export may compare on other pictures.
            "exports": [{**f.as_dict(), **conditions} for f in self.files],
            "refused": [r.as_dict() for r in self.refused],
        }

    def describe(self, width: int | None = None) -> str:
        """The files beside the model, and what each of them takes on a micro-controller."""
        return _format(self._by_file_name(), width)

    def _by_file_name(self) -> dict[str, Any]:
        record = self.as_dict()
        rows = [{**row, "path": Path(row["path"]).name} for row in record["exports"]]
        return {**record, "exports": rows}


def check_table(folder: Path) -> None:
    """Refuse to write over a table that is not one of ours."""
    is_ours = _read(folder) is not None
    for name in (TABLE, _TEXT):
        if (folder / name).exists() and not is_ours:
            raise OutputExists(
                f"{folder / name} exists already and is no table of exports; expected a new file; "
                "add --replace, or name another folder with --out"
            )


def keep_table(folder: Path, exports: Exports) -> None:
    """Write the table of a folder; rows of earlier exports stay while their files are there."""
    new = exports.as_dict()
    rows = [{**row, "path": _relative(Path(row["path"]), folder)} for row in new["exports"]]
    before = _read(folder) or {"exports": [], "refused": []}
    tried = {row["format"] for row in (*rows, *new["refused"])}
    refused = [row for row in before["refused"] if row["format"] not in tried]
    merged = {
        **new,
        "exports": [*_rows_that_stay(before["exports"], rows, folder), *rows],
        "refused": [*refused, *new["refused"]],
    }
    text = f"{_format(merged)}\n"
    write_json(folder / TABLE, merged)
    write_atomically(folder / _TEXT, lambda part: part.write_text(text, encoding="utf-8"))


def _rows_that_stay(
    old: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]], folder: Path
) -> list[dict[str, Any]]:
    """Rows whose files are still there and have not been written anew."""
    present = [row for row in old if (folder / row["path"]).exists()]
    named = [{**row, "path": _relative(folder / row["path"], folder)} for row in present]
    replaced = {row["path"] for row in new}
    return [row for row in named if row["path"] not in replaced]


def _read(folder: Path) -> dict[str, Any] | None:
    """What earlier exports left; ``None`` where there is no table of them."""
    try:
        with reading(folder / TABLE, "a table of exports"):
            record = read_json(folder / TABLE)
            _format(record).encode()  # which looks at whatever a table has
            {row["format"] for row in (*record["exports"], *record["refused"])}
            _rows_that_stay(record["exports"], [], folder)
    except RequestError:
        return None
    return record


def _relative(path: Path, folder: Path) -> str:
    try:
        return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()
    except ValueError:  # another drive of Windows
        return path.absolute().as_posix()


def _format(record: Mapping[str, Any], width: int | None = None) -> str:
    """The table of a record and what is said around it, one below the other."""
    rows: Sequence[Mapping[str, Any]] = record["exports"]
    lines = [_title(record)]
    if rows:
        lines += _table(rows, record.get("score_name", "accuracy"), width)
    if record["keras"]["timings"]:
        shown = "; ".join(
            f"{t['median_ms']:.1f} ms with {plural(t['threads'], 'thread')}"
            for t in record["keras"]["timings"]
        )
        lines.append(f"model.predict: {shown}")
    for row in rows:
        lines += _notes(row, record)
    for refused in record["refused"]:
        state = "was written but cannot be used" if refused["written"] else "was not written"
        lines.append(f"{refused['format']} {state}: {refused['reason']}")
    return "\n".join(lines)


def _title(record: Mapping[str, Any]) -> str:
    counts = [row["pictures"] for row in record["exports"] if _is_compared_alike(row, record)]
    pictures = f"{counts[0]} pictures in {record['source']}, " if counts else ""
    score = record["keras"]["accuracy"]
    accuracy = _fill("{:.3f} [{:.3f}, {:.3f}]", score["value"], score["low"], score["high"])
    is_timed = any(row["timings"] for row in record["exports"])
    latency = "; latency for one picture: median, 95th percentile" if is_timed else ""
    return f"{record['run']}: {pictures}Keras itself {accuracy}{latency}"


def _notes(row: Mapping[str, Any], record: Mapping[str, Any]) -> Iterator[str]:
    """What the table has no column for."""
    if not _is_compared_alike(row, record):
        yield (
            f"{row['path']} was compared on {row['pictures']} pictures in {row.get('source')} "
            f"(fingerprint {str(row.get('fingerprint'))[:12]}), of which it had to agree on "
            f"{format_percent(row.get('min_agreement'))}"
        )
    if row.get("problem"):
        yield f"{row['path']} could not be measured: {row['problem']}"
    if row.get("cause"):
        agrees = row["agreement"] >= (row.get("min_agreement") or 0)
        says = format_percent(row["agreement"]), format_percent(row.get("min_agreement"))
        on = "" if agrees else " agrees on {}, expected {}".format(*says)
        yield f"{row['path']}{on}: {row['cause']}"
    if row["tensor_bytes"] is not None:
        tensors = f"{format_bytes(row['tensor_bytes'])} for tensors"
        ram = f"{tensors} and the interpreter's own records besides{_planned(row, 'ram')}"
        if row["arena_bytes"] is not None:
            ram = f"{format_bytes(row['arena_bytes'])}{_planned(row, 'ram')}, {tensors}"
        flash = f"{format_bytes(row['size_bytes'])}{_planned(row, 'flash')}"
        yield f"{row['path']} on a micro-controller: flash {flash}; RAM {ram}{_limited(row)}"
    if row.get("granularity") == "per-tensor":
        yield f"{row['path']} has one scale for all weights of a layer (per-tensor)"


def _limited(row: Mapping[str, Any]) -> str:
    """Whether a limit on the RAM is met, and how."""
    limit = row.get("max_ram")
    if limit is None:
        return ""
    ram = row["arena_bytes"] or row["tensor_bytes"]
    state = "within" if ram <= limit else "over"
    return f"; {state} the limit of {format_bytes(limit)}, computed as {row['computed_as']}"


def _planned(row: Mapping[str, Any], memory: str) -> str:
    amount = row.get(f"planned_{memory}_bytes")
    return "" if amount is None else f" (planned {format_bytes(amount)})"


def _is_compared_alike(row: Mapping[str, Any], record: Mapping[str, Any]) -> bool:
    """Whether a file was compared on the same pictures, at the same threshold, as the latest."""
    return all(row.get(name) == record[name] for name in ("fingerprint", "min_agreement"))


def _table(rows: Sequence[Mapping[str, Any]], score_name: str, width: int | None) -> list[str]:
    threads = sorted({t["threads"] for row in rows for t in row["timings"]})
    counts = [plural(count, "thread") for count in threads]
    heads = [*_COLUMNS, *counts, "peak RAM"]
    spare = [score_name if name == "accuracy" else name for name in _SPARE]
    heads = [score_name if name == "accuracy" else name for name in heads]
    cells = [tuple(_cells(row, threads)) for row in rows]
    return table(heads, cells, left=1, width=width, spare=[*spare[:-1], *counts[:0:-1], spare[-1]])


def _cells(row: Mapping[str, Any], threads: Sequence[int]) -> Iterator[str]:
    change, peak_mb = row["accuracy_change"], row["peak_mb"]
    timings = {t["threads"]: (t["median_ms"], t["p95_ms"]) for t in row["timings"]}
    yield row["path"]
    yield format_bytes(row["size_bytes"])
    yield format_percent(row["agreement"]) + ("  FAILED" if row["failed"] else "")
    yield format_number(row["accuracy"]["value"])
    yield _fill("{:+.3f} [{:+.3f}, {:+.3f}]", change["value"], change["low"], change["high"])
    yield _fill("{:.1e}, {:.1e}", row["max_difference"], row["mean_difference"])
    yield _fill("{:.0f} ms", row["load_ms"])
    for count in threads:
        yield _fill("{:.2f}, {:.2f} ms", *timings.get(count, (None,)))
    yield NONE if peak_mb is None else format_bytes(2**20 * peak_mb)


def _fill(form: str, *values: float | None) -> str:
    return NONE if None in values else form.format(*values)


def _round(difference: float) -> float | None:
    """Three digits; JSON has no NaN."""
    return float(f"{difference:.3g}") if math.isfinite(difference) else None

"""The table of exported files as people read it, made from what ``exports.json`` says."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

_WIDTH = 250
_COLUMNS = ("file", "size", "agreement", "accuracy", "change", "max, mean diff", "load")


def printed(record: Mapping[str, Any]) -> str:
    """The table as text.

    Args:
        record: as `inshape.exporting.exported.Exports` gives it, or as a folder's table holds it.
    """
    text = io.StringIO()
    Console(width=_WIDTH, file=text, color_system=None).print(*lines_of(record), sep="\n")
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())


def lines_of(record: Mapping[str, Any]) -> Iterator[Table | str]:
    """The table and what is said below it.

    Args:
        record: as for `printed`.

    Yields:
        What a console prints, one below the other.
    """
    rows: Sequence[Mapping[str, Any]] = record["exports"]
    yield _title(record, rows)
    if rows:
        yield _table(rows)
    if record["keras"]["timings"]:
        shown = "; ".join(
            f"{t['median_ms']:.1f} ms with {_threads(t['threads'])}"
            for t in record["keras"]["timings"]
        )
        yield f"model.predict: {shown}"
    for row in rows:
        if not is_judged_alike(row, record):
            yield (
                f"{row['path']} was compared on {row['pictures']} pictures in {row.get('source')} "
                f"(fingerprint {str(row.get('fingerprint'))[:12]}), of which it had to agree on "
                f"{_told('{:.1%}', row.get('min_agreement'))}"
            )
        if row.get("problem"):
            yield f"{row['path']} could not be measured: {row['problem']}"
        if row["tensor_bytes"] is not None:
            shown = f"{row['tensor_bytes'] / 1024:.0f} KiB for tensors"
            if row["arena_bytes"] is not None:
                shown = f"an arena of {row['arena_bytes'] / 1024:.0f} KiB, {shown}"
            yield f"{row['path']} on a micro-controller: {shown}"
    for refused in record["refused"]:
        state = "was written but cannot be used" if refused["written"] else "was not written"
        yield f"{refused['format']} {state}: {refused['reason']}"


def is_judged_alike(row: Mapping[str, Any], record: Mapping[str, Any]) -> bool:
    """Whether a file was held to the same pictures and the same threshold as the latest ones.

    Args:
        row: of the file.
        record: that it stands in.
    """
    return all(row.get(name) == record[name] for name in ("fingerprint", "min_agreement"))


def _title(record: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    counts = [row["pictures"] for row in rows if is_judged_alike(row, record)]
    judged = f"{counts[0]} pictures in {record['source']}, " if counts else ""
    accuracy = record["keras"]["accuracy"]
    own = _told("{:.3f} [{:.3f}, {:.3f}]", accuracy["value"], accuracy["low"], accuracy["high"])
    return (
        f"{record['run']}: {judged}Keras itself {own}; latency for one picture: median, 95th "
        "percentile"
    )


def _table(rows: Sequence[Mapping[str, Any]]) -> Table:
    table = Table()
    for name in _COLUMNS:
        table.add_column(name, justify="left" if name == "file" else "right", no_wrap=True)
    threads = sorted({t["threads"] for row in rows for t in row["timings"]})
    for count in threads:
        table.add_column(_threads(count))
    table.add_column("peak")
    for row in rows:
        change = row["accuracy_change"]
        times = {t["threads"]: t for t in row["timings"]}
        table.add_row(
            row["path"],
            f"{row['size_bytes'] / 1e6:.2f} MB",
            f"{100 * row['agreement']:.1f} %{'  FAILED' if row['failed'] else ''}",
            _told("{:.3f}", row["accuracy"]["value"]),
            _told("{:+.3f} [{:+.3f}, {:+.3f}]", change["value"], change["low"], change["high"]),
            _told("{:.1e}, {:.1e}", row["max_difference"], row["mean_difference"]),
            _told("{:.0f} ms", row["load_ms"]),
            *(
                _told("{:.2f}, {:.2f} ms", times[n]["median_ms"], times[n]["p95_ms"])
                if n in times
                else "-"
                for n in threads
            ),
            _told("{:.0f} MB", row["peak_mb"]),
        )
    return table


def _threads(count: int) -> str:
    return f"{count} thread{'s' * (count > 1)}"


def _told(form: str, *values: float | None) -> str:
    return "-" if None in values else form.format(*values)

"""Tables of path, label and split."""

from __future__ import annotations

import csv
import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..progress import Advance
from .catalogue import Catalogue, catalogued

SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}
"""What people call the splits, in lower case, and what they are called here."""

_PATHS = ("path", "file", "filename", "image")
_LABELS = ("label", "class")
_SPLITS = ("split", "subset")


def table_catalogue(
    table: Path,
    *,
    class_names: Sequence[str] | None = None,
    labels: str = "required",
    progress: Advance | None = None,
) -> Catalogue:
    """List the pictures of a CSV, TSV or Parquet table.

    Args:
        table: with a column ``path`` (or file, filename, image), one ``label`` (or class) and, if
            wanted, one ``split`` (or subset). Paths are relative to the table's folder.
        class_names: the classes to number by; by default those that occur.
        labels: ``"optional"`` lets the label's column be absent.
        progress: told how far the hashing is.

    Returns:
        The catalogue; rows whose file cannot be opened are skipped and listed in it.

    Raises:
        DataError: if a column or a label is missing or a split is none.
    """
    columns = _parquet(table) if table.suffix.lower() == ".parquet" else _csv(table)
    paths = _column(columns, _PATHS)
    classes = _column(columns, _LABELS)
    splits = _column(columns, _SPLITS)
    for wanted, got in (("path", paths), ("label", classes)):
        if got is None and (wanted == "path" or labels == "required"):
            raise DataError(
                f"{table}: columns {', '.join(columns)}; expected path, label and perhaps split; "
                f"name the column {wanted}"
            )
    assert paths is not None
    known: list[str | None] = [None] * len(paths)
    if classes is not None:
        known = [None if c is None else str(c).strip() or None for c in classes]
        if labels == "required" and None in known:
            row = known.index(None) + 1
            raise DataError(
                f"{table}: row {row} ({paths[row - 1]}) has no label; expected one in every row; "
                "fill it in or remove the row"
            )
    return catalogued(
        [str(p).strip() for p in paths],
        known,
        [_split(table, row, word) for row, word in enumerate(splits or [""] * len(paths), 1)],
        root=table.parent,
        class_names=class_names,
        progress=progress,
    )


def _split(table: Path, row: int, word: Any) -> str:
    lower = "" if word is None else str(word).strip().lower()
    if lower and lower not in SPLIT_WORDS:
        raise DataError(
            f"{table}: row {row} has split {word!r}; expected train, validation or test; "
            "correct it or leave it empty"
        )
    return SPLIT_WORDS.get(lower, "")


def _column(columns: dict[str, list[Any]], names: Sequence[str]) -> list[Any] | None:
    lower = {name.strip().lower(): values for name, values in columns.items()}
    return next((lower[name] for name in names if name in lower), None)


def _csv(table: Path) -> dict[str, list[Any]]:
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            first = file.readline()
            # Commas may stand in file names, so the header decides: its names hold no separators.
            separator = max(",;\t", key=first.count)
            file.seek(0)
            header, *rows = [r for r in csv.reader(file, delimiter=separator) if r] or [[]]
    except UnicodeDecodeError:
        raise DataError(
            f"{table}: not UTF-8 text; expected a CSV table; save it as UTF-8"
        ) from None
    for number, row in enumerate(rows, 1):
        if len(row) != len(header):
            raise DataError(
                f"{table}: row {number} has {len(row)} fields; expected {len(header)} as in the "
                "header; quote fields that hold a separator"
            )
    return {name: [row[i] for row in rows] for i, name in enumerate(header)}


def _parquet(table: Path) -> dict[str, list[Any]]:
    try:
        parquet = importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise DataError(
            f"{table}: reading Parquet needs pyarrow; expected it to be installed; "
            "run: pip install 'inshape[parquet]'"
        ) from None
    try:
        return parquet.read_table(table).to_pydict()
    except (OSError, ValueError) as problem:
        reason = " ".join(str(problem).split())
        raise DataError(f"{table}: {reason}; expected a Parquet table; write it again") from None

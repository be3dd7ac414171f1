"""Tables of path, label and split."""

from __future__ import annotations

import csv
import importlib
from pathlib import Path
from typing import Any

from ..errors import DataError
from .catalogue import Listing

SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}
"""What people call the splits, in lower case, and what they are called here."""

_COLUMNS = {
    "path": ("path", "file", "filename", "image"),
    "label": ("label", "class"),
    "split": ("split", "subset"),
}


def list_table(table: Path, *, labels: str = "required") -> Listing:
    """List the pictures of a CSV, TSV or Parquet table.

    It has a column ``path`` (or file, filename, image), relative to the table's folder, one
    ``label`` (or class) unless labels are ``"optional"`` and, if wanted, one ``split`` (or subset).

    Raises:
        DataError: if a column or a label is missing or a split is none.
    """
    columns = _read_parquet(table) if table.suffix.lower() == ".parquet" else _read_csv(table)
    paths = [str(path).strip() for path in _column(table, columns, "path") or ()]
    classes = _column(table, columns, "label", optional=labels == "optional")
    splits = _column(table, columns, "split", optional=True)
    listing = Listing(
        paths,
        [_word(label) or None for label in classes or ()],
        [_split(table, row, word) for row, word in enumerate(splits or (), 1)],
        root=table.parent,
    )
    if labels == "required":
        _check_labels(table, listing)
    return listing


def _check_labels(table: Path, listing: Listing) -> None:
    for row, (path, label) in enumerate(zip(listing.names, listing.classes, strict=True), 1):
        if label is None:
            raise DataError(
                f"{table}: row {row} ({path}) has no label; expected one in every row; "
                "fill it in or remove the row"
            )


def _column(
    table: Path, columns: dict[str, list[Any]], kind: str, *, optional: bool = False
) -> list[Any] | None:
    by_name = {name.strip().lower(): values for name, values in columns.items()}
    values = next((by_name[name] for name in _COLUMNS[kind] if name in by_name), None)
    if values is None and not optional:
        raise DataError(
            f"{table}: columns {', '.join(columns)}; expected path, label and perhaps split; "
            f"name the column {kind}"
        )
    return values


def _word(value: Any) -> str:
    return "" if value is None else str(value).strip()


def _split(table: Path, row: int, value: Any) -> str:
    word = _word(value).lower()
    if word and word not in SPLIT_WORDS:
        raise DataError(
            f"{table}: row {row} has split {value!r}; expected train, validation or test; "
            "correct it or leave it empty"
        )
    return SPLIT_WORDS.get(word, "")


def _read_csv(table: Path) -> dict[str, list[Any]]:
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


def _read_parquet(table: Path) -> dict[str, list[Any]]:
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

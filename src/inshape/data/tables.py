"""Tables of path, label and split."""

from __future__ import annotations

import csv
import importlib
import os
import posixpath
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

from ..errors import DataError
from ..extras import install
from ..tasks.find import TaskName
from ..tasks.names import same_name
from ..tasks.task import Value
from ..text import join_some, plural
from .catalogue import Listing
from .contents import ending_of, look_into
from .decode import SUFFIXES
from .labels import notes_of_guess, read_flags, read_words

TABLE_SUFFIXES = (".csv", ".tsv", ".parquet")
"""The endings of tables, in lower case."""

SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
"""What people call the splits, in lower case, and what they are called here."""
_OF_A_SPLIT = re.compile(r"[ _-]?(set|data|images|imgs)$")

# Without what is no letter or digit.
_COLUMNS = {
    "path": (
        "path", "file", "filename", "filepath", "image", "imagepath", "imagename", "imagefile",
        "img", "imgpath", "imgname", "picture", "photo", "imageid", "imgid",
    ),
    "label": (
        "label", "class", "classname", "category", "labels", "target", "species", "breed",
        "variety", "diagnosis", "dx", "tag",
    ),
    "split": ("split", "subset"),
}  # fmt: skip
_KNOWN = frozenset(name for names in _COLUMNS.values() for name in names)
_LOOKED_AT = 20  # rows that show what a column is

_Columns: TypeAlias = dict[str, Sequence[Any]]


def split_of(word: str) -> str:
    """The split that people call so; empty for none.

    Example:
        >>> split_of("Valid"), split_of("training_set"), split_of("cats")
        ('validation', 'train', '')
    """
    word = word.strip().lower()
    return SPLIT_WORDS.get(word) or SPLIT_WORDS.get(_OF_A_SPLIT.sub("", word), "")


def list_table(table: Path, *, labels: str = "required", task: TaskName = "auto") -> Listing:
    """List the pictures of a CSV, TSV or Parquet table.

    It has a column ``path`` (or file, filename, image), relative to the table's folder, one
    ``label`` (or class) unless labels are ``"optional"`` and, if wanted, one ``split`` (or subset).
    Columns of other names are taken where what is in them leaves no doubt, a column of 0 and 1 for
    every class or tag instead of labels too. Tags of a picture are separated by ``|``, and none is
    left empty; numbers with a fraction are numbers, unless another task is asked for. A path that
    is not there as it is written (backslashes, no ending, no folder) is looked for below the
    table's folder.

    Raises:
        DataError: if a column or a label is missing, a split is none, or no picture is there.
    """
    pictures = _Pictures(table.parent)
    columns = _read_table(table, pictures)
    warnings: list[str] = []
    path = _named(columns, "path") or _column_of_pictures(table, columns, pictures, warnings)
    split = _named(columns, "split")
    paths = [_text(table, path, value) for value in columns[path]]
    name, values = _labels(table, columns, (path, split), labels, task, warnings)
    splits = [_split(table, row, word) for row, word in enumerate(columns.get(split, ()), 1)]
    _check_filled(table, map(bool, paths), "path", paths)
    if labels == "required":
        _check_filled(table, (value is not None for value in values), "label", paths)
    return Listing(
        pictures.places(table, paths, warnings),
        values,
        splits,
        root=table.parent,
        class_names=_names_of(name, values),
        warnings=warnings,
    )


def _names_of(column: str, values: Sequence[Value]) -> tuple[str, ...] | None:
    """What numbers are called; classes and tags name themselves."""
    return (column,) if any(isinstance(value, float) for value in values) else None


def _read_table(table: Path, pictures: _Pictures) -> _Columns:
    is_parquet = table.suffix.lower() == ".parquet"
    columns = _read_parquet(table) if is_parquet else _read_csv(table, pictures)
    # Some programs save the numbers of the rows with them, in a column that has no name.
    return {n: v for n, v in columns.items() if n and not n.startswith("Unnamed: ")}


def _check_filled(table: Path, filled: Iterable[bool], what: str, paths: Sequence[str]) -> None:
    for row, (is_filled, path) in enumerate(zip(filled, paths, strict=True), 1):
        if not is_filled:
            raise DataError(
                f"{table}: row {row} ({path}) has no {what}; expected one in every row; "
                "fill it in or remove the row"
            )


def _named(columns: _Columns, kind: str) -> str:
    """The column that is called so; empty if none is."""
    by_name = {_plain(name): name for name in reversed(columns)}
    return next((by_name[name] for name in _COLUMNS[kind] if name in by_name), "")


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.lower())


def _column_of_pictures(
    table: Path, columns: _Columns, pictures: _Pictures, warnings: list[str]
) -> str:
    """The one column that names pictures, whatever it is called."""
    taken = (_named(columns, "label"), _named(columns, "split"))
    counts: dict[str, int] = {}
    for name in (n for n in columns if n not in taken):
        words = [_word(value) for value in columns[name]]
        if words and all(map(pictures.has, words[:_LOOKED_AT])):
            counts[name] = len(set(words))
    # Numbers of classes may happen to be names of files, but they come again and again.
    most = [name for name, count in counts.items() if count == max(counts.values())]
    if len(most) == 1:
        warnings.append(f"{table}: column {most[0]!r} is taken as the path")
        return most[0]
    raise _missing(table, columns, "path")


def _column_of_labels(
    table: Path, columns: _Columns, others: Sequence[str], labels: str, warnings: list[str]
) -> str:
    """The one column that is called so, or that is left; empty if there is none or several."""
    name = _named(columns, "label")
    rest = [n for n in columns if n not in others]
    if name or labels == "optional" or len(rest) != 1:
        return name
    warnings.append(f"{table}: column {rest[0]!r} is taken as the label")
    return rest[0]


def _labels(
    table: Path,
    columns: _Columns,
    others: Sequence[str],
    labels: str,
    task: TaskName,
    warnings: list[str],
) -> tuple[str, list[Value]]:
    """The column of labels, which is empty where there is none or several, and what they say."""
    name = _column_of_labels(table, columns, others, labels, warnings)
    if not name and labels != "optional":
        return name, _read_flags(table, columns, others, task, warnings)
    values = read_words([_word(value) for value in columns.get(name, ())], task, str(table))
    warnings += notes_of_guess(values, task, f"{table}: column {name!r}")
    return name, values


def _read_flags(
    table: Path, columns: _Columns, others: Sequence[str], task: TaskName, warnings: list[str]
) -> list[Value]:
    """The labels that several columns of 0 and 1 say."""
    flags = _flags(columns, others)
    if len(flags) < 2:
        raise _missing(table, columns, "label")
    rows = zip(*(columns[name] for name in flags), strict=True)
    values = read_flags(flags, rows, task, str(table))
    kind = "tags" if any(isinstance(value, tuple) for value in values) else "classes"
    warnings.append(f"{table}: columns {join_some(flags)} are taken as the {kind}")
    return values


def _flags(columns: _Columns, others: Sequence[str]) -> list[str]:
    return [name for name in columns if name not in others and _is_flag(columns[name])]


def _is_flag(values: Sequence[Any]) -> bool:
    return all(_word(value) in ("0", "1", "0.0", "1.0") for value in values)


def _missing(table: Path, columns: _Columns, kind: str) -> DataError:
    return DataError(
        f"{table}: columns {join_some(list(columns), 8)}; expected path, label and perhaps split; "
        f"name the column {kind}"
    )


def _text(table: Path, column: str, value: Any) -> str:
    if value is not None and not isinstance(value, str | int):
        raise DataError(
            f"{table}: column {column} holds values of type {type(value).__name__}; expected paths "
            "of files; write the pictures to files"
        )
    return _word(value)


def _word(value: Any) -> str:
    is_missing = value is None or value != value  # as NaN is in tables of numbers
    return "" if is_missing else str(value).strip()


def _split(table: Path, row: int, value: Any) -> str:
    word = _word(value)
    if word and not split_of(word):
        raise DataError(
            f"{table}: row {row} has split {value!r}; expected train, validation or test; "
            "correct it or leave it empty"
        )
    return split_of(word)


@dataclass
class _Pictures:
    """The pictures that a table may mean, below its folder."""

    root: Path

    def has(self, path: str) -> bool:
        """Whether a word is the path of a picture, at least by its looks."""
        return bool(path) and (ending_of(path) in SUFFIXES or self._find(path) is not None)

    def places(self, table: Path, paths: Sequence[str], warnings: list[str]) -> list[str]:
        """Where the pictures are that a table names.

        Raises:
            DataError: if not one of them is there.
        """
        present = {path for path in paths if self._exists(path)}
        elsewhere = self._elsewhere([path for path in paths if path not in present], present)
        if paths and not present and not elsewhere:
            raise DataError(
                f"{table}: none of its pictures is there, such as {paths[0]!r}; expected paths "
                f"relative to {self.root}; correct them, or move the table"
            )
        if elsewhere:
            path, place = next(iter(elsewhere.items()))
            are = plural(len(elsewhere), "path is", "paths are")
            warnings.append(f"{table}: {are} written otherwise, such as {path!r} for {place!r}")
        return [elsewhere.get(path, path) for path in paths]

    def _elsewhere(self, paths: Sequence[str], present: set[str]) -> dict[str, str]:
        """Where pictures are that are not there as they are written."""
        found = {path: self._find(path) for path in dict.fromkeys(paths)}
        # A file that is named as it is called is no other one that is missing.
        return {path: place for path, place in found.items() if place and place not in present}

    def _exists(self, path: str) -> bool:
        return os.path.exists(self.root / path)

    def _find(self, path: str) -> str | None:
        """The one picture that a path can mean that is not there as it is written."""
        path = path.replace("\\", "/")
        if self._exists(path):
            return path
        parent, _, name = path.rpartition("/")
        places = self._by_name.get(_key(name), [])
        if parent and os.path.isdir(self.root / parent):
            parent = posixpath.normpath(parent)
            places = [place for place in places if posixpath.dirname(place) == parent]
        elif parent:
            # Written down on another machine, from another folder.
            near = ("", _key(posixpath.basename(parent)))
            places = [p for p in places if _key(posixpath.basename(posixpath.dirname(p))) in near]
        return places[0] if len(places) == 1 else None

    @cached_property
    def _by_name(self) -> dict[str, list[str]]:
        """All pictures by their names with and without the ending."""
        by_name: dict[str, list[str]] = {}
        for place in look_into(self.root).pictures:
            name = posixpath.basename(place)
            for key in {_key(name), _key(posixpath.splitext(name)[0])}:
                by_name.setdefault(key, []).append(place)
        return by_name


def _key(name: str) -> str:
    return same_name(name).casefold()


def _read_csv(table: Path, pictures: _Pictures) -> _Columns:
    header, *rows = _rows(table)
    _check_fields(table, header, rows)
    if _KNOWN.isdisjoint(map(_plain, header)) and any(pictures.has(c.strip()) for c in header):
        rows = [header, *rows]
        header = _numbered(rows)
    twice = sorted(name for name in set(header) if name and header.count(name) > 1)
    if twice:
        raise DataError(
            f"{table}: more than one column {twice[0]!r}; expected each once; rename the others"
        )
    return {name: [row[i] for row in rows] for i, name in enumerate(header)}


def _check_fields(table: Path, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    for number, row in enumerate((header, *rows)):
        if any("\0" in field for field in row):
            where = f"row {number}" if number else "the header"
            raise DataError(
                f"{table}: a NUL byte in {where}; expected UTF-8 text; save it as UTF-8"
            )
        if len(row) != len(header):
            raise DataError(
                f"{table}: row {number} has {len(row)} fields; expected {len(header)} as in the "
                "header; quote fields that hold a separator"
            )


def _numbered(rows: Sequence[Sequence[str]]) -> list[str]:
    """Names for columns that have none; the first that holds nothing but splits is called so."""
    header = [f"column {number}" for number in range(1, len(rows[0]) + 1)]
    splits = [i for i in range(len(header)) if all(split_of(row[i]) for row in rows)]
    for i in splits[:1]:
        header[i] = "split"
    return header


def _rows(table: Path) -> list[list[str]]:
    """The rows of a table of text, the header first."""
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            first = file.readline()
            # Commas may stand in file names, so the header decides: its names hold no separators.
            separator = max(",;\t", key=first.count)
            file.seek(0)
            rows = [row for row in csv.reader(file, delimiter=separator) if row]
    except UnicodeDecodeError:
        raise DataError(
            f"{table}: not UTF-8 text; expected a CSV table; save it as UTF-8"
        ) from None
    except csv.Error as problem:
        raise DataError(
            f"{table}: {problem}; expected a CSV table of short fields; close every quote"
        ) from None
    except OSError as problem:
        raise DataError(
            f"{table}: {problem.strerror}; expected a CSV table; correct its permissions"
        ) from None
    if not rows:
        raise DataError(f"{table}: an empty file; expected columns path and label; write them")
    return rows


def _read_parquet(table: Path) -> _Columns:
    try:
        parquet = importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise DataError(
            f"{table}: reading Parquet needs pyarrow; expected it to be installed; "
            f"run: {install('parquet')}"
        ) from None
    try:
        return parquet.read_table(table).to_pydict()
    except (OSError, ValueError) as problem:
        reason = " ".join(str(problem).split())
        raise DataError(f"{table}: {reason}; expected a Parquet table; write it again") from None

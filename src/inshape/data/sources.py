"""What a user calls data: folders, tables, arrays and datasets, each to a `Catalogue`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from ..errors import DataError
from ..progress import Advance
from ..requests import Written, write_source
from .arrays import array_catalogue, dataset_catalogue, npy_catalogue, npz_catalogue
from .catalogue import Catalogue, catalogued
from .decode import SUFFIXES
from .tables import SPLIT_WORDS, table_catalogue

Source: TypeAlias = Any
"""What `open_source` takes: see its table."""
SourceField = Annotated[Any, Written(lambda value: value, write_source, "PICTURES")]
"""A source as an option of a request."""

Labels: TypeAlias = Literal["required", "optional"]

_KINDS = (
    "a folder with one subfolder per class, a .csv, .tsv or .parquet table, .npy or .npz arrays, "
    "(pictures, labels) or a tf.data.Dataset"
)


def open_source(
    source: Source,
    *,
    class_names: Sequence[str] | None = None,
    labels: Labels = "required",
    progress: Advance | None = None,
) -> Catalogue:
    """List the pictures of a source, with their classes and splits.

    ============================== ==============================================================
    a folder                       one subfolder per class, which may hold further folders
    a folder of splits             ``train/`` (or ``training/``) with ``val/`` (or ``validation/``,
                                   ``valid/``) and ``test/``, in upper or lower case, each with one
                                   subfolder per class
    ``.csv``, ``.tsv``             columns path, label and, if wanted, split; paths are relative to
    ``.parquet``                   the table (Parquet needs the extra ``inshape[parquet]``)
    ``.npz``                       ``x`` and ``y``, or ``x_train``, ``y_train``, ``x_val``, ...
    ``.npy``                       pictures, with the labels beside: ``x.npy`` and ``y.npy``, or
                                   ``images.npy`` and ``labels.npy``; it is mapped, not loaded;
                                   (pictures, height, width[, channels])
    ``(x, y)``                     arrays; ``x`` is (pictures, height, width[, channels])
    a ``tf.data.Dataset``          of (picture, label), batched or not, read into memory once
    ============================== ==============================================================

    Hidden files and folders are ignored, and so are files that are no pictures. Every file is read
    once, for the content hashes by which identical pictures are found.

    Args:
        source: one of the above, or a `Catalogue`, which is returned as it is.
        class_names: the classes of a model that exists; one class alone is then enough, and a class
            that is not among them is an error.
        labels: ``"optional"`` also takes pictures without classes, such as a flat folder or a
            single file.
        progress: told how far the reading is.

    Returns:
        The catalogue.

    Raises:
        DataError: if there is nothing to read, fewer than two classes, a class that training does
            not have, or more than 5 % of the files cannot be opened.

    Example:
        >>> import numpy as np
        >>> pictures = np.zeros((4, 8, 8, 3), np.uint8)
        >>> catalogue = open_source((pictures, ["cat", "dog", "cat", "dog"]))
        >>> catalogue.class_names, catalogue.counts()
        (('cat', 'dog'), {'cat': 2, 'dog': 2})
    """
    if isinstance(source, Catalogue):
        return source
    shown = "the data"
    if isinstance(source, str | Path):
        shown = str(source)
        found = _from_path(Path(source), class_names, labels, progress)
    elif type(source) in (tuple, list) and len(source) == 2:
        found = array_catalogue(source[0], source[1], class_names=class_names, progress=progress)
    elif hasattr(source, "element_spec") and hasattr(source, "as_numpy_iterator"):
        found = dataset_catalogue(source, class_names=class_names, progress=progress)
    else:
        raise DataError(
            f"data of type {type(source).__name__}; expected {_KINDS}; convert it first"
        )
    return _checked(found, shown, class_names is not None, labels)


def source_text(source: Source) -> str:
    """What a source is called in a record or a message."""
    return str(source) if isinstance(source, str | Path) else "the data"


def find_pictures(folder: Path) -> tuple[list[str], set[str]]:
    """Picture files below a folder.

    Args:
        folder: hidden entries in it are ignored.

    Returns:
        Paths relative to the folder, sorted, and the endings of the other files.
    """
    found: list[str] = []
    others: set[str] = set()
    for here, folders, files in os.walk(folder):
        folders[:] = sorted(f for f in folders if not _hidden(f))
        for file in files:
            if _hidden(file):
                continue
            suffix = os.path.splitext(file)[1].lower()
            if suffix in SUFFIXES:
                found.append(Path(here, file).relative_to(folder).as_posix())
            else:
                others.add(suffix or file)
    return sorted(found), others


def _hidden(name: str) -> bool:
    return name.startswith(".") or name in ("__MACOSX", "Thumbs.db", "desktop.ini")


def _from_path(
    path: Path, class_names: Sequence[str] | None, labels: Labels, progress: Advance | None
) -> Catalogue:
    if path.is_dir():
        return _from_folder(path, class_names, labels, progress)
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; expected {_KINDS}; check the path")
    suffix = path.suffix.lower()
    if suffix in (".csv", ".tsv", ".parquet"):
        return table_catalogue(path, class_names=class_names, labels=labels, progress=progress)
    if suffix == ".npz":
        return npz_catalogue(path, class_names=class_names, progress=progress)
    if suffix == ".npy":
        found = npy_catalogue(path, class_names=class_names, labels=labels, progress=progress)
        if found is not None:
            return found
    if suffix in SUFFIXES and labels == "optional":
        return catalogued(
            [path.name], [None], [""], root=path.parent, class_names=class_names or ()
        )
    raise DataError(f"{path}: not a source of labelled pictures; expected {_KINDS}; check the path")


def _from_folder(
    folder: Path, class_names: Sequence[str] | None, labels: Labels, progress: Advance | None
) -> Catalogue:
    parts, warnings = _parts(folder, labels)
    names: list[str] = []
    classes: list[str | None] = []
    splits: list[str] = []
    others: set[str] = set()
    for split, part in parts:
        found, strange = find_pictures(part)
        others |= strange
        stray = 0
        for name in found:
            first, *rest = Path(name).parts
            if not rest and labels == "required":
                stray += 1
                continue
            names.append((part / name).relative_to(folder).as_posix())
            classes.append(first if rest else None)
            splits.append(split)
        if stray and names:
            warnings.append(
                f"{part}: {stray} {'picture lies' if stray == 1 else 'pictures lie'} outside the "
                "class folders and cannot be used"
            )
        elif stray:
            raise DataError(
                f"{part}: {stray} pictures and no class folders; expected one subfolder per class; "
                "sort the pictures into folders or write a table of path,label"
            )
        filled = {c for c, s in zip(classes, splits, strict=True) if s == split}
        warnings += [
            f"{part / name}: no pictures in it, so it is no class"
            for name in _folders(part)
            if name not in filled
        ]
    if not names:
        held = f"only {', '.join(sorted(others)[:5])} files" if others else "nothing"
        raise DataError(
            f"{folder}: {held} in it, no pictures; expected one subfolder of pictures "
            f"({' '.join(sorted(SUFFIXES))}) per class; check the path"
        )
    if class_names is None and all(c is None for c in classes):
        class_names = ()
    known = class_names
    if labels == "optional" and class_names is not None and not set(classes) <= set(class_names):
        # Folders of pictures that only want a prediction need not be named after classes.
        classes = [None] * len(classes)
    return catalogued(
        names, classes, splits, root=folder, class_names=known, warnings=warnings, progress=progress
    )


def _parts(folder: Path, labels: Labels) -> tuple[list[tuple[str, Path]], list[str]]:
    """The splits that a folder is divided into, or the whole of it, and warnings."""
    inside = _folders(folder)
    found = [name for name in inside if name.lower() in SPLIT_WORDS]
    others = [name for name in inside if name not in found]
    trained = "train" in {SPLIT_WORDS[name.lower()] for name in found}
    if not trained or (others and len(found) == 1):  # one folder of that name may be a class
        return [("", folder)], []
    strange = [name for name in others if find_pictures(folder / name)[0]]
    if strange and labels == "required":
        raise DataError(
            f"{folder}: {', '.join(strange)} beside {', '.join(found)}; expected splits alone or "
            "classes alone; move what is no split elsewhere, or write a table of path,label,split"
        )
    if strange:
        return [("", folder)], []
    parts = [(SPLIT_WORDS[name.lower()], folder / name) for name in found]
    return parts, [f"{folder / name}: no pictures in it, so it is no split" for name in others]


def _folders(folder: Path) -> list[str]:
    return sorted(e.name for e in os.scandir(folder) if e.is_dir() and not _hidden(e.name))


def _checked(found: Catalogue, source: str, classes_known: bool, labels: Labels) -> Catalogue:
    if not len(found):
        raise DataError(f"{source}: no pictures; expected {_KINDS}; check the path")
    if labels == "optional" or classes_known:
        return found
    held = [name for name, count in found.counts().items() if count]
    if len(held) < 2:
        raise DataError(
            f"{source}: only one class, {held[0]!r}; expected two or more; add pictures of what is "
            f"not {held[0]!r}, or point at the folder above"
        )
    return replace(found, warnings=found.warnings + _split_warnings(found))


def _split_warnings(found: Catalogue) -> tuple[str, ...]:
    present = [split for split in ("validation", "test") if (found.splits == split).any()]
    trained = found.counts("train")
    if present and not any(trained.values()):
        trained = found.counts("")
    warnings: list[str] = []
    for split in present:
        counts = found.counts(split)
        unknown = _missing(counts, trained)
        if unknown:
            raise DataError(
                f"{split} has pictures of {', '.join(unknown)}, of which training has none; "
                "expected the same classes; add training pictures or remove these"
            )
        absent = _missing(trained, counts)
        if absent:
            warnings.append(f"{split} has no pictures of {', '.join(absent)}")
    return tuple(warnings)


def _missing(these: dict[str, int], those: dict[str, int]) -> Iterable[str]:
    return [repr(name) for name, count in these.items() if count and not those[name]]

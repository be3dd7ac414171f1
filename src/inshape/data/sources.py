"""What a user calls data: folders, tables, arrays and datasets, each to a `Catalogue`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from ..errors import DataError
from ..progress import Advance
from ..requests import Written, read_location, write_source
from ..text import plural
from .arrays import list_arrays, list_dataset, list_npy, list_npz
from .catalogue import Catalogue, Listing, read_catalogue
from .decode import SUFFIXES
from .tables import SPLIT_WORDS, list_table

Source: TypeAlias = Any
"""What `open_source` takes: see its table."""


Labels: TypeAlias = Literal["required", "optional", "none"]

_KINDS = (
    "a folder with one subfolder per class, a .csv, .tsv or .parquet table, .npy or .npz arrays, "
    "(pictures, labels) or a tf.data.Dataset"
)


def check_source(source: Source) -> None:
    """Refuse the path of a source that is not there.

    Raises:
        DataError: if there is nothing at the path.
    """
    if isinstance(source, str | Path) and not Path(source).exists():
        raise DataError(f"{source}: no such file or folder; expected {_KINDS}; check the path")


SourceField = Annotated[Any, Written(read_location, write_source, "PICTURES", check=check_source)]
"""A source as an option of a request."""


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
    once, for the content hashes by which identical pictures are known.

    A `Catalogue` is returned as it is. With ``class_names``, those of a model that exists, one
    class alone is enough, and a class that is not among them is an error. Where ``labels`` are
    ``"optional"``, a flat folder and a single file will do too. Where they are ``"none"``, no class
    and no split is looked for, and every picture that cannot be used is left out, however many.

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
    has_labels = labels != "none"
    listing = _list_source(source, class_names, labels if has_labels else "optional")
    if listing.class_names is None:
        listing = replace(listing, class_names=class_names)
    if not has_labels:
        listing = replace(listing, classes=(), splits=(), is_lenient=True)
    catalogue = read_catalogue(listing, progress)
    if not len(catalogue):
        raise DataError(f"{source_text(source)}: no pictures; expected {_KINDS}; check the path")
    if labels != "required" or class_names is not None:
        return catalogue
    return _check_classes(catalogue, source_text(source))


def source_text(source: Source) -> str:
    """What a source is called in a record or a message."""
    return str(source) if isinstance(source, str | Path) else "the data"


def find_pictures(folder: Path) -> tuple[list[str], set[str]]:
    """Picture files below a folder, relative and sorted, and the endings of the other files."""
    pictures: list[str] = []
    others: set[str] = set()
    for here, folders, files in os.walk(folder):
        folders[:] = sorted(f for f in folders if not _is_hidden(f))
        for file in files:
            if _is_hidden(file):
                continue
            suffix = os.path.splitext(file)[1].lower()
            if suffix in SUFFIXES:
                pictures.append(Path(here, file).relative_to(folder).as_posix())
            else:
                others.add(suffix or file)
    return sorted(pictures), others


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name in ("__MACOSX", "Thumbs.db", "desktop.ini")


def _list_source(source: Source, class_names: Sequence[str] | None, labels: Labels) -> Listing:
    if isinstance(source, str | Path):
        path = Path(source)
        if path.is_dir():
            listing = _list_folder(path, labels)
            # Folders of pictures that only want a prediction need not be named after classes.
            is_foreign = class_names is not None and not set(listing.classes) <= set(class_names)
            return replace(listing, classes=()) if labels == "optional" and is_foreign else listing
        return _list_file(path, class_names, labels)
    if type(source) in (tuple, list) and len(source) == 2:
        return list_arrays(source[0], source[1], class_names=class_names)
    if hasattr(source, "element_spec") and hasattr(source, "as_numpy_iterator"):
        return list_dataset(source, class_names=class_names)
    raise DataError(f"data of type {type(source).__name__}; expected {_KINDS}; convert it first")


def _list_file(path: Path, class_names: Sequence[str] | None, labels: Labels) -> Listing:
    check_source(path)
    suffix = path.suffix.lower()
    if suffix in (".csv", ".tsv", ".parquet"):
        return list_table(path, labels=labels)
    if suffix == ".npz":
        return list_npz(path, class_names=class_names)
    if suffix == ".npy":
        return list_npy(path, class_names=class_names, labels=labels)
    if suffix in SUFFIXES and labels == "optional":
        return Listing([path.name], root=path.parent)
    raise DataError(f"{path}: not a source of labelled pictures; expected {_KINDS}; check the path")


def _list_folder(folder: Path, labels: Labels) -> Listing:
    parts, warnings = _split_folders(folder, labels)
    names: list[str] = []
    classes: list[str | None] = []
    splits: list[str] = []
    others: set[str] = set()
    for split, part in parts:
        pictures, endings = find_pictures(part)
        others |= endings
        if labels == "required":
            filed = list(filter(_class_of, pictures))
            warnings += _warn_of_strays(part, len(pictures) - len(filed), bool(names or filed))
            pictures = filed
        class_folders = [_class_of(name) for name in pictures]
        empty = sorted(set(_folders(part)).difference(filter(None, class_folders)))
        warnings += [f"{part / name}: no pictures in it, so it is no class" for name in empty]
        names += [(part / name).relative_to(folder).as_posix() for name in pictures]
        classes += class_folders
        splits += [split] * len(pictures)
    if not names:
        raise _no_pictures(folder, others)
    return Listing(names, classes, splits, root=folder, warnings=warnings)


def _class_of(name: str) -> str | None:
    """The folder directly below the source; none if the picture lies there itself."""
    first, slash, _ = name.partition("/")
    return first if slash else None


def _no_pictures(folder: Path, endings: set[str]) -> DataError:
    contents = f"only {', '.join(sorted(endings)[:5])} files" if endings else "nothing"
    return DataError(
        f"{folder}: {contents} in it, no pictures; expected one subfolder of pictures "
        f"({' '.join(sorted(SUFFIXES))}) per class; check the path"
    )


def _warn_of_strays(folder: Path, count: int, has_classes: bool) -> list[str]:
    """Say that pictures lie beside the class folders, or refuse a folder without any of these."""
    if not count:
        return []
    if has_classes:
        lie = plural(count, "picture lies", "pictures lie")
        return [f"{folder}: {lie} outside the class folders and cannot be used"]
    raise DataError(
        f"{folder}: {plural(count, 'picture')} and no class folders; expected one subfolder per "
        "class; sort the pictures into folders or write a table of path,label"
    )


def _split_folders(folder: Path, labels: Labels) -> tuple[list[tuple[str, Path]], list[str]]:
    """The splits that a folder is divided into, or the whole of it, and warnings."""
    folders = _folders(folder)
    splits = {name: SPLIT_WORDS[name.lower()] for name in filter(_is_split, folders)}
    others = [name for name in folders if name not in splits]
    whole = [("", folder)]
    # One folder called "train" among others may be a class.
    if "train" not in splits.values() or (others and len(splits) == 1):
        return whole, []
    filled = _with_pictures(folder, others)
    if filled and labels == "required":
        raise DataError(
            f"{folder}: {', '.join(filled)} beside {', '.join(splits)}; expected splits alone or "
            "classes alone; move what is no split elsewhere, or write a table of path,label,split"
        )
    if filled:
        return whole, []
    warnings = [f"{folder / name}: no pictures in it, so it is no split" for name in others]
    return [(split, folder / name) for name, split in splits.items()], warnings


def _with_pictures(folder: Path, names: list[str]) -> list[str]:
    return [name for name in names if find_pictures(folder / name)[0]]


def _is_split(name: str) -> bool:
    return name.lower() in SPLIT_WORDS


def _folders(folder: Path) -> list[str]:
    return sorted(e.name for e in os.scandir(folder) if e.is_dir() and not _is_hidden(e.name))


def _check_classes(catalogue: Catalogue, source: str) -> Catalogue:
    """Refuse classes that nothing can be trained on; warn of those that a split lacks."""
    present = [name for name, count in catalogue.counts().items() if count]
    if len(present) < 2:
        raise DataError(
            f"{source}: only one class, {present[0]!r}; expected two or more; add pictures of what "
            f"is not {present[0]!r}, or point at the folder above"
        )
    splits = [split for split in ("validation", "test") if (catalogue.splits == split).any()]
    trained = catalogue.counts("train")
    if not any(trained.values()):
        trained = catalogue.counts("")
    warnings: list[str] = []
    for split in splits:
        counts = catalogue.counts(split)
        unknown = _missing(counts, trained)
        if unknown:
            raise DataError(
                f"{split} has pictures of {', '.join(unknown)}, of which training has none; "
                "expected the same classes; add training pictures or remove these"
            )
        absent = _missing(trained, counts)
        if absent:
            warnings.append(f"{split} has no pictures of {', '.join(absent)}")
    return replace(catalogue, warnings=(*catalogue.warnings, *warnings))


def _missing(these: dict[str, int], those: dict[str, int]) -> list[str]:
    return [repr(name) for name, count in these.items() if count and not those[name]]

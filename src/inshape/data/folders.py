"""Folders of pictures: which of their subfolders are splits, which are classes."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Literal, TypeAlias

from ..errors import DataError
from ..text import plural
from .catalogue import Listing, same_name
from .contents import Contents, look_into
from .tables import TABLE_SUFFIXES, split_of

Labels: TypeAlias = Literal["required", "optional", "none"]

_Part: TypeAlias = tuple[str, str]  # a split, and its folder with a slash behind it


def list_folder(
    folder: Path, *, labels: Labels = "required", class_names: Collection[str] | None = None
) -> Listing:
    """List the pictures of a folder with one subfolder per class, or of a folder of splits.

    Where labels are required, a folder that holds nothing but another one, as archives are often
    unpacked, is passed through unless ``class_names`` say that it is a class.

    Raises:
        DataError: if there are no pictures or no class folders.
    """
    contents = look_into(folder)
    if not contents.pictures:
        raise _no_pictures(folder, contents)
    warnings = contents.warnings(folder)
    start, known = "", set(map(same_name, class_names or ()))
    if labels == "required":
        start = _pass_through(folder, contents, start, known, warnings)
    names: list[str] = []
    classes: list[str | None] = []
    splits: list[str] = []
    for split, part in _parts(folder, contents, start, labels, warnings):
        inner = part
        if labels == "required" and split:
            inner = _pass_through(folder, contents, part, known, warnings)
        flat, filled, empty = contents.below(inner)
        if split == "test" and len(filled) == 1 and same_name(filled[0]) not in known:
            # Pictures to predict, in a folder of their own since some loaders find no others.
            inner = f"{inner}{filled[0]}/"
            flat, filled, empty = contents.below(inner)
        if labels == "required" and flat:
            warnings.append(_strays(folder, inner, split, len(flat), bool(filled)))
        warnings += [f"{folder / inner / n}: no pictures in it, so it is no class" for n in empty]
        for name in (n for n in contents.pictures if n.startswith(inner)):
            first, slash, _ = name.removeprefix(inner).partition("/")
            if slash or labels == "optional":
                names.append(name)
                classes.append(first if slash else None)
                splits.append(split)
        known.update(map(same_name, filled))  # a split may lack all of these but one
    return Listing(names, classes, splits, root=folder, warnings=warnings)


def _pass_through(
    folder: Path, contents: Contents, start: str, known: set[str], warnings: list[str]
) -> str:
    """The folder of the classes or splits: this one, or the one that is all that it holds."""
    inner = _innermost(contents, start, known)
    if inner != start:
        warnings.append(
            f"{folder / start}: all its pictures are in {inner[len(start) : -1]}, whose subfolders "
            "are taken"
        )
    return inner


def _innermost(contents: Contents, start: str, known: set[str]) -> str:
    flat, filled, _ = contents.below(start)
    if flat or len(filled) != 1 or same_name(filled[0]) in known:
        return start
    inner = _innermost(contents, f"{start}{filled[0]}/", known)
    flat, filled, _ = contents.below(inner)
    return start if flat or len(filled) == 1 else inner


def _has_train(names: Iterable[str]) -> bool:
    return "train" in map(split_of, names)


def _parts(
    folder: Path, contents: Contents, start: str, labels: Labels, warnings: list[str]
) -> list[_Part]:
    """The splits that a folder is divided into, that for training first, or the whole of it."""
    _, filled, empty = contents.below(start)
    splits = {name: split_of(name) for name in sorted((*filled, *empty)) if split_of(name)}
    others = [name for name in filled if name not in splits]
    # One folder called "train" among others may be a class.
    if not _has_train(splits) or (others and len(splits) == 1):
        return [("", start)]
    if others and labels == "optional":
        return [("", start)]
    if others:
        raise DataError(
            f"{folder / start}: {', '.join(others)} beside {', '.join(splits)}; expected splits "
            "alone or classes alone; move what is no split elsewhere, or write a table of "
            "path,label,split"
        )
    strange = [name for name in empty if name not in splits]
    warnings += [f"{folder / start / n}: no pictures in it, so it is no split" for n in strange]
    parts = [(split, f"{start}{name}/") for name, split in splits.items()]
    return sorted(parts, key=lambda part: part[0] != "train")


def _strays(folder: Path, inner: str, split: str, count: int, has_classes: bool) -> str:
    """The line on pictures that lie beside class folders or where some should be.

    Those for training are refused if there are no class folders, since there is nothing else.
    """
    if has_classes or split not in ("", "train"):
        lie = plural(count, "picture lies", "pictures lie")
        return f"{folder / inner}: {lie} outside the class folders and cannot be used"
    tables = sorted(p.name for p in folder.iterdir() if p.suffix.lower() in TABLE_SUFFIXES)
    table = f"give the table {tables[0]}" if tables else "write a table of path,label"
    raise DataError(
        f"{folder / inner}: {plural(count, 'picture')} and no class folders; expected one "
        f"subfolder per class; sort the pictures into folders or {table}"
    )


def _no_pictures(folder: Path, contents: Contents) -> DataError:
    endings = ", ".join(sorted(contents.others)[:5])
    only = f"only {endings} files" if endings else "nothing"
    left_out = f", left out {', '.join(contents.left_out[:3])}" if contents.left_out else ""
    return DataError(
        f"{folder}: {only} in it, no pictures{left_out}; expected one subfolder of pictures (.jpg, "
        f".png, .webp, .tif, .npy and others) per class; check the path{contents.advice}"
    )

"""Folders of pictures: which of their subfolders are splits, which are classes."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from ..errors import DataError
from ..tasks.names import same_name
from ..text import plural
from .catalogue import Listing
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
    known = set(map(same_name, class_names or ()))
    return _Folder(folder, contents, labels, known, contents.warnings(folder)).listing()


@dataclass(frozen=True, slots=True)
class _Folder:
    """A folder whose pictures are being listed."""

    path: Path
    contents: Contents
    labels: Labels
    known: set[str]
    """The classes so far."""
    warnings: list[str]

    def listing(self) -> Listing:
        """Its pictures with their classes and splits."""
        names: list[str] = []
        classes: list[str | None] = []
        splits: list[str] = []
        for split, part in self._parts(self._pass_through("")):
            inner = self._classes_of(split, part)
            for name in (n for n in self.contents.pictures if n.startswith(inner)):
                first, slash, _ = name.removeprefix(inner).partition("/")
                if slash or self.labels == "optional":
                    names.append(name)
                    classes.append(first if slash else None)
                    splits.append(split)
        return Listing(names, classes, splits, root=self.path, warnings=self.warnings)

    def _classes_of(self, split: str, part: str) -> str:
        """The folder of a split's classes, which are known from now on."""
        inner = self._pass_through(part) if split else part
        flat, filled, empty = self.contents.below(inner)
        if split == "test" and len(filled) == 1 and same_name(filled[0]) not in self.known:
            # Pictures to predict, in a folder of their own since some loaders find no others.
            inner = f"{inner}{filled[0]}/"
            flat, filled, empty = self.contents.below(inner)
        if self.labels == "required" and flat:
            self.warnings.append(_strays(self.path, inner, split, len(flat), bool(filled)))
        place = self.path / inner
        self.warnings.extend(f"{place / n}: no pictures in it, so it is no class" for n in empty)
        self.known.update(map(same_name, filled))  # a split may lack all of these but one
        return inner

    def _pass_through(self, start: str) -> str:
        """The folder of the classes or splits: this one, or the one that is all that it holds."""
        if self.labels != "required":
            return start
        inner = _innermost(self.contents, start, self.known)
        if inner != start:
            self.warnings.append(
                f"{self.path / start}: all its pictures are in {inner[len(start) : -1]}, whose "
                "subfolders are taken"
            )
        return inner

    def _parts(self, start: str) -> list[_Part]:
        """The splits that it is divided into, that for training first, or the whole of it."""
        _, filled, empty = self.contents.below(start)
        splits = {name: split_of(name) for name in sorted((*filled, *empty)) if split_of(name)}
        others = sorted(set(filled) - splits.keys())
        # One folder called "train" among others may be a class.
        may_be_classes = len(splits) == 1 or self.labels == "optional"
        if "train" not in splits.values() or (others and may_be_classes):
            return [("", start)]
        place = self.path / start
        if others:
            raise DataError(
                f"{place}: {', '.join(others)} beside {', '.join(splits)}; expected splits alone "
                "or classes alone; move what is no split elsewhere, or write a table of "
                "path,label,split"
            )
        strange = sorted(set(empty) - splits.keys())
        self.warnings.extend(f"{place / n}: no pictures in it, so it is no split" for n in strange)
        parts = [(split, f"{start}{name}/") for name, split in splits.items()]
        return sorted(parts, key=lambda part: part[0] != "train")


def _innermost(contents: Contents, start: str, known: set[str]) -> str:
    flat, filled, _ = contents.below(start)
    if flat or len(filled) != 1 or same_name(filled[0]) in known:
        return start
    inner = _innermost(contents, f"{start}{filled[0]}/", known)
    flat, filled, _ = contents.below(inner)
    return start if flat or len(filled) == 1 else inner


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

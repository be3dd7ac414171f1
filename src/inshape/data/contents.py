"""What lies below a folder: pictures, other files, and what is better not opened."""

from __future__ import annotations

import os
import re
import stat
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..errors import DataError
from ..text import join_some, plural
from .decode import HEIC_ADVICE, HEIC_SUFFIXES, PREFIX_BYTES, SUFFIXES, has_heic, starts_as_picture

# What systems, network drives and archives leave behind, in lower case.
_LITTER = frozenset(
    (
        "__macosx", "@eadir", "@recently-snapshot", "@recycle", "@sharebin", "@tmp", "#recycle",
        "#snapshot", "$recycle.bin", "recycler", "lost+found", "system volume information",
        "__pycache__", "thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "icon\r",
    )
)  # fmt: skip
PICTURE_FOLDERS = ("images", "image", "imgs", "img", "pictures", "photos", "jpegimages", "frames")
"""What folders of pictures are called that have labels in others beside them."""
_ENDING = re.compile(r"\.[a-z][a-z0-9]*")
_NO_ENDING = "without an ending"
_MOST_LINKS = 3  # inside one another; folders of links to each other are as good as endless
_KINDS = (
    (stat.S_ISDIR, "a folder, not a file"),
    (stat.S_ISFIFO, "a pipe, not a file"),
    (stat.S_ISSOCK, "a socket, not a file"),
    (stat.S_ISCHR, "a device, not a file"),
    (stat.S_ISBLK, "a device, not a file"),
)


@dataclass(frozen=True, slots=True)
class Contents:
    """What lies below a folder, by names relative to it, with slashes between."""

    pictures: list[str] = field(default_factory=list[str])
    """Sorted."""
    folders: list[str] = field(default_factory=list[str])
    """Those that could be read, sorted."""
    others: Counter[str] = field(default_factory=Counter[str])
    """How many files of each ending are no pictures."""
    left_out: list[str] = field(default_factory=list[str])
    """What could not be read or was not opened, each with the reason."""

    def below(self, prefix: str) -> tuple[list[str], list[str], list[str]]:
        """Pictures right below a folder, its subfolders with pictures, and those without.

        The prefix is empty, or the folder's name with a slash behind it.
        """
        inner, folders = _inside(self.pictures, prefix), _inside(self.folders, prefix)
        flat = [name for name in inner if "/" not in name]
        filled = sorted({name.partition("/")[0] for name in inner if "/" in name})
        return flat, filled, [f for f in folders if "/" not in f and f not in filled]

    def warnings(self, folder: Path) -> list[str]:
        """One line on what could not be read, and one on files that are no pictures."""
        lines = [f"{folder}: left out {join_some(self.left_out)}"] if self.left_out else []
        if self.others:
            counts = [f"{count} {ending}" for ending, count in self.others.most_common()]
            nouns = "file that is no picture", "files that are no pictures"
            files = plural(self.others.total(), *nouns)
            lines.append(f"{folder}: left out {files}: {join_some(counts)}{self.advice}")
        return lines

    def without(self, files: Counter[str]) -> Contents:
        """The same without files that are no pictures and were read all the same."""
        return replace(self, others=self.others - files)

    @property
    def advice(self) -> str:
        """How the other files could be read, where there is a way."""
        return "" if HEIC_SUFFIXES.isdisjoint(self.others) else f"; {HEIC_ADVICE}"


def look_into(folder: Path) -> Contents:
    """Walk through a folder, links to other folders included.

    Hidden files are ignored, and so is what systems leave behind. Nothing but plain files is opened
    or counted as a picture: a pipe or a device might never end.

    Raises:
        DataError: if the folder itself cannot be read.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as place:
        ...     for name in ("a.jpg", "b.txt", ".c.jpg"):
        ...         (Path(place) / name).touch()
        ...     contents = look_into(Path(place))
        >>> contents.pictures, contents.others
        (['a.jpg'], Counter({'.txt': 1}))
    """
    contents = Contents()
    try:
        above = [_identity(os.stat(folder))]
        entries = _entries(folder)
    except OSError as problem:
        raise DataError(
            f"{folder}: {problem.strerror}; expected a folder that can be read; correct its "
            "permissions or choose another"
        ) from None
    _walk(entries, "", above, 0, contents)
    contents.pictures.sort()
    contents.folders.sort()
    return contents


def first_file(folder: Path, names: Iterable[str]) -> Path | None:
    """The first of some files in a folder that there is."""
    return next(filter(Path.is_file, map(folder.joinpath, names)), None)


def without_ending(name: str) -> str:
    """A name up to its last dot; one that only begins with it is whole."""
    return name.rpartition(".")[0] or name


def lines_on_left_out(
    folder: Path, names: Sequence[str], one: str, many: str | None = None
) -> list[str]:
    """A line on what is left out of a folder, if anything is."""
    first, _, more = one.partition(" ")
    what = plural(len(names), one, many or f"{first}s {more}")
    return [f"{folder}: {what}, left out: {join_some(names)}"] if names else []


def _inside(names: Sequence[str], prefix: str) -> list[str]:
    """The names that begin with a prefix, without it."""
    return [name.removeprefix(prefix) for name in names if name.startswith(prefix)]


def kind_of(mode: int) -> str:
    """What stands at a path, by its mode; empty for a plain file."""
    return next((kind for is_kind, kind in _KINDS if is_kind(mode)), "")


def _entries(folder: Path | str) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return sorted((e for e in entries if not _is_litter(e.name)), key=lambda e: e.name)


def _is_litter(name: str) -> bool:
    return name.startswith(".") or name.lower() in _LITTER


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _walk(
    entries: Sequence[os.DirEntry[str]],
    prefix: str,
    above: list[tuple[int, int]],
    links: int,
    contents: Contents,
) -> None:
    """Add what a folder holds, whose own identity is the last of those above."""
    for entry in entries:
        name = prefix + entry.name
        try:
            name.encode()
            if not entry.is_dir():
                _add_file(entry, name, contents)
                continue
            identity, deep = _identity(entry.stat()), links + entry.is_symlink()
            if identity in above or deep > _MOST_LINKS:
                contents.left_out.append(f"{printable(name)} (links that lead round in a circle)")
                continue
            inner = _entries(entry.path)
        except UnicodeEncodeError:
            contents.left_out.append(f"{printable(name)} (a name that is not UTF-8; rename it)")
        except OSError as problem:
            contents.left_out.append(f"{printable(name)} ({problem.strerror})")
        else:
            contents.folders.append(name)
            _walk(inner, f"{name}/", [*above, identity], deep, contents)


def _add_file(entry: os.DirEntry[str], name: str, contents: Contents) -> None:
    # The folder itself knows plain files; to ask for each would take a call to the system.
    if not entry.is_file(follow_symlinks=False):
        try:
            kind = kind_of(entry.stat().st_mode)
        except FileNotFoundError:
            kind = ""  # a link to nothing; a picture that is gone is reported where it is read
        if kind:
            contents.left_out.append(f"{printable(name)} ({kind})")
            return
    if is_picture(entry.path):
        contents.pictures.append(name)
    else:
        contents.others[ending_of(name) or _NO_ENDING] += 1


def ending_of(name: str) -> str:
    """A file's ending in lower case; empty where it says nothing of what is in the file.

    Example:
        >>> ending_of("a/B.JPG"), ending_of("2024.05.17"), ending_of("photo.jpg_large")
        ('.jpg', '', '')
    """
    ending = os.path.splitext(name)[1].lower()
    return ending if _ENDING.fullmatch(ending) else ""


def is_picture(path: str | os.PathLike[str]) -> bool:
    """Whether a plain file is a picture, by its ending or else by its first bytes."""
    ending = ending_of(os.fspath(path))
    if ending:
        return ending in SUFFIXES or (ending in HEIC_SUFFIXES and has_heic())
    try:
        with open(path, "rb") as file:
            return starts_as_picture(file.read(PREFIX_BYTES))
    except FileNotFoundError:  # a link to nothing
        return False


def printable(name: str) -> str:
    r"""A name in letters that can be printed.

    Example:
        >>> printable("a\nb"), printable(os.fsdecode(b"caf\xe9"))
        ('a\\nb', 'caf\\xe9')
    """
    if name.isprintable():
        return name
    stored = os.fsencode(name)
    return stored.decode("latin-1").encode("unicode_escape").decode("ascii")

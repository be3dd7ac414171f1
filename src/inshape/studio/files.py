"""What the page may read and write: only below its folder, and only so much.

Names come from outside. A path is resolved, links included, before it is compared with the folder;
an archive is measured while it is unpacked, since what it says of itself may be wrong.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ..data.contents import look_into
from ..data.decode import SUFFIXES, stored_shape
from ..errors import DataError, OutputExists, RequestError, shown
from ..text import format_bytes, format_count
from ..writing import make_folder, new_part, write_atomically

OWN = ".inshape"
"""The folder below the page's own in which it keeps uploads, logs and what it started."""
UPLOAD_BYTES = 512 * 2**20
"""The most bytes of one upload."""
_UNPACKED_BYTES = 4 * 2**30
_ENTRIES = 50_000
_RATIO = 100
"""Pictures are compressed already: a hundredfold is no archive of pictures."""
_PICTURE_PIXELS = 50_000_000
_DEEPEST = 4
_LONGEST = 100
_BAD = re.compile(r'[\x00-\x1f\x7f/\\:*?"|]')
_BLOCK = 2**20


@dataclass(frozen=True, slots=True)
class Files:
    """The folder that the page was started for."""

    root: Path
    """Resolved."""

    @classmethod
    def of(cls, folder: Path) -> Files:
        """The folder of a page, which has to be there.

        Raises:
            RequestError: if there is none.
        """
        if not folder.is_dir():
            raise RequestError(f"{folder} is no folder; expected one to work in; make it first")
        return cls(folder.resolve())

    @property
    def own(self) -> Path:
        """Where the page keeps what is its own; made when it is first needed."""
        folder = self.root / OWN
        make_folder(folder)
        return folder

    def below(self, name: str) -> Path:
        """The path of a name below the folder, whatever links lie on the way.

        Raises:
            RequestError: if it leads elsewhere, or into what is the page's own.
        """
        if "\0" in name or not name.strip():
            raise RequestError(f"{shown(name)} is no name of a file or folder; write one")
        path = (self.root / name).resolve()
        if not path.is_relative_to(self.root) or path == self.root:
            raise RequestError(
                f"{shown(name)} is not below the studio's folder; expected a name below it; start "
                "the studio for the folder that holds it"
            )
        if OWN in path.relative_to(self.root).parts:
            raise RequestError(f"{shown(name)} is the studio's own; name another folder")
        return path

    def name_of(self, path: Path) -> str:
        """A path as the page shows it: relative to the folder, with slashes."""
        return path.relative_to(self.root).as_posix()

    def new(self, name: str) -> Path:
        """The path of a folder to make.

        Raises:
            RequestError: if the name is none, or leads elsewhere.
            OutputExists: if something is there.
        """
        for part in PurePosixPath(name).parts:
            check_name(part)
        path = self.below(name)
        if path.exists():
            raise OutputExists(f"{name} exists already; expected a new folder; name another")
        return path

    def sources(self) -> list[str]:
        """The folders below that have pictures in two folders or more: a class each."""
        return [
            self.name_of(folder)
            for folder, inner in self._walk()
            if sum(map(_has_pictures, inner)) > 1
        ]

    def runs(self) -> list[str]:
        """The run folders below."""
        return self._holding("run.json")

    def comparisons(self) -> list[str]:
        """The folders of comparisons below."""
        return self._holding("comparison.json")

    def _holding(self, name: str) -> list[str]:
        return [self.name_of(folder) for folder, _ in self._walk() if (folder / name).is_file()]

    def _walk(self) -> Iterator[tuple[Path, list[Path]]]:
        """Folders below with the folders in them, as deep as people nest them; no links."""
        for at, names, _ in os.walk(self.root):
            folder = Path(at)
            names[:] = sorted(n for n in names if n[0] != "." and not (folder / n).is_symlink())
            inner = [folder / n for n in names]
            if len(folder.relative_to(self.root).parts) >= _DEEPEST:
                names.clear()
            if folder != self.root:
                yield folder, inner

    def unpack(self, archive: Path, name: str) -> Path:
        """Unpack the pictures of a zip into a new folder, whole or not at all.

        Returns:
            The folder that holds a folder per class.

        Raises:
            RequestError: if the name is none.
            OutputExists: if there is such a folder.
            DataError: if it is no archive of pictures, or one that would fill the disk.
        """
        target = self.new(name)
        make_folder(target.parent)
        with new_part(target.parent, f".{target.name}-", make=Path.mkdir) as part:
            try:
                with zipfile.ZipFile(archive) as file:
                    _extract(file, archive, part)
            except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
                raise DataError(
                    f"{archive.name} cannot be unpacked ({error}); expected a zip of a folder per "
                    "class, without a password"
                ) from None
            part.rename(target)
        while len(inner := list(target.iterdir())) == 1 and inner[0].is_dir():
            target = inner[0]
        return target

    def add_picture(self, picture: Path, source: str, label: str) -> Path:
        """Copy a picture into the folder of its class, under the next free number.

        Raises:
            RequestError: if a name is none.
            DataError: if it is no picture, or too large a one.
        """
        check_name(label)
        check_picture(picture)
        folder = self.below(f"{source}/{label}")
        make_folder(folder)
        for number in range(len(os.listdir(folder)), _ENTRIES):
            path = folder / f"{number:04}{picture.suffix.lower()}"
            if not any(folder.glob(f"{number:04}.*")):
                shutil.copyfile(picture, path)
                return path
        raise DataError(f"{source}/{label} holds {_ENTRIES} files; name another folder")

    def offer(self, path: Path) -> Path:
        """A second name of a file among the uploads, which are all that the page hands out."""
        stamp = f"{path}{path.stat().st_mtime_ns}".encode()
        folder = self.own / "uploads" / hashlib.sha256(stamp).hexdigest()
        make_folder(folder)
        offered = folder / path.name
        if not offered.exists():
            write_atomically(offered, lambda part: shutil.copyfile(path, part))
        return offered


def check_name(name: str) -> None:
    """Refuse what is no name of a folder on every system.

    Raises:
        RequestError: if it is none.
    """
    if _BAD.search(name) or name.strip(" .") != name or not 0 < len(name) <= _LONGEST:
        raise RequestError(
            f"{shown(name)} cannot name a folder; expected at most {_LONGEST} letters, without "
            'slashes or any of : * ? " |, and no dot or space at the ends'
        )


def check_picture(path: Path) -> None:
    """Refuse a file that is no picture, or has more pixels than a page should handle.

    Raises:
        DataError: if it is one or the other.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise DataError(f"{path.name} is not named as a picture is; expected one, such as .jpg")
    height, width, _ = stored_shape(path)
    if height * width > _PICTURE_PIXELS:
        raise DataError(
            f"{path.name} has {format_count(height * width)} pixels; expected at most "
            f"{format_count(_PICTURE_PIXELS)}; scale it down"
        )


def _has_pictures(folder: Path) -> bool:
    try:
        return any(Path(name).suffix.lower() in SUFFIXES for name in os.listdir(folder))
    except OSError:  # not for us to read
        return False


def _extract(file: zipfile.ZipFile, archive: Path, target: Path) -> None:
    entries = [entry for entry in file.infolist() if not entry.is_dir()]
    if len(entries) > _ENTRIES:
        raise DataError(
            f"{archive.name} holds {len(entries)} files; expected at most {_ENTRIES}; copy the "
            "folder into the studio's"
        )
    allowed = min(_UNPACKED_BYTES, _RATIO * archive.stat().st_size)
    for entry in entries:
        name = _safe_name(entry, archive)
        if Path(name).suffix.lower() not in SUFFIXES or "__MACOSX" in PurePosixPath(name).parts:
            continue
        path = target / name
        make_folder(path.parent)
        with file.open(entry) as source, path.open("xb") as copy:
            while block := source.read(_BLOCK):
                allowed -= len(block)
                if allowed < 0:
                    raise DataError(
                        f"{archive.name} unpacks to more than {_RATIO} times its size or "
                        f"{format_bytes(_UNPACKED_BYTES)}; expected pictures; copy the folder into "
                        "the studio's"
                    )
                copy.write(block)
        check_picture(path)
    if not look_into(target).pictures:
        raise DataError(f"{archive.name} holds no pictures; expected a zip of a folder per class")


def _safe_name(entry: zipfile.ZipInfo, archive: Path) -> str:
    """An entry's name, if it leads nowhere else."""
    mode = entry.external_attr >> 16
    parts = entry.filename.split("/")
    is_plain = not stat.S_IFMT(mode) or stat.S_ISREG(mode)
    is_inside = not any(part in ("", ".", "..") or _BAD.search(part) for part in parts)
    if not (is_plain and is_inside) or max(map(len, parts)) > 2 * _LONGEST:
        raise DataError(
            f"{archive.name} holds {shown(entry.filename)}, which is no plain file below it; "
            "expected a zip of a folder per class; pack it anew"
        )
    return entry.filename

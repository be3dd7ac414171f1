"""HDF5 files that others made: none may lead out of itself, or unpack to what no network needs.

A dataset can have its bytes in any other file of the machine, and a link can lead there; what was
read so would end up in a model that its owner shares.
"""

from __future__ import annotations

import contextlib
import io
import zipfile
import zlib
from collections.abc import Generator
from pathlib import Path
from typing import Any

import h5py

from ..errors import WeightsError
from ..text import format_bytes

ARCHIVED = "model.weights.h5"
"""The weights' name in a ``.keras`` file."""
DAMAGE = (
    *(OSError, KeyError, ValueError, TypeError, RuntimeError, EOFError, NotImplementedError),
    *(zipfile.BadZipFile, zlib.error),
)
"""What h5py and zipfile raise on damaged files."""
_MOST_PACKED = 20
"""How many times its size a file may unpack to; trained weights hardly shrink at all."""
_ALWAYS_BYTES = 256 * 2**20
"""What may be unpacked in any case, such as a large network of zeros."""


@contextlib.contextmanager
def open_checked(path: Path) -> Generator[h5py.File]:
    """Open a file in HDF5, or the one in a ``.keras`` file.

    Raises:
        WeightsError: if its arrays lie outside it, or are far larger than it.
        Exception: one of `DAMAGE` if it is damaged.
    """
    content = io.BytesIO(_unpacked(path)) if is_archive(path) else path.open("rb")
    with content, h5py.File(content, "r") as file:
        _check(path, file, content.seek(0, io.SEEK_END))
        yield file


def is_archive(path: Path) -> bool:
    """Whether a file begins as a ZIP archive does, which a ``.keras`` file is."""
    with path.open("rb") as file:
        return file.read(2) == b"PK"


def _unpacked(path: Path) -> bytes:
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(part.file_size for part in archive.infolist())
        _check_size(path, unpacked, path.stat().st_size)
        return archive.read(ARCHIVED)


def _check(path: Path, file: h5py.File, size: int) -> None:
    unpacked = 0

    # Either visit ends with the first answer; an exception would not pass through the library.
    def leads_out(name: str, link: Any) -> str | None:
        return f"{name} is in {link.filename}" if isinstance(link, h5py.ExternalLink) else None

    def lies_outside(name: str, item: Any) -> str | None:
        nonlocal unpacked
        if not isinstance(item, h5py.Dataset):
            return None
        unpacked += (item.size or 0) * item.dtype.itemsize
        if item.is_virtual:
            return f"{name} is made of arrays of other files"
        return f"{name} is in {item.external[0][0]}" if item.external else None

    outside = file.visititems_links(leads_out) or file.visititems(lies_outside)
    if outside:
        raise WeightsError(
            f"{path}: {outside}; expected every array in the file itself; do not use it unless you "
            "know who made it, and have it saved again with model.save_weights()"
        )
    _check_size(path, unpacked, size)


def _check_size(path: Path, unpacked: int, size: int) -> None:
    most = max(_ALWAYS_BYTES, _MOST_PACKED * size)
    if unpacked > most:
        raise WeightsError(
            f"{path} unpacks from {format_bytes(size)} to {format_bytes(unpacked)}; expected at "
            f"most {format_bytes(most)}; have it saved again without compression"
        )

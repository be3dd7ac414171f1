"""HDF5 files that others made: none may lead out of itself, or unpack to more than is needed.

A dataset can have its bytes in any other file of the machine, and a link can lead there; what was
read so would end up in a model that its owner shares.
"""

from __future__ import annotations

import contextlib
import io
import mmap
import os
import zipfile
import zlib
from collections.abc import Generator
from pathlib import Path
from typing import Any, BinaryIO

import h5py

from ..errors import WeightsError
from ..text import format_bytes

ARCHIVED = "model.weights.h5"
"""The weights' name in a ``.keras`` file."""
DAMAGE = (
    *(OSError, KeyError, ValueError, TypeError, RuntimeError, EOFError, NotImplementedError),
    *(zipfile.BadZipFile, zlib.error, SystemError, MemoryError, AttributeError, OverflowError),
)
"""What h5py and zipfile raise on damaged files."""
_MOST_PACKED = 20
"""How many times its size a file of an unknown network may unpack to; trained weights hardly shrink
at all."""
_ALWAYS_BYTES = 256 * 2**20
"""What such a file may unpack to in any case, as a large network of zeros does."""
_MOST_COPIES = 8
"""How many times its weights a known network's file may unpack to: in twice the precision, with an
optimiser's two moments and an average of each."""
_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_HEAP = b"GCOL\x01\0\0\0"
"""What a global heap begins with, which holds texts and arrays of any length."""


@contextlib.contextmanager
def open_checked(path: Path, weights_bytes: int | None = None) -> Generator[h5py.File]:
    """Open a file in HDF5, or the one in a ``.keras`` file.

    ``weights_bytes`` are those of the network that it is for, where that is known.

    Raises:
        WeightsError: if its arrays lie outside it, or are far larger than they may be.
        Exception: one of `DAMAGE` if it is damaged.
    """
    if is_archive(path):
        with zipfile.ZipFile(path) as archive:
            check_archive(path, archive, weights_bytes)
            content = io.BytesIO(archive.read(ARCHIVED))
    else:
        content = path.open("rb")
    with content:
        check_heaps(path, content)
        with h5py.File(content, "r") as file:
            _check(path, file, weights_bytes)
            yield file


def check_heaps(path: Path, content: BinaryIO) -> None:
    """Refuse a file whose heaps have no end: the library goes round in them for ever.

    Format: https://support.hdfgroup.org/documentation/hdf5/latest/_f_m_t3.html#GlobalHeap
    """
    with _as_bytes(content) as stored:
        superblock = stored.find(_SIGNATURE) + len(_SIGNATURE)
        versioned = stored[superblock : superblock + 7]
        if len(versioned) < 7:
            return  # no such file, which opening it will tell
        length_bytes = versioned[6 if versioned[0] < 2 else 2]
        start = stored.find(_HEAP)
        while start >= 0:
            if not _has_end(stored, start, length_bytes):
                raise WeightsError(
                    f"{path} is damaged (its heap at byte {start:,} has no end); expected a file "
                    "as Keras writes it; fetch it again, or have it saved anew"
                )
            start = stored.find(_HEAP, start + len(_HEAP))


@contextlib.contextmanager
def _as_bytes(content: BinaryIO) -> Generator[mmap.mmap | bytes]:
    if isinstance(content, io.BytesIO):
        yield content.getvalue()
    elif os.fstat(content.fileno()).st_size:
        with mmap.mmap(content.fileno(), 0, access=mmap.ACCESS_READ) as stored:
            yield stored
    else:
        yield b""  # which cannot be mapped


def _has_end(stored: mmap.mmap | bytes, start: int, length_bytes: int) -> bool:
    """Whether a heap's objects, each as long as it says, lead to the heap's end."""
    header = 8 + _aligned(length_bytes)  # the heap's own, and that of each object

    def length_at(place: int) -> int:
        return int.from_bytes(stored[place + 8 : place + 8 + length_bytes], "little")

    end = start + length_at(start)
    place = start + header
    while end - place >= header:
        is_free = stored[place : place + 2] == b"\0\0"  # such a length counts the header
        taken = length_at(place) if is_free else header + _aligned(length_at(place))
        if not header <= taken <= end - place:
            return False
        place += taken
    return end <= len(stored)


def _aligned(size: int) -> int:
    return -(-size // 8) * 8


def is_archive(path: Path) -> bool:
    """Whether a file begins as a ZIP archive does, which a ``.keras`` file is."""
    with path.open("rb") as file:
        return file.read(2) == b"PK"


def check_archive(path: Path, archive: zipfile.ZipFile, weights_bytes: int | None) -> None:
    """Refuse an archive of far more than it may hold."""
    _check_size(path, sum(part.file_size for part in archive.infolist()), weights_bytes)


def _check(path: Path, file: h5py.File, weights_bytes: int | None) -> None:
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
    _check_size(path, unpacked, weights_bytes)


def _check_size(path: Path, unpacked: int, weights_bytes: int | None) -> None:
    size = path.stat().st_size
    if weights_bytes is None:
        most, whose = max(_ALWAYS_BYTES, _MOST_PACKED * size), ""
    else:
        # What is no larger than its file is not packed, and is refused for what does not fit.
        most, whose = max(size, _MOST_COPIES * weights_bytes), " for the network's weights"
    if unpacked > most:
        raise WeightsError(
            f"{path} unpacks from {format_bytes(size)} to {format_bytes(unpacked)}; expected at "
            f"most {format_bytes(most)}{whose}; have it saved again without compression"
        )

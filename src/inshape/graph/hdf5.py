"""HDF5 files that others made: none may lead out of itself, or unpack to more than is needed.

A dataset can have its bytes in any other file of the machine, and a link can lead there; what was
read so would end up in a model that its owner shares.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import zipfile
import zlib
from collections.abc import Generator
from itertools import accumulate, islice
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
_OBJECTS: Any = importlib.import_module("h5py.h5o")
_ATTRIBUTE, _CONTINUED, _OF_ANY_LENGTH = 12, 16, 9
"""The format's kinds of messages, and its class of types."""
_MOST_BLOCKS = 1000
_PLAIN = (h5py.h5t.STRING, h5py.h5t.INTEGER, h5py.h5t.FLOAT, h5py.h5t.ENUM)
_BLOCK_BYTES = 2**24
_MOST_PACKED = 20
"""How many times its size a file of an unknown network may unpack to; trained weights hardly shrink
at all."""
_ALWAYS_BYTES = 256 * 2**20
"""What such a file may unpack to in any case, as a large network of zeros does."""
_MOST_COPIES = 8
"""How many times its weights a known network's file may unpack to: in twice the precision, with an
optimiser's two moments and an average of each."""
_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_HEAP = b"GCOL\x01"
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
            _check_attributes(path, file, content)
            _check(path, file, weights_bytes)
            yield file


def check_heaps(path: Path, content: BinaryIO) -> None:
    """Refuse a file whose heaps have no end: the library goes round in them for ever.

    It goes from object to object by their sizes, and stays where the size of what is free is 0, or
    where one that is too large for 64 bits leads it to such a place. Format:
    https://support.hdfgroup.org/documentation/hdf5/latest/_f_m_t3.html#GlobalHeap
    """
    superblock = next(_places_of(_SIGNATURE, content), -1) + len(_SIGNATURE)
    content.seek(superblock)
    versioned = content.read(7)
    if superblock < len(_SIGNATURE) or len(versioned) < 7:
        return  # no such file, which opening it will tell
    length_bytes = versioned[6 if versioned[0] < 2 else 2]
    length = unread = content.seek(0, os.SEEK_END)
    for start in _places_of(_HEAP, content):
        content.seek(start + 8)
        size = int.from_bytes(content.read(length_bytes), "little")
        if start + size > length:  # which the library does not read, so that it is no heap
            continue
        unread -= size
        content.seek(start)
        if unread < 0 or not _has_end(content.read(size), length_bytes):  # no two have a byte
            raise WeightsError(
                f"{path} is damaged (its heap at byte {start:,} has no end); expected a file as "
                "Keras writes it; fetch it again, or have it saved anew"
            )


def _has_end(heap: bytes, length_bytes: int) -> bool:
    """Whether a heap's objects, each as long as it says, lead to the heap's end."""
    place = header = 8 + _aligned(length_bytes)  # the heap's own, and that of each object
    while len(heap) - place >= header:
        size = int.from_bytes(heap[place + 8 : place + 8 + length_bytes], "little")
        is_free = heap[place : place + 2] == b"\0\0"  # such a size counts the header
        taken = size if is_free else header + _aligned(size)
        if not header <= taken <= len(heap) - place:
            return False
        place += taken
    return True


def _aligned(size: int) -> int:
    return -(-size // 8) * 8


def _places_of(word: bytes, content: BinaryIO) -> Generator[int]:
    """Where a word stands in a file."""
    content.seek(0)
    before, kept = 0, b""
    while block := content.read(_BLOCK_BYTES):
        block = kept + block
        start = block.find(word)
        while start >= 0:
            yield before + start
            start = block.find(word, start + 1)
        kept = block[1 - len(word) :]
        before += len(block) - len(kept)
        content.seek(before + len(kept))


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


def _check_attributes(path: Path, file: h5py.File, content: BinaryIO) -> None:
    """Refuse what the library cannot read, though it would try.

    Of values of any length, but for text, a damaged file has some whose places in memory it says
    itself; and memory is taken for as much as an attribute is said to have, text or not.
    """
    length = file.id.get_filesize()

    def odd(name: str, item: Any) -> str | None:
        if isinstance(item, h5py.Dataset) and item.dtype.hasobject:
            if item.id.get_type().get_class() not in _PLAIN:
                return f"{name} holds {item.dtype}"
        has_texts = False
        for key in item.attrs:
            attribute = item.attrs.get_id(key)
            kind = attribute.get_type()
            if kind.get_class() not in _PLAIN:
                return f"{key} of {name} holds {kind.dtype}"
            if attribute.get_space().get_simple_extent_npoints() * kind.get_size() > length:
                return f"{key} of {name} is larger than the file"
            if kind.get_class() == h5py.h5t.STRING and kind.is_variable_str():
                has_texts = True
        if (
            has_texts
            and max(_text_lengths(content, length, _OBJECTS.get_info(item.id).addr), default=0)
            > length
        ):
            return f"an attribute of {name} is larger than the file"
        return None

    problem = odd("/", file) or file.visititems(odd)
    if problem:
        raise WeightsError(
            f"{path} is damaged ({problem}); expected text and numbers; download or save it again"
        )


def _text_lengths(content: BinaryIO, most: int, address: int) -> Generator[int]:
    """How long each text of the attributes of an object is said to be.

    Of objects whose header is of version 1, as Keras writes it: those of version 2 have a checksum.
    Format: https://support.hdfgroup.org/documentation/hdf5/latest/_f_m_t3.html#ObjectHeader
    """

    def number(data: bytes, place: int, size: int) -> int:
        return int.from_bytes(data[place : place + size], "little")

    content.seek(address)
    prefix = content.read(16)
    blocks = [(address + 16, number(prefix, 8, 4))] if prefix[:1] == b"\1" else []
    for start, size in islice(blocks, _MOST_BLOCKS):
        content.seek(start)
        data, place = content.read(min(size, most)), 0
        while place + 8 <= len(data):
            kind, length = number(data, place, 2), number(data, place + 2, 2)
            body = data[place + 8 : place + 8 + length]
            place += 8 + length
            if kind == _CONTINUED:
                blocks.append((number(body, 0, 8), number(body, 8, 8)))
            elif kind == _ATTRIBUTE and body[:1] == b"\1":
                *_, dtype, _, end = accumulate(
                    (8, *(_aligned(number(body, at, 2)) for at in (2, 4, 6)))
                )
                is_text = number(body, dtype, 1) % 16 == _OF_ANY_LENGTH
                yield from (number(body, at, 4) for at in range(end, len(body), 16) if is_text)


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

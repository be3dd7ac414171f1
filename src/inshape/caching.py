"""Results that are kept under what they were made from, and made again when they are damaged.

An entry is a record, ``KEY.json``, and for anything large a content file beside it, which the
record names. The key is a hash of the facts that determine the result. The record is written last
and atomically, so an entry is there whole or not at all, whoever else writes the same one.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
import weakref
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass, field
from io import BufferedIOBase
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

from .writing import DIGITS, new_part, remove_abandoned, sync_folder

Facts: TypeAlias = Mapping[str, Any]
"""Whatever determines a result, in values that JSON can hold; large data by its hash."""


def default_cache_dir() -> Path:
    """The user's cache folder for prepared pictures."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "inshape" / "pictures"


def key_of(facts: Facts) -> str:
    """32 hexadecimal digits that differ whenever the facts do, in whatever order they stand."""
    # As JSON gives them back, so that a record's facts have the key that they were written under:
    # it knows neither tuples nor keys that are numbers.
    text = json.dumps(json.loads(json.dumps(facts)), sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def checksum_of(path: Path) -> str:
    """A hash of a file's content, 32 hexadecimal digits; read in chunks."""
    with path.open("rb") as file:
        return _checksum(file)


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Entry:
    """A result that is kept."""

    path: Path
    """The content, or the record itself where there is nothing but notes."""
    notes: Mapping[str, Any] = field(default_factory=dict)
    """What its maker wrote down beside it."""


@dataclass(frozen=True, slots=True)
class Cache:
    """A folder of entries; it is made when the first one is written.

    Example:
        >>> import tempfile
        >>> def write(file: BinaryIO) -> dict[str, int]:
        ...     file.write(b"abc")
        ...     return {"letters": 3}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     cache = Cache(Path(folder))
        ...     entry = cache.save({"of": "letters"}, write, suffix=".txt")
        ...     cache.load({"of": "letters"}) == entry, entry.notes, cache.load({"of": "digits"})
        (True, {'letters': 3}, None)
    """

    folder: Path

    def load(self, facts: Facts) -> Entry | None:
        """The entry of these facts, if it is there and whole.

        A damaged one is removed with a warning, so that it is made again.
        """
        record = self._record_path(facts)
        if not record.exists():
            return None  # a content file without its record is nobody's
        content: Path | None = None
        try:
            read = json.loads(record.read_text(encoding="utf-8"))
            content = self.folder / read["file"] if read["file"] else None
            problem = _problem_of(read, content, facts)
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            read, problem = {}, f"its record cannot be read: {type(error).__name__}"
        if problem:
            # By the key: what a damaged record names may be anything.
            for path in (record, *self.folder.glob(f"{record.stem}-*")):
                _remove(path)
            message = f"{content or record} is damaged ({problem}); it is made again"
            warnings.warn(message, UserWarning, stacklevel=2)
            return None
        return Entry(content or record, read["notes"])

    def save(
        self,
        facts: Facts,
        write: Callable[[BinaryIO], Mapping[str, Any] | None],
        *,
        suffix: str,
    ) -> Entry:
        """Write an entry piece by piece; until it is whole, there is none.

        ``write`` fills an empty file, in any order, and returns the notes to keep beside it. If it
        returns ``None``, the content serves its maker only: `load` does not find it, and it is
        there as long as the entry.

        Raises:
            OSError: if the folder cannot be written or the disk is full. Nothing is left then, nor
                after an exception of ``write``.
        """
        key = key_of(facts)
        self._open()
        with ExitStack() as stack:
            part = stack.enter_context(self._new_part(key))
            # Through the file and not through a mapping: a full disk answers a mapping by killing
            # the process.
            with part.open("w+b") as file:
                notes = write(file)
                file.flush()
                os.fsync(file.fileno())
                file.seek(0)
                checksum = _checksum(file)
                size = file.tell()
            if notes is None:
                # Still locked, so that nobody takes it for what a killed writer left.
                entry = Entry(part)
                weakref.finalize(entry, stack.pop_all().close)
                return entry
            # Named after its content: of two processes that come to different ones (the last bits
            # of a float may), neither puts its content under the other's record.
            path = self.folder / f"{key}-{checksum[:8]}{suffix}"
            part.replace(path)
        content = {"file": path.name, "bytes": size, "hash": checksum}
        return Entry(path, self._write_record(facts, notes, content))

    def note(self, facts: Facts, notes: Mapping[str, Any]) -> Entry:
        """Keep a small result as notes without a content file; an earlier one is replaced.

        Raises:
            OSError: as `save`.
        """
        self._open()
        kept = self._write_record(facts, notes, {"file": None})
        return Entry(self._record_path(facts), kept)

    def _record_path(self, facts: Facts) -> Path:
        return self.folder / f"{key_of(facts)}.json"

    def _open(self) -> None:
        """Make the folder, or remove what killed writers left in it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        remove_abandoned(self.folder.glob(f".*-{DIGITS}.part"))

    def _new_part(self, key: str) -> AbstractContextManager[Path]:
        return new_part(self.folder, f".{key}-", ".part")

    def _write_record(
        self, facts: Facts, notes: Mapping[str, Any], content: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """Write a record whole or not at all; return the notes as they will be read."""
        record = json.loads(json.dumps({"facts": facts, "notes": notes, **content}))
        record["seal"] = key_of(record)
        with self._new_part(key_of(facts)) as part:
            with part.open("w", encoding="utf-8") as file:
                json.dump(record, file, indent=2)
                file.flush()
                os.fsync(file.fileno())
            part.replace(self._record_path(facts))
        sync_folder(self.folder)
        return record["notes"]


def _problem_of(record: dict[str, Any], content: Path | None, facts: Facts) -> str:
    """What is wrong with an entry; nothing if it is whole."""
    sealed = {name: value for name, value in record.items() if name != "seal"}
    if record["seal"] != key_of(sealed):
        return "its record has changed since it was written"
    if key_of(record["facts"]) != key_of(facts):
        return "its record belongs to something else"
    if content is None:
        return ""
    if not content.exists():
        return "the file is missing"
    size = content.stat().st_size
    if size != record["bytes"]:  # cheap, so first
        return f"{size} bytes where {record['bytes']} were written"
    return "" if checksum_of(content) == record["hash"] else "its content has changed"


def _checksum(file: BufferedIOBase) -> str:
    return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink(missing_ok=True)

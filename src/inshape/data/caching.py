"""Choosing where prepared pictures are kept, and saying so."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..progress import Advance
from .catalogue import Catalogue
from .prepare import Preparation
from .stores import DecodingStore, Filled, Kind, MemoryStore, Store, StoredType, fill, fill_disk

Cache: TypeAlias = Literal["auto", "memory", "disk", "none"]

MOST_MEMORY_BYTES = 4 * 2**30
"""The most that ``cache="auto"`` keeps in memory, however much there is."""

_MEMORY_SHARE = 0.25
_DISK_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class CacheReport:
    """Where the prepared pictures are.

    Args:
        kind: ``"memory"``, ``"disk"`` or ``"none"`` (decoded anew for every batch).
        pictures: how many.
        bytes: what they take.
        reason: why there.
        path: the file, if there is one.
        reused: whether an earlier run had made it.

    Example:
        >>> print(CacheReport("memory", 3068, 84_824_064, "fits in 1.0 GB"))
        3068 pictures in memory (84.8 MB; fits in 1.0 GB)
    """

    kind: Kind
    pictures: int
    bytes: int
    reason: str
    path: Path | None = None
    reused: bool = False

    def __str__(self) -> str:
        if self.kind == "none":
            return f"{self.pictures} pictures, decoded for every epoch ({self.reason})"
        place = "in memory" if self.kind == "memory" else f"in {self.path}"
        again = ", from an earlier run" if self.reused else ""
        return f"{self.pictures} pictures {place} ({_amount(self.bytes)}; {self.reason}{again})"


def memory_budget() -> int:
    """What ``cache="auto"`` may keep in memory by default, in bytes.

    A quarter of the memory that is available to this process, at most 4 GiB.
    """
    available = [2 * 2**30]
    try:
        with open("/proc/meminfo") as file:
            facts = dict(line.split(":", 1) for line in file)
        available = [int(facts["MemAvailable"].split()[0]) * 1024]
    except (OSError, KeyError, ValueError):
        pass  # not Linux: the modest guess stands
    try:
        group = Path("/sys/fs/cgroup")
        most = int((group / "memory.max").read_text())
        available.append(most - int((group / "memory.current").read_text()))
    except (OSError, ValueError):
        pass  # no limit
    return int(min(MOST_MEMORY_BYTES, max(0.0, _MEMORY_SHARE * min(available))))


def default_cache_dir() -> Path:
    """The user's cache folder for prepared pictures."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "inshape" / "pictures"


@dataclass(frozen=True, slots=True)
class Opener:
    """Fills a store for a catalogue."""

    catalogue: Catalogue
    preparation: Preparation
    cache_dir: Path
    budget_bytes: int
    workers: int
    progress: Advance | None

    def opened(self, cache: Cache, kind: StoredType) -> tuple[Store, Filled, CacheReport]:
        """Prepare every picture once.

        Args:
            cache: where the pictures are wanted.
            kind: the type to store.

        Returns:
            The store, what was found while filling it, and where it is.

        Raises:
            NotBytes: if the type is bytes and a picture holds fractions.
            DataError: if the disk was asked for and cannot be written, or a picture does not fit.
        """
        count = len(self.catalogue)
        height, width, channels = self.preparation.shape.as_tuple()
        assert height is not None
        assert width is not None
        shape = (height, width, channels)
        need = count * height * width * channels * np.dtype(kind).itemsize
        if cache == "memory" or (cache == "auto" and need <= self.budget_bytes):
            reason = "as asked" if cache == "memory" else f"fits in {_amount(self.budget_bytes)}"
            return self._in_memory(
                (count, *shape), kind, CacheReport("memory", count, need, reason)
            )
        reason = f"{_amount(need)} would not fit in {_amount(self.budget_bytes)} of memory"
        if cache == "disk" or (cache == "auto" and need <= _DISK_SHARE * _free(self.cache_dir)):
            try:
                return self._on_disk(kind, need, "as asked" if cache == "disk" else reason)
            except OSError as problem:
                told = problem.strerror or str(problem)
                if cache == "disk":
                    raise DataError(
                        f"{self.cache_dir}: {told}; expected room for {_amount(need)} of prepared "
                        "pictures; free some, or use another cache_dir or cache='none'"
                    ) from None
                reason += f", and {self.cache_dir}: {told}"
        elif cache == "auto":
            reason += f", nor in half of what is free in {self.cache_dir}"
        found = fill(
            self.catalogue,
            self.preparation,
            None,
            workers=self.workers,
            as_bytes=kind is np.uint8,
            progress=self.progress,
        )
        report = CacheReport("none", count, 0, "as asked" if cache == "none" else reason)
        store = DecodingStore(self.catalogue, self.preparation, kind, self.workers)
        return store, found, report

    def _in_memory(
        self, shape: tuple[int, int, int, int], kind: StoredType, report: CacheReport
    ) -> tuple[Store, Filled, CacheReport]:
        rows = np.zeros(shape, kind)

        def put(index: int, picture: NDArray[Any]) -> None:
            rows[index] = picture

        found = fill(
            self.catalogue,
            self.preparation,
            put,
            workers=self.workers,
            as_bytes=kind is np.uint8,
            progress=self.progress,
        )
        return MemoryStore(rows), found, report

    def _on_disk(
        self, kind: StoredType, need: int, reason: str
    ) -> tuple[Store, Filled, CacheReport]:
        store, found, reused = fill_disk(
            self.catalogue,
            self.preparation,
            self.cache_dir,
            kind,
            workers=self.workers,
            progress=self.progress,
        )
        count = len(self.catalogue)
        return store, found, CacheReport("disk", count, need, reason, store.path, reused)


def _free(folder: Path) -> int:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _amount(size: int) -> str:
    """Bytes as people write them.

    Example:
        >>> _amount(84_824_064), _amount(1500)
        ('84.8 MB', '1.5 kB')
    """
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size} B"

"""Where prepared pictures wait: in memory, in a file or nowhere; choosing the place, filling it."""

from __future__ import annotations

import hashlib
import shutil
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, Protocol, TypeAlias

import numpy as np
import PIL
from numpy.typing import NDArray

from ..caching import Cache, Entry
from ..errors import DataError, UnreadablePicture
from ..progress import Advance
from ..text import format_bytes, plural
from .catalogue import Catalogue, Skipped
from .prepare import Preparation

Place: TypeAlias = Literal["memory", "disk", "none"]
PlaceChoice: TypeAlias = Literal["auto", "memory", "disk", "none"]
StoredType: TypeAlias = type[np.uint8] | type[np.float32]

MOST_MEMORY_BYTES = 4 * 2**30
"""The most that ``cache="auto"`` keeps in memory, however much there is."""

_MEMORY_SHARE = 0.25
_DISK_SHARE = 0.5
_CHUNK_BYTES = 16 * 2**20  # prepared pictures in flight while a store is filled
_AHEAD = 2  # batches decoded before they are asked for
_FORMAT = 4  # raise it when prepared pictures change
_CHOSEN = "as asked"


class NotBytes(Exception):
    """A prepared picture holds values that a byte cannot."""


class Store(Protocol):
    """Rows of prepared pictures."""

    def batches(self, batches: Sequence[NDArray[np.intp]]) -> Iterator[NDArray[Any]]:
        """The rows of each batch, one batch after the other."""
        ...


class MemoryStore:
    """All pictures in one array."""

    def __init__(self, rows: NDArray[Any]) -> None:
        self.rows = rows

    def batches(self, batches: Sequence[NDArray[np.intp]]) -> Iterator[NDArray[Any]]:
        """The rows of each batch."""
        for positions in batches:
            yield self.rows[positions]


class DiskStore:
    """All pictures in one file, read row by row."""

    def __init__(self, entry: Entry, shape: tuple[int, int, int], kind: StoredType) -> None:
        self.entry = entry  # which may be all that keeps the file
        self.shape = shape
        self.kind = kind

    def batches(self, batches: Sequence[NDArray[np.intp]]) -> Iterator[NDArray[Any]]:
        """The rows of each batch."""
        row_bytes = int(np.prod(self.shape)) * np.dtype(self.kind).itemsize
        # A mapped file would count as this process's memory wherever that is limited.
        with self.entry.path.open("rb", buffering=0) as file:
            for positions in batches:
                rows = np.empty((len(positions), *self.shape), self.kind)
                for row, position in zip(rows, positions.tolist(), strict=True):
                    file.seek(position * row_bytes)
                    file.readinto(row.data.cast("B"))
                yield rows


class DecodingStore:
    """No pictures: each batch is decoded when it is nearly its turn."""

    def __init__(
        self, catalogue: Catalogue, preparation: Preparation, kind: StoredType, workers: int
    ) -> None:
        self.catalogue = catalogue
        self.preparation = preparation
        self.kind = kind
        self.workers = workers

    def batches(self, batches: Sequence[NDArray[np.intp]]) -> Iterator[NDArray[Any]]:
        """The rows of each batch."""

        def stack(pictures: list[Future[NDArray[Any]]]) -> NDArray[Any]:
            rows = np.stack([picture.result() for picture in pictures])
            return rows.astype(self.kind, copy=False)

        waiting: deque[list[Future[NDArray[Any]]]] = deque()
        pool = ThreadPoolExecutor(self.workers)
        try:
            for positions in batches:
                waiting.append([pool.submit(self._decode, i) for i in positions.tolist()])
                if len(waiting) > _AHEAD:
                    yield stack(waiting.popleft())
            while waiting:
                yield stack(waiting.popleft())
        finally:
            pool.shutdown(cancel_futures=True)

    def _decode(self, index: int) -> NDArray[Any]:
        try:
            return self.catalogue.load_compact(index, self.preparation)
        except UnreadablePicture as problem:
            raise vanished(str(problem).split("; ")[0]) from problem


def vanished(problem: str) -> DataError:
    """A picture that was read before cannot be read now."""
    return DataError(
        f"{problem}, though it could be read before; expected the pictures to stay as they are in "
        "use; restore it and go on, or begin anew"
    )


@dataclass(frozen=True, slots=True)
class CacheReport:
    """Where the prepared pictures are.

    Example:
        >>> print(CacheReport("memory", 3068, 84_824_064, "fits in 1.0 GiB"))
        3068 pictures in memory (80.9 MiB; fits in 1.0 GiB)
    """

    kind: Place
    """``"none"``: they are decoded anew for every batch."""
    pictures: int
    bytes: int
    """What they take."""
    reason: str
    """Why they are there."""
    path: Path | None = None
    """The file, if there is one."""
    reused: bool = False
    """Whether an earlier run had written it."""

    def __str__(self) -> str:
        pictures = plural(self.pictures, "picture")
        if self.kind == "none":
            return f"{pictures}, decoded for every epoch ({self.reason})"
        place = "in memory" if self.kind == "memory" else f"in {self.path}"
        again = ", from an earlier run" if self.reused else ""
        return f"{pictures} {place} ({format_bytes(self.bytes)}; {self.reason}{again})"


@dataclass(frozen=True, slots=True)
class Filled:
    """What one pass over the pictures learned of them."""

    skipped: dict[int, Skipped]
    """The unreadable ones by their positions."""
    dim_range: tuple[float, float]
    """Least and greatest value among the pictures that never exceed 1."""
    dim_count: int
    """How many those are; black ones do not count."""
    is_passing: bool = False
    """Whether a picture was skipped for what the system said, such as a network that was away, and
    may be readable the next time."""

    def and_of(self, other: Filled) -> Filled:
        """What was learned of these and of other pictures together."""
        ranges = [filled.dim_range for filled in (self, other) if filled.dim_count]
        lows, highs = zip(*ranges, strict=True) if ranges else ((0.0,), (0.0,))
        return Filled(
            {**self.skipped, **other.skipped},
            (min(lows), max(highs)),
            self.dim_count + other.dim_count,
            self.is_passing or other.is_passing,
        )

    def as_notes(self) -> dict[str, Any]:
        """Plain values that JSON can hold; `from_notes` reads them back."""
        reasons = {str(index): skipped.reason for index, skipped in self.skipped.items()}
        return {"skipped": reasons, "dim_range": self.dim_range, "dim_count": self.dim_count}

    @classmethod
    def from_notes(cls, notes: Mapping[str, Any], catalogue: Catalogue) -> Filled:
        """What `as_notes` wrote down of the same catalogue."""
        reasons = {int(index): reason for index, reason in notes["skipped"].items()}
        skipped = {index: _skip(catalogue, index, reason) for index, reason in reasons.items()}
        low, high = notes["dim_range"]
        return cls(skipped, (low, high), notes["dim_count"])


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
        # A container's limit, which /proc/meminfo knows nothing of.
        group = Path("/sys/fs/cgroup")
        most = int((group / "memory.max").read_text())
        available.append(most - int((group / "memory.current").read_text()))
    except (OSError, ValueError):
        pass  # no limit
    return int(min(MOST_MEMORY_BYTES, max(0.0, _MEMORY_SHARE * min(available))))


@dataclass(frozen=True, slots=True)
class Opener:
    """Prepares every picture of a catalogue, each once, into a store."""

    catalogue: Catalogue
    preparation: Preparation
    """At a static shape."""
    folder: Path
    """For a store on the disk."""
    budget_bytes: int
    """What may be kept in memory."""
    workers: int
    """Threads that decode."""
    progress: Advance | None

    def open(self, cache: PlaceChoice, kind: StoredType) -> tuple[Store, Filled, CacheReport]:
        """The store, what was learned while it was filled, and where it is.

        Raises:
            NotBytes: if the type is bytes and a picture holds fractions.
            DataError: if the disk was chosen and cannot be written, or a picture does not fit.
        """
        count = len(self.catalogue)
        need = count * self._row_bytes(kind)
        place, reason = self._choose(cache, need)
        if place == "memory":
            rows = np.zeros((count, *self.preparation.shape.as_static_tuple()), kind)

            def put(index: int, picture: NDArray[Any]) -> None:
                rows[index] = picture

            filled = self.fill(kind, put)
            report = CacheReport(kind=place, pictures=count, bytes=need, reason=reason)
            return MemoryStore(rows), filled, report
        if place == "disk":
            try:
                return self._open_disk(kind, need, reason)
            except OSError as problem:
                trouble = f"{self.folder}: {problem.strerror or problem}"
                if cache == "disk":
                    raise DataError(
                        f"{trouble}; expected room for {format_bytes(need)} of prepared pictures; "
                        "free some, or use another cache_dir or cache='none'"
                    ) from None
                reason += f", and {trouble}"
        return self.decode_again(self.fill(kind), kind, reason)

    def decode_again(
        self, filled: Filled, kind: StoredType, reason: str
    ) -> tuple[Store, Filled, CacheReport]:
        """A store of no pictures."""
        store = DecodingStore(self.catalogue, self.preparation, kind, self.workers)
        report = CacheReport(kind="none", pictures=len(self.catalogue), bytes=0, reason=reason)
        return store, filled, report

    def _row_bytes(self, kind: StoredType) -> int:
        shape = self.preparation.shape.as_static_tuple()
        return int(np.prod(shape)) * np.dtype(kind).itemsize

    def _choose(self, cache: PlaceChoice, need: int) -> tuple[Place, str]:
        """Where so many bytes are kept, and why there."""
        if cache != "auto":
            return cache, _CHOSEN
        budget = format_bytes(self.budget_bytes)
        if need <= self.budget_bytes:
            return "memory", f"fits in {budget}"
        reason = f"{format_bytes(need)} would not fit in {budget} of memory"
        if need <= _DISK_SHARE * _free_bytes(self.folder):
            return "disk", reason
        return "none", f"{reason}, nor in half of what is free in {self.folder}"

    def _open_disk(
        self, kind: StoredType, need: int, reason: str
    ) -> tuple[Store, Filled, CacheReport]:
        """Prepare every picture into a file, or take the file of an earlier run.

        An earlier run's is not taken if it left out pictures that may be readable now.
        """
        row_bytes = self._row_bytes(kind)
        cache, facts = Cache(self.folder), self._facts(kind)
        entry = cache.load(facts)
        reused = entry is not None
        filled = None if entry is None else Filled.from_notes(entry.notes, self.catalogue)

        def write(file: BinaryIO) -> dict[str, Any] | None:
            nonlocal filled

            def put(index: int, picture: NDArray[Any]) -> None:
                file.seek(index * row_bytes)
                file.write(np.ascontiguousarray(picture, kind).data)

            filled = self.fill(kind, put)
            file.truncate(need)  # the last picture may have been skipped
            return None if filled.is_passing else filled.as_notes()

        if entry is None:
            entry = cache.save(facts, write, suffix=".pictures")
        assert filled is not None
        store = DiskStore(entry, self.preparation.shape.as_static_tuple(), kind)
        report = CacheReport(
            kind="disk",
            pictures=len(self.catalogue),
            bytes=need,
            reason=reason,
            path=entry.path,
            reused=reused,
        )
        return store, filled, report

    def _facts(self, kind: StoredType) -> dict[str, Any]:
        """What prepared pictures depend on: contents, their order, and what is done to them."""
        contents = hashlib.blake2b(self.catalogue.contents.tobytes(), digest_size=16)
        return {
            "format": _FORMAT,
            "pillow": PIL.__version__,
            "preparation": self.preparation.as_dict(),
            "type": np.dtype(kind).name,
            "contents": contents.hexdigest(),
        }

    def fill(
        self, kind: StoredType, put: Callable[[int, NDArray[Any]], None] | None = None
    ) -> Filled:
        """Prepare every picture; without ``put``, only to learn which can be read."""
        skipped: dict[int, Skipped] = {}
        low, high, dim_count, is_passing = np.inf, 0.0, 0, False
        for index, picture in enumerate(self._prepared()):
            if isinstance(picture, _Failure):
                skipped[index] = _skip(self.catalogue, index, picture.reason)
                is_passing |= picture.is_passing
                continue
            if kind is np.uint8 and picture.dtype != np.uint8:
                raise NotBytes
            top = float(picture.max())
            if 0.0 < top <= 1.0:
                dim_count, high, low = dim_count + 1, max(high, top), min(low, float(picture.min()))
            if put is not None:
                put(index, picture)
        return Filled(skipped, (low if dim_count else 0.0, high), dim_count, is_passing)

    def _prepared(self) -> Iterator[NDArray[Any] | _Failure]:
        """The pictures in their order, a bounded number of them at a time."""
        picture_bytes = 4 * int(np.prod(self.preparation.shape.as_static_tuple()))
        size = max(2 * self.workers, min(256, _CHUNK_BYTES // picture_bytes))
        count = len(self.catalogue)
        with ThreadPoolExecutor(self.workers) as pool:
            for start in range(0, count, size):
                chunk = range(start, min(start + size, count))
                yield from pool.map(self._prepare_one, chunk)
                if self.progress is not None:
                    self.progress(chunk.stop, count)

    def _prepare_one(self, index: int) -> NDArray[Any] | _Failure:
        try:
            return self.catalogue.load_compact(index, self.preparation)
        except UnreadablePicture as problem:
            reason = str(problem).removeprefix(f"{self.catalogue.path(index)}: ").split("; ")[0]
            # Pillow's own complaints of a damaged file are OSErrors too, but without a number.
            cause = problem.__cause__
            return _Failure(reason, isinstance(cause, OSError) and cause.errno is not None)
        except DataError as problem:  # bands or values that the preparation cannot take
            if not self.catalogue.is_lenient:
                raise
            return _Failure(str(problem), is_passing=True)


@dataclass(frozen=True, slots=True)
class _Failure:
    """Why a picture could not be prepared."""

    reason: str
    is_passing: bool


def _skip(catalogue: Catalogue, index: int, reason: str) -> Skipped:
    return Skipped(catalogue.names[index], reason, str(catalogue.splits[index]))


def _free_bytes(folder: Path) -> int:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free

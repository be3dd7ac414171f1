"""Where prepared pictures wait: in memory, in a file, or nowhere."""

from __future__ import annotations

import hashlib
import json
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
import PIL
from numpy.typing import NDArray

from ..errors import UnreadablePicture
from ..progress import Advance
from .catalogue import Catalogue, Skipped
from .prepare import Preparation

Kind: TypeAlias = Literal["memory", "disk", "none"]
StoredType: TypeAlias = type[np.uint8] | type[np.float32]

_CHUNK_BYTES = 16 * 2**20  # prepared pictures in flight while a store is filled
_AHEAD = 2  # batches decoded before they are asked for
_FORMAT = 2  # raise it when prepared pictures change


class NotBytes(Exception):
    """A prepared picture holds values that a byte cannot."""


class Store(Protocol):
    """Rows of prepared pictures."""

    def batches(self, batches: Sequence[NDArray[np.intp]]) -> Iterator[NDArray[Any]]:
        """The rows of each batch, one batch after the other."""
        ...


@dataclass(frozen=True, slots=True)
class Filled:
    """What one pass over the pictures found.

    Args:
        skipped: positions of the unreadable pictures, and why.
        dim_range: least and greatest value among the pictures that never exceed 1.
        dim_count: how many those are; black ones do not count.
        passing: whether a picture was skipped for what the system said, such as a network that was
            away, and may be readable the next time.
    """

    skipped: dict[int, Skipped]
    dim_range: tuple[float, float]
    dim_count: int
    passing: bool = False


class MemoryStore:
    """All pictures in one array."""

    def __init__(self, rows: NDArray[Any]) -> None:
        self.rows = rows

    def batches(self, batches: Sequence[NDArray[np.intp]]) -> Iterator[NDArray[Any]]:
        """The rows of each batch."""
        for positions in batches:
            yield self.rows[positions]


class DiskStore:
    """All pictures in one file, read row by row.

    A mapped file would count as this process's memory wherever it is limited, so rows are read.
    """

    def __init__(self, path: Path, shape: tuple[int, int, int], kind: StoredType) -> None:
        self.path = path
        self.shape = shape
        self.kind = kind

    def batches(self, batches: Sequence[NDArray[np.intp]]) -> Iterator[NDArray[Any]]:
        """The rows of each batch."""
        row_bytes = int(np.prod(self.shape)) * np.dtype(self.kind).itemsize
        with self.path.open("rb", buffering=0) as file:
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

        def stacked(made: list[Future[NDArray[Any]]]) -> NDArray[Any]:
            return np.stack([picture.result() for picture in made]).astype(self.kind, copy=False)

        waiting: deque[list[Future[NDArray[Any]]]] = deque()
        pool = ThreadPoolExecutor(self.workers)
        try:
            for positions in batches:
                waiting.append(
                    [
                        pool.submit(self.catalogue.load_compact, i, self.preparation)
                        for i in positions.tolist()
                    ]
                )
                if len(waiting) > _AHEAD:
                    yield stacked(waiting.popleft())
            while waiting:
                yield stacked(waiting.popleft())
        finally:
            pool.shutdown(cancel_futures=True)


def fill(
    catalogue: Catalogue,
    preparation: Preparation,
    put: Callable[[int, NDArray[Any]], None] | None,
    *,
    workers: int,
    as_bytes: bool,
    progress: Advance | None = None,
) -> Filled:
    """Prepare every picture once, a bounded number at a time.

    Args:
        catalogue: the pictures.
        preparation: what is done to them.
        put: takes a position and its prepared picture; ``None`` only checks that they can be read.
        workers: threads that decode.
        as_bytes: whether every picture must be one of bytes.
        progress: told how far it is.

    Returns:
        What was found.

    Raises:
        NotBytes: if ``as_bytes`` and a picture is none.
        DataError: if a picture's bands or values do not fit.
    """
    passing: list[int] = []

    def made(index: int) -> NDArray[Any] | Skipped:
        try:
            return catalogue.load_compact(index, preparation)
        except UnreadablePicture as problem:
            # Pillow's own complaints of a damaged file are OSErrors too, but without a number.
            if isinstance(problem.__cause__, OSError) and problem.__cause__.errno is not None:
                passing.append(index)
            reason = str(problem).removeprefix(f"{catalogue.path(index)}: ")
            return _left_out(catalogue, index, reason.split("; ")[0])

    picture_bytes = 4 * int(np.prod([length or 1 for length in preparation.shape.as_tuple()]))
    size = max(2 * workers, min(256, _CHUNK_BYTES // picture_bytes))
    skipped: dict[int, Skipped] = {}
    low, high, dim = np.inf, 0.0, 0
    with ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(catalogue), size):
            chunk = range(start, min(start + size, len(catalogue)))
            for index, picture in zip(chunk, pool.map(made, chunk), strict=True):
                if isinstance(picture, Skipped):
                    skipped[index] = picture
                    continue
                if as_bytes and picture.dtype != np.uint8:
                    raise NotBytes
                top = float(picture.max())
                if 0.0 < top <= 1.0:
                    dim, high, low = dim + 1, max(high, top), min(low, float(picture.min()))
                if put is not None:
                    put(index, picture)
            if progress is not None:
                progress(chunk.stop, len(catalogue))
    return Filled(skipped, (low, high), dim, bool(passing))


def _left_out(catalogue: Catalogue, index: int, reason: str) -> Skipped:
    return Skipped(catalogue.names[index], reason, str(catalogue.splits[index]))


def cache_key(catalogue: Catalogue, preparation: Preparation) -> str:
    """A name for prepared pictures: the same for the same contents, order and preparation."""
    made = hashlib.sha256(json.dumps([_FORMAT, PIL.__version__, preparation.as_dict()]).encode())
    made.update(catalogue.contents.tobytes())
    return made.hexdigest()[:32]


def fill_disk(
    catalogue: Catalogue,
    preparation: Preparation,
    folder: Path,
    kind: StoredType,
    *,
    workers: int,
    progress: Advance | None = None,
) -> tuple[DiskStore, Filled, bool]:
    """Prepare every picture into a file, or find the file of an earlier run.

    The file appears under its name only when it is complete. An earlier run's is not used if it
    left out pictures that may be readable now.

    Args:
        catalogue: the pictures.
        preparation: what is done to them, at a static shape.
        folder: where the file belongs.
        kind: the stored type.
        workers: threads that decode.
        progress: told how far it is.

    Returns:
        The store, what was found, and whether the file was there already.

    Raises:
        NotBytes: as `fill`.
        OSError: if the file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / f"{cache_key(catalogue, preparation)}-{np.dtype(kind).name}.pictures"
    facts = data.with_suffix(".json")
    height, width, channels = preparation.shape.as_tuple()
    assert height is not None
    assert width is not None
    shape = (height, width, channels)
    row_bytes = height * width * channels * np.dtype(kind).itemsize
    if facts.exists() and data.exists() and data.stat().st_size == row_bytes * len(catalogue):
        held: dict[str, Any] = json.loads(facts.read_text())
        skipped = {int(i): _left_out(catalogue, int(i), r) for i, r in held["skipped"].items()}
        found = Filled(skipped, (held["dim_range"][0], held["dim_range"][1]), held["dim_count"])
        return DiskStore(data, shape, kind), found, True
    partial = data.with_suffix(f".partial-{os.getpid()}")
    try:
        with partial.open("wb") as file:

            def put(index: int, picture: NDArray[Any]) -> None:
                file.seek(index * row_bytes)
                file.write(picture.astype(kind).tobytes())

            found = fill(
                catalogue,
                preparation,
                put,
                workers=workers,
                as_bytes=kind is np.uint8,
                progress=progress,
            )
            file.truncate(row_bytes * len(catalogue))
        facts.unlink(missing_ok=True)  # those of a file that was here before
        partial.replace(data)
    finally:
        partial.unlink(missing_ok=True)
    store = DiskStore(data, shape, kind)
    if found.passing:
        return store, found, False  # without its facts nobody uses the file again
    reasons = {index: skipped.reason for index, skipped in found.skipped.items()}
    told = {"skipped": reasons, "dim_range": found.dim_range, "dim_count": found.dim_count}
    scratch = facts.with_suffix(f".partial-{os.getpid()}")
    scratch.write_text(json.dumps(told))
    scratch.replace(facts)
    return store, found, False

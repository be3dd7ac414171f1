"""The list of pictures that everything else reads: where they are, their classes and splits."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..processor import count_cores
from ..progress import Advance
from ..tasks.find import TaskName, task_of
from ..tasks.names import same_name
from ..tasks.task import Labels, Task, Value
from ..text import plural
from .colour import Picture, to_channels
from .contents import kind_of
from .decode import decode, has_range, load_compact
from .prepare import Preparation, is_plain, prepare_compact

MOST_SKIPPED = 0.05
"""The fraction of unreadable pictures above which a run stops."""

_NAMED = 5


@dataclass(frozen=True, slots=True)
class Skipped:
    """A picture that was left out, why, and of which split it was (``""`` if of none yet)."""

    name: str
    reason: str
    split: str = ""


Arrays: TypeAlias = Sequence[NDArray[Any]] | NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class Listing:
    """What a source lists, before any picture is read."""

    names: Sequence[str] = ()
    """Paths relative to ``root``; pictures in arrays are called ``"[17]"``."""
    classes: Sequence[Value] = ()
    """The label of each: a class, tags or a number, ``None`` where unknown; by default all are."""
    splits: Sequence[str] = ()
    """The split of each, or ``""``; by default none has any."""
    root: Path | None = None
    """The folder of the files."""
    arrays: Arrays | None = None
    """The pictures, if they are no files."""
    class_names: Sequence[str] | None = None
    """The classes or tags to number by, by default those that occur, in order; or what a number is
    called."""
    task: Task | TaskName = "auto"
    """That the labels are read for; by default what they are says which."""
    warnings: Sequence[str] = ()
    is_lenient: bool = False
    """Whether every picture that cannot be used is left out, however many they are."""
    problems: Mapping[str, str] = field(default_factory=dict[str, str])
    """Why a picture cannot be used, by its name, where that is known without reading it."""

    def __post_init__(self) -> None:
        """Name the arrays, and fill in what is unknown."""
        names = self.names if self.arrays is None else [f"[{i}]" for i in range(len(self.arrays))]
        object.__setattr__(self, "names", names)
        classes = [same_name(x) if isinstance(x, str) else x for x in self.classes]
        object.__setattr__(self, "classes", classes or [None] * len(names))
        object.__setattr__(self, "splits", self.splits or [""] * len(names))


@dataclass(frozen=True, slots=True, eq=False)
class Catalogue:
    """Pictures with their labels and splits; the pictures themselves stay where they are."""

    task: Task
    """What the labels are."""
    labels: Labels
    """One entry or row per picture, as the task reads them; of classes, an index into
    ``class_names``, or -1 where unknown."""
    splits: NDArray[np.str_]
    """One per picture: ``"train"``, ``"validation"``, ``"test"``, or ``""`` if not assigned yet."""
    contents: NDArray[np.void]
    """A 16-byte hash of each picture's stored bytes."""
    names: tuple[str, ...]
    """What to call each picture: a path relative to ``root``, or ``"[17]"``."""
    rows: NDArray[np.intp]
    """Where in ``arrays`` each picture stands, so that a mapped array is never copied."""
    root: Path | None = None
    """The folder that holds the files."""
    arrays: Arrays | None = None
    """The pictures, if they are arrays rather than files."""
    skipped: tuple[Skipped, ...] = ()
    """Pictures that were listed but cannot be used."""
    warnings: tuple[str, ...] = ()
    """What the user should know, one line each."""
    is_lenient: bool = False
    """Whether every picture that cannot be used is left out, however many they are."""

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def fingerprint(self) -> str:
        """A hash of names, contents, classes and splits, the same in any order and any folder."""
        lines = sorted(
            f"{name}\0{content.tobytes().hex()}\0{self.task.key(label)}\0{split}"
            for name, content, label, split in zip(
                self.names, self.contents, self.labels, self.splits, strict=True
            )
        )
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    @property
    def class_names(self) -> tuple[str, ...]:
        """Of the classes or tags: numbers by value, words by letter."""
        return self.task.names

    @property
    def strata(self) -> NDArray[np.intp]:
        """By which splits, folds and samples keep the pictures in proportion; -1 where unknown."""
        return self.task.strata(self.labels)

    @property
    def is_labelled(self) -> NDArray[np.bool_]:
        """Of each picture, whether its label is known."""
        return self.task.is_known(self.labels)

    def indices(self, split: str | None = None) -> NDArray[np.intp]:
        """Positions of a split's pictures, in the catalogue's order; of all pictures by default."""
        if split is None:
            return np.arange(len(self))
        return np.flatnonzero(self.splits == split)

    def counts(self, split: str | None = None) -> dict[str, int]:
        """Pictures per class or tag."""
        return self.task.counts(self.labels[self.indices(split)])

    def path(self, index: int) -> Path | None:
        """The file of a picture; ``None`` if it is an array."""
        return None if self.root is None else self.root / self.names[index]

    def load(self, index: int, preparation: Preparation) -> NDArray[np.float32]:
        """One picture as the model takes it, float32 in [0, 255]; raises as `decode.load`."""
        return self.load_compact(index, preparation).astype(np.float32)

    def load_compact(self, index: int, preparation: Preparation) -> NDArray[Any]:
        """The same values as `load`, as bytes where that loses nothing."""
        path = self.path(index)
        if path is not None:
            self._refuse_changed(index, path)
            return load_compact(path, preparation)
        name = f"picture {self.names[index]}"
        try:
            channels = to_channels(self.decode(index, preparation), preparation, name)
            return prepare_compact(channels, preparation)
        except DataError as problem:
            message = str(problem)
            raise DataError(message if message.startswith(name) else f"{name}: {message}") from None

    def _refuse_changed(self, index: int, path: Path) -> None:
        # What is kept of a picture is kept under the hash of what it was when it was listed.
        with suppress(OSError):  # which decoding it will tell
            if _digest(path.read_bytes()) != self.contents[index].tobytes():
                raise DataError(
                    f"{path} has changed since the pictures were listed; expected them to stay as "
                    "they are while they are used; restore it and go on, or begin anew"
                )

    def decode(self, index: int, preparation: Preparation) -> Picture:
        """One picture as it was stored; raises as `decode.decode`."""
        path = self.path(index)
        if path is not None:
            return decode(path, preparation)
        assert self.arrays is not None
        array = np.asarray(self.arrays[int(self.rows[index])])
        return Picture(array[..., None] if array.ndim == 2 else array, "bands")

    def has_range(self, index: int) -> bool:
        """Whether a picture may need a full scale; see `decode.has_range`."""
        path = self.path(index)
        if path is not None:
            return has_range(path)
        assert self.arrays is not None
        return not is_plain(np.asarray(self.arrays[int(self.rows[index])]).dtype)

    def take(self, positions: Iterable[int]) -> Catalogue:
        """The catalogue of some of its pictures, in the order given.

        Of the skipped ones, those go along whose split is among theirs.
        """
        chosen = np.asarray(list(positions), np.intp)
        present = set(self.splits[chosen].tolist())
        return replace(
            self,
            labels=self.labels[chosen],
            splits=self.splits[chosen],
            contents=self.contents[chosen],
            names=tuple(self.names[i] for i in chosen),
            rows=self.rows[chosen],
            skipped=tuple(s for s in self.skipped if s.split in present),
        )


def read_catalogue(listing: Listing, progress: Advance | None = None) -> Catalogue:
    """Number the classes of what a source lists and hash its pictures, each of which is read once.

    Files that cannot be opened or are empty are left out and named in ``skipped``.

    Raises:
        DataError: if a class is not among ``class_names`` or its name is no single line, or too
            many files cannot be opened.

    Example:
        >>> pictures = np.zeros((3, 8, 8, 1), np.uint8)
        >>> catalogue = read_catalogue(Listing(arrays=pictures, classes=["b", None, "a"]))
        >>> catalogue.class_names, catalogue.labels.tolist(), catalogue.names
        (('a', 'b'), [1, -1, 0], ('[0]', '[1]', '[2]'))
    """
    task = listing.task
    if not isinstance(task, Task):
        task = task_of(listing.classes, listing.class_names, task)
    elif listing.classes:
        type(task).of(listing.classes, task.names)  # refuses what it does not know
    hashes = _hash_pictures(listing, progress)
    readable = [i for i, content in enumerate(hashes) if isinstance(content, bytes)]
    skipped = tuple(
        replace(content, split=split)
        for content, split in zip(hashes, listing.splits, strict=True)
        if isinstance(content, Skipped)
    )
    refuse_too_many(skipped, len(hashes), is_lenient=listing.is_lenient)
    catalogue = Catalogue(
        task=task,
        labels=task.read(listing.classes),
        splits=np.asarray(listing.splits, "U10"),
        contents=np.asarray([h if isinstance(h, bytes) else b"" for h in hashes], "V16"),
        names=tuple(listing.names),
        rows=np.arange(len(hashes)),
        root=listing.root,
        arrays=listing.arrays,
        is_lenient=listing.is_lenient,
    )
    if skipped:
        catalogue = catalogue.take(readable)
    warnings = (*listing.warnings, *_content_warnings(catalogue))
    return replace(catalogue, skipped=skipped, warnings=warnings)


def refuse_too_many(skipped: Sequence[Skipped], listed: int, *, is_lenient: bool = False) -> None:
    """Stop if more than 5 % of the listed pictures cannot be read, naming the first of them.

    Where that is lenient, only if none of them can.
    """
    is_enough = len(skipped) < listed if is_lenient else len(skipped) <= MOST_SKIPPED * listed
    if not skipped or is_enough:
        return
    wanted = "at least one" if is_lenient else f"at most {MOST_SKIPPED:.0%}"
    first = "; ".join(f"{s.name} ({s.reason})" for s in skipped[:_NAMED])
    more = f" and {len(skipped) - _NAMED} more" if len(skipped) > _NAMED else ""
    whole = "no readable pictures: " if len(skipped) == listed else ""
    raise DataError(
        f"{whole}{len(skipped)} of {listed} pictures cannot be read; expected "
        f"{wanted}; restore or remove {first}{more}"
    )


def _hash_pictures(listing: Listing, progress: Advance | None) -> list[bytes | Skipped]:
    def hash_file(index: int) -> bytes | Skipped:
        name = listing.names[index]
        if name in listing.problems:
            return Skipped(name, listing.problems[name])
        path = (listing.root or Path()) / name
        try:
            kind = kind_of(path.stat().st_mode)
            content = b"" if kind else path.read_bytes()  # a pipe might never end
        except OSError as problem:
            return Skipped(name, problem.strerror or type(problem).__name__)
        except ValueError as problem:  # a NUL byte in the name
            return Skipped(name, str(problem))
        if kind:
            return Skipped(name, kind)
        return _digest(content) if content else Skipped(name, "the file is empty")

    def hash_array(index: int) -> bytes | Skipped:
        assert listing.arrays is not None
        array = np.ascontiguousarray(listing.arrays[index])
        # Rows of the same bytes are other pictures at another shape or type.
        return _digest(array.data, f"{array.shape}{array.dtype}".encode())

    count = len(listing.names)
    hashes: list[bytes | Skipped] = []
    hash_one = hash_file if listing.arrays is None else hash_array
    with ThreadPoolExecutor(min(8, 2 * count_cores())) as pool:
        # In parts, since the pool keeps a record of all that it was given.
        for start in range(0, count, 1024):
            for content in pool.map(hash_one, range(start, min(start + 1024, count))):
                hashes.append(content)
                if progress is not None:
                    progress(len(hashes), count)
    return hashes


def _digest(content: bytes | memoryview, prefix: bytes = b"") -> bytes:
    digest = hashlib.blake2b(prefix, digest_size=16)
    digest.update(content)
    return digest.digest()


def _content_warnings(catalogue: Catalogue) -> tuple[str, ...]:
    if not len(catalogue):
        return ()
    _, groups = np.unique(catalogue.contents.view("V16"), return_inverse=True)
    warnings: list[str] = []
    keys = [catalogue.task.key(label) for label in catalogue.labels]
    torn = _varied(groups, np.unique(keys, return_inverse=True)[1])
    if torn:
        warnings.append(
            f"{plural(torn, 'picture stands', 'pictures stand')} under two or more classes; "
            "remove the wrong copies"
        )
    _, split_numbers = np.unique(catalogue.splits, return_inverse=True)
    leaked = _varied(groups, split_numbers)
    if leaked:
        copies = plural(leaked, "identical picture stands", "identical pictures stand")
        warnings.append(
            f"{copies} in two or more splits, which makes measured accuracy too high; "
            "remove the copies"
        )
    return tuple(warnings)


def _varied(groups: NDArray[np.intp], values: NDArray[Any]) -> int:
    """How many groups hold more than one value."""
    pairs = np.unique(np.stack([groups, values], axis=1), axis=0)
    return int((np.bincount(pairs[:, 0]) > 1).sum())

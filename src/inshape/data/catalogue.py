"""The list of pictures that everything else reads: where they are, their classes and splits."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..progress import Advance
from .colour import Picture, to_channels
from .decode import load_compact
from .prepare import Preparation, prepare_compact

SPLITS = ("train", "validation", "test")

MOST_SKIPPED = 0.05
"""The fraction of unreadable pictures above which a run stops."""

_NAMED = 5


@dataclass(frozen=True, slots=True)
class Skipped:
    """A picture that was left out, why, and of which split it was (``""`` if of none yet)."""

    name: str
    reason: str
    split: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Catalogue:
    """Pictures with their classes and splits; the pictures themselves stay where they are.

    Args:
        labels: int32, one per picture: an index into ``class_names``, or -1 where unknown.
        splits: one word per picture: ``"train"``, ``"validation"``, ``"test"`` or ``""`` where not
            assigned yet.
        class_names: sorted; numbers by value, words by letter.
        contents: a 16-byte hash of each picture's stored bytes.
        names: what to call each picture: a path relative to ``root``, or ``"[17]"``.
        rows: where in ``arrays`` each picture stands, so that a mapped array is never copied.
        root: the folder that holds the files.
        arrays: the pictures, if they are arrays rather than files.
        skipped: pictures that were listed but cannot be used.
        warnings: what the user should know, one line each.
    """

    labels: NDArray[np.int32]
    splits: NDArray[np.str_]
    class_names: tuple[str, ...]
    contents: NDArray[np.void]
    names: tuple[str, ...]
    rows: NDArray[np.intp]
    root: Path | None = None
    arrays: Sequence[NDArray[Any]] | NDArray[Any] | None = None
    skipped: tuple[Skipped, ...] = ()
    warnings: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def fingerprint(self) -> str:
        """A hash of names, contents, classes and splits, the same in any order and any folder."""
        lines = sorted(
            f"{name}\0{content.tobytes().hex()}\0{self.class_name(label)}\0{split}"
            for name, content, label, split in zip(
                self.names, self.contents, self.labels, self.splits, strict=True
            )
        )
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def class_name(self, label: int) -> str:
        """The name of a class; empty for -1."""
        return self.class_names[label] if label >= 0 else ""

    def indices(self, split: str | None = None) -> NDArray[np.intp]:
        """Positions of a split's pictures, in the catalogue's order; of all pictures by default."""
        if split is None:
            return np.arange(len(self))
        return np.flatnonzero(self.splits == split)

    def counts(self, split: str | None = None) -> dict[str, int]:
        """Pictures per class."""
        labels = self.labels[self.indices(split)]
        found = np.bincount(labels[labels >= 0], minlength=len(self.class_names))
        return dict(zip(self.class_names, found.tolist(), strict=True))

    def path(self, index: int) -> Path | None:
        """The file of a picture; ``None`` if it is an array."""
        return None if self.root is None else self.root / self.names[index]

    def load(self, index: int, preparation: Preparation) -> NDArray[np.float32]:
        """One picture as the model takes it.

        Args:
            index: its position.
            preparation: what is done to it.

        Returns:
            float32 ``(height, width, channels)`` in [0, 255].

        Raises:
            UnreadablePicture: if the file holds no whole picture.
            DataError: if its bands or values do not fit.
        """
        return self.load_compact(index, preparation).astype(np.float32)

    def load_compact(self, index: int, preparation: Preparation) -> NDArray[Any]:
        """The same values as `load`, as bytes where that loses nothing."""
        path = self.path(index)
        if path is not None:
            return load_compact(path, preparation)
        assert self.arrays is not None
        name = f"picture {self.names[index]}"
        array = np.asarray(self.arrays[int(self.rows[index])])
        array = array[..., None] if array.ndim == 2 else array
        try:
            channels = to_channels(Picture(array, "bands"), preparation, name)
            return prepare_compact(channels, preparation)
        except DataError as problem:
            told = str(problem)
            raise DataError(told if told.startswith(name) else f"{name}: {told}") from None

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


def catalogued(
    names: Sequence[str],
    classes: Sequence[str | None],
    splits: Sequence[str],
    *,
    root: Path | None = None,
    arrays: Sequence[NDArray[Any]] | NDArray[Any] | None = None,
    class_names: Sequence[str] | None = None,
    warnings: Iterable[str] = (),
    progress: Advance | None = None,
) -> Catalogue:
    """Hash the pictures and put the catalogue together.

    Args:
        names: paths relative to ``root``, or names of arrays.
        classes: the class of each, or ``None`` where unknown.
        splits: the split of each, or ``""``.
        root: the folder of the files.
        arrays: the pictures, if they are no files.
        class_names: the classes to number by; by default those that occur.
        warnings: what to hand on to the user.
        progress: told how far the hashing is.

    Returns:
        The catalogue, without the files that cannot be opened or are empty.

    Raises:
        DataError: if a class is not among ``class_names`` or too many files cannot be opened.
    """
    order = in_order({c for c in classes if c is not None}) if class_names is None else class_names
    numbers = {name: number for number, name in enumerate(order)}
    strange = in_order({c for c in classes if c is not None and c not in numbers})
    if strange:
        raise DataError(
            f"unknown {_several('class', strange)}; expected some of: {', '.join(order)}; "
            "rename the folders or labels, or train again with these classes"
        )
    hashes = _hashes(names, root, arrays, progress)
    kept = [i for i, made in enumerate(hashes) if isinstance(made, bytes)]
    skipped = tuple(
        replace(made, split=split)
        for made, split in zip(hashes, splits, strict=True)
        if isinstance(made, Skipped)
    )
    refuse_too_many(skipped, len(names))
    labels = [-1 if c is None else numbers[c] for c in classes]
    made = Catalogue(
        labels=np.asarray(labels, np.int32),
        splits=np.asarray(splits, "U10"),
        class_names=tuple(order),
        contents=np.asarray([h if isinstance(h, bytes) else b"" for h in hashes], "V16"),
        names=tuple(names),
        rows=np.arange(len(names)),
        root=root,
        arrays=arrays,
        warnings=tuple(warnings),
    )
    made = made if len(kept) == len(names) else made.take(kept)
    return replace(made, skipped=skipped, warnings=made.warnings + _content_warnings(made))


def in_order(class_names: Iterable[str]) -> list[str]:
    """Class names sorted: numbers by value, anything else by letter.

    Example:
        >>> in_order({"10", "9", "2"}), in_order({"b", "10", "9"})
        (['2', '9', '10'], ['10', '9', 'b'])
    """
    names = sorted(class_names)
    return sorted(names, key=int) if all(n.isascii() and n.isdecimal() for n in names) else names


def refuse_too_many(skipped: Sequence[Skipped], listed: int) -> None:
    """Stop if more than 5 % of the pictures cannot be read.

    Args:
        skipped: those that cannot.
        listed: how many pictures there are with them.

    Raises:
        DataError: naming the first ones.
    """
    if not skipped or len(skipped) <= MOST_SKIPPED * listed:
        return
    first = "; ".join(f"{s.name} ({s.reason})" for s in skipped[:_NAMED])
    more = f" and {len(skipped) - _NAMED} more" if len(skipped) > _NAMED else ""
    whole = "no readable pictures: " if len(skipped) == listed else ""
    raise DataError(
        f"{whole}{len(skipped)} of {listed} pictures cannot be read; expected at most "
        f"{MOST_SKIPPED:.0%}; restore or remove {first}{more}"
    )


def _several(kind: str, names: Sequence[str]) -> str:
    plural = {"class": "classes"}.get(kind, f"{kind}s")
    shown = ", ".join(repr(n) for n in names[:_NAMED])
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{kind if len(names) == 1 else plural} {shown}{more}"


def _hashes(
    names: Sequence[str],
    root: Path | None,
    arrays: Sequence[NDArray[Any]] | NDArray[Any] | None,
    progress: Advance | None,
) -> list[bytes | Skipped]:
    def of_file(index: int) -> bytes | Skipped:
        assert root is not None
        try:
            content = (root / names[index]).read_bytes()
        except OSError as problem:
            return Skipped(names[index], problem.strerror or type(problem).__name__)
        return _digest(content) if content else Skipped(names[index], "the file is empty")

    def of_array(index: int) -> bytes | Skipped:
        assert arrays is not None
        array = np.ascontiguousarray(arrays[index])
        return _digest(array.data, f"{array.shape}{array.dtype}".encode())

    results: list[bytes | Skipped] = []
    digest = of_file if arrays is None else of_array
    with ThreadPoolExecutor(min(8, 2 * (os.cpu_count() or 1))) as pool:
        # In parts, since the pool keeps a record of all that it was given.
        for start in range(0, len(names), 1024):
            for made in pool.map(digest, range(start, min(start + 1024, len(names)))):
                results.append(made)
                if progress is not None:
                    progress(len(results), len(names))
    return results


def _digest(content: bytes | memoryview, prefix: bytes = b"") -> bytes:
    made = hashlib.blake2b(prefix, digest_size=16)
    made.update(content)
    return made.digest()


def _content_warnings(catalogue: Catalogue) -> tuple[str, ...]:
    if not len(catalogue):
        return ()
    _, groups = np.unique(catalogue.contents.view("V16"), return_inverse=True)
    warnings: list[str] = []
    torn = _varied(groups, catalogue.labels)
    if torn:
        warnings.append(
            f"{torn} {'picture stands' if torn == 1 else 'pictures stand'} under two or more "
            "classes; remove the wrong copies"
        )
    _, split_numbers = np.unique(catalogue.splits, return_inverse=True)
    leaked = _varied(groups, split_numbers)
    if leaked:
        warnings.append(
            f"{leaked} identical {'picture stands' if leaked == 1 else 'pictures stand'} in two or "
            "more splits, which makes measured accuracy too high; remove the copies"
        )
    return tuple(warnings)


def _varied(groups: NDArray[np.intp], values: NDArray[Any]) -> int:
    """How many groups hold more than one value."""
    pairs = np.unique(np.stack([groups, values], axis=1), axis=0)
    return int((np.bincount(pairs[:, 0]) > 1).sum())

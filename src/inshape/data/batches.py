"""Prepared pictures in batches, in an order that a seed and an epoch number fix."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from ..caching import default_cache_dir
from ..errors import DataError, check_choice
from ..processor import count_cores
from ..progress import Advance
from ..tasks.task import Labels, Moving
from ..text import write_ends
from .catalogue import Catalogue, Skipped, refuse_too_many
from .prepare import FullScale, Preparation
from .stores import (
    CacheReport,
    Filled,
    NotBytes,
    Opener,
    PlaceChoice,
    Store,
    StoredType,
    memory_budget,
)
from .survey import with_range

Look: TypeAlias = Callable[[Catalogue, Preparation, StoredType], Filled]
"""Looks at every picture; raises `NotBytes` as `Opener.open` does."""


@dataclass(frozen=True, slots=True, eq=False)
class Batches:
    """Readable pictures, prepared, with their labels.

    `Batches.open` makes it. Nothing here depends on TensorFlow.
    """

    catalogue: Catalogue
    """The pictures that can be read; it lists the others in ``skipped``."""
    preparation: Preparation
    """What was done to them."""
    cache_report: CacheReport
    """Where they are."""
    store: Store
    """The pictures themselves."""
    slots: NDArray[np.intp]
    """Where in the store each picture of the catalogue stands."""
    kind: StoredType
    """The stored type; bytes wherever that loses nothing."""

    @classmethod
    def open(
        cls,
        catalogue: Catalogue,
        preparation: Preparation,
        *,
        cache: PlaceChoice = "auto",
        cache_dir: Path | None = None,
        memory_budget_bytes: int | None = None,
        workers: int | None = None,
        progress: Advance | None = None,
        look: Look | None = None,
    ) -> Batches:
        """Prepare every picture once, leaving out those that cannot be read.

        Memory stays bounded: what does not fit ``memory_budget_bytes`` (see `memory_budget`) goes
        to the disk, in ``cache_dir`` (see `default_cache_dir`), and what does not fit there is
        decoded again for every epoch; ``cache`` chooses one of the three. So many ``workers``
        decode; by default one per core. Pictures of more than 8 bits are read by the preparation's
        full scale; without one, by the one that a sample of them shows (see `with_range`), which
        ``batches.preparation`` keeps and a warning of the catalogue names. Where others look at
        every picture in this process's place, ``look`` has them do it, and none is kept.

        Raises:
            UnknownName: if ``cache`` is none of the choices.
            DataError: if the shape is not static, more than 5 % of the pictures or a whole class
                cannot be read, or a picture's bands or values do not fit.

        Example:
            >>> from inshape.data.sources import open_source
            >>> pictures = np.zeros((6, 20, 30, 3), np.uint8)
            >>> catalogue = open_source((pictures, [0, 1] * 3))
            >>> batches = Batches.open(catalogue, Preparation.of("10x15x1"))
            >>> [x.shape for x, y in batches.iterate(batch_size=4)]
            [(4, 10, 15, 1), (2, 10, 15, 1)]
        """
        check_choice("cache", cache, get_args(PlaceChoice))
        if not preparation.shape.is_static:
            raise DataError(
                f"preparation at {preparation.shape}; expected a known height and width, since a "
                "batch has one size; use preparation.at((160, 160)) or the backbone's native size"
            )
        preparation, notes = with_range(catalogue, preparation)
        budget_bytes = memory_budget() if memory_budget_bytes is None else memory_budget_bytes
        opener = Opener(
            catalogue=catalogue,
            preparation=preparation,
            folder=cache_dir or default_cache_dir(),
            budget_bytes=budget_bytes,
            workers=workers or count_cores(),
            progress=progress,
        )

        def prepare(opener: Opener, kind: StoredType) -> tuple[Store, Filled, CacheReport]:
            if look is None:
                return opener.open(cache, kind)
            filled = look(catalogue, opener.preparation, kind)
            return opener.decode_again(filled, kind, "others have decoded them")

        kind: StoredType = np.uint8
        try:
            store, filled, report = prepare(opener, kind)
        except NotBytes:
            kind = np.float32
            if preparation.full_scale is None:  # the sample may have missed the few that have more
                preparation, notes = with_range(catalogue, preparation, thorough=True)
                opener = replace(opener, preparation=preparation)
            store, filled, report = prepare(opener, kind)
        catalogue = replace(catalogue, warnings=(*catalogue.warnings, *notes))
        readable, slots = _readable(catalogue, filled, preparation.full_scale)
        report = replace(report, pictures=len(readable))
        return cls(
            catalogue=readable,
            preparation=preparation,
            cache_report=report,
            store=store,
            slots=slots,
            kind=kind,
        )

    def __len__(self) -> int:
        return len(self.catalogue)

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """The pictures that could not be read, and why."""
        return self.catalogue.skipped

    def take(self, positions: NDArray[np.integer[Any]]) -> Batches:
        """Some of the pictures, in this order."""
        catalogue = self.catalogue.take(positions)
        return replace(self, catalogue=catalogue, slots=self.slots[positions])

    def steps(self, split: str | None, batch_size: int, *, drop_remainder: bool = False) -> int:
        """Batches in an epoch."""
        count = len(self.catalogue.indices(split))
        return count // batch_size if drop_remainder else -(-count // batch_size)

    def iterate(
        self,
        split: str | None = None,
        batch_size: int = 32,
        *,
        shuffle: bool = False,
        seed: int = 0,
        epoch: int = 0,
    ) -> Iterator[tuple[NDArray[Any], Labels]]:
        """One epoch of batches, in an order that seed and epoch fix where it is shuffled.

        Yields:
            Pictures, ``(batch, height, width, channels)`` in [0, 255], as bytes where that loses
            nothing and as float32 otherwise; and their labels, as `labels` gives them.
        """
        order = self.catalogue.indices(split)
        if shuffle:
            order = np.random.default_rng([seed, epoch]).permutation(order)
        chosen = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
        rows = self.store.batches([self.slots[positions] for positions in chosen])
        for positions, pictures in zip(chosen, rows, strict=True):
            yield pictures, self.labels_at(positions)

    def labels(self, split: str | None = None) -> Labels:
        """Of a split's pictures, or of all; what lies on them is brought to the input with them."""
        return self.labels_at(self.catalogue.indices(split))

    def labels_at(self, positions: NDArray[np.intp]) -> Labels:
        """Of some pictures."""
        labels = self.catalogue.labels[positions]
        if labels.dtype != object or not len(labels):
            return labels

        def fit(label: Moving) -> NDArray[Any]:
            return label.at(self.preparation)

        with ThreadPoolExecutor(count_cores()) as pool:
            return np.stack([*pool.map(fit, labels)])


def _readable(
    catalogue: Catalogue, filled: Filled, full_scale: FullScale | None
) -> tuple[Catalogue, NDArray[np.intp]]:
    """The catalogue without the unreadable pictures, and where each stands in the store."""
    skipped = catalogue.skipped + tuple(filled.skipped[i] for i in sorted(filled.skipped))
    listed = len(catalogue) + len(catalogue.skipped)
    refuse_too_many(skipped, listed, is_lenient=catalogue.is_lenient)
    slots = np.setdiff1d(np.arange(len(catalogue)), list(filled.skipped))
    readable = catalogue.take(slots) if filled.skipped else catalogue
    left = readable.counts()
    for name, count in catalogue.counts().items():
        if count and not left[name]:
            raise DataError(
                f"class {name!r}: none of its {count} pictures can be read; expected some; "
                "restore the files or remove the class"
            )
    warnings = catalogue.warnings
    if 2 * filled.dim_count > len(readable):
        warnings += (_dim_warning(filled, len(readable), full_scale),)
    return replace(readable, skipped=skipped, warnings=warnings), slots


def _dim_warning(filled: Filled, count: int, full_scale: FullScale | None) -> str:
    low, high = filled.dim_range
    fix = (
        "multiply them by 255, or make them floats"
        if full_scale is None
        else f"they are read with full_scale {write_ends(full_scale)}, and hold other values"
    )
    return (
        f"{filled.dim_count} of {count} pictures have values from {low:.4g} to {high:.4g}, which "
        f"is black; expected 0 to 255; {fix}"
    )

"""Features of a frozen network, computed once and kept in files named after what they depend on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeAlias

import keras
import numpy as np
from numpy.typing import NDArray

from ..caching import Cache, Facts
from ..data.augment import Augmentation
from ..data.batches import Batches
from ..data.stores import vanished
from ..errors import RunError
from ..progress import Advance
from ..runtime.cluster import Cluster
from ..runtime.frozen import Forward
from ..runtime.shares import BATCH, answers_of, write_rows
from ..text import format_bytes
from .views import View, change_for, of_view

Stored: TypeAlias = Literal["float32", "float16"]

Part: TypeAlias = tuple[int, NDArray[np.float32]]
"""Rows, and where the first of them stands among all."""

_CHUNK = 256
_FORMAT = 3  # raise it when features of the same facts change


@dataclass(frozen=True, slots=True)
class Extraction:
    """Which features are computed, of which pictures."""

    network: keras.Model
    """The frozen one."""
    batches: Batches
    augment: Augmentation = "light"
    """The kind of random views; with it, whether they may be mirrored, and their seed."""
    flip: bool = True
    seed: int = 0
    stored: Stored = "float32"
    """The type in the file. ``"float32"`` rows are those of the Keras model to 1e-4 of the largest.
    ``"float16"``, in which a training keeps the maps before an unfrozen part, halves the file and
    rounds each value by up to 5e-4 of itself, enough to train on; what is computed from such maps,
    the head's first features among it, deviates as much."""
    channels: int | None = None
    """For which random views are chosen, if not those of the pictures."""
    cluster: Cluster | None = None
    """Whose workers decode the pictures and run the network."""

    def facts(self, split: str, view: View) -> dict[str, Any]:
        """Everything that the features depend on."""
        contents = self.batches.catalogue.contents[self.batches.catalogue.indices(split)]
        pictures = hashlib.blake2b(np.ascontiguousarray(contents).tobytes(), digest_size=16)
        facts = {
            "format": _FORMAT,
            "keras": keras.__version__,
            "network": model_hash(self.network),
            "pictures": pictures.hexdigest(),
            "preparation": self.batches.preparation.as_dict(),
            "view": view,
            "stored": self.stored,
        }
        if isinstance(view, int):  # a random one
            facts |= {"augment": self.augment, "flip": self.flip, "seed": self.seed}
            facts |= {"channels": self.channels, "moves_as": self._moves_as}
        return facts

    def bytes(self, split: str, views: int) -> int:
        """What the features of a split take."""
        width = int(np.prod(self._row_shape())) * np.dtype(self.stored).itemsize
        return len(self.batches.catalogue.indices(split)) * views * width

    def rows(
        self,
        split: str,
        view: View,
        folder: Path,
        forward: Callable[[], Forward],
        progress: Advance | None = None,
    ) -> NDArray[Any]:
        """The features of a split, from the folder if they are there.

        ``forward`` gives what runs the network, and is called only if they are not. There is one
        row per picture, in the order of ``catalogue.indices(split)``; mapped from the file, not
        loaded.

        Raises:
            RunError: if the file cannot be written.
        """
        shape = (len(self.batches.catalogue.indices(split)), *self._row_shape())

        def parts() -> Iterator[Part]:
            return self._compute(split, view, forward(), progress)

        return _kept(Cache(folder), self.facts(split, view), parts, shape, self.stored)

    def _compute(
        self, split: str, view: View, forward: Forward, progress: Advance | None
    ) -> Iterator[Part]:
        change = partial(
            change_for,
            view,
            self.augment,
            channels=self.channels or self.batches.preparation.shape.channels,
            seed=self.seed,
            flip=self.flip,
            moves_as=self._moves_as,
        )
        positions = self.batches.catalogue.indices(split)
        if self.cluster is not None:
            catalogue, preparation = (
                self.batches.catalogue.take(positions),
                self.batches.preparation,
            )
            make = partial(of_view, change, forward.elsewhere)
            for share in answers_of(self.cluster, catalogue, preparation, make, progress=progress):
                for problem in share.filled.skipped.values():
                    raise vanished(f"{problem.name} cannot be read ({problem.reason})")
                yield share.start, share.rows
            return
        count, changed = 0, change()
        for number, (pictures, _) in enumerate(self.batches.iterate(split, BATCH)):
            rows = forward(changed(pictures, number))
            yield count, rows
            count += len(rows)
            if progress is not None:
                progress(count, len(positions))

    @property
    def _moves_as(self) -> str:
        return self.batches.catalogue.task.moves_as

    def _row_shape(self) -> tuple[int, ...]:
        shape = (1, *self.batches.preparation.shape.as_tuple())
        return tuple(self.network.compute_output_shape(shape)[1:])


def carry_on(
    rows: NDArray[Any], forward: Forward, network: keras.Model, stored: Stored = "float32"
) -> NDArray[Any]:
    """Rows of `Extraction.rows` run through the layers behind them, kept in a file beside theirs.

    One row per row; mapped from the file, not loaded.

    Raises:
        RunError: if the file cannot be written.
    """
    source = Path(str(getattr(rows, "filename")))  # noqa: B009 - a mapped array has one

    def parts() -> Iterator[Part]:
        for start in range(0, len(rows), _CHUNK):
            yield start, forward(np.asarray(rows[start : start + _CHUNK], np.float32))

    facts = {"format": _FORMAT, "rows": source.name, "network": model_hash(network)}
    facts |= {} if stored == "float32" else {"stored": stored}
    shape = (len(rows), *network.output_shape[1:])
    return _kept(Cache(source.parent), facts, parts, shape, stored)


def _kept(
    cache: Cache,
    facts: Facts,
    parts: Callable[[], Iterable[Part]],
    shape: tuple[int, ...],
    stored: Stored,
) -> NDArray[Any]:
    """The array of these facts, computed part by part if it is not there."""

    def write(file: BinaryIO) -> dict[str, Any]:
        header = {"descr": np.dtype(stored).str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        begin = file.tell()
        for start, rows in parts():
            write_rows(file, begin, start, _as_stored(rows, stored))
        return {}

    entry = cache.load(facts)
    if entry is None:
        try:
            entry = cache.save(facts, write, suffix=".npy")
        except OSError as error:
            need = int(np.prod(shape)) * np.dtype(stored).itemsize
            raise RunError(
                f"cannot write features to {cache.folder}: {error.strerror or error}; "
                f"expected room for {format_bytes(need)}; free some space or use fewer views"
            ) from error
    return np.load(entry.path, mmap_mode="r")


def _as_stored(rows: NDArray[np.float32], stored: Stored) -> NDArray[Any]:
    if stored == "float32":
        return rows
    largest = float(np.finfo(np.float16).max)  # what is larger would become infinite
    return np.clip(rows, -largest, largest).astype(np.float16)


def model_hash(model: keras.Model) -> str:
    """A hash of a model's architecture and weights, whatever its layers are called."""
    hashed = hashlib.blake2b(digest_size=16)
    config = json.loads(model.to_json())
    renamed: dict[str, str] = {}
    hashed.update(json.dumps(_without_names(config, renamed), sort_keys=True).encode())
    for weight in model.weights:
        value = np.ascontiguousarray(keras.ops.convert_to_numpy(weight.value))
        hashed.update(str((value.shape, value.dtype)).encode())
        hashed.update(value.data)
    return hashed.hexdigest()


def _without_names(config: Any, renamed: dict[str, str]) -> Any:
    """A configuration with names replaced by the order of their first use.

    Keras numbers its automatic names over the life of the process, so the same network has other
    names when it is built a second time.
    """
    if isinstance(config, dict):
        return {
            key: renamed.setdefault(value, f"#{len(renamed)}")
            if key == "name" and isinstance(value, str)
            else _without_names(value, renamed)
            for key, value in config.items()
            if key != "build_config"
        }
    if isinstance(config, list):
        return [_without_names(value, renamed) for value in config]
    return renamed.get(config, config) if isinstance(config, str) else config

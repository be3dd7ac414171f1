"""Features of a frozen network, computed once and kept in files named after what made them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import keras
import numpy as np
from numpy.typing import NDArray

from ..data.augment import Augmentation
from ..data.batches import Batches
from ..errors import RunError
from ..progress import Advance
from ..runtime.frozen import Forward
from .views import View, change_for

Stored: TypeAlias = Literal["float32", "float16"]

_BATCH = 64
_CHUNK = 256
_FORMAT = 2  # raise it when features of the same key change


@dataclass(frozen=True, slots=True)
class Extraction:
    """What is computed, for whom.

    Attributes:
        front: the frozen network.
        batches: the pictures.
        augment: the kind of random views.
        flip: whether random views may be mirrored.
        seed: of the random views.
        stored: the type in the file. ``"float32"`` rows are those of the Keras model to 1e-4 of
            the largest. ``"float16"``, in which a training keeps the maps before an unfrozen part,
            halves the file and rounds each value by up to 5e-4 of itself, enough to train on; what
            is computed from such maps, the head's first features among it, deviates as much.
        channels: for which random views are chosen, if not those of the pictures.
    """

    front: keras.Model
    batches: Batches
    augment: Augmentation = "light"
    flip: bool = True
    seed: int = 0
    stored: Stored = "float32"
    channels: int | None = None

    def key(self, split: str, view: View) -> str:
        """A hash of everything that the features depend on.

        Args:
            split: which pictures.
            view: which version of them.

        Returns:
            32 hexadecimal digits.
        """
        catalogue = self.batches.catalogue
        chosen = catalogue.indices(split)
        random: list[Any] = []
        if isinstance(view, int):
            random = [self.augment, self.flip, self.seed]
            random += [] if self.channels is None else [self.channels]
        facts = {
            "format": _FORMAT,
            "keras": keras.__version__,
            "network": model_hash(self.front),
            "preparation": self.batches.preparation.as_dict(),
            "view": [view, *random],
            "stored": self.stored,
        }
        made = hashlib.blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=16)
        made.update(np.ascontiguousarray(catalogue.contents[chosen]).tobytes())
        return made.hexdigest()

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
        """The features of a split, from the file if it is there.

        Args:
            split: which pictures.
            view: which version of them.
            folder: where files are kept.
            forward: gives what runs the network; called only if the file is not there.
            progress: told how many pictures are done.

        Returns:
            One row per picture, in the order of ``catalogue.indices(split)``; mapped from the file,
            not loaded.

        Raises:
            RunError: if the file cannot be written.
        """
        path = folder / f"{self.key(split, view)}.npy"
        if not path.exists():
            shape = (len(self.batches.catalogue.indices(split)), *self._row_shape())
            _write(path, self.stored, shape, self._made(split, view, forward(), progress))
        return np.load(path, mmap_mode="r")

    def _made(
        self, split: str, view: View, forward: Forward, progress: Advance | None
    ) -> Iterator[NDArray[np.float32]]:
        count = len(self.batches.catalogue.indices(split))
        change = change_for(
            view,
            self.augment,
            channels=self.channels or self.batches.preparation.shape.channels,
            seed=self.seed,
            flip=self.flip,
        )
        done = 0
        for number, (pictures, _) in enumerate(self.batches.iterate(split, _BATCH)):
            rows = forward(change(pictures, number))
            yield rows
            done += len(rows)
            if progress is not None:
                progress(done, count)

    def _row_shape(self) -> tuple[int, ...]:
        shape = (1, *self.batches.preparation.shape.as_tuple())
        return tuple(self.front.compute_output_shape(shape)[1:])


def carried_on(rows: NDArray[Any], forward: Forward, network: keras.Model) -> NDArray[np.float32]:
    """Stored features run through the layers behind them, kept in a file beside theirs.

    Args:
        rows: as `Extraction.rows` gives them.
        forward: runs the layers.
        network: the layers, after which the file is named.

    Returns:
        One float32 row per row; mapped from the file, not loaded.

    Raises:
        RunError: if the file cannot be written.
    """
    source = Path(str(getattr(rows, "filename")))  # noqa: B009 - a mapped array has one
    path = source.with_name(f"{source.stem}-{model_hash(network)}.npy")
    if not path.exists():
        shape = (len(rows), *network.output_shape[1:])
        parts = range(0, len(rows), _CHUNK)
        made = (forward(np.asarray(rows[i : i + _CHUNK], np.float32)) for i in parts)
        _write(path, "float32", shape, made)
    return np.load(path, mmap_mode="r")


def _write(
    path: Path, stored: Stored, shape: tuple[int, ...], parts: Iterable[NDArray[np.float32]]
) -> None:
    """Write an array whole or not at all, part by part."""
    part = path.with_suffix(".part")
    header = {"descr": np.dtype(stored).str, "fortran_order": False, "shape": shape}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Written through the file and not through a mapping, since a full disk answers a mapping
        # by killing the process.
        with part.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            for rows in parts:
                file.write(np.ascontiguousarray(_as_stored(rows, stored)).data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        need = int(np.prod(shape)) * np.dtype(stored).itemsize
        raise RunError(
            f"cannot write features to {path.parent}: {error.strerror or error}; expected room "
            f"for {need / 1e6:.0f} MB; free some space or use fewer views"
        ) from error


def model_hash(model: keras.Model) -> str:
    """A hash of a model's architecture and weights, whatever its layers are called.

    Args:
        model: any Keras model.

    Returns:
        32 hexadecimal digits.
    """
    made = hashlib.blake2b(digest_size=16)
    config = json.loads(model.to_json())
    renamed: dict[str, str] = {}
    made.update(json.dumps(_without_names(config, renamed), sort_keys=True).encode())
    for weight in model.weights:
        value = np.ascontiguousarray(keras.ops.convert_to_numpy(weight.value))
        made.update(str((value.shape, value.dtype)).encode())
        made.update(value.data)
    return made.hexdigest()


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


def _as_stored(rows: NDArray[np.float32], stored: Stored) -> NDArray[Any]:
    if stored == "float32":
        return rows
    largest = float(np.finfo(np.float16).max)
    return np.clip(rows, -largest, largest).astype(np.float16)

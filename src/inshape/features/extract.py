"""Features of a frozen network, computed once and kept in files named after what made them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import keras
import numpy as np
from numpy.typing import NDArray

from ..data.augment import Augmentation
from ..data.batches import Batches
from ..data.catalogue import Progress
from ..errors import RunError
from .forward import Forward
from .views import View, change_for

Stored: TypeAlias = Literal["float32", "float16"]

_BATCH = 64
_FORMAT = 1  # raise it when features of the same key change


@dataclass(frozen=True, slots=True)
class Extraction:
    """What is computed, for whom.

    Attributes:
        front: the frozen network.
        batches: the pictures.
        augment: the kind of random views.
        flip: whether random views may be mirrored.
        seed: of the random views.
        stored: the type in the file. ``"float16"`` halves it and keeps three digits, enough to
            train on; values are compared with the Keras model's before that.
    """

    front: keras.Model
    batches: Batches
    augment: Augmentation = "light"
    flip: bool = True
    seed: int = 0
    stored: Stored = "float32"

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
        random = [self.augment, self.flip, self.seed] if isinstance(view, int) else []
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
        progress: Progress | None = None,
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
            part = path.with_suffix(".part")
            try:
                folder.mkdir(parents=True, exist_ok=True)
                self._fill(part, split, view, forward(), progress)
                part.replace(path)
            except OSError as error:
                with suppress(OSError):
                    part.unlink(missing_ok=True)
                raise RunError(
                    f"cannot write features to {folder}: {error.strerror or error}; expected room "
                    f"for {self.bytes(split, 1) / 1e6:.0f} MB; free some space or use fewer views"
                ) from error
        return np.load(path, mmap_mode="r")

    def _fill(
        self, path: Path, split: str, view: View, forward: Forward, progress: Progress | None
    ) -> None:
        count = len(self.batches.catalogue.indices(split))
        shape = (count, *self._row_shape())
        change = change_for(
            view,
            self.augment,
            channels=self.batches.preparation.shape.channels,
            seed=self.seed,
            flip=self.flip,
        )
        # Written through the file and not through a mapping, since a full disk answers a mapping
        # by killing the process.
        with path.open("wb") as file:
            header = {"descr": np.dtype(self.stored).str, "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            done = 0
            for number, (pictures, _) in enumerate(self.batches.iterate(split, _BATCH)):
                rows = forward(change(pictures, number))
                file.write(np.ascontiguousarray(_as_stored(rows, self.stored)).data)
                done += len(rows)
                if progress is not None:
                    progress(done, count)

    def _row_shape(self) -> tuple[int, ...]:
        shape = (1, *self.batches.preparation.shape.as_tuple())
        return tuple(self.front.compute_output_shape(shape)[1:])


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

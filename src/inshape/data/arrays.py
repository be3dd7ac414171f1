"""Pictures that are arrays already."""

from __future__ import annotations

import zlib
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..progress import Advance
from .catalogue import Catalogue, catalogued
from .tables import SPLIT_WORDS

# What NumPy raises on damaged files.
_DAMAGE = (OSError, ValueError, EOFError, TypeError, AttributeError, BadZipFile, zlib.error)

DATASET_BYTES = 2 * 2**30
"""The most bytes of pictures that are taken out of a ``tf.data.Dataset``."""


def array_catalogue(
    x: Any,
    y: Any,
    *,
    splits: Sequence[str] | None = None,
    class_names: Sequence[str] | None = None,
    progress: Advance | None = None,
) -> Catalogue:
    """List pictures that lie in an array.

    Args:
        x: ``(pictures, height, width)`` or ``(pictures, height, width, channels)``; or a list of
            pictures of any sizes. uint8, uint16, or floats in [0, 255].
        y: one class per picture: whole numbers from 0, words, or one-hot rows.
        splits: the split of each, if they are assigned.
        class_names: the names of the numbers, or the words to number by.
        progress: told how far the hashing is.

    Returns:
        The catalogue; it refers to ``x``.

    Raises:
        DataError: if the shapes do not fit each other or a label is none.
    """
    pictures: Any = x if type(x) is list else np.asarray(x)
    if isinstance(pictures, np.ndarray) and pictures.ndim not in (3, 4):
        raise DataError(
            f"pictures of shape {pictures.shape}; expected (pictures, height, width[, channels]); "
            "add the missing axis"
        )
    classes, names = _classes(np.asarray(y), class_names)
    count = len(pictures)
    if count != len(classes):
        raise DataError(
            f"{count} pictures and {len(classes)} labels; expected one label per picture; "
            "check that both come from the same set"
        )
    return catalogued(
        [f"[{i}]" for i in range(count)],
        classes,
        [""] * count if splits is None else splits,
        arrays=pictures,
        class_names=names,
        progress=progress,
    )


def npz_catalogue(
    path: Path, *, class_names: Sequence[str] | None = None, progress: Advance | None = None
) -> Catalogue:
    """List the pictures of an ``.npz`` file, which is loaded into memory.

    Args:
        path: holds ``x`` and ``y``, or ``x_train`` and ``y_train`` and the like for other splits.
        class_names: as for `array_catalogue`.
        progress: told how far the hashing is.

    Returns:
        The catalogue.

    Raises:
        DataError: if the arrays have other names or cannot be read.
    """
    held = _numpy(path)
    keys = [k for k in held if k == "x" or (k.startswith("x_") and k[2:].lower() in SPLIT_WORDS)]
    if not keys or any(f"y{k[1:]}" not in held for k in keys):
        raise DataError(
            f"{path}: arrays {', '.join(held)}; expected x and y, or x_train, y_train, x_val, "
            "y_val, ...; name them so"
        )
    xs = [held[k] for k in keys]
    ys = [held[f"y{k[1:]}"] for k in keys]
    words = [SPLIT_WORDS.get(k[2:].lower(), "") for k in keys]
    if len({(x.shape[1:], x.dtype) for x in xs}) == 1:
        pictures: Any = np.concatenate(xs)
    else:
        pictures = [picture for x in xs for picture in x]
    return array_catalogue(
        pictures,
        np.concatenate(ys),
        splits=[word for word, x in zip(words, xs, strict=True) for _ in range(len(x))],
        class_names=class_names,
        progress=progress,
    )


def npy_catalogue(
    path: Path,
    *,
    class_names: Sequence[str] | None = None,
    labels: str = "required",
    progress: Advance | None = None,
) -> Catalogue | None:
    """List the pictures of an ``.npy`` file, which is mapped and not loaded.

    Args:
        path: the pictures; the labels lie beside it (``x.npy`` and ``y.npy``, ``x_val.npy`` and
            ``y_val.npy``, or ``images.npy`` and ``labels.npy``).
        class_names: as for `array_catalogue`.
        labels: ``"optional"`` also takes four axes without labels.
        progress: told how far the hashing is.

    Returns:
        The catalogue; ``None`` for a single picture, where that is allowed.

    Raises:
        DataError: if there are no labels beside it, or a file is damaged.
    """
    x = _mapped(path)
    for pictures, words in (("x", "y"), ("images", "labels"), ("X", "y")):
        beside = path.with_name(words + path.name.removeprefix(pictures))
        if path.name.startswith(pictures) and beside.exists():
            y = np.array(_mapped(beside))
            return array_catalogue(x, y, class_names=class_names, progress=progress)
    if labels == "optional":
        return unlabelled(x, class_names or (), progress=progress) if x.ndim == 4 else None
    raise DataError(
        f"{path}: no labels beside it; expected x.npy with y.npy or images.npy with labels.npy; "
        "save the labels so"
    )


def unlabelled(
    x: NDArray[Any], class_names: Sequence[str], *, progress: Advance | None = None
) -> Catalogue:
    """List the pictures of an array whose classes are unknown.

    Args:
        x: ``(pictures, height, width[, channels])``.
        class_names: those of the model that is to name them.
        progress: told how far the hashing is.

    Returns:
        The catalogue; it refers to ``x``.
    """
    count = len(x)
    return catalogued(
        [f"[{i}]" for i in range(count)],
        [None] * count,
        [""] * count,
        arrays=x,
        class_names=class_names,
        progress=progress,
    )


def dataset_catalogue(
    dataset: Any, *, class_names: Sequence[str] | None = None, progress: Advance | None = None
) -> Catalogue:
    """Read a ``tf.data.Dataset`` into memory and list its pictures.

    Args:
        dataset: of (picture, label) or of batches of them.
        class_names: as for `array_catalogue`; by default the dataset's own ``class_names``.
        progress: told how far the hashing is.

    Returns:
        The catalogue, in the dataset's order.

    Raises:
        DataError: if it is endless, too large for memory or of other elements.
    """
    if int(dataset.cardinality()) == -1:
        raise DataError("an endless tf.data.Dataset; expected a finite one; remove its repeat()")
    spec: Any = dataset.element_spec
    if type(spec) is not tuple or len(spec) != 2 or spec[0].shape.rank not in (3, 4):
        raise DataError(
            f"a tf.data.Dataset of {spec}; expected (picture, label) with pictures of (height, "
            "width, channels), batched or not; map it so"
        )
    pictures: list[NDArray[Any]] = []
    labels: list[Any] = []
    taken = 0
    for x, y in dataset.as_numpy_iterator():
        batch = x if x.ndim == 4 else x[None]
        pictures += list(batch)
        labels += list(y if x.ndim == 4 else [y])
        taken += batch.nbytes
        if taken > DATASET_BYTES:
            raise DataError(
                f"a tf.data.Dataset of more than {DATASET_BYTES / 2**30:.3g} GiB; expected one "
                "that fits in memory; give the folder or table that it was made from"
            )
    names = getattr(dataset, "class_names", None) if class_names is None else class_names
    return array_catalogue(pictures, labels, class_names=names, progress=progress)


def _numpy(path: Path) -> dict[str, NDArray[Any]]:
    with _readable(path):
        # NumPy leaves a damaged file open that it has opened itself.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return dict(arrays)


def _mapped(path: Path) -> NDArray[Any]:
    with _readable(path):
        return np.load(path, mmap_mode="r", allow_pickle=False)


@contextmanager
def _readable(path: Path) -> Generator[None]:
    """Turn what NumPy says of a damaged file into one line, without its advice to unpickle."""
    try:
        yield
    except _DAMAGE as problem:
        reason = " ".join(str(problem).split())
        if "pickle" in reason:
            reason = "damaged, or an array of Python objects"
        kind = path.suffix.lower()
        raise DataError(f"{path}: {reason}; expected an {kind} file; write it again") from None


def _classes(
    y: NDArray[Any], class_names: Sequence[str] | None
) -> tuple[list[str | None], Sequence[str] | None]:
    """Each picture's class name, and the order of the classes if it is known."""
    if y.ndim == 2 and y.shape[1] > 1:
        if not ((y == 0) | (y == 1)).all() or not (y.sum(axis=1) == 1).all():
            raise DataError(
                "labels with several columns that are not one-hot; expected one class per picture; "
                "give one column of class numbers"
            )
        count = y.shape[1]
        y = y.argmax(axis=1)
        class_names = class_names or [str(i) for i in range(count)]
    y = y.reshape(len(y)) if y.size == len(y) else y
    if y.ndim != 1:
        raise DataError(
            f"labels of shape {y.shape}; expected one class per picture; give one column"
        )
    if y.dtype.kind in "SUO":
        return [v.decode() if isinstance(v, bytes) else str(v) for v in y.tolist()], class_names
    if y.dtype.kind not in "iub" and not (y.dtype.kind == "f" and (y == np.rint(y)).all()):
        raise DataError(
            f"labels of type {y.dtype}; expected whole numbers from 0 or words; convert them first"
        )
    numbers = y.astype(np.int64)
    highest = int(numbers.max(initial=-1))
    if numbers.min(initial=0) < 0 or (class_names is not None and highest >= len(class_names)):
        most = "0 up" if class_names is None else f"0 to {len(class_names) - 1}"
        wrong = int(numbers.min()) if numbers.min() < 0 else highest
        raise DataError(f"label {wrong}; expected {most}; number the classes from 0")
    names = list(class_names or [str(i) for i in range(highest + 1)])
    return [names[i] for i in numbers], names

"""Pictures that are arrays already."""

from __future__ import annotations

import zlib
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tokenize import TokenError
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..tasks.find import TaskName
from ..tasks.task import Value
from ..text import plural
from .catalogue import Listing
from .labels import notes_of_guess, read_flags
from .tables import SPLIT_WORDS

DAMAGE = (
    *(OSError, ValueError, EOFError, TypeError, AttributeError, KeyError, SyntaxError),
    *(MemoryError, NotImplementedError, RecursionError, OverflowError, BadZipFile, zlib.error),
    TokenError,
)
"""What NumPy raises on damaged files, whose headers are Python."""
_MOST_CLASSES = 2**17

DATASET_BYTES = 2 * 2**30
"""The most bytes of pictures that are taken out of a ``tf.data.Dataset``."""


def list_arrays(
    x: Any,
    y: Any,
    *,
    splits: Sequence[str] = (),
    class_names: Sequence[str] | None = None,
    task: TaskName = "auto",
) -> Listing:
    """List pictures that lie in an array, with one label each.

    ``x`` is ``(pictures, height, width[, channels])``, or a list of pictures of any sizes; ``y``
    whole numbers from 0, words, or one-hot rows, of which ``class_names`` names the numbers; rows
    of 0 and 1 for tags; or numbers with a fraction.

    Raises:
        DataError: if the shapes do not fit each other or a label is none.
    """
    pictures: Any = x if type(x) is list else np.asarray(x)
    if isinstance(pictures, np.ndarray) and pictures.ndim not in (3, 4):
        raise DataError(
            f"pictures of shape {pictures.shape}; expected (pictures, height, width[, channels]); "
            "add the missing axis"
        )
    labels, class_names = _read_labels(np.asarray(y), class_names, task)
    if len(pictures) != len(labels):
        raise DataError(
            f"{len(pictures)} pictures and {len(labels)} labels; expected one label per picture; "
            "check that both come from the same set"
        )
    return Listing(
        arrays=pictures,
        classes=labels,
        splits=splits,
        class_names=class_names,
        warnings=notes_of_guess(labels, task, "the labels"),
    )


def list_npz(
    path: Path, *, class_names: Sequence[str] | None = None, task: TaskName = "auto"
) -> Listing:
    """List the pictures of an ``.npz`` file, which is loaded into memory.

    It holds ``x`` and ``y``, or ``x_train`` and ``y_train`` and the like for other splits.

    Raises:
        DataError: if the arrays have other names or cannot be read.
    """
    arrays = _load(path)
    parts = [name[1:] for name in arrays if name == "x" or _split_of(name)]
    if not parts or any(f"y{part}" not in arrays for part in parts):
        raise DataError(
            f"{path}: arrays {', '.join(arrays)}; expected x and y, or x_train, y_train, x_val, "
            "y_val, ...; name them so"
        )
    xs = [arrays[f"x{part}"] for part in parts]
    with _readable(path):  # what is no array in a damaged file comes as bytes
        splits = np.repeat([_split_of(f"x{part}") for part in parts], list(map(len, xs)))
        x, y = _join(xs), np.concatenate([arrays[f"y{part}"] for part in parts])
    return list_arrays(x, y, splits=splits.tolist(), class_names=class_names, task=task)


def _join(xs: Sequence[NDArray[Any]]) -> Any:
    """One array where all are of one size and type, else a list of pictures."""
    if len({(x.shape[1:], x.dtype) for x in xs}) == 1:
        return np.concatenate(xs)
    return [picture for x in xs for picture in x]


def _split_of(name: str) -> str:
    """The split of an array called ``x_train`` or the like; none of any other."""
    return SPLIT_WORDS.get(name[2:].lower(), "") if name.startswith("x_") else ""


def list_npy(
    path: Path,
    *,
    class_names: Sequence[str] | None = None,
    labels: str = "required",
    task: TaskName = "auto",
) -> Listing:
    """List the pictures of an ``.npy`` file, which is mapped and not loaded.

    The labels lie beside it: ``x.npy`` and ``y.npy``, ``x_val.npy`` and ``y_val.npy``, or
    ``images.npy`` and ``labels.npy``. Where labels are ``"optional"`` they may be missing; three
    axes are then one picture.

    Raises:
        DataError: if there are no labels beside it, or a file is damaged.
    """
    x = _map(path)
    for pictures, words in (("x", "y"), ("images", "labels"), ("X", "y")):
        beside = path.with_name(words + path.name.removeprefix(pictures))
        if path.name.startswith(pictures) and beside.exists():
            return list_arrays(x, np.array(_map(beside)), class_names=class_names, task=task)
    if labels == "optional":
        return Listing(arrays=x) if x.ndim == 4 else Listing([path.name], root=path.parent)
    raise DataError(
        f"{path}: no labels beside it; expected x.npy with y.npy or images.npy with labels.npy; "
        "save the labels so"
    )


def list_dataset(
    dataset: Any, *, class_names: Sequence[str] | None = None, task: TaskName = "auto"
) -> Listing:
    """Read a ``tf.data.Dataset`` of (picture, label) or of batches of them into memory.

    The classes are called as ``class_names`` or the dataset's attribute of that name says.

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
    bytes_read = 0
    for x, y in dataset.as_numpy_iterator():
        is_batch = x.ndim == 4
        pictures += list(x) if is_batch else [x]
        labels += list(y) if is_batch else [y]
        bytes_read += x.nbytes
        if bytes_read > DATASET_BYTES:
            raise DataError(
                f"a tf.data.Dataset of more than {DATASET_BYTES / 2**30:.3g} GiB; expected one "
                "that fits in memory; give the folder or table that it was made from"
            )
    names = getattr(dataset, "class_names", None) if class_names is None else class_names
    return list_arrays(pictures, labels, class_names=names, task=task)


def _load(path: Path) -> dict[str, NDArray[Any]]:
    with _readable(path):
        # NumPy leaves a damaged file open that it has opened itself.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return dict(arrays)


def _map(path: Path) -> NDArray[Any]:
    with _readable(path):
        return np.load(path, mmap_mode="r", allow_pickle=False)


@contextmanager
def _readable(path: Path) -> Generator[None]:
    """Turn what NumPy says of a damaged file into one line, without its advice to unpickle."""
    try:
        yield
    except DAMAGE as problem:
        reason = " ".join(str(problem).split())
        if "pickle" in reason:
            reason = "damaged, or an array of Python objects"
        kind = path.suffix.lower()
        raise DataError(f"{path}: {reason}; expected an {kind} file; write it again") from None


def _read_labels(
    y: NDArray[Any], class_names: Sequence[str] | None, task: TaskName
) -> tuple[Sequence[Value], Sequence[str] | None]:
    """Each picture's label, and the order of the classes if it is known."""
    if y.ndim == 2 and y.shape[1] > 1:
        return _read_rows(y, class_names or [str(i) for i in range(y.shape[1])], task)
    if y.size != len(y):
        raise DataError(
            f"labels of shape {y.shape}; expected one class per picture; give one column"
        )
    y = y.reshape(len(y))
    if y.dtype.kind in "SUO":
        return list(map(_word, y.tolist())), class_names
    if task == "regression" or (task == "auto" and _has_fractions(y)):
        return y.astype(np.float64).tolist(), class_names
    return _names_of_numbers(y, class_names)


def _word(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _has_fractions(y: NDArray[Any]) -> bool:
    return y.dtype.kind == "f" and bool(np.isfinite(y).all() and (y != np.rint(y)).any())


def _read_rows(
    rows: NDArray[Any], class_names: Sequence[str], task: TaskName
) -> tuple[Sequence[Value], Sequence[str]]:
    """Rows of 0 and 1 as classes, if each has one 1, or as tags."""
    if not np.isin(rows, (0, 1)).all() or len(class_names) != rows.shape[1]:
        raise DataError(
            f"labels of shape {rows.shape} that are not 0 and 1 for each of "
            f"{plural(len(class_names), 'class', 'classes')}; expected one class per picture, or 0 "
            "and 1 for every tag; give one column of class numbers"
        )
    return read_flags(class_names, rows, task, "labels"), class_names


def _names_of_numbers(
    y: NDArray[Any], class_names: Sequence[str] | None
) -> tuple[list[str | None], Sequence[str]]:
    if y.dtype.kind not in "iubf" or not (y == np.rint(y)).all():
        raise DataError(
            f"labels of type {y.dtype}; expected whole numbers from 0 or words; convert them first"
        )
    numbers = y.astype(np.int64)
    lowest, highest = int(numbers.min(initial=0)), int(numbers.max(initial=-1))
    names = list(class_names or map(str, range(min(highest + 1, _MOST_CLASSES))))
    if lowest < 0 or highest >= len(names):
        most = f"0 to {len(names) - 1}" if class_names or lowest >= 0 else "0 up"
        wrong = lowest if lowest < 0 else highest
        raise DataError(f"label {wrong}; expected {most}; number the classes from 0")
    return [names[number] for number in numbers.tolist()], names

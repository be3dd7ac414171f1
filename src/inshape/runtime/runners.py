"""Exported files, each run by its own runtime; no framework is imported for most of them."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import RequestError, RunError
from ..processor import count_cores
from ..text import first_line
from .apart import Ended, run_apart
from .formats import FORMATS, check_installed

Runner: TypeAlias = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""From one picture ``(1, height, width, channels)`` in [0, 255] to outputs ``(1, classes)``."""

_AT_ONCE = 32
"""Pictures per call of what takes any number of them."""


def kind_of(path: Path) -> str:
    """Which runtime reads a file: litert, onnx, openvino, keras, or savedmodel for a folder.

    Raises:
        RequestError: if there is no such file, or none of these.
    """
    if not path.exists():
        raise RequestError(f"{path}: no such file; expected an exported model; check the path")
    # The first of a suffix runs the others too: all LiteRT files are one kind.
    form = next((form for form in FORMATS.values() if form.is_of(path)), None)
    if form is None:
        suffixes = dict.fromkeys(form.suffix for form in FORMATS.values() if form.suffix)
        raise RequestError(
            f"{path} is no exported model; expected a file ending in {', '.join(suffixes)} or "
            "the folder of a SavedModel; export one with inshape export"
        )
    check_installed(form)
    return form.name


def import_runtime(kind: str) -> None:
    """Import what runs a kind of file, so that loading one takes the time of loading alone."""
    importlib.import_module(FORMATS[kind].runtime)


def load(path: Path, *, threads: int | None = None) -> Runner:
    """Load an exported file, or a SavedModel's folder; by default with a thread per core.

    Keras and SavedModel take as many threads as TensorFlow is set to.

    Raises:
        RequestError: if it cannot be read.
    """
    kind = kind_of(path)
    try:
        module: Any = importlib.import_module(FORMATS[kind].module)
        return module.load(path, threads or count_cores())
    except RequestError:
        raise
    except Exception as error:  # every runtime raises its own
        raise _unreadable(path, kind, first_line(error)) from error


def load_foreign(path: Path) -> Runner:
    """Load a file that anyone may have made or damaged.

    Raises:
        RequestError: if it cannot be read.
    """
    kind = kind_of(path)
    if kind == "litert":
        # Its interpreter trusts what it reads, and may end the process.
        try:
            run_apart(FORMATS[kind].module, str(path))
        except Ended as reason:
            raise _unreadable(path, kind, str(reason)) from reason
    return load(path)


def _unreadable(path: Path, kind: str, reason: str) -> RequestError:
    return RequestError(
        f"{path} cannot be read by {kind} ({reason}); expected an exported model; export it again"
    )


def batch_of(path: Path, made_for: int) -> int | None:
    """How many pictures a call takes: what the file was made for, or any number.

    A call of Keras or TensorFlow takes so long by itself that one by one would take minutes.
    """
    return None if kind_of(path) in ("keras", "savedmodel") else made_for


def answer(runner: Runner, pictures: NDArray[Any], *, batch: int | None = 1) -> NDArray[np.float32]:
    """Outputs ``(pictures, classes)``; by default one call per picture, as on a device.

    A file for a fixed number of pictures takes no fewer: the last call is filled up with zeros. A
    batch of ``None`` is any number.
    """
    at_once = batch or min(_AT_ONCE, len(pictures))
    parts: list[NDArray[np.float32]] = []
    for start in range(0, len(pictures), at_once):
        part = np.asarray(pictures[start : start + at_once], np.float32)
        count = len(part)
        if count < at_once:
            part = np.pad(part, [(0, at_once - count), *[(0, 0)] * (part.ndim - 1)])
        parts.append(runner(part)[:count])
    return np.concatenate(parts)


def check_answers(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows, one per picture, as they are.

    Raises:
        RunError: if there is NaN or infinity in one.
    """
    if not np.isfinite(rows).all():
        odd = int((~np.isfinite(rows.reshape(len(rows), -1)).all(axis=1)).sum())
        raise RunError(
            f"the network answers NaN or infinity to {odd} of {len(rows)} pictures; expected "
            "finite numbers; its weights are too large for float32: start from other weights"
        )
    return rows

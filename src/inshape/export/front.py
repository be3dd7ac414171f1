"""`export`: a run's model as files for other runtimes, each compared with it."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from ..charts import make_folder
from ..data.sources import Source
from ..errors import GraphError, OutputExists, RequestError, UnknownName
from ..evaluate.probabilities import as_probabilities, ends_in_softmax
from ..report import leave_report
from ..runs import Run
from ..train.show import Show
from ..writing import write_atomically, write_json
from .arena import Arena
from .exported import ExportFile, Exports, Refusal
from .files import Writer, check_new, file_name, size_of
from .formats import Format, Io, formats_of
from .parity import Parity, answers, compared
from .pictures import Pictures, pictures_of
from .runtimes import kind_of, load
from .timing import Timing, timed

_TABLE = "exports.json"
_PRINTED = "exports.txt"
_AT_ONCE = 32  # pictures per call of a format that Keras or TensorFlow runs


def export(
    run: str | Path | Run,
    to: str | Sequence[str] = "litert",
    *,
    data: Source = None,
    out: str | Path | None = None,
    calibration: int = 200,
    calibrate_on: Source = None,
    batch: int | None = None,
    pictures: int = 1000,
    io: Io = "float32",
    min_agreement: float = 0.97,
    timing: bool = True,
    replace_files: bool = False,
    show: bool = False,
) -> Exports:
    """Write a run's model for other runtimes and compare every file with it on real pictures.

    Args:
        run: a complete run.
        to: formats, as a list or with commas: ``litert``, ``litert-float16``, ``litert-dynamic``
            (int8 weights), ``litert-int8`` (all in int8), ``onnx``, ``openvino``, ``savedmodel``,
            ``keras``.
        data: pictures to compare on; by default those that the training held out.
        out: where to; by default the run's folder ``exports``.
        calibration: pictures, the same share of every class, that say how int8 ranges are chosen;
            never any that files are compared on.
        calibrate_on: where they come from; by default the training pictures.
        batch: pictures per call of an ONNX or OpenVINO file; by default any number.
        pictures: the most to compare on, the same share of every class.
        io: what a ``litert-int8`` file takes and gives: ``"float32"``, ``"int8"`` or ``"uint8"``.
        min_agreement: the share of pictures, in [0, 1], on which a file has to answer as Keras.
        timing: whether to measure latency, each in a process of its own.
        replace_files: whether files that are there already are replaced.
        show: whether to show progress on standard error.

    Returns:
        The files: print them, or take ``as_dict()``. ``exports.json`` and ``exports.txt`` in the
        run's folder ``exports``, and in ``out``, say the same. A format that has no operator for a
        layer is among its ``refused`` and the others are still written.

    Raises:
        UnknownName: if there is no such format.
        RequestError: if an extra is missing, or there is no finished run.
        OutputExists: if a file is there already.
        DataError: if there are no pictures to calibrate or compare on.
        GraphError: if none of the formats has an operator for every layer.
    """
    forms = formats_of(to)
    _check_choices(io, min_agreement, calibration=calibration, pictures=pictures, batch=batch)
    opened = _complete(run)
    output = Show.to_stderr(show)
    folder = Path(out) if out is not None else opened.exports
    paths = [folder / file_name(form) for form in forms]
    if not replace_files:
        for form, path in zip(forms, paths, strict=True):
            check_new(form, path)
        _check_table(folder)
    needed = calibration if any(form.is_quantised for form in forms) else 0
    seen = pictures_of(opened, data, pictures, needed, calibrate_on=calibrate_on, output=output)
    model = opened.load_model()
    is_softmax = ends_in_softmax(model)
    reference = as_probabilities(_predicted(model, seen), is_softmax=is_softmax)
    writer = Writer(opened, model, seen.sample, io, batch)
    make_folder(folder)
    made: list[ExportFile] = []
    refused: list[Refusal] = []
    for form, path in zip(forms, paths, strict=True):
        with output.bar(form.name) as told:
            told(0, 2)
            try:
                arena = writer.write(form, path)
            except GraphError as error:
                refused.append(Refusal(form.name, str(error)))
                continue
            told(1, 2)
            at_once = batch or 1 if form.takes_batch else 1
            given = as_probabilities(_answers(path, seen, at_once), is_softmax=is_softmax)
            parity = compared(given, reference, seen.labels)
            timings = _timings(path, seen.shape, at_once) if timing else ()
            made.append(_row(form, path, parity, timings, arena, min_agreement))
    if not made:
        raise GraphError(refused[0].reason)
    found = Exports(
        run=str(opened.folder),
        min_agreement=min_agreement,
        keras_accuracy=compared(reference, reference, seen.labels).accuracy,
        keras_timings=_timings(opened.model_path, seen.shape) if timing else (),
        files=tuple(made),
        refused=tuple(refused),
    )
    make_folder(opened.exports)
    for place in dict.fromkeys((folder, opened.exports)):
        _keep_table(place, found)
    leave_report(opened.folder)
    return found


def _check_choices(io: str, min_agreement: float, **counts: int | None) -> None:
    if io not in get_args(Io):
        raise UnknownName("io", io, get_args(Io))
    if not 0.0 <= min_agreement <= 1.0:
        raise RequestError(f"min_agreement={min_agreement}; expected 0 to 1")
    for name, value in counts.items():
        if value is not None and value < 1:
            raise RequestError(f"{name}={value}; expected at least 1")


def _complete(run: str | Path | Run) -> Run:
    opened = Run.open(run)
    if opened.status != "complete":
        raise RequestError(
            f"{opened.folder} holds no trained model yet (its training is {opened.status}); "
            f"expected a complete run; finish it with inshape train --resume {opened.folder}"
        )
    return opened


def _check_table(folder: Path) -> None:
    """Refuse to write over a table that is not one of ours."""
    ours = _rows(folder) is not None
    for name in (_TABLE, _PRINTED):
        if (folder / name).exists() and not ours:
            raise OutputExists(
                f"{folder / name} exists already and is no table of exports; expected a new file; "
                "add --replace, or name another folder with --out"
            )


def _rows(folder: Path) -> list[dict[str, Any]] | None:
    """The rows of earlier exports; ``None`` where there is no table of them."""
    try:
        rows = json.loads((folder / _TABLE).read_text(encoding="utf-8"))["exports"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return rows if all(isinstance(row, dict) and "path" in row for row in rows) else None


def _predicted(model: Any, seen: Pictures) -> NDArray[np.float32]:
    return np.concatenate(
        [model.predict(rows, batch_size=_AT_ONCE, verbose=0) for rows in seen.blocks(_AT_ONCE)]
    )


def _answers(path: Path, seen: Pictures, at_once: int) -> NDArray[np.float32]:
    """What the file says, one call each as on a device, but for what the frameworks run."""
    if kind_of(path) in ("keras", "savedmodel"):
        at_once = _AT_ONCE
    run = load(path)
    return np.concatenate([answers(run, rows, at_once=at_once) for rows in seen.blocks(at_once)])


def _row(
    form: Format,
    path: Path,
    parity: Parity,
    timings: tuple[Timing, ...],
    arena: Arena | None,
    min_agreement: float,
) -> ExportFile:
    return ExportFile(
        format=form.name,
        path=str(path),
        size_bytes=size_of(path),
        pictures=parity.pictures,
        agreement=parity.agreement,
        accuracy=parity.accuracy,
        accuracy_change=parity.accuracy_change,
        max_difference=parity.max_difference,
        mean_difference=parity.mean_difference,
        timings=timings,
        tensor_bytes=None if arena is None else arena.tensor_bytes,
        arena_bytes=None if arena is None else arena.total_bytes,
        is_trusted=parity.is_finite and parity.agreement >= min_agreement,
    )


def _keep_table(folder: Path, found: Exports) -> None:
    """Write the table; rows of earlier exports stay while their files are there."""
    rows = found.as_dict()
    new = {row["path"] for row in rows["exports"]}
    kept = [r for r in _rows(folder) or [] if r["path"] not in new and Path(r["path"]).exists()]
    write_json(folder / _TABLE, {**rows, "exports": [*kept, *rows["exports"]]})
    text = f"{found}\n"
    write_atomically(folder / _PRINTED, lambda part: part.write_text(text, encoding="utf-8"))


def _timings(path: Path, shape: tuple[int, ...], batch: int = 1) -> tuple[Timing, ...]:
    cores = os.cpu_count() or 1
    return tuple(timed(path, shape, threads=n, batch=batch) for n in dict.fromkeys((1, cores)))

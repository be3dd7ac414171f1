"""`export`: a run's model as files for other runtimes, each compared with it."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from ..charts import make_folder
from ..data.catalogue import Progress
from ..data.sources import Source
from ..errors import InshapeError, RequestError, RunError, UnknownName
from ..evaluate.probabilities import as_probabilities, ends_in_softmax
from ..report import leave_report
from ..runs import Run
from ..train.show import Show
from .exported import ExportFile, Exports, Refusal
from .files import Writer, check_new, file_name, size_of
from .formats import Format, Io, formats_of
from .parity import answers, compared
from .pictures import Pictures, pictures_of
from .runtimes import kind_of, load
from .table import check_table, keep_table
from .timing import Timing, timed

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
        data: pictures to compare on, of which the test split is taken if there is one, else the one
            for validation, else everything; by default those that the training held out.
        out: where to; by default the run's folder ``exports``.
        calibration: pictures, the same share of every class, that say how int8 ranges are chosen;
            never any of the same content as one that files are compared on.
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
        run's folder ``exports``, and in ``out``, say the same, beside what earlier exports left
        there. A format that goes wrong, such as one that has no operator for a layer, is among its
        ``refused`` and the others are still written.

    Raises:
        UnknownName: if there is no such format.
        RequestError: if an extra is missing, or there is no finished run.
        OutputExists: if a file is there already.
        DataError: if there are no pictures to calibrate or compare on.
        GraphError: if none of the formats has an operator for every layer.
        RunError: if nothing can be written.
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
        check_table(folder)
    needed = calibration if any(form.is_quantised for form in forms) else 0
    seen = pictures_of(opened, data, pictures, needed, calibrate_on=calibrate_on, output=output)
    model = opened.load_model()
    is_softmax = ends_in_softmax(model)
    reference = as_probabilities(_predicted(model, seen), is_softmax=is_softmax)
    judge = _Judge(
        writer=Writer(opened, model, seen.sample, io, batch),
        seen=seen,
        reference=reference,
        is_softmax=is_softmax,
        min_agreement=min_agreement,
        timing=timing,
    )
    make_folder(folder)
    made: list[ExportFile] = []
    refused: list[Refusal] = []
    for form, path in zip(forms, paths, strict=True):
        with output.bar(form.name) as told:
            told(0, 1)
            done = judge.made(form, path, told)
        if isinstance(done, ExportFile):
            made.append(done)
        else:
            refused.append(Refusal(form.name, _reason(done.error), done.is_written))
            if len(forms) == len(refused) and not any(r.is_written for r in refused):
                raise done.error
    keras_timings, problem = _timings(opened.model_path, seen.shape) if timing else ((), None)
    if problem is not None:
        warnings.warn(problem, UserWarning, stacklevel=2)
    found = Exports(
        run=str(opened.folder),
        source=seen.source,
        fingerprint=seen.compared.catalogue.fingerprint,
        min_agreement=min_agreement,
        keras_accuracy=compared(reference, reference, seen.labels).accuracy,
        keras_timings=keras_timings,
        files=tuple(made),
        refused=tuple(refused),
    )
    make_folder(opened.exports)
    for place in dict.fromkeys((folder.resolve(), opened.exports.resolve())):
        keep_table(place, found)
    leave_report(opened.folder)
    return found


@dataclass(frozen=True, slots=True)
class _Failure:
    """Why there is no file, or none that can be used."""

    error: Exception
    is_written: bool


@dataclass(frozen=True, slots=True, eq=False)
class _Judge:
    """Writes files and compares each with the model; see `export` for the fields."""

    writer: Writer
    seen: Pictures
    reference: NDArray[np.float32]
    is_softmax: bool
    min_agreement: float
    timing: bool

    def made(self, form: Format, path: Path, told: Progress) -> ExportFile | _Failure:
        """Write a file and measure it; whatever goes wrong keeps no other format back."""
        at_once = self.writer.batch or 1 if form.takes_batch else 1
        is_written = False
        try:
            arena = self.writer.write(form, path, told)
            is_written = True
            given = _answers(path, self.seen, at_once)
        except Exception as error:  # converters and runtimes raise what they like
            return _Failure(error, is_written)
        own = as_probabilities(given, is_softmax=self.is_softmax)
        parity = compared(own, self.reference, self.seen.labels)
        timings, problem = _timings(path, self.seen.shape, at_once) if self.timing else ((), None)
        agrees = parity.is_finite and parity.agreement >= self.min_agreement
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
            is_trusted=agrees and problem is None,
            problem=problem,
        )


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


def _timings(
    path: Path, shape: tuple[int, ...], batch: int = 1
) -> tuple[tuple[Timing, ...], str | None]:
    """The times with one thread and with all, or why there are none."""
    counts = dict.fromkeys((1, os.cpu_count() or 1))
    try:
        return tuple(timed(path, shape, threads=n, batch=batch) for n in counts), None
    except RunError as error:
        return (), str(error)


def _reason(error: Exception) -> str:
    """An error in a line; those of others without what makes them long."""
    if isinstance(error, InshapeError):
        return str(error)
    told = (str(error).strip().splitlines() or [""])[0][:200]
    return f"unexpected {type(error).__name__}: {told}"

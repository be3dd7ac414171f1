"""`export`: a run's model as files for other runtimes, each compared with it."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InshapeError, RequestError, RunError
from ..evaluation.metrics import Score, as_probabilities
from ..evaluation.probabilities import ends_in_softmax
from ..progress import Advance, Progress
from ..reporting.api import leave_report
from ..requests import takes
from ..runs import Run
from ..runtime.formats import Format, formats_of
from ..runtime.runners import kind_of, load
from ..runtime.timing import Timing, timed
from ..writing import make_folder
from .agreement import answers, compared
from .exported import ExportFile, Exports, Refusal
from .request import ExportRequest
from .selection import Selection, select_pictures
from .table import check_table, keep_table
from .writer import Writer, check_new, file_name, size_of

_AT_ONCE = 32  # pictures per call of a format that Keras or TensorFlow runs


@takes(ExportRequest)
def export(request: ExportRequest, *, show: bool = False) -> Exports:
    """Write a run's model for other runtimes and compare every file with it on real pictures.

    Args:
        {options}
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
    forms = formats_of(request.to)
    run = _complete(request.run)
    progress = Progress.to_stderr(show)
    folder = request.out or run.exports
    paths = [folder / file_name(form) for form in forms]
    if not request.replace:
        for form, path in zip(forms, paths, strict=True):
            check_new(form, path)
        check_table(folder)
    needed = request.calibration if any(form.is_quantised for form in forms) else 0
    selection = select_pictures(
        run,
        request.data,
        request.pictures,
        needed,
        calibrate_on=request.calibrate_on,
        progress=progress,
    )
    judge = _Judge.of(run, selection, request)
    make_folder(folder)
    files, refused = _all_made(judge, forms, paths, progress)
    keras_timings, problem = judge.keras_timings(run)
    if problem is not None:
        warnings.warn(problem, UserWarning, stacklevel=2)
    exports = Exports(
        run=str(run.folder),
        source=selection.source,
        fingerprint=selection.compared.catalogue.fingerprint,
        min_agreement=request.min_agreement,
        keras_accuracy=judge.keras_accuracy,
        keras_timings=keras_timings,
        files=files,
        refused=refused,
    )
    make_folder(run.exports)
    for place in dict.fromkeys((folder.resolve(), run.exports.resolve())):
        keep_table(place, exports)
    leave_report(run.folder)
    return exports


def _all_made(
    judge: _Judge, forms: Sequence[Format], paths: Sequence[Path], progress: Progress
) -> tuple[tuple[ExportFile, ...], tuple[Refusal, ...]]:
    """Every file, and why others are not there; where there is none at all, that is an error."""
    files: list[ExportFile] = []
    refused: list[Refusal] = []
    for form, path in zip(forms, paths, strict=True):
        with progress.bar(form.name) as advance:
            advance(0, 1)
            done = judge.made(form, path, advance)
        if isinstance(done, ExportFile):
            files.append(done)
            continue
        refused.append(Refusal(form.name, _reason(done.error), done.is_written))
        if len(forms) == len(refused) and not any(r.is_written for r in refused):
            raise done.error
    return tuple(files), tuple(refused)


@dataclass(frozen=True, slots=True)
class _Failure:
    """Why there is no file, or none that can be used."""

    error: Exception
    is_written: bool


@dataclass(frozen=True, slots=True, eq=False)
class _Judge:
    """Writes files and compares each with the model; see `export` for the fields."""

    writer: Writer
    selection: Selection
    reference: NDArray[np.float32]
    is_softmax: bool
    min_agreement: float
    timing: bool

    @classmethod
    def of(cls, run: Run, selection: Selection, request: ExportRequest) -> _Judge:
        """Load the model and let it answer the pictures."""
        model = run.load_model()
        is_softmax = ends_in_softmax(model)
        return cls(
            writer=Writer(run, model, selection.sample, request.io, request.batch),
            selection=selection,
            reference=as_probabilities(_predicted(model, selection), is_softmax=is_softmax),
            is_softmax=is_softmax,
            min_agreement=request.min_agreement,
            timing=request.timing,
        )

    @property
    def keras_accuracy(self) -> Score:
        """How good the model itself is on the pictures."""
        return compared(self.reference, self.reference, self.selection.labels).accuracy

    def keras_timings(self, run: Run) -> tuple[tuple[Timing, ...], str | None]:
        """How long the model itself takes, or why that is not known."""
        return _timings(run.model_path, self.selection.shape) if self.timing else ((), None)

    def made(self, form: Format, path: Path, advance: Advance) -> ExportFile | _Failure:
        """Write a file and measure it; whatever goes wrong keeps no other format back."""
        at_once = self.writer.batch or 1 if form.takes_batch else 1
        is_written = False
        try:
            arena = self.writer.write(form, path, advance)
            is_written = True
            given = _answers(path, self.selection, at_once)
        except Exception as error:  # converters and runtimes raise what they like
            return _Failure(error, is_written)
        own = as_probabilities(given, is_softmax=self.is_softmax)
        parity = compared(own, self.reference, self.selection.labels)
        timings, problem = (
            _timings(path, self.selection.shape, at_once) if self.timing else ((), None)
        )
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


def _complete(run: str | Path | Run) -> Run:
    opened = Run.open(run)
    if opened.status != "complete":
        raise RequestError(
            f"{opened.folder} holds no trained model yet (its training is {opened.status}); "
            f"expected a complete run; finish it with inshape train --resume {opened.folder}"
        )
    return opened


def _predicted(model: Any, selection: Selection) -> NDArray[np.float32]:
    return np.concatenate(
        [model.predict(rows, batch_size=_AT_ONCE, verbose=0) for rows in selection.blocks(_AT_ONCE)]
    )


def _answers(path: Path, selection: Selection, at_once: int) -> NDArray[np.float32]:
    """What the file says, one call each as on a device, but for what the frameworks run."""
    if kind_of(path) in ("keras", "savedmodel"):
        at_once = _AT_ONCE
    run = load(path)
    return np.concatenate(
        [answers(run, rows, at_once=at_once) for rows in selection.blocks(at_once)]
    )


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

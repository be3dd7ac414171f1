"""`export`: a run's model as files for other runtimes, each compared with it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InshapeError, RequestError, RunError
from ..evaluation.answers import gives_answers
from ..geometry.footprint import footprint
from ..geometry.spec import GraphSpec
from ..limits import MemoryLimit
from ..planning import Plan, PlanRequest, plan
from ..processor import count_cores
from ..progress import Progress
from ..reporting.api import leave_report
from ..requests import takes
from ..runs import Run
from ..runtime.arena import Arena
from ..runtime.formats import Format, formats_of
from ..runtime.runners import answer, batch_of, load
from ..runtime.timing import Timing, time_file
from ..shapes import InputShape
from ..strategies.decide import StrategyOptions
from ..strategies.patches import PatchChoice
from ..tasks.bootstrap import Score
from ..tasks.task import Task
from ..text import first_line
from ..writing import make_folder
from .agreement import Agreement, compare_answers
from .causes import certain_loss, find_faults, likely_cause
from .request import ExportRequest
from .result import ExportFile, Exports, Refusal, check_table, keep_table
from .selection import Selection, select_pictures
from .writer import Writer, check_new_file, file_bytes, file_name, put_together, take_back

_LOOKED_AT = 32
"""Pictures that say which of a model's weights count."""


@takes(ExportRequest)
def export(request: ExportRequest, *, show: bool | None = None) -> Exports:
    """Write a run's model for other runtimes and compare every file with it on real pictures.

    Args:
        {options}
        show: whether to show progress; by default in a terminal and in a notebook.

    Returns:
        The files: print them, or take ``as_dict()``. ``exports.json`` and ``exports.txt`` in the
        run's folder ``exports``, and in ``out``, say the same, beside what earlier exports left
        there. A format that goes wrong, such as one that has no operator for a layer, is among its
        ``refused`` and the others are still written. What is left of a call that was killed, the
        next one takes back before it begins.

    Raises:
        UnknownName: if there is no such format.
        RequestError: if an extra is missing, or there is no finished run.
        OutputExists: if a file is there already.
        DataError: if there are no pictures to calibrate or compare on.
        GraphError: if none of the formats has an operator for every layer.
        RunError: if nothing can be written.
    """
    forms = formats_of(request.to)
    _check_int8_options(request, forms)
    run = _open_complete(request.run)
    folder = request.out or run.exports
    paths = {form: folder / file_name(form) for form in forms}
    take_back(folder)
    if not request.replace:
        for form, path in paths.items():
            check_new_file(form, path)
        check_table(folder)
    progress = Progress.to_stderr(show)
    selection = select_pictures(
        run,
        request.data,
        most=request.pictures,
        calibration=request.calibration if any(form.is_quantised for form in forms) else 0,
        calibrate_on=request.calibrate_on,
        progress=progress,
    )
    model = run.load_model()
    planned = _plan_within(run, model, request, forms)
    first = np.concatenate([*islice(selection.blocks(_LOOKED_AT), 1)])
    faults = find_faults(model, forms, [picture[None] for picture in first])
    for name, fault in faults.items():
        warnings.warn(f"{name}: {fault}", UserWarning, stacklevel=3)
    judge = _Judge.of(run, model, selection, request, faults, planned)
    make_folder(folder)
    with put_together(folder) as scratch:
        writer = Writer(run, model, selection.sample, request, scratch, planned)
        files, refused = _write_all(writer, judge, paths, progress)
        keras_timings, problem = judge.time(run.model_path)
        if problem is not None:
            warnings.warn(problem, UserWarning, stacklevel=3)
        exports = Exports(
            run=str(run.folder),
            source=selection.source,
            fingerprint=selection.compared.catalogue.fingerprint,
            min_agreement=request.min_agreement,
            score_name=judge.task.probe_name,
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


def _plan_within(
    run: Run, model: Any, request: ExportRequest, forms: Sequence[Format]
) -> Plan | None:
    """The model with the patches that meet a limit on its RAM; ``None`` where there is none."""
    trained_for = run.record.get("request", {}).get("limits", {}).get("max_ram")
    limit = MemoryLimit(request.limits.max_ram or trained_for)
    if limit.max_ram is None or not any(form.is_quantised for form in forms):
        return None
    shape = InputShape(*model.input_shape[1:])
    options = StrategyOptions(strategy="rebuild")
    return plan.as_asked(PlanRequest(model, shape, head="top", options=options, limits=limit))


def _check_int8_options(request: ExportRequest, forms: Sequence[Format]) -> None:
    """Refuse what is said of a full-integer file where none is asked for."""
    said = {
        "max_ram": request.limits.max_ram is not None,
        "granularity": request.granularity != "per-channel",
    }
    name = next((name for name, is_said in said.items() if is_said), None)
    if name and not any(form.is_quantised for form in forms):
        raise RequestError(
            f"{name} with {', '.join(form.name for form in forms)}; expected litert-int8 or micro "
            "among them, the files that it is for; leave one of the two out"
        )


def _open_complete(run: str | Path | Run) -> Run:
    opened = Run.open(run)
    if opened.status != "complete":
        raise RequestError(
            f"{opened.folder} holds no trained model yet (its training is {opened.status}); "
            f"expected a complete run; finish it with inshape train --resume {opened.folder}"
        )
    return opened


def _write_all(
    writer: Writer, judge: _Judge, paths: Mapping[Format, Path], progress: Progress
) -> tuple[tuple[ExportFile, ...], tuple[Refusal, ...]]:
    """Every file, and why others are not there; where nothing could be written, that is an error.

    Converters and runtimes raise what they like, and none of them keeps another format back.
    """
    files: list[ExportFile] = []
    refused: list[Refusal] = []
    for form, path in paths.items():
        with progress.bar(form.name) as advance:
            advance(0, 1)
            try:
                arena = writer.write(form, path, advance)
            except Exception as error:
                refused.append(Refusal(form.name, _reason(error)))
                if len(refused) == len(paths) and not any(r.is_written for r in refused):
                    raise
                continue
            try:
                answers = judge.answer(form, path)
            except Exception as error:
                refused.append(Refusal(form.name, _reason(error), is_written=True))
                continue
            files.append(judge.judge(form, path, answers, arena))
    return tuple(files), tuple(refused)


@dataclass(frozen=True, slots=True, eq=False)
class _Judge:
    """Compares files with the model and times them."""

    selection: Selection
    request: ExportRequest
    reference: NDArray[np.float32]
    """The model's answers."""
    task: Task
    is_final: bool
    """Whether outputs are answers rather than logits."""
    spec: GraphSpec
    """Of the int8 file, in patches or not, by which its flash and RAM are planned."""
    choice: PatchChoice | None
    """How the int8 file meets a limit on its RAM."""
    faults: Mapping[str, str]
    """What was wrong with the model for a format, before the file was written."""

    @classmethod
    def of(
        cls,
        run: Run,
        model: Any,
        selection: Selection,
        request: ExportRequest,
        faults: Mapping[str, str],
        planned: Plan | None,
    ) -> _Judge:
        """Let the model answer the pictures."""
        from ..graph.read import read  # which needs Keras

        outputs = np.concatenate([model.predict(rows, verbose=0) for rows in selection.blocks()])
        task, is_final = run.task, gives_answers(model)
        return cls(
            selection=selection,
            request=request,
            reference=task.answers(outputs, is_final=is_final),
            task=task,
            is_final=is_final,
            spec=read(model) if planned is None else planned.patched_spec,
            choice=None if planned is None else planned.choice,
            faults=faults,
        )

    @property
    def keras_accuracy(self) -> Score:
        """How good the model itself is on the pictures."""
        return self._compare(self.reference).accuracy

    def _compare(self, answers: NDArray[np.float32]) -> Agreement:
        return compare_answers(self.task, answers, self.reference, self.selection.labels)

    def answer(self, form: Format, path: Path) -> NDArray[np.float32]:
        """The file's answers, one call each as on a device, unless a framework runs it."""
        batch = batch_of(path, self._batch(form))
        runner = load(path)
        outputs = np.concatenate(
            [answer(runner, rows, batch=batch) for rows in self.selection.blocks(batch or 1)]
        )
        return self.task.answers(outputs, is_final=self.is_final)

    def judge(
        self, form: Format, path: Path, answers: NDArray[np.float32], arena: Arena | None
    ) -> ExportFile:
        """Compare a file's answers with the model's, and time it."""
        result = self._compare(answers)
        timings, problem = self.time(path, self._batch(form))
        agrees = result.is_finite and result.agreement >= self.request.min_agreement
        granularity, cause = self.request.granularity, None
        if self.request.min_agreement:
            cause = certain_loss(self.task, result.accuracy_change)
        if not agrees:
            fault = self.faults.get(form.name)
            cause = likely_cause(self.task, form, answers, self.reference, fault, granularity)
        return ExportFile(
            format=form.name,
            path=str(path),
            size_bytes=file_bytes(path),
            pictures=result.pictures,
            agreement=result.agreement,
            accuracy=result.accuracy,
            accuracy_change=result.accuracy_change,
            max_difference=result.max_difference,
            mean_difference=result.mean_difference,
            timings=timings,
            tensor_bytes=None if arena is None else arena.tensor_bytes,
            arena_bytes=None if arena is None else arena.total_bytes,
            is_trusted=agrees and cause is None and problem is None,
            problem=problem,
            cause=cause,
            **(self._planned(form) if form.is_quantised else {}),
        )

    def _planned(self, form: Format) -> dict[str, Any]:
        """What was known of a full-integer file before it was written."""
        shape, granularity = InputShape(*self.selection.shape), self.request.granularity
        planned = footprint(self.spec, shape, form.io_of(self.request.io), granularity)
        limited: dict[str, Any] = {}
        if self.choice is not None:
            limited = {
                "max_ram": self.choice.limit_bytes,
                "computed_as": str(self.choice.best),
            }
        return {
            "planned_flash_bytes": planned.flash_bytes,
            "planned_ram_bytes": planned.ram_bytes,
            "granularity": granularity,
            **limited,
        }

    def time(self, path: Path, batch: int = 1) -> tuple[tuple[Timing, ...], str | None]:
        """The times with one thread and with all, or why there are none."""
        if not self.request.timing:
            return (), None
        counts = dict.fromkeys((1, count_cores()))
        shape = self.selection.shape
        try:
            return tuple(time_file(path, shape, threads=n, batch=batch) for n in counts), None
        except RunError as error:
            return (), str(error)

    def _batch(self, form: Format) -> int:
        return self.request.batch or 1 if form.takes_batch else 1


def _reason(error: Exception) -> str:
    """An error in a line; those of others without what makes them long."""
    if isinstance(error, InshapeError):
        return str(error)
    return f"unexpected {type(error).__name__}: {first_line(error)}"

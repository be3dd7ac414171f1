"""`train` and `resume`: from pictures to a run folder, in steps that are kept as they end."""

from __future__ import annotations

import shutil
import statistics
import time
import warnings
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

import keras
import numpy as np
from keras.callbacks import Callback

from ..data.augment import augmenter
from ..data.batches import Batches
from ..data.catalogue import Catalogue
from ..data.prepare import Preparation
from ..data.sources import Source, open_source, source_text
from ..data.split import split
from ..errors import DataError, RequestError
from ..evaluation.api import keep_validation
from ..evaluation.leakage import is_among
from ..features.cut import unfrozen_from
from ..importing.batch_norm import reopen_batch_norm
from ..planning import Plan, decide_plan, open_for_training
from ..progress import Progress
from ..reporting.api import leave_report
from ..reporting.thumbnails import examples_of
from ..requests import command_of, takes
from ..runs import Run, check_new_run, load_model, locked, save_model
from ..runtime.cluster import joined
from ..shapes import InputShape
from ..tasks.task import refuse_not_built
from ..text import plural
from ..writing import write_atomically, write_json
from .baseline import BASELINE, Trained, compare_with_baseline, measure_baseline
from .devices import device_scope
from .job import ROOM, Features, Job
from .journals import EventFiles, Journal, MlflowRun, check_mlflow
from .phases import (
    TEACHER,
    Stopped,
    train_body,
    train_distilled,
    train_further,
    train_head,
)
from .post_training import try_fixres, try_recalibration
from .recipe import Recipe
from .request import NATIVE, ResumeRequest, TrainRequest, request_of
from .student import optimizer_class

Step: TypeAlias = Callable[[Job], dict[str, Any]]

FOLDS = "folds"
"""The folder of the trainings of cross-validation, in which each is called by its number."""
_INITIAL = "initial.keras"
_NORM_BATCH, _NORM_BATCHES = 32, 16
"""Pictures on which statistics of batch norm are measured."""
_NAMED = 10
_GUESSING = "is no better than"
_FEW = 30
"""Pictures for validation below which its accuracy is a rough guess."""
_HELD_OUT = (0.1, 0.2, 0.3, 0.4, 0.5)


def run_training(
    request: TrainRequest, progress: Progress, callbacks: Sequence[Callback] = ()
) -> Run:
    """Train at a shape that is known; what is refused leaves no folder behind."""
    if request.unlabelled is not None:
        request = request.but(distil=True)
    with _resumable(request.out, progress):
        with joined(request.ray) as cluster:
            job = _start(request, progress)
            with locked(job.run.folder):
                return _carry_on(replace(job, callbacks=callbacks, cluster=cluster))


@takes(ResumeRequest)
def resume(
    request: ResumeRequest, *, show: bool | None = None, callbacks: Sequence[Callback] = ()
) -> Run:
    """Go on with a training that was interrupted or killed.

    Args:
        {options}
        show: whether to show progress; by default in a terminal and in a notebook.
        callbacks: of Keras, as in `train`.

    Returns:
        The finished run; a run that was finished already is handed back as it is.

    Raises:
        RequestError: if it cannot be resumed, or another process is training it.
        DataError: if the pictures are not those that the run began with.
        RunError: if the run folder cannot be written, or MLflow does not take the run.
        KeyboardInterrupt: on Ctrl-C; the run is saved and can be resumed.
    """
    return resume_training(request, Progress.to_stderr(show), callbacks)


def resume_training(
    request: ResumeRequest, progress: Progress, callbacks: Sequence[Callback] = ()
) -> Run:
    """Go on with a training, or hand back one that is complete."""
    folder = Run.open(request.run).folder
    with locked(folder), _resumable(folder, progress):
        run = Run.open(folder)  # as it is now that nobody else changes it
        if request.prolong:
            run = _prolonged(run, request.prolong)
        elif run.status == "complete":
            return _finish(run)
        with joined(request.ray) as cluster:
            job = _reopen(run, request.source, request.unlabelled, progress)
            return _carry_on(replace(job, callbacks=callbacks, cluster=cluster))


def _prolonged(run: Run, epochs: int) -> Run:
    """A complete run as one that has some epochs more to go."""
    if run.status != "complete":
        raise RequestError(
            f"{run.folder} is not over yet (its training is {run.status}); expected a complete run "
            "to prolong; finish it first, without prolong"
        )
    recipe = request_of(run).recipe
    if recipe.epochs == 0 or recipe.unfreeze in ("none", 0):
        raise RequestError(
            f"{run.folder} has a frozen backbone, and its head is as good as it gets; expected an "
            "unfrozen part to train further; train anew, such as with unfreeze='last'"
        )
    run = _finish(run)
    write_atomically(_latest(run), lambda part: shutil.copyfile(run.model_path, part))
    notes = [note for note in _notes(run) if _GUESSING not in note]
    if run.exports.is_dir() and any(run.exports.iterdir()):
        line = f"exports were made before {plural(epochs, 'more epoch')}; export again"
        warnings.warn(line, UserWarning, stacklevel=5)
        notes.append(line)
    prolonged = [*run.record.get("prolonged", ()), epochs]
    # Written down once it is known that it can be gone on with.
    return replace(run, record={**run.record, "prolonged": prolonged, "notes": notes})


@contextmanager
def _resumable(folder: Path, progress: Progress) -> Generator[None]:
    """Say after Ctrl-C how to go on, if there is something to go on with."""
    try:
        yield
    except KeyboardInterrupt as stop:
        if not (folder / "run.json").exists() or Run.open(folder).status != "running":
            raise
        Run.open(folder).updated(status="interrupted")
        hint = f"stopped; go on with: inshape train --resume {folder}"
        progress.say(hint)
        raise Stopped(hint) from stop


def _start(request: TrainRequest, progress: Progress) -> Job:
    """Make a run folder with everything that a resumed training needs."""
    if request.mlflow is not None:
        check_mlflow()
    check_new_run(request.out)  # before any work is done
    optimizer_class(request.recipe.optimizer)  # refuses what it does not know
    keras.utils.set_random_seed(request.seed)
    # The pictures first: what is wrong with them costs no download.
    catalogue = _list_pictures(request, progress)
    task = catalogue.task
    refuse_not_built(task, request.recipe)
    plan_request = request.plan.but(
        head=task.head(request.head),  # refuses what does not suit the labels
        options=task.options(request.options, is_static=request.plan.input_shape.is_static),
    )
    plan_request, network = open_for_training(plan_request, request.weights)
    plan = decide_plan(plan_request, network)
    size_hw = _size_hw(plan)
    if request.recipe.distil:
        _check_distilling(request, plan)
    preparation = request.preparation.at(size_hw)
    begun = time.perf_counter()
    batches = _prepare_pictures(catalogue, preparation, request.recipe, progress)
    unlabelled = _prepare_unlabelled(request, batches, progress)
    seconds = {"pictures": round(time.perf_counter() - begun, 2)}
    # Once more: a network that was read from a file has drawn other numbers than one that was at
    # hand, and a teacher that is begun again after a kill shall get the same head.
    keras.utils.set_random_seed(request.seed)
    with device_scope():
        model = plan.whole.carried_out_on(network).model
    if request.recipe.reopen_bn:
        model = _reopened(model, batches, request.seed)
    unfrozen_from(model, request.recipe.unfreeze, size_hw)  # refuses what it does not know
    baseline: dict[str, Any] | None = None
    if request.baseline:
        begun = time.perf_counter()
        with device_scope():
            training = Trained(
                plan=plan,
                network=network,
                is_pretrained=network.backbone is None or request.weights is not None,
                model=model,
                batches=batches,
                seed=request.seed,
            )
            baseline = measure_baseline(training, progress)
        seconds["baseline"] = round(time.perf_counter() - begun, 2)
        keras.utils.set_random_seed(request.seed)  # as a training without it goes on

    def fill(run: Run) -> None:
        run.save_labels(catalogue.class_names)
        save_model(model, run.checkpoints / _INITIAL)
        if baseline is not None:
            write_json(run.folder / BASELINE, baseline)
        recipe = request.recipe
        if (recipe.distil or recipe.folds) and not isinstance(request.backbone, str):
            save_model(network.model, run.checkpoints / NATIVE)

    again = request.sayable.but(out=request.out.with_name(f"{request.out.name}-again"))
    run = Run.create(
        request.out,
        {
            "request": request.as_dict(),
            "command": command_of("train", again),
            "plan": plan.as_dict(),
            "preparation": batches.preparation.as_dict(),
            "task": task.as_dict(),
            "data": {**_describe(catalogue), **_describe_reading(batches)},
            **({} if unlabelled is None else {"unlabelled": _describe_unlabelled(unlabelled)}),
            "done": [],
            "seconds": seconds,
            "metrics": {},
        },
        fill=fill,
    )
    return Job(run, request, batches, model, progress, unlabelled=unlabelled)


def _reopened(model: keras.Model, batches: Batches, seed: int) -> keras.Model:
    """The model with its batch norm opened again, by a part of the pictures."""
    drawn = batches.iterate("train", _NORM_BATCH, shuffle=True, seed=seed)
    pictures = (np.asarray(batch, np.float32) for batch, _ in islice(drawn, _NORM_BATCHES))
    with device_scope():
        return reopen_batch_norm(model, pictures)


def _reopen(run: Run, source: Source, unlabelled: Source, progress: Progress) -> Job:
    """Read back a run that was interrupted or killed, and whose folder is locked."""
    request = request_of(run, source, unlabelled)
    for name, wanted in (("source", True), ("unlabelled", "unlabelled" in run.record)):
        if wanted and getattr(request, name) is None:
            raise RequestError(
                f"{run.folder} was trained on pictures that were no files; expected them again; "
                f"give {name}="
            )
    latest = _latest(run)
    if not latest.exists():
        raise RequestError(
            f"{run.folder} has lost {latest.name}; expected it among its checkpoints; remove the "
            "folder and train again"
        )
    catalogue = _list_pictures(request, progress)
    _check_fingerprint(catalogue, request.source, run, "data")
    run = run.updated(status="running")
    keras.utils.set_random_seed(request.seed)
    with device_scope():
        model = load_model(latest)
    if latest.name != _INITIAL:
        _publish(run)  # a kill may have come between the record and the copy
    batches = _prepare_pictures(catalogue, run.preparation, request.recipe, progress)
    _check_skipped(batches, run)
    unlabelled = _prepare_unlabelled(request, batches, progress)
    if unlabelled is not None:
        _check_fingerprint(unlabelled.catalogue, request.unlabelled, run, "unlabelled")
    return Job(run, request, batches, model, progress, unlabelled=unlabelled)


def _check_fingerprint(catalogue: Catalogue, source: Source, run: Run, name: str) -> None:
    """Refuse to go on with other pictures than a run began with."""
    expected = run.record[name]["fingerprint"]
    if catalogue.fingerprint != expected:
        raise DataError(
            f"the pictures in {source} are not those that {run.folder} began with "
            f"(fingerprint {catalogue.fingerprint[:12]}, expected {expected[:12]}); restore them "
            "or train anew"
        )


def _check_skipped(batches: Batches, run: Run) -> None:
    """Refuse to go on with more or fewer readable pictures than a run began with."""
    before = {skipped["name"] for skipped in run.record["data"]["skipped"]}
    now = {skipped.name: skipped.reason for skipped in batches.skipped}
    lost, found = sorted(now.keys() - before), sorted(before - now.keys())
    if lost or found:
        what = f"{lost[0]} cannot be read any more ({now[lost[0]]})" if lost else ""
        raise DataError(
            f"{what or f'{found[0]} can be read now'}; expected the pictures with which "
            f"{run.folder} began; {'restore it' if lost else 'move it away'} or train anew"
        )


def _carry_on(job: Job) -> Run:
    """Take the steps that the record does not name yet."""
    request, run = job.request, job.run
    for name, is_wanted, train_them in (
        (FOLDS, request.recipe.folds, _train_folds),
        (TEACHER, request.recipe.distil, _train_teacher),
    ):
        if is_wanted and name not in run.record["done"]:
            run = train_them(replace(job, run=run))
    mlflow_run: MlflowRun | None = None
    if request.mlflow is not None:
        mlflow_run = MlflowRun(run, request.mlflow)
        run = run.updated(mlflow={"uri": request.mlflow, "run_id": mlflow_run.run_id})
    journals: list[Journal] = [EventFiles(run), *filter(None, [mlflow_run])]
    if ROOM not in run.record:
        with device_scope():
            run = run.updated(**{ROOM: Features(replace(job, run=run)).has_room})
    for name, step in _steps(request.recipe, run.record.get("prolonged", ())):
        if name in run.record["done"]:
            continue
        run = _take(replace(job, run=run, journals=journals, notes=[]), name, step)
    with device_scope():
        answers = keep_validation(run, job.model, job.batches)
    if answers is not None:
        compare_with_baseline(run, job.batches, answers, job.seed)
    job = replace(job, run=run)
    _note_guessing(job)
    run = run.updated(status="complete", notes=[*_notes(run), *job.notes])
    return _finish(run, mlflow_run, job.batches.catalogue)


def _take(job: Job, name: str, step: Step) -> Run:
    """Take a step and write down what it left."""
    begun, run = time.perf_counter(), job.run
    with device_scope():
        facts = step(job)
    # The record names the file that counts: a kill between the two repeats the step.
    save_model(job.model, run.checkpoints / f"{name}.keras")
    run = replace(run, record={**run.record, "notes": [*_notes(run), *job.notes]})
    run = _note(run, name, facts, time.perf_counter() - begun)
    _publish(run)
    return run


def _train_teacher(job: Job) -> Run:
    """Train the teacher, or go on with it, in a run folder of its own inside the student's."""
    run, request, progress = job.run, job.request, job.progress
    native = InputShape.of(run.record["plan"]["native_shape"])
    teaching = request.of_teacher(native, run.folder / TEACHER)
    progress.say(f"training the teacher at {teaching.shape}")
    begun = time.perf_counter()
    _train_inside(teaching, job)
    progress.say(f"training the student at {request.shape}")
    return _note(run, TEACHER, {}, time.perf_counter() - begun)


def _train_folds(job: Job) -> Run:
    """Train once for each fold, or go on with it, in run folders inside this one."""
    run, request, progress = job.run, job.request, job.progress
    begun, name, count = time.perf_counter(), job.task.score_name, request.recipe.folds
    assert count is not None
    scores: list[float] = []
    for number in range(1, count + 1):
        progress.say(f"fold {number} of {count}")
        fold = _train_inside(request.of_fold(number, run.folder / FOLDS / str(number)), job)
        scores.append(fold.record["metrics"]["validation"][name])
    mean, deviation = statistics.mean(scores), statistics.stdev(scores)
    progress.say(f"{count} folds: validation {name} {mean:.4f}, standard deviation {deviation:.4f}")
    facts = {"scores": scores, "mean": round(mean, 6), "deviation": round(deviation, 6)}
    return _note(run, FOLDS, {FOLDS: facts}, time.perf_counter() - begun)


def _train_inside(request: TrainRequest, outer: Job) -> Run:
    """Train in a folder inside another run's, or go on with what an earlier call began there."""
    folder = request.out
    if not (folder / "run.json").exists():
        job = _start(request, outer.progress)
        with locked(folder):
            return _carry_on(replace(job, cluster=outer.cluster))
    with locked(folder):
        run = Run.open(folder)
        if run.status == "complete":
            return _finish(run)
        again = _reopen(run, request.source, request.unlabelled, outer.progress)
        return _carry_on(replace(again, cluster=outer.cluster))


def _steps(recipe: Recipe, prolonged: Sequence[int]) -> tuple[tuple[str, Step], ...]:
    steps: list[tuple[str, Step]] = [("head", train_head), ("body", train_body)]
    if recipe.distil:
        steps.append(("distil", train_distilled))
    if recipe.recalibrate:
        steps.append(("recalibrate", try_recalibration))
    if recipe.fixres:
        steps.append(("fixres", try_fixres))
    for number, epochs in enumerate(prolonged, 1):
        name = f"prolonged-{number}"
        steps.append((name, partial(train_further, name=name, epochs=epochs)))
    return tuple(steps)


def _note(run: Run, name: str, facts: Mapping[str, Any], seconds: float) -> Run:
    """Write down that a step is over."""
    return run.updated(
        done=[*run.record["done"], name],
        seconds={**run.record["seconds"], name: round(seconds, 2)},
        metrics={**run.record["metrics"], **facts},
    )


def _notes(run: Run) -> list[str]:
    return list(run.record.get("notes", ()))


def _note_guessing(job: Job) -> None:
    """Say so if the model is no better than one that does not look at the pictures."""
    task = job.task
    least, how = task.guessing(job.labels("validation"))
    score = job.run.record["metrics"]["validation"][task.score_name]
    if score <= least:
        job.note(
            f"validation {task.score_name} {score:.3f} {_GUESSING} {how}, which has {least:.3f}: "
            "the network has learned nothing from the pictures; look at them in report.html, "
            "unfreeze more of the network or start from pretrained weights"
        )


def _latest(run: Run) -> Path:
    """The model as the last finished step left it."""
    steps = [name for name in run.record["done"] if name not in (TEACHER, FOLDS)]
    return run.checkpoints / (f"{steps[-1]}.keras" if steps else _INITIAL)


def _publish(run: Run) -> None:
    """Make the latest model the run's own."""
    write_atomically(run.model_path, lambda part: shutil.copyfile(_latest(run), part))


def _finish(
    run: Run, mlflow_run: MlflowRun | None = None, catalogue: Catalogue | None = None
) -> Run:
    """Leave the report of a complete run, hand it to MLflow and drop what only a resumed one needs.

    A kill, or a server that is away, may stop it in the middle; it can be called again.
    """
    if not run.checkpoints.is_dir() or not any(run.checkpoints.iterdir()):
        return run
    leave_report(run.folder, catalogue)
    uri = run.record["request"]["mlflow"]
    if uri is not None:
        (mlflow_run or MlflowRun(run, uri)).finish(run)
    for entry in run.checkpoints.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    return run


def _check_distilling(request: TrainRequest, plan: Plan) -> None:
    """Refuse a teacher that could not be trained or would have nothing to teach."""
    if request.recipe.unfreeze in ("none", 0) or request.recipe.epochs == 0:
        raise RequestError(
            "distil with a frozen backbone; expected a second phase, in which the student learns; "
            "unfreeze a part of it, such as unfreeze='last'"
        )
    size_hw, native = _size_hw(plan), plan.native_shape
    sides = zip(size_hw, native.hw, strict=True)
    is_within = all(known is not None and side <= known for side, known in sides)
    teacher = request.of_teacher(native, request.out)
    assert isinstance(request.shape, InputShape)
    if not is_within or InputShape(*size_hw, request.shape.channels) == teacher.shape:
        raise RequestError(
            f"distil at {request.shape} with a network whose own shape is {native}; expected a "
            "smaller input than the teacher's; leave distil out"
        )
    # What cannot be planned or prepared for the teacher is refused here, before any work.
    plan.but(input_shape=teacher.shape, options=teacher.options)
    teacher.preparation  # noqa: B018


def _size_hw(plan: Plan) -> tuple[int, int]:
    """The size to train at: the shape's own, the network's where the shape leaves it open."""
    height, width = plan.static_shape.hw
    if height is None or width is None:
        raise RequestError(
            f"input {plan.input_shape}: neither it nor the network has a size to train at; "
            "give a height and a width"
        )
    return height, width


def _list_pictures(request: TrainRequest, progress: Progress) -> Catalogue:
    """The pictures for training and validation; those for testing are left alone.

    The same pictures and seed give the same split.
    """
    with progress.bar("reading the list of pictures") as advance:
        listed = open_source(
            request.source, task=request.task, masks=request.masks, progress=advance
        )
    recipe = request.recipe
    catalogue = split(listed, validation=recipe.validation, seed=request.seed, fold=recipe.fold)
    used = [catalogue.indices(name).tolist() for name in ("train", "validation")]
    fitted = catalogue.task.fitted(catalogue.labels[used[0]])
    catalogue = replace(catalogue.take([*used[0], *used[1]]), task=fitted)
    if len(used[1]) < _FEW:
        line = _few_to_validate(len(used[1]), listed, request.seed)
        catalogue = replace(catalogue, warnings=(*catalogue.warnings, line))
    return catalogue


def _few_to_validate(count: int, listed: Catalogue, seed: int) -> str:
    more = "add pictures"
    if len(listed.indices("validation")):
        more = "put more pictures into the validation split"
    else:
        # Tried out: every class gives a share of its own, which is rounded.
        splits = ((share, split(listed, validation=share, seed=seed)) for share in _HELD_OUT)
        enough = (share for share, one in splits if len(one.indices("validation")) >= _FEW)
        share = next(enough, None)
        if share is not None:
            more += f", or hold out more of them (validation={share:g})"
    return (
        f"validated on {plural(count, 'picture')}, of which each is {100 / max(1, count):.0f} % of "
        f"the accuracy; expected {_FEW} or more; {more}"
    )


def _prepare_pictures(
    catalogue: Catalogue, preparation: Preparation, recipe: Recipe, progress: Progress
) -> Batches:
    """Read the pictures, and say what the user should know of them."""
    with progress.bar("preparing pictures") as advance:
        batches = Batches.open(catalogue, preparation, progress=advance)
    progress.say(str(batches.cache_report))
    if batches.skipped:
        named = "; ".join(f"{s.name} ({s.reason})" for s in batches.skipped[:_NAMED])
        more = " and more, which run.json lists" if len(batches.skipped) > _NAMED else ""
        progress.say(f"left out {len(batches.skipped)} that cannot be read: {named}{more}")
    if not len(batches.catalogue.indices("validation")):
        raise DataError(
            "no picture for validation can be read; expected some to choose the best epoch by; "
            "restore them"
        )
    channels = preparation.shape.channels
    changes = augmenter(recipe.augment, channels=channels, rand_augment=recipe.rand_augment)
    for line in (*batches.catalogue.warnings, *changes.notes):
        warnings.warn(line, UserWarning, stacklevel=6)
    return batches


def _prepare_unlabelled(
    request: TrainRequest, labelled: Batches, progress: Progress
) -> Batches | None:
    """The pictures without labels, but for those that validation is to be honest about."""
    if request.unlabelled is None:
        return None
    task, source = labelled.catalogue.task, request.unlabelled
    with progress.bar("reading the list of unlabelled pictures") as advance:
        catalogue = open_source(source, task=task, labels="none", progress=advance)
    held_out = labelled.catalogue.take(labelled.catalogue.indices("validation"))
    is_held_out = is_among(catalogue, held_out)
    others = catalogue.take(np.flatnonzero(~is_held_out))
    if not len(others):
        raise DataError(
            f"{source_text(source)}: all {len(catalogue)} pictures are among those for validation; "
            "expected others; leave unlabelled out"
        )
    catalogue = replace(others, splits=np.full(len(others), "train", "U10"))
    with progress.bar("preparing unlabelled pictures") as advance:
        batches = Batches.open(catalogue, labelled.preparation, progress=advance)
    progress.say(
        f"{plural(len(batches), 'picture')} without labels; left out: "
        f"{plural(int(is_held_out.sum()), 'picture')} of the validation split, "
        f"{len(batches.skipped)} that cannot be read"
    )
    return batches


def _describe_unlabelled(batches: Batches) -> dict[str, Any]:
    return {
        "fingerprint": batches.catalogue.fingerprint,
        "pictures": len(batches),
        **_describe_reading(batches),
    }


def _describe(catalogue: Catalogue) -> dict[str, Any]:
    return {
        "fingerprint": catalogue.fingerprint,
        "pictures": {name: len(catalogue.indices(name)) for name in ("train", "validation")},
        "train": catalogue.counts("train"),
        "validation": catalogue.counts("validation"),
        "examples": examples_of(catalogue.take(catalogue.indices("validation"))),
    }


def _describe_reading(batches: Batches) -> dict[str, Any]:
    return {
        "skipped": [asdict(skipped) for skipped in batches.skipped],
        "warnings": list(batches.catalogue.warnings),
        "kept": str(batches.cache_report),
    }

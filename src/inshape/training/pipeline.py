"""The course of a training: what is asked for, and the phases one after the other."""

from __future__ import annotations

import shutil
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeAlias

import keras

from ..data.augment import augmenter
from ..data.batches import Batches
from ..data.catalogue import Catalogue
from ..data.prepare import Preparation
from ..data.sources import Source, open_source
from ..data.split import split
from ..errors import DataError, RequestError
from ..evaluation.api import keep_validation
from ..features.cut import unfrozen_from
from ..planning import Plan, decide_plan, open_for_training, plan
from ..progress import Progress
from ..reporting.api import leave_report
from ..reporting.thumbnails import examples_of
from ..requests import command_of, restore
from ..runs import Run, check_new, load_model, locked, save_model
from ..shapes import InputShape
from ..writing import write_atomically
from .devices import scope
from .job import ROOM, Features, Job
from .logs import Logs
from .phases import TEACHER, train_body, train_distilled, train_head
from .post_training import recalibrated, resolution_fixed
from .recipe import Recipe
from .request import TrainRequest
from .tracking import Tracking, check_installed

Step: TypeAlias = Callable[[Job], dict[str, Any]]

_INITIAL = "initial.keras"
_NAMED = 10


def begin(request: TrainRequest, progress: Progress) -> Run:
    """Make a run folder and train into it; what is refused leaves no folder behind."""
    if request.mlflow is not None:
        check_installed()
    check_new(request.out)  # before any work is done
    keras.utils.set_random_seed(request.seed)
    planned, network = open_for_training(request.plan, request.weights)
    bare = decide_plan(planned, network)
    native = bare.native_shape
    size_hw = _size_hw(bare)
    if request.recipe.distil:
        _check_teaching(request, size_hw, native)
    preparation = request.preparation.at(size_hw)
    catalogue = catalogue_of(request.source, request.recipe, request.seed, progress)
    begun = time.perf_counter()
    batches = _opened(catalogue, preparation, request.recipe, progress)
    seconds = {"pictures": round(time.perf_counter() - begun, 2)}
    plan = bare.with_classes(len(catalogue.class_names))
    with scope():
        model = plan.carried_out_on(network).model
    unfrozen_from(model, request.recipe.unfreeze, size_hw)

    def fill(new: Run) -> None:
        new.save_labels(catalogue.class_names)
        save_model(model, new.checkpoints / _INITIAL)

    again = request.but(out=request.out.with_name(f"{request.out.name}-again"))
    run = Run.create(
        request.out,
        {
            "request": request.as_dict(),
            "command": command_of("train", again),
            "plan": plan.as_dict(),
            "preparation": preparation.as_dict(),
            "data": {**_facts(catalogue), **_reading(batches)},
            "done": [],
            "seconds": seconds,
            "metrics": {},
        },
        fill=fill,
    )
    with locked(run.folder):
        if request.recipe.distil:
            run = _with_teacher(run, request, progress)
        return _carry_on(run, batches, model, request, progress)


def request_of(run: Run, source: Source = None) -> TrainRequest:
    """What a run was asked for, from its record; the pictures where they are given anew."""
    record = run.record["request"]
    given = {"out": run.folder} | ({} if source is None else {"source": source})
    return restore(TrainRequest, record, **given)


def go_on(run: Run, source: Source, progress: Progress) -> Run:
    """Go on with a run that was interrupted or killed, and whose folder is locked."""
    request = request_of(run, source)
    if request.source is None:
        raise RequestError(
            f"{run.folder} was trained on pictures that were no files; expected them again; "
            "give source="
        )
    latest = _latest(run)
    if not latest.exists():
        raise RequestError(
            f"{run.folder} has lost {latest.name}; expected it among its checkpoints; remove the "
            "folder and train again"
        )
    recipe = request.recipe
    catalogue = catalogue_of(request.source, recipe, request.seed, progress)
    expected = run.record["data"]["fingerprint"]
    if catalogue.fingerprint != expected:
        raise DataError(
            f"the pictures in {request.source} are not those that {run.folder} began with "
            f"(fingerprint {catalogue.fingerprint[:12]}, expected {expected[:12]}); restore them "
            "or train anew"
        )
    run = run.updated(status="running")
    if recipe.distil and TEACHER not in run.record["done"]:
        if request.backbone is None:
            raise RequestError(
                f"{run.folder} was stopped while its teacher was trained, from a model that is no "
                "file; expected a name or a file to build it from; remove the folder and train "
                "again"
            )
        run = _with_teacher(run, request, progress)
    keras.utils.set_random_seed(request.seed)
    with scope():
        model = load_model(latest)
    if latest.name != _INITIAL:
        _publish(run)  # a kill may have come between the record and the copy
    batches = _opened(catalogue, run.preparation, recipe, progress)
    return _carry_on(run, batches, model, request, progress)


def _with_teacher(run: Run, request: TrainRequest, progress: Progress) -> Run:
    """Train the teacher, or go on with it."""
    folder = run.folder / TEACHER
    native = InputShape.of(run.record["plan"]["native_shape"])
    teaching = request.of_teacher(native, folder)
    progress.say(f"training the teacher at {teaching.shape}")
    begun = time.perf_counter()
    if (folder / "run.json").exists():
        teacher = Run.open(folder)
        with locked(folder):
            if teacher.status == "complete":
                finished(teacher)
            else:
                go_on(teacher, request.source, progress)
    else:
        begin(teaching, progress)
    progress.say(f"training the student at {request.shape}")
    return _noted(run, TEACHER, {}, time.perf_counter() - begun)


def _opened(
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
    for line in (*batches.catalogue.warnings, *_left_out(recipe, preparation)):
        warnings.warn(line, UserWarning, stacklevel=5)
    return batches


def _carry_on(
    run: Run, batches: Batches, model: keras.Model, request: TrainRequest, progress: Progress
) -> Run:
    """Do the steps that are not done yet."""
    recipe = request.recipe
    journals: list[Logs | Tracking] = [Logs(run)]
    tracking: Tracking | None = None
    if request.mlflow is not None:
        tracking = Tracking(run, request.mlflow)
        run = run.updated(mlflow={"uri": request.mlflow, "run_id": tracking.run_id})
        journals.append(tracking)
    if ROOM not in run.record:
        with scope():
            features = Features(Job(run, recipe, batches, model, request.seed, progress))
        run = run.updated(**{ROOM: features.has_room})
    for name, step in _steps(recipe):
        if name in run.record["done"]:
            continue
        begun = time.perf_counter()
        with scope():
            facts = step(Job(run, recipe, batches, model, request.seed, progress, journals))
        # The record names the file that counts: a kill between the two repeats the step.
        save_model(model, run.checkpoints / f"{name}.keras")
        run = _noted(run, name, facts, time.perf_counter() - begun)
        _publish(run)
    with scope():
        keep_validation(run, model, batches)
    run = run.updated(status="complete")
    leave_report(run.folder, batches.catalogue)
    return finished(run, tracking)


def finished(run: Run, tracking: Tracking | None = None) -> Run:
    """Hand a complete run to MLflow, if it goes there, and drop what only a resumed one needs.

    Args:
        run: a complete one, which may have been stopped in the middle of this.
        tracking: its run in MLflow, if that is open.

    Returns:
        The same run.

    Raises:
        RunError: if MLflow does not take it; it can be called again.
    """
    if not run.checkpoints.is_dir() or not any(run.checkpoints.iterdir()):
        return run
    uri = run.record["request"]["mlflow"]
    if uri is not None:
        (tracking or Tracking(run, uri)).finish(run)
    for entry in run.checkpoints.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    return run


def _latest(run: Run) -> Path:
    """The model as the last step that is done left it."""
    steps = [name for name in run.record["done"] if name != TEACHER]
    return run.checkpoints / (f"{steps[-1]}.keras" if steps else _INITIAL)


def _publish(run: Run) -> None:
    """Make the latest model the run's own."""
    write_atomically(run.model_path, lambda part: shutil.copyfile(_latest(run), part))


def _left_out(recipe: Recipe, preparation: Preparation) -> tuple[str, ...]:
    """Changes that are asked for and cannot be made to such pictures."""
    channels = preparation.shape.channels
    return augmenter(recipe.augment, channels=channels, rand_augment=recipe.rand_augment).notes


def _steps(recipe: Recipe) -> tuple[tuple[str, Step], ...]:
    steps: list[tuple[str, Step]] = [("head", train_head), ("body", train_body)]
    if recipe.distil:
        steps.append(("distil", train_distilled))
    if recipe.recalibrate:
        steps.append(("recalibrate", recalibrated))
    if recipe.fixres:
        steps.append(("fixres", resolution_fixed))
    return tuple(steps)


def _noted(run: Run, name: str, facts: Mapping[str, Any], seconds: float) -> Run:
    """Write down that a step is done."""
    return run.updated(
        done=[*run.record["done"], name],
        seconds={**run.record["seconds"], name: round(seconds, 2)},
        metrics={**run.record["metrics"], **facts},
    )


def _check_teaching(request: TrainRequest, size_hw: tuple[int, int], native: InputShape) -> None:
    """Refuse a teacher that could not be trained or would have nothing to teach."""
    if request.recipe.unfreeze in ("none", 0) or request.recipe.epochs == 0:
        raise RequestError(
            "distil with a frozen backbone; expected a second phase, in which the student learns; "
            "unfreeze a part of it, such as unfreeze='last'"
        )
    known = [n for n in native.hw if n is not None]
    is_larger = any(own > other for own, other in zip(size_hw, known, strict=False))
    if len(known) < 2 or is_larger or size_hw == native.hw:
        raise RequestError(
            f"distil at {request.shape} with a network whose own shape is {native}; expected a "
            "smaller input than the teacher's; leave distil out"
        )
    teacher = request.of_teacher(native, request.out)
    plan(teacher.backbone, teacher.shape, options=teacher.options)
    teacher.preparation  # noqa: B018 - what cannot be prepared is refused here


def catalogue_of(source: Source, recipe: Recipe, seed: int, progress: Progress) -> Catalogue:
    """The pictures for training and validation; those for testing are left alone.

    Args:
        source: the pictures.
        recipe: whose share is held out, unless the source says what is.
        seed: of the split.
        output: tells how far the work is.

    Returns:
        The same split for the same pictures and seed.
    """
    with progress.bar("reading the list of pictures") as advance:
        opened = open_source(source, progress=advance)
    found = split(opened, validation=recipe.validation, seed=seed)
    return found.take(found.indices("train").tolist() + found.indices("validation").tolist())


def _size_hw(plan: Plan) -> tuple[int, int]:
    """The size to train at: the shape's own, the network's where the shape leaves it open."""
    height, width = plan.static_shape.hw
    if height is None or width is None:
        raise RequestError(
            f"input {plan.input_shape}: neither it nor the network has a size to train at; "
            "give a height and a width"
        )
    return height, width


def _facts(catalogue: Catalogue) -> dict[str, Any]:
    return {
        "fingerprint": catalogue.fingerprint,
        "train": catalogue.counts("train"),
        "validation": catalogue.counts("validation"),
        "examples": examples_of(catalogue.take(catalogue.indices("validation"))),
    }


def _reading(batches: Batches) -> dict[str, Any]:
    return {
        "skipped": [asdict(skipped) for skipped in batches.skipped],
        "warnings": list(batches.catalogue.warnings),
        "kept": str(batches.cache_report),
    }

"""The course of a training: what is asked for, and the phases one after the other."""

from __future__ import annotations

import shutil
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeAlias

import keras

from ..adapt import BackbonePlan, plan
from ..data.augment import augmenter
from ..data.batches import Batches
from ..data.catalogue import Catalogue
from ..data.prepare import Preparation
from ..data.sources import Source, open_source
from ..data.split import split
from ..errors import DataError, RequestError
from ..evaluate.front import keep_validation
from ..features.cut import unfrozen_from
from ..heads import Head
from ..report import leave_report
from ..report.pictures import examples_of
from ..runs import Run, check_new, load_model, locked, save_model
from ..shapes import InputShape
from ..writing import write_atomically
from .after import recalibrated, resolution_fixed
from .curves import draw_curves
from .devices import scope
from .job import ROOM, Features, Job
from .logs import Logs
from .neck import build_for
from .phases import TEACHER, train_body, train_distilled, train_head
from .recipe import Recipe
from .request import Request
from .show import Show
from .tracking import Tracking, check_installed

Step: TypeAlias = Callable[[Job], dict[str, Any]]

_INITIAL = "initial.keras"
_NAMED = 10


def begin(request: Request, out: Path, output: Show) -> Run:
    """Make a run folder and train into it.

    Args:
        request: what is asked for.
        out: a new folder.
        output: tells how far the work is.

    Returns:
        The complete run.

    Raises:
        RequestError: if the request cannot be met or the pictures cannot be used; nothing was
            written then.
        RunError: if the run folder cannot be written.
    """
    if request.mlflow is not None:
        check_installed()
    made = _planned(request)
    native = made.shown_shape or made.source.input_shape
    size_hw = _size_hw(request.shape, native)
    if request.recipe.distil:
        _check_teaching(request, size_hw, native)
    prepared = Preparation.of(request.shape, **dict(request.preparation)).at(size_hw)
    check_new(out)  # before any work is done
    catalogue = catalogue_of(request.source, request.recipe, request.seed, output)
    begun = time.perf_counter()
    batches = _opened(catalogue, prepared, request.recipe, output)
    seconds = {"pictures": round(time.perf_counter() - begun, 2)}
    keras.utils.set_random_seed(request.seed)
    complete = replace(request.head, classes=len(catalogue.class_names))
    # What it refuses leaves no folder behind.
    with scope():
        model = build_for(made, complete, request.weights)
    unfrozen_from(model, request.recipe.unfreeze, size_hw)

    def fill(new: Run) -> None:
        new.save_labels(catalogue.class_names)
        save_model(model, new.checkpoints / _INITIAL)

    run = Run.create(
        out,
        {
            "seed": request.seed,
            "request": {**request.as_dict(), "native_shape": str(native)},
            "command": request.command(out),
            "plan": made.as_dict(),
            "preparation": prepared.as_dict(),
            "data": {**_facts(catalogue), **_reading(batches)},
            "done": [],
            "seconds": seconds,
            "metrics": {},
        },
        fill=fill,
    )
    with locked(run.folder):
        if request.recipe.distil:
            run = _with_teacher(run, request, native, output)
        return _carry_on(run, batches, model, request.recipe, output)


def go_on(run: Run, source: Source, output: Show) -> Run:
    """Go on with a run that was interrupted or killed.

    Args:
        run: an incomplete one, whose folder is locked.
        source: the pictures, if they have moved or were no files.
        output: tells how far the work is.

    Returns:
        The complete run.

    Raises:
        RequestError: if it cannot be resumed.
        DataError: if the pictures are not those that the run began with.
    """
    asked = run.record["request"]
    pictures = source if source is not None else asked["source"]
    if pictures is None:
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
    recipe = Recipe(**asked["recipe"])
    seed = int(run.record["seed"])
    catalogue = catalogue_of(pictures, recipe, seed, output)
    expected = run.record["data"]["fingerprint"]
    if catalogue.fingerprint != expected:
        raise DataError(
            f"the pictures in {pictures} are not those that {run.folder} began with (fingerprint "
            f"{catalogue.fingerprint[:12]}, expected {expected[:12]}); restore them or train anew"
        )
    run = run.updated(status="running")
    if recipe.distil and TEACHER not in run.record["done"]:
        if asked["backbone"] is None:
            raise RequestError(
                f"{run.folder} was stopped while its teacher was trained, from a model that is no "
                "file; expected a name or a file to build it from; remove the folder and train "
                "again"
            )
        channels = asked["channels"]
        request = Request(
            source=pictures,
            shape=InputShape.of(asked["shape"]),
            backbone=asked["backbone"],
            weights=asked["weights"],
            channels=channels if isinstance(channels, str) else tuple(channels),
            seed=seed,
            head=Head(**asked["head"]),
            recipe=recipe,
            preparation=asked["preparation"],
        )
        run = _with_teacher(run, request, InputShape.of(asked["native_shape"]), output)
    keras.utils.set_random_seed(seed)
    with scope():
        model = load_model(latest)
    if latest.name != _INITIAL:
        _publish(run)  # a kill may have come between the record and the copy
    batches = _opened(catalogue, run.preparation, recipe, output)
    return _carry_on(run, batches, model, recipe, output)


def _with_teacher(run: Run, request: Request, native: InputShape, output: Show) -> Run:
    """Train the teacher, or go on with it."""
    folder = run.folder / TEACHER
    asked = request.of_teacher(native)
    output.say(f"training the teacher at {asked.shape}")
    begun = time.perf_counter()
    if (folder / "run.json").exists():
        teacher = Run.open(folder)
        with locked(folder):
            if teacher.status == "complete":
                finished(teacher)
            else:
                go_on(teacher, request.source, output)
    else:
        begin(asked, folder, output)
    output.say(f"training the student at {request.shape}")
    return _noted(run, TEACHER, {}, time.perf_counter() - begun)


def _opened(
    catalogue: Catalogue, preparation: Preparation, recipe: Recipe, output: Show
) -> Batches:
    """Read the pictures, and say what the user should know of them."""
    with output.bar("preparing pictures") as told:
        batches = Batches.open(catalogue, preparation, progress=told)
    output.say(str(batches.cache_report))
    if batches.skipped:
        named = "; ".join(f"{s.name} ({s.reason})" for s in batches.skipped[:_NAMED])
        more = " and more, which run.json lists" if len(batches.skipped) > _NAMED else ""
        output.say(f"left out {len(batches.skipped)} that cannot be read: {named}{more}")
    for line in (*batches.catalogue.warnings, *_left_out(recipe, preparation)):
        warnings.warn(line, UserWarning, stacklevel=5)
    return batches


def _carry_on(run: Run, batches: Batches, model: keras.Model, recipe: Recipe, output: Show) -> Run:
    """Do the steps that are not done yet."""
    journals: list[Logs | Tracking] = [Logs(run)]
    tracking: Tracking | None = None
    uri = run.record["request"].get("mlflow")
    if uri is not None:
        tracking = Tracking(run, uri)
        run = run.updated(mlflow={"uri": uri, "run_id": tracking.run_id})
        journals.append(tracking)
    if ROOM not in run.record:
        with scope():
            features = Features(Job(run, recipe, batches, model, output))
        run = run.updated(**{ROOM: features.has_room})
    for name, step in _steps(recipe):
        if name in run.record["done"]:
            continue
        begun = time.perf_counter()
        with scope():
            facts = step(Job(run, recipe, batches, model, output, journals))
        # The record names the file that counts: a kill between the two repeats the step.
        save_model(model, run.checkpoints / f"{name}.keras")
        run = _noted(run, name, facts, time.perf_counter() - begun)
        _publish(run)
    draw_curves(run)
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
    uri = run.record["request"].get("mlflow")
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


def _planned(request: Request) -> BackbonePlan:
    return plan(
        request.backbone,
        request.shape,
        strategy=request.strategy,
        channels=request.channels,
        **dict(request.plan_options),
    )


def _check_teaching(request: Request, size_hw: tuple[int, int], native: InputShape) -> None:
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
    teacher = request.of_teacher(native)
    _planned(teacher)
    Preparation.of(teacher.shape, **dict(teacher.preparation))


def catalogue_of(source: Source, recipe: Recipe, seed: int, output: Show) -> Catalogue:
    """The pictures for training and validation; those for testing are left alone.

    Args:
        source: the pictures.
        recipe: whose share is held out, unless the source says what is.
        seed: of the split.
        output: tells how far the work is.

    Returns:
        The same split for the same pictures and seed.
    """
    with output.bar("reading the list of pictures") as told:
        opened = open_source(source, progress=told)
    found = split(opened, validation=recipe.validation, seed=seed)
    return found.take(found.indices("train").tolist() + found.indices("validation").tolist())


def _size_hw(shape: InputShape, native: InputShape) -> tuple[int, int]:
    """The size to train at: the shape's own, the network's where the shape leaves it open."""
    height, width = (
        own if own is not None else given for own, given in zip(shape.hw, native.hw, strict=True)
    )
    if height is None or width is None:
        raise RequestError(
            f"input {shape}: neither it nor the network has a size to train at; "
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

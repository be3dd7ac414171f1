"""`train`: from a folder of pictures to a run folder with a fine-tuned model."""

from __future__ import annotations

import shutil
import time
import warnings
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import keras

from ..adapt import BackboneLike, BackbonePlan, Weights, plan
from ..data.batches import Batches
from ..data.catalogue import Catalogue
from ..data.prepare import Preparation
from ..data.sources import Source, open_source
from ..data.split import split
from ..errors import DataError, RequestError
from ..heads import Head
from ..runs import Run, load_model, save_model
from ..shapes import InputShape, ShapeLike
from .loop import Stopped
from .neck import build_for
from .phases import Job, train_body, train_head
from .recipe import Recipe
from .show import Show

_INITIAL = "initial.keras"


def train(
    source: Source,
    shape: ShapeLike,
    *,
    out: str | Path,
    backbone: BackboneLike = "MobileNetV3Large-minimalistic",
    weights: Weights = "imagenet",
    strategy: Any = "auto",
    channels: Any = "auto",
    seed: int = 0,
    head: Head | None = None,
    recipe: Recipe | None = None,
    plan_options: Mapping[str, Any] | None = None,
    preparation: Mapping[str, Any] | None = None,
    show: bool = False,
) -> Run:
    """Fine-tune a pretrained network at another input shape on the user's pictures.

    Args:
        source: a folder per class, or anything else that `inshape.data.sources.open_source` takes.
        shape: ``"HxWxC"``; with an unknown axis the model takes any size, and trains at the
            network's own.
        out: a new folder for the run.
        backbone: a name, a path to a ``.keras`` file, or a ``keras.Model``.
        weights: ``"imagenet"``, a path, or ``None``.
        strategy: how the network gets its shape; see `inshape.plan`.
        channels: how its stem gets its channels; see `inshape.plan`.
        seed: of the split, the order, the augmentation and the new weights.
        head: pooling, dropout and hidden layer of the new head; its ``classes`` are the source's.
        recipe: how to train.
        plan_options: the strategy's own options; see `inshape.plan`.
        preparation: fields of `Preparation` such as ``fit``; the shape is set.
        show: whether to show progress on standard error.

    Returns:
        The finished run.

    Raises:
        RequestError: if the request cannot be met; nothing was written then.
        RunError: if the run folder cannot be written.
        KeyboardInterrupt: on Ctrl-C; the run is saved and can be resumed.
    """
    _check_backend()
    wanted = InputShape.of(shape)
    chosen = recipe or Recipe()
    made = plan(backbone, wanted, strategy=strategy, channels=channels, **dict(plan_options or {}))
    size_hw = _size_hw(wanted, made)
    prepared = Preparation.of(wanted, **dict(preparation or {})).at(size_hw)
    if Path(out).exists():
        Run.create(out, {})  # says that it is there, before any work is done
    output = Show.to_stderr(show)
    with output.bar("reading the list of pictures") as told:
        catalogue = _catalogue(source, chosen, seed, told)
    plain_head = head or Head()
    keras.utils.set_random_seed(seed)
    complete = replace(plain_head, classes=len(catalogue.class_names))
    model = build_for(made, complete, weights)  # what it refuses leaves no folder behind
    request = {
        "source": str(Path(source).resolve()) if isinstance(source, str | Path) else None,
        "shape": str(wanted),
        "backbone": str(backbone) if isinstance(backbone, str | Path) else None,
        "weights": str(weights) if weights is not None else None,
        "strategy": strategy,
        "channels": channels,
        "head": asdict(plain_head),
        "plan_options": dict(plan_options or {}),
        "recipe": chosen.as_dict(),
    }
    run = Run.create(
        out,
        {
            "seed": seed,
            "request": request,
            "plan": made.as_dict(),
            "preparation": prepared.as_dict(),
            "data": _facts(catalogue),
            "done": [],
            "seconds": {},
        },
    )
    run.save_labels(catalogue.class_names)
    try:
        save_model(model, run.checkpoints / _INITIAL)
        return _carry_on(run, catalogue, model, chosen, output)
    except KeyboardInterrupt as stop:
        raise _interrupted(run, output) from stop


def resume(folder: str | Path | Run, *, source: Source = None, show: bool = False) -> Run:
    """Go on with a training that was interrupted or killed.

    Args:
        folder: the run folder.
        source: the pictures, if they have moved or were no files.
        show: whether to show progress on standard error.

    Returns:
        The finished run; a run that was finished already is handed back as it is.

    Raises:
        RequestError: if it cannot be resumed.
        DataError: if the pictures are not those that the run began with.
        KeyboardInterrupt: on Ctrl-C; the run is saved and can be resumed.
    """
    _check_backend()
    run = Run.open(folder)
    if run.status == "complete":
        return run
    request = run.record["request"]
    pictures = source if source is not None else request["source"]
    if pictures is None:
        raise RequestError(
            f"{run.folder} was trained on pictures that were no files; expected them again; "
            "give source="
        )
    initial = run.checkpoints / _INITIAL
    if not initial.exists():
        raise RequestError(
            f"{run.folder} was stopped before its model was built; expected a checkpoint; "
            "remove the folder and train again"
        )
    recipe = Recipe(**request["recipe"])
    output = Show.to_stderr(show)
    seed = int(run.record["seed"])
    with output.bar("reading the list of pictures") as told:
        catalogue = _catalogue(pictures, recipe, seed, told)
    expected = run.record["data"]["fingerprint"]
    if catalogue.fingerprint != expected:
        raise DataError(
            f"the pictures in {pictures} are not those that {run.folder} began with (fingerprint "
            f"{catalogue.fingerprint[:12]}, expected {expected[:12]}); restore them or train anew"
        )
    run = run.updated(status="running")
    try:
        keras.utils.set_random_seed(seed)
        is_head_done = "head" in run.record["done"]
        model = load_model(run.model_path if is_head_done else initial)
        return _carry_on(run, catalogue, model, recipe, output)
    except KeyboardInterrupt as stop:
        raise _interrupted(run, output) from stop


def _carry_on(
    run: Run, catalogue: Catalogue, model: keras.Model, recipe: Recipe, output: Show
) -> Run:
    """Do the phases that are not done yet."""
    begun = time.perf_counter()
    with output.bar("preparing pictures") as told:
        batches = Batches.open(catalogue, run.preparation, progress=told)
    if batches.skipped:
        named = "; ".join(f"{s.name} ({s.reason})" for s in batches.skipped)
        output.say(f"left out {len(batches.skipped)} that cannot be read: {named}")
    for line in batches.catalogue.warnings:
        warnings.warn(line, UserWarning, stacklevel=4)
    if not run.record["done"]:
        run = run.updated(
            data={**run.record["data"], **_reading(batches)},
            seconds={"pictures": round(time.perf_counter() - begun, 2)},
        )
    job = Job(run, recipe, batches, model, output)
    for name, phase in (("head", train_head), ("body", train_body)):
        if name in run.record["done"]:
            continue
        begun = time.perf_counter()
        facts = phase(job)
        run.save_model(model)
        seconds = {**run.record["seconds"], name: round(time.perf_counter() - begun, 2)}
        run = run.updated(
            done=[*run.record["done"], name],
            seconds=seconds,
            metrics={**run.record.get("metrics", {}), **facts},
        )
        job = Job(run, recipe, batches, model, output)
    shutil.rmtree(run.checkpoints, ignore_errors=True)
    run.checkpoints.mkdir(exist_ok=True)
    return run.updated(status="complete")


def _catalogue(source: Source, recipe: Recipe, seed: int, told: Any) -> Catalogue:
    """The pictures for training and validation; those for testing are left alone."""
    found = split(open_source(source, progress=told), validation=recipe.validation, seed=seed)
    return found.take(found.indices("train").tolist() + found.indices("validation").tolist())


def _size_hw(shape: InputShape, made: BackbonePlan) -> tuple[int, int]:
    """The size to train at: the shape's own, the network's where the shape leaves it open."""
    shown = made.shown_shape or made.source.input_shape
    height, width = (
        own if own is not None else native for own, native in zip(shape.hw, shown.hw, strict=True)
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
    }


def _reading(batches: Batches) -> dict[str, Any]:
    return {
        "skipped": [asdict(skipped) for skipped in batches.skipped],
        "warnings": list(batches.catalogue.warnings),
        "kept": str(batches.cache_report),
    }


def _interrupted(run: Run, output: Show) -> KeyboardInterrupt:
    Run.open(run.folder).updated(status="interrupted")
    hint = f"stopped; go on with: inshape train --resume {run.folder}"
    output.say(hint)
    return Stopped(hint)


def _check_backend() -> None:
    if keras.backend.backend() != "tensorflow":
        raise RequestError(
            f"the Keras backend is {keras.backend.backend()}; expected tensorflow for training; "
            "set KERAS_BACKEND=tensorflow"
        )

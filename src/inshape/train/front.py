"""`train`: from a folder of pictures to a run folder with a fine-tuned model."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras

from ..adapt import BackboneLike, Weights
from ..data.sources import Source
from ..errors import RequestError
from ..heads import Head
from ..runs import Run, locked
from ..shapes import InputShape, ShapeLike
from .course import begin, finished, go_on
from .loop import Stopped
from .recipe import Recipe
from .request import Request
from .show import Show


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
    mlflow: str | None = None,
    show: bool = False,
    **choices: Any,
) -> Run:
    """Fine-tune a pretrained network at another input shape on the user's pictures.

    Args:
        source: a folder per class, or anything else that `inshape.data.sources.open_source` takes.
        shape: ``"HxWxC"``; with an unknown axis the model takes any size, and trains at the
            network's own.
        out: a new folder for the run.
        backbone: a name, a path to a ``.keras`` file, or a ``keras.Model``.
        weights: ``"imagenet"``, ``"demo"``, a file, ``"hf://OWNER/NAME"``, ``"kaggle://PRESET"``,
            or ``None``; see `BackbonePlan.build`.
        strategy: how the network gets its shape; see `inshape.plan`.
        channels: how its stem gets its channels; see `inshape.plan`.
        seed: of the split, the order, the augmentation and the new weights.
        head: pooling, dropout and hidden layer of the new head; its ``classes`` are the source's.
        recipe: how to train.
        mlflow: the tracking URI of an MLflow server or store that shall hold the run too.
        plan_options: the strategy's own options; see `inshape.plan`.
        preparation: fields of `Preparation` such as ``fit``; the shape is set.
        show: whether to show progress on standard error.
        **choices: fields of `Recipe` by name, such as ``epochs=3`` or ``distil=True``.

    Returns:
        The finished run.

    Raises:
        UnknownName: if a choice is not one of the recipe's.
        RequestError: if the request cannot be met or the pictures cannot be used; nothing was
            written then.
        RunError: if the run folder cannot be written.
        KeyboardInterrupt: on Ctrl-C; the run is saved and can be resumed.
    """
    _check_backend()
    if not 0 <= seed < 2**31:
        raise RequestError(f"seed={seed}; expected a whole number from 0 to {2**31 - 1}")
    asked = Request(
        source=source,
        shape=InputShape.of(shape),
        backbone=backbone,
        weights=weights,
        strategy=strategy,
        channels=channels,
        seed=seed,
        head=head or Head(),
        recipe=(recipe or Recipe()).of(choices),
        plan_options=dict(plan_options or {}),
        preparation=dict(preparation or {}),
        mlflow=mlflow,
    )
    output = Show.to_stderr(show)
    with _resumable(Path(out), output):
        return begin(asked, Path(out), output)


def resume(folder: str | Path | Run, *, source: Source = None, show: bool = False) -> Run:
    """Go on with a training that was interrupted or killed.

    Args:
        folder: the run folder.
        source: the pictures, if they have moved or were no files.
        show: whether to show progress on standard error.

    Returns:
        The finished run; a run that was finished already is handed back as it is.

    Raises:
        RequestError: if it cannot be resumed, or another process is training it.
        DataError: if the pictures are not those that the run began with.
        RunError: if the run folder cannot be written, or MLflow does not take the run.
        KeyboardInterrupt: on Ctrl-C; the run is saved and can be resumed.
    """
    _check_backend()
    output = Show.to_stderr(show)
    place = Run.open(folder).folder
    with locked(place), _resumable(place, output):
        run = Run.open(place)  # as it is now that nobody else changes it
        return finished(run) if run.status == "complete" else go_on(run, source, output)


@contextmanager
def _resumable(folder: Path, output: Show) -> Generator[None]:
    """Say after Ctrl-C how to go on, if there is something to go on with."""
    try:
        yield
    except KeyboardInterrupt as stop:
        if not (folder / "run.json").exists() or Run.open(folder).status != "running":
            raise
        Run.open(folder).updated(status="interrupted")
        hint = f"stopped; go on with: inshape train --resume {folder}"
        output.say(hint)
        raise Stopped(hint) from stop


def _check_backend() -> None:
    if keras.backend.backend() != "tensorflow":
        raise RequestError(
            f"the Keras backend is {keras.backend.backend()}; expected tensorflow for training; "
            "set KERAS_BACKEND=tensorflow"
        )

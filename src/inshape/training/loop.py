"""One phase of training: epochs, validation, early stopping, checkpoints."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .checkpoint import Checkpoint, Progress
from .feeds import Feed
from .learner import Learner
from .linear import scores
from .recipe import Recipe

_SAVE_EVERY_S = 60.0


class Stopped(KeyboardInterrupt):
    """The user pressed Ctrl-C; the phase was saved after its last step."""


@dataclass(frozen=True, slots=True, eq=False)
class Phase:
    """What a phase works with.

    Attributes:
        name: for the history and the display.
        learner: what learns.
        feed: what it learns from.
        held: gives a learner's logits on the validation split.
        held_labels: the classes of the validation split.
        class_weights: of each class in the loss.
        recipe: the choices.
        epochs: the most it takes.
        path: where its checkpoint is kept.
        on_epoch: given the rows of the history after each epoch.
        on_step: given the epoch, the step, the steps of an epoch and the mean loss.
    """

    name: str
    learner: Learner
    feed: Feed
    held: Callable[[Learner], NDArray[np.float32]]
    held_labels: NDArray[np.int32]
    class_weights: NDArray[np.float32]
    recipe: Recipe
    epochs: int
    path: Path
    on_epoch: Callable[[list[dict[str, Any]]], None]
    on_step: Callable[[int, int, int, float], None]


def run_phase(phase: Phase) -> Progress:
    """Train until the epochs are over or no epoch has been better for a while.

    The learner ends with the weights of the best epoch, which may be those it began with. If the
    checkpoint of an earlier, unfinished call is there, the phase goes on from it: order, random
    views and mixing follow from seed, epoch and step, and all else is in the checkpoint.

    Args:
        phase: what to work with.

    Returns:
        Where it ended.

    Raises:
        Stopped: if the user pressed Ctrl-C; everything is saved by then.
        RunError: if a checkpoint cannot be written or read.
    """
    learner = phase.learner
    if phase.path.exists():
        checkpoint = Checkpoint.load(phase.path)
        learner.restore(checkpoint.state)
        progress, best = checkpoint.progress, checkpoint.best
    else:
        accuracy, loss = scores(phase.held(learner), phase.held_labels)
        progress, best = Progress(best_accuracy=accuracy, best_loss=loss), learner.weights()
    with _interruptible() as interrupted:
        while not _is_over(progress, phase):
            progress = _epoch(phase, progress, best, interrupted)
            progress, best = _validated(phase, progress, best)
            Checkpoint(progress, learner.state(), best).save(phase.path)
            phase.on_epoch(progress.history)
            if interrupted():
                raise Stopped
    learner.set_weights(best)
    return progress


def _is_over(progress: Progress, phase: Phase) -> bool:
    waited = progress.epoch - 1 - max(progress.best_epoch, 0)
    return progress.epoch >= phase.epochs or waited >= phase.recipe.patience


def _epoch(
    phase: Phase,
    progress: Progress,
    best: list[NDArray[np.float32]],
    interrupted: Callable[[], bool],
) -> Progress:
    """The rest of an epoch, with a checkpoint from time to time."""
    steps = phase.feed.steps
    saved = time.monotonic()
    for rows, labels in phase.feed.epoch(progress.epoch, progress.step):
        rate = phase.recipe.rate(progress.epoch * steps + progress.step, steps, phase.epochs)
        weights = labels[:, : len(phase.class_weights)] @ phase.class_weights
        loss = phase.learner.step(rows, labels, weights, rate)
        progress = replace(progress, step=progress.step + 1, loss_sum=progress.loss_sum + loss)
        phase.on_step(progress.epoch, progress.step, steps, progress.loss_sum / progress.step)
        stop = interrupted() and progress.step < steps
        if stop or time.monotonic() - saved > _SAVE_EVERY_S:
            Checkpoint(progress, phase.learner.state(), best).save(phase.path)
            saved = time.monotonic()
        if stop:
            raise Stopped
    return progress


def _validated(
    phase: Phase, progress: Progress, best: list[NDArray[np.float32]]
) -> tuple[Progress, list[NDArray[np.float32]]]:
    """Score the epoch that has just ended, and keep its weights if it is the best so far."""
    weights = phase.learner.weights()
    accuracy, loss = _scores_with(phase, weights)
    steps = phase.feed.steps
    row = {
        "phase": phase.name,
        "epoch": progress.epoch + 1,
        "learning_rate": phase.recipe.rate((progress.epoch + 1) * steps - 1, steps, phase.epochs),
        "loss": round(progress.loss_sum / max(1, progress.step), 6),
        "val_loss": round(loss, 6),
        "val_accuracy": round(accuracy, 6),
    }
    is_best = (accuracy, -loss) > (progress.best_accuracy, -progress.best_loss)
    changes: Mapping[str, Any] = {}
    if is_best:
        best = weights
        changes = {"best_epoch": progress.epoch, "best_accuracy": accuracy, "best_loss": loss}
    return (
        replace(
            progress,
            epoch=progress.epoch + 1,
            step=0,
            loss_sum=0.0,
            history=[*progress.history, row],
            **changes,
        ),
        best,
    )


def _scores_with(phase: Phase, weights: list[NDArray[np.float32]]) -> tuple[float, float]:
    """Validation scores with the weights that would be kept, which may be averages."""
    if not phase.recipe.ema:
        return scores(phase.held(phase.learner), phase.held_labels)
    current = phase.learner.weights(averaged=False)
    phase.learner.set_weights(weights)
    found = scores(phase.held(phase.learner), phase.held_labels)
    phase.learner.set_weights(current)
    return found


@contextmanager
def _interruptible() -> Generator[Callable[[], bool]]:
    """Let Ctrl-C finish the current step; a second one stops at once."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return

    def ask(number: int, frame: object) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGINT, before)

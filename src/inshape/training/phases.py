"""The phases of a training: the head on frozen features, part of the backbone, a teacher.

Each is a loop of epochs with validation, early stopping and checkpoints, which can be cut after any
step and ends as if it had not been.
"""

from __future__ import annotations

import math
import signal
import threading
import time
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import keras
import numpy as np
from numpy.typing import NDArray

from ..errors import RunError
from ..features.cut import section
from ..features.linear import fit_linear, scores, temperature
from ..features.views import View
from ..graph.walk import all_layers
from ..heads import LOGITS
from ..progress import Advance, Progress
from ..runs import Run, load_model
from .checkpoint import Checkpoint, Standing, is_finite
from .devices import computing_in
from .feeds import FeatureFeed, Feed, smooth_labels
from .job import Features, Job
from .learner import Learner
from .recalibration import quick_statistics
from .teacher import Teacher

_Weights: TypeAlias = list[NDArray[np.float32]]

TEACHER = "teacher"
"""The folder of the teacher's own run inside the student's."""
_HEAD_MODEL = "head.keras"
"""The model as the first phase left it, among the checkpoints."""
_SAVE_EVERY_S = 60.0
_DIVERGED = 20.0
"""How many times the loss of guessing a loss is that no longer comes from learning."""


class Stopped(KeyboardInterrupt):
    """The user pressed Ctrl-C; the phase was saved after its last step."""


class _NotFinite(Exception):
    """A loss, a score or a weight is NaN or infinite; the message says which, and when."""


def train_head(job: Job) -> dict[str, Any]:
    """Train the head on frozen features; facts for the record."""
    features = Features(job)
    _warn_of_views(job, features)
    head = section(job.logits_model, job.head_cut, None)
    views, validation = features.head_rows()
    labels, recipe = job.labels("train"), job.recipe
    if validation.ndim == 2 and _is_linear(head):
        # The best linear classifier is found exactly, in seconds and without a learning rate.
        fit = fit_linear(
            views,
            labels,
            (validation, job.labels("validation")),
            classes=job.classes,
            class_weights=job.class_weights,
            seed=job.seed,
        )
        job.model.get_layer(LOGITS).set_weights([fit.kernel, fit.bias])
        row = {"phase": "head", "epoch": 1, "val_loss": fit.loss, "val_accuracy": fit.accuracy}
        job.keep_history([row])
        facts = {"accuracy": fit.accuracy, "loss": fit.loss, "strength": fit.strength}
    else:
        hard = smooth_labels(labels, job.classes, recipe.label_smoothing)
        feed = FeatureFeed(views, [hard] * len(views), validation, recipe.batch_size, job.seed)
        learner = Learner(None, head, recipe, seed=job.seed)
        phase = phase_of(job, "head", learner, feed, recipe.head_epochs)
        facts = settle(job, phase, run_phase(phase))
    job.progress.say(f"head: validation accuracy {facts['accuracy']:.4f} on frozen features")
    return {"head": facts, "engine": features.engines}


def train_body(job: Job) -> dict[str, Any]:
    """Train the unfrozen part of the backbone together with the head; facts for the record."""
    if job.body_cut is None:
        return {"validation": job.run.record["metrics"]["head"]}
    phase = _body_phase(job, "body")
    return {"validation": settle(job, phase, run_phase(phase))}


def train_distilled(job: Job) -> dict[str, Any]:
    """Train the unfrozen part once more from the same head, with a teacher's answers.

    The model, which comes with the weights trained without the teacher, is left with the better
    ones.
    """
    without = job.run.record["metrics"]["validation"]
    plain = job.model.get_weights()
    job.model.set_weights(load_model(job.run.checkpoints / _HEAD_MODEL).get_weights())
    run = Run.open(job.run.folder / TEACHER)
    teacher = Teacher(run, job.batches, job.recipe, seed=job.seed, progress=job.progress)
    phase = _body_phase(job, "distil", teacher)
    with_teacher = settle(job, phase, run_phase(phase))
    is_better = _rank(with_teacher) > _rank(without)
    if not is_better:
        job.model.set_weights(plain)
    gain = with_teacher["accuracy"] - without["accuracy"]
    of_teacher = run.record["metrics"]["validation"]["accuracy"]
    job.progress.say(
        f"distil: validation accuracy {with_teacher['accuracy']:.4f} with the teacher "
        f"({of_teacher:.4f}), {without['accuracy']:.4f} without ({100 * gain:+.1f} points); "
        f"{'kept' if is_better else 'not kept'}"
    )
    facts = {"teacher": of_teacher, "with": with_teacher, "without": without, "kept": is_better}
    return {"distil": facts, "validation": with_teacher if is_better else without}


def _rank(scored: dict[str, Any]) -> tuple[float, float]:
    return scored["accuracy"], -scored["loss"]


def _body_phase(job: Job, name: str, teacher: Teacher | None = None) -> Phase:
    assert job.body_cut is not None
    body = section(job.logits_model, job.body_cut, job.head_cut)
    # The user's own model may come with frozen layers, as the base of the usual transfer model
    # does. Keras thaws a model's layers no further than their own flags say.
    for layer in all_layers(body):
        layer.trainable = True
    head = section(job.logits_model, job.head_cut, None)
    feed = Features(job).body_feed(teacher)
    teaching = None if teacher is None else teacher.teaching
    learner = Learner(body, head, job.recipe, seed=job.seed, teaching=teaching)
    return phase_of(job, name, learner, feed, job.recipe.epochs)


@dataclass(frozen=True, slots=True, eq=False)
class Phase:
    """What a phase works with."""

    name: str
    """For the history and the display."""
    learner: Learner
    feed: Feed
    labels: NDArray[np.int32]
    """The classes of the validation split."""
    class_weights: NDArray[np.float32]
    """Of each class in the loss."""
    epochs: int
    """At most."""
    path: Path
    """Where its checkpoint is kept."""
    progress: Progress
    on_epoch: Callable[[list[dict[str, Any]]], None]
    """Handed the rows of the history after each epoch."""
    note: Callable[[str], None]
    """Handed what the user should know of how it went."""

    def validation_scores(self) -> tuple[float, float]:
        """Accuracy and loss of the learner as it is."""
        return scores(self.feed.validation_logits(self.learner.logits), self.labels)


def phase_of(job: Job, name: str, learner: Learner, feed: Feed, epochs: int) -> Phase:
    """A phase whose history goes into the run of a job, behind that of the phases before it."""
    before = [row for row in job.run.history() if row["phase"] != name]

    def on_epoch(rows: list[dict[str, Any]]) -> None:
        job.keep_history([*before, *rows])
        row = rows[-1]
        job.progress.say(
            f"{name} {row['epoch']:>2}/{epochs}  loss {row['loss']:.4f}  "
            f"validation loss {row['val_loss']:.4f}  accuracy {row['val_accuracy']:.4f}"
        )

    return Phase(
        name,
        learner,
        feed,
        labels=job.labels("validation"),
        class_weights=job.class_weights,
        epochs=epochs,
        path=job.run.checkpoints / f"{name}.npz",
        progress=job.progress,
        on_epoch=on_epoch,
        note=job.note,
    )


def run_phase(phase: Phase) -> Standing:
    """Train until the epochs are over or no epoch has been better for a while.

    The learner ends with the weights of the best epoch, which may be those it began with. A phase
    whose checkpoint is there goes on from it: order, random views and mixing follow from seed,
    epoch and step, and all else is in the checkpoint.
    """
    learner, recipe = phase.learner, phase.learner.recipe
    moving = learner.body if recipe.batch_norm == "train" else None
    with (
        computing_in(recipe.precision, learner.body, learner.head),
        quick_statistics(moving, phase.feed.steps),
        phase.progress.bar(f"training the {phase.name}") as advance,
        _interruptible() as interrupted,
    ):
        standing, best = _begin(phase)
        while not _is_over(standing, phase):
            try:
                standing = _epoch(phase, standing, best, advance, interrupted)
                standing, best = _validate(phase, standing, best)
                _save(phase, standing, best)
            except _NotFinite as error:
                # The earlier checkpoint stays: a resumed phase comes to the same end.
                standing = replace(standing, stopped=str(error))
                break
            phase.on_epoch(standing.history)
            if interrupted():
                raise Stopped
    learner.set_weights(best)
    _note_divergence(phase, standing)
    return standing


def _save(phase: Phase, standing: Standing, best: _Weights) -> None:
    """Write a checkpoint, of finite numbers only."""
    state = phase.learner.state()
    if not is_finite(state.values()):
        raise _NotFinite(f"weights that are NaN or infinite in epoch {standing.epoch + 1}")
    Checkpoint(standing, state, best).save(phase.path)


def _note_divergence(phase: Phase, standing: Standing) -> None:
    """Say so if a phase ended in NaN, or with a loss that no working training has."""
    kept = "before the first epoch" if standing.best_epoch < 0 else f"{standing.best_epoch + 1}"
    kept = f"the weights {'of epoch ' if standing.best_epoch >= 0 else 'from '}{kept} are kept"
    recipe = phase.learner.recipe
    advice = f"lower learning_rate, which is {recipe.learning_rate:g}"
    if standing.stopped:
        phase.note(f"{phase.name}: {standing.stopped}; stopped there, and {kept}; {advice}")
        return
    guessing = math.log(max(2, len(phase.class_weights)))
    # A teacher's share of the loss is multiplied by the square of its temperature.
    scale = max(1.0, recipe.distil_temperature**2) if phase.learner.is_taught else 1.0
    for row in standing.history[-1:]:  # an earlier one may have been made up for
        worst = max(row["loss"] / scale, row["val_loss"])
        if worst > _DIVERGED * guessing and row["epoch"] > standing.best_epoch + 1:
            phase.note(
                f"{phase.name}: the loss came to {worst:.3g} in epoch {row['epoch']}, where "
                f"guessing has {guessing:.2f}: the training diverged; {kept}; {advice}"
            )


def settle(job: Job, phase: Phase, standing: Standing) -> dict[str, Any]:
    """Divide the logits of a trained model by its temperature; scores for the record."""
    logits = phase.feed.validation_logits(phase.learner.logits)
    divisor = temperature(logits, phase.labels)
    last = job.model.get_layer(LOGITS)
    last.set_weights([np.asarray(w) / divisor for w in last.get_weights()])
    accuracy, loss = scores(logits / divisor, phase.labels)
    return {
        "accuracy": accuracy,
        "loss": loss,
        "temperature": divisor,
        "epoch": standing.best_epoch + 1,
        "epochs": standing.epoch,
    }


def _read_checkpoint(phase: Phase) -> Checkpoint | None:
    """Where a phase was cut; a damaged checkpoint is removed with a warning."""
    if not phase.path.exists():
        return None
    try:
        return Checkpoint.load(phase.path)
    except RunError as refusal:
        problem, _, _ = str(refusal).partition("; ")
        message = f"{problem}; {phase.name} is trained again from its start"
        warnings.warn(message, UserWarning, stacklevel=2)
        phase.path.unlink()
        return None


def _begin(phase: Phase) -> tuple[Standing, _Weights]:
    """Where the phase stands, from its checkpoint if it was cut, and the best weights so far."""
    checkpoint = _read_checkpoint(phase)
    if checkpoint is not None:
        phase.learner.restore(checkpoint.state)
        if checkpoint.standing.history:
            # A kill may have come between the checkpoint and the history.
            phase.on_epoch(checkpoint.standing.history)
        return checkpoint.standing, checkpoint.best
    accuracy, loss = phase.validation_scores()
    if not math.isfinite(loss):
        raise RunError(
            f"{phase.name}: the network's answers are not finite before the first epoch; expected "
            "finite logits; start from other weights"
        )
    return Standing(best_accuracy=accuracy, best_loss=loss), phase.learner.weights()


def _is_over(standing: Standing, phase: Phase) -> bool:
    waited = standing.epoch - 1 - max(standing.best_epoch, 0)
    return standing.epoch >= phase.epochs or waited >= phase.learner.recipe.patience


def _epoch(
    phase: Phase,
    standing: Standing,
    best: _Weights,
    advance: Advance,
    interrupted: Callable[[], bool],
) -> Standing:
    """Train for the rest of an epoch, with a checkpoint from time to time."""
    learner, steps = phase.learner, phase.feed.steps
    saved = time.monotonic()
    for rows, labels in phase.feed.epoch(standing.epoch, standing.step):
        number = standing.epoch * steps + standing.step
        rate = learner.recipe.rate(number, steps, phase.epochs)
        # Labels may be mixed and smoothed, and so is the weight of a row; a teacher's stand behind.
        weights = labels[:, : len(phase.class_weights)] @ phase.class_weights
        loss = learner.step(rows, labels, weights, rate)
        if not math.isfinite(loss):
            raise _NotFinite(
                f"a loss that is {loss} in epoch {standing.epoch + 1}, step {standing.step + 1}"
            )
        standing = replace(standing, step=standing.step + 1, loss_sum=standing.loss_sum + loss)
        advance(number + 1, phase.epochs * steps)
        # After the last step the epoch is validated first: its end is saved with its score.
        is_stopped = interrupted() and standing.step < steps
        if is_stopped or time.monotonic() - saved > _SAVE_EVERY_S:
            _save(phase, standing, best)
            saved = time.monotonic()
        if is_stopped:
            raise Stopped
    return standing


def _validate(phase: Phase, standing: Standing, best: _Weights) -> tuple[Standing, _Weights]:
    """Score the epoch that has just ended, and keep its weights if it is the best so far."""
    learner, steps = phase.learner, phase.feed.steps
    weights = learner.weights()
    if learner.recipe.ema:
        # Scored is what would be kept, which are the averages; training goes on from where it was.
        current = learner.weights(averaged=False)
        learner.set_weights(weights)
        accuracy, loss = phase.validation_scores()
        learner.set_weights(current)
    else:
        accuracy, loss = phase.validation_scores()
    if not math.isfinite(loss):
        raise _NotFinite(f"a validation loss that is {loss} after epoch {standing.epoch + 1}")
    last_step = (standing.epoch + 1) * steps - 1
    row = {
        "phase": phase.name,
        "epoch": standing.epoch + 1,
        "learning_rate": learner.recipe.rate(last_step, steps, phase.epochs),
        "loss": round(standing.loss_sum / max(1, standing.step), 6),
        "val_loss": round(loss, 6),
        "val_accuracy": round(accuracy, 6),
    }
    if (accuracy, -loss) > (standing.best_accuracy, -standing.best_loss):
        best = weights
        standing = replace(
            standing, best_epoch=standing.epoch, best_accuracy=accuracy, best_loss=loss
        )
    history = [*standing.history, row]
    ended = replace(standing, epoch=standing.epoch + 1, step=0, loss_sum=0.0, history=history)
    return ended, best


@contextmanager
def _interruptible() -> Generator[Callable[[], bool]]:
    """Let Ctrl-C finish the current step; a second one stops at once."""
    pressed = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield pressed.is_set  # Python hands signals to the main thread alone
        return

    def press(number: int, frame: object) -> None:
        if pressed.is_set():
            raise KeyboardInterrupt
        pressed.set()

    before = signal.signal(signal.SIGINT, press)
    try:
        yield pressed.is_set
    finally:
        signal.signal(signal.SIGINT, before)


def _warn_of_views(job: Job, features: Features) -> None:
    """Say so if strong changes are wanted and no view is a random one."""
    is_fixed = job.body_cut is None or features.keeps_maps
    if job.recipe.augment == "strong" and is_fixed and not any(map(_is_random, job.views)):
        warnings.warn(
            f"augment='strong' has no effect on {len(job.views)} views, which are the plain "
            "pictures and their mirror images; ask for more, such as views=3",
            stacklevel=3,
        )


def _is_random(view: View) -> bool:
    return isinstance(view, int)


def _is_linear(head: keras.Model) -> bool:
    """Whether nothing but the last layer of a head has weights."""
    return [layer.name for layer in head.layers if layer.weights] == [LOGITS]

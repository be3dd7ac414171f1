"""The phases of a training: the head on frozen features, part of the backbone, a teacher.

Each goes through Keras's own ``fit``, with validation, early stopping and checkpoints; it can be
cut at any moment and ends as if it had not been.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from ..errors import RunError
from ..features.cut import section
from ..features.linear import fit_linear, temperature
from ..features.views import View
from ..graph.walk import all_layers
from ..heads import LOGITS
from ..progress import Advance, Progress
from ..runs import Run, load_model
from ..tasks.task import Labels, Task
from .checkpoint import Checkpoint, Standing, is_finite
from .devices import choose_dtype, computing_in
from .feeds import FeatureFeed, Feed, Training, Validation
from .job import Features, Job
from .recalibration import quick_statistics
from .recipe import Recipe
from .student import (
    Student,
    compile_student,
    restore_state,
    state_of,
    weights_of,
)
from .teacher import Teacher, Teaching

TEACHER = "teacher"
"""The folder of the teacher's own run inside the student's."""
_HEAD_MODEL = "head.keras"
"""The model as the first phase left it, among the checkpoints."""
_DIGITS = 6
"""Of a score, by which epochs are told apart."""
_DIVERGED = 20.0
"""How many times the loss of guessing a loss is that no longer comes from learning."""


class Stopped(KeyboardInterrupt):
    """The user pressed Ctrl-C; the phase was saved after its last epoch."""


class _NotFinite(Exception):
    """A loss, a score or a weight is NaN or infinite; the message says which, and when."""


def train_head(job: Job) -> dict[str, Any]:
    """Train the head on frozen features; facts for the record."""
    features = Features(job)
    _warn_of_views(job, features)
    head = section(job.logits_model, job.head_cut, None)
    views, validation = features.head_rows()
    labels, task = job.labels("train"), job.task
    if validation.ndim == 2 and _is_linear(head):
        # The best linear head is found exactly, in seconds and without a learning rate.
        fit = fit_linear(
            task,
            views,
            labels,
            (validation, job.labels("validation")),
            output_weights=job.output_weights,
            seed=job.seed,
        )
        job.model.get_layer(LOGITS).set_weights([fit.kernel, fit.bias])
        row = {"phase": "head", "epoch": 1, "val_loss": fit.loss}
        row[f"val_{task.score_name}"] = fit.score
        job.keep_history([row])
        _tell(job, Student(None, head, moves_statistics=False, seed=job.seed), row)
        facts = {task.score_name: fit.score, "loss": fit.loss, "strength": fit.strength}
    else:
        targets = [job.targets_of(view) for view in job.views]
        feed = FeatureFeed(views, targets, validation, job.batch_size, job.seed)
        phase = phase_of(job, "head", None, head, feed, job.recipe.head_epochs)
        facts = settle(job, phase, run_phase(phase))
    job.progress.say(
        f"head: validation {task.score_name} {facts[task.score_name]:.4f} on frozen features"
    )
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
    phase = _body_phase(job, "distil", run)
    with_teacher = settle(job, phase, run_phase(phase))
    name = job.task.score_name
    is_better = _rank(with_teacher, name) > _rank(without, name)
    if not is_better:
        job.model.set_weights(plain)
    gain = with_teacher[name] - without[name]
    of_teacher = run.record["metrics"]["validation"][name]
    job.progress.say(
        f"distil: validation {name} {with_teacher[name]:.4f} with the teacher "
        f"({of_teacher:.4f}), {without[name]:.4f} without ({100 * gain:+.1f} points); "
        f"{'kept' if is_better else 'not kept'}"
    )
    facts = {"teacher": of_teacher, "with": with_teacher, "without": without, "kept": is_better}
    return {"distil": facts, "validation": with_teacher if is_better else without}


def train_further(job: Job, name: str, epochs: int) -> dict[str, Any]:
    """Train the unfrozen part for some epochs more; facts for the record."""
    phase = _body_phase(replace(job, request=job.request.but(epochs=epochs)), name)
    return {"validation": settle(job, phase, run_phase(phase))}


def _rank(scored: dict[str, Any], name: str) -> tuple[float, float]:
    return scored[name], -scored["loss"]


def _body_phase(job: Job, name: str, teacher_run: Run | None = None) -> Phase:
    assert job.body_cut is not None
    teacher = shown = None
    if teacher_run is not None:
        shown = job.last_map
        teacher = Teacher(
            teacher_run,
            job.batches,
            job.recipe,
            shown,
            batch_size=job.batch_size,
            seed=job.seed,
            progress=job.progress,
        )
        if not teacher.teaching.channels:
            shown = None
    body = section(job.logits_model, job.body_cut, job.head_cut, shown)
    # The user's own model may come with frozen layers, as the base of the usual transfer model
    # does. Keras thaws a model's layers no further than their own flags say.
    for layer in all_layers(body):
        layer.trainable = True
    head = section(job.logits_model, job.head_cut, None)
    feed = Features(job).body_feed(teacher)
    teaching = None if teacher is None else teacher.teaching
    return phase_of(job, name, body, head, feed, job.epochs, teaching=teaching)


@dataclass(frozen=True, slots=True, eq=False)
class Phase:
    """What a phase works with."""

    name: str
    """For the history and the display."""
    student: Student
    recipe: Recipe
    feed: Feed
    task: Task
    labels: Labels
    """Of the validation split."""
    output_weights: NDArray[np.float32]
    """Of each class or tag in the loss."""
    epochs: int
    """At most."""
    path: Path
    """Where its checkpoint is kept."""
    progress: Progress
    on_epoch: Callable[[list[dict[str, Any]]], None]
    """Handed the rows of the history after each epoch."""
    note: Callable[[str], None]
    """Handed what the user should know of how it went."""
    teaching: Teaching | None = None
    """How a teacher's soft labels count, where there are any."""
    callbacks: Sequence[keras.callbacks.Callback] = ()
    """The user's."""

    @property
    def validation(self) -> Validation:
        """The validation split for Keras."""
        return Validation(self.feed, self.task, self.labels)

    def validation_logits(self) -> NDArray[np.float32]:
        """What the student answers to the validation split."""
        return self.student.predict(self.validation, verbose=0)[: len(self.labels)]


def phase_of(
    job: Job,
    name: str,
    body: keras.Model | None,
    head: keras.Model,
    feed: Feed,
    epochs: int,
    *,
    teaching: Teaching | None = None,
) -> Phase:
    """A phase whose history goes into the run of a job, behind that of the phases before it."""
    before = [row for row in job.run.history_rows() if row["phase"] != name]
    score_name = job.task.score_name
    recipe = job.recipe
    is_moving = recipe.batch_norm == "train"
    student = Student(body, head, moves_statistics=is_moving, seed=job.seed)
    compile_student(student, job.task, recipe, feed.steps, epochs, teaching)

    def on_epoch(rows: list[dict[str, Any]]) -> None:
        job.keep_history([*before, *rows])
        row = rows[-1]
        job.progress.say(
            f"{name} {row['epoch']:>2}/{epochs}  loss {row['loss']:.4f}  "
            f"validation loss {row['val_loss']:.4f}  {score_name} {row[f'val_{score_name}']:.4f}"
        )

    return Phase(
        name,
        student,
        recipe,
        feed,
        task=job.task,
        labels=job.labels("validation"),
        output_weights=job.output_weights,
        epochs=epochs,
        path=job.run.checkpoints / f"{name}.npz",
        progress=job.progress,
        on_epoch=on_epoch,
        note=job.note,
        teaching=teaching,
        callbacks=job.callbacks,
    )


def run_phase(phase: Phase) -> Standing:
    """Train until the epochs are over or no epoch has been better for a while.

    The student ends with the weights of the best epoch, which may be those it began with. A phase
    whose checkpoint is there goes on from it: order, random views and mixing follow from seed,
    epoch and step, and all else is in the checkpoint. An epoch that was cut is trained again.
    """
    student, recipe = phase.student, phase.recipe
    moving = student.body if recipe.batch_norm == "train" else None
    with (
        computing_in(recipe.precision, student.body, student.head),
        quick_statistics(moving, phase.feed.steps),
        phase.progress.bar(f"training the {phase.name}") as advance,
    ):
        keeper = _Keeper(phase, advance)
        # Behind the keeper, which scores and keeps the averages before they are swapped out again.
        averages = [keras.callbacks.SwapEMAWeights()] if recipe.ema else []
        try:
            if not keeper.is_over:
                student.fit(
                    keeper.training,
                    validation_data=phase.validation,
                    epochs=phase.epochs,
                    initial_epoch=keeper.standing.epoch,
                    callbacks=[keeper, *averages, *phase.callbacks],
                    shuffle=False,  # the feed has done so, by the seed
                    verbose=0,
                )
        except _NotFinite as error:
            # The earlier checkpoint stays: a resumed phase comes to the same end.
            keeper.standing = replace(keeper.standing, stopped=str(error))
    if choose_dtype(recipe.precision) != "float32":
        student.predict_function = None  # which computes as it did within
    student.set_weights(keeper.best)
    _note_divergence(phase, keeper.standing)
    return keeper.standing


class _Keeper(keras.callbacks.Callback):
    """Keeps the best weights, the history and a checkpoint, and ends a phase in time."""

    def __init__(self, phase: Phase, advance: Advance) -> None:
        super().__init__()
        self.training = Training(phase.feed, phase.task, phase.output_weights)
        self.standing, self.best = _begin(phase)
        self._score = self.standing.best_score
        self._phase = phase
        self._advance = advance

    @property
    def is_over(self) -> bool:
        """Whether the epochs are over or have brought nothing for a while.

        Only epochs are compared with each other: the first ones after a good head are worse than
        the head, and those that rise are on their way.
        """
        phase, score = self._phase, f"val_{self._phase.task.score_name}"
        ranks = [(row[score], -row["val_loss"]) for row in self.standing.history]
        waited = len(ranks) - 1 - ranks.index(max(ranks)) if ranks else 0
        return len(ranks) >= phase.epochs or waited >= phase.recipe.patience

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Have the data and the random numbers of this epoch."""
        self.training.epoch = epoch
        self._phase.student.begin_epoch(epoch)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Look at the loss."""
        epoch, steps = self.standing.epoch, self._phase.feed.steps
        loss = float((logs or {})["loss"])
        if not math.isfinite(loss):
            raise _NotFinite(f"a loss that is {loss} in epoch {epoch + 1}, step {batch + 1}")
        self._advance(epoch * steps + batch + 1, self._phase.epochs * steps)

    def on_test_end(self, logs: dict[str, Any] | None = None) -> None:
        """Keep the weights that have just been scored if they are the best so far."""
        scored = logs or {}
        task, name = self._phase.task, self._phase.task.score_name
        if task.metric is None:
            logits = self._phase.validation_logits()
            self._score, _ = task.score_and_loss(logits, self._phase.labels)
        # Keras sums up as float32; as many right answers shall be as good.
        score = round(float(scored.get(name, self._score)), _DIGITS)
        loss, epoch = float(scored["loss"]), self.standing.epoch
        if not math.isfinite(loss):
            raise _NotFinite(f"a validation loss that is {loss} after epoch {epoch + 1}")
        best = self.standing
        if (score, -loss) > (round(best.best_score, _DIGITS), -best.best_loss):
            self.best = weights_of(self._phase.student)
            self.standing = replace(best, best_epoch=epoch, best_score=score, best_loss=loss)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Write down how it went, and stop if that is enough."""
        scored = {} if logs is None else logs
        # The user's callbacks, which come behind, find it where Keras puts its own.
        scored.setdefault(f"val_{self._phase.task.score_name}", self._score)
        row = {
            "phase": self._phase.name,
            "epoch": epoch + 1,
            "learning_rate": float(f"{float(self._phase.student.optimizer.learning_rate):.6g}"),
            **{name: round(float(scored[name]), 6) for name in ("loss", "val_loss")},
        }
        score = f"val_{self._phase.task.score_name}"
        row[score] = round(float(scored[score]), 6)
        history = [*self.standing.history, row]
        self.standing = replace(self.standing, epoch=epoch + 1, history=history)
        state = state_of(self._phase.student)
        if not is_finite(state):
            raise _NotFinite(f"weights that are NaN or infinite in epoch {epoch + 1}")
        Checkpoint(self.standing, state, self.best).save(self._phase.path)
        self._phase.on_epoch(history)
        if self.is_over:
            self._phase.student.stop_training = True


def _tell(job: Job, student: Student, row: dict[str, Any]) -> None:
    """Show the user's callbacks a head that was found without a single step."""
    compile_student(student, job.task, job.recipe, 1, 1)
    callbacks = keras.callbacks.CallbackList(
        list(job.callbacks), model=student, epochs=1, steps=0, verbose=0
    )
    logs = {name: value for name, value in row.items() if name.startswith("val_")}
    callbacks.on_train_begin()
    callbacks.on_epoch_begin(0)
    callbacks.on_epoch_end(0, logs)
    callbacks.on_train_end(logs)


def _note_divergence(phase: Phase, standing: Standing) -> None:
    """Say so if a phase ended in NaN, or with a loss that no working training has."""
    kept = "before the first epoch" if standing.best_epoch < 0 else f"{standing.best_epoch + 1}"
    kept = f"the weights {'of epoch ' if standing.best_epoch >= 0 else 'from '}{kept} are kept"
    recipe = phase.recipe
    advice = f"lower learning_rate, which is {recipe.learning_rate:g}"
    if standing.stopped:
        phase.note(f"{phase.name}: {standing.stopped}; stopped there, and {kept}; {advice}")
        return
    guessing = phase.task.guessing_loss
    # A teacher's share of the loss is multiplied by the square of its temperature.
    scale = max(1.0, recipe.distil_temperature**2) if phase.teaching else 1.0
    for row in standing.history[-1:]:  # an earlier one may have been made up for
        worst = max(row["loss"] / scale, row["val_loss"])
        if worst > _DIVERGED * guessing and row["epoch"] > standing.best_epoch + 1:
            phase.note(
                f"{phase.name}: the loss came to {worst:.3g} in epoch {row['epoch']}, where "
                f"guessing has {guessing:.2f}: the training diverged; {kept}; {advice}"
            )


def settle(job: Job, phase: Phase, standing: Standing) -> dict[str, Any]:
    """Divide the logits of a trained model by its temperature; scores for the record."""
    logits = phase.validation_logits()
    divisor = temperature(phase.task, logits, phase.labels)
    last = job.model.get_layer(LOGITS)
    last.set_weights([np.asarray(w) / divisor for w in last.get_weights()])
    score, loss = phase.task.score_and_loss(logits / divisor, phase.labels)
    return {
        phase.task.score_name: score,
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


def _begin(phase: Phase) -> tuple[Standing, list[NDArray[Any]]]:
    """Where the phase stands, from its checkpoint if it was cut, and the best weights so far."""
    checkpoint = _read_checkpoint(phase)
    if checkpoint is not None:
        restore_state(phase.student, checkpoint.state)
        # A kill may have come between the checkpoint and the history.
        phase.on_epoch(checkpoint.standing.history)
        return checkpoint.standing, checkpoint.best
    score, loss = phase.task.score_and_loss(phase.validation_logits(), phase.labels)
    if not math.isfinite(loss):
        raise RunError(
            f"{phase.name}: the network's answers are not finite before the first epoch; expected "
            "finite logits; start from other weights"
        )
    return Standing(best_score=score, best_loss=loss), weights_of(phase.student)


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

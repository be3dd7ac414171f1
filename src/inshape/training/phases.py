"""The phases of a training: the head on frozen features, part of the backbone, a teacher."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from ..features.cut import section
from ..features.views import View
from ..heads import LOGITS
from ..runs import Run, load_model
from .devices import computing_in
from .feeds import FeatureFeed, Feed, soft_labels
from .job import Features, Job
from .learner import Learner
from .linear import fit_linear, scores, temperature
from .loop import Phase, run_phase
from .recalibration import quick_statistics
from .recipe import Recipe
from .teacher import Teacher
from .teaching import Teaching

HEAD_MODEL = "head.keras"
"""The model as the first phase left it, among the checkpoints of a run that will be taught."""
TEACHER = "teacher"
"""The folder of the teacher's own run inside the student's."""


def train_head(job: Job) -> dict[str, Any]:
    """Train the head on frozen features.

    Args:
        job: what to work on.

    Returns:
        Facts for the record.
    """
    features = Features(job)
    is_fixed = job.body_cut is None or features.keeps_maps
    if job.recipe.augment == "strong" and is_fixed and not any(map(_is_random, job.views)):
        warnings.warn(
            f"augment='strong' has no effect on {len(job.views)} views, which are the plain "
            "pictures and their mirror images; ask for more, such as views=3",
            stacklevel=2,
        )
    head = section(job.logits_model, job.head_cut, None)
    views, held = features.head_rows()
    labels, held_labels = job.labels("train"), job.labels("validation")
    if held.ndim == 2 and _is_linear(head):
        fit = fit_linear(
            views,
            labels,
            (held, held_labels),
            classes=job.classes,
            class_weights=job.class_weights,
            seed=job.seed,
        )
        job.model.get_layer(LOGITS).set_weights([fit.kernel, fit.bias])
        row = {"phase": "head", "epoch": 1, "val_loss": fit.loss, "val_accuracy": fit.accuracy}
        job.keep_history([row])
        facts = {"accuracy": fit.accuracy, "loss": fit.loss, "strength": fit.strength}
    else:
        recipe = job.recipe
        hard = soft_labels(labels, job.classes, recipe.label_smoothing)
        feed = FeatureFeed(views, [hard] * len(views), recipe.batch_size, job.seed)
        facts = trained(
            job, "head", None, head, feed, lambda learner: learner.logits(held), recipe.head_epochs
        )
    job.progress.say(f"head: validation accuracy {facts['accuracy']:.4f} on frozen features")
    return {"head": facts, "engine": features.engines}


def train_body(job: Job) -> dict[str, Any]:
    """Train the unfrozen part of the backbone together with the head.

    Args:
        job: what to work on.

    Returns:
        Facts for the record.
    """
    if job.body_cut is None:
        return {"validation": job.run.record["metrics"]["head"]}
    return {"validation": _train_body(job, "body", None)}


def train_distilled(job: Job) -> dict[str, Any]:
    """Train the unfrozen part once more from the same head, with a teacher's answers.

    Args:
        job: what to work on; its model holds the weights trained without the teacher.

    Returns:
        Facts for the record; the model is left with the better weights.
    """
    without = job.run.record["metrics"]["validation"]
    plain = job.model.get_weights()
    job.model.set_weights(load_model(job.run.checkpoints / HEAD_MODEL).get_weights())
    run = Run.open(job.run.folder / TEACHER)
    teacher = Teacher(run, job.batches, job.recipe, seed=job.seed, show=job.progress)
    found = _train_body(job, "distil", teacher)
    is_better = (found["accuracy"], -found["loss"]) > (without["accuracy"], -without["loss"])
    if not is_better:
        job.model.set_weights(plain)
    gain = found["accuracy"] - without["accuracy"]
    taught_by = run.record["metrics"]["validation"]["accuracy"]
    job.progress.say(
        f"distil: validation accuracy {found['accuracy']:.4f} with the teacher "
        f"({taught_by:.4f}), {without['accuracy']:.4f} without ({100 * gain:+.1f} points); "
        f"{'kept' if is_better else 'not kept'}"
    )
    facts = {"teacher": taught_by, "with": found, "without": without, "kept": is_better}
    return {"distil": facts, "validation": found if is_better else without}


def _train_body(job: Job, name: str, teacher: Teacher | None) -> dict[str, Any]:
    assert job.body_cut is not None
    features = Features(job)
    body = section(job.logits_model, job.body_cut, job.head_cut)
    # The user's own model may come with frozen layers. Keras thaws a model's own no further than
    # its flag says, and has no public way to list those inside nested models.
    for layer in body._flatten_layers(include_self=False):  # pyright: ignore[reportPrivateUsage]
        layer.trainable = True
    head = section(job.logits_model, job.head_cut, None)
    feed, held = features.body_feed(teacher)
    teaching = None if teacher is None else teacher.teaching
    return trained(job, name, body, head, feed, held, job.recipe.epochs, teaching)


def trained(
    job: Job,
    name: str,
    body: keras.Model | None,
    head: keras.Model,
    feed: Feed,
    held: Callable[[Learner], NDArray[np.float32]],
    epochs: int,
    teaching: Teaching | None = None,
    recipe: Recipe | None = None,
) -> dict[str, Any]:
    """Run a phase of steps and show it.

    Args:
        job: what to work on; the layers of its model are trained.
        name: of the phase.
        body: what is trained besides the head.
        head: from the features to the logits.
        feed: what is learned from.
        held: gives a learner's logits on the validation split.
        epochs: the most it takes.
        teaching: how a teacher's soft labels count, if the feed has them.
        recipe: another one than the job's.

    Returns:
        Scores on the validation split, and the epochs.
    """
    chosen = recipe or job.recipe
    before = [row for row in job.run.history() if row["phase"] != name]
    learner = Learner(body, head, chosen, seed=job.seed, teaching=teaching)
    held_labels = job.labels("validation")

    def on_epoch(rows: list[dict[str, Any]]) -> None:
        job.keep_history([*before, *rows])
        job.progress.say(_epoch_line(rows[-1], epochs))

    with (
        computing_in(chosen.precision, body, head),
        quick_statistics(body if chosen.batch_norm == "train" else None, feed.steps),
        job.progress.bar(f"training the {name}") as advance,
    ):
        done = run_phase(
            Phase(
                name,
                learner,
                feed,
                held,
                held_labels,
                job.class_weights,
                chosen,
                epochs,
                job.run.checkpoints / f"{name}.npz",
                on_epoch,
                lambda epoch, step, steps, loss: advance(epoch * steps + step, epochs * steps),
            )
        )
    logits = held(learner)
    divisor = temperature(logits, held_labels)
    last = job.model.get_layer(LOGITS)
    last.set_weights([np.asarray(w) / divisor for w in last.get_weights()])
    accuracy, loss = scores(logits / divisor, held_labels)
    return {
        "accuracy": accuracy,
        "loss": loss,
        "temperature": divisor,
        "epoch": done.best_epoch + 1,
        "epochs": done.epoch,
    }


def _epoch_line(row: dict[str, Any], epochs: int) -> str:
    return (
        f"{row['phase']} {row['epoch']:>2}/{epochs}  loss {row['loss']:.4f}  "
        f"validation loss {row['val_loss']:.4f}  accuracy {row['val_accuracy']:.4f}"
    )


def _is_random(view: View) -> bool:
    return isinstance(view, int)


def _is_linear(head: keras.Model) -> bool:
    """Whether nothing but the last layer of a head has weights."""
    return [layer.name for layer in head.layers if layer.weights] == [LOGITS]

"""The two phases of a training: the head on frozen features, then part of the backbone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from ..features.cut import section
from .feeds import FeatureFeed, Feed, soft_labels
from .job import Features, Job
from .learner import Learner
from .linear import fit_linear, scores, temperature
from .loop import Phase, run_phase

_LOGITS = "head_logits"


def train_head(job: Job) -> dict[str, Any]:
    """Train the head on frozen features.

    Args:
        job: what to work on.

    Returns:
        Facts for the record.
    """
    features = Features(job)
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
        job.model.get_layer(_LOGITS).set_weights([fit.kernel, fit.bias])
        row = {"phase": "head", "epoch": 1, "val_loss": fit.loss, "val_accuracy": fit.accuracy}
        job.run.save_history([row])
        facts = {"accuracy": fit.accuracy, "loss": fit.loss, "strength": fit.strength}
    else:
        recipe = job.recipe
        feed = FeatureFeed(
            views,
            soft_labels(labels, job.classes, recipe.label_smoothing),
            recipe.batch_size,
            job.seed,
        )
        facts = _trained(
            job, "head", None, head, feed, lambda learner: learner.logits(held), recipe.head_epochs
        )
    job.show.say(f"head: validation accuracy {facts['accuracy']:.4f} on frozen features")
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
    features = Features(job)
    body = section(job.logits_model, job.body_cut, job.head_cut)
    head = section(job.logits_model, job.head_cut, None)
    feed, held = features.body_feed()
    facts = _trained(job, "body", body, head, feed, held, job.recipe.epochs)
    return {"validation": facts}


def _trained(
    job: Job,
    name: str,
    body: keras.Model | None,
    head: keras.Model,
    feed: Feed,
    held: Callable[[Learner], NDArray[np.float32]],
    epochs: int,
) -> dict[str, Any]:
    """Run a phase of steps and show it."""
    before = [row for row in job.run.history() if row["phase"] != name]
    learner = Learner(body, head, job.recipe, seed=job.seed)
    held_labels = job.labels("validation")

    def on_epoch(rows: list[dict[str, Any]]) -> None:
        job.run.save_history([*before, *rows])
        job.show.epoch(rows[-1], epochs)

    with job.show.bar(f"training the {name}") as told:
        done = run_phase(
            Phase(
                name,
                learner,
                feed,
                held,
                held_labels,
                job.class_weights,
                job.recipe,
                epochs,
                job.run.checkpoints / f"{name}.npz",
                on_epoch,
                lambda epoch, step, steps, loss: told(epoch * steps + step, epochs * steps),
            )
        )
    logits = held(learner)
    divisor = temperature(logits, held_labels)
    last = job.model.get_layer(_LOGITS)
    last.set_weights([np.asarray(w) / divisor for w in last.get_weights()])
    accuracy, loss = scores(logits / divisor, held_labels)
    return {
        "accuracy": accuracy,
        "loss": loss,
        "temperature": divisor,
        "epoch": done.best_epoch + 1,
        "epochs": done.epoch,
    }


def _is_linear(head: keras.Model) -> bool:
    """Whether nothing but the last layer of a head has weights."""
    return [layer.name for layer in head.layers if layer.weights] == [_LOGITS]

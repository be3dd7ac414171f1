"""What may be tried once a model is trained, kept only where the validation split agrees."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from ..features.cut import section, unfrozen_from
from ..graph.walk import nodes_in_order, picture_model
from ..progress import Advance
from .feeds import FeatureFeed
from .job import Features, Job
from .phases import phase_of, run_phase, settle
from .recalibration import batch_norms, recalibrate

_BATCH = 64
_MOST_BATCHES = 64
_EPOCHS = 5
_RATE_SHARE = 0.1
_LEAST_GAIN = 1e-3


def try_recalibration(job: Job) -> dict[str, Any]:
    """Measure the statistics of batch norm anew on the training pictures; facts for the record."""
    if not batch_norms(job.model):
        job.progress.say("recalibrate: the network has no batch norm; nothing to do")
        return {"recalibrate": {"kept": False, "reason": "no batch norm"}}
    before = _validation_scores(job)
    weights = job.model.get_weights()
    with job.progress.bar("recalibrating batch norm") as advance:
        recalibrate(job.logits_model, _training_pictures(job, advance))
    return _keep_if_better(job, "recalibrate", before, weights)


def try_fixres(job: Job) -> dict[str, Any]:
    """Tune the last batch norm and the classifier on pictures as they will come.

    Augmentation shows objects at another scale than prediction does; the statistics behind the
    pooling shift with it. Touvron et al., arXiv 1906.06423, section 4.
    """
    before = _validation_scores(job)
    weights = job.model.get_weights()
    gentle = job.request.but(
        mixup=0.0,
        ema=0.0,
        batch_norm="train",
        learning_rate=job.recipe.learning_rate * _RATE_SHARE,
        warmup_epochs=0.0,
    )
    job = replace(job, request=gentle)
    start = _last_batch_norm(job)
    cut = job.head_cut if start is None else unfrozen_from(job.logits_model, start, job.size_hw)
    assert cut is not None
    views, validation = Features(job).rows(cut, ["plain"])
    hard = job.task.targets(job.labels("train"), job.recipe.label_smoothing)
    feed = FeatureFeed(views, [hard], validation, job.batch_size, job.seed)
    body = None if start is None else section(job.logits_model, cut, job.head_cut)
    layers = [] if body is None else body.layers
    was_trainable = [layer.trainable for layer in layers]
    for layer in layers:
        layer.trainable = layer.name == start
    try:
        head = section(job.logits_model, job.head_cut, None)
        phase = phase_of(job, "fixres", body, head, feed, _EPOCHS)
        settle(job, phase, run_phase(phase))
    finally:
        for layer, trainable in zip(layers, was_trainable, strict=True):
            layer.trainable = trainable
    return _keep_if_better(job, "fixres", before, weights)


def _keep_if_better(
    job: Job, name: str, before: dict[str, float], weights: list[NDArray[Any]]
) -> dict[str, Any]:
    """Go back to the weights of before unless the new ones are better, and say which they are."""
    after = _validation_scores(job)
    # A loss that differs by a rounding is none that was won.
    gained = before["loss"] - after["loss"] > _LEAST_GAIN
    score = job.task.score_name
    same = after[score] == before[score]
    is_better = after[score] > before[score] or (same and gained)
    if not math.isfinite(after["loss"]):
        job.model.set_weights(weights)
        job.note(f"{name}: the network's answers were no longer finite; not kept")
        return {name: {"before": before, "kept": False, "reason": "answers that are not finite"}}
    if not is_better:
        job.model.set_weights(weights)
    gain = after[score] - before[score]
    job.progress.say(
        f"{name}: validation {score} {before[score]:.4f} before, {after[score]:.4f} "
        f"after ({100 * gain:+.1f} points), loss {before['loss']:.4f} and {after['loss']:.4f}; "
        f"{'kept' if is_better else 'not kept'}"
    )
    facts: dict[str, Any] = {name: {"before": before, "after": after, "kept": is_better}}
    if is_better:
        facts["validation"] = {**job.run.record["metrics"]["validation"], **after}
    return facts


def _validation_scores(job: Job) -> dict[str, float]:
    parts: list[NDArray[np.float32]] = []
    for pictures, _ in job.batches.iterate("validation", _BATCH):
        logits = job.logits_model(np.asarray(pictures, np.float32), training=False)
        parts.append(np.asarray(keras.ops.convert_to_numpy(logits), np.float32))
    score, loss = job.task.score_and_loss(np.concatenate(parts), job.labels("validation"))
    return {job.task.score_name: score, "loss": loss}


def _training_pictures(job: Job, advance: Advance) -> Iterator[NDArray[np.float32]]:
    """Some batches of training pictures as they are prepared, in a random order."""
    total = min(_MOST_BATCHES, job.batches.steps("train", _BATCH))
    batches = job.batches.iterate("train", _BATCH, shuffle=True, seed=job.seed)
    for number, (pictures, _) in zip(range(total), batches, strict=False):
        yield np.asarray(pictures, np.float32)
        advance(number + 1, total)


def _last_batch_norm(job: Job) -> str | None:
    """The name of the last batch norm before the head, if the network has one at its top level."""
    names = [
        node.operation.name
        for position, node in enumerate(nodes_in_order(picture_model(job.logits_model)))
        if isinstance(node.operation, keras.layers.BatchNormalization)
        and position < job.head_cut.position
    ]
    return names[-1] if names else None

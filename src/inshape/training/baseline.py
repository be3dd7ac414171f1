"""What plain Keras has without a training, so that a run's report says what was gained.

That is the network as its constructor builds it with ``input_shape=``: the same layers with the
same weights, which is strategy ``rebuild``. As in a comparison, a linear model is fitted to its
frozen features; here on the pictures for training, and asked about those for validation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from ..data.batches import Batches
from ..errors import RequestError, ShapeError
from ..features.cut import features_of
from ..features.linear import probe, sample_of
from ..features.places import at_places, draw_places, rows_of
from ..heads import Head
from ..limits import MemoryLimit
from ..planning import Network, Plan, decide_plan
from ..progress import Advance, Progress
from ..runs import Run
from ..runtime.runners import check_answers
from ..shapes import InputShape
from ..strategies.decide import StrategyOptions
from ..tasks.bootstrap import mean_score
from ..tasks.task import Labels
from ..text import format_shape, plural, reason_of
from ..writing import read_json, write_json
from .devices import choose_jit

BASELINE = "baseline.json"
"""In a run's folder."""
_MOST = 300
"""Pictures of a split: on thousands of them, a training takes a few percent longer."""
_BATCH = 32
_DIGITS = 4


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """A training that is about to begin."""

    plan: Plan
    network: Network
    """At its native shape, with its weights."""
    is_pretrained: bool
    """Whether they come from somewhere."""
    model: keras.Model
    """What the plan made of it."""
    batches: Batches
    seed: int


def measure_baseline(training: Trained, progress: Progress) -> dict[str, Any]:
    """Probe plain Keras's rebuild; what is to be written into the run's folder.

    Whatever goes wrong is what the record says: a training does not need it.
    """
    try:
        with progress.bar("baseline: plain Keras") as advance:
            record = _measure(training, advance)
    except Exception as error:
        reason = reason_of(error)
        progress.say(f"no baseline: {reason}")
        return {"problem": reason}
    progress.say(
        f"baseline: {record['score_name']} {record['score']['value']:.4f} by plain Keras, frozen, "
        f"on {plural(record['pictures'], 'picture')}"
    )
    return record


def compare_with_baseline(run: Run, batches: Batches, answers: NDArray[Any], seed: int) -> None:
    """Write down what the trained model has gained on the pictures that the probe was asked about.

    ``answers`` are those to the split for validation.
    """
    path = run.folder / BASELINE
    try:
        record = read_json(path)
        before = np.asarray(record["scores"])
    except (OSError, ValueError, KeyError):  # not asked for, or it could not be measured
        return
    validation = batches.take(batches.catalogue.indices("validation"))
    chosen = sample_of(validation.catalogue.strata, _MOST, seed)
    labels, after = validation.labels_at(chosen), answers[chosen]
    task = validation.catalogue.task
    if task.lies_as:
        places = draw_places(len(record["scores"]), seed)
        labels, after = task.at_places(labels, places), at_places(after, places)
    after = task.row_scores(after, labels)
    # The same seed draws the same pictures for both: the gain is a paired one.
    gained = {"trained": mean_score(after).as_dict(), "gain": mean_score(after - before).as_dict()}
    write_json(path, {**record, **gained})


def _measure(training: Trained, advance: Advance) -> dict[str, Any]:
    network = _rebuilt(training)
    native = training.network.spec.input_shape.channels
    splits = [training.batches.catalogue.indices(name) for name in ("train", "validation")]
    strata = training.batches.catalogue.strata
    chosen = [rows[sample_of(strata[rows], _MOST, training.seed)] for rows in splits]
    sample = training.batches.take(np.concatenate(chosen))
    task, count = sample.catalogue.task, len(chosen[0])
    places = draw_places(len(chosen[1]), training.seed) if task.lies_as else None
    parts: list[NDArray[np.float32]] = []
    answered: list[Labels] = []
    for pictures, labels in sample.iterate(None, _BATCH):
        pixels = np.asarray(pictures, np.float32)
        if pixels.shape[-1] != native:
            pixels = np.repeat(pixels, native, axis=-1)
        # A last batch of another size would be traced anew, which takes as long as all the others.
        filled = np.resize(pixels, (_BATCH, *pixels.shape[1:]))
        rows = np.asarray(network.predict_on_batch(filled), np.float32)[: len(pixels)]
        parts.append(rows_of(check_answers(rows), places))
        answered.append(labels if places is None else task.at_places(labels, places))
        advance(sum(map(len, parts)), len(sample))
    features, labels = np.concatenate(parts), np.concatenate(answered)
    answers = probe(task, features[:count], labels[:count], features[count:])
    scores = task.row_scores(answers, labels[count:])
    return {
        "score_name": task.probe_name,
        "score": mean_score(scores).as_dict(),
        "trained_on": count,
        "pictures": len(scores),
        "repeats": native // sample.preparation.shape.channels,
        "scores": scores.round(_DIGITS).tolist(),
    }


def _rebuilt(training: Trained) -> keras.Model:
    """The features of the network as plain Keras builds it at the new shape.

    Raises:
        RequestError: if it does not, or if there is nothing to keep.
    """
    if not training.is_pretrained:
        raise RequestError("random weights know nothing that could be kept at another shape")
    task = training.batches.catalogue.task
    if task.probed() is not task:
        raise RequestError(f"the answers of a linear model are no {task.lies_as} to compare with")
    plan, network, shape = training.plan, training.network, training.batches.preparation.shape
    height, width, channels = shape.as_static_tuple()
    native = network.spec.input_shape.channels
    # People repeat a grey picture; for other bands there is no usual way.
    if channels != native and (channels, native) != (1, 3):
        raise ShapeError(
            f"plain Keras takes pictures of {plural(native, 'channel')} here, as {network.name} "
            f"was trained with, and these have {channels}"
        )
    least = network.backbone.least_hw if network.backbone else (1, 1)
    if height < least[0] or width < least[1]:
        raise ShapeError(
            f"keras.applications builds {network.name} from {format_shape(least)} pixels on, and "
            f"not at {format_shape((height, width))}"
        )
    at = InputShape(height, width, native)
    model = training.model
    if plan.strategy != "rebuild" or channels != native:
        request = plan.request.but(
            input_shape=at,
            head=task.head(Head()),
            options=StrategyOptions(strategy="rebuild"),
            limits=MemoryLimit(),
        )
        model = decide_plan(request, network).carried_out_on(network).model
    features = features_of(model, at)
    features.compile(jit_compile=choose_jit())
    return features

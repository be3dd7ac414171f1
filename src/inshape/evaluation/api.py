"""`evaluate`: a run on labelled pictures."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from ..data.batches import Batches
from ..data.catalogue import Catalogue
from ..data.prepare import Preparation
from ..data.sources import open_source, source_text
from ..data.split import held_out
from ..errors import DataError, RequestError
from ..reporting.api import leave_report
from ..requests import takes
from ..runs import Run
from ..writing import write_json
from .leakage import seen_in_training, split_as_trained
from .metrics import Score, score
from .probabilities import probabilities
from .request import EvaluateRequest
from .result import Evaluation, Mistake

_MISTAKES = 10
_METRICS = "metrics.json"
_HELD_OUT = "held_out.json"


@takes(EvaluateRequest)
def evaluate(request: EvaluateRequest) -> Evaluation:
    """Measure a run on labelled pictures.

    Pictures that the run was trained on make scores too high. Its own source is therefore split
    again as it was then, and only what was held out is measured, with a warning that says so.

    Args:
        {options}

    Returns:
        The evaluation: print it, or take ``as_dict()``.

    Raises:
        RequestError: if there is no finished run, or it cannot take a size.
        DataError: if there is nothing to measure on.
    """
    run = Run.open(request.run)
    labels = run.labels
    listed = open_source(request.source, class_names=labels)
    again = split_as_trained(run, listed)
    catalogue, part = _chosen(listed if again is None else again, request.split)
    seen = seen_in_training(run, catalogue, again)
    model, preparation = run.load_model(), run.preparation
    batches = Batches.open(catalogue, preparation)
    held_out_again = request.split is None and part != "all" and not len(listed.indices(part))
    lines: list[str] = []
    if held_out_again:
        lines.append(
            f"{source_text(request.source)} holds the pictures that {run.folder} was trained on: "
            f"measured on the {len(catalogue)} of {len(listed)} that were held out; split 'all' "
            "takes every one"
        )
    if seen:
        lines.append(
            f"{seen} of {len(catalogue)} pictures were trained on, which makes the scores too "
            "high; expected pictures that the network has not seen"
        )
    for line in (*lines, *batches.catalogue.warnings):
        warnings.warn(line, UserWarning, stacklevel=2)
    resampling: dict[str, Any] = {"resamples": request.resamples, "seed": request.seed}
    rows = probabilities(model, batches)
    by_size: dict[str, Score] = {}
    for size in request.sizes:
        at_size = _at(preparation, model, size)
        other = Batches.open(catalogue, at_size)
        guesses = probabilities(model, other)
        found = score(guesses, other.catalogue.labels, labels, **resampling)
        by_size[str(at_size.shape.size)] = found.accuracy
    evaluation = Evaluation(
        run=str(run.folder),
        source=source_text(request.source),
        split=part,
        seen_in_training=seen,
        shape=str(preparation.shape),
        scores=score(rows, batches.catalogue.labels, labels, **resampling),
        mistakes=_mistakes(rows, batches.catalogue, labels),
        skipped=tuple((s.name, s.reason) for s in batches.skipped),
        by_size=by_size,
    )
    if request.save:
        write_json(run.folder / _METRICS, evaluation.as_dict())
        leave_report(run.folder, batches.catalogue)
    return evaluation


def keep_validation(run: Run, model: keras.Model, batches: Batches) -> Evaluation | None:
    """Measure a model on the split that chose its best epoch, and write ``held_out.json``.

    The split was looked at during the training, so that its scores are a little too good.

    Args:
        run: the run folder.
        model: the run's model.
        batches: its pictures.

    Returns:
        The evaluation; ``None`` without a picture in that split.

    Raises:
        RunError: if it cannot be written.
    """
    chosen = batches.catalogue.indices("validation")
    if not len(chosen):
        return None
    held = replace(batches, catalogue=batches.catalogue.take(chosen), slots=batches.slots[chosen])
    found = probabilities(model, held)
    labels = held.catalogue.class_names
    made = Evaluation(
        run=str(run.folder),
        source=str(run.record["request"]["source"] or "the data"),
        split="validation",
        shape=str(run.preparation.shape),
        scores=score(found, held.catalogue.labels, labels),
        mistakes=_mistakes(found, held.catalogue, labels),
    )
    write_json(run.folder / _HELD_OUT, made.as_dict())
    return made


def _chosen(catalogue: Catalogue, split: str | None) -> tuple[Catalogue, str]:
    """The pictures of the split that is asked for, or of the one furthest from training."""
    split = split or held_out(catalogue)
    chosen = catalogue.indices(None if split == "all" else split)
    if not len(chosen):
        held = sorted({str(s) for s in catalogue.splits if s})
        raise DataError(
            f"no pictures in split {split!r}; expected one of: {', '.join([*held, 'all'])}; "
            "leave split out for the one furthest from training"
        )
    kept = catalogue.take(chosen[catalogue.labels[chosen] >= 0])
    if not len(kept):
        raise DataError(
            "no labelled pictures to evaluate on; expected a folder per class or a label column; "
            "use predict for pictures without classes"
        )
    return kept, split


def _at(preparation: Preparation, model: keras.Model, size: int | tuple[int, int]) -> Preparation:
    size_hw = (size, size) if isinstance(size, int) else size
    takes_hw = model.input_shape[1:3]
    if any(own not in (None, wanted) for own, wanted in zip(takes_hw, size_hw, strict=True)):
        shown = "x".join("?" if n is None else str(n) for n in takes_hw)
        raise RequestError(
            f"size {size_hw[0]}x{size_hw[1]}; the model takes {shown} only; train with an input of "
            f"?x?x{preparation.shape.channels} for a model of any size"
        )
    return preparation.at(size_hw)


def _mistakes(
    found: NDArray[np.float32], catalogue: Catalogue, labels: Sequence[str]
) -> tuple[Mistake, ...]:
    guessed = found.argmax(axis=1)
    confidence = np.where(guessed == catalogue.labels, -1.0, found.max(axis=1))
    worst = np.argsort(-confidence, kind="stable")[:_MISTAKES]
    return tuple(
        Mistake(
            catalogue.names[i],
            labels[int(catalogue.labels[i])],
            labels[int(guessed[i])],
            float(confidence[i]),
        )
        for i in worst
        if confidence[i] >= 0
    )

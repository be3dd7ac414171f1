"""`evaluate`: a run or an exported file on labelled pictures."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..data.batches import Batches
from ..data.boxes import boxes_in_text
from ..data.catalogue import Catalogue
from ..data.masks import in_text
from ..data.prepare import Preparation
from ..data.sources import open_source, source_text
from ..data.split import held_out
from ..errors import DataError, RequestError, check_choice
from ..reporting.api import leave_report
from ..requests import takes
from ..runs import Run
from ..runtime.cluster import joined
from ..tasks.task import Mistake, Scores
from ..text import format_shape
from ..writing import write_json
from .classifier import Classifier, open_classifier
from .leakage import count_trained_on, split_as_trained
from .request import EvaluateRequest
from .result import Evaluation

if TYPE_CHECKING:
    import keras

_MISTAKES = 10
_METRICS = "metrics.json"
_HELD_OUT = "held_out.json"


@takes(EvaluateRequest)
def evaluate(request: EvaluateRequest) -> Evaluation:
    """Measure a run or an exported file on labelled pictures.

    Pictures that the run was trained on make scores too high. Its own source is therefore split
    again as it was then, and only what was held out is measured, with a warning that says so.

    Args:
        {options}

    Returns:
        The evaluation: print it, or take ``as_dict()``.

    Raises:
        RequestError: if there is no finished run, a file does not say what its classes are, or a
            size cannot be taken.
        UnknownName: if a class of ``on`` is none of the model's.
        DataError: if there is nothing to measure on.
    """
    classifier = open_classifier(request.run)
    run, preparation = classifier.run, classifier.preparation
    chosen = _choose_pictures(classifier, request)
    at_sizes = [_at(classifier, size_hw) for size_hw in request.sizes]

    def measure(at: Preparation) -> tuple[Batches, NDArray[np.float32], Scores]:
        pictures, rows = classifier.answers(chosen.catalogue, at, cluster=cluster)
        resampling = {"resamples": request.resamples, "seed": request.seed}
        scores = classifier.task.score(rows, pictures.labels(), **resampling)
        return pictures, rows, scores

    with joined(request.ray) as cluster:
        batches, rows, scores = measure(preparation)
        by_size = {str(at.shape.size): measure(at)[2].main for at in at_sizes}
    for message in (*chosen.warnings, *batches.catalogue.warnings):
        warnings.warn(message, UserWarning, stacklevel=3)
    evaluation = Evaluation(
        task=classifier.task.name,
        run=classifier.name,
        source=source_text(request.source),
        split=chosen.split,
        seen_in_training=chosen.trained_on,
        shape=str(preparation.shape),
        scores=scores,
        mistakes=_worst_mistakes(rows, batches),
        skipped=tuple((s.name, s.reason) for s in batches.skipped),
        by_size=by_size,
    )
    if request.save and run is not None and classifier.load_model is not None:
        write_json(run.folder / _METRICS, evaluation.as_dict())
        leave_report(run.folder, batches.catalogue)
    return evaluation


def keep_validation(run: Run, model: keras.Model, batches: Batches) -> NDArray[np.float32] | None:
    """A model's answers to the split that chose its best epoch; their scores in ``held_out.json``.

    The split was looked at during the training, so that its scores are a little too good. ``None``
    without a picture in that split.
    """
    from .answers import predict_answers  # loads Keras

    positions = batches.catalogue.indices("validation")
    if not len(positions):
        return None
    validation = batches.take(positions)
    task = validation.catalogue.task
    rows = predict_answers(model, task, validation)
    evaluation = Evaluation(
        task=task.name,
        run=str(run.folder),
        source=str(run.record["request"]["source"] or "the data"),
        split="validation",
        shape=str(run.preparation.shape),
        scores=task.score(rows, validation.labels()),
        mistakes=_worst_mistakes(rows, validation),
    )
    write_json(run.folder / _HELD_OUT, evaluation.as_dict())
    return rows


@dataclass(frozen=True, slots=True)
class _Choice:
    """The pictures that a run is measured on."""

    catalogue: Catalogue
    split: str
    trained_on: int
    warnings: tuple[str, ...]


def _choose_pictures(classifier: Classifier, request: EvaluateRequest) -> _Choice:
    """The labelled pictures of the split that is asked for, or of the one furthest from training.

    A source that the run was trained on is first divided as it was then.
    """
    task, run = classifier.task, classifier.run
    for name in request.on:
        check_choice("class", name, task.names)
    listed = open_source(request.source, task=task)
    again = None if run is None else split_as_trained(run, listed)
    divided = listed if again is None else again
    part = request.split or held_out(divided)
    catalogue = _take_labelled(divided, part, request.on)
    messages: list[str] = []
    # A split that the source itself does not have is the one that the training made of it.
    is_made = part != "all" and not len(listed.indices(part))
    if run is not None and request.split is None and is_made:
        messages.append(
            f"{source_text(request.source)} holds the pictures that {run.folder} was trained on: "
            f"measured on the {len(catalogue)} of {len(listed)} that were held out; split 'all' "
            "takes every one"
        )
    trained_on = count_trained_on(run, catalogue, again)
    if trained_on:
        messages.append(
            f"{trained_on} of {len(catalogue)} pictures were trained on, which makes the scores "
            "too high; expected pictures that the network has not seen"
        )
    return _Choice(catalogue, part, trained_on, tuple(messages))


def _take_labelled(catalogue: Catalogue, part: str, on: Sequence[str]) -> Catalogue:
    positions = catalogue.indices(None if part == "all" else part)
    if not len(positions):
        splits = sorted({str(s) for s in catalogue.splits if s})
        raise DataError(
            f"no pictures in split {part!r}; expected one of: {', '.join([*splits, 'all'])}; "
            "leave split out for the one furthest from training"
        )
    labelled = catalogue.take(positions[catalogue.is_labelled[positions]])
    if not len(labelled):
        raise DataError(
            "no labelled pictures to evaluate on; expected a folder per class or a label column; "
            "use predict for pictures without classes"
        )
    if not on:
        return labelled
    wanted = [labelled.task.has(labelled.labels, name) for name in on]
    chosen = labelled.take(np.flatnonzero(np.any(wanted, axis=0)))
    if not len(chosen):
        raise DataError(
            f"no pictures of {', '.join(map(repr, on))} in split {part!r}; expected some to "
            "evaluate on; name another split, or leave on out"
        )
    return chosen


def _at(classifier: Classifier, size_hw: tuple[int, int]) -> Preparation:
    model_hw = classifier.input_shape.hw
    if any(n not in (None, wanted) for n, wanted in zip(model_hw, size_hw, strict=True)):
        raise RequestError(
            f"size {format_shape(size_hw)}; the model takes {format_shape(model_hw)} only; train "
            f"with an input of ?x?x{classifier.preparation.shape.channels} for a model of any size"
        )
    return classifier.preparation.at(size_hw)


def _worst_mistakes(rows: NDArray[np.float32], batches: Batches) -> tuple[Mistake, ...]:
    catalogue, preparation = batches.catalogue, batches.preparation
    task, names, labels = catalogue.task, catalogue.names, batches.labels()
    size_hw = preparation.shape.as_static_tuple()[:2]

    def drawn(mistake: Mistake) -> Mistake:
        number = names.index(mistake.picture)
        mask = task.mask(rows[number], size_hw)
        if mask is not None:
            return replace(mistake, drawn=(in_text(labels[number]), in_text(mask)))
        there, found = task.boxes(labels[number]), task.boxes(rows[number])
        if there is None or found is None:
            return mistake
        pixels = catalogue.load_compact(number, preparation)
        right, guess = (boxes_in_text(pixels, boxes, task.names) for boxes in (there, found))
        return replace(mistake, drawn=(right, guess))

    return tuple(map(drawn, task.mistakes(rows, labels, names, _MISTAKES)))

"""`evaluate`: a run on labelled pictures."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray

from ..data.batches import Batches
from ..data.catalogue import Catalogue
from ..data.prepare import Preparation
from ..data.sources import Source, open_source
from ..data.split import held_out
from ..errors import DataError, RequestError
from ..report import leave_report
from ..runs import PLOTS, Run
from ..writing import write_json
from .evaluation import Evaluation, Mistake
from .metrics import Score, score
from .plots import draw
from .probabilities import probabilities
from .seen import seen_in_training, split_as_trained

_MISTAKES = 10
_METRICS = "metrics.json"
_HELD_OUT = "held_out.json"


def evaluate(
    run: str | Path | Run,
    source: Source,
    *,
    split: str | None = None,
    sizes: Sequence[int | tuple[int, int]] = (),
    resamples: int = 1000,
    seed: int = 0,
    save: bool = True,
) -> Evaluation:
    """Measure a run on labelled pictures.

    Pictures that the run was trained on make scores too high. Its own source is therefore split
    again as it was then, and only what was held out is measured, with a warning that says so.

    Args:
        run: a run folder.
        source: as in `inshape.train`; its classes must be among the run's.
        split: which of the source's splits, or ``"all"``. By default ``test`` if it has one, else
            ``validation``, else everything.
        sizes: further heights and widths in pixels to measure at; the model must take any size.
        resamples: of the bootstrap.
        seed: of the bootstrap.
        save: whether to write ``metrics.json`` and figures into the run folder, and its report
            anew.

    Returns:
        The evaluation: print it, or take ``as_dict()``.

    Raises:
        RequestError: if there is no finished run, or it cannot take a size.
        DataError: if there is nothing to measure on.
    """
    opened = Run.open(run)
    labels = opened.labels
    shown = str(source) if isinstance(source, str | Path) else "the data"
    given = open_source(source, class_names=labels)
    again = split_as_trained(opened, given)
    catalogue, part = _chosen(given if again is None else again, split)
    seen = seen_in_training(opened, catalogue, again)
    model = opened.load_model()
    preparation = opened.preparation
    batches = Batches.open(catalogue, preparation)
    told: list[str] = []
    if split is None and part != "all" and not len(given.indices(part)):
        told.append(
            f"{shown} holds the pictures that {opened.folder} was trained on: measured on the "
            f"{len(catalogue)} of {len(given)} that were held out; split 'all' takes every one"
        )
    if seen:
        told.append(
            f"{seen} of {len(catalogue)} pictures were trained on, which makes the scores too "
            "high; expected pictures that the network has not seen"
        )
    for line in (*told, *batches.catalogue.warnings):
        warnings.warn(line, UserWarning, stacklevel=2)
    found = probabilities(model, batches)
    scores = score(found, batches.catalogue.labels, labels, resamples=resamples, seed=seed)
    by_size: dict[str, Score] = {}
    for size in sizes:
        at_size = _at(preparation, model, size)
        other = Batches.open(catalogue, at_size)
        rows = score(
            probabilities(model, other),
            other.catalogue.labels,
            labels,
            resamples=resamples,
            seed=seed,
        )
        by_size[str(at_size.shape.size)] = rows.accuracy
    made = Evaluation(
        run=str(opened.folder),
        source=shown,
        split=part,
        seen_in_training=seen,
        shape=str(preparation.shape),
        scores=scores,
        mistakes=_mistakes(found, batches.catalogue, labels),
        skipped=tuple((s.name, s.reason) for s in batches.skipped),
        by_size=by_size,
    )
    if save:
        write_json(opened.folder / _METRICS, made.as_dict())
        draw(made, opened.folder / PLOTS)
        leave_report(opened.folder, batches.catalogue)
    return made


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

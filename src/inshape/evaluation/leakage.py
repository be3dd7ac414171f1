"""Which pictures a run was trained on: read again, split by its seed, known by their contents."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.catalogue import Catalogue
from ..data.sources import open_source
from ..data.split import split
from ..errors import DataError
from ..progress import Progress
from ..runs import Run

MOST_READ_AGAIN = 20_000
"""The most training pictures that are read again to look for them among others; seconds."""


def split_as_trained(run: Run, catalogue: Catalogue) -> Catalogue | None:
    """Split pictures as the run did; ``None`` where they are not those that it was trained on."""
    with run.reading():
        expected = run.record.get("data", {}).get("fingerprint")
        if expected is None:
            return None
        request = run.record["request"]
        validation, seed = float(request["recipe"]["validation"]), int(request["seed"])
        fold = str(request["recipe"].get("fold", ""))
    try:
        again = split(catalogue, validation=validation, seed=seed, fold=fold)
    except DataError:
        return None  # too few to split, and so not those that were
    # The fingerprint is of what was used: pictures for testing may have been added since.
    used = again.take(np.flatnonzero(np.isin(again.splits, ("train", "validation"))))
    return again if used.fingerprint == expected else None


def read_training_pictures(run: Run, progress: Progress | None = None) -> Catalogue | str:
    """The pictures of a run, split as they were then, or in words what has become of them."""
    with run.reading():
        source = run.record.get("request", {}).get("source")
        is_there = source is not None and os.path.exists(Path(source))
    if not is_there:
        return "are not where they were"
    try:
        with (progress or Progress()).bar("reading the list of pictures") as advance:
            listed = open_source(source, task=run.task, progress=advance)
    except DataError as error:
        return f"cannot be used any more ({error})"
    trained = split_as_trained(run, listed)
    if trained is None:
        expected = str(run.record.get("data", {}).get("fingerprint"))
        return (
            f"in {source} are not those that it was trained on (their fingerprint is not "
            f"{expected[:12]} any more)"
        )
    return trained


def count_trained_on(run: Run | None, catalogue: Catalogue, trained: Catalogue | None) -> int:
    """How many of the pictures the run learned from, whatever they are called now.

    With labels or, by a teacher's answers, without. ``trained`` are the run's own, where they are
    at hand. Those are not counted of which there are more than can be read in seconds, or which are
    no longer where they were.
    """
    if run is None:
        return 0
    if trained is None:
        with run.reading():
            facts: Mapping[str, Any] = run.record.get("data", {})
            pictures = sum(facts.get("pictures", {}).values())
        read_again = None if pictures > MOST_READ_AGAIN else read_training_pictures(run)
        trained = read_again if isinstance(read_again, Catalogue) else None
    is_seen = np.zeros(len(catalogue), np.bool_)
    if trained is not None:
        is_seen |= is_among(catalogue, trained.take(trained.indices("train")))
    unlabelled = _read_unlabelled(run)
    if unlabelled is not None:
        is_unlabelled = is_among(catalogue, unlabelled)
        if trained is not None:  # what validates is left out of them
            is_unlabelled &= ~is_among(catalogue, trained.take(trained.indices("validation")))
        is_seen |= is_unlabelled
    return int(is_seen.sum())


def _read_unlabelled(run: Run) -> Catalogue | None:
    """The pictures without labels that a run learned from, if they are still there."""
    with run.reading():
        pictures = int(run.record.get("unlabelled", {}).get("pictures", 0))
        source = run.record.get("request", {}).get("unlabelled")
    if not 0 < pictures <= MOST_READ_AGAIN or source is None:
        return None
    try:
        return open_source(source, task=run.task, labels="none")
    except DataError:
        return None


def is_among(catalogue: Catalogue, others: Catalogue) -> NDArray[np.bool_]:
    """Of each picture, whether one of the others has the same contents."""
    # As one value of 16 bytes each: NumPy compares no rows.
    return np.isin(catalogue.contents.view("V16"), others.contents.view("V16"))

"""Which pictures a run was trained on, found again by its seed and by their contents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..data.catalogue import Catalogue
from ..data.sources import open_source
from ..data.split import split
from ..errors import DataError
from ..runs import Run

MOST_READ_AGAIN = 20_000
"""The most training pictures that are read again to look for them among others; seconds."""


def split_as_trained(run: Run, catalogue: Catalogue) -> Catalogue | None:
    """Split pictures as the run did, if they are those that it was trained on.

    Args:
        run: the run, whose record holds the seed, the validation share and the fingerprint.
        catalogue: the pictures, as their source divides them.

    Returns:
        The same pictures, those for training and validation told apart; ``None`` for others.
    """
    expected = run.record.get("data", {}).get("fingerprint")
    if expected is None:
        return None
    share = run.record["request"]["recipe"]["validation"]
    try:
        made = split(catalogue, validation=share, seed=int(run.record["request"]["seed"]))
    except DataError:
        return None  # too few to split, and so not those that were
    used = made.take(np.flatnonzero(np.isin(made.splits, ("train", "validation"))))
    return made if used.fingerprint == expected else None


def seen_in_training(run: Run, catalogue: Catalogue, again: Catalogue | None) -> int:
    """How many pictures the run was trained on, by content.

    Args:
        run: the run.
        catalogue: the pictures.
        again: what `split_as_trained` says of the source they come from.

    Returns:
        Their number; 0 also where the training pictures are more than can be read again in
        seconds, or no longer where they were.
    """
    trained = again or _training_pictures(run)
    if trained is None:
        return 0
    learnt = trained.contents[trained.indices("train")]
    return int(np.isin(catalogue.contents.view("V16"), learnt.view("V16")).sum())


def _training_pictures(run: Run) -> Catalogue | None:
    facts: dict[str, Any] = run.record.get("data", {})
    count = sum(sum(facts.get(name, {}).values()) for name in ("train", "validation"))
    source = run.record.get("request", {}).get("source")
    if source is None or count > MOST_READ_AGAIN or not Path(source).exists():
        return None
    try:
        return split_as_trained(run, open_source(source, class_names=run.labels))
    except DataError:
        return None

"""Which pictures an export compares its files on, and which it calibrates int8 ranges on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.batches import Batches
from ..data.catalogue import Catalogue
from ..data.sources import Source, open_source
from ..errors import DataError
from ..runs import Run
from ..train.course import catalogue_of
from ..train.recipe import Recipe
from ..train.show import Show


def pictures_of(
    run: Run,
    data: Source,
    most: int,
    calibration: int,
    *,
    calibrate_on: Source = None,
    output: Show | None = None,
) -> tuple[tuple[NDArray[np.float32], NDArray[np.int32]], list[NDArray[np.float32]]]:
    """The pictures to compare on, and those to calibrate on; none is ever both.

    Args:
        run: a complete run.
        data: to compare on; ``None`` for those that the training held out.
        most: to compare on, the same share of every class.
        calibration: how many to calibrate on, the same share of every class; 0 for none.
        calibrate_on: where they come from; ``None`` for the pictures that the run was trained on.
        output: tells how far the work is.

    Returns:
        Prepared pictures with their classes, and prepared pictures.

    Raises:
        DataError: if there are none.
    """
    told = output or Show(None)
    own = _own_pictures(run, told)
    if data is not None:
        compared = _opened(data, run)
    elif own is not None:
        compared = own.take(own.indices("validation"))
    else:
        raise DataError(
            f"the pictures of {run.folder} are not where they were; expected some to compare on; "
            "name a folder with --data"
        )
    source: Catalogue | None = None
    if calibration and calibrate_on is not None:
        source = _opened(calibrate_on, run)
    elif calibration and own is not None:
        source = own.take(own.indices("train"))
    elif calibration:
        raise DataError(
            f"no calibration pictures: those that {run.folder} was trained on are not where they "
            "were; expected some to choose int8 ranges on, other than those to compare on; name a "
            "folder with --calibrate-on"
        )
    held = _prepared(run, compared, most, told)
    return held, [] if source is None else list(_prepared(run, source, calibration, told)[0])


def _own_pictures(run: Run, output: Show) -> Catalogue | None:
    """The pictures that the run was trained on, if they are still where they were."""
    request = run.record["request"]
    source = request["source"]
    if source is None or not Path(source).exists():
        return None
    return catalogue_of(source, Recipe(**request["recipe"]), int(run.record["seed"]), output)


def _opened(data: Source, run: Run) -> Catalogue:
    found = open_source(data, class_names=run.labels, labels="optional")
    if not len(found):
        raise DataError(f"no pictures in {data}; expected some to compare or calibrate on")
    return found


def _prepared(
    run: Run, catalogue: Catalogue, most: int, output: Show
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """At most so many pictures, the same share of every class, as the model takes them."""
    chosen = catalogue.take(stratified(catalogue.labels, most))
    with output.bar("preparing pictures") as told:
        batches = Batches.open(chosen, run.preparation, cache="none", progress=told)
    rows = [(np.asarray(p, np.float32), y) for p, y in batches.iterate(None, 64)]
    return np.concatenate([p for p, _ in rows]), np.concatenate([y for _, y in rows])


def stratified(labels: NDArray[np.integer[Any]], most: int) -> list[int]:
    """Positions of at most so many pictures, spread evenly over each class.

    Args:
        labels: the class of each picture.
        most: how many are wanted, at least 1.

    Returns:
        Positions in rising order; of every class the same share, to within one picture.

    Example:
        >>> labels = np.array([0] * 80 + [1] * 20)
        >>> np.bincount(labels[stratified(labels, 10)]).tolist()
        [8, 2]
    """
    if len(labels) <= most:
        return list(range(len(labels)))
    order = np.argsort(labels, kind="stable")
    places = np.linspace(0, len(order) - 1, most).round().astype(int)
    return sorted(order[np.unique(places)].tolist())

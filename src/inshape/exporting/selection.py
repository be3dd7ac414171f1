"""Which pictures an export compares its files on, and which it calibrates int8 ranges on."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from ..data.batches import Batches
from ..data.catalogue import Catalogue, in_order
from ..data.sources import Source, open_source
from ..data.split import held_out
from ..errors import DataError
from ..progress import Progress
from ..requests import restore
from ..runs import Run
from ..training.pipeline import catalogue_of
from ..training.recipe import Recipe

_BLOCK = 64


class OneByOne(Sequence[NDArray[np.float32]]):
    """Prepared pictures as float32 ``(1, height, width, channels)``, made when they are asked for.

    All of them at once would be four times what is kept of them.
    """

    def __init__(self, batches: Batches) -> None:
        self._batches = batches

    def __len__(self) -> int:
        return len(self._batches)

    @overload
    def __getitem__(self, index: int) -> NDArray[np.float32]: ...
    @overload
    def __getitem__(self, index: slice) -> OneByOne: ...
    def __getitem__(self, index: int | slice) -> NDArray[np.float32] | OneByOne:
        whole = self._batches
        if isinstance(index, slice):
            chosen = whole.catalogue.take(whole.catalogue.indices()[index])
            return OneByOne(replace(whole, catalogue=chosen, slots=whole.slots[index]))
        (row,) = whole.store.batches([np.asarray([whole.slots[index]])])
        return np.asarray(row, np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """What an export is judged and calibrated on; no picture is ever both.

    Attributes:
        source: where those to compare on come from.
        compared: to compare on.
        sample: to calibrate on; empty if nothing is calibrated.
    """

    source: str
    compared: Batches
    sample: Sequence[NDArray[np.float32]]

    @property
    def labels(self) -> NDArray[np.int32]:
        """The class of each picture that is compared on; -1 where unknown."""
        return self.compared.catalogue.labels

    @property
    def shape(self) -> tuple[int, ...]:
        """Height, width and channels of a prepared picture."""
        return tuple(n for n in self.compared.preparation.shape.as_tuple() if n is not None)

    def blocks(self, multiple_of: int = 1) -> Iterator[NDArray[np.float32]]:
        """The pictures to compare on, some at a time, so that memory stays bounded.

        Args:
            multiple_of: how many a call takes; all blocks but the last are filled by whole calls.
        """
        size = multiple_of * max(1, _BLOCK // multiple_of)
        for rows, _ in self.compared.iterate(None, size):
            yield np.asarray(rows, np.float32)


def select_pictures(
    run: Run,
    data: Source,
    most: int,
    calibration: int,
    *,
    calibrate_on: Source = None,
    progress: Progress | None = None,
) -> Selection:
    """The pictures to compare on, and those to calibrate on; the same content is never in both.

    Args:
        run: a complete run.
        data: to compare on, of which its test split is taken if it has one, else the one for
            validation, else everything; ``None`` for those that the training held out.
        most: to compare on, the same share of every class.
        calibration: how many to calibrate on, the same share of every class; 0 for none.
        calibrate_on: where they come from; ``None`` for the pictures that the run was trained on.
        progress: tells how far the work is.

    Returns:
        Both, prepared as the run does.

    Raises:
        DataError: if there are none, or the run's own are wanted and are not what they were.
    """
    progress = progress or Progress()
    own = _own_pictures(run, progress)
    if data is not None:
        opened = _opened(data, run)
        split = held_out(opened)
        part = opened.take(opened.indices(None if split == "all" else split))
        chosen = _labelled(part, data, run)
    else:
        chosen = _own_split(own, "validation", run, "some to compare on; name a folder with --data")
    compared = _prepared(run, chosen, most, progress)
    judged = compared.catalogue
    if not isinstance(own, str):
        _warn_of_trained(judged, own)
    sample: Sequence[NDArray[np.float32]] = ()
    if calibration:
        source = (
            _opened(calibrate_on, run)
            if calibrate_on is not None
            else _own_split(
                own,
                "train",
                run,
                "some to choose int8 ranges on, other than those to compare on; name a folder "
                "with --calibrate-on",
            )
        )
        sample = OneByOne(_prepared(run, _others(source, judged), calibration, progress))
    shown = run.record["request"]["source"] if data is None else data
    return Selection(str(shown) if isinstance(shown, str | Path) else "the data", compared, sample)


def _own_pictures(run: Run, progress: Progress) -> Catalogue | str:
    """The pictures that the run was trained on, or what has become of them."""
    request = run.record["request"]
    source = request["source"]
    if source is None or not Path(source).exists():
        return "are not where they were"
    recipe = restore(Recipe, request["recipe"])
    try:
        found = catalogue_of(source, recipe, int(request["seed"]), progress)
    except DataError as error:
        return f"cannot be read any more ({error})"
    expected = run.record["data"]["fingerprint"]
    if found.fingerprint != expected or found.class_names != run.labels:
        return (
            f"in {source} are not those that it was trained on (fingerprint "
            f"{found.fingerprint[:12]}, expected {expected[:12]})"
        )
    return found


def _own_split(own: Catalogue | str, split: str, run: Run, wanted: str) -> Catalogue:
    if isinstance(own, str):
        raise DataError(f"the pictures of {run.folder} {own}; expected {wanted}")
    found = own.take(own.indices(split))
    if not len(found):
        raise DataError(f"{run.folder} has no pictures for {split}; expected {wanted}")
    return found


def _opened(data: Source, run: Run) -> Catalogue:
    return open_source(data, class_names=run.labels, labels="optional")


def _labelled(found: Catalogue, data: Source, run: Run) -> Catalogue:
    """A folder's pictures with the classes that the run has; `open_source` takes all or none."""
    if not isinstance(data, str | Path) or not Path(data).is_dir() or (found.labels >= 0).any():
        return found
    numbers = {label: number for number, label in enumerate(run.labels)}
    parts = [
        Path(name).parts[bool(split) :]
        for name, split in zip(found.names, found.splits, strict=True)
    ]
    folders = [part[0] if len(part) > 1 else None for part in parts]
    strange = in_order({folder for folder in folders if folder not in (None, *numbers)})
    if strange:
        count = sum(folder in strange for folder in folders)
        named = ", ".join(repr(folder) for folder in strange)
        warnings.warn(
            f"{data}: {named} {'is no class' if len(strange) == 1 else 'are no classes'} of "
            f"{run.folder}, so that {count} of {len(found)} pictures count for agreement and not "
            "for accuracy; rename the folders, or leave them out",
            UserWarning,
            stacklevel=4,
        )
    labels = [numbers.get(folder or "", -1) for folder in folders]
    return replace(found, labels=np.asarray(labels, np.int32))


def _warn_of_trained(judged: Catalogue, own: Catalogue) -> None:
    taught = _contents(own.take(own.indices("train")))
    count = sum(content in taught for content in _contents_of_each(judged))
    if count:
        warnings.warn(
            f"{count} of the {len(judged)} pictures to compare on were trained on, so that "
            "accuracy is too high; name others with --data",
            UserWarning,
            stacklevel=4,
        )


def _others(source: Catalogue, judged: Catalogue) -> Catalogue:
    """The pictures of a source that files are not judged on, whatever they are called."""
    taken = _contents(judged)
    kept = [n for n, content in enumerate(_contents_of_each(source)) if content not in taken]
    if not kept:
        raise DataError(
            f"no calibration pictures: all {len(source)} are among those to compare on; expected "
            "others to choose int8 ranges on; name a folder with --calibrate-on, or fewer pictures "
            "to compare on"
        )
    return source.take(kept)


def _contents(catalogue: Catalogue) -> set[bytes]:
    return set(_contents_of_each(catalogue))


def _contents_of_each(catalogue: Catalogue) -> list[bytes]:
    return [content.tobytes() for content in catalogue.contents]


def _prepared(run: Run, catalogue: Catalogue, most: int, progress: Progress) -> Batches:
    """At most so many pictures, the same share of every class, as the model takes them."""
    chosen = catalogue.take(stratified(catalogue.labels, most))
    with progress.bar("preparing pictures") as advance:
        return Batches.open(chosen, run.preparation, progress=advance)


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

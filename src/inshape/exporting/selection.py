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
from ..data.catalogue import Catalogue
from ..data.sources import Source, open_source, source_text
from ..data.split import held_out
from ..errors import DataError
from ..evaluation.leakage import is_among, read_training_pictures
from ..progress import Progress
from ..runs import Run
from ..tasks.names import in_order
from ..tasks.task import Labels

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
    """What an export is compared and calibrated on; no picture is ever both."""

    source: str
    """Where those to compare on come from."""
    compared: Batches
    sample: Sequence[NDArray[np.float32]]
    """To calibrate on; empty if nothing is calibrated."""

    @property
    def labels(self) -> Labels:
        """Of each picture that is compared on, as far as it is known."""
        return self.compared.labels()

    @property
    def shape(self) -> tuple[int, ...]:
        """Height, width and channels of a prepared picture."""
        return tuple(n for n in self.compared.preparation.shape.as_tuple() if n is not None)

    def blocks(self, multiple_of: int = 1) -> Iterator[NDArray[np.float32]]:
        """The pictures to compare on, some at a time, so that memory stays bounded.

        All blocks but the last are filled by calls of ``multiple_of`` pictures.
        """
        size = multiple_of * max(1, _BLOCK // multiple_of)
        for rows, _ in self.compared.iterate(None, size):
            yield np.asarray(rows, np.float32)


def select_pictures(
    run: Run,
    data: Source,
    *,
    most: int,
    calibration: int,
    calibrate_on: Source = None,
    progress: Progress | None = None,
) -> Selection:
    """The pictures to compare on, and those to calibrate on; the same content is never in both.

    Of ``data`` the split furthest from training is compared on; without it, what the training held
    out. By default int8 is calibrated on what the run was trained on. Of either, at most so many
    are taken, the same share of every class.

    Raises:
        DataError: if there are none, or the run's own are wanted and are not what they were.
    """
    progress = progress or Progress()
    trained = read_training_pictures(run, progress)
    if data is None:
        wanted = "some to compare on; name a folder with --data"
        chosen = _take_split(trained, "validation", run, wanted)
        source = run.record["request"]["source"]
    else:
        opened = _open(data, run)
        part = held_out(opened)
        of_part = opened.take(opened.indices(None if part == "all" else part))
        chosen = _label_by_folder(of_part, data, run)
        source = source_text(data)
    compared = _prepare(run, chosen, most, progress)
    if isinstance(trained, Catalogue):
        _warn_of_trained(compared.catalogue, trained)
    sample: Sequence[NDArray[np.float32]] = ()
    if calibration:
        if calibrate_on is None:
            wanted = (
                "some to choose int8 ranges on, other than those to compare on; "
                "name a folder with --calibrate-on"
            )
            available = _take_split(trained, "train", run, wanted)
        else:
            available = _open(calibrate_on, run)
        others = _leave_out(available, compared.catalogue)
        sample = OneByOne(_prepare(run, others, calibration, progress))
    return Selection(source, compared, sample)


def _take_split(trained: Catalogue | str, split: str, run: Run, wanted: str) -> Catalogue:
    if isinstance(trained, str):
        raise DataError(f"the pictures of {run.folder} {trained}; expected {wanted}")
    part = trained.take(trained.indices(split))
    if not len(part):
        raise DataError(f"{run.folder} has no pictures for {split}; expected {wanted}")
    return part


def _open(data: Source, run: Run) -> Catalogue:
    return open_source(data, task=run.task, labels="optional")


def _label_by_folder(listed: Catalogue, data: Source, run: Run) -> Catalogue:
    """Give a folder's pictures the classes that the run has; `open_source` gives all or none."""
    if not isinstance(data, str | Path) or not Path(data).is_dir() or listed.is_labelled.any():
        return listed
    folders = [_class_folder(*row) for row in zip(listed.names, listed.splits, strict=True)]
    labels = listed.task.read([folder if folder in run.labels else None for folder in folders])
    strange = in_order(set(folders).difference(run.labels, {""}))
    if strange:
        count = sum(folder in strange for folder in folders)
        warnings.warn(
            f"{data}: {', '.join(map(repr, strange))} "
            f"{'is no class' if len(strange) == 1 else 'are no classes'} of "
            f"{run.folder}, so that {count} of {len(listed)} pictures count for agreement and not "
            "for accuracy; rename the folders, or leave them out",
            UserWarning,
            stacklevel=5,
        )
    return replace(listed, labels=labels)


def _class_folder(name: str, split: str) -> str:
    """The folder of a picture below that of its split, if there is one; empty for none."""
    parts = Path(name).parts[bool(split) :]
    return parts[0] if len(parts) > 1 else ""


def _warn_of_trained(compared: Catalogue, trained: Catalogue) -> None:
    count = int(is_among(compared, trained.take(trained.indices("train"))).sum())
    if count:
        warnings.warn(
            f"{count} of the {len(compared)} pictures to compare on were trained on, so that "
            "accuracy is too high; name others with --data",
            UserWarning,
            stacklevel=5,
        )


def _leave_out(available: Catalogue, compared: Catalogue) -> Catalogue:
    """The pictures that files are not compared on, whatever they are called."""
    # By content: under another name a picture would be calibrated and compared on all the same.
    others = np.flatnonzero(~is_among(available, compared))
    if not len(others):
        raise DataError(
            f"no calibration pictures: all {len(available)} are among those to compare on; "
            "expected others to choose int8 ranges on; name a folder with --calibrate-on, or fewer "
            "pictures to compare on"
        )
    return available.take(others)


def _prepare(run: Run, catalogue: Catalogue, most: int, progress: Progress) -> Batches:
    chosen = catalogue.take(spread_over_classes(catalogue.strata, most))
    with progress.bar("preparing pictures") as advance:
        return Batches.open(chosen, run.preparation, progress=advance)


def spread_over_classes(labels: NDArray[np.integer[Any]], most: int) -> list[int]:
    """Positions of at most so many pictures: of every class the same share, within one picture.

    Example:
        >>> labels = np.array([0] * 80 + [1] * 20)
        >>> np.bincount(labels[spread_over_classes(labels, 10)]).tolist()
        [8, 2]
    """
    if len(labels) <= most:
        return list(range(len(labels)))
    # Sorted by class, equal steps meet each class in proportion.
    order = np.argsort(labels, kind="stable")
    places = np.linspace(0, len(order) - 1, most).round().astype(int)
    return sorted(order[np.unique(places)].tolist())

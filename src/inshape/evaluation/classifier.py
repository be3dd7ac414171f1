"""Whatever answers pictures: the model of a run, or an exported file."""

from __future__ import annotations

import glob
import math
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..data.batches import Batches
from ..data.catalogue import Catalogue
from ..data.prepare import Preparation
from ..data.stores import Filled, StoredType
from ..errors import DataError, RequestError
from ..runs import Run, home_of
from ..runtime.cards import batch_in, read_card, reading_card
from ..runtime.cluster import Cluster
from ..runtime.runners import Runner, answer, batch_of, check_answers, kind_of, load, load_foreign
from ..runtime.shares import Ask, answers_of, collect
from ..shapes import InputShape
from ..tasks.find import restore_task
from ..tasks.task import Task
from ..text import first_line, format_shape, plural
from .request import is_exported

if TYPE_CHECKING:
    import keras

Make: TypeAlias = Callable[[], Runner]

_BLOCK = 64
_SAMPLE, _TRIED = 8, 200


class _OfBatches(Protocol):
    def __call__(self, batches: Batches, *, mirrored: bool) -> NDArray[np.float32]: ...


class _Elsewhere(Protocol):
    def __call__(self, sample: NDArray[np.float32], count: int) -> tuple[Make, bool]:
        """What makes it ready on another machine, and whether it gives probabilities.

        It will be asked about so many pictures like the few of the sample.
        """
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Classifier:
    """A model, with what has to be known to ask it; it is loaded when it is first asked."""

    name: str
    """The path of its run folder or its file."""
    task: Task
    """With the names of its outputs."""
    preparation: Preparation
    input_shape: InputShape
    """What the model takes."""
    of_batches: _OfBatches
    elsewhere: _Elsewhere
    run: Run | None
    """The run that it is of, where that is known."""
    load_model: Callable[[], keras.Model] | None
    """The model itself, loaded once, if it is that of a run."""

    def answers(
        self,
        catalogue: Catalogue,
        preparation: Preparation | None = None,
        *,
        cluster: Cluster | None,
        mirrored: bool = False,
    ) -> tuple[Batches, NDArray[np.float32]]:
        """The pictures that can be read, and ``(pictures, outputs)`` in the catalogue's order.

        By a cluster, if there is one. Of ``mirrored`` ones, the mean of each picture's and of its
        mirror image's.

        Raises:
            RequestError: if there are not as many outputs as labels.
            DataError: as `Batches.open`.
        """
        preparation = preparation or self.preparation
        if cluster is None:
            batches = Batches.open(catalogue, preparation)
            return batches, self._checked(self.of_batches(batches, mirrored=mirrored))
        rows = np.zeros((0, len(self.task.names)), np.float32)

        def look(catalogue: Catalogue, preparation: Preparation, kind: StoredType) -> Filled:
            nonlocal rows
            sample = _sample(catalogue, preparation)
            make, is_final = self.elsewhere(sample, len(catalogue))
            asked = partial(_asking, make, self.task, is_final, mirrored)
            shares = answers_of(cluster, catalogue, preparation, asked, kind=kind)
            filled, rows = collect(shares, len(catalogue))
            return filled

        batches = Batches.open(catalogue, preparation, look=look)
        return batches, self._checked(rows[batches.slots] if batches.skipped else rows)

    def _checked(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        count = len(self.task.names)
        if rows.shape[-1] != self.task.output_width:
            classes = rows.shape[-1] - self.task.output_width + count
            raise RequestError(
                f"{self.name} tells {classes} classes apart and has "
                f"{plural(count, 'label')}; expected a label for every class; restore "
                "the labels that were written with the model, or export or train anew"
            )
        return rows


def _sample(catalogue: Catalogue, preparation: Preparation) -> NDArray[np.float32]:
    """The first few pictures that can be read."""
    pictures: list[NDArray[np.float32]] = []
    for index in range(min(len(catalogue), _TRIED)):
        with suppress(DataError):
            pictures.append(catalogue.load(index, preparation))
        if len(pictures) == _SAMPLE:
            break
    blank = np.zeros(preparation.shape.as_static_tuple(), np.float32)
    return np.stack(pictures or [blank])


def _asking(make: Make, task: Task, is_final: bool, mirrored: bool) -> Ask:
    """Made by the workers of a cluster."""
    network = make()
    return lambda pictures, _: task.ask(network, pictures, is_final=is_final, mirrored=mirrored)


def open_classifier(source: str | Path | Run) -> Classifier:
    """Open a run or an exported file.

    Raises:
        RequestError: if it is neither, is not finished, or does not say what its classes are.
    """
    if isinstance(source, Run) or not is_exported(Path(source)):
        return _of_run(Run.open(source))
    return _of_file(Path(source))


def _of_run(run: Run) -> Classifier:
    run.check_model()
    load_model = cache(run.load_model)

    def of_batches(batches: Batches, *, mirrored: bool) -> NDArray[np.float32]:
        from .answers import predict_answers  # loads Keras

        return predict_answers(load_model(), task, batches, mirrored=mirrored)

    def elsewhere(sample: NDArray[np.float32], count: int) -> tuple[Make, bool]:
        from .answers import gives_answers, prepare  # loads Keras

        return prepare(load_model(), sample, count).elsewhere, gives_answers(load_model())

    task, preparation = run.task, run.preparation
    with run.reading():
        # Pictures are prepared at one size for a model of any size too.
        shape = InputShape.of(run.record.get("plan", {}).get("input_shape", preparation.shape))
    return Classifier(
        name=str(run.folder),
        task=task,
        preparation=preparation,
        input_shape=shape,
        of_batches=of_batches,
        elsewhere=elsewhere,
        run=run,
        load_model=load_model,
    )


def _of_file(path: Path) -> Classifier:
    kind_of(path)
    card = read_card(path)
    if card is None:
        raise RequestError(
            f"{path} does not say what its classes are; expected the JSON that was exported with "
            f"it, {path.name}.json; put it beside the file"
        )
    with reading_card(path):
        batch = batch_of(path, batch_in(card))
        is_final = card["output"]["kind"] != "logits"
        task = restore_task(card.get("task"), [str(label) for label in card["labels"]])
        preparation = Preparation.from_dict(card["preparation"])
        shape = InputShape.of(card["input"]["shape"])
    load_runner = cache(partial(load_foreign, path))

    def ask(pictures: NDArray[np.float32]) -> NDArray[np.float32]:
        return _answer(load_runner(), path, batch, pictures)

    def elsewhere(sample: NDArray[np.float32], count: int) -> tuple[Make, bool]:
        ask(sample)  # refused here, and not by every worker
        return partial(_unpacked, _pack(path), path, batch), is_final

    def of_batches(batches: Batches, *, mirrored: bool) -> NDArray[np.float32]:
        parts = [
            task.ask(
                ask,
                np.asarray(pictures, np.float32),
                is_final=is_final,
                mirrored=mirrored,
            )
            for pictures, _ in batches.iterate(None, _BLOCK)
        ]
        return np.concatenate(parts)

    run = None
    home = home_of(path)
    if home is not None:
        with suppress(RequestError):
            run = Run.open(home)
    return Classifier(
        name=str(path),
        task=task,
        preparation=preparation,
        input_shape=shape,
        of_batches=of_batches,
        elsewhere=elsewhere,
        run=run,
        load_model=None,
    )


def _answer(
    runner: Runner, path: Path, batch: int | None, pictures: NDArray[np.float32]
) -> NDArray[np.float32]:
    try:
        rows = answer(runner, pictures, batch=batch)
        if math.prod(rows.shape[1:-1]) == 1:  # a vector, whatever axes stand around it
            rows = rows.reshape(len(rows), -1)
    except Exception as error:  # every runtime raises its own
        raise RequestError(
            f"{path} cannot answer pictures of {format_shape(pictures.shape[1:])} "
            f"({first_line(error)}); expected the file and the card that were exported together; "
            "export it again"
        ) from error
    return check_answers(rows)


def _pack(path: Path) -> dict[str, bytes]:
    """The contents of an exported file or folder, and of what stands beside it, by their names."""
    files = path.rglob("*") if path.is_dir() else path.parent.glob(f"{glob.escape(path.stem)}.*")
    return {str(f.relative_to(path.parent)): f.read_bytes() for f in files if f.is_file()}


def _unpacked(files: Mapping[str, bytes], path: Path, batch: int | None) -> Runner:
    """Made by the workers of a cluster, which may not have the file."""
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            place = Path(folder, name)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
        runner = load(Path(folder, path.name), threads=1)
    return partial(_answer, runner, path, batch)

"""Whatever answers pictures: the model of a run, or an exported file."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from ..data.batches import Batches
from ..data.prepare import Preparation
from ..errors import RequestError
from ..runs import Run, home_of
from ..runtime.cards import batch_in, read_card, reading_card
from ..runtime.runners import answer, kind_of, load
from ..shapes import InputShape
from ..tasks.find import restore_task
from ..tasks.task import Task
from ..text import plural
from .request import is_exported

if TYPE_CHECKING:
    import keras

_BLOCK = 64


class _OfBatches(Protocol):
    def __call__(self, batches: Batches, *, mirrored: bool) -> NDArray[np.float32]: ...


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
    run: Run | None
    """The run that it is of, where that is known."""
    load_model: Callable[[], keras.Model] | None
    """The model itself, loaded once, if it is that of a run."""

    def answers(self, batches: Batches, *, mirrored: bool = False) -> NDArray[np.float32]:
        """``(pictures, outputs)`` in the catalogue's order.

        Of ``mirrored`` ones, the mean of each picture's and of its mirror image's.

        Raises:
            RequestError: if there are not as many outputs as labels.
        """
        rows = self.of_batches(batches, mirrored=mirrored)
        count = len(self.task.names)
        if rows.shape[1] != count:
            raise RequestError(
                f"{self.name} tells {rows.shape[1]} classes apart and has "
                f"{plural(count, 'label')}; expected a label for every class; restore "
                "the labels that were written with the model, or export or train anew"
            )
        return rows


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
        at_once = batch_in(card)
        is_final = card["output"]["kind"] != "logits"
        task = restore_task(card.get("task"), [str(label) for label in card["labels"]])
        preparation = Preparation.from_dict(card["preparation"])
        shape = InputShape.of(card["input"]["shape"])
    load_runner = cache(partial(load, path))

    def of_batches(batches: Batches, *, mirrored: bool) -> NDArray[np.float32]:
        network = partial(answer, load_runner(), at_once=at_once)
        parts = [
            task.ask(
                network,
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
        run=run,
        load_model=None,
    )

"""Whatever answers pictures with classes: the model of a run, or an exported file."""

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
from ..runtime.runners import answer, check_answers, kind_of, load_foreign
from ..shapes import InputShape
from ..text import first_line, plural
from .metrics import classify
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
    labels: tuple[str, ...]
    preparation: Preparation
    input_shape: InputShape
    """What the model takes."""
    of_batches: _OfBatches
    run: Run | None
    """The run that it is of, where that is known."""
    load_model: Callable[[], keras.Model] | None
    """The model itself, loaded once, if it is that of a run."""

    def probabilities(self, batches: Batches, *, mirrored: bool = False) -> NDArray[np.float32]:
        """``(pictures, classes)`` in the catalogue's order.

        Of ``mirrored`` ones, the mean of each picture's and of its mirror image's.

        Raises:
            RequestError: if there are not as many outputs as labels.
        """
        rows = self.of_batches(batches, mirrored=mirrored)
        if rows.shape[1] != len(self.labels):
            raise RequestError(
                f"{self.name} tells {rows.shape[1]} classes apart and has "
                f"{plural(len(self.labels), 'label')}; expected a label for every class; restore "
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
        from .probabilities import predict_probabilities  # loads Keras

        return predict_probabilities(load_model(), batches, mirrored=mirrored)

    preparation = run.preparation
    with run.reading():
        # Pictures are prepared at one size for a model of any size too.
        shape = InputShape.of(run.record.get("plan", {}).get("input_shape", preparation.shape))
    return Classifier(
        name=str(run.folder),
        labels=run.labels,
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
        is_probability = card["output"]["kind"] == "probabilities"
        labels = tuple(str(label) for label in card["labels"])
        preparation = Preparation.from_dict(card["preparation"])
        shape = InputShape.of(card["input"]["shape"])
    load_runner = cache(partial(load_foreign, path))

    def ask(pictures: NDArray[np.float32]) -> NDArray[np.float32]:
        runner = load_runner()
        try:
            rows = answer(runner, pictures, at_once=at_once)
            rows = rows.reshape(len(rows), -1)
        except Exception as error:  # every runtime raises its own
            raise RequestError(
                f"{path} cannot answer pictures of {shape} ({first_line(error)}); expected the "
                "file and the card that were exported together; export it again"
            ) from error
        return check_answers(rows)

    def of_batches(batches: Batches, *, mirrored: bool) -> NDArray[np.float32]:
        parts = [
            classify(
                ask,
                np.asarray(pictures, np.float32),
                is_probability=is_probability,
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
        labels=labels,
        preparation=preparation,
        input_shape=shape,
        of_batches=of_batches,
        run=run,
        load_model=None,
    )

"""An evaluation as it was asked for."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Annotated, Any

from ..data.sources import SourceField
from ..requests import (
    Flag,
    Positional,
    Range,
    Request,
    Written,
    joined,
    many,
    read_hw,
    read_location,
    write_hw,
)
from ..runs import Run, write_run
from ..runtime.cluster import RayField

RunField = Annotated[Any, Written(read_location, write_run, "RUN", check=Run.open)]
"""A run as an option of a request."""


def is_exported(path: Path) -> bool:
    """Whether a path is an exported file rather than a run folder."""
    return path.is_file() or (path / "saved_model.pb").exists()


def _check_classifier(value: Any) -> None:
    if not (isinstance(value, str | Path) and is_exported(Path(value))):
        Run.open(value)


ClassifierField = Annotated[Any, Written(read_location, write_run, "RUN", check=_check_classifier)]
"""A run or an exported file as an option of a request."""


def read_size(value: Any) -> tuple[int, int]:
    """Read a size in pixels: one number for a square, or height and width.

    Example:
        >>> read_size("96"), read_size((128, 160))
        ((96, 96), (128, 160))
    """
    is_number = isinstance(value, Integral) or (isinstance(value, str) and value.isdecimal())
    return read_hw((value, value)) if is_number else read_hw(value)


@dataclass(frozen=True, slots=True)
class EvaluateRequest(Request):
    """Measure a run or an exported file on labelled pictures."""

    run: Annotated[ClassifierField, Positional()]
    """A run folder, or an exported file."""
    source: Annotated[SourceField, Positional()]
    """The pictures: a folder per class, a table or arrays; their classes are among the run's."""
    split: Annotated[str, Written(str, str, "NAME")] | None = None
    """train, validation, test or all; by default the one furthest from training."""
    on: Annotated[tuple[str, ...], Written(many(str), joined(str), "CLASSES")] = ()
    """Measure on the pictures of these classes alone."""
    sizes: Annotated[
        tuple[tuple[int, int], ...],
        Written(many(read_size, single=(tuple,)), joined(write_hw), "SIZES"),
    ] = ()
    """Measure at these too, such as 64,96,128x160, where a number is a square; for a model of any
    size."""
    resamples: Annotated[int, Range(1), Flag("")] = 1000
    """Of the bootstrap."""
    seed: Annotated[int, Range(0), Flag("")] = 0
    """Of the bootstrap."""
    save: bool = True
    """Write metrics.json into the run folder, and its report anew; not of an exported file."""
    ray: RayField = None
    """Decode and classify on the workers of a Ray cluster: local, auto or host:port."""

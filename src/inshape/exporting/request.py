"""An export as it was asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from ..data.sources import SourceField
from ..evaluation.request import RunField
from ..geometry.operators import Granularity, Io
from ..limits import MemoryLimit
from ..requests import File, Flag, Folder, Positional, Range, Request, Shape, Written, joined, many
from ..runtime.formats import FORMATS, format_name


@dataclass(frozen=True, slots=True)
class ExportRequest(Request):
    """Write a run's model for other runtimes, and compare every file with it."""

    run: Annotated[RunField, Positional()]
    """A complete run folder."""
    to: Annotated[
        tuple[str, ...], Written(many(format_name), joined(str), "FORMATS", tuple(FORMATS))
    ] = ("litert",)
    """Formats with commas between (litert-dynamic: int8 weights, litert-int8: all in int8, micro:
    the same for micro-controllers, with C files)."""
    data: SourceField = None
    """Pictures to compare on, of which the split furthest from training is taken; by default those
    that the training held out."""
    out: Folder | None = None
    """Where to; by default the run's folder exports."""
    calibration: Annotated[int, Range(1)] = 200
    """Pictures that say how int8 ranges are chosen, the same share of every class; never any that
    files are compared on."""
    calibrate_on: SourceField = None
    """Where they come from; by default the training pictures."""
    batch: Annotated[int, Range(1)] | None = None
    """Pictures per call of an ONNX or OpenVINO file; by default any number."""
    pictures: Annotated[int, Range(1)] = 1000
    """The most to compare on, the same share of every class."""
    io: Io = "float32"
    """What a litert-int8 file takes and gives; micro always int8."""
    granularity: Granularity = "per-channel"
    """Whether the weights of each output channel of a layer have a scale in a full-integer file, or
    all weights of a layer share one, which some accelerators want and which costs accuracy."""
    min_agreement: Annotated[float, Range(0, 1)] = 0.97
    """The share of pictures on which a file has to answer as Keras; below it the file is marked as
    failed, and the exit code is 1."""
    timing: bool = True
    """Measure latency and memory, each file in a process of its own."""
    replace: bool = False
    """Replace files that are there already."""
    limits: MemoryLimit = field(default_factory=MemoryLimit)
    """What the device's memory allows an int8 file; by default what the run was trained for."""


@dataclass(frozen=True, slots=True)
class BenchRequest(Request):
    """Measure how long a call of an exported file takes."""

    file: Annotated[File, Positional()]
    """An exported model."""
    input_shape: Annotated[Shape | None, Flag("input")] = None
    """At which shape; by default what the file says of itself."""
    threads: Annotated[int, Range(1)] | None = None
    """By default 1, then one per core."""

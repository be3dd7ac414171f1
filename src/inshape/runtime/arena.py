"""How much memory a micro-controller needs for a LiteRT file, besides the file itself.

    python -m inshape.runtime.arena FILE

has TensorFlow Lite for Microcontrollers load and run the file, and prints the smallest arena with
which it starts, and on standard error what it took of a large one. It runs in a process of its own,
because the interpreter writes there itself.
"""

from __future__ import annotations

import importlib.util
import os
import re
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .apart import Ended, run_apart
from .insides import alive
from .litert import LiteRTModel

_MODULE = "tflite_micro"
_TOTAL = re.compile(r"Arena allocation total (\d+) bytes")
_MISSING = re.compile(r"find op for builtin opcode '(\w+)'")
_MOST = 2**30
_ALIGNED = 16


@dataclass(frozen=True, slots=True)
class Arena:
    """Memory at run time."""

    tensor_bytes: int
    """The most that the tensors take at one moment; no interpreter needs less."""
    total_bytes: int | None = None
    """What TensorFlow Lite for Microcontrollers took of its arena, tensors and its records
    together, with its reference kernels on this machine. Records hold pointers, so a 32-bit
    controller needs a little less. ``None`` where the package tflite-micro is not installed or has
    no kernel for an operator."""
    least_bytes: int | None = None
    """The smallest arena with which it starts: while it lays the tensors out it takes a little more
    than what stays. ``None`` likewise."""
    problem: str = ""
    """Why it does not run the file, where it does not."""
    missing: str = ""
    """The operator for which it has no kernel, if that is why."""


def arena_of(path: Path) -> Arena | None:
    """What a LiteRT file needs; ``None`` if its input has no fixed size."""
    # XNNPACK's operators would hide the tensors.
    model = LiteRTModel(path, reference_kernels=True)
    if not model.has_fixed_size:
        return None
    model.allocate()
    ends = [model.input["index"]], [output["index"] for output in model.outputs]
    return _measured(path, max(alive(model.operators, model.tensor_bytes, ends), default=0))


def _measured(path: Path, tensor_bytes: int) -> Arena:
    if importlib.util.find_spec(_MODULE) is None:
        return Arena(tensor_bytes)
    try:
        least, records = run_apart("inshape.runtime.arena", str(path))
    except Ended as problem:
        missing = _MISSING.search(problem.errors)
        return Arena(tensor_bytes, problem=str(problem), missing=missing[1] if missing else "")
    total = _TOTAL.search(records)
    assert total is not None
    return Arena(tensor_bytes, int(total[1]), int(least))


def _run_in_micro(path: Path) -> None:
    content, size = path.read_bytes(), 2**20
    while (micro := _started(content, size)) is None:
        size *= 4
    details = micro.get_input_details(0)
    micro.set_input(np.zeros(details["shape"], details["dtype"]), 0)
    micro.invoke()
    records = _errors_of(micro.print_allocations)
    sys.stderr.write(records)
    total = _TOTAL.search(records)
    assert total is not None
    # Not from below what stays: some kernels end the process where their records find no room.
    fails, starts = (int(total[1]) - 1) // _ALIGNED, size // _ALIGNED
    while starts - fails > 1:
        middle = (starts + fails) // 2
        if _started(content, middle * _ALIGNED) is None:
            fails = middle
        else:
            starts = middle
    print(starts * _ALIGNED)


def _errors_of(call: Callable[[], object]) -> str:
    """What a call of another language prints on standard error."""
    kept = os.dup(2)
    with tempfile.TemporaryFile("w+") as file:
        os.dup2(file.fileno(), 2)
        try:
            call()
        finally:
            os.dup2(kept, 2)
            os.close(kept)
        file.seek(0)
        return file.read()


def _started(content: bytes, size: int) -> Any:
    """An interpreter with an arena of a size; ``None`` if that is too small."""
    from tflite_micro import runtime  # pyright: ignore[reportMissingImports]

    try:
        return runtime.Interpreter.from_bytes(content, arena_size=size)
    except RuntimeError:
        if size >= _MOST:  # it is something else
            raise
        return None


if __name__ == "__main__":
    _run_in_micro(Path(sys.argv[1]))

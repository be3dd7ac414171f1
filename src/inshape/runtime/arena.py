"""How much memory a micro-controller needs for a LiteRT file, besides the file itself.

    python -m inshape.runtime.arena FILE

has TensorFlow Lite for Microcontrollers load and run the file, and prints what it took of its
arena. It runs in a process of its own, because it writes its records to standard error.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

_MODULE = "tflite_micro"
_TOTAL = re.compile(r"Arena allocation total (\d+) bytes")
_MOST = 2**30


@dataclass(frozen=True, slots=True)
class Arena:
    """Memory at run time, in bytes.

    Attributes:
        tensor_bytes: the most that the tensors take at one moment; no interpreter needs less.
        total_bytes: what TensorFlow Lite for Microcontrollers took of its arena, tensors and its
            own records together, with its reference kernels on this machine. Records hold
            pointers, so that a 32-bit controller needs a little less. ``None`` where the package
            tflite-micro is not installed or has no kernel for an operator.
    """

    tensor_bytes: int
    total_bytes: int | None


def arena_of(path: Path) -> Arena | None:
    """Find out what a file needs.

    Args:
        path: a LiteRT file.

    Returns:
        The memory; ``None`` for a file whose input has no fixed size.
    """
    from ai_edge_litert.interpreter import (
        Interpreter,  # pyright: ignore[reportMissingTypeStubs]
        OpResolverType,
    )

    # Without XNNPACK, whose own operators would hide the tensors.
    run: Any = Interpreter(
        model_path=str(path),
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    (taken,) = run.get_input_details()
    if (taken["shape_signature"][1:] < 0).any():
        return None
    run.allocate_tensors()
    return Arena(_most_at_once(run), _measured(path))


def _most_at_once(run: Any) -> int:
    sizes = {
        t["index"]: int(np.prod(t["shape"])) * np.dtype(t["dtype"]).itemsize
        for t in run.get_tensor_details()
    }
    steps = run._get_ops_details()  # pyright: ignore[reportPrivateUsage]
    made = {int(i): n for n, step in enumerate(steps) for i in step["outputs"]}
    for taken in run.get_input_details():
        made[int(taken["index"])] = -1
    used = {int(i): n for n, step in enumerate(steps) for i in step["inputs"]}
    used.update({int(t["index"]): len(steps) for t in run.get_output_details()})
    live = [
        sum(sizes[i] for i, born in made.items() if born <= n <= used.get(i, born))
        for n in range(len(steps))
    ]
    return max(live, default=0)


def _measured(path: Path) -> int | None:
    if importlib.util.find_spec(_MODULE) is None:
        return None
    command = [sys.executable, "-m", "inshape.runtime.arena", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    found = _TOTAL.search(done.stderr)
    return int(found[1]) if found and not done.returncode else None


def _run_in_micro(path: Path) -> None:
    from tflite_micro import runtime  # pyright: ignore[reportMissingImports]

    content, size = path.read_bytes(), 2**20
    while True:
        try:
            run: Any = runtime.Interpreter.from_bytes(content, arena_size=size)
            break
        except RuntimeError:
            if size >= _MOST:
                raise
            size *= 4
    details = run.get_input_details(0)
    run.set_input(np.zeros(details["shape"], details["dtype"]), 0)
    run.invoke()
    run.print_allocations()


if __name__ == "__main__":
    _run_in_micro(Path(sys.argv[1]))

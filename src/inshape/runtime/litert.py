"""LiteRT files: the one place that sets up their interpreter. No framework is imported."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..quiet import quiet_stderr


class LiteRTModel:
    """A LiteRT file with one input, loaded; its numbers are float32 on both sides."""

    def __init__(
        self, file: Path | bytes, *, threads: int = 1, reference_kernels: bool = False
    ) -> None:
        """Load a file or its content; ``reference_kernels`` leaves XNNPACK out."""
        self._whole = Section(file, threads=threads, reference_kernels=reference_kernels)
        self._interpreter = self._whole.interpreter
        (self.input,) = self._whole.reads
        self.outputs = self._whole.writes

    def __call__(self, pictures: NDArray[np.float32]) -> NDArray[np.float32]:
        """The first output for a batch; another batch or picture size than the last is slow."""
        return self.all_outputs(pictures)[0]

    def all_outputs(self, pictures: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Every output for a batch."""
        outputs = self._whole([pictures])
        return [self._whole.as_numbers(values, n) for n, values in enumerate(outputs)]

    def allocate(self) -> None:
        """Plan the memory for the file's own size; a file that cannot run fails here."""
        self._whole.allocate([tuple(map(int, self.input["shape"]))])

    @property
    def has_fixed_size(self) -> bool:
        """Whether the file fixes height and width."""
        return not (self.input["shape_signature"][1:] < 0).any()

    @property
    def operators(self) -> list[Operator]:
        """What is computed, in its order."""
        details = self._interpreter._get_ops_details()
        return [
            Operator(
                name=operator["op_name"],
                inputs=list(operator["inputs"]),
                outputs=list(operator["outputs"]),
            )
            for operator in details
        ]

    def name_of(self, tensor: int) -> str:
        """What a tensor is called, which says from which layer it came."""
        names = {t["index"]: t["name"] for t in self._interpreter.get_tensor_details()}
        return str(names[tensor])

    @property
    def tensor_bytes(self) -> dict[int, int]:
        """What each tensor takes, weights included."""
        return {
            tensor["index"]: int(np.prod(tensor["shape"])) * np.dtype(tensor["dtype"]).itemsize
            for tensor in self._interpreter.get_tensor_details()
        }


class Section:
    """A LiteRT file or some of its operators; maps come out as they are stored, and go in so."""

    def __init__(
        self, file: Path | bytes, *, threads: int = 1, reference_kernels: bool = False
    ) -> None:
        """Load a file or its content; ``reference_kernels`` leaves XNNPACK out."""
        # Absent on some platforms.
        from ai_edge_litert.interpreter import (
            Interpreter,  # pyright: ignore[reportMissingTypeStubs]
            OpResolverType,
        )

        kernels = (
            OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
            if reference_kernels
            else OpResolverType.AUTO
        )
        with quiet_stderr():  # it says that it has a delegate, in the middle of a bar
            self.interpreter: Any = Interpreter(
                model_path=None if isinstance(file, bytes) else str(file),
                model_content=file if isinstance(file, bytes) else None,
                num_threads=threads,
                experimental_op_resolver_type=kernels,
            )
        self.reads: list[dict[str, Any]] = self.interpreter.get_input_details()
        self.writes: list[dict[str, Any]] = self.interpreter.get_output_details()
        self._shapes: list[tuple[int, ...]] | None = None

    def __call__(self, maps: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """The outputs for inputs, both in the file's order; float32 is rounded."""
        shapes = [values.shape for values in maps]
        if shapes != self._shapes:
            self.allocate(shapes)
        for tensor, values in zip(self.reads, maps, strict=True):
            is_stored = values.dtype == tensor["dtype"]
            stored = values if is_stored else _quantise(values, tensor)
            self.interpreter.set_tensor(tensor["index"], stored)
        self.interpreter.invoke()
        return [self.interpreter.get_tensor(output["index"]) for output in self.writes]

    def allocate(self, shapes: list[tuple[int, ...]]) -> None:
        """Plan the memory for inputs of these shapes."""
        with quiet_stderr():
            for tensor, shape in zip(self.reads, shapes, strict=True):
                self.interpreter.resize_tensor_input(tensor["index"], shape)
            self.interpreter.allocate_tensors()
        self._shapes = shapes

    def as_numbers(self, values: NDArray[Any], output: int) -> NDArray[np.float32]:
        """What the stored values of an output stand for."""
        return _dequantise(values, self.writes[output])


@dataclass(frozen=True, slots=True)
class Operator:
    """One step of a LiteRT file."""

    name: str
    inputs: list[int]
    outputs: list[int]


def quantisation_of(path: Path) -> dict[str, dict[str, float | int]]:
    """``scale`` and ``zero_point`` of a full-integer file's ``input`` and ``output``.

    A byte ``q`` stands for ``scale * (q - zero_point)``.
    """
    model = LiteRTModel(path)
    sides = {"input": model.input, "output": model.outputs[0]}
    return {
        side: {
            "scale": float(details["quantization"][0]),
            "zero_point": int(details["quantization"][1]),
        }
        for side, details in sides.items()
    }


def _quantise(values: NDArray[np.float32], tensor: dict[str, Any]) -> NDArray[Any]:
    if tensor["dtype"] == np.float32:
        return values
    scale, zero = tensor["quantization"]
    limits = np.iinfo(tensor["dtype"])
    return np.clip(np.round(values / scale + zero), limits.min, limits.max).astype(tensor["dtype"])


def _dequantise(values: NDArray[Any], tensor: dict[str, Any]) -> NDArray[np.float32]:
    if tensor["dtype"] == np.float32:
        return values
    scale, zero = tensor["quantization"]
    return ((values.astype(np.float32) - zero) * scale).astype(np.float32)


def computes_shapes(content: bytes) -> bool:
    """Whether a LiteRT file computes the shape of a map when it runs.

    Behind the last convolution there is only a vector left to reshape, which costs microseconds;
    before it, a shape that is not known keeps the convolutions from the fast kernels.
    """
    names = [operator.name for operator in LiteRTModel(content).operators]
    last = max((i for i, name in enumerate(names) if name.endswith("CONV_2D")), default=len(names))
    return "SHAPE" in names[:last]


@dataclass(frozen=True, slots=True)
class Setting:
    """How the work on many pictures is laid out."""

    workers: int = 1
    """Interpreters that run side by side."""
    threads: int = 1
    """Threads of each."""
    batch: int = 4
    """Pictures per call."""


class LiteRunner:
    """A LiteRT file that is run over many float32 pictures of one size."""

    def __init__(self, content: bytes, setting: Setting) -> None:
        """Load a file's content as often as there are workers."""
        self._batch = setting.batch
        self._models = [
            LiteRTModel(content, threads=setting.threads) for _ in range(setting.workers)
        ]

    def __call__(self, pictures: NDArray[np.float32]) -> NDArray[np.float32]:
        """The first output, one row per picture; there is at least one."""
        starts = range(0, len(pictures), self._batch)
        batches = [pictures[start : start + self._batch] for start in starts]
        count = len(self._models)
        if count == 1:
            return np.concatenate(self._answer(self._models[0], batches))
        shares = [batches[worker::count] for worker in range(count)]
        with ThreadPoolExecutor(count) as pool:
            answers = list(pool.map(self._answer, self._models, shares))
        ordered = [answers[i % count][i // count] for i in range(len(batches))]
        return np.concatenate(ordered)

    @classmethod
    def on_one_core(cls, content: bytes, batch: int) -> LiteRunner:
        """As a worker of a cluster runs it."""
        return cls(content, Setting(batch=batch))

    def _answer(
        self, model: LiteRTModel, batches: Sequence[NDArray[np.float32]]
    ) -> list[NDArray[np.float32]]:
        return [model(self._filled_up(part))[: len(part)] for part in batches]

    def _filled_up(self, part: NDArray[np.float32]) -> NDArray[np.float32]:
        # A smaller last batch would have the interpreter plan its memory anew, twice.
        part = np.asarray(part, np.float32)
        missing = self._batch - len(part)
        if not missing:
            return part
        return np.concatenate([part, np.zeros((missing, *part.shape[1:]), np.float32)])

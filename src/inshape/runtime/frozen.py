"""Runs a frozen network over many pictures as fast as the processor allows.

On a CPU, LiteRT with XNNPACK is several times as fast as ``model.predict``: batch-norm is folded
into the convolutions, activations are fused, and nothing is kept for a backward pass.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeAlias

import keras
import numpy as np
from numpy.typing import NDArray

Engine: TypeAlias = Literal["litert", "keras"]

TOLERANCE = 1e-4
"""The largest difference from the Keras model, relative to its largest value."""

_CHECKED = 4
_KERAS_BATCH = 32
_TIMED_S = 0.25


@dataclass(frozen=True, slots=True)
class Setting:
    """How the work is laid out.

    Attributes:
        workers: interpreters that run side by side.
        threads: threads of each.
        batch: pictures per call.
    """

    workers: int = 1
    threads: int = 1
    batch: int = 4


class Forward:
    """A frozen network, ready to run.

    Attributes:
        engine: ``"litert"``, or ``"keras"`` where LiteRT cannot run it or does not agree.
        reason: why it is not LiteRT; empty if it is.
        setting: how the work is laid out.
        difference: the largest difference from the Keras model on the checked pictures, relative to
            its largest value.
    """

    def __init__(
        self,
        model: keras.Model,
        sample: NDArray[np.float32],
        *,
        engine: Engine | Literal["auto"] = "auto",
        setting: Setting | None = None,
    ) -> None:
        """Convert a model, check it on real pictures and choose how to run it.

        Args:
            model: takes one picture; its weights are taken as they are now.
            sample: float32 ``(pictures, height, width, channels)`` in the model's value range, of
                the size that all pictures will have; at least one, better 16 or more.
            engine: ``"auto"`` takes LiteRT wherever it agrees and no GPU is there.
            setting: how to lay out the work; measured if not given.
        """
        self._model = model
        self._shape = sample.shape[1:]
        self._lite: LiteRunner | None = None
        self.engine: Engine = "keras"
        self.reason = "asked for" if engine == "keras" else why_not_litert()
        self.difference = 0.0
        self.setting = setting or Setting(batch=_KERAS_BATCH)
        if not self.reason:
            self.reason = self._try_litert(sample, setting)
        if not self.reason:
            self.engine = "litert"

    def __call__(self, pictures: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the network.

        Args:
            pictures: float32 ``(pictures, height, width, channels)``, any number of them.

        Returns:
            Its output, float32, one row per picture.
        """
        if self._lite is None or not len(pictures):
            return by_keras(self._model, pictures)
        return self._lite(pictures)

    def _try_litert(self, sample: NDArray[np.float32], setting: Setting | None) -> str:
        """Set up the interpreters; return why that failed, or nothing."""
        try:
            content = converted(self._model, self._shape)
            make = partial(_Interpreter, content, self._shape)
            checked = sample[:_CHECKED]
            expected = by_keras(self._model, checked)
            got = make(Setting(batch=len(checked)))(checked)
        except Exception as error:  # the converter and the interpreter raise what they like
            return f"LiteRT cannot run it ({str(error).strip().splitlines()[0][:120]})"
        self.difference = relative_difference(got, expected)
        if not self.difference <= TOLERANCE:  # NaN too
            return f"LiteRT differs from Keras by {self.difference:.1e}, more than {TOLERANCE:.0e}"
        self.setting = setting or _fastest(make, sample)
        self._lite = LiteRunner(content, self._shape, self.setting)
        return ""


class LiteRunner:
    """A LiteRT file that is run over many pictures; it needs no other framework."""

    def __init__(
        self, content: bytes, shape: tuple[int, ...], setting: Setting, *, output: int = 0
    ) -> None:
        """Set up the interpreters.

        Args:
            content: of the file.
            shape: of a picture, ``(height, width, channels)``.
            setting: how to lay out the work.
            output: which of the file's outputs is wanted.
        """
        self._batch = setting.batch
        self._workers = [
            _Interpreter(content, shape, setting, output) for _ in range(setting.workers)
        ]

    def __call__(self, pictures: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the network.

        Args:
            pictures: float32 ``(pictures, height, width, channels)``, at least one.

        Returns:
            The output, float32, one row per picture.
        """
        workers, batch = self._workers, self._batch
        if len(workers) == 1:
            return workers[0](pictures)
        parts = [pictures[i : i + batch] for i in range(0, len(pictures), batch)]
        with ThreadPoolExecutor(len(workers)) as pool:
            shares = [parts[w :: len(workers)] for w in range(len(workers))]
            done = list(pool.map(_work, workers, shares))
        ordered = [done[i % len(workers)][i // len(workers)] for i in range(len(parts))]
        return np.concatenate(ordered)


def _work(worker: _Interpreter, parts: list[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
    return [worker(part) for part in parts]


class _Interpreter:
    """One LiteRT interpreter at a fixed batch; a smaller last batch is filled up."""

    def __init__(
        self, content: bytes, shape: tuple[int, ...], setting: Setting, output: int = 0
    ) -> None:
        from ai_edge_litert.interpreter import (  # absent on some platforms
            Interpreter,  # pyright: ignore[reportMissingTypeStubs]
        )

        self._batch = setting.batch
        self._run: Any = Interpreter(model_content=content, num_threads=setting.threads)
        self._input = self._run.get_input_details()[0]["index"]
        self._run.resize_tensor_input(self._input, (setting.batch, *shape))
        self._run.allocate_tensors()
        self._output = self._run.get_output_details()[output]["index"]

    def __call__(self, pictures: NDArray[np.float32]) -> NDArray[np.float32]:
        results: list[NDArray[np.float32]] = []
        for start in range(0, len(pictures), self._batch):
            part = np.asarray(pictures[start : start + self._batch], np.float32)
            count = len(part)
            if count < self._batch:
                missing = self._batch - count
                part = np.concatenate([part, np.zeros((missing, *part.shape[1:]), np.float32)])
            self._run.set_tensor(self._input, part)
            self._run.invoke()
            results.append(self._run.get_tensor(self._output)[:count].copy())
        return np.concatenate(results)


def computes_shapes(content: bytes) -> bool:
    """Whether a LiteRT file computes the shape of a map when it runs.

    Behind the last convolution there is only a vector left to reshape, which costs microseconds;
    before it, a shape that is not known keeps the convolutions from the fast kernels.

    Args:
        content: of the file.
    """
    from ai_edge_litert.interpreter import (
        Interpreter,  # pyright: ignore[reportMissingTypeStubs]
    )

    run: Any = Interpreter(model_content=content)
    names = [operator["op_name"] for operator in run._get_ops_details()]
    last = max((i for i, name in enumerate(names) if name.endswith("CONV_2D")), default=len(names))
    return "SHAPE" in names[:last]


def why_not_litert() -> str:
    """Why frozen networks are not run by LiteRT here; empty if they are."""
    if keras.backend.backend() != "tensorflow":
        return f"the Keras backend is {keras.backend.backend()}, and LiteRT converts TensorFlow"
    if importlib.util.find_spec("ai_edge_litert") is None:
        return "ai-edge-litert is not installed (pip install inshape[cpu])"
    import tensorflow as tf

    return "a GPU is there" if tf.config.list_physical_devices("GPU") else ""


def converted(model: keras.Model, shape: tuple[int | None, ...]) -> bytes:
    """A LiteRT file of a model that takes any number of pictures.

    Args:
        model: its weights are taken as they are now.
        shape: of a picture, ``(height, width, channels)``.
    """
    import tensorflow as tf

    traced = frozen(model, (None, *shape))
    with quiet("absl"):  # it asks for the object that holds the variables; there are none left
        return tf.lite.TFLiteConverter.from_concrete_functions([traced]).convert()


def frozen(model: keras.Model, shape: tuple[int | None, ...]) -> Any:
    """A model as one TensorFlow function without variables.

    Variables become constants before a conversion: `from_concrete_functions` on a Keras 3 model
    loses them and gives NaN, and `from_keras_model` writes a SavedModel first, which takes three
    times as long.

    Args:
        model: in inference mode, with its weights as they are now.
        shape: ``(batch, height, width, channels)``; ``None`` where any number will do.

    Returns:
        A concrete function whose input is named ``picture``.
    """
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import (
        convert_variables_to_constants_v2,  # TensorFlow offers it in no public place
    )

    def run(picture: Any) -> Any:
        return model(picture, training=False)

    spec = tf.TensorSpec(shape, tf.float32, name="picture")
    return convert_variables_to_constants_v2(tf.function(run).get_concrete_function(spec))


@contextmanager
def quiet(name: str) -> Generator[None]:
    """Keep a logger's warnings back."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _fastest(make: Any, sample: NDArray[np.float32]) -> Setting:
    """Time a few ways to lay out the work on the sample."""
    cores = _cores()
    tried = [Setting(1, cores, 1), Setting(1, cores, 8), Setting(cores, 1, 1), Setting(cores, 1, 8)]
    tried = [s for s in dict.fromkeys(tried) if s.batch * s.workers <= max(1, len(sample))]
    if len(tried) < 2:
        return Setting(1, cores, 1)
    return max(tried, key=lambda setting: _pictures_per_s(make, sample, setting))


def _pictures_per_s(make: Any, sample: NDArray[np.float32], setting: Setting) -> float:
    workers = [make(setting) for _ in range(setting.workers)]
    part = sample[: setting.batch]

    def work(worker: _Interpreter) -> int:
        done, until = 0, time.perf_counter() + _TIMED_S
        while time.perf_counter() < until:
            worker(part)
            done += len(part)
        return done

    for worker in workers:
        worker(part)
    begun = time.perf_counter()
    with ThreadPoolExecutor(len(workers)) as pool:
        total = sum(pool.map(work, workers))
    return total / (time.perf_counter() - begun)


def by_keras(model: keras.Model, pictures: NDArray[np.float32]) -> NDArray[np.float32]:
    """The output of a Keras model in inference mode, a few pictures at a time.

    Args:
        model: the model.
        pictures: float32 ``(pictures, height, width, channels)``.
    """
    parts = [
        np.asarray(
            keras.ops.convert_to_numpy(model(pictures[i : i + _KERAS_BATCH], training=False)),
            np.float32,
        )
        for i in range(0, max(1, len(pictures)), _KERAS_BATCH)
    ]
    return np.concatenate(parts)


def relative_difference(got: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """The largest difference, relative to the largest expected value.

    Args:
        got: what is judged.
        expected: the same in truth.
    """
    largest = float(np.abs(expected).max())
    return float(np.abs(got - expected).max()) / (largest or 1.0)


def _cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows
        return os.cpu_count() or 1

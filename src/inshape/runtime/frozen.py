"""Runs a frozen network over many pictures as fast as the processor allows.

On a CPU, LiteRT with XNNPACK is several times as fast as ``model.predict``: batch-norm is folded
into the convolutions, activations are fused, and nothing is kept for a backward pass.
"""

from __future__ import annotations

import importlib.util
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

import keras
import numpy as np
from numpy.typing import NDArray

from ..graph.saving import load_model
from ..processor import count_cores, gpu_capabilities
from ..text import first_line
from .litert import LiteRTModel, LiteRunner, Setting
from .litert_files import to_litert
from .runners import Runner, check_answers

Engine: TypeAlias = Literal["litert", "keras"]

TOLERANCE = 1e-4
"""The largest difference from the Keras model, relative to its largest value."""

_CHECKED = 4
_KERAS_BATCH = 32
_LAYER_BY_LAYER = 32
"""Pictures after which more are expected."""
_TIMED_S = 0.25
_TIMED_CALLS = 64


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
        """Convert a model as it is now, check it on real pictures and choose how to run it.

        Args:
            model: takes one picture.
            sample: float32 ``(pictures, height, width, channels)`` in the model's value range, of
                the size that all pictures will have; at least one, better 16 or more.
            engine: ``"auto"`` takes LiteRT wherever it agrees and no GPU is there.
            setting: how to lay out the work; measured by default.
        """
        self._model = model
        self._content: bytes | None = None
        self._runner: LiteRunner | KerasRunner = KerasRunner(model)
        self.engine: Engine = "keras"
        self.reason = "asked for" if engine == "keras" else why_not_litert()
        self.difference = 0.0
        self.setting = setting or Setting(batch=_KERAS_BATCH)
        if not self.reason:
            self.reason = self._try_litert(sample, setting)
        if not self.reason:
            self.engine = "litert"

    def __call__(self, pictures: NDArray[np.float32]) -> NDArray[np.float32]:
        """The network's output for any number of pictures, one float32 row each.

        Raises:
            RunError: if it is not finite.
        """
        if not len(pictures):
            return by_keras(self._model, pictures)
        return check_answers(self._runner(pictures))

    @property
    def elsewhere(self) -> Callable[[], Runner]:
        """What makes the same network ready on one core of another machine."""
        if self._content is not None:
            return partial(LiteRunner.on_one_core, self._content, self.setting.batch)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "network.keras")
            self._model.save(path)
            return partial(_restored, path.read_bytes())

    def _try_litert(self, sample: NDArray[np.float32], setting: Setting | None) -> str:
        """Set up the interpreters; return why that failed, or nothing."""
        checked = sample[:_CHECKED]
        try:
            content = to_litert(self._model, sample.shape[1:], batch=None)
            expected = by_keras(self._model, checked)
            answers = LiteRunner(content, Setting(batch=len(checked)))(checked)
        except Exception as error:  # the converter and the interpreter raise what they like
            return f"LiteRT cannot run it ({first_line(error, 120)})"
        self.difference = relative_difference(answers, expected)
        if not self.difference <= TOLERANCE:  # NaN too
            return f"LiteRT differs from Keras by {self.difference:.1e}, more than {TOLERANCE:.0e}"
        self.setting = setting or _fastest(content, sample)
        self._content, self._runner = content, LiteRunner(content, self.setting)
        return ""


def _restored(content: bytes) -> Runner:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "network.keras")
        path.write_bytes(content)
        return KerasRunner(load_model(path))


def why_not_litert() -> str:
    """Why frozen networks are not run by LiteRT here; empty if they are."""
    if importlib.util.find_spec("ai_edge_litert") is None:
        return "ai-edge-litert is not installed (it is of the extra cpu)"
    return "a GPU is there" if gpu_capabilities() else ""


def _fastest(content: bytes, sample: NDArray[np.float32]) -> Setting:
    """Time a few ways to lay out the work on the sample."""
    cores = count_cores()
    settings = [
        Setting(workers=workers, threads=cores // workers, batch=batch)
        for workers in (1, cores)
        for batch in (1, 8)
    ]
    settings = [s for s in dict.fromkeys(settings) if s.batch * s.workers <= max(1, len(sample))]
    if len(settings) < 2:
        return Setting(threads=cores, batch=1)
    return max(settings, key=lambda setting: _pictures_per_s(content, sample, setting))


def _pictures_per_s(content: bytes, sample: NDArray[np.float32], setting: Setting) -> float:
    models = [LiteRTModel(content, threads=setting.threads) for _ in range(setting.workers)]
    batch = np.asarray(sample[: setting.batch], np.float32)

    def run_for_a_while(model: LiteRTModel) -> int:
        count, until = 0, time.perf_counter() + _TIMED_S
        while count < _TIMED_CALLS * len(batch) and time.perf_counter() < until:
            model(batch)
            count += len(batch)
        return count

    for model in models:
        model(batch)  # plans its memory
    begun = time.perf_counter()
    with ThreadPoolExecutor(len(models)) as pool:
        total = sum(pool.map(run_for_a_while, models))
    return total / (time.perf_counter() - begun)


class KerasRunner:
    """A Keras model that is run over many float32 pictures, of which the first go layer by layer.

    What more of them gain wins back what tracing a network takes.
    """

    def __init__(self, model: keras.Model) -> None:
        self._model, self._asked = model, 0

    def __call__(self, pictures: NDArray[np.float32]) -> NDArray[np.float32]:
        """The output, one row per picture."""
        self._asked += len(pictures)
        if self._asked <= _LAYER_BY_LAYER:
            return by_keras(self._model, pictures)
        return _in_parts(self._graph, pictures)

    @cached_property
    def _graph(self) -> Callable[..., Any]:
        return _compiled(self._model)


def by_keras(model: keras.Model, pictures: NDArray[np.float32]) -> NDArray[np.float32]:
    """The output of a Keras model in inference mode, layer by layer, a few pictures at a time."""
    return _in_parts(partial(model, training=False), pictures)


def _in_parts(run: Callable[..., Any], pictures: NDArray[np.float32]) -> NDArray[np.float32]:
    parts = [
        np.asarray(keras.ops.convert_to_numpy(run(pictures[i : i + _KERAS_BATCH])), np.float32)
        for i in range(0, max(1, len(pictures)), _KERAS_BATCH)
    ]
    return np.concatenate(parts)


def _compiled(model: keras.Model) -> Callable[..., Any]:
    """The same network as one graph, where the backend has such; ``predict`` would not do.

    On several devices, that would share out a batch, or answer it on each of them.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.function(partial(model, training=False), reduce_retracing=True)
    if keras.backend.backend() == "jax":
        import jax

        call: Callable[..., Any] = jax.jit(partial(model.stateless_call, training=False))
        weights = (model.trainable_variables, model.non_trainable_variables)
        values = [[weight.value for weight in part] for part in weights]

        def run(pictures: NDArray[np.float32]) -> Any:
            answers, _ = call(*values, pictures)
            return answers

        return run
    import torch  # pyright: ignore[reportMissingImports]

    return torch.no_grad()(partial(model, training=False))


def relative_difference(values: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """The largest difference, relative to the largest expected value."""
    largest = float(np.abs(expected).max())
    return float(np.abs(values - expected).max()) / (largest or 1.0)

"""Exported files, each run by its own runtime; no framework is imported for most of them."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import RequestError
from .formats import FORMATS, check_installed

Runner: TypeAlias = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""From one picture ``(1, height, width, channels)`` in [0, 255] to outputs ``(1, classes)``."""

_MODULES = {
    "litert": "ai_edge_litert.interpreter",
    "onnx": "onnxruntime",
    "openvino": "openvino",
    "keras": "inshape.graph.layers",  # which a file may hold
    "savedmodel": "tensorflow",
}
_BY_SUFFIX = {".tflite": "litert", ".onnx": "onnx", ".xml": "openvino", ".keras": "keras"}


def kind_of(path: Path) -> str:
    """Which runtime reads a file.

    Args:
        path: an exported file, or the folder of a SavedModel.

    Returns:
        ``"litert"``, ``"onnx"``, ``"openvino"``, ``"keras"`` or ``"savedmodel"``.

    Raises:
        RequestError: if there is no such file, or none of these.
    """
    if not path.exists():
        raise RequestError(f"{path}: no such file; expected an exported model; check the path")
    if path.is_dir() and (path / "saved_model.pb").exists():
        return "savedmodel"
    kind = _BY_SUFFIX.get(path.suffix.lower())
    if kind is None or path.is_dir():
        raise RequestError(
            f"{path} is no exported model; expected a file ending in {', '.join(_BY_SUFFIX)} or "
            "the folder of a SavedModel; export one with inshape export"
        )
    check_installed(FORMATS[kind])
    return kind


def import_runtime(kind: str) -> None:
    """Import what runs a kind of file, so that loading one takes the time of loading alone.

    Args:
        kind: from `kind_of`.
    """
    importlib.import_module(_MODULES[kind])


def load(path: Path, *, threads: int | None = None) -> Runner:
    """Load an exported file.

    Args:
        path: the file, or a SavedModel's folder.
        threads: that it may use; ``None`` for one per core. Keras and SavedModel take what
            TensorFlow is set to.

    Returns:
        What runs it.

    Raises:
        RequestError: if it cannot be read.
    """
    kind = kind_of(path)
    try:
        return _LOADERS[kind](path, threads or os.cpu_count() or 1)
    except RequestError:
        raise
    except Exception as error:  # every runtime raises its own
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise RequestError(
            f"{path} cannot be read by {kind} ({reason}); expected an exported model; export it "
            "again"
        ) from error


def _litert(path: Path, threads: int) -> Runner:
    from ai_edge_litert.interpreter import (
        Interpreter,  # pyright: ignore[reportMissingTypeStubs]
    )

    run: Any = Interpreter(model_path=str(path), num_threads=threads)
    run.allocate_tensors()
    taken, given = run.get_input_details()[0], run.get_output_details()[0]
    index = taken["index"]
    shape = tuple(taken["shape"])

    def call(picture: NDArray[np.float32]) -> NDArray[np.float32]:
        nonlocal shape
        if picture.shape != shape:
            run.resize_tensor_input(index, picture.shape)
            run.allocate_tensors()
            shape = picture.shape
        run.set_tensor(index, quantised(picture, taken))
        run.invoke()
        return dequantised(run.get_tensor(given["index"]), given)

    return call


def quantised(values: NDArray[np.float32], details: Any) -> NDArray[Any]:
    """Values in the type that a LiteRT tensor takes.

    Args:
        values: float32.
        details: of the tensor, from the interpreter.
    """
    if details["dtype"] == np.float32:
        return values
    scale, zero = details["quantization"]
    limits = np.iinfo(details["dtype"])
    return np.clip(np.round(values / scale + zero), limits.min, limits.max).astype(details["dtype"])


def dequantised(values: NDArray[Any], details: Any) -> NDArray[np.float32]:
    """The numbers that a LiteRT tensor stands for.

    Args:
        values: as the tensor holds them.
        details: of the tensor, from the interpreter.
    """
    if details["dtype"] == np.float32:
        return np.array(values)
    scale, zero = details["quantization"]
    return ((values.astype(np.float32) - zero) * scale).astype(np.float32)


def _onnx(path: Path, threads: int) -> Runner:
    import onnxruntime

    options: Any = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session: Any = onnxruntime.InferenceSession(
        str(path), options, providers=["CPUExecutionProvider"]
    )
    name = session.get_inputs()[0].name
    return lambda picture: session.run(None, {name: picture})[0]


def _openvino(path: Path, threads: int) -> Runner:
    import openvino

    core: Any = openvino.Core()
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
    }
    compiled = core.compile_model(str(path), "CPU", settings)
    return lambda picture: np.array(compiled(picture)[0])


def _keras(path: Path, threads: int) -> Runner:
    from ..graph.saving import load_model

    model: Any = load_model(path)
    return lambda picture: model.predict(picture, verbose=0)


def _savedmodel(path: Path, threads: int) -> Runner:
    import tensorflow as tf

    loaded: Any = tf.saved_model.load(str(path))

    def call(picture: NDArray[np.float32]) -> NDArray[np.float32]:
        return loaded.serve(tf.constant(picture)).numpy()

    return call


_LOADERS: dict[str, Callable[[Path, int], Runner]] = {
    "litert": _litert,
    "onnx": _onnx,
    "openvino": _openvino,
    "keras": _keras,
    "savedmodel": _savedmodel,
}

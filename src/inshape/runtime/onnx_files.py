"""ONNX files, written by tf2onnx and run by onnxruntime."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .conversion import Conversion, freeze, missing_operator, quiet
from .formats import OPSET

if TYPE_CHECKING:
    import keras

    from .runners import Runner


def write(model: keras.Model, path: Path, conversion: Conversion) -> None:
    """Write a file."""
    path.write_bytes(to_onnx(model, conversion.batch))


def load(path: Path, threads: int) -> Runner:
    """A file, ready to run."""
    session = _session(path, intra_op_num_threads=threads, log_severity_level=3)
    name = session.get_inputs()[0].name
    return lambda picture: session.run(None, {name: picture})[0]


def properties_of(path: Path) -> dict[str, str]:
    """The words that a file carries beside its network; none if it cannot be read.

    By the runtime, since the package onnx may not be installed where a file is run.
    """
    if importlib.util.find_spec("onnxruntime") is None:
        return {}
    import onnxruntime

    level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL  # nothing is run
    try:
        session = _session(path, graph_optimization_level=level, log_severity_level=4)
    except Exception:  # it is said to be unreadable where it is run
        return {}
    return dict(session.get_modelmeta().custom_metadata_map)


def _session(path: Path, **settings: Any) -> Any:
    import onnxruntime

    options: Any = onnxruntime.SessionOptions()
    for name, value in settings.items():
        setattr(options, name, value)
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def to_onnx(model: keras.Model, batch: int | None) -> bytes:
    """The content of a file that takes so many pictures per call, or any number."""
    import onnx
    import tf2onnx.convert

    traced = freeze(model, (batch, *model.input_shape[1:]))
    try:
        with quiet("tf2onnx"), quiet("tensorflow"):
            onnx_model, _ = tf2onnx.convert.from_graph_def(
                traced.graph.as_graph_def(),
                input_names=[tensor.name for tensor in traced.inputs],
                output_names=[tensor.name for tensor in traced.outputs],
                opset=OPSET,
            )
        graph = onnx_model.graph
        _rename(graph, graph.input[0].name, "picture")
        _rename(graph, graph.output[0].name, "probabilities")
        onnx.checker.check_model(onnx_model)
    except Exception as error:  # tf2onnx and the checker raise what they like
        raise missing_operator("ONNX", model, traced, str(error)) from error
    return onnx_model.SerializeToString()


def _rename(graph: Any, old: str, new: str) -> None:
    for value in (*graph.input, *graph.output, *graph.value_info):
        if value.name == old:
            value.name = new
    for node in graph.node:
        node.input[:] = [new if name == old else name for name in node.input]
        node.output[:] = [new if name == old else name for name in node.output]

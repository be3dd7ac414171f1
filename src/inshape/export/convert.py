"""Conversions of a Keras model, each into a path that nothing is at yet."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from ..errors import GraphError
from ..features.forward import frozen, quiet
from .formats import Format, Io
from .int8 import int8_content

OPSET = 17
"""The ONNX operator set: read by onnxruntime from 1.12 on."""

_FLEX = re.compile(r"\btf\.([A-Z][A-Za-z0-9]+)")


def convert(
    model: keras.Model,
    form: Format,
    path: Path,
    *,
    pictures: Iterable[NDArray[np.float32]] = (),
    io: Io = "float32",
    batch: int | None = None,
) -> None:
    """Write a model in a format.

    Args:
        model: takes float32 pictures in [0, 255]; an unknown height and width stay so.
        form: the format.
        path: where to; its suffix is the format's.
        pictures: to calibrate on, each ``(1, height, width, channels)``.
        io: type of the input and output of a quantised file.
        batch: pictures per call of an ONNX or OpenVINO file; ``None`` for any number. LiteRT files
            take one.

    Raises:
        GraphError: if the format has no operator for a layer.
    """
    if form.name == "keras":
        model.save(path)
    elif form.name == "savedmodel":
        with quiet("absl"):
            model.export(path, verbose=False)
    elif form.suffix == ".tflite":
        path.write_bytes(_litert(model, form, list(pictures), io))
    else:
        content = _onnx(model, batch)
        if form.name == "onnx":
            path.write_bytes(content)
        else:
            _openvino(content, path)


def litert_file(model: keras.Model) -> bytes:
    """A LiteRT float32 file of a model for one picture; an unknown height and width stay so.

    Args:
        model: as for `convert`.

    Raises:
        GraphError: if LiteRT has no operator for a layer.
    """
    return _float(model, frozen(model, (1, *model.input_shape[1:])))


def _litert(model: keras.Model, form: Format, pictures: list[NDArray[np.float32]], io: Io) -> bytes:
    import tensorflow as tf

    # A kernel that quantised files hold per channel needs a batch of a known size.
    traced = frozen(model, (1, *model.input_shape[1:]))
    with quiet("absl"):  # it asks for the object that holds the variables; there are none left
        converter: Any = tf.lite.TFLiteConverter.from_concrete_functions([traced])
    if form.name != "litert":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if form.name == "litert-float16":
        converter.target_spec.supported_types = [tf.float16]
    if form.is_quantised:
        made = int8_content(_float(model, traced), pictures, io)
        if made is not None:
            return made
        # An operator without a kernel there has one here; ranges are then the widest.
        converter.representative_dataset = lambda: ([picture] for picture in pictures)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = tf.as_dtype(io)
        converter.inference_output_type = tf.as_dtype(io)
    return _built_in_only(model, converter.convert)


def _float(model: keras.Model, traced: Any) -> bytes:
    import tensorflow as tf

    with quiet("absl"):
        converter: Any = tf.lite.TFLiteConverter.from_concrete_functions([traced])
    return _built_in_only(model, converter.convert)


def _built_in_only(model: keras.Model, run: Callable[[], bytes]) -> bytes:
    """Convert, and name the layer that has no operator."""
    try:
        with quiet("absl"), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Statistics for quantized inputs")
            return run()
    except Exception as error:  # the converter raises its own, undocumented kinds
        missing = sorted(set(_FLEX.findall(str(error))))
        named = ", ".join(missing) or str(error).strip().splitlines()[0][:160]
        kinds = {name.lower() for name in missing}
        guilty = [
            layer.name
            for layer in model.layers
            if any(type(layer).__name__.lower() in kind or kind in type(layer).__name__.lower()
                   for kind in kinds)
        ]  # fmt: skip
        where = f" (layer {guilty[0]!r})" if guilty else ""
        raise GraphError(
            f"LiteRT has no built-in operator for {named}{where}; expected layers that it has; "
            "replace the layer, or export to onnx or savedmodel"
        ) from error


def _onnx(model: keras.Model, batch: int | None) -> bytes:
    import onnx
    import tf2onnx.convert

    traced = frozen(model, (batch, *model.input_shape[1:]))
    with quiet("tf2onnx"), quiet("tensorflow"):
        made, _ = tf2onnx.convert.from_graph_def(
            traced.graph.as_graph_def(),
            input_names=[tensor.name for tensor in traced.inputs],
            output_names=[tensor.name for tensor in traced.outputs],
            opset=OPSET,
        )
    _rename(made, made.graph.input[0].name, "picture")
    _rename(made, made.graph.output[0].name, "probabilities")
    onnx.checker.check_model(made)
    return made.SerializeToString()


def _rename(made: Any, old: str, new: str) -> None:
    graph = made.graph
    for value in (*graph.input, *graph.output, *graph.value_info):
        if value.name == old:
            value.name = new
    for node in graph.node:
        node.input[:] = [new if name == old else name for name in node.input]
        node.output[:] = [new if name == old else name for name in node.output]


def _openvino(content: bytes, path: Path) -> None:
    import io

    import openvino

    made = openvino.convert_model(io.BytesIO(content))
    openvino.save_model(made, path, compress_to_fp16=False)

"""Conversions of a Keras model, each into a path that nothing is at yet."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, GraphError
from ..progress import Advance
from .formats import OPSET, Format, Io
from .frozen import frozen, quiet

_FLEX = re.compile(r"\btf\.([A-Z][A-Za-z0-9]+)")
_RESIZE = 'use Resizing(interpolation="bilinear", antialias=False)'
_INSTEAD = {"ResizeBicubic": _RESIZE, "ResizeArea": _RESIZE, "ScaleAndTranslate": _RESIZE}
"""What to use for operations that LiteRT has only as Flex or custom operators."""


def convert(
    model: keras.Model,
    form: Format,
    path: Path,
    *,
    pictures: Sequence[NDArray[np.float32]] = (),
    io: Io = "float32",
    batch: int | None = None,
    told: Advance | None = None,
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
        told: is called with the layers of a quantised file that are done, and all layers.

    Raises:
        GraphError: if the format has no operator for a layer.
        DataError: if there is nothing to calibrate a quantised file on.
    """
    if form.name == "keras":
        model.save(path)
    elif form.name == "savedmodel":
        with quiet("absl"):
            model.export(path, verbose=False)
    elif form.suffix == ".tflite":
        path.write_bytes(_litert(model, form, pictures, io, told))
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


def _litert(
    model: keras.Model,
    form: Format,
    pictures: Sequence[NDArray[np.float32]],
    io: Io,
    told: Advance | None,
) -> bytes:
    import tensorflow as tf

    # A kernel that quantised files hold per channel needs a batch of a known size.
    traced = frozen(model, (1, *model.input_shape[1:]))
    converter = _converter(traced)
    if form.name != "litert":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if form.name == "litert-float16":
        converter.target_spec.supported_types = [tf.float16]
    if form.is_quantised:
        if not pictures:
            raise DataError(
                "no calibration pictures; expected some that say which ranges int8 has to cover; "
                "give pictures= that the model was trained on"
            )
        from .int8 import int8_content

        made = int8_content(_float(model, traced), pictures, io, told=told)
        if made is not None:
            return made
        # An operator without a kernel there has one here; ranges are then the widest.
        converter.representative_dataset = lambda: ([picture] for picture in pictures)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = tf.as_dtype(io)
        converter.inference_output_type = tf.as_dtype(io)
    return _built_in_only(model, traced, converter)


def _converter(traced: Any) -> Any:
    import tensorflow as tf

    with quiet("absl"):  # it asks for the object that holds the variables; there are none left
        return tf.lite.TFLiteConverter.from_concrete_functions([traced])


def _float(model: keras.Model, traced: Any) -> bytes:
    return _built_in_only(model, traced, _converter(traced))


def _built_in_only(model: keras.Model, traced: Any, converter: Any) -> bytes:
    """Convert with the operators that every LiteRT has; the converter is set to no others."""
    for operation in traced.graph.get_operations():
        if operation.type in _INSTEAD:  # before the converter writes a page about it
            raise _lacking("LiteRT", model, traced, operation.type)
    try:
        with quiet("absl"), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Statistics for quantized inputs")
            return converter.convert()
    except Exception as error:  # the converter raises its own, undocumented kinds
        raise _lacking("LiteRT", model, traced, str(error)) from error


def _lacking(name: str, model: keras.Model, traced: Any, told: str) -> GraphError:
    """Say which layer a format has no operator for, and what to use instead.

    Args:
        name: of the format.
        model: what was converted.
        traced: the same as TensorFlow's operations, each named after its layer.
        told: what the converter said.
    """
    words = set(re.findall(r"[A-Za-z0-9_]+", told))
    missing = [o for o in traced.graph.get_operations() if o.type in words & _kinds(traced, told)]
    if not missing:
        reason = (told.strip().splitlines() or ["it did not say why"])[0][:160]
        return GraphError(
            f"{name} cannot hold the model ({reason}); expected layers that it has operators for; "
            "export to savedmodel or keras"
        )
    kind = missing[0].type
    layer = _layer_of(model, missing[0].name)
    instead = _INSTEAD.get(kind, "replace the layer")
    return GraphError(
        f"{name} has no built-in operator for {kind} (layer {layer!r}); expected layers that it "
        f"has; {instead}, or export to {'onnx or ' if name != 'ONNX' else ''}savedmodel"
    )


def _kinds(traced: Any, told: str) -> set[str]:
    """Kinds of operations that a message may mean: those it calls ``tf.Kind``, or else any."""
    named = set(_FLEX.findall(told))
    return named or {o.type for o in traced.graph.get_operations()} - {"Const", "Identity"}


def _layer_of(model: keras.Model, operation: str) -> str:
    """The layer that an operation such as ``functional_1/enlarge_1/resize/ResizeBicubic`` is of."""
    names: set[str] = set()
    todo: list[Any] = [model]
    while todo:
        layer = todo.pop()
        names.add(layer.name)
        todo += getattr(layer, "layers", [])
    parts = [p for part in operation.split("/")[1:] for p in (part, re.sub(r"_\d+$", "", part))]
    return next((part for part in parts[::-1] if part in names), operation)


def _onnx(model: keras.Model, batch: int | None) -> bytes:
    import onnx
    import tf2onnx.convert

    traced = frozen(model, (batch, *model.input_shape[1:]))
    try:
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
    except Exception as error:  # tf2onnx and the checker raise what they like
        raise _lacking("ONNX", model, traced, str(error)) from error
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

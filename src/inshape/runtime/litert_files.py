"""LiteRT files of a Keras model: as it is, with smaller weights, or all in int8.

    python -m inshape.runtime.litert_files FILE

has a file answer once, in a process that it may end.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DataError, RequestError
from .conversion import INSTEAD, Conversion, freeze, missing_operator, quiet
from .in_tensorflow import call_in_tensorflow, is_needed
from .litert import LiteRTModel

if TYPE_CHECKING:
    import keras


def load(path: Path, threads: int) -> LiteRTModel:
    """A file, ready to run."""
    model = LiteRTModel(path, threads=threads)
    for side in (model.input, *model.outputs):
        if side["dtype"] != np.float32 and not side["quantization"][0] > 0:
            raise RequestError(
                f"{path}: {side['name']} is {np.dtype(side['dtype'])} without a scale; expected "
                "float32, or whole numbers that have one; export it again"
            )
    model.allocate()
    return model


def _try_out(path: Path) -> None:
    from .flatbuffer import fault_of

    fault = fault_of(path.read_bytes())
    if fault:
        raise RequestError(f"{path}: {fault}")
    model = load(path, 1)
    if model.has_fixed_size:
        model(np.zeros(model.input["shape"], np.float32))


def write(model: keras.Model, path: Path, conversion: Conversion) -> None:
    """Write a file that takes one picture."""
    if conversion.form.is_quantised:
        content = _to_int8(model, conversion)
    else:
        content = to_litert(model, weights=conversion.form.name.removeprefix("litert").lstrip("-"))
    path.write_bytes(content)


def to_litert(
    model: keras.Model,
    shape: tuple[int | None, ...] | None = None,
    *,
    batch: int | None = 1,
    weights: str = "",
) -> bytes:
    """A LiteRT file of a model; an unknown height and width stay so.

    ``shape`` fixes the picture's ``(height, width, channels)``; a batch of ``None`` is any number;
    ``weights`` may be ``"float16"`` or ``"dynamic"``, which is int8.

    Raises:
        GraphError: if LiteRT has no operator for a layer.
    """
    if is_needed():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "model.tflite")
            call_in_tensorflow("to_litert", model, path, shape=shape, batch=batch, weights=weights)
            return path.read_bytes()
    import tensorflow as tf

    traced = freeze(model, (batch, *(shape or model.input_shape[1:])))
    converter = _converter_of(traced)
    if weights:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if weights == "float16":
        converter.target_spec.supported_types = [tf.float16]
    return _run_converter(model, traced, converter)


def _to_int8(model: keras.Model, conversion: Conversion) -> bytes:
    import tensorflow as tf

    pictures, io, granularity = conversion.pictures, conversion.io, conversion.granularity
    if not pictures:
        raise DataError(
            "no calibration pictures; expected some that say which ranges int8 has to cover; "
            "give pictures= that the model was trained on"
        )
    from .int8 import int8_content

    # A kernel that quantised files hold per channel needs a batch of a known size.
    traced = freeze(model, (1, *model.input_shape[1:]))
    plain = _run_converter(model, traced, _converter_of(traced))
    content = int8_content(
        plain,
        pictures,
        io,
        granularity,
        split=not conversion.is_as_planned,
        progress=conversion.progress,
    )
    if content is not None:
        return content
    # An operator without a kernel there has one here; ranges are then the widest.
    converter = _converter_of(traced)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([picture] for picture in pictures)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = tf.as_dtype(io)
    converter.inference_output_type = tf.as_dtype(io)
    converter._experimental_disable_per_channel = granularity == "per-tensor"
    return _run_converter(model, traced, converter)


def _converter_of(traced: Any) -> Any:
    import tensorflow as tf

    with quiet("absl"):  # it asks for the object that holds the variables; there are none left
        return tf.lite.TFLiteConverter.from_concrete_functions([traced])


def _run_converter(model: keras.Model, traced: Any, converter: Any) -> bytes:
    """Convert with the operators that every LiteRT has; the converter is set to no others."""
    for operation in traced.graph.get_operations():
        if operation.type in INSTEAD:  # before the converter writes a page about it
            raise missing_operator("LiteRT", model, traced, operation.type)
    try:
        with quiet("absl"), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Statistics for quantized inputs")
            return converter.convert()
    except Exception as error:  # the converter raises its own, undocumented kinds
        raise missing_operator("LiteRT", model, traced, str(error)) from error


if __name__ == "__main__":
    _try_out(Path(sys.argv[1]))

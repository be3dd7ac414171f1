"""OpenVINO files: an ONNX file read and written by OpenVINO, which runs it too."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .conversion import Conversion
from .onnx_files import to_onnx

if TYPE_CHECKING:
    import keras

    from .runners import Runner


def write(model: keras.Model, path: Path, conversion: Conversion) -> None:
    """Write a file and, beside it, its weights."""
    import openvino

    content = io.BytesIO(to_onnx(model, conversion.batch))
    openvino.save_model(openvino.convert_model(content), path, compress_to_fp16=False)


def load(path: Path, threads: int) -> Runner:
    """A file, ready to run in float32."""
    import openvino

    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
    }
    compiled = openvino.Core().compile_model(str(path), "CPU", settings)
    return lambda picture: np.array(compiled(picture)[0])

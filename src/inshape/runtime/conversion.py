"""Conversions of a Keras model, each into a path that nothing is at yet."""

from __future__ import annotations

import importlib
import logging
import re
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import GraphError
from ..geometry.operators import Granularity, Io
from ..progress import Advance
from ..text import first_line
from .formats import Format
from .in_tensorflow import call_in_tensorflow, is_needed

if TYPE_CHECKING:
    import keras

_FLEX = re.compile(r"\btf\.([A-Z][A-Za-z0-9]+)")
_RESIZE = 'use Resizing(interpolation="bilinear", antialias=False)'
INSTEAD = {"ResizeBicubic": _RESIZE, "ResizeArea": _RESIZE, "ScaleAndTranslate": _RESIZE}
"""What to use for operations that LiteRT has only as Flex or custom operators."""


@dataclass(frozen=True, slots=True)
class Conversion:
    """What is written into a file besides the model."""

    form: Format
    pictures: Sequence[NDArray[np.float32]] = ()
    """To calibrate a quantised file on, each ``(1, height, width, channels)`` in [0, 255]."""
    io: Io = "float32"
    """The type of a quantised file's input and output."""
    granularity: Granularity = "per-channel"
    """What of its weights has a scale."""
    is_as_planned: bool = False
    """Whether a quantised file must have the operators that were planned: those of the network."""
    batch: int | None = None
    """Pictures per call, where a format takes other numbers than one; by default any."""
    progress: Advance | None = None
    """Called with the layers of a quantised file that are done, and all layers."""


def convert(
    model: keras.Model,
    form: Format,
    path: Path,
    *,
    pictures: Sequence[NDArray[np.float32]] = (),
    io: Io = "float32",
    granularity: Granularity = "per-channel",
    is_as_planned: bool = False,
    batch: int | None = None,
    progress: Advance | None = None,
) -> None:
    """Write a model, which takes float32 pictures in [0, 255], in a format.

    An unknown height and width stay so. What the keywords mean stands at `Conversion`.

    Raises:
        GraphError: if the format has no operator for a layer.
        DataError: if there is nothing to calibrate a quantised file on.
    """
    if form.files != "keras_files" and is_needed():
        call_in_tensorflow(
            "convert", model, path, pictures,
            form=form.name, io=io, granularity=granularity, batch=batch,
            is_as_planned=is_as_planned,
        )  # fmt: skip
        return
    module: Any = importlib.import_module(form.module)
    conversion = Conversion(
        form,
        pictures=pictures,
        io=io,
        granularity=granularity,
        is_as_planned=is_as_planned,
        batch=batch,
        progress=progress,
    )
    module.write(model, path, conversion)


def freeze(model: keras.Model, shape: tuple[int | None, ...]) -> Any:
    """A model in inference mode as one TensorFlow function without variables.

    Its input is named ``picture`` and has the shape ``(batch, height, width, channels)``; ``None``
    is any number.
    """
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import (
        convert_variables_to_constants_v2,  # TensorFlow offers it in no public place
    )

    def run(picture: Any) -> Any:
        return model(picture, training=False)

    spec = tf.TensorSpec(shape, tf.float32, name="picture")
    # Before a conversion: `from_concrete_functions` on a Keras 3 model loses variables and gives
    # NaN, and `from_keras_model` writes a SavedModel first, which takes three times as long.
    return convert_variables_to_constants_v2(tf.function(run).get_concrete_function(spec))


def missing_operator(name: str, model: keras.Model, traced: Any, message: str) -> GraphError:
    """Which layer a format has no operator for by its tool's message, and what to use instead."""
    words = set(re.findall(r"[A-Za-z0-9_]+", message))
    operations = traced.graph.get_operations()
    # The kinds that a message may mean: those it calls ``tf.Kind``, or else any.
    kinds = set(_FLEX.findall(message)) or {o.type for o in operations} - {"Const", "Identity"}
    missing = next((o for o in operations if o.type in words & kinds), None)
    if missing is None:
        reason = first_line(message, 160) if message.strip() else "it did not say why"
        return GraphError(
            f"{name} cannot hold the model ({reason}); expected layers that it has operators for; "
            "export to savedmodel or keras"
        )
    layer = layer_of(model, missing.name)
    instead = INSTEAD.get(missing.type, "replace the layer")
    return GraphError(
        f"{name} has no built-in operator for {missing.type} (layer {layer!r}); expected layers "
        f"that it has; {instead}, or export to {'onnx or ' if name != 'ONNX' else ''}savedmodel"
    )


def layer_of(model: keras.Model, operation: str) -> str:
    """The layer that an operation such as ``functional_1/enlarge_1/resize/ResizeBicubic`` is of."""
    names: set[str] = set()
    unread: list[Any] = [model]
    while unread:
        layer = unread.pop()
        names.add(layer.name)
        unread += getattr(layer, "layers", [])
    parts = [p for part in operation.split("/")[1:] for p in (part, re.sub(r"_\d+$", "", part))]
    return next((part for part in parts[::-1] if part in names), operation)


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

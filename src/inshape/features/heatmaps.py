"""Where in a picture a network sees a class: Grad-CAM (Selvaraju et al., arXiv 1610.02391)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import GraphError
from ..heads import LOGITS
from .cut import Cut, cuts, section


class Heatmaps:
    """Computes the heat maps of a model at one size of pictures."""

    def __init__(self, model: keras.Model, size_hw: tuple[int, int]) -> None:
        """Cut the model behind its last map.

        Raises:
            GraphError: if there is no map of more than one pixel behind the picture.
        """
        # A certain softmax has no gradient left in float32; the logits before it have.
        if any(layer.name == LOGITS for layer in model.layers):
            model = keras.Model(model.inputs, model.get_layer(LOGITS).output)
        last = _last_map(model, size_hw)
        self._body, self._head = section(model, None, last), section(model, last, None)

    def __call__(
        self, pictures: NDArray[np.float32], classes: NDArray[np.integer[Any]]
    ) -> NDArray[np.float32]:
        """What speaks for the class of each picture, from 0 to 1.

        Pictures are ``(batch, height, width, channels)``; the answer ``(batch, rows, columns)`` of
        the last map.
        """
        maps = self._body(pictures, training=False)
        signs = np.where(classes == 1, 1.0, -1.0).astype(np.float32)

        def scores(maps: Any) -> Any:
            outputs = self._head(maps, training=False)
            if outputs.shape[1] == 1:  # a single output is that of the second of two classes
                return keras.ops.sum(outputs[:, 0] * signs)
            return keras.ops.sum(outputs * keras.ops.one_hot(classes, outputs.shape[1]))

        values = keras.ops.convert_to_numpy(maps)
        weights: Any = keras.ops.convert_to_numpy(_gradient(scores, maps))
        heat = (weights.mean(axis=(1, 2), keepdims=True) * values).sum(axis=-1)
        heat = np.maximum(heat, 0.0)
        return heat / np.maximum(heat.max(axis=(1, 2), keepdims=True), 1e-12)


def _gradient(function: Callable[[Any], Any], values: Any) -> Any:
    """The gradient of a number at some values, which Keras leaves to its backend."""
    if keras.backend.backend() == "jax":
        import jax

        return jax.grad(function)(values)
    if keras.backend.backend() == "torch":
        values = values.detach().requires_grad_()
        function(values).backward()
        return values.grad
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(values)
        result = function(values)
    return tape.gradient(result, values)


def _last_map(model: keras.Model, size_hw: tuple[int, int]) -> Cut:
    places = cuts(model, size_hw)[1:]
    maps = [cut for cut in places if cut.map_hw is not None and max(cut.map_hw) > 1]
    if not maps:
        raise GraphError(
            f"model {model.name!r} has no map of more than one pixel to show heat on; expected a "
            "convolutional network; leave the heat maps out"
        )
    return maps[-1]


def draw_heat(picture: NDArray[np.float32], heat: NDArray[np.float32]) -> Image.Image:
    """Heat in colours over the grey of a picture ``(height, width, channels)`` in [0, 255]."""
    height, width, _ = picture.shape
    spread = Image.fromarray(heat).resize((width, height), Image.Resampling.BILINEAR)
    levels = np.clip(np.asarray(spread) * 255, 0, 255).astype(np.uint8)
    colours = _colours()[levels]
    blended = 0.5 * picture.mean(axis=-1, keepdims=True) + 0.5 * colours
    return Image.fromarray(blended.round().astype(np.uint8))


def _colours() -> NDArray[np.float64]:
    """A colour for every byte, ``(256, 3)``: dark is cold."""
    from plotly import colors  # slow to import

    shades = colors.sample_colorscale("Inferno", 256)
    return np.asarray([colors.unlabel_rgb(shade) for shade in shades], np.float64)

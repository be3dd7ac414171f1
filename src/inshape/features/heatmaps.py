"""Where in a picture a network sees a class: Grad-CAM (Selvaraju et al., arXiv 1610.02391)."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import GraphError, RequestError
from ..heads import LOGITS
from .cut import Cut, cuts, section


class Heatmaps:
    """Computes the heat maps of a model at one size of pictures."""

    def __init__(self, model: keras.Model, size_hw: tuple[int, int]) -> None:
        """Cut the model behind its last map.

        Raises:
            RequestError: if the backend is not TensorFlow.
            GraphError: if there is no map of more than one pixel behind the picture.
        """
        if keras.backend.backend() != "tensorflow":
            raise RequestError(
                f"heat maps on the Keras backend {keras.backend.backend()}; expected tensorflow, "
                "whose gradients they are made of; set KERAS_BACKEND=tensorflow"
            )
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
        import tensorflow as tf

        maps: Any = self._body(pictures, training=False)
        with tf.GradientTape() as tape:
            tape.watch(maps)
            outputs: Any = self._head(maps, training=False)
            if outputs.shape[1] == 1:  # a single output is that of the second of two classes
                scores: Any = outputs[:, 0] * np.where(classes == 1, 1.0, -1.0).astype(np.float32)
            else:
                scores = tf.gather(outputs, classes, axis=1, batch_dims=1)
        weights: Any = tape.gradient(scores, maps).numpy().mean(axis=(1, 2), keepdims=True)
        heat = np.maximum((weights * maps.numpy()).sum(axis=-1), 0.0)
        return heat / np.maximum(heat.max(axis=(1, 2), keepdims=True), 1e-12)


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

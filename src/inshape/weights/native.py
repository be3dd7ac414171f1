"""A named network at its native shape, with its weights and with its preprocessing inside."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np

from ..backbones import Backbone
from .origin import IMAGENET_STATISTICS
from .sources import load_source


def native(backbone: Backbone, weights: str | Path | None, *, with_top: bool) -> keras.Model:
    """Build a network that takes pictures in [0, 255]; its classifier gives probabilities."""
    source = load_source(
        backbone, weights, include_top=with_top, activation="softmax" if with_top else None
    )
    return _with_preprocessing(source, backbone) if backbone.is_wrapped else source


def _with_preprocessing(source: keras.Model, backbone: Backbone) -> keras.Model:
    """Put into the model what ``keras.applications`` leaves to ``preprocess_input``."""
    image = keras.Input(source.input_shape[1:], name="image")
    if backbone.preprocessing == "tf":
        x = keras.layers.Rescaling(1 / 127.5, offset=-1.0, name="preprocess")(image)
        return keras.Model(image, source(x), name=source.name)
    if backbone.preprocessing == "torch":
        mean, deviation = map(np.array, IMAGENET_STATISTICS)
        mean, variance = mean * 255, (deviation * 255) ** 2
    else:
        mean, variance = np.array([123.68, 116.779, 103.939]), np.ones(3)
        _reverse_stem_channels(source)
    x = keras.layers.Normalization(
        mean=mean.tolist(), variance=variance.tolist(), name="preprocess"
    )(image)
    return keras.Model(image, source(x), name=source.name)


def _reverse_stem_channels(source: keras.Model) -> None:
    """Let a network that was trained on BGR read RGB, by the order of its stem's kernel."""
    stem = next(layer for layer in source.layers if isinstance(layer, keras.layers.Conv2D))
    kernel, *bias = stem.get_weights()
    stem.set_weights([kernel[:, :, ::-1], *bias])

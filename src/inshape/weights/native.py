"""A named network at its native shape, with its weights and with its preprocessing inside."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TypeAlias

import keras
import numpy as np

from ..backbones import Backbone
from .sources import load_source

_Kept: TypeAlias = dict[tuple[str, str, bool], keras.Model]
_kept: ContextVar[_Kept | None] = ContextVar("kept", default=None)


def native(backbone: Backbone, weights: str | Path | None, *, with_top: bool) -> keras.Model:
    """Build a network that takes pictures in [0, 255]; it is to be read and not to be changed.

    Args:
        backbone: which network.
        weights: as in `load_source`.
        with_top: whether the classifier is wanted too; it gives probabilities.

    Returns:
        A functional Keras model, the same one for the same request inside `sources_kept`.
    """
    kept, key = _kept.get(), (backbone.name, str(weights), with_top)
    if kept is not None and key in kept:
        return kept[key]
    source = load_source(
        backbone, weights, include_top=with_top, activation="softmax" if with_top else None
    )
    if is_wrapped(backbone):
        source = _with_preprocessing(source, backbone)
    if kept is not None:
        for other in [k for k in kept if k[0] != backbone.name]:
            del kept[other]
        kept[key] = source
    return source


@contextmanager
def sources_kept() -> Generator[None]:
    """Build a network once for several plans.

    Until the block ends, the last backbone stays in memory. A block inside another adds nothing.

    Example:
        >>> from inshape.backbones import find
        >>> small = find("MobileNetV3Small")
        >>> with sources_kept():
        ...     native(small, None, with_top=False) is native(small, None, with_top=False)
        True
    """
    if _kept.get() is not None:
        yield
        return
    token = _kept.set({})
    try:
        yield
    finally:
        _kept.reset(token)


def is_wrapped(backbone: Backbone) -> bool:
    """Whether a network stands behind layers that do its preprocessing."""
    return backbone.preprocessing != "inside"


def _with_preprocessing(source: keras.Model, backbone: Backbone) -> keras.Model:
    """Put into the model what ``keras.applications`` leaves to ``preprocess_input``."""
    image = keras.Input(source.input_shape[1:], name="image")
    if backbone.preprocessing == "tf":
        x = keras.layers.Rescaling(1 / 127.5, offset=-1.0, name="preprocess")(image)
        return keras.Model(image, source(x), name=source.name)
    if backbone.preprocessing == "torch":
        mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
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

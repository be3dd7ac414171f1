"""Files that inshape wrote: read, adapted to another shape, and written again."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import inshape
from inshape.runtime.conversion import convert
from inshape.runtime.formats import formats_of
from inshape.runtime.runners import answer, load

OWN, OTHER = (33, 24, 3), (25, 40, 1)
WAY = {"strategy": "rebuild", "head": "top"}


def _separable(x):
    y = layers.DepthwiseConv2D(3, padding="same", use_bias=False)(x)
    y = layers.ReLU(6.0)(layers.BatchNormalization()(y))
    return layers.Add()([layers.Conv2D(8, 1)(y), x])


def _squeezed(x):
    x = layers.Activation("hard_silu")(x)
    gate = layers.Conv2D(4, 1, activation="relu")(layers.GlobalAveragePooling2D(keepdims=True)(x))
    return layers.Multiply()([x, layers.Conv2D(8, 1, activation="hard_sigmoid")(gate)])


def _branched(x):
    y = layers.Conv2D(6, 3, padding="same", dilation_rate=2, activation="relu")(x)
    y = layers.Concatenate()([y, layers.MaxPooling2D(3, 1, "same")(x)])
    return layers.Conv2D(8, 3, strides=2, padding="same", activation="relu")(y)


@pytest.fixture(scope="module", params=[_separable, _squeezed, _branched], ids=lambda f: f.__name__)
def source(request, randomise):
    image = keras.Input(OWN)
    x = layers.Rescaling(1 / 127.5, -1)(image)
    x = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu")(x)
    x = layers.GlobalAveragePooling2D()(request.param(x))
    return randomise(keras.Model(image, layers.Dense(5)(x)))


@pytest.fixture(scope="module")
def adapted(source):
    return inshape.adapt(source, OTHER, **WAY)


def _pictures(shape):
    """Waves of many lengths, which tell networks apart better than noise does."""
    places = (
        np.arange(12 * np.prod(shape)).reshape(12, *shape)
        * np.linspace(0.01, 0.3, 12)[:, None, None, None]
    )
    return (127.5 + 127.5 * np.sin(places)).astype(np.float32)


@pytest.mark.parametrize(
    ("kind", "share"), [("litert", 1e-4), ("onnx", 1e-4), ("litert-int8", 0.2)]
)
def test_an_own_file_goes_round(source, adapted, kind, share, tmp_path):
    (form,) = formats_of([kind])
    first, second = (tmp_path / f"{n}{form.suffix}" for n in (1, 2))
    here, there = _pictures(OWN), _pictures(OTHER)
    convert(source, form, first, pictures=[x[None] for x in here])
    read = inshape.adapt(first, OTHER, **WAY)
    assert read.output_shape == (None, 5)
    scores = np.asarray(adapted(there))
    spread = np.ptp(scores, axis=0).max()
    assert np.abs(read(there) - scores).max() < share * spread
    convert(read, form, second, pictures=[x[None] for x in there])
    assert np.abs(answer(load(second), there) - np.asarray(read(there))).max() < share * spread

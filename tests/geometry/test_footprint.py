"""Estimates of int8 files against files that were converted."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from inshape.geometry.footprint import int8_file_bytes, int8_ram_bytes
from inshape.graph.read import read
from inshape.planning import plan
from inshape.runtime.conversion import convert
from inshape.runtime.formats import FORMATS
from inshape.shapes import InputShape

layers = keras.layers


@pytest.mark.slow
@pytest.mark.parametrize("name", ["MobileNetV3Small-minimalistic", "MobileNetV2-0.35"])
def test_a_file_is_as_large_as_was_said(name, tmp_path):
    shape = InputShape.of("64x64x1")
    keras.utils.set_random_seed(0)
    model = plan(name, str(shape), strategy="rebuild", classes=10).build(weights=None)
    rng = np.random.default_rng(1)
    for weight in model.weights:  # as after training, no two vectors are the same
        if len(weight.shape) == 1:
            spread = "gamma" in weight.path or "variance" in weight.path
            values = rng.uniform(0.5, 1.5, weight.shape) if spread else rng.normal(0, 0.3)
            weight.assign(np.broadcast_to(values, weight.shape) + rng.normal(0, 0.1, weight.shape))
    path = tmp_path / "a.tflite"
    pictures = [rng.uniform(0, 255, (1, 64, 64, 1)).astype(np.float32) for _ in range(2)]
    convert(model, FORMATS["litert-int8"], path, pictures=pictures, io="float32")
    assert int8_file_bytes(read(model), shape) == pytest.approx(path.stat().st_size, rel=0.03)


def test_memory_is_that_of_the_activations_and_at_least_of_the_picture_twice():
    """By hand, for 97x64x3: the picture as float32 and int8, or picture and map, or two maps."""
    shape = InputShape.of("97x64x3")
    image = keras.Input(shape.as_tuple())
    for filters, strides, expected in (
        (2, 2, 5 * 97 * 64 * 3),  # the map has 49 x 32 x 2 values
        (40, 1, 97 * 64 * (3 + 40)),
    ):
        x = layers.Conv2D(filters, 3, strides=strides, padding="same")(image)
        model = keras.Model(image, layers.GlobalAveragePooling2D()(x))
        assert int8_ram_bytes(read(model), shape) == expected
    assert int8_ram_bytes(read(model), InputShape.of("?x64x3")) is None

"""Pictures and a network that are small enough to be compared many times."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from PIL import Image

layers = keras.layers


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """Fine stripes that lie or stand: gone at 8 pixels, there at 32."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:40, :32]
    for name, way in (("lie", rows), ("stand", columns)):
        (folder / name).mkdir()
        for i in range(30):
            level = 128 + 80 * np.sin(way * 1.2 + rng.uniform(0, 6))
            pixels = np.clip(level + rng.normal(0, 25, level.shape), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i:02}.png")
    return folder


@pytest.fixture(scope="session")
def network(tmp_path_factory):
    keras.utils.set_random_seed(3)
    image = keras.Input((32, 32, 1))
    x = layers.Rescaling(1 / 127.5, offset=-1)(image)
    x = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu", name="stem")(x)
    x = layers.Conv2D(16, 3, strides=2, padding="same", activation="relu", name="last")(x)
    x = layers.GlobalAveragePooling2D()(x)
    path = tmp_path_factory.mktemp("network") / "small.keras"
    keras.Model(image, layers.Dense(5)(x), name="small").save(path)
    return str(path)

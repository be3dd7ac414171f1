"""Striped pictures, one small network, and a few runs that all tests of the room share."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from PIL import Image

from inshape.choosing import train
from inshape.training.recalibration import recalibrate

layers = keras.layers

NOISE = 60
QUICK = {
    "epochs": 2, "batch_size": 8, "validation": 0.25, "learning_rate": 0.01, "baseline": False,
}  # fmt: skip
SMALL = {"weights": None, "strategy": "rebuild"}

# All options that can go together in one training, none of them as it is by default.
EVERY_OPTION = {
    "optimizer": "adam", "task": "classification", "fold": "2/5",
    "shape": "16x12x1", "seed": 3, "strategy": "resize", "channels": "first",
    "working_hw": "32x24", "fit": "crop", "interpolation": "nearest",
    "max_latency": "900ms", "max_macs": "90M", "max_flash": "9MiB", "max_ram": "9MiB",
    "pool": "max", "dropout": 0.1, "hidden": 6, "pretrained_dense": False,
    "picture_fit": "crop", "picture_interpolation": "area", "antialias": False, "colour": "grey",
    "crop_margin": 0.9, "fill": 9.0, "full_scale": 250.0, "mask_ignore": "7,9",
    "unfreeze": "last_stride", "epochs": 2, "head_epochs": 2, "patience": 9, "batch_size": 6,
    "learning_rate": 0.02, "layer_decay": 0.2, "warmup_epochs": 0.5, "weight_decay": 0.02,
    "label_smoothing": 0.15, "class_weights": "sqrt", "augment": "none", "views": 1,
    "flip": False, "mixup": 0.1, "cutmix": 0.3, "ema": 0.5, "batch_norm": "train",
    "precision": "bfloat16", "validation": 0.2, "distil": True, "distil_share": 0.6,
    "distil_temperature": 3.0, "distil_maps": 0.5, "recalibrate": True, "fixres": True,
    "baseline": False, "reopen_bn": True,
}  # fmt: skip


def build_network(shape=(32, 24, 1)):
    """Three resolutions, two batch norms and a dense layer worth keeping before the classifier."""
    keras.utils.set_random_seed(3)
    image = keras.Input(shape)
    x = layers.Rescaling(1 / 127.5, offset=-1, name="scale")(image)
    x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False, name="stem")(x)
    x = layers.ReLU(name="stem_relu")(layers.BatchNormalization(name="stem_bn")(x))
    x = layers.DepthwiseConv2D(3, strides=2, padding="same", name="last_stride")(x)
    x = layers.Conv2D(16, 1, use_bias=False, name="last")(x)
    x = layers.ReLU(name="last_relu")(layers.BatchNormalization(name="last_bn")(x))
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.Dense(24, activation="relu", name="dense")(x)
    model = keras.Model(image, layers.Dense(7, name="classifier")(x), name="small")
    # Statistics of such pictures, as a pretrained network has them.
    pictures = np.stack([striped(way, shape[:2], np.random.default_rng(way)) for way in range(3)])
    recalibrate(model, [np.repeat(pictures[..., None], shape[2], axis=-1).astype("float32")])
    return model


def striped(way, hw, rng):
    """A picture of stripes that lie, stand or lean."""
    rows, columns = np.mgrid[: hw[0], : hw[1]]
    along = (rows, columns, rows + columns)[way]
    level = 128 + 60 * np.sin(along * 1.2 + rng.uniform(0, 6))
    return np.clip(level + rng.normal(0, NOISE, hw), 0, 255).astype(np.uint8)


@pytest.fixture(name="build_network", scope="session")
def _build_network():
    """The function that makes the network, 32x24x1 by default."""
    return build_network


@pytest.fixture(scope="session")
def quick():
    """Choices for a training of two short epochs."""
    return QUICK


@pytest.fixture(scope="session")
def every_option():
    """All options that can go together in one training, none of them as it is by default."""
    return EVERY_OPTION


@pytest.fixture(scope="session")
def network(tmp_path_factory):
    """The network as a file."""
    path = tmp_path_factory.mktemp("network") / "small.keras"
    build_network().save(path)
    return path


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """Stripes that lie, stand or lean, 16 of each, as files."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for way, name in enumerate(("lie", "stand", "lean")):
        (folder / name).mkdir()
        for i in range(16):
            Image.fromarray(striped(way, (34, 24), rng)).save(folder / name / f"{i:02}.png")
    return folder


@pytest.fixture(scope="session")
def train_small(photos, network):
    """Trains the network on the stripes: ``train_small(out, shape, **choices)``."""

    def run(out, shape="16x12x1", *, source=photos, **choices):
        return train(source, shape, out=out, **{"backbone": network, **SMALL, **QUICK, **choices})

    return run


@pytest.fixture(scope="session")
def taught(train_small, tmp_path_factory):
    """A run with everything that can be tried: a teacher, and both steps after the training."""
    out = tmp_path_factory.mktemp("runs") / "a"
    return train_small(out, distil=True, recalibrate=True, fixres=True)


@pytest.fixture(scope="session")
def plain(train_small, tmp_path_factory):
    """A run of two phases."""
    return train_small(tmp_path_factory.mktemp("runs") / "plain", seed=1)


@pytest.fixture(scope="session")
def tried(train_small, tmp_path_factory):
    """Runs of the head alone with one step behind it, by the step's name."""
    folder = tmp_path_factory.mktemp("tried")
    return {
        name: train_small(folder / name, unfreeze="none", **{name: True})
        for name in ("recalibrate", "fixres")
    }


def results(run):
    """What a run measured; how fast its frozen layers are laid out differs from time to time."""
    return {name: value for name, value in run.record["metrics"].items() if name != "engine"}


def assert_same_run(one, other, *, exactly=True):
    """Both ended with the same history, the same scores and the same weights."""
    assert one.history_rows() == other.history_rows()
    if exactly:
        assert results(one) == results(other)
    weights = [run.load_model().get_weights() for run in (one, other)]
    tolerance = {"rtol": 0, "atol": 0} if exactly else {"rtol": 1e-5, "atol": 1e-6}
    for a, b in zip(*weights, strict=True):
        np.testing.assert_allclose(a, b, **tolerance)


@pytest.fixture(name="assert_same_run", scope="session")
def _assert_same_run():
    """Compares two runs."""
    return assert_same_run

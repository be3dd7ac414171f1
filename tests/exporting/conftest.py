"""A small network trained on striped pictures, and its exports in every format."""

from __future__ import annotations

import runpy
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from io import StringIO
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from PIL import Image

from inshape.choosing import train
from inshape.cli.app import run as run_command
from inshape.exporting import api
from inshape.exporting.api import export
from inshape.runtime.formats import FORMATS

layers = keras.layers


def backbone(shape=(24, 20, 3)):
    keras.utils.set_random_seed(3)
    image = keras.Input(shape)
    x = layers.Rescaling(1 / 127.5, offset=-1)(image)
    x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False, name="stem")(x)
    x = layers.Activation("hard_silu")(layers.BatchNormalization()(x))
    x = layers.DepthwiseConv2D(3, strides=2, padding="same")(x)
    x = layers.Conv2D(16, 1, activation="relu", name="last")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(image, layers.Dense(7, name="classifier")(x), name="small")


@pytest.fixture(name="backbone", scope="session")
def _backbone():
    """The function that makes the network."""
    return backbone


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    return striped(tmp_path_factory.mktemp("photos"), seed=0)


@pytest.fixture(scope="session")
def elsewhere(tmp_path_factory):
    """Other pictures of the same classes."""
    return striped(tmp_path_factory.mktemp("elsewhere"), seed=1)


def striped(folder, seed):
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:51, :43]
    for name, way in (("lie", rows), ("stand", columns), ("lean", rows + columns)):
        (folder / name).mkdir()
        for i in range(20):
            level = 128 + 60 * np.sin(way * 0.6 + rng.uniform(0, 6))
            noisy = level[..., None] + rng.normal(0, 20, (51, 43, 3))
            pixels = np.clip(noisy, 0, 255).astype(np.uint8)
            suffix = "jpg" if i % 2 else "png"
            Image.fromarray(pixels).save(folder / name / f"{i:02}.{suffix}")
    return folder


def trained(photos, out, shape, **choices):
    return train(
        photos, shape, out=out, backbone=backbone((24, 20, 3)), weights=None,
        strategy="rebuild", epochs=1, validation=0.3, batch_size=8, baseline=False, **choices,
    )  # fmt: skip


@pytest.fixture(scope="session")
def run(photos, tmp_path_factory):
    return trained(photos, tmp_path_factory.mktemp("runs") / "a", "17x13x3")


@pytest.fixture(scope="session")
def exports(run):
    """Every format, once for all tests."""
    pytest.importorskip("tf2onnx")
    pytest.importorskip("openvino")
    return {
        f.format: f
        for f in export(run, list(FORMATS), timing=False, io="uint8", calibration=30).files
    }


@pytest.fixture(scope="session")
def timed_exports(run, tmp_path_factory):
    """Two files and the Keras model, timed in processes of their own; ONNX takes four pictures.

    Only the LiteRT file is timed with one thread and with all: another process for each of the
    others shows nothing more.
    """
    pytest.importorskip("tf2onnx")
    real, once = api.time_file, {}

    def timed(path, shape, *, threads, batch=1):
        if path.suffix == ".tflite":
            return real(path, shape, threads=threads, batch=batch)
        timing = once.get(path) or real(path, shape, threads=threads, batch=batch)
        once[path] = timing
        return replace(timing, threads=threads)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(api, "time_file", timed)
        return export(run, "litert,onnx", batch=4, out=tmp_path_factory.mktemp("timed") / "x")


@pytest.fixture(scope="session")
def inshape():
    """Calls the program in this process."""

    def call(*words):
        out, err = StringIO(), StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            code = run_command([str(word) for word in words])
        return SimpleNamespace(code=code, out=out.getvalue(), err=err.getvalue())

    return call


@pytest.fixture
def run_example(monkeypatch):
    """Runs the program beside an exported file on a picture; what it prints."""

    def run(path, picture):
        monkeypatch.setattr(sys, "argv", [f"{path}.py", str(picture)])
        out = StringIO()
        with redirect_stdout(out):
            runpy.run_path(f"{path}.py", run_name="__main__")
        return out.getvalue().split()

    return run

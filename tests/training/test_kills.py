"""kill -9 in each part of a training; what goes on ends as if nothing had happened."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import keras
import numpy as np
import pytest
from PIL import Image

from inshape.choosing import train
from inshape.heads import Head
from inshape.runs import Run
from inshape.training.api import resume
from inshape.training.recipe import Recipe

LOOP = sys.modules["inshape.training.loop"]
CHOICES = {"epochs": 2, "head_epochs": 2, "patience": 9, "batch_size": 8, "validation": 0.25}

# Trains in a process that kills itself in the named part.
PROGRAM = """
import json, os, signal, sys
from dataclasses import replace
from inshape.features.extract import Extraction
from inshape.heads import Head
from inshape.train import Recipe, phases, train
loop = sys.modules["inshape.training.loop"]
loop._SAVE_EVERY_S = 0.0
place, photos, network, out, choices = sys.argv[1:]

def die():
    os.kill(os.getpid(), signal.SIGKILL)

if place == "features":
    made = Extraction._made
    def until_the_mirrored(self, split, view, *rest):
        for rows in made(self, split, view, *rest):
            yield rows
            if view == "mirrored":
                die()
    Extraction._made = until_the_mirrored
else:
    run_phase = phases.run_phase
    def until_a_step(phase):
        def on_step(epoch, step, steps, loss):
            if phase.name == place and (epoch, step) == (1, 2):
                die()
        return run_phase(replace(phase, on_step=on_step))
    phases.run_phase = until_a_step
train(photos, "17x12x1", out=out, backbone=network, weights=None, strategy="rebuild",
      head=Head(hidden=8), recipe=Recipe(**json.loads(choices)))
"""


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Stripes that lie or stand, 16 of each."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for name, way in zip(("lie", "stand"), np.mgrid[:17, :12], strict=True):
        (folder / name).mkdir()
        for i in range(16):
            level = 128 + 60 * np.sin(way * 1.2 + rng.uniform(0, 6))
            pixels = np.clip(level + rng.normal(0, 20, level.shape), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i:02}.png")
    return folder


def backbone():
    keras.utils.set_random_seed(3)
    image = keras.Input((17, 12, 1))
    x = keras.layers.Rescaling(1 / 127.5, offset=-1)(image)
    x = keras.layers.Conv2D(6, 3, strides=2, padding="same", activation="relu", name="stem")(x)
    x = keras.layers.DepthwiseConv2D(3, strides=2, padding="same", name="last_stride")(x)
    x = keras.layers.Conv2D(8, 1, activation="relu", name="last")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, keras.layers.Dense(3)(x), name="small")


@pytest.mark.parametrize(
    ("place", "unfreeze", "done"),
    [("features", "last", []), ("head", "last", []), ("body", "all", ["head"])],
)
def test_a_run_killed_anywhere_goes_on_to_the_same_result(
    place, unfreeze, done, photos, tmp_path, monkeypatch
):
    network = tmp_path / "network.keras"
    backbone().save(network)
    choices = {**CHOICES, "unfreeze": unfreeze}
    words = [place, photos, network, tmp_path / "cut", json.dumps(choices)]
    killed = subprocess.run(
        [sys.executable, "-c", PROGRAM, *words],
        capture_output=True, text=True, check=False,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )  # fmt: skip
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    cut = Run.open(tmp_path / "cut")
    assert (cut.status, cut.record["done"]) == ("running", done)
    assert (cut.checkpoints / f"{place}.npz").exists() == (place != "features")
    kept = cut.checkpoints / "features"
    assert len(list(kept.glob("*.part"))) == (place == "features")
    monkeypatch.setattr(LOOP, "_SAVE_EVERY_S", 0.0)
    resumed = resume(cut)
    whole = train(
        photos, "17x12x1", out=tmp_path / "whole", backbone=network, weights=None,
        strategy="rebuild", head=Head(hidden=8), recipe=Recipe(**choices),
    )  # fmt: skip
    assert [row["phase"] for row in whole.history()] == ["head", "head", "body", "body"]
    assert resumed.history() == whole.history()
    weights = [run.load_model().get_weights() for run in (resumed, whole)]
    for a, b in zip(*weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)

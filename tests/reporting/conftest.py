"""A comparison written by hand, and a small trained run."""

from __future__ import annotations

import shutil

import keras
import numpy as np
import pytest
from PIL import Image

from inshape.choosing import train
from inshape.comparison.result import Candidate, Comparison
from inshape.tasks.bootstrap import Score
from inshape.training.recipe import Recipe

layers = keras.layers

NASTY = "<script>alert(1)"
"""The name of a class, which is the name of a folder."""


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """Stripes that lie, stand or lean; oblong, one class of a name that no page may run."""
    folder = tmp_path_factory.mktemp("photos") / "stripes"
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:34, :24]
    for name, way in (("lie", rows), (NASTY, columns), ("lean", rows + columns)):
        (folder / name).mkdir(parents=True)
        for i in range(12):
            level = 128 + 60 * np.sin(way * 1.2 + rng.uniform(0, 6))
            pixels = np.clip(level + rng.normal(0, 20, level.shape), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i:02}.png")
    return folder


@pytest.fixture(scope="session")
def network():
    """A small network with two resolutions."""
    keras.utils.set_random_seed(3)
    image = keras.Input((18, 14, 1))
    x = layers.Rescaling(1 / 127.5, offset=-1, name="scale")(image)
    x = layers.Conv2D(8, 3, strides=2, padding="same", name="stem")(x)
    x = layers.DepthwiseConv2D(3, strides=2, padding="same", name="last_stride")(x)
    x = layers.Conv2D(16, 1, activation="relu", name="last")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(image, layers.Dense(7, name="classifier")(x), name="small")


@pytest.fixture(scope="session")
def trained(photos, network, tmp_path_factory):
    """A run of both phases whose model resizes pictures inside itself."""
    return train(
        photos, "17x12x1", out=tmp_path_factory.mktemp("runs") / "a", backbone=network,
        weights=None, strategy="resize",
        recipe=Recipe(epochs=2, batch_size=8, validation=0.25, learning_rate=0.01),
    )  # fmt: skip


@pytest.fixture
def run(trained, tmp_path):
    """A copy of the run that a test may change."""
    return type(trained).open(shutil.copytree(trained.folder, tmp_path / "run"))


def candidate(shape, strategy, accuracy, latency, macs, **more):
    score = None if accuracy is None else Score(accuracy, accuracy - 0.03, accuracy + 0.02)
    return Candidate(
        "net", shape, strategy, accuracy=score, latency_ms=latency, macs=macs, params=2_000_000,
        flash_bytes=2_097_152, ram_bytes=307_200, working_shape=more.pop("working", shape),
        latencies=() if latency is None else ((1, latency, latency), (4, latency / 2, latency)),
        **more,
    )  # fmt: skip


@pytest.fixture(scope="session")
def comparison(photos):
    """Six candidates: three on the fronts, one over a limit, one beaten, one that failed."""
    candidates = (
        candidate("96x64x1", "restride", 0.83, 4.0, 80_000_000),
        candidate("96x64x1", "rebuild", 0.80, 1.5, 30_000_000),
        candidate("64x48x1", "resize", 0.70, 1.0, 50_000_000, working="97x64x1"),
        candidate("64x48x1", "rebuild", 0.60, 2.0, 90_000_000, dropped="worse than <b>that</b>"),
        candidate(
            "224x224x1", "rebuild", None, 9.0, 200_000_000, dropped="9.00 ms is over 5.00 ms"
        ),
        Candidate("net", "2x2x1", "rebuild", error="VanishingMap: no pixels <left>"),
    )
    best = candidates[1]
    names = [c.name for c in candidates]
    return Comparison(
        source=str(photos), pictures=36, weights=None, candidates=candidates,
        pareto_front=(names[2], names[1], names[0]), recommended=best.name,
        reason=f"{best.name}: 1.50 ms instead of 4.00 ms.",
        command=f"inshape train {photos} --input 96x64x1",
        # As `inshape.compare` says it: parts that workers share, and the whole beside them.
        seconds={"build": 3.0, "latency": 1.5, "features": 20.0, "probe": 61.0, "pictures": 0.5,
                 "all": 50.0},
        record={
            "request": {"command": f"inshape compare {photos}", "seed": 7,
                        "limits": {"max_latency": 5.0, "max_macs": None}},
            "data": {"fingerprint": "f" * 64, "classes": {"lie": 12, "lean": 12, NASTY: 12},
                     "examples": [{"picture": f"{name}/00.png", "label": name}
                                  for name in ("lean", "lie", NASTY)]},
            "versions": {"python": "3.11.0", "keras": "3.15.0"},
            "pareto_fronts": {"latency_ms": [names[2], names[1], names[0]],
                       "macs": [names[1], names[0]]},
            "plan": plan_record(),
        },
    )  # fmt: skip


def plan_record():
    """What a plan says, written by hand: one stage is gone at the new shape."""

    def stage(first, last, size, stride, field, macs, params):
        return {
            "first": first, "last": last, "map_size": size, "channels": 8, "stride_hw": stride,
            "field_hw": field, "global_context": False, "macs": macs, "params": params,
        }  # fmt: skip

    head = stage("pool", "top", None, [None, None], [24, 18], 10, 10)
    native = [
        stage("image", "scale", "48x36", [1, 1], [1, 1], 0, 0),
        stage("stem", "relu", "24x18", [2, 2], [3, 3], 1000, 50),
        stage("deep", "last", "12x9", [4, 4], [60, 60], 4000, 700),
    ]
    new = [
        stage("image", "pad", "24x18", [1, 1], [3, 3], 900, 30),
        stage("deep", "last", "12x9", [2, 2], [30, 12], 2000, 700),
    ]
    common = {"final_map": "12x9", "peak_int8_bytes": 5000}
    return {
        "backbone": "net", "strategy": "restride", "input_shape": "24x18x1",
        "native_shape": "48x36x3", "channels": "sum", "head": "average pooling, 3 classes",
        "footprint": {"flash_bytes": 2048, "ram_bytes": 5120, "float32_bytes": 8192},
        "reasons": ["small <pictures>"],
        "warnings": [{"code": "a", "message": "an odd size"}], "notes": ["the stem is resampled"],
        "input_layers": {"resize_hw": None},
        "geometry": {**common, "input_shape": "24x18x1", "working_shape": "24x18x1",
                     "macs": 2910, "stages": [*new, head]},
        "native_geometry": {**common, "input_shape": "48x36x3", "working_shape": "48x36x3",
                            "macs": 5010, "stages": [*native, head]},
    }  # fmt: skip

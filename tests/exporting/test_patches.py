"""A limit on the RAM in a run's int8 file."""

from __future__ import annotations

import re

import keras
import numpy as np
import pytest

from inshape.choosing import train
from inshape.errors import RequestError
from inshape.exporting.api import export
from inshape.planning import plan
from inshape.runtime.runners import load

layers = keras.layers


@pytest.fixture(scope="module")
def small_run(photos, tmp_path_factory):
    """Of a network that is wide early, for a limit that it does not meet as a whole."""
    keras.utils.set_random_seed(5)
    image = keras.Input((33, 26, 1))
    x = layers.Conv2D(16, 3, padding="same", activation="relu")(image)
    x = layers.DepthwiseConv2D(3, strides=2, padding="same")(x)
    x = layers.Conv2D(12, 3, strides=2, activation="relu", name="end")(x)
    network = keras.Model(image, x, name="wide")
    choice = plan(network, "33x26x1", classes=3, strategy="rebuild").within(2048).choice
    return train(
        photos, "33x26x1", out=tmp_path_factory.mktemp("runs") / "a", backbone=network,
        weights=None, strategy="rebuild", epochs=0, head_epochs=1, baseline=False,
        max_ram=(choice.whole.ram_bytes + choice.best.ram_bytes) // 2,
    )  # fmt: skip


def exported(run, out, **options):
    few = {"timing": False, "calibration": 4, "pictures": 6, "min_agreement": 0}
    exports = export(run, "litert-int8", out=out, **few, **options)
    (file,) = exports.files
    return file, str(exports)


def test_a_run_keeps_its_limit_in_the_file_alone(small_run, tmp_path):
    """The model is the whole network; both files answer alike, one in less memory."""
    planned = small_run.record["plan"]
    limit, before = (planned["patches"][name] for name in ("limit_bytes", "whole_ram_bytes"))
    assert before > limit >= planned["footprint"]["ram_bytes"]
    assert len(small_run.load_model().layers) < 12
    cut, text = exported(small_run, tmp_path / "cut")
    whole, whole_text = exported(small_run, tmp_path / "whole", max_ram="1MiB")
    (region,) = planned["patches"]["regions"]
    rows, columns = region["grid_hw"]
    assert f'computed as {rows}x{columns} patches down to "{region["end"]}"' in text
    assert "within the limit of 1.0 MiB, computed as the whole network" in whole_text
    assert (cut.arena_bytes or cut.tensor_bytes) <= limit
    assert cut.tensor_bytes < 0.75 * whole.tensor_bytes
    assert cut.planned_ram_bytes == planned["footprint"]["ram_bytes"]
    pictures = np.random.default_rng(0).uniform(0, 255, (8, 1, 33, 26, 1)).astype(np.float32)
    answers = [[load(tmp_path / part / "model-int8.tflite")(p) for p in pictures]
               for part in ("cut", "whole")]  # fmt: skip
    np.testing.assert_array_equal(*answers)


def test_what_an_export_cannot_keep(small_run, tmp_path):
    with pytest.raises(RequestError, match=re.escape("max_ram=2.0 KiB: ")):
        exported(small_run, tmp_path / "a", max_ram="2KiB")
    for name, value in (("max_ram", "9KiB"), ("granularity", "per-tensor")):
        message = (
            f"{name} with litert; expected litert-int8 or micro among them, the files that it is "
            "for; leave one of the two out"
        )
        with pytest.raises(RequestError, match=re.escape(message)):
            export(small_run, "litert", out=tmp_path / "a", **{name: value})
    assert not (tmp_path / "a").exists()

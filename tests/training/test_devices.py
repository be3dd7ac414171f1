"""Several devices and lower precision, on processors that stand in for GPUs."""

from __future__ import annotations

import json
import subprocess
import sys

import keras
import numpy as np
import pytest

from inshape.errors import UnknownName
from inshape.training.devices import choose_dtype, computing_in
from inshape.training.learner import Learner
from inshape.training.recipe import Recipe

# Two logical processors have to be asked for before TensorFlow begins.
PROGRAM = """
import json, sys
import keras, numpy as np, tensorflow as tf
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
from inshape.training.learner import Learner
from inshape.training.recipe import Recipe

layers = keras.layers
results = {}
for count in (1, 2):
    devices = [f"CPU:{i}" for i in range(count)]
    with tf.distribute.MirroredStrategy(devices).scope():
        keras.utils.set_random_seed(1)
        image = keras.Input((8, 6, 2))
        x = layers.Conv2D(6, 3, strides=2, activation="relu")(image)
        body = keras.Model(image, layers.GlobalAveragePooling2D()(x))
        pooled = keras.Input((6,))
        head = keras.Model(pooled, layers.Dense(3)(pooled))
        learner = Learner(body, head, Recipe(ema=0.5), seed=0)
        rng = np.random.default_rng(0)
        losses = []
        for _ in range(4):
            rows = rng.normal(size=(7, 8, 6, 2)).astype("float32")
            labels = np.eye(3, dtype="float32")[rng.integers(3, size=7)]
            weights = rng.uniform(0.5, 1.5, 7).astype("float32")
            losses.append(learner.step(rows, labels, weights, 0.05))
        weights = learner.weights(averaged=False), learner.weights()
        results[count] = [losses, *[[float((w**2).sum()) for w in ws] for ws in weights]]
        results[f"devices {count}"] = tf.distribute.get_strategy().num_replicas_in_sync
print(json.dumps(results))
"""


def test_two_devices_learn_what_one_learns():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout.splitlines()[-1])
    assert (results["devices 1"], results["devices 2"]) == (1, 2)
    losses = results["1"][0]
    assert len(set(losses)) == 4
    for one, two in zip(results["1"], results["2"], strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-5)


def learner_of(precision):
    keras.utils.set_random_seed(2)
    image = keras.Input((9, 7, 2))
    x = keras.layers.Conv2D(6, 3, activation="relu", name="conv")(image)
    body = keras.Model(image, keras.layers.GlobalAveragePooling2D()(x))
    pooled = keras.Input((6,))
    head = keras.Model(pooled, keras.layers.Dense(3)(pooled))
    return body, head, Learner(body, head, Recipe(precision=precision), seed=0)


def test_bfloat16_computes_less_precisely_and_keeps_float32_weights():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(8, 9, 7, 2)).astype("float32")
    labels = np.eye(3, dtype="float32")[rng.integers(3, size=8)]
    losses = {}
    for precision in ("float32", "bfloat16"):
        body, head, learner = learner_of(precision)
        with computing_in(precision, body, head):
            losses[precision] = learner.step(rows, labels, np.ones(8, "float32"), 0.01)
            assert body.get_layer("conv").compute_dtype == precision
        assert body.get_layer("conv").compute_dtype == "float32"
        assert {w.dtype for w in learner.weights()} == {np.dtype("float32")}
    assert losses["bfloat16"] != losses["float32"]
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.02)


def test_without_a_gpu_the_precision_is_full():
    assert choose_dtype("auto") == "float32"
    with pytest.raises(UnknownName, match="precision 'float8'"):
        Recipe(precision="float8")

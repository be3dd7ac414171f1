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
from inshape.training.recipe import Recipe
from inshape.training.student import Student, compile_student, weights_of

# Two logical processors have to be asked for before TensorFlow begins.
PROGRAM = """
import json, sys
import keras, numpy as np, tensorflow as tf
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
from inshape.training.recipe import Recipe
from inshape.training.student import Student, compile_student, weights_of

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
        student = Student(body, head, moves_statistics=False, seed=0)
        recipe = Recipe(learning_rate=0.05, warmup_epochs=0, epochs=4, ema=0.5)
        compile_student(student, recipe, 1, 4)
        rng = np.random.default_rng(0)
        rows = rng.normal(size=(8, 8, 6, 2)).astype("float32")
        labels = np.eye(3, dtype="float32")[rng.integers(3, size=8)]
        weights = rng.uniform(0.5, 1.5, 8).astype("float32")

        class Same(keras.utils.PyDataset):
            num_batches = 1

            def __getitem__(self, index):
                return rows, labels, weights / weights.sum()

        history = student.fit(Same(), epochs=4, shuffle=False, verbose=0).history
        sums = [float((w**2).sum()) for w in weights_of(student)]
        results[count] = [history["loss"], sums]
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


def student_of(precision):
    keras.utils.set_random_seed(2)
    image = keras.Input((9, 7, 2))
    x = keras.layers.Conv2D(6, 3, activation="relu", name="conv")(image)
    body = keras.Model(image, keras.layers.GlobalAveragePooling2D()(x))
    pooled = keras.Input((6,))
    head = keras.Model(pooled, keras.layers.Dense(3)(pooled))
    student = Student(body, head, moves_statistics=False, seed=0)
    compile_student(student, Recipe(precision=precision), 10, 1)
    return student


def test_bfloat16_computes_less_precisely_and_keeps_float32_weights():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(8, 9, 7, 2)).astype("float32")
    labels = np.eye(3, dtype="float32")[rng.integers(3, size=8)]
    losses = {}
    for precision in ("float32", "bfloat16"):
        student = student_of(precision)
        body = student.body
        with computing_in(precision, body, student.head):
            losses[precision] = student.train_on_batch(rows, labels, np.full(8, 1 / 8))[0]
            assert body.get_layer("conv").compute_dtype == precision
        assert body.get_layer("conv").compute_dtype == "float32"
        assert {w.dtype for w in weights_of(student)} == {np.dtype("float32")}
    assert losses["bfloat16"] != losses["float32"]
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.02)


def test_without_a_gpu_the_precision_is_full():
    assert choose_dtype("auto") == "float32"
    with pytest.raises(UnknownName, match="precision 'float8'"):
        Recipe(precision="float8")

"""Several devices and lower precision, on processors that stand in for GPUs."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from tests.labels import classes
from tools.pages import blocks

from inshape.errors import UnknownName
from inshape.training.devices import choose_dtype, computing_in
from inshape.training.recipe import Recipe
from inshape.training.student import Student, compile_student, weights_of

REPO = Path(__file__).resolve().parents[2]

# Two logical processors have to be asked for before a backend begins.
PROGRAM = """
import json
import keras, numpy as np
if keras.backend.backend() == "tensorflow":
    import tensorflow as tf
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
    )
from inshape.tasks.classification import Classification
from inshape.training.devices import count_replicas
from inshape.training.feeds import FeatureFeed, Training, Validation
from inshape.training.recipe import Recipe
from inshape.training.student import Student, compile_student, weights_of

def on(count):
    if keras.backend.backend() == "tensorflow":
        return tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(count)]).scope()
    devices = keras.distribution.list_devices()[:count]
    return keras.distribution.DataParallel(devices=devices).scope()

layers = keras.layers
rng = np.random.default_rng(0)
rows = rng.normal(size=(43, 8, 6, 2)).astype("float32")
labels = rng.integers(3, size=43).astype("int32")
results, task = {}, Classification((*"abc",))
for count in (1, 2):
    with on(count):
        keras.utils.set_random_seed(1)
        image = keras.Input((8, 6, 2))
        x = layers.Conv2D(6, 3, strides=2, activation="relu")(image)
        body = keras.Model(image, layers.GlobalAveragePooling2D()(x))
        pooled = keras.Input((6,))
        head = keras.Model(pooled, layers.Dense(3)(pooled))
        student = Student(body, head, moves_statistics=False, seed=0)
        # Odd numbers of rows, which do not share out evenly.
        feed = FeatureFeed([rows], [np.eye(3, dtype="float32")[labels]], rows, 7, seed=0)
        compile_student(student, task, Recipe(learning_rate=0.05, ema=0.5), feed.steps, 2)
        history = student.fit(
            Training(feed, task, np.array([0.5, 1.0, 1.5], "float32")),
            validation_data=Validation(feed, task, labels), epochs=2, shuffle=False, verbose=0,
        ).history
        sums = [float((w**2).sum()) for w in weights_of(student)]
        results[count] = [*history.values(), sums]
        results[f"devices {count}"] = count_replicas()
print(json.dumps(results))
"""


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_two_devices_learn_what_one_learns(backend, run_program):
    if backend == keras.backend.backend():
        done = run_program(PROGRAM)
    else:
        environment = {
            "KERAS_BACKEND": backend, "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
        }  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False,
            env={**os.environ, **environment},
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout.splitlines()[-1])
    assert (results["devices 1"], results["devices 2"]) == (1, 2)
    assert results["1"][1][0] != results["1"][1][1]
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
    compile_student(student, classes(3), Recipe(precision=precision), 10, 1)
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


@pytest.mark.backends
@pytest.mark.skipif(keras.backend.backend() != "jax", reason="Keras trains on hosts by JAX alone")
def test_two_hosts_train_the_network_of_adapt_as_one_does(tmp_path):
    """The program of the page, in two processes that stand in for hosts."""
    page = (REPO / "docs" / "a-million-pictures.md").read_text(encoding="utf-8")
    (program,) = [block.code for block in blocks(page) if block.kind == "python"]
    rng = np.random.default_rng(0)
    pictures, labels = rng.uniform(0, 255, (32, 32, 32, 1)), rng.integers(0, 3, 32)
    np.savez(tmp_path / "pictures.npz", pictures=pictures.astype("float32"), labels=labels)

    def begin(address, count, number):
        return subprocess.Popen(
            [sys.executable, "-c", program, address, str(count), str(number)],
            cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"},
        )  # fmt: skip

    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    processes = [begin(address, 2, 0), begin(address, 2, 1), begin(address, 1, 0)]
    answers = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], answers
    one, two, alone = (
        json.loads(f"[{out.splitlines()[-1].replace('] ', '], ')}]") for out, _ in answers
    )
    assert one == two
    np.testing.assert_allclose(one[0], alone[0], rtol=0.05)
    assert one[1] == pytest.approx(alone[1], rel=1e-3)

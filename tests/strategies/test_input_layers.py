"""What is put between the picture and the network: its numbers, and adapting again."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops

import inshape
from inshape.geometry.inserted import PROJECT, RESIZE, inserted
from inshape.graph.read import read

layers = keras.layers


def run(model, pictures):
    return np.asarray(ops.convert_to_numpy(model(pictures, training=False)))


def whole(rng, *shape):
    return rng.integers(0, 256, (2, *shape)).astype("uint8")


def network(first, dtype="uint8", policy=None, channels=3):
    """A network of 24x20 whose picture is first read in some way."""
    image = keras.Input((24, 20, channels), dtype=dtype)
    x = layers.Conv2D(6, 3, strides=2, dtype=policy, name="stem")(FIRST[first](image))
    x = layers.GlobalAveragePooling2D(dtype=policy)(x)
    return keras.Model(image, layers.Dense(3, dtype=policy, name="classes")(x))


FIRST = {
    "rescaling": lambda x: layers.Rescaling(1 / 127.5, offset=-1)(x),
    "cast": lambda x: ops.cast(x, "float32") / 255,
    "division": lambda x: x / 255,
    "normalization": lambda x: layers.Normalization(mean=[90.0, 99, 120], variance=[9.0, 4, 1])(x),
    "whole numbers": lambda x: ops.cast(x // 16, "float32"),
    "nothing": lambda x: x,
}
OF_WHOLE = ("rescaling", "cast", "division", "normalization", "whole numbers")


def everywhere(model, x, tmp_path):
    """The answers of a call, of predict and of the reloaded model, which must agree."""
    model.save(tmp_path / "model.keras")
    found = run(model, x)
    again = keras.saving.load_model(tmp_path / "model.keras")
    for other in (model.predict(x, verbose=0), run(again, x)):
        np.testing.assert_allclose(other, found, rtol=1e-4, atol=1e-5)
    assert inserted(read(again)).keys() == inserted(read(model)).keys()
    return found


@pytest.mark.parametrize("first", OF_WHOLE)
def test_a_projection_of_whole_numbers(first, rng, randomise, tmp_path):
    source = randomise(network(first))
    model = inshape.adapt(source, "24x20x4", strategy="rebuild", channels="project", head="top")
    assert model.input.dtype == "uint8"
    x = whole(rng, 24, 20, 4)  # three pass through, the fourth enters at zero
    found = everywhere(model, x, tmp_path)
    np.testing.assert_allclose(found, run(source, x[..., :3]), rtol=1e-4, atol=1e-5)
    assert (
        "is rounded"
        in str(inshape.plan(source, "24x20x4", strategy="rebuild", channels="project", head="top"))
        or first != "whole numbers"
    )


def test_a_network_of_whole_numbers_reads_such_from_any_projection(rng, randomise):
    source = randomise(network("whole numbers"))
    model = inshape.adapt(source, "24x20x4", strategy="rebuild", channels="project", head="top")
    kernel = rng.normal(size=(1, 1, 4, 3)).astype("float32")
    model.get_layer(PROJECT).kernel.assign(kernel)
    x = whole(rng, 24, 20, 4)
    expected = np.clip(np.round(x.astype("float32") @ kernel[0, 0]), 0, 255).astype("uint8")
    np.testing.assert_allclose(run(model, x), run(source, expected), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("first", OF_WHOLE)
@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
def test_whole_numbers_resized(first, interpolation, rng, randomise, tmp_path):
    source = randomise(network(first))
    options = {"strategy": "resize", "interpolation": interpolation, "head": "top"}
    model = inshape.adapt(source, "31x17x3", **options)
    x = whole(rng, 31, 17, 3)
    found = everywhere(model, x, tmp_path)
    resized = ops.image.resize(x.astype("float32"), (24, 20), interpolation=interpolation)
    resized = np.asarray(resized)
    if first == "whole numbers":
        expected = run(source, np.round(resized).astype("uint8"))
    else:
        floats = network(first, dtype="float32")
        floats.set_weights(source.get_weights())
        expected = run(floats, resized)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_a_repetition_of_whole_numbers(rng, randomise, tmp_path):
    source = randomise(network("normalization"))
    model = inshape.adapt(source, "24x20x1", strategy="rebuild", channels="sum", head="top")
    assert "repeat_channel" in {layer.name for layer in model.layers}
    x = whole(rng, 24, 20, 1)
    found = everywhere(model, x, tmp_path)
    np.testing.assert_allclose(found, run(source, np.repeat(x, 3, -1)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("policy", ["mixed_float16", "float32"])
@pytest.mark.parametrize("channels", [1, 4])
def test_half_floats(dtype, policy, channels, rng, randomise, tmp_path):
    """What was built under a mixed policy, adapted under one: the network reads what it read."""
    source = randomise(network("nothing", dtype, policy))
    keras.config.set_dtype_policy(policy)
    try:
        model = inshape.adapt(
            source, f"31x17x{channels}", strategy="resize", channels="project", head="top"
        )
    finally:
        keras.config.set_dtype_policy("float32")
    x = rng.uniform(0, 1, (2, 31, 17, channels)).astype(dtype)
    three = np.repeat(x, 3, -1) if channels == 1 else x[..., :3]
    resized = np.asarray(ops.image.resize(three.astype("float32"), (24, 20)))
    found = everywhere(model, x, tmp_path)
    assert found.dtype == run(source, resized.astype(dtype)).dtype
    np.testing.assert_allclose(found, run(source, resized.astype(dtype)), rtol=5e-3, atol=5e-3)
    assert model.get_layer(PROJECT).kernel.dtype == "float32"


def test_a_repetition_under_a_mixed_policy_is_exact(rng, randomise):
    source = randomise(network("normalization", "float32"))
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = inshape.adapt(source, "24x20x1", strategy="rebuild", channels="sum", head="top")
    finally:
        keras.config.set_dtype_policy("float32")
    x = rng.uniform(0, 255, (2, 24, 20, 1)).astype("float32")
    np.testing.assert_allclose(run(model, x), run(source, np.repeat(x, 3, -1)), rtol=1e-5)


# Adapting an adapted model again


def reloaded(model, tmp_path):
    model.save(tmp_path / "adapted.keras")
    return keras.saving.load_model(tmp_path / "adapted.keras")


def count(model, name):
    return sum(operation.name.startswith(name) for operation in model.operations)


@pytest.mark.parametrize("first", ["rescaling", "whole numbers", "normalization"])
@pytest.mark.parametrize(
    ("channels", "rule"), [(1, "auto"), (3, "auto"), (1, "project"), (3, "project"), (4, "project")]
)
def test_resizing_again_is_resizing_once(first, channels, rule, rng, randomise, tmp_path):
    source = randomise(network(first))
    options = {"strategy": "resize", "channels": rule, "head": "top"}
    once = inshape.adapt(source, f"17x31x{channels}", fit="letterbox", **options)
    big = reloaded(inshape.adapt(source, f"50x41x{channels}", **options), tmp_path)
    plan = inshape.plan(big, f"17x31x{channels}", fit="letterbox", **options)
    again = plan.build()
    assert count(again, RESIZE) == 1
    assert [x.name for x in again.operations] == [x.name for x in once.operations]
    assert plan.geometry.params == again.count_params() == once.count_params()
    x = whole(rng, 17, 31, channels)
    np.testing.assert_allclose(run(again, x), run(once, x), rtol=1e-5, atol=1e-5)
    thrice = inshape.adapt(reloaded(again, tmp_path), f"50x41x{channels}", **options)
    x = whole(rng, 50, 41, channels)
    np.testing.assert_allclose(run(thrice, x), run(big, x), rtol=1e-5, atol=1e-5)


def test_a_projection_keeps_what_it_learned_when_resizing_again(rng, randomise, tmp_path):
    source = randomise(network("rescaling"))
    options = {"strategy": "resize", "head": "top"}
    model = inshape.adapt(source, "50x41x4", channels="project", **options)
    kernel = rng.normal(size=(1, 1, 4, 3)).astype("float32")
    model.get_layer(PROJECT).kernel.assign(kernel)
    model = reloaded(model, tmp_path)
    for rule in ("auto", "project"):
        again = inshape.adapt(model, "17x31x4", channels=rule, **options)
        np.testing.assert_array_equal(again.get_layer(PROJECT).kernel, kernel)
        assert count(again, PROJECT) == count(again, RESIZE) == 1
    # The same count of channels at another size, without a resizing of its own.
    small = inshape.adapt(source, "24x20x4", strategy="rebuild", channels="project", head="top")
    small.get_layer(PROJECT).kernel.assign(kernel)
    for strategy in ("rebuild", "resize"):
        kept = inshape.adapt(small, "24x20x4", strategy=strategy, channels="project", head="top")
        assert count(kept, PROJECT) == 1
        x = whole(rng, 24, 20, 4)
        np.testing.assert_allclose(run(kept, x), run(small, x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("strategy", ["rebuild", "resize"])
@pytest.mark.parametrize("resized", [False, True])
def test_a_projection_of_other_channels_begins_anew(strategy, resized, rng, randomise, tmp_path):
    source = randomise(network("rescaling"))
    options = {"channels": "project", "head": "top"}
    first = "resize" if resized else "rebuild"
    model = inshape.adapt(source, "24x20x4", strategy=first, **options)
    model.get_layer(PROJECT).kernel.assign(rng.normal(size=(1, 1, 4, 3)))
    plan = inshape.plan(reloaded(model, tmp_path), "24x20x5", strategy=strategy, **options)
    assert (
        "note: the learned projection reads 4 channels and cannot be kept for 5; a new one begins "
        "at its first weights, so train it"
    ) in str(plan)
    again = plan.build()
    assert count(again, PROJECT) == 1
    assert count(again, RESIZE) <= 1
    assert plan.geometry.params == again.count_params()
    x = whole(rng, 24, 20, 5)
    np.testing.assert_allclose(run(again, x), run(source, x[..., :3]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("rule", ["auto", "project"])
def test_a_repetition_is_undone(channels, rule, rng, randomise, tmp_path):
    source = randomise(network("normalization"))
    grey = inshape.adapt(source, "24x20x1", strategy="rebuild", channels="sum", head="top")
    options = {"strategy": "rebuild", "channels": rule, "head": "top"}
    again = inshape.adapt(reloaded(grey, tmp_path), f"24x20x{channels}", **options)
    expected = inshape.adapt(source, f"24x20x{channels}", **options)
    assert [x.name for x in again.operations] == [x.name for x in expected.operations]
    x = whole(rng, 24, 20, channels)
    np.testing.assert_allclose(run(again, x), run(expected, x), rtol=1e-5, atol=1e-5)


def test_a_users_own_resizing_stays(rng, randomise):
    image = keras.Input((48, 40, 3))
    x = layers.Conv2D(6, 3, name="stem")(ops.image.resize(image, (24, 20)))
    source = randomise(keras.Model(image, layers.GlobalAveragePooling2D()(x)))
    model = inshape.adapt(source, "31x17x3", strategy="resize", head="top")
    x = rng.uniform(0, 255, (2, 31, 17, 3)).astype("float32")
    expected = run(source, ops.image.resize(x, (48, 40)))
    np.testing.assert_allclose(run(model, x), expected, rtol=1e-4, atol=1e-3)

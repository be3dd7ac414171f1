"""A limit on the RAM, from the request to the model."""

from __future__ import annotations

import re

import keras
import numpy as np
import pytest

from inshape.errors import RequestError, StrategyError
from inshape.geometry.cost import costs
from inshape.geometry.footprint import footprint
from inshape.geometry.patches import Patches, find_spans, patched
from inshape.geometry.sizes import map_shapes
from inshape.graph.read import read
from inshape.planning import adapt, plan
from inshape.shapes import InputShape
from inshape.text import format_bytes

layers = keras.layers
SHAPE = "49x38x1"


@pytest.fixture(scope="module")
def network():
    """Wide early, so that patches are what it needs; gated late."""
    keras.utils.set_random_seed(1)
    image = keras.Input((49, 38, 1))
    x = layers.Conv2D(16, 3, padding="same", activation="relu")(image)
    x = layers.DepthwiseConv2D(3, strides=2, padding="same", name="down")(x)
    x = layers.Conv2D(8, 1, name="narrow")(x)
    x = layers.Conv2D(8, 3, strides=2, padding="same", name="deep")(x)
    gate = layers.GlobalAveragePooling2D(keepdims=True, name="squeeze")(x)
    x = layers.Multiply()([x, layers.Conv2D(8, 1, activation="sigmoid")(gate)])
    return keras.Model(image, layers.Activation("relu", name="last")(x), name="wide")


def planned(network, limit, shape=SHAPE, **options):
    return plan(network, shape, classes=3, strategy="rebuild", max_ram=limit, **options)


@pytest.fixture(scope="module")
def limit(network):
    """Less than the whole network takes, and more than it does in patches."""
    return 3 * planned(network, None).footprint.ram_bytes // 4


def test_a_network_that_fits_is_left_whole(network):
    whole = planned(network, "1MiB")
    assert whole.patches == ()
    assert "RAM of at most 1.0 MiB: the whole network meets it" in str(whole)
    assert whole.footprint == planned(network, None).footprint


def test_the_cheapest_patches_that_meet_the_limit_are_taken(network, limit):
    """Every split is tried here: none with fewer operations meets it."""
    found = planned(network, limit)
    assert found.patches
    assert found.footprint.ram_bytes == found.choice.best.ram_bytes <= limit
    assert found.macs == found.choice.best.macs > found.choice.whole.macs
    assert found.choice.whole.macs == found.geometry.macs
    shape = InputShape.of(SHAPE)
    (span,) = find_spans(found.spec, map_shapes(found.spec, shape))
    for end in span.ends:
        for grid_hw in [(r, c) for r in (2, 3, 4) for c in (1, 2, 3) if c <= r]:
            other = Patches(grid_hw, span.start, end)
            spec = patched(found.spec, shape, [other])
            if footprint(spec, shape).ram_bytes <= limit:
                assert _macs(spec, shape) >= found.macs


def _macs(spec, shape):
    return sum(cost.macs for cost in costs(spec, shape))


def test_the_table_sets_memory_against_operations(network, limit):
    choice = planned(network, limit).choice
    rams, macs = zip(*((s.ram_bytes, s.macs) for s in choice.splits), strict=True)
    assert list(rams) == sorted(rams, reverse=True)
    assert list(macs) == sorted(macs)
    assert {choice.whole, choice.best} <= set(choice.splits)
    text = str(choice)
    assert re.search(r"^patches down to the map +RAM +more MACs$", text, re.MULTILINE)
    (chosen,) = (line for line in text.splitlines() if line.endswith("  chosen"))
    assert chosen.startswith(f"{choice.best.short}  ")
    whole = format_bytes(choice.whole.ram_bytes)
    assert re.search(rf"^none +{whole} +0.0 %$", text, re.MULTILINE)


def test_the_model_has_the_patches_and_answers_as_without(network, limit):
    keras.utils.set_random_seed(7)
    found = planned(network, limit, pool="max")
    cut = found.build()
    keras.utils.set_random_seed(7)
    whole = found.whole.build()
    assert len(cut.layers) > len(whole.layers)
    cut.get_layer("head_logits").set_weights(whole.get_layer("head_logits").get_weights())
    pictures = np.random.default_rng(0).uniform(0, 255, (4, 49, 38, 1)).astype(np.float32)
    np.testing.assert_allclose(cut(pictures), whole(pictures), rtol=0, atol=1e-6)
    assert _macs(read(cut), InputShape.of(SHAPE)) == found.macs
    by_name = adapt(network, SHAPE, classes=3, strategy="rebuild", pool="max", max_ram=limit)
    assert len(by_name.layers) == len(cut.layers)


def test_a_patched_network_keeps_its_size(network, limit):
    cut = planned(network, limit).build()
    assert plan(cut, SHAPE, strategy="rebuild", classes=3).geometry.final_map.hw == (13, 10)
    message = (
        "for 49x38; expected this height and width; adapt the network that it was made of, with "
        "max_ram"
    )
    with pytest.raises(StrategyError, match=re.escape(message)):
        plan(cut, "32x32x1", strategy="rebuild", classes=3)


def test_a_limit_under_what_the_picture_takes(network):
    message = (
        "max_ram=1.0 KiB: the picture alone takes 1.8 KiB at 49x38x1; expected more than that; use "
        "a smaller shape"
    )
    with pytest.raises(RequestError, match=re.escape(message)):
        planned(network, "1KiB")


def test_a_limit_that_no_patches_meet(network):
    """The nearest is named, and what meets the limit, which it does by the same arithmetic."""
    whole = planned(network, None)
    limit = whole.within(2048).footprint.ram_bytes * 4 // 5
    nearest = whole.within(limit).choice
    with pytest.raises(RequestError) as refused:
        planned(network, limit)
    asked, whole, least = map(
        format_bytes, (limit, nearest.whole.ram_bytes, nearest.best.ram_bytes)
    )
    message = (
        f"max_ram={asked}: wide takes {whole} at 49x38x1 by rebuild, and {least} at least, in "
        f"{nearest.best}; use "
    )
    assert str(refused.value).startswith(message)
    words = re.fullmatch(
        r"(\S+) by strategy='rebuild', which takes (.*)", str(refused.value)[len(message) :]
    )
    assert words is not None
    smaller = plan(network, words[1], strategy="rebuild", classes=3).footprint.ram_bytes
    assert smaller <= limit
    assert format_bytes(smaller) == words[2]


def test_a_size_that_is_not_known(network):
    image = keras.Input((None, None, 1))
    open_network = keras.Model(image, layers.Conv2D(4, 3, padding="same")(image), name="open")
    message = (
        "max_ram=9.0 KiB with the input ?x?x1, whose RAM depends on the size at run time; expected "
        "a fixed height and width, such as 96x96x3"
    )
    with pytest.raises(RequestError, match=re.escape(message)):
        plan(open_network, "?x?x1", classes=3, strategy="flexible", max_ram="9KiB")
    any_size = plan(open_network, "?x?x1", classes=3, strategy="flexible")
    assert any_size.within(9 * 1024).patches == ()


def test_a_first_layer_that_needs_the_whole_map():
    image = keras.Input((40, 40, 1))
    x = layers.Dense(9000)(layers.Flatten(name="flat")(image))
    model = keras.Model(image, x, name="flat_one")
    message = (
        'at 40x40x1 by rebuild, and "flat" needs the whole map before any could begin; use a '
        "smaller shape or network"
    )
    with pytest.raises(RequestError, match=re.escape(message)):
        plan(model, "40x40x1", head="top", strategy="rebuild", max_ram="9KiB")


def test_layers_that_take_most_where_patches_cannot_be():
    image = keras.Input((40, 40, 1))
    gate = layers.Dense(1, activation="sigmoid")(layers.GlobalAveragePooling2D()(image))
    x = layers.Multiply()([image, layers.Reshape((1, 1, 1))(gate)])
    model = keras.Model(image, layers.Conv2D(16, 3, padding="same")(x), name="gated")
    whole = plan(model, "40x40x1", head="top", strategy="rebuild").footprint.ram_bytes
    message = "at 40x40x1 by rebuild, and no patches take less; use "
    with pytest.raises(RequestError, match=re.escape(message)):
        plan(model, "40x40x1", head="top", strategy="rebuild", max_ram=whole - 1)


def test_what_is_not_known_meets_no_limit():
    image = keras.Input((40, 40, 1))
    rows = layers.Reshape((40, 40))(layers.Conv2D(1, 3, padding="same")(image))
    model = keras.Model(image, layers.LSTM(4, name="reader")(rows), name="odd")
    planned_without = plan(model, "40x40x1", head="top", strategy="rebuild")
    assert "flash and RAM: the operators of 'reader' are not known" in str(planned_without)
    message = "at 40x40x1 is not known, since the operators of 'reader' are not known; expected"
    with pytest.raises(RequestError, match=re.escape(message)):
        plan(model, "40x40x1", head="top", strategy="rebuild", max_ram="4KiB")

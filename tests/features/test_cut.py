"""Cuts: everything passes through one tensor, and both parts give the whole."""

from __future__ import annotations

import re

import keras
import numpy as np
import pytest

from inshape.errors import GraphError, UnknownName
from inshape.features.cut import cuts, head_cut, section, stage_ends, unfrozen_from

layers = keras.layers


def inverted_residuals(shape=(33, 20, 1)):
    """Stem, two blocks at one resolution, a widening one that strides, and a head."""
    image = keras.Input(shape)
    x = layers.Conv2D(4, 3, strides=2, padding="same", name="stem")(image)
    y = layers.Conv2D(12, 1, name="a_widen")(x)
    y = layers.Conv2D(4, 1, name="a_narrow")(layers.ReLU(name="a_relu")(y))
    x = layers.Add(name="a_add")([x, y])
    y = layers.Conv2D(12, 1, name="b_widen")(x)
    y = layers.ReLU(name="b_relu")(layers.BatchNormalization(name="b_bn")(y))
    y = layers.DepthwiseConv2D(3, strides=2, padding="same", name="b_stride")(y)
    x = layers.Conv2D(6, 1, name="b_narrow")(y)
    y = layers.Conv2D(6, 1, name="c_inside")(x)
    x = layers.Add(name="c_add")([x, y])
    x = layers.GlobalAveragePooling2D(name="head_pool")(x)
    x = layers.Dropout(0.5, name="head_dropout")(x)
    return keras.Model(image, layers.Dense(3, name="head_logits")(x))


def test_cuts_stand_where_one_tensor_is_alive():
    names = [c.layer for c in cuts(inverted_residuals(), (33, 20))]
    # By hand: nothing inside the branches of a_add and c_add.
    assert names == [
        "", "stem", "a_add", "b_widen", "b_bn", "b_relu", "b_stride", "b_narrow", "c_add",
        "head_pool", "head_dropout",
    ]  # fmt: skip


@pytest.mark.parametrize("shape", [(33, 20, 1), (16, 16, 3), (None, None, 2)])
def test_both_parts_give_the_whole_at_every_cut(shape, rng, randomise):
    model = randomise(inverted_residuals(shape))
    size_hw = (shape[0] or 21, shape[1] or 34)
    pictures = rng.uniform(0, 1, (2, *size_hw, shape[-1])).astype("float32")
    expected = np.asarray(model(pictures))
    for cut in cuts(model, size_hw):
        middle = section(model, None, cut)(pictures) if cut.layer else pictures
        assert tuple(np.shape(middle)[1:]) == (*(cut.map_hw or ()), cut.channels)
        np.testing.assert_allclose(section(model, cut, None)(middle), expected, atol=1e-6)


def test_a_part_shares_the_weights():
    model = inverted_residuals()
    all_cuts = {c.layer: c for c in cuts(model, (33, 20))}
    part = section(model, all_cuts["a_add"], all_cuts["c_add"])
    inside = {v.path for v in part.trainable_variables}
    assert inside == {
        f"{name}/{what}"
        for name, whats in {
            "b_widen": ("kernel", "bias"),
            "b_bn": ("gamma", "beta"),
            "b_stride": ("kernel", "bias"),
            "b_narrow": ("kernel", "bias"),
            "c_inside": ("kernel", "bias"),
        }.items()
        for what in whats
    }
    assert all(any(v is w for w in model.trainable_variables) for v in part.trainable_variables)


def test_the_head_is_cut_behind_a_pooling_without_weights():
    assert head_cut(inverted_residuals(), (33, 20)).layer == "head_pool"


def test_the_head_is_cut_before_a_pooling_that_learns():
    from inshape.graph.layers import GeneralizedMeanPooling2D

    image = keras.Input((9, 7, 1))
    x = layers.Conv2D(4, 3, name="last")(image)
    x = GeneralizedMeanPooling2D(name="head_pool")(x)
    model = keras.Model(image, layers.Dense(3, name="head_logits")(x))
    assert head_cut(model, (9, 7)).layer == "last"


def test_a_model_without_a_head_is_refused():
    image = keras.Input((9, 7, 1))
    model = keras.Model(image, layers.Conv2D(4, 3)(image), name="bare")
    text = "model 'bare' has no head to train; expected layers named head_..."
    with pytest.raises(GraphError, match=re.escape(text)):
        head_cut(model, (9, 7))


@pytest.mark.parametrize(
    ("unfreeze", "layer"),
    [
        ("last", "a_add"),  # not b_relu, whose maps are three times as large
        (1, "a_add"),
        (2, ""),
        (9, ""),
        ("all", ""),
        ("c_inside", "b_narrow"),
        ("b_stride", "b_relu"),
    ],
)
def test_what_is_unfrozen_begins_at_the_best_cut(unfreeze, layer):
    assert unfrozen_from(inverted_residuals(), unfreeze, (33, 20)).layer == layer


@pytest.mark.parametrize("unfreeze", ["none", 0])
def test_nothing_is_unfrozen(unfreeze):
    assert unfrozen_from(inverted_residuals(), unfreeze, (33, 20)) is None


def test_an_unknown_part_lists_the_layers():
    text = "unknown part to unfreeze 'c_insde'; did you mean c_inside? choose from: none, last, all"
    with pytest.raises(UnknownName, match=re.escape(text)):
        unfrozen_from(inverted_residuals(), "c_insde", (33, 20))


def test_a_cut_of_another_model_is_refused():
    cut = cuts(inverted_residuals(), (33, 20))[-1]
    image = keras.Input((9, 7, 1))
    other = keras.Model(image, layers.Conv2D(4, 3)(image), name="other")
    with pytest.raises(GraphError, match=re.escape("model 'other' cannot be cut behind")):
        section(other, None, cut)


def test_a_map_that_is_only_trimmed_or_padded_begins_no_stage():
    image = keras.Input((33, 20, 1))
    x = layers.Conv2D(4, 3, strides=2, padding="same", name="stem")(image)
    x = layers.ZeroPadding2D(1, name="pad")(x)
    x = layers.Conv2D(4, 3, strides=2, name="strided")(x)  # 17x10 -> 9x5
    x = layers.Conv2D(4, (3, 1), name="trims")(x)  # 9x5 -> 7x5
    x = layers.GlobalAveragePooling2D(name="head_pool")(layers.ReLU(name="end")(x))
    model = keras.Model(image, layers.Dense(3, name="head_logits")(x))
    assert "pad" not in [c.layer for c in cuts(model, (33, 20))]
    assert unfrozen_from(model, "last", (33, 20)).layer == "stem"


@pytest.fixture(scope="module")
def mobilenet():
    base = keras.applications.MobileNetV3Large(
        (64, 96, 3), minimalistic=True, include_top=False, weights=None
    )
    x = layers.GlobalAveragePooling2D(name="head_pool")(base.output)
    return keras.Model(base.input, layers.Dense(2, name="head_logits")(x))


def test_the_last_stage_of_mobilenet_v3_is_the_papers(mobilenet):
    # Howard et al. 2019 (arXiv 1905.02244), table 1: the blocks of 160 channels at stride 32
    # follow two of 112; Keras numbers those 10 and 11.
    cut = unfrozen_from(mobilenet, "last", (64, 96))
    assert (cut.layer, cut.map_hw, cut.channels) == ("expanded_conv_11_add", (4, 6), 112)


def test_stages_end_in_their_narrow_maps(mobilenet):
    ends = [(c.layer, c.channels) for c in stage_ends(mobilenet, (64, 96), 2)]
    # Of the last stage not the 960 channels that its last convolution makes of 160.
    assert ends == [("expanded_conv_11_add", 112), ("expanded_conv_14_add", 160)]
    assert stage_ends(mobilenet, (64, 96), 1)[0].layer == "expanded_conv_14_add"
    flat = keras.Model(
        image := keras.Input((1, 1, 3)),
        layers.Dense(2, name="head_logits")(layers.Flatten()(layers.Conv2D(4, 1)(image))),
    )
    assert stage_ends(flat, (1, 1), 2) == ()

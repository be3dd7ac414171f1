"""Advice of refusals is followed, by machine, until the request is met: none is a circle."""

from __future__ import annotations

import itertools
import re

import keras
import pytest
from keras import ops

import inshape
from inshape.errors import RequestError

layers = keras.layers

_SIZE = re.compile(r"(?<![\w.])(\d+)x(\d+)(?!x)")
_TO_PEOPLE = ("check the layer", "check the model", "give the class a get_config")


def advised(message, request):
    """The requests that a message advises to make instead."""
    advice = re.split(r"; (?=use |leave |give |choose from)", message, maxsplit=1)[-1]
    assert advice != message, f"no advice in: {message}"
    if match := re.match(r"leave out (.*), or (.*)", advice):
        named = [re.findall(r"\w+(?==|$)", words) for words in match.groups()]
        return [{k: v for k, v in request.items() if k not in names} for names in named]
    both = re.match(r"use (channels='project') and either ", advice)
    always = changes(both[1], request)[0] if both else {}
    alternatives = re.split(
        r",? or (?=strategy=|channels=|factor=|output_stride=|head=|pass )", advice
    )
    found = [
        {**request, **always, **change}
        for alternative in alternatives
        if not alternative.startswith("pass ")
        for change in changes(alternative, request)
    ]
    assert found, f"nothing to do in: {advice}"
    return [{name: value for name, value in new.items() if value is not None} for new in found]


def changes(alternative, request):
    """What one alternative says to change, once for each of its values."""
    if match := re.match(r"leave (.*)", alternative):
        names = re.findall(r"(\w+)=", match[1]) or re.findall(r"(\w+)(?= out)", match[1])
        return [{name: None for name in names if name in request}]
    if match := re.match(r"choose from: (.*)", alternative):
        return [{"features": [int(n)]} for n in match[1].split(", ")]
    options = [
        [(name, value) for value in re.findall(r"'(\w+)'", values)]
        for name, values in re.findall(
            r"(strategy|channels|head)=('\w+'(?: or '\w+')*)", alternative
        )
    ]
    options += [
        [(name, int(n))] for name, n in re.findall(r"(factor|output_stride)=(\d+)", alternative)
    ]
    options += [
        [("working_hw", (int(h), int(w)))]
        for h, w in re.findall(r"working_hw=\((\d+), (\d+)\)", alternative)
    ]
    options += sizes(alternative, request)
    without = [[(name, None)] for name in re.findall(r"without (\w+)", alternative)]
    return [dict(chosen) for chosen in itertools.product(*options, *without) if chosen]


def sizes(alternative, request):
    """The sizes that it names, of the input or of the network behind the resizing."""
    is_working = "working size" in alternative or "a working " in alternative
    name = "working_hw" if is_working else "input_shape"
    shape = inshape.InputShape.of(request["input_shape"])
    height, width = request.get("working_hw", shape.hw) if is_working else shape.hw
    whole = [(int(h), int(w)) for h, w in _SIZE.findall(alternative)]
    by_axis = {
        axis: [int(n) for n in re.findall(r"\d+", match[1])]
        for axis in ("height", "width")
        if (match := re.search(rf"{axis} of (\d+(?: or \d+)?)", alternative))
    }
    if by_axis:
        pairs = itertools.product(by_axis.get("height", [height]), by_axis.get("width", [width]))
        whole = [*whole, *pairs]
    return [[(name, hw if is_working else (*hw, shape.channels)) for hw in whole]] if whole else []


def kind_of(error):
    return type(error), re.sub(r"\d+", "N", str(error))


def follow(make, request, before=()):
    """Take every advice; what each leads to is met, or refused for another reason with advice."""
    try:
        inshape.adapt(make(), **request)
    except RequestError as error:
        message = str(error)
    else:
        assert before, f"nothing is refused of {request}"
        return
    kind = kind_of(error_of(make, request))
    assert "\n" not in message
    assert len(message) < 500
    assert kind not in before, f"{request} leads in a circle: {message}"
    if any(words in message for words in _TO_PEOPLE):
        assert not before, f"{request} leads to what no request meets: {message}"
        return
    for new in advised(message, request):
        assert new != request, f"what was asked for is advised: {message}"
        follow(make, new, (*before, kind))


def error_of(make, request):
    with pytest.raises(RequestError) as caught:
        inshape.adapt(make(), **request)
    return caught.value


def image(size=64, channels=3):
    hw = size if isinstance(size, tuple) else (size, size)
    return keras.Input((*hw, channels))


def pooled(x):
    return layers.Dense(3)(layers.GlobalAveragePooling2D()(x))


def input_skip():
    x = image()
    return keras.Model(x, layers.Add()([x, layers.Conv2D(3, 3, padding="same")(x)]))


def mask():
    x = image()
    half = layers.Conv2D(4, 3, strides=2, padding="same")(x)
    up = layers.Conv2DTranspose(4, 2, strides=2, name="up")(half)
    return keras.Model(x, layers.Add()([layers.Conv2D(4, 3, padding="same")(x), up]))


def mask_with_input():
    x = image()
    half = layers.Conv2D(4, 3, strides=2, padding="same")(x)
    return keras.Model(x, layers.Add()([x, layers.Conv2DTranspose(3, 2, strides=2)(half)]))


def two_stems():
    x = image()
    both = [layers.Conv2D(4, k, strides=2, padding="same")(x) for k in (3, 7)]
    return keras.Model(x, pooled(layers.Concatenate()(both)))


def wrapped_stem():
    x = image()
    return keras.Model(x, pooled(layers.SpectralNormalization(layers.Conv2D(4, 3, strides=2))(x)))


def depthwise_stem():
    x = image()
    return keras.Model(x, pooled(layers.Conv2D(4, 1)(layers.DepthwiseConv2D(3, strides=2)(x))))


def behind(*before, **options):
    def make():
        x = source = image()
        for layer in before:
            x = layer()(x)
        conv = layers.Conv2D(4, 7, name="stem", **{"strides": 2, **options})
        return keras.Model(source, pooled(conv(x)))

    return make


def shared_stem():
    x = image()
    conv = layers.Conv2D(4, 3, strides=2)
    return keras.Model(x, pooled(layers.Add()([conv(x), conv(layers.Rescaling(2.0)(x))])))


def of_any_size():
    x = keras.Input((None, None, 3))
    return keras.Model(x, pooled(layers.Conv2D(4, 3, strides=2, padding="same")(x)))


def deep(last=layers.MaxPooling2D):
    def make():
        x = source = image()
        for _ in range(4):
            x = last()(layers.Conv2D(4, 3, padding="same")(x))
        return keras.Model(source, pooled(x))

    return make


def strided():
    x = source = image()
    for _ in range(4):
        x = layers.Conv2D(4, 3, strides=2, padding="same")(x)
    return keras.Model(source, pooled(x))


def tokens():
    x = image(8)
    rows = layers.Reshape((64, 4), name="rows")(layers.Conv2D(4, 3, padding="same")(x))
    return keras.Model(x, layers.GlobalAveragePooling1D()(rows))


def flattened_stem_map():
    x = image(8)
    rows = layers.Reshape((16, 4), name="rows")(layers.Conv2D(4, 3, strides=2, padding="same")(x))
    return keras.Model(x, layers.Dense(2)(layers.Permute((2, 1))(rows)))


def fixed_resizing():
    x = image()
    map_ = layers.Conv2D(4, 3, strides=2, padding="same")(x)
    return keras.Model(x, pooled(layers.Resizing(20, 20, name="fixed")(map_)))


def tied_lambda():
    x = image(16)
    x2 = layers.AveragePooling2D(4)(layers.Conv2D(4, 3, padding="same")(x))
    rows = layers.Lambda(lambda t: ops.reshape(t, (-1, 64)), name="rows")(x2)
    return keras.Model(x, layers.Dense(2)(rows))


@keras.saving.register_keras_serializable(package="test_advice")
class Places(layers.Layer):
    def build(self, shape):
        self.places = self.add_weight(name="places", shape=shape[1:])

    def call(self, x):
        return x + self.places


def places():
    x = image(16)
    return keras.Model(x, pooled(Places(name="places")(layers.Conv2D(4, 3)(x))))


def places_of_the_picture():
    x = image(16)
    return keras.Model(x, pooled(layers.Conv2D(4, 3)(Places(name="places")(x))))


class Nameless(layers.Layer):
    def __init__(self, function, **options):
        super().__init__(**options)
        self.function = function

    def call(self, x):
        return self.function(x)


def without_config():
    x = image(16)
    return keras.Model(x, pooled(Nameless(lambda t: t * 2, name="mine")(layers.Conv2D(4, 3)(x))))


class Scaled(layers.Conv2D):
    def call(self, x):
        return super().call(x) * 2


def own_stem():
    x = image()
    return keras.Model(x, pooled(Scaled(4, 3, strides=2)(x)))


def grouped_stem():
    x = image(channels=4)
    return keras.Model(x, pooled(layers.Conv2D(4, 3, strides=2, groups=2)(x)))


def two_meanings():
    x = image(16)
    maps = layers.Conv2D(4, 3, padding="same")(x)
    rows = layers.Reshape((16, 16 * 4), name="rows")(maps)
    return keras.Model(x, layers.GlobalAveragePooling1D()(layers.Reshape((32, 32))(rows)))


def fixed_slice():
    x = image(16)
    return keras.Model(x, pooled(layers.Conv2D(4, 3, padding="same")(x)[:, :10, :10]))


def called_twice():
    x = image()
    conv = layers.Conv2D(4, 3, strides=2, padding="same")
    stem = layers.Conv2D(4, 3, strides=2, padding="same")(x)
    return keras.Model(x, pooled(conv(conv(stem))))


def decoder():
    x = image()
    stem = layers.Conv2D(4, 3, strides=2, padding="same")(x)
    late = layers.Conv2D(4, 3, strides=2, padding="same")(stem)
    return keras.Model(x, layers.UpSampling2D(4)(late))


def branches():
    x = image()
    stem = layers.Conv2D(4, 3, strides=2, padding="same")(x)
    left = layers.Conv2D(4, 3, strides=4, padding="same")(stem)
    right = layers.AveragePooling2D(4)(stem)
    return keras.Model(x, pooled(layers.Add()([left, right])))


def two_outputs():
    x = image(16)
    maps = layers.Conv2D(4, 3, strides=2, padding="same")(x)
    return keras.Model(x, [pooled(maps), maps])


def without_map():
    x = image(8)
    return keras.Model(x, layers.Dense(2)(layers.Flatten()(x)))


def named_pad():
    x = image(16)
    pad = layers.ZeroPadding2D(((0, 1), (0, 1)), name="stem_conv_pad")(x)
    return keras.Model(x, pooled(layers.Conv2D(4, 2, strides=2)(pad)))


def one_size_only():
    x = image(16)
    left = layers.Conv2D(4, 3, strides=2, padding="same")(x)
    right = layers.Conv2D(4, 9)(x)
    return keras.Model(x, pooled(layers.Add()([left, right])))


_CASES = [
    (input_skip, "64x64x4", {}),
    (input_skip, "64x64x4", {"strategy": "resize"}),
    (input_skip, "20x24x4", {}),
    (input_skip, "?x?x4", {}),
    (mask, "65x70x3", {}),
    (mask, "65x63x1", {"strategy": "rebuild"}),
    (mask, "64x64x3", {"strategy": "resize", "working_hw": (65, 63)}),
    (mask_with_input, "65x63x4", {}),
    (mask_with_input, "64x64x4", {"strategy": "resize", "working_hw": (33, 64)}),
    (two_stems, "32x32x3", {"strategy": "restride"}),
    (wrapped_stem, "64x64x4", {}),
    (wrapped_stem, "64x64x1", {"channels": "mean"}),
    (wrapped_stem, "32x32x1", {"strategy": "restride", "factor": 2}),
    (depthwise_stem, "64x64x4", {"channels": "zero"}),
    (depthwise_stem, "32x32x3", {"strategy": "restride"}),
    (behind(lambda: layers.LayerNormalization()), "64x64x4", {}),
    (behind(lambda: layers.ZeroPadding2D(3), lambda: layers.Rescaling(2.0)), "32x32x3",
     {"strategy": "restride"}),
    (behind(lambda: layers.Resizing(64, 64)), "32x32x3", {"strategy": "restride"}),
    (behind(), "32x32x3", {"strategy": "restride", "factor": 3}),
    (behind(strides=1), "32x32x3", {"strategy": "restride", "factor": 2}),
    (behind(strides=1), "32x32x3", {"strategy": "restride"}),
    (behind(strides=3), "64x64x3", {"strategy": "restride"}),
    (behind(strides=3), "24x24x3", {"strategy": "restride", "factor": 2}),
    (behind(), "64x64x3", {"strategy": "restride", "factor": 1}),
    (behind(), "64x64x3", {"strategy": "restride", "stem": "plain"}),
    (behind(), "?x64x3", {"strategy": "restride", "stem": "plain"}),
    (behind(), "?x64x3", {"strategy": "rebuild"}),
    (behind(), "64x64x3", {"strategy": "rebuild", "fit": "crop"}),
    (behind(), "64x64x1", {"channels": "keep"}),
    (behind(), "64x64x4", {"channels": "first"}),
    (behind(), "64x64x4", {"channels": "luma"}),
    (behind(), "64x64x2", {"channels": [None, None]}),
    (shared_stem, "32x32x3", {"strategy": "restride"}),
    (of_any_size, "48x40x3", {"strategy": "resize"}),
    (of_any_size, "48x40x3", {"strategy": "restride"}),
    (deep(), "8x40x3", {"strategy": "rebuild"}),
    (deep(), "8x8x1", {}),
    (deep(), "64x64x3", {"strategy": "resize", "working_hw": (8, 70)}),
    (deep(), "64x64x3", {"output_stride": 4}),
    (deep(), "64x64x3", {"output_stride": 3}),
    (strided, "64x64x3", {"output_stride": 3}),
    (strided, "64x64x3", {"output_stride": 32}),
    (strided, "97x64x3", {"strategy": "restride", "output_stride": 16}),
    (tokens, "?x?x3", {"head": "top"}),
    (tokens, "9x7x3", {"head": "top", "strategy": "flexible"}),
    (flattened_stem_map, "12x8x3", {"head": "top"}),
    (flattened_stem_map, "4x4x3", {"head": "top", "strategy": "rebuild"}),
    (flattened_stem_map, "8x8x3",
     {"head": "top", "strategy": "restride", "factor": 2, "stem": "plain"}),
    (flattened_stem_map, "8x8x3", {"head": "top", "strategy": "resize", "working_hw": (9, 10)}),
    (fixed_resizing, "80x72x3", {"head": "top"}),
    (fixed_resizing, "?x?x3", {"head": "top"}),
    (tied_lambda, "24x20x3", {"head": "top"}),
    (tied_lambda, "24x20x3", {"head": "top", "strategy": "flexible"}),
    (tied_lambda, "16x16x3", {"head": "top", "strategy": "restride", "stem": "plain", "factor": 2}),
    (own_stem, "32x32x3", {"strategy": "restride"}),
    (own_stem, "64x64x4", {"channels": "zero"}),
    (grouped_stem, "64x64x3", {}),
    (grouped_stem, "64x64x5", {"channels": [0, 1, 2, 3, None]}),
    (two_meanings, "24x20x3", {"head": "top"}),
    (two_meanings, "24x20x3", {"head": "top", "strategy": "flexible"}),
    (fixed_slice, "24x20x3", {}),
    (fixed_slice, "?x?x3", {}),
    (called_twice, "64x64x3", {"output_stride": 4}),
    (decoder, "64x64x3", {"output_stride": 2, "head": "top"}),
    (branches, "64x64x3", {"output_stride": 4}),
    (strided, "64x64x3", {"features": [3, 5]}),
    (places, "24x20x3", {}),
    (places, "?x?x3", {}),
    (places_of_the_picture, "16x16x4", {}),
    (places_of_the_picture, "20x16x4", {}),
    (without_config, "16x16x3", {}),
    (without_config, "24x20x3", {}),
    (two_outputs, "16x16x3", {"classes": 2}),
    (without_map, "8x8x3", {"classes": 2}),
    (strided, "64x64x3", {"features": [64]}),
    (strided, "64x64x3", {"features": [8], "classes": 2}),
    (strided, "64x64x3", {"head": "top", "classes": 2}),
    (strided, "64x64x3", {"classes": 2, "pretrained_dense": True}),
    (named_pad, "?x?x3", {}),
    (named_pad, "17x16x3", {"strategy": "flexible"}),
    (one_size_only, "16x16x3", {"strategy": "flexible"}),
    (one_size_only, "24x16x3", {}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("make", "shape", "options"),
    _CASES,
    ids=[
        f"{make.__qualname__.split('.')[0]}-{shape}-{','.join(map(str, o.values()))}"
        for make, shape, o in _CASES
    ],
)
def test_an_advice_that_is_taken_leads_out(make, shape, options):
    follow(make, {"input_shape": shape, **options})

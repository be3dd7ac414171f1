"""LiteRT files read as Keras models: the interpreter is the judge of what they answer."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from tests.litert import LiteRTNet, small_net

import inshape
from inshape.errors import GraphError, RequestError, UnknownName, WeightsError
from inshape.importing.api import read_file
from inshape.importing.imported import Imported
from inshape.importing.litert_file import picture_statistics
from inshape.runtime.conversion import convert
from inshape.runtime.formats import FORMATS
from inshape.runtime.litert import LiteRTModel
from inshape.runtime.metadata import Description, add_metadata

layers = keras.layers
RNG = np.random.default_rng(0)


@pytest.fixture
def read(tmp_path) -> Callable[..., Imported]:
    def read_content(content: bytes, *outputs: str) -> Imported:
        path = tmp_path / "net.tflite"
        path.write_bytes(content)
        return read_file(path, outputs)

    return read_content


def values(*shape: int) -> np.ndarray:
    return RNG.normal(0, 1, shape).astype("float32")


def _conv(net: LiteRTNet, x: int, **options: Any) -> int:
    inputs = [x, net.constant(values(6, 3, 2, 3)), net.constant(values(6))]
    settings = {"padding": 0, "strideH": 2, "strideW": 1, **options}
    return net.add("CONV_2D", inputs, (4, 6, 6), **settings)


def _pool(net: LiteRTNet, kind: str, **options: Any) -> int:
    settings = {"strideH": 2, "strideW": 2, "filterHeight": 3, "filterWidth": 2, **options}
    shape = (3, 3, 3) if settings["padding"] else (4, 3, 3)
    return net.add(kind, [net.picture], shape, **settings)


def _depthwise(net: LiteRTNet, **options: Any) -> int:
    inputs = [net.picture, net.constant(values(1, 3, 3, 6)), net.constant(values(6))]
    return net.add("DEPTHWISE_CONV_2D", inputs, depthMultiplier=2, **options)


def _transposed(net: LiteRTNet) -> int:
    size = net.constant([1, 14, 12, 4], "int32")
    inputs = [size, net.constant(values(4, 3, 3, 3)), net.picture, net.constant(values(4))]
    return net.add("TRANSPOSE_CONV", inputs, (14, 12, 4), padding=0, strideH=2, strideW=2)


def _dense(net: LiteRTNet) -> int:
    return net.add("FULLY_CONNECTED", [net.picture, net.constant(values(5, 126))], (5,))


def _affine(net: LiteRTNet) -> int:
    x = net.add("SUB", [net.picture, net.constant(values(3))], (7, 6, 3))
    x = net.add("MUL", [net.constant(values(1, 1, 1, 3)), x], (7, 6, 3))
    return net.add("SUB", [net.constant(np.float32(2)), x], (7, 6, 3), fusedActivationFunction=1)


def _norm(net: LiteRTNet) -> int:
    x = net.add("MUL", [_conv(net, net.picture), net.constant(values(6))], (4, 6, 6))
    return net.add("ADD", [x, net.constant(values(6))], (4, 6, 6))


def _slice(net: LiteRTNet) -> int:
    numbers = ([0, 1, 0, 0], [1, 7, 4, 3], [1, 2, 1, 1])
    inputs = [net.picture, *(net.constant(n, "int32") for n in numbers)]
    return net.add("STRIDED_SLICE", inputs, (3, 4, 3), endMask=2)


def _split(net: LiteRTNet) -> int:
    inputs = [net.picture, net.constant([1, 2], "int32"), net.constant([3], "int32")]
    first = net.add("SPLIT_V", inputs, (7, 6, 1), count=2, numSplits=2)
    net.graph.tensors[first + 1].shape = np.array([1, 7, 6, 2], np.int32)
    return net.add("CONCATENATION", [first + 1, first], (7, 6, 3), axis=3)


def _resized(net: LiteRTNet, kind: str, size: tuple[int, int], **options: Any) -> int:
    return net.add(kind, [net.picture, net.constant(size, "int32")], (*size, 3), **options)


def _batched(net: LiteRTNet, pads: Any, crops: Any, shape: tuple[int, int]) -> int:
    """A depthwise convolution, dilated by 2 and 3, as converters wrote it."""
    block = net.constant([2, 3], "int32")
    numbers = [net.constant(n, "int32") for n in (pads, crops)]
    height, width = ((n + sum(p)) // b for n, p, b in zip((7, 6), pads, (2, 3), strict=True))
    x = net.add("SPACE_TO_BATCH_ND", [net.picture, block, numbers[0]], (height, width, 3))
    kernel = [net.constant(values(1, 3, 2, 3)), net.constant(values(3))]
    settings = {"padding": 1, "strideH": 1, "strideW": 1, "fusedActivationFunction": 1}
    y = net.add("DEPTHWISE_CONV_2D", [x, *kernel], (height - 2, width - 1, 3), **settings)
    for tensor in (x, y):
        net.graph.tensors[tensor].shape[0] = 6
    return net.add("BATCH_TO_SPACE_ND", [y, block, numbers[1]], (*shape, 3))


def _turned(net: LiteRTNet, *orders: Any) -> int:
    x, shape = net.picture, np.array([1, 7, 6, 3])
    for order in orders:
        shape = shape[order]
        x = net.add("TRANSPOSE", [x, net.constant(order, "int32")], shape[1:].tolist())
    return net.add("HARD_SWISH", [x], shape[1:].tolist())


def _float16(net: LiteRTNet) -> int:
    kernel = net.add("DEQUANTIZE", [net.constant(values(5, 3), "float16")], ())
    net.graph.tensors[kernel].shape = np.array([5, 3], np.int32)
    return net.add("FULLY_CONNECTED", [net.picture, kernel], (7, 6, 5), keepNumDims=True)


OPERATORS: dict[str, tuple[Callable[[LiteRTNet], int], str]] = {
    "convolution": (lambda net: _conv(net, net.picture), "Conv2D"),
    "its activation": (lambda n: _conv(n, n.picture, fusedActivationFunction=3), "Conv2D ReLU"),
    "depthwise": (
        lambda net: _depthwise(net, shape=(4, 3, 6), padding=0, strideH=2, strideW=2),
        "DepthwiseConv2D",
    ),
    "depthwise, dilated": (
        lambda net: _depthwise(
            net, shape=(3, 2, 6), padding=1, strideH=1, strideW=1,
            dilationHFactor=2, dilationWFactor=2,
        ),
        "DepthwiseConv2D",
    ),
    "depthwise, two strides": (
        lambda net: _depthwise(net, shape=(4, 6, 6), padding=0, strideH=2, strideW=1),
        "Conv2D",
    ),
    "transposed": (_transposed, "Conv2DTranspose"),
    "dense": (_dense, "Flatten Dense"),
    "float16 weights": (_float16, "Dense"),
    "average, same": (lambda net: _pool(net, "AVERAGE_POOL_2D", padding=0), "AveragePooling2D"),
    "maximum, valid": (lambda net: _pool(net, "MAX_POOL_2D", padding=1), "MaxPooling2D"),
    "mean": (
        lambda n: n.add("MEAN", [n.picture, n.constant([1, 2], "int32")], (3,)),
        "GlobalAveragePooling2D",
    ),
    "scaling": (_affine, "Rescaling ReLU"),
    "batch norm": (_norm, "Conv2D BatchNormalization"),
    "sum": (lambda n: n.add("ADD", [n.picture, n.picture], (7, 6, 3)), "Add"),
    "padding": (
        lambda n: n.add(
            "PAD", [n.picture, n.constant([[0, 0], [0, 1], [2, 3], [0, 0]], "int32")], (8, 11, 3)
        ),
        "ZeroPadding2D",
    ),
    "slice": (_slice, "GetItem"),
    "parts": (_split, "GetItem GetItem Concatenate"),
    "hard swish": (lambda n: n.add("HARD_SWISH", [n.picture], (7, 6, 3)), "Activation"),
    "logistic": (lambda n: n.add("LOGISTIC", [n.picture], (7, 6, 3)), "Activation"),
    "leaky": (lambda n: n.add("LEAKY_RELU", [n.picture], (7, 6, 3), alpha=0.3), "LeakyReLU"),
    "prelu": (
        lambda n: n.add("PRELU", [n.picture, n.constant(values(1, 1, 3))], (7, 6, 3)),
        "PReLU",
    ),
    "softmax": (lambda n: n.add("SOFTMAX", [n.picture], (7, 6, 3), beta=1.0), "Activation"),
    "reshape": (
        lambda n: n.add("RESHAPE", [n.picture, n.constant([1, 42, 3], "int32")], (42, 3)),
        "Reshape",
    ),
    "bilinear, from centres": (
        lambda net: _resized(net, "RESIZE_BILINEAR", (14, 18), halfPixelCenters=True),
        "UpSampling2D",
    ),
    "bilinear, not a multiple": (
        lambda net: _resized(net, "RESIZE_BILINEAR", (11, 5), halfPixelCenters=True),
        "Resize",
    ),
    "bilinear, corners aligned": (
        lambda net: _resized(net, "RESIZE_BILINEAR", (13, 4), alignCorners=True),
        "CornerResizing2D",
    ),
    "bilinear, from the corner": (
        lambda net: _resized(net, "RESIZE_BILINEAR", (13, 4)),
        "CornerResizing2D",
    ),
    "nearest": (
        lambda net: _resized(net, "RESIZE_NEAREST_NEIGHBOR", (14, 12)),
        "UpSampling2D",
    ),
    "nearest, from centres": (
        lambda net: _resized(net, "RESIZE_NEAREST_NEIGHBOR", (11, 5), halfPixelCenters=True),
        "Resize",
    ),
    "dilated, same": (
        lambda net: _batched(net, [[2, 3], [1, 2]], [[0, 1], [0, 0]], (7, 6)),
        "DepthwiseConv2D ReLU",
    ),
    "dilated, valid": (
        lambda net: _batched(net, [[0, 1], [0, 0]], [[0, 1], [0, 0]], (3, 3)),
        "DepthwiseConv2D ReLU",
    ),
    "dilated, padded": (
        lambda net: _batched(net, [[4, 1], [0, 3]], [[1, 0], [0, 1]], (7, 5)),
        "ZeroPadding2D DepthwiseConv2D ReLU",
    ),
    "axes": (lambda net: _turned(net, [0, 3, 1, 2]), "Permute Activation"),
    "axes, and back": (lambda net: _turned(net, [0, 3, 1, 2], [0, 2, 3, 1]), "Activation"),
    "axes, twice": (lambda net: _turned(net, [0, 3, 1, 2], [0, 3, 1, 2]), "Permute Activation"),
}  # fmt: skip


@pytest.mark.parametrize("name", OPERATORS)
def test_an_operator_is_layers_that_answer_as_the_interpreter_does(name, read):
    build, kinds = OPERATORS[name]
    net = LiteRTNet((7, 6, 3))
    content = net.content(build(net))
    model = read(content).model
    assert " ".join(type(x).__name__ for x in model.operations[1:]) == kinds
    picture = values(1, 7, 6, 3)
    np.testing.assert_allclose(model(picture), LiteRTModel(content)(picture), rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("picture", [{}, {"dtype": "uint8", "scale": 0.01, "zero": 128}])
def test_a_picture_of_channels_first_becomes_one_of_channels_last(picture, read):
    net = LiteRTNet((3, 7, 6), **picture)
    x = net.picture
    if picture:
        x = net.add("DEQUANTIZE", [x], (3, 7, 6))
    x = net.add("TRANSPOSE", [x, net.constant([0, 2, 3, 1], "int32")], (7, 6, 3))
    content = net.content(_conv(net, x))
    model = read(content).model
    kinds = ["Rescaling", "Conv2D"] if picture else ["Conv2D"]
    assert [type(layer).__name__ for layer in model.layers[1:]] == kinds
    pixels = RNG.integers(0, 256, (1, 7, 6, 3)).astype("float32")
    numbers = (pixels - 128) * 0.01 if picture else pixels
    theirs = LiteRTModel(content)(numbers.transpose(0, 3, 1, 2))
    np.testing.assert_allclose(model(pixels), theirs, rtol=1e-4, atol=1e-3)


def test_a_file_of_any_size_is_a_network_of_any_size(tmp_path):
    image = keras.Input((None, None, 3))
    x = layers.Conv2D(4, 3, strides=2, padding="same", activation="relu")(image)
    x = layers.GlobalMaxPooling2D()(layers.Conv2D(5, 3)(layers.MaxPooling2D()(x)))
    source = keras.Model(image, x)
    path = tmp_path / "any.tflite"
    convert(source, FORMATS["litert"], path)
    model = read_file(path).model
    assert model.input_shape == (None, None, None, 3)
    picture = values(1, 23, 18, 3)
    np.testing.assert_allclose(model(picture), source(picture), rtol=1e-4, atol=1e-5)
    adapted = inshape.adapt(path, "21x16x1", strategy="rebuild", classes=2)
    assert adapted.output_shape == (None, 2)


@pytest.fixture(scope="module")
def network() -> keras.Model:
    """What is in the networks of today, with weights that make a difference."""
    keras.utils.set_random_seed(1)
    image = keras.Input((33, 24, 3))
    x = layers.Rescaling(1 / 127.5, offset=-1)(image)
    x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False)(x)
    x = layers.Activation("hard_silu")(layers.BatchNormalization(name="norm")(x))
    gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
    gate = layers.Conv2D(8, 1, activation="hard_sigmoid")(layers.Conv2D(4, 1)(gate))
    y = layers.DepthwiseConv2D(3, padding="same")(layers.Multiply()([x, gate]))
    x = layers.Add()([layers.ReLU(max_value=6)(y), x])
    x = layers.Conv2D(16, 3, strides=2, padding="same", activation="relu")(x)
    scores = layers.Dense(5, activation="softmax")(layers.GlobalAveragePooling2D()(x))
    model = keras.Model(image, scores, name="mine")
    norm = model.get_layer("norm")
    norm.set_weights([RNG.uniform(0.5, 2, 8), *RNG.normal(0, 0.2, (2, 8)), RNG.uniform(0.5, 2, 8)])
    return model


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 255, (12, 33, 24, 3)).astype("float32")


@pytest.mark.parametrize(
    ("form", "io", "most"),
    [
        ("litert", "float32", 1e-5),
        ("litert-float16", "float32", 2e-3),
        ("litert-dynamic", "float32", 0.02),
        ("litert-int8", "int8", 0.02),
    ],
)
def test_an_own_export_is_read_back(form, io, most, network, pictures, tmp_path):
    path = tmp_path / "mine.tflite"
    convert(network, FORMATS[form], path, pictures=[p[None] for p in pictures], io=io)
    imported = read_file(path)
    difference = np.abs(np.asarray(imported.model(pictures)) - np.asarray(network(pictures)))
    assert difference.max() < most
    kernels = [x for x in imported.model.layers if isinstance(x, layers.Conv2D)]
    assert [(x.strides, x.padding) for x in kernels[:1]] == [((2, 2), "same")]
    if (form, io) not in (("litert", "float32"), ("litert-int8", "int8")):
        return
    # At another shape it answers as the network itself does there.
    options = {"strategy": "rebuild", "head": "top"}
    there, here = (inshape.adapt(x, "48x30x1", **options) for x in (path, network))
    grey = pictures[:, :30, :24, :1].repeat(2, 1)[:, :48].repeat(2, 2)[:, :, :30]
    assert np.abs(np.asarray(there(grey)) - np.asarray(here(grey))).max() < most
    if form == "litert":
        return
    for strategy, shape in (("restride", "16x16x3"), ("resize", "50x40x1"), ("flexible", "?x?x3")):
        changed = inshape.adapt(path, shape, strategy=strategy, classes=3)
        assert changed.output_shape == (None, 3)


def test_pixels_go_in_as_they_are_where_the_bytes_say_it(read):
    net = small_net()
    content = net.content(*net.graph.outputs)
    imported = read(content)
    names = [x.name for x in imported.model.layers]
    # The ReLU6 has become the range of its bytes, 0 to 6; no other layer stands in its place.
    assert names == [
        "image",
        "pixels",
        "net_stem",
        "net_stem_relu",
        "tensor4",
        "scores_flatten",
        "scores",
    ]
    assert imported.model.get_layer("net_stem_relu").max_value == 6
    assert imported.notes == ()
    pictures = RNG.integers(0, 255, (1, 9, 8, 3))
    interpreter = LiteRTModel(content)
    interpreter.allocate()
    inside = interpreter._interpreter
    inside.set_tensor(interpreter.input["index"], pictures.astype("uint8"))
    inside.invoke()
    scores = (inside.get_tensor(interpreter.outputs[0]["index"]) - 128.0) * 0.05
    assert np.abs(np.asarray(imported.model(pictures.astype("float32"))) - scores).max() < 0.05


@pytest.mark.parametrize(
    ("statistics", "scale", "offset"),
    [(([0.0], [1.0]), None, None), (([127.5], [127.5]), 1 / 127.5, -1.0)],
)
def test_metadata_say_how_pixels_are_scaled(statistics, scale, offset, read, monkeypatch):
    net = LiteRTNet((7, 6, 3))
    description = Description("a", "1", "rgb", (7, 6), "labels.txt", "logits", "a class")
    content = add_metadata(net.content(_conv(net, net.picture)), description)
    from inshape.importing import litert

    assert picture_statistics(_metadata(content)) == ([0.0], [1.0])
    monkeypatch.setattr(litert, "picture_statistics", lambda _: statistics)
    model = read(content).model
    scaling = [x for x in model.layers if isinstance(x, layers.Rescaling)]
    assert [(x.scale, x.offset) for x in scaling] == ([] if scale is None else [(scale, offset)])


def _metadata(content: bytes) -> bytes:
    from inshape.importing.litert_file import parse

    return parse(content).metadata


def test_a_file_that_says_nothing_of_its_pixels_is_noted(read):
    net = LiteRTNet((7, 6, 3))
    (note,) = read(net.content(_conv(net, net.picture))).notes
    assert note.startswith("the file does not say how pixels become its numbers")


# Where it ends


def _with_answers() -> bytes:
    net = LiteRTNet((7, 6, 3))
    maps = _conv(net, net.picture)
    boxes = net.add("RELU", [maps], (4, 6, 6), output={"name": "boxes"})
    scores = net.add("LOGISTIC", [maps], (4, 6, 6), output={"name": "scores"})
    answers = net.add("Decoder", [boxes, scores], (10, 4), custom=True)
    return net.content(net.add("RELU", [answers], (10, 4)))


def test_a_custom_end_is_cut_off_and_noted(read):
    imported = read(_with_answers())
    assert [x.shape for x in imported.model.outputs] == [(None, 4, 6, 6)] * 2
    assert imported.notes[0] == (
        "Decoder and 1 operator behind it, which makes answers of maps, is cut off: returned is "
        '"boxes", "scores"'
    )


def test_outputs_name_where_to_stop(read, tmp_path):
    assert read(_with_answers(), "scores").model.output_shape == (None, 4, 6, 6)
    with pytest.raises(
        UnknownName,
        match=re.escape(
            "unknown output 'x'; choose one of the file's, from the last: "
            '"tensor7", "scores", "boxes", "tensor3"'
        ),
    ):
        read(_with_answers(), "x")
    path = tmp_path / "net.tflite"
    plan = inshape.plan(path, "9x9x3", strategy="rebuild", outputs="scores", classes=2)
    assert plan.build().output_shape == (None, 2)
    assert plan.but(outputs="boxes").network.spec[-1].name == "boxes"
    with pytest.raises(RequestError, match="returns 2 outputs, expected one to cut the head off"):
        inshape.plan(path, "9x9x3", strategy="rebuild", classes=2)
    two = inshape.plan(path, "9x9x3", strategy="rebuild", head="top")
    assert "Decoder" in str(two)
    with pytest.raises(RequestError, match=re.escape("outputs=['a'] with 'MobileNetV3Small'; exp")):
        inshape.plan("MobileNetV3Small", "96x96x3", outputs=["a"])


# What is refused


def _inner_custom() -> bytes:
    net = LiteRTNet((7, 6, 3))
    return net.content(_conv(net, net.add("Magic", [net.picture], (7, 6, 3), custom=True)))


def _unknown() -> bytes:
    net = LiteRTNet((7, 6, 3))
    return net.content(net.add("COS", [net.picture], (7, 6, 3), output={"name": "waves"}))


def _of_another_shape() -> bytes:
    net = LiteRTNet((7, 6, 3))
    return net.content(net.add("RELU", [net.picture], (7, 5, 3)))


def _shared_by_all() -> bytes:
    net = LiteRTNet((7, 6, 3))
    kernel, x = net.constant(values(3, 3, 128, 128)), net.picture
    settings = {"padding": 0, "strideH": 1, "strideW": 1}
    x = net.add("CONV_2D", [x, net.constant(values(128, 1, 1, 3))], (7, 6, 128), **settings)
    for _ in range(20):
        x = net.add("CONV_2D", [x, kernel], (7, 6, 128), **settings)
    net.graph.tensors[kernel].shape = np.array([128, 3, 3, 128], np.int32)
    return net.content(x)


def _beyond_its_buffer() -> bytes:
    net = LiteRTNet((7, 6, 3))
    x = _conv(net, net.picture)
    net.graph.tensors[int(net.graph.operators[0].inputs[1])].shape[0] = 2**20
    return net.content(x)


def _with_nan() -> bytes:
    net = LiteRTNet((7, 6, 3))
    kernel = net.constant(np.full((5, 126), np.nan))
    return net.content(net.add("FULLY_CONNECTED", [net.picture, kernel], (5,)))


def _of_a_vector() -> bytes:
    net = LiteRTNet((3,))
    return net.content(net.add("RELU", [net.picture], (3,)))


def _of_any_size() -> bytes:
    net = LiteRTNet((1, 1, 3))
    net.graph.tensors[net.picture].shapeSignature = np.array([1, -1, -1, 3], np.int32)
    return net.content(net.add("RESHAPE", [net.picture], (3,)))


def _of_any_channels() -> bytes:
    net = LiteRTNet((7, 6, 1))
    net.graph.tensors[net.picture].shapeSignature = np.array([1, 7, 6, -1], np.int32)
    return net.content(net.add("RELU", [net.picture], (7, 6, 1)))


def _of_another_batch() -> bytes:
    net = LiteRTNet((7, 6, 3))
    return net.content(_turned(net, [1, 0, 2, 3]))


def _unlike_blocks() -> bytes:
    net = LiteRTNet((7, 6, 3))
    return net.content(_batched(net, [[0, 1], [0, 0]], [[1, 0], [0, 0]], (3, 3)))


REFUSED: dict[str, tuple[Callable[[], bytes], type[Exception], str]] = {
    "unknown": (
        _unknown, GraphError,
        'operator 0, COS, which computes "waves": no layer is known for it; expected what a layer '
        "of Keras computes; stop before it with outputs=",
    ),
    "custom inside": (_inner_custom, GraphError, "operator 1, CONV_2D, which computes"),
    "another shape": (
        _of_another_shape, GraphError, "a layer gives 7x6x3 where the file says 7x5x3"
    ),
    "weights many times": (
        _shared_by_all, GraphError, "its weights are those of other operators, many times"
    ),
    "too few bytes": (_beyond_its_buffer, GraphError, "it has 432 bytes and needs 75497472"),
    "NaN": (_with_nan, GraphError, '"tensor1" holds NaN or infinity in 630 of 630 places'),
    "any size": (_of_any_size, GraphError, "the size ?x?x3 of what it reads is not known"),
    "any channels": (_of_any_channels, WeightsError, "it reads 1x7x6x?, which is no picture"),
    "the batch moved": (_of_another_batch, GraphError, "it moves axes to [1, 0, 2, 3]"),
    "cut before": (_unlike_blocks, GraphError, "SPACE_TO_BATCH_ND, which computes"),
    "no picture": (_of_a_vector, WeightsError, "it reads 1x3, which is no picture"),
    "another file": (lambda: b"PK", WeightsError, "it does not begin as a LiteRT file does"),
    "cut short": (
        lambda: small_net().content(3)[:300], WeightsError, "it is damaged or cut short; expected a"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_is_refused_by_name_and_place(name, read):
    content, kind, message = REFUSED[name]
    with pytest.raises(kind, match=re.escape(message)) as refused:
        read(content())
    assert "net.tflite" in str(refused.value)


def test_a_kind_of_file_without_a_reader_is_refused():
    with pytest.raises(UnknownName, match=re.escape("unknown kind of model file '.xyz'; choose")):
        read_file(Path("a.xyz"))


# Files that people have


@pytest.fixture
def models(shared_dir) -> Path:
    folder = shared_dir / "models"
    if not folder.is_dir():
        pytest.skip("needs the shared model files")
    return folder


def test_a_quantised_mobilenet_answers_as_its_interpreter(models, imagenet500):
    from PIL import Image

    path = models / "vww_96_int8.tflite"
    files = sorted(imagenet500.glob("*.jpg"))[:16]
    crops = [Image.open(f).convert("RGB").resize((96, 96)) for f in files]
    pictures = np.stack([np.asarray(crop, "float32") for crop in crops])
    theirs = LiteRTModel(path)(pictures / 255)
    ours = np.asarray(read_file(path).model(pictures))
    assert np.abs(ours - theirs).mean() < 0.03
    assert (ours.argmax(1) == theirs.argmax(1)).mean() > 0.95
    grey = inshape.adapt(path, "120x160x1", strategy="rebuild", head="top")
    assert np.isfinite(np.asarray(grey(np.full((1, 120, 160, 1), 80.0)))).all()

"""ONNX files."""

from __future__ import annotations

import re
import sys
import warnings

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
from keras import layers
from onnx import TensorProto, helper, numpy_helper

import inshape
from inshape.errors import GraphError, InshapeError, UnknownName, WeightsError
from inshape.importing.api import read_file
from inshape.importing.imported import CARD_KEY, RANGE_UNKNOWN
from inshape.runtime.onnx_files import to_onnx

RNG = np.random.default_rng(0)


SHAPE = (3, 9, 14)


def normal(*shape):
    return RNG.normal(0, 0.5, shape).astype(np.float32)


def node(operation, *reads, out="y", **attributes):
    return helper.make_node(operation, ["x", *reads], [out], name=f"a {operation}", **attributes)


def write(path, nodes, arrays=None, shape=SHAPE, *, opset=17, batch="n", kind=TensorProto.FLOAT):
    """Write a graph from x to y."""
    graph = helper.make_graph(
        nodes, "net", [helper.make_tensor_value_info("x", kind, [batch, *shape])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(a), name) for name, a in (arrays or {}).items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    model = onnx.shape_inference.infer_shapes(model)
    result = model.graph.output[0].type.tensor_type
    if not result.HasField("shape"):
        result.shape.dim.add()
    onnx.save(model, path)
    return path


def answers(path, x):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x})[0]


def answers_as_the_file(path, shape=SHAPE, *, transposes=0):
    """The model that is read, after its answers were compared with those of onnxruntime."""
    model = read_file(path).model
    x = normal(2, *shape)
    expected = answers(path, x)
    given = np.asarray(model(x.transpose(0, 2, 3, 1)))
    given = given.transpose(0, 3, 1, 2) if given.ndim == 4 else given
    np.testing.assert_allclose(given, expected, rtol=1e-5, atol=2e-6)
    assert sum(type(x).__name__ == "Permute" for x in model.layers) == transposes
    return model


INT = np.int64
CASES = {
    "conv": ([node("Conv", "w", "b", pads=[1, 1, 1, 1], strides=[2, 2])],
             {"w": normal(4, 3, 3, 3), "b": normal(4)}),
    "conv of odd pads": ([node("Conv", "w", pads=[0, 2, 1, 0])], {"w": normal(4, 3, 2, 3)}),
    "conv upper": ([node("Conv", "w", auto_pad="SAME_UPPER", strides=[2, 3])],
                   {"w": normal(4, 3, 3, 2)}),
    "conv lower": ([node("Conv", "w", auto_pad="SAME_LOWER", strides=[2, 2])],
                   {"w": normal(4, 3, 3, 2)}),
    "dilated": ([node("Conv", "w", dilations=[2, 1], pads=[2, 0, 2, 0])],
                {"w": normal(2, 3, 3, 1)}),
    "depthwise of several": ([node("Conv", "w", group=3, strides=[2, 2])],
                             {"w": normal(6, 1, 3, 3)}),
    "depthwise of unlike strides": ([node("Conv", "w", group=3, strides=[2, 1])],
                                    {"w": normal(3, 1, 3, 3)}),
    "transposed": ([node("ConvTranspose", "w", "b", strides=[2, 2], pads=[1, 0, 1, 1],
                         output_padding=[1, 0])], {"w": normal(3, 2, 3, 2), "b": normal(2)}),
    "transposed as same": ([node("ConvTranspose", "w", strides=[2, 2], pads=[1, 1, 1, 1])],
                           {"w": normal(3, 2, 4, 4)}),
    "transposed in steps": ([node("ConvTranspose", "w", strides=[3, 3])],
                            {"w": normal(3, 2, 2, 2)}),
    "largest of negative": ([node("MaxPool", kernel_shape=[3, 3], strides=[2, 2],
                                  pads=[1, 1, 1, 1])], {}),
    "largest, rounded up": ([node("MaxPool", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)],
                            {}),
    "mean without pads": ([node("AveragePool", kernel_shape=[3, 3], pads=[1, 1, 1, 1])], {}),
    "mean with pads": ([node("AveragePool", kernel_shape=[3, 3], pads=[1, 1, 1, 1],
                             count_include_pad=1)], {}),
    "mean of all": ([node("ReduceMean", axes=[2, 3], keepdims=0)], {}),
    "mean of a row": ([node("ReduceMean", axes=[-1])], {}),
    "batch norm": ([node("BatchNormalization", "g", "b", "m", "v", epsilon=1e-2)],
                   {"g": normal(3), "b": normal(3), "m": normal(3),
                    "v": np.float32([0.5, 1, 2])}),
    "1 - x": ([helper.make_node("Sub", ["one", "x"], ["y"])], {"one": np.float32(1)}),
    "1 / x": ([node("Abs", out="a"), helper.make_node("Add", ["a", "one"], ["b"]),
               helper.make_node("Div", ["one", "b"], ["y"])], {"one": np.float32(1)}),
    "of channels": ([node("Mul", "c", out="a"), helper.make_node("Add", ["d", "a"], ["y"])],
                    {"c": normal(3, 1, 1), "d": normal(1, 3, 1, 1)}),
    "of places": ([node("Add", "c")], {"c": normal(9, 14)}),
    "slopes": ([node("PRelu", "s")], {"s": normal(3, 1, 1)}),
    "clip": ([node("Clip", "l", "h")], {"l": np.float32(-0.3), "h": np.float32(0.4)}),
    "hard sigmoid": ([node("HardSigmoid", alpha=0.3, beta=0.4)], {}),
    "softmax of channels": ([node("Softmax", axis=1)], {}),
    "resize linear": ([node("Resize", "", "", "s", mode="linear")],
                      {"s": np.array([2, 3, 20, 7], INT)}),
    "resize nearest": ([node("Resize", "", "f", mode="nearest", nearest_mode="floor",
                             coordinate_transformation_mode="asymmetric")],
                       {"f": np.float32([1, 1, 2, 3])}),
    "reflected": ([node("Pad", "p", mode="reflect")],
                  {"p": np.array([0, 0, 1, 2, 0, 0, 3, 0], INT)}),
    "cut": ([node("Slice", "s", "e", "a", "t")],
            {"s": np.array([1, -9], INT), "e": np.array([3, 2**40], INT),
             "a": np.array([1, 3], INT), "t": np.array([1, 2], INT)}),
    "taken": ([node("Gather", "i", axis=1)], {"i": np.array(-1, INT)}),
    "flat": ([node("Flatten", out="f"), helper.make_node("Relu", ["f"], ["r"]),
              helper.make_node("Gemm", ["r", "w", "b"], ["y"], alpha=0.5)],
             {"w": normal(378, 4), "b": normal(4)}),
    "matrix of the last axis": ([node("Transpose", perm=[0, 2, 3, 1], out="t"),
                                 helper.make_node("MatMul", ["t", "w"], ["m"]),
                                 helper.make_node("Add", ["b", "m"], ["a"]),
                                 helper.make_node("Transpose", ["a"], ["y"], perm=[0, 3, 1, 2])],
                                {"w": normal(3, 5), "b": normal(5)}),
    "old shapes": ([node("Shape", out="s"),
                    helper.make_node("Gather", ["s", "first"], ["n"]),
                    helper.make_node("Concat", ["n", "rest"], ["target"], axis=0),
                    helper.make_node("Reshape", ["x", "target"], ["f"]),
                    helper.make_node("MatMul", ["f", "w"], ["y"])],
                   {"first": np.array([0], INT), "rest": np.array([-1], INT),
                    "w": normal(378, 2)}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_operators_answer_as_in_the_file(case, tmp_path):
    answers_as_the_file(write(tmp_path / "a.onnx", *CASES[case]))


def test_flat_maps_that_no_matrix_reads_are_put_in_order(tmp_path):
    nodes = [node("Conv", "w", out="c"), helper.make_node("Flatten", ["c"], ["y"])]
    answers_as_the_file(write(tmp_path / "a.onnx", nodes, {"w": normal(2, 3, 1, 1)}))


def test_shuffled_channels_take_one_transpose(tmp_path):
    nodes = [
        node("Reshape", "groups", out="a"),
        helper.make_node("Transpose", ["a"], ["b"], perm=[0, 2, 1, 3, 4]),
        helper.make_node("Reshape", ["b", "all"], ["y"]),
    ]
    shape = (6, 5, 4)
    arrays = {"groups": np.array([0, 2, 3, 5, 4], INT), "all": np.array([0, 6, 5, 4], INT)}
    answers_as_the_file(write(tmp_path / "a.onnx", nodes, arrays, shape), shape, transposes=1)


def test_a_file_that_says_nothing_of_its_pixels_is_noted_unless_it_is_an_own_one(tmp_path):
    path = write(tmp_path / "a.onnx", [node("Relu")])
    assert read_file(path).notes == (RANGE_UNKNOWN,)
    model = onnx.load(path)
    helper.set_model_props(model, {CARD_KEY: "{}"})
    onnx.save(model, path)
    assert read_file(path).notes == ()


def test_weights_of_8_bits_and_a_picture_in_bytes(tmp_path):
    """As onnxruntime quantises: what begins at zero has taken in a ReLU."""
    kernel = RNG.integers(-127, 128, (4, 3, 3, 3)).astype(np.int8)
    scales = np.array([1, 2, 3, 4], np.float32) / 1500
    arrays = {"s": np.float32(0.5), "z": np.uint8(128), "w": kernel, "t": scales,
              "o": np.zeros(4, np.int8), "u": np.float32(1 / 64), "v": np.uint8(0)}  # fmt: skip
    nodes = [
        node("DequantizeLinear", "s", "z", out="a"),
        helper.make_node("DequantizeLinear", ["w", "t", "o"], ["k"], axis=0),
        helper.make_node("Conv", ["a", "k"], ["c"]),
        helper.make_node("QuantizeLinear", ["c", "u", "v"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "u", "v"], ["y"]),
    ]
    path = write(tmp_path / "a.onnx", nodes, arrays, kind=TensorProto.UINT8)
    imported = read_file(path)
    assert imported.notes == (
        "the file computes in 8 bits; the model that was read computes in floats",
    )
    x = RNG.integers(126, 131, (2, *SHAPE)).astype(np.uint8)
    given = np.asarray(imported.model(x.transpose(0, 2, 3, 1).astype(np.float32)))
    assert np.abs(given.transpose(0, 3, 1, 2) - answers(path, x)).max() < 1 / 64
    assert np.ptp(given) > 0.5


def own_network():
    image = keras.Input((33, 48, 3))
    x = layers.Rescaling(1 / 127.5, -1.0)(image)
    x = layers.Conv2D(8, 3, strides=2, padding="same", activation="hard_silu")(x)
    gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
    x = layers.Multiply()([x, layers.Conv2D(8, 1, activation="hard_sigmoid")(gate)])
    x = layers.DepthwiseConv2D(3, strides=2, padding="same", use_bias=False)(x)
    x = layers.MaxPooling2D(2, padding="same")(layers.BatchNormalization()(x))
    return keras.Model(image, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))


def test_inshapes_own_files_come_back_and_go_on(tmp_path, randomise):
    """Their picture is channels last, with transposes around each convolution."""
    source = randomise(own_network())
    path = tmp_path / "own.onnx"
    path.write_bytes(to_onnx(source, None))
    model = read_file(path).model
    assert not [x.name for x in model.layers if isinstance(x, layers.Permute)]
    x = RNG.uniform(0, 255, (2, 33, 48, 3)).astype(np.float32)
    np.testing.assert_allclose(model(x), source(x), rtol=0, atol=1e-5)
    twice = [inshape.adapt(m, "41x57x1", head="top", strategy="rebuild") for m in (model, source)]
    grey = RNG.uniform(0, 255, (2, 41, 57, 1)).astype(np.float32)
    np.testing.assert_allclose(twice[0](grey), twice[1](grey), rtol=0, atol=1e-5)
    path.write_bytes(to_onnx(twice[0], None))
    np.testing.assert_allclose(answers(path, grey), twice[1](grey), rtol=0, atol=1e-5)


def test_a_network_of_pytorch_answers_as_it_did(tmp_path):
    torch = pytest.importorskip("torch")
    nn = torch.nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Sequential(
                nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.Hardswish(),
                nn.Conv2d(8, 8, 3, 2, 1, groups=8), nn.ReLU6(), nn.MaxPool2d(3, 2, 1),
            )  # fmt: skip
            self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 8, 1), nn.Hardsigmoid())
            self.up, self.classes = nn.ConvTranspose2d(8, 8, 3, 2, 1, 1), nn.Linear(8, 5)

        def forward(self, x):
            x = self.stem((x - 0.5) / 0.25)
            first, second = (x * self.gate(x)).chunk(2, 1)
            x = nn.functional.interpolate(torch.cat([second, first], 1), scale_factor=2.0)
            x = nn.functional.silu(self.up(x)).mean((2, 3))
            return self.classes(x).softmax(-1)

    torch.manual_seed(0)
    network, path, shape = Net().eval(), tmp_path / "torch.onnx", (3, 33, 48)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter that needs no further package is the old one
        torch.onnx.export(network, torch.zeros(1, *shape), path, dynamo=False, opset_version=13,
                          input_names=["x"], dynamic_axes={"x": {0: "n"}})  # fmt: skip
    model = answers_as_the_file(path, shape)
    x = normal(2, *shape)
    expected = network(torch.tensor(x)).detach().numpy()
    np.testing.assert_allclose(model(x.transpose(0, 2, 3, 1)), expected, rtol=0, atol=1e-5)
    adapted = inshape.adapt(path, "40x64x1", head="top", strategy="rebuild")
    assert adapted.output_shape == (None, 5)
    assert np.ptp(np.asarray(adapted(RNG.uniform(0, 1, (3, 40, 64, 1)))), axis=0).max() > 1e-5


def test_it_stops_where_it_is_told(tmp_path):
    nodes = [node("Relu", out="a"), helper.make_node("Sigmoid", ["a"], ["y"], name="last")]
    path = write(tmp_path / "a.onnx", nodes)
    x = normal(1, 9, 14, 3)
    for name in ("a", "a Relu"):
        np.testing.assert_array_equal(read_file(path, [name]).model(x), np.maximum(x, 0))
    with pytest.raises(UnknownName, match=re.escape("unknown output 'b'; choose from: a Relu, l")):
        read_file(path, ["b"])


AGAIN = "; export it without, or stop before it with outputs="
REFUSED = {
    "node 'a Det' (Det) is no operator that Keras has a layer for; expected one of Abs, Add, ":
        ([node("Det")], {}),
    f"node 'a MaxPool' (MaxPool) has dilations or says where its largest numbers are; expected neither{AGAIN}":  # noqa: E501
        ([node("MaxPool", kernel_shape=[2, 2], dilations=[2, 2])], {}),
    f"node 'a Conv' (Conv) looks at 1 axes; expected height and width{AGAIN}":
        ([node("Conv", "w")], {"w": normal(4, 3, 3)}),
    "node 'a_Conv' has weights of [(1, 1, 2, 4)], expected [(1, 1, 3, 4)]; export it again":
        ([node("Conv", "w")], {"w": normal(4, 2, 1, 1)}),
    f"node 'a Reshape' (Reshape) mixes the pictures of a batch in 7x54; expected the batch to stay as it is{AGAIN}":  # noqa: E501
        ([node("Reshape", "s")], {"s": np.array([7, 54], INT)}),
    f"node 'a Resize' (Resize) resizes by mode 'cubic' and places 'half_pixel'; expected 'linear' with 'half_pixel', or 'nearest' by whole factors{AGAIN}":  # noqa: E501
        ([node("Resize", "", "f", mode="cubic")], {"f": np.float32([1, 1, 2, 1.5])}),
    f"node 'z' (ConstantOfShape) makes an array of 1000000x1000000; expected a small one{AGAIN}":
        ([helper.make_node("ConstantOfShape", ["s"], ["z"]), node("Add", "z")],
         {"s": np.array([10**6, 10**6], INT)}),
    "output 'y' is the same for every picture":
        ([helper.make_node("Identity", ["w"], ["y"])], {"w": normal(3)}),
    "node 'a_Conv' holds NaN or infinity in 12 of 12 places; expected finite floating-point numb":
        ([node("Conv", "w")], {"w": np.full((4, 3, 1, 1), np.nan, np.float32)}),
}  # fmt: skip


@pytest.mark.parametrize("message", REFUSED, ids=lambda message: message[:30])
def test_what_cannot_be_read_is_named(message, tmp_path):
    path = write(tmp_path / "a.onnx", *REFUSED[message])
    with pytest.raises(InshapeError, match=re.escape(f"{path}: {message}")):
        read_file(path)


def test_weights_in_another_file_are_refused(tmp_path):
    path = write(tmp_path / "a.onnx", [node("Conv", "w")], {"w": normal(4, 3, 1, 1)})
    model = onnx.load(path)
    onnx.save(model, path, save_as_external_data=True, location="b", size_threshold=0)
    message = f"{path} has the weights of 'w' in another file; expected all in one; save it with"
    with pytest.raises(WeightsError, match=re.escape(message)):
        read_file(path)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((3, 9), "takes an input of 3 axes, expected a picture of four"),
        (("c", "h", "w"), "does not fix its channels, expected a number"),
    ],
)
def test_an_input_that_is_no_picture_is_refused(shape, message, tmp_path):
    path = write(tmp_path / "a.onnx", [node("Relu")], shape=shape)
    with pytest.raises(GraphError, match=re.escape(f"{path} {message}")):
        read_file(path)


def test_a_file_that_is_damaged_is_refused(tmp_path):
    path = tmp_path / "a.onnx"
    path.write_bytes(b"\x08\x09 no file of onnx")
    with pytest.raises(WeightsError, match=re.escape(f"{path} is truncated or damaged (")):
        read_file(path)


def test_a_graph_of_too_many_nodes_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("inshape.importing.onnx._MOST_NODES", 0)
    path = write(tmp_path / "a.onnx", [node("Relu")])
    message = f"{path} has 1 nodes, expected at most 0; simplify it"
    with pytest.raises(GraphError, match=re.escape(message)):
        read_file(path)


def test_without_the_package_it_is_said_what_to_install(tmp_path, monkeypatch):
    path = write(tmp_path / "a.onnx", [node("Relu")])
    monkeypatch.setitem(sys.modules, "onnx", None)
    message = f"{path} takes the package onnx, which is not installed; expected the extra onnx; pip"
    with pytest.raises(WeightsError, match=re.escape(message)):
        read_file(path)


@pytest.mark.parametrize("count", [0, 2])
def test_a_graph_of_several_pictures_or_none_is_refused(count, tmp_path):
    names = ["a", "b"][:count]
    makes = helper.make_node("Sum", names, ["y"]) if names else helper.make_node(
        "Constant", [], ["y"], value_float=1.0
    )  # fmt: skip
    inputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, *SHAPE]) for n in names]
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, *SHAPE])
    model = helper.make_model(helper.make_graph([makes], "net", inputs, [result]), ir_version=9)
    path = tmp_path / "a.onnx"
    onnx.save(model, path)
    received = "'a', 'b'" if names else "none"
    message = f"{path} has the inputs {received}, expected one picture"
    with pytest.raises(GraphError, match=re.escape(message)):
        read_file(path)


def test_a_graph_that_gives_nothing_is_refused(tmp_path):
    path = write(tmp_path / "a.onnx", [node("Relu")])
    model = onnx.load(path)
    del model.graph.output[:]
    onnx.save(model, path)
    with pytest.raises(GraphError, match=re.escape(f"{path} cannot be read (`outputs` argument ")):
        read_file(path)

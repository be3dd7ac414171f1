"""Quantised files: ranges by error and corrected biases against the usual way."""

from __future__ import annotations

from itertools import pairwise

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from ai_edge_litert.tools import flatbuffer_utils

from inshape.importing.litert_file import litert_schema
from inshape.runtime import int8
from inshape.runtime.conversion import convert
from inshape.runtime.flatbuffer import read_model
from inshape.runtime.formats import FORMATS
from inshape.runtime.insides import expose
from inshape.runtime.int8 import find_hidden, int8_content, least_error
from inshape.runtime.litert import LiteRTModel, quantisation_of
from inshape.runtime.litert_files import to_litert
from inshape.runtime.runners import answer, load

layers = keras.layers
constant = keras.initializers.Constant


@pytest.fixture(scope="module")
def network():
    """Channels of very different ranges, with a few outliers: what naive int8 does worst."""
    keras.utils.set_random_seed(1)
    image = keras.Input((16, 12, 3))
    x = layers.Rescaling(1 / 127.5, offset=-1)(image)
    x = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu")(x)
    x = layers.DepthwiseConv2D(3, padding="same", activation="relu6")(x)
    x = layers.Conv2D(16, 1, activation="relu")(x)
    model = keras.Model(image, layers.Dense(5)(layers.GlobalAveragePooling2D()(x)))
    kernel, bias = model.layers[2].get_weights()
    model.layers[2].set_weights([kernel * np.geomspace(0.3, 12, 8), bias + 0.1])
    return model


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(0)
    scale = rng.uniform(0.2, 1.0, (48, 1, 1, 1))
    return (rng.uniform(0, 255, (48, 16, 12, 3)) * scale).astype("float32")


@pytest.fixture(scope="module")
def exported(network, pictures, tmp_path_factory):
    """A file of each type of input and output, and the progress of writing it."""
    folder = tmp_path_factory.mktemp("files")
    files = {}
    for io in ("float32", "int8", "uint8"):
        path, progress = folder / f"{io}.tflite", []
        sample = [picture[None] for picture in pictures[:8]]
        convert(
            network, FORMATS["litert-int8"], path,
            pictures=sample, io=io, progress=lambda *counts, to=progress: to.append(counts),
        )  # fmt: skip
        files[io] = path, progress
    return files


@pytest.fixture(scope="module")
def errors(network, pictures, tmp_path_factory):
    """Mean differences from Keras of three ways to quantise, on pictures of their own."""
    content = to_litert(network)
    expected = network.predict(pictures[24:], verbose=0)
    differences = {}
    for name, options in {
        "naive": {"equal": False, "clipped": False, "corrected": False},
        "clipped": {"equal": False, "corrected": False},
        "both": {"equal": False},
    }.items():
        quantised = int8_content(content, [p[None] for p in pictures[:24]], **options)
        logits = answer(LiteRTModel(quantised), pictures[24:])
        differences[name] = np.abs((logits - expected).mean(axis=0)).mean()
    return differences


def test_corrected_biases_bring_the_means_back(errors):
    assert errors["both"] < 0.7 * errors["clipped"]
    assert errors["both"] < 0.7 * errors["naive"]


@pytest.mark.parametrize("reader", ["depthwise", "head"])
def test_small_channels_that_count_as_much_as_large_ones_keep_their_levels(reader, pictures):
    """A head trained on few noisy frames amplifies small parts of large features likewise."""
    keras.utils.set_random_seed(1)
    image = keras.Input((16, 12, 3))
    x = layers.Conv2D(8, 3, activation="relu", name="writer")(layers.Rescaling(1 / 255)(image))
    if reader == "depthwise":
        x = layers.DepthwiseConv2D(3, activation="relu", name="depthwise")(x)
    x = layers.GlobalAveragePooling2D()(x)
    model = keras.Model(image, layers.Dense(5, name="head")(x))
    sizes = np.geomspace(0.03, 1, 8)
    kernel, bias = model.get_layer("writer").get_weights()
    model.get_layer("writer").set_weights([kernel * sizes, bias + 0.1 * sizes])
    kernel, bias = model.get_layer(reader).get_weights()
    model.get_layer(reader).set_weights([kernel / sizes[:, None], bias])
    expected, content = model.predict(pictures[24:], verbose=0), to_litert(model)
    unequal, equal = (
        answer(LiteRTModel(int8_content(content, [p[None] for p in pictures[:24]], equal=flag)),
               pictures[24:])
        for flag in (False, True)
    )  # fmt: skip
    assert np.abs(equal - expected).mean() < 0.7 * np.abs(unequal - expected).mean()


@pytest.mark.parametrize("io", ["float32", "int8", "uint8"])
def test_input_and_output_are_of_the_type_asked_for(io, network, pictures, exported):
    path, _ = exported[io]
    reader = Interpreter(model_path=str(path))
    sides = (*reader.get_input_details(), *reader.get_output_details())
    assert {side["dtype"] for side in sides} == {np.dtype(io).type}
    expected = network.predict(pictures, verbose=0)
    logits = answer(load(path), pictures)
    assert np.abs(logits - expected).mean() < 0.1 * np.abs(expected).max()


def test_the_numbers_that_bytes_stand_for(pictures, exported):
    """A byte q stands for scale * (q - zero_point): by hand, and through the raw interpreter."""
    path, _ = exported["int8"]
    sides = quantisation_of(path)
    assert sides["input"] == {"scale": pytest.approx(1.0, abs=1e-3), "zero_point": -128}
    reader = Interpreter(model_path=str(path))
    reader.allocate_tensors()
    shown = np.round(pictures[:1] / sides["input"]["scale"]) - 128
    reader.set_tensor(
        reader.get_input_details()[0]["index"], np.clip(shown, -128, 127).astype("i1")
    )
    reader.invoke()
    output = reader.get_tensor(reader.get_output_details()[0]["index"]).astype("float32")
    expected = sides["output"]["scale"] * (output - sides["output"]["zero_point"])
    np.testing.assert_allclose(LiteRTModel(path)(pictures[:1]), expected, rtol=1e-6)


def test_biases_are_corrected_on_pictures_from_all_over(network, monkeypatch):
    """Calibration pictures come class by class, so that the first ones are of a few classes."""
    corrected_on = []
    content = to_litert(network)
    quantised = int8_content(content, [np.zeros((1, 16, 12, 3), np.float32)], corrected=False)
    monkeypatch.setattr(int8, "_ranges_of", lambda *args, **options: {})
    monkeypatch.setattr(int8, "_quantise", lambda *args: quantised)
    monkeypatch.setattr(int8, "_fit_biases", lambda *args: quantised)
    monkeypatch.setattr(int8, "_channel_means", lambda *args: corrected_on.append(args[1]) or {})
    for count in (3, 64, 100, 400):
        sample = [np.full((1, 16, 12, 3), n, np.float32) for n in range(count)]
        int8_content(content, sample, equal=False)
    numbers = [[int(p.max()) for p in each] for each in corrected_on]
    assert numbers[:2] == [[0, 1, 2], list(range(64))]
    assert [len(each) for each in numbers] == [3, 64, 100, 200]
    assert [each[-1] for each in numbers] == [2, 63, 99, 399]
    assert all(0 < b - a < 8 for each in numbers for a, b in pairwise(each))


@pytest.mark.parametrize(
    ("io", "size"), [("float32", (16, 12)), ("uint8", (16, 12)), ("float32", (None, None))]
)
def test_pictures_on_their_way_are_what_a_whole_run_makes_of_them(io, size, pictures):
    """Across a residual and squeeze-and-excite, and behind biases that are changed."""
    keras.utils.set_random_seed(2)
    image = keras.Input((*size, 3))
    x = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu")(image / 255.0)
    gate = layers.Conv2D(8, 1, activation="sigmoid")(
        layers.GlobalAveragePooling2D(keepdims=True)(x)
    )
    x = layers.Add()([x, layers.DepthwiseConv2D(3, padding="same")(layers.Multiply()([x, gate]))])
    model = keras.Model(image, layers.Dense(5)(layers.GlobalAveragePooling2D()(x)))
    sample = [p[None] for p in pictures[:6]]
    content = int8_content(to_litert(model), sample, io, corrected=False)
    file = read_model(content)
    run, steps = int8._StepwiseRun(file, sample), int8._with_bias(file)
    assert len(steps) >= 3
    for place, index in steps:
        means = run.channel_means(place, index, None)
        whole = [expose(file, [index]).all_outputs(picture)[0] for picture in sample]
        expected = np.concatenate(whole).mean(axis=tuple(range(whole[0].ndim - 1)), dtype=float)
        np.testing.assert_allclose(means, expected, rtol=1e-6)
        graph = file.subgraphs[0]
        bias = file.buffers[graph.tensors[graph.operators[place].inputs[2]].buffer]
        bias.data = (bias.data.view(np.int32) + 500).view(np.uint8)
    assert all(len(maps) <= 2 for maps in run._held)


def test_fewer_pictures_where_their_maps_would_not_fit(network, pictures, monkeypatch):
    sample = [picture[None] for picture in pictures]
    file = read_model(int8_content(to_litert(network), sample))
    largest = 8 * 6 * (8 + 16)  # the second convolution's map and what it reads
    for held, count in ((2**30, 200), (10 * largest, 10), (largest - 1, 1)):
        monkeypatch.setattr(int8, "_HELD_BYTES", held)
        assert int8._fit_in_memory(file, sample[0]) == count


def test_the_slow_part_shows_how_far_it_is(exported):
    _, progress = exported["float32"]
    assert len(progress) >= 3  # layers that have a bias
    assert progress == [(n, len(progress)) for n in range(1, len(progress) + 1)]


def test_outliers_are_clipped_where_that_shows_the_rest_better():
    rng = np.random.default_rng(0)
    values = np.append(rng.normal(size=200_000), [40.0, -35.0])
    low, high = least_error(values, -35.0, 40.0)
    assert -35.0 < low < -3.0
    assert 3.0 < high < 40.0
    even = rng.uniform(-1, 1, 100_000)
    assert least_error(even, -1.0, 1.0) == pytest.approx((-1.0, 1.0), abs=0.06)
    assert least_error(np.zeros(3), 0.0, 0.0) == (0.0, 0.0)


def test_the_quantizer_keeps_quiet(capsys):
    """It shows a progress bar for more than a hundred tensors, whatever it is asked for."""
    image = x = keras.Input((8, 8, 2))
    for _ in range(36):
        x = layers.Conv2D(2, 1, activation="relu", kernel_initializer=constant(0.5))(x)
    model = keras.Model(image, layers.Dense(2)(layers.Flatten()(x)))
    sample = [np.full((1, 8, 8, 2), level, np.float32) for level in (0, 100, 255)]
    assert int8_content(to_litert(model), sample, clipped=False, corrected=False)
    assert "Applying" not in capsys.readouterr().err


def test_a_layer_that_only_gives_zeros_is_quantised(tmp_path):
    """Its range is not nothing, which the fast kernels refuse."""
    image = keras.Input((8, 8, 2))
    x = layers.Conv2D(2, 1, activation="relu", kernel_initializer=constant(-0.5))(image)
    x = layers.Conv2D(2, 1, activation="relu", kernel_initializer=constant(0.5))(x)
    model = keras.Model(image, layers.Dense(2, bias_initializer=constant(3.0))(layers.Flatten()(x)))
    sample = [np.full((1, 8, 8, 2), level, np.float32) for level in (100, 255)]
    convert(model, FORMATS["litert-int8"], tmp_path / "a.tflite", pictures=sample)
    np.testing.assert_allclose(load(tmp_path / "a.tflite")(sample[0]), [[3.0, 3.0]], atol=0.05)


@pytest.fixture(scope="module")
def silent_channels():
    """A network two channels of which have hardly any weights and biases of ordinary size."""
    keras.utils.set_random_seed(0)
    image = keras.Input((16, 12, 3))
    x = layers.Rescaling(1 / 255)(image)
    x = layers.Conv2D(4, 3, padding="same", activation="relu", name="stem")(x)
    x = layers.GlobalAveragePooling2D()(x)
    model = keras.Model(image, layers.Dense(3, name="logits")(x))
    kernel, _ = model.get_layer("stem").get_weights()
    kernel[..., 1:3] *= 0, 1e-8
    model.get_layer("stem").set_weights([kernel, np.array([0.1, 3.0, 2.0, 0.0], "float32")])
    return model


@pytest.mark.parametrize(
    ("corrected", "granularity"),
    [(False, "per-channel"), (True, "per-channel"), (True, "per-tensor")],
)
def test_a_bias_that_32_bits_do_not_hold_is_counted_in_larger_steps(
    corrected, granularity, silent_channels, pictures
):
    """Its step is that of the input times that of the weights, here 1e-11: 3 is 3e11 of these."""
    content = to_litert(silent_channels)
    sample = [p[None] for p in pictures[:8]]
    quantised = int8_content(content, sample, granularity=granularity, corrected=corrected)
    expected = silent_channels.predict(pictures[24:], verbose=0)
    logits = answer(LiteRTModel(quantised), pictures[24:])
    # A few roundings to 255 levels; with the sign turned it was three quarters of the largest.
    np.testing.assert_allclose(logits, expected, atol=0.05 * np.abs(expected).max())


@pytest.fixture
def changed(silent_channels):
    """The same network with other weights: ``changed(layer, change)``."""

    def change_layer(layer, change):
        model = keras.models.clone_model(silent_channels)
        model.set_weights(silent_channels.get_weights())
        kernel, bias = model.get_layer(layer).get_weights()
        change(kernel, bias)
        model.get_layer(layer).set_weights([kernel, bias])
        return to_litert(model), kernel

    return change_layer


def test_weights_that_8_bits_do_not_show_are_found(network, changed, pictures):
    sample = [p[None] for p in pictures[:8]]
    assert find_hidden(to_litert(network), sample) == ()

    def enlarge(kernel, bias):
        kernel[1] = 1000.0  # of the channel that never varies: it adds nothing

    content, kernel = changed("logits", enlarge)
    (found,) = [h for h in find_hidden(content, sample) if h.kind == "weights"]
    assert "logits" in found.tensor
    assert (found.largest, found.typical) == pytest.approx((1000.0, np.median(np.abs(kernel))))


def test_values_that_8_bits_do_not_show_are_found(changed, pictures):
    def enlarge(kernel, bias):
        bias[1] = 5e3

    content, _ = changed("stem", enlarge)
    found = [h for h in find_hidden(content, [p[None] for p in pictures[:8]]) if h.kind == "values"]
    assert "stem" in found[0].tensor
    assert found[0].largest == pytest.approx(5e3)


def test_weights_have_a_scale_for_each_output_channel(exported):
    path, _ = exported["float32"]
    kernels = [
        (len(t["quantization_parameters"]["scales"]), t["shape"])
        for t in Interpreter(model_path=str(path)).get_tensor_details()
        if t["dtype"] is np.int8 and len(t["shape"]) == 4 and t["shape"][0] != 1
    ]
    assert sorted(shape[0] for _, shape in kernels) == [8, 16]
    assert all(count == shape[0] for count, shape in kernels)


@pytest.mark.parametrize("top", [layers.GlobalAveragePooling2D, layers.GlobalMaxPooling2D])
def test_every_kernel_has_one_scale_where_that_is_asked_for(top, pictures, tmp_path):
    """Also by TensorFlow's converter, which writes the files of networks with a maximum."""
    keras.utils.set_random_seed(1)
    image = keras.Input((16, 12, 3))
    x = layers.Conv2D(8, 3, activation="relu", bias_initializer=constant(0.1))(image)
    x = layers.DepthwiseConv2D(3, bias_initializer=constant(0.1))(x)
    x = layers.Conv2DTranspose(6, 2, strides=2, bias_initializer=constant(0.1))(x)
    model = keras.Model(image, layers.Dense(5, bias_initializer=constant(0.1))(top()(x)))
    path = tmp_path / "a.tflite"
    convert(
        model, FORMATS["litert-int8"], path,
        pictures=[p[None] for p in pictures[:8]], granularity="per-tensor",
    )  # fmt: skip
    file = read_model(path.read_bytes())
    (graph,) = file.subgraphs
    scales = {
        tuple(tensor.shape): len(tensor.quantization.scale)
        for tensor in graph.tensors
        if tensor.type == litert_schema().TensorType.INT8
        and file.buffers[tensor.buffer].data is not None
    }
    assert scales == {(8, 3, 3, 3): 1, (1, 3, 3, 8): 1, (6, 2, 2, 8): 1, (5, 6): 1}


def test_channels_that_differ_a_hundredfold_can_share_a_scale(pictures):
    """A kernel's smallest channels were all zeros before they were brought to like sizes."""
    keras.utils.set_random_seed(1)
    image = keras.Input((16, 12, 3))
    x = layers.Conv2D(8, 3, activation="relu")(layers.Rescaling(1 / 255)(image))
    x = layers.DepthwiseConv2D(3, activation="relu")(x)
    x = layers.Conv2D(8, 1, activation="relu")(x)
    model = keras.Model(image, layers.Dense(5)(layers.GlobalAveragePooling2D()(x)))
    sizes = np.geomspace(0.01, 1, 8)
    for layer, along in ((model.layers[2], sizes), (model.layers[3], sizes[::-1, None])):
        kernel, bias = layer.get_weights()
        layer.set_weights([kernel * along, bias + 0.01])
    kernel, bias = model.layers[4].get_weights()
    model.layers[4].set_weights([kernel * 100, bias])
    expected, content = model.predict(pictures[24:], verbose=0), to_litert(model)
    sample = [p[None] for p in pictures[:24]]
    unequal, equal = (
        answer(
            LiteRTModel(int8_content(content, sample, granularity="per-tensor", equal=flag)),
            pictures[24:],
        )
        for flag in (False, True)
    )
    assert np.abs(equal - expected).mean() < 0.5 * np.abs(unequal - expected).mean()


def test_equal_vectors_are_written_once(pictures, exported):
    """Every channel of every layer has its own zero point of eight bytes, which is always 0."""
    content = exported["float32"][0].read_bytes()
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    plain = bytes(flatbuffer_utils.convert_object_to_bytearray(model))
    assert len(content) < len(plain) - 8 * 16  # the larger layer has 16 channels
    outputs = []
    for each in (content, plain):
        reader = Interpreter(model_content=each)
        reader.allocate_tensors()
        reader.set_tensor(reader.get_input_details()[0]["index"], pictures[:1])
        reader.invoke()
        outputs.append(reader.get_tensor(reader.get_output_details()[0]["index"]))
        zeros = [t["quantization_parameters"]["zero_points"] for t in reader.get_tensor_details()]
        assert {len(z) for z in zeros} >= {8, 16}
    np.testing.assert_array_equal(*outputs)

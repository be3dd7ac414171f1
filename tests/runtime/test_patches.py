"""Networks in patches against themselves as a whole, in Keras and in LiteRT files."""

from __future__ import annotations

import re

import keras
import numpy as np
import pytest

from inshape.errors import GraphError
from inshape.geometry.cost import costs
from inshape.geometry.footprint import footprint
from inshape.geometry.patches import Patches, find_spans, patched
from inshape.geometry.sizes import map_shapes
from inshape.graph.read import read
from inshape.graph.rewrite import rebuild
from inshape.runtime.arena import arena_of
from inshape.runtime.conversion import convert
from inshape.runtime.flatbuffer import read_model
from inshape.runtime.formats import FORMATS
from inshape.runtime.litert import LiteRTModel
from inshape.runtime.patches import in_patches
from inshape.shapes import InputShape

layers = keras.layers
SHAPE = InputShape(61, 46, 1)


@pytest.fixture(scope="module")
def model():
    """Kernels of every kind that can be cut, odd maps, and a gate that cannot."""
    keras.utils.set_random_seed(3)
    image = keras.Input(SHAPE.as_tuple())
    x = layers.Rescaling(1 / 127.5, offset=-1)(image)
    x = layers.Conv2D(8, (5, 3), strides=1, padding="same", use_bias=False)(x)
    x = layers.Activation("hard_silu")(layers.BatchNormalization()(x))
    x = layers.ZeroPadding2D(((0, 1), (1, 2)))(x)
    x = layers.DepthwiseConv2D(3, strides=2, activation="relu6")(x)
    y = layers.Conv2D(8, 3, dilation_rate=2, padding="same", activation="relu")(x)
    x = layers.Add()([x, y])
    x = layers.MaxPooling2D(2, strides=1)(layers.Concatenate()([x, y]))
    x = layers.SeparableConv2D(12, 3, strides=2, padding="same", name="last")(x)
    gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
    x = layers.Multiply(name="gated")([x, layers.Conv2D(12, 1, activation="sigmoid")(gate)])
    x = layers.Conv2D(16, 3, padding="same", activation="relu")(x)
    x = layers.DepthwiseConv2D(3, strides=2, padding="same", name="second")(x)
    return keras.Model(image, layers.Dense(5)(layers.GlobalAveragePooling2D()(x)))


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(0)
    return [rng.uniform(0, 255, (1, *SHAPE.as_tuple())).astype(np.float32) for _ in range(6)]


@pytest.fixture(scope="module")
def known(model):
    spec = read(model)
    return spec, map_shapes(spec, SHAPE)


def regions_of(known, *grids_hw):
    """Patches down to the last end of each span."""
    spans = find_spans(*known)
    return [Patches(g, s.start, s.ends[-1]) for g, s in zip(grids_hw, spans, strict=False)]


@pytest.fixture(scope="module", params=["litert", "litert-int8"])
def content(request, model, pictures, tmp_path_factory):
    path = tmp_path_factory.mktemp("files") / "a.tflite"
    convert(model, FORMATS[request.param], path, pictures=pictures[:2], io="uint8")
    return path.read_bytes()


def test_all_but_the_gate_can_be_cut(known):
    spec, _ = known
    first, second = find_spans(*known)
    assert [spec[i].name for i in (first.ends[-1], second.start, second.ends[-1])] == [
        "last", "gated", "second",
    ]  # fmt: skip


@pytest.mark.parametrize("grid_hw", [(2, 2), (1, 3), (4, 3)])
def test_a_file_answers_the_same_to_the_last_bit(content, known, pictures, grid_hw):
    """Down to every layer, and in two regions."""
    whole = LiteRTModel(content)
    expected = [whole(picture) for picture in pictures]
    spans = find_spans(*known)
    cuts = [[Patches(grid_hw, s.start, end)] for s in spans for end in s.ends]
    for regions in (*cuts, regions_of(known, grid_hw, (3, 1))):
        cut = LiteRTModel(in_patches(content, *known, regions))
        for picture, answer in zip(pictures, expected, strict=True):
            np.testing.assert_array_equal(cut(picture), answer)


def test_a_file_keeps_its_weights_once_and_takes_less_memory(content, known, tmp_path):
    cut = in_patches(content, *known, regions_of(known, (3, 2), (2, 1)))
    assert _weights(cut) == _weights(content)
    arenas: list[int] = []
    for number, part in enumerate((content, cut)):
        path = tmp_path / f"{number}.tflite"
        path.write_bytes(part)
        arenas.append(arena_of(path).tensor_bytes)
    assert arenas[1] < 0.6 * arenas[0]


def _weights(content):
    """Constants of more than the few numbers that slices and pads are described by."""
    data = [buffer.data for buffer in read_model(content).buffers]
    return sorted(part.tobytes() for part in data if part is not None and len(part) > 32)


def test_pieces_of_a_map_have_one_scale(content, known):
    """Every tensor of a piece, the padded and the sliced ones too, has that of the whole map."""
    cut = in_patches(content, *known, regions_of(known, (2, 2)))

    def scales(part):
        tensors = read_model(part).subgraphs[0].tensors
        pairs = [
            (t.quantization.scale, t.quantization.zeroPoint) for t in tensors if t.quantization
        ]
        return {(s.tobytes(), z.tobytes()) for s, z in pairs if s is not None and z is not None}

    assert scales(cut) == scales(content)


def test_a_keras_model_answers_the_same(model, known, pictures):
    """And is the graph that was planned: operations, weights and maps."""
    spec, _ = known
    regions = regions_of(known, (3, 2), (2, 2))
    cut, layer_map = rebuild(model, spec, SHAPE, patches=regions)
    for pair in layer_map.pairs:
        pair.target.set_weights(pair.source.get_weights())
    assert cut.count_params() == model.count_params()
    batch = np.concatenate(pictures)
    np.testing.assert_allclose(cut(batch), model(batch), rtol=0, atol=1e-5)
    planned, built = patched(spec, SHAPE, regions), read(cut)
    assert _kinds(planned) == _kinds(built)
    of_both = [sum(c.macs for c in costs(graph, SHAPE)) for graph in (planned, built)]
    assert of_both[0] == of_both[1]


def _kinds(spec):
    """Every call but the pads, which stand in front of a call of a plan; in no order."""
    return sorted((x.op, x.kernel_hw, x.native_shape) for x in spec if x.op not in ("pad", "input"))


def test_less_memory_is_planned(known):
    spec, _ = known
    cut = patched(spec, SHAPE, regions_of(known, (3, 2)))
    assert footprint(cut, SHAPE).ram_bytes < footprint(spec, SHAPE).ram_bytes


def test_a_file_of_another_network_is_refused(content, known):
    spec, shapes = known
    (region,) = regions_of(known, (2, 2))
    end = region.end
    wrong = [*shapes[:end], (9, 9, 9), *shapes[end + 1 :]]
    message = (
        'patches down to "last": the converted file has no such map of 9x9x9 that everything '
        "passes through; expected one; leave max_ram out, or choose another network"
    )
    with pytest.raises(GraphError, match=re.escape(message)):
        in_patches(content, spec, wrong, [region])

from __future__ import annotations

import keras
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.geometry.nets import Net, mobilenet_v1, resnet50, vgg16, with_squeeze_and_excite

from inshape.geometry.amounts import total_of
from inshape.geometry.cost import Cost, activation_memory, costs
from inshape.geometry.sizes import map_shapes
from inshape.geometry.spec import GraphSpec, InputLayers
from inshape.shapes import InputShape


def shape(text: str) -> InputShape:
    return InputShape.of(text)


CONVOLUTIONS = [
    ("conv", {"groups": 1}, lambda: keras.layers.Conv2D(12, (3, 5), use_bias=True)),
    ("conv", {"groups": 3}, lambda: keras.layers.Conv2D(12, (3, 5), groups=3)),
    ("depthwise", {"multiplier": 2}, lambda: keras.layers.DepthwiseConv2D((3, 5), 1, "same", 2)),
    ("separable", {"multiplier": 2},
     lambda: keras.layers.SeparableConv2D(12, (3, 5), depth_multiplier=2)),
    ("dense", {}, lambda: keras.layers.Dense(12)),
]  # fmt: skip


@pytest.mark.parametrize(("op", "fields", "layer"), CONVOLUTIONS)
@pytest.mark.parametrize("channels", [3, 6])
def test_parameters_are_the_frameworks_own(op, fields, layer, channels):
    built = layer()
    built.build((None, 97, 64, channels))
    net = Net()
    net.add(op, kernel_hw=(3, 5), out_channels=12, use_bias=True, **fields)
    assert costs(net.spec(), InputShape(97, 64, channels))[1].params == built.count_params()


@pytest.mark.parametrize(
    ("op", "fields", "macs"),
    [
        # 97x64 -> 95x60 places
        ("conv", {"groups": 1}, 95 * 60 * 3 * 5 * 6 * 12),
        ("conv", {"groups": 3}, 95 * 60 * 3 * 5 * 2 * 12),
        ("depthwise", {"multiplier": 2}, 95 * 60 * 3 * 5 * 6 * 2),
        ("separable", {"multiplier": 2}, 95 * 60 * (3 * 5 * 12 + 12 * 12)),
        ("dense", {}, 97 * 64 * 6 * 12),
    ],
)
def test_multiplications_by_hand(op, fields, macs):
    net = Net()
    net.add(op, kernel_hw=(3, 5), out_channels=12, use_bias=True, **fields)
    assert costs(net.spec(), shape("97x64x6"))[1].macs == macs


def test_published_totals():
    """MobileNet V1 (Howard et al. 2017): 569 million; VGG16 15.47 and ResNet-50 3.86 thousand."""
    at = shape("224x224x3")
    assert total_of(c.macs for c in costs(mobilenet_v1(), at)) / 1e6 == pytest.approx(569, abs=0.5)
    assert total_of(c.macs for c in costs(mobilenet_v1(0.5), at)) / 1e6 == pytest.approx(
        149, abs=0.9
    )
    assert total_of(c.macs for c in costs(vgg16(), at)) / 1e9 == pytest.approx(15.47, abs=0.01)
    assert total_of(c.params for c in costs(vgg16(), at)) == 138_357_544
    assert total_of(c.macs for c in costs(resnet50(), at)) / 1e9 == pytest.approx(3.86, abs=0.01)


def test_fewer_input_channels_cost_less_in_the_stem_only():
    at3, at1 = (costs(mobilenet_v1(), shape(f"97x64x{c}")) for c in (3, 1))
    assert (at3[1], at1[1]) == (Cost(49 * 32 * 27 * 32, 864), Cost(49 * 32 * 9 * 32, 288))
    assert at3[2:] == at1[2:]


def test_other_layers_keep_their_parameters_and_cost_no_multiplications():
    net = Net()
    net.add("norm", params=12)
    net.add("activation")
    assert costs(net.spec(), shape("97x64x3"))[1:] == (Cost(0, 12), Cost(0, 0))


def test_a_shared_layer_multiplies_each_time_and_is_stored_once():
    net = Net()
    first = net.conv(3, 3)
    net.conv(3, 3, layer=first)
    assert costs(net.spec(), shape("9x7x3"))[1:] == (Cost(9 * 7 * 81, 81), Cost(9 * 7 * 81, 0))


def test_calls_that_no_output_needs_cost_nothing():
    net = Net()
    kept = net.conv(3, 3)
    lost = net.conv(64, 3)
    net.conv(8, 1, 1, kept, layer=lost)
    spec = net.spec()
    found = costs(spec, shape("9x7x3"))
    assert found[lost] == Cost(0, 0)
    assert found[-1].params == 3 * 8  # the first call of the layer that is needed
    assert activation_memory(spec, shape("9x7x3")).peak_values == 9 * 7 * (3 + 8)


def test_unknown_sizes_leave_multiplications_unknown_and_parameters_known():
    found = costs(with_squeeze_and_excite(), shape("?x64x1"))
    assert found[1] == Cost(None, 9 * 8)
    assert found[-1] == Cost(160, 170)
    memory = activation_memory(with_squeeze_and_excite(), shape("?x64x1"))
    assert (memory.peak_values, memory.peak_at) == (None, None)
    assert memory.peak_values is None
    net = Net()
    net.conv(4, 1)
    net.layers[1] = net.layers[1].but(native_shape=(8, 8, 4))
    net.add("opaque", native_shape=(4, 4, 8))
    net.add("global_pool")
    net.add("dense", out_channels=3)
    assert costs(net.spec(), shape("9x7x1"))[-1] == Cost(24, 24)


def test_a_projection_in_front_is_counted_at_the_working_size():
    added = InputLayers(resize_hw=(96, 96), channels="project", network_channels=3)
    spec = with_squeeze_and_excite().but(input_layers=added)
    assert costs(spec, shape("97x64x4"))[0] == Cost(96 * 96 * 12, 12)
    repeated = spec.but(input_layers=InputLayers(channels="repeat"))
    assert costs(repeated, shape("97x64x1"))[0] == Cost(0, 0)


def peak_by_trial(spec: GraphSpec, at: InputShape) -> list[int]:
    """Values alive at each call, found by asking for each map who will still read it."""
    shapes = map_shapes(spec, at)

    def readers(index: int) -> set[int]:
        found: set[int] = set()
        for layer in spec:
            if index in layer.inputs:
                found.add(layer.index)
                if layer.op in ("identity", "reshape", "flatten"):
                    found |= readers(layer.index)
        if index in spec.outputs:
            found.add(len(spec))
        return found

    live = []
    for now in range(len(spec)):
        total = 0
        for layer in spec.layers[: now + 1]:
            copies = layer.op not in ("identity", "reshape", "flatten")
            if copies and max(readers(layer.index) | {layer.index}) >= now:
                size = 1
                for n in shapes[layer.index]:
                    size *= n
                total += size
        live.append(total)
    return live


@settings(deadline=None, max_examples=80)
@given(st.data())
def test_memory_is_what_is_still_to_be_read(data):
    net = Net()
    for _ in range(data.draw(st.integers(1, 8))):
        op = data.draw(st.sampled_from(["conv", "identity", "concat", "activation"]))
        sources = range(len(net.layers))
        if op == "conv":
            net.conv(data.draw(st.integers(1, 9)), 3, 1, data.draw(st.sampled_from(sources)))
        else:
            count = 2 if op == "concat" else 1
            net.add(op, *(data.draw(st.sampled_from(sources)) for _ in range(count)))
    last = len(net.layers) - 1
    spec = net.spec(outputs=(last, data.draw(st.integers(0, last))))
    needed = spec.needed()
    # Written down again without what no output needs, which the trial knows nothing of.
    renamed = {old: new for new, old in enumerate(sorted(needed))}
    if 0 not in needed:
        return
    kept = tuple(
        spec[old].but(index=new, layer=new, inputs=tuple(renamed[i] for i in spec[old].inputs))
        for old, new in renamed.items()
    )
    small = spec.but(layers=kept, outputs=tuple(renamed[o] for o in spec.outputs))

    memory = activation_memory(small, shape("5x3x1"))

    assert list(memory.live_values) == peak_by_trial(small, shape("5x3x1"))
    assert memory.peak_values == max(memory.live_values)
    assert memory.live_values[memory.peak_at] == memory.peak_values
    whole = activation_memory(spec, shape("5x3x1"))
    assert whole.peak_values == memory.peak_values


def test_memory_of_a_residual_by_hand():
    net = Net()
    stem = net.conv(4, 3, 2)  # 97x64x1 -> 49x32x4 = 6272
    net.conv(16, 1, 1, stem)  # 25088
    net.depthwise(3, 2)  # 25x16x16 = 6400
    net.conv(4, 1)  # 1600
    down = net.add("avg_pool", stem, kernel_hw=(2, 2), stride_hw=(2, 2), padding="same")  # 1600
    net.add("elementwise", down, down - 1)
    memory = activation_memory(net.spec(), shape("97x64x1"))
    assert memory.live_values == (
        6208,
        6208 + 6272,
        6272 + 25088,
        6272 + 25088 + 6400,
        6272 + 6400 + 1600,
        6272 + 1600 + 1600,
        1600 * 3,
    )
    assert (memory.peak_at, memory.peak_values) == (3, 37760)


def test_a_padded_copy_lives_while_its_layer_runs():
    net = Net()
    net.conv(1, 3, 1, padding="valid", pads=((3, 3), (4, 4)))
    # The picture of 10x6 = 60 and its copy of 16x14 = 224; then the copy and 14x12 = 168.
    assert activation_memory(net.spec(), shape("10x6x1")).live_values == (60, 224 + 168)
    kept = net.spec(outputs=(0, 1))
    assert activation_memory(kept, shape("10x6x1")).live_values == (60, 60 + 224 + 168)
    net = Net()
    net.conv(1, 3, 4, padding="valid", pads=((3, 3), (4, 4)))
    assert activation_memory(net.spec(), shape("10x6x1")).live_values == (60, 60 + 224)


def test_a_grid_in_front_of_a_flatten_is_a_map_of_its_own():
    net = Net()
    net.add("flatten", grid_first=(2, 3))
    assert activation_memory(net.spec(), shape("10x6x1")).live_values == (60, 60 + 6)


def test_the_picture_lives_until_it_is_resized():
    added = InputLayers(resize_hw=(20, 6), channels="repeat", network_channels=3)
    spec = with_squeeze_and_excite().but(input_layers=added)
    # 10x6 and 20x6x1, then 20x6x1 and 20x6x3.
    assert activation_memory(spec, shape("10x6x1")).live_values[0] == 120 + 360
    assert activation_memory(spec, shape("100x60x1")).live_values[0] == 6000 + 120

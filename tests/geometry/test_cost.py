from __future__ import annotations

import keras
import pytest
from tests.geometry.nets import Net, mobilenet_v1, resnet50, vgg16, with_squeeze_and_excite

from inshape.geometry.amounts import total_of
from inshape.geometry.cost import Cost, costs
from inshape.geometry.spec import InputLayers
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


def test_unknown_sizes_leave_multiplications_unknown_and_parameters_known():
    found = costs(with_squeeze_and_excite(), shape("?x64x1"))
    assert found[1] == Cost(None, 9 * 8)
    assert found[-1] == Cost(160, 170)
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

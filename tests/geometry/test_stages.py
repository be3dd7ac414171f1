from __future__ import annotations

import json
import subprocess
import sys

import pytest
from tests.geometry.nets import Net, mobilenet_v1, resnet50, vgg16, with_squeeze_and_excite

from inshape.geometry.spec import InputLayers
from inshape.geometry.stages import geometry, stages
from inshape.shapes import InputShape, Size
from inshape.text import format_bytes, format_count, format_pair


def shape(text: str) -> InputShape:
    return InputShape.of(text)


def test_stages_of_vgg16_by_hand():
    found = stages(vgg16(), shape("224x160x3"))
    assert [s.first for s in found] == [
        "image", *(f"block{i}_pool" for i in range(1, 6)), "flatten",
    ]  # fmt: skip
    assert [s.last for s in found][:2] == ["block1_conv2", "block2_conv2"]
    assert [s.map_size for s in found] == [
        Size(224, 160), Size(112, 80), Size(56, 40), Size(28, 20), Size(14, 10), Size(7, 5), None,
    ]  # fmt: skip
    assert [s.stride_hw for s in found[:6]] == [(2**i, 2**i) for i in range(6)]
    assert [s.field_hw for s in found[:6]] == [(n, n) for n in (5, 14, 40, 92, 196, 212)]
    assert found[0].macs == 224 * 160 * 9 * (3 * 64 + 64 * 64)
    assert found[0].params == 9 * (3 * 64 + 64 * 64) + 128
    # Both maps of 64 channels are alive in the second convolution.
    assert found[0].activation_bytes == 224 * 160 * 128
    assert (found[6].stride_hw, found[6].channels) == ((None, None), 1000)
    assert found[6].macs == 7 * 5 * 512 * 4096 + 4096 * 4096 + 4096 * 1000


@pytest.mark.parametrize("make", [vgg16, mobilenet_v1, resnet50, with_squeeze_and_excite])
def test_totals_are_the_sums_and_the_peak_is_the_largest(make):
    found = geometry(make(), shape("97x64x1"))
    assert found.macs == sum(s.macs for s in found.stages)
    assert found.params == sum(s.params for s in found.stages)
    assert found.activation_bytes == max(s.activation_bytes for s in found.stages)


def test_a_gate_counts_in_the_stage_that_it_gates():
    found = stages(with_squeeze_and_excite(), shape("97x64x1"))
    assert [(s.first, s.last) for s in found] == [
        ("image", "image"), ("stem", "add"), ("down", "down"), ("pool", "logits"),
    ]  # fmt: skip
    stem, depthwise, gate = 9 * 8, 15 * 8, (8 * 4 + 4) + (4 * 8 + 8)
    assert found[1].params == stem + depthwise + gate
    assert found[1].macs == 49 * 32 * (stem + depthwise) + 8 * 4 + 4 * 8
    assert [s.global_context for s in found] == [False, True, True, True]


def test_a_padding_belongs_to_the_layer_that_it_pads():
    found = stages(resnet50(), shape("224x224x3"))
    assert found[0].map_size == Size(224, 224)
    assert found[1].map_size == Size(112, 112)
    assert found[1].first == "pad_1"
    assert [s.stride_hw for s in found] == [
        *((2**i, 2**i) for i in range(6)), (None, None),
    ]  # fmt: skip


def test_a_shortcut_counts_in_the_stage_of_its_stride():
    net = Net()
    stem = net.conv(4, 3, 2, name="stem")
    shortcut = net.conv(8, 1, 2, stem, name="shortcut")
    net.conv(8, 3, 1, stem, name="wide")
    net.add("max_pool", name="pool", kernel_hw=(3, 3), stride_hw=(2, 2), padding="same")
    net.add("elementwise", shortcut, len(net.layers) - 1, name="sum")
    found = stages(net.spec(), shape("97x64x1"))
    assert [(s.first, s.last) for s in found[1:]] == [("stem", "wide"), ("pool", "sum")]
    assert found[1].params == 9 * 4 + 9 * 4 * 8
    assert found[2].params == 4 * 8


def test_a_side_output_counts_once_where_it_leaves():
    net = Net()
    stem = net.conv(4, 3, 2, name="stem")
    side = net.conv(2, 1, 1, stem, name="side")
    net.conv(8, 3, 2, stem, name="deep")
    deepest = net.conv(8, 3, 1, name="deeper")
    found = geometry(net.spec(outputs=(side, deepest)), shape("97x64x1"))
    assert [s.params for s in found.stages] == [0, 36 + 8, 9 * 4 * 8 + 9 * 8 * 8]
    assert found.final_map == Size(25, 16)


def test_final_map_is_the_one_before_the_head():
    net = Net()
    net.conv(4, 3, 2)
    net.add("activation")
    net.add("adaptive_pool", target_hw=(7, 7))
    net.add("flatten")
    net.add("dense", out_channels=2)
    found = geometry(net.spec(), shape("97x64x1"))
    assert (found.final_map, found.final_channels) == (Size(49, 32), 4)
    assert (found.final_stride_hw, found.final_field_hw) == ((2, 2), (3, 3))


def test_unknown_sizes_leave_known_what_does_not_depend_on_them():
    found = geometry(mobilenet_v1(), shape("?x64x3"))
    assert (found.macs, found.activation_bytes, found.peak_at) == (None, None, None)
    # Keras's 4,253,864 without the four values per channel of 10,944 channels of batch-norm, which
    # the hand-made graph leaves out.
    assert found.params == 4_253_864 - 4 * 10_944
    assert found.final_map == Size(None, 2)
    assert found.final_field_hw == (315, 315)
    assert "?x2x1024" in str(found)


def test_the_table_as_people_read_it():
    assert str(geometry(with_squeeze_and_excite(), shape("97x64x1"))).splitlines() == [
        "gated at 97x64x1",
        "stage    map       stride   field    MACs  params  activations",
        "input    97x64x1        1       1       0       0     30.3 KiB",
        "stem     49x32x8        2   11x7*  301.1K     268     36.8 KiB",
        "stage 2  25x16x16       4  15x11*  460.8K    1.2K     18.5 KiB",
        "head     10             -   whole     160     170      6.3 KiB",
        "total                              762.1K    1.6K     36.8 KiB",
        'activations: the int8 file\'s, the most alive at once; the peak is at "gate"',
        "* and the whole picture besides, through global pooling inside",
    ]


def test_a_resizing_layer_is_named_in_the_title():
    spec = with_squeeze_and_excite().but(
        input_layers=InputLayers(resize_hw=(192, 97), channels="repeat")
    )
    found = geometry(spec, shape("33x64x1"))
    assert str(found).splitlines()[0] == "gated at 33x64x1, made 192x97x3 in front"
    assert found.stages[0].map_size == Size(192, 97)


def test_as_dict_is_plain():
    found = json.loads(json.dumps(geometry(with_squeeze_and_excite(), shape("97x64x1")).as_dict()))
    assert found["input_shape"] == "97x64x1"
    assert found["final_map"] == "25x16"
    assert found["stages"][1]["map_size"] == "49x32"
    assert found["stages"][3]["map_size"] is None
    assert found["stages"][1]["field_hw"] == [11, 7]


def test_words():
    assert [format_count(n) for n in (None, 0, 999, 1000, 3_948_688, 15_470_264_320)] == [
        "?", "0", "999", "1.0K", "3.9M", "15.5G",
    ]  # fmt: skip
    assert [format_bytes(n) for n in (None, 1023, 1024, 3 * 2**20, 2**30)] == [
        "?", "1023 B", "1.0 KiB", "3.0 MiB", "1.0 GiB",
    ]  # fmt: skip
    assert [format_pair(p) for p in ((2, 2), (2.0, 4), (0.5, None))] == ["2", "2x4", "0.5x?"]


def test_geometry_imports_no_framework():
    code = (
        "import sys, inshape.geometry.stages, inshape.geometry.warnings;"
        "assert not {'keras', 'tensorflow', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

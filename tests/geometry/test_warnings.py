from __future__ import annotations

import pytest
from tests.geometry.nets import Net, mobilenet_v1, resnet50, vgg16

from inshape.geometry.sizes import map_shapes
from inshape.geometry.spec import GraphSpec, InputLayers
from inshape.geometry.warnings import shape_warnings
from inshape.shapes import InputShape


def shape(text: str) -> InputShape:
    return InputShape.of(text)


def messages(spec: GraphSpec, target: str, native: str = "224x224x3") -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for warning in shape_warnings(spec, shape(native), shape(target)):
        assert str(warning) == warning.message
        found.setdefault(warning.code, []).append(warning.message)
    return found


@pytest.mark.parametrize("make", [vgg16, mobilenet_v1, resnet50])
@pytest.mark.parametrize("target", ["224x224x3", "224x224x1", "256x320x3", "?x?x3"])
def test_nothing_to_say_at_the_native_shape_and_at_larger_multiples(make, target):
    if make is vgg16 and target == "?x?x3":
        spec = make()
        spec = spec.but(layers=spec.layers[:19], outputs=(18,))  # without its top
    else:
        spec = make()
    assert messages(spec, target) == {}


def test_a_small_final_map_is_set_against_the_native_one():
    assert messages(mobilenet_v1(), "96x224x1")["small-final-map"] == [
        'input 96x224x1: the final map at "conv_27" is 3x7, smaller than the native 7x7; '
        "strategy='resize' keeps its size, 'restride' may"
    ]
    assert "small-final-map" in messages(mobilenet_v1(), "?x96x1")


def test_the_native_map_is_the_one_that_was_read_not_that_of_the_edited_graph():
    spec = mobilenet_v1()
    shapes = map_shapes(spec, spec.input_shape)
    read = [layer.but(native_shape=s) for layer, s in zip(spec, shapes, strict=True)]
    edited = read[1].but(stride_hw=(1, 1))
    spec = spec.but(layers=(read[0], edited, *read[2:]))
    assert "small-final-map" not in messages(spec, "112x112x3")  # 7x7 again
    assert "small-final-map" in messages(spec, "96x112x3")  # 6x7


def test_odd_sizes_name_what_is_padded_where_and_the_nearest_sizes():
    # SAME, kernel 3, stride 2: an odd length takes a row on either side, an even one below only.
    assert messages(mobilenet_v1(), "94x256x1")["not-a-multiple"] == [
        'input 94x256x1: height 94 is not a multiple of 32; 1 row padded at "depthwise_4" '
        "(47 -> 24); nearest: 64, 96"
    ]


def test_odd_sizes_name_what_is_lost():
    # 2x2 windows: 250 -> 125 -> 62 loses a column, 62 -> 31 -> 15 -> 7 two more.
    assert messages(vgg16(), "224x250x3")["not-a-multiple"] == [
        'input 224x250x3: width 250 is not a multiple of 32; 1 column lost at "block2_pool" '
        '(125 -> 62), 1 column lost at "block4_pool" (31 -> 15), 1 column lost at "block5_pool" '
        "(15 -> 7); nearest: 224, 256"
    ]


def test_explicit_pads_count_when_a_window_reads_them():
    # 7x7 over 3 zeros: at 224 the last zero is left over, at 225 it is read; so at the pool.
    assert messages(resnet50(), "225x224x3")["not-a-multiple"] == [
        'input 225x224x3: height 225 is not a multiple of 32; 1 row padded at "conv_2" '
        '(225 -> 113), 1 row padded at "max_pool_4" (113 -> 57); nearest: 224, 256'
    ]


def test_a_zero_that_no_window_reads_is_no_loss():
    # 97 rows and a zero below: windows of 3 start at 0 to 94 and read every row, but not the zero.
    net = Net()
    net.add("pad", pads=((0, 1), (0, 1)))
    net.conv(8, 3, 2, padding="valid")
    assert messages(net.spec(), "97x224x3")["not-a-multiple"] == [
        "input 97x224x3: height 97 is not a multiple of 2; nearest: 96, 98"
    ]


def test_a_native_size_that_is_no_multiple_sets_the_remainder():
    net = Net()
    net.conv(8, 3, 2, name="stem", padding="valid")
    net.conv(8, 3, 4, name="down", padding="valid")
    spec = net.spec("299x299x3")
    assert messages(spec, "299x299x3", "299x299x3") == {}
    assert messages(spec, "307x307x3", "299x299x3") == {}
    assert messages(spec, "300x299x3", "299x299x3")["not-a-multiple"] == [
        "input 300x299x3: height 300 is not the native 299 plus or minus a multiple of 8; 1 row "
        'lost at "stem" (300 -> 149); nearest: 299, 307'
    ]


def test_nearest_sizes_leave_out_those_at_which_a_map_vanishes():
    assert messages(vgg16(), "33x63x3")["not-a-multiple"][0].endswith("nearest: 32, 64")
    net = Net()
    net.conv(8, (9, 1), (8, 1), padding="valid")
    assert messages(net.spec(), "11x224x3")["not-a-multiple"][0].endswith("nearest: 16")


def test_more_layers_than_four_are_counted():
    net = Net()
    for i in range(6):
        net.add("avg_pool", name=f"pool{i}", kernel_hw=(2, 1), stride_hw=(2, 1))
    (message,) = messages(net.spec("256x256x1"), "127x256x1", "256x256x1")["not-a-multiple"]
    assert 'lost at "pool3" (15 -> 7), and 2 more; nearest: 64, 128' in message


def test_a_field_larger_than_a_small_input():
    assert messages(vgg16(), "96x224x1")["field-exceeds-input"] == [
        "input 96x224x1: the final map's receptive field is larger than the input, 212 px along "
        "the height of 96 (native 224x224); more of it is zero padding than in training; "
        "strategy='resize' avoids it"
    ]
    # ResNet-50's 483 px is larger than the native 224 too: nothing new at 224 and beyond.
    assert "field-exceeds-input" not in messages(resnet50(), "256x224x3")
    assert "field-exceeds-input" in messages(resnet50(), "192x192x3")
    assert "field-exceeds-input" not in messages(resnet50(), "192x192x3", "?x?x3")


def test_a_far_aspect_ratio():
    assert messages(mobilenet_v1(), "224x384x3")["far-aspect-ratio"] == [
        "input 224x384x3: width / height 1.71 is far from the native 1.00, at which the weights "
        "were trained; expect to fine-tune the backbone, not the head alone"
    ]
    assert "far-aspect-ratio" not in messages(mobilenet_v1(), "224x320x3")
    assert "far-aspect-ratio" in messages(mobilenet_v1(), "384x224x3")


@pytest.mark.parametrize(
    ("fit", "effect"),
    [
        (
            "stretch",
            "pictures are distorted; use fit='letterbox' or 'crop', or a working size of the "
            "picture's shape",
        ),
        ("letterbox", "much of the working size stays empty; use one of the picture's shape"),
        (
            "crop",
            "much of the picture is cut off; use fit='letterbox', or a working size of the "
            "picture's shape",
        ),
    ],
)
def test_a_picture_far_from_the_working_size(fit, effect):
    spec = mobilenet_v1().but(input_layers=InputLayers(resize_hw=(224, 224), fit=fit))
    assert messages(spec, "97x200x3") == {
        "far-aspect-ratio": [
            "input 97x200x3: width / height 2.06 is far from the working size 224x224 (1.00); "
            + effect
        ]
    }


def test_the_working_size_is_what_the_network_sees():
    spec = mobilenet_v1().but(input_layers=InputLayers(resize_hw=(97, 224)))
    found = messages(spec, "97x224x3")
    assert found["not-a-multiple"][0].startswith("input 97x224x3: height 97 is not")
    found = messages(spec, "64x150x3")
    assert found["not-a-multiple"][0].startswith(
        "input 64x150x3 at working size 97x224: height 97 is not a multiple of 32"
    )
    assert "the working width / height 2.31" in found["far-aspect-ratio"][0]


def test_a_very_large_final_map():
    assert messages(mobilenet_v1(), "480x640x3") == {
        "large-final-map": [
            'input 480x640x3: the final map at "conv_27" is 15x20, 6.1 times as many places as the '
            "native 7x7; objects look larger to it than in training, so consider "
            "strategy='resize', or a larger stride by 'restride'"
        ]
    }
    assert "large-final-map" not in messages(mobilenet_v1(), "448x448x3")


def test_both_axes_are_warned_of_once():
    (square,) = messages(mobilenet_v1(), "94x94x1")["not-a-multiple"]
    assert square == (
        "input 94x94x1: height and width 94 are not a multiple of 32; 1 row and column padded at "
        '"depthwise_4" (47 -> 24); nearest: 64, 96'
    )
    (oblong,) = messages(mobilenet_v1(), "94x250x1")["not-a-multiple"]
    assert oblong.startswith("input 94x250x1: height 94 is not a multiple of 32; 1 row padded at")
    assert "; nearest: 64, 96; width 250 is not a multiple of 32; " in oblong
    (field,) = messages(vgg16(), "96x96x1")["field-exceeds-input"]
    assert "larger than the input, 212 px along the height and width of 96 (native" in field


def test_restride_is_not_warned_of_a_map_that_it_brought_near_the_native_one():
    spec, near, far = mobilenet_v1(), shape("160x160x3"), shape("128x160x3")  # 5x5 and 4x5 of 7x7
    by_restride = [
        w.code for w in shape_warnings(spec, shape("224x224x3"), near, strategy="restride")
    ]
    assert by_restride == []
    found = [w.code for w in shape_warnings(spec, shape("224x224x3"), far, strategy="restride")]
    assert "small-final-map" in found
    assert "small-final-map" in messages(spec, "160x160x3")  # where nothing was changed for it


def test_the_gravest_come_first():
    found = [w.code for w in shape_warnings(mobilenet_v1(), shape("224x224x3"), shape("33x97x1"))]
    assert found == [
        "small-final-map", "not-a-multiple", "field-exceeds-input", "far-aspect-ratio",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("strategy", "resize_hw", "target", "advice"),
    [
        ("rebuild", None, "96x96x3", "strategy='resize' keeps its size, 'restride' may"),
        ("restride", None, "64x96x3", "strategy='resize' keeps its size"),
        ("resize", (96, 96), "64x64x3", "a larger working size keeps its size"),
        ("rebuild", None, "480x480x3", "strategy='resize', or a larger stride by 'restride'"),
        ("restride", None, "480x480x3", "strategy='resize'"),
        ("resize", (480, 480), "64x64x3", "a smaller working size"),
    ],
)
def test_the_strategy_that_was_taken_is_not_advised(strategy, resize_hw, target, advice):
    spec = mobilenet_v1().but(input_layers=InputLayers(resize_hw=resize_hw))
    found = shape_warnings(spec, shape("224x224x3"), shape(target), strategy=strategy)
    (on_the_map,) = (str(w) for w in found if w.code.endswith("-final-map"))
    assert on_the_map.endswith((f"; {advice}", f"so consider {advice}"))
    on_the_field = [str(w) for w in found if w.code == "field-exceeds-input"]
    assert not any(f"strategy='{strategy}'" in text for text in on_the_field)


def test_a_field_that_shrank_with_the_input_is_as_padded_as_in_training():
    spec = vgg16()  # a field of 212 px; with a stem that steps over two, of 421
    stem = next(layer for layer in spec if layer.is_conv)
    source = spec.with_layer(stem.index, stride_hw=(2, 2))

    def on_the_field(target):
        found = shape_warnings(spec, shape("224x224x3"), shape(target), source=source)
        return [str(w) for w in found if w.code == "field-exceeds-input"]

    assert on_the_field("112x112x3") == []
    (text,) = on_the_field("96x112x3")
    assert "212 px along the height of 96 (native" in text
    assert "field-exceeds-input" in messages(spec, "112x112x3")

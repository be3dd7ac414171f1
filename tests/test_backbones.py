"""The table of backbones, against the constructors of the installed Keras.

What is published of them is counted as Keras counts.
"""

from __future__ import annotations

import importlib
import inspect
import re
import subprocess
import sys

import keras
import numpy as np
import pytest
from tools.count_backbones import count

from inshape.backbones import (
    SOURCES,
    WEIGHTS,
    Backbone,
    backbones,
    find,
    list_backbones,
    published,
)
from inshape.errors import RequestError, ShapeError, UnknownName
from inshape.weights.sources import load_source

ALL = [pytest.param(backbone, id=backbone.name) for backbone in backbones()]


class Intercepted(Exception):
    """Carries the shape at which a constructor began to build."""


@pytest.fixture
def first_shape(monkeypatch):
    """The input shape that a Keras constructor settles on, without building the network."""
    layers = importlib.import_module("keras.src.layers")

    def caught(*_, shape, **__):
        raise Intercepted(tuple(shape))

    def of(constructor, **arguments):
        with monkeypatch.context() as patch:
            patch.setattr(layers, "Input", caught)
            with pytest.raises(Intercepted) as error:
                constructor(weights=None, **arguments)
        return error.value.args[0]

    return of


def test_every_constructor_of_keras_is_there():
    constructors = {
        name
        for name, value in vars(keras.applications).items()
        if inspect.isfunction(value) and name[0].isupper()
    }
    assert {backbone.constructor for backbone in backbones()} == constructors


def test_importing_the_table_imports_no_keras():
    code = (
        "import sys; from inshape.backbones import find; find('VGG16'); "
        "assert not {'keras', 'tensorflow'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("backbone", ALL)
def test_the_native_size_is_the_constructors_default(backbone: Backbone, first_shape):
    constructor = getattr(keras.applications, backbone.constructor)
    shape = first_shape(constructor, include_top=True)
    if backbone.family == "mobilenet_v3":  # asks for no size; its weights are named after 224
        shape = (224, 224, 3)
    assert (*backbone.native_hw, 3) == shape


@pytest.mark.parametrize("backbone", ALL)
def test_the_least_size_is_the_constructors(backbone: Backbone, first_shape):
    constructor = getattr(keras.applications, backbone.constructor)
    least = (*backbone.least_hw, 3)
    assert first_shape(constructor, include_top=False, input_shape=least) == least
    for axis in (0, 1):
        smaller = tuple(px - (i == axis) for i, px in enumerate(least))
        with pytest.raises(ValueError, match="Input size must be at least"):
            constructor(weights=None, include_top=False, input_shape=smaller)


@pytest.mark.parametrize("backbone", ALL)
def test_preprocessing_is_that_of_the_family(backbone: Backbone):
    module = importlib.import_module(f"keras.applications.{backbone.family}")
    picture = np.array([[[[0.0, 51.0, 255.0]]]], "float32")
    got = module.preprocess_input(picture.copy())
    expected = {
        "inside": picture,
        "tf": [[[[-1.0, -0.6, 1.0]]]],
        "torch": [[[[-0.485 / 0.229, (0.2 - 0.456) / 0.224, (1 - 0.406) / 0.225]]]],
        "caffe": [[[[255 - 103.939, 51 - 116.779, 0 - 123.68]]]],
    }[backbone.preprocessing]
    np.testing.assert_allclose(got, expected, rtol=1e-5)


@pytest.mark.parametrize("backbone", [b for b in backbones() if b.family == "mobilenet_v3"])
def test_imagenet_weights_of_mobilenet_v3_are_those_with_a_hash(backbone: Backbone):
    hashes = importlib.import_module("keras.src.applications.mobilenet_v3").WEIGHTS_HASHES
    options = dict(backbone.options)
    size = backbone.constructor.removeprefix("MobileNetV3").lower()
    minimalistic = "_minimalistic" if options["minimalistic"] else ""
    assert backbone.has_imagenet == (f"{size}{minimalistic}_224_{options['alpha']}_float" in hashes)
    assert (backbone.imagenet_top1 is not None) == backbone.has_imagenet


@pytest.mark.parametrize("constructor", ["MobileNet", "MobileNetV2"])
def test_the_widths_are_those_with_imagenet_weights(constructor: str):
    with pytest.raises(ValueError, match="alpha") as error:
        getattr(keras.applications, constructor)(alpha=0.6, weights="imagenet")
    known, _ = str(error.value).split("only")
    alphas = {float(alpha) for alpha in re.findall(r"`([\d.]+)`", known)}
    assert alphas == {
        dict(backbone.options)["alpha"]
        for backbone in backbones()
        if backbone.constructor == constructor
    }


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("MobileNetV3Small", "MobileNetV3Small"),
        ("mobilenetv3small", "MobileNetV3Small"),
        ("MobileNetV3Small-1.0", "MobileNetV3Small"),
        ("mobilenet_v3_large_0.75", "MobileNetV3Large-0.75"),
        ("MobileNetV3Large-minimalistic", "MobileNetV3Large-minimalistic"),
        ("MobileNetV3Large-1.0-minimalistic", "MobileNetV3Large-minimalistic"),
        ("MobileNetV3Small-0.75-minimalistic", "MobileNetV3Small-0.75-minimalistic"),
        ("mobilenet-0.5", "MobileNet-0.5"),
        ("MobileNetV2-0.35", "MobileNetV2-0.35"),
        ("resnet50", "ResNet50"),
        ("ResNet50-V2", "ResNet50V2"),
        (" efficientnetb0", "EfficientNetB0"),
    ],
)
def test_find(written, name):
    assert find(written).name == name


def test_every_name_finds_itself():
    assert [find(backbone.name) for backbone in backbones()] == list(backbones())
    assert len({backbone.name for backbone in backbones()}) == len(backbones())


def test_an_unknown_name_shows_the_closest():
    message = (
        "unknown backbone 'MobileNetV3Smal'; did you mean MobileNetV3Small? choose from: "
        "MobileNetV3Small, "
    )
    with pytest.raises(UnknownName, match=re.escape(message)):
        find("MobileNetV3Smal")


def test_a_strange_name_shows_the_families():
    message = (
        "unknown backbone 'swin'; choose from: MobileNetV3*, MobileNetV2*, MobileNet*, "
        "EfficientNet*, EfficientNetV2*, ConvNeXt*, ResNet*, DenseNet*, InceptionV3, "
        "InceptionResNetV2, Xception, NASNet*, VGG*"
    )
    with pytest.raises(UnknownName, match=re.escape(message) + "$"):
        find("swin")


@pytest.mark.parametrize(
    ("name", "shape", "top"),
    [
        ("MobileNetV3Small-0.75-minimalistic", (97, 64, 1), True),
        ("MobileNetV2-0.35", (64, 97, 4), False),
        ("MobileNet-0.25", (33, 64, 3), True),
        ("VGG16", (33, 64, 1), False),
    ],
)
def test_build_at_other_shapes(name, shape, top):
    model = find(name).build(include_top=top, classes=5, input_shape=shape)
    assert model.input_shape == (None, *shape)
    assert model.count_params() > 0
    if top:
        assert model.output_shape == (None, 5)


def test_build_is_the_constructors_own_model():
    built = find("MobileNetV3Large-0.75").build(include_top=True, classes=7)
    direct = keras.applications.MobileNetV3Large(
        alpha=0.75, weights=None, classes=7, input_shape=(224, 224, 3), classifier_activation=None
    )
    assert built.input_shape == (None, 224, 224, 3)
    assert [tuple(w.shape) for w in built.weights] == [tuple(w.shape) for w in direct.weights]
    assert built.layers[-1].get_config()["activation"] == "linear"


def test_build_passes_the_activation_on():
    model = find("MobileNet-0.25").build(
        include_top=True, activation="softmax", input_shape=(32, 32, 3)
    )
    assert model.layers[-1].get_config()["activation"] == "softmax"


def test_weights_that_do_not_exist_are_refused():
    message = (
        "Keras publishes no ImageNet weights for MobileNetV3Small-0.75-minimalistic; expected one "
        "of MobileNetV3Small, MobileNetV3Small-minimalistic, MobileNetV3Small-0.75; or give "
        "weights=None or the path of a weights file"
    )
    with pytest.raises(RequestError, match=re.escape(message)):
        load_source(find("MobileNetV3Small-0.75-minimalistic"), "imagenet", include_top=True)


def test_build_refuses_a_shape_that_is_too_small():
    message = (
        "Xception at 80x70x1: expected at least 71x71 pixels; build it at its native shape and "
        "change that with inshape.adapt"
    )
    with pytest.raises(ShapeError, match=re.escape(message)):
        find("Xception").build(include_top=False, input_shape=(80, 70, 1))


SMALL = [
    "MobileNetV3Small",
    "MobileNetV3Large-minimalistic",
    "MobileNetV2-0.35",
    "MobileNet-0.25",
    "EfficientNetB0",
]


def test_every_backbone_is_in_the_published_table_and_nothing_else_is():
    assert list(published()) == [backbone.name for backbone in backbones()]


@pytest.mark.parametrize("name", SMALL)
def test_the_file_holds_what_the_networks_count(name):
    known = published()[name]
    assert (known.params, known.macs) == count(find(name))


def test_macs_of_a_convolution_by_hand():
    # VGG16's published 15.47 G: every 3x3 convolution and the three dense layers.
    stages = [(224, 3, (64, 64)), (112, 64, (128, 128)), (56, 128, (256,) * 3)]
    stages += [(28, 256, (512,) * 3), (14, 512, (512,) * 3)]
    macs = 7 * 7 * 512 * 4096 + 4096 * 4096 + 4096 * 1000
    for px, read, widths in stages:
        for width in widths:
            macs += px * px * 9 * read * width
            read = width
    assert published()["VGG16"].macs == macs


def test_accuracies_of_mobilenet_v3_are_those_of_keras_docstring():
    rows = re.findall(
        r"mobilenet_v3_(large|small)(_minimalistic)?_?([\d.]+)?_224\s*\|[^|]*\|[^|]*\|\s*([\d.]+)",
        keras.applications.MobileNetV3Large.__doc__.replace("minimalistic_1.0", "minimalistic"),
    )
    documented = {
        f"MobileNetV3{size.capitalize()}"
        + ("" if width in ("", "1.0") else f"-{width}")
        + ("-minimalistic" if minimal else ""): float(top1)
        for size, minimal, width, top1 in rows
    }
    assert len(documented) == 6
    assert documented == {
        name: known.top1 for name, known in published().items() if known.source == "mobilenet_v3"
    }


def test_an_accuracy_has_a_source_and_belongs_to_weights():
    for backbone in backbones():
        known = published()[backbone.name]
        assert (known.top1 is None) == (known.source is None) == (not backbone.has_imagenet)
        assert known.source is None or known.source in SOURCES
        assert backbone.imagenet_top1 == known.top1


def test_the_listing_says_everything_of_a_backbone():
    row = list_backbones("v3large-mini").as_dict()["models"]
    assert row == [
        {
            "name": "MobileNetV3Large-minimalistic",
            "family": "mobilenet_v3",
            "native_hw": [224, 224],
            "params": 3948688,
            "macs": 209136704,
            "imagenet_top1": 72.3,
            "top1_source": SOURCES["mobilenet_v3"],
            "weights": ["imagenet"],
        }
    ]
    text = list_backbones("v3large-mini").describe()
    assert re.search(r"imagenet +224x224 +3\.9M +209\.1M +72\.3 +mobilenet_v3", text)
    assert SOURCES["table"] not in text
    assert all(place in text for place in WEIGHTS.values())

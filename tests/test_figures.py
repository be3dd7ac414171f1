"""Figures of the backbones: complete, counted as Keras counts, and published where it is said."""

from __future__ import annotations

import re

import keras
import pytest
from tools.count_backbones import count

from inshape.backbones import SOURCES, WEIGHTS, backbones, figures, find, listed

SMALL = [
    "MobileNetV3Small",
    "MobileNetV3Large-minimalistic",
    "MobileNetV2-0.35",
    "MobileNet-0.25",
    "EfficientNetB0",
]


def test_every_backbone_has_figures_and_nothing_else_does():
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
    published = {
        f"MobileNetV3{size.capitalize()}"
        + ("" if width in ("", "1.0") else f"-{width}")
        + ("-minimalistic" if minimal else ""): float(top1)
        for size, minimal, width, top1 in rows
    }
    assert len(published) == 6
    assert published == {
        name: known.top1 for name, known in published().items() if known.source == "mobilenet_v3"
    }


def test_an_accuracy_has_a_source_and_belongs_to_weights():
    for backbone in backbones():
        known = published()[backbone.name]
        assert (known.top1 is None) == (known.source is None) == (not backbone.has_imagenet)
        assert known.source is None or known.source in SOURCES
        assert backbone.imagenet_top1 == known.top1


def test_the_listing_says_everything_of_a_backbone():
    row = listed("v3large-mini").as_dict()["models"]
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
    text = str(listed("v3large-mini"))
    assert re.search(r"imagenet +224x224 +3\.9M +209\.1M +72\.3 +mobilenet_v3", text)
    assert SOURCES["table"] not in text
    assert all(place in text for place in WEIGHTS.values())

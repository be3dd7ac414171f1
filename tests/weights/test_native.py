"""Networks that are built once for several plans."""

from __future__ import annotations

import numpy as np

import inshape
from inshape.backbones import find
from inshape.weights import native as sources
from inshape.weights.native import native, sources_kept


def _counted(monkeypatch):
    asked = []
    load = sources.load_source

    def counting(backbone, weights, **options):
        asked.append((backbone.name, weights))
        return load(backbone, weights, **options)

    monkeypatch.setattr(sources, "load_source", counting)
    return asked


def test_several_plans_of_one_network_build_it_once(monkeypatch):
    name, asked = "MobileNetV3Small-minimalistic", _counted(monkeypatch)
    alone = inshape.plan(name, "64x64x1", strategy="rebuild").build(weights="demo")
    assert asked == [(name, None), (name, "demo")]
    asked.clear()
    with sources_kept():
        for strategy in ("rebuild", "restride"):
            made = inshape.plan(name, "64x64x1", strategy=strategy)
            kept = made.build(weights="demo")
            if strategy == "rebuild":
                first = kept
    assert asked == [(name, None), (name, "demo")]
    for a, b in zip(alone.get_weights(), first.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    inshape.plan(name, "64x64x1", strategy="rebuild")
    assert len(asked) == 3  # nothing is kept after the block


def test_only_the_last_backbone_stays(monkeypatch):
    asked = _counted(monkeypatch)
    small, other = find("MobileNetV3Small"), find("MobileNetV3Small-minimalistic")
    with sources_kept():
        first = native(small, None, with_top=False)
        with sources_kept():
            assert native(small, None, with_top=False) is first
        native(other, None, with_top=False)
        assert native(small, None, with_top=False) is not first
    assert [name for name, _ in asked] == [small.name, other.name, small.name]

"""Stratified splits that never part identical pictures."""

from __future__ import annotations

import re

import numpy as np
import pytest

from inshape.data.sources import open_source
from inshape.data.split import split
from inshape.errors import DataError


def catalogue(counts, *, copies=0, seed=0):
    rng = np.random.default_rng(seed)
    labels = [label for label, count in enumerate(counts) for _ in range(count)]
    pictures = rng.integers(0, 255, (len(labels), 5, 4, 1), np.uint8)
    if copies:
        twins = rng.integers(0, len(labels), copies)
        pictures = np.concatenate([pictures, pictures[twins]])
        labels += [labels[i] for i in twins]
    return open_source((pictures, labels))


def test_every_class_gives_its_share():
    divided = split(catalogue([100, 37, 3]), validation=0.2, test=0.1, seed=1)
    assert list(divided.counts("validation").values()) == [20, 7, 1]
    assert list(divided.counts("test").values()) == [10, 4, 1]
    assert list(divided.counts("train").values()) == [70, 26, 1]
    assert divided.warnings == ()


def test_identical_pictures_stay_together():
    divided = split(catalogue([60, 45], copies=80), validation=0.3, test=0.2)
    sides = {}
    for content, side in zip(divided.contents, divided.splits, strict=True):
        sides.setdefault(content.tobytes(), set()).add(side)
    assert len(sides) == 105
    assert all(len(places) == 1 for places in sides.values())


def test_the_same_seed_in_any_order():
    whole = catalogue([40, 25])
    order = np.random.default_rng(3).permutation(65)
    one, two = split(whole, seed=5), split(whole.take(order), seed=5)
    assert np.array_equal(one.splits[order], two.splits)
    assert not np.array_equal(one.splits, split(whole, seed=6).splits)


def test_small_classes_stay_in_training_with_a_warning():
    divided = split(catalogue([30, 2, 1]))
    assert list(divided.counts("train").values()) == [27, 2, 1]
    assert divided.warnings == (
        "'1', '2': fewer than 3 distinct pictures, all kept for training; validation says nothing "
        "about these classes",
    )


def test_copies_do_not_make_a_class_large():
    pictures = np.random.default_rng(0).integers(0, 255, (12, 5, 4, 1), np.uint8)
    pictures[8:] = pictures[8]
    divided = split(open_source((pictures, [0] * 8 + [1] * 4)))
    assert divided.counts("train")["1"] == 4


def test_a_split_that_is_there_stays():
    whole = catalogue([20, 20])
    splits = np.where(np.arange(40) % 4 == 0, "validation", "train")
    from dataclasses import replace

    divided = split(replace(whole, splits=splits), validation=0.5, test=0.2)
    assert np.array_equal(divided.splits == "validation", splits == "validation")
    assert sum(divided.counts("test").values()) == 6
    assert set(split(whole, validation=0.0).splits) == {"train"}


@pytest.mark.parametrize(
    ("counts", "options", "message"),
    [
        ([9, 9], {"validation": 1.0}, "validation 1.0; expected 0 to less than 1; use 0.1"),
        (
            [9, 9],
            {"validation": 0.6, "test": 0.4},
            "validation 0.6 and test 0.4; expected less than",
        ),
        ([1, 1], {}, "no class has two distinct pictures; expected enough to hold some out for"),
        (
            [30, 3],
            {"validation": 0.4, "test": 0.55},
            "class '1' has 3 distinct pictures, too few for validation and test; expected",
        ),
    ],
)
def test_splits_that_cannot_be(counts, options, message):
    with pytest.raises(DataError, match=re.escape(message)):
        split(catalogue(counts), **options)


def test_nothing_left_to_split():
    from dataclasses import replace

    whole = catalogue([4, 4])
    with pytest.raises(DataError, match=re.escape("no training pictures to split; expected some")):
        split(replace(whole, splits=np.full(8, "test")))


def test_two_pictures_per_class_are_split_where_none_has_more():
    tiny = split(catalogue([2, 2, 1]), validation=0.1)
    assert tiny.counts("train") == {"0": 1, "1": 1, "2": 1}
    assert tiny.counts("validation") == {"0": 1, "1": 1, "2": 0}
    assert tiny.warnings == (
        "no class has more than 2 distinct pictures, of which validation takes one: neither it nor "
        "the training says much; add pictures",
        "'2': fewer than 2 distinct pictures, all kept for training; validation says nothing about "
        "this class",
    )


def test_one_picture_per_class_can_be_in_both_splits_as_the_refusal_says(tmp_path):
    one = catalogue([1, 1])
    both = {f"{name}_{part}": value for part in ("train", "val")
            for name, value in (("x", one.arrays), ("y", [0, 1]))}  # fmt: skip
    np.savez(tmp_path / "a.npz", **both)
    divided = split(open_source(tmp_path / "a.npz"))
    assert divided.counts("train") == divided.counts("validation") == {"0": 1, "1": 1}
    assert len(divided.warnings) == 1
    assert divided.warnings[0].startswith("2 identical pictures stand in two or more splits")


def test_folds_share_no_picture_and_are_all_of_them():
    rng = np.random.default_rng(3)
    pictures = rng.integers(0, 255, (31, 8, 6, 1), np.uint8)
    pictures[5] = pictures[6]  # a copy, which goes where the other goes
    catalogue = open_source((pictures, np.arange(31) % 3))
    parts = [split(catalogue, seed=2, fold=f"{number}/4") for number in (1, 2, 3, 4)]
    chosen = [set(part.indices("validation").tolist()) for part in parts]
    assert set.union(*chosen) == set(range(31))
    assert sum(map(len, chosen)) == 31
    assert all(6 <= len(one) <= 9 for one in chosen)
    assert any({5, 6} <= one for one in chosen)
    for part in parts:
        assert all(2 <= count <= 4 for count in part.counts("validation").values())
    with pytest.raises(DataError, match="40 folds of 30 distinct pictures; expected at least one"):
        split(catalogue, fold="1/40")

"""Which candidates are worth a thought, and which one is taken."""

from __future__ import annotations

import numpy as np
import tifffile
from PIL import Image
from tests.labels import classes

from inshape.comparison.api import _train_command
from inshape.comparison.choose import finalists, pareto_front, recommend, shared_cost
from inshape.comparison.defaults import usual_shapes, usual_strategies
from inshape.comparison.probe import folds_of, is_close, is_worse
from inshape.comparison.request import CompareRequest, read_rules
from inshape.comparison.result import Candidate, Comparison
from inshape.data.sources import open_source
from inshape.features.linear import cross_validated
from inshape.heads import Head
from inshape.limits import Limits
from inshape.requests import command_of, make
from inshape.shapes import InputShape
from inshape.tasks.bootstrap import Score
from inshape.tasks.classification import Classification
from inshape.tasks.segmentation import Segmentation


def candidate(name, accuracy, latency, right=(), **more):
    return Candidate(
        name, "8x8x1", "rebuild", accuracy=Score(accuracy, accuracy, accuracy), right=right,
        latency_ms=latency, **more,
    )  # fmt: skip


def test_the_front_holds_what_none_beats_in_both():
    measured = [
        candidate("slow", 0.9, 5.0), candidate("fast", 0.7, 1.0), candidate("beaten", 0.65, 2.0),
        candidate("over", 0.99, 0.1, dropped="over"), candidate("same", 0.7, 1.5),
    ]  # fmt: skip
    assert [c.backbone for c in pareto_front(measured, "latency_ms")] == ["fast", "slow"]


def test_the_fastest_of_equals_is_recommended():
    right = (1.0,) * 90 + (0.0,) * 10
    near = (1.0,) * 89 + (0.0,) * 11
    far = (1.0,) * 50 + (0.0,) * 50
    slow, fast, bad = (
        candidate("slow", 0.9, 5.0, right),
        candidate("fast", 0.89, 2.0, near),
        candidate("bad", 0.5, 1.0, far),
    )
    chosen, reason = recommend([slow, fast, bad], Limits(), "latency_ms")
    assert chosen is fast
    assert "2.00 ms instead of 5.00 ms for slow" in reason
    assert "within a standard error of it" in reason
    chosen, reason = recommend([slow, bad], Limits(max_latency=9), "latency_ms")
    assert chosen is slow
    assert "the most accurate within the limits" in reason


def test_fine_tuning_decides_between_finalists():
    right = (1.0,) * 90 + (0.0,) * 10
    fast, middle, slow, beaten = (
        candidate(name, accuracy, latency, right)
        for name, accuracy, latency in (
            ("fast", 0.7, 1.0), ("middle", 0.8, 2.0), ("slow", 0.9, 5.0), ("beaten", 0.79, 4.0),
        )
    )  # fmt: skip
    every = [fast, middle, slow, beaten]
    names = [c.backbone for c in finalists(every, 4, "latency_ms")]
    assert names == ["fast", "slow", "middle", "beaten"]
    # With 100 pictures an error of 3.0 points at 0.9, with 10,000 one of 0.3.
    for count, expected in ((100, "middle"), (10_000, "slow")):
        tuned = [
            c.but(finetuned=value, finetuned_on=count)
            for c, value in ((slow, 0.9), (middle, 0.88), (fast, 0.8))
        ]
        chosen, reason = recommend([*tuned, beaten], Limits(), "latency_ms")
        assert chosen.backbone == expected
        assert "of 3 once fine-tuned" in reason


def test_what_the_probe_would_take_is_among_the_finalists():
    right = (1.0,) * 90 + (0.0,) * 10
    near = (1.0,) * 88 + (0.0, 1.0) + (0.0,) * 10
    far = (1.0,) * 50 + (0.0,) * 50
    every = [
        candidate("best", 0.9, 9.0, right), candidate("second", 0.895, 7.0, near[::-1]),
        candidate("third", 0.893, 6.0, near[::-1]), candidate("chosen", 0.89, 2.0, near),
        candidate("bad", 0.5, 1.0, far),
    ]  # fmt: skip
    assert recommend(every, Limits(), "latency_ms")[0].backbone == "chosen"
    assert [c.backbone for c in finalists(every, 2, "latency_ms")] == ["chosen", "best"]


def test_milliseconds_are_never_compared_with_operations():
    """By hand: 'small' needs the fewest MACs, and only the large ones were timed."""
    right = (1.0,) * 80 + (0.0,) * 20
    small = candidate("small", 0.6, None, right[::-1], macs=1_000_000)
    middle = candidate("middle", 0.8, 3.0, right, macs=2_000_000)
    worse = candidate("worse", 0.6, 1.0, right[::-1], macs=9_000_000)
    every = [small, middle, worse]
    assert shared_cost(every) == "macs"
    assert shared_cost([middle, worse]) == "latency_ms"
    assert shared_cost([middle, small.but(dropped="over")]) == "latency_ms"
    assert [c.backbone for c in pareto_front(every, "macs")] == ["small", "middle"]
    assert "2.0 MMACs" in recommend(every, Limits(), "macs")[1]


def test_folds_are_the_same_for_all_and_whole():
    labels = np.array([0] * 12 + [1] * 2)
    folds = folds_of(labels, 4)
    assert len(folds) == 5
    assert sorted(np.concatenate(folds).tolist()) == list(range(14))
    assert sorted((labels[f] == 1).sum() for f in folds) == [0, 0, 0, 1, 1]
    for one, other in zip(folds, folds_of(labels, 4), strict=True):
        np.testing.assert_array_equal(one, other)


def test_copies_stand_in_one_fold():
    rng = np.random.default_rng(0)
    labels, contents = np.arange(40) % 2, rng.integers(0, 12, 40).astype("S2")
    labels = np.array([hash_of % 2 for hash_of in contents.astype(int)])
    folds = folds_of(labels, 0, contents)
    assert sorted(np.concatenate(folds).tolist()) == list(range(40))
    for content in np.unique(contents):
        assert sum(content in contents[rows] for rows in folds) == 1
    for rows, others in zip(folds_of(labels, 0, np.arange(40)), folds_of(labels, 0), strict=True):
        np.testing.assert_array_equal(rows, others)


def test_noise_is_probed_at_chance_and_no_noise_is_worse_than_another(rng):
    labels = np.arange(200) % 2
    folds = folds_of(labels, 0)
    one, other = (
        cross_validated(classes(2), rng.normal(size=(200, 5)), labels, folds) for _ in range(2)
    )
    assert 0.35 < one.mean() < 0.65
    assert not is_worse(one, other)
    assert not is_worse(other, one)
    assert is_worse(one, np.ones(200, bool))


def test_usual_shapes_follow_the_pictures(tmp_path, photos):
    assert [str(s) for s in usual_shapes(open_source(photos))] == ["64x64x1"]
    assert [str(s) for s in usual_shapes(open_source(photos), "rgb")] == ["64x64x3"]
    assert [str(s) for s in usual_shapes(open_source(photos), "bands")] == ["64x64x1"]
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        Image.new("RGB", (640, 360)).save(tmp_path / label / f"{label}.png")
    shapes = [str(s) for s in usual_shapes(open_source(tmp_path))]
    assert shapes[0] == "64x96x3"
    assert all(h < w for h, w in ((int(a), int(b)) for a, b, _ in (s.split("x") for s in shapes)))


def test_usual_shapes_are_those_of_upright_pictures_and_all_their_bands(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # a phone held upright
    rng = np.random.default_rng(0)
    for label in ("a", "b"):
        for kind in ("phone", "tiles", "arrays"):
            (tmp_path / kind / label).mkdir(parents=True)
        Image.new("RGB", (640, 360)).save(tmp_path / "phone" / label / f"{label}.jpg", exif=exif)
        tile = rng.integers(0, 255, (70, 66, 5), np.uint8)
        tifffile.imwrite(
            tmp_path / "tiles" / label / "a.tif",
            tile,
            photometric="minisblack",
            planarconfig="contig",
        )
        np.save(tmp_path / "arrays" / label / "a.npy", tile[..., :4])
    shapes = {k: usual_shapes(open_source(tmp_path / k)) for k in ("phone", "tiles", "arrays")}
    assert all((s.height or 0) > (s.width or 0) for s in shapes["phone"])
    assert str(shapes["phone"][0]) == "96x64x3"
    assert [str(s) for s in shapes["tiles"]] == ["64x64x5"]
    assert [str(s) for s in shapes["arrays"]] == ["64x64x4"]


def test_a_command_names_what_is_not_the_default(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    request = make(CompareRequest, source="/photos", weights=None)
    text = _train_command(candidate("net", 0.5, 1.0, channels="luma"), request)
    assert text == (
        "inshape train /photos --input 8x8x1 --out runs/a --backbone net --weights none "
        "--strategy rebuild --channels luma"
    )
    text = _train_command(candidate("net", 0.5, 1.0).but(strategy="restride:16"), request)
    assert text.endswith(" --strategy restride --output-stride 16")
    more = {"seed": 3, "hidden": 64, "full_scale": 4095, "head": Head(pool="gem")}
    text = _train_command(candidate("net", 0.5, 1.0), request.but(**more))
    assert text.endswith(" --seed 3 --pool gem --hidden 64 --full-scale 0:4095 --strategy rebuild")
    for letter in "ab":
        (tmp_path / "runs" / letter).mkdir(parents=True)
    assert " --out runs/c " in _train_command(candidate("net", 0.5, 1.0), request)
    arrays = make(CompareRequest, source=(np.zeros((4, 8, 8)), [0, 1, 0, 1]))
    assert _train_command(candidate("net", 0.5, 1.0), arrays) == ""


def test_a_list_of_bands_can_be_repeated_by_its_command():
    request = make(CompareRequest, source="/photos", channels=["zero", (0, 1, 2, None)])
    command = command_of("compare", request)
    assert command == "inshape compare /photos --channels 'zero;0,1,2,-'"
    assert read_rules("zero;0,1,2,-") == request.channels == ("zero", "0,1,2,-")


def test_the_more_rivals_the_surer_a_drop_has_to_be():
    than, right = np.ones(20, bool), np.ones(20, bool)
    right[:6] = False  # 1 in 64 by chance
    assert is_worse(right, than)
    assert not is_worse(right, than, level=0.025 / 11)
    assert not is_worse(than, right)


def test_close_is_within_a_standard_error():
    best = np.arange(400) < 300
    other = best.copy()
    other[100:120] = False
    other[300:313] = True  # 20 lost and 13 won: 7 of 400, with an error of 5.7 of 400
    assert not is_close(other, best)
    other[313:316] = True  # 16 won: 4 of 400, with an error of 6.0
    assert is_close(other, best)


def test_strategies_suit_the_shape():
    small, large = InputShape.of("96x97x1"), InputShape.of("224x160x3")
    kind, masks = Classification(("a", "b")), Segmentation(("a", "b"))
    assert usual_strategies(small, "MobileNetV3Small", kind) == ("rebuild", "restride", "resize")
    assert usual_strategies(large, "MobileNetV3Small", kind) == ("rebuild",)
    assert usual_strategies(large, "InceptionV3", kind) == ("rebuild", "restride", "resize")
    assert usual_strategies(InputShape.of("?x?x3"), "own.keras", kind) == ("flexible",)
    assert usual_strategies(InputShape.of("64x64x3"), "own.keras", kind)[0] == "rebuild"
    # That of a training of masks.
    assert usual_strategies(large, "MobileNetV3Small", masks) == ("restride:16", "rebuild")
    assert usual_strategies(InputShape.of("?x?x3"), "own.keras", masks) == ("flexible",)


def test_runs_go_by_their_folders_in_a_table():
    candidates = tuple(
        Candidate(name, "8x8x1", "rebuild")
        for name in (
            "runs/a/model.keras",
            "runs/b/model.keras",
            "old/b/model.keras",
            "nets/c.keras",
        )
    )
    comparison = Comparison("photos", 9, None, candidates)
    labels = ["a", "runs/b", "old/b", "c.keras"]
    lines = [line.split() for line in str(comparison).splitlines()]
    assert [words[0] for words in lines if "rebuild" in words] == labels
    assert all(f"<td>{label}</td>" in comparison._repr_html_() for label in labels)


def test_a_command_stands_in_one_line():
    source = "photos [old]/" + "long/" * 60
    one = Candidate("a", "8x8x1", "rebuild")
    comparison = Comparison(
        source, 9, None, (one,), recommended=one.name, reason="[a] it is", command=f"x '{source}'"
    )
    assert f"x '{source}'" in str(comparison).splitlines()
    assert "[a] it is" in str(comparison)


def test_the_cheapest_is_not_said_to_have_cheaper_ones():
    best = candidate("a", 1.0, 1.0, (1.0,) * 40)
    dear = candidate("b", 0.5, 2.0, (1.0,) * 20 + (0.0,) * 20)
    chosen, reason = recommend([best, dear], Limits(), "latency_ms")
    assert chosen is best
    assert reason.endswith("and the cheapest as well (1.00 ms).")

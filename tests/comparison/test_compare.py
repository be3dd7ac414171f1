"""Comparisons: candidates, limits, halving, what is kept, and what is recommended."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
from PIL import Image

import inshape
from inshape.comparison import finetune as finals
from inshape.comparison import measure as measuring
from inshape.comparison import rounds as halving
from inshape.comparison import samples as ordering
from inshape.comparison import store as keeping
from inshape.comparison.api import compare
from inshape.comparison.defaults import usual_shapes
from inshape.comparison.result import Candidate, Comparison
from inshape.comparison.shipping import packed
from inshape.comparison.store import CandidateStore
from inshape.data.sources import open_source
from inshape.errors import DataError, NoCandidate, OutputExists, RequestError
from inshape.limits import Limits
from inshape.shapes import InputShape


@pytest.fixture(scope="module")
def found(photos, network, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "a"
    made = compare(
        photos, shapes=["32x32x1", "8x8x1", "2x2x3"], strategies=["rebuild", "restride"],
        backbones=[network], weights=None, out=out,
    )  # fmt: skip
    return made, out


def test_every_candidate_is_measured_or_says_why_not(found, network):
    made, _ = found
    by_name = {(c.input_shape, c.strategy): c for c in made.candidates}
    assert len(by_name) == 6
    whole = by_name["32x32x1", "rebuild"]
    # Counted by hand: 16x16 outputs of 3x3x1x8, 8x8 of 3x3x8x16, and the classifier.
    assert whole.macs == pytest.approx(16 * 16 * 72 + 8 * 8 * 72 * 16 + 32, rel=0.02)
    assert whole.params == 80 + 1168 + 34
    assert whole.pictures == 60
    assert len(whole.right) == 60
    assert whole.right.count("1") / 60 == pytest.approx(whole.accuracy.value)
    assert whole.accuracy.value > by_name["8x8x1", "rebuild"].accuracy.value
    assert whole.latency_ms > 0
    assert {t for t, *_ in whole.latencies} >= {1}
    for c in made.candidates:
        assert c.error or c.accuracy is not None


def test_the_recommendation_is_on_the_front_and_can_be_typed(found, photos, network):
    made, _ = found
    best = made.recommendation
    assert best.name in made.front
    top = max((c for c in made.candidates if c.is_contender), key=lambda c: c.accuracy.value)
    assert best.latency_ms <= top.latency_ms
    assert made.command[:4] == ("inshape", "train", str(photos), "--input")
    assert made.reason.startswith(best.name)
    told = made.as_dict()["recommendation"]
    assert told["command"].startswith(f"inshape train {photos} --input {best.input_shape}")
    assert network in told["command"]


def test_a_second_call_measures_only_what_is_new(found, photos, network, monkeypatch):
    made, out = found
    built = []
    original = measuring.build_for
    monkeypatch.setattr(
        measuring, "build_for", lambda plan, *rest: built.append(plan) or original(plan, *rest)
    )
    options = {"backbones": [network], "weights": None, "out": out, "strategies": ["rebuild"]}
    again = compare(photos, shapes=["32x32x1", "8x8x1"], **options)
    assert not built
    assert {c.latency_ms for c in again.candidates} <= {c.latency_ms for c in made.candidates}
    firsts = {c.name: c for c in made.candidates}
    for c in again.candidates:
        if c.dropped is None:
            assert c.accuracy.value == pytest.approx(firsts[c.name].accuracy.value, abs=1e-6)
    compare(photos, shapes=["32x32x1", "16x16x1"], **options)
    assert [str(plan.input_shape) for plan in built] == ["16x16x1"]
    told = json.loads((out / "comparison.json").read_text())
    assert {c["input_shape"] for c in told["candidates"]} == {"32x32x1", "16x16x1"}


def test_the_maps_that_the_last_two_stages_end_in_are_probed():
    made = inshape.plan("MobileNetV3Small-minimalistic", "64x64x1", strategy="rebuild")
    model = made.build(weights="demo", classes=2)
    probed = measuring._features(model, InputShape.of("64x64x1"))
    maps = [model.get_layer(f"expanded_conv_{n}_add").output for n in (7, 10)]
    picture = np.random.default_rng(0).uniform(0, 255, (1, 64, 64, 1)).astype("float32")
    means = [np.asarray(m).mean(axis=(1, 2)) for m in keras.Model(model.input, maps)(picture)]
    found = np.asarray(probed(picture))
    np.testing.assert_allclose(found, np.concatenate(means, axis=1), rtol=1e-4, atol=1e-4)


def test_only_what_this_machine_has_not_timed_is_timed(photos, network, tmp_path, monkeypatch):
    timed: list[int] = []
    original = halving.latencies
    monkeypatch.setattr(
        halving, "latencies", lambda files: timed.append(len(files)) or original(files)
    )
    options = {
        "backbones": [network], "weights": None, "out": tmp_path / "a", "strategies": ["rebuild"],
    }  # fmt: skip
    made = compare(photos, shapes=["9x8x1"], **options)
    assert "cores, inshape " in made.candidates[0].timed_on
    compare(photos, shapes=["9x8x1", "16x16x1"], **options)
    compare(photos, shapes=["9x8x1", "16x16x1"], **options)
    assert timed == [1, 1]
    monkeypatch.setattr(keeping, "_machine", lambda: "another one")
    mixed = compare(photos, shapes=["9x8x1", "16x16x1"], latency=False, **options)
    assert {c.latency_ms for c in mixed.candidates} == {None}
    assert "MACs" in mixed.reason
    again = compare(photos, shapes=["9x8x1", "16x16x1"], **options)
    assert timed == [1, 1, 2]
    assert {c.timed_on for c in again.candidates} == {"another one"}


def test_answers_belong_to_pictures_in_their_order(network, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (12, 9, 9, 1), np.uint8)
    labels = np.arange(12) % 2
    opened = open_source((pixels, labels))
    asked = Candidate(network, "9x8x1", "rebuild")
    keys = {
        CandidateStore(None, opened.take(order), None, 12, 0).key(asked)
        for order in (range(12), range(12), range(11, -1, -1))
    }
    assert len(keys) == 2


def test_files_below_the_home_folder_are_known_by_their_content(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    opened = open_source((np.zeros((4, 2, 2, 1), np.uint8), [0, 1, 0, 1]))
    keys: set[str] = set()
    for content in (b"one", b"two"):
        (tmp_path / "net.keras").write_bytes(content)
        (tmp_path / "w.h5").write_bytes(b"same")
        store = CandidateStore(None, opened, "~/w.h5", 4, 0)
        keys.add(store.key(Candidate("~/net.keras", "9x8x1", "rebuild")))
        assert packed(["~/net.keras"]) == {"~/net.keras": content}
    (tmp_path / "w.h5").write_bytes(b"other")
    store = CandidateStore(None, opened, "~/w.h5", 4, 0)
    keys.add(store.key(Candidate("~/net.keras", "9x8x1", "rebuild")))
    assert len(keys) == 3


def test_a_limit_on_what_is_not_measured_is_refused(photos):
    with pytest.raises(RequestError, match="--max-latency with --no-latency; expected candidates"):
        compare(photos, latency=False, limits=Limits(latency_ms=5))


def test_a_failing_candidate_does_not_stop_the_rest(photos, network, monkeypatch):
    original = measuring.build_for

    def sometimes(plan, *rest):
        if str(plan.input_shape) == "16x16x1":
            raise MemoryError("no more")
        return original(plan, *rest)

    monkeypatch.setattr(measuring, "build_for", sometimes)
    made = compare(
        photos, shapes=["16x16x1", "32x32x1"], strategies=["rebuild"], backbones=[network],
        weights=None, latency=False,
    )  # fmt: skip
    errors = {c.input_shape: c.error for c in made.candidates}
    assert errors == {"16x16x1": "MemoryError: no more", "32x32x1": None}


def test_a_limit_drops_candidates_with_its_reason(photos, network):
    made = compare(
        photos, shapes=["32x32x1", "8x8x1"], strategies=["rebuild"], backbones=[network],
        weights=None, latency=False, limits=Limits(macs=20_000),
    )  # fmt: skip
    dropped = {c.input_shape: c.dropped for c in made.candidates}
    assert dropped["8x8x1"] is None
    # By hand, see above: 92.2 thousand in the convolutions.
    assert re.fullmatch(r"92\.\d kMACs is over 20\.0 kMACs", dropped["32x32x1"])
    assert made.recommendation.input_shape == "8x8x1"
    assert "within the limits" in made.reason


def test_limits_that_nothing_meets_say_what_is_needed(photos, network, tmp_path):
    out = tmp_path / "a"
    text = (
        r"no candidate meets the limits; the nearest, .*small.keras 8x8x1 rebuild, has 5\.79 kMACs"
    )
    with pytest.raises(NoCandidate, match=text) as raised:
        compare(
            photos, shapes=["32x32x1", "8x8x1"], strategies=["rebuild"], backbones=[network],
            weights=None, latency=False, limits=Limits(macs=10), out=out,
        )  # fmt: skip
    told = json.loads((out / "comparison.json").read_text())
    assert told["recommendation"] is None
    assert len(told["candidates"]) == 2
    assert told == json.loads(json.dumps(raised.value.comparison.as_dict()))
    assert "kMACs is over 10 MACs" in str(raised.value.comparison)
    assert (out / "report.html").exists()


def test_a_class_of_one_picture_is_refused(photos, tmp_path, network):
    for label, count in (("a", 4), ("b", 1)):
        (tmp_path / label).mkdir()
        for i in range(count):
            Image.new("L", (9, 9), i * 20).save(tmp_path / label / f"{i}.png")
    with pytest.raises(DataError, match="a class with 1 pictures, of 2 classes; expected two"):
        compare(tmp_path, shapes=["32x32x1"], backbones=[network], weights=None)


def test_copies_of_a_picture_are_no_pictures(tmp_path, network):
    for label, count in (("a", 4), ("b", 3)):
        (tmp_path / label).mkdir()
        for i in range(count):
            level = i * 20 if label == "a" else 255
            Image.new("L", (9, 9), level).save(tmp_path / label / f"{i}.png")
    told = "a class with 3 pictures, all of them copies of one, of 2 classes; expected two classes"
    with pytest.raises(DataError, match=told):
        compare(tmp_path, shapes=["32x32x1"], backbones=[network], weights=None)


def test_unreadable_and_missing_pictures_are_refused(tmp_path, network):
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        for i in range(3):
            (tmp_path / label / f"{i}.png").write_bytes(b"no picture" + label.encode() + bytes([i]))
    with pytest.raises(DataError, match="no readable pictures: 6 of 6 pictures cannot be read; "):
        compare(
            tmp_path, shapes=["32x32x1"], strategies=["rebuild"], backbones=[network],
            weights=None, latency=False,
        )  # fmt: skip
    with pytest.raises(DataError, match="no picture's size can be read; expected at least one"):
        compare(tmp_path, backbones=[network], weights=None)


def test_a_comparison_is_a_frame_and_a_table_in_a_notebook(found):
    pytest.importorskip("pandas")
    made, _ = found
    frame = made.to_pandas()
    assert len(frame) == 6
    assert frame["accuracy"].notna().sum() >= 3
    page = made._repr_html_()
    assert page.count("<tr") == 7
    assert "recommended" in page
    assert "probe accuracy" in str(made)


def test_finetuned_finalists_are_runs_and_decide_only_when_asked(
    photos, network, tmp_path, monkeypatch
):
    original = finals.train
    asked: list[object] = []

    def sometimes(source, shape, **options):
        asked.append(options["channels"])
        if shape == "9x8x1":
            raise MemoryError("no more")
        return original(source, shape, **options)

    monkeypatch.setattr(finals, "train", sometimes)
    options = {
        "shapes": ["32x32x1", "9x8x1"], "strategies": ["rebuild"], "backbones": [network],
        "weights": None, "latency": False, "channels": ["0"], "out": tmp_path / "a",
    }  # fmt: skip
    made = compare(photos, **options, finetune=2)
    found = {c.input_shape: c for c in made.candidates}
    assert asked == [(0,), (0,)]
    assert 0.0 <= found["32x32x1"].finetuned <= 1.0
    assert found["9x8x1"].error == "fine-tuning: MemoryError: no more"
    (folder,) = (tmp_path / "a" / "runs").iterdir()
    assert (folder / "model.keras").exists()
    again = compare(photos, **options)
    assert {(c.finetuned, c.finetuned_on, c.error) for c in again.candidates} == {(None, 0, None)}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"finetune": 2}, "finetune without out; expected a folder"),
        ({"finetune": 1}, "--finetune 1; expected two finalists or more, between which it decides"),
        ({"finetune": -2}, "--finetune -2; expected two finalists or more"),
        ({"pictures": 0}, "--pictures 0; expected 1 or more"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(photos, options, told):
    with pytest.raises(RequestError, match=re.escape(told)):
        compare(photos, shapes=["32x32x1"], **options)


def test_a_file_that_only_has_the_name_is_left_alone(photos, tmp_path):
    for text in ('{"my": "notes"}', "no JSON", "[]"):
        (tmp_path / "comparison.json").write_text(text)
        with pytest.raises(OutputExists, match=r"comparison\.json exists already and is no "):
            compare(photos, shapes=["32x32x1"], out=tmp_path)
        assert (tmp_path / "comparison.json").read_text() == text


def test_a_shape_that_does_not_fit_the_pictures_is_an_error_of_its_own(network, tmp_path):
    """Four bands are neither grey nor RGB."""
    rng = np.random.default_rng(0)
    tiles = rng.integers(0, 255, (24, 9, 9, 4), np.uint8)
    options = {"strategies": ["rebuild"], "backbones": [network], "weights": None}
    options |= {"latency": False}
    made = compare((tiles, np.arange(24) % 2), shapes=["9x8x1", "9x9x4"], **options)
    found = {c.input_shape: c for c in made.candidates}
    assert found["9x9x4"].error is None
    assert found["9x9x4"].pictures == 24
    assert "4 bands" in found["9x8x1"].error
    with pytest.raises(DataError, match="4 bands"):
        compare((tiles, np.arange(24) % 2), shapes=["9x8x1"], **options)


def test_json_has_no_long_rows_of_answers(found):
    made, _ = found
    assert isinstance(made, Comparison)
    assert "right" not in json.dumps(made.as_dict())


def test_what_the_first_round_dropped_stays_dropped(photos, network, tmp_path, monkeypatch):
    monkeypatch.setattr(ordering, "_FIRST_ROUND", 40)
    worse = {"8x8x1"}
    original = measuring.cross_validated

    def doctored(rows, labels, folds, **more):
        right = original(rows, labels, folds, **more)
        return np.zeros_like(right) if worse_now[0] in worse else np.ones_like(right)

    worse_now = [""]
    run = measuring._runner

    def seen(candidate, *rest):
        worse_now[0] = candidate.input_shape
        asked.append((candidate.input_shape, candidate.pictures))
        return run(candidate, *rest)

    asked: list[tuple[str, int]] = []
    monkeypatch.setattr(measuring, "cross_validated", doctored)
    monkeypatch.setattr(measuring, "_runner", seen)
    options = {
        "candidates": [Candidate(network, s, "rebuild") for s in ("16x16x1", "8x8x1", "12x12x1")],
        "weights": None, "out": tmp_path / "a", "latency": False,
    }  # fmt: skip
    worse |= {"16x16x1"}
    made = compare(photos, **options)
    found = {c.input_shape: c for c in made.candidates}
    assert set(asked) == {
        ("16x16x1", 0), ("8x8x1", 0), ("12x12x1", 0), ("12x12x1", 40), ("8x8x1", 40),
    }  # fmt: skip
    assert found["16x16x1"].dropped == (
        f"worse than {found['12x12x1'].name} on 40 pictures, and with no fewer MACs"
    )
    assert (len(found["16x16x1"].first), found["16x16x1"].pictures) == (40, 40)
    assert (len(found["12x12x1"].first), found["12x12x1"].pictures) == (40, 60)
    asked.clear()
    again = compare(photos, **options)
    assert not asked
    told = {c.input_shape: (c.dropped, c.accuracy, c.right) for c in again.candidates}
    assert told == {c.input_shape: (c.dropped, c.accuracy, c.right) for c in made.candidates}


def test_a_picture_that_cannot_be_read_is_left_out_for_all(photos, network, tmp_path):
    shutil.copytree(photos, tmp_path / "photos")
    (tmp_path / "photos" / "lie" / "07.png").write_bytes(b"\x89PNG no more")
    options = {
        "strategies": ["rebuild"], "backbones": [network], "weights": None, "latency": False,
        "out": tmp_path / "a",
    }  # fmt: skip
    made = compare(tmp_path / "photos", shapes=["9x8x1", "16x16x1"], **options)
    assert made.pictures == 59
    assert {(c.pictures, c.error) for c in made.candidates} == {(59, None)}
    again = compare(tmp_path / "photos", shapes=["9x8x1"], **options)
    assert again.seconds["pictures"] == 0.0
    assert (
        again.candidates[0].right
        == {c.name: c.right for c in made.candidates}[again.candidates[0].name]
    )


def test_a_class_of_two_pictures_all_of_one_size(tmp_path, network):
    for label, count in (("a", 12), ("b", 2)):
        (tmp_path / label).mkdir()
        for i in range(count):
            Image.new("L", (9, 9), 100 * (label == "b") + i).save(tmp_path / label / f"{i}.png")
    made = compare(
        tmp_path, shapes=["32x32x1"], strategies=["rebuild"], backbones=[network], weights=None,
        latency=False,
    )  # fmt: skip
    (one,) = made.candidates
    assert (one.error, one.pictures) == (None, 14)
    assert [str(s) for s in usual_shapes(open_source(tmp_path))] == ["64x64x1"]


@pytest.mark.slow
def test_a_killed_comparison_goes_on(photos, network, tmp_path):
    out = tmp_path / "a"
    code = f"""
import inshape, sys, time
from inshape.compare import measure
original = measure.build_for
measure.build_for = lambda plan, *rest: (
    original(plan, *rest) if str(plan.input_shape) == "9x8x1" else time.sleep(600)
)
inshape.compare({str(photos)!r}, shapes=["9x8x1", "16x16x1"], strategies=["rebuild"],
    backbones=[{network!r}], weights=None, latency=False, out={str(out)!r})
"""
    process = subprocess.Popen([sys.executable, "-c", code])
    until = time.monotonic() + 500
    while not list(out.glob("candidates/*.json")) and time.monotonic() < until:
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.wait()
    (first,) = out.glob("candidates/*.json")
    stamp = json.loads(first.read_text())["seconds"]["build"]
    made = compare(
        photos, shapes=["9x8x1", "16x16x1"], strategies=["rebuild"], backbones=[network],
        weights=None, latency=False, out=out,
    )  # fmt: skip
    found = {c.input_shape: c for c in made.candidates}
    assert found["9x8x1"].seconds["build"] == stamp
    assert {c.pictures for c in made.candidates} == {60}

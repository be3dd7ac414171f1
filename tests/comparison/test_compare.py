"""Comparisons: candidates, limits, halving, what is kept, and what is recommended."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import signal

import keras
import numpy as np
import pytest
from PIL import Image

import inshape
from inshape.cli.commands import command_for
from inshape.cli.parser import parse
from inshape.comparison import finetune as tuning
from inshape.comparison import measure as measuring
from inshape.comparison import rounds, samples, store
from inshape.comparison.api import compare
from inshape.comparison.defaults import usual_shapes
from inshape.comparison.request import CompareRequest
from inshape.comparison.result import Candidate
from inshape.comparison.store import CandidateStore
from inshape.comparison.workers import read_files
from inshape.data.sources import open_source
from inshape.errors import DataError, NoCandidate, OutputExists, RequestError
from inshape.heads import Head
from inshape.limits import Limits
from inshape.requests import make
from inshape.shapes import InputShape
from inshape.text import format_bytes, format_count


@pytest.fixture(scope="module")
def compared(photos, network, tmp_path_factory):
    """A comparison that several tests look at, and its folder."""
    out = tmp_path_factory.mktemp("out") / "a"
    comparison = compare(
        photos, shapes=["32x32x1", "8x8x1", "2x2x3"], strategies=["rebuild", "restride"],
        backbones=[network], weights=None, out=out,
    )  # fmt: skip
    return comparison, out


def test_every_candidate_is_measured_or_says_why_not(compared, network):
    comparison, _ = compared
    by_name = {(c.input_shape, c.strategy): c for c in comparison.candidates}
    assert len(by_name) == 6
    whole = by_name["32x32x1", "rebuild"]
    # Counted by hand: 16x16 outputs of 3x3x1x8, 8x8 of 3x3x8x16, and the classifier.
    assert whole.macs == pytest.approx(16 * 16 * 72 + 8 * 8 * 72 * 16 + 32, rel=0.02)
    assert whole.params == 80 + 1168 + 34
    assert whole.pictures == 60
    assert len(whole.right) == 60
    assert sum(whole.right) / 60 == pytest.approx(whole.accuracy.value)
    assert whole.accuracy.value > by_name["8x8x1", "rebuild"].accuracy.value
    assert whole.latency_ms > 0
    assert {t for t, *_ in whole.latencies} >= {1}
    for c in comparison.candidates:
        assert c.error or c.accuracy is not None


def test_the_recommendation_is_on_the_front_and_can_be_typed(compared, photos, network):
    comparison, _ = compared
    best = comparison.recommendation
    assert best.name in comparison.pareto_front
    top = max((c for c in comparison.candidates if c.is_contender), key=lambda c: c.accuracy.value)
    assert best.latency_ms <= top.latency_ms
    assert comparison.command.startswith(
        f"inshape train {photos} --input {best.input_shape} --out "
    )
    assert comparison.reason.startswith(best.name)
    record = comparison.as_dict()["recommendation"]
    assert record["command"] == comparison.command
    assert f" --backbone {network} " in comparison.command


def test_a_second_call_measures_only_what_is_new(compared, photos, network, monkeypatch):
    comparison, out = compared
    built = []
    original = measuring._adapt
    monkeypatch.setattr(
        measuring, "_adapt", lambda one, *rest: built.append(one) or original(one, *rest)
    )
    options = {"backbones": [network], "weights": None, "out": out, "strategies": ["rebuild"]}
    again = compare(photos, shapes=["32x32x1", "8x8x1"], **options)
    assert not built
    assert {c.latency_ms for c in again.candidates} <= {c.latency_ms for c in comparison.candidates}
    firsts = {c.name: c for c in comparison.candidates}
    for c in again.candidates:
        if c.dropped is None:
            assert c.accuracy.value == pytest.approx(firsts[c.name].accuracy.value, abs=1e-6)
    compare(photos, shapes=["32x32x1", "16x16x1"], **options)
    assert [one.input_shape for one in built] == ["16x16x1"]
    record = json.loads((out / "comparison.json").read_text())
    assert {c["input_shape"] for c in record["candidates"]} == {"32x32x1", "16x16x1"}


def test_the_maps_that_the_last_two_stages_end_in_are_probed():
    comparison = inshape.plan("MobileNetV3Small-minimalistic", "64x64x1", strategy="rebuild")
    model = comparison.build(weights="demo", classes=2)
    probed = measuring.features_of(model, InputShape.of("64x64x1"))
    maps = [model.get_layer(f"expanded_conv_{n}_add").output for n in (7, 10)]
    picture = np.random.default_rng(0).uniform(0, 255, (1, 64, 64, 1)).astype("float32")
    means = [np.asarray(m).mean(axis=(1, 2)) for m in keras.Model(model.input, maps)(picture)]
    features = np.asarray(probed(picture))
    np.testing.assert_allclose(features, np.concatenate(means, axis=1), rtol=1e-4, atol=1e-4)


def test_only_what_this_machine_has_not_timed_is_timed(photos, network, tmp_path, monkeypatch):
    timed: list[int] = []
    original = rounds.time_together
    monkeypatch.setattr(
        rounds, "time_together", lambda files: timed.append(len(files)) or original(files)
    )
    options = {
        "backbones": [network], "weights": None, "out": tmp_path / "a", "strategies": ["rebuild"],
    }  # fmt: skip
    comparison = compare(photos, shapes=["9x8x1"], **options)
    assert "cores, inshape " in comparison.candidates[0].timed_on
    compare(photos, shapes=["9x8x1", "16x16x1"], **options)
    compare(photos, shapes=["9x8x1", "16x16x1"], **options)
    assert timed == [1, 1]
    monkeypatch.setattr(store, "_machine", lambda: "another one")
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
    candidate = Candidate(network, "9x8x1", "rebuild")
    request = make(CompareRequest, source="photos", weights=None)
    keys = {
        CandidateStore(request, opened.take(order)).key_of(candidate)
        for order in (range(12), range(12), range(11, -1, -1))
    }
    assert len(keys) == 2
    for option in ({"hidden": 9}, {"pool": (2, 2)}, {"fill": 9}, {"full_scale": 9}):
        keys.add(CandidateStore(request.but(**option), opened).key_of(candidate))
    assert len(keys) == 6


def test_files_below_the_home_folder_are_known_by_their_content(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    opened = open_source((np.zeros((4, 2, 2, 1), np.uint8), [0, 1, 0, 1]))
    request = make(CompareRequest, source="photos", weights="~/w.h5")
    candidate = Candidate("~/net.keras", "9x8x1", "rebuild")
    keys: set[str] = set()
    for content in (b"one", b"two"):
        (tmp_path / "net.keras").write_bytes(content)
        (tmp_path / "w.h5").write_bytes(b"same")
        keys.add(CandidateStore(request, opened).key_of(candidate))
        assert read_files(["~/net.keras"]) == {"~/net.keras": content}
    (tmp_path / "w.h5").write_bytes(b"other")
    keys.add(CandidateStore(request, opened).key_of(candidate))
    assert len(keys) == 3


def test_candidates_have_the_head_and_the_pictures_that_are_asked_for(photos, network):
    comparison = compare(
        photos, shapes="16x16x1", strategies="rebuild", backbones=network, weights=None,
        latency=False, hidden=300, pool=(2, 2), picture_fit="letterbox", seed=3,
    )  # fmt: skip
    head = Head(classes=2, hidden=300, pool=(2, 2))
    plan = inshape.plan(network, "16x16x1", strategy="rebuild", head=head)
    best = comparison.recommendation
    assert (best.params, best.flash_bytes) == (plan.geometry.params, plan.footprint.flash_bytes)
    # By hand: the convolutions, the 2x2 grid of 16 into 300, and 300 into two classes.
    assert best.params == 80 + 1168 + (64 + 1) * 300 + (300 + 1) * 2
    command, words = command_for(shlex.split(comparison.command)[1:])
    request = parse(command.kind, words, program="inshape", description="")
    assert (request.seed, request.head) == (3, head.but(classes=None))
    assert request.pictures.picture_fit == "letterbox"


def test_limits_hold_for_the_head_and_name_what_is_over_them(photos, network):
    options = {
        "shapes": "16x16x1", "strategies": "rebuild", "backbones": network, "weights": None,
        "latency": False,
    }  # fmt: skip
    text = (
        r"has 3\d\.\d kMACs, flash 2\d\.\d KiB, RAM \d\.\d KiB \(flash 2\d\.\d KiB is over "
        r"10\.0 KiB\); raise"
    )
    limits = {"max_flash": "10KiB", "max_ram": "1MiB", "max_macs": "1M"}
    assert compare(photos, **options, **limits).recommendation is not None
    with pytest.raises(NoCandidate, match=text):
        compare(photos, **options, **limits, hidden=500)


def test_what_pictures_advise_can_be_followed():
    deep = np.random.default_rng(0).integers(0, 4096, (20, 9, 9, 1), np.int32)
    opened = open_source((deep, [0, 1] * 10))
    options = {"source": None, "weights": None, "shapes": "9x9x1"}
    for full_scale, largest in ((4095, 255), (8190, 127.5)):
        request = make(CompareRequest, **options, full_scale=full_scale)
        pictures = samples.Samples(opened, request, CandidateStore(request, opened))
        assert pictures.at(InputShape(9, 9, 1)).max() == pytest.approx(largest, rel=0.01)
    request = make(CompareRequest, **options)
    empty = open_source((np.zeros_like(deep), [0, 1] * 10))
    pictures = samples.Samples(empty, request, CandidateStore(request, empty))
    with pytest.raises(DataError, match="set full_scale to LOW:HIGH, the values of black and"):
        pictures.at(InputShape(9, 9, 1))


def test_candidates_and_their_command_have_the_range_of_the_pictures(network, tmp_path):
    rng = np.random.default_rng(0)
    for name, top in (("dim", 900), ("bright", 4000)):
        (tmp_path / name).mkdir()
        for i in range(10):
            Image.fromarray(rng.integers(0, top, (9, 8), np.uint16)).save(
                tmp_path / name / f"{i}.png"
            )
    with pytest.warns(UserWarning, match="pictures of uint16 are read with full_scale 0:4095"):
        comparison = compare(
            tmp_path, shapes="9x8x1", strategies="rebuild", backbones=network, weights=None,
            latency=False,
        )  # fmt: skip
    assert "--full-scale 0:4095" in comparison.command
    assert comparison.record["request"]["picture_options"]["full_scale"] == [0, 4095]
    (note,) = comparison.record["data"]["warnings"]
    assert "full_scale 0:4095" in note


def test_a_head_of_other_classes_is_refused(photos, network):
    text = (
        "a head of 7 classes, and pictures of 2 (lie, stand); expected as many; leave classes out"
    )
    with pytest.raises(RequestError, match=re.escape(text)):
        compare(photos, shapes="16x16x1", backbones=network, head=Head(classes=7))


def test_a_file_that_was_replaced_is_read_anew_also_after_an_error(photos, network, tmp_path):
    for label in ("a", "b"):
        (tmp_path / "bad" / label).mkdir(parents=True)
        for i in range(3):
            (tmp_path / "bad" / label / f"{i}.png").write_bytes(f"none {label} {i}".encode())
    path = tmp_path / "net.keras"
    options = {
        "shapes": "16x16x1", "strategies": "rebuild", "backbones": path, "weights": None,
        "latency": False,
    }  # fmt: skip
    shutil.copy(network, path)
    with pytest.raises(DataError, match="no readable pictures"):
        compare(tmp_path / "bad", **options)
    image = keras.Input((32, 32, 1))
    x = keras.layers.Conv2D(4, 3, strides=2, padding="same")(image)
    keras.Model(image, keras.layers.GlobalAveragePooling2D()(x)).save(path)
    (candidate,) = compare(photos, **options).candidates
    assert candidate.params == 9 * 4 + 4 + 4 * 2 + 2


def test_a_limit_on_what_is_not_measured_is_refused(photos):
    with pytest.raises(RequestError, match="max_latency without latency; expected candidates"):
        compare(photos, latency=False, max_latency=5)


def test_a_failing_candidate_does_not_stop_the_rest(photos, network, monkeypatch):
    original = measuring._adapt

    def adapt(candidate, *rest):
        if candidate.input_shape == "16x16x1":
            raise MemoryError("no more")
        return original(candidate, *rest)

    monkeypatch.setattr(measuring, "_adapt", adapt)
    comparison = compare(
        photos, shapes=["16x16x1", "32x32x1"], strategies=["rebuild"], backbones=[network],
        weights=None, latency=False,
    )  # fmt: skip
    errors = {c.input_shape: c.error for c in comparison.candidates}
    assert errors == {"16x16x1": "MemoryError: no more", "32x32x1": None}


def test_a_limit_drops_candidates_with_its_reason(photos, network):
    comparison = compare(
        photos, shapes=["32x32x1", "8x8x1"], strategies=["rebuild"], backbones=[network],
        weights=None, latency=False, max_macs="20K",
    )  # fmt: skip
    dropped = {c.input_shape: c.dropped for c in comparison.candidates}
    assert dropped["8x8x1"] is None
    # By hand, see above: 92.2 thousand in the convolutions.
    assert re.fullmatch(r"92\.\d kMACs is over 20\.0 kMACs", dropped["32x32x1"])
    assert comparison.recommendation.input_shape == "8x8x1"
    assert "within the limits" in comparison.reason


def test_limits_that_nothing_meets_say_what_is_needed(photos, network, tmp_path):
    out = tmp_path / "a"
    text = (
        r"no candidate meets the limits; the nearest, .*small.keras 8x8x1 rebuild, has 5\.8 kMACs"
    )
    with pytest.raises(NoCandidate, match=text) as raised:
        compare(
            photos, shapes=["32x32x1", "8x8x1"], strategies=["rebuild"], backbones=[network],
            weights=None, latency=False, limits=Limits(max_macs=10), out=out,
        )  # fmt: skip
    record = json.loads((out / "comparison.json").read_text())
    assert record["recommendation"] is None
    assert record["plan"] is None
    assert len(record["candidates"]) == 2
    assert record == json.loads(json.dumps(raised.value.comparison.as_dict()))
    assert "kMACs is over 10 MACs" in str(raised.value.comparison)
    assert (out / "report.html").exists()


def test_a_class_of_one_picture_is_refused(photos, tmp_path, network):
    for label, count in (("a", 4), ("b", 1)):
        (tmp_path / label).mkdir()
        for i in range(count):
            Image.new("L", (9, 9), i * 20).save(tmp_path / label / f"{i}.png")
    with pytest.raises(DataError, match="a class with 1 picture, of 2 classes; expected two"):
        compare(tmp_path, shapes=["32x32x1"], backbones=[network], weights=None)


def test_copies_of_a_picture_are_no_pictures(tmp_path, network):
    for label, count in (("a", 4), ("b", 3)):
        (tmp_path / label).mkdir()
        for i in range(count):
            level = i * 20 if label == "a" else 255
            Image.new("L", (9, 9), level).save(tmp_path / label / f"{i}.png")
    text = "a class with 3 pictures, all of them copies of one, of 2 classes; expected two classes"
    with pytest.raises(DataError, match=text):
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


def test_a_comparison_is_a_frame_and_a_table_in_a_notebook(compared):
    pytest.importorskip("pandas")
    comparison, _ = compared
    frame = comparison.to_pandas()
    assert len(frame) == 6
    assert frame["accuracy"].notna().sum() >= 3
    page = comparison._repr_html_()
    assert page.partition("</table>")[0].count("<tr") == 7
    assert page.count("<svg") > 3  # the stages of the recommended one
    assert "recommended" in page
    assert "probe accuracy" in str(comparison)


def test_finetuned_finalists_are_runs_and_decide_only_when_asked(
    photos, network, tmp_path, monkeypatch
):
    original = tuning.run_training
    requested: list[object] = []

    def run(request, progress):
        requested.append(request.options.channels)
        if str(request.shape) == "9x8x1":
            raise MemoryError("no more")
        return original(request, progress)

    monkeypatch.setattr(tuning, "run_training", run)
    options = {
        "shapes": ["32x32x1", "9x8x1"], "strategies": ["rebuild"], "backbones": [network],
        "weights": None, "latency": False, "channels": ["0"], "out": tmp_path / "a",
    }  # fmt: skip
    comparison = compare(photos, **options, finetune=2)
    by_shape = {c.input_shape: c for c in comparison.candidates}
    assert requested == [(0,), (0,)]
    assert 0.0 <= by_shape["32x32x1"].finetuned <= 1.0
    assert by_shape["9x8x1"].error == "fine-tuning: MemoryError: no more"
    (folder,) = (tmp_path / "a" / "runs").iterdir()
    assert (folder / "model.keras").exists()
    again = compare(photos, **options)
    assert {(c.finetuned, c.finetuned_on, c.error) for c in again.candidates} == {(None, 0, None)}


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"finetune": 2}, "finetune without out; expected a folder"),
        ({"finetune": 1}, "finetune=1; expected two finalists or more, between which it decides"),
        ({"finetune": -2}, "finetune=-2; expected 0 or more"),
        ({"pictures": 0}, "pictures=0; expected 1 or more"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(photos, options, text):
    with pytest.raises(RequestError, match=re.escape(text)):
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
    comparison = compare((tiles, np.arange(24) % 2), shapes=["9x8x1", "9x9x4"], **options)
    by_shape = {c.input_shape: c for c in comparison.candidates}
    assert by_shape["9x9x4"].error is None
    assert by_shape["9x9x4"].pictures == 24
    assert "4 bands" in by_shape["9x8x1"].error
    with pytest.raises(DataError, match="4 bands"):
        compare((tiles, np.arange(24) % 2), shapes=["9x8x1"], **options)


def test_the_file_has_one_plan_and_no_long_rows_of_answers(compared):
    comparison, out = compared
    record = comparison.as_dict()
    for candidate in record["candidates"]:
        assert not {"plan", "right", "first"} & candidate.keys()
    # The whole plan of the recommended one, which the store keeps of every finished candidate.
    assert record["plan"] == comparison.recommendation.plan
    assert record["plan"]["input_shape"] == record["recommendation"]["input_shape"]
    notes = [json.loads(path.read_text())["notes"] for path in out.glob("candidates/*.json")]
    finished = [c.name for c in comparison.candidates if c.error is None]
    kept = {f"{n['backbone']} {n['input_shape']} {n['strategy']}" for n in notes if "plan" in n}
    assert kept >= set(finished)


def test_costs_are_those_of_the_plan_in_every_place(compared, network):
    """What the plan says with the user's two classes: in the candidate, its record, the table."""
    comparison, _ = compared
    lines = str(comparison).splitlines()
    for candidate in comparison.candidates:
        if candidate.error is not None:
            continue
        shape, strategy = candidate.input_shape, candidate.strategy
        plan = inshape.plan(network, shape, strategy=strategy, classes=2)
        assert candidate.macs == plan.geometry.macs
        assert candidate.params == plan.geometry.params
        assert candidate.flash_bytes == plan.footprint.flash_bytes
        assert candidate.ram_bytes == plan.footprint.ram_bytes
        assert candidate.plan["footprint"] == plan.footprint.as_dict()
        (line,) = (li for li in lines if f" {shape} " in li and f" {strategy} " in li)
        for text in (
            format_bytes(plan.footprint.flash_bytes), format_bytes(plan.footprint.ram_bytes),
            format_count(plan.geometry.macs),
        ):  # fmt: skip
            assert f" {text} " in f"{line} "


def test_a_damaged_candidate_is_measured_anew(photos, network, tmp_path):
    options = {
        "shapes": "9x8x1", "strategies": "rebuild", "backbones": network, "weights": None,
        "latency": False, "out": tmp_path / "a",
    }  # fmt: skip
    comparison = compare(photos, **options)
    folder = tmp_path / "a" / "candidates"
    (path,) = (path for path in folder.iterdir() if "right" in path.read_text())
    path.write_text(path.read_text().replace('"pictures": 60', '"pictures": 61'))
    with pytest.warns(UserWarning, match=r"is damaged .*; it is made again"):
        again = compare(photos, **options)
    for one, other in zip(comparison.candidates, again.candidates, strict=True):
        assert one.but(seconds={}) == other.but(seconds={})


def test_candidates_may_be_named_one_by_one(photos, network, tmp_path):
    by_hand = [f"{network} 9x8x1 rebuild", Candidate(network, "8x9x3", "rebuild", "tile")]
    comparison = compare(
        photos, candidates=by_hand, weights=None, latency=False, out=tmp_path / "a"
    )
    names = [f"{network} 9x8x1 rebuild", f"{network} 8x9x3 rebuild tile"]
    assert {c.name for c in comparison.candidates} == set(names)
    request = json.loads((tmp_path / "a" / "comparison.json").read_text())["request"]
    assert request["candidates"] == names
    assert request["command"] is None


def test_what_the_first_round_dropped_stays_dropped(photos, network, tmp_path, monkeypatch):
    monkeypatch.setattr(samples, "_FIRST_ROUND", 40)
    worse = {"8x8x1"}
    original = measuring.cross_validated

    def doctored(*args, **more):
        right = original(*args, **more)
        return np.zeros_like(right) if worse_now[0] in worse else np.ones_like(right)

    worse_now = [""]
    run = measuring._runner

    def runner(candidate, *rest):
        worse_now[0] = candidate.input_shape
        requested.append((candidate.input_shape, candidate.pictures))
        return run(candidate, *rest)

    requested: list[tuple[str, int]] = []
    monkeypatch.setattr(measuring, "cross_validated", doctored)
    monkeypatch.setattr(measuring, "_runner", runner)
    options = {
        "candidates": [Candidate(network, s, "rebuild") for s in ("16x16x1", "8x8x1", "12x12x1")],
        "weights": None, "out": tmp_path / "a", "latency": False,
    }  # fmt: skip
    worse |= {"16x16x1"}
    comparison = compare(photos, **options)
    by_shape = {c.input_shape: c for c in comparison.candidates}
    assert set(requested) == {
        ("16x16x1", 0), ("8x8x1", 0), ("12x12x1", 0), ("12x12x1", 40), ("8x8x1", 40),
    }  # fmt: skip
    assert by_shape["16x16x1"].dropped == (
        f"worse than {by_shape['12x12x1'].name} on 40 pictures, and with no fewer MACs"
    )
    assert (len(by_shape["16x16x1"].first), by_shape["16x16x1"].pictures) == (40, 40)
    assert (len(by_shape["12x12x1"].first), by_shape["12x12x1"].pictures) == (40, 60)
    requested.clear()
    again = compare(photos, **options)
    assert not requested
    kept = {c.input_shape: (c.dropped, c.accuracy, c.right) for c in again.candidates}
    assert kept == {c.input_shape: (c.dropped, c.accuracy, c.right) for c in comparison.candidates}


def test_a_picture_that_cannot_be_read_is_left_out_for_all(photos, network, tmp_path):
    shutil.copytree(photos, tmp_path / "photos")
    (tmp_path / "photos" / "lie" / "07.png").write_bytes(b"\x89PNG no more")
    options = {
        "strategies": ["rebuild"], "backbones": [network], "weights": None, "latency": False,
        "out": tmp_path / "a",
    }  # fmt: skip
    comparison = compare(tmp_path / "photos", shapes=["9x8x1", "16x16x1"], **options)
    assert comparison.pictures == 59
    assert {(c.pictures, c.error) for c in comparison.candidates} == {(59, None)}
    again = compare(tmp_path / "photos", shapes=["9x8x1"], **options)
    assert again.seconds["pictures"] == 0.0
    assert (
        again.candidates[0].right
        == {c.name: c.right for c in comparison.candidates}[again.candidates[0].name]
    )


def test_a_class_of_two_pictures_all_of_one_size(tmp_path, network):
    for label, count in (("a", 12), ("b", 2)):
        (tmp_path / label).mkdir()
        for i in range(count):
            Image.new("L", (9, 9), 100 * (label == "b") + i).save(tmp_path / label / f"{i}.png")
    comparison = compare(
        tmp_path, shapes=["32x32x1"], strategies=["rebuild"], backbones=[network], weights=None,
        latency=False,
    )  # fmt: skip
    (one,) = comparison.candidates
    assert (one.error, one.pictures) == (None, 14)
    assert [str(s) for s in usual_shapes(open_source(tmp_path))] == ["64x64x1"]


@pytest.mark.slow
def test_a_killed_comparison_goes_on(photos, network, tmp_path, run_program):
    out = tmp_path / "a"
    code = f"""
import inshape, os, pathlib, signal, time
from inshape.comparison import measure
original, kept = measure._adapt, pathlib.Path({str(out)!r}, "candidates")
def adapt(candidate, *rest):
    if candidate.input_shape == "9x8x1":
        return original(candidate, *rest)
    until = time.monotonic() + 60
    while not list(kept.glob("*.json")) and time.monotonic() < until:
        time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGKILL)
measure._adapt = adapt
inshape.compare({str(photos)!r}, shapes=["9x8x1", "16x16x1"], strategies=["rebuild"],
    backbones=[{network!r}], weights=None, latency=False, out={str(out)!r})
"""
    ended = run_program(code)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    (first,) = out.glob("candidates/*.json")
    stamp = json.loads(first.read_text())["notes"]["seconds"]["build"]
    comparison = compare(
        photos, shapes=["9x8x1", "16x16x1"], strategies=["rebuild"], backbones=[network],
        weights=None, latency=False, out=out,
    )  # fmt: skip
    by_shape = {c.input_shape: c for c in comparison.candidates}
    assert by_shape["9x8x1"].seconds["build"] == stamp
    assert {c.pictures for c in comparison.candidates} == {60}


def test_what_is_left_out_is_said(tmp_path, monkeypatch):
    for number in range(4):
        path = tmp_path / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((9, 9), number, np.uint8)).save(path)
    (tmp_path / "a" / "clip.mp4").touch()

    def stop(*_):
        raise RequestError("far enough")

    monkeypatch.setattr("inshape.comparison.api._list_candidates", stop)
    line = r"left out 1 file that is no picture: 1 \.mp4"
    with pytest.warns(UserWarning, match=line), pytest.raises(RequestError, match="far enough"):
        compare(tmp_path, "40x33x1")


def test_patches_are_tried_before_a_candidate_is_dropped(photos, tmp_path):
    """One fits only in patches, which its costs are then those of; one does not fit at all."""
    keras.utils.set_random_seed(2)
    image = keras.Input((32, 32, 1))
    x = keras.layers.Conv2D(16, 3, padding="same", activation="relu")(image)
    x = keras.layers.DepthwiseConv2D(3, strides=2, padding="same")(x)
    x = keras.layers.Conv2D(12, 3, strides=2, activation="relu", name="last")(x)
    path = tmp_path / "wide.keras"
    keras.Model(image, keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(x))).save(path)
    options = {
        "strategies": "rebuild", "backbones": path, "weights": None, "latency": False,
    }  # fmt: skip
    whole = inshape.plan(path, "32x32x1", strategy="rebuild", classes=2)
    limit = 3 * whole.footprint.ram_bytes // 4
    comparison = compare(photos, shapes="32x32x1,80x80x1", max_ram=limit, **options)
    small, large = sorted(comparison.candidates, key=lambda c: c.macs)
    plan = inshape.plan(path, "32x32x1", strategy="rebuild", classes=2, max_ram=limit)
    assert plan.patches
    assert (small.dropped, small.ram_bytes, small.macs) == (
        None, plan.footprint.ram_bytes, plan.macs,
    )  # fmt: skip
    assert small.plan["patches"] == plan.as_dict()["patches"]
    assert large.dropped.startswith("RAM ")
    assert comparison.command.endswith(f"--max-ram {limit}B")

"""Masks from folders of pictures to a file for a device."""

from __future__ import annotations

import json
import re
import runpy
import shutil
import sys
from contextlib import redirect_stdout
from functools import partial
from io import StringIO

import keras
import numpy as np
import pytest
from PIL import Image
from tests.tasks.kills import killed_and_resumed

import inshape
from inshape.data.augment import augmenter
from inshape.data.batches import Batches
from inshape.data.masks import MaskOptions, in_colours
from inshape.data.prepare import Preparation
from inshape.data.sources import open_source
from inshape.errors import DataError, RequestError
from inshape.features.cut import head_cut, section, unfrozen_from
from inshape.features.places import at_places
from inshape.features.views import change_for, targets_of_view
from inshape.geometry.footprint import footprint
from inshape.graph.read import read
from inshape.heads import Head
from inshape.runtime.frozen import Forward
from inshape.tasks.find import restore_task
from inshape.tasks.segmentation import Segmentation, enlarge
from inshape.training.feeds import PictureFeed

layers = keras.layers
NAMES = ("ground", "ball", "box")
RNG = np.random.default_rng(0)
QUICK = {"epochs": 3, "head_epochs": 12, "batch_size": 4, "learning_rate": 0.01}


def network():
    keras.utils.set_random_seed(3)
    image = keras.Input((32, 40, 1))
    x = layers.Rescaling(1 / 127.5, offset=-1)(image)
    for number, width in enumerate((8, 12, 16)):
        x = layers.Conv2D(width, 3, strides=2, padding="same", name=f"down_{number}")(x)
        x = layers.ReLU(name=f"relu_{number}")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, layers.Dense(7)(x), name="small")


def drawn(rng, hw=(32, 40)):
    """A light ball and a dark box on grey, and a mask in which the ball's rim is ignored."""
    rows, columns = np.mgrid[: hw[0], : hw[1]]
    y, x = rng.uniform(8, hw[0] - 8), rng.uniform(8, hw[1] - 8)
    far = np.hypot(rows - y, columns - x)
    top, left = int(rng.integers(0, hw[0] - 12)), int(rng.integers(0, hw[1] - 12))
    mask = np.zeros(hw, np.uint8)
    mask[top : top + 12, left : left + 12] = 2
    mask[far < 9] = 255
    mask[far < 8] = 1
    picture = np.choose(np.where(far < 9, 1, mask), (128, 230, 20)) + rng.normal(0, 8, hw)
    return np.clip(picture, 0, 255).astype(np.uint8), mask


def write(folder, count, rng, hw=(32, 40)):
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for number in range(count):
        picture, mask = drawn(rng, hw)
        Image.fromarray(picture).save(folder / "images" / f"{number:02}.png")
        in_colours(mask).save(folder / "masks" / f"{number:02}.png")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Pictures in two splits, with the names of classes, and a network."""
    home = tmp_path_factory.mktemp("masks")
    rng = np.random.default_rng(1)
    write(home / "scenes" / "train", 32, rng)
    write(home / "scenes" / "val", 8, rng)
    (home / "scenes" / "classes.txt").write_text("\n".join(NAMES))
    network().save(home / "small.keras")
    return home


def train(home, out, **choices):
    return inshape.train(
        home / "scenes", "32x40x1", out=out, backbone=home / "small.keras",
        **{"strategy": "rebuild", "weights": None, **QUICK, **choices},
    )  # fmt: skip


@pytest.fixture(scope="module")
def run(home):
    """Killed in its second phase, and gone on with."""
    return killed_and_resumed(partial(train, home), home / "run", "mean_iou")


@pytest.fixture(scope="module")
def exports(run):
    return inshape.export(run, ["litert", "litert-int8"], timing=False)


def test_it_is_known_by_its_folders_and_learns(home, run):
    assert run.task == Segmentation(NAMES)
    assert restore_task(run.record["task"], NAMES) == run.task
    score = run.record["metrics"]["validation"]["mean_iou"]
    evaluation = inshape.evaluate(run, home / "scenes", save=False)
    assert evaluation.split == "validation"
    assert evaluation.scores.main.value == pytest.approx(score, abs=5e-3)  # maps are kept in halves
    assert score > 0.6
    assert {c.name for c in evaluation.scores.classes} == set(NAMES)
    assert "share of pixels" in str(evaluation)
    assert "off by" in str(evaluation)
    page = (run.folder / "report.html").read_text()
    assert "Furthest off" in page
    assert page.count('alt="what is right"') == page.count('alt="what was answered"') > 4


def test_its_baseline_is_asked_about_places_of_the_same_pictures(home):
    # The weights of the file; with a finer map, which changes none of it.
    run = train(home, home / "based", weights="imagenet", epochs=0, map_stride=2)
    baseline = json.loads((run.folder / "baseline.json").read_text())
    assert baseline["score_name"] == "mean IoU"
    assert baseline["pictures"] == 8
    gained = baseline["trained"]["value"] - baseline["score"]["value"]
    assert baseline["gain"]["value"] == pytest.approx(gained, abs=1e-3)
    assert 0 < baseline["score"]["value"] < 1
    (file,) = inshape.export(run, ["litert-int8"], timing=False).files
    assert file.is_trusted
    assert abs(file.accuracy_change.value) < 0.015
    assert run.load_model().output_shape == (None, 16, 20, 3)


def test_places_say_what_lies_there():
    masks = np.full((1, 2, 4), 255, np.uint8)
    masks[0, 1, 3] = 2
    places = np.array([[0.99, 0.99], [0.49, 0.99], [0.5, 0.75]], np.float32)
    there = Segmentation(NAMES).at_places(masks, places)
    assert there.ravel().tolist() == [2, 255, 2]
    rows, labels = Segmentation(NAMES).one_by_one(np.arange(6.0).reshape(1, 3, 1, 2), there)
    assert (rows.tolist(), labels.tolist()) == ([[0, 1], [4, 5]], [2, 2])


def test_pictures_are_kept_in_proportion_by_their_rarest_class():
    masks = np.full((4, 2, 2), 255, np.uint8)
    masks[:3, 0, 0] = 0
    masks[1, 1], masks[2, 1, 1] = 1, 2
    masks[1, 0, 1] = 2  # in two pictures, and the second class in one
    assert Segmentation(NAMES).strata(masks).tolist() == [0, 1, 2, -1]


def test_a_linear_model_at_places_answers_as_its_enlarged_map():
    maps = RNG.normal(size=(1, 3, 5, 4)).astype(np.float32)
    kernel = RNG.normal(size=(4, 2)).astype(np.float32)
    centres = np.stack(np.meshgrid((np.arange(6) + 0.5) / 6, (np.arange(10) + 0.5) / 10,
                                   indexing="ij"), axis=-1).reshape(-1, 2)  # fmt: skip
    seen = at_places(maps, centres.astype(np.float32)) @ kernel
    np.testing.assert_allclose(
        seen.reshape(6, 10, 2), enlarge(maps[0] @ kernel, (6, 10)), rtol=1e-4, atol=1e-5
    )


def test_a_killed_training_ends_as_if_it_had_not_been(home, run):
    whole = train(home, home / "whole")
    assert whole.history_rows() == run.history_rows()
    pairs = zip(whole.load_model().get_weights(), run.load_model().get_weights(), strict=True)
    for ours, theirs in pairs:
        np.testing.assert_array_equal(ours, theirs)


def test_masks_follow_new_pictures_in_every_epoch(home):
    batches = Batches.open(open_source(home / "scenes"), Preparation.of("32x40x1"))
    task = batches.catalogue.task
    change = augmenter("light", channels=1, moves_as=task.moves_as)
    feed = PictureFeed(batches, change, task, 0.1, batch_size=8, seed=0)
    pictures, targets = next(feed.epoch(3))
    assert targets.shape == (8, 32, 40, 1)
    levels = [pictures[targets == number].mean() for number in range(3)]
    np.testing.assert_allclose(levels, (128, 230, 20), atol=12)
    assert task.row_weights(targets, np.ones(3, np.float32))[targets[..., 0] == 255].max() == 0


def test_masks_are_written_at_the_size_of_the_picture(home, run, tmp_path):
    large = tmp_path / "large.png"
    Image.open(home / "scenes/val/images/00.png").resize((80, 64)).save(large)
    (one,) = inshape.predict(run, large, save_masks=tmp_path / "masks", csv=tmp_path / "shares.csv")
    assert one.label == one.top[0][0]
    assert sum(share for _, share in one.top) <= 1.0001
    assert one.probability is None
    with Image.open(one.mask) as mask:
        assert (mask.size, mask.mode) == ((80, 64), "P")
        assert set(np.unique(mask)) <= {0, 1, 2}
    truth = np.asarray(Image.open(home / "scenes/val/masks/00.png").resize((80, 64), 0))
    known = truth != 255
    assert (np.asarray(Image.open(one.mask)) == truth)[known].mean() > 0.8
    assert (tmp_path / "masks" / "00000_large_over.png").exists()
    assert (tmp_path / "shares.csv").read_text().startswith("picture,label_1,share_1")
    # Masks beside pictures are none to predict.
    assert len(inshape.predict(run, home / "scenes" / "val")) == 8


def test_files_agree_and_their_example_draws(run, exports, home, tmp_path, monkeypatch):
    for file in exports.files:
        assert file.is_trusted
        assert abs(file.accuracy_change.value) < (0.015 if "int8" in file.format else 1e-4)
        measured = inshape.evaluate(file.path, home / "scenes").scores.main.value
        assert measured == pytest.approx(file.accuracy.value, abs=1e-3)
    int8 = exports.files[1]
    assert int8.planned_ram_bytes is not None
    picture = home / "scenes/val/images/01.png"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["", str(picture)])
    said = StringIO()
    with redirect_stdout(said):
        runpy.run_path(f"{exports.files[0].path}.py")
    inshape.predict(run, picture, save_masks=tmp_path / "ours")
    with Image.open("mask.png") as theirs, Image.open(tmp_path / "ours/00000_01.png") as ours:
        assert (np.asarray(theirs) == np.asarray(ours)).mean() > 0.999
    assert said.getvalue().split()[0] == "ground"


@pytest.mark.parametrize(("map_stride", "map_hw"), [(8, (9, 11)), (2, (18, 21))])
def test_the_plan_is_the_model(home, map_stride, map_hw):
    head = Head(classes=3, decoder="lr-aspp", map_stride=map_stride)
    plan = inshape.plan(home / "small.keras", "35x41x3", strategy="rebuild", head=head)
    model = plan.build()
    assert model.output_shape == (None, *map_hw, 3)
    assert plan.geometry.params == model.count_params()
    assert plan.footprint == footprint(read(model), plan.static_shape)
    assert plan.footprint.ram_bytes is not None


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        (
            {"decoder": None, "classes": 3, "map_stride": 4},
            "map_stride=4 for a head that pools its map; expected masks or boxes, which are maps",
        ),
        ({"pool": "max", "classes": 3}, "expected neither, since it does not pool its map"),
        ({"activation": "softmax", "classes": 3}, "expected logits, which are a map"),
        ({}, "decoder='lr-aspp' without classes; expected how many it tells apart"),
    ],
)
def test_what_the_decoder_cannot_be_is_refused(home, facts, message):
    def plan():
        head = Head(**{"decoder": "lr-aspp", **facts})
        inshape.plan(home / "small.keras", "35x41x1", head=head)

    with pytest.raises(RequestError, match=re.escape(message)):
        plan()


def test_a_map_finer_than_there_is_one_is_refused():
    image = keras.Input((32, 40, 1))
    x = image
    for width in (4, 6, 8):
        x = layers.Conv2D(width, 3, strides=2, padding="same")(x)
    model = keras.Model(image, layers.GlobalAveragePooling2D()(x), name="plain")
    text = "map_stride=1: the finest map of plain is at stride 2; leave map_stride out, or name"
    with pytest.raises(RequestError, match=text):
        inshape.plan(model, "35x41x1", head=Head(classes=3, decoder="lr-aspp", map_stride=1))


@pytest.mark.parametrize("map_stride", [8, 2])
def test_a_model_for_any_size_is_that_of_each(home, randomise, map_stride):
    head = Head(classes=3, decoder="lr-aspp", map_stride=map_stride)
    of_any = randomise(inshape.adapt(home / "small.keras", "?x?x1", head=head))
    for hw in ((35, 41), (64, 52)):
        shape = f"{hw[0]}x{hw[1]}x1"
        fixed = inshape.adapt(home / "small.keras", shape, strategy="rebuild", head=head)
        for layer in fixed.layers:
            layer.set_weights(of_any.get_layer(layer.name).get_weights() if layer.weights else [])
        rows = np.random.default_rng(0).uniform(0, 255, (2, *hw, 1)).astype("float32")
        # Also where nobody says whether it is a training, which a resizing would.
        for answer in (fixed(rows), fixed(rows, training=False)):
            np.testing.assert_allclose(of_any(rows, training=False), answer, atol=1e-5)
        forward = Forward(of_any, rows)
        assert forward.engine == "litert"
        np.testing.assert_allclose(forward(rows), fixed(rows), atol=1e-3)


def test_what_passes_by_goes_through_a_cut_as_well(home, randomise):
    head = Head(classes=3, decoder="lr-aspp", map_stride=2)
    model = inshape.adapt(home / "small.keras", "35x41x1", strategy="rebuild", head=head)
    randomise(model)
    rows = np.random.default_rng(0).uniform(0, 255, (2, 35, 41, 1)).astype("float32")
    end = head_cut(model, (35, 41))
    assert sorted(end.beside) == [(9, 11, 12), (18, 21, 8)]
    for start in ("last", "down_2"):
        cut = unfrozen_from(model, start, (35, 41))
        parts = [section(model, None, cut), section(model, cut, end), section(model, end, None)]
        answer = rows
        for part in parts:
            answer = part(answer)
        np.testing.assert_allclose(answer, model(rows), atol=1e-5)


@pytest.mark.parametrize("fit", ["stretch", "letterbox", "crop"])
def test_a_mask_goes_where_its_picture_goes(tmp_path, fit):
    # A picture whose values are its own mask's: wherever a pixel lands, its class lands too.
    write(tmp_path, 3, np.random.default_rng(2), (31, 57))
    for path in (tmp_path / "masks").iterdir():
        mask = np.asarray(Image.open(path))
        Image.fromarray(mask * np.uint8(80)).save(tmp_path / "images" / path.name)
    masks = MaskOptions(mask_ignore="none")
    catalogue = open_source(tmp_path, masks=masks)
    assert catalogue.class_names == ("0", "1", "2", "255")
    preparation = Preparation.of("40x33x1", fit=fit, interpolation="nearest", fill=9.0)
    batches = Batches.open(catalogue, preparation)
    labels = batches.labels()
    ((pictures, again),) = batches.iterate(batch_size=8)
    np.testing.assert_array_equal(labels, again)
    values = np.array([0, 80, 160, 255 * 80 % 256], np.uint8)
    is_bar = labels == 255
    np.testing.assert_array_equal(values[labels[~is_bar]], pictures[..., 0][~is_bar])
    assert (pictures[..., 0][is_bar] == 9).all()
    assert is_bar.any() == (fit == "letterbox")


@pytest.mark.parametrize("view", ["mirrored", 2])
def test_a_mask_is_changed_as_its_picture_is(view):
    rng = np.random.default_rng(3)
    masks = np.stack([drawn(rng)[1] for _ in range(70)])
    masks[masks == 255] = 1
    settings = {"channels": 1, "seed": 5, "flip": True}
    change = change_for(view, "light", **settings)
    pictures = masks[..., None].astype("float32") * 100
    moved = np.concatenate([change(pictures[:64], 0), change(pictures[64:], 1)])[..., 0] / 100
    targets = targets_of_view(
        Segmentation(NAMES), masks, view, "light", size_hw=(32, 40), smoothing=0.0, **settings
    )
    labels = targets[..., 0]
    assert labels.dtype == np.uint8
    assert set(np.unique(labels)) <= {0, 1, 2}
    # Pictures are interpolated, masks are not: they differ at outlines alone.
    assert (np.abs(moved - labels) < 0.51).mean() > 0.97
    assert (labels != masks).mean() > 0.05


def test_colours_and_erased_places_leave_masks_alone():
    rng = np.random.default_rng(4)
    masks = np.stack([drawn(rng)[1] for _ in range(8)])[..., None].astype("float32")
    change = augmenter("strong", channels=1, mixup=0.5, moves_as="segmentation_masks")
    _, moved = change(np.zeros((8, 32, 40, 1), "float32"), masks, step=0)
    assert set(np.unique(moved)) <= {0, 1, 2, 255}


def test_maps_are_enlarged_as_keras_and_pillow_do():
    maps = np.random.default_rng(5).normal(size=(5, 7, 2)).astype("float32")
    ours = enlarge(maps, (33, 20))
    keras_s = keras.ops.image.resize(maps[None], (33, 20), interpolation="bilinear")[0]
    np.testing.assert_allclose(ours, keras_s, atol=1e-5)
    one = Image.fromarray(maps[..., 0]).resize((20, 33), Image.Resampling.BILINEAR)
    np.testing.assert_allclose(ours[..., 0], one, atol=1e-5)


def test_scores_are_counted_by_hand():
    task = Segmentation(("a", "b", "c"))
    right = np.array([[[0, 0, 1, 255]]], np.uint8)
    maps = np.zeros((1, 1, 4, 3), "float32")
    maps[0, 0, [0, 1, 2, 3], [0, 1, 1, 2]] = 1.0
    scores = task.score(maps, right)
    # a: 1 of 2; b: 1 of 2; c neither occurs nor counts, since its pixel is ignored.
    assert scores.mean_iou.value == 0.5
    assert scores.pixel_accuracy.value == pytest.approx(2 / 3)
    assert np.isnan(scores.classes[2].iou.value)
    score, loss = task.score_and_loss(maps, right)
    assert score == 0.5
    of_hit, of_miss = np.log(np.e + 2) - 1, np.log(np.e + 2)
    assert loss == pytest.approx((2 * of_hit + of_miss) / 3)
    assert task.guessing(right) == (pytest.approx(1 / 3), "answering 'a' everywhere")
    metric = keras.metrics.MeanIoU(**task.metric[1])
    metric.update_state(
        right[..., None], maps, task.counted(task.row_weights(right[..., None], np.ones(3)))
    )
    assert float(metric.result()) == pytest.approx(0.5)


@pytest.mark.parametrize("layout", ["flat", "inside", "annot"])
def test_every_layout_is_read(home, tmp_path, layout):
    source = home / "scenes"
    if layout == "flat":
        shutil.copytree(source / "train", tmp_path, dirs_exist_ok=True)
    for split in ("train", "val") if layout != "flat" else ():
        for name, end in (("images", ""), ("masks", "annot")):
            inside = tmp_path / name / split
            shutil.copytree(
                source / split / name, inside if layout == "inside" else tmp_path / f"{split}{end}"
            )
    catalogue = open_source(tmp_path)
    assert catalogue.class_names == ("0", "1", "2")
    splits = [] if layout == "flat" else ["train", "validation"]
    assert len(catalogue) == (32 if layout == "flat" else 40)
    assert {s for s in catalogue.splits if s} == set(splits)


def test_what_does_not_fit_together_is_named_and_counted(tmp_path):
    write(tmp_path, 60, np.random.default_rng(6))
    masks = tmp_path / "masks"
    (masks / "00.png").unlink()
    (masks / "01.png").rename(masks / "other.png")
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(masks / "02.png")
    odd = np.asarray(Image.open(masks / "03.png")).copy()
    odd[0, 0] = 17
    Image.fromarray(odd).save(masks / "03.png")
    names = tmp_path / "classes.json"
    names.write_text(json.dumps({"ground": 0, "ball": 1, "box": 2}))
    catalogue = open_source(tmp_path)
    assert catalogue.class_names == NAMES
    assert len(catalogue) == 56
    odd = "holds 17; expected 0 to 2, or what is ignored (255)"
    reasons = {s.name: s.reason for s in catalogue.skipped}
    assert reasons == {
        "images/02.png": "its mask masks/02.png is 9x9, and the picture 32x40",
        "images/03.png": f"its mask masks/03.png {odd}",
    }
    lines = " ".join(catalogue.warnings)
    assert "2 pictures without a mask of the same name, left out: images/00.png, images/01" in lines
    assert "1 mask without a picture of the same name, left out: masks/other.png" in lines


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda home: shutil.rmtree(home / "masks"), "no folder of masks beside one of pictures"),
        (lambda home: [p.unlink() for p in (home / "masks").iterdir()], "no folder of masks"),
        (
            lambda home: [
                Image.open(p).convert("RGB").save(p) for p in (home / "masks").iterdir()
            ],
            "of mode RGB; expected a class number per pixel, grey or a palette",
        ),
        (
            lambda home: [
                Image.fromarray(np.full((32, 40), 255, np.uint8)).save(p)
                for p in (home / "masks").iterdir()
            ],
            "masks with 255, of which 255 is ignored; expected two classes or more",
        ),
        (
            lambda home: (home / "classes.txt").write_text("one"),
            "classes.txt: one; expected two names or more, each once",
        ),
        (
            lambda home: (home / "classes.json").write_text("{"),
            "expected the names of classes, one per line, or JSON",
        ),
    ],
)  # fmt: skip
def test_bad_masks_are_one_line(tmp_path, change, message):
    write(tmp_path, 4, np.random.default_rng(7))
    change(tmp_path)
    with pytest.raises(DataError, match=re.escape(message)):
        open_source(tmp_path, task="segmentation")


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"distil": True}, "distil is not built yet for segmentation"),
        ({"cutmix": 0.5}, "cutmix is not built yet for segmentation"),
        ({"mask_ignore": "300"}, "expected numbers from 0 to 255"),
        ({"activation": "softmax"}, "activation"),
    ],
)
def test_what_is_not_built_is_refused(home, tmp_path, choices, message):
    with pytest.raises((RequestError, TypeError), match=re.escape(message)):
        train(home, tmp_path / "run", **choices)
    assert not (tmp_path / "run").exists()


def test_it_is_compared_by_a_linear_model_at_places_of_its_maps(home):
    # Half of the size leaves a quarter of the places, in which less can be told apart.
    shapes = ["16x24x1", "32x40x1"]
    options = {"backbones": [str(home / "small.keras")], "strategies": "rebuild,restride:4"}
    comparison = inshape.compare(home / "scenes", shapes=shapes, latency=False, **options)
    names = [f"{shape} {strategy}" for strategy in ("rebuild", "restride:4") for shape in shapes]
    small, large, *finer = sorted(
        comparison.candidates, key=lambda c: names.index(f"{c.input_shape} {c.strategy}")
    )
    assert [c.error for c in finer] == [None, None]
    assert finer[1].macs > large.macs
    assert None not in (small.accuracy, large.accuracy)
    assert large.accuracy.value > small.accuracy.value > 0
    assert comparison.record["score_name"] == "mean IoU"

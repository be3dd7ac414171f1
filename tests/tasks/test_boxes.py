"""Boxes from files to a file for a device."""

from __future__ import annotations

import contextlib
import io
import json
import re
import runpy
import shutil
import sys
from contextlib import redirect_stdout
from functools import partial

import keras
import numpy as np
import pytest
from PIL import Image
from tests.tasks.kills import killed_and_resumed

import inshape
from inshape.data.augment import augmenter
from inshape.data.batches import Batches
from inshape.data.prepare import Preparation
from inshape.data.sources import open_source
from inshape.errors import DataError, RequestError
from inshape.features.cut import head_cut
from inshape.features.views import change_for, targets_of_view
from inshape.geometry.footprint import footprint
from inshape.graph.read import read
from inshape.heads import Head
from inshape.runtime.frozen import Forward
from inshape.tasks.box_scores import Tables, _evaluated
from inshape.tasks.boxes import loss_of_maps, middles, read_boxes
from inshape.tasks.detection import Detection
from inshape.tasks.find import restore_task
from inshape.training.feeds import PictureFeed

layers = keras.layers
NAMES = ("ball", "box")
HW = (48, 64)
QUICK = {"epochs": 2, "head_epochs": 15, "batch_size": 4, "learning_rate": 0.02, "patience": 15}


def network():
    keras.utils.set_random_seed(3)
    image = keras.Input((*HW, 1))
    x = layers.Rescaling(1 / 127.5, offset=-1)(image)
    for number, width in enumerate((8, 12, 16)):
        x = layers.Conv2D(width, 3, strides=2, padding="same", name=f"down_{number}")(x)
        x = layers.ReLU(name=f"relu_{number}")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, layers.Dense(7)(x), name="small")


def drawn(rng, hw=HW):
    """A light ball and a dark box beside it on grey, with their edges and names."""
    rows, columns = np.mgrid[: hw[0], : hw[1]]
    middle = hw[1] // 2
    radius, (height, width) = int(rng.integers(5, 9)), rng.integers(10, 20, 2)
    y, x = rng.integers(radius, hw[0] - radius), rng.integers(radius, middle - radius)
    top, left = rng.integers(0, hw[0] - height), rng.integers(middle, hw[1] - width)
    picture = np.full(hw, 128.0)
    picture[np.hypot(rows + 0.5 - y, columns + 0.5 - x) <= radius] = 230
    picture[top : top + height, left : left + width] = 20
    boxes = [
        ("ball", y - radius, x - radius, y + radius, x + radius),
        ("box", top, left, top + height, left + width),
    ]
    picture += rng.normal(0, 6, hw)
    return np.clip(picture, 0, 255).astype(np.uint8), boxes


def as_xml(boxes, hw, extra=""):
    objects = "".join(
        f"<object><name>{name}</name><part><bndbox><xmin>1</xmin></bndbox></part><bndbox>"
        f"<xmin>{float(left) + 1}</xmin><ymin>{float(top) + 1}</ymin>"
        f"<xmax>{right}</xmax><ymax>{bottom}</ymax>"
        "</bndbox></object>"
        for name, top, left, bottom, right in boxes
    )
    size = f"<size><width>{hw[1]}</width><height>{hw[0]}</height></size>"
    return f"{extra}<annotation>{size}{objects}</annotation>"


def write_voc(folder, counts, rng, hw=HW):
    for name in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for split, count in counts.items():
        names = [f"{split}_{number:02}" for number in range(count)]
        for name in names:
            picture, boxes = drawn(rng, hw)
            Image.fromarray(picture).save(folder / "JPEGImages" / f"{name}.png")
            (folder / "Annotations" / f"{name}.xml").write_text(as_xml(boxes, hw))
        (folder / "ImageSets/Main" / f"{split}.txt").write_text("\n".join(names))


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Pictures in two splits, and a network."""
    home = tmp_path_factory.mktemp("boxes")
    write_voc(home / "things", {"train": 32, "val": 8}, np.random.default_rng(1))
    network().save(home / "small.keras")
    return home


def train(home, out, **choices):
    return inshape.train(
        home / "things", "48x64x1", out=out, backbone=home / "small.keras", weights=None,
        **{"strategy": "rebuild", **QUICK, **choices},
    )  # fmt: skip


@pytest.fixture(scope="module")
def run(home):
    """Killed in its second phase, and gone on with."""
    return killed_and_resumed(partial(train, home), home / "run", "map50")


@pytest.fixture(scope="module")
def exports(run):
    return inshape.export(run, ["litert", "litert-int8"], timing=False)


def test_it_is_known_by_its_files_and_learns(home, run):
    assert run.task == Detection(NAMES, per_picture=2.0)
    assert restore_task(run.record["task"], NAMES) == run.task
    score = run.record["metrics"]["validation"]["map50"]
    evaluation = inshape.evaluate(run, home / "things", save=False)
    assert evaluation.split == "validation"
    assert evaluation.scores.main.value == pytest.approx(score, abs=0.02)  # kept in halves
    assert score > 0.7
    assert {c.name for c in evaluation.scores.classes} == set(NAMES)
    assert "AP50" in str(evaluation)
    page = (run.folder / "report.html").read_text()
    assert page.count('alt="what is right"') == page.count('alt="what was answered"')
    assert "AP50" in page


def test_a_killed_training_ends_as_if_it_had_not_been(home, run):
    whole = train(home, home / "whole")
    assert whole.history_rows() == run.history_rows()
    pairs = zip(whole.load_model().get_weights(), run.load_model().get_weights(), strict=True)
    for ours, theirs in pairs:
        np.testing.assert_array_equal(ours, theirs)


def test_boxes_are_told_in_pixels_of_the_picture(home, run, tmp_path):
    large = tmp_path / "large.png"
    Image.open(home / "things/JPEGImages/val_00.png").resize((128, 192)).save(large)
    options = {"save_boxes": tmp_path / "drawn", "csv": tmp_path / "boxes.csv"}
    (one,) = inshape.predict(run, large, **options)
    catalogue = open_source(home / "things")
    truth = catalogue.labels[catalogue.names.index("JPEGImages/val_00.png")].truth
    for number, edges in zip(truth.numbers, truth.edges, strict=True):
        found = next(box for box in one.boxes if box.label == NAMES[number])
        np.testing.assert_allclose(found.edges, np.array(edges) * (4, 2, 4, 2), atol=14)
        assert 0.3 <= found.probability <= 1
    assert re.fullmatch(r"\d+ (ball|box).*", one.label)
    with Image.open(one.drawn) as picture:
        assert (picture.size, picture.mode) == ((128, 192), "RGB")
    assert set(one.as_dict()["boxes"][0]) == {
        "label", "probability", "top", "left", "bottom", "right",
    }  # fmt: skip
    rows = (tmp_path / "boxes.csv").read_text().splitlines()
    assert rows[0] == "picture,label,probability,top,left,bottom,right"
    assert len(rows) == 1 + len(one.boxes)
    assert len(inshape.predict(run, large, tta=True)[0].boxes) >= 1
    with pytest.raises(RequestError, match=r"masks of .* whose task is detection"):
        inshape.predict(run, large, save_masks=tmp_path / "masks")


def test_files_agree_and_their_example_draws(run, exports, home, tmp_path, monkeypatch):
    for file in exports.files:
        assert file.is_trusted or "int8" in file.format  # of two boxes, each is half of them
        assert abs(file.accuracy_change.value) < (0.05 if "int8" in file.format else 1e-4)
        measured = inshape.evaluate(file.path, home / "things").scores.main.value
        assert measured == pytest.approx(file.accuracy.value, abs=1e-3)
    assert exports.files[1].planned_ram_bytes is not None
    picture = home / "things/JPEGImages/val_01.png"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["", str(picture)])
    said = io.StringIO()
    with redirect_stdout(said):
        runpy.run_path(f"{exports.files[0].path}.py")
    (one,) = inshape.predict(run, picture)
    lines = [line.split() for line in said.getvalue().splitlines()]
    assert [line[0] for line in lines] == [box.label for box in one.boxes]
    for line, box in zip(lines, one.boxes, strict=True):
        left, top, right, bottom = map(float, line[2:])
        np.testing.assert_allclose((top, left, bottom, right), box.edges, atol=0.11)
    with Image.open("boxes.png") as picture:
        assert picture.size == HW[::-1]


@pytest.mark.parametrize(("map_stride", "map_hw"), [(8, (9, 11)), (2, (18, 21))])
def test_the_plan_is_the_model(home, map_stride, map_hw):
    head = Head(classes=3, decoder="boxes", map_stride=map_stride)
    plan = inshape.plan(home / "small.keras", "35x41x3", strategy="rebuild", head=head)
    model = plan.build()
    assert model.output_shape == (None, *map_hw, 7)
    assert plan.geometry.params == model.count_params()
    assert plan.footprint == footprint(read(model), plan.static_shape)
    assert plan.footprint.ram_bytes is not None


@pytest.mark.parametrize("map_stride", [8, 2])
def test_a_model_for_any_size_is_that_of_each(home, randomise, map_stride):
    head = Head(classes=2, decoder="boxes", map_stride=map_stride)
    of_any = randomise(inshape.adapt(home / "small.keras", "?x?x1", head=head))
    for hw in ((35, 41), (64, 52)):
        shape = f"{hw[0]}x{hw[1]}x1"
        fixed = inshape.adapt(home / "small.keras", shape, strategy="rebuild", head=head)
        for layer in fixed.layers:
            layer.set_weights(of_any.get_layer(layer.name).get_weights() if layer.weights else [])
        rows = np.random.default_rng(0).uniform(0, 255, (2, *hw, 1)).astype("float32")
        # Also where nobody says whether it is a training, which a resizing would.
        for answer in (fixed(rows), fixed(rows, training=False)):
            np.testing.assert_allclose(of_any(rows, training=False), answer, atol=1e-4)
        forward = Forward(of_any, rows)
        assert forward.engine == "litert"
        np.testing.assert_allclose(forward(rows), fixed(rows), atol=1e-3)


def test_earlier_maps_pass_by_a_pretrained_network():
    head = Head(classes=3, decoder="boxes")
    model = inshape.adapt(
        "MobileNetV3Small-minimalistic", "96x128x3", weights=None, strategy="rebuild", head=head
    )
    end = head_cut(model, (96, 128))
    assert [shape[:2] for shape in (end.map_hw, *end.beside)] == [(3, 4), (6, 8), (12, 16)]
    rows = np.random.default_rng(0).uniform(0, 255, (2, 96, 128, 3)).astype("float32")
    np.testing.assert_allclose(model(rows), model(rows, training=False), atol=1e-4)


@pytest.mark.parametrize("fit", ["stretch", "letterbox", "crop"])
@pytest.mark.parametrize("shape", ["40x33x1", "24x64x1"])
def test_a_box_goes_where_its_picture_goes(tmp_path, fit, shape):
    # A picture that is black but for its box: wherever its pixels land, the box's edges land too.
    rng, hw = np.random.default_rng(2), (62, 114)
    write_voc(tmp_path, {"train": 6}, rng, hw)
    for path in (tmp_path / "Annotations").iterdir():
        box = ("box", *(int(n) for n in (rng.integers(0, 30), rng.integers(0, 60), 55, 100)))
        path.write_text(as_xml([box], hw))
        picture = np.zeros(hw, np.uint8)
        picture[box[1] : box[3], box[2] : box[4]] = 255
        Image.fromarray(picture).save(tmp_path / "JPEGImages" / f"{path.stem}.png")
    preparation = Preparation.of(shape, fit=fit)
    batches = Batches.open(open_source(tmp_path), preparation)
    height, width = preparation.shape.hw
    ((pictures, _),) = batches.iterate(batch_size=8)
    for picture, (row,) in zip(pictures[..., 0] / 255, batches.labels(), strict=True):
        np.testing.assert_allclose(extent(picture), row[:4] * np.tile((height, width), 2), atol=0.6)


def extent(picture):
    """The edges of what is light, by how much of each row and column is."""
    found = []
    for axis in (1, 0):
        profile = picture.max(axis=axis)
        places = np.flatnonzero(profile > 0.5 / 255)
        first, last = places[0], places[-1]
        found.append((first + 1 - profile[first], last + profile[last]))
    (top, bottom), (left, right) = found
    return top, left, bottom, right


@pytest.mark.parametrize("kind", ["light", "strong"])
@pytest.mark.parametrize("view", ["mirrored", 2])
def test_a_box_is_changed_as_its_picture_is(kind, view):
    rng, count = np.random.default_rng(3), 70
    pictures = np.zeros((count, *HW, 1), "float32")
    labels = np.zeros((count, 2, 6), "float32")
    labels[:, 1, 4] = -1
    for number in range(count):
        top, left = rng.integers(8, 20), rng.integers(8, 30)
        bottom, right = top + rng.integers(8, 18), left + rng.integers(8, 18)
        pictures[number, top:bottom, left:right] = 255
        labels[number, 0, :4] = np.array([top, left, bottom, right]) / (HW * 2)
    task = Detection(NAMES)
    settings = {"channels": 1, "seed": 5, "flip": True, "moves_as": task.moves_as}
    change = change_for(view, kind, **settings)
    moved = np.concatenate([change(pictures[:64], 0), change(pictures[64:], 1)])[..., 0] / 255
    del settings["moves_as"]
    rows = targets_of_view(task, labels, view, kind, size_hw=HW, smoothing=0.0, **settings)
    assert (rows[:, 1, 4] == -1).all()
    assert np.abs(rows[:, 0, :4] - labels[:, 0, :4]).max() > 0.05
    if kind == "strong":  # erased places and other light leave boxes alone, and hide edges
        assert (rows[:, 0, 4] == 0).all()
        return
    for picture, row in zip(moved, rows[:, 0], strict=True):
        np.testing.assert_allclose(extent(picture), row[:4] * (HW * 2), atol=1.2)


def test_boxes_follow_new_pictures_in_every_epoch(home):
    batches = Batches.open(open_source(home / "things"), Preparation.of("48x64x1"))
    task = batches.catalogue.task
    change = augmenter("light", channels=1, moves_as=task.moves_as)
    feed = PictureFeed(batches, change, task, 0.1, batch_size=8, seed=0)
    pictures, targets = next(feed.epoch(3))
    assert targets.shape == (8, 2, 5)
    for picture, boxes in zip(pictures[..., 0], targets, strict=True):
        for edges, level in zip(boxes[:, :4] * (HW * 2), (230, 20), strict=True):
            y, x = int(edges[[0, 2]].mean()), int(edges[[1, 3]].mean())
            assert abs(picture[y, x] - level) < 60
    weights = task.row_weights(np.full((1, 2, 5), -1.0, np.float32), np.array([3.0, 1.0]))
    assert weights.tolist() == [1.0]
    assert task.row_weights(targets, np.array([3.0, 1.0])).tolist() == [2.0] * 8


@pytest.mark.backends
def test_what_is_learned_is_what_is_read():
    boxes = np.array([[0.1, 0.1, 0.45, 0.3, 1], [0.5, 0.4, 0.9, 0.95, 0], [0, 0, 0, 0, -1]])
    targets = np.stack([boxes, np.full_like(boxes, -1)]).astype("float32")
    hw = (20, 24)
    middle, owner, mine = (np.asarray(keras.ops.convert_to_numpy(x)) for x in middles(targets, *hw))
    # By hand: TTFNet's Gaussian of 0.54 of each side, cut off where that ends.
    expected = np.zeros((2, *hw))
    for top, left, bottom, right, _ in boxes[:2]:
        sides = [(top * hw[0], bottom * hw[0]), (left * hw[1], right * hw[1])]
        soft = []
        for (start, end), count in zip(sides, hw, strict=True):
            radius = int(0.54 * (end - start) / 2)
            away = np.abs(np.arange(count) - int((start + end) / 2))
            gauss = np.exp(-(away**2) / (2 * ((2 * radius + 1) / 6) ** 2))
            soft.append(np.where(away <= radius, gauss, 0))
        expected[0] = np.maximum(expected[0], np.outer(*soft))
    np.testing.assert_allclose(middle, expected, atol=1e-5)
    assert (owner.sum(axis=-1) == 1).all()
    assert not mine[1].any()
    # Answers that say just that have boxes like these, and no loss to speak of.
    maps = np.full((2, *hw, 6), -12.0, "float32")
    maps[..., 2:] = 0
    for index, (top, left, bottom, right, number) in enumerate(boxes[:2]):
        y, x = np.nonzero(mine[0, ..., index] > 0)
        edges = (y + 0.5 - top * hw[0], x + 0.5 - left * hw[1])
        edges = (*edges, bottom * hw[0] - y - 0.5, right * hw[1] - x - 0.5)
        maps[0, y, x, 2:] = np.log(np.expm1(np.stack(edges, axis=1)))
        y, x = np.argwhere(mine[0, ..., index] == 1)[0]
        maps[0, y, x, int(number)] = 12
    found = read_boxes(maps[0])
    order = np.argsort(-found[:, 4])
    np.testing.assert_allclose(found[order, :5], boxes[:2], atol=1e-3)
    assert not len(read_boxes(maps[1]))
    losses = np.asarray(keras.ops.convert_to_numpy(loss_of_maps(targets, maps)))
    assert losses.max() < 1e-2
    maps[0, ..., 2:] += 0.3
    assert float(loss_of_maps(targets, maps)[0]) > 0.1


def test_scores_are_those_of_coco():
    rng = np.random.default_rng(4)
    task, pictures = Detection(("a", "b", "c")), 12
    labels = np.zeros((pictures, 4, 6), "float32")
    labels[..., 4], labels[..., 5] = -1, 400 * 300
    answers = []
    for picture in range(pictures):
        rows = []
        for row in range(picture % 4):  # the third class is nowhere
            corner, sides = rng.uniform(0, 0.6, 2), rng.uniform(0.05, 0.4, 2)
            edges = np.concatenate([corner, corner + sides])
            labels[picture, row, :5] = (*edges, rng.integers(2))
            rows.append((*(edges + rng.normal(0, 0.02, 4)), labels[picture, row, 4], rng.random()))
        rows.append((0.1, 0.1, 0.3, 0.3, rng.integers(3), rng.random()))
        answers.append(np.array(rows))
    tables = Tables.of(answers, labels, 3)
    judge = _evaluated(answers, labels, 3, np.linspace(0.5, 0.95, 10))
    with contextlib.redirect_stdout(io.StringIO()):
        judge.accumulate()
        judge.summarize()
    scores = tables.scores(task.names, task._amounts(labels), resamples=50, seed=0)
    ours = [scores.mean_precision, scores.map50, scores.recall, *scores.recall_by_size.values()]
    theirs = [value if value >= 0 else np.nan for value in judge.stats[[0, 1, 8, 9, 10, 11]]]
    np.testing.assert_allclose([s.value for s in ours], theirs, atol=1e-6)
    assert all(s.low <= s.value <= s.high for s in ours if not np.isnan(s.value))
    assert np.isnan(scores.classes[2].ap50.value)
    same, change = tables.compared(tables, seed=0)
    assert same.value == pytest.approx(tables.precisions(np.ones((1, pictures)))[0][:, :2].mean())
    assert change.as_dict() == {"value": 0.0, "low": 0.0, "high": 0.0}
    nothing = Tables.of([np.zeros((0, 6))] * pictures, labels, 3)
    assert nothing.mean_precision() == 0.0


def as_coco(source, out, *, name="_annotations.coco.json"):
    """The same pictures and boxes in COCO's JSON, one file in each split."""
    catalogue = open_source(source)
    for split, folder in (("train", "train"), ("validation", "valid")):
        (out / folder).mkdir(parents=True)
        images, annotations = [], []
        for number in catalogue.indices(split):
            truth = catalogue.labels[number].truth
            shutil.copy(catalogue.path(number), out / folder)
            height, width = truth.picture_hw
            file = catalogue.path(number).name
            images.append({"id": int(number), "file_name": file, "height": height, "width": width})
            for category, (top, left, bottom, right) in zip(
                truth.numbers, truth.edges, strict=True
            ):
                box = [left, top, right - left, bottom - top]
                one = {"id": len(annotations), "image_id": int(number), "bbox": box}
                annotations.append({**one, "category_id": category + 1, "iscrowd": 0})
        categories = [{"id": i, "name": n} for i, n in enumerate(("things", *NAMES))]
        facts = {"images": images, "annotations": annotations, "categories": categories}
        (out / folder / name).write_text(json.dumps(facts))


def as_yolo(source, out, *, is_inside):
    """The same in YOLO's text files, splits inside the folders of pictures or around them."""
    catalogue = open_source(source)
    out.mkdir()
    (out / "data.yaml").write_text("train: x\nnc: 3\nnames:\n  0: 'ball'\n  1: thing\n  2: box\n")
    for number in range(len(catalogue)):
        split = {"train": "train", "validation": "val"}[catalogue.splits[number]]
        places = [
            out / kind / split if is_inside else out / split / kind for kind in ("images", "labels")
        ]
        for place in places:
            place.mkdir(parents=True, exist_ok=True)
        path, truth = catalogue.path(number), catalogue.labels[number].truth
        shutil.copy(path, places[0])
        height, width = truth.picture_hw
        lines = [
            f"{2 * n} {(a[1] + a[3]) / 2 / width} {(a[0] + a[2]) / 2 / height} "
            f"{(a[3] - a[1]) / width} {(a[2] - a[0]) / height}"
            for n, a in zip(truth.numbers, truth.edges, strict=True)
        ]
        (places[1] / f"{path.stem}.txt").write_text("\n".join(lines))


@pytest.mark.parametrize("layout", ["coco", "coco-years", "yolo-inside", "yolo-around", "voc-flat"])
def test_every_layout_says_the_same(home, tmp_path, layout):
    source, out = home / "things", tmp_path / "out"
    if layout.startswith("coco"):
        as_coco(source, out)
        (out / "annotations").mkdir(exist_ok=layout == "coco")
        for split, name in (("train", "train"), ("valid", "val")) if "years" in layout else ():
            file = out / split / "_annotations.coco.json"
            file.rename(out / "annotations" / f"instances_{name}2017.json")
            (out / split).rename(out / f"{name}2017")
    elif layout == "voc-flat":
        for split in ("train", "val"):
            (out / split).mkdir(parents=True)
            for path in (*source.glob("*/*.png"), *source.glob("*/*.xml")):
                if path.stem.startswith(split):
                    shutil.copy(path, out / split)
    else:
        as_yolo(source, out, is_inside=layout == "yolo-inside")
    ours, theirs = open_source(source), open_source(out)
    assert theirs.class_names == NAMES
    assert (theirs.counts("train"), theirs.counts("validation")) == (
        ours.counts("train"), ours.counts("validation"),
    )  # fmt: skip
    preparation = Preparation.of("48x64x1")
    stems = [name.rpartition("/")[2] for name in theirs.names]
    for name, label in zip(ours.names, ours.labels, strict=True):
        other = theirs.labels[stems.index(name.rpartition("/")[2])]
        np.testing.assert_allclose(label.at(preparation), other.at(preparation), atol=1e-5)


def test_what_cannot_be_used_is_named_and_counted(home, tmp_path):
    write_voc(tmp_path, {"train": 60, "val": 4}, np.random.default_rng(6))
    files = tmp_path / "Annotations"

    def put(number, *boxes, hw=HW):
        (files / f"train_{number:02}.xml").write_text(as_xml(boxes, hw))

    put(0, ("ball", 50, 70, 60, 80), ("ball", 4, 4, 9, 9))  # outside
    put(1, ("ball", 5, 5, 5, 9), ("ball", "nan", 4, 9, 9), ("ball", 4, 4, 9, 9))
    put(2, ("ball", 5, 5, 90, 9))
    put(3)
    put(4, hw=(9, 9))
    (files / "train_05.xml").rename(files / "other.xml")
    (files / "train_06.xml").write_text("<annotation>")
    (tmp_path / "ImageSets/Main/val.txt").write_text("val_00 1\nval_01\nval_02\n")
    catalogue = open_source(tmp_path)
    assert len(catalogue) == 60
    reasons = {s.name: s.reason for s in catalogue.skipped}
    assert reasons["JPEGImages/train_04.png"] == (
        "its boxes are of a picture of 9x9, and it is 48x64"
    )
    assert "train_06.xml is no element found" in reasons["JPEGImages/train_06.png"]
    lines = " ".join(catalogue.warnings)
    for line in (
        "1 box outside its picture, left out: JPEGImages/train_00.png",
        "2 boxes without an area, left out: JPEGImages/train_01.png",
        "1 box beyond the edge of its picture, cut there: JPEGImages/train_02.png",
        "1 picture without boxes, kept as background: JPEGImages/train_03.png",
        "1 picture without a file of boxes, left out: JPEGImages/train_05.png",
        "1 file of boxes without a picture, left out: Annotations/other.xml",
        "1 picture in none of the lists in ImageSets/Main, left out: JPEGImages/val_03.png",
    ):
        assert line in lines
    # A class that a model does not have is no box to measure it by.
    known = open_source(tmp_path, task=Detection(("ball",)))
    assert "boxes of a class that is not known, left out: 'box'" in " ".join(known.warnings)
    background = known.labels[known.names.index("JPEGImages/train_03.png")]
    task = known.task
    assert task.text(background) == "no boxes"
    assert task.is_known(known.labels).all()
    assert task.is_known(task.read([None])).tolist() == [False]
    assert task.is_known(task.read([None])[0].at(Preparation.of("8x8x1"))[None]).tolist() == [False]


ENTITIES = '<!DOCTYPE a [<!ENTITY b "ha"><!ENTITY c "&b;&b;&b;">]>'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (as_xml([], HW, ENTITIES), "is of a declared type of document"),
        (as_xml([], HW, ENTITIES).encode("utf-16"), "is of a declared type of document"),
        ("<a>" * 40, "is nested more than 16 deep"),
        (as_xml([("ball", 0, 1, "far", 3)], HW), "is no list of boxes (could not convert"),
        ("<annotation><object><name>ball</name></object></annotation>", "is without 'bndbox/ymin'"),
        (b"\xff\xfe\x00", "train_00.xml is"),
    ],
)
def test_hostile_xml_costs_its_picture_alone(tmp_path, text, message):
    write_voc(tmp_path, {"train": 30}, np.random.default_rng(7))
    path = tmp_path / "Annotations/train_00.xml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    (skipped,) = open_source(tmp_path).skipped
    assert message in skipped.reason


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "_annotations.coco.json is damaged"),
        ('{"images": []}', "is no list of boxes; expected COCO's JSON"),
        ('{"images": [3], "annotations": [], "categories": []}', "images[0] is 3; expected id"),
        (
            '{"images": [], "annotations": [{"image_id": 1, "category_id": [], "bbox": [1e400]}],'
            ' "categories": []}',
            "annotations[0] is",
        ),
        ('{"images": [], "annotations": [], "categories": []}', "no picture has a box"),
        ("[" * 100_000, "_annotations.coco.json is damaged"),
    ],
)
def test_bad_json_is_one_line(tmp_path, content, message):
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "_annotations.coco.json").write_text(content)
    with pytest.raises(DataError, match=re.escape(message)):
        open_source(tmp_path, task="detection")


def test_bad_lines_of_text_cost_their_picture_alone(home, tmp_path):
    as_yolo(home / "things", tmp_path / "out", is_inside=True)
    labels = tmp_path / "out/labels/train"
    first, second, third, *_ = sorted(labels.iterdir())
    first.write_text("0 0.5 0.5 0.5 0.5\n0 one two")
    second.write_text("9 0.5 0.5 0.5 0.5\n0 0.5 0.5 0.5 0.5")
    third.unlink()  # as YOLO has background
    (tmp_path / "out/labels.cache").write_bytes(b"x")
    catalogue = open_source(tmp_path / "out", task=Detection(NAMES))
    (skipped,) = catalogue.skipped
    assert "holds '0 one two' in line 2; expected a class number" in skipped.reason
    lines = " ".join(catalogue.warnings)
    assert "1 box of a class that is not known, left out: '9'" in lines
    assert f"1 picture without boxes, kept as background: images/train/{third.stem}.png" in lines
    assert "no picture" not in lines
    with pytest.raises(DataError, match="no files of boxes"):
        open_source(tmp_path / "out/images", task="detection")


@pytest.mark.parametrize(
    "text",
    [
        "names: 3x\n  - \n",
        "nc: 2",
        "names: [a, [b]]",
        "names: {a: 0}",
        "names: ['a', '']",
        "a: &a [x, x]\nb: &b [*a, *a]\nnames: [*b, *b]",
        "names: " + 2000 * "[",
        "- names",
        "names: [" + "a," * 2**18 + "a]",
        "",
    ],
)
def test_a_list_of_classes_without_names_is_one_line(home, tmp_path, text):
    as_yolo(home / "things", tmp_path / "out", is_inside=True)
    (tmp_path / "out/data.yaml").write_text(text)
    with pytest.raises(DataError, match="no list of names in it; expected names: "):
        open_source(tmp_path / "out", task="detection")


def test_a_list_of_classes_takes_pyyaml(home, tmp_path, monkeypatch):
    as_yolo(home / "things", tmp_path / "out", is_inside=True)
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(
        RequestError, match=r"data\.yaml is read by PyYAML, .* extra detection; pip"
    ):
        open_source(tmp_path / "out", task="detection")


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"distil": True}, "distil is not built yet for detection"),
        ({"cutmix": 0.5}, "cutmix is not built yet for detection"),
        ({"activation": "softmax"}, "activation"),
    ],
)
def test_what_is_not_built_is_refused(home, tmp_path, choices, message):
    with pytest.raises((RequestError, TypeError), match=re.escape(message)):
        train(home, tmp_path / "run", **choices)
    assert not (tmp_path / "run").exists()


def test_a_place_is_of_the_smallest_box_around_it():
    rows = np.zeros((2, 3, 6), np.float32)
    rows[..., 4] = -1
    rows[0, 0, :5], rows[0, 1, :5] = (0, 0, 1, 1, 0), (0.4, 0.4, 0.6, 0.6, 1)
    rows[1, 0, 4] = -2  # nobody has looked
    places = np.array([[0.1, 0.1], [0.5, 0.5], [0.9, 0.9]], np.float32)
    there = Detection(("a", "b")).at_places(rows, places)
    assert there[..., 0].tolist() == [[0, 1, 0], [255, 255, 255]]
    rows[0, 0, 4] = -1
    assert Detection(("a", "b")).at_places(rows, places)[0, :, 0].tolist() == [2, 1, 2]


def test_it_is_compared_by_a_linear_model_at_places_of_its_maps(home):
    # Half of the size leaves a quarter of the places, in which less can be told apart.
    shapes = ["24x32x1", "48x64x1"]
    options = {"backbones": [str(home / "small.keras")], "strategies": "rebuild"}
    comparison = inshape.compare(home / "things", shapes=shapes, latency=False, **options)
    small, large = sorted(comparison.candidates, key=lambda c: shapes.index(c.input_shape))
    assert None not in (small.accuracy, large.accuracy)
    assert large.accuracy.value > small.accuracy.value > 0
    assert comparison.record["score_name"] == "mean IoU"


def test_without_what_measures_boxes_nothing_is_begun(home, tmp_path, monkeypatch):
    monkeypatch.setattr("inshape.tasks.box_scores.find_spec", lambda name: None)
    with pytest.raises(RequestError, match="boxes are measured by pycocotools"):
        train(home, tmp_path / "run")
    assert not (tmp_path / "run").exists()

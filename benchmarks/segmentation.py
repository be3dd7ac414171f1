"""Masks at several input shapes: `inshape train` against the way that Keras's own parts suggest.

    python -m benchmarks.segmentation FOLDER --weights FILE [--out FOLDER]
    python -m benchmarks.segmentation --table

FOLDER holds CamVid in ``train/`` and ``val/``, each with ``images/`` and ``masks/``. A way such as
``inshape-16-4`` is that at output stride 16 and, if there is a second number, at map stride 4. The
plain way
is `keras.applications` at the input shape, a 1x1 convolution and a bilinear enlargement, trained as
https://keras.io/guides/transfer_learning says: the new layer on the frozen backbone first, then
everything at a low rate; both ways see the same pictures, half of them mirrored. One JSON per
training, which a second call does not repeat; ``--table`` prints those that are kept in
``benchmarks/results/segmentation``.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np

import inshape
from inshape.data.batches import Batches
from inshape.data.masks import MaskOptions
from inshape.data.prepare import Preparation
from inshape.data.sources import open_source
from inshape.tasks.segmentation import IGNORED

from . import results_folder
from .keras_recipe import take

NAME = "segmentation"
NETWORK = "MobileNetV3Large-minimalistic"
CLASSES = (
    *("sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car"),
    *("pedestrian", "bicyclist"),
)
THIN = ("pole", "sign", "pedestrian", "bicyclist")
UNLABELLED = 11
BATCH = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--weights")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--shapes", default="180x240x3,360x480x3")
    parser.add_argument("--ways", default="inshape-16,inshape-8,inshape-16-4,keras")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--epochs", type=int, default=30, help="of all that is unfrozen")
    parser.add_argument("--head-epochs", type=int, default=10)
    parser.add_argument("--unfreeze", default="all")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    folder = results_folder(NAME, options.out, is_table=options.table)
    if not options.table:
        if options.folder is None or options.weights is None:
            parser.error("expected FOLDER and --weights FILE, or --table")
        measure_all(folder, options)
    print(table(folder))


def measure_all(folder: Path, options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as place:
        names = Path(place, "classes.json")
        names.write_text(json.dumps(CLASSES))
        masks = MaskOptions(mask_ignore=(UNLABELLED, IGNORED), mask_names=names)
        for shape in options.shapes.split(","):
            for way in options.ways.split(","):
                for seed in map(int, options.seeds.split(",")):
                    path = folder / f"{way}-{shape}-{seed}.json"
                    if not path.exists():
                        facts = measure(way, shape, seed, masks, options)
                        path.write_text(json.dumps(facts, indent=1))
                    print(line(json.loads(path.read_text())), flush=True)


def table(folder: Path) -> str:
    """A row for each training."""
    rows = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    heads = ("input", "way", "epochs", "mean IoU (95 %)", *THIN, "int8", "change", "CPU min")
    return "\n".join([f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}", *map(line, rows)])


def line(row: dict[str, Any]) -> str:
    low, high = row["mean_iou"]["low"], row["mean_iou"]["high"]
    int8 = row.get("int8")
    ious = {one["name"]: one["iou"]["value"] for one in row["classes"]}
    cells = [
        row["shape"],
        row["way"],
        row["epochs"],
        f"{row['mean_iou']['value']:.3f} [{low:.3f}, {high:.3f}]",
        *(f"{ious[name]:.3f}" for name in THIN),
        "" if int8 is None else f"{int8['value']:.3f}",
        "" if int8 is None else f"{100 * int8['change']:+.2f} points",
        f"{row['cpu_s'] / 60:.1f}",
    ]
    return f"| {' | '.join(cells)} |"


def measure(
    way: str, shape: str, seed: int, masks: MaskOptions, options: argparse.Namespace
) -> dict[str, Any]:
    begun = time.process_time()
    keras.utils.set_random_seed(seed)
    ours, *strides = way.split("-")
    facts: dict[str, Any]
    if ours == "keras":
        facts = by_keras(shape, masks, options)
    else:
        facts = by_inshape(shape, [int(stride) for stride in strides], seed, masks, options)
    return {
        "way": way,
        "shape": shape,
        "seed": seed,
        "epochs": f"{options.head_epochs} + {options.epochs}",
        "cpu_s": time.process_time() - begun,
        **facts,
    }


def by_inshape(
    shape: str, strides: list[int], seed: int, masks: MaskOptions, options: argparse.Namespace
) -> dict[str, Any]:
    finer = {} if len(strides) == 1 else {"map_stride": strides[1]}
    with tempfile.TemporaryDirectory() as place:
        run = inshape.train(
            options.folder,
            shape,
            out=Path(place, "run"),
            backbone=NETWORK,
            weights=options.weights,
            output_stride=strides[0],
            **finer,
            mask_ignore=masks.mask_ignore,
            mask_names=masks.mask_names,
            epochs=options.epochs,
            head_epochs=options.head_epochs,
            unfreeze=options.unfreeze,
            batch_size=BATCH,
            patience=options.epochs,
            seed=seed,
        )
        scores = inshape.evaluate(run, options.folder, split="validation").scores
        exported = inshape.export(run, ["litert-int8"], timing=False, min_agreement=0.0).files[0]
        return {
            **scores.as_dict(),
            "int8": {
                "value": exported.accuracy.value,
                "change": exported.accuracy_change.value,
                "agreement": exported.agreement,
                "size_bytes": exported.size_bytes,
            },
        }


def by_keras(shape: str, masks: MaskOptions, options: argparse.Namespace) -> dict[str, Any]:
    catalogue = open_source(options.folder, masks=masks)
    batches = Batches.open(catalogue, Preparation.of(shape))
    task, shape_hw = batches.catalogue.task, batches.preparation.shape.as_static_tuple()
    backbone = keras.applications.MobileNetV3Large(
        minimalistic=True, input_shape=shape_hw, include_top=False, weights=None
    )
    take(backbone, options.weights)
    image = keras.Input(shape_hw)
    x = keras.layers.Conv2D(len(task.names), 1)(backbone(image, training=False))
    model = keras.Model(image, keras.layers.Resizing(*shape_hw[:2])(x))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=IGNORED)
    for phase, rate, epochs in (("head", 1e-3, options.head_epochs), ("all", 1e-5, options.epochs)):
        backbone.trainable = phase == "all"
        model.compile(keras.optimizers.Adam(rate), loss)
        for epoch in range(epochs):
            feed = batches.iterate("train", BATCH, shuffle=True, seed=len(phase), epoch=epoch)
            for step, (pictures, labels) in enumerate(feed):
                turned = -1 if (epoch + step) % 2 else 1
                rows = np.asarray(pictures, np.float32)[:, :, ::turned]
                model.train_on_batch(rows, labels[:, :, ::turned, None])
    parts = [
        model.predict_on_batch(np.asarray(pictures, np.float32))
        for pictures, _ in batches.iterate("validation", BATCH)
    ]
    return task.score(np.concatenate(parts), batches.labels("validation")).as_dict()


if __name__ == "__main__":
    main()

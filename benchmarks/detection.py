"""Boxes at several input shapes, with and without what the weights know.

    python -m benchmarks.detection FOLDER --weights FILE --other FILE [--out FOLDER]
    python -m benchmarks.detection --table

FOLDER holds blood cells in Pascal VOC's layout (BCCD). Every way trains the same head in the same
way: behind MobileNetV3Large-minimalistic with FILE's weights, also with a map at stride 4
(*finer*), behind another network (``--other``, a .keras file), behind the first as
`keras.applications` builds it at the input shape, and behind random weights, which are all trained.
One JSON per training, which a second call does not repeat; ``--table`` prints those that are kept
in ``benchmarks/results/detection``.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import keras

import inshape

from . import results_folder
from .keras_recipe import take

NAME = "detection"
NETWORK = "MobileNetV3Large-minimalistic"
RUNS = (
    *("240x320x3 inshape", "480x640x3 inshape", "240x320x1 inshape", "240x320x3 keras"),
    *("240x320x3 random", "240x320x3 other", "480x640x3 other", "240x320x1 other"),
    "240x320x3 finer",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--weights")
    parser.add_argument("--other", type=Path)
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--runs", default=",".join(RUNS), help="SHAPE WAY, with commas between")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--head-epochs", type=int, default=24)
    parser.add_argument("--epochs", type=int, default=8, help="of all that is unfrozen")
    parser.add_argument("--unfreeze", default="last")
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    folder = results_folder(NAME, options.out, is_table=options.table)
    for shape, way in () if options.table else (run.split() for run in options.runs.split(",")):
        for seed in map(int, options.seeds.split(",")):
            path = folder / f"{way}-{shape}-{seed}.json"
            if not path.exists():
                path.write_text(json.dumps(measure(way, shape, seed, options), indent=1))
            print(line(json.loads(path.read_text())), flush=True)
    print(table(folder))


def table(folder: Path) -> str:
    """A row for each training: the scores of the trained model, and mAP50 of the head alone."""
    rows = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    order = {run: number for number, run in enumerate(RUNS)}
    rows.sort(key=lambda row: (order.get(f"{row['shape']} {row['way']}", len(RUNS)), row["seed"]))
    heads = ("input", "way", "mAP50 (95 %)", "mAP", "head alone", "int8", "change", "CPU min")
    return "\n".join([f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}", *map(line, rows)])


def line(row: dict[str, Any]) -> str:
    low, high = row["map50"]["low"], row["map50"]["high"]
    cells = [
        row["shape"],
        row["way"],
        f"{row['map50']['value']:.3f} [{low:.3f}, {high:.3f}]",
        f"{row['map']['value']:.3f}",
        f"{row['head']:.3f}",
        f"{row['int8']['value']:.3f}",
        f"{100 * row['int8']['change']:+.2f} points",
        f"{row['cpu_s'] / 60:.1f}",
    ]
    return f"| {' | '.join(cells)} |"


def measure(way: str, shape: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    begun = time.process_time()
    with tempfile.TemporaryDirectory() as place:
        run = inshape.train(
            options.folder,
            shape,
            out=Path(place, "run"),
            **network(way, shape, Path(place), options),
            epochs=options.epochs,
            head_epochs=options.head_epochs,
            learning_rate=options.learning_rate,
            batch_size=8,
            patience=options.head_epochs,
            baseline=False,
            seed=seed,
        )
        cpu_s = time.process_time() - begun
        scores = inshape.evaluate(run, options.folder, split="validation", save=False).scores
        exported = inshape.export(run, ["litert-int8"], timing=False, min_agreement=0.0).files[0]
        return {
            "way": way,
            "shape": shape,
            "seed": seed,
            "cpu_s": cpu_s,
            "head": run.record["metrics"]["head"]["map50"],
            **scores.as_dict(),
            "int8": {
                "value": exported.accuracy.value,
                "change": exported.accuracy_change.value,
                "size_bytes": exported.size_bytes,
                "ram_bytes": exported.planned_ram_bytes,
            },
        }


def network(way: str, shape: str, place: Path, options: argparse.Namespace) -> dict[str, Any]:
    if way == "random":
        return {"backbone": NETWORK, "weights": None, "unfreeze": "all"}
    same = {"unfreeze": options.unfreeze}
    if way == "other":
        return {"backbone": options.other, "weights": None, **same}
    if way in ("inshape", "finer"):
        finer = {} if way == "inshape" else {"map_stride": 4}
        return {"backbone": NETWORK, "weights": options.weights, **finer, **same}
    height, width, channels = map(int, shape.split("x"))
    built = keras.applications.MobileNetV3Large(
        minimalistic=True, input_shape=(height, width, channels), include_top=False, weights=None
    )
    take(built, options.weights)
    built.save(place / "plain.keras")
    return {"backbone": place / "plain.keras", "weights": None, **same}


if __name__ == "__main__":
    main()

"""What few labels give: more of the network unfrozen, a teacher, and pictures without labels.

    python -m benchmarks.few_labels TRAIN VALIDATION --weights FILE [--labelled 30] [--seeds 0,1]

So many pictures of each class of TRAIN are labelled, drawn by the seed; to ``unlabelled`` the whole
of TRAIN is given without its labels. The accuracy is that on VALIDATION, which no training sees.
Every training is kept under ``--out``, so that an interrupted benchmark goes on. ``--table`` prints
what is there, by default that of docs/few_labels.md from benchmarks/results/few_labels.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import results_folder

BACKBONE = "MobileNetV3Large-minimalistic"
WAYS: dict[str, dict[str, Any]] = {
    "last": {},
    "2": {"unfreeze": 2},
    "all": {"unfreeze": "all"},
    "distil": {"distil": True},
    "unlabelled, labels alone": {"distil_maps": 0.0},
    "unlabelled": {},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("train", type=Path, nargs="?")
    parser.add_argument("validation", type=Path, nargs="?")
    parser.add_argument("--weights", help=f"of {BACKBONE}")
    parser.add_argument("--labelled", type=int, default=30, help="pictures of each class")
    parser.add_argument("--shapes", default="96x96x3,96x96x1")
    parser.add_argument("--seeds", default="0,1")
    parser.add_argument("--ways", default="/".join(WAYS), help="with / between them")
    parser.add_argument("--out", type=Path, help="of results; by default runs/few_labels")
    parser.add_argument("--table", action="store_true", help="print the table of what is there")
    options = parser.parse_args()
    if not options.table and not (options.train and options.validation and options.weights):
        parser.error("expected TRAIN, VALIDATION and --weights FILE, or --table")
    options.out = results_folder("few_labels", options.out, is_table=options.table)
    if not options.table:
        for seed in map(int, options.seeds.split(",")):
            for shape in options.shapes.split(","):
                for way in options.ways.split("/"):
                    measure(way, shape, seed, options)
    print(table(options.out))


def measure(way: str, shape: str, seed: int, options: argparse.Namespace) -> None:
    """Train once, unless that is done already, and keep what came out."""
    name = f"{options.train.resolve().parent.name}-{way.replace(', ', '-')}-{shape}-{seed}"
    record = options.out / f"{name.replace(' ', '-')}.json"
    if record.exists():
        return
    import keras

    import inshape

    more = {"unlabelled": options.train} if way.startswith("unlabelled") else {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        some(options.train, folder / "labelled", options.labelled, seed)
        run = inshape.train(
            folder / "labelled",
            shape,
            out=folder / "run",
            backbone=BACKBONE,
            weights=options.weights,
            strategy="rebuild",
            seed=seed,
            **WAYS[way],
            **more,
        )
        accuracy = inshape.evaluate(run, options.validation).accuracy.value
        teacher = None
        if (run.folder / "teacher").exists():
            teacher = inshape.evaluate(run.folder / "teacher", options.validation).accuracy.value
    result = {
        "data": options.train.resolve().parent.name,
        "labelled": options.labelled,
        "way": way,
        "shape": shape,
        "seed": seed,
        "backend": keras.backend.backend(),
        "accuracy": round(accuracy, 4),
        "teacher": teacher,
    }
    record.write_text(json.dumps(result, indent=1) + "\n")
    print(f"{name}: {accuracy:.3f}", flush=True)


def some(source: Path, target: Path, count: int, seed: int) -> None:
    """Links to so many pictures of each class."""
    rng = np.random.default_rng(seed)
    for folder in sorted(path for path in source.iterdir() if path.is_dir()):
        (target / folder.name).mkdir(parents=True)
        files = sorted(folder.iterdir())
        for number in rng.permutation(len(files))[:count]:
            (target / folder.name / files[number].name).symlink_to(files[number].resolve())


def table(folder: Path) -> str:
    """The stored trainings as a Markdown table, a row per data, shape and way."""
    results = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    lines = [
        "| pictures | labelled of each class | shape | way | seeds | accuracy | mean | teacher |",
        f"|{'---|' * 8}",
    ]
    for data, labelled, shape in dict.fromkeys(
        (r["data"], r["labelled"], r["shape"]) for r in results
    ):
        for way in WAYS:
            rows = [
                r
                for r in results
                if (r["data"], r["labelled"], r["shape"], r["way"]) == (data, labelled, shape, way)
            ]
            if not rows:
                continue
            rows.sort(key=lambda r: r["seed"])
            teachers = [r["teacher"] for r in rows if r["teacher"] is not None]
            cells = [
                data,
                str(labelled),
                shape,
                way,
                " ".join(str(r["seed"]) for r in rows),
                " ".join(f"{r['accuracy']:.3f}" for r in rows),
                f"{statistics.mean(r['accuracy'] for r in rows):.3f}",
                f"{statistics.mean(teachers):.3f}" if teachers else "",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()

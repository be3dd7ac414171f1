"""The demonstration checkpoint beside random weights and beside ImageNet's.

    python -m benchmarks.demo_weights [--photos FOLDER --weights FILE] [--seeds 0,1,2]

FOLDER holds photos of clothes in ``train/`` and ``validation/``; FILE ImageNet weights of
MobileNetV3Large-minimalistic, which is another and larger network than the checkpoint's. Without
them only scikit-learn's digits are measured. Finished measurements are kept under ``--out``;
``--table`` prints what is there, by default the table of docs/demo_weights.md from
benchmarks/results/demo_weights.

- ``probe``: a linear classifier on frozen features, cross-validated in five folds.
- ``trained``: `inshape.train`, by the same commands from every start, answered on pictures that it
  never saw. Digits: twenty of each to train on, the other 1,592 to test on. Clothes: at most 200 of
  each class, tested on ``validation/``.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import results_folder
from inshape.demo import SHAPE, write_digits
from inshape.weights.demo import BACKBONE

LARGE = "MobileNetV3Large-minimalistic"
PER_CLASS = 200

# Every layer is trained, which random weights need; ImageNet's are frozen but for the head, which
# is the first thing that `inshape train` reaches.
ALL_LAYERS = {
    "unfreeze": "all",
    "batch_norm": "train",
    "layer_decay": 1.0,
    "learning_rate": 3e-3,
}
DIGITS = {**ALL_LAYERS, "epochs": 40, "patience": 40, "flip": False}
CLOTHES = {**ALL_LAYERS, "epochs": 12, "patience": 12}


@dataclass(frozen=True, slots=True)
class Case:
    """One measurement.

    Attributes:
        data: ``"digits"`` or ``"clothes"``.
        way: ``"probe"`` or ``"trained"``.
        shape: ``HxWxC``.
        strategy: how the network gets it.
        backbone: the network.
        start: ``"demo"``, ``"imagenet"`` or ``"random"``.
        seed: of the random weights and of the training.
    """

    data: str
    way: str
    shape: str
    strategy: str
    backbone: str
    start: str
    seed: int = 0

    @property
    def name(self) -> str:
        """The file of its result."""
        return "-".join(
            map(str, (self.data, self.way, self.shape, self.strategy, self.start, self.seed))
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--photos", type=Path, help="a folder with train/ and validation/")
    parser.add_argument("--weights", type=Path, help=f"ImageNet weights of {LARGE}")
    parser.add_argument("--seeds", default="0,1,2", help="of random weights")
    parser.add_argument("--out", type=Path, help="of results; by default runs/demo_weights")
    parser.add_argument("--table", action="store_true", help="print the tables of what is there")
    options = parser.parse_args()
    options.out = results_folder("demo_weights", options.out, is_table=options.table)
    if not options.table:
        with tempfile.TemporaryDirectory() as scratch:
            for case in cases(options):
                record = options.out / f"{case.name}.json"
                if not record.exists():
                    result = {**asdict(case), **measure(case, Path(scratch), options)}
                    record.write_text(json.dumps(result) + "\n")
                    print(case.name, *result["accuracy"], flush=True)
    print(tables(options.out))


def cases(options: argparse.Namespace) -> Iterator[Case]:
    """What there is to measure, the quick part first."""
    seeds = [int(seed) for seed in options.seeds.split(",")]
    starts = [("demo", seeds[0]), *(("random", seed) for seed in seeds)]
    for way in ("probe", "trained"):
        for start, seed in starts:
            yield Case("digits", way, SHAPE, "restride", BACKBONE, start, seed)
    if options.photos is None:
        return
    for strategy in ("rebuild", "restride"):
        for start, seed in starts:
            yield Case("clothes", "probe", "96x96x3", strategy, BACKBONE, start, seed)
        if options.weights is not None:
            yield Case("clothes", "probe", "96x96x3", strategy, LARGE, "imagenet")
    for start, seed in starts:
        yield Case("clothes", "trained", "96x96x3", "rebuild", BACKBONE, start, seed)
    if options.weights is not None:
        yield Case("clothes", "trained", "96x96x3", "rebuild", LARGE, "imagenet")


def measure(case: Case, scratch: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Measure one case in a folder for what comes and goes."""
    weights = weights_of(case, scratch, options)
    if case.way == "probe":
        return probe(case, weights, scratch, options)
    return train(case, weights, scratch, options)


def weights_of(case: Case, scratch: Path, options: argparse.Namespace) -> str:
    """What ``weights=`` is; random ones are kept in a file, so that the seed decides them alone."""
    if case.start == "demo":
        return "demo"
    if case.start == "imagenet":
        return str(options.weights)
    import keras

    from inshape.backbones import find

    path = scratch / f"random-{case.seed}.weights.h5"
    if not path.exists():
        keras.utils.set_random_seed(case.seed)
        find(case.backbone).build(include_top=False).save_weights(path)
    return str(path)


def pictures_of(case: Case, scratch: Path, options: argparse.Namespace) -> tuple[Path, Path]:
    """The folders to train on and to test on."""
    if case.data == "digits":
        folder = scratch / "digits"
        if not folder.exists():
            write_digits(folder)
        return folder / "digits" / "train", folder / "digits" / "test"
    folder = scratch / "clothes"
    if not folder.exists():
        for source in sorted((options.photos / "train").iterdir()):
            (folder / source.name).mkdir(parents=True)
            files = sorted(source.iterdir())
            for number in np.random.default_rng(0).permutation(len(files))[:PER_CLASS]:
                os.symlink(files[number].resolve(), folder / source.name / files[number].name)
    return folder, options.photos / "validation"


def probe(case: Case, weights: str, scratch: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Cross-validated on everything there is of the digits, on 200 of each kind of clothes."""
    import inshape
    from inshape.comparison.result import Candidate

    folder, test = pictures_of(case, scratch, options)
    if case.data == "digits":
        folder = merged(folder, test, scratch / "all-digits")
    candidate = Candidate(case.backbone, case.shape, case.strategy)
    comparison = inshape.compare(folder, candidates=[candidate], weights=weights, latency=False)
    (probed,) = comparison.candidates
    assert probed.accuracy is not None, probed.error
    score = probed.accuracy
    return {"accuracy": [score.value, score.low, score.high], "pictures": probed.pictures}


def merged(one: Path, other: Path, into: Path) -> Path:
    """A folder per class with the pictures of two such folders."""
    for source in (one, other):
        for file in source.glob("*/*"):
            place = into / file.parent.name
            place.mkdir(parents=True, exist_ok=True)
            link = place / f"{source.name}-{file.name}"
            if not link.exists():
                link.symlink_to(file.resolve())
    return into


def train(case: Case, weights: str, scratch: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Trained by the demonstration's recipe (by the defaults from ImageNet's), and tested."""
    import inshape

    folder, test = pictures_of(case, scratch, options)
    recipe = DIGITS if case.data == "digits" else CLOTHES
    run = inshape.train(
        folder,
        case.shape,
        out=scratch / case.name,
        backbone=case.backbone,
        weights=weights,
        strategy=case.strategy,
        seed=case.seed,
        **({} if case.start == "imagenet" else recipe),  # defaults suit weights that know photos
    )
    scores = inshape.evaluate(run, test, save=False).scores
    score = scores.accuracy
    return {"accuracy": [score.value, score.low, score.high], "pictures": scores.pictures}


def tables(folder: Path) -> str:
    """The stored measurements as a Markdown table, a row per data, way, strategy and start."""
    results = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    lines = [
        "| pictures | measured by | input | network | weights | accuracy [95 %] | of each seed |",
        "|---|---|---|---|---|---|---|",
    ]
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for one in sorted(results, key=lambda f: (f["data"] != "digits", f["way"], f["strategy"])):
        key = tuple(one[k] for k in ("data", "way", "shape", "strategy", "backbone", "start"))
        groups.setdefault(key, []).append(one)
    for (data, way, shape, strategy, backbone, start), runs in groups.items():
        # Seeds share the pictures, so that the interval is that of one seed's number of them.
        value, low, high = np.mean([one["accuracy"] for one in runs], axis=0)
        cells = [
            f"{data}, {runs[0]['pictures']}",
            way,
            f"{shape} {strategy}",
            backbone,
            start,
            f"{value:.3f} [{low:.3f}, {high:.3f}]",
            " ".join(f"{one['accuracy'][0]:.3f}" for one in runs) if len(runs) > 1 else "",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()

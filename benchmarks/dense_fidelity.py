"""Does the probe of `inshape.compare` rank candidates for masks and boxes as training does?

    python -m benchmarks.dense_fidelity FOLDER --weights FILE [--out FOLDER]
    python -m benchmarks.dense_fidelity --table

FOLDER holds street scenes with masks (CamVid, as `benchmarks.segmentation` has it) or blood cells
with boxes (BCCD, as `benchmarks.detection` has it). Its training pictures are compared and trained
on; those of its validation, as a test split, only judge the trained models. `inshape.compare` ranks
the candidates by its probe, and each of them is then trained by `inshape.train` in the same way.
One JSON for the comparison and for each training, which a second call does not repeat; ``--table``
prints those that are kept in ``benchmarks/results/dense_fidelity``.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scipy.stats import kendalltau

import inshape
from inshape.comparison.result import Candidate
from inshape.data.batches import Batches
from inshape.data.masks import MaskOptions
from inshape.data.sources import open_source
from inshape.evaluation.answers import predict_answers
from inshape.tasks.segmentation import IGNORED

from . import results_folder, segmentation
from .probe_fidelity import COMPARED, agreement, share_of

NAME = "dense_fidelity"
BACKBONE = "MobileNetV3Large-minimalistic"
_DIGITS = 4


@dataclass(frozen=True, slots=True)
class Kind:
    """Pictures of a kind, what is compared on them, and how it is trained."""

    title: str
    candidates: tuple[str, ...]
    recipe: Mapping[str, Any]


KINDS = {
    "masks": Kind(
        "Masks",
        (
            *("90x120x3 rebuild", "90x120x3 restride:16", "90x120x3 restride", "90x120x3 resize"),
            *("120x160x3 restride:16", "120x160x1 restride:16", "180x240x3 rebuild"),
            "180x240x3 restride:16",
        ),
        {"head_epochs": 4, "epochs": 5, "unfreeze": "all"},
    ),
    "boxes": Kind(
        "Boxes",
        (
            *("96x128x3 rebuild", "120x160x3 rebuild", "120x160x3 restride", "120x160x3 resize"),
            *("180x240x3 rebuild", "240x320x1 rebuild", "240x320x3 rebuild"),
        ),
        {"head_epochs": 24, "epochs": 8, "unfreeze": "last", "learning_rate": 2e-3},
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--weights", help=f"of {BACKBONE}")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    folder = results_folder(NAME, options.out, is_table=options.table)
    if not options.table:
        if options.folder is None or options.weights is None:
            parser.error("expected FOLDER and --weights FILE, or --table")
        measure_all(folder, options)
    print(table(folder))


def measure_all(folder: Path, options: argparse.Namespace) -> None:
    name = "masks" if (options.folder / "train").exists() else "boxes"
    (folder / name).mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        names, source = Path(place, "classes.json"), Path(place, "pictures")
        names.write_text(json.dumps(segmentation.CLASSES))
        copy(options.folder, source)
        settings: dict[str, Any] = {"weights": options.weights, "seed": options.seed}
        if name == "masks":
            ignored = (segmentation.UNLABELLED, IGNORED)
            settings |= {"mask_ignore": ignored, "mask_names": names}
        keep(folder / name / COMPARED, lambda: compare(source, name, settings))
        for one in KINDS[name].candidates:
            path = folder / name / f"{one.replace(' ', '-').replace(':', '-')}.json"
            keep(path, lambda one=one: train(source, one, name, settings))


def copy(folder: Path, source: Path) -> None:
    """The same pictures, in which those of the validation are for the test."""
    shutil.copytree(folder, source)
    sets = source / "ImageSets" / "Main"
    if sets.exists():
        (sets / "val.txt").rename(sets / "test.txt")
    else:
        (source / "val").rename(source / "test")


def keep(path: Path, work: Any) -> None:
    """Do it, unless it is done, and keep what it took."""
    if not path.exists():
        begun = time.process_time()
        result = work()
        result["cpu_s"] = round(time.process_time() - begun, 1)
        path.write_text(json.dumps(result, indent=1))
    print(path.stem, flush=True)


def compare(source: Path, name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    candidates = [Candidate(BACKBONE, *one.split(" ")) for one in KINDS[name].candidates]
    comparison = inshape.compare(source, candidates=candidates, latency=False, **settings)
    return {
        "pictures": comparison.pictures,
        "probes": {
            f"{c.input_shape} {c.strategy}": {
                "accuracy": None if c.accuracy is None else c.accuracy.as_dict(),
                **{part: getattr(c, part) for part in ("macs", "first", "right", "error")},
            }
            for c in comparison.candidates
        },
    }


def train(source: Path, one: str, name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """A candidate trained to the end, and how it answers the pictures that judge."""
    recipe = KINDS[name].recipe
    with tempfile.TemporaryDirectory() as place:
        candidate = Candidate(BACKBONE, *one.split(" "))
        run = inshape.train(
            source, candidate.input_shape, out=Path(place, "run"), backbone=BACKBONE,
            **candidate.options, **settings, **recipe, batch_size=8, baseline=False,
            patience=recipe["head_epochs"],
        )  # fmt: skip
        masks = {key: settings[key] for key in ("mask_ignore", "mask_names") if key in settings}
        opened = open_source(source, task=run.task, masks=MaskOptions(**masks))
        judging = Batches.open(opened.take(opened.indices("test")), run.preparation)
        answers = predict_answers(run.load_model(), run.task, judging)
        labels = judging.labels()
        return {
            "name": one,
            "score": run.task.score(answers, labels).main.as_dict(),
            "right": run.task.row_scores(answers, labels).round(_DIGITS).tolist(),
            "trained_on": len(opened.indices("train")),
        }


def table(folder: Path) -> str:
    """What is kept of each kind of pictures."""
    return "\n\n".join(part for name in KINDS if (part := table_of(folder / name, KINDS[name])))


def table_of(folder: Path, kind: Kind) -> str:
    if not (folder / COMPARED).exists():
        return ""
    comparison = json.loads((folder / COMPARED).read_text(encoding="utf-8"))
    probes = comparison["probes"]
    kept = [json.loads(p.read_text(encoding="utf-8")) for p in folder.glob("*.json")]
    trained = {one["name"]: [one] for one in kept if "name" in one}
    names = [name for name in trained if probes[name]["error"] is None]
    reached = {name: trained[name][0]["score"]["value"] for name in names}
    by_probe = sorted(names, key=lambda name: -share_of(probes[name]["right"]))
    lines = [
        f"## {kind.title}",
        "",
        "| candidate | MMACs | probe (95 %) | trained (95 %) | rank | rank by probe | CPU min |",
        "|---|---|---|---|---|---|---|",
    ]
    for rank, name in enumerate(sorted(names, key=lambda name: -reached[name]), 1):
        probe, (training,) = probes[name], trained[name]
        lines.append(
            f"| {name} | {probe['macs'] / 1e6:.0f} | {interval(probe['accuracy'])} "
            f"| {interval(training['score'])} | {rank} | {by_probe.index(name) + 1} "
            f"| {training['cpu_s'] / 60:.1f} |"
        )
    if len(names) < 2:
        return "\n".join(lines)
    tau, low, high = agreement(probes, trained, names)
    values = [share_of(probes[name]["right"]) for name in names]
    overall = kendalltau(values, [reached[name] for name in names]).statistic
    computed = sum(trained[name][0]["cpu_s"] for name in names)
    judged = len(trained[names[0]][0]["right"])
    return "\n".join(
        [
            *lines,
            "",
            f"- {comparison['pictures']} pictures to compare and train on, {judged} that judge.",
            f"- Kendall's tau between both rankings of {len(names)} candidates is {overall:.3f}.",
            f"- Where a trained candidate is ranked by the mean of the scores of single pictures, "
            f"which can be drawn anew, it is {tau:.3f} (95 % of bootstrap draws: {low:.3f} to "
            f"{high:.3f}).",
            f"- The comparison took {comparison['cpu_s'] / 60:.1f} CPU minutes, "
            f"{100 * comparison['cpu_s'] / computed:.0f} % of what the trainings took.",
        ]
    )


def interval(score: Mapping[str, float]) -> str:
    return f"{score['value']:.3f} [{score['low']:.3f}, {score['high']:.3f}]"


if __name__ == "__main__":
    main()

"""Does the probe of `inshape.compare` rank candidates as full fine-tuning does?

    python -m benchmarks.probe_fidelity PHOTOS [PHOTOS ...] --weights FILE [--out FOLDER]

The pictures of all PHOTOS (folders with one subfolder per class) are pooled and split anew, by a
fixed seed and the same share of every class: two thirds are compared and trained on, one third only
judges the fine-tuned models. `inshape.compare` ranks the candidates; then every candidate is
fine-tuned by `inshape.train` with all layers unfrozen and one recipe for all, once per number of
``--epochs``, and answers the judging third. Every part is a process of its own, so that its time is
the whole way from files.

Kept under ``--out`` is a JSON file per finished part, so that an interrupted run goes on, and the
comparison alone is measured anew where its file is removed. ``--table`` prints what is there, by
default the page docs/probe_fidelity.md from benchmarks/results/probe_fidelity.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau

from benchmarks import results_folder

Probes: TypeAlias = dict[str, dict[str, Any]]
"""What the comparison says of each candidate."""
Trained: TypeAlias = dict[str, list[dict[str, Any]]]
"""The trainings of each candidate."""
Right: TypeAlias = str | Sequence[float]
"""How well each picture was answered: 0 or 1 a letter, or numbers."""

BACKBONE = "MobileNetV3Large-minimalistic"
CANDIDATES = (
    "64x64x3:rebuild", "64x64x1:rebuild", "96x96x3:rebuild", "96x96x1:rebuild", "128x128x3:rebuild",
    "64x64x3:restride", "128x128x1:flexible", "160x160x3:flexible", "96x96x3:restride",
    "96x96x1:resize", "64x64x3:resize", "224x224x3:rebuild",
)  # fmt: skip
EPOCHS = "4,6"
JUDGED = 1 / 3
COMPARED = "comparison.json"
_RESAMPLES = 2000
PAGE = """# Does the probe rank candidates as full fine-tuning does?

Printed by `python -m benchmarks.probe_fidelity --table` from what each measurement left in \
`benchmarks/results/probe_fidelity`; `python -m benchmarks.probe_fidelity PHOTOS --weights FILE` \
measures. Photos of clothes in ten classes, split anew: {pictures} to compare and to train on, \
{judged} that only judge the fine-tuned models. The network is MobileNetV3Large-minimalistic with \
ImageNet weights. Every candidate was fine-tuned by `inshape.train` with all layers unfrozen, the \
same seed and recipe, once for each number of epochs; what it reached is the mean of these \
trainings.

The probe reads the means of the maps with which the last two stages end. Until this table had two \
trainings it read the last features alone, and ranked 96x96x3 and 64x64x3 by `restride` and \
`resize` too high: that set of maps was chosen on this very table, among a dozen, so that its tau \
is a little too good. Every set of maps tried that includes the last stage's map but not the last \
features did better than these; one without the last stage's map did far worse.

## Probed

A candidate that was dropped after the first round is ranked by its accuracy there plus what the \
others gained on average from the second round.
"""
LIMITS = """For every latency that separates candidates: what `inshape compare --max-latency` \
recommends, and whether it is on the Pareto front of the fine-tuned table: whether no other \
candidate is as fast and more accurate. Accuracies on {judged} pictures have a standard error of \
about a point, so that the front changes from training to training; the last column names \
candidates that are as fast and better by more than two standard errors of the paired difference, \
not corrected for their number."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("photos", type=Path, nargs="*", help="folders, one subfolder per class")
    parser.add_argument("--weights", type=Path, help=f"of {BACKBONE}")
    parser.add_argument("--candidates", default=",".join(CANDIDATES), help="SHAPE:STRATEGY,...")
    parser.add_argument("--pictures", type=int, help="take so many only, to try the script")
    parser.add_argument("--epochs", default=EPOCHS, help="of a training, and of another, ...")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="of results; by default runs/probe_fidelity")
    parser.add_argument("--table", action="store_true", help="print what is there")
    parser.add_argument("--part", nargs=2, metavar=("NAME", "FILE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part is not None:
        return part(*options.part, options)
    if not options.table and not (options.photos and options.weights):
        parser.error("expected PHOTOS and --weights FILE, or --table")
    options.out = results_folder("probe_fidelity", options.out, is_table=options.table)
    if not options.table:
        with tempfile.TemporaryDirectory() as scratch:
            pictures = Path(scratch) / "pictures.csv"
            write_table(options, pictures)
            measure("compare", pictures, options)
            for epochs in options.epochs.split(","):
                for name in options.candidates.split(","):
                    measure(f"{name}:{epochs}", pictures, options)
    print(report(options.out))


def write_table(options: argparse.Namespace, path: Path) -> None:
    """List all pictures with their split; the same for the same pictures and seed."""
    rng = np.random.default_rng(options.seed)
    by_class: dict[str, list[Path]] = {}
    for folder in options.photos:
        for file in sorted(f for f in folder.glob("*/*") if f.is_file()):
            by_class.setdefault(file.parent.name, []).append(file.resolve())
    share = 1.0
    if options.pictures:
        share = min(1.0, options.pictures / sum(len(files) for files in by_class.values()))
    with path.open("w", newline="", encoding="utf-8") as table:
        writer = csv.writer(table)
        writer.writerow(["path", "label", "split"])
        for label, files in sorted(by_class.items()):
            order = rng.permutation(len(files))[: max(4, round(share * len(files)))]
            judged = round(JUDGED * len(order))
            for place, index in enumerate(order):
                writer.writerow([files[index], label, "test" if place < judged else ""])


def measure(name: str, pictures: Path, options: argparse.Namespace) -> None:
    """Do a part in a process of its own, unless it is complete, and keep its results."""
    record = options.out / (COMPARED if name == "compare" else f"{name.replace(':', '-')}.json")
    if record.exists():
        return
    with tempfile.TemporaryDirectory() as scratch:
        output = Path(scratch) / "output.json"
        command = [sys.executable, "-m", "benchmarks.probe_fidelity", str(pictures)]
        command += ["--part", name, str(output), "--weights", str(options.weights)]
        command += ["--candidates", options.candidates, "--seed", str(options.seed)]
        print(name, flush=True)
        process = subprocess.run(
            command, stdout=subprocess.DEVNULL, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
        )
        if process.returncode:
            raise SystemExit(f"{name} ended with {process.returncode}")
        result = json.loads(output.read_text())
    unfinished = record.with_suffix(".part")
    unfinished.write_text(json.dumps(result, indent=1) + "\n")
    unfinished.replace(record)
    accuracy = "" if name == "compare" else f", accuracy {share_of(result['right']):.3f}"
    print(f"  {result['seconds']:.0f} s, load {result['load']:.1f}{accuracy}", flush=True)


def part(name: str, file: str, options: argparse.Namespace) -> None:
    """What the process of a part does."""
    begun, cpu = time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory() as scratch:
        if name == "compare":
            result = compare(options, Path(scratch), begun)
        else:
            result = finetune(name, options, Path(scratch), begun)
    facts = {"cpu_seconds": round(time.process_time() - cpu, 1), "load": os.getloadavg()[1]}
    Path(file).write_text(json.dumps({**result, **facts}))


def compare(options: argparse.Namespace, scratch: Path, begun: float) -> dict[str, Any]:
    """The comparison, and what it recommends under every latency limit that changes anything."""
    import inshape
    from inshape.comparison.result import Candidate

    named = [c.split(":") for c in options.candidates.split(",")]
    settings: dict[str, Any] = {
        "candidates": [Candidate(BACKBONE, shape, strategy) for shape, strategy in named],
        "weights": options.weights,
        "seed": options.seed,
        "out": scratch / "comparison",
    }
    comparison = inshape.compare(options.photos[0], **settings, show=True)
    seconds = time.perf_counter() - begun
    chosen: list[dict[str, Any]] = []
    for latency in sorted(c.latency_ms for c in comparison.candidates if c.latency_ms is not None):
        limit = round(1.01 * latency, 4)
        again = inshape.compare(options.photos[0], **settings, max_latency=limit)
        best = again.recommendation
        assert best is not None
        chosen.append({"limit_ms": limit, "name": key(best.input_shape, best.strategy)})
    return {
        "seconds": round(seconds, 1),
        "parts": dict(comparison.seconds),
        "pictures": comparison.pictures,
        "candidates": [c.but(plan=None).as_dict() for c in comparison.candidates],
        "recommended": chosen,
    }


def finetune(name: str, options: argparse.Namespace, scratch: Path, begun: float) -> dict[str, Any]:
    """A candidate trained to the end, and its answers to the judging pictures."""
    import inshape
    from inshape.data.batches import Batches
    from inshape.data.sources import open_source
    from inshape.evaluation.answers import predict_answers

    shape, strategy, epochs = name.split(":")
    run = inshape.train(
        options.photos[0], shape, out=scratch / "run", backbone=BACKBONE, weights=options.weights,
        strategy=strategy, seed=options.seed, unfreeze="all", epochs=int(epochs),
        patience=int(epochs), show=True,
    )  # fmt: skip
    seconds = time.perf_counter() - begun
    opened = open_source(options.photos[0], task=run.task)
    judging = Batches.open(opened.take(opened.indices("test")), run.preparation)
    answers = predict_answers(run.load_model(), run.task, judging).argmax(axis=1)
    return {
        "name": key(shape, strategy),
        "seconds": round(seconds, 1),
        "phases": run.record["seconds"],
        "trained_on": sum(run.record["data"]["train"].values()),
        "epochs": run.record["metrics"]["validation"].get("epochs"),
        "right": "".join("1" if r else "0" for r in answers == judging.catalogue.labels),
    }


def key(shape: str, strategy: str) -> str:
    return f"{shape}:{strategy}"


def share_of(right: Right) -> float:
    return float(scores_of(right).mean())


def scores_of(right: Right) -> NDArray[np.float64]:
    return np.array(list(right), np.float64)


def answers_of(trainings: Sequence[dict[str, Any]]) -> NDArray[np.float64]:
    """For each judging picture the share of a candidate's trainings that answer it rightly."""
    return np.mean([scores_of(t["right"]) for t in trainings], axis=0)


def reached(trainings: Sequence[dict[str, Any]]) -> float:
    return float(answers_of(trainings).mean())


def is_surely_better(one: Sequence[dict[str, Any]], other: Sequence[dict[str, Any]]) -> bool:
    difference = answers_of(one) - answers_of(other)
    return bool(difference.mean() > 2 * difference.std(ddof=1) / len(difference) ** 0.5)


def report(out: Path) -> str:
    """Everything that the stored parts say."""
    trained: Trained = {}
    for path in sorted(out.glob("*.json")):
        if path.name != COMPARED:
            training = json.loads(path.read_text())
            trained.setdefault(training["name"], []).append(training)
    if not (out / COMPARED).exists():
        return f"{len(trained)} fine-tunings, no comparison yet"
    comparison = json.loads((out / COMPARED).read_text())
    probes = {key(c["input_shape"], c["strategy"]): c for c in comparison["candidates"]}
    count = next((len(f[0]["right"]) for f in trained.values()), 0)
    lines = [PAGE.format(pictures=comparison["pictures"], judged=count), probe_table(probes), ""]
    both = [name for name in probes if name in trained and not probes[name]["error"]]
    if len(both) < 2:
        return "\n".join([*lines, f"{len(both)} of {len(probes)} fine-tuned"])
    lines += ["## Fine-tuned", "", finetuned_table(probes, trained, both), ""]
    lines += ["## Do they agree?", ""]
    tau, low, high = agreement(probes, trained, both)
    values = values_of(probes, both)
    lines.append(
        f"- Kendall's tau {tau:.3f} (95 % of bootstrap draws: {low:.3f} to {high:.3f}) between the "
        f"two rankings of {len(both)} candidates. A draw adds noise to rankings that are noisy "
        "already, so that most draws lie below the measured value."
    )
    schedules = {t["epochs"]: i for i, t in enumerate(trained[both[0]])}
    once = {e: [share_of(trained[n][i]["right"]) for n in both] for e, i in schedules.items()}
    for epochs, reached in once.items():
        tau_once = kendalltau([values[n] for n in both], reached).statistic
        lines.append(f"- With the training of {epochs} epochs alone it is {tau_once:.3f}.")
    for one, other in itertools.combinations(once, 2):
        between = kendalltau(once[one], once[other]).statistic
        lines.append(f"- The trainings of {one} and {other} epochs agree to {between:.3f}.")
    spent, computed = comparison["seconds"], comparison["cpu_seconds"]
    parts = {name: s for name, s in comparison["parts"].items() if name != "all"}
    by_part = ", ".join(f"{name} {s:.0f} s" for name, s in parts.items())
    lines.append(
        f"- The comparison took {spent:.0f} s by the clock ({by_part}; the rest is starting) and "
        f"{computed:.0f} CPU seconds, at load {comparison['load']:.0f}."
    )
    for epochs, i in schedules.items():
        clock = sum(trained[n][i]["seconds"] for n in both)
        cpu = sum(trained[n][i]["cpu_seconds"] for n in both)
        load = sum(trained[n][i]["load"] for n in both) / len(both)
        lines.append(
            f"- The trainings of {epochs} epochs took {clock:.0f} s and {cpu:.0f} CPU seconds, "
            f"at load {load:.0f}: the comparison is {100 * spent / clock:.1f} % and "
            f"{100 * computed / cpu:.1f} % of that."
        )
    lines.append("")
    if len(both) == len(probes):
        lines += ["## Under a latency limit", "", LIMITS.format(judged=count), ""]
        lines.append(limits_table(comparison["recommended"], probes, trained))
    return "\n".join(lines)


def probe_table(probes: Probes) -> str:
    lines = [
        "| candidate | probe | 95 % | pictures | on the first round's | ms | MMACs | seconds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    values = values_of(probes, list(probes))
    for name in sorted(probes, key=lambda n: -values[n]):
        c = probes[name]
        if c["error"]:
            lines.append(f"| {name} | {c['error']} | | | | | | |")
            continue
        score = c["accuracy"]
        first = f"{share_of(c['first']):.3f}" if c["first"] else ""
        lines.append(
            f"| {name} | {score['value']:.3f} | {score['low']:.3f} to {score['high']:.3f} "
            f"| {c['pictures']} | {first} | {c['latency_ms']:.2f} | {c['macs'] / 1e6:.0f} "
            f"| {sum(c['seconds'].values()):.0f} |"
        )
    return "\n".join(lines)


def finetuned_table(
    probes: Probes,
    trained: Trained,
    names: Sequence[str],
) -> str:
    lines = [
        "| candidate | fine-tuned | after epochs | rank | rank by probe | ms | Pareto front "
        "| seconds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    values = values_of(probes, names)
    by_probe = sorted(names, key=lambda n: -values[n])
    by_training = sorted(names, key=lambda n: -reached(trained[n]))
    pareto_front = find_pareto_front(probes, trained, names)
    for rank, name in enumerate(by_training, 1):
        each = trained[name]
        by_epochs = ", ".join(f"{t['epochs']}: {share_of(t['right']):.3f}" for t in each)
        lines.append(
            f"| {name} | {reached(each):.3f} "
            f"| {by_epochs} | {rank} "
            f"| {by_probe.index(name) + 1} | {probes[name]['latency_ms']:.2f} "
            f"| {'yes' if name in pareto_front else ''} | {sum(t['seconds'] for t in each):.0f} |"
        )
    return "\n".join(lines)


def values_of(probes: Probes, names: Sequence[str]) -> dict[str, float]:
    """By what the probe ranks: accuracy, on all pictures or as far as a candidate came.

    Fewer pictures make a worse classifier. A candidate that was dropped after the first round is
    ranked by its accuracy there plus what the others gained on average from the second round.
    """
    measured = [probes[n] for n in names if not probes[n]["error"]]
    gained = [
        share_of(c["right"]) - share_of(c["first"])
        for c in measured
        if c["first"] and len(c["right"]) > len(c["first"])
    ]
    most = max((len(c["right"]) for c in measured), default=0)
    gain = float(np.mean(gained)) if gained else 0.0
    return {
        n: -1.0
        if probes[n]["error"]
        else share_of(probes[n]["right"]) + (gain if len(probes[n]["right"]) < most else 0.0)
        for n in names
    }


def agreement(
    probes: Probes,
    trained: Trained,
    names: Sequence[str],
) -> tuple[float, float, float]:
    """Kendall's tau, and 95 % of what it is on pictures drawn anew with replacement.

    Both the probe's and the judging pictures are drawn, the same for all candidates. A draw adds
    noise to rankings that are noisy already, so that most draws' tau lies below the measured one.
    """
    values = values_of(probes, names)
    judged = np.array([answers_of(trained[n]) for n in names])
    probed = [scores_of(probes[n]["right"]) for n in names]
    offset = np.array([values[n] - p.mean() for n, p in zip(names, probed, strict=True)])
    tau = float(kendalltau([values[n] for n in names], judged.mean(axis=1)).statistic)
    rng = np.random.default_rng(0)
    draws: list[float] = []
    for _ in range(_RESAMPLES):
        rows = {n: rng.integers(n, size=n) for n in sorted({len(p) for p in probed})}
        one = np.array([p[rows[len(p)]].mean() for p in probed]) + offset
        other = judged[:, rng.integers(judged.shape[1], size=judged.shape[1])].mean(axis=1)
        draws.append(float(kendalltau(one, other).statistic))
    low, high = np.nanquantile(draws, [0.025, 0.975])
    return tau, float(low), float(high)


def find_pareto_front(
    probes: Probes,
    trained: Trained,
    names: Sequence[str],
) -> list[str]:
    """Candidates than which none is as fast and more accurate after fine-tuning."""

    def beats(other: str, name: str) -> bool:
        faster = probes[name]["latency_ms"] - probes[other]["latency_ms"]
        better = reached(trained[other]) - reached(trained[name])
        return faster >= 0 and better >= 0 and (faster > 0 or better > 0)

    return [n for n in names if not any(beats(other, n) for other in names)]


def limits_table(
    recommended: Sequence[dict[str, Any]],
    probes: Probes,
    trained: Trained,
) -> str:
    lines = [
        "| limit in ms | recommended | fine-tuned | on the Pareto front | best within the limit "
        "| as fast and surely better |",
        "|---|---|---|---|---|---|",
    ]
    pareto_front = find_pareto_front(probes, trained, list(probes))
    for row in recommended:
        within = [n for n in probes if probes[n]["latency_ms"] <= row["limit_ms"]]
        best = max(within, key=lambda n: reached(trained[n]))
        latency_ms = probes[row["name"]]["latency_ms"]
        beaten = [
            n
            for n in probes
            if probes[n]["latency_ms"] <= latency_ms
            and is_surely_better(trained[n], trained[row["name"]])
        ]
        lines.append(
            f"| {row['limit_ms']:.2f} | {row['name']} "
            f"| {reached(trained[row['name']]):.3f} "
            f"| {'yes' if row['name'] in pareto_front else 'no'} "
            f"| {best} {reached(trained[best]):.3f} | {', '.join(beaten) or 'none'} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()

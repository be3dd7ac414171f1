"""`inshape train` against the recipe that a Keras user writes by hand, from files to a model.

    python -m benchmarks.transfer TRAIN VALIDATION --weights FILE [--shapes 96x96x3] [--seeds 0,1,2]
        [--ways keras,inshape] [--other FILE] [--torch PYTHON]

Every training is a process of its own, so that its time is the whole way from JPEG files to a
trained model and its peak memory its own; the ways take turns, seed by seed. Finished trainings are
kept under ``--out``, so that an interrupted benchmark goes on. ``--table`` prints what is there, by
default the table of docs/transfer.md from benchmarks/results/transfer.

- ``keras``: benchmarks/keras_recipe.py, validated on VALIDATION after each epoch, as people do.
- ``inshape``: `inshape train TRAIN` with the defaults of its recipe; a tenth of TRAIN is held out.
- ``inshape-head``: the same with ``--unfreeze none``, the first thing that it reaches.

Only where asked for by ``--ways``:

- ``torch``: benchmarks/torch_recipe.py, the same recipe in PyTorch, by the Python of an environment
  that has torch, numpy, pillow and h5py (``--torch``).
- ``inshape-rebuild``: with ``--strategy rebuild``, which costs less where ``auto`` takes
  ``restride``.
- ``inshape-jax``, ``inshape-torch``: the defaults on another backend of Keras.
- ``keras-other``, ``inshape-other``: the recipe and the defaults with another network, a .keras
  file of one fixed size (``--other``).
- ``inshape-random``: with random weights, all of them trained.

The accuracy is that on VALIDATION, which `inshape train` never sees; times are the median of the
seeds, since other work can only lengthen them.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from scipy.stats import binomtest

from benchmarks import results_folder

BACKBONE = "MobileNetV3Large-minimalistic"
WAYS = ("keras", "inshape-head", "inshape")
CHANGES = {
    "inshape-head": ["--unfreeze", "none"],
    "inshape-rebuild": ["--strategy", "rebuild"],
    "inshape-random": ["--weights", "none", "--unfreeze", "all"],
}
BACKENDS = {"inshape-jax": "jax", "inshape-torch": "torch"}
SHAPES = "96x96x3,160x160x3,128x128x1"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("train", type=Path, nargs="?")
    parser.add_argument("validation", type=Path, nargs="?")
    parser.add_argument("--weights", type=Path, help=f"of {BACKBONE}")
    parser.add_argument("--shapes", default=SHAPES)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--other", type=Path, help="another network, for ways that end in other")
    parser.add_argument("--torch", default=sys.executable, help="the Python that has torch")
    parser.add_argument("--out", type=Path, help="of results; by default runs/transfer")
    parser.add_argument("--table", action="store_true", help="print the table of what is there")
    options = parser.parse_args()
    if not options.table and not (options.train and options.validation and options.weights):
        parser.error("expected TRAIN, VALIDATION and --weights FILE, or --table")
    options.out = results_folder("transfer", options.out, is_table=options.table)
    if not options.table:
        for seed in map(int, options.seeds.split(",")):
            for shape in options.shapes.split(","):
                for way in options.ways.split(","):
                    measure(way, shape, seed, options)
    print(table(options.out))


def measure(way: str, shape: str, seed: int, options: argparse.Namespace) -> None:
    """Train once in a process of its own, unless that is done already, and keep what came out."""
    record = options.out / f"{way}-{shape}-{seed}.json"
    if record.exists():
        return
    with tempfile.TemporaryDirectory() as scratch:
        output = Path(scratch) / "output"
        command = command_of(way, shape, seed, output, options)
        print(shlex.join(command), flush=True)
        result: dict[str, Any] = {
            "way": way,
            "shape": shape,
            "seed": seed,
            **timed(command, BACKENDS.get(way)),
        }
        if way.startswith("inshape"):
            result |= of_run(output, options.validation)
        else:
            result |= json.loads(output.read_text())
    record.write_text(json.dumps(result, indent=1) + "\n")
    accuracy = result["right"] / result["pictures"]
    print(f"  {result['seconds']:.0f} s, {accuracy:.3f}", flush=True)


def command_of(
    way: str, shape: str, seed: int, output: Path, options: argparse.Namespace
) -> list[str]:
    """What a training is run by."""
    is_other = way.endswith("-other")
    common = ["--seed", str(seed), "--out", str(output)]
    changes = CHANGES.get(way, [])
    if not is_other and "--weights" not in changes:
        common += ["--weights", str(options.weights)]
    if way.startswith("inshape"):
        backbone = str(options.other) if is_other else BACKBONE
        training = ["train", str(options.train), "--input", shape, "--backbone", backbone]
        return [sys.executable, "-m", "inshape", *training, *common, *changes]
    python = options.torch if way == "torch" else sys.executable
    module = f"benchmarks.{way.removesuffix('-other')}_recipe"
    other = ["--network", str(options.other)] if is_other else []
    folders = [str(options.train), str(options.validation)]
    return [python, "-m", module, *folders, "--shape", shape, *common, *other]


def timed(command: list[str], backend: str | None = None) -> dict[str, float]:
    """Run a command: seconds by the clock, CPU seconds, and peak memory in MB."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"}
    if backend is not None:
        environment["KERAS_BACKEND"] = backend
    begun = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{shlex.join(command)} ended with {process.returncode}")
    return {
        "seconds": round(time.perf_counter() - begun, 1),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_mb": round(usage.ru_maxrss / 1024),
        "load": os.getloadavg()[0],
    }


def of_run(folder: Path, validation: Path) -> dict[str, Any]:
    """What a run says of itself, and its answers on the validation pictures."""
    record = json.loads((folder / "run.json").read_text())
    answer = subprocess.run(
        [sys.executable, "-m", "inshape", "evaluate", str(folder), str(validation), "--json"],
        check=True,
        capture_output=True,
        text=True,
    )
    evaluated = json.loads(answer.stdout)
    pictures = evaluated["pictures"]
    return {
        "right": round(evaluated["accuracy"]["value"] * pictures),
        "pictures": pictures,
        "phases": record["seconds"],
        "rate": rate_of(record),
    }


def rate_of(record: dict[str, Any]) -> float | None:
    """Pictures per second with the backbone unfrozen, the frozen part's features included."""
    epochs = record["metrics"].get("validation", {}).get("epochs")
    if not epochs or "body" not in record["seconds"]:
        return None
    return epochs * sum(record["data"]["train"].values()) / record["seconds"]["body"]


def table(folder: Path) -> str:
    """The stored trainings as a Markdown table, a row per shape and way."""
    results = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    lines = [
        "| shape | way | seeds | seconds | of keras | CPU seconds | of keras | peak MB "
        "| pictures/s | accuracy of each seed | mean | 95 % |",
        f"|{'---|' * 12}",
    ]
    for shape in dict.fromkeys(f["shape"] for f in results):
        base = median_of(results, shape, "keras", "seconds")
        base_cpu = median_of(results, shape, "keras", "cpu_seconds")
        for way in dict.fromkeys([*WAYS, *(f["way"] for f in results)]):
            runs = [f for f in results if f["shape"] == shape and f["way"] == way]
            if not runs:
                continue
            right, pictures = sum(r["right"] for r in runs), sum(r["pictures"] for r in runs)
            # Seeds share the pictures, so that the interval is that of one seed's number of them.
            count = runs[0]["pictures"]
            interval = binomtest(round(right / len(runs)), count).proportion_ci(method="wilson")
            seconds = statistics.median(r["seconds"] for r in runs)
            computed = statistics.median(r["cpu_seconds"] for r in runs)
            cells = [
                shape,
                way,
                " ".join(str(r["seed"]) for r in runs),
                f"{seconds:.0f}",
                f"{seconds / base:.2f}" if base else "",
                f"{computed:.0f}",
                f"{computed / base_cpu:.2f}" if base_cpu else "",
                f"{max(r['peak_mb'] for r in runs):.0f}",
                rate(runs),
                " ".join(f"{r['right'] / r['pictures']:.3f}" for r in runs),
                f"{right / pictures:.3f}",
                f"{interval.low:.3f} to {interval.high:.3f}",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def median_of(results: Iterable[dict[str, Any]], shape: str, way: str, key: str) -> float | None:
    values = [f[key] for f in results if f["shape"] == shape and f["way"] == way]
    return statistics.median(values) if values else None


def rate(runs: list[dict[str, Any]]) -> str:
    """Training pictures per second, all epochs of the trained backbone, without the start."""
    rates = [r["rate"] for r in runs if r.get("rate")]
    return f"{statistics.mean(rates):.0f}" if rates else ""


if __name__ == "__main__":
    main()

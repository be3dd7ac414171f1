"""Flash and RAM by arithmetic beside converted files and TensorFlow Lite for Microcontrollers.

    python -m benchmarks.footprint [--out FOLDER]
    python -m benchmarks.footprint --table

plans MobileNets at many shapes, converts each as `export` does with a limit of memory, with weights
drawn at random, and has `tflite-micro` run the file. What was measured is kept under ``--out``, a
file each, so that a run goes on where another one ended; ``--table`` prints what is there, by
default the table of docs/footprint.md. The last lines name the worst. Exit code 1 if one is off by
more than 5 %, or below by more than 2 %.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import keras
import numpy as np

import inshape
from benchmarks import backbone_of, results_folder
from inshape.exporting.sidecar import embed
from inshape.planning import Plan
from inshape.runtime.arena import arena_of
from inshape.runtime.conversion import convert
from inshape.runtime.formats import FORMATS

NAME = "footprint"
_SMALL, _LARGE = "MobileNetV3Small", "MobileNetV3Large"
_V1, _V2 = "MobileNet-0.25", "MobileNetV2-0.35"
WAKE = "vww_96.h5"  # the visual wake words of MLPerf Tiny
_SIMPLE = "minimalistic"
_MOST_OFF, _MOST_BELOW = 0.05, 0.02

CASES = {
    _V1: "96x96x3 restride:48x48x1 128x128x1 160x120x1 224x224x3 restride:97x65x3 resize:96x96x3",
    WAKE: "96x96x1 160x120x1",
    "MobileNet-0.5": "96x96x3",
    _V2: "48x48x1 96x96x3 restride:96x96x1 resize:96x96x3 97x65x1 128x128x3 144x144x3 160x120x1 "
    "224x224x3",
    "MobileNetV2-0.5": "restride:128x128x1",
    _SMALL: "48x48x1 restride:48x48x3 resize:64x64x3 restride:96x96x1 restride:96x96x3 97x64x1 "
    "restride:128x128x1 160x120x3 224x224x3",
    f"{_SMALL}-0.75": "128x128x3",
    f"{_SMALL}-{_SIMPLE}": "resize:48x48x1 64x64x1 restride:96x96x1 96x96x3 restride:96x96x3 "
    "113x97x1 resize:128x128x1 224x224x3",
    _LARGE: "resize:64x64x3 restride:96x96x1 96x96x3 160x120x1 224x224x3",
    f"{_LARGE}-{_SIMPLE}": "64x64x1 96x96x3 restride:96x96x3 restride:128x128x1 160x120x1 "
    "224x224x3",
}
"""Shapes of each network; by rebuild where nothing else is said."""


@dataclass(frozen=True, slots=True)
class Row:
    """One network at one shape, in bytes."""

    network: str
    shape: str
    strategy: str
    flash_planned: int
    flash: int
    ram_planned: int
    ram: int

    @property
    def flash_ratio(self) -> float:
        """What was planned, by what the file takes."""
        return self.flash_planned / self.flash

    @property
    def ram_ratio(self) -> float:
        """What was planned, by what the interpreter takes."""
        return self.ram_planned / self.ram

    def __str__(self) -> str:
        cells = (
            *(f"{self.flash_planned:,}", f"{self.flash:,}", f"{self.flash_ratio:.3f}"),
            *(f"{self.ram_planned:,}", f"{self.ram:,}", f"{self.ram_ratio:.3f}"),
        )
        return f"| {self.network} {self.shape} | {self.strategy} | {' | '.join(cells)} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    folder = results_folder(NAME, options.out, is_table=options.table)
    if not options.table:
        for network, shape, strategy in cases():
            path = folder / f"{network}_{shape}_{strategy}.json"
            if not path.exists():
                row = measured(network, shape, strategy)
                path.write_text(json.dumps(asdict(row), indent=2) + "\n")
                print(row, flush=True)
    rows = read(folder)
    print(table(folder))
    return int(any(is_off(ratio) for row in rows for ratio in (row.flash_ratio, row.ram_ratio)))


def cases() -> Iterator[tuple[str, str, str]]:
    """Each network, shape and strategy."""
    for network, shapes in CASES.items():
        for word in shapes.split():
            strategy, _, shape = word.rpartition(":")
            yield network, shape, strategy or "rebuild"


def measured(network: str, shape: str, strategy: str) -> Row:
    """Convert a network and have the interpreter run its file."""
    plan = inshape.plan(backbone_of(network), shape, strategy=strategy, classes=10)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, "a.tflite")
        write(plan, path)
        arena, flash = arena_of(path), path.stat().st_size
    return Row(
        network=network,
        shape=shape,
        strategy=strategy,
        flash_planned=plan.footprint.flash_bytes or 0,
        flash=flash,
        ram_planned=plan.footprint.ram_bytes or 0,
        ram=(arena and arena.total_bytes) or 0,
    )


def write(plan: Plan, path: Path) -> None:
    """The int8 file of a network with random weights, with a card as `export` puts it in."""
    keras.utils.set_random_seed(0)
    model, rng = plan.build(weights=None), np.random.default_rng(0)
    randomise(model, rng)
    form, shape = FORMATS["litert-int8"], plan.static_shape.as_tuple()
    pictures = [rng.uniform(0, 255, (1, *shape)).astype("float32")] * 2
    convert(model, form, path, pictures=pictures, is_as_planned=True)
    labels = [f"class {n}" for n in range(10)]
    card = {
        "inshape": inshape.__version__,
        "format": form.name,
        "task": {"name": "classification"},
        "labels": labels,
        "input": {"shape": str(plan.input_shape), "dtype": "float32", "colour": "rgb"},
        "output": {"kind": "probabilities", "dtype": "float32"},
        "model": {"backbone": plan.network.name, "strategy": plan.strategy},
    }
    embed(path, form, card)


def randomise(model: keras.Model, rng: np.random.Generator) -> None:
    """Give vectors of weights values as after training: no two are the same."""
    for weight in model.weights:
        if len(weight.shape) == 1:
            spread = "gamma" in weight.path or "variance" in weight.path
            low, high = (0.5, 1.5) if spread else (-0.5, 0.5)
            weight.assign(rng.uniform(low, high, weight.shape))


def read(folder: Path) -> list[Row]:
    """What was measured, in the order of the cases."""
    paths = (folder / f"{'_'.join(case)}.json" for case in cases())
    return [Row(**json.loads(path.read_text())) for path in paths if path.exists()]


def table(folder: Path) -> str:
    """All rows, and the worst of each column."""
    rows = read(folder)
    heads = ("network", "strategy", "flash, planned", "file", "ratio", "RAM, planned", "arena")
    lines = [f"| {' | '.join((*heads, 'ratio'))} |", f"|{'---|' * 8}", *map(str, rows)]
    flash, ram = ([getattr(row, f"{what}_ratio") for row in rows] for what in ("flash", "ram"))
    lines += ["", f"{len(rows)} files: {span('flash', flash)}; {span('RAM', ram)}."]
    return "\n".join(lines)


def span(what: str, ratios: Sequence[float]) -> str:
    """The smallest and largest ratio."""
    return f"{what} {min(ratios):.3f} to {max(ratios):.3f} times what was measured"


def is_off(ratio: float) -> bool:
    """Whether a plan was too far off."""
    return abs(ratio - 1) > _MOST_OFF or ratio < 1 - _MOST_BELOW


if __name__ == "__main__":
    raise SystemExit(main())

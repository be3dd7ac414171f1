"""The accuracy that fits into the RAM of a micro-controller, with patches and without.

    python -m benchmarks.fits PHOTOS WEIGHTS [--out FOLDER]
    python -m benchmarks.fits --table

compares shapes and strategies of MobileNetV3Large-minimalistic on the photos, a folder per class,
under a limit on the RAM of the int8 file, as `inshape compare --max-ram` does: a candidate that is
over it as a whole is computed in patches, and one that is over it in patches too is dropped. Those
that fit and may be the best by the probe (in the interval of the one that is) are then trained with
the defaults, once for each seed, exported as int8 under the limit and run on photos that no
training has seen.
PHOTOS holds train/ and validation/. ``--out`` keeps what was measured, so that a run goes on where
another one ended; ``--table`` prints it, by default the tables of docs/fits.md.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import inshape
from benchmarks import results_folder
from inshape.comparison.result import Candidate
from inshape.text import format_bytes

NAME = "fits"
LIMIT_BYTES = 256 * 1024
BACKBONE = "MobileNetV3Large-minimalistic"
SHAPES = ("48x48x3", "64x64x3", "80x80x3", "88x88x3", "96x96x3")
STRATEGIES = ("rebuild", "restride")
SEEDS = (0, 1, 2)
_PROBED = "fits.json"


@dataclass(frozen=True, slots=True)
class Row:
    """A candidate under the limit."""

    shape: str
    strategy: str
    macs: int
    whole_bytes: int
    """RAM of the whole network."""
    ram_bytes: int
    """The same with the patches that come nearest to the limit, if it needs any."""
    accuracy: float | None
    """Of the probe; ``None`` if it does not fit."""
    interval: Sequence[float] | None

    @property
    def fits(self) -> str:
        """How it keeps to the limit, if it does."""
        if self.whole_bytes <= LIMIT_BYTES:
            return "as a whole"
        return "in patches" if self.ram_bytes <= LIMIT_BYTES else "no"

    def __str__(self) -> str:
        probed = "-"
        if self.accuracy is not None and self.interval is not None:
            probed = "{:.3f} ({:.3f} to {:.3f})".format(self.accuracy, *self.interval)
        cells = (
            f"{self.shape} {self.strategy}",
            *(format_bytes(amount) for amount in (self.whole_bytes, self.ram_bytes)),
            f"{self.macs / 1e6:.0f}",
            self.fits,
            probed,
        )
        return f"| {' | '.join(cells)} |"


@dataclass(frozen=True, slots=True)
class Tuned:
    """A candidate trained under the limit, and its int8 file on photos that are new to it."""

    shape: str
    strategy: str
    seed: int
    computed_as: str | None
    """The patches of the file, if it has any."""
    keras: float
    int8: float
    interval: Sequence[float]
    agreement: float
    arena_bytes: int
    size_bytes: int
    pictures: int

    def __str__(self) -> str:
        cells = (
            f"{self.shape} {self.strategy}",
            str(self.seed),
            # Keras numbers the layers of a process.
            re.sub(r'"[^"]*" \((.*)\)', r"\1", self.computed_as or "as a whole"),
            format_bytes(self.arena_bytes),
            format_bytes(self.size_bytes),
            f"{self.keras:.3f}",
            "{:.3f} ({:.3f} to {:.3f})".format(self.int8, *self.interval),
            f"{100 * self.agreement:.1f} %",
        )
        return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("photos", type=Path, nargs="?")
    parser.add_argument("weights", type=Path, nargs="?")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    folder = results_folder(NAME, options.out, is_table=options.table)
    if not options.table:
        if options.photos is None or options.weights is None:
            parser.error("name a folder of photos and a file of weights")
        rows = compared(options.photos, options.weights, folder / "comparison")
        text = json.dumps([asdict(row) for row in rows], indent=1)
        (folder / _PROBED).write_text(f"{text}\n", encoding="utf-8")
        for row, seed in itertools.product(finalists(rows), SEEDS):
            kept = folder / f"tuned-{row.shape}-{row.strategy}-{seed}.json"
            if not kept.exists():
                tuned = asdict(finetuned(options.photos, options.weights, row, seed))
                kept.write_text(f"{json.dumps(tuned)}\n", encoding="utf-8")
    print(table(folder))


def finalists(rows: Sequence[Row]) -> list[Row]:
    """Those that fit and that the probe does not tell from the best; the best comes first."""
    probed = [row for row in rows if row.accuracy is not None]
    least = (probed[0].interval or [0.0])[0]
    return [row for row in probed if (row.accuracy or 0.0) >= least]


def finetuned(photos: Path, weights: Path, row: Row, seed: int) -> Tuned:
    with tempfile.TemporaryDirectory() as scratch:
        run = inshape.train(
            photos / "train",
            row.shape,
            out=Path(scratch) / "run",
            backbone=BACKBONE,
            weights=str(weights),
            strategy=row.strategy,
            max_ram=LIMIT_BYTES,
            seed=seed,
        )
        exports = inshape.export(run, "litert-int8", data=photos / "validation", timing=False)
    (file,) = exports.files
    assert file.arena_bytes is not None
    return Tuned(
        shape=row.shape,
        strategy=row.strategy,
        seed=seed,
        computed_as=file.computed_as,
        keras=exports.keras_accuracy.value,
        int8=file.accuracy.value,
        interval=(file.accuracy.low, file.accuracy.high),
        agreement=file.agreement,
        arena_bytes=file.arena_bytes,
        size_bytes=file.size_bytes,
        pictures=file.pictures,
    )


def compared(photos: Path, weights: Path, out: Path) -> list[Row]:
    """Every shape by every strategy, the most accurate first."""
    comparison = inshape.compare(
        photos / "train",
        shapes=SHAPES,
        strategies=STRATEGIES,
        backbones=BACKBONE,
        weights=str(weights),
        max_ram=LIMIT_BYTES,
        latency=False,
        out=out,
    )
    return [row_of(candidate) for candidate in comparison.candidates]


def row_of(candidate: Candidate) -> Row:
    assert candidate.plan is not None, candidate.error
    score = candidate.accuracy
    return Row(
        shape=candidate.input_shape,
        strategy=candidate.strategy,
        macs=candidate.macs or 0,
        whole_bytes=candidate.plan["patches"]["whole_ram_bytes"],
        ram_bytes=candidate.ram_bytes or 0,
        accuracy=None if score is None else score.value,
        interval=None if score is None else (score.low, score.high),
    )


def table(folder: Path) -> str:
    """What was probed and what was trained, a row each."""
    rows = [Row(**row) for row in json.loads((folder / _PROBED).read_text(encoding="utf-8"))]
    tuned = [
        Tuned(**json.loads(path.read_text(encoding="utf-8")))
        for path in sorted(folder.glob("tuned-*.json"))
    ]
    heads = "candidate | RAM | in patches | MMACs | fits | probe (95 %)"
    tuned_heads = "candidate | seed | computed | arena | flash | Keras | int8 (95 %) | same answers"
    return f"{_lines(heads, rows)}\n\n{_lines(tuned_heads, tuned)}"


def _lines(heads: str, rows: Sequence[Row] | Sequence[Tuned]) -> str:
    return "\n".join([f"| {heads} |", f"|{'---|' * len(heads.split(' | '))}", *map(str, rows)])


if __name__ == "__main__":
    main()

"""The accuracy that fits into the RAM of a micro-controller, with patches and without.

    python -m benchmarks.fits PHOTOS WEIGHTS [--out FOLDER]
    python -m benchmarks.fits --table

compares shapes and strategies of MobileNetV3Large-minimalistic on the photos, a folder per class,
under a limit on the RAM of the int8 file, as `inshape compare --max-ram` does: a candidate that is
over it as a whole is computed in patches, and one that is over it in patches too is dropped. The
accuracy is the probe's. ``--out`` keeps what was measured, so that a run goes on where another one
ended; ``--table`` prints it, by default the table of docs/fits.md.
"""

from __future__ import annotations

import argparse
import json
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
_FILE = "fits.json"


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
        (folder / _FILE).write_text(f"{text}\n", encoding="utf-8")
    print(table(folder))


def compared(photos: Path, weights: Path, out: Path) -> list[Row]:
    """Every shape by every strategy, the most accurate first."""
    comparison = inshape.compare(
        photos,
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
    """A row for each candidate."""
    rows = [Row(**row) for row in json.loads((folder / _FILE).read_text(encoding="utf-8"))]
    heads = ("candidate", "RAM", "in patches", "MMACs", "fits", "probe (95 %)")
    return "\n".join([f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}", *map(str, rows)])


if __name__ == "__main__":
    main()

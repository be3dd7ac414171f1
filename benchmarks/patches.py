"""Networks in patches beside themselves as a whole, run by TensorFlow Lite for Microcontrollers.

    python -m benchmarks.patches PHOTOS [--out FOLDER]
    python -m benchmarks.patches --table

converts each network to int8 as `inshape export --io int8` does, with weights drawn at random, has
it computed in patches, measures both files and lets both answer the photos. What was measured is
kept under ``--out``, a file each, so that a run goes on where another one ended; ``--table`` prints
what is there, by default the table of docs/patches.md. Exit code 1 if an answer differs.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import keras
import numpy as np
from PIL import Image

import inshape
from benchmarks import backbone_of, results_folder
from benchmarks.footprint import WAKE, randomise
from inshape.geometry.cost import costs
from inshape.geometry.patches import Patches, find_spans, patched
from inshape.geometry.sizes import map_shapes
from inshape.graph.read import read
from inshape.runtime.arena import arena_of
from inshape.runtime.conversion import convert
from inshape.runtime.formats import FORMATS
from inshape.runtime.litert import LiteRTModel
from inshape.runtime.patches import in_patches
from inshape.shapes import InputShape
from inshape.text import format_bytes, format_shape

NAME = "patches"
_V1, _V2 = "MobileNet-0.25", "MobileNetV2-0.35"
_SMALL, _LARGE = "MobileNetV3Small", "MobileNetV3Large-minimalistic"


@dataclass(frozen=True, slots=True)
class Region:
    """Where a network is cut."""

    grid_hw: tuple[int, int]
    end_shape: tuple[int, int, int]
    """Of the map that it ends in."""
    nth: int = 0
    """Which of the maps of that shape."""

    def __str__(self) -> str:
        which = f" (number {self.nth + 1})" if self.nth else ""
        return f"{format_shape(self.grid_hw)} to {format_shape(self.end_shape)}{which}"


@dataclass(frozen=True, slots=True)
class Case:
    """A network at a shape, and where it is cut: once in each span, from the first on."""

    network: str
    shape: str
    strategy: str
    regions: tuple[Region, ...]

    @property
    def computed_as(self) -> str:
        """The patches in words."""
        return ", then ".join(map(str, self.regions))

    @property
    def name(self) -> str:
        """How it is known in a file's name."""
        words = f"{self.network} {self.shape} {self.strategy} {self.computed_as}"
        return re.sub(r"[^\w.-]+", "_", words)


CASES = (
    Case(_LARGE, "96x96x3", "restride", (Region((3, 1), (48, 48, 64)),)),
    Case(_LARGE, "96x96x3", "restride", (Region((3, 2), (48, 48, 24), 1),)),
    Case(_LARGE, "96x96x3", "restride", (Region((3, 3), (24, 24, 40)),)),
    Case(_LARGE, "96x96x3", "rebuild", (Region((2, 2), (24, 24, 24)),)),
    Case(_LARGE, "96x96x3", "rebuild", (Region((5, 1), (24, 24, 24)),)),
    Case(_SMALL, "96x96x3", "restride", (Region((2, 1), (48, 48, 16)),)),
    Case(
        _SMALL, "96x96x3", "restride",
        (Region((2, 2), (48, 48, 16)), Region((4, 1), (24, 24, 24))),
    ),
    Case(_V2, "144x144x3", "rebuild", (Region((2, 2), (36, 36, 8)),)),
    Case(_V2, "144x144x3", "rebuild", (Region((4, 2), (36, 36, 8)),)),
    Case(_V1, "96x96x1", "rebuild", (Region((4, 1), (24, 24, 16)),)),
    Case(_V1, "160x120x1", "rebuild", (Region((5, 1), (40, 30, 16)),)),
    Case(WAKE, "96x96x1", "rebuild", (Region((4, 1), (24, 24, 16)),)),
    Case(WAKE, "160x120x1", "rebuild", (Region((5, 1), (40, 30, 16)),)),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class File:
    """What a file takes, in bytes, and its operations."""

    size: int
    arena: int
    tensors: int
    macs: int


@dataclass(frozen=True, slots=True)
class Row:
    """A network as a whole and in patches."""

    network: str
    shape: str
    strategy: str
    computed_as: str
    whole: File
    cut: File
    floor: int
    """Of the tensors: the most that are alive behind the patches."""
    pictures: int
    same: int
    """Pictures to which every output of both files is the same."""

    def __str__(self) -> str:
        cells = (
            f"{self.network} {self.shape} {self.strategy}",
            self.computed_as,
            f"{format_bytes(self.whole.arena)} | {format_bytes(self.cut.arena)}",
            f"{format_bytes(self.whole.tensors)} | {format_bytes(self.cut.tensors)}",
            format_bytes(self.floor),
            f"{100 * (self.cut.macs / self.whole.macs - 1):.1f} %",
            f"{self.cut.size / self.whole.size:.3f}",
            f"{self.same} of {self.pictures}",
        )
        return f"| {' | '.join(cells)} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("photos", type=Path, nargs="?")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    folder = results_folder(NAME, options.out, is_table=options.table)
    if not options.table:
        if options.photos is None:
            parser.error("name a folder of photos")
        for case in CASES:
            path = folder / f"{case.name}.json"
            if not path.exists():
                row = measure(case, sorted(options.photos.rglob("*.jpg")))
                path.write_text(json.dumps(asdict(row), indent=1) + "\n", encoding="utf-8")
                print(row, flush=True)
    print(table(folder))
    return int(any(row.same < row.pictures for row in _rows(folder)))


def measure(case: Case, photos: Sequence[Path]) -> Row:
    shape = InputShape.of(case.shape)
    plan = inshape.plan(backbone_of(case.network), shape, strategy=case.strategy, classes=10)
    keras.utils.set_random_seed(0)
    model = plan.build(weights=None)
    randomise(model, np.random.default_rng(0))
    pictures = [_opened(photo, shape) for photo in photos]
    spec = read(model)
    shapes = map_shapes(spec, shape)
    regions: list[Patches] = []
    for region, span in zip(case.regions, find_spans(spec, shapes), strict=False):
        ends = [end for end in span.ends if shapes[end] == region.end_shape]
        regions.append(Patches(region.grid_hw, span.start, ends[region.nth]))
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "whole.tflite"
        convert(model, FORMATS["litert-int8"], path, pictures=pictures[:8], io="int8")
        content = path.read_bytes()
        whole = _taken(path, sum(c.macs or 0 for c in costs(spec, shape)))
        cut_content = in_patches(content, spec, shapes, regions)
        path.write_bytes(cut_content)
        cut_spec = patched(spec, shape, regions)
        cut = _taken(path, sum(c.macs or 0 for c in costs(cut_spec, shape)))
    runs = [LiteRTModel(part) for part in (content, cut_content)]
    same = sum(np.array_equal(runs[0](picture), runs[1](picture)) for picture in pictures)
    return Row(
        network=case.network,
        shape=case.shape,
        strategy=case.strategy,
        computed_as=case.computed_as,
        whole=whole,
        cut=cut,
        floor=_floor(cut_content),
        pictures=len(pictures),
        same=int(same),
    )


def _opened(photo: Path, shape: InputShape) -> np.ndarray:
    height, width, channels = shape.as_static_tuple()
    image = Image.open(photo).convert("L" if channels == 1 else "RGB").resize((width, height))
    return np.asarray(image, np.float32).reshape(1, height, width, channels)


def _taken(path: Path, macs: int) -> File:
    arena = arena_of(path)
    assert arena is not None
    assert arena.total_bytes is not None, "install tflite-micro"
    return File(path.stat().st_size, arena.total_bytes, arena.tensor_bytes, macs)


def _floor(content: bytes) -> int:
    """The most alive at one operator behind the last concatenation of pieces."""
    model = LiteRTModel(content, reference_kernels=True)
    model.allocate()
    steps, sizes = model.operators, model.tensor_bytes
    last = max(n for n, step in enumerate(steps) if step.name == "CONCATENATION")
    behind = steps[last + 1 :]
    born = {index: n for n, step in enumerate(steps) for index in step.outputs}
    last_read = {index: n for n, step in enumerate(steps) for index in step.inputs}
    return max(
        sum(sizes[i] for i, n in born.items() if n <= at <= last_read.get(i, n))
        for at in range(last + 1, last + 1 + len(behind))
    )


def table(folder: Path) -> str:
    head = (
        "| network | patches | RAM | in patches | tensors | in patches | floor | more MACs | file "
        "| same answers |"
    )
    return "\n".join([head, f"|{'---|' * 10}", *map(str, _rows(folder))])


def _rows(folder: Path) -> list[Row]:
    rows: list[Row] = []
    for case in CASES:
        path = folder / f"{case.name}.json"
        if path.exists():
            record = json.loads(path.read_text(encoding="utf-8"))
            files = {part: File(**record[part]) for part in ("whole", "cut")}
            rows.append(Row(**{**record, **files}))
    return rows


if __name__ == "__main__":
    sys.exit(main())

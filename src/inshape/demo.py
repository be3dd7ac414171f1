"""The demonstration: what becomes of a pretrained network at half its size, from files to a device.

The pictures are scikit-learn's handwritten digits, 1,797 of 8x8 grey pixels (Alpaydin and Kaynak
1998, UCI Machine Learning Repository), which are installed already. A ninth of them, twenty of each
digit, is for training. The network has the checkpoint that comes with inshape (``weights="demo"``).

First, before any training: one classifier, fitted at the network's native shape, answers at the new
shape as people change it and by each strategy. Then the recommended strategy and the one that does
as people do are fine-tuned by the same command, and the better one goes to a device.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .errors import OutputExists
from .planning import plan
from .requests import Folder, Request
from .shapes import InputShape
from .tasks.bootstrap import Score, mean_score
from .text import WIDTH, format_bytes, format_count, table
from .weights.demo import BACKBONE
from .writing import make_folder, read_json, reading

SHAPE = "112x112x1"
NATIVE = "224x224x3"
STRATEGIES = ("rebuild", "resize", "restride")

_EVERY = 9  # every ninth picture of a digit is for training
_TESTED = 8  # every eighth of the others is enough before training
_RUNS = {"restride": "run", "rebuild": "run-rebuild"}


@dataclass(frozen=True, slots=True)
class DemoRequest(Request):
    """Inspect, train, evaluate and export on handwritten digits."""

    out: Folder = Path("runs/demo")
    """A new folder for everything it writes."""


@dataclass(frozen=True, slots=True)
class Step:
    """A command of the demonstration: what it shows, and the words behind ``inshape``."""

    title: str
    words: tuple[str, ...]

    @property
    def command(self) -> str:
        """What a user would type."""
        return shlex.join(("inshape", *self.words))


@dataclass(frozen=True, slots=True)
class Way:
    """One way to run the network at a shape, and how good it is before any training."""

    name: str
    input_shape: str
    last_map: str
    field: float | None
    """The part of the picture's height that one pixel of the last map depends on."""
    macs: int | None
    accuracy: Score

    @property
    def cells(self) -> tuple[str, ...]:
        """A row of the table."""
        field = "-" if self.field is None else f"{self.field:.1f} times"
        return (
            self.name, self.input_shape, self.last_map, field, format_count(self.macs),
            str(self.accuracy),
        )  # fmt: skip


class _Console(Protocol):
    """The console of the command line, which stands below this room."""

    @property
    def as_json(self) -> bool: ...

    def answer(self, text: object, values: Mapping[str, Any]) -> None: ...


def run_demo(out: Path, console: _Console) -> int:
    """Write the digits, run every step as a command of its own, and say what was gained.

    Returns the exit code of the first command that fails, else 0.
    """
    begun = time.perf_counter()
    train, test = write_digits(out)
    print(
        f"handwritten digits of 8x8 grey pixels in {out / 'digits'}: {train} for training, {test} "
        "for testing"
    )
    print(
        f"\n# before any training: the same weights and one classifier, fitted at {NATIVE}, on "
        f"{-(-test // _TESTED)} pictures\n",
        flush=True,
    )
    ways = before_training()
    print("\n".join(describe(ways)))
    print(f"({time.perf_counter() - begun:.0f} s)", flush=True)
    for step in steps(out):
        print(f"\n# {step.title}\n$ {step.command}\n", flush=True)
        started = time.perf_counter()
        words = [sys.executable, "-m", "inshape", *step.words]
        code = subprocess.run(words, stdout=sys.stderr if console.as_json else None, check=False)
        if code.returncode:
            return code.returncode
        print(f"({time.perf_counter() - started:.0f} s)", flush=True)
    seconds = time.perf_counter() - begun
    trained, (path, flash, ram) = accuracies(out), device_file(out)
    lines = [f"after fine-tuning, on {test} pictures that no training saw:"]
    lines += [f"  {strategy}: {score}" for strategy, score in trained.items()]
    lines += [f"for the device: {path}, flash {format_bytes(flash)}, RAM {format_bytes(ram)}"]
    lines += [f"the report: {out / 'run' / 'report.html'}", f"complete in {seconds:.0f} s"]
    lines += ["", "with photos of your own, one folder per class:"]
    lines += ["  inshape train photos --input 96x96x3 --out runs/mine"]
    console.answer(
        "\n".join(["", *lines]),
        {
            "run": str(out / "run"),
            "seconds": round(seconds, 1),
            "before": [{**asdict(way), "accuracy": way.accuracy.as_dict()} for way in ways],
            "trained": {strategy: score.as_dict() for strategy, score in trained.items()},
            "file": {"path": path, "flash_bytes": flash, "ram_bytes": ram},
        },
    )
    return 0


def before_training(strategies: Sequence[str] = STRATEGIES) -> list[Way]:
    """How many digits one classifier answers rightly, at the native shape and by each way."""
    import keras  # slow to import, as what follows
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    pictures, labels, is_train = _digits()
    tested = np.flatnonzero(~is_train)[::_TESTED]

    def features(model: Any, at: NDArray[np.intp]) -> NDArray[np.float32]:
        _, height, width, channels = model.input_shape
        rows = [_resized(pictures[i], (height, width)) for i in at]
        grey = np.stack(rows)[..., None]
        return model.predict(np.repeat(grey, channels, axis=-1), verbose=0)

    native = plan(BACKBONE, NATIVE, strategy="rebuild")
    network = native.build("demo")
    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
    train = np.flatnonzero(is_train)
    classifier.fit(features(network, train), labels[train])

    def way(name: str, shape: str, planned: Any, model: Any) -> Way:
        right = classifier.predict(features(model, tested)) == labels[tested]
        geometry = planned.geometry
        field, height = geometry.final_field_hw[0], geometry.working_shape.height
        return Way(
            name=name,
            input_shape=shape,
            last_map=str(geometry.final_map),
            field=None if field is None else field / height,
            macs=geometry.macs,
            accuracy=mean_score(right.astype(float)),
        )

    plans = {name: plan(BACKBONE, SHAPE, strategy=name) for name in strategies}
    shape = InputShape.of(SHAPE)
    same = plan(BACKBONE, SHAPE, strategy="rebuild")
    options: Any = {"minimalistic": True, "include_top": False, "weights": None, "pooling": "avg"}
    usual = keras.applications.MobileNetV3Small(input_shape=(*shape.hw, 3), **options)
    usual.set_weights(network.get_weights())
    recommended = plan(BACKBONE, SHAPE).strategy
    return [
        way("native", NATIVE, native, network),
        way("Keras itself", f"{shape.size}x3", same, usual),
        *(
            way(f"{name}{' *' * (name == recommended)}", SHAPE, planned, planned.build("demo"))
            for name, planned in plans.items()
        ),
    ]


def describe(ways: list[Way]) -> list[str]:
    """The table of the ways, and why they differ."""
    heads = ("way", "input", "last map", "field", "MACs", "accuracy [95 %]")
    lines = table(heads, [way.cells for way in ways], left=3, width=WIDTH)
    return [
        *lines,
        "",
        "field: how much of the picture's height one pixel of the last map depends on.",
        "Keras itself (input_shape=, or clone_model) and rebuild show the layers objects",
        "of half the size that they were trained at. resize enlarges the picture, and",
        "restride halves the first convolution's stride: both show them what they know.",
        "* recommended by inshape inspect, and trained below",
    ]


def steps(out: Path) -> tuple[Step, ...]:
    """The commands in order; everything that they write is in one folder.

    Example:
        >>> [step.words[0] for step in steps(Path("a"))][:4]
        ['inspect', 'train', 'train', 'evaluate']
    """
    train, test = str(out / "digits/train"), str(out / "digits/test")
    run, other = (str(out / name) for name in _RUNS.values())
    return (
        Step("which strategy, and what it does", ("inspect", BACKBONE, SHAPE, "--classes", "10")),
        Step("fine-tune by that strategy", _train(train, "restride", run)),
        Step("the same as people do it", _train(train, "rebuild", other)),
        Step("accuracy on pictures that the training never saw", ("evaluate", run, test)),
        Step("and as people do it", ("evaluate", other, test)),
        Step(
            "a file for a device, compared with the model",
            ("export", run, "--to", "litert-int8", "--data", test, "--pictures",
             "400", "--min-agreement", "0.9"),
        ),
        Step(
            "one picture, classified by the file",
            ("predict", f"{run}/exports/model-int8.tflite", f"{test}/7/17.png"),
        ),
        Step("the run as a page", ("report", run)),
    )  # fmt: skip


def _train(pictures: str, strategy: str, run: str) -> tuple[str, ...]:
    return (
        "train", pictures, "--input", SHAPE, "--weights", "demo", "--strategy", strategy,
        "--no-flip", "--out", run,
    )  # fmt: skip


def accuracies(out: Path) -> dict[str, Score]:
    """The accuracy that each strategy's run was evaluated at."""
    with reading(out, "what the steps of the demonstration wrote; begin it again"):
        records = {way: read_json(out / run / "metrics.json") for way, run in _RUNS.items()}
        return {way: Score(**record["accuracy"]) for way, record in records.items()}


def device_file(out: Path) -> tuple[str, int, int | None]:
    """The int8 file, its size, and what it takes of RAM: measured, or else as planned."""
    with reading(out, "what the steps of the demonstration wrote; begin it again"):
        (row,) = read_json(out / "run/exports/exports.json")["exports"]
        ram = row["arena_bytes"] or row["planned_ram_bytes"]  # tensors alone are not all of it
        return str(out / "run/exports" / row["path"]), int(row["size_bytes"]), ram


def _digits() -> tuple[NDArray[np.uint8], NDArray[np.intp], NDArray[np.bool_]]:
    """The pictures, their labels, and which of them are for training."""
    from sklearn.datasets import load_digits  # slow to import

    digits: Any = load_digits()
    pictures = np.round(digits.images * (255 / 16)).astype(np.uint8)
    number = np.zeros(len(pictures), np.intp)
    for label in range(10):
        own = np.flatnonzero(digits.target == label)
        number[own] = np.arange(len(own))
    return pictures, digits.target, number % _EVERY == 0


def _resized(pixels: NDArray[np.uint8], size_hw: tuple[int, int]) -> NDArray[np.float32]:
    from PIL import Image

    height, width = size_hw
    resized = Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(resized, np.float32)


def write_digits(out: Path) -> tuple[int, int]:
    """Write the digits as a folder per class; returns how many are for training and for testing.

    Raises:
        OutputExists: if something is there already.
        RunError: if the folder cannot be written.
    """
    from PIL import Image  # of an extra

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OutputExists(f"{out} exists already; expected a new folder; name another with --out")
    pictures, labels, is_train = _digits()
    for number, (pixels, label) in enumerate(zip(pictures, labels, strict=True)):
        folder = out / "digits" / ("train" if is_train[number] else "test") / str(label)
        make_folder(folder)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return int(is_train.sum()), int((~is_train).sum())

"""Commands that are killed at random points and called again: do they end as in one go?

Run as ``python -m benchmarks.kills --points 60 --seed 0``. Half of the kills come just before one
of the command's own changes to its folder (a file opened for writing, a rename, a removal), drawn
at random from all of them; the others come at a random time. Then the next call is made, which is
``train --resume`` where there is a run to resume and the same command elsewhere, and the folder is
held against that of a command that was not killed: weights, history, scores, exported files and
page, and that nothing else lies there. Exit code 1 says that a point ended otherwise.
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from . import results_folder

SIDE = (20, 16)
CLASSES = ("bright", "dark")
PICTURES = 12
TRAINING: dict[str, Any] = {
    "shape": "11x9x1", "weights": None, "strategy": "rebuild", "unfreeze": "last", "hidden": 8,
    "epochs": 2, "head_epochs": 2, "patience": 99, "batch_size": 8, "validation": 0.25, "seed": 1,
    "views": 2, "learning_rate": 0.2, "warmup_epochs": 0.0,
}  # fmt: skip
COMPARING: dict[str, Any] = {
    "shapes": ["11x9x1", "9x7x1"], "weights": None, "strategies": "rebuild", "latency": False,
}  # fmt: skip
EXPORTING: dict[str, Any] = {"to": ["litert", "litert-int8"], "timing": False}
CHANGES = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir")
VOLATILE = ("seconds", "engine", "kept")
"""What two calls that are not killed say differently as well."""


@dataclass(frozen=True)
class Inputs:
    """What every call reads."""

    home: Path

    @property
    def photos(self) -> Path:
        """A folder per class."""
        return self.home / "photos"

    @property
    def network(self) -> Path:
        """The file of a small network."""
        return self.home / "small.keras"

    def make(self) -> None:
        """Write both."""
        import keras
        from PIL import Image

        rng = np.random.default_rng(0)
        for name in CLASSES:
            (self.photos / name).mkdir(parents=True)
            for number in range(PICTURES):
                level = (50, 210)[int(name == "bright")] + rng.normal(0, 25, SIDE)
                pixels = np.clip(level, 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(self.photos / name / f"{number:02}.png")
        keras.utils.set_random_seed(3)
        layers = keras.layers
        image = keras.Input((*SIDE, 1))
        x = layers.Rescaling(1 / 127.5, offset=-1)(image)
        x = layers.Conv2D(6, 3, strides=2, padding="same", name="stem")(x)
        x = layers.ReLU()(layers.BatchNormalization()(x))
        x = layers.ReLU()(layers.Conv2D(8, 3, strides=2, padding="same", name="last")(x))
        x = layers.Dense(5)(layers.GlobalAveragePooling2D()(x))
        keras.Model(image, x).save(self.network)


@dataclass(frozen=True)
class Command:
    """A command in a folder of its own, in which it writes ``out``."""

    name: str
    inputs: Inputs

    @property
    def out(self) -> str:
        """The folder that it writes."""
        return "found" if self.name == "compare" else "run"

    def call(self) -> None:
        """What is typed, the first time and after a kill."""
        import inshape

        photos, network = str(self.inputs.photos), str(self.inputs.network)
        if self.name == "train":
            if Path(self.out, "run.json").exists():
                inshape.resume(self.out)
            else:
                inshape.train(photos, out=self.out, backbone=network, **TRAINING)
        elif self.name == "compare":
            inshape.compare(photos, out=self.out, backbones=network, **COMPARING)
        else:
            inshape.export(self.out, **EXPORTING)

    def begin(self, folder: Path, whole: dict[str, Path]) -> None:
        """Make its folder with what is there before it."""
        folder.mkdir(parents=True)
        if self.name == "export":
            shutil.copytree(whole["train"] / self.out, folder / self.out)


@dataclass(frozen=True)
class Point:
    """A kill and what came of it."""

    command: str
    before: str
    """The change that it came before, or the time at which it came."""
    answer: str = ""
    """What the next call refused, where an export had been complete before the kill came."""
    faults: list[str] = field(default_factory=list)


def in_child(folder: Path, work: Callable[[], object], kill_after_s: float | None = None) -> int:
    """Do something in a process of its own; its exit code, negative if it was killed."""
    child = os.fork()
    if not child:
        code = 1
        try:
            os.chdir(folder)
            log = os.open(folder.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            for stream in (1, 2):
                os.dup2(log, stream)
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        sys.stderr.flush()
        os._exit(code)
    end = None if kill_after_s is None else time.monotonic() + kill_after_s
    while end is not None:
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            break
        if time.monotonic() >= end:
            os.kill(child, signal.SIGKILL)
            break
        time.sleep(0.005)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def watched(command: Command, note: Path, kill_at: int | None = None) -> Callable[[], None]:
    """The command with its changes counted, killed before one of them; the note names the last."""

    def work() -> None:
        numbers, here = itertools.count(), os.getcwd()
        notes = note.open("w", buffering=1)

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            if event not in CHANGES or not isinstance(arguments[0], str | Path):
                return
            if event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR):
                return
            path = os.path.abspath(arguments[0])
            if path.startswith(here):
                number = next(numbers)
                name = re.sub("[0-9a-f]{8,}", "*", os.path.relpath(path, here))
                notes.write(f"{event.removeprefix('os.')} {name}\n")
                if number == kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
        command.call()

    return work


def differences(folder: Path, whole: Path) -> Iterator[str]:
    """What is otherwise in a folder than in one whose command was not killed."""
    names, expected = ({_neutral(p, f) for p in f.rglob("*")} for f in (folder, whole))
    yield from (f"litter: {name}" for name in sorted(names - expected))
    yield from (f"missing: {name}" for name in sorted(expected - names))
    for path in sorted(p for p in whole.rglob("*") if p.is_file()):
        name = path.relative_to(whole)
        if name.parts[0] == "logs" or name.parts[0] == "candidates" or not (folder / name).exists():
            continue  # event files are named after the time; a candidate's record holds its seconds
        if not _is_alike(folder / name, path):
            yield f"differs: {name}"


def _neutral(path: Path, folder: Path) -> str:
    """A file's name without what differs from call to call."""
    name = path.relative_to(folder)
    return "logs/events" if name.parts[0] == "logs" and len(name.parts) > 1 else name.as_posix()


def _is_alike(one: Path, other: Path) -> bool:
    if one.suffix == ".keras":
        weights = [_weights(path) for path in (one, other)]
        return weights[0].keys() == weights[1].keys() and all(
            np.allclose(weights[0][name], value, rtol=1e-5, atol=1e-6)
            for name, value in weights[1].items()
        )
    if one.name in ("run.json", "comparison.json"):
        first, second = (_steady(json.loads(path.read_text())) for path in (one, other))
        return first == second
    if one.suffix == ".html":
        return _page(one) == _page(other)
    return one.read_bytes() == other.read_bytes()


def _weights(path: Path) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(path) as archive:
        content = io.BytesIO(archive.read("model.weights.h5"))
    weights: dict[str, np.ndarray] = {}

    def keep(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            weights[name] = item[()]

    with h5py.File(content) as file:
        file.visititems(keep)
    return weights


def _steady(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _steady(v) for k, v in value.items() if k not in VOLATILE}
    if isinstance(value, list):
        return [_steady(v) for v in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value


def _page(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    return re.sub(r'<section id="time">.*?</section>', "", text, flags=re.DOTALL)


def measure(home: Path, commands: list[str], points: int, seed: int) -> list[Point]:
    """Kill each command in turn at its share of the points."""
    inputs, whole = Inputs(home / "inputs"), dict[str, Path]()
    inputs.home.mkdir()
    assert in_child(inputs.home, inputs.make) == 0, inputs.home.with_suffix(".log").read_text()
    changes: dict[str, list[str]] = {}
    seconds: dict[str, float] = {}
    for name in dict.fromkeys(["train", *commands]):
        command, whole[name] = Command(name, inputs), home / "whole" / name
        command.begin(whole[name], whole)
        begun, note = time.monotonic(), home / "note"
        code = in_child(whole[name], watched(command, note))
        seconds[name] = time.monotonic() - begun
        assert code == 0, whole[name].with_suffix(".log").read_text()
        changes[name] = note.read_text().splitlines()
        print(f"{name}: {len(changes[name])} changes in {seconds[name]:.1f} s", flush=True)
    rng, found = random.Random(seed), []
    for number in range(points):
        command = Command(commands[number % len(commands)], inputs)
        name, folder, note = command.name, home / f"{number:03}", home / "note"
        command.begin(folder, whole)
        if number // len(commands) % 2:
            after_s = rng.uniform(0.0, seconds[name])
            in_child(folder, command.call, after_s)
            before = f"{after_s:.2f} s"
        else:
            in_child(folder, watched(command, note, rng.randrange(len(changes[name]))))
            before = note.read_text().splitlines()[-1]
        answer, faults = "", list[str]()
        if in_child(folder, command.call):
            answer = folder.with_suffix(".log").read_text().splitlines()[-1]
            if name != "export" or "exists already" not in answer:
                faults.append(answer)
        faults += differences(folder / command.out, whole[name] / command.out)
        faults += [f"litter: {p.name}" for p in folder.iterdir() if p.name != command.out]
        found.append(Point(name, before, answer, faults))
        print(f"{number:3} {name:8} {before:70} {'; '.join(faults) or 'as in one go'}", flush=True)
        if not faults:
            shutil.rmtree(folder)
    return found


def table(folder: Path) -> str:
    """The kept points as a Markdown table, a row for each kind of place."""
    points = json.loads((folder / "kills.json").read_text())["points"]
    kinds = Counter[tuple[str, str]]()
    right = Counter[tuple[str, str]]()
    for point in points:
        before = point["before"]
        kind = point["command"], "at a random time" if before.endswith(" s") else f"`{before}`"
        kinds[kind] += 1
        right[kind] += not point["faults"]
    rows = [f"| {name} | {place} | {n} | {right[name, place]} |" for (name, place), n in
            sorted(kinds.items())]  # fmt: skip
    total = f"| | | {len(points)} | {right.total()} |"
    head = "| command | killed before | points | ended as in one go |"
    return "\n".join([head, f"|{'---|' * 4}", *rows, total])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--commands", nargs="+", default=["train", "compare", "export"])
    parser.add_argument("--out", type=Path, help="where kills.json goes")
    parser.add_argument("--keep", action="store_true", help="keep the folders")
    parser.add_argument("--table", action="store_true", help="print what is kept as a table")
    options = parser.parse_args()
    if options.table:
        print(table(results_folder("kills", options.out, is_table=True)))
        return 0
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # Imported once for all children, in each of which TensorFlow starts anew.
    import inshape.comparison.api
    import inshape.exporting.api
    import inshape.training.api  # noqa: F401

    home = Path(tempfile.mkdtemp(prefix="kills-")).resolve()
    os.environ["XDG_CACHE_HOME"] = str(home / "cache")
    os.environ["TMPDIR"] = str(home)
    points = measure(home, options.commands, options.points, options.seed)
    folder = results_folder("kills", options.out, is_table=False)
    record = {"seed": options.seed, "points": [asdict(point) for point in points]}
    (folder / "kills.json").write_text(json.dumps(record, indent=2) + "\n")
    bad = [point for point in points if point.faults]
    print(f"{len(points) - len(bad)} of {len(points)} ended as in one go")
    if not options.keep and not bad:
        shutil.rmtree(home)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())

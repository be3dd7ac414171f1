"""Networks that no one here wrote, brought to other input shapes, against their own constructors.

    python -m benchmarks.zoo [--only NAME] [--table]

measures the networks of benchmarks/zoo_networks.py of which nothing is kept yet, each in a process
of its own, so that memory stays bounded and a crash is that network's. What each left stands in
benchmarks/results/zoo, a file each, so that a second call goes on; ``--table`` prints the page
docs/zoo.md from there.

A source with random weights and non-trivial batch-norm statistics is built at its native shape and
changed in five ways. Its answers to two random pictures are compared with those of

- ``smaller``, ``odd``: the constructor's own model at that shape, with the source's weights;
- ``1 channel``: the source on three equal channels (``channels="sum"``);
- ``4 channels``: the source on the first three of them (``channels="zero"``);
- ``any size``: the constructor's own models at two sizes that it can build, in the steps in which
  the plan says that sizes fit.

In the same run the plan is held against what is built: parameters, multiply-accumulates
(benchmarks/zoo_macs.py) and the map of every layer.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

import inshape
from benchmarks import RESULTS
from benchmarks.families import pictures, randomise
from benchmarks.zoo_macs import measure
from benchmarks.zoo_networks import Network, networks
from inshape.errors import InshapeError
from inshape.geometry.sizes import map_shapes

SMALLER, ODD = (96, 96), (97, 131)
FITTING = ((96, 160), (160, 96), (192, 128), (64, 64))
"""Where a constructor cannot build the others: multiples of 32, and two windows of 8 at that."""
WAYS = ("smaller", "odd", "1 channel", "4 channels", "any size")
RIGHT, WRONG, REFUSED, BOTH, CRASHED, ALONE, SLOW = VERDICTS = (
    "right",
    "wrong",
    "refused",
    "both refuse",
    "crashed",
    "constructor can't",
    "too slow",
)
LIMIT_S = 480
_MEMORY_BYTES = 16 << 30
_SHOWN_CHARS = 300

HWC = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Cell:
    """What became of one network in one way.

    Attributes:
        verdict: one of VERDICTS.
        shape: the input shape that was asked for.
        note: the message, or why nothing could be compared.
        difference: the largest absolute difference, of the output in which it weighs most.
        largest: the largest absolute value of that output.
        spread: how far its values for two pictures lie apart.
        noise: how far they move where every pixel moves by a millionth of itself.
        params: those planned and those built.
        macs: those planned (``None``: unknown), those known at least, and those counted.
        maps: how many maps were compared, and those that differ.
    """

    verdict: str
    shape: str
    note: str = ""
    difference: float | None = None
    largest: float | None = None
    spread: float | None = None
    noise: float | None = None
    params: tuple[int | None, int] | None = None
    macs: tuple[int | None, int, int] | None = None
    maps: tuple[int, tuple[str, ...]] | None = None


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="*", metavar="NAME", help="names, or parts of names")
    parser.add_argument("--again", action="store_true", help="measure what is kept already, too")
    parser.add_argument("--out", type=Path, default=RESULTS / "zoo", help="of results")
    parser.add_argument("--table", action="store_true", help="print the table of what is there")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.table:
        print(table(options.out))
        return
    chosen = list(networks())
    if options.only:
        exact = [n for n in chosen if n.name in options.only]
        chosen = exact or [n for n in chosen if any(part in n.name for part in options.only)]
    if options.here:
        (network,) = chosen
        judge(network, options.out / file_name(network))
        return
    missing = Counter(n.package for n in chosen if not n.is_installed)
    for package, count in missing.items():
        print(f"skipped {count} networks: {package} is not installed (pip install 'inshape[zoo]')")
    for number, network in enumerate(chosen, 1):
        path = options.out / file_name(network)
        if network.is_installed and (options.again or not path.exists()):
            print(f"{number}/{len(chosen)} {network.name}: {in_own_process(network, path)}")
            sys.stdout.flush()


def file_name(network: Network) -> str:
    """Where its result is kept."""
    return network.name.replace("/", "-").replace(" ", "-").replace("+", "p") + ".json"


def in_own_process(network: Network, path: Path) -> str:
    """Judge one network and keep what came out, however it ended; one line that says it."""
    begun = time.perf_counter()
    ending = ""
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-m", "benchmarks.zoo", "--here", "--out", scratch]
        try:
            done = subprocess.run(
                [*command, "--only", network.name], capture_output=True, text=True, timeout=LIMIT_S
            )
            if done.returncode:
                lines = done.stderr.strip().splitlines() or [""]
                ending = f"the process ended with {done.returncode}: {lines[-1][:_SHOWN_CHARS]}"
        except subprocess.TimeoutExpired:
            ending = f"stopped after {LIMIT_S} s"
        kept = Path(scratch) / path.name
        record = json.loads(kept.read_text()) if kept.exists() else {"name": network.name}
    if ending and "ways" not in record:
        record["unbuilt"] = ending  # no inshape before the first way
    cells = record.get("ways", {})
    for way in WAYS if ending and not record.get("unbuilt") else ():
        verdict = SLOW if ending.startswith("stopped") else CRASHED
        cells.setdefault(way, asdict(Cell(verdict, "", ending)))
    record["seconds"] = round(time.perf_counter() - begun)
    path.write_text(json.dumps(record, indent=1, default=int) + "\n")
    words = ", ".join(f"{way} {cell['verdict']}" for way, cell in cells.items())
    return f"{words or record.get('unbuilt')} ({record['seconds']} s)"


def judge(network: Network, path: Path) -> None:
    """Judge one network in every way; what is known so far is kept after each."""
    record: dict[str, Any] = {"name": network.name, "native": "x".join(map(_word, network.native))}

    def keep() -> None:
        record["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        path.write_text(json.dumps(record, indent=1, default=int) + "\n")

    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    try:
        judged = Judge(network)
    except Exception as error:
        record["unbuilt"] = _first_line(error)
        keep()
        return
    record["params"] = judged.source.count_params()
    record["ways"] = {}
    keep()
    for way in WAYS:
        record["ways"][way] = asdict(judged.cell(way))
        keep()


def _word(length: int | None) -> str:
    return "?" if length is None else str(length)


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    # Keras says first in which layer it happened, and later what.
    said = [line for line in lines if "Error encountered" not in line]
    text = said[0] if len(said) < 2 or "encountered when calling" not in said[0] else said[1]
    return f"{type(error).__name__}: {text}"[:_SHOWN_CHARS]


@dataclass(frozen=True, slots=True)
class Reference:
    """The answers of a model to some pictures, and how far rounding alone could move them."""

    outputs: list[np.ndarray]
    noise: list[float]

    @classmethod
    def of(cls, model: keras.Model, x: np.ndarray) -> Reference:
        """A model's answers to pictures, and to the same ones moved by ten roundings."""
        outputs = answers(model, x)
        rng = np.random.default_rng(2)
        moved = answers(model, x * (1 + 1e-6 * rng.choice((-1, 1), x.shape)).astype("float32"))
        noise = [float(np.abs(a - b).max()) for a, b in zip(outputs, moved, strict=True)]
        return cls(outputs, noise)


class Judge:
    """A source, and its constructor's own models at other shapes, each of which answers once."""

    def __init__(self, network: Network) -> None:
        self._network = network
        height, width, channels = network.native
        self._native: HWC = height or 128, width or 128, channels
        self.source = network.make(network.native)
        randomise_all(self.source, self._native)
        self._weights = self.source.get_weights()
        self._answers: dict[HWC, Reference | str] = {}
        self._step_px = 1

    def cell(self, way: str) -> Cell:
        """The source, changed in one way."""
        *hw, _ = self._native
        asked: dict[str, tuple[tuple[int | None, ...], dict[str, str]]] = {
            "smaller": ((*SMALLER, 3), {"strategy": "rebuild"}),
            "odd": ((*ODD, 3), {"strategy": "rebuild"}),
            "1 channel": ((*hw, 1), {"strategy": "rebuild", "channels": "sum"}),
            "4 channels": ((*hw, 4), {"strategy": "rebuild", "channels": "zero"}),
            "any size": ((None, None, 3), {"strategy": "flexible"}),
        }
        shape, options = asked[way]
        self._step_px = 1
        text = "x".join(map(_word, shape))
        try:
            plan = inshape.plan(self.source, shape, head="top", **options)
            str(plan)
            model = plan.build()
        except InshapeError as error:
            could = any(isinstance(self._reference(hwc)[1], Reference) for hwc in self._judged(way))
            return Cell(REFUSED if could else BOTH, text, f"{type(error).__name__}: {error}")
        except Exception as error:
            return Cell(CRASHED, text, _crash(error))
        static = plan.static_shape.as_tuple()
        measured = self._checks(plan, model, static if None not in static else self._native)
        self._step_px = plan.decision.size_step_px or 1
        if self._step_px > 1:
            text += f" in steps of {self._step_px}"
        return self._compared(model, way, text, measured)

    def _judged(self, way: str) -> Iterator[HWC]:
        """The shapes of pictures at which a way is judged."""
        *hw, channels = self._native
        if way == "any size":
            found = 0
            for size in (SMALLER, ODD, *FITTING):
                hwc = (*size, channels)
                fits = all((n - old) % self._step_px == 0 for n, old in zip(size, hw, strict=True))
                if found < 2 and fits and isinstance(self._reference(hwc)[1], Reference):
                    found += 1
                    yield hwc
            return
        sizes = {"smaller": (*SMALLER, 3), "odd": (*ODD, 3), "1 channel": (*hw, 1)}
        yield sizes.get(way, (*hw, 4))

    def _reference(self, hwc: HWC) -> tuple[np.ndarray, Reference | str]:
        """Two pictures, and the answers that they should get, or why there are none."""
        x = pictures(np.random.default_rng(1), 2, hwc)
        if hwc not in self._answers:
            channels = hwc[-1]
            seen = x.repeat(3, -1) if channels == 1 else x[..., :3]
            if channels == 3:
                self._answers[hwc] = self._constructed(hwc, x)
            else:
                self._answers[hwc] = Reference.of(self.source, seen)
        return x, self._answers[hwc]

    def _constructed(self, hwc: HWC, x: np.ndarray) -> Reference | str:
        try:
            model = self._network.make(hwc)
        except Exception as error:
            return f"the constructor fails at {hwc}: {_first_line(error)}"
        for old, new in zip(self.source.weights, model.weights, strict=False):
            if old.shape != new.shape:
                return (
                    f"the constructor's {new.path} is {tuple(new.shape)} at {hwc}, "
                    f"{tuple(old.shape)} in the source"
                )
        if len(model.weights) != len(self._weights):
            return f"the constructor makes {len(model.weights)} weights at {hwc}"
        model.set_weights(self._weights)
        try:
            return Reference.of(model, x)
        except Exception as error:
            return f"the constructor's model fails at {hwc}: {_first_line(error)}"

    def _compared(self, model: keras.Model, way: str, text: str, measured: dict[str, Any]) -> Cell:
        cells: list[Cell] = []
        for hwc in self._judged(way):
            x, theirs = self._reference(hwc)
            try:
                ours = answers(model, x)
            except Exception as error:
                where = f"the model fails at {'x'.join(map(str, hwc))}"
                return Cell(CRASHED, text, f"{where}: {_first_line(error)}", **measured)
            if isinstance(theirs, str):
                cells.append(Cell(ALONE, text, theirs, **measured))
            else:
                cells.append(_difference(ours, theirs, text, measured))
        if not cells:
            return Cell(ALONE, text, "the constructor builds none of the sizes", **measured)
        return max(cells, key=lambda c: (c.verdict != RIGHT, c.difference or 0))

    def _checks(self, plan: inshape.Plan, model: keras.Model, hwc: HWC) -> dict[str, Any]:
        """What is planned beside what is built."""
        geometry = plan.geometry
        try:
            ran = measure(model, hwc)
        except Exception:
            return {"params": (geometry.params, model.count_params())}
        planned: dict[str, list[tuple[int | None, ...]]] = defaultdict(list)
        needed = plan.spec.needed()
        for layer, shape in zip(plan.spec, map_shapes(plan.spec, plan.static_shape), strict=True):
            if layer.index in needed and layer.op != "input":
                whole = shape if layer.holds_rows else (1, *shape)
                planned[layer.name.rsplit("/", 1)[-1]].append(whole)
        compared, differing = 0, []
        for name, shapes in planned.items():
            built = ran.maps.get(name, [])
            if len(built) != len(shapes):
                continue  # under a name of its own, or one that two nested models use
            for before, after in zip(shapes, built, strict=True):
                if None not in before:
                    compared += 1
                    if before != after:
                        differing.append(f"{name}: planned {before[1:]}, built {after[1:]}")
        return {
            "params": (geometry.params, model.count_params()),
            "macs": (geometry.macs, geometry.known_macs, ran.macs),
            "maps": (compared, tuple(differing[:5])),
        }


def randomise_all(model: keras.Model, hwc: HWC) -> None:
    """Random batch-norm statistics, and no weights that stand at a constant.

    A scale that begins at 0 or 1e-6 would hide all that it scales, and an embedding of places that
    begins at 0 where it stands.
    """
    rng = np.random.default_rng(3)
    for weight in model.trainable_weights:
        value = np.asarray(weight)
        if np.ptp(value) == 0:
            weight.assign(value + rng.normal(0, 0.1, value.shape).astype(value.dtype))
    randomise(model, hwc)


def answers(model: keras.Model, x: np.ndarray) -> list[np.ndarray]:
    """Every output of a model."""
    outputs = keras.tree.flatten(model(x, training=False))
    return [np.asarray(keras.ops.convert_to_numpy(output)) for output in outputs]


def _difference(
    ours: list[np.ndarray], reference: Reference, text: str, measured: dict[str, Any]
) -> Cell:
    theirs = reference.outputs
    if [a.shape for a in ours] != [a.shape for a in theirs]:
        shapes = f"{[a.shape for a in ours]}, the constructor's {[a.shape for a in theirs]}"
        return Cell(WRONG, text, f"outputs of {shapes}", **measured)
    cells: list[Cell] = []
    for mine, right, noise in zip(ours, theirs, reference.noise, strict=True):
        difference = float(np.abs(mine - right).max())
        largest = float(np.abs(right).max())
        spread = float(np.abs(right[0] - right[1]).max())
        if not np.isfinite(right).all():
            verdict, note = ALONE, "the constructor's own answers are not finite"
        elif not difference <= max(1e-4 * min(largest, 100 * spread), 1e-6 * largest, 10 * noise):
            verdict, note = WRONG, f"answers differ by {difference:.1e} of {largest:.3g}"
        else:
            verdict, note = RIGHT, ""
            if spread < 1e-3 * largest:
                note = "answers to two pictures hardly differ"
            elif 10 * noise > 0.1 * spread:
                note = "answers depend too much on rounding to tell"
        cells.append(Cell(verdict, text, note, difference, largest, spread, noise, **measured))
    return max(cells, key=lambda c: (c.verdict == WRONG, (c.difference or 0) / (c.largest or 1)))


def _crash(error: Exception) -> str:
    """What was raised, and where in inshape."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "/inshape/" in f.filename]
    where = f" at {Path(frames[-1].filename).name}:{frames[-1].name}" if frames else ""
    return f"{_first_line(error)}{where}"


def table(folder: Path) -> str:
    """The page's tables, of what is kept."""
    order = {file_name(network): i for i, network in enumerate(networks())}
    paths = sorted(folder.glob("*.json"), key=lambda path: (order.get(path.name, 999), path.name))
    records = [json.loads(path.read_text()) for path in paths]
    judged = [r for r in records if r.get("ways")]
    unbuilt = [r for r in records if not r.get("ways")]
    verdicts = {way: Counter(r["ways"][way]["verdict"] for r in judged) for way in WAYS}
    lines = [
        f"{len(judged)} networks, {len(judged) * len(WAYS)} changes.",
        "",
        f"| verdict | {' | '.join(WAYS)} | all |",
        f"|{'---|' * (len(WAYS) + 2)}",
    ]
    for verdict in VERDICTS:
        counts = [verdicts[way][verdict] for way in WAYS]
        if any(counts):
            lines.append(f"| {verdict} | {' | '.join(map(str, counts))} | {sum(counts)} |")
    lines += [
        "",
        "## Every network",
        "",
        f"| network | {' | '.join(WAYS)} | parameters | MACs | maps |",
        f"|{'---|' * (len(WAYS) + 4)}",
    ]
    for record in judged:
        cells = list(record["ways"].values())
        row = [record["name"], *(c["verdict"] for c in cells), *_checked(cells)]
        lines.append(f"| {' | '.join(row)} |")
    lines += [
        "",
        "## What was not right",
        "",
        "| network | ways | verdict | why |",
        "|---|---|---|---|",
    ]
    for record in judged:
        by_reason: dict[tuple[str, str], list[str]] = defaultdict(list)
        for way, cell in record["ways"].items():
            if cell["verdict"] != RIGHT:
                by_reason[cell["verdict"], _cell_text(cell["note"])].append(way)
        for (verdict, note), ways in by_reason.items():
            lines.append(f"| {record['name']} | {', '.join(ways)} | {verdict} | {note} |")
    lines += [f"| {r['name']} | all | not built at all | {r.get('unbuilt')} |" for r in unbuilt]
    return "\n".join(lines)


def _cell_text(note: str) -> str:
    """A message as it can stand in a table."""
    text = note.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ").replace("*", "\\*")
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]} ..."


def _checked(cells: list[dict[str, Any]]) -> tuple[str, str, str]:
    """Whether parameters, multiplications and maps are those planned, over all ways."""
    params = [c["params"] for c in cells if c["params"]]
    macs = [c["macs"] for c in cells if c["macs"]]
    maps = [c["maps"] for c in cells if c["maps"]]
    same = "" if not params else "equal" if all(a == b for a, b in params) else "differ"
    off = [abs(planned - counted) / max(counted, 1) for planned, _, counted in macs if planned]
    above = [known / max(counted, 1) - 1 for planned, known, counted in macs if planned is None]
    if any(gap > 0.01 for gap in off) or any(gap > 0.01 for gap in above):
        worst = max([*off, *above])
        cost = f"off by {100 * worst:.0f} %"
    elif above:
        cost = "unknown" if len(above) == len(macs) else "within 1 % or unknown"
    else:
        cost = "within 1 %" if macs else ""
    differing = sum(len(names) for _, names in maps)
    compared = sum(count for count, _ in maps)
    shown = "" if not maps else f"{differing}+ of {compared} differ" if differing else "equal"
    return same, cost, shown


if __name__ == "__main__":
    main()

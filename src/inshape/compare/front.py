"""`compare`: let the user's own pictures choose shape, strategy and backbone."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .._version import __version__
from ..charts import make_folder
from ..data.catalogue import Catalogue
from ..data.sources import Source, open_source
from ..errors import DataError, RequestError
from ..report import leave_report
from ..runs import write_json
from ..shapes import InputShape, ShapeLike
from ..train.front import train
from ..train.show import Show
from .choose import answers_of, front_of, recommended
from .comparison import Candidate, Comparison
from .limits import Limits
from .measure import Pictures, Trial
from .probe import folds_of, is_worse
from .record import recorded

_SIDES = (64, 96, 128, 160, 224)
_STRATEGIES = ("rebuild", "restride")
_BACKBONE = "MobileNetV3Large-minimalistic"
_MOST_PICTURES = 4000
_FIRST_ROUND = 800
_LOOKED_AT = 200
_GRAIN = 32
_FORMAT = 1


def compare(
    source: Source,
    *,
    shapes: Iterable[ShapeLike] | None = None,
    strategies: Sequence[str] = _STRATEGIES,
    backbones: Sequence[str] = (_BACKBONE,),
    channels: Sequence[str] = ("auto",),
    weights: str | Path | None = "imagenet",
    limits: Limits | None = None,
    out: str | Path | None = None,
    finetune: int = 0,
    pictures: int = _MOST_PICTURES,
    latency: bool = True,
    seed: int = 0,
    show: bool = False,
) -> Comparison:
    """Measure candidates on the user's pictures and recommend one.

    Every candidate is probed: a regularised linear classifier on its frozen features,
    cross-validated on the same folds, so that differences are paired. The first round takes a part
    of the pictures; what is significantly worse than the best by then is dropped, and the rest is
    probed on all (successive halving, Jamieson and Talwalkar, arXiv 1502.07943).

    Args:
        source: labelled pictures, as in `inshape.train`; a split for testing is left alone.
        shapes: input shapes; by default squares from 64 to 224 pixels no larger than the pictures,
            in the pictures' own proportions where most are oblong, with their channels.
        strategies: as in `inshape.plan`.
        backbones: names or files.
        channels: channel rules, as in `inshape.plan`.
        weights: as in `inshape.adapt`, for every backbone.
        limits: what the device allows.
        out: a folder for what is finished and for ``report.html``; the next call with it goes on
            from there.
        finetune: how many of the best are trained to the end as well; needs ``out``.
        pictures: the most that are used, the same share of every class.
        latency: whether candidates are timed.
        seed: of the pictures and folds.
        show: whether to show progress on standard error.

    Returns:
        The comparison: print it, take ``as_dict()`` or ``to_pandas()``.

    Raises:
        RequestError: if there are no candidates, or none meets the limits.
        DataError: if the pictures cannot be used.
    """
    limits = limits or Limits()
    if finetune and out is None:
        raise RequestError("finetune without out; expected a folder for the runs; give --out")
    output = Show.to_stderr(show)
    catalogue = _training_pictures(source, pictures, seed)
    folds_of(catalogue.labels, seed)  # refuses what cannot be probed
    asked = [InputShape.of(s) for s in shapes] if shapes is not None else _usual(catalogue)
    candidates = [
        Candidate(str(b), str(s), t, c)
        for b, s, t, c in product(backbones, asked, strategies, channels)
    ]
    if not candidates:
        raise RequestError("no candidates to compare; expected at least one shape and strategy")
    store = _Store(None if out is None else Path(out), catalogue, weights, pictures, seed)
    trials = _measured(candidates, store, catalogue, weights, limits, latency, seed, output)
    found = _ranked([trial.candidate for trial in trials])
    if finetune:
        assert out is not None
        found = _finetuned(found, finetune, source, weights, Path(out), seed, show, store)
    chosen, reason = recommended(found, limits)
    seconds: dict[str, float] = {}
    for c in found:
        for part, taken in c.seconds.items():
            seconds[part] = round(seconds.get(part, 0.0) + taken, 2)
    shown = str(source) if isinstance(source, str | Path) else "the data"
    made = Comparison(
        source=shown,
        pictures=len(catalogue),
        weights=None if weights is None else str(weights),
        candidates=tuple(found),
        front=tuple(c.name for c in front_of(found)),
        recommended=chosen.name,
        reason=reason,
        command=_command(chosen, shown, weights),
        seconds=seconds,
        record=recorded(
            source,
            catalogue,
            found,
            chosen,
            {
                "shapes": [str(s) for s in asked],
                "strategies": list(strategies),
                "backbones": [str(b) for b in backbones],
                "channels": list(channels),
                "weights": None if weights is None else str(weights),
                "limits": limits,
                "pictures": pictures,
                "latency": latency,
                "finetune": finetune,
                "seed": seed,
                "out": None if out is None else str(out),
            },
        ),
    )
    if out is not None:
        write_json(Path(out) / "comparison.json", made.as_dict())
        leave_report(Path(out), catalogue)
    return made


def _measured(
    candidates: Sequence[Candidate],
    store: _Store,
    catalogue: Catalogue,
    weights: str | Path | None,
    limits: Limits,
    latency: bool,
    seed: int,
    output: Show,
) -> list[Trial]:
    """Costs of all, a first probe of what is within the limits, a full one of the contenders."""
    shared = Pictures(catalogue)
    trials = [Trial(store.known(c) or c, weights, shared) for c in candidates]
    first, whole = _rounds(catalogue.labels, seed)
    with output.bar("costs") as told:
        for number, trial in enumerate(trials):
            if trial.candidate.params is None and trial.candidate.error is None:
                trial.cost(latency=latency)
                store.keep(trial.candidate)
            told(number + 1, len(trials))
    for trial in trials:
        over = limits.exceeded_by(trial.candidate.but(accuracy=None))
        trial.candidate = trial.candidate.but(dropped=over)
    for order in (first, whole) if len(first) < len(whole) else (whole,):
        going = [t for t in trials if t.candidate.error is None and t.candidate.dropped is None]
        with output.bar(f"probe on {len(order)} pictures") as told:
            for number, trial in enumerate(going):
                known = store.known(trial.candidate, len(order))
                if known is not None:
                    trial.candidate = known
                elif trial.candidate.pictures < len(order):
                    trial.probe(order, seed)
                    store.keep(trial.candidate)
                told(number + 1, len(going))
        if order is not whole:
            _drop_the_worse(going)
    for trial in trials:
        trial.forget()
        if trial.candidate.dropped is None and limits.accuracy is not None:
            trial.candidate = trial.candidate.but(dropped=limits.exceeded_by(trial.candidate))
    return trials


def _drop_the_worse(trials: Sequence[Trial]) -> None:
    """Drop what is significantly worse than another that is as fast."""
    probed = [t for t in trials if t.candidate.error is None]
    for trial in probed:
        own = trial.candidate
        for other in probed:
            rival = other.candidate
            faster = (rival.latency_ms or 0.0) <= (own.latency_ms or 0.0)
            if other is trial or not faster or len(rival.right) != len(own.right):
                continue
            if is_worse(answers_of(own), answers_of(rival)):
                reason = f"worse than {rival.name} on {own.pictures} pictures, and no faster"
                trial.candidate = own.but(dropped=reason)
                trial.forget()
                break


def _ranked(candidates: Sequence[Candidate]) -> list[Candidate]:
    def rank(c: Candidate) -> tuple[bool, bool, float]:
        return (c.error is not None, not c.is_contender, -(c.accuracy.value if c.accuracy else 0.0))

    return sorted(candidates, key=rank)


def _finetuned(
    candidates: list[Candidate],
    count: int,
    source: Source,
    weights: str | Path | None,
    out: Path,
    seed: int,
    show: bool,
    store: _Store,
) -> list[Candidate]:
    """Train the best candidates to the end, each into a run folder of its own."""
    chosen = [c for c in candidates if c.is_contender][:count]
    found = list(candidates)
    for c in chosen:
        folder = out / "runs" / store.key(c)[:12]
        if c.finetuned is None:
            from ..train.front import resume

            if (folder / "run.json").exists():
                run = resume(folder, source=source, show=show)
            else:
                run = train(
                    source,
                    c.input_shape,
                    out=folder,
                    backbone=c.backbone,
                    weights=weights,
                    strategy=c.strategy,
                    channels=c.channels,
                    seed=seed,
                    show=show,
                )
            done = c.but(finetuned=run.record["metrics"]["validation"]["accuracy"])
            store.keep(done)
            found[found.index(c)] = done
    return found


class _Store:
    """Finished candidates, each in a file named after everything that determined it."""

    def __init__(
        self,
        out: Path | None,
        catalogue: Catalogue,
        weights: str | Path | None,
        pictures: int,
        seed: int,
    ) -> None:
        self._folder = None if out is None else out / "candidates"
        file = Path(weights) if isinstance(weights, str | Path) else None
        stamp = None
        if file is not None and file.is_file():
            stamp = hashlib.blake2b(file.read_bytes(), digest_size=16).hexdigest()
        self._facts = [
            _FORMAT, __version__, catalogue.fingerprint, str(weights), stamp, pictures, seed,
        ]  # fmt: skip
        if self._folder is not None:
            make_folder(self._folder)

    def key(self, c: Candidate) -> str:
        """A hash of what a candidate is and what it is measured on."""
        own = [c.backbone, c.input_shape, c.strategy, c.channels]
        if Path(c.backbone).is_file():
            own.append(hashlib.blake2b(Path(c.backbone).read_bytes()).hexdigest())
        return hashlib.blake2b(json.dumps([*self._facts, own]).encode(), digest_size=16).hexdigest()

    def known(self, c: Candidate, pictures: int = 0) -> Candidate | None:
        """What an earlier call found out, if it was measured on at least so many pictures."""
        if self._folder is None:
            return None
        try:
            text = (self._folder / f"{self.key(c)}.json").read_text(encoding="utf-8")
            found = Candidate.from_dict(json.loads(text))
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return found if found.pictures >= pictures else None

    def keep(self, c: Candidate) -> None:
        """Write down what is known; a failure is tried again the next time."""
        if self._folder is not None and c.error is None:
            write_json(self._folder / f"{self.key(c)}.json", c.but(dropped=None).as_dict())


def _training_pictures(source: Source, most: int, seed: int) -> Catalogue:
    found = open_source(source)
    chosen = np.flatnonzero((found.splits != "test") & (found.labels >= 0))
    if not len(chosen):
        raise DataError("no labelled pictures to compare on; expected a folder per class")
    rng = np.random.default_rng(seed)
    kept: list[int] = []
    share = min(1.0, most / len(chosen))
    for label in np.unique(found.labels[chosen]):
        own = chosen[found.labels[chosen] == label]
        count = max(min(len(own), 2), round(share * len(own)))
        kept += rng.permutation(own)[:count].tolist()
    return found.take(sorted(kept))


def _rounds(
    labels: NDArray[np.integer[Any]], seed: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The pictures of the first round, the same share of every class, and all of them after it."""
    rng = np.random.default_rng([seed, 1])
    order = rng.permutation(len(labels))
    least = min(10, int(np.bincount(labels).max()))
    share = min(1.0, _FIRST_ROUND / len(labels))
    first: list[int] = []
    for label in np.unique(labels):
        own = order[labels[order] == label]
        first += own[: max(least, math.ceil(share * len(own)))].tolist()
    rest = order[~np.isin(order, first)]
    return np.array(first), np.concatenate([np.array(first), rest])


def _usual(catalogue: Catalogue) -> list[InputShape]:
    """Shapes that suit the pictures: their channels, their proportions, no larger than they are."""
    sizes: list[tuple[int, int, int]] = []
    step = max(1, len(catalogue) // _LOOKED_AT)
    for index in range(0, len(catalogue), step):
        path = catalogue.path(index)
        if path is None:
            pixels = catalogue.arrays
            assert pixels is not None
            array = np.asarray(pixels[int(catalogue.rows[index])])
            sizes.append((*array.shape[:2], array.shape[2] if array.ndim == 3 else 1))
            continue
        try:
            with Image.open(path) as image:
                sizes.append((image.height, image.width, 1 if image.mode in ("1", "L", "I") else 3))
        except OSError:
            continue
    if not sizes:
        raise DataError("no picture's size can be read; name the shapes, such as 96x96x3")
    height, width, channels = np.median(np.array(sizes), axis=0)
    aspect = height / width
    side = math.sqrt(height * width)
    found: list[InputShape] = []
    for goal in _SIDES:
        if goal > 1.25 * side and found:
            break
        if 0.8 <= aspect <= 1.25:
            hw = (goal, goal)
        else:
            raw = goal * math.sqrt(aspect), goal / math.sqrt(aspect)
            hw = tuple(max(_GRAIN, _GRAIN * round(length / _GRAIN)) for length in raw)
        found.append(InputShape(hw[0], hw[1], int(channels)))
    return list(dict.fromkeys(found))


def _command(c: Candidate, source: str, weights: str | Path | None) -> tuple[str, ...]:
    words = ["inshape", "train", source, "--input", c.input_shape, "--strategy", c.strategy]
    if c.channels != "auto":
        words += ["--channels", c.channels]
    words += ["--backbone", c.backbone, "--weights", "none" if weights is None else str(weights)]
    return (*words, "--out", "runs/a")

"""`compare`: let the user's own pictures choose shape, strategy and backbone."""

from __future__ import annotations

import itertools
import json
import string
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from ..data.catalogue import Catalogue
from ..data.sources import Source, open_source
from ..errors import DataError, NoCandidate, OutputExists, RequestError
from ..report import leave_report
from ..shapes import InputShape, ShapeLike
from ..train.show import Show
from ..writing import write_json
from .choose import front_of, recommended
from .comparison import Candidate, Comparison
from .finals import Finals
from .limits import Limits
from .measure import Job
from .pictures import Pictures
from .probe import folds_of
from .record import recorded
from .rounds import Halving
from .store import CandidateStore
from .usual import usual_shapes, usual_strategies
from .workers import workers

_BACKBONE = "MobileNetV3Large-minimalistic"
_MOST_PICTURES = 4000
_FILE = "comparison.json"


def compare(
    source: Source,
    *,
    shapes: Iterable[ShapeLike] | None = None,
    strategies: Sequence[str] | None = None,
    backbones: Sequence[str] = (_BACKBONE,),
    channels: Sequence[str] = ("auto",),
    candidates: Iterable[Candidate] | None = None,
    weights: str | Path | None = "imagenet",
    limits: Limits | None = None,
    out: str | Path | None = None,
    finetune: int = 0,
    pictures: int = _MOST_PICTURES,
    latency: bool = True,
    seed: int = 0,
    ray: str | None = None,
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
        strategies: as in `inshape.plan`; by default those that can be of use at each shape:
            ``rebuild``, and for small shapes ``restride`` and ``resize``.
        backbones: names or files.
        channels: channel rules, as in `inshape.plan`.
        candidates: exactly these, instead of every combination of the four above.
        weights: as in `inshape.adapt`, for every backbone.
        limits: what the device allows.
        out: a folder for what is finished and for ``report.html``; the next call with it goes on
            from there.
        finetune: how many finalists are trained to the end as well, which then decides between
            them; the one that the probe would take, then the front's most accurate ones, before any
            others; at least two, or none; needs ``out``.
        pictures: the most that are used, the same share of every class.
        latency: whether candidates are timed.
        seed: of the pictures and folds.
        ray: the address of a Ray cluster whose workers measure the candidates: ``"local"`` for one
            of this machine's cores, ``"auto"`` for the one that runs here. Latency is measured in
            this process's machine all the same, before any worker computes features.
        show: whether to show progress on standard error.

    Returns:
        The comparison: print it, take ``as_dict()`` or ``to_pandas()``.

    Raises:
        RequestError: if there are no candidates.
        NoCandidate: if none can be measured or meets the limits; the comparison is in it, and
            written all the same.
        OutputExists: if ``out`` holds a ``comparison.json`` that is none.
        DataError: if the pictures cannot be used.
    """
    limits = limits or Limits()
    if limits.latency_ms is not None and not latency:
        raise RequestError(
            "--max-latency with --no-latency; expected candidates to be timed where there is a "
            "limit on it; leave one of the two out"
        )
    if finetune < 0 or finetune == 1:
        raise RequestError(
            f"--finetune {finetune}; expected two finalists or more, between which it decides, or 0"
        )
    if finetune and out is None:
        raise RequestError("finetune without out; expected a folder for the runs; give --out")
    if pictures < 1:
        raise RequestError(f"--pictures {pictures}; expected 1 or more; 4000 is usual")
    if out is not None:
        _refuse_others(Path(out))
    begun = time.perf_counter()
    output = Show.to_stderr(show)
    catalogue = _training_pictures(source, pictures, seed)
    folds_of(catalogue.labels, seed, catalogue.contents)  # refuses what cannot be probed
    is_named = candidates is not None
    if candidates is None:
        sized = [InputShape.of(s) for s in shapes] if shapes is not None else None
        candidates = _combined(catalogue, sized, strategies, backbones, channels)
    candidates = list({c.name: c for c in candidates}.values())
    asked = {
        "candidates": [c.name for c in candidates] if is_named else None,
        "shapes": list(dict.fromkeys(c.input_shape for c in candidates)),
        "strategies": None if strategies is None else list(strategies),
        "backbones": [str(b) for b in backbones],
        "channels": list(channels),
        "weights": None if weights is None else str(weights),
        "limits": limits,
        "pictures": pictures,
        "latency": latency,
        "finetune": finetune,
        "seed": seed,
        "out": None if out is None else str(out),
    }
    if not candidates:
        raise RequestError("no candidates to compare; expected at least one shape and strategy")
    store = CandidateStore(None if out is None else Path(out), catalogue, weights, pictures, seed)
    before = _seconds(store.known(c) or c for c in candidates)
    shared = Pictures(catalogue, seed, store)
    named = None if weights is None else str(weights)
    with workers(ray, [named, *(c.backbone for c in candidates)]) as (hands, files):
        job = Job(named, len(catalogue.class_names), hands.threads, latency)
        halving = Halving(shared, store, limits, job, hands, files, output)
        measured, cost = halving.measured(candidates)
    finals = Finals(source, weights, Path(out or ""), store, seed, show)
    found = _ranked(finals.held(measured, finetune, cost))
    chosen, reason = recommended(found, limits, cost)
    seconds = {k: round(v - before.get(k, 0.0), 2) for k, v in _seconds(found).items()}
    shown = str(source) if isinstance(source, str | Path) else "the data"
    made = Comparison(
        source=shown,
        pictures=len(shared.catalogue),
        weights=named,
        candidates=tuple(found),
        front=tuple(c.name for c in front_of(found, cost)),
        recommended=None if chosen is None else chosen.name,
        reason=reason,
        command=_command(chosen, shown, weights)
        if chosen is not None and isinstance(source, str | Path)
        else (),
        seconds={
            **seconds,
            "pictures": round(shared.seconds, 2),
            "all": round(time.perf_counter() - begun, 2),
        },
        record=recorded(source, shared.catalogue, found, chosen, asked),
    )
    if out is not None:
        write_json(Path(out) / _FILE, made.as_dict())
        leave_report(Path(out), catalogue, kind="comparison")
    if chosen is None:
        raise NoCandidate(reason, made)
    return made


def _refuse_others(out: Path) -> None:
    """Leave a file alone that only has the name of a comparison."""
    path = out / _FILE
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return
    except (OSError, ValueError):
        found = None
    if not (isinstance(found, dict) and {"candidates", "front", "recommendation"} <= found.keys()):
        raise OutputExists(
            f"{path} exists already and is no comparison; expected a new folder; choose another "
            "or move it away"
        )


def _combined(
    catalogue: Catalogue,
    shapes: Sequence[InputShape] | None,
    strategies: Sequence[str] | None,
    backbones: Sequence[str],
    channels: Sequence[str],
) -> list[Candidate]:
    """Every combination of what is named, and what suits the pictures of what is not."""
    return [
        Candidate(str(backbone), str(shape), strategy, rule)
        for backbone in backbones
        for shape in (usual_shapes(catalogue) if shapes is None else shapes)
        for strategy in (usual_strategies(shape, backbone) if strategies is None else strategies)
        for rule in channels
    ]


def _seconds(candidates: Iterable[Candidate]) -> Mapping[str, float]:
    """What measurements took, by part."""
    found: dict[str, float] = {}
    for c in candidates:
        for part, taken in c.seconds.items():
            found[part] = found.get(part, 0.0) + taken
    return found


def _ranked(candidates: Sequence[Candidate]) -> list[Candidate]:
    def rank(c: Candidate) -> tuple[bool, bool, float]:
        return (c.error is not None, not c.is_contender, -(c.accuracy.value if c.accuracy else 0.0))

    return sorted(candidates, key=rank)


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


def _command(c: Candidate, source: str, weights: str | Path | None) -> tuple[str, ...]:
    words = ["inshape", "train", source, "--input", c.input_shape, "--strategy", c.strategy]
    if c.channels != "auto":
        words += ["--channels", c.channels]
    words += ["--backbone", c.backbone, "--weights", "none" if weights is None else str(weights)]
    return (*words, "--out", _new_run())


def _new_run() -> str:
    """The first of runs/a, runs/b, ... at which nothing is yet."""
    letters = (f"runs/{letter}" for letter in string.ascii_lowercase)
    numbers = (f"runs/a{number}" for number in itertools.count(2))
    return next(r for r in itertools.chain(letters, numbers) if not Path(r).exists())

"""`compare`: let the user's own pictures choose shape, strategy and backbone."""

from __future__ import annotations

import itertools
import json
import string
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..data.catalogue import Catalogue
from ..data.sources import open_source, source_text
from ..errors import DataError, NoCandidate, OutputExists, RequestError
from ..progress import Progress
from ..reporting.api import leave_report
from ..reporting.thumbnails import examples_of
from ..requests import command_of, make, takes
from ..runs import versions
from ..training.request import TrainRequest
from ..writing import write_json
from .choose import fronts_of, pareto_front, recommended
from .defaults import usual_shapes, usual_strategies
from .finetune import Finals
from .measure import Job
from .probe import folds_of
from .request import CompareRequest
from .result import Candidate, Comparison
from .rounds import Halving
from .samples import Samples
from .store import CandidateStore
from .workers import workers

_FILE = "comparison.json"


@takes(CompareRequest)
def compare(request: CompareRequest, *, show: bool = False) -> Comparison:
    """Measure candidates on the user's pictures and recommend one.

    Every candidate is a network at an input shape by a strategy. Its costs are those of its plan;
    the probe, a linear classifier on the frozen maps that the last two stages end in, is
    cross-validated on the same folds for all; what is clearly worse than a cheaper candidate is
    dropped after the first pictures (successive halving, Jamieson and Talwalkar, arXiv 1502.07943).
    Recommended is the cheapest within one standard error of the best (Breiman et al. 1984).

    Args:
        {options}
        show: whether to show progress on standard error.

    Returns:
        All candidates and the recommended one.

    Raises:
        RequestError: if the request contradicts itself.
        DataError: if the pictures cannot be used.
        NoCandidate: if all failed or none meets the limits; it carries the comparison.
    """
    return run_comparison(request, Progress.to_stderr(show))


def run_comparison(request: CompareRequest, progress: Progress) -> Comparison:
    """Measure, rank, choose and write down."""
    if request.out is not None:
        _refuse_others(request.out)
    begun = time.perf_counter()
    catalogue = _training_pictures(request)
    folds_of(catalogue.labels, request.seed, catalogue.contents)  # refuses what cannot be probed
    candidates = _candidates(request, catalogue)
    weights = None if request.weights is None else str(request.weights)
    store = CandidateStore(request.out, catalogue, weights, request.pictures, request.seed)
    before = _seconds(store.known(c) or c for c in candidates)
    samples = Samples(catalogue, request.seed, store)
    with workers(request.ray, [weights, *(c.backbone for c in candidates)]) as (hands, files):
        job = Job(weights, len(catalogue.class_names), hands.threads, request.latency)
        halving = Halving(samples, store, request.limits, job, hands, files, progress)
        measured, cost = halving.measured(candidates)
    finals = Finals(request.source, request.weights, request.folder, store, request.seed, progress)
    ranked = sorted(finals.held(measured, request.finetune, cost), key=_rank)
    chosen, reason = recommended(ranked, request.limits, cost)
    seconds = {k: round(v - before.get(k, 0.0), 2) for k, v in _seconds(ranked).items()}
    seconds["pictures"] = round(samples.seconds, 2)
    seconds["all"] = round(time.perf_counter() - begun, 2)
    made = Comparison(
        source=source_text(request.source),
        pictures=len(samples.catalogue),
        weights=weights,
        candidates=tuple(ranked),
        front=tuple(c.name for c in pareto_front(ranked, cost)),
        recommended=None if chosen is None else chosen.name,
        reason=reason,
        command=_train_command(chosen, request),
        seconds=seconds,
        record=_record(request, samples.catalogue, ranked, chosen),
    )
    if request.out is not None:
        write_json(request.out / _FILE, made.as_dict())
        leave_report(request.out, catalogue, kind="comparison")
    if chosen is None:
        raise NoCandidate(reason, made)
    return made


def _candidates(request: CompareRequest, catalogue: Catalogue) -> list[Candidate]:
    """What is named, or every combination, with what suits the pictures where nothing is."""
    if request.candidates is not None:
        candidates: Iterable[Candidate] = request.candidates
    else:
        shapes = usual_shapes(catalogue) if request.shapes is None else request.shapes
        candidates = [
            Candidate(str(backbone), str(shape), strategy, rule)
            for backbone in request.backbones
            for shape in shapes
            for strategy in request.strategies or usual_strategies(shape, str(backbone))
            for rule in request.channels
        ]
    unique = list({c.name: c for c in candidates}.values())
    if not unique:
        raise RequestError("no candidates to compare; expected at least one shape and strategy")
    return unique


def _record(
    request: CompareRequest,
    catalogue: Catalogue,
    candidates: Sequence[Candidate],
    chosen: Candidate | None,
) -> dict[str, Any]:
    """All that repeats and explains a comparison beside its candidates."""
    return {
        "request": {**request.as_dict(), "command": command_of("compare", request)},
        "data": {
            "fingerprint": catalogue.fingerprint,
            "classes": catalogue.counts(),
            "examples": examples_of(catalogue),
        },
        "versions": versions(),
        "plan": None if chosen is None else chosen.plan,
        "fronts": fronts_of(candidates),
    }


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


def _seconds(candidates: Iterable[Candidate]) -> Mapping[str, float]:
    """What measurements took, by part."""
    found: dict[str, float] = {}
    for c in candidates:
        for part, taken in c.seconds.items():
            found[part] = found.get(part, 0.0) + taken
    return found


def _rank(c: Candidate) -> tuple[bool, bool, float]:
    return (c.error is not None, not c.is_contender, -(c.accuracy.value if c.accuracy else 0.0))


def _training_pictures(request: CompareRequest) -> Catalogue:
    """The labelled pictures outside the test split, at most so many, each class with its share."""
    listed = open_source(request.source)
    usable = np.flatnonzero((listed.splits != "test") & (listed.labels >= 0))
    if not len(usable):
        raise DataError("no labelled pictures to compare on; expected a folder per class")
    rng = np.random.default_rng(request.seed)
    kept: list[int] = []
    share = min(1.0, request.pictures / len(usable))
    for label in np.unique(listed.labels[usable]):
        own = usable[listed.labels[usable] == label]
        count = max(min(len(own), 2), round(share * len(own)))
        kept += rng.permutation(own)[:count].tolist()
    return listed.take(sorted(kept))


def _train_command(c: Candidate | None, request: CompareRequest) -> str:
    """The command that trains a candidate; empty for what can only be said in Python."""
    if c is None or not isinstance(request.source, str | Path):
        return ""
    training = make(
        TrainRequest,
        source=request.source,
        shape=c.input_shape,
        out=_new_run(),
        backbone=c.backbone,
        weights=request.weights,
        strategy=c.strategy,
        channels=c.channels,
    )
    return command_of("train", training) or ""


def _new_run() -> str:
    """The first of runs/a, runs/b, ... at which nothing is yet."""
    letters = (f"runs/{letter}" for letter in string.ascii_lowercase)
    numbers = (f"runs/a{number}" for number in itertools.count(2))
    return next(r for r in itertools.chain(letters, numbers) if not Path(r).exists())

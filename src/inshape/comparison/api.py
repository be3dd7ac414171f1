"""`compare`: let the user's own pictures choose shape, strategy and backbone."""

from __future__ import annotations

import itertools
import string
import time
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..data.catalogue import Catalogue
from ..data.sources import open_source, source_text
from ..data.survey import with_range
from ..errors import DataError, NoCandidate, OutputExists, RequestError
from ..progress import Progress
from ..reporting.api import leave_report
from ..reporting.thumbnails import examples_of
from ..requests import command_of, takes
from ..runs import versions
from ..writing import read_json, write_json
from .choose import fronts_of, pareto_front, recommend
from .defaults import usual_shapes, usual_strategies
from .finetune import finetune, training_of
from .measure import Job
from .probe import probe_folds
from .request import CompareRequest
from .result import Candidate, Comparison
from .rounds import Halving
from .samples import Samples
from .store import CandidateStore
from .workers import open_workers

_FILE = "comparison.json"


@takes(CompareRequest)
def compare(request: CompareRequest, *, show: bool | None = None) -> Comparison:
    """Measure candidates on the user's pictures and recommend one.

    Every candidate is a network at an input shape by a strategy. Its costs are those of its plan;
    the probe, a linear classifier on the frozen maps that the last two stages end in, is
    cross-validated on the same folds for all; what is clearly worse than a cheaper candidate is
    dropped after the first pictures (successive halving, Jamieson and Talwalkar, arXiv 1502.07943).
    Recommended is the cheapest within one standard error of the best (Breiman et al. 1984).

    Args:
        {options}
        show: whether to show progress; by default in a terminal and in a notebook.

    Returns:
        All candidates and the recommended one.

    Raises:
        RequestError: if the request contradicts itself.
        DataError: if the pictures cannot be used.
        NoCandidate: if all failed or none meets the limits; it carries the comparison.
        RunError: if the folder cannot be written, or the Ray cluster goes while it works.

    Example:
        >>> import inshape, numpy as np
        >>> rng = np.random.default_rng(0)
        >>> pictures = rng.integers(0, 255, (20, 9, 9, 1), dtype="uint8")
        >>> comparison = inshape.compare(
        ...     (pictures, [0, 1] * 10), "40x33x1", strategies="rebuild", weights=None,
        ...     latency=False,
        ... )
        >>> comparison.recommended
        'MobileNetV3Small 40x33x1 rebuild'
    """
    return run_comparison(request, Progress.to_stderr(show))


def run_comparison(request: CompareRequest, progress: Progress) -> Comparison:
    """Measure, rank, choose and write down."""
    if request.out is not None:
        _refuse_other_file(request.out / _FILE)
    begun = time.perf_counter()
    catalogue = _draw_pictures(request)
    probe_folds(catalogue, request.seed)  # refuses what cannot be probed
    _warn(catalogue.warnings)
    candidates = _list_candidates(request, catalogue)
    preparation = request.picture_options.at(candidates[0].input_shape)
    preparation, notes = with_range(catalogue, preparation)
    _warn(notes)
    # One range for every shape, for what is trained and in the commands.
    request = request.but(full_scale=preparation.full_scale)
    head = catalogue.task.head(request.head)
    weights: Any = request.weights and str(request.weights)
    store = CandidateStore(request, catalogue)
    seconds = _Seconds(store.load(c) for c in candidates)
    samples = Samples(catalogue, request, store)
    paths = [weights, *(c.backbone for c in candidates)]
    with open_workers(request.ray, paths) as (workers, files):
        job = Job(
            weights=weights,
            head=head,
            file=request.file,
            threads=workers.threads,
            latency=request.latency,
            max_ram=request.limits.max_ram,
        )
        halving = Halving(samples, store, request.limits, job, workers, files, progress)
        measured, cost = halving.measure(candidates)
    ranked = sorted(finetune(measured, cost, request, store, progress), key=_rank)
    chosen, reason = recommend(ranked, request.limits, cost)
    comparison = Comparison(
        source=source_text(request.source),
        pictures=len(samples.catalogue),
        weights=weights,
        candidates=tuple(ranked),
        pareto_front=tuple(c.name for c in pareto_front(ranked, cost)),
        recommended=None if chosen is None else chosen.name,
        reason=reason,
        command=_train_command(chosen, request),
        seconds=seconds.since(ranked, pictures=samples.seconds, all=time.perf_counter() - begun),
        record=_record(request, samples.catalogue, ranked, chosen, notes),
    )
    if request.out is not None:
        write_json(request.out / _FILE, comparison.as_dict())
        leave_report(request.out, catalogue, kind="comparison")
    if chosen is None:
        raise NoCandidate(reason, comparison)
    return comparison


def _warn(lines: Sequence[str]) -> None:
    for line in lines:
        warnings.warn(line, UserWarning, stacklevel=5)


def _list_candidates(request: CompareRequest, catalogue: Catalogue) -> list[Candidate]:
    """What is named, or every combination, with what suits the pictures where nothing is."""
    candidates = request.candidates
    if candidates is None:
        shapes = request.shapes
        if shapes is None:
            shapes = usual_shapes(catalogue, request.picture_options.colour)
        candidates = [
            Candidate(backbone, str(shape), strategy, rule)
            for backbone, shape in itertools.product(request.backbones, shapes)
            for strategy in request.strategies or usual_strategies(shape, backbone, catalogue.task)
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
    notes: Sequence[str],
) -> dict[str, Any]:
    """All that repeats and explains a comparison beside its candidates."""
    return {
        "request": {**request.as_dict(), "command": command_of("compare", request)},
        "task": catalogue.task.name,
        "score_name": catalogue.task.probed().probe_name,
        "data": {
            "fingerprint": catalogue.fingerprint,
            "classes": catalogue.counts(),
            "examples": examples_of(catalogue),
            "warnings": list(notes),
        },
        "versions": versions(),
        "plan": None if chosen is None else chosen.plan,
        "pareto_fronts": fronts_of(candidates),
    }


def _refuse_other_file(path: Path) -> None:
    """Leave a file alone that only has the name of a comparison."""
    try:
        content = read_json(path)
    except FileNotFoundError:
        return
    except (OSError, ValueError):
        content = None
    keys = {"candidates", "pareto_front", "recommendation"}
    if content is None or not keys <= content.keys():
        raise OutputExists(
            f"{path} exists already and is no comparison; expected a new folder; choose another "
            "or move it away"
        )


class _Seconds:
    """What measurements took, by part, beyond what they had taken before."""

    def __init__(self, candidates: Iterable[Candidate]) -> None:
        self._before = self._sum(candidates)

    def since(self, candidates: Iterable[Candidate], **others: float) -> dict[str, float]:
        total = self._sum(candidates)
        parts = {part: seconds - self._before.get(part, 0.0) for part, seconds in total.items()}
        # Of what was all measured before, rounding leaves a hair below zero.
        return {part: round(max(0.0, seconds), 2) for part, seconds in {**parts, **others}.items()}

    def _sum(self, candidates: Iterable[Candidate]) -> dict[str, float]:
        total: dict[str, float] = {}
        for candidate in candidates:
            for part, seconds in candidate.seconds.items():
                total[part] = total.get(part, 0.0) + seconds
        return total


def _rank(c: Candidate) -> tuple[bool, bool, float]:
    return (c.error is not None, not c.is_contender, -(c.accuracy.value if c.accuracy else 0.0))


def _draw_pictures(request: CompareRequest) -> Catalogue:
    """The labelled pictures outside the test split, at most so many, each class with its share."""
    listed = open_source(request.source, task=request.task, masks=request.masks)
    strata = listed.strata
    usable = np.flatnonzero((listed.splits != "test") & listed.is_labelled)
    if not len(usable):
        raise DataError("no labelled pictures to compare on; expected a folder per class")
    rng = np.random.default_rng(request.seed)
    drawn: list[int] = []
    share = min(1.0, request.pictures / len(usable))
    for stratum in np.unique(strata[usable]):
        of_class = usable[strata[usable] == stratum]
        count = max(min(len(of_class), 2), round(share * len(of_class)))
        drawn += rng.permutation(of_class)[:count].tolist()
    taken = listed.take(sorted(drawn))
    return replace(taken, task=taken.task.fitted(taken.labels))


def _train_command(candidate: Candidate | None, request: CompareRequest) -> str:
    """The command that trains a candidate; empty without one and where only Python can say it."""
    if candidate is None:
        return ""
    return command_of("train", training_of(candidate, request, _new_run())) or ""


def _new_run() -> str:
    """The first of runs/a, runs/b, ... at which nothing is yet."""
    letters = (f"runs/{letter}" for letter in string.ascii_lowercase)
    numbers = (f"runs/a{number}" for number in itertools.count(2))
    return next(r for r in itertools.chain(letters, numbers) if not Path(r).exists())

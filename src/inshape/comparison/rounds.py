"""Successive halving: costs of all, a first probe of what is allowed, a full one of the rest."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import DataError, InshapeError
from ..limits import COMPUTED, TIMED, Limits
from ..progress import Progress
from ..runtime.timing import time_together
from ..shapes import InputShape
from .choose import answers_of, cost_of, shared_cost
from .measure import Job, Made, built, forget_network, measured
from .probe import LEVEL, is_worse
from .result import Candidate
from .samples import Samples
from .store import CandidateStore
from .workers import Workers


@dataclass(slots=True, eq=False)
class _Trial:
    """A candidate on its way, and what its next measurement goes on with."""

    candidate: Candidate
    state: Any = None

    @property
    def goes_on(self) -> bool:
        return self.candidate.error is None and self.candidate.dropped is None


@dataclass(frozen=True, slots=True, eq=False)
class Halving:
    """The measurement of all candidates.

    Attributes:
        pictures: to measure on.
        store: of what is finished.
        limits: what the device allows.
        job: what is the same for all candidates.
        workers: who measures.
        files: that they need, shared with the workers.
        progress: tells how far the work is.
    """

    samples: Samples
    store: CandidateStore
    limits: Limits
    job: Job
    workers: Workers
    files: Any
    progress: Progress
    _shared: dict[InputShape, Any] = field(default_factory=dict[InputShape, Any])

    def measured(self, candidates: Sequence[Candidate]) -> tuple[list[Candidate], str]:
        """Measure candidates as far as they are worth it.

        Args:
            candidates: what to measure.

        Returns:
            The same, each with its results, with the reason for which it was dropped, or with its
            error; and the cost by which they are compared, a field of `Candidate`.
        """
        trials = [_Trial(self.store.known(c) or c) for c in candidates]
        self._build([t for t in trials if t.candidate.macs is None])
        self._keep_to_the_limits(trials, COMPUTED)
        if self.job.latency:
            self._time([t for t in trials if t.goes_on])
        self._keep_to_the_limits(trials, TIMED)
        cost = shared_cost([t.candidate for t in trials])
        shapes = {
            t.candidate.name: InputShape.of(t.candidate.static_shape or t.candidate.input_shape)
            for t in trials
            if t.goes_on
        }
        if shapes:
            self.samples.find_readable(sorted(shapes.values(), key=lambda s: s.hw))
            self._probe(trials, shapes, self.samples.first)
            if self.samples.first < len(self.samples.catalogue):
                self._drop_the_worse(trials, cost)
                self._probe(trials, shapes, len(self.samples.catalogue))
        self._keep_to_the_limits(trials)
        forget_network()
        return [trial.candidate for trial in trials], cost

    def _build(self, todo: Sequence[_Trial]) -> None:
        if not todo:
            return
        calls = ((trial.candidate, self.job, self.files) for trial in todo)
        with self.progress.bar("costs") as advance:
            for done, (number, candidate, state) in enumerate(self.workers.run(built, calls), 1):
                todo[number].candidate, todo[number].state = candidate, state
                self.store.keep(candidate)
                advance(done, len(todo))

    def _time(self, trials: Sequence[_Trial]) -> None:
        """Time what this machine has not timed yet, together, while no worker measures."""
        untimed = [t for t in trials if t.candidate.latency_ms is None]
        self._build([t for t in untimed if t.state is None])
        trials = [t for t in untimed if t.goes_on]
        if not trials:
            return
        begun = time.perf_counter()
        files: dict[int, tuple[bytes, tuple[int, ...]]] = {}
        for number, trial in enumerate(trials):
            made: Made = self.workers.fetch(trial.state)
            assert made.timed is not None
            files[number] = made.timed, tuple(int(n or 0) for n in made.shape.as_tuple())
        for number, found in time_together(files).items():
            trial = trials[number]
            if isinstance(found, InshapeError):
                trial.candidate = trial.candidate.but(error=str(found))
                continue
            taken = (time.perf_counter() - begun) / len(trials)
            trial.candidate = trial.candidate.but(
                latency_ms=found[0][1],
                latencies=found,
                timed_on=self.store.machine,
                seconds={**trial.candidate.seconds, "latency": round(taken, 3)},
            )
            self.store.keep(trial.candidate)

    def _keep_to_the_limits(self, trials: Sequence[_Trial], *names: Sequence[str]) -> None:
        for trial in trials:
            if trial.goes_on:
                over = self.limits.exceeded_by(trial.candidate, *names)
                trial.candidate = trial.candidate.but(dropped=over)
                if over is not None:
                    trial.state = None

    def _probe(self, trials: Sequence[_Trial], shapes: dict[str, InputShape], count: int) -> None:
        """Probe whatever goes on, on so many pictures, unless that is known."""
        todo = [t for t in trials if t.goes_on and t.candidate.pictures < count]
        share = self.workers.share
        labels, folds = share(self.samples.labels[:count]), share(self.samples.folds(count))
        begun: list[_Trial] = []

        def calls() -> Generator[tuple[Any, ...]]:
            for t in todo:
                shape = shapes[t.candidate.name]
                try:
                    if shape not in self._shared:
                        self._shared[shape] = share(self.samples.at(shape))
                except DataError as error:  # pictures that have other bands than this shape
                    t.candidate, t.state = t.candidate.but(error=str(error)), None
                    continue
                begun.append(t)
                pixels = self._shared[shape]
                yield t.candidate, t.state, pixels, labels, folds, self.job, self.files

        # One size after the other, so that the first candidates begin before all is decoded.
        todo.sort(key=lambda t: shapes[t.candidate.name].hw)
        with self.progress.bar(f"probe on {count} pictures") as advance:
            results = self.workers.run(measured, calls())
            for done, (number, candidate, state) in enumerate(results, 1):
                is_first = count < len(self.samples.catalogue)
                if is_first and candidate.error is None:
                    candidate = candidate.but(first=candidate.right)
                begun[number].candidate, begun[number].state = candidate, state
                self.store.keep(candidate)
                advance(done, len(todo))

    def _drop_the_worse(self, trials: Sequence[_Trial], cost: str) -> None:
        """Drop what is significantly worse than another that costs no more.

        Every candidate has as many chances to be dropped wrongly as it has rivals; each comparison
        is held to the level divided by their number (Bonferroni), so that the best one survives
        with at least the whole level's certainty.
        """
        probed = [t for t in trials if t.goes_on and t.candidate.first]
        level = LEVEL / max(1, len(probed) - 1)
        cheaper = "no faster" if cost == "latency_ms" else "with no fewer MACs"
        reasons: dict[int, str] = {}
        for number, trial in enumerate(probed):
            own = trial.candidate
            for other in probed:
                rival = other.candidate
                if other is trial or cost_of(rival, cost)[0] > cost_of(own, cost)[0]:
                    continue
                if is_worse(answers_of(own.first), answers_of(rival.first), level=level):
                    reasons[number] = (
                        f"worse than {rival.name} on {len(own.first)} pictures, and {cheaper}"
                    )
                    break
        for number, reason in reasons.items():
            probed[number].candidate = probed[number].candidate.but(dropped=reason)
            probed[number].state = None

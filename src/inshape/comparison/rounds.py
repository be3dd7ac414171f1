"""Successive halving: costs of all, a first probe of what is allowed, a full one of the rest."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import DataError, InshapeError
from ..limits import ALL, COMPUTED, TIMED, Limits
from ..progress import Progress
from ..runtime.timing import Latencies, time_together
from ..shapes import InputShape
from .choose import shared_cost
from .measure import Job, State, build_candidate, network_kept, probe_candidate
from .probe import LEVEL, is_worse
from .result import Candidate
from .samples import Samples
from .store import CandidateStore
from .workers import Files, Workers


@dataclass(slots=True, eq=False)
class _Trial:
    """A candidate on its way, and what its next measurement goes on with."""

    candidate: Candidate
    state: Any = None

    @property
    def is_running(self) -> bool:
        return self.candidate.error is None and self.candidate.dropped is None

    @property
    def shape(self) -> InputShape:
        """At which it is measured."""
        return InputShape.of(self.candidate.static_shape or self.candidate.input_shape)

    def end(self, **reason: str | None) -> None:
        self.candidate, self.state = self.candidate.but(**reason), None


@dataclass(frozen=True, slots=True, eq=False)
class Halving:
    """The measurement of all candidates."""

    samples: Samples
    store: CandidateStore
    limits: Limits
    job: Job
    workers: Workers
    files: Files
    """That candidates need, shared with the workers."""
    progress: Progress
    _shared: dict[InputShape, Any] = field(default_factory=dict[InputShape, Any])

    def measure(self, candidates: Sequence[Candidate]) -> tuple[list[Candidate], str]:
        """Measure candidates as far as they are worth it.

        Returns:
            The same, each with its results, with the reason for which it was dropped, or with its
            error; and the cost by which they are compared, a field of `Candidate`.
        """
        trials = [_Trial(self.store.load(c)) for c in candidates]
        with network_kept():
            self._build([t for t in trials if t.candidate.macs is None])
            self._apply_limits(trials, COMPUTED)
            if self.job.latency:
                self._time(_running(trials))
            self._apply_limits(trials, TIMED)
            cost = shared_cost([t.candidate for t in trials])
            self._probe_in_rounds(_running(trials), cost)
            self._apply_limits(trials, ALL)
        return [trial.candidate for trial in trials], cost

    def _build(self, trials: Sequence[_Trial]) -> None:
        calls = [(trial.candidate, self.job, self.files) for trial in trials]
        if calls:
            with self.progress.bar("costs") as advance:
                results = self.workers.run(build_candidate, calls)
                for finished, (number, candidate, state) in enumerate(results, 1):
                    self._note(trials[number], candidate, state)
                    advance(finished, len(trials))

    def _note(self, trial: _Trial, candidate: Candidate, state: Any) -> None:
        # With its scores rounded as the store gives them back to a later call: of two that are
        # equal, one that is not rounded would look better or worse.
        candidate = Candidate.from_dict(candidate.as_dict())
        trial.candidate, trial.state = candidate, state
        self.store.save(candidate)

    def _apply_limits(self, trials: Sequence[_Trial], names: Sequence[str]) -> None:
        for trial in _running(trials):
            over = self.limits.exceeded_by(trial.candidate, names)
            if over is not None:
                trial.end(dropped=over)

    def _time(self, trials: Sequence[_Trial]) -> None:
        """Time what this machine has not timed yet, together, while no worker measures."""
        untimed = [t for t in trials if t.candidate.latency_ms is None]
        self._build([t for t in untimed if t.state is None])  # an earlier call's file is gone
        untimed = _running(untimed)
        if not untimed:
            return
        begun = time.perf_counter()
        files: dict[int, tuple[bytes, tuple[int, ...]]] = {}
        for number, trial in enumerate(untimed):
            state: State = self.workers.fetch(trial.state)
            assert state.timed is not None
            files[number] = state.timed, state.shape.as_static_tuple()
        latencies = time_together(files)
        seconds = (time.perf_counter() - begun) / len(untimed)
        for number, trial in enumerate(untimed):
            self._note_latencies(trial, latencies[number], seconds)

    def _note_latencies(
        self, trial: _Trial, latencies: Latencies | InshapeError, seconds: float
    ) -> None:
        if isinstance(latencies, InshapeError):
            trial.end(error=str(latencies))
            return
        candidate = trial.candidate.but(
            latency_ms=latencies[0][1],
            latencies=latencies,
            timed_on=self.store.machine,
            seconds={**trial.candidate.seconds, "latency": round(seconds, 3)},
        )
        self._note(trial, candidate, trial.state)

    def _probe_in_rounds(self, trials: Sequence[_Trial], cost: str) -> None:
        if not trials:
            return
        # One size after the other, so that the first candidates begin before all is decoded.
        trials = sorted(trials, key=lambda trial: trial.shape.hw)
        self.samples.find_readable(dict.fromkeys(trial.shape for trial in trials))
        first, every = self.samples.first, len(self.samples.catalogue)
        self._probe(trials, first, is_last=first == every)
        if first < every:
            self._drop_worse(trials, cost)
            self._probe(_running(trials), every, is_last=True)

    def _probe(self, trials: Sequence[_Trial], count: int, *, is_last: bool) -> None:
        """Probe on the first pictures, unless that is known."""
        unprobed = [t for t in _running(trials) if t.candidate.pictures < count]
        rounds: dict[InputShape, Any] = {}
        begun: list[_Trial] = []

        def calls() -> Generator[tuple[Any, ...]]:
            for trial in unprobed:
                try:
                    pictures = self._pictures_at(trial.shape)
                except DataError as error:  # pictures that have other bands than this shape
                    trial.end(error=str(error))
                    continue
                begun.append(trial)
                if trial.shape not in rounds:
                    round_ = self.samples.round_of(count, trial.shape)
                    rounds[trial.shape] = self.workers.share(round_)
                shared = rounds[trial.shape]
                yield trial.candidate, trial.state, pictures, shared, self.job, self.files

        with self.progress.bar(f"probe on {count} pictures") as advance:
            results = self.workers.run(probe_candidate, calls())
            for finished, (number, candidate, state) in enumerate(results, 1):
                if not is_last and candidate.error is None:
                    candidate = candidate.but(first=candidate.right)
                self._note(begun[number], candidate, state)
                advance(finished, len(unprobed))

    def _pictures_at(self, shape: InputShape) -> Any:
        if shape not in self._shared:
            self._shared[shape] = self.workers.share(self.samples.at(shape))
        return self._shared[shape]

    def _drop_worse(self, trials: Sequence[_Trial], cost: str) -> None:
        """Drop what is significantly worse than another that costs no more."""
        probed = [t for t in _running(trials) if t.candidate.first]
        # Every candidate has as many chances to be dropped wrongly as it has rivals; each
        # comparison is held to the level divided by their number (Bonferroni), so that the best one
        # survives with at least the whole level's certainty.
        level = LEVEL / max(1, len(probed) - 1)

        def is_beaten(candidate: Candidate, rival: Candidate) -> bool:
            is_cheap = (getattr(rival, cost) or 0) <= (getattr(candidate, cost) or 0)
            return is_cheap and is_worse(candidate.first, rival.first, level=level)

        rivals = [t.candidate for t in probed]
        cheaper = "no faster" if cost == "latency_ms" else "with no fewer MACs"
        for trial in probed:
            better = next((r for r in rivals if is_beaten(trial.candidate, r)), None)
            if better is not None:
                count = len(trial.candidate.first)
                trial.end(dropped=f"worse than {better.name} on {count} pictures, and {cheaper}")


def _running(trials: Sequence[_Trial]) -> list[_Trial]:
    return [trial for trial in trials if trial.is_running]

"""Measures one candidate: its costs and its probe, in functions that any process can run."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, TypeAlias

import keras
import numpy as np
from numpy.typing import NDArray

from ..features.cut import features_of
from ..features.linear import cross_validated
from ..features.places import rows_of
from ..heads import Head
from ..importing.options import FileOptions
from ..planning import Network, Plan, PlanRequest, decide_plan, open_for_training
from ..processor import count_cores
from ..requests import make
from ..runtime.frozen import (
    TOLERANCE,
    KerasRunner,
    by_keras,
    relative_difference,
    why_not_litert,
)
from ..runtime.litert import LiteRunner, Setting, computes_shapes
from ..runtime.litert_files import to_litert
from ..runtime.runners import check_answers
from ..shapes import InputShape
from ..strategies.decide import StrategyOptions
from ..tasks.bootstrap import mean_score
from ..tasks.task import Labels, Task
from ..text import reason_of
from .result import Candidate
from .workers import Files, placed

_BATCH = 256
_CALL = 8
_CHECKED = 4
_RESAMPLES = 2000
_DIGITS = 4

_Forward: TypeAlias = Callable[[NDArray[np.float32]], NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Job:
    """What is the same for every candidate."""

    weights: str | None
    head: Head
    """With the classes of the pictures."""
    file: FileOptions
    """How model files are read."""
    threads: int | None
    """That a candidate's measurement may use; ``None`` for one per core."""
    latency: bool
    """Whether candidates are timed."""
    max_ram: int | None = None
    """What patches are to meet."""

    @property
    def cores(self) -> int:
        """How many threads there are."""
        return self.threads or count_cores()


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """What a candidate's next measurement goes on with."""

    shape: InputShape
    """At which it is measured."""
    features: bytes | None = None
    """A LiteRT file that puts out its features first; ``None`` where Keras computes them."""
    timed: bytes | None = None
    """A LiteRT file of what the user would put on a device; ``None`` if it is not timed."""
    rows: NDArray[np.float32] | None = None
    """The features of the pictures so far."""


def build_candidate(candidate: Candidate, job: Job, files: Files) -> tuple[Candidate, State | None]:
    """Build a candidate's model, note what its plan says of its costs, and convert it."""
    notes = _Notes(candidate)
    state: State | None = None
    with notes.part("build"):
        model, plan = _adapt(candidate, job, files)
        notes.change(
            macs=plan.macs,
            params=plan.geometry.params,
            flash_bytes=plan.footprint.flash_bytes,
            float32_bytes=plan.footprint.float32_bytes,
            ram_bytes=plan.footprint.ram_bytes,
            static_shape=str(plan.static_shape),
            working_shape=str(plan.geometry.working_shape),
            plan=plan.as_dict(),
        )
        state = _convert(model, plan.static_shape, job)
    return notes.candidate, state


@dataclass(frozen=True, slots=True, eq=False)
class Round:
    """The pictures that a candidate is probed on."""

    task: Task
    """What the probe answers."""
    labels: Labels
    """Of as many pictures as are to be probed, from the first on."""
    folds: list[NDArray[np.intp]]
    """Rows of these that are held out together."""
    places: NDArray[np.float32] | None = None
    """Where maps are looked at, if the labels lie on the pictures."""


def probe_candidate(
    candidate: Candidate,
    state: State | None,
    pictures: NDArray[Any],
    round_: Round,
    job: Job,
    files: Files,
) -> tuple[Candidate, State | None]:
    """Probe a candidate on pictures, ``(pictures, height, width, channels)`` in [0, 255].

    The state is that of `build_candidate` or of an earlier round on fewer of these pictures.
    """
    notes = _Notes(candidate)
    with notes.part("features"):
        run, state = _runner(candidate, state or State(InputShape(*pictures.shape[1:])), job, files)
        parts = [] if state.rows is None else [state.rows]
        known, count = sum(map(len, parts)), len(round_.labels)
        # Maps are large, and all but a few of their places are let go of at once.
        step = _BATCH if round_.places is None else _CALL
        for start in range(known, count, step):
            part = np.asarray(pictures[start : min(count, start + step)], np.float32)
            parts.append(rows_of(check_answers(run(part)), round_.places))
        state = replace(state, timed=None, rows=np.concatenate(parts))
    if notes.candidate.error is None:
        with notes.part("probe"):
            assert state is not None
            assert state.rows is not None
            scores = cross_validated(
                round_.task, state.rows, round_.labels, round_.folds, threads=job.cores
            )
            notes.change(
                accuracy=mean_score(scores, resamples=_RESAMPLES),
                pictures=len(scores),
                right=tuple(scores.round(_DIGITS).tolist()),
            )
    return notes.candidate, state


def _adapt(candidate: Candidate, job: Job, files: Files) -> tuple[keras.Model, Plan]:
    with placed(files) as place:
        request = PlanRequest(
            backbone=place(candidate.backbone),
            input_shape=InputShape.of(candidate.input_shape),
            file=job.file,
            options=make(StrategyOptions, **candidate.options),
        )
        keras.utils.set_random_seed(0)
        opened, network = _open(request.backbone, place(job.weights), job.head, job.file)
    plan = decide_plan(request.but(head=opened.head), network)
    return plan.carried_out_on(network).model, plan.within(job.max_ram)


@lru_cache(maxsize=1)
def _open(
    backbone: str, weights: str | None, head: Head, file: FileOptions
) -> tuple[PlanRequest, Network]:
    """The network of one candidate after the other, opened once for all of a backbone."""
    any_shape = PlanRequest(
        backbone=backbone, input_shape=InputShape(None, None, 3), head=head, file=file
    )
    return open_for_training(any_shape, weights)


@contextmanager
def network_kept() -> Generator[None]:
    """Let go in the end of the network that was opened last, whose file may then be another."""
    try:
        yield
    finally:
        _open.cache_clear()


def _convert(model: keras.Model, shape: InputShape, job: Job) -> State:
    """Convert a model: once, unless it takes any size, which a device then has to cope with."""
    features = None if why_not_litert() else _convert_features(model, shape)
    timed = None
    if job.latency:
        # Shapes that the file itself computes would keep operators from the fast ones.
        fixed = model.input_shape[1:] == shape.as_tuple()
        same = features is not None and fixed and not computes_shapes(features)
        timed = features if same else to_litert(model)
    return State(shape, features, timed)


def _convert_features(model: keras.Model, shape: InputShape) -> bytes | None:
    """A LiteRT file of features and classes, if it agrees with Keras."""
    features = features_of(model, shape)
    both = keras.Model(model.inputs[0], [features.outputs[0], model.outputs[0]])
    size = shape.as_static_tuple()
    sample = np.random.default_rng(0).uniform(0, 255, (_CHECKED, *size)).astype(np.float32)
    try:
        content = to_litert(both, size, batch=None)
        answers = LiteRunner(content, Setting(batch=_CHECKED))(sample)
    except Exception:  # the converter and the interpreter raise what they like; Keras runs it then
        return None
    expected = by_keras(features, sample)
    agrees = answers.shape == expected.shape and relative_difference(answers, expected) <= TOLERANCE
    return content if agrees else None


def _runner(candidate: Candidate, state: State, job: Job, files: Files) -> tuple[_Forward, State]:
    """What computes features, built anew where that was done in another call."""
    if state.features is None:
        model, _ = _adapt(candidate, job, files)
        content = None if why_not_litert() else _convert_features(model, state.shape)
        if content is None:
            return KerasRunner(features_of(model, state.shape)), state
        state = replace(state, features=content)
    assert state.features is not None
    # The fastest of all layouts, measured at 64 to 224 pixels.
    return LiteRunner(state.features, Setting(job.cores, 1, _CALL)), state


class _Notes:
    """A candidate under measurement: how long each part took, and what went wrong."""

    def __init__(self, candidate: Candidate) -> None:
        self.candidate = candidate

    def change(self, **changes: Any) -> None:
        self.candidate = self.candidate.but(**changes)

    @contextmanager
    def part(self, name: str) -> Generator[None]:
        """Time a part of the work; a failure is noted and ends this candidate only."""
        begun = time.perf_counter()
        try:
            yield
        except Exception as error:  # out of memory, and whatever else a candidate may do
            self.change(error=reason_of(error))
        seconds = self.candidate.seconds
        total = seconds.get(name, 0.0) + time.perf_counter() - begun
        self.change(seconds={**seconds, name: round(total, 3)})

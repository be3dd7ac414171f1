"""Measures one candidate: its costs and its probe, in functions that any process can run."""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from ..features.cut import head_cut, section, stage_ends
from ..features.linear import cross_validated
from ..heads import LOGITS, Head
from ..planning import Network, Plan, PlanRequest, decide_plan, open_for_training
from ..requests import make
from ..runtime.frozen import TOLERANCE, by_keras, relative_difference, why_not_litert
from ..runtime.litert import LiteRunner, Setting, computes_shapes
from ..runtime.litert_files import to_litert
from ..shapes import InputShape
from ..strategies.decide import StrategyOptions
from .probe import accuracy_of
from .result import Candidate, reason_of
from .shipping import Files, unpacked

_BATCH = 256
_CALL = 8
_CHECKED = 4
_STAGES = 2


@dataclass(frozen=True, slots=True)
class Job:
    """What is the same for every candidate.

    Attributes:
        weights: as in `inshape.adapt`.
        classes: of the pictures.
        threads: that a candidate's measurement may use; ``None`` for one per core.
        latency: whether candidates are timed.
    """

    weights: str | None
    classes: int
    threads: int | None
    latency: bool

    @property
    def cores(self) -> int:
        """How many threads there are."""
        return self.threads or os.cpu_count() or 1


@dataclass(frozen=True, slots=True, eq=False)
class Made:
    """What a candidate's measurement goes on with.

    Attributes:
        shape: at which it is measured.
        features: a LiteRT file that puts out its features first; ``None`` where Keras computes
            them.
        timed: a LiteRT file of what the user would put on a device; ``None`` if it is not timed.
        rows: the features of the pictures so far.
    """

    shape: InputShape
    features: bytes | None = None
    timed: bytes | None = None
    rows: NDArray[np.float32] | None = None


def built(candidate: Candidate, job: Job, files: Files) -> tuple[Candidate, Made | None]:
    """Build a candidate's model, note what its plan says of its costs, and convert it.

    Returns:
        The candidate with its costs or its error, and what to go on with.
    """
    noted = _Notes(candidate)
    made: Made | None = None
    with noted.part("build"):
        model, plan = _adapted(candidate, job, files)
        noted.change(
            macs=plan.geometry.macs,
            params=plan.geometry.params,
            flash_bytes=plan.footprint.flash_bytes,
            float32_bytes=plan.footprint.float32_bytes,
            ram_bytes=plan.footprint.ram_bytes,
            static_shape=str(plan.static_shape),
            working_shape=str(plan.geometry.working_shape),
            plan=plan.as_dict(),
        )
        made = _files(model, plan.static_shape, job)
    return noted.candidate, made


def measured(
    candidate: Candidate,
    made: Made | None,
    pictures: NDArray[Any],
    labels: NDArray[np.integer[Any]],
    folds: list[NDArray[np.intp]],
    job: Job,
    files: Files,
) -> tuple[Candidate, Made | None]:
    """Probe a candidate on pictures.

    Args:
        candidate: with its costs.
        made: from `built` or from an earlier round on fewer of these pictures.
        pictures: ``(pictures, height, width, channels)`` in [0, 255].
        labels: the classes of as many of them as are to be probed, from the first on.
        folds: held-out rows of these.
        job: what is the same for all.
        files: that it may need.

    Returns:
        The candidate with its accuracy or its error, and what a further round goes on with.
    """
    noted = _Notes(candidate)
    with noted.part("features"):
        count, shape = len(labels), InputShape(*pictures.shape[1:])
        made = made or Made(shape)
        done = 0 if made.rows is None else len(made.rows)
        run, made = _runner(candidate, made, job, files)
        parts = [] if made.rows is None else [made.rows]
        for start in range(done, count, _BATCH):
            batch = pictures[start : min(count, start + _BATCH)]
            found = run(np.asarray(batch, np.float32))
            parts.append(found.reshape(len(found), -1))
        made = replace(made, timed=None, rows=np.concatenate(parts))
    if noted.candidate.error is None:
        with noted.part("probe"):
            assert made is not None
            assert made.rows is not None
            right = cross_validated(made.rows, labels, folds, threads=job.cores)
            noted.change(
                accuracy=accuracy_of(right),
                pictures=len(right),
                right="".join("1" if r else "0" for r in right),
            )
    return noted.candidate, made


def _adapted(candidate: Candidate, job: Job, files: Files) -> tuple[keras.Model, Plan]:
    with unpacked(files) as place:
        asked = PlanRequest(
            backbone=place(candidate.backbone) or candidate.backbone,
            input_shape=InputShape.of(candidate.input_shape),
            head=Head(classes=job.classes),
            options=make(StrategyOptions, strategy=candidate.strategy, channels=candidate.channels),
        )
        keras.utils.set_random_seed(0)
        request, network = _opened(asked.backbone, place(job.weights), job.classes)
    plan = decide_plan(asked.but(head=request.head), network)
    return plan.carried_out_on(network).model, plan


@lru_cache(maxsize=1)
def _opened(backbone: str, weights: str | None, classes: int) -> tuple[PlanRequest, Network]:
    """The network of one candidate after the other, opened once for all of a backbone."""
    any_shape = PlanRequest(
        backbone=backbone, input_shape=InputShape(None, None, 3), head=Head(classes=classes)
    )
    return open_for_training(any_shape, weights)


def forget_network() -> None:
    """Let go of the network that was opened last."""
    _opened.cache_clear()


def _files(model: keras.Model, shape: InputShape, job: Job) -> Made:
    """Convert a model: once, unless it takes any size, which a device then has to cope with."""
    features = None
    if not why_not_litert():
        features = _checked(model, shape)
    timed = None
    if job.latency:
        # Shapes that the file itself computes would keep operators from the fast ones.
        fixed = model.input_shape[1:] == shape.as_tuple()
        same = features is not None and fixed and not computes_shapes(features)
        timed = features if same else to_litert(model)
    return Made(shape, features, timed)


def _checked(model: keras.Model, shape: InputShape) -> bytes | None:
    """A LiteRT file of features and classes, if it agrees with Keras."""
    features = _features(model, shape)
    both = keras.Model(model.inputs[0], [features.outputs[0], model.outputs[0]])
    size = tuple(int(n or 0) for n in shape.as_tuple())
    sample = np.random.default_rng(0).uniform(0, 255, (_CHECKED, *size)).astype(np.float32)
    try:
        content = to_litert(both, size, batch=None)
        got = LiteRunner(content, Setting(batch=_CHECKED))(sample)
    except Exception:  # the converter and the interpreter raise what they like; Keras runs it then
        return None
    expected = by_keras(features, sample)
    alike = got.shape == expected.shape and relative_difference(got, expected) <= TOLERANCE
    return content if alike else None


def _features(model: keras.Model, shape: InputShape) -> keras.Model:
    """The network up to what is probed: the means of the maps that its last two stages end in.

    What comes after them is the part of a network that fine-tuning changes most, and that knows the
    pretrained size of objects best. A classifier on the last features alone therefore favours
    candidates that enlarge small pictures, which fine-tuning does not (benchmarks.probe_fidelity).
    """
    logits = keras.Model(model.inputs[0], model.get_layer(LOGITS).output)
    height, width = shape.hw
    size_hw = (height or 0, width or 0)
    ends = stage_ends(logits, size_hw, _STAGES)
    if not ends:
        return section(logits, None, head_cut(logits, size_hw))
    maps = [section(logits, None, cut).outputs[0] for cut in ends]
    means = [keras.layers.GlobalAveragePooling2D()(x) for x in maps]
    joined = keras.layers.Concatenate()(means) if len(means) > 1 else means[0]
    return keras.Model(logits.inputs[0], joined)


def _runner(candidate: Candidate, made: Made, job: Job, files: Files) -> tuple[Any, Made]:
    """What computes features, built anew where that was done in another call."""
    if made.features is None:
        model, _ = _adapted(candidate, job, files)
        made = replace(made, features=None if why_not_litert() else _checked(model, made.shape))
        if made.features is None:
            network = _features(model, made.shape)
            return partial(by_keras, network), made
    setting = Setting(job.cores, 1, _CALL)  # the fastest of all layouts, measured at 64 to 224
    return LiteRunner(made.features, setting), made


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
        seconds: Mapping[str, float] = self.candidate.seconds
        taken = seconds.get(name, 0.0) + time.perf_counter() - begun
        self.change(seconds={**seconds, name: round(taken, 3)})

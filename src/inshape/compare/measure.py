"""Measures one candidate: its costs, its latency and its probe."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from ..adapt import BackbonePlan, plan
from ..data.batches import Batches
from ..data.catalogue import Catalogue
from ..data.prepare import Preparation
from ..errors import InshapeError
from ..export.convert import convert
from ..export.formats import FORMATS
from ..export.timing import timed
from ..features.cut import head_cut, section
from ..features.forward import Forward
from ..geometry.stages import geometry
from ..graph.read import read
from ..heads import Head
from ..shapes import InputShape
from ..train.neck import build_for
from .comparison import Candidate
from .probe import accuracy_of, folds_of, probed

_SAMPLE = 32
_BATCH = 64
_LOGITS = "head_logits"


class Pictures:
    """The pictures at every size that a candidate wants, each decoded once.

    Attributes:
        seconds: spent on decoding.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        """Nothing is decoded before it is asked for.

        Args:
            catalogue: labelled pictures.
        """
        self._catalogue = catalogue
        self._kept: dict[InputShape, NDArray[Any]] = {}
        self.seconds = 0.0

    @property
    def labels(self) -> NDArray[np.int32]:
        """Their classes."""
        return self._catalogue.labels

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return len(self._catalogue.class_names)

    def at(self, shape: InputShape) -> NDArray[Any]:
        """All pictures at a static shape, in the catalogue's order.

        Args:
            shape: height, width and channels.

        Returns:
            ``(pictures, *shape)`` in [0, 255], as bytes where that loses nothing.
        """
        if shape not in self._kept:
            begun = time.perf_counter()
            batches = Batches.open(self._catalogue, Preparation.of(shape))
            if len(batches.catalogue) != len(self._catalogue):  # the rest cannot be read
                self._catalogue = batches.catalogue
                self._kept.clear()
            self._kept[shape] = np.concatenate([p for p, _ in batches.iterate(None, 256)])
            self.seconds += time.perf_counter() - begun
        return self._kept[shape]


class Trial:
    """A candidate under measurement; its features are kept between the rounds.

    Attributes:
        candidate: what is known of it so far.
    """

    def __init__(
        self, candidate: Candidate, weights: str | Path | None, pictures: Pictures
    ) -> None:
        """Nothing is built before it is asked for.

        Args:
            candidate: what to measure.
            weights: as in `inshape.adapt`.
            pictures: what to measure on.
        """
        self.candidate = candidate
        self._weights = weights
        self._pictures = pictures
        self._rows: NDArray[np.float32] | None = None
        self._done = 0
        self._forward: Forward | None = None
        self._model: keras.Model | None = None

    def cost(self, *, latency: bool) -> None:
        """Build the model and find out what it costs.

        Args:
            latency: whether it is timed.
        """
        self._noted("build", self._build)
        if latency and self.candidate.error is None:
            self._noted("latency", self._time)

    def probe(self, order: NDArray[np.intp], seed: int) -> None:
        """Measure the accuracy on some pictures.

        Args:
            order: which; a later call's begin with those of an earlier one.
            seed: of the folds.
        """
        self._noted("features", lambda: self._extract(order))
        if self.candidate.error is None:
            self._noted("probe", lambda: self._fit(order, seed))

    def forget(self) -> None:
        """Let go of model and features."""
        self._rows = self._forward = self._model = None

    def _build(self) -> None:
        c = self.candidate
        shape = InputShape.of(c.input_shape)
        keras.utils.set_random_seed(0)
        made = plan_of(self.candidate)
        model = build_for(made, Head(classes=self._pictures.classes), self._weights)
        told = geometry(read(model), self._static(shape))
        params = model.count_params()
        self._model = model
        self.candidate = c.but(
            macs=told.macs,
            params=params,
            size_bytes=params,
            float32_bytes=4 * params,
            ram_bytes=told.peak_int8_bytes,
            working_shape=str(made.geometry.working_shape),
        )

    def _time(self) -> None:
        assert self._model is not None
        shape = tuple(int(n or 0) for n in self._static(self._shape).as_tuple())
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.tflite"
            convert(self._model, FORMATS["litert"], path)
            cores = os.cpu_count() or 1
            found = [timed(path, shape, threads=n) for n in dict.fromkeys((1, cores))]
        self.candidate = self.candidate.but(
            latency_ms=found[0].median_ms,
            latencies=tuple((t.threads, t.median_ms, t.p95_ms) for t in found),
        )

    def _extract(self, order: NDArray[np.intp]) -> None:
        shape = self._static(self._shape)
        pictures = self._pictures.at(shape)
        if self._forward is None:
            if self._model is None:
                self._build()
            assert self._model is not None
            logits = keras.Model(self._model.inputs[0], self._model.get_layer(_LOGITS).output)
            height, width = shape.hw
            end = head_cut(logits, (height or 0, width or 0))
            sample = np.asarray(pictures[order[:_SAMPLE]], np.float32)
            self._forward = Forward(section(logits, None, end), sample)
        new = order[self._done :]
        parts = [] if self._rows is None else [self._rows]
        for start in range(0, len(new), _BATCH):
            batch = np.asarray(pictures[new[start : start + _BATCH]], np.float32)
            found = self._forward(batch)
            parts.append(found.reshape(len(found), -1))
        self._rows = np.concatenate(parts)
        self._done = len(order)

    def _fit(self, order: NDArray[np.intp], seed: int) -> None:
        assert self._rows is not None
        labels = self._pictures.labels[order]
        right = probed(self._rows, labels, folds_of(labels, seed))
        self.candidate = self.candidate.but(
            accuracy=accuracy_of(right),
            pictures=len(right),
            right="".join("1" if r else "0" for r in right),
        )

    @property
    def _shape(self) -> InputShape:
        return InputShape.of(self.candidate.input_shape)

    def _static(self, shape: InputShape) -> InputShape:
        """The shape to measure at: its own, or the network's where it takes any."""
        if shape.is_static:
            return shape
        made = plan_of(self.candidate)
        native = made.shown_shape or made.source.input_shape
        return InputShape(shape.hw[0] or native.hw[0], shape.hw[1] or native.hw[1], shape.channels)

    def _noted(self, part: str, work: Callable[[], None]) -> None:
        """Do a part of the work; a failure is noted and ends this candidate only."""
        begun = time.perf_counter()
        decoding = self._pictures.seconds
        try:
            work()
        except InshapeError as error:
            self.candidate = self.candidate.but(error=str(error))
        except Exception as error:  # out of memory, and whatever else a candidate may do
            kind = type(error).__name__
            reason = (str(error).strip().splitlines() or [""])[0][:200]
            self.candidate = self.candidate.but(error=f"{kind}: {reason}")
        taken = time.perf_counter() - begun
        decoded = self._pictures.seconds - decoding
        seconds = dict(self.candidate.seconds)
        for name, value in ((part, taken - decoded), ("pictures", decoded)):
            seconds[name] = round(seconds.get(name, 0.0) + value, 3)
        self.candidate = self.candidate.but(seconds=seconds)


def plan_of(candidate: Candidate) -> BackbonePlan:
    """What is done to a candidate's backbone.

    Args:
        candidate: any.

    Raises:
        RequestError: if it cannot be done.
    """
    strategy: Any = candidate.strategy  # the plan refuses what is none
    return plan(
        candidate.backbone,
        candidate.input_shape,
        strategy=strategy,
        channels=_channels(candidate.channels),
    )


def _channels(text: str) -> Any:
    """A channel rule, or a list of pretrained channels such as ``0,1,2,-``."""
    if "," not in text:
        return text
    return [None if part.strip() == "-" else int(part) for part in text.split(",")]

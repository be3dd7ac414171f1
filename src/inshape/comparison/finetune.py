"""Finalists, trained to the end each in a run folder of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data.sources import Source
from ..progress import Progress
from ..requests import make
from ..training.api import resume_training, run_training
from ..training.request import ResumeRequest, TrainRequest
from .choose import finalists
from .result import Candidate, reason_of
from .store import CandidateStore


@dataclass(frozen=True, slots=True)
class Finals:
    """The training of finalists.

    Attributes:
        source: the pictures.
        weights: as in `inshape.adapt`.
        out: the comparison's folder.
        store: of what is finished.
        seed: of the trainings.
        show: whether to show progress on standard error.
    """

    source: Source
    weights: str | Path | None
    out: Path
    store: CandidateStore
    seed: int
    progress: Progress

    def held(self, candidates: Sequence[Candidate], count: int, cost: str) -> list[Candidate]:
        """Train the finalists; what earlier calls trained besides decides nothing here.

        Args:
            candidates: measured.
            count: how many are finalists, possibly none.
            cost: by which they are compared, a field of `Candidate`.

        Returns:
            All candidates, the finalists with what they reached or why they failed.
        """
        chosen = finalists(candidates, count, cost)
        return [
            self._trained(c) if c in chosen else c.but(finetuned=None, finetuned_on=0)
            for c in candidates
        ]

    def _trained(self, c: Candidate) -> Candidate:
        if c.finetuned is not None:
            return c
        try:
            record = self._run(c, self.out / "runs" / self.store.key(c)[:12])
        except Exception as error:  # ends this finalist only, as it does in the probe
            return c.but(error=f"fine-tuning: {reason_of(error)}")
        done = c.but(
            finetuned=record["metrics"]["validation"]["accuracy"],
            finetuned_on=sum(record["data"]["validation"].values()),
        )
        self.store.keep(done)
        return done

    def _run(self, c: Candidate, folder: Path) -> Mapping[str, Any]:
        if (folder / "run.json").exists():
            request = ResumeRequest(run=folder, source=self.source)
            return resume_training(request, self.progress).record
        request = make(
            TrainRequest,
            source=self.source,
            shape=c.input_shape,
            out=folder,
            backbone=c.backbone,
            weights=self.weights,
            strategy=c.strategy,
            channels=c.channels,
            seed=self.seed,
        )
        return run_training(request, self.progress).record

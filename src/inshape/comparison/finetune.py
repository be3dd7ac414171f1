"""Finalists, trained to the end each in a run folder of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..limits import Limits
from ..progress import Progress
from ..requests import make
from ..runs import Run
from ..text import reason_of
from ..training.api import resume_training, run_training
from ..training.request import ResumeRequest, TrainRequest
from .choose import finalists
from .request import CompareRequest
from .result import Candidate
from .store import CandidateStore


def finetune(
    candidates: Sequence[Candidate],
    cost: str,
    request: CompareRequest,
    store: CandidateStore,
    progress: Progress,
) -> list[Candidate]:
    """Train the finalists; what earlier calls trained besides decides nothing here.

    All candidates come back, the finalists with what they reached or why they failed.
    """
    chosen = finalists(candidates, request.finetune, cost)
    tuned: list[Candidate] = []
    for candidate in candidates:
        if candidate not in chosen:
            candidate = candidate.but(finetuned=None, finetuned_on=0)
        elif candidate.finetuned is None:
            try:
                assert request.out is not None  # or there would be no finalists
                folder = request.out / "runs" / store.key_of(candidate)[:12]
                run = _train(candidate, folder, request, progress)
            except Exception as error:  # ends this finalist only, as it does in the probe
                candidate = candidate.but(error=f"fine-tuning: {reason_of(error)}")
            else:
                candidate = candidate.but(
                    finetuned=run.record["metrics"]["validation"][run.task.score_name],
                    finetuned_on=run.record["data"]["pictures"]["validation"],
                )
                store.save(candidate)
        tuned.append(candidate)
    return tuned


def _train(candidate: Candidate, folder: Path, request: CompareRequest, progress: Progress) -> Run:
    if (folder / "run.json").exists():
        resumed = ResumeRequest(run=folder, source=request.source)
        return resume_training(resumed, progress)
    return run_training(training_of(candidate, request, folder), progress)


def training_of(candidate: Candidate, request: CompareRequest, out: str | Path) -> TrainRequest:
    """The training of a candidate as it was compared."""
    return make(
        TrainRequest,
        source=request.source,
        shape=candidate.input_shape,
        out=out,
        backbone=candidate.backbone,
        weights=request.weights,
        **candidate.options,
        seed=request.seed,
        task=request.task,
        head=request.head,
        file=request.file,
        pictures=request.picture_options,
        masks=request.masks,
        limits=Limits(max_ram=request.limits.max_ram),
    )

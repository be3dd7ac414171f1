"""`train`: from a folder of pictures to a run folder with a fine-tuned model."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import keras

from ..errors import RequestError
from ..progress import Progress
from ..requests import takes
from ..runs import Run, locked
from .loop import Stopped
from .pipeline import begin, finished, go_on
from .request import ResumeRequest, TrainRequest


def run_training(request: TrainRequest, progress: Progress) -> Run:
    """Train at a shape that is known."""
    _check_backend()
    with _resumable(request.out, progress):
        return begin(request, progress)


@takes(ResumeRequest)
def resume(request: ResumeRequest, *, show: bool = False) -> Run:
    """Go on with a training that was interrupted or killed.

    Args:
        {options}
        show: whether to show progress on standard error.

    Returns:
        The finished run; a run that was finished already is handed back as it is.

    Raises:
        RequestError: if it cannot be resumed, or another process is training it.
        DataError: if the pictures are not those that the run began with.
        RunError: if the run folder cannot be written, or MLflow does not take the run.
        KeyboardInterrupt: on Ctrl-C; the run is saved and can be resumed.
    """
    return resume_training(request, Progress.to_stderr(show))


def resume_training(request: ResumeRequest, progress: Progress) -> Run:
    """Go on with a training, or hand back one that is complete."""
    _check_backend()
    place = Run.open(request.run).folder
    with locked(place), _resumable(place, progress):
        run = Run.open(place)  # as it is now that nobody else changes it
        return finished(run) if run.status == "complete" else go_on(run, request.source, progress)


@contextmanager
def _resumable(folder: Path, progress: Progress) -> Generator[None]:
    """Say after Ctrl-C how to go on, if there is something to go on with."""
    try:
        yield
    except KeyboardInterrupt as stop:
        if not (folder / "run.json").exists() or Run.open(folder).status != "running":
            raise
        Run.open(folder).updated(status="interrupted")
        hint = f"stopped; go on with: inshape train --resume {folder}"
        progress.say(hint)
        raise Stopped(hint) from stop


def _check_backend() -> None:
    if keras.backend.backend() != "tensorflow":
        raise RequestError(
            f"the Keras backend is {keras.backend.backend()}; expected tensorflow for training; "
            "set KERAS_BACKEND=tensorflow"
        )

"""`train`: from pictures to a run folder; where the shape is left open, a comparison chooses it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errors import RequestError
from .progress import Progress
from .requests import make, takes
from .runs import Run, check_new_run
from .training.api import run_training
from .training.request import AUTO, TrainRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from keras.callbacks import Callback

    from .comparison.result import Comparison


@takes(TrainRequest)
def train(request: TrainRequest, *, show: bool = False, callbacks: Sequence[Callback] = ()) -> Run:
    """Fine-tune a pretrained network at another input shape on your pictures.

    First the head is trained on features of the frozen network, which are computed once; then part
    of the network is unfrozen. With the shape ``"auto"``, a comparison of the usual shapes and
    strategies under the limits decides first.

    Args:
        {options}
        show: whether to show progress on standard error.
        callbacks: of Keras, which see every epoch of every phase; their model is the part of the
            network that is trained, and its learning rate a schedule that they cannot set.

    Returns:
        The finished run.

    Raises:
        RequestError: if the request cannot be met or the pictures cannot be used; nothing was
            written then.
        NoCandidate: if the shape is ``"auto"`` and no candidate meets the limits.
        RunError: if the run folder cannot be written.
        KeyboardInterrupt: on Ctrl-C; the run is saved and can be resumed.
    """
    progress = Progress.to_stderr(show)
    if request.shape == AUTO:
        request, comparison = choose_shape(request, progress)
        progress.show(comparison)
    elif request.limits.but(max_ram=None).is_any:
        raise RequestError(
            f"limits with the input {request.shape}; expected the input auto, which keeps them, or "
            "max_ram alone"
        )
    return run_training(request, progress, callbacks)


def choose_shape(request: TrainRequest, progress: Progress) -> tuple[TrainRequest, Comparison]:
    """The request at the shape and by the strategy that a comparison recommends."""
    # Here, since a training at a named shape loads none of it.
    from .comparison.api import run_comparison
    from .comparison.request import CompareRequest

    check_new_run(request.out)
    if not isinstance(request.backbone, str):
        raise RequestError(
            "backbone is a model, with the input auto; expected a name or a file, which can be "
            "opened anew for every shape; save it with model.save('name.keras')"
        )
    for name in request.options.given():
        raise RequestError(
            f"{name} with the input auto, which compares every strategy as it is by itself; "
            "expected one of the two; name the input shape"
        )
    strategy = request.options.strategy
    compare_request = make(
        CompareRequest,
        source=request.source,
        strategies=None if strategy == "auto" else strategy,
        backbones=request.backbone,
        channels=[request.options.channels],
        weights=request.weights,
        seed=request.seed,
        task=request.task,
        head=request.head,
        picture_options=request.pictures,
        limits=request.limits,
    )
    comparison = run_comparison(compare_request, progress)
    best = comparison.recommendation
    assert best is not None  # otherwise NoCandidate was raised
    # With the limits, so that the run's record says what it was chosen under.
    chosen = request.but(shape=best.input_shape, strategy=best.strategy, channels=best.channels)
    return chosen, comparison

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
def train(
    request: TrainRequest, *, show: bool | None = None, callbacks: Sequence[Callback] = ()
) -> Run:
    """Fine-tune a pretrained network at another input shape on your pictures.

    First the head is trained on features of the frozen network, which are computed once; then part
    of the network is unfrozen. With the shape ``"auto"`` or with limits, a comparison of shapes and
    strategies decides first.

    Args:
        {options}
        show: whether to show progress; by default in a terminal and in a notebook.
        callbacks: of Keras, which see every epoch of every phase; their model is the part of the
            network that is trained, and its learning rate a schedule that they cannot set.

    Returns:
        The finished run.

    Raises:
        RequestError: if the request cannot be met or the pictures cannot be used; nothing was
            written then.
        NoCandidate: if no candidate meets the limits.
        RunError: if the run folder cannot be written.
        KeyboardInterrupt: on Ctrl-C; the run is saved and can be resumed.
    """
    progress = Progress.to_stderr(show)
    if request.shape == AUTO or request.limits.but(max_ram=None).is_any:
        request, comparison = choose_shape(request, progress)
        progress.show(comparison)
    return run_training(request, progress, callbacks)


def choose_shape(request: TrainRequest, progress: Progress) -> tuple[TrainRequest, Comparison]:
    """The request at the shape and by the strategy that a comparison recommends."""
    # Here, since a training at a named shape loads none of it.
    from .comparison.api import run_comparison
    from .comparison.request import CompareRequest

    check_new_run(request.out)
    why = f"the input {AUTO}" if request.shape == AUTO else "limits"
    if not isinstance(request.backbone, str):
        raise RequestError(
            f"backbone is a model, with {why}; expected a name or a file, which can be "
            "opened anew for every shape; save it with model.save('name.keras')"
        )
    for name in request.options.given():
        raise RequestError(
            f"{name} with {why}, by which every strategy is compared as it is by itself; "
            f"expected one of the two; leave out {name}, or name the input shape without limits"
        )
    strategy = request.options.strategy
    compare_request = make(
        CompareRequest,
        source=request.source,
        shapes=None if request.shape == AUTO else [request.shape],
        strategies=None if strategy == "auto" else strategy,
        backbones=request.backbone,
        channels=[request.options.channels],
        weights=request.weights,
        seed=request.seed,
        task=request.task,
        head=request.head,
        file=request.file,
        picture_options=request.pictures,
        masks=request.masks,
        limits=request.limits,
    )
    comparison = run_comparison(compare_request, progress)
    best = comparison.recommendation
    assert best is not None  # otherwise NoCandidate was raised
    # With the limits, so that the run's record says what it was chosen under.
    chosen = request.but(shape=best.input_shape, **best.options)
    return chosen, comparison

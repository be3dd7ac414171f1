"""``inshape adapt``: a backbone at a new input shape, as a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import OutputExists, RequestError
from . import options
from .console import console


def adapt(
    backbone: options.Network,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The new model, a .keras file.")],
    input_shape: options.Shape = None,
    input_option: options.Input = None,
    weights: options.Weights = "imagenet",
    classes: Annotated[
        int | None, typer.Option(metavar="N", help="Outputs of the new classifier.")
    ] = None,
    head: Annotated[
        str | None,
        typer.Option(
            metavar="HEAD", help="avg, max, gem, a grid such as 2x2, or top: the pretrained one."
        ),
    ] = None,
    features: Annotated[
        str | None,
        typer.Option(metavar="STRIDES", help="Return the last maps at these, such as 4,8,16,32."),
    ] = None,
    strategy: options.Strategy = "auto",
    channels: options.Channels = "auto",
    working: options.WorkingSize = None,
    fit: options.Fit = None,
    interpolation: options.Interpolation = None,
    stem: options.Stem = None,
    factor: options.Factor = None,
    output_stride: options.OutputStride = None,
    as_json: options.AsJson = False,
    debug: options.Debug = False,
) -> None:
    """Give a network a new input shape.

    The pretrained weights are carried over; the result is saved as a plain Keras model.
    """
    with console(as_json=as_json, debug=debug) as told:
        shape = options.shape_of(input_shape, input_option)
        _check_out(out)
        from ..adapt import plan
        from ..runs import save_model

        asked = options.planned(
            strategy=strategy,
            channels=channels,
            working=working,
            fit=fit,
            interpolation=interpolation,
            stem=stem,
            factor=factor,
            output_stride=output_stride,
        )
        adapted = plan(options.network_of(backbone), shape, **asked).carried_out(
            weights=options.weights_of(weights),
            classes=classes,
            head=options.head_of(head),
            features=options.numbers_of("--features", features),
        )
        save_model(adapted.model, out)
        told.answer(
            f"{adapted.plan}\n\n{adapted.report}\nwrote {out}",
            {
                "plan": adapted.plan.as_dict(),
                "weights": adapted.report.as_dict(),
                "model": str(out),
            },
        )


def _check_out(out: Path) -> None:
    """Refuse an output before any work is done for it."""
    if out.suffix != ".keras":
        raise RequestError(f"--out {out} is not a .keras file; name one, such as {out.stem}.keras")
    if out.exists():
        raise OutputExists(f"--out {out} exists already; expected a new file; name another")
    if not out.parent.is_dir():
        raise RequestError(f"--out {out}: there is no folder {out.parent}; make it first")

"""``inshape inspect``: what a new input shape would do to a backbone."""

from __future__ import annotations

from . import options
from .console import console


def inspect(
    backbone: options.Network,
    input_shape: options.Shape = None,
    input_option: options.Input = None,
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
    """Show what a new input shape would do.

    Stage by stage: map sizes, strides, receptive fields, cost; then warnings. Nothing is
    downloaded.
    """
    with console(as_json=as_json, debug=debug) as out:
        shape = options.shape_of(input_shape, input_option)  # before Keras is waited for
        from ..adapt import plan

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
        made = plan(options.network_of(backbone), shape, **asked)
        out.answer(made, made.as_dict())

"""``inshape train``: from pictures to a run folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import NoCandidate, RequestError
from ..shapes import InputShape
from . import device_limits, options
from .console import console


def train(
    context: typer.Context,
    pictures: Annotated[
        Path | None,
        typer.Argument(
            metavar="PICTURES",
            help="A folder per class, folders train/ and val/, a .csv or .parquet table, or .npz.",
            show_default=False,
        ),
    ] = None,
    input_shape: Annotated[
        str | None,
        typer.Option(
            "--input",
            metavar="HxWxC",
            help="Input shape; ? is any size; auto lets the pictures and limits choose.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="The run folder to make.")
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Go on with a run that was interrupted.")
    ] = None,
    backbone: options.Backbone = "MobileNetV3Large-minimalistic",
    weights: options.Weights = "imagenet",
    seed: Annotated[int, typer.Option(metavar="N", help="Fixes split, order and new weights.")] = 0,
    unfreeze: Annotated[
        str | None,
        typer.Option(
            metavar="PART",
            help="What is trained besides the head: none, last (the last stage), a number of "
            "stages, the name of the first layer, or all.",
        ),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(metavar="N", help="At most, with the backbone unfrozen.")
    ] = None,
    patience: Annotated[
        int | None, typer.Option(metavar="N", help="Epochs without a better score before stopping.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(metavar="N", help="Pictures per step.")] = None,
    learning_rate: Annotated[
        float | None, typer.Option(metavar="RATE", help="Of the head at its peak.")
    ] = None,
    augment: Annotated[
        str | None, typer.Option(metavar="NAME", help="none, light or strong.")
    ] = None,
    flip: Annotated[
        bool | None,
        typer.Option("--flip/--no-flip", help="Whether left and right may be exchanged."),
    ] = None,
    views: Annotated[
        int | None,
        typer.Option(metavar="N", help="Versions of each picture: plain, mirrored, random ones."),
    ] = None,
    class_weights: Annotated[
        str | None, typer.Option(metavar="NAME", help="none, sqrt or balanced.")
    ] = None,
    validation: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="Held out where there is no validation folder."),
    ] = None,
    distil: Annotated[
        bool | None,
        typer.Option(
            "--distil",
            help="Let the network at its own shape, on larger pictures, teach this one.",
            show_default=False,
        ),
    ] = None,
    recalibrate: Annotated[
        bool | None,
        typer.Option(
            "--recalibrate",
            help="Measure batch norm's statistics anew at the end; kept if better.",
            show_default=False,
        ),
    ] = None,
    fixres: Annotated[
        bool | None,
        typer.Option(
            "--fixres",
            help="Tune the last batch norm and the head without augmentation at the end; kept if "
            "better.",
            show_default=False,
        ),
    ] = None,
    mlflow: Annotated[
        str | None,
        typer.Option(metavar="URI", help="Keep the run in this MLflow server or store too."),
    ] = None,
    max_latency: device_limits.MaxLatency = None,
    max_macs: device_limits.MaxMacs = None,
    max_size: device_limits.MaxSize = None,
    max_ram: device_limits.MaxRam = None,
    recipe: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Any other choice of inshape.Recipe, such as mixup=0; may be repeated.",
        ),
    ] = None,
    pool: Annotated[
        str, typer.Option(metavar="POOL", help="The head's: avg, max, gem or a grid such as 2x2.")
    ] = "avg",
    dropout: Annotated[float, typer.Option(metavar="SHARE", help="The head's.")] = 0.2,
    hidden: Annotated[
        int | None, typer.Option(metavar="N", help="Units of a dense layer in the head.")
    ] = None,
    picture_fit: Annotated[
        str | None,
        typer.Option(
            metavar="FIT", help="How pictures are brought to the input: stretch, letterbox, crop."
        ),
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
    """Fine-tune a network on your pictures.

    The head is trained first, on features of the frozen network, then the network's last part with
    it. Ctrl-C stops, saves, and says how to resume.
    """
    with console(as_json=as_json, debug=debug) as told:
        if resume is not None:
            others = options.given(context, but=("pictures", "resume", "as_json", "debug"))
            if others:
                raise RequestError(
                    f"--resume goes on with the run as it was begun; leave out {', '.join(others)}"
                )
            from ..train import resume as go_on

            run = go_on(resume, source=pictures, show=True)
        else:
            if pictures is None or input_shape is None or out is None:
                raise RequestError(
                    "train needs pictures, --input and --out; write: "
                    "inshape train PICTURES --input 96x96x3 --out runs/a"
                )
            limits = (max_latency, max_macs, max_size, max_ram)
            if input_shape == "auto":
                from ..compare import compare
                from ..runs import check_new

                check_new(out)
                _refuse_with_auto(
                    working=working,
                    fit=fit,
                    interpolation=interpolation,
                    stem=stem,
                    factor=factor,
                    output_stride=output_stride,
                )
                try:
                    found = compare(
                        pictures,
                        strategies=None if strategy == "auto" else [strategy],
                        backbones=[backbone],
                        channels=[channels],
                        weights=options.weights_of(weights),
                        limits=device_limits.limits_of(*limits, None),
                        seed=seed,
                        show=True,
                    )
                except NoCandidate as nothing:
                    told.show(nothing.comparison)
                    raise
                told.show(found)
                best = found.recommendation
                assert best is not None
                input_shape, strategy, channels = best.input_shape, best.strategy, best.channels
            elif any(limit is not None for limit in limits):
                raise RequestError(
                    f"limits with --input {input_shape}; expected --input auto, which keeps them"
                )
            shape = InputShape.of(input_shape)
            from ..heads import Head
            from ..train import Recipe
            from ..train import train as begin

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
            choices = options.recipe_of(
                recipe or (),
                unfreeze=unfreeze,
                epochs=epochs,
                patience=patience,
                batch_size=batch_size,
                learning_rate=learning_rate,
                augment=augment,
                flip=flip,
                views=views,
                class_weights=class_weights,
                validation=validation,
                distil=distil,
                recalibrate=recalibrate,
                fixres=fixres,
            )
            run = begin(
                pictures,
                shape,
                out=out,
                backbone=backbone,
                weights=options.weights_of(weights),
                strategy=asked.pop("strategy"),
                channels=asked.pop("channels"),
                seed=seed,
                head=Head(pool=options.head_of(pool), dropout=dropout, hidden=hidden),
                recipe=Recipe().of(choices),
                plan_options=asked,
                preparation={} if picture_fit is None else {"fit": picture_fit},
                mlflow=mlflow,
                show=True,
            )
        validation_scores = run.record["metrics"]["validation"]
        told.answer(
            f"{run.folder}: validation accuracy {validation_scores['accuracy']:.4f}",
            {"run": str(run.folder), **run.record},
        )


def _refuse_with_auto(**options: object) -> None:
    """Refuse what no candidate was measured with, since it would change what was chosen."""
    for name, value in options.items():
        if value is not None:
            raise RequestError(
                f"--{name.replace('_', '-')} with --input auto, which compares every strategy as "
                "it is by itself; expected one of the two; name the input shape"
            )

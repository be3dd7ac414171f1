"""``inshape compare``: which shape and strategy suit these pictures."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from ..errors import NoCandidate
from . import device_limits, options
from .console import console


def compare(
    pictures: Annotated[
        Path, typer.Argument(metavar="PICTURES", help="A folder per class, or a table.")
    ],
    shapes: Annotated[
        str | None,
        typer.Option(metavar="SHAPES", help="With commas; by default what suits the pictures."),
    ] = None,
    strategies: Annotated[
        str | None,
        typer.Option(metavar="NAMES", help="With commas; by default what suits each shape."),
    ] = None,
    backbones: Annotated[
        str, typer.Option(metavar="NAMES", help="With commas.")
    ] = "MobileNetV3Large-minimalistic",
    channels: Annotated[
        str,
        typer.Option(
            metavar="RULES",
            help="With commas; with semicolons where one is a list of bands: sum;0,1,2,-.",
        ),
    ] = "auto",
    weights: options.Weights = "imagenet",
    max_latency: device_limits.MaxLatency = None,
    max_macs: device_limits.MaxMacs = None,
    max_size: device_limits.MaxSize = None,
    max_ram: device_limits.MaxRam = None,
    min_accuracy: device_limits.MinAccuracy = None,
    finetune: Annotated[
        int,
        typer.Option(metavar="N", help="Train so many of the best, 2 or more; needs --out."),
    ] = 0,
    most: Annotated[
        int, typer.Option("--pictures", metavar="N", help="The most pictures to use.")
    ] = 4000,
    latency: Annotated[
        bool, typer.Option("--latency/--no-latency", help="Time every candidate.")
    ] = True,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Keeps what is finished; a second call goes on."),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Of pictures and folds.")] = 0,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="[ADDRESS]",
            help="Measure on the workers of a Ray cluster: auto for the one that runs here, "
            "host:port, or none for one of this machine's cores.",
        ),
    ] = None,
    as_json: options.AsJson = False,
    debug: options.Debug = False,
) -> None:
    """Measure shapes and strategies on your pictures and recommend one."""
    with console(as_json=as_json, debug=debug) as told:
        from ..compare import compare as measure

        try:
            found = measure(
                pictures,
                shapes=options.words_of(shapes) if shapes is not None else None,
                strategies=options.words_of(strategies) if strategies is not None else None,
                backbones=options.words_of(backbones),
                channels=options.rules_of(channels),
                weights=options.weights_of(weights),
                limits=device_limits.limits_of(
                    max_latency, max_macs, max_size, max_ram, min_accuracy
                ),
                out=out,
                finetune=finetune,
                pictures=most,
                latency=latency,
                seed=seed,
                ray=ray,
                show=True,
            )
        except NoCandidate as nothing:
            told.answer(nothing.comparison, nothing.comparison.as_dict())
            raise
        told.answer(found, found.as_dict())


def with_address(words: Sequence[str]) -> list[str]:
    """Fill in the address that ``--ray`` may go without.

    Args:
        words: of the command line.

    Returns:
        The same, with ``local`` behind a ``--ray`` that no address follows.

    Example:
        >>> with_address(["compare", "--ray", "photos", "--seed", "1"])
        ['compare', '--ray', 'local', 'photos', '--seed', '1']
        >>> with_address(["compare", "photos", "--ray", "10.0.0.7:6379"])
        ['compare', 'photos', '--ray', '10.0.0.7:6379']
    """
    found: list[str] = []
    for number, word in enumerate(words):
        found.append(word)
        following = words[number + 1] if number + 1 < len(words) else ""
        if word == "--ray" and not _ADDRESS.fullmatch(following):
            found.append("local")
    return found


_ADDRESS = re.compile(r"local|auto|ray://.+|[\w.\[\]:-]+:\d+")

"""``inshape export`` and ``inshape bench``: files for other runtimes, and how fast they are."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from ..errors import RequestError
from . import options
from .completion import format_names
from .console import console


def export(
    run: options.RunFolder,
    to: Annotated[
        str,
        typer.Option(
            metavar="FORMATS",
            help="With commas: litert, litert-float16, litert-dynamic, litert-int8, onnx, "
            "openvino, savedmodel, keras.",
            autocompletion=format_names,
        ),
    ] = "litert",
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Pictures to compare on; by default those that the training held out.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="By default the run's folder exports.")
    ] = None,
    calibration: Annotated[
        int, typer.Option(metavar="N", help="Training pictures that int8 is calibrated on.")
    ] = 200,
    calibrate_on: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Pictures to calibrate on; by default the training pictures."
        ),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(metavar="N", help="Pictures per call of onnx and openvino; any by default."),
    ] = None,
    pictures: Annotated[
        int, typer.Option(metavar="N", help="The most pictures to compare on.")
    ] = 1000,
    io: Annotated[
        str, typer.Option(metavar="TYPE", help="Of an int8 file: float32, int8 or uint8.")
    ] = "float32",
    min_agreement: Annotated[
        float,
        typer.Option(metavar="SHARE", help="Below it a file is marked as failed, exit code 1."),
    ] = 0.97,
    timing: Annotated[
        bool, typer.Option("--timing/--no-timing", help="Measure latency and memory.")
    ] = True,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace files that are there already.")
    ] = False,
    as_json: options.AsJson = False,
    debug: options.Debug = False,
) -> None:
    """Write a run's model for other runtimes, and compare every file with it."""
    with console(as_json=as_json, debug=debug) as told:
        from ..export.front import export as write

        found = write(
            run,
            to,
            data=data,
            out=out,
            calibration=calibration,
            calibrate_on=calibrate_on,
            batch=batch,
            pictures=pictures,
            io=io,  # pyright: ignore[reportArgumentType]
            min_agreement=min_agreement,
            timing=timing,
            replace_files=replace,
            show=True,
        )
        told.answer(found, found.as_dict())
        if found.failed or found.refused:
            raise typer.Exit(1)


def bench(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An exported model.")],
    input_shape: Annotated[
        str | None,
        typer.Option("--input", metavar="HxWxC", help="By default what the file says of itself."),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(metavar="N", help="By default 1, then one per core.")
    ] = None,
    as_json: options.AsJson = False,
    debug: options.Debug = False,
) -> None:
    """Measure how long a call of an exported file takes."""
    with console(as_json=as_json, debug=debug) as told:
        from ..export.runtimes import kind_of
        from ..export.sidecar import card_in
        from ..export.timing import timed
        from ..shapes import InputShape

        kind = kind_of(file)
        card = card_in(file)
        text = input_shape or (card["preparation"]["shape"] if card else None)
        if text is None:
            raise RequestError(f"{file} does not say what it takes; give --input HxWxC")
        shape = InputShape.of(text)
        if not shape.is_static:
            raise RequestError(f"--input {shape}; expected a size to measure at, such as 96x96x3")
        counts = dict.fromkeys([threads] if threads else [1, os.cpu_count() or 1])
        size = tuple(int(n) for n in shape.as_tuple() if n is not None)
        batch = card["input"].get("batch", 1) if card else 1
        batch = batch if isinstance(batch, int) else 1
        found = [timed(file, size, threads=count, batch=batch) for count in counts]
        told.answer(
            "\n".join(
                f"{file} ({kind}) at {batch}x{shape}, {t.threads} thread{'s' * (t.threads > 1)}: "
                f"{t.median_ms:.2f} ms, 95 % within {t.p95_ms:.2f} ms; first answer after "
                f"{t.load_ms:.0f} ms"
                for t in found
            ),
            {
                "file": str(file),
                "runtime": kind,
                "input_shape": str(shape),
                "batch": batch,
                "timings": [t.as_dict() for t in found],
            },
        )

"""``inshape demo``: the main job on pictures that are installed already."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from . import options
from .console import console


def demo(
    out: Annotated[
        Path, typer.Option(metavar="FOLDER", help="A new folder for everything it writes.")
    ] = Path("runs/demo"),
    as_json: options.AsJson = False,
    debug: options.Debug = False,
) -> None:
    """Inspect, compare, train, evaluate and export on handwritten digits; nothing is downloaded."""
    with console(as_json=as_json, debug=debug) as told:
        from ..demo import steps, write_digits

        begun = time.perf_counter()
        print(f"{write_digits(out)} handwritten digits of 8x8 grey pixels in {out / 'digits'}")
        for step in steps(out):
            print(f"\n# {step.title}\n$ {step.command}\n", flush=True)
            words = [sys.executable, "-m", "inshape", *step.words]
            done = subprocess.run(words, stdout=sys.stderr if as_json else None, check=False)
            if done.returncode:
                raise typer.Exit(done.returncode)
        seconds = time.perf_counter() - begun
        told.answer(
            f"\ndone in {seconds:.0f} s; the run is {out / 'run'}",
            {"run": str(out / "run"), "seconds": round(seconds, 1)},
        )

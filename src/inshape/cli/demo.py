"""``inshape demo``: the main job on pictures that are installed already."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import asdict
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
    """Inspect, compare, train, evaluate and export on handwritten digits; nothing is downloaded.

    It starts from the small checkpoint that comes with inshape, and from random weights beside it.
    """
    with console(as_json=as_json, debug=debug) as told:
        from ..demo import gains, steps, write_digits

        begun = time.perf_counter()
        train, test = write_digits(out)
        print(
            f"handwritten digits of 8x8 grey pixels in {out / 'digits'}: {train} to train on, "
            f"{test} to test on"
        )
        for step in steps(out):
            print(f"\n# {step.title}\n$ {step.command}\n", flush=True)
            words = [sys.executable, "-m", "inshape", *step.words]
            done = subprocess.run(words, stdout=sys.stderr if as_json else None, check=False)
            if done.returncode:
                raise typer.Exit(done.returncode)
        seconds = time.perf_counter() - begun
        found = gains(out)
        lines = "\n".join(map(str, found))
        told.answer(
            f"\nwhat pretraining was worth:\n{lines}\n\n"
            f"done in {seconds:.0f} s; the run is {out / 'run'}",
            {
                "run": str(out / "run"),
                "seconds": round(seconds, 1),
                "gains": [asdict(gain) for gain in found],
            },
        )

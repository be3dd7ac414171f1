"""Pictures whose values are not 0 to 255."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from inshape.data.batches import Batches
from inshape.data.decode import load
from inshape.data.prepare import Preparation
from inshape.data.sources import open_source
from inshape.requests import make
from inshape.training.request import TrainRequest

from .case import BadInput


def _set(kind: str, low: float, high: float, gap: float | None = None) -> Callable[[Path], Any]:
    """Pictures from the one value to the other, some pixels of which may hold a third."""

    def give(_: Path) -> Any:
        pictures = np.linspace(low, high, 4 * 99).reshape(4, 11, 9)
        if gap is not None:
            pictures[:, :2, 3:] = gap
        batches = Batches.open(
            open_source((pictures.astype(kind), [0, 1, 0, 1])), Preparation.of("11x9x1")
        )
        return batches.catalogue.warnings

    return give


def _mixed(_: Path) -> Any:
    pictures = [np.linspace(0, 1, 99, dtype="float32"), np.arange(99, dtype="uint16")] * 2
    source = ([picture.reshape(11, 9, 1) for picture in pictures], [0, 1, 0, 1])
    return Batches.open(open_source(source), Preparation.of("11x9x1"))


def _file(folder: Path) -> Any:
    picture = np.linspace(0, 4095, 99, dtype="uint16").reshape(11, 9)
    tifffile.imwrite(folder / "a.tif", picture, photometric="minisblack")
    return load(folder / "a.tif", Preparation.of("11x9x1")).max()


def _option(value: Any) -> Callable[[Path], Any]:
    return lambda _: make(TrainRequest, source="a", shape="9x9x1", out="run", full_scale=value)


BAD_INPUTS = [
    BadInput("12 bits in 16", _set("uint16", 0, 4090), "full_scale 0:4095, since their values"),
    BadInput("12 bits in one 16-bit TIFF", _file, r"full_scale 0:4095, .*; 255\.0"),
    BadInput("a CT", _set("int16", -1024, 3071), "full_scale -1024:3071, "),
    BadInput("a CT with padding", _set("int16", -1024, 3071, -3024), "; -3024 stands for missing"),
    BadInput("reflectances in 10,000ths", _set("uint16", 0, 9900), "full_scale 0:10000, "),
    BadInput("reflectances as floats", _set("float32", 0, 0.9), "full_scale 0:1, "),
    BadInput("floats with -9999", _set("float32", 0, 0.9, -9999), "; -9999 stands for missing"),
    BadInput("floats with NaN", _set("float32", 0, 0.9, np.nan), "; NaN stands for missing"),
    BadInput("signed pictures of zeros", _set("int16", 0, 0), "no agreed white; .*LOW:HIGH"),
    BadInput("unsigned with 65535", _set("uint16", 0, 900, 65535), "0:1023.*; 65535, far above, "),
    BadInput("floats beside whole numbers", _mixed, "float32, uint16; expected .* convert"),
    BadInput("a range upside down", _option("4095:0"), "full_scale='4095:0'; expected LOW:HIGH"),
    BadInput("a range of words", _option("low:high"), "expected LOW:HIGH, .* such as 0:4095"),
    BadInput("a range without an end", _option("0:inf"), "expected LOW:HIGH, "),
]

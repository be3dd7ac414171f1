"""The range that a set of pictures uses, found in a sample of it."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..processor import count_cores
from .catalogue import Catalogue
from .prepare import Preparation
from .ranges import Evidence, find_range

SAMPLE = 256
"""How many pictures are looked at, evenly over all of more than 8 bits."""
GLANCE = 32
"""How many pictures are asked for their type first, evenly over all; to open a TIFF is a quarter of
reading it."""
_FEW_LEVELS = 64


def with_range(
    catalogue: Catalogue, preparation: Preparation, *, thorough: bool = False
) -> tuple[Preparation, tuple[str, ...]]:
    """The preparation with the one full scale that suits the pictures, and what there is to say.

    A full scale that is set stays, and pictures of 8 bits need none. Where the first that are asked
    are of 8 bits the rest is not, unless the look is ``thorough``, at the type of every picture.

    Raises:
        DataError: if no range suits all, or the bits that they use are not read.

    Example:
        >>> from inshape.data.sources import open_source
        >>> frames = np.random.default_rng(0).integers(0, 4096, (6, 20, 30), np.uint16)
        >>> catalogue = open_source((frames, [0, 1] * 3))
        >>> with_range(catalogue, Preparation.of("10x15x1"))[0].full_scale
        (0.0, 4095.0)
    """
    if preparation.full_scale is not None:
        return preparation, ()
    every = np.arange(len(catalogue))
    listed = every if thorough else _spread(every, GLANCE)
    deep = [index for index in listed.tolist() if catalogue.has_range(index)]
    if not deep:
        return preparation, ()
    if len(listed) < len(every):
        return with_range(catalogue, preparation, thorough=True)  # more than the sample holds

    with ThreadPoolExecutor(count_cores()) as pool:
        chosen = _spread(np.array(deep), SAMPLE).tolist()
        looks = list(pool.map(partial(_look, catalogue, preparation), chosen))
    evidence, brightest = zip(*looks, strict=True)
    _refuse_dark(brightest)
    found = find_range(evidence)
    if found is None:
        return preparation, ()
    return replace(preparation, full_scale=found.full_scale), (found.message,)


def _look(
    catalogue: Catalogue, preparation: Preparation, index: int
) -> tuple[Evidence | None, float | None]:
    """What a picture says of its range, and its greatest value if it is read in too few bits."""
    try:
        picture = catalogue.decode(index, preparation)
    except DataError:
        return None, None  # preparing it says so
    return Evidence.of(picture), float(picture.colours.max()) if picture.is_shortened else None


def _spread(positions: NDArray[np.intp], most: int) -> NDArray[np.intp]:
    """At most so many of them, in equal steps."""
    if len(positions) <= most:
        return positions
    return positions[np.linspace(0, len(positions) - 1, most).round().astype(int)]


def _refuse_dark(brightest: Sequence[float | None]) -> None:
    """Refuse colour PNGs of 16 bits whose values are lost in the 8 that are read of them."""
    levels = max((int(top) + 1 for top in brightest if top is not None), default=_FEW_LEVELS + 1)
    if levels <= _FEW_LEVELS:
        raise DataError(
            f"16-bit colour PNGs with values up to {256 * levels}, of which 8 bits are read: "
            f"{levels} levels of 256; expected the whole range; save the pictures as TIFF, which "
            "keeps 16 bits"
        )

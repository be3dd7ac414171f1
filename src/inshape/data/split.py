"""Splits that keep classes in proportion and identical pictures together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from .catalogue import Catalogue

_FEWEST = 3
"""Distinct pictures below which a class stays in training whole, if others can be split."""


def split(
    catalogue: Catalogue,
    *,
    validation: float = 0.1,
    test: float = 0.0,
    seed: int = 0,
    fold: str = "",
) -> Catalogue:
    """Assign the pictures that have no validation or test split yet.

    Every class gives the same fraction, at least one picture. Pictures with identical contents go
    to one side together. The same pictures and seed give the same splits, in whatever order or
    folder they lie. A split that the source brought stays as it is: with a ``validation/`` folder,
    nothing more is taken out of ``train/`` for it.

    ``validation`` and ``test`` are fractions in [0, 1). Classes with fewer than three distinct
    pictures stay in training, with a warning; where all have two at most, those with two are split.
    A ``fold`` such as ``"2/5"`` holds out the second of five parts of the pictures for training and
    validation, whatever their split was; the parts share no picture, and together they are all.

    Raises:
        DataError: if the fractions leave nothing to train on, or no class can be split.

    Example:
        >>> from inshape.data.sources import open_source
        >>> rng = np.random.default_rng(0)
        >>> pictures = rng.integers(0, 255, (20, 8, 6, 1), np.uint8)
        >>> catalogue = split(open_source((pictures, [0, 1] * 10)), validation=0.2)
        >>> catalogue.counts("train"), catalogue.counts("validation")
        ({'0': 8, '1': 8}, {'0': 2, '1': 2})
    """
    if fold:
        number, count = map(int, fold.split("/"))
        return _fold(catalogue, number, count, seed)
    _check_fractions(validation, test)
    fractions = {
        name: fraction
        for name, fraction in (("validation", validation), ("test", test))
        if fraction > 0.0 and not (catalogue.splits == name).any()
    }
    splits = np.where(catalogue.splits == "", "train", catalogue.splits).astype("U10")
    skipped = tuple(replace(s, split=s.split or "train") for s in catalogue.skipped)
    catalogue = replace(catalogue, skipped=skipped)
    if not fractions:
        return replace(catalogue, splits=splits)
    pool = np.flatnonzero(splits == "train")
    warnings = _assign(catalogue, pool, fractions, seed, splits)
    return replace(catalogue, splits=splits, warnings=catalogue.warnings + warnings)


def _check_fractions(validation: float, test: float) -> None:
    for name, fraction in (("validation", validation), ("test", test)):
        if not 0.0 <= fraction < 1.0:
            raise DataError(f"{name} {fraction}; expected 0 to less than 1; use 0.1 for a tenth")
    if validation + test >= 1.0:
        raise DataError(
            f"validation {validation} and test {test}; expected less than 1 together; leave some "
            "pictures to train on"
        )


def _fold(catalogue: Catalogue, number: int, count: int, seed: int) -> Catalogue:
    """One of so many parts for validation, numbered from 1, and the others for training."""
    pool = np.flatnonzero(catalogue.splits != "test")
    contents = catalogue.contents[pool].view("V16")
    _, first, groups = np.unique(contents, return_index=True, return_inverse=True)
    strata = catalogue.strata[pool][first]
    if len(strata) < count:
        raise DataError(
            f"{count} folds of {len(strata)} distinct pictures; expected at least one for each; "
            "ask for fewer folds, or add pictures"
        )
    rng = np.random.default_rng(seed)
    # One stratum after the other, so that all parts are as large and each has its share.
    order = np.lexsort((rng.permutation(len(strata)), strata))
    parts = np.empty(len(strata), np.intp)
    parts[order] = np.arange(len(strata)) % count
    splits = catalogue.splits.copy()
    splits[pool] = np.where(parts[groups] == number - 1, "validation", "train")
    return replace(catalogue, splits=splits)


def held_out(catalogue: Catalogue) -> str:
    """The split furthest from training: test, else validation, else ``"all"``.

    Example:
        >>> from inshape.data.sources import open_source
        >>> catalogue = open_source((np.zeros((4, 8, 6, 1), np.uint8), [0, 1, 0, 1]))
        >>> held_out(catalogue)
        'all'
        >>> held_out(replace(catalogue, splits=np.array(["train", "test", "validation", "test"])))
        'test'
    """
    return next((s for s in ("test", "validation") if len(catalogue.indices(s))), "all")


def _assign(
    catalogue: Catalogue,
    pool: NDArray[np.intp],
    fractions: dict[str, float],
    seed: int,
    splits: NDArray[np.str_],
) -> tuple[str, ...]:
    """Write the splits of the pool's pictures; return warnings."""
    if not len(pool):
        raise DataError(
            "no training pictures to split; expected some; give a source with training pictures"
        )
    # Groups of identical pictures. np.unique sorts by content, so that the draw does not depend on
    # names or order.
    _, first, groups = np.unique(
        catalogue.contents[pool].view("V16"), return_index=True, return_inverse=True
    )
    group_strata = catalogue.strata[pool][first]
    group_splits = np.full(len(first), "train", "U10")
    small: list[str] = []
    most = int(np.bincount(group_strata[group_strata >= 0]).max(initial=0))
    fewest = min(_FEWEST, max(most, 2))
    rng = np.random.default_rng(seed)
    for stratum in range(group_strata.max(initial=-1) + 1):
        members = rng.permutation(np.flatnonzero(group_strata == stratum))
        if len(members) >= fewest:
            _draw(members, fractions, group_splits, catalogue.task.stratum_name(stratum))
        elif len(members):
            small.append(repr(catalogue.task.stratum_name(stratum)))
    splits[pool] = group_splits[groups]
    names = " and ".join(fractions)
    if (group_splits == "train").all():
        raise DataError(
            f"no class has two distinct pictures; expected enough to hold some out for {names}; "
            "add pictures, or say yourself which are for what, in folders train/ and val/ or a "
            "column split: the same ones in both if there are no others"
        )
    warnings: list[str] = []
    if fewest < _FEWEST:
        warnings.append(
            f"no class has more than {fewest} distinct pictures, of which {names} takes one: "
            "neither it nor the training says much; add pictures"
        )
    if small:
        warnings.append(
            f"{', '.join(small)}: fewer than {fewest} distinct pictures, all kept for training; "
            f"{names} {'says' if len(fractions) == 1 else 'say'} nothing about "
            f"{'this class' if len(small) == 1 else 'these classes'}"
        )
    return tuple(warnings)


def _draw(
    members: NDArray[np.intp],
    fractions: dict[str, float],
    group_splits: NDArray[np.str_],
    class_name: str,
) -> None:
    """Write the splits of a class, whose groups are in the order of the draw."""
    start = 0
    for name, fraction in fractions.items():
        count = max(1, round(len(members) * fraction))
        group_splits[members[start : start + count]] = name
        start += count
    if start >= len(members):
        raise DataError(
            f"class {class_name!r} has {len(members)} distinct pictures, too few for "
            f"{' and '.join(fractions)}; expected some left to train on; use smaller fractions or "
            "add pictures"
        )

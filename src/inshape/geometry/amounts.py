"""Arithmetic on amounts of which some are unknown; what is unknown stays so."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod


def product(lengths: Iterable[int | None]) -> int | None:
    """A product that is unknown as soon as one of its parts is.

    Example:
        >>> product((7, 7, 576)), product((7, None, 576))
        (28224, None)
    """
    known = list(lengths)
    return None if None in known else prod(n for n in known if n is not None)


def times(length: int | None, factor: int | None) -> int | None:
    """The product of two amounts.

    Example:
        >>> times(7, 3), times(7, None)
        (21, None)
    """
    return product((length, factor))


def total_of(amounts: Iterable[int | None]) -> int | None:
    """A sum that is unknown as soon as one of its parts is.

    Example:
        >>> total_of([1, 2]), total_of([1, None])
        (3, None)
    """
    known = list(amounts)
    return None if None in known else sum(n for n in known if n is not None)

"""Which candidates are worth a thought, and which one to take."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..errors import RequestError
from .comparison import Candidate
from .limits import Limits, amount
from .probe import is_worse

COSTS = ("latency_ms", "macs", "size_bytes", "ram_bytes")
"""The fields of a candidate that cost something."""


def answers_of(candidate: Candidate) -> NDArray[np.bool_]:
    """Which pictures a candidate answered rightly."""
    return np.frombuffer(candidate.right.encode("ascii"), np.uint8) == ord("1")


def front_of(candidates: Sequence[Candidate], cost: str | None = None) -> tuple[Candidate, ...]:
    """The Pareto front: candidates than which none is at least as cheap and better.

    Args:
        candidates: any; only contenders count.
        cost: a field of `Candidate`, and only those of which it is known count; by default the
            latency, or the MACs where candidates were not timed.

    Returns:
        From the cheapest to the most accurate.
    """
    known = [c for c in candidates if c.is_contender and (not cost or getattr(c, cost) is not None)]
    best = -1.0
    front: list[Candidate] = []
    for c in sorted(known, key=lambda c: (_cost(c, cost)[0], -_accuracy(c))):
        if _accuracy(c) > best:
            front.append(c)
            best = _accuracy(c)
    return tuple(front)


def recommended(candidates: Sequence[Candidate], limits: Limits) -> tuple[Candidate, str]:
    """The candidate to take: the fastest that is not significantly worse than the best.

    Args:
        candidates: all of them, measured.
        limits: that they had to keep.

    Returns:
        The candidate and the reason, one sentence.

    Raises:
        RequestError: if there is none; it says what the nearest one needs.
    """
    front = front_of(candidates)
    if not front:
        raise RequestError(_nothing(candidates, limits))
    best = max(front, key=_accuracy)
    equal = [
        c
        for c in front
        if len(c.right) == len(best.right) and not is_worse(answers_of(c), answers_of(best))
    ]
    chosen = equal[0] if equal else best
    within = " within the limits" if limits.is_any else ""
    if chosen is best:
        return chosen, (
            f"{best.name}: the most accurate{within} ({best.accuracy}), and no cheaper one comes "
            f"within chance of it ({_cost(best)[1]})."
        )
    return chosen, (
        f"{chosen.name}: {_cost(chosen)[1]} instead of {_cost(best)[1]} for "
        f"{best.name}, the most accurate{within}, and no worse beyond chance ({chosen.accuracy} "
        f"and {best.accuracy})."
    )


def fronts_of(candidates: Sequence[Candidate]) -> dict[str, list[str]]:
    """The Pareto front of every kind of cost that is known.

    Args:
        candidates: any; only contenders count.

    Returns:
        Names from the cheapest to the most accurate, by field of `Candidate`.
    """
    return {
        cost: [c.name for c in front_of(candidates, cost)]
        for cost in COSTS
        if any(getattr(c, cost) is not None for c in candidates if c.is_contender)
    }


def _cost(candidate: Candidate, cost: str | None = None) -> tuple[float, str]:
    """What a candidate takes, and the same in words."""
    name = cost or ("macs" if candidate.latency_ms is None else "latency_ms")
    value = float(getattr(candidate, name) or 0)
    return value, amount(name, value)


def _accuracy(candidate: Candidate) -> float:
    return -1.0 if candidate.accuracy is None else candidate.accuracy.value


def _nothing(candidates: Sequence[Candidate], limits: Limits) -> str:
    """What the nearest candidate would need."""
    over = [c for c in candidates if c.error is None and limits.exceeded_by(c) is not None]
    if not over:
        reasons = [c.error for c in candidates if c.error is not None]
        first = reasons[0] if reasons else "none was asked for"
        return f"no candidate could be measured ({first}); expected at least one; change the shapes"

    def excess(c: Candidate) -> float:
        pairs = [(getattr(c, name), getattr(limits, name)) for name in COSTS]
        ratios = [value / limit for value, limit in pairs if value and limit]
        if limits.accuracy is not None and c.accuracy is not None:
            ratios.append(limits.accuracy / max(c.accuracy.value, 1e-9))
        return max(ratios, default=float("inf"))

    nearest = min(over, key=excess)
    needs = [
        amount(name, getattr(nearest, name))
        for name in COSTS
        if getattr(limits, name) is not None and getattr(nearest, name) is not None
    ]
    if limits.accuracy is not None and nearest.accuracy is not None:
        needs.append(f"accuracy {nearest.accuracy.value:.3f}")
    return (
        f"no candidate meets the limits; the nearest, {nearest.name}, has {', '.join(needs)} "
        f"({limits.exceeded_by(nearest)}); raise the limit or add smaller shapes"
    )

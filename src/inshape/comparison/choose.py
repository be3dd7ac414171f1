"""Which candidates are worth a thought, and which one to take."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..limits import COSTS, Limits, format_cost
from .probe import is_close
from .result import Candidate


def answers_of(right: str) -> NDArray[np.bool_]:
    """A candidate's ``right`` or ``first`` as truth values.

    Example:
        >>> answers_of("01").tolist()
        [False, True]
    """
    return np.frombuffer(right.encode("ascii"), np.uint8) == ord("1")


def shared_cost(candidates: Sequence[Candidate]) -> str:
    """The cost by which candidates can be compared with each other.

    Args:
        candidates: any; those that failed or were dropped do not count.

    Returns:
        A field of `Candidate`: the latency where all have one, otherwise the MACs.

    Example:
        >>> made = Candidate("a", "8x8x1", "rebuild", latency_ms=1.0)
        >>> shared_cost([made]), shared_cost([made, made.but(latency_ms=None)])
        ('latency_ms', 'macs')
    """
    running = [c for c in candidates if c.error is None and c.dropped is None]
    return "macs" if any(c.latency_ms is None for c in running) else "latency_ms"


def pareto_front(candidates: Sequence[Candidate], cost: str) -> tuple[Candidate, ...]:
    """The Pareto front: candidates than which none is at least as cheap and better.

    Args:
        candidates: any; only contenders count, and of these only those whose cost is known.
        cost: a field of `Candidate`.

    Returns:
        From the cheapest to the most accurate.
    """
    known = [c for c in candidates if c.is_contender and getattr(c, cost) is not None]
    best = -1.0
    front: list[Candidate] = []
    for c in sorted(known, key=lambda c: (cost_of(c, cost)[0], -_accuracy(c))):
        if _accuracy(c) > best:
            front.append(c)
            best = _accuracy(c)
    return tuple(front)


def finalists(candidates: Sequence[Candidate], count: int, cost: str) -> list[Candidate]:
    """The candidates that are worth a whole training.

    Args:
        candidates: measured.
        count: how many.
        cost: by which they are compared, a field of `Candidate`.

    Returns:
        The one that the probe would take, the most accurate ones of the front, and then of the
        other contenders.
    """
    front = pareto_front(candidates, cost)[::-1]
    if not front:
        return []
    others = [c for c in candidates if c.is_contender and c not in front]
    first, _ = _equals(front[::-1])
    rest = [c for c in (*front, *sorted(others, key=_accuracy, reverse=True)) if c is not first]
    return [first, *rest][:count]


def recommended(
    candidates: Sequence[Candidate], limits: Limits, cost: str
) -> tuple[Candidate | None, str]:
    """The candidate to take: the fastest within one standard error of the best.

    Where candidates were fine-tuned, that decides between them; otherwise the probe does.

    Args:
        candidates: all of them, measured.
        limits: that they had to keep.
        cost: by which they are compared, a field of `Candidate`.

    Returns:
        The candidate and the reason, one sentence; without a candidate what the nearest one needs.
    """
    front = pareto_front(candidates, cost)
    if not front:
        return None, _nothing(candidates, limits)
    tuned = [c for c in candidates if c.is_contender and c.finetuned is not None]
    if len(tuned) > 1:
        return _of_finetuned(tuned, cost)
    chosen, best = _equals(front)
    within = " within the limits" if limits.is_any else ""
    if chosen is best:
        return chosen, (
            f"{best.name}: the most accurate{within} ({best.accuracy}), and no cheaper one comes "
            f"within a standard error of it ({cost_of(best, cost)[1]})."
        )
    return chosen, (
        f"{chosen.name}: {cost_of(chosen, cost)[1]} instead of {cost_of(best, cost)[1]} for "
        f"{best.name}, the most accurate{within}, and within a standard error of it "
        f"({chosen.accuracy} and {best.accuracy})."
    )


def fronts_of(candidates: Sequence[Candidate]) -> dict[str, list[str]]:
    """The Pareto front of every kind of cost that is known.

    Args:
        candidates: any; only contenders count.

    Returns:
        Names from the cheapest to the most accurate, by field of `Candidate`.
    """
    return {
        cost: [c.name for c in pareto_front(candidates, cost)]
        for cost in COSTS
        if any(getattr(c, cost) is not None for c in candidates if c.is_contender)
    }


def _equals(front: Sequence[Candidate]) -> tuple[Candidate, Candidate]:
    """The cheapest of a front within a standard error of its most accurate, and that one."""
    best = max(front, key=_accuracy)
    for c in front:
        if len(c.right) == len(best.right) and is_close(
            answers_of(c.right), answers_of(best.right)
        ):
            return c, best
    return best, best


def _of_finetuned(tuned: Sequence[Candidate], cost: str) -> tuple[Candidate, str]:
    """The fastest of those that were trained to the end and came near the best of them."""

    def reached(c: Candidate) -> float:
        return c.finetuned or 0.0

    best = max(tuned, key=reached)
    error = (reached(best) * (1 - reached(best)) / max(1, best.finetuned_on)) ** 0.5
    chosen = min(
        (c for c in tuned if reached(c) >= reached(best) - error),
        key=lambda c: cost_of(c, cost)[0],
    )
    if chosen is best:
        return chosen, (
            f"{best.name}: the most accurate of {len(tuned)} once fine-tuned "
            f"({reached(best):.3f}), and no cheaper one comes within a standard error of it "
            f"({cost_of(best, cost)[1]})."
        )
    return chosen, (
        f"{chosen.name}: {cost_of(chosen, cost)[1]} instead of {cost_of(best, cost)[1]} for "
        f"{best.name}, the most accurate of {len(tuned)} once fine-tuned, and within a standard "
        f"error of it ({reached(chosen):.3f} and {reached(best):.3f})."
    )


def cost_of(candidate: Candidate, cost: str) -> tuple[float, str]:
    """What a candidate takes.

    Args:
        candidate: with its costs.
        cost: a field of `Candidate`.

    Returns:
        Milliseconds, operations or bytes, and the same in words.
    """
    value = float(getattr(candidate, cost) or 0)
    return value, format_cost(cost, value)


def _accuracy(candidate: Candidate) -> float:
    return -1.0 if candidate.accuracy is None else candidate.accuracy.value


def _nothing(candidates: Sequence[Candidate], limits: Limits) -> str:
    """What the nearest candidate would need."""
    over = [c for c in candidates if c.error is None and c.dropped is not None]
    if not over:
        reasons = [c.error for c in candidates if c.error is not None]
        first = reasons[0] if reasons else "none was asked for"
        return f"no candidate could be measured ({first}); expected at least one; change the shapes"

    def excess(c: Candidate) -> float:
        pairs = [(getattr(c, name), limits.of(name)) for name in COSTS]
        ratios = [value / limit for value, limit in pairs if value and limit]
        if limits.min_accuracy is not None and c.accuracy is not None:
            ratios.append(limits.min_accuracy / max(c.accuracy.value, 1e-9))
        return max(ratios, default=float("inf"))

    nearest = min(over, key=excess)
    needs = [
        format_cost(name, getattr(nearest, name))
        for name in COSTS
        if limits.of(name) is not None and getattr(nearest, name) is not None
    ]
    if limits.min_accuracy is not None and nearest.accuracy is not None:
        needs.append(f"accuracy {nearest.accuracy.value:.3f}")
    return (
        f"no candidate meets the limits; the nearest, {nearest.name}, has {', '.join(needs)} "
        f"({nearest.dropped}); raise the limit or add smaller shapes"
    )

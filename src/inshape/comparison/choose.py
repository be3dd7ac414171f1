"""Which candidates are worth a thought, and which one to take."""

from __future__ import annotations

from collections.abc import Sequence

from ..limits import COSTS, Limits, format_cost, name_cost
from .probe import is_close
from .result import Candidate


def shared_cost(candidates: Sequence[Candidate]) -> str:
    """The cost by which candidates can be compared with each other, a field of `Candidate`.

    Example:
        >>> timed = Candidate("a", "8x8x1", "rebuild", latency_ms=1.0)
        >>> shared_cost([timed]), shared_cost([timed, timed.but(latency_ms=None)])
        ('latency_ms', 'macs')
    """
    # Milliseconds are never compared with operations.
    running = [c for c in candidates if c.error is None and c.dropped is None]
    return "macs" if any(c.latency_ms is None for c in running) else "latency_ms"


def pareto_front(candidates: Sequence[Candidate], cost: str) -> tuple[Candidate, ...]:
    """The contenders than which none is at least as cheap and better, the cheapest first."""
    known = [c for c in candidates if c.is_contender and getattr(c, cost) is not None]
    best = -1.0
    front: list[Candidate] = []
    for c in sorted(known, key=lambda c: (_cost(c, cost), -_accuracy(c))):
        if _accuracy(c) > best:
            front.append(c)
            best = _accuracy(c)
    return tuple(front)


def fronts_of(candidates: Sequence[Candidate]) -> dict[str, list[str]]:
    """The names on the Pareto front of every cost that is known, by field of `Candidate`."""
    return {
        cost: [c.name for c in pareto_front(candidates, cost)]
        for cost in COSTS
        if any(getattr(c, cost) is not None for c in candidates if c.is_contender)
    }


def finalists(candidates: Sequence[Candidate], count: int, cost: str) -> list[Candidate]:
    """The candidates that are worth a whole training.

    The one that the probe would take, the most accurate ones of the front, and then of the other
    contenders.
    """
    front = pareto_front(candidates, cost)[::-1]
    if not front:
        return []
    others = [c for c in candidates if c.is_contender and c not in front]
    first, _ = _cheapest_of_equals(front[::-1])
    rest = [c for c in (*front, *sorted(others, key=_accuracy, reverse=True)) if c is not first]
    return [first, *rest][:count]


def recommend(
    candidates: Sequence[Candidate], limits: Limits, cost: str
) -> tuple[Candidate | None, str]:
    """The candidate to take, the cheapest within one standard error of the best, and why.

    Where candidates were fine-tuned, that decides between them; otherwise the probe does. Without a
    candidate the sentence says what the nearest one needs.
    """
    front = pareto_front(candidates, cost)
    if not front:
        return None, _explain_nothing(candidates, limits)
    tuned = [c for c in candidates if c.is_contender and c.finetuned is not None]
    if len(tuned) > 1:
        chosen, best = _cheapest_of_finetuned(tuned, cost)
        what = f"the most accurate of {len(tuned)} once fine-tuned"
        accuracy = "{0.finetuned:.3f}"
    else:
        chosen, best = _cheapest_of_equals(front)
        what = "the most accurate" + (" within the limits" if limits.is_any else "")
        accuracy = "{0.accuracy}"
    reached, reached_by_best = map(accuracy.format, (chosen, best))
    cheap, dear = (format_cost(cost, _cost(c, cost)) for c in (chosen, best))
    if chosen is best:
        nearest = "no cheaper one comes within a standard error of it"
        others = "the cheapest as well" if best is front[0] else nearest
        return chosen, f"{best.name}: {what} ({reached}), and {others} ({cheap})."
    return chosen, (
        f"{chosen.name}: {cheap} instead of {dear} for {best.name}, {what}, and within a standard "
        f"error of it ({reached} and {reached_by_best})."
    )


def _cheapest_of_equals(front: Sequence[Candidate]) -> tuple[Candidate, Candidate]:
    """The cheapest of a front within a standard error of its most accurate, and that one."""
    best = max(front, key=_accuracy)
    for c in front:
        is_comparable = len(c.right) == len(best.right)
        if is_comparable and is_close(c.right, best.right):
            return c, best
    return best, best


def _cheapest_of_finetuned(tuned: Sequence[Candidate], cost: str) -> tuple[Candidate, Candidate]:
    """The cheapest of those that were trained and came near the best of them, and that one."""

    def reached(c: Candidate) -> float:
        return c.finetuned or 0.0

    best = max(tuned, key=reached)
    # Each was validated on pictures of its own training, so the answers cannot be paired.
    error = (reached(best) * (1 - reached(best)) / max(1, best.finetuned_on)) ** 0.5
    near = [c for c in tuned if reached(c) >= reached(best) - error]
    return min(near, key=lambda c: _cost(c, cost)), best


def _cost(candidate: Candidate, cost: str) -> float:
    return float(getattr(candidate, cost) or 0)


def _accuracy(candidate: Candidate) -> float:
    return -1.0 if candidate.accuracy is None else candidate.accuracy.value


def _explain_nothing(candidates: Sequence[Candidate], limits: Limits) -> str:
    """What the nearest candidate would need."""
    over = [c for c in candidates if c.error is None and c.dropped is not None]
    if not over:
        reasons = [c.error for c in candidates if c.error is not None]
        first = reasons[0] if reasons else "there was none"
        return f"no candidate could be measured ({first}); expected at least one; change the shapes"
    nearest = min(over, key=lambda c: _excess(c, limits))
    return (
        f"no candidate meets the limits; the nearest, {nearest.name}, has "
        f"{', '.join(_needs(nearest, limits))} ({nearest.dropped}); raise the limit or add "
        "smaller shapes"
    )


def _needs(candidate: Candidate, limits: Limits) -> list[str]:
    """What a candidate takes of everything that there is a limit on."""
    needs = [
        name_cost(name, getattr(candidate, name))
        for name in COSTS
        if limits.of(name) is not None and getattr(candidate, name) is not None
    ]
    if limits.min_accuracy is not None and candidate.accuracy is not None:
        needs.append(f"accuracy {candidate.accuracy.value:.3f}")
    return needs


def _excess(candidate: Candidate, limits: Limits) -> float:
    """How many times a candidate is over the limit that it is furthest over."""
    pairs = [(getattr(candidate, name), limits.of(name)) for name in COSTS]
    ratios = [value / limit for value, limit in pairs if value and limit]
    if limits.min_accuracy is not None and candidate.accuracy is not None:
        ratios.append(limits.min_accuracy / max(candidate.accuracy.value, 1e-9))
    return max(ratios, default=float("inf"))

"""From a strategy's name to its plan."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

from ..errors import RequestError, UnknownName
from ..geometry.sizes import map_shapes
from ..geometry.spec import GraphSpec
from ..graph.edits import applied
from ..shapes import InputShape
from .auto import choose
from .channels import ChannelRule
from .flexible import flexible
from .layers import fitted
from .plan import Plan, StrategyName
from .rebuild import rebuild
from .resize import resize
from .restride import restride

AnyStrategy: TypeAlias = StrategyName | Literal["auto"]

STRATEGIES: dict[str, Callable[..., Plan]] = {
    "resize": resize,
    "rebuild": rebuild,
    "restride": restride,
    "flexible": flexible,
}


def decide(
    spec: GraphSpec,
    target: InputShape,
    *,
    strategy: AnyStrategy = "auto",
    channels: ChannelRule = "auto",
    **options: Any,
) -> Plan:
    """Make a plan by a strategy's name.

    Args:
        spec: a graph as read.
        target: the new input shape.
        strategy: a name, or ``"auto"`` for the rules of `auto.choose`.
        channels: how pretrained channels become the new ones.
        options: the strategy's own, such as ``stem=`` or ``working_hw=``; ``None`` stands for the
            default.

    Returns:
        The plan; where the strategy was chosen, it says why.

    Raises:
        UnknownName: if there is no such strategy.
        RequestError: if an option is not the strategy's.

    Example:
        >>> from inshape.geometry.spec import LayerSpec
        >>> picture = LayerSpec(0, "image", "input", (), 0, native_shape=(224, 224, 3))
        >>> conv = LayerSpec(1, "conv", "conv", (0,), 1, kernel_hw=(3, 3), stride_hw=(2, 2),
        ...                  padding="same", out_channels=8)
        >>> spec = GraphSpec("tiny", (picture, conv), (1,), InputShape(224, 224, 3))
        >>> decide(spec, InputShape(96, 96, 3)).strategy
        'restride'
    """
    given = {name: value for name, value in options.items() if value is not None}
    name: str = strategy
    reasons: tuple[str, ...] = ()
    if strategy == "auto":
        name, reason = _chosen(spec, target, given)
        reasons = (reason,)
    if name not in STRATEGIES:
        raise UnknownName("strategy", name, (*STRATEGIES, "auto"))
    make = STRATEGIES[name]
    known = options_of(name)
    for option in given:
        if option not in known:
            have = ", ".join(known) or "none"
            raise RequestError(f"strategy {name!r} has no option {option!r}; its options: {have}")
    return make(spec, target, channels=channels, **given).but(reasons=reasons)


def options_of(strategy: str) -> tuple[str, ...]:
    """The names of a strategy's own options."""
    parameters = inspect.signature(STRATEGIES[strategy]).parameters.values()
    return tuple(p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.name != "channels")


def _chosen(spec: GraphSpec, target: InputShape, given: dict[str, Any]) -> tuple[str, str]:
    """The strategy that the given options belong to, or else the rules' choice."""
    if given:
        fitting = [name for name in STRATEGIES if set(given) <= set(options_of(name))]
        if len(fitting) == 1:
            return fitting[0], f"{', '.join(given)} belongs to this strategy"
    name, reason = choose(spec, target)
    if name == "resize":
        # An enlargement that stands in for a network which cannot read the size at all is for the
        # user to ask for.
        map_shapes(applied(spec, fitted(spec, target)), target)
    return name, reason

"""From a strategy's name to its decision; a new strategy is registered here."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias, get_args

from ..errors import RequestError, StrategyError, UnknownName
from ..geometry.spec import GraphSpec
from ..requests import Flag, Range, Request, SizeHW, Written
from ..shapes import InputShape
from ..weights.channels import ChannelRule, read_rule, write_rule
from .again import adapted_again
from .auto import choose
from .decision import Decision
from .flexible import flexible
from .rebuild import rebuild
from .resize import Fit, Interpolation, resize
from .restride import StemKernel, restride

AnyStrategy: TypeAlias = Literal["auto", "resize", "rebuild", "restride", "flexible"]
STRATEGIES: dict[str, Callable[..., Decision]] = {
    "resize": resize,
    "rebuild": rebuild,
    "restride": restride,
    "flexible": flexible,
}
_ROUNDED = (
    "the network computes with the whole numbers of its picture, so what the projection puts out "
    "is rounded, and no training reaches its weights"
)
Channels = Annotated[ChannelRule, Written(read_rule, write_rule, "RULE")]


@dataclass(frozen=True, slots=True)
class StrategyOptions(Request):
    """How the input shape is changed."""

    strategy: AnyStrategy = "auto"
    """auto chooses by the size; resize puts a resizing layer in front; rebuild keeps the layers;
    restride changes strides, so that maps keep their size; flexible takes any size."""
    channels: Channels = "auto"
    """auto, sum, mean, luma, tile, zero, first, project, or a pretrained channel per band such as
    0,1,2,- (-: start at zero)."""
    working_hw: Annotated[SizeHW | None, Flag("working")] = None
    """resize: the backbone's own height and width; by default its native ones."""
    fit: Fit | None = None
    """resize: how a picture of other proportions is brought to the working size."""
    interpolation: Interpolation | None = None
    """resize: how pixels are interpolated."""
    stem: StemKernel | None = None
    """restride: how the kernel of the stem (the first convolution) is resampled; plain keeps it."""
    factor: Annotated[int, Range(1)] | None = None
    """restride: divides the stem's stride for small inputs, multiplies it for large ones."""
    output_stride: Annotated[int, Range(1)] | None = None
    """restride: input pixels per pixel of the last map, such as 16, by dilation."""

    def given(self) -> dict[str, Any]:
        """The strategies' own options that were given."""
        names = dict.fromkeys(name for kind in STRATEGIES for name in option_names(kind))
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}


def decide(spec: GraphSpec, target: InputShape, options: StrategyOptions) -> Decision:
    """Decide by a strategy's name how a graph is brought to another input shape.

    Example:
        >>> from inshape.geometry.spec import LayerSpec
        >>> picture = LayerSpec(0, "image", "input", (), 0, native_shape=(224, 224, 3))
        >>> conv = LayerSpec(1, "conv", "conv", (0,), 1, kernel_hw=(3, 3), stride_hw=(2, 2),
        ...                  padding="same", out_channels=8)
        >>> spec = GraphSpec("tiny", (picture, conv), (1,), InputShape(224, 224, 3))
        >>> decide(spec, InputShape(112, 112, 3), StrategyOptions()).strategy
        'restride'
    """
    given = options.given()
    name: str = options.strategy
    reasons: tuple[str, ...] = ()
    if name == "auto":
        name, reason = _chosen(spec, target, given, options.channels)
        reasons = (reason,)
    known = option_names(name)
    for option in given:
        if option not in known:
            have = ", ".join(known) or "none"
            owner = next(kind for kind in STRATEGIES if option in option_names(kind))
            raise RequestError(
                f"strategy {name!r} has no option {option!r}; its options: {have}; leave {option} "
                f"out, which is an option of {owner!r}"
            )
    _check_patches(spec, options.working_hw if name == "resize" else target.hw)
    again = adapted_again(spec, target, name, options.channels)
    decision = STRATEGIES[name](again.spec, target, channels=again.channels, **given)
    if decision.spec.whole_numbers and decision.spec.input_layers.channels == "project":
        decision = decision.but(notes=(*decision.notes, _ROUNDED))
    return again.completed(decision.but(reasons=reasons))


def _check_patches(spec: GraphSpec, size_hw: tuple[int | None, int | None] | None) -> None:
    """Refuse another size for a network in patches, whose slices are those of one."""
    if size_hw in (None, spec.input_shape.hw):
        return
    for layer in spec:
        pieces_of = {spec[i].layer for i in layer.inputs}
        if layer.op == "concat" and layer.axis != -1 and len(pieces_of) == 1:
            raise StrategyError(
                f'the network is computed in patches, which "{layer.name}" puts together, for '
                f"{spec.input_shape.size}; expected this height and width; adapt the network that "
                "it was made of, with max_ram"
            )


def option_names(strategy: str) -> tuple[str, ...]:
    """The names of a strategy's own options."""
    if strategy not in STRATEGIES:
        raise UnknownName("strategy", strategy, get_args(AnyStrategy))
    parameters = inspect.signature(STRATEGIES[strategy]).parameters.values()
    return tuple(p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.name != "channels")


def _chosen(
    spec: GraphSpec, target: InputShape, given: dict[str, Any], channels: ChannelRule
) -> tuple[str, str]:
    """The strategy that the given options belong to, or else the rules' choice."""
    if given:
        fitting = [name for name in STRATEGIES if set(given) <= set(option_names(name))]
        if len(fitting) == 1:
            return fitting[0], f"{', '.join(given)} belongs to this strategy"
    name, reason = choose(spec, target)
    if name == "resize":
        # An enlargement that stands in for a network which cannot read the size at all is for the
        # user to ask for.
        rebuild(spec, target, channels=channels)
    return name, reason

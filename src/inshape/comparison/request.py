"""A comparison as it was asked for."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from ..data.sources import SourceField
from ..errors import RequestError, UnknownName
from ..limits import Limits
from ..planning import read_backbone
from ..requests import (
    Flag,
    Folder,
    Positional,
    Range,
    Request,
    Weights,
    Written,
    joined,
    many,
)
from ..shapes import InputShape
from ..strategies.decide import STRATEGIES
from ..text import Unread
from ..weights.channels import read_rule, write_rule
from .result import Candidate


def read_rules(value: Any) -> tuple[str, ...]:
    """Read channel rules; a list of bands, which has commas itself, is one rule.

    Example:
        >>> read_rules("sum,mean"), read_rules("0,1,2,-"), read_rules("sum;0,1,2,-")
        (('sum', 'mean'), ('0,1,2,-',), ('sum', '0,1,2,-'))
        >>> read_rules(["sum", [0, 1, None]])
        ('sum', '0,1,-')
    """
    rules: list[Any] = [value]
    if isinstance(value, str):
        rules = [rule for part in value.split(";") for rule in _split_rules(part)]
    elif isinstance(value, list | tuple) and not all(
        band is None or isinstance(band, int) for band in value
    ):
        rules = list(value)
    return tuple(write_rule(read_rule(rule)) for rule in rules)


def _split_rules(text: str) -> list[str]:
    words = [word for word in text.split(",") if word.strip()]
    return [text] if all(re.fullmatch(r"\s*(\d+|-)\s*", word) for word in words) else words


def _read_backbone(value: Any) -> str:
    if not isinstance(value, str | Path):
        raise Unread(value, "names or files; save a model with model.save('name.keras')")
    return read_backbone(value)


def _read_strategy(value: Any) -> str:
    if value not in STRATEGIES:
        raise UnknownName("strategy", value, STRATEGIES)
    return value


def read_candidate(value: Any) -> Candidate:
    """Read a candidate, or its name.

    Example:
        >>> read_candidate("my net.keras 8x8x4 rebuild 0,1,2,-").channels
        '0,1,2,-'
    """
    if isinstance(value, Candidate):
        return value
    words = value.split(" ") if isinstance(value, str) else []
    channels = words.pop() if words and words[-1] not in STRATEGIES else "auto"
    if len(words) < 3:
        raise Unread(value, "a candidate, or BACKBONE HxWxC STRATEGY [CHANNELS]")
    *backbone, shape, strategy = words
    return Candidate(" ".join(backbone), shape, _read_strategy(strategy), channels)


def _read_candidates(value: Any) -> tuple[Candidate, ...]:
    # A name may hold commas, so it is never taken for several.
    values = value if isinstance(value, list | tuple) else [value]
    return tuple(map(read_candidate, values))


def _name_of(candidate: Candidate) -> str:
    return candidate.name


@dataclass(frozen=True, slots=True)
class CompareRequest(Request):
    """Measure shapes and strategies on your pictures and recommend one."""

    source: Annotated[SourceField, Positional()]
    """The pictures: a folder per class, a table or arrays."""
    shapes: Annotated[
        tuple[InputShape, ...] | None, Written(many(InputShape.of), joined(str), "SHAPES")
    ] = None
    """Input shapes with commas between, such as 96x96x1,128x128x1; by default what suits the
    pictures."""
    strategies: Annotated[
        tuple[str, ...] | None, Written(many(_read_strategy), joined(str), "NAMES")
    ] = None
    """Strategies with commas between; by default what suits each shape."""
    backbones: Annotated[
        tuple[str, ...], Written(many(_read_backbone), joined(str), "NAMES"), Flag("backbone")
    ] = ("MobileNetV3Small",)
    """Backbones with commas between."""
    channels: Annotated[
        tuple[str, ...], Written(read_rules, lambda rules: ";".join(rules), "RULES")
    ] = ("auto",)
    """Channel rules with commas between, or with semicolons where one is a list of bands:
    sum;0,1,2,-."""
    candidates: Annotated[
        tuple[Candidate, ...] | None, Written(_read_candidates, joined(_name_of)), Flag("")
    ] = None
    """In Python, the candidates themselves instead of every combination."""
    weights: Weights = "imagenet"
    """imagenet, a file, hf://OWNER/NAME, kaggle://PRESET, none or demo."""
    out: Folder | None = None
    """A folder that keeps what is finished; a second call measures only what is new."""
    finetune: Annotated[int, Range(0)] = 0
    """Train so many of the best to the end, 2 or more, and decide by that; needs a folder."""
    pictures: Annotated[int, Range(1)] = 4000
    """The most pictures to use."""
    latency: bool = True
    """Time every candidate."""
    seed: Annotated[int, Range(0, 2**31 - 1)] = 0
    """Of pictures and folds."""
    ray: Annotated[str, Written(str, str, "ADDRESS")] | None = None
    """Measure on the workers of a Ray cluster: local for this machine's cores, auto for the cluster
    that runs here, or host:port."""
    limits: Limits = field(default_factory=Limits)
    """What the device allows."""

    def __post_init__(self) -> None:
        """Refuse what contradicts itself."""
        Request.__post_init__(self)
        if self.limits.max_latency is not None and not self.latency:
            raise RequestError(
                "max_latency without latency; expected candidates to be timed where there is a "
                "limit on it; leave one of the two out"
            )
        if self.finetune == 1:
            raise RequestError(
                "finetune=1; expected two finalists or more, between which it decides, or 0"
            )
        if self.finetune and self.out is None:
            raise RequestError("finetune without out; expected a folder for the runs; give out")

    @property
    def folder(self) -> Path:
        """Where runs of finalists go."""
        return self.out or Path()

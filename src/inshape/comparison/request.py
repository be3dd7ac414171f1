"""A comparison as it was asked for."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from numbers import Integral
from pathlib import Path
from typing import Annotated, Any

from ..backbones import DEFAULT, fitting
from ..data.masks import MaskOptions
from ..data.prepare import PictureOptions
from ..data.sources import SourceField
from ..errors import RequestError, UnknownName
from ..heads import FROM_LABELS, Head
from ..importing.api import is_model_file
from ..importing.options import FileOptions
from ..keras_words import KerasWords
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
    own_options,
    write_file,
)
from ..runtime.cluster import RayField
from ..shapes import InputShape
from ..strategies.decide import STRATEGIES
from ..tasks.find import TaskName
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
    elif isinstance(value, list | tuple):
        if not value:
            raise Unread(value, "channel rules, such as sum, or a list of bands")
        if not all(band is None or isinstance(band, Integral) for band in value):
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
    """Read a strategy's name, with the output stride of a restride behind it if there is one.

    Example:
        >>> _read_strategy("rebuild"), _read_strategy("restride:016")
        ('rebuild', 'restride:16')
    """
    name, colon, stride = str(value).partition(":")
    if name not in STRATEGIES:
        raise UnknownName("strategy", value, STRATEGIES)
    if not colon:
        return name
    if name != "restride" or not re.fullmatch("0*[1-9][0-9]{0,3}", stride):
        raise Unread(value, "strategies, or restride:16 for one at output stride 16")
    return f"{name}:{int(stride)}"


def _is_strategy(word: str) -> bool:
    return word.partition(":")[0] in STRATEGIES


def read_candidate(value: Any) -> Candidate:
    """Read a candidate, or its name; what was measured of it on other pictures is left out.

    Example:
        >>> read_candidate("my net.keras 8X8x4 rebuild 0,1,2,-").name
        'my net.keras 8x8x4 rebuild 0,1,2,-'
    """
    if isinstance(value, Candidate):
        parts: list[Any] = [value.backbone, value.input_shape, value.strategy, value.channels]
    else:
        words = value.split(" ") if isinstance(value, str) else []
        channels = words.pop() if words and not _is_strategy(words[-1]) else "auto"
        if len(words) < 3:
            raise Unread(value, "a candidate, or BACKBONE HxWxC STRATEGY [CHANNELS]")
        parts = [" ".join(words[:-2]), *words[-2:], channels]
    backbone, shape, strategy, channels = parts
    return Candidate(
        _read_backbone(backbone),
        str(InputShape.of(shape)),
        _read_strategy(strategy),
        write_rule(read_rule(channels)),
    )


def _read_candidates(value: Any) -> tuple[Candidate, ...]:
    # A name may hold commas, so it is never taken for several.
    values = value if isinstance(value, list | tuple) else [value]
    return tuple(map(read_candidate, values))


def _write_candidate(candidate: Candidate) -> str:
    return candidate.but(backbone=write_file(candidate.backbone)).name


@dataclass(frozen=True, slots=True)
class CompareRequest(KerasWords):
    """Measure shapes and strategies on your pictures and recommend one."""

    source: Annotated[SourceField, Positional()]
    """The pictures: a folder per class, a table or arrays."""
    shapes: Annotated[
        tuple[InputShape, ...] | None,
        Written(many(InputShape.of, single=(list, tuple)), joined(str), "SHAPES"),
    ] = None
    """Input shapes with commas between, such as 96x96x1,128x128x1; by default what suits the
    pictures."""
    strategies: Annotated[
        tuple[str, ...] | None, Written(many(_read_strategy), joined(str), "NAMES")
    ] = None
    """Strategies with commas between, restride:16 among them for one at output stride 16; by
    default what suits each shape and task."""
    backbones: Annotated[
        tuple[str, ...],
        Written(many(_read_backbone), joined(write_file), "NAMES"),
        Flag("backbone"),
    ] = (DEFAULT,)
    """Backbones with commas between."""
    channels: Annotated[
        tuple[str, ...], Written(read_rules, lambda rules: ";".join(rules), "RULES")
    ] = ("auto",)
    """Channel rules with commas between, or with semicolons where one is a list of bands:
    sum;0,1,2,-."""
    candidates: Annotated[
        tuple[Candidate, ...] | None, Written(_read_candidates, joined(_write_candidate)), Flag("")
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
    task: TaskName = "auto"
    """classification, multi-label, regression, segmentation or detection; auto goes by the labels:
    tags have | between them in a table, numbers with a fraction are no classes, images/ beside
    masks/ is a class for each pixel, and files of boxes (VOC, COCO, YOLO) are boxes."""
    latency: bool = True
    """Time every candidate."""
    seed: Annotated[int, Range(0, 2**31 - 1)] = 0
    """Of pictures and folds."""
    ray: RayField = None
    """Measure on the workers of a Ray cluster: local for this machine's cores, auto for the cluster
    that runs here, or host:port."""
    head: Annotated[Head, FROM_LABELS] = field(default_factory=Head)
    """What stands behind the last map."""
    file: FileOptions = field(default_factory=FileOptions)
    """How model files are read."""
    picture_options: PictureOptions = field(default_factory=PictureOptions)
    """How pictures are brought to the input."""
    masks: MaskOptions = field(default_factory=MaskOptions)
    """How masks are read, where there are some."""
    limits: Limits = field(default_factory=Limits)
    """What the device allows."""

    def __post_init__(self) -> None:
        Request.__post_init__(self)
        named = tuple(fitting(backbone, self.weights) for backbone in self.backbones)
        object.__setattr__(self, "backbones", named)
        self._refuse_half_asked()
        self._refuse_combinations()
        candidates = self.candidates or ()
        for backbone in [c.backbone for c in candidates] or self.backbones:
            if not is_model_file(Path(backbone)):
                self.file.check_without_file(backbone, is_named=True)
        for shape in (*(c.input_shape for c in candidates), *(self.shapes or ())):
            self.picture_options.at(shape)  # refuses colours that the shape cannot have

    def _refuse_half_asked(self) -> None:
        """An option that does nothing without another."""
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

    def _refuse_combinations(self) -> None:
        """Refuse what candidates are combined of, beside the candidates themselves."""
        if self.candidates is None:
            return
        for option in own_options(type(self)):
            is_part = option.name in ("shapes", "strategies", "backbones", "channels")
            default = option.default
            if option.name == "backbones":
                default = tuple(fitting(name, self.weights) for name in option.default)
            if is_part and getattr(self, option.name) != default:
                raise RequestError(
                    f"{option.name} beside candidates, each of which names its own; expected one "
                    f"of the two; leave {option.name} out"
                )

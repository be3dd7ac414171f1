"""Which library and which network a PyTorch state dict comes from, told by its names and shapes.

Three things differ between the libraries beside the names, and none of them is in the file:

                   padding of strided layers   epsilon of batch norm   normalisation
    torchvision    k // 2 on both sides        1e-3                    ImageNet's mean, deviation
    timm           k // 2 on both sides        1e-5                    ImageNet's mean, deviation
    timm, tf_*     TensorFlow's "same"         1e-3                    to [-1, 1]

timm's ``tf_`` networks have the names and shapes of its others. Which one a file holds is said by
its ``config.json`` (which lies beside it as the hub has it), else by its own metadata, its name or
that of its repository; a file that says nothing is taken for one of the others, with a warning.
``config.json`` also gives the mean and the deviation that the weights were trained with.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

from ..errors import WeightsError, shown
from ..text import to_float
from ..writing import parse_json
from .tensors import Shape, Tensors

Three: TypeAlias = tuple[float, float, float]

IMAGENET_STATISTICS: tuple[Three, Three] = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and deviation of pixels from 0 to 1, as torchvision publishes them."""
_INCEPTION: tuple[Three, Three] = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a state dict comes from, and what its weights were trained in.

    Attributes:
        library: ``"torchvision"`` or ``"timm"``.
        architecture: the library's own name for it.
        backbone: the name of the same network here.
        symmetric: whether strided layers pad both sides alike.
        epsilon: of every batch norm.
        mean: of the pictures, as shares of 255, per channel.
        deviation: likewise.
        classes: outputs of the classifier as the configuration beside the file has it.
    """

    library: Literal["torchvision", "timm"]
    architecture: str
    backbone: str
    symmetric: bool = True
    epsilon: float = 1e-3
    mean: Three = IMAGENET_STATISTICS[0]
    deviation: Three = IMAGENET_STATISTICS[1]
    classes: int | None = None

    @property
    def blocks(self) -> int:
        """How many inverted residual blocks it has."""
        return _BLOCKS[self.backbone]


def _timm(width: str, backbone: str) -> Origin:
    minimal = width.endswith("minimal_100")
    if minimal:
        mean, deviation = _INCEPTION
        return Origin("timm", f"tf_mobilenetv3_{width}", backbone, False, 1e-3, mean, deviation)
    return Origin("timm", f"mobilenetv3_{width}", backbone, epsilon=1e-5)


# By blocks, channels of the last convolution, and whether there are squeeze-and-excite gates.
_TORCHVISION = {
    (11, 576, True): Origin("torchvision", "mobilenet_v3_small", "MobileNetV3Small"),
    (15, 960, True): Origin("torchvision", "mobilenet_v3_large", "MobileNetV3Large"),
}
_TIMM = {
    (11, 288, True): _timm("small_050", "MobileNetV3Small-0.5"),
    (11, 432, True): _timm("small_075", "MobileNetV3Small-0.75"),
    (11, 576, True): _timm("small_100", "MobileNetV3Small"),
    (11, 576, False): _timm("small_minimal_100", "MobileNetV3Small-minimalistic"),
    (15, 720, True): _timm("large_075", "MobileNetV3Large-0.75"),
    (15, 960, True): _timm("large_100", "MobileNetV3Large"),
    (15, 960, False): _timm("large_minimal_100", "MobileNetV3Large-minimalistic"),
}
_BLOCKS = {o.backbone: key[0] for table in (_TORCHVISION, _TIMM) for key, o in table.items()}
"""timm counts the blocks of a stage; the last stage is a convolution."""
STAGES = {11: (1, 2, 3, 2, 3), 15: (1, 2, 3, 4, 2, 3)}


def origin_of(path: Path | str, tensors: Tensors, repository: str = "") -> Origin:
    """Find out where a state dict comes from."""
    shapes = tensors.shapes
    for known, key in ((_TORCHVISION, _as_torchvision(shapes)), (_TIMM, _as_timm(shapes))):
        if key in known:
            origin = known[key]
            if origin.library == "torchvision":
                return origin
            return _configured(origin, path, tensors, repository)
    names = list(shapes)
    raise WeightsError(
        f"{path} holds the state dict of an unknown network ({len(names)} arrays, the first of "
        f"them {', '.join(names[:2]) or 'none'}); expected one of {', '.join(known_names())}; use "
        "one of these, or bring the network as a Keras model"
    )


def known_names() -> tuple[str, ...]:
    """Every network whose state dict can be read, with its library.

    Example:
        >>> known_names()[0], len(known_names())
        ('torchvision mobilenet_v3_small', 13)
    """
    names = [f"{o.library} {o.architecture}" for o in (*_TORCHVISION.values(), *_TIMM.values())]
    return (*names, *(f"timm tf_{o.architecture}" for o in _TIMM.values() if _has_twin(o)))


def _has_twin(origin: Origin) -> bool:
    """Whether there is a ``tf_`` network with the same names and shapes."""
    return origin.symmetric and not origin.backbone.endswith("-0.5")


def _as_torchvision(shapes: Mapping[str, Shape]) -> tuple[int, int, bool] | None:
    """The key of ``_TORCHVISION`` under which a state dict would stand."""
    if "features.1.block.0.0.weight" not in shapes:
        return None
    (last,) = max(_numbers(r"features\.(\d{1,4})\.block\.", shapes))
    return (
        last,
        shapes.get(f"features.{last + 1}.0.weight", (0,))[0],
        any(".fc1." in name for name in shapes),
    )


def _as_timm(shapes: Mapping[str, Shape]) -> tuple[int, int, bool] | None:
    if "conv_stem.weight" not in shapes:
        return None
    pairs = _numbers(r"blocks\.(\d{1,4})\.(\d{1,4})\.", shapes)
    last_stage = max((stage for stage, _ in pairs), default=0)
    stages = tuple(sum(s == stage for s, _ in pairs) for stage in range(last_stage + 1))
    count = next((n for n, known in STAGES.items() if (*known, 1) == stages), 0)
    last = shapes.get(f"blocks.{last_stage}.0.conv.weight", (0,))[0]
    return count, last, any(".se." in name for name in shapes)


def _numbers(pattern: str, names: Iterable[str]) -> set[tuple[int, ...]]:
    """The numbers in names that begin as the pattern has it."""
    matches = (re.match(pattern, name) for name in names)
    return {tuple(map(int, match.groups())) for match in matches if match}


def _configured(origin: Origin, path: Path | str, tensors: Tensors, repository: str) -> Origin:
    """What timm's configuration and the file's own words add to its shapes."""
    if isinstance(path, str):
        return origin
    config = _config_beside(path)
    said = config.get("architecture")
    if said is None:
        words = (*map(str, tensors.facts.values()), repository, path.name)
        said = max(re.findall(r"(?:tf_)?mobilenetv3", " ".join(words)), key=len, default=None)
    elif said.removeprefix("tf_") != origin.architecture.removeprefix("tf_"):
        raise WeightsError(
            f"{path} holds timm's {origin.architecture} by its shapes, the config.json beside it "
            f"says {said}; expected one network; put the weights and their own config.json into a "
            "folder of their own"
        )
    if said is None and _has_twin(origin):
        warnings.warn(
            f"{path} does not say which of timm's networks it holds, {origin.architecture} or "
            f"tf_{origin.architecture}; taken for the first; if that is wrong, put timm's "
            "config.json beside it or give the file the network's name",
            stacklevel=2,
        )
    if said is not None and said.startswith("tf_") and _has_twin(origin):
        mean, deviation = _INCEPTION
        origin = replace(
            origin,
            architecture=f"tf_{origin.architecture}",
            symmetric=False,
            epsilon=1e-3,
            mean=mean,
            deviation=deviation,
        )
    trained = config.get("pretrained_cfg", {})
    return replace(
        origin,
        mean=_three(path, trained, "mean", origin.mean),
        deviation=_three(path, trained, "std", origin.deviation),
        classes=config.get("num_classes", trained.get("num_classes")),
    )


def _config_beside(path: Path) -> dict[str, Any]:
    """The ``config.json`` of timm as it lies beside a file from the hub."""
    file = path.with_name("config.json")
    if not file.is_file():
        return {}
    try:
        config = parse_json(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _no_config(file, path, str(error)) from error
    if not isinstance(config, dict) or not isinstance(config.get("architecture"), str):
        return {}
    if not isinstance(config.get("pretrained_cfg", {}), dict):
        raise _no_config(file, path, "its pretrained_cfg is no object")
    return config


def _no_config(file: Path, path: Path, reason: str) -> WeightsError:
    return WeightsError(
        f"{file} cannot be read ({reason}); expected timm's configuration of {path.name}; "
        "download it again, or move the weights to another folder"
    )


def _three(path: Path, config: Mapping[str, Any], name: str, default: Three) -> Three:
    value = config.get(name, default)
    numbers = [to_float(v) for v in value] if isinstance(value, list | tuple) else []
    # A picture is divided by its deviation.
    if (
        len(numbers) != 3
        or not all(map(math.isfinite, numbers))
        or (name == "std" and 0 in numbers)
    ):
        raise WeightsError(
            f"{path.with_name('config.json')} gives {name} {shown(value)}, expected one number for "
            "each of red, green and blue"
        )
    red, green, blue = numbers
    return red, green, blue

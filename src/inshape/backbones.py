"""The networks of ``keras.applications``: their names, their facts and how to build them.

``find("MobileNetV3Large-0.75")`` gives a `Backbone`; its ``build`` calls the Keras constructor. A
name is the constructor's, followed by the width multiplier and ``minimalistic`` where a family has
them: ``MobileNetV2-0.35``, ``MobileNetV3Small-minimalistic``. Keras is imported by ``build`` alone.

How a network wants its pictures (`Backbone.preprocessing`):

    "inside"   [0, 255] RGB; the network maps them itself
    "tf"       [0, 255] RGB / 127.5 - 1
    "torch"    [0, 255] RGB / 255, less the ImageNet mean, divided by its standard deviation
    "caffe"    [0, 255] with the channels reversed to BGR, less the ImageNet mean
"""

from __future__ import annotations

import csv
import difflib
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from itertools import product
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from .errors import RequestError, ShapeError, UnknownName
from .requests import Positional, Request
from .shapes import InputShape
from .text import Printable, format_count, format_shape, table

if TYPE_CHECKING:
    import keras

Preprocessing: TypeAlias = Literal["inside", "tf", "torch", "caffe"]


@dataclass(frozen=True, slots=True)
class Backbone:
    """One network of ``keras.applications``.

    Attributes:
        name: how the user writes it.
        family: the module of ``keras.applications`` that holds it.
        constructor: the function that builds it.
        options: further arguments of the constructor, such as ``(("alpha", 0.75),)``.
        native_hw: the size that its ImageNet weights belong to, in pixels.
        least_hw: the smallest size that the constructor takes, in pixels.
        preprocessing: how it wants its pictures; see the module's table.
        has_imagenet: whether Keras publishes ImageNet weights for it.
        imagenet_top1: accuracy on ImageNet in percent, as Keras documents it, where it is known
            (see `published`).
    """

    name: str
    family: str
    constructor: str
    options: tuple[tuple[str, float | bool], ...] = ()
    native_hw: tuple[int, int] = (224, 224)
    least_hw: tuple[int, int] = (32, 32)
    preprocessing: Preprocessing = "inside"
    has_imagenet: bool = True
    imagenet_top1: float | None = None

    @property
    def is_wrapped(self) -> bool:
        """Whether it stands behind layers that do its preprocessing."""
        return self.preprocessing != "inside"

    @property
    def has_pretrained_dense(self) -> bool:
        """Whether layers worth keeping stand between its pooling and its classifier."""
        return self.family in ("mobilenet_v3", "convnext")

    @property
    def weights_bytes(self) -> int:
        """What its parameters take as float32, classifier included."""
        return 4 * published()[self.name].params

    def build(
        self,
        *,
        include_top: bool,
        classes: int = 1000,
        activation: str | None = None,
        input_shape: tuple[int | None, int | None, int] | None = None,
    ) -> keras.Model:
        """Build the network with Keras's own constructor and random weights.

        Args:
            include_top: whether the classifier is wanted too.
            classes: outputs of the classifier.
            activation: the classifier's activation; ``None`` gives logits.
            input_shape: ``(height, width, channels)``; the native size with three channels if not
                given.

        Raises:
            ShapeError: if the shape is smaller than the constructor takes.
        """
        import keras

        shape = input_shape or (*self.native_hw, 3)
        if any(
            px is not None and px < least
            for px, least in zip(shape[:2], self.least_hw, strict=True)
        ):
            raise ShapeError(
                f"{self.name} at {InputShape.of(shape)}: "
                f"expected at least {self.least_hw[0]}x{self.least_hw[1]} pixels; build it at its "
                "native shape and change that with inshape.adapt"
            )
        with warnings.catch_warnings():
            # Keras doubts every channel count but 1 and 3; here more bands are what was asked for.
            warnings.filterwarnings("ignore", message="This model usually expects 1 or 3 input")
            return getattr(keras.applications, self.constructor)(
                include_top=include_top,
                weights=None,
                classes=classes,
                classifier_activation=activation,
                input_shape=shape,
                **dict(self.options),
            )

    def without_imagenet(self) -> RequestError:
        """The error of asking for ImageNet weights that nobody publishes."""
        relatives = [b.name for b in backbones() if b.constructor == self.constructor]
        known = ", ".join(name for name in relatives if find(name).has_imagenet)
        return RequestError(
            f"Keras publishes no ImageNet weights for {self.name}; expected one of {known}; "
            "or give weights=None or the path of a weights file"
        )


SOURCES = {
    "table": "keras.io/api/applications, the table of available models",
    "mobilenet": "the docstring of keras_applications/mobilenet.py",
    "mobilenet_v2": "the docstring of keras_applications/mobilenet_v2.py, input 224x224",
    "mobilenet_v3": "the docstring of keras.applications.MobileNetV3Large",
}
"""Where an accuracy comes from, by the word in ``backbones.csv``."""


@dataclass(frozen=True, slots=True)
class Published:
    """What is published or counted of a backbone at its native shape, classifier included.

    Attributes:
        params: parameters.
        macs: multiply-accumulates of convolutions and dense layers for one picture.
        top1: accuracy on ImageNet in percent, or ``None`` where none is published.
        source: where that accuracy is published, a key of `SOURCES`.
    """

    params: int
    macs: int
    top1: float | None
    source: str | None


@cache
def published() -> dict[str, Published]:
    """What is published of every backbone, by its name.

    Example:
        >>> published()["MobileNetV3Large-minimalistic"]
        Published(params=3948688, macs=209136704, top1=72.3, source='mobilenet_v3')
    """
    text = files("inshape").joinpath("backbones.csv").read_text(encoding="utf-8")
    return {
        row["name"]: Published(
            int(row["params"]),
            int(row["macs"]),
            float(row["top1"]) if row["top1"] else None,
            row["source"] or None,
        )
        for row in csv.DictReader(text.splitlines())
    }


DEFAULT = "MobileNetV3Small"
"""The backbone where none is named."""
DEMO = "MobileNetV3Small-minimalistic"
"""The one network that the demonstration checkpoint fits."""


def fitting(backbone: Any, weights: Any) -> Any:
    """The backbone; where none is named, the one that the weights belong to.

    Example:
        >>> fitting(DEFAULT, "demo"), fitting(DEFAULT, "imagenet"), fitting("VGG16", "demo")
        ('MobileNetV3Small-minimalistic', 'MobileNetV3Small', 'VGG16')
    """
    return DEMO if backbone == DEFAULT and weights == "demo" else backbone


@dataclass(frozen=True, slots=True)
class ModelsRequest(Request):
    """Which backbones are listed."""

    name: Annotated[str, Positional()] = ""
    """Only those whose name holds this."""


WEIGHTS = {
    "imagenet": "downloaded by Keras from storage.googleapis.com, kept in ~/.keras/models",
}
"""The names that ``weights=`` takes, and where each comes from. A file of one's own fits any
backbone."""


@dataclass(frozen=True, slots=True, repr=False)
class Listing(Printable):
    """Backbones with what is published of them: what ``inshape models`` shows."""

    rows: tuple[tuple[Backbone, Published], ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "models": [
                {
                    "name": backbone.name,
                    "family": backbone.family,
                    "native_hw": list(backbone.native_hw),
                    "params": known.params,
                    "macs": known.macs,
                    "imagenet_top1": known.top1,
                    "top1_source": None if known.source is None else SOURCES[known.source],
                    "weights": list(weights_of(backbone)),
                }
                for backbone, known in self.rows
            ],
            "weights": WEIGHTS,
        }

    def describe(self, width: int | None = None) -> str:
        """A row per backbone, and where accuracies and weights come from."""
        heads = ("backbone", "weights", "native", "params", "MACs", "top-1", "source")
        rows = [
            (
                backbone.name,
                ", ".join(weights_of(backbone)) or "none",
                format_shape(backbone.native_hw),
                format_count(known.params),
                format_count(known.macs),
                "-" if known.top1 is None else f"{known.top1:.1f}",
                known.source or "-",
            )
            for backbone, known in self.rows
        ]
        used = dict.fromkeys(known.source for _, known in self.rows if known.source)
        lines = table(heads, rows, left=2, width=width, spare=("source",))
        lines += ["", "params, MACs: counted at the native shape, classifier included"]
        lines += ["top-1: percent on ImageNet's validation pictures, as published in"]
        lines += [f"  {name}: {SOURCES[name]}" for name in used]
        lines += ["weights: by name as below, or a file of your own, or none (random)"]
        return "\n".join([*lines, *(f"  {name}: {place}" for name, place in WEIGHTS.items())])


def weights_of(backbone: Backbone) -> tuple[str, ...]:
    """The named weights that there are for a backbone, keys of `WEIGHTS`.

    Example:
        >>> [weights_of(b) for b in backbones()[:4]]
        [('imagenet',), ('imagenet',), ('imagenet',), ()]
    """
    return ("imagenet",) if backbone.has_imagenet else ()


def list_backbones(part: str = "") -> Listing:
    """The backbones whose name holds a part, in any case; nothing is built.

    Raises:
        UnknownName: if no name holds it.

    Example:
        >>> [backbone.name for backbone, _ in list_backbones("nasnet").rows]
        ['NASNetMobile', 'NASNetLarge']
    """
    rows = [b for b in backbones() if part.lower() in b.name.lower()]
    if not rows:
        raise UnknownName("backbone", part, (b.name for b in backbones()))
    return Listing(tuple((b, published()[b.name]) for b in rows))


def backbones() -> tuple[Backbone, ...]:
    """Every network by name, family after family.

    Example:
        >>> [b.name for b in backbones() if b.family == "nasnet"]
        ['NASNetMobile', 'NASNetLarge']
    """
    return tuple(_by_key().values())


def find(name: str) -> Backbone:
    """The network of this name.

    Args:
        name: as in `backbones`; case, ``-`` and ``_`` do not matter, and a width of 1.0 may be
            written.

    Returns:
        Its facts.

    Raises:
        UnknownName: if there is none, with the closest names.

    Example:
        >>> find("mobilenet_v3_large-0.75").name
        'MobileNetV3Large-0.75'
        >>> find("MobileNetV3Small").native_hw
        (224, 224)
    """
    known = _by_key()
    backbone = known.get(_key(name))
    if backbone is not None:
        return backbone
    close = difflib.get_close_matches(_key(name), known, n=5, cutoff=0.75)
    raise UnknownName("backbone", name, (*(known[key].name for key in close), *_families()))


def _key(name: str) -> str:
    without_full_width = re.sub(r"[-_]1\.0(?=$|[-_])", "", name.strip())
    return re.sub(r"[-_\s]", "", without_full_width).lower()


@cache
def _by_key() -> dict[str, Backbone]:
    known = published()
    return {
        _key(backbone.name): replace(backbone, imagenet_top1=known[backbone.name].top1)
        for backbone in _all()
    }


@cache
def _families() -> tuple[str, ...]:
    """The families as the user sees them: a common start of the names, or the only name."""
    families: dict[str, list[str]] = {}
    for backbone in _all():
        families.setdefault(_SPOKEN[backbone.family], []).append(backbone.name)
    return tuple(
        members[0] if len(members) == 1 else f"{spoken}*" for spoken, members in families.items()
    )


_SPOKEN = {
    "mobilenet_v3": "MobileNetV3",
    "mobilenet_v2": "MobileNetV2",
    "mobilenet": "MobileNet",
    "efficientnet": "EfficientNet",
    "efficientnet_v2": "EfficientNetV2",
    "convnext": "ConvNeXt",
    "densenet": "DenseNet",
    "inception_v3": "InceptionV3",
    "inception_resnet_v2": "InceptionResNetV2",
    "nasnet": "NASNet",
    "resnet": "ResNet",
    "resnet_v2": "ResNet",
    "vgg16": "VGG",
    "vgg19": "VGG",
    "xception": "Xception",
}

_EFFICIENTNET_PX = (224, 240, 260, 300, 380, 456, 528, 600)
_EFFICIENTNET_V2_PX = {
    "B0": 224,
    "B1": 240,
    "B2": 260,
    "B3": 300,
    "S": 384,
    "M": 480,
    "L": 480,
}


def _all() -> Iterator[Backbone]:
    yield from _mobilenets_v3()
    yield from _widths("MobileNetV2", "mobilenet_v2", (0.35, 0.5, 0.75, 1.0, 1.3, 1.4))
    yield from _widths("MobileNet", "mobilenet", (0.25, 0.5, 0.75, 1.0))
    for index, px in enumerate(_EFFICIENTNET_PX):
        yield _plain(f"EfficientNetB{index}", "efficientnet", "inside", px)
    for letter, px in _EFFICIENTNET_V2_PX.items():
        yield _plain(f"EfficientNetV2{letter}", "efficientnet_v2", "inside", px)
    for word in ("Tiny", "Small", "Base", "Large", "XLarge"):
        yield _plain(f"ConvNeXt{word}", "convnext", "inside")
    for depth in (50, 101, 152):
        yield _plain(f"ResNet{depth}", "resnet", "caffe")
    for depth in (50, 101, 152):
        yield _plain(f"ResNet{depth}V2", "resnet_v2", "tf")
    for depth in (121, 169, 201):
        yield _plain(f"DenseNet{depth}", "densenet", "torch")
    yield _plain("InceptionV3", "inception_v3", "tf", 299, least_px=75)
    yield _plain("InceptionResNetV2", "inception_resnet_v2", "tf", 299, least_px=75)
    yield _plain("Xception", "xception", "tf", 299, least_px=71)
    yield _plain("NASNetMobile", "nasnet", "tf", 224)
    yield _plain("NASNetLarge", "nasnet", "tf", 331)
    yield _plain("VGG16", "vgg16", "caffe")
    yield _plain("VGG19", "vgg19", "caffe")


def _mobilenets_v3() -> Iterator[Backbone]:
    constructors = ("MobileNetV3Small", "MobileNetV3Large")
    for constructor, alpha, minimalistic in product(constructors, (1.0, 0.75, 0.5), (False, True)):
        if alpha == 0.5 and (minimalistic or constructor == "MobileNetV3Large"):
            continue  # nobody publishes weights for these
        width = "" if alpha == 1.0 else f"-{alpha}"
        yield Backbone(
            name=f"{constructor}{width}{'-minimalistic' if minimalistic else ''}",
            family="mobilenet_v3",
            constructor=constructor,
            options=(("alpha", alpha), ("minimalistic", minimalistic)),
            has_imagenet=alpha == 1.0 or (alpha == 0.75 and not minimalistic),
        )


def _widths(constructor: str, family: str, alphas: tuple[float, ...]) -> Iterator[Backbone]:
    for alpha in alphas:
        name = constructor if alpha == 1.0 else f"{constructor}-{alpha}"
        yield Backbone(
            name=name,
            family=family,
            constructor=constructor,
            options=(("alpha", alpha),),
            preprocessing="tf",
        )


def _plain(
    name: str,
    family: str,
    preprocessing: Preprocessing,
    native_px: int = 224,
    *,
    least_px: int = 32,
) -> Backbone:
    return Backbone(
        name=name,
        family=family,
        constructor=name,
        native_hw=(native_px, native_px),
        least_hw=(least_px, least_px),
        preprocessing=preprocessing,
    )

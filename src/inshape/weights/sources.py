"""Where pretrained weights come from: what ``weights=`` and ``--weights`` take.

| `weights=` | what it is | needs |
|---|---|---|
| `"imagenet"` | Keras's own download, kept in Keras's cache (`~/.keras/models`) | |
| `"FILE.weights.h5"`, `"FILE.h5"`, `"FILE.keras"` | a file that Keras wrote, versions 2 and 3 | |
| `"FILE.safetensors"` | a MobileNetV3 state dict of torchvision's or timm's | |
| `"FILE.pth"`, `"FILE.pt"` | the same, or a training's checkpoint that holds one | `inshape[torch]` |
| `"hf://OWNER/NAME"` | the same from the Hugging Face Hub: `hf://timm/mobilenetv3_small_100.lamb_in1k` | `inshape[hub]` |
| `"kaggle://OWNER/MODEL/keras/VARIATION"` | a MobileNetV3 preset of KerasHub's | `inshape[kaggle]` |
| `"demo"` | the checkpoint that comes with inshape, of `MobileNetV3Small-minimalistic` | |
| `None` (`none`) | random weights | |

A file is recognised by what it holds, not by its ending. Whether it has a classifier, and for how
many classes, is read from it as well. Every array must have its place and every place its array;
nothing is skipped but the head that a user put on a network and saved with it as a whole model, and
what does not fit is named with both shapes. A pickle (`.pth`) is read by
``torch.load(weights_only=True)``, which refuses one that would run code.

Weights from PyTorch bring their network's padding, batch-norm epsilon and normalisation with them
(see `origin`): the model that comes out takes pictures in [0, 255] and answers as the source does,
to 1e-4 of the logits' spread, at every size. A file of timm's that lies beside its ``config.json``
takes mean and deviation from there and must be the network that it names; `Origin` says what is
assumed without one.

Downloads are verified by hash, go on where they broke off, and are made once. Without a connection
the error names the file, its address and the place to put it.

`load_source` builds a backbone at its native shape and fills it. Other input shapes, channels and
classes are the transplant's work, so every weight is first read where it belongs.
"""  # noqa: E501

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..backbones import Backbone
from ..errors import NoClassifier, WeightsError
from ..graph.finite import assign
from . import hub, kaggle
from .demo import load_demo
from .download import fetch_imagenet, published
from .files import open_weights
from .origin import IMAGENET_STATISTICS
from .stored import KerasWeights, Slot, StoredWeights
from .tensors import Shape

if TYPE_CHECKING:
    import keras

IMAGENET_CLASSES = 1000

_TWICE = frozenset(f"EfficientNetB{n}" for n in range(8))
"""Whose published weights belong to a graph that normalises in two steps."""


def load_source(
    backbone: Backbone,
    weights: str | Path | None,
    *,
    include_top: bool,
    classes: int | None = None,
    activation: str | None = None,
) -> keras.Model:
    """A backbone at its native shape, with three channels, and its weights."""
    if weights is None:
        return backbone.build(
            include_top=include_top,
            classes=classes or IMAGENET_CLASSES,
            activation=activation,
        )
    if weights == "imagenet":
        if include_top and classes not in (None, IMAGENET_CLASSES):
            raise _wrong_classes("weights='imagenet'", IMAGENET_CLASSES, classes)
        return _imagenet(backbone, include_top=include_top, activation=activation)
    if weights == "demo":
        return load_demo(backbone, include_top=include_top)
    with _opened(weights, backbone) as stored:
        return _from_file(
            backbone,
            stored,
            include_top=include_top,
            classes=classes,
            activation=activation,
        )


@contextlib.contextmanager
def _opened(weights: str | Path, backbone: Backbone) -> Generator[StoredWeights]:
    """The weights of a file for a backbone, downloaded if it has to be."""
    if str(weights).startswith(kaggle.PREFIX):
        yield kaggle.from_kaggle(str(weights))
        return
    is_on_hub = str(weights).startswith(hub.PREFIX)
    path = hub.from_hub(str(weights)) if is_on_hub else Path(weights).expanduser()
    repository = str(weights) if is_on_hub else ""
    with open_weights(path, repository, weights_bytes=backbone.weights_bytes) as stored:
        yield stored


def _imagenet(backbone: Backbone, *, include_top: bool, activation: str | None) -> keras.Model:
    if not backbone.has_imagenet:
        raise backbone.without_imagenet()
    path = fetch_imagenet(backbone.name, top=include_top)
    try:
        with open_weights(path, weights_bytes=backbone.weights_bytes) as stored:
            return _from_file(
                backbone, stored, include_top=include_top, classes=None, activation=activation
            )
    except WeightsError as error:
        raise WeightsError(
            f"{path} does not hold the ImageNet weights of {backbone.name} ({error}); expected "
            "Keras's download; delete the file and try again"
        ) from error


def _from_file(
    backbone: Backbone,
    stored: StoredWeights,
    *,
    include_top: bool,
    classes: int | None,
    activation: str | None,
) -> keras.Model:
    misfit = stored.misfit(backbone)
    if misfit is not None:
        raise misfit
    # No more than that before it is known whether the classifier fits.
    likely = min(stored.classes or IMAGENET_CLASSES, IMAGENET_CLASSES)
    whole = backbone.build(include_top=True, classes=likely, activation=activation)
    found_classes = _classes_in(stored, whole)
    if found_classes is None:
        bare = _below_head(stored.as_trained(whole), backbone)
        _fill(bare, stored, backbone, leaves_head=stored.is_whole)
        if include_top:
            raise NoClassifier(
                f"{stored.path} holds {backbone.name} without its classifier, expected one; use a "
                "file saved with include_top=True, or a new head"
            )
        return bare
    if found_classes != likely:
        whole = backbone.build(include_top=True, classes=found_classes, activation=activation)
    whole = stored.as_trained(whole)
    _fill(whole, stored, backbone)
    if not include_top:
        return _below_head(whole, backbone)
    if classes not in (None, found_classes):
        raise _wrong_classes(str(stored.path), found_classes, classes)
    return whole


def _wrong_classes(source: str, actual: int, expected: int | None) -> WeightsError:
    return WeightsError(
        f"{source} holds a classifier of {actual} classes, expected {expected}; leave the number "
        "of classes out to keep it, or use a new head"
    )


def _classes_in(stored: StoredWeights, whole: keras.Model) -> int | None:
    """Outputs of the classifier in the file, ``None`` if it holds none.

    The classifier is the last layer with weights; the file has it where its kernel reads as many
    channels.
    """
    classifier = stored.slots_of(whole)[-1]
    shapes = stored.shapes(classifier)
    if shapes is None or len(shapes) != len(classifier.shapes):
        return None
    if shapes[0][:-1] != classifier.shapes[0][:-1]:
        return None
    return shapes[0][-1]


def _fill(
    model: keras.Model, stored: StoredWeights, backbone: Backbone, *, leaves_head: bool = False
) -> None:
    slots = stored.slots_of(model)
    _check_fit(slots, stored, backbone, leaves_head=leaves_head)
    for slot in slots:
        holder = f"{stored.path}: {slot.name}"
        assign(slot.variables, stored.arrays(slot), holder, "save or download the weights again")
    is_from_keras = isinstance(stored, KerasWeights)
    if backbone.family == "efficientnet" and is_from_keras and _divides_twice(stored):
        _fold_second_rescaling(model)
    _finalise(model)


def _check_fit(
    slots: Sequence[Slot], stored: StoredWeights, backbone: Backbone, *, leaves_head: bool
) -> None:
    differences = [
        f"{slot.name} {_difference(slot.shapes, actual)}"
        for slot in slots
        if (actual := stored.shapes(slot)) != slot.shapes
    ]
    if not leaves_head:
        differences += [f"the file's {name} has no place" for name in stored.beyond(slots)]
    if differences:
        shown = "; ".join(differences[:3])
        more = f"; and {len(differences) - 3} more" if len(differences) > 3 else ""
        raise WeightsError(
            f"{stored.path} does not fit {backbone.name}: {shown}{more}; {stored.hint(backbone)}"
        )


def _difference(expected: tuple[Shape, ...], actual: tuple[Shape, ...] | None) -> str:
    if actual is None:
        return f"expects {expected[0]}, the file holds no such layer"
    if len(actual) != len(expected):
        return f"expects {len(expected)} arrays, the file holds {len(actual)}"
    ours, theirs = next(pair for pair in zip(expected, actual, strict=True) if pair[0] != pair[1])
    return f"expects {ours}, the file holds {theirs}"


def _divides_twice(stored: KerasWeights) -> bool:
    """Whether an EfficientNet's weights belong to the graph that normalises in two steps.

    Keras's constructor adds the second step with ``weights="imagenet"`` only, for its own download
    (whose layout does not show it) as for whatever is saved from there (whose layout does).
    """
    if stored.count_layers("rescaling") > 1:
        return True
    with Path(stored.path).open("rb") as file:
        actual = hashlib.file_digest(file, "md5").hexdigest()
    return any(actual == row.hash for (name, _), row in published().items() if name in _TWICE)


def _fold_second_rescaling(model: keras.Model) -> None:
    """Put the second step into the variance of the first.

    (x - mean) / sqrt(variance), times 1 / sqrt(std), is (x - mean) / sqrt(variance * std).
    """
    import keras

    (normalisation,) = (x for x in model.layers if isinstance(x, keras.layers.Normalization))
    variance = normalisation.adapt_variance
    variance.assign(keras.ops.convert_to_numpy(variance) * np.array(IMAGENET_STATISTICS[1]))


def _finalise(model: keras.Model) -> None:
    # Normalization keeps its mean and variance a second time, as constants.
    for layer in _leaves(model):
        if hasattr(layer, "finalize_state"):
            layer.finalize_state()


def _leaves(model: Any) -> Generator[Any]:
    for layer in model.layers:
        if hasattr(layer, "layers"):
            yield from _leaves(layer)
        else:
            yield layer


def _below_head(whole: keras.Model, backbone: Backbone) -> keras.Model:
    """The network below its head, as the constructor gives it with ``include_top=False``."""
    import keras

    if backbone.family == "convnext":  # has a normalisation in place of the head's own
        bare = backbone.build(include_top=False)
        bare.set_weights(whole.get_weights()[: len(bare.weights)])
        _finalise(bare)
        return bare
    # Of the same layers, for to build them again takes as long as all else. The gates inside of
    # blocks are pooled before the head is.
    kinds = (keras.layers.GlobalAveragePooling2D, keras.layers.Flatten)
    pools = [next((x for x in reversed(whole.layers) if isinstance(x, k)), None) for k in kinds]
    pool = next(x for x in pools if x is not None)
    return keras.Model(whole.inputs[0], pool.input, name=whole.name)

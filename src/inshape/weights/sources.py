"""Where pretrained weights come from: Keras's download, the demonstration checkpoint or a file.

`load_source` builds a backbone at its native shape and fills it. Other input shapes, channels and
classes are the transplant's work, so every weight is first read where it belongs.

A weights file is recognised by what it holds, not by its ending (see `stored`). Whether it has a
classifier, and for how many classes, is read from it as well. Every array must have its place and
every place its array; nothing is skipped.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import sys
from collections.abc import Generator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from ..backbones import Backbone
from ..errors import WeightsError
from .demo import load_demo
from .stored import Shape, StoredWeights, open_weights

if TYPE_CHECKING:
    import keras

IMAGENET_CLASSES = 1000

_TIMEOUT_S = 30.0
_IMAGENET_STD = (0.229, 0.224, 0.225)


def load_source(
    backbone: Backbone,
    weights: str | Path | None,
    *,
    include_top: bool,
    classes: int | None = None,
    activation: str | None = None,
) -> keras.Model:
    """A backbone at its native shape, with three channels, and its weights.

    Args:
        backbone: which network.
        weights: ``"imagenet"`` (Keras's download, kept in Keras's cache), ``"demo"`` (the small
            checkpoint that comes with inshape, of one backbone), the path of a file, or ``None``
            for random ones.
        include_top: whether the classifier is wanted too. A file's classifier is cut off if not.
        classes: outputs of the classifier; what the weights have if not given.
        activation: the classifier's activation; ``None`` gives logits.

    Returns:
        A functional Keras model.

    Raises:
        WeightsError: if the weights cannot be had or do not fit.
        RequestError: if Keras publishes no ImageNet weights for this network.
    """
    if weights is None:
        return backbone.build(
            include_top=include_top,
            weights=None,
            classes=classes or IMAGENET_CLASSES,
            activation=activation,
        )
    if weights == "imagenet":
        if include_top and classes not in (None, IMAGENET_CLASSES):
            raise _wrong_classes("weights='imagenet'", IMAGENET_CLASSES, classes)
        return _imagenet(backbone, include_top=include_top, activation=activation)
    if weights == "demo":
        return load_demo(backbone, include_top=include_top)
    path = Path(weights).expanduser()
    with open_weights(path) as stored:
        return _from_file(
            backbone,
            stored,
            include_top=include_top,
            classes=classes,
            activation=activation,
        )


def _imagenet(backbone: Backbone, *, include_top: bool, activation: str | None) -> keras.Model:
    try:
        with _quiet_download():
            return backbone.build(
                include_top=include_top, weights="imagenet", activation=activation
            )
    except Exception as error:
        reason = " ".join(str(error).split())
        download = _locals_with("origin", error.__traceback__)
        if download:
            raise WeightsError(
                f"cannot download {str(download['origin']).rsplit('/', 1)[-1]} for {backbone.name} "
                f"({reason}); expected a connection or the file at {_cached(download)}; put it "
                "there, or give weights='path/to/file.weights.h5' (or .h5, .keras)"
            ) from error
        cached = _locals_with("weights_path", error.__traceback__)
        if cached:
            raise WeightsError(
                f"{cached['weights_path']} does not hold the ImageNet weights of {backbone.name} "
                f"({reason}); expected Keras's download; delete the file and try again"
            ) from error
        raise


def _locals_with(variable: str, traceback: TracebackType | None) -> dict[str, Any]:
    """The variables of the first call, on the way to an error, that has this one.

    No exception tells what Keras was downloading or reading: a connection that breaks off says
    nothing, and for some networks the name in the URL (``origin`` in ``keras.utils.get_file``) is
    not the name in the cache (``weights_path`` in the constructors).
    """
    while traceback is not None:
        if variable in traceback.tb_frame.f_locals:
            return dict(traceback.tb_frame.f_locals)
        traceback = traceback.tb_next
    return {}


def _cached(download: dict[str, Any]) -> str:
    """Where ``keras.utils.get_file`` would have kept the file."""
    if "download_target" in download:
        return str(download["download_target"])
    home = Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser()
    return str(home / "models" / str(download["fname"]))


@contextlib.contextmanager
def _quiet_download() -> Generator[None]:
    # Keras reports its download on standard output, where a command's result belongs, and waits
    # without end for a server that does not answer.
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(before or _TIMEOUT_S)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        socket.setdefaulttimeout(before)


def _from_file(
    backbone: Backbone,
    stored: StoredWeights,
    *,
    include_top: bool,
    classes: int | None,
    activation: str | None,
) -> keras.Model:
    whole = backbone.build(include_top=True, weights=None, activation=activation)
    found_classes = _classes_in(stored, whole)
    if found_classes is None:
        bare = backbone.build(include_top=False, weights=None)
        _fill(bare, stored, backbone)
        if include_top:
            raise WeightsError(
                f"{stored.path} holds {backbone.name} without its classifier, expected one; use a "
                "file saved with include_top=True, or a new head"
            )
        return bare
    if found_classes != IMAGENET_CLASSES:
        whole = backbone.build(
            include_top=True, weights=None, classes=found_classes, activation=activation
        )
    _fill(whole, stored, backbone)
    if not include_top:
        return _without_top(backbone, whole)
    if classes not in (None, found_classes):
        raise _wrong_classes(str(stored.path), found_classes, classes)
    return whole


def _wrong_classes(source: str, found: int, expected: int | None) -> WeightsError:
    return WeightsError(
        f"{source} holds a classifier of {found} classes, expected {expected}; leave the number of "
        "classes out to keep it, or use a new head"
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


def _fill(model: keras.Model, stored: StoredWeights, backbone: Backbone) -> None:
    slots = stored.slots_of(model)
    differences = [
        f"{slot.name} {_difference(slot.shapes, found)}"
        for slot in slots
        if (found := stored.shapes(slot)) != slot.shapes
    ]
    differences += [f"the file's {name} has no place" for name in stored.beyond(slots)]
    if differences:
        shown = "; ".join(differences[:3])
        more = f"; and {len(differences) - 3} more" if len(differences) > 3 else ""
        raise WeightsError(
            f"{stored.path} does not fit {backbone.name}: {shown}{more}; name the backbone that "
            "the file was saved from (a .keras file can itself be the backbone)"
        )
    for slot in slots:
        for variable, values in zip(slot.variables, stored.arrays(slot), strict=True):
            variable.assign(values)
    if backbone.family == "efficientnet" and _divides_twice(stored):
        _fold_second_rescaling(model)
    _finalise(model)


def _difference(expected: tuple[Shape, ...], found: tuple[Shape, ...] | None) -> str:
    if found is None:
        return f"expects {expected[0]}, the file holds no such layer"
    if len(found) != len(expected):
        return f"expects {len(expected)} arrays, the file holds {len(found)}"
    ours, theirs = next(pair for pair in zip(expected, found, strict=True) if pair[0] != pair[1])
    return f"expects {ours}, the file holds {theirs}"


def _divides_twice(stored: StoredWeights) -> bool:
    """Whether an EfficientNet's weights belong to the graph that normalises in two steps.

    Keras's constructor adds the second step with ``weights="imagenet"`` only, for its own download
    (whose layout does not show it) as for whatever is saved from there (whose layout does).
    """
    from keras.src.applications.efficientnet import WEIGHTS_HASHES

    if stored.count_layers("rescaling") > 1:
        return True
    published = {md5 for pair in WEIGHTS_HASHES.values() for md5 in pair}
    with stored.path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest() in published


def _fold_second_rescaling(model: keras.Model) -> None:
    """Put the second step into the variance of the first.

    (x - mean) / sqrt(variance), times 1 / sqrt(std), is (x - mean) / sqrt(variance * std).
    """
    import keras

    (normalisation,) = (x for x in model.layers if isinstance(x, keras.layers.Normalization))
    variance = normalisation.adapt_variance
    variance.assign(keras.ops.convert_to_numpy(variance) * np.array(_IMAGENET_STD))


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


def _without_top(backbone: Backbone, whole: keras.Model) -> keras.Model:
    """The network below the classifier; its weights are the first ones of the whole."""
    bare = backbone.build(include_top=False, weights=None)
    bare.set_weights(whole.get_weights()[: len(bare.weights)])
    _finalise(bare)
    return bare

"""Random changes to training pictures, made of Keras's own layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias, get_args

from ..errors import DataError, check_choice
from ..text import plural

Augmentation: TypeAlias = Literal["none", "light", "strong"]
Settings: TypeAlias = Mapping[str, Any]
"""Of layers that move pixels."""

_RANGE = (0.0, 255.0)
_RGB_ONLY = "RandAugment and changes of saturation and hue need RGB"
_DRAWS = 64  # more seeds than any layer draws in one step


class Augmenter:
    """Random changes to a batch, the same for the same seed and step.

    ``layers`` change the pictures, in order; ``mixers`` (MixUp, CutMix) pictures and labels
    together; ``notes`` say what was left out, and why, one line each. ``moves_as`` is the word by
    which the layers know labels that lie on the pictures, and so are moved with them.
    """

    def __init__(
        self,
        layers: Sequence[Any],
        mixers: Sequence[Any],
        seed: int,
        notes: Sequence[str] = (),
        *,
        moves_as: str = "",
    ) -> None:
        self.moves_as = moves_as
        self.layers = tuple(layers)
        self.mixers = tuple(mixers)
        self.notes = tuple(notes)
        self._generators = [g for layer in (*layers, *mixers) for g in _generators(layer)]
        self._seeds = [(seed * 1_000_003 + 7919 * i) % 2**31 for i in range(len(self._generators))]

    def __call__(self, pictures: Any, labels: Any = None, *, step: Any) -> tuple[Any, Any]:
        """Change a batch of float32 pictures in [0, 255] and, for mixing, their soft labels.

        Labels that lie on the pictures are moved with them.

        ``step`` counts the training's steps over all epochs; a number or a scalar tensor.

        Raises:
            DataError: if pictures are mixed and there are no one-hot labels.
        """
        import keras  # slow to import

        # Keras's layers count their draws, which would make the pictures after a resumed run others
        # than those of an uninterrupted one; so every counter is set from the step number first.
        start: Any = keras.ops.multiply(keras.ops.cast(step, "int32"), _DRAWS)
        for seed, generator in zip(self._seeds, self._generators, strict=True):
            state = keras.ops.stack([keras.ops.cast(seed, "int32"), start])
            generator.state.assign(keras.ops.cast(state, generator.state.dtype))
        if self.moves_as and labels is not None:
            together, unpack = _PACKED[self.moves_as](labels)
            moved = {"images": keras.ops.convert_to_tensor(pictures), self.moves_as: together}
            for layer in self.layers:
                moved = layer(moved, training=True)
            pictures, labels = moved["images"], unpack(moved[self.moves_as])
        else:
            for layer in self.layers:
                pictures = layer(pictures, training=True)
        for mixer in self.mixers:
            if labels is None or len(labels.shape) != 2:
                raise DataError(
                    f"{type(mixer).__name__} mixes labels too and got none of shape "
                    "(batch, classes); expected one-hot labels; use keras.ops.one_hot"
                )
            mixed = mixer({"images": pictures, "labels": labels}, training=True)
            pictures, labels = mixed["images"], mixed["labels"]
        return keras.ops.clip(pictures, *_RANGE), labels


def augmenter(
    kind: Augmentation = "light",
    *,
    channels: int = 3,
    seed: int = 0,
    flip: bool = True,
    mixup: float = 0.0,
    cutmix: float = 0.0,
    rand_augment: float = 0.0,
    moves_as: str = "",
) -> Augmenter:
    """Choose random changes.

    ``"light"`` mirrors, shifts by up to a tenth and zooms in or out by up to a tenth. ``"strong"``
    zooms in by up to a third, rotates by up to 15 degrees, changes brightness and contrast (of RGB
    also saturation and hue) and erases a part of every second picture.

    Without three channels, colour changes are left out and ``notes`` says so. ``flip`` exchanges
    left and right, which is wrong for text and digits. ``mixup`` is the alpha of MixUp (Zhang et
    al. 2018), ``cutmix`` the largest alpha of CutMix (Yun et al. 2019), ``rand_augment`` the factor
    of RandAugment (Cubuk et al. 2020); 0 is none. Labels that lie on pictures are moved with them
    by the layers, which know them by the word ``moves_as``; they are not mixed.

    Raises:
        UnknownName: if there is no such kind.
        DataError: if a factor is out of range.
    """
    check_choice("augmentation", kind, get_args(Augmentation))
    _check_factors(mixup=mixup, cutmix=cutmix, rand_augment=rand_augment)
    from keras import layers

    is_rgb = channels == 3
    has_boxes, is_strong = moves_as == _BOXES, kind == "strong"
    # What a picture reflects at its border are objects that no box is around.
    moving = {"seed": seed, "fill_mode": "nearest" if has_boxes else "reflect"}
    changes = _CHANGES[kind](moving, is_rgb, not has_boxes)
    if flip and changes:
        changes.insert(0, layers.RandomFlip("horizontal", seed=seed))
    for change in changes:  # those of colours move nothing, and ask for it all the same
        change.bounding_box_format = _BOX_FORMATS.get(moves_as)
    if rand_augment and is_rgb:
        # It computes eleven operations to draw one pair for a whole batch, and its factor means
        # different things to them: 0.3 rotates by up to 108 degrees and solarises most pixels.
        changes.append(layers.RandAugment(value_range=_RANGE, factor=rand_augment, seed=seed))
    notes: list[str] = []
    if not is_rgb and (rand_augment or is_strong):
        notes = [f"{_RGB_ONLY} and are left out with {plural(channels, 'channel')}"]
    if has_boxes and is_strong:
        notes.append("rotation is left out, since a turned box is none any more")
    mixers = [] if moves_as else _mixers(mixup, cutmix, seed)
    return Augmenter(changes, mixers, seed, notes, moves_as=moves_as)


def _check_factors(**factors: float) -> None:
    for name, factor in factors.items():
        if not 0.0 <= factor <= 1.0:
            raise DataError(f"{name} {factor}; expected 0 to 1; use 0 for none")


def _mixers(mixup: float, cutmix: float, seed: int) -> list[Any]:
    from keras import layers

    mixers: list[Any] = []
    if mixup:
        mixers.append(layers.MixUp(alpha=mixup, seed=seed))
    if cutmix:
        mixers.append(layers.CutMix(factor=cutmix, seed=seed))
    return mixers


def _no_changes(moving: Settings, is_rgb: bool, may_turn: bool) -> list[Any]:
    return []


def _light_changes(moving: Settings, is_rgb: bool, may_turn: bool) -> list[Any]:
    from keras import layers

    return [
        layers.RandomTranslation(0.1, 0.1, **moving),
        layers.RandomZoom((-0.1, 0.1), **moving),
    ]


def _strong_changes(moving: Settings, is_rgb: bool, may_turn: bool) -> list[Any]:
    from keras import layers

    seed = moving["seed"]
    colour_changes = [
        layers.RandomSaturation((0.3, 0.7), value_range=_RANGE, seed=seed),
        layers.RandomHue(0.03, value_range=_RANGE, seed=seed),
    ]
    turns = [layers.RandomRotation(15 / 360, **moving)] if may_turn else []
    return [
        layers.RandomTranslation(0.1, 0.1, **moving),
        layers.RandomZoom((-0.33, 0.1), **moving),
        *turns,
        layers.RandomBrightness(0.2, value_range=_RANGE, seed=seed),
        layers.RandomContrast(0.3, value_range=_RANGE, seed=seed),
        *(colour_changes if is_rgb else ()),
        layers.RandomErasing(0.5, scale=(0.02, 0.2), value_range=_RANGE, seed=seed),
    ]


def _masks_packed(labels: Any) -> tuple[Any, Callable[[Any], Any]]:
    import keras

    return keras.ops.convert_to_tensor(labels), lambda moved: moved


def _boxes_packed(labels: Any) -> tuple[Any, Callable[[Any], Any]]:
    """Rows of four edges and a class number as Keras has boxes, and the way back."""
    import keras

    rows: Any = keras.ops.convert_to_tensor(labels)
    packed = {"boxes": rows[..., :4], "labels": rows[..., 4]}

    def unpack(moved: Any) -> Any:
        edges = keras.ops.cast(moved["boxes"], "float32")
        numbers: Any = keras.ops.cast(moved["labels"], "float32")
        return keras.ops.concatenate([edges, numbers[..., None]], axis=-1)

    return packed, unpack


_BOXES = "bounding_boxes"
_BOX_FORMATS = {_BOXES: "rel_yxyx"}
_PACKED = {"segmentation_masks": _masks_packed, _BOXES: _boxes_packed}
"""What Keras's layers want with each of their words."""
_CHANGES = {"none": _no_changes, "light": _light_changes, "strong": _strong_changes}


def _generators(layer: Any) -> list[Any]:
    """The seed generators of a layer and of the layers in it."""
    inner = layer._flatten_layers(include_self=True)
    return [part.generator for part in inner if hasattr(part, "generator")]

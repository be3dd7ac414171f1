"""Random changes to training pictures, made of Keras's own layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias, get_args

from ..errors import DataError, UnknownName

Augmentation: TypeAlias = Literal["none", "light", "strong"]

_RANGE = (0.0, 255.0)
_RGB_ONLY = "RandAugment and changes of saturation and hue need RGB"
_DRAWS = 64  # more seeds than any layer draws in one step


class Augmenter:
    """Random changes to a batch, the same for the same seed and step.

    Keras's layers count their draws, which would make the pictures after a resumed run others than
    those of an uninterrupted one. Here every layer's counter is set from the step number first.

    Attributes:
        layers: what is done to the pictures, in order.
        mixers: what is done to pictures and labels together: MixUp, CutMix.
        notes: what was left out, and why, one line each.
    """

    def __init__(
        self, layers: Sequence[Any], mixers: Sequence[Any], seed: int, notes: Sequence[str] = ()
    ) -> None:
        self.layers = tuple(layers)
        self.mixers = tuple(mixers)
        self.notes = tuple(notes)
        self._generators = [g for layer in (*layers, *mixers) for g in _generators(layer)]
        self._seeds = [(seed * 1_000_003 + 7919 * i) % 2**31 for i in range(len(self._generators))]

    def __call__(self, pictures: Any, labels: Any = None, *, step: Any) -> tuple[Any, Any]:
        """Change a batch.

        Args:
            pictures: float32 ``(batch, height, width, channels)`` in [0, 255].
            labels: one-hot or soft labels ``(batch, classes)``; needed only for mixing.
            step: the training step, counted over all epochs; a number or a scalar tensor.

        Returns:
            Pictures in [0, 255] and labels.

        Raises:
            DataError: if pictures are mixed and there are no one-hot labels.
        """
        import keras  # slow to import

        start: Any = keras.ops.multiply(keras.ops.cast(step, "int32"), _DRAWS)
        for seed, generator in zip(self._seeds, self._generators, strict=True):
            state = keras.ops.stack([keras.ops.cast(seed, "int32"), start])
            generator.state.assign(keras.ops.cast(state, generator.state.dtype))
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
) -> Augmenter:
    """Choose random changes.

    ``"light"`` mirrors, shifts by up to a tenth and zooms in or out by up to a tenth. ``"strong"``
    zooms in by up to a third, rotates by up to 15 degrees, changes brightness and contrast (of RGB
    also saturation and hue) and erases a part of every second picture.

    Keras's RandAugment computes eleven operations to draw one pair for a whole batch, and its
    factor means different things to them: 0.3 rotates by up to 108 degrees and solarises most
    pixels.

    Args:
        kind: how strong the changes are.
        channels: of the pictures. Without three, colour changes are left out and ``notes`` says so.
        seed: of the run.
        flip: whether left and right may be exchanged; not for text, digits or left-right classes.
        mixup: the alpha of MixUp (Zhang et al. 2018), 0 for none; 0.2 is usual.
        cutmix: the largest alpha of CutMix (Yun et al. 2019), 0 for none; 1.0 is usual.
        rand_augment: the factor of RandAugment (Cubuk et al. 2020), 0 for none.

    Returns:
        What changes the batches.

    Raises:
        UnknownName: if there is no such kind.
        DataError: if a factor is out of range.

    Example:
        >>> import numpy as np
        >>> change = augmenter("light", channels=1, seed=3)
        >>> batch = np.random.default_rng(0).uniform(0, 255, (2, 12, 9, 1)).astype("float32")
        >>> once, again = (np.asarray(change(batch, step=5)[0]) for _ in range(2))
        >>> once.shape, bool((once == again).all()), bool((once == batch).all())
        ((2, 12, 9, 1), True, False)
    """
    if kind not in get_args(Augmentation):
        raise UnknownName("augmentation", kind, get_args(Augmentation))
    for name, factor in (("mixup", mixup), ("cutmix", cutmix), ("rand_augment", rand_augment)):
        if not 0.0 <= factor <= 1.0:
            raise DataError(f"{name} {factor}; expected 0 to 1; use 0 for none")
    import keras

    made = keras.layers
    layers: list[Any] = []
    notes: list[str] = []
    if kind != "none" and flip:
        layers.append(made.RandomFlip("horizontal", seed=seed))
    if kind == "light":
        layers += [
            made.RandomTranslation(0.1, 0.1, fill_mode="reflect", seed=seed),
            made.RandomZoom((-0.1, 0.1), fill_mode="reflect", seed=seed),
        ]
    elif kind == "strong":
        layers += [
            made.RandomTranslation(0.1, 0.1, fill_mode="reflect", seed=seed),
            made.RandomZoom((-0.33, 0.1), fill_mode="reflect", seed=seed),
            made.RandomRotation(15 / 360, fill_mode="reflect", seed=seed),
            made.RandomBrightness(0.2, value_range=_RANGE, seed=seed),
            made.RandomContrast(0.3, value_range=_RANGE, seed=seed),
        ]
        if channels == 3:
            layers += [
                made.RandomSaturation((0.3, 0.7), value_range=_RANGE, seed=seed),
                made.RandomHue(0.03, value_range=_RANGE, seed=seed),
            ]
        layers.append(made.RandomErasing(0.5, scale=(0.02, 0.2), value_range=_RANGE, seed=seed))
    if rand_augment and channels == 3:
        layers.append(made.RandAugment(value_range=_RANGE, factor=rand_augment, seed=seed))
    if channels != 3 and (rand_augment or kind == "strong"):
        plural = "channel" if channels == 1 else "channels"
        notes.append(f"{_RGB_ONLY} and are left out with {channels} {plural}")
    mixers: list[Any] = []
    if mixup:
        mixers.append(made.MixUp(alpha=mixup, seed=seed))
    if cutmix:
        mixers.append(made.CutMix(factor=cutmix, seed=seed))
    return Augmenter(layers, mixers, seed, notes)


def _generators(layer: Any) -> list[Any]:
    """The seed generators of a layer and of the layers in it."""
    inner = layer._flatten_layers(include_self=True)
    return [part.generator for part in inner if hasattr(part, "generator")]

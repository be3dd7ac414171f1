"""How a training is done: every number in one printable value."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, TypeAlias, get_args

from ..data.augment import Augmentation
from ..errors import RequestError, UnknownName

ClassWeights: TypeAlias = Literal["none", "balanced", "sqrt"]
BatchNorm: TypeAlias = Literal["inference", "train"]
Precision: TypeAlias = Literal["auto", "float32", "bfloat16"]


@dataclass(frozen=True, slots=True)
class Recipe:
    """The choices of a training.

    The head is trained first, on features of the frozen backbone; then the backbone is unfrozen
    from a stage on, and what stays frozen runs once per view and never again.

    Attributes:
        unfreeze: which part of the backbone the second phase trains: ``"none"``, ``"last"`` (the
            layers at the last map's resolution), a number of such stages from the last, a layer's
            name, or ``"all"``.
        epochs: the most that the second phase takes, 0 or more.
        head_epochs: the most that a head takes which is not linear, 1 or more.
        patience: epochs without a better validation score after which a phase stops.
        batch_size: pictures per step.
        learning_rate: of the head in the second phase, at its peak.
        layer_decay: the rate of the first unfrozen layer relative to the head's, in (0, 1]; the
            layers between follow geometrically.
        warmup_epochs: over which the rate rises from 0; afterwards it falls as a half cosine to 0.
        weight_decay: of kernels (Loshchilov and Hutter, arXiv 1711.05101).
        label_smoothing: share of the label spread over all classes, in [0, 1).
        class_weights: ``"balanced"`` weighs each class as much as any other, ``"none"`` each
            picture as any other, ``"sqrt"`` in between.
        augment: random changes to pictures: ``"none"``, ``"light"`` or ``"strong"``.
        views: versions of each picture that are run through the frozen part: the plain one, its
            mirror image, then random ones. Used where part of the backbone stays frozen. ``None``
            is 2, and 3 with ``augment="strong"``, which changes nothing but random ones.
        flip: whether left and right may be exchanged.
        mixup: alpha with which features (or pictures) and labels are mixed, 0 for not at all (Zhang
            et al., arXiv 1710.09412; Verma et al., arXiv 1806.05236, for features).
        cutmix: largest alpha with which parts of pictures are exchanged, 0 for none (Yun et al.,
            arXiv 1905.04899). It and ``rand_augment`` need new pictures in every epoch, so that the
            frozen part runs again for each.
        rand_augment: factor of Keras's RandAugment, 0 for none (Cubuk et al., arXiv 1909.13719);
            RGB pictures only.
        ema: momentum of a moving average of the weights that is evaluated and kept instead of them,
            0 for none.
        batch_norm: ``"inference"`` keeps the pretrained statistics.
        precision: in which steps are computed; ``"auto"`` is ``"bfloat16"`` on GPUs that have it in
            hardware (compute capability 8), else ``"float32"``. Weights are float32.
        validation: share of the pictures held out to choose the best epoch, where the source has no
            validation split.
        distil: train the same backbone at its native shape first, and then the second phase once
            more with its soft labels beside the hard ones (Hinton et al., arXiv 1503.02531), both
            seeing the same crops; the better of the two students is kept.
        distil_share: of the soft labels in the loss, in (0, 1].
        distil_temperature: by which both networks' logits are divided for the soft labels, 1 or
            more; their part of the loss is multiplied by its square.
        recalibrate: measure the statistics of batch norm anew on the training pictures afterwards,
            and keep them if the validation split is answered better.
        fixres: tune the last batch norm and the classifier on pictures without augmentation
            afterwards (Touvron et al., arXiv 1906.06423), and keep that likewise.

    Raises:
        RequestError: if a value is of another type than its field, or a number out of range.
        UnknownName: if a word is none of the choices.

    Example:
        >>> Recipe(epochs=3).of({"views": 4}).views
        4
    """

    unfreeze: str | int = "last"
    epochs: int = 8
    head_epochs: int = 40
    patience: int = 4
    batch_size: int = 32
    learning_rate: float = 1e-3
    layer_decay: float = 0.1
    warmup_epochs: float = 1.0
    weight_decay: float = 0.01
    label_smoothing: float = 0.1
    class_weights: ClassWeights = "none"
    augment: Augmentation = "light"
    views: int | None = None
    flip: bool = True
    mixup: float = 0.2
    cutmix: float = 0.0
    rand_augment: float = 0.0
    ema: float = 0.0
    batch_norm: BatchNorm = "inference"
    precision: Precision = "auto"
    validation: float = 0.1
    distil: bool = False
    distil_share: float = 0.7
    distil_temperature: float = 2.0
    recalibrate: bool = False
    fixres: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be carried out."""
        for kind, choices in (
            ("class_weights", get_args(ClassWeights)),
            ("augment", get_args(Augmentation)),
            ("batch_norm", get_args(BatchNorm)),
            ("precision", get_args(Precision)),
        ):
            if getattr(self, kind) not in choices:
                raise UnknownName(kind, getattr(self, kind), choices)
        for field in fields(self):
            is_one, expected = _TYPES.get(str(field.type), (_is_any, ""))
            if not is_one(getattr(self, field.name)):
                shown = repr(getattr(self, field.name))
                raise RequestError(f"{field.name}={shown}; expected {expected}")
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if isinstance(value, int | float) and not low <= value <= high:
                shown = f"{low} or more" if math.isinf(high) else f"{low} to {high}"
                raise RequestError(f"{name}={value}; expected {shown}")

    @property
    def view_count(self) -> int:
        """How many views there are where none are asked for by number."""
        if self.views is not None:
            return self.views
        return 3 if self.augment == "strong" else 2

    def of(self, changes: Mapping[str, Any]) -> Recipe:
        """The recipe with some choices changed.

        Args:
            changes: values by name.

        Raises:
            UnknownName: if there is no such choice.
        """
        names = [f.name for f in fields(self)]
        for name in changes:
            if name not in names:
                raise UnknownName("training option", name, names)
        return Recipe(**{**asdict(self), **changes})

    def as_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold; ``Recipe(**values)`` reads them back."""
        return asdict(self)

    def rate(self, step: int, steps_per_epoch: int, epochs: int) -> float:
        """The learning rate of a step.

        Args:
            step: counted over all epochs, from 0.
            steps_per_epoch: steps in an epoch.
            epochs: planned.

        Returns:
            The rate; `learning_rate` at its peak.

        Example:
            >>> recipe = Recipe(learning_rate=1.0, warmup_epochs=1)
            >>> [round(recipe.rate(s, 10, 5), 3) for s in (0, 9, 10, 30, 49)]
            [0.1, 1.0, 1.0, 0.5, 0.002]
        """
        total = steps_per_epoch * epochs
        warm = min(round(self.warmup_epochs * steps_per_epoch), total // 2)
        if step < warm:
            return self.learning_rate * (step + 1) / warm
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warm) / (total - warm)))


def _is_any(value: object) -> bool:
    return True


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return _is_whole(value) or (isinstance(value, float) and math.isfinite(value))


_TYPES: dict[str, tuple[Callable[[object], bool], str]] = {
    "bool": (lambda value: isinstance(value, bool), "true or false"),
    "int": (_is_whole, "a whole number"),
    "int | None": (lambda value: value is None or _is_whole(value), "a whole number"),
    "float": (_is_number, "a number"),
    "str | int": (lambda value: isinstance(value, str) or _is_whole(value), "a word or a number"),
}
"""By the annotation of a field: what is one of it, and its name."""
_ANY = float("inf")
_RANGES: dict[str, tuple[float, float]] = {
    "unfreeze": (0, _ANY),
    "epochs": (0, _ANY),
    "head_epochs": (1, _ANY),
    "patience": (1, _ANY),
    "batch_size": (1, _ANY),
    "learning_rate": (0, _ANY),
    "layer_decay": (1e-6, 1),
    "warmup_epochs": (0, _ANY),
    "weight_decay": (0, _ANY),
    "label_smoothing": (0, 0.99),
    "views": (1, _ANY),
    "mixup": (0, 1),
    "cutmix": (0, 1),
    "rand_augment": (0, 1),
    "ema": (0, 0.99999),
    "validation": (0.001, 0.9),
    "distil_share": (1e-3, 1),
    "distil_temperature": (1, 100),
}

"""How a training is done: every number in one printable value."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias

from ..data.augment import Augmentation
from ..requests import Flag, Range, Request, Written, read_word_or_number
from ..text import Unread

ClassWeights: TypeAlias = Literal["none", "balanced", "sqrt"]
BatchNorm: TypeAlias = Literal["inference", "train"]
Precision: TypeAlias = Literal["auto", "float32", "bfloat16"]

_BATCH_SIZES = 32, 16, 8
_STEPS_OF_EPOCH = 20
_STEPS = 320
_EPOCHS = 4, 8


def read_fold(value: Any) -> str:
    """Read which fold of how many is held out; empty for none.

    Example:
        >>> read_fold("2/5")
        '2/5'
    """
    if value == "":
        return value
    match = re.fullmatch(r"([0-9]{1,3})/([0-9]{1,3})", str(value))
    number, count = map(int, match.groups()) if match else (0, 0)
    if not 1 <= number <= count or count < 2:
        raise Unread(value, "the number of a fold and how many there are, such as 2/5")
    return f"{number}/{count}"


@dataclass(frozen=True, slots=True)
class Recipe(Request):
    """How to train.

    The head is trained first, on features of the frozen backbone; then the backbone is unfrozen
    from a stage on, and what stays frozen runs once per view and never again.

    Raises:
        RequestError: if a value is of another type than its field, or a number out of range.
        UnknownName: if a word is none of the choices.

    Example:
        >>> Recipe(epochs=3).but(views=4).views
        4
    """

    unfreeze: Annotated[str | int, Written(read_word_or_number, str, "PART"), Range(0)] = "last"
    """What is trained besides the head: none, last (the last stage: the layers at the last map's
    resolution), a number of such stages from the last, the name of the first layer, or all."""
    epochs: Annotated[int, Range(0)] | None = None
    """At most, with the backbone unfrozen; by default 4, and up to 8 where pictures are so few that
    these would be fewer than 320 steps."""
    head_epochs: Annotated[int, Range(1)] = 40
    """At most, for a head that is not linear."""
    patience: Annotated[int, Range(1)] = 4
    """Epochs after which a phase stops if none of them has a better validation score."""
    optimizer: Annotated[str, Written(str, str, "NAME")] = "adamw"
    """Any of Keras's by its name, such as sgd, lion or muon; rates differ by depth with each."""
    batch_size: Annotated[int, Range(1)] | None = None
    """Pictures per step; by default 32, and 16 or 8 where an epoch would have fewer than 20
    steps."""
    learning_rate: Annotated[float, Range(0), Flag("learning-rate", "lr")] = 1e-3
    """Of the head in the second phase, at its peak."""
    layer_decay: Annotated[float, Range(1e-6, 1)] = 0.3
    """The rate of a stage's first layer relative to that of the stage behind it, or the head; the
    layers between follow geometrically."""
    warmup_epochs: Annotated[float, Range(0)] = 1.0
    """Over which the rate rises from 0; afterwards it falls as a half cosine to 0."""
    weight_decay: Annotated[float, Range(0)] = 0.01
    """Of kernels (Loshchilov and Hutter, arXiv 1711.05101)."""
    label_smoothing: Annotated[float, Range(0, 0.99)] = 0.05
    """Share of the label spread over all classes; not of masks and boxes."""
    class_weights: ClassWeights = "none"
    """balanced weighs each class as much as any other, none each picture, sqrt in between."""
    augment: Augmentation = "light"
    """Random changes to pictures."""
    views: Annotated[int, Range(1)] | None = None
    """Versions of each picture that run through the frozen part: plain, mirrored, random ones; by
    default 2, and 3 with strong changes."""
    flip: bool = True
    """Whether left and right may be exchanged."""
    mixup: Annotated[float, Range(0, 1)] = 0.0
    """Alpha with which features (or pictures) and labels are mixed, 0 for not at all (arXiv
    1710.09412; 1806.05236 for features); masks and boxes are not mixed."""
    cutmix: Annotated[float, Range(0, 1)] = 0.0
    """Largest alpha with which parts of pictures are exchanged (arXiv 1905.04899). It and
    rand_augment need new pictures in every epoch, so that the frozen part runs again for each."""
    rand_augment: Annotated[float, Range(0, 1)] = 0.0
    """Factor of Keras's RandAugment (arXiv 1909.13719), 0 for none; RGB pictures only."""
    ema: Annotated[float, Range(0, 0.99999)] = 0.0
    """Momentum of a moving average of the weights that is kept instead of them, 0 for none."""
    batch_norm: BatchNorm = "inference"
    """inference keeps the pretrained statistics."""
    reopen_bn: bool = False
    """Put batch norm back behind the convolutions of a file in which it was folded, as in .tflite
    files; its statistics are measured on the pictures, and the answers stay the same."""
    precision: Precision = "auto"
    """In which steps are computed; auto is bfloat16 on GPUs that have it in hardware."""
    validation: Annotated[float, Range(0.001, 0.9)] = 0.1
    """Share held out to choose the best epoch, where there is no validation split."""
    folds: Annotated[int, Range(2, 100)] | None = None
    """Train so many times more before, each time with another part of the pictures held out
    (k-fold cross-validation), which gives the mean and the spread of the score."""
    fold: Annotated[str, Written(read_fold, str, "I/K")] = ""
    """Hold out this part of the pictures, such as 2/5, the second of five: one of those trainings,
    which may so run on as many machines."""
    distil: bool = False
    """Let the same network at its native shape, on larger pictures, teach this one (arXiv
    1503.02531); the better of the two students is kept."""
    distil_share: Annotated[float, Range(1e-3, 1)] = 0.7
    """Share of the teacher's soft labels in the loss."""
    distil_temperature: Annotated[float, Range(1, 100)] = 2.0
    """By which both networks' logits are divided for the soft labels."""
    distil_maps: Annotated[float, Range(0, 100)] = 1.0
    """Weight in the loss of how unlike the teacher's last map is: 1 minus the cosine of the
    channels at each place (the idea is that of FitNets, arXiv 1412.6550); 0 for labels alone."""
    recalibrate: bool = False
    """Measure batch norm's statistics anew at the end; kept if validation is better."""
    fixres: bool = False
    """Tune the last batch norm and the head without augmentation at the end (arXiv 1906.06423);
    kept if validation is better."""

    def batch_size_for(self, pictures: int) -> int:
        """How many of so many pictures there are in a step, where no number is asked for.

        Example:
            >>> [Recipe().batch_size_for(pictures) for pictures in (3000, 400, 100)]
            [32, 16, 8]
        """
        if self.batch_size is not None:
            return self.batch_size
        enough = (size for size in _BATCH_SIZES if pictures >= _STEPS_OF_EPOCH * size)
        return next(enough, _BATCH_SIZES[-1])

    def epochs_for(self, pictures: int) -> int:
        """At most so many with the backbone unfrozen, where no number is asked for.

        Example:
            >>> [Recipe().epochs_for(pictures) for pictures in (3000, 2000, 400)]
            [4, 6, 8]
        """
        if self.epochs is not None:
            return self.epochs
        fewest, most = _EPOCHS
        steps = max(1, pictures // self.batch_size_for(pictures))
        return min(most, max(fewest, math.ceil(_STEPS / steps)))

    @property
    def view_count(self) -> int:
        """How many views there are where none are asked for by number."""
        if self.views is not None:
            return self.views
        return 3 if self.augment == "strong" else 2

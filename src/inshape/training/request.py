"""A training as it was asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from ..backbones import DEFAULT, fitting
from ..data.masks import MaskOptions
from ..data.prepare import PictureOptions, Preparation
from ..data.sources import Source, SourceField
from ..heads import FROM_LABELS, Head
from ..importing.options import FileOptions
from ..keras_words import KerasWords
from ..limits import Limits, MemoryLimit
from ..planning import BackboneOption, PlanRequest
from ..requests import (
    Flag,
    Folder,
    Positional,
    Range,
    Request,
    Weights,
    Without,
    Written,
    read_location,
    restore,
)
from ..runs import Run, write_run
from ..runtime.cluster import RayField
from ..shapes import InputShape
from ..strategies.decide import StrategyOptions
from ..tasks.find import TaskName
from .recipe import Recipe

AUTO = "auto"
"""The shape that is chosen by a comparison."""
NATIVE = "native.keras"
"""The network that a teacher and folds are made of, among the checkpoints, where it is no file of
its own."""


def read_shape(value: Any) -> InputShape | Literal["auto"]:
    """Read an input shape, or the word that lets the pictures choose it."""
    return AUTO if value == AUTO else InputShape.of(value)


@dataclass(frozen=True, slots=True)
class TrainRequest(KerasWords):
    """Fine-tune a network on your pictures."""

    source: Annotated[SourceField, Positional()]
    """The pictures: a folder per class, folders train/ and val/, a .csv or .parquet table or .npz,
    images/ beside masks/, or pictures with boxes of VOC, COCO or YOLO; in Python also (pictures,
    labels) or a tf.data.Dataset."""
    shape: Annotated[InputShape | Literal["auto"], Written(read_shape, str, "HxWxC"), Flag("input")]
    """Input shape: height, width, channels; ? is any size; auto lets the pictures and the limits
    choose."""
    out: Folder
    """The run folder to make."""
    backbone: BackboneOption = DEFAULT
    """A name of keras.applications, a model file (.keras, .h5, .tflite, .onnx) or, in
    Python, a keras.Model."""
    weights: Weights = "imagenet"
    """imagenet, a file (.weights.h5, .h5, .keras; torchvision's or timm's MobileNetV3 as
    .safetensors or .pth), hf://OWNER/NAME, kaggle://PRESET, none, or demo: the small checkpoint
    that comes with inshape, of MobileNetV3Small-minimalistic."""
    task: TaskName = "auto"
    """classification, multi-label, regression, segmentation or detection; auto goes by the labels:
    tags have | between them in a table, numbers with a fraction are no classes, images/ beside
    masks/ is a class for each pixel, and files of boxes (VOC, COCO, YOLO) are boxes."""
    seed: Annotated[int, Range(0, 2**31 - 1)] = 0
    """Fixes the split, the order of pictures and new weights."""
    unlabelled: SourceField = None
    """More pictures, whose labels are not read: the answers of a teacher (the same network at its
    native shape, in colour if it can be; see distil) are learned instead."""
    baseline: bool = True
    """Probe what plain Keras makes of the network at this shape (its constructor's input_shape=) on
    the same pictures, so that the report says what was gained."""
    mlflow: Annotated[str, Written(str, str, "URI")] | None = None
    """Keep the run in this MLflow server or store too."""
    ray: RayField = None
    """Run the frozen layers on the workers of a Ray cluster: local, auto or host:port."""
    recipe: Recipe = field(default_factory=Recipe)
    """How to train."""
    head: Annotated[Head, FROM_LABELS] = field(default_factory=Head)
    """What stands behind the last map."""
    pictures: PictureOptions = field(default_factory=PictureOptions)
    """How pictures are brought to the input."""
    masks: MaskOptions = field(default_factory=MaskOptions)
    """How masks are read, where there are some."""
    file: FileOptions = field(default_factory=FileOptions)
    """How a model file, or a network of your own, is read."""
    options: StrategyOptions = field(default_factory=StrategyOptions)
    """How the input shape is changed."""
    limits: Annotated[Limits, Without(("min_accuracy",))] = field(default_factory=Limits)
    """What the device allows. A comparison at the input shape, or at the usual ones where it is
    auto, finds what keeps to it; max_ram alone is met at the input shape by patches."""

    def __post_init__(self) -> None:
        """Take the checkpoint's own backbone where none is named."""
        Request.__post_init__(self)
        object.__setattr__(self, "backbone", fitting(self.backbone, self.weights))

    @property
    def sayable(self) -> TrainRequest:
        """The same training as a command can say it.

        The shape and strategy keep to the limits but that on RAM, and classes are those of the
        pictures.
        """
        return self.but(head=self.head.but(classes=None), limits=self._memory_limit)

    @property
    def _memory_limit(self) -> Limits:
        """The limit that a named shape can be held to, by patches."""
        return Limits(max_ram=self.limits.max_ram)

    @property
    def plan(self) -> PlanRequest:
        """What is planned."""
        assert isinstance(self.shape, InputShape)
        return PlanRequest(
            backbone=self.backbone,
            input_shape=self.shape,
            head=self.head,
            file=self.file,
            options=self.options,
            limits=MemoryLimit(self.limits.max_ram),
        )

    @property
    def preparation(self) -> Preparation:
        """How pictures are brought to the input."""
        assert isinstance(self.shape, InputShape)
        return self.pictures.at(self.shape)

    def of_fold(self, number: int, out: Path) -> TrainRequest:
        """The training of cross-validation that holds out a part, numbered from 1."""
        fold = f"{number}/{self.recipe.folds}"
        return self.but(
            out=out, folds=None, fold=fold, baseline=False, mlflow=None, limits=self._memory_limit
        )

    def of_teacher(self, native: InputShape, out: Path) -> TrainRequest:
        """The training of the same network at its own height and width.

        A grey student of an RGB network has an RGB teacher, which sees what the student cannot;
        any other has a teacher of its own channels, which the pictures are known to have.
        """
        assert isinstance(self.shape, InputShape)
        is_grey = (self.shape.channels, native.channels) == (1, 3)
        in_colour = is_grey and self.pictures.colour is None
        return self.but(
            shape=native if in_colour else InputShape(*native.hw, self.shape.channels),
            options=StrategyOptions(
                strategy="rebuild", channels="auto" if in_colour else self.options.channels
            ),
            out=out,
            unlabelled=None,
            folds=None,
            distil=False,
            recalibrate=False,
            fixres=False,
            baseline=False,
            mlflow=None,
            limits=Limits(),
        )


@dataclass(frozen=True, slots=True)
class ResumeRequest(Request):
    """Go on with a training that was interrupted or killed."""

    run: Annotated[Any, Written(read_location, write_run, "RUN", check=Run.open), Flag("resume")]
    """The run folder."""
    source: Annotated[SourceField, Positional()] = None
    """The pictures, if they have moved or were no files."""
    unlabelled: SourceField = None
    """Those without labels, likewise."""
    prolong: Annotated[int, Range(0)] = 0
    """So many epochs more of the second phase, for a run that is complete; the better of the
    networks before and after is kept."""
    ray: RayField = None
    """Run the frozen layers on the workers of a Ray cluster: local, auto or host:port."""


def request_of(run: Run, source: Source = None, unlabelled: Source = None) -> TrainRequest:
    """What a run was asked for, from its record; the pictures where they are given anew."""
    values: dict[str, Any] = {"out": run.folder}
    if source is not None:
        values["source"] = source
    if unlabelled is not None:
        values["unlabelled"] = unlabelled
    if (run.checkpoints / NATIVE).exists():
        values |= {"backbone": run.checkpoints / NATIVE, "file": FileOptions()}
    with run.reading():
        return restore(TrainRequest, run.record["request"], **values)

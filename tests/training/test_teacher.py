"""A teacher's channels, and that it sees its student's crops."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from inshape.choosing import train
from inshape.data.augment import augmenter
from inshape.data.batches import Batches
from inshape.data.prepare import Preparation
from inshape.data.sources import open_source
from inshape.features.views import change_for
from inshape.progress import Progress
from inshape.runs import Run
from inshape.shapes import InputShape
from inshape.training.recipe import Recipe
from inshape.training.request import Request
from inshape.training.teacher import Teacher

layers = keras.layers


def backbone():
    """A small network whose own shape is 32x24x1."""
    keras.utils.set_random_seed(3)
    image = keras.Input((32, 24, 1))
    x = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu", name="stem")(image)
    x = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu", name="last")(x)
    return keras.Model(image, layers.Dense(7)(layers.GlobalAveragePooling2D()(x)), name="small")


@pytest.mark.parametrize(
    ("shape", "native", "preparation", "expected"),
    [
        ("96x64x1", "224x224x3", {}, ("224x224x3", "auto")),
        ("96x64x3", "224x224x3", {}, ("224x224x3", "zero")),
        ("96x64x4", "224x224x3", {}, ("224x224x4", "zero")),
        ("96x64x3", "32x24x1", {}, ("32x24x3", "zero")),
        ("96x64x1", "224x224x3", {"colour": "bands"}, ("224x224x1", "zero")),
    ],
)
def test_a_teacher_has_channels_that_the_pictures_have(shape, native, preparation, expected):
    asked = Request(
        None, InputShape.of(shape), "MobileNetV3Small", None, channels="zero",
        preparation=preparation,
    ).of_teacher(InputShape.of(native))  # fmt: skip
    assert (str(asked.shape), asked.channels) == expected


def test_other_channels_can_be_taught(tmp_path):
    """Two bands: the teacher is made of them too, and the run ends complete."""
    pixels = np.random.default_rng(0).integers(0, 255, (24, 64, 48, 2), np.uint8)
    pixels[::2, :, ::8] = 255
    run = train(
        (pixels, [0, 1] * 12), "16x12x2", out=tmp_path / "a", backbone=backbone(), weights=None,
        strategy="rebuild", channels="tile", distil=True, epochs=1, batch_size=8, validation=0.25,
    )  # fmt: skip
    assert run.status == "complete"
    assert str(Run.open(run.folder / "teacher").preparation.shape) == "32x24x2"


def test_a_teacher_in_colour_makes_its_grey_students_changes(tmp_path):
    """Another layer among them would give the erased box another seed."""
    rng = np.random.default_rng(0)
    catalogue = open_source((rng.integers(0, 255, (8, 16, 12, 3), np.uint8), [0, 1] * 4))
    catalogue.splits[:] = "train"
    image = keras.Input((16, 12, 3))
    boxes = layers.Flatten(name="head_logits")(layers.AveragePooling2D(4)(image))
    model = keras.Model(image, layers.Activation("softmax")(boxes))
    preparation = Preparation.of("16x12x3")
    run = Run.create(tmp_path / "run", {"preparation": preparation.as_dict()})
    run.save_model(model)
    student = Batches.open(catalogue, Preparation.of("16x12x1"))
    recipe = Recipe(augment="strong", flip=False, batch_size=8)
    teacher = Teacher(run, student, recipe, seed=5, show=Progress(None))
    colour = Batches.open(catalogue, preparation)
    small = keras.Model(image, boxes)
    pictures, _ = next(colour.iterate("train", 8, shuffle=True, seed=5, epoch=1))
    change = augmenter("strong", channels=1, seed=5, flip=False)
    expected = small(change(pictures.astype("float32"), step=1)[0])
    (got,) = teacher.of_epoch(1, 0)
    np.testing.assert_allclose(got, teacher.teaching.soft(np.array(expected)), atol=1e-3)
    change = change_for(2, "strong", channels=1, seed=5, flip=False)
    pictures, _ = next(colour.iterate("train", 1000))
    expected = small(change(pictures, 0))
    (got,) = teacher.of_views([2], tmp_path)
    np.testing.assert_allclose(got, teacher.teaching.soft(np.array(expected)), atol=1e-3)

"""TensorFlow Lite Metadata, read by the numbers of its schema and by the runtimes that use it."""

from __future__ import annotations

import importlib.util

import flatbuffers
import keras
import numpy as np
import pytest
from flatbuffers.table import Table

from inshape.runtime.litert import LiteRTModel
from inshape.runtime.litert_files import to_litert
from inshape.runtime.metadata import Description, add_metadata, compose_metadata

layers = keras.layers


def describe(**changes):
    return Description(
        **{
            "name": "small",
            "version": "1.2",
            "colour": "rgb",
            "size_hw": (24, 20),
            "labels_file": "labels.txt",
            "output": "probabilities",
            "says": "How probable each class is.",
            **changes,
        }
    )


class Read:
    """A table of a FlatBuffer, whose fields are asked for by number and type."""

    def __init__(self, content, position):
        self.table = Table(content, position)

    @classmethod
    def root(cls, content):
        return cls(content, int.from_bytes(content[:4], "little"))

    def number(self, field, flags):
        at = self.table.Offset(4 + 2 * field)
        return self.table.Get(flags, at + self.table.Pos) if at else None

    def text(self, field):
        at = self.table.Offset(4 + 2 * field)
        return self.table.String(at + self.table.Pos).decode() if at else None

    def inner(self, field):
        at = self.table.Offset(4 + 2 * field)
        return Read(self.table.Bytes, self.table.Indirect(at + self.table.Pos)) if at else None

    def many(self, field):
        at = self.table.Offset(4 + 2 * field)
        if not at:
            return []
        start, count = self.table.Vector(at), self.table.VectorLen(at)
        return [Read(self.table.Bytes, self.table.Indirect(start + 4 * i)) for i in range(count)]

    def floats(self, field):
        flags = flatbuffers.number_types.Float32Flags
        return self.table.GetVectorAsNumpy(flags, self.table.Offset(4 + 2 * field)).tolist()


BYTE = flatbuffers.number_types.Int8Flags
UBYTE = flatbuffers.number_types.Uint8Flags
UINT = flatbuffers.number_types.Uint32Flags


@pytest.mark.parametrize(
    ("colour", "size_hw", "number"),
    [("rgb", (24, 20), 1), ("grey", (97, 64), 2), ("bands", (9, 7), None), ("rgb", (None, 20), 1)],
)
def test_the_picture_is_described(colour, size_hw, number):
    content = compose_metadata(describe(colour=colour, size_hw=size_hw))
    assert content[4:8] == b"M001"
    model = Read.root(content)
    assert (model.text(0), model.text(2), model.text(7)) == ("small", "1.2", "1.0.0")
    (graph,) = model.many(3)
    (picture,) = graph.many(2)
    assert picture.text(0) == "image"
    assert picture.inner(3).number(0, UBYTE) == 2  # ImageProperties
    image = picture.inner(3).inner(1)
    assert image.number(0, BYTE) == number  # RGB = 1, GRAYSCALE = 2
    size = image.inner(1)
    if None in size_hw:
        assert size is None
    else:
        assert (size.number(1, UINT), size.number(0, UINT)) == size_hw
    (unit,) = picture.many(4)
    assert unit.number(0, UBYTE) == 1  # NormalizationOptions
    assert (unit.inner(1).floats(0), unit.inner(1).floats(1)) == ([0.0], [1.0])
    assert (picture.inner(5).floats(0), picture.inner(5).floats(1)) == ([255.0], [0.0])


@pytest.mark.parametrize("output", ["probabilities", "logits"])
def test_the_score_and_its_labels_are_described(output):
    is_probability = output == "probabilities"
    content = compose_metadata(describe(output=output))
    ((score,),) = [graph.many(3) for graph in Read.root(content).many(3)]
    assert score.text(0) == ("probability" if is_probability else "logit")
    assert score.inner(3).number(0, UBYTE) == 1  # FeatureProperties
    (file,) = score.many(6)
    assert (file.text(0), file.number(2, BYTE)) == ("labels.txt", 2)  # TENSOR_AXIS_LABELS
    stats = score.inner(5)
    assert (stats is not None) == is_probability
    if is_probability:
        assert (stats.floats(0), stats.floats(1)) == ([1.0], [0.0])


def test_another_reader_of_the_schema_finds_the_same():
    if importlib.util.find_spec("mediapipe") is None:
        pytest.skip("mediapipe is not installed; it has the code that the schema generates")
    schema = pytest.importorskip("mediapipe.tasks.metadata.metadata_schema_py_generated")
    model = schema.ModelMetadataT.InitFromObj(
        schema.ModelMetadata.GetRootAs(bytearray(compose_metadata(describe())), 0)
    )
    (picture,) = model.subgraphMetadata[0].inputTensorMetadata
    image = picture.content.contentProperties
    assert type(image).__name__ == "ImagePropertiesT"
    assert (image.defaultSize.height, image.defaultSize.width) == (24, 20)
    assert list(picture.processUnits[0].options.std) == [1.0]
    (score,) = model.subgraphMetadata[0].outputTensorMetadata
    assert score.associatedFiles[0].name == b"labels.txt"


@pytest.mark.parametrize("shape", [(9, 7, 1), (8, 8, 3)])
def test_the_network_stays_as_it_is(shape, rng):
    keras.utils.set_random_seed(1)
    image = keras.Input(shape)
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(5, 3)(image))
    plain = to_litert(keras.Model(image, layers.Dense(3, activation="softmax")(x)))
    described = add_metadata(plain, describe(size_hw=shape[:2]))
    one, other = LiteRTModel(plain), LiteRTModel(described)
    pictures = rng.uniform(0, 255, (1, *shape)).astype(np.float32)
    np.testing.assert_array_equal(one(pictures), other(pictures))
    assert [o.name for o in one.operators] == [o.name for o in other.operators]
    for key in ("name", "shape_signature", "dtype"):
        np.testing.assert_array_equal(one.input[key], other.input[key])

    from ai_edge_litert.schema_py_generated import Model

    model = Model.GetRootAs(described, 0)
    names = [model.Metadata(i).Name() for i in range(model.MetadataLength())]
    assert names.count(b"TFLITE_METADATA") == 1
    entry = model.Metadata(names.index(b"TFLITE_METADATA"))
    kept = model.Buffers(entry.Buffer()).DataAsNumpy().tobytes()
    assert kept == compose_metadata(describe(size_hw=shape[:2]))
    # LiteRT's schema wants weights on multiples of sixteen bytes.
    for i in range(model.BuffersLength()):
        buffer = model.Buffers(i)
        if buffer.DataLength():
            assert buffer._tab.Vector(buffer._tab.Offset(4)) % 16 == 0

"""Exported files against the Keras model, through their own runtimes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from inshape.data.batches import Batches
from inshape.data.sources import open_source
from inshape.errors import DataError, GraphError, OutputExists, RequestError, UnknownName
from inshape.export import formats
from inshape.export.convert import convert
from inshape.export.formats import FORMATS
from inshape.export.front import export
from inshape.export.parity import answers
from inshape.export.runtimes import kind_of, load
from inshape.export.sidecar import card_in
from inshape.predict import predict
from inshape.runs import Run
from inshape.train import train

layers = keras.layers
FLOAT = ("litert", "litert-float16", "litert-dynamic", "onnx", "openvino", "savedmodel", "keras")
ALL = [*FLOAT, "litert-int8"]


def backbone(shape=(24, 20, 3)):
    keras.utils.set_random_seed(3)
    image = keras.Input(shape)
    x = layers.Rescaling(1 / 127.5, offset=-1)(image)
    x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False, name="stem")(x)
    x = layers.Activation("hard_silu")(layers.BatchNormalization()(x))
    x = layers.DepthwiseConv2D(3, strides=2, padding="same")(x)
    x = layers.Conv2D(16, 1, activation="relu", name="last")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(image, layers.Dense(7, name="classifier")(x), name="small")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:51, :43]
    for name, way in (("lie", rows), ("stand", columns), ("lean", rows + columns)):
        (folder / name).mkdir()
        for i in range(20):
            level = 128 + 60 * np.sin(way * 0.6 + rng.uniform(0, 6))
            noisy = level[..., None] + rng.normal(0, 20, (51, 43, 3))
            pixels = np.clip(noisy, 0, 255).astype(np.uint8)
            suffix = "jpg" if i % 2 else "png"
            Image.fromarray(pixels).save(folder / name / f"{i:02}.{suffix}")
    return folder


def trained(photos, out, shape, **choices):
    return train(
        photos, shape, out=out, backbone=backbone((24, 20, 3)), weights=None,
        strategy="rebuild", epochs=1, validation=0.3, batch_size=8, **choices,
    )  # fmt: skip


@pytest.fixture(scope="module")
def run(photos, tmp_path_factory):
    return trained(photos, tmp_path_factory.mktemp("runs") / "a", "17x13x3")


@pytest.fixture(scope="module")
def exports(run):
    pytest.importorskip("tf2onnx")
    pytest.importorskip("openvino")
    return {f.format: f for f in export(run, ALL, timing=False, io="uint8", calibration=30).files}


@pytest.mark.parametrize("name", FLOAT)
def test_a_float_file_agrees_with_the_model(name, exports):
    made = exports[name]
    assert made.pictures == 18
    if name in ("litert-float16", "litert-dynamic"):
        assert made.max_difference < 0.05
    else:
        assert made.agreement == 1.0
        assert made.max_difference < 1e-4
        assert made.accuracy_change.as_dict() == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert made.size_bytes > 1000


def test_an_int8_file_takes_bytes_and_says_how_far_it_is_off(exports, run):
    from ai_edge_litert.interpreter import Interpreter

    made = exports["litert-int8"]
    assert 0 < made.max_difference < 0.2
    reader = Interpreter(model_path=made.path)
    for side in (reader.get_input_details(), reader.get_output_details()):
        assert side[0]["dtype"] == np.uint8
    assert made.arena_bytes >= 9 * 7 * 8
    header = (run.exports / "model-int8.h").read_text()
    assert f"tensor_bytes = {made.arena_bytes}" in header
    array = bytes(int(b, 16) for b in re.findall(r"0x[0-9a-f]{2}", header))
    assert array == Path(made.path).read_bytes()


def test_the_card_travels_inside_and_beside(exports, run):
    for name in ("litert", "litert-int8"):
        with zipfile.ZipFile(exports[name].path) as archive:
            assert archive.read("labels.txt").decode().split() == list(run.labels)
            card = json.loads(archive.read("inshape.json"))
        assert card["input"]["dtype"] == ("uint8" if name == "litert-int8" else "float32")
    import onnx

    inside = {p.key: p.value for p in onnx.load(exports["onnx"].path).metadata_props}
    assert json.loads(inside["inshape"])["labels"] == list(run.labels)
    beside = json.loads((run.exports / "model.onnx.json").read_text())
    assert beside["preparation"] == run.preparation.as_dict()


@pytest.mark.parametrize("name", ["litert", "litert-int8", "onnx", "openvino", "savedmodel"])
def test_predict_takes_a_file_like_a_run(name, exports, run, photos):
    own = predict(run, photos / "lean")
    by_file = predict(exports[name].path, photos / "lean")
    assert [p.picture for p in own] == [p.picture for p in by_file]
    agree = np.mean([a.label == b.label for a, b in zip(own, by_file, strict=True)])
    assert agree == 1.0 if name != "litert-int8" else agree > 0.8
    assert kind_of(Path(exports[name].path)) == name.split("-")[0]


@pytest.mark.parametrize("name", ["litert", "litert-int8", "onnx", "openvino"])
def test_the_example_answers_as_predict_does(name, exports, photos):
    for number in ("02.png", "03.jpg"):
        picture = photos / "stand" / number
        done = subprocess.run(
            [sys.executable, f"{exports[name].path}.py", str(picture)],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        (expected,) = predict(exports[name].path, [picture])
        assert done.stdout.split() == [expected.label]


def test_an_example_prepares_pictures_as_training_did(exports, run, photos, tmp_path):
    """Its own lines, up to the model, give the pixels that the model was trained on."""
    text = Path(f"{exports['onnx'].path}.py").read_text()
    lines = text[: text.index("model = ")]
    batches = Batches.open(open_source(photos), run.preparation)
    for i in (0, 1, 25):
        name = str(photos / batches.catalogue.names[i])
        space = {"__file__": exports["onnx"].path}
        before, sys.argv = sys.argv, ["example", name]
        try:
            exec(lines, space)
        finally:
            sys.argv = before
        expected = batches.catalogue.load(i, run.preparation)
        np.testing.assert_array_equal(space["pixels"], expected)


def test_a_model_of_any_size_is_exported_and_run_at_several(photos, tmp_path):
    run = train(
        photos, "?x?x3", out=tmp_path / "a", backbone=backbone(), weights=None,
        strategy="flexible", epochs=1, validation=0.3, batch_size=8,
    )  # fmt: skip
    found = export(run, "litert,onnx", timing=False)
    assert [f.agreement for f in found.files] == [1.0, 1.0]
    model = run.load_model()
    rng = np.random.default_rng(0)
    for size_hw in ((24, 20), (33, 47), (64, 31)):
        picture = rng.uniform(0, 255, (1, *size_hw, 3)).astype("float32")
        expected = np.asarray(model(picture, training=False))
        for made in found.files:
            np.testing.assert_allclose(load(Path(made.path))(picture), expected, atol=1e-4)


def test_other_pictures_and_a_file_that_fails(run, photos, tmp_path):
    found = export(
        run, "litert-int8", data=photos / "lean", out=tmp_path / "x", timing=False,
        min_agreement=1.0, calibration=3,
    )  # fmt: skip
    (made,) = found.files
    assert made.pictures == 20
    assert np.isnan(made.accuracy.value)
    assert made.is_trusted == (made.agreement == 1.0)
    assert (tmp_path / "x" / "model-int8.tflite").exists()
    told = json.loads((tmp_path / "x" / "exports.json").read_text())
    assert told["exports"][0]["failed"] == (not made.is_trusted)


def test_timings_are_taken_in_a_process_of_their_own(run, tmp_path):
    found = export(run, "litert", out=tmp_path / "x")
    for timing in (*found.files[0].timings, *found.keras_timings):
        assert 0 < timing.median_ms <= timing.p95_ms
        assert timing.peak_mb > 0
    assert "model.predict:" in str(found)
    assert "model.tflite" in str(found)


def test_what_is_there_is_not_replaced_unasked(exports, run):
    before = Path(exports["litert"].path).read_bytes()
    with pytest.raises(OutputExists, match=re.escape("expected a new file; add --replace")):
        export(run, "litert", timing=False)
    assert Path(exports["litert"].path).read_bytes() == before
    export(run, "litert", timing=False, replace_files=True)
    rows = json.loads((run.exports / "exports.json").read_text())["exports"]
    assert sorted(row["format"] for row in rows) == sorted(ALL)


@pytest.mark.parametrize(
    ("asked", "kind", "text"),
    [
        ({"to": "coreml"}, UnknownName, "format 'coreml'"),
        ({"to": ""}, RequestError, "no format to export to; expected some of litert,"),
        ({"io": "int4"}, UnknownName, "io 'int4'"),
        ({"min_agreement": 97}, RequestError, "min_agreement=97; expected 0 to 1"),
        ({"calibration": 0}, RequestError, "calibration=0; expected at least 1"),
    ],
)
def test_bad_requests(asked, kind, text, run, tmp_path):
    with pytest.raises(kind, match=re.escape(text)):
        export(run, **{"to": "litert", "out": tmp_path / "x", **asked})
    assert not (tmp_path / "x").exists()


def test_a_missing_extra_is_named(run, monkeypatch):
    monkeypatch.setattr(formats.importlib.util, "find_spec", lambda name: None)
    text = (
        "format onnx needs tf2onnx, onnx, onnxruntime; expected them to be installed; pip install"
    )
    with pytest.raises(RequestError, match=re.escape(text)):
        export(run, "onnx")


def test_pictures_that_are_gone_are_asked_for(run, photos, tmp_path):
    shutil.copytree(run.folder, tmp_path / "a")
    moved = Run.open(tmp_path / "a").updated(
        request={**run.record["request"], "source": str(tmp_path / "gone")}
    )
    with pytest.raises(DataError, match="expected some to compare on; name a folder with --data"):
        export(moved, "litert", out=tmp_path / "x")
    (made,) = export(moved, "litert-int8", data=photos, out=tmp_path / "x", timing=False).files
    assert made.pictures == 60


def test_an_unfinished_run_is_refused(run, tmp_path):
    shutil.copytree(run.folder, tmp_path / "a")
    Run.open(tmp_path / "a").updated(status="interrupted")
    with pytest.raises(RequestError, match="holds no trained model yet"):
        export(tmp_path / "a", "litert")


def test_an_operator_that_litert_lacks_is_named(tmp_path):
    image = keras.Input((8, 8, 1))
    x = layers.Lambda(lambda x: keras.ops.fft2((x[..., 0], x[..., 0]))[0], name="spectrum")(image)
    model = keras.Model(image, layers.Flatten()(x))
    with pytest.raises(
        GraphError, match=r"LiteRT has no built-in operator for .*FFT2D; expected layers"
    ):
        convert(model, FORMATS["litert"], tmp_path / "a.tflite")


def test_files_that_are_no_models(tmp_path):
    (tmp_path / "a.txt").write_text("hello")
    (tmp_path / "b.tflite").write_text("hello")
    with pytest.raises(RequestError, match="is no exported model; expected a file ending in"):
        kind_of(tmp_path / "a.txt")
    with pytest.raises(RequestError, match="cannot be read by litert"):
        load(tmp_path / "b.tflite")
    with pytest.raises(RequestError, match="no such file; expected an exported model"):
        kind_of(tmp_path / "c.onnx")
    assert card_in(tmp_path / "b.tflite") is None


def test_answers_come_one_by_one():
    seen = []

    def run(picture):
        seen.append(picture.shape)
        return picture.reshape(1, -1)

    pictures = np.arange(6, dtype=np.uint8).reshape(3, 1, 2, 1)
    np.testing.assert_array_equal(answers(run, pictures), pictures.reshape(3, 2))
    assert seen == [(1, 1, 2, 1)] * 3

"""Exported files against the Keras model, through their own runtimes."""

from __future__ import annotations

import importlib.util
import json
import os
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
from tests.labels import classes

from inshape.choosing import train
from inshape.errors import DataError, GraphError, OutputExists, RequestError, UnknownName
from inshape.evaluation.api import evaluate
from inshape.exporting import api, bench
from inshape.exporting.agreement import compare_answers
from inshape.exporting.api import export
from inshape.prediction import predict
from inshape.runs import Run
from inshape.runtime import formats
from inshape.runtime.cards import read_card
from inshape.runtime.conversion import convert
from inshape.runtime.formats import FORMATS
from inshape.runtime.runners import answer, batch_of, kind_of, load
from inshape.runtime.timing import Timing
from inshape.text import format_bytes

layers = keras.layers
EXACT = ("litert", "onnx", "openvino", "savedmodel", "keras")


@pytest.mark.parametrize("name", [n for n, form in FORMATS.items() if not form.is_quantised])
def test_a_float_file_agrees_with_the_model(name, exports):
    file = exports[name]
    assert file.pictures == 18
    if name not in EXACT:
        assert 0 < file.max_difference < 0.05
    else:
        assert file.agreement == 1.0
        assert file.max_difference < 1e-4
        assert file.accuracy_change.as_dict() == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert file.size_bytes > 1000


def test_an_int8_file_takes_bytes_and_says_how_far_it_is_off(exports, run):
    from ai_edge_litert.interpreter import Interpreter

    file = exports["litert-int8"]
    assert 0 < file.max_difference < 0.2
    reader = Interpreter(model_path=file.path)
    for side in (reader.get_input_details(), reader.get_output_details()):
        assert side[0]["dtype"] == np.uint8
    header = (run.exports / "model_int8.h").read_text()
    assert f"tensor_bytes = {file.tensor_bytes} " in header


def test_what_the_plan_predicted_stands_beside_what_was_measured(exports, run):
    file, planned = exports["litert-int8"], run.record["plan"]["footprint"]
    # Planned with a picture of float32; this one takes bytes.
    assert file.planned_flash_bytes == pytest.approx(planned["flash_bytes"], rel=0.01)
    assert file.planned_ram_bytes < planned["ram_bytes"]
    assert file.planned_flash_bytes == pytest.approx(file.size_bytes, rel=0.1)
    assert file.planned_ram_bytes == pytest.approx(file.arena_bytes, rel=0.05)
    assert exports["litert"].planned_flash_bytes is None
    (row,) = (
        row
        for row in json.loads((run.exports / "exports.json").read_text())["exports"]
        if row["format"] == "litert-int8"
    )
    assert row["planned_flash_bytes"] == file.planned_flash_bytes
    flash, ram, planned_flash, planned_ram, tensors = (
        format_bytes(amount)
        for amount in (
            *(file.size_bytes, file.arena_bytes),
            *(file.planned_flash_bytes, file.planned_ram_bytes, file.tensor_bytes),
        )
    )
    assert (
        f"model-int8.tflite on a micro-controller: flash {flash} (planned {planned_flash}); "
        f"RAM {ram} (planned {planned_ram}), {tensors} for tensors"
    ) in (run.exports / "exports.txt").read_text()


def test_weights_that_share_a_scale_are_said_to(exports, run, tmp_path):
    file = export(
        run, "litert-int8", out=tmp_path, io="uint8", granularity="per-tensor",
        timing=False, calibration=30, min_agreement=0,
    ).files[0]  # fmt: skip
    usual = exports["litert-int8"]
    assert (file.granularity, usual.granularity) == ("per-tensor", "per-channel")
    # Two scales for each of the 8 + 8 + 16 + 3 channels, and 8 + 16 + 3 zero points.
    saved = 8 * 31 + 8 * 26
    assert usual.planned_flash_bytes - file.planned_flash_bytes == saved
    assert usual.size_bytes - file.size_bytes == pytest.approx(saved, abs=100)
    assert file.planned_ram_bytes == pytest.approx(file.arena_bytes, rel=0.05)
    card = json.loads((tmp_path / "model-int8.tflite.json").read_text())
    assert card["weights"] == {"dtype": "int8", "granularity": "per-tensor"}
    (row,) = json.loads((tmp_path / "exports.json").read_text())["exports"]
    assert row["granularity"] == "per-tensor"
    line = "model-int8.tflite has one scale for all weights of a layer (per-tensor)"
    assert line in (tmp_path / "exports.txt").read_text()


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
    assert beside["input"]["shape"] == "17x13x3"
    assert beside["model"] == {"backbone": "small", "strategy": "rebuild", "channels": "keep"}


def test_an_onnx_file_says_itself_what_it_is(exports, run, photos, tmp_path):
    import onnx

    alone = shutil.copy(exports["onnx"].path, tmp_path / "alone.onnx")
    read = onnx.load(alone)
    card = read_card(Path(alone))
    assert {o.domain: o.version for o in read.opset_import}[""] == card["opset"] == 17
    assert read.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 0
    assert card["input"]["batch"] == "any"
    rows = predict(alone, photos / "lean")
    assert [p.label for p in rows] == [p.label for p in predict(run, photos / "lean")]
    assert load(Path(alone))(np.zeros((5, 17, 13, 3), np.float32)).shape == (5, 3)


@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_the_number_of_pictures_per_call_can_be_fixed(
    inshape, name, run, photos, tmp_path, timed_exports
):
    if name == "onnx":
        file = timed_exports.files[1]
        assert file.timings[0].median_ms > 0
    else:
        (file,) = export(run, name, batch=4, out=tmp_path / "x", timing=False).files
    assert file.agreement == 1.0
    assert file.max_difference < 1e-4
    path = Path(file.path)
    assert read_card(path)["input"]["batch"] == 4
    assert load(path)(np.zeros((4, 17, 13, 3), np.float32)).shape == (4, 3)
    if name == "onnx":
        import onnx

        dimension = onnx.load(path).graph.input[0].type.tensor_type.shape.dim[0]
        assert dimension.dim_value == 4
    rows = predict(path, photos / "lean")  # 20 pictures and one that fills no call
    rows += predict(path, [photos / "lie" / "00.png"])
    by_run = predict(run, photos / "lean") + predict(run, [photos / "lie" / "00.png"])
    assert [p.label for p in rows] == [p.label for p in by_run]
    done = inshape("bench", path, "--threads", "1", "--json")
    assert json.loads(done.out)["batch"] == 4


@pytest.mark.parametrize("name", ["litert", "litert-int8", "onnx", "openvino"])
def test_a_file_can_be_timed_from_the_command_line(inshape, name, exports):
    done = inshape("bench", exports[name].path, "--threads", "1", "--json")
    assert done.code == 0, done.err
    values = json.loads(done.out)
    (timing,) = values["timings"]
    assert values["input_shape"] == "17x13x3"
    assert timing["threads"] == 1
    assert 0 < timing["median_ms"] <= timing["p95_ms"]


@pytest.mark.parametrize("name", ["litert-float16", "litert-dynamic", "savedmodel", "keras"])
def test_every_other_format_says_what_it_is_timed_with(inshape, name, exports, monkeypatch):
    """What runs them is timed in test_table.py and by `timed_exports`."""
    calls = []

    def timed(path, shape, **options):
        calls.append((str(path), shape, options))
        return Timing(options["threads"], 30, 2.5, 3.0, 40.0, 10.0)

    monkeypatch.setattr(bench, "time_file", timed)
    done = inshape("bench", exports[name].path, "--json")
    assert done.code == 0, done.err
    counts = [*dict.fromkeys((1, len(os.sched_getaffinity(0))))]
    path = exports[name].path
    assert calls == [(path, (17, 13, 3), {"threads": n, "batch": 1}) for n in counts]
    assert json.loads(done.out)["runtime"] == name.split("-")[0]


@pytest.mark.parametrize("name", ["litert", "litert-int8", "onnx", "openvino", "savedmodel"])
def test_predict_takes_a_file_like_a_run(name, exports, run, photos):
    by_run = predict(run, photos / "lean")
    by_file = predict(exports[name].path, photos / "lean")
    assert [p.picture for p in by_run] == [p.picture for p in by_file]
    agree = np.mean([a.label == b.label for a, b in zip(by_run, by_file, strict=True)])
    assert agree == 1.0 if name != "litert-int8" else agree > 0.8
    assert kind_of(Path(exports[name].path)) == name.split("-")[0]


@pytest.mark.parametrize("io", ["float32", "int8", "uint8"])
def test_int8_examples_take_what_the_file_takes(io, run, photos, tmp_path, exports, run_example):
    file = exports["litert-int8"]  # of bytes from 0 to 255
    if io != "uint8":
        (file,) = export(
            run, "litert-int8", io=io, calibration=9, out=tmp_path / "x", timing=False
        ).files
    card = read_card(Path(file.path))
    assert card["input"]["dtype"] == card["output"]["dtype"] == io
    if io != "float32":
        assert card["input"]["scale"] == pytest.approx(1.0)
        assert card["input"]["zero_point"] == (-128 if io == "int8" else 0)
        assert card["output"]["scale"] == pytest.approx(1 / 256)
    for number in ("04.png", "05.jpg"):
        picture = photos / "lean" / number
        (expected,) = predict(file.path, [picture])
        assert run_example(file.path, picture) == [expected.label]


@pytest.mark.parametrize("name", ["litert", "litert-int8", "onnx", "openvino"])
def test_the_example_answers_as_predict_does(name, exports, photos, run_example):
    for number in ("02.png", "03.jpg"):
        picture = photos / "stand" / number
        (expected,) = predict(exports[name].path, [picture])
        assert run_example(exports[name].path, picture) == [expected.label]


def test_the_example_is_a_program_of_its_own(exports, photos):
    path = exports["litert"].path
    picture = photos / "stand" / "03.jpg"
    done = subprocess.run(
        [sys.executable, f"{path}.py", str(picture)], capture_output=True, text=True, check=True
    )
    (expected,) = predict(path, [picture])
    assert done.stdout.split() == [expected.label]


def test_a_model_of_any_size_is_exported_and_run_at_several(
    photos, backbone, tmp_path, run_example
):
    run = train(
        photos, "?x?x3", out=tmp_path / "a", backbone=backbone(), weights=None,
        strategy="flexible", epochs=1, validation=0.3, batch_size=8,
    )  # fmt: skip
    result = export(run, "litert,onnx", timing=False)
    assert [f.agreement for f in result.files] == [1.0, 1.0]
    model = run.load_model()
    rng = np.random.default_rng(0)
    for size_hw in ((24, 20), (33, 47), (64, 31)):
        picture = rng.uniform(0, 255, (1, *size_hw, 3)).astype("float32")
        expected = np.asarray(model(picture, training=False))
        for file in result.files:
            np.testing.assert_allclose(load(Path(file.path))(picture), expected, atol=1e-4)
    for file in result.files:
        assert file.tensor_bytes is None
        (expected,) = predict(run, [photos / "lean" / "03.jpg"])
        assert run_example(file.path, photos / "lean" / "03.jpg") == [expected.label]


@pytest.mark.parametrize(("least", "is_trusted"), [(0.94, True), (0.95, True), (0.96, False)])
def test_a_file_is_trusted_from_the_wanted_agreement_on(
    least, is_trusted, run, elsewhere, tmp_path, monkeypatch
):
    """The file errs on one of twenty pictures."""
    real = api.answer

    def erring(call, pictures, **options):
        rows = real(call, pictures, **options)
        rows[7] = np.roll(rows[7], 1)
        return rows

    monkeypatch.setattr(api, "answer", erring)
    result = export(
        run, "keras", data=elsewhere / "lean", out=tmp_path / "x", timing=False,
        min_agreement=least,
    )  # fmt: skip
    (file,) = result.files
    assert (file.pictures, file.agreement) == (20, 0.95)
    assert file.is_trusted is is_trusted
    assert (tmp_path / "x" / "model.keras").exists()
    (row,) = json.loads((tmp_path / "x" / "exports.json").read_text())["exports"]
    assert row["failed"] is not is_trusted
    assert row["accuracy"]["value"] is None
    assert "nan" not in (tmp_path / "x" / "exports.txt").read_text()


def test_a_failed_file_is_kept_and_the_exit_code_says_so(inshape, run, elsewhere, tmp_path):
    words = ["export", run.folder, "--to", "litert-dynamic,litert", "--out", tmp_path / "x"]
    words += ["--no-timing", "--data", elsewhere, "--json"]
    good = inshape(*words)
    assert good.code == 0
    kept = json.loads((run.exports / "exports.json").read_text())["exports"]
    places = [(run.exports / row["path"]).resolve() for row in kept]
    assert (tmp_path / "x" / "model.tflite").resolve() in places
    for row in json.loads(good.out)["exports"]:
        assert {"format", "path", "size_bytes", "agreement", "accuracy", "latency_ms"} <= set(row)
        assert row["failed"] is False
    again = inshape(*words)
    assert again.code == 2
    assert "exists already; expected a new file; add --replace" in again.err

    class Wrong:
        def __call__(self, picture):
            return np.eye(3, dtype=np.float32)[[0]]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(api, "load", lambda path: Wrong())
        bad = inshape(*words, "--replace")
    assert bad.code == 1
    assert all(row["failed"] for row in json.loads(bad.out)["exports"])
    assert "FAILED" in bad.err
    assert "FAILED" in (tmp_path / "x" / "exports.txt").read_text()
    assert (tmp_path / "x" / "model.tflite").exists()


@pytest.mark.parametrize("kept", ["model-int8.tflite.json", "model-int8.tflite.py", "model_int8.h"])
def test_what_would_go_with_a_file_is_not_replaced_either(kept, run, tmp_path):
    (tmp_path / kept).write_text("mine")
    with pytest.raises(OutputExists, match=re.escape(f"{tmp_path / kept} exists already")):
        export(run, "litert-int8", out=tmp_path, timing=False)
    assert [p.name for p in tmp_path.iterdir()] == [kept]
    assert (tmp_path / kept).read_text() == "mine"


def test_timings_are_taken_in_a_process_of_their_own(timed_exports):
    result = timed_exports
    row = result.as_dict()["exports"][0]
    assert row["latency_ms"] == result.files[0].timings[0].median_ms
    assert min(row[name] for name in ("latency_p95_ms", "load_ms", "peak_mb")) > 0
    for timing in (*result.files[0].timings, *result.keras_timings):
        assert 0 < timing.median_ms <= timing.p95_ms
        assert timing.peak_mb > 0
    counts = [*dict.fromkeys((1, len(os.sched_getaffinity(0))))]
    for timings in (result.files[0].timings, result.keras_timings):
        assert [timing.threads for timing in timings] == counts
    assert "model.predict:" in str(result)
    assert "model.tflite" in str(result)


def test_what_is_there_is_not_replaced_unasked(exports, run):
    before = Path(exports["litert"].path).read_bytes()
    with pytest.raises(OutputExists, match=re.escape("expected a new file; add --replace")):
        export(run, "litert", timing=False)
    assert Path(exports["litert"].path).read_bytes() == before
    export(run, "litert", timing=False, replace=True)
    rows = json.loads((run.exports / "exports.json").read_text())["exports"]
    own = [row["format"] for row in rows if Path(row["path"]).name == row["path"]]
    assert sorted(own) == sorted(FORMATS)


@pytest.mark.parametrize(
    ("options", "kind", "text"),
    [
        ({"to": "coreml"}, UnknownName, f"format 'coreml'; choose from: {', '.join(FORMATS)}"),
        ({"to": ""}, RequestError, "no format to export to; expected some of litert,"),
        ({"io": "int4"}, UnknownName, "io 'int4'"),
        ({"min_agreement": 97}, RequestError, "min_agreement=97.0; expected 0 to 1"),
        ({"calibration": 0}, RequestError, "calibration=0; expected 1 or more"),
        ({"batch": 0}, RequestError, "batch=0; expected 1 or more"),
    ],
)
def test_bad_requests(options, kind, text, run, tmp_path):
    with pytest.raises(kind, match=re.escape(text)):
        export(run, **{"to": "litert", "out": tmp_path / "x", **options})
    assert not (tmp_path / "x").exists()


def test_a_missing_extra_is_named(run, monkeypatch):
    monkeypatch.setattr(formats.importlib.util, "find_spec", lambda name: None)
    text = (
        "format onnx needs tf2onnx, onnx, onnxruntime; expected them to be installed; pip install"
    )
    with pytest.raises(RequestError, match=re.escape(text)):
        export(run, "onnx")


def test_an_unfinished_run_is_refused(run, tmp_path):
    shutil.copytree(run.folder, tmp_path / "a")
    Run.open(tmp_path / "a").updated(status="interrupted")
    with pytest.raises(RequestError, match="holds no trained model yet"):
        export(tmp_path / "a", "litert")


@pytest.mark.parametrize(
    ("layer", "text"),
    [
        (
            layers.Resizing(13, 12, interpolation="bicubic", name="enlarge"),
            "LiteRT has no built-in operator for ResizeBicubic (layer 'enlarge'); expected layers "
            'that it has; use Resizing(interpolation="bilinear", antialias=False), or export to',
        ),
        (
            layers.Resizing(13, 12, antialias=True, name="enlarge"),
            "LiteRT has no built-in operator for ScaleAndTranslate (layer 'enlarge'); expected",
        ),
        (
            layers.Lambda(lambda x: keras.ops.fft2((x, x))[0], name="spectrum"),
            "LiteRT has no built-in operator for Complex (layer 'spectrum'); expected layers that "
            "it has; replace the layer, or export to onnx or savedmodel",
        ),
    ],
)
@pytest.mark.parametrize("name", ["litert", "litert-dynamic", "litert-int8"])
def test_an_operator_that_litert_lacks_is_named(name, layer, text, tmp_path):
    image = keras.Input((8, 8, 1))
    inner = keras.Model(image, layer(image), name="inner")
    model = keras.Model(image, layers.Flatten()(inner(image)))
    sample = [np.zeros((1, 8, 8, 1), np.float32)]
    with pytest.raises(GraphError, match=re.escape(text)):
        convert(model, FORMATS[name], tmp_path / "a.tflite", pictures=sample)
    assert not any(tmp_path.iterdir())


def test_an_operator_that_onnx_lacks_is_named(tmp_path):
    pytest.importorskip("tf2onnx")
    image = keras.Input((8, 8, 1))
    large = layers.Resizing(13, 12, antialias=True, name="enlarge")(image)
    text = "ONNX has no built-in operator for ScaleAndTranslate (layer 'enlarge'); expected layers"
    with pytest.raises(GraphError, match=re.escape(text)):
        convert(keras.Model(image, layers.Flatten()(large)), FORMATS["onnx"], tmp_path / "a.onnx")


def test_nothing_to_calibrate_on_is_refused(backbone, tmp_path):
    text = "no calibration pictures; expected some that say which ranges int8 has to cover"
    with pytest.raises(DataError, match=re.escape(text)):
        convert(backbone(), FORMATS["litert-int8"], tmp_path / "a.tflite")


def test_a_format_that_cannot_hold_the_model_keeps_no_other_back(
    inshape, run, tmp_path, monkeypatch
):
    """Its reason is printed, and the exit code says that something is missing."""
    model = run.load_model()
    large = layers.Resizing(17, 13, interpolation="bicubic", name="enlarge")(model.inputs[0])
    shutil.copytree(run.folder, tmp_path / "a", ignore=shutil.ignore_patterns("exports"))
    keras.Model(model.inputs[0], model(large)).save(tmp_path / "a" / "model.keras")
    done = inshape("export", tmp_path / "a", "--to", "litert,savedmodel", "--no-timing", "--json")
    assert done.code == 1, done.err
    values = json.loads(done.out)
    assert [f["format"] for f in values["exports"]] == ["savedmodel"]
    (refused,) = values["refused"]
    assert refused["format"] == "litert"
    assert "ResizeBicubic (layer 'enlarge')" in refused["reason"]
    printed = (tmp_path / "a" / "exports" / "exports.txt").read_text()
    assert "litert was not written: LiteRT has no built-in" in printed
    with pytest.raises(GraphError, match="ResizeBicubic"):
        export(tmp_path / "a", "litert", timing=False, out=tmp_path / "b")


def test_files_that_are_no_models(tmp_path):
    (tmp_path / "a.txt").write_text("hello")
    (tmp_path / "b.tflite").write_text("hello")
    with pytest.raises(RequestError, match="is no exported model; expected a file ending in"):
        kind_of(tmp_path / "a.txt")
    with pytest.raises(RequestError, match="cannot be read by litert"):
        load(tmp_path / "b.tflite")
    with pytest.raises(RequestError, match="no such file; expected an exported model"):
        kind_of(tmp_path / "c.onnx")
    assert read_card(tmp_path / "b.tflite") is None


def test_a_file_that_answers_nan_agrees_with_nothing(run, tmp_path, monkeypatch):
    """Half of the pictures are of class 0, which argmax gives for NaN."""
    eye = np.eye(2)[[0, 1, 0, 1]]
    result = compare_answers(classes(2), np.full((4, 2), np.nan), eye, np.array([0, 1, 0, 1]))
    assert (result.agreement, result.accuracy.value, result.is_finite) == (0.0, 0.0, False)
    assert compare_answers(classes(2), eye, eye, np.array([0, 1, 0, 1])).is_finite
    real = api.answer

    def poisoned(*args, **options):
        rows = real(*args, **options)
        rows[0, 0] = np.nan
        return rows

    monkeypatch.setattr(api, "answer", poisoned)
    file = export(run, "keras", out=tmp_path / "x", timing=False, min_agreement=0.0)
    assert [f.format for f in file.failed] == ["keras"]
    text = (tmp_path / "x" / "exports.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail)["exports"][0]["max_difference"] is None


def test_the_trap_of_variables_that_are_lost_is_avoided(tmp_path, backbone):
    """Without frozen variables TensorFlow converts a Keras 3 model into a file that gives NaN."""
    model = backbone()
    convert(model, FORMATS["litert"], tmp_path / "a.tflite")
    picture = np.full((1, 24, 20, 3), 90, np.float32)
    expected = np.asarray(model(picture, training=False))
    np.testing.assert_allclose(load(tmp_path / "a.tflite")(picture), expected, atol=1e-5)


def test_answers_come_one_by_one():
    shapes = []

    def run(picture):
        shapes.append(picture.shape)
        return picture.reshape(1, -1)

    pictures = np.arange(6, dtype=np.uint8).reshape(3, 1, 2, 1)
    np.testing.assert_array_equal(answer(run, pictures), pictures.reshape(3, 2))
    assert shapes == [(1, 1, 2, 1)] * 3


def test_a_call_that_pictures_do_not_fill_is_filled_up():
    shapes = []

    def run(pictures):
        shapes.append(pictures.shape)
        return pictures.reshape(len(pictures), -1)

    pictures = np.arange(6, dtype=np.uint8).reshape(3, 1, 2, 1)
    np.testing.assert_array_equal(answer(run, pictures, batch=2), pictures.reshape(3, 2))
    assert shapes == [(2, 1, 2, 1)] * 2


def test_keras_is_asked_about_many_pictures_at_once(exports, photos, monkeypatch):
    """A call takes many times as long as a picture in it; a single one is not filled up."""
    sizes, real = [], keras.Model.predict

    def counted(model, pictures, **options):
        sizes.append(len(pictures))
        return real(model, pictures, **options)

    monkeypatch.setattr(keras.Model, "predict", counted)
    predict(exports["keras"].path, photos)
    assert sizes == [32, 32]
    predict(exports["keras"].path, photos / "lean" / "00.png")
    assert sizes[2:] == [1]
    made_for = {name: batch_of(Path(file.path), 4) for name, file in exports.items()}
    assert {name for name, batch in made_for.items() if batch is None} == {"keras", "savedmodel"}
    assert set(made_for.values()) == {4, None}


def test_twelve_bits_are_read_alike_in_training_and_in_use(backbone, tmp_path, run_example):
    """One file through the training's preparation, both kinds of `predict` and the program."""
    rng = np.random.default_rng(0)
    for name, level in (("dark", 900), ("light", 3100)):
        (tmp_path / "scans" / name).mkdir(parents=True)
        for i in range(8):
            pixels = rng.normal(level, 300, (26, 22)).clip(0, 4090).astype(np.uint16)
            Image.fromarray(pixels).save(tmp_path / "scans" / name / f"{i}.png")
    picture = tmp_path / "scans" / "light" / "3.png"
    with pytest.warns(UserWarning, match="pictures of uint16 are read with full_scale 0:4095"):
        run = train(
            tmp_path / "scans", "24x20x3", out=tmp_path / "a", backbone=backbone(), weights=None,
            unfreeze="none", head_epochs=1, validation=0.25, batch_size=8, augment="none",
        )  # fmt: skip
    assert run.record["preparation"]["full_scale"] == [0, 4095]
    assert run.preparation.full_scale == (0, 4095)
    assert any("full_scale 0:4095" in line for line in run.record["data"]["warnings"])
    assert "full_scale 0:4095" in (run.folder / "report.html").read_text(encoding="utf-8")
    (file,) = export(run, "litert", timing=False).files
    assert read_card(Path(file.path))["preparation"]["full_scale"] == [0, 4095]
    pixels = Image.open(picture)
    scaled = Image.fromarray(np.asarray(pixels, np.float32) * np.float32(255 / 4095))
    by_hand = np.asarray(scaled.resize((20, 24), Image.Resampling.BILINEAR))
    inputs = np.repeat(by_hand[None, ..., None], 3, axis=-1)
    expected = run.load_model()(inputs).numpy()[0]
    for asked in (run, file.path):
        (prediction,) = predict(asked, [picture], top=2)
        chances = dict(prediction.top)
        assert [chances[name] for name in run.labels] == pytest.approx(expected, abs=1e-4)
    assert run_example(file.path, picture) == [run.labels[expected.argmax()]]


_MEDIAPIPE = """
import json, sys
import mediapipe, numpy
from PIL import Image
from mediapipe.tasks.python import BaseOptions, vision
picture, *files = sys.argv[1:]
pixels = numpy.asarray(Image.open(picture).convert("RGB").resize((13, 17)))
image = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=pixels.copy())
for file in files:
    options = vision.ImageClassifierOptions(base_options=BaseOptions(model_asset_path=file))
    with vision.ImageClassifier.create_from_options(options) as classifier:
        (head,) = classifier.classify(image).classifications
    print(json.dumps({c.category_name: c.score for c in head.categories}))
"""


def test_mediapipe_answers_with_class_names(exports, photos):
    if importlib.util.find_spec("mediapipe") is None:
        pytest.skip("mediapipe is not installed; pip install mediapipe")
    picture = photos / "stand" / "04.png"
    kinds = ("litert", "litert-float16", "litert-dynamic", "litert-int8")
    files = [exports[kind].path for kind in kinds]
    words = [sys.executable, "-c", _MEDIAPIPE, str(picture), *files]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    for file, line in zip(files, done.stdout.splitlines()[-len(files) :], strict=True):
        scores = json.loads(line)
        (expected,) = predict(file, picture)
        assert scores.keys() == dict(expected.top).keys()
        for label, probability in expected.top:
            assert scores[label] == pytest.approx(probability, abs=0.01)


@pytest.mark.parametrize("name", ["litert", "litert-int8", "onnx", "openvino", "keras"])
def test_a_file_is_evaluated_like_a_run(name, exports, run, elsewhere):
    by_run = evaluate(run, elsewhere, save=False, resamples=20)
    by_file = evaluate(exports[name].path, elsewhere, resamples=20)
    assert by_file.run == exports[name].path
    if name == "litert-int8":
        assert by_file.accuracy.value == pytest.approx(by_run.accuracy.value, abs=0.1)
    else:
        assert by_file.scores.confusion.tolist() == by_run.scores.confusion.tolist()
    assert not (run.folder / "metrics.json").exists()


def test_a_file_beside_its_run_is_not_measured_on_what_that_was_trained_on(exports, photos):
    with pytest.warns(UserWarning, match="measured on the 18 of 60 that were held out"):
        evaluation = evaluate(exports["litert"].path, photos, resamples=20)
    assert (evaluation.split, evaluation.seen_in_training) == ("validation", 0)


def test_a_file_alone_says_what_it_cannot_do(exports, photos, tmp_path):
    with pytest.raises(RequestError, match=r"heat maps of .*; expected a run; name .*/a"):
        predict(exports["litert"].path, photos, save_heatmaps=tmp_path / "heat")
    with pytest.raises(RequestError, match="size 7x7; the model takes 17x13 only"):
        evaluate(exports["litert"].path, photos, sizes=7)

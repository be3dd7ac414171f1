"""Networks that were read from model files: beside the files' own interpreter, and after it.

    python -m benchmarks.model_files [--shared FOLDER] [--only NAME] [--out FOLDER]
    python -m benchmarks.model_files --table

reads quantised ImageNet classifiers, a segmenter and a pose network (those of
``google-coral/test_data``), compares what they answer at their own size with what the interpreter
gives, and measures the classifiers' top-1 at other sizes, before any training. MLPerf Tiny's
``vww_96.h5`` is fine-tuned on two classes of photos, its pixels said and not said; and files that
inshape wrote of three networks are read, adapted to another shape and written again. ``--shared``
holds ``models``, ``weights`` and ``data`` (``imagenet500``, of ``IIII_*.jpg``, IIII being the
ImageNet class, and ``clothing``). What was measured is kept under ``--out``, a file for each
network, so that a run goes on where another one ended.
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any
from unittest.mock import patch

import keras
import numpy as np
from PIL import Image

import inshape
from benchmarks import results_folder
from benchmarks.zero_shot import SHARED, top1
from inshape.data.decode import load as load_picture
from inshape.data.prepare import Preparation
from inshape.errors import InshapeError
from inshape.importing import litert
from inshape.importing.api import read_file
from inshape.runtime.conversion import convert
from inshape.runtime.flatbuffer import read_model
from inshape.runtime.formats import formats_of
from inshape.runtime.insides import expose
from inshape.runtime.litert import LiteRTModel
from inshape.runtime.runners import answer, load

NAME = "model_files"
CLASSIFIERS = {
    "mobilenet_v1_0.25_128_quant": 128,
    "mobilenet_v1_0.5_160_quant": 160,
    "mobilenet_v2_1.0_224_quant": 224,
}
_SEGMENTER = "deeplabv3_mnv2_dm05_pascal_quant"
_POSES = "posenet_mobilenet_v1_075_353_481_16_quant_decoder"
_WAKE_WORDS = "vww_96"
_CLASSES = ("longsleeve", "pants")
_PIXELS = (None, "0:1")
_SEEDS = (0, 1, 2)
_ROUND_TRIPS = "round_trips"
_FILES = ("litert", "litert-int8", "onnx")
_TRIED = 100
SIZES = (64, 96, 128, 160, 224)
WAYS: dict[str, dict[str, Any]] = {
    "rebuild": {"strategy": "rebuild"},
    "resize": {"strategy": "resize"},
    "restride, nearest stem": {"strategy": "restride", "stem": "nearest", "factor": 2},
}
_BATCH = 25
_KEPT = ("", "clipped", "rounded")
"""What a map of a network that was read keeps of the file's bytes."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shared", type=Path, default=SHARED)
    parser.add_argument("--only", help="measure one of them")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    folder = results_folder(NAME, options.out, is_table=options.table)
    if not options.table:
        models, pictures = options.shared / "models", options.shared / "data" / "imagenet500"
        measures: dict[str, Callable[[Path], None]] = {
            **{name: partial(classifier, models, pictures, name) for name in CLASSIFIERS},
            _SEGMENTER: partial(_once, segmenter, models),
            _POSES: partial(_once, poses, models),
            _WAKE_WORDS: partial(_once, wake_words, options.shared),
            _ROUND_TRIPS: partial(round_trips, options.shared),
        }
        for name, measure in measures.items():
            if options.only in (None, name):
                measure(folder / f"{name}.json")
    print(table(folder))


def _keep(path: Path, result: dict[str, Any]) -> None:
    path.write_text(json.dumps(result, indent=2) + "\n")


def _once(measure: Callable[[Path], dict[str, Any]], folder: Path, kept: Path) -> None:
    if not kept.exists():
        _keep(kept, measure(folder))


def classifier(models: Path, folder: Path, name: str, kept: Path) -> None:
    """Agreement at the file's own size, and top-1 at others, kept one after the other."""
    path = models / f"{name}.tflite"
    files = sorted(folder.glob("*.jpg"))
    labels = np.array([int(file.name.split("_")[0]) for file in files]) + 1  # 0 is background
    result = json.loads(kept.read_text()) if kept.exists() else {"sizes": {}}
    if "read" not in result:
        result = {**_agreement(path, squares(files, CLASSIFIERS[name]), labels), **result}
        _keep(kept, result)
    for size in SIZES:
        if str(size) not in result["sizes"]:
            pictures = squares(files, size)
            cells = {way: _at(path, size, way, pictures, labels) for way in WAYS}
            result["sizes"][str(size)] = cells
            _keep(kept, result)
            print(name, size, cells, flush=True)


def _agreement(path: Path, pictures: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    theirs = np.concatenate([answers(path, picture[None])[0] for picture in pictures])
    places = np.arange(len(pictures))
    result: dict[str, Any] = {
        "pictures": len(pictures),
        "top1_file": 100 * float(np.mean(theirs.argmax(1) == labels)),
    }
    for bytes_kept in _KEPT:
        with _like_bytes(bytes_kept):
            model = read_file(path).model
        guesses = model.predict(pictures.astype("float32"), _BATCH, verbose=0).argmax(1)
        # A score is one of 256 numbers: several classes may have the highest.
        is_highest = theirs[places, guesses] == theirs.max(1)
        result[bytes_kept or "read"] = {
            "top1": 100 * float(np.mean(guesses == labels)),
            "same": 100 * float(np.mean(guesses == theirs.argmax(1))),
            "same_or_tied": 100 * float(np.mean(is_highest)),
        }
    return result


@contextmanager
def _like_bytes(kept: str) -> Iterator[None]:
    """Read files so that each map keeps to the range of its bytes, or to the bytes themselves."""

    def results(step: litert.Step) -> list[Any]:
        maps: list[Any] = []
        for index, x in zip(step.operator.outputs, whole(step), strict=False):
            tensor = step.file.tensors[index]
            if kept and tensor.limits is not None and step.operator.kind != "SOFTMAX":
                x = keras.ops.clip(x, *tensor.limits)
                scale = float(tensor.scale[0])
                x = keras.ops.round(x / scale) * scale if kept == "rounded" else x
            maps.append(x)
        return maps

    whole = litert._results
    with patch.object(litert, "_results", results):
        yield


def _at(
    path: Path, size: int, way: str, pictures: np.ndarray, labels: np.ndarray
) -> list[float] | str:
    """Top-1 and MMACs at one size, or why it cannot be."""
    try:
        plan = inshape.plan(path, f"{size}x{size}x3", head="top", **WAYS[way])
        accuracy = top1(plan.build(), pictures, labels)
    except InshapeError as error:
        return str(error)
    assert plan.macs is not None
    return [accuracy, plan.macs / 1e6]


def segmenter(models: Path) -> dict[str, Any]:
    """IoU of the bird's mask: with the interpreter's, and of both with the true one."""
    path = models / f"{_SEGMENTER}.tflite"
    with Image.open(models / "bird_segmentation.bmp") as image:
        picture = image.convert("RGB")
    with Image.open(models / "bird_segmentation_mask.bmp") as mask:
        truth = np.asarray(mask.convert("L")) > 0
    theirs = answers(path, np.asarray(picture)[None])[0][0] > 0
    ours = _mask(read_file(path).model, picture)
    other = inshape.adapt(path, "257x385x3", strategy="rebuild", head="top")
    changed = Image.fromarray(_mask(other, picture)).resize(picture.size, Image.Resampling.NEAREST)
    return {
        "iou_with_file": _iou(ours, theirs),
        "iou_file": _iou(theirs, truth),
        "iou": _iou(ours, truth),
        "iou_at_257x385": _iou(np.asarray(changed), truth),
    }


def _mask(model: keras.Model, picture: Image.Image) -> np.ndarray:
    """Where anything but the background is seen."""
    height, width = model.input_shape[1:3]
    pixels = np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR), np.float32)
    return np.asarray(model(pixels[None], training=False))[0].argmax(-1) > 0


def _iou(mask: np.ndarray, other: np.ndarray) -> float:
    return float((mask & other).sum() / (mask | other).sum())


def poses(models: Path) -> dict[str, Any]:
    """Heat maps beside the file's, in steps of its bytes, and the shapes of others."""
    path = models / f"{_POSES}.tflite"
    model = read_file(path).model
    height, width = model.input_shape[1:3]
    with Image.open(models / "bird_segmentation.bmp") as image:
        picture = np.asarray(image.convert("RGB").resize((width, height)))[None]
    tree = read_model(path.read_bytes())
    decoder = tree.subgraphs[0].operators[-1]
    inside = expose(tree, decoder.inputs, len(tree.subgraphs[0].operators) - 1)
    theirs = _run(inside, picture)
    ours = [np.asarray(x) for x in model(picture.astype("float32"), training=False)]
    steps = [float(output["quantization"][0]) for output in inside.outputs]
    rows = {
        output["name"]: {
            "mean_difference_in_steps": float(np.abs(a - b).mean() / step),
            "correlation": float(np.corrcoef(a.ravel(), b.ravel())[0, 1]),
        }
        for output, a, b, step in zip(inside.outputs, ours, theirs, steps, strict=True)
    }
    shapes = {
        shape: [
            "x".join(map(str, output[1:]))
            for output in inshape.adapt(path, shape, strategy="rebuild", head="top").output_shape
        ]
        for shape in ("353x481x3", "257x353x3", "481x641x1")
    }
    return {"maps": rows, "shapes": shapes}


def wake_words(shared: Path) -> dict[str, Any]:
    """Accuracy on a third of the photos of two classes, of trainings of all layers on the rest."""
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        table = Path(scratch, "photos.csv")
        with table.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["path", "label", "split"])
            for name in _CLASSES:
                paths = sorted((shared / "data" / "clothing").glob(f"*/{name}/*"))
                splits = ("test", "train", "train")
                writer.writerows([p, name, s] for p, s in zip(paths, cycle(splits), strict=False))
        for pixels in _PIXELS:
            accuracies: list[float] = []
            for seed in _SEEDS:
                run = inshape.train(
                    table, "96x96x3", backbone=shared / "models" / "vww_96.h5", pixels=pixels,
                    strategy="rebuild", unfreeze="all", seed=seed, baseline=False,
                    out=Path(scratch, f"{pixels}-{seed}"),
                )  # fmt: skip
                scores = inshape.evaluate(run, table, split="test").as_dict()["scores"]
                accuracies.append(100 * scores[0]["value"])
            results[str(pixels)] = accuracies
    return results


def round_trips(shared: Path, kept: Path) -> None:
    """Files that inshape wrote: read, adapted to another shape, and written again."""
    results = json.loads(kept.read_text()) if kept.exists() else {}
    weights = shared / "weights"
    minimalistic = weights / "mobilenet_v3_large_minimalistic_imagenet.weights.h5"
    sources = {
        "MobileNetV3Large-minimalistic": ({"weights": minimalistic}, "128x128x3", "160x120x1"),
        "vww_96.h5": ({"pixels": "0:1"}, "96x96x3", "120x160x1"),
        "mobilenetv3large_075_coco_backbone.keras": ({"pixels": "0:255"}, "128x128x3", "96x160x1"),
    }
    folders = {"vww_96.h5": shared / "models", "mobilenetv3large_075_coco_backbone.keras": weights}
    files = sorted((shared / "data" / "imagenet500").glob("*.jpg"))[:: 500 // _TRIED]
    for name, (options, own, other) in sources.items():
        if name not in results:
            path = folders[name] / name if name in folders else name
            head = None if "coco" in name else "top"
            source = inshape.adapt(path, own, head=head, strategy="rebuild", **options)
            results[name] = {"own": own, "other": other, **_trips(source, own, other, files)}
            _keep(kept, results)
            print(name, results[name], flush=True)


def _trips(source: keras.Model, own: str, other: str, files: Sequence[Path]) -> dict[str, Any]:
    """For each kind of file, how its network agrees with the one that it was written of."""
    here, there = (_pictures(files, shape) for shape in (own, other))
    change = {"head": "top", "strategy": "rebuild"}
    expected = _answered(source, here), _answered(inshape.adapt(source, other, **change), there)
    rows: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for kind in _FILES:
            (form,) = formats_of([kind])
            first = Path(scratch, f"{kind}{form.suffix}")
            second = first.with_name(f"again-{first.name}")
            convert(source, form, first, pictures=[x[None] for x in here])
            read, adapted = (inshape.adapt(first, shape, **change) for shape in (own, other))
            convert(adapted, form, second, pictures=[x[None] for x in there])
            written = answer(load(second), there)
            pairs = {
                "file": (answer(load(first), here), expected[0]),
                "read": (_answered(read, here), expected[0]),
                "adapted": (_answered(adapted, there), expected[1]),
                "written": (written, _answered(adapted, there)),
            }
            rows[kind] = {step: _agreement_of(*pair) for step, pair in pairs.items()}
    return {"files": rows}


def _pictures(files: Sequence[Path], shape: str) -> np.ndarray:
    preparation = Preparation.of(shape)
    return np.stack([load_picture(file, preparation) for file in files])


def _answered(model: keras.Model, pictures: np.ndarray) -> np.ndarray:
    return np.asarray(model.predict(pictures, verbose=0))


def _agreement_of(answers: np.ndarray, expected: np.ndarray) -> list[float]:
    """Percent of pictures of which the same number is the greatest, and the relative error."""
    same = answers.argmax(1) == expected.argmax(1)
    error = np.abs(answers - expected).mean() / np.abs(expected).mean()
    return [100 * float(np.mean(same)), float(error)]


def squares(files: Sequence[Path], px: int) -> np.ndarray:
    """The middle square of each picture, resized bilinearly: uint8."""
    return np.stack([_square(file, px) for file in files])


def _square(file: Path, px: int) -> np.ndarray:
    with Image.open(file) as image:
        width, height = image.size
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        box = left, top, left + side, top + side
        crop = image.convert("RGB").crop(box)
    return np.asarray(crop.resize((px, px), Image.Resampling.BILINEAR))


_INTERPRETERS: dict[Path, LiteRTModel] = {}


def answers(path: Path, pictures: np.ndarray) -> list[np.ndarray]:
    """What a file's interpreter gives for bytes."""
    if path not in _INTERPRETERS:
        _INTERPRETERS[path] = LiteRTModel(path)
    return _run(_INTERPRETERS[path], pictures)


def _run(model: LiteRTModel, pictures: np.ndarray) -> list[np.ndarray]:
    inside = model._interpreter
    inside.allocate_tensors()
    inside.set_tensor(model.input["index"], pictures)
    inside.invoke()
    # What has no scale, such as numbers of classes, stands for itself.
    return [
        model._read(output) if output["quantization"][0] else inside.get_tensor(output["index"])
        for output in model.outputs
    ]


def table(folder: Path) -> str:
    """What was measured, as tables of Markdown."""
    results = {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}
    return "\n".join(_lines({name: results[name] for name in results}))


def _lines(results: dict[str, Any]) -> Iterator[str]:
    yield "| file | top-1, file | maps | top-1, as read | same class | same or tied |"
    yield "|---|---|---|---|---|---|"
    rows = {name: results[name] for name in CLASSIFIERS if name in results}
    for name, row in rows.items():
        for kept in _KEPT:
            numbers = " | ".join(f"{number:.1f}" for number in row[kept or "read"].values())
            yield f"| {name} | {row['top1_file']:.1f} | {kept or 'as read'} | {numbers} |"
    for name, row in rows.items():
        if not row["sizes"]:
            continue
        yield f"\n| {name} at | " + " | ".join(WAYS) + " |"
        yield "|---" * (1 + len(WAYS)) + "|"
        for size, cells in row["sizes"].items():
            texts = (
                "-" if isinstance(c, str) else f"{c[0]:.1f} ({c[1]:.0f})" for c in cells.values()
            )
            yield f"| {size} | " + " | ".join(texts) + " |"
    if (trained := results.get(_WAKE_WORDS)) is not None:
        yield f"\n| {_WAKE_WORDS}, {' or '.join(_CLASSES)} | accuracy, seeds 0 to 2 | mean |"
        yield "|---|---|---|"
        for pixels, accuracies in trained.items():
            each = ", ".join(f"{accuracy:.1f}" for accuracy in accuracies)
            name = "pixels as they are" if pixels == "None" else f"`--pixels {pixels}`"
            yield f"| {name} | {each} | {np.mean(accuracies):.1f} |"
    if (trips := results.get(_ROUND_TRIPS)) is not None:
        yield "\n| network, its shape, another | kind | file | read | adapted | written again |"
        yield "|---|---|---|---|---|---|"
        for name, row in trips.items():
            for kind, steps in row["files"].items():
                cells = " | ".join(f"{same:.0f} ({error:.1e})" for same, error in steps.values())
                yield f"| {name}, {row['own']}, {row['other']} | {kind} | {cells} |"
    if (masks := results.get(_SEGMENTER)) is not None:
        yield f"\n| {_SEGMENTER} | IoU |"
        yield "|---|---|"
        yield f"| the file's mask, with the true one | {masks['iou_file']:.3f} |"
        yield f"| as read | {masks['iou']:.3f} |"
        yield f"| as read, with the file's | {masks['iou_with_file']:.3f} |"
        yield f"| as read, at 257x385 | {masks['iou_at_257x385']:.3f} |"
    if (heatmaps := results.get(_POSES)) is not None:
        yield f"\n| {_POSES} | mean difference, steps | correlation |"
        yield "|---|---|---|"
        for name, row in heatmaps["maps"].items():
            yield f"| {name} | {row['mean_difference_in_steps']:.1f} | {row['correlation']:.4f} |"


if __name__ == "__main__":
    main()

"""`export`: a run's model as files for other runtimes, each compared with it."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from ..charts import make_folder
from ..data.batches import Batches
from ..data.catalogue import Catalogue
from ..data.sources import Source, open_source
from ..errors import DataError, OutputExists, RequestError, RunError, UnknownName
from ..evaluate.probabilities import as_probabilities, ends_in_softmax
from ..report import leave_report
from ..runs import Run, write_json
from ..train.course import catalogue_of
from ..train.recipe import Recipe
from ..train.show import Show
from .convert import convert
from .exported import ExportFile, Exports
from .formats import Format, Io, formats_of
from .parity import answers, compared
from .runtimes import load
from .sidecar import c_array, card_of, embed, example
from .timing import Timing, timed

_TABLE = "exports.json"


def export(
    run: str | Path | Run,
    to: str | Sequence[str] = "litert",
    *,
    data: Source = None,
    out: str | Path | None = None,
    calibration: int = 200,
    pictures: int = 1000,
    io: Io = "float32",
    min_agreement: float = 0.97,
    timing: bool = True,
    replace_files: bool = False,
    show: bool = False,
) -> Exports:
    """Write a run's model for other runtimes and compare every file with it on real pictures.

    Args:
        run: a complete run.
        to: formats, as a list or with commas: ``litert``, ``litert-float16``, ``litert-dynamic``
            (int8 weights), ``litert-int8`` (all in int8), ``onnx``, ``openvino``, ``savedmodel``,
            ``keras``.
        data: pictures to compare on; by default those that the training held out.
        out: where to; by default the run's folder ``exports``.
        calibration: pictures, the same share of every class, that say how int8 ranges are chosen;
            from the training pictures, where those are still there.
        pictures: the most to compare on, the same share of every class.
        io: what a ``litert-int8`` file takes and gives: ``"float32"``, ``"int8"`` or ``"uint8"``.
        min_agreement: the share of pictures, in [0, 1], on which a file has to answer as Keras.
        timing: whether to measure latency, each in a process of its own.
        replace_files: whether files that are there already are replaced.
        show: whether to show progress on standard error.

    Returns:
        The files: print them, or take ``as_dict()``. ``exports.json`` beside them says the same.

    Raises:
        UnknownName: if there is no such format.
        RequestError: if an extra is missing, or there is no finished run.
        OutputExists: if a file is there already.
        DataError: if there are no pictures to calibrate or compare on.
        GraphError: if a format has no operator for a layer.
    """
    forms = formats_of(to)
    if io not in get_args(Io):
        raise UnknownName("io", io, get_args(Io))
    if not 0.0 <= min_agreement <= 1.0:
        raise RequestError(f"min_agreement={min_agreement}; expected 0 to 1")
    for name, value in (("calibration", calibration), ("pictures", pictures)):
        if value < 1:
            raise RequestError(f"{name}={value}; expected at least 1")
    opened = Run.open(run)
    if opened.status != "complete":
        raise RequestError(
            f"{opened.folder} holds no trained model yet (its training is {opened.status}); "
            f"expected a complete run; finish it with inshape train --resume {opened.folder}"
        )
    output = Show.to_stderr(show)
    folder = Path(out) if out is not None else opened.exports
    paths = [folder / _name(form) for form in forms]
    for path in paths:
        if path.exists() and not replace_files:
            raise OutputExists(f"{path} exists already; expected a new file; add --replace")
    needed = calibration if any(form.is_quantised for form in forms) else 0
    held, sample = pictures_of(opened, data, pictures, needed, output)
    model = opened.load_model()
    reference = as_probabilities(_predicted(model, held[0]), is_softmax=ends_in_softmax(model))
    make_folder(folder)
    made: list[ExportFile] = []
    for form, path in zip(forms, paths, strict=True):
        with output.bar(f"{form.name}") as told:
            _write(opened, model, form, path, sample, io)
            told(1, 3)
            parity = compared(answers(load(path), held[0]), reference, held[1])
            told(2, 3)
            made.append(
                ExportFile(
                    format=form.name,
                    path=str(path),
                    size_bytes=_size(path),
                    pictures=len(held[0]),
                    agreement=parity.agreement,
                    accuracy=parity.accuracy,
                    accuracy_change=parity.accuracy_change,
                    max_difference=parity.max_difference,
                    mean_difference=parity.mean_difference,
                    timings=_timings(path, held[0].shape[1:]) if timing else (),
                    arena_bytes=_arena(path) if form.suffix == ".tflite" else None,
                    is_trusted=parity.agreement >= min_agreement,
                )
            )
        if form.name == "litert-int8":
            _write_header(path, made[-1].arena_bytes or 0)
    found = Exports(
        run=str(opened.folder),
        min_agreement=min_agreement,
        keras_accuracy=compared(reference, reference, held[1]).accuracy,
        keras_timings=_timings(opened.model_path, held[0].shape[1:]) if timing else (),
        files=tuple(made),
    )
    _keep_table(folder / _TABLE, found)
    if folder.resolve() == opened.exports.resolve():
        leave_report(opened.folder)
    return found


def _keep_table(path: Path, found: Exports) -> None:
    """Write the table; rows of earlier exports stay while their files are there."""
    rows = found.as_dict()
    try:
        before = json.loads(path.read_text(encoding="utf-8"))["exports"]
    except (OSError, ValueError, KeyError):
        before = []
    new = {row["path"] for row in rows["exports"]}
    kept = [row for row in before if row["path"] not in new and Path(row["path"]).exists()]
    write_json(path, {**rows, "exports": [*kept, *rows["exports"]]})


def pictures_of(
    run: Run, data: Source, most: int, calibration: int, output: Show | None = None
) -> tuple[tuple[NDArray[np.float32], NDArray[np.int32]], list[NDArray[np.float32]]]:
    """The pictures to compare on, and those to calibrate on.

    Args:
        run: a complete run.
        data: to compare on; ``None`` for those that the training held out.
        most: to compare on.
        calibration: how many to calibrate on, from the training pictures; 0 for none.
        output: tells how far the work is.

    Returns:
        Prepared pictures with their classes, and prepared pictures.

    Raises:
        DataError: if there are none.
    """
    told = output or Show(None)
    own = _own_pictures(run, told)
    held = _prepared(run, _held_out(own, data, run), most, told)
    if not calibration:
        return held, []
    source = own.take(own.indices("train")) if own is not None else _labelled(data, run)
    return held, list(_prepared(run, source, calibration, told)[0])


def _predicted(model: Any, pictures: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(model.predict(pictures, batch_size=32, verbose=0))


def _name(form: Format) -> str:
    if form.name == "savedmodel":
        return "savedmodel"
    kind = form.name.removeprefix("litert").lstrip("-") if form.suffix == ".tflite" else ""
    return f"model-{kind}{form.suffix}" if kind else f"model{form.suffix}"


def _own_pictures(run: Run, output: Show) -> Catalogue | None:
    """The pictures that the run was trained on, if they are still where they were."""
    request = run.record["request"]
    source = request["source"]
    if source is None or not Path(source).exists():
        return None
    return catalogue_of(source, Recipe(**request["recipe"]), int(run.record["seed"]), output)


def _held_out(own: Catalogue | None, data: Source, run: Run) -> Catalogue:
    if data is not None:
        return _labelled(data, run)
    if own is None:
        raise DataError(
            f"the pictures of {run.folder} are not where they were; expected some to compare on; "
            "name a folder with --data"
        )
    return own.take(own.indices("validation"))


def _labelled(data: Source, run: Run) -> Catalogue:
    if data is None:
        raise DataError(
            f"the pictures of {run.folder} are not where they were; expected some to calibrate "
            "int8 on; name a folder with --data"
        )
    found = open_source(data, class_names=run.labels, labels="optional")
    if not len(found):
        raise DataError(f"no pictures in {data}; expected some to compare or calibrate on")
    return found


def _prepared(
    run: Run, catalogue: Catalogue, most: int, output: Show
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """At most so many pictures, the same share of every class, as the model takes them."""
    chosen = catalogue.take(_stratified(catalogue.labels, most))
    with output.bar("preparing pictures") as told:
        batches = Batches.open(chosen, run.preparation, cache="none", progress=told)
    rows = [(np.asarray(p, np.float32), y) for p, y in batches.iterate(None, 64)]
    return np.concatenate([p for p, _ in rows]), np.concatenate([y for _, y in rows])


def _stratified(labels: NDArray[np.integer[Any]], most: int) -> list[int]:
    """Positions of at most so many pictures, spread evenly over each class."""
    if len(labels) <= most:
        return list(range(len(labels)))
    order = np.argsort(labels, kind="stable")
    places = np.linspace(0, len(order) - 1, most).round().astype(int)
    return sorted(order[np.unique(places)].tolist())


def _write(
    run: Run, model: Any, form: Format, path: Path, sample: list[NDArray[np.float32]], io: Io
) -> None:
    """Convert beside the final place, then move there."""
    card = card_of(run, form, io)
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".export-") as scratch:
            part = Path(scratch) / path.name
            calibrating = [p[None] for p in sample] if form.is_quantised else []
            convert(model, form, part, pictures=calibrating, io=io)
            embed(part, form, card)
            for piece in sorted(Path(scratch).iterdir()):
                goal = path.parent / piece.name
                if goal.is_dir():
                    shutil.rmtree(goal)
                os.replace(piece, goal)
        write_json(path.with_name(f"{path.name}.json"), card)
        text = example(path, run.preparation, run.labels)
        if text is not None:
            path.with_name(f"{path.name}.py").write_text(text, encoding="utf-8")
    except OSError as error:
        raise RunError(
            f"cannot write {path}: {error.strerror or error}; what was there is unchanged; "
            "free some space or choose a folder that can be written"
        ) from error


def _write_header(path: Path, arena_bytes: int) -> None:
    name = path.stem.replace("-", "_")
    path.with_suffix(".h").write_text(
        c_array(path.read_bytes(), name, arena_bytes), encoding="ascii"
    )


def _timings(path: Path, shape: tuple[int, ...]) -> tuple[Timing, ...]:
    cores = os.cpu_count() or 1
    return tuple(timed(path, shape, threads=n) for n in dict.fromkeys((1, cores)))


def _size(path: Path) -> int:
    """Bytes of a file with its companion, or of everything in a folder."""
    if path.is_dir():
        return sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
    weights = path.with_suffix(".bin")
    extra = weights.stat().st_size if path.suffix == ".xml" and weights.exists() else 0
    return path.stat().st_size + extra


def _arena(path: Path) -> int:
    """The most that the tensors of a LiteRT file take at one moment."""
    from ai_edge_litert.interpreter import (
        Interpreter,  # pyright: ignore[reportMissingTypeStubs]
        OpResolverType,
    )

    # Without XNNPACK, whose own operators would hide the tensors.
    run: Any = Interpreter(
        model_path=str(path),
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    run.allocate_tensors()
    sizes = {
        t["index"]: int(np.prod(t["shape"])) * np.dtype(t["dtype"]).itemsize
        for t in run.get_tensor_details()
    }
    steps = run._get_ops_details()  # pyright: ignore[reportPrivateUsage]
    made = {int(i): n for n, step in enumerate(steps) for i in step["outputs"]}
    for taken in run.get_input_details():
        made[int(taken["index"])] = -1
    used = {int(i): n for n, step in enumerate(steps) for i in step["inputs"]}
    used.update({int(t["index"]): len(steps) for t in run.get_output_details()})
    live = [
        sum(sizes[i] for i, born in made.items() if born <= n <= used.get(i, born))
        for n in range(len(steps))
    ]
    return max(live, default=0)

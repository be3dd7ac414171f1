"""The commands: a request, the function that meets it, and what is printed."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import NoCandidate, RequestError
from ..requests import Request, command_of, options_of

if TYPE_CHECKING:
    from .console import Console


@dataclass(frozen=True, slots=True)
class Command:
    """One command."""

    request: str
    """Where its request class stands, ``module:name``; a room is loaded when it is needed."""
    run: Callable[[Any, Console], int | None]
    """Takes the request and the console; the exit code, 0 by default."""
    summary: str
    """What it does, in one line."""
    example: str
    """How it is called."""

    @property
    def kind(self) -> type[Request]:
        """The class of its request; loads the room."""
        module, name = self.request.split(":")
        return getattr(import_module(f"..{module}", __package__), name)


def _words(*words: object) -> str:
    """A command as it is typed."""
    return shlex.join(("inshape", *map(str, words)))


def _inspect(request: Any, console: Console) -> None:
    from ..planning import plan

    planned = plan.as_asked(request)
    name, shape = request.backbone, planned.input_shape
    adapt = f"{command_of('adapt', request)} --out model.keras"
    train = _words("train", "photos", "--backbone", name, "--input", shape, "--out", "runs/a")
    console.answer(planned, planned.as_dict(), (adapt, train))


def _adapt(request: Any, console: Console) -> None:
    from ..planning import adapted

    if request.out is None:
        raise RequestError("adapt has nowhere to write; expected --out FILE.keras; give one")
    result = adapted(request)
    values = {
        "plan": result.plan.as_dict(),
        "weights": result.report.as_dict(),
        "model": str(request.out),
    }
    shape = result.plan.input_shape
    own = ("--backbone", request.out, "--weights", "none", "--input", shape)
    console.show(result.plan)
    console.answer(
        f"\n{result.report}\nwrote {request.out}",
        values,
        (_words("inspect", request.out, shape), _words("train", "photos", *own, "--out", "runs/a")),
    )


def _train(request: Any, console: Console) -> None:
    from ..choosing import train

    with _answering_nothing(console):
        run = train.as_asked(request, show=True)
    _show_run(run, console)


def _resume(request: Any, console: Console) -> None:
    from ..training.api import resume

    _show_run(resume.as_asked(request, show=True), console)


def _show_run(run: Any, console: Console) -> None:
    console.answer(
        run,
        {"run": str(run.folder), **run.record},
        (
            _words("evaluate", run.folder, "photos_test"),
            _words("export", run.folder, "--to", "litert-int8"),
        ),
    )


def _compare(request: Any, console: Console) -> None:
    from ..comparison.api import compare

    with _answering_nothing(console):
        comparison = compare.as_asked(request, show=True)
    out = request.out
    report = f"{command_of('compare', request)} --out compared"
    if out is not None:
        report = _words("report", out, "--open")
    console.answer(comparison, comparison.as_dict(), (report,))


@contextmanager
def _answering_nothing(console: Console) -> Generator[None]:
    """Answer with a comparison of which nothing can be taken, before its error."""
    try:
        yield
    except NoCandidate as nothing:
        console.answer(nothing.comparison, nothing.comparison.as_dict())
        raise


def _evaluate(request: Any, console: Console) -> None:
    from ..evaluation.api import evaluate
    from ..evaluation.request import is_exported

    evaluation, run = evaluate.as_asked(request), request.run
    then = (_words("predict", run, "new"), _words("bench", run))
    if not is_exported(Path(run)):
        then = (_words("report", run, "--open"), _words("export", run, "--to", "litert-int8"))
    console.answer(evaluation, evaluation.as_dict(), then)


def _predict(request: Any, console: Console) -> None:
    from ..evaluation.request import is_exported
    from ..prediction import predict

    predictions, run = predict.as_asked(request), request.run
    other = _words("export", run, "--to", "litert-int8")
    if is_exported(Path(run)):
        other = _words("bench", run)
    console.answer(
        "\n".join(map(str, predictions)),
        {"run": str(run), "predictions": [one.as_dict() for one in predictions]},
        (_words("evaluate", run, "photos_test"), other),
    )


def _export(request: Any, console: Console) -> int:
    from ..exporting.api import export

    exports = export.as_asked(request, show=True)
    then = [_words("report", exports.run, "--open")]
    if exports.files:
        path = exports.files[0].path
        then = [_words("predict", path, "new"), _words("bench", path)]
    console.answer(exports, exports.as_dict(), then)
    return int(bool(exports.failed or exports.refused))


def _bench(request: Any, console: Console) -> None:
    from ..exporting.bench import bench

    measured, file = bench(request), request.file
    then = (_words("predict", file, "new"), _words("evaluate", file, "photos_test"))
    console.answer(measured, measured.as_dict(), then)


def _report(request: Any, console: Console) -> None:
    from ..reporting.api import report

    path, subject = report.as_asked(request), request.subject
    then = [_words("train", "photos", "--input", "auto", "--out", "runs/b")]
    if (Path(subject) / "model.keras").exists():
        export = _words("export", subject, "--to", "litert-int8")
        then = [_words("evaluate", subject, "photos_test"), export]
    console.answer(path, {"report": str(path)}, then)


def _models(request: Any, console: Console) -> None:
    from ..backbones import list_backbones

    listing = list_backbones(request.name)
    name = listing.rows[0][0].name
    then = (_words("inspect", name, "96x96x1"), _words("compare", "photos", "--backbone", name))
    console.answer(listing, listing.as_dict(), then)


def _doctor(request: Any, console: Console) -> int:
    from ..doctor import diagnose

    diagnosis = diagnose()
    then = () if diagnosis.problems else (_words("demo"), _words("models"))
    console.answer(diagnosis, diagnosis.as_dict(), then)
    return int(bool(diagnosis.problems))


def _studio(request: Any, console: Console) -> None:
    from ..studio.app import serve

    serve(request, console.show)


def _demo(request: Any, console: Console) -> int:
    from ..demo import run_demo

    return run_demo(request.out, console)


COMMANDS: Mapping[str, Command] = {
    "inspect": Command(
        "planning:PlanRequest", _inspect,
        "show what a new input shape would do to a network",
        "inshape inspect MobileNetV3Small 96x96x1 --classes 5",
    ),
    "adapt": Command(
        "planning:AdaptRequest", _adapt,
        "give a network a new input shape and save it",
        "inshape adapt MobileNetV3Small 96x96x1 --classes 5 --out small.keras",
    ),
    "train": Command(
        "training.request:TrainRequest", _train,
        "fine-tune a network on your pictures",
        "inshape train photos --input 96x96x3 --out runs/a\n\n"
        "to go on: inshape train --resume runs/a",
    ),
    "evaluate": Command(
        "evaluation.request:EvaluateRequest", _evaluate,
        "measure a run on labelled pictures",
        "inshape evaluate runs/a photos_test",
    ),
    "predict": Command(
        "prediction:PredictRequest", _predict,
        "classify pictures with a run or an exported file",
        "inshape predict runs/a new/*.jpg",
    ),
    "compare": Command(
        "comparison.request:CompareRequest", _compare,
        "measure shapes and strategies on your pictures and recommend one",
        "inshape compare photos --max-latency 5ms --out compared",
    ),
    "report": Command(
        "reporting.request:ReportRequest", _report,
        "write a run or a comparison as a page",
        "inshape report runs/a --open",
    ),
    "export": Command(
        "exporting.request:ExportRequest", _export,
        "write a run's model for other runtimes, each file compared with it",
        "inshape export runs/a --to litert-int8,onnx",
    ),
    "bench": Command(
        "exporting.request:BenchRequest", _bench,
        "measure how long a call of an exported file takes",
        "inshape bench runs/a/exports/model-int8.tflite",
    ),
    "studio": Command(
        "studio.request:StudioRequest", _studio,
        "open a page on this machine to see a shape, train and try it",
        "inshape studio photos",
    ),
    "demo": Command(
        "demo:DemoRequest", _demo,
        "inspect, train, evaluate and export on handwritten digits",
        "inshape demo --out runs/demo",
    ),
    "models": Command(
        "backbones:ModelsRequest", _models,
        "list the backbones with their size, cost, accuracy and weights",
        "inshape models mobilenet",
    ),
    "doctor": Command(
        "doctor:DoctorRequest", _doctor,
        "show versions, devices, caches and missing parts",
        "inshape doctor",
    ),
}  # fmt: skip
RESUME = Command(
    "training.request:ResumeRequest", _resume,
    "go on with a training that was interrupted", "inshape train --resume runs/a",
)  # fmt: skip
"""What ``train`` becomes with ``--resume``."""


def command_for(words: list[str]) -> tuple[Command, list[str]]:
    """The command that words begin with, and the words behind it."""
    name, *rest = words
    is_resumed = name == "train" and any(w.split("=")[0] == "--resume" for w in rest)
    return RESUME if is_resumed else COMMANDS[name], rest


def check_resumed(words: list[str]) -> None:
    """Refuse options of a new training beside ``--resume``."""
    known = {o.flag for o in options_of(RESUME.kind)}
    new = {o.flag for o in options_of(COMMANDS["train"].kind)} - known
    names = [w.split("=")[0].removeprefix("--") for w in words if w.startswith("--")]
    flags = [name.replace("_", "-").removeprefix("no-") for name in names]
    wrong = [f"--{flag}" for flag in dict.fromkeys(flags) if flag in new]
    if wrong:
        raise RequestError(
            f"--resume goes on with the run as it was begun; leave out {', '.join(wrong)}"
        )

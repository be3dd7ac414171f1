"""The commands: a request, the function that meets it, and what is printed."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..errors import NoCandidate, RequestError
from ..requests import Request, options_of

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


def _inspect(request: Any, console: Console) -> None:
    from ..planning import plan

    planned = plan.as_asked(request)
    console.answer(planned, planned.as_dict())


def _adapt(request: Any, console: Console) -> None:
    from ..planning import adapted

    if request.out is None:
        raise RequestError("adapt has nowhere to write; expected --out FILE.keras; give one")
    result = adapted(request)
    console.answer(
        f"{result.plan}\n\n{result.report}\nwrote {request.out}",
        {
            "plan": result.plan.as_dict(),
            "weights": result.report.as_dict(),
            "model": str(request.out),
        },
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
    name, metrics = run.task.score_name, run.record["metrics"]
    folds = metrics.get("folds")
    spread = ""
    if folds is not None:
        of = f"{len(folds['scores'])} folds"
        spread = f"; over {of} {folds['mean']:.4f}, standard deviation {folds['deviation']:.4f}"
    console.answer(
        f"{run.folder}: validation {name} {metrics['validation'][name]:.4f}{spread}",
        {"run": str(run.folder), **run.record},
    )


def _compare(request: Any, console: Console) -> None:
    from ..comparison.api import compare

    with _answering_nothing(console):
        comparison = compare.as_asked(request, show=True)
    console.answer(comparison, comparison.as_dict())


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

    evaluation = evaluate.as_asked(request)
    console.answer(evaluation, evaluation.as_dict())


def _predict(request: Any, console: Console) -> None:
    from ..prediction import predict

    predictions = predict.as_asked(request)
    console.answer(
        "\n".join(map(str, predictions)),
        {"run": str(request.run), "predictions": [one.as_dict() for one in predictions]},
    )


def _export(request: Any, console: Console) -> int:
    from ..exporting.api import export

    exports = export.as_asked(request, show=True)
    console.answer(exports, exports.as_dict())
    return int(bool(exports.failed or exports.refused))


def _bench(request: Any, console: Console) -> None:
    from ..exporting.bench import bench

    measured = bench(request)
    console.answer(measured, measured.as_dict())


def _report(request: Any, console: Console) -> None:
    from ..reporting.api import report

    path = report.as_asked(request)
    console.answer(path, {"report": str(path)})


def _models(request: Any, console: Console) -> None:
    from ..backbones import list_backbones

    listing = list_backbones(request.name)
    console.answer(listing, listing.as_dict())


def _doctor(request: Any, console: Console) -> int:
    from ..doctor import diagnose

    diagnosis = diagnose()
    console.answer(diagnosis, diagnosis.as_dict())
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
        "write a run's model for other runtimes, and compare every file with it",
        "inshape export runs/a --to litert-int8,onnx",
    ),
    "bench": Command(
        "exporting.request:BenchRequest", _bench,
        "measure how long a call of an exported file takes",
        "inshape bench runs/a/exports/model-int8.tflite",
    ),
    "studio": Command(
        "studio.request:StudioRequest", _studio,
        "open a page on this machine to see a shape, train a network and try it",
        "inshape studio photos",
    ),
    "demo": Command(
        "demo:DemoRequest", _demo,
        "inspect, compare, train, evaluate and export on handwritten digits",
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

"""The page: what stands where, and which function of this room answers to what.

Names of files, folders and classes come from outside: they are shown through templates that escape
them, or by components that take text.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from functools import partial, wraps
from importlib import import_module
from importlib.resources import files as package_files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from ..backbones import backbones
from ..data.decode import load_compact
from ..data.prepare import PictureOptions
from ..errors import InshapeError, RequestError
from ..limits import Limits
from ..planning import Plan
from ..reporting.page import render_part
from ..text import plural
from . import jobs, shape, trial
from .files import UPLOAD_BYTES, Files, check_picture
from .guard import SameOrigin
from .request import LOCAL, StudioRequest

_USER = "inshape"
_BACKBONE = "MobileNetV3Small"
_STRATEGIES = ("auto", *shape.STRATEGIES)
_TICK_S = 2.0
_COSTS = ("Latency", "MACs", "File size", "Memory")
_AT_ONCE = 4
_PHOTO = "The picture"
_LISTED = {"allow_custom_value": True, "value": None}
_MARGIN = {"l": 56, "r": 12, "t": 28, "b": 48}
# Colours of plots that both schemes of the page bear.
_COLOURS = {
    "--accent": "#4f82e8", "--warm": "#d9772b", "--good": "#22a06b", "--bad": "#d9453b",
    "--rule-strong": "#8b949c", "--faint": "#8b949c", "--paper": "rgba(0,0,0,0)",
}  # fmt: skip


def serve(request: StudioRequest, show: Callable[[str], object]) -> None:
    """Serve the page until it is interrupted.

    Args:
        request: what was asked for.
        show: prints the line that says where the page is.

    Raises:
        RequestError: if there is no such folder, Gradio is missing, or the port is taken.
    """
    page, options = build(request)
    try:
        _, address, _ = page.launch(**options, prevent_thread_lock=True)
    except OSError as error:
        raise RequestError(
            f"port {request.port} of {request.host} cannot be used ({error}); expected a free one; "
            "give --port another number"
        ) from None
    auth = options["auth"]
    secret = "" if auth is None else f", user {auth[0]}, password {auth[1]}"
    show(f"the studio for {request.folder.resolve()} is at {address}{secret}; Ctrl-C ends it")
    page.block_thread()


def build(request: StudioRequest) -> tuple[Any, dict[str, Any]]:
    """The page, and how to launch it.

    Raises:
        RequestError: if there is no such folder, or Gradio is missing.
    """
    files = Files.of(request.folder)
    if find_spec("gradio") is None:
        raise RequestError(
            "the studio needs Gradio; expected it to be installed; pip install 'inshape[studio]'"
        )
    # Gradio reads both when it is imported: uploads stay below the folder, and nothing is sent.
    os.environ["GRADIO_TEMP_DIR"] = str(files.own / "uploads")
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    gr = _gradio()
    page = gr.Blocks(title="inshape studio", analytics_enabled=False, delete_cache=(3600, 86400))
    with page:
        gr.HTML(render_part("studio", {"folder": str(files.root)}), padding=False)
        with gr.Tab("Shape", id="shape"):
            _add_shape(page)
        with gr.Tab("Train", id="train") as tab:
            _add_train(files, tab)
        with gr.Tab("Compare", id="compare") as tab:
            _add_compare(files, tab)
        with gr.Tab("Try", id="try") as tab:
            _add_try(files, tab)
    is_local = request.host == LOCAL
    middleware = import_module("starlette.middleware").Middleware
    system = ["system-ui", "sans-serif"], ["ui-monospace", "Consolas", "monospace"]
    styles = package_files("inshape.reporting").joinpath("templates")
    css = [
        styles.joinpath(f"{name}.css").read_text(encoding="utf-8") for name in ("stages", "studio")
    ]
    return page, {
        "server_name": request.host,
        "server_port": request.port,
        "auth": None if is_local else (_USER, secrets.token_urlsafe(12)),
        "share": False,
        "inbrowser": request.open,
        "quiet": True,
        "ssr_mode": False,
        "mcp_server": False,
        "footer_links": [],
        "run_history": False,
        "max_file_size": UPLOAD_BYTES,
        "app_kwargs": {"middleware": [middleware(SameOrigin, is_local=is_local)]},
        "theme": gr.themes.Default(primary_hue="blue", font=system[0], font_mono=system[1]),
        "css": "\n".join(css),
    }  # fmt: skip


def _gradio() -> Any:
    """Gradio, which takes seconds to load and may not be there; loaded by `build`."""
    return import_module("gradio")


def _said(error: Exception) -> str:
    """An error in a box of its own; the text of others may hold anything."""
    return render_part("message", {"message": str(error)})


def _on(triggers: Any, answer: Callable[..., Any], inputs: Any, outputs: Any, **how: Any) -> Any:
    """Let a function answer to events of the page, of which only the page itself makes use."""
    how = {"show_progress": "hidden", "concurrency_limit": _AT_ONCE, **how}
    how["api_visibility"] = "private"
    if isinstance(triggers, list):
        return _gradio().on(triggers, answer, inputs, outputs, **how)
    return triggers(answer, inputs, outputs, **how)


def _saying(count: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Show what cannot be done in the first of so many outputs, and leave the others."""

    def decorate(answer: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(answer)
        def answering(*values: Any) -> Any:
            try:
                return answer(*values)
            except InshapeError as error:
                rest = [_gradio().skip() for _ in range(count - 1)]
                return [_said(error), *rest] if rest else _said(error)

        return answering

    return decorate


def _acting(act: Callable[[str], object]) -> Callable[..., Any]:
    """Do something with what a list names, and say so where it cannot be done."""

    @_saying(1)
    def acting(name: str | None) -> str:
        act(name or "")
        return ""

    return acting


def _as_it_is() -> Any:
    """A webcam's picture is kept as others see it: by itself Gradio mirrors what is taken."""
    return _gradio().WebcamOptions(mirror=False)


def _choosing_pictures(files: Files, elem_id: str) -> Any:
    label = "Pictures: a folder with a folder per class"
    return _gradio().Dropdown(files.sources(), label=label, elem_id=elem_id, **_LISTED)


# Shape


def _add_shape(page: Any) -> None:
    gr = _gradio()
    names = [backbone.name for backbone in backbones()]
    with gr.Row():
        with gr.Column(scale=1, min_width=280):
            backbone = gr.Dropdown(names, value=_BACKBONE, label="Backbone", elem_id="backbone")
            height = gr.Slider(16, 640, 96, step=1, label="Height (pixels)", elem_id="height")
            width = gr.Slider(16, 640, 96, step=1, label="Width (pixels)", elem_id="width")
            channels = gr.Slider(1, 16, 3, step=1, label="Channels (1: grey, 3: RGB)")
            strategy = gr.Radio(_STRATEGIES, value="auto", label="Strategy", elem_id="strategy")
            classes = gr.Number(5, label="Classes", precision=0, minimum=1)
            with gr.Accordion("What the device allows", open=False):
                flash = gr.Textbox(label="Flash", placeholder="1MiB", elem_id="max-flash")
                ram = gr.Textbox(label="RAM", placeholder="256KiB", elem_id="max-ram")
                macs = gr.Textbox(label="Multiply-accumulates", placeholder="30M")
                gr.HTML(render_part("no_latency", {}), elem_classes="studio")
        with gr.Column(scale=3, min_width=320):
            table = gr.HTML(elem_id="strategies", elem_classes="studio")
            drawing = gr.HTML(elem_id="drawing", elem_classes="studio")
            python = gr.Code(
                language="python", label="The same in Python", elem_id="python", wrap_lines=True
            )
            command = gr.Code(
                language="shell", label="In a terminal", elem_id="command", wrap_lines=True, lines=2
            )
    gr.HTML(render_part("own_picture", {}), elem_classes="studio")
    point = gr.State(None)
    stage = gr.Slider(1, 10, 4, step=1, label="Stage", elem_id="stage")
    with gr.Row():
        picture = gr.Image(
            type="filepath", image_mode=None, sources=["upload", "webcam", "clipboard"],
            label="A picture of your own", elem_id="own-picture", buttons=[], height=400,
            webcam_options=_as_it_is(),
        )  # fmt: skip
        views = [
            gr.Image(format="png", label=fit, interactive=False, elem_id=f"as-{fit}", buttons=[])
            for fit in shape.FITS
        ]
    trouble = gr.HTML(elem_classes="studio", elem_id="picture-trouble")

    chosen = [backbone, height, width, channels, strategy, classes]
    allowed = [flash, ram, macs]
    changes = [control.change for control in (*chosen, *allowed)]
    latest = {"trigger_mode": "always_last"}
    # One event for each picture of the page: answers of two could overtake each other.
    drawn = _on(
        [page.load, *changes], _draw, chosen, [drawing, python, command], queue=False, **latest
    )
    _on(drawn.then, _draw_rows, [*chosen, *allowed], table, **latest)
    for view in views:
        _on(view.select, _taking(gr.SelectData, _point), [height, width], point)
    _on(
        [picture.change, point.change, stage.change, *changes],
        _view,
        [*chosen, stage, picture, point],
        [trouble, *views],
        **latest,
    )


def _planned(
    backbone: str, height: float, width: float, channels: float, strategy: str, classes: float
) -> Plan:
    size = _written(height, width, channels)
    return shape.plan_of(backbone, size, strategy, int(classes or 0))


def _written(*sizes: float | None) -> str:
    return "x".join(str(int(size or 0)) for size in sizes)


@_saying(3)
def _draw(*chosen: Any) -> list[Any]:
    plan = _planned(*chosen)
    return [shape.draw(plan), shape.python_lines(plan.request), shape.command_line(plan.request)]


@_saying(1)
def _draw_rows(*values: Any) -> str:
    *chosen, flash, ram, macs = values
    words = {"max_flash": flash, "max_ram": ram, "max_macs": macs}
    limits = Limits(**{name: word for name, word in words.items() if word and word.strip()})
    backbone, height, width, channels, _, classes = chosen
    size = _written(height, width, channels)
    rows = shape.compare_strategies(backbone, size, int(classes or 0), limits)
    try:
        shown = _planned(*chosen).strategy
    except InshapeError:
        shown = ""
    return shape.draw_rows(rows, shown)


@_saying(1 + len(shape.FITS))
def _view(*values: Any) -> list[Any]:
    *chosen, stage, picture, point = values
    if picture is None:
        return ["", *(None for _ in shape.FITS)]
    plan = _planned(*chosen)
    check_picture(Path(picture))
    box = None if point is None else shape.field_at(plan, int(stage), point)
    options = [PictureOptions(picture_fit=fit).at(plan.static_shape) for fit in shape.FITS]
    return ["", *(shape.enlarge(load_compact(picture, one), box) for one in options)]


def _point(height: float, width: float, event: Any) -> tuple[float, float]:
    return shape.point_in((int(height), int(width)), event.index)


def _taking(kind: type, answer: Callable[..., Any]) -> Callable[..., Any]:
    """Let a function be handed the event itself, which Gradio does by the annotation."""
    answer.__annotations__["event"] = kind
    return answer


# Train


def _add_train(files: Files, tab: Any) -> None:
    gr = _gradio()
    names = [backbone.name for backbone in backbones()]
    with gr.Row():
        with gr.Column(scale=1, min_width=280):
            source = _choosing_pictures(files, "source")
            with gr.Accordion("Bring pictures", open=False, elem_id="bring"):
                folder = gr.Textbox("pictures", label="Into the folder", elem_id="folder")
                archive = gr.File(
                    label="A zip of a folder per class", file_types=[".zip"], type="filepath",
                    elem_id="archive", height=120,
                )  # fmt: skip
                label = gr.Textbox(label="Or a picture of the class", elem_id="label")
                photo = gr.Image(
                    type="filepath", image_mode=None, sources=["webcam", "upload"], buttons=[],
                    label=_PHOTO, elem_id="photo", height=200,
                    webcam_options=_as_it_is(),
                )  # fmt: skip
                add = gr.Button("Add it to its class", elem_id="add")
            backbone = gr.Dropdown(
                names, value=_BACKBONE, label="Backbone", elem_id="train-backbone"
            )
            weights = gr.Radio(jobs.WEIGHTS, value="imagenet", label="Weights", elem_id="weights")
            size = gr.Textbox(
                "96x96x3", label="Input shape: height x width x channels", elem_id="size"
            )
            strategy = gr.Dropdown(_STRATEGIES, value="auto", label="Strategy")
            epochs = gr.Number(
                None, label="Epochs, after those of the head", precision=0, minimum=0,
                placeholder="as many as the pictures need", elem_id="epochs",
            )  # fmt: skip
            out = gr.Textbox("runs/a", label="New run", elem_id="out")
            start = gr.Button("Train", variant="primary", elem_id="start")
        with gr.Column(scale=2, min_width=320):
            trouble = gr.HTML(elem_classes="studio", elem_id="train-trouble")
            run = gr.Dropdown(files.runs(), label="Run", elem_id="run", **_LISTED)
            with gr.Row():
                stop = gr.Button("Stop", elem_id="stop")
                resume = gr.Button("Resume", elem_id="resume")
            status = gr.HTML(elem_classes="studio", elem_id="status")
            curve = gr.Plot(label="Learning curve", elem_id="curve")
    shown = gr.State(None)
    options = [source, backbone, weights, size, strategy, epochs, out]

    @_saying(3)
    def unpack(archive: str | None, folder: str) -> list[Any]:
        if archive is None:
            return [gr.skip(), gr.skip(), gr.skip()]
        place = files.name_of(files.unpack(Path(archive), folder))
        # Pictures that are taken next go to these classes.
        return ["", gr.update(choices=files.sources(), value=place), place]

    @_saying(3)
    def keep(photo: str | None, folder: str, label: str) -> list[Any]:
        if photo is None:
            raise RequestError("there is no picture yet; take or choose one first")
        kept = files.add_picture(Path(photo), folder, label)
        count = plural(sum(1 for _ in kept.parent.iterdir()), "picture")
        said = gr.update(value=None, label=f"{_PHOTO}: {label} has {count}")
        return ["", gr.update(choices=files.sources(), value=folder), said]

    @_saying(2)
    def begin(*values: Any) -> list[Any]:
        job = jobs.start_training(files, *values)
        choices = sorted({*files.runs(), files.name_of(job.folder)})
        return ["", gr.update(choices=choices, value=files.name_of(job.folder))]

    def follow(run: str | None, shown: Any) -> list[Any]:
        facts = jobs.describe(files, "train", run) if run else None
        if facts == shown:
            return [gr.skip(), gr.skip(), gr.skip()]
        if facts is None or run is None:
            return ["", None, None]
        return [render_part("training", facts), _curve(files, run), facts]

    def relist() -> list[Any]:
        return [gr.update(choices=files.sources()), gr.update(choices=files.runs())]

    _on(archive.upload, unpack, [archive, folder], [trouble, source, folder])
    _on(add.click, keep, [photo, folder, label], [trouble, source, photo])
    begun = _on(start.click, begin, options, [trouble, run])
    _on(stop.click, _acting(partial(jobs.stop, files, "train")), run, trouble)
    _on(resume.click, _acting(partial(jobs.resume_training, files)), run, trouble)
    _on(tab.select, relist, None, [source, run])
    followed = [run, shown], [status, curve, shown]
    _on([gr.Timer(_TICK_S).tick, run.change], follow, *followed)
    _on(begun.then, follow, *followed)


def _curve(files: Files, run: str) -> Any:
    """The learning curve by ``history.csv``; none before the second epoch."""
    figure = jobs.learning_curve(files.below(run))
    return None if figure is None else _figure(figure["data"], figure["layout"])


def _figure(data: Any, layout: Any) -> Any:
    graphs = import_module("plotly.graph_objects")  # slow to import
    plain = {"paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)", "margin": _MARGIN}
    legend = {"orientation": "h", "y": -0.2}
    return graphs.Figure(
        data=_coloured(data), layout=_coloured({**layout, **plain, "legend": legend})
    )


def _coloured(value: Any) -> Any:
    """A figure with colours in the place of the names that reports have for them."""
    if isinstance(value, dict):
        return {name: _coloured(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_coloured(part) for part in value]
    return _COLOURS.get(value, value) if isinstance(value, str) else value


# Compare


def _add_compare(files: Files, tab: Any) -> None:
    gr = _gradio()
    names = [backbone.name for backbone in backbones()]
    with gr.Row():
        with gr.Column(scale=1, min_width=280):
            source = _choosing_pictures(files, "compared")
            chosen = gr.Dropdown(
                names, value=[_BACKBONE], multiselect=True, label="Backbones",
                elem_id="compared-backbones",
            )  # fmt: skip
            weights = gr.Radio(
                jobs.WEIGHTS, value="imagenet", label="Weights", elem_id="compared-weights"
            )
            shapes = gr.Textbox(
                label="Input shapes", placeholder="96x96x1,128x128x1; by default what suits",
                elem_id="shapes",
            )  # fmt: skip
            with gr.Accordion("What the device allows", open=False):
                latency = gr.Textbox(label="Latency, one thread here", placeholder="5ms")
                flash = gr.Textbox(label="Flash", placeholder="1MiB")
                ram = gr.Textbox(label="RAM", placeholder="256KiB")
                macs = gr.Textbox(label="Multiply-accumulates", placeholder="30M")
            out = gr.Textbox("compared", label="New comparison", elem_id="compare-out")
            start = gr.Button("Compare", variant="primary", elem_id="compare")
        with gr.Column(scale=2, min_width=320):
            trouble = gr.HTML(elem_classes="studio", elem_id="compare-trouble")
            folder = gr.Dropdown(
                jobs.comparisons(files), label="Comparison", elem_id="comparison", **_LISTED
            )
            with gr.Row():
                stop = gr.Button("Stop", elem_id="compare-stop")
                resume = gr.Button("Resume", elem_id="compare-resume")
            status = gr.HTML(elem_classes="studio", elem_id="compare-status")
            cost = gr.Radio(_COSTS, value=_COSTS[0], label="Accuracy against", elem_id="cost")
            plot = gr.Plot(label="Pareto plot", elem_id="pareto")
            report = gr.Files(label="All of it as a page", interactive=False, height=100)
    shown = gr.State(None)
    options = [source, chosen, weights, shapes, latency, flash, ram, macs, out]

    @_saying(2)
    def begin(*values: Any) -> list[Any]:
        *words, latency, flash, ram, macs, out = values
        limits = {"max_latency": latency, "max_flash": flash, "max_ram": ram, "max_macs": macs}
        job = jobs.start_comparison(files, *words, out=out, **limits)
        choices = jobs.comparisons(files)
        return ["", gr.update(choices=choices, value=files.name_of(job.folder))]

    @_saying(4)
    def follow(folder: str | None, cost: str, shown: Any) -> list[Any]:
        facts = jobs.describe(files, "compare", folder) | {"cost": cost} if folder else None
        if facts == shown:
            return [gr.skip() for _ in range(4)]
        if facts is None or folder is None:
            return ["", None, None, None]
        page = files.below(folder) / "report.html"
        offered = [str(files.offer(page))] if page.is_file() else None
        return [render_part("training", facts), _pareto(files, folder, cost), offered, facts]

    begun = _on(start.click, begin, options, [trouble, folder])
    _on(stop.click, _acting(partial(jobs.stop, files, "compare")), folder, trouble)
    _on(resume.click, _acting(partial(jobs.resume_comparison, files)), folder, trouble)
    relisted = [source, folder]
    _on(
        tab.select,
        lambda: [gr.update(choices=files.sources()), gr.update(choices=jobs.comparisons(files))],
        None,
        relisted,
    )
    followed = [folder, cost, shown], [status, plot, report, shown]
    _on([gr.Timer(_TICK_S).tick, folder.change, cost.change], follow, *followed)
    _on(begun.then, follow, *followed)


def _pareto(files: Files, folder: str, cost: str) -> Any:
    """Accuracy against one of the costs; none before the comparison is complete."""
    figure = jobs.pareto(files.below(folder))
    if figure is None:
        return None
    view = next((v for v in figure["views"] if v["word"] == cost), figure["views"][0])
    axis = {**figure["layout"]["xaxis"], "title": {"text": view["title"]}}
    return _figure(view["data"], {**figure["layout"], "xaxis": axis})


# Try


def _add_try(files: Files, tab: Any) -> None:
    gr = _gradio()
    with gr.Row():
        with gr.Column(scale=1, min_width=280):
            run = gr.Dropdown(
                files.runs(), value=None, allow_custom_value=True, label="Run", elem_id="asked"
            )
            picture = gr.Image(
                type="filepath", image_mode=None, sources=["upload", "webcam", "clipboard"],
                label="A picture", elem_id="question", buttons=[], height=320,
                webcam_options=_as_it_is(),
            )  # fmt: skip
        with gr.Column(scale=2, min_width=320):
            trouble = gr.HTML(elem_classes="studio", elem_id="try-trouble")
            replies = gr.HTML(elem_classes="studio", elem_id="replies")
            heat = gr.Image(
                format="png", interactive=False, elem_id="heat", buttons=[], height=320,
                label="Where the picture speaks for that class (Grad-CAM)",
            )  # fmt: skip
    with gr.Row():
        with gr.Column(scale=1, min_width=280):
            export = gr.Button("Write LiteRT files, float and int8", elem_id="export")
            status = gr.HTML(elem_classes="studio", elem_id="export-status")
        with gr.Column(scale=2, min_width=320):
            downloads = gr.Files(
                label="The run's files", interactive=False, elem_id="files", height=240
            )
    shown = gr.State(None)

    @_saying(3)
    def ask(run: str | None, picture: str | None) -> list[Any]:
        if not run or picture is None:
            return ["", "", None]
        check_picture(Path(picture))
        folder = files.below(run)
        answers = trial.ask_all(folder, Path(picture))
        return [
            "",
            render_part("replies", {"replies": answers}),
            shape.enlarge(np.asarray(trial.heat_map(folder, Path(picture)))),
        ]

    def follow(run: str | None, shown: Any) -> list[Any]:
        facts = jobs.describe(files, "export", run) if run else None
        if facts == shown:
            return [gr.skip(), gr.skip(), gr.skip()]
        if facts is None or run is None:
            return ["", None, None]
        offered = [str(files.offer(path)) for path in trial.downloads_of(files.below(run))]
        return [render_part("training", facts), offered, facts]

    _on([picture.change, run.change], ask, [run, picture], [trouble, replies, heat])
    written = _on(export.click, _acting(partial(jobs.start_export, files)), run, trouble)
    _on(tab.select, lambda: gr.update(choices=files.runs()), None, run)
    followed = [run, shown], [status, downloads, shown]
    _on([gr.Timer(_TICK_S).tick, run.change], follow, *followed)
    _on(written.then, follow, *followed)
    # A file that was just written answers too.
    _on(downloads.change, ask, [run, picture], [trouble, replies, heat])

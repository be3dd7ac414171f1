"""`report`: what stands in a folder, as a page."""

from __future__ import annotations

import os
import warnings
import webbrowser
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from ..data.catalogue import Catalogue
from ..errors import OutputExists, RequestError
from ..requests import takes
from ..runs import Run
from ..text import first_line
from ..writing import make_folder, read_json, reading, write_atomically
from .comparison_page import render_comparison
from .page import is_report
from .request import Kind, ReportRequest
from .run_page import render_run

PAGE = "report.html"
"""The page in a run's or a comparison's folder."""

_RUN = "run.json"
_COMPARISON = "comparison.json"
_OF_COMPARISON = "the record of a comparison; compare anew"
_AGAIN = "evaluate or export again what was changed, or train anew"


class _Recorded(Protocol):
    """A comparison as `inshape.compare` returns it, which stands below this room."""

    def as_dict(self) -> dict[str, Any]: ...


@takes(ReportRequest)
def report(request: ReportRequest) -> Path:
    """Write a run or a comparison as one HTML page that needs no other file and no network.

    Args:
        {options}

    Returns:
        The page's path.

    Raises:
        UnknownName: if there is no such kind.
        RequestError: if the folder holds neither a run nor a comparison, or if a comparison has no
            folder and ``out`` is missing.
        OutputExists: if another file than such a page is there already.
        RunError: if the page cannot be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     begun = Run.create(Path(folder, "a"), {"request": {"shape": "96x96x3"}})
        ...     report(begun).name
        'report.html'
    """
    path = _write(request)
    if request.open:
        webbrowser.open(path.resolve().as_uri())
    return path


def leave_report(
    folder: Path, catalogue: Catalogue | None = None, *, kind: Kind | None = None
) -> None:
    """Write the page of a folder as the last step of a command whose work is complete.

    Whatever goes wrong is one warning: a finished training or comparison stays one. The catalogue
    spares a look for the pictures. A folder may hold a run and a comparison; ``kind`` says which.
    """
    try:
        _write(ReportRequest(subject=folder, kind=kind), catalogue)
    except Exception as error:
        message = (
            f"{folder / PAGE} is not written ({first_line(error, most=500)}); everything else "
            f"is; write it with inshape report {folder}"
        )
        warnings.warn(message, UserWarning, stacklevel=3)


def _write(request: ReportRequest, catalogue: Catalogue | None = None) -> Path:
    subject = request.subject
    folder = subject.folder if isinstance(subject, Run) else None
    if isinstance(subject, Path):
        folder = subject
    if request.out is None and folder is None:
        raise RequestError(
            "a comparison that is in no folder; expected a page to write; give out='report.html'"
        )
    path = request.out or (folder or Path()) / PAGE
    if os.path.exists(path) and not is_report(path):
        raise OutputExists(
            f"{path} exists already and is no report; expected a new file; move it away"
        )
    page = _render(subject, folder, catalogue, request.kind)
    make_folder(path.parent)
    write_atomically(path, lambda part: part.write_text(page, encoding="utf-8"))
    return path


def _render(
    subject: Path | Run | _Recorded,
    folder: Path | None,
    catalogue: Catalogue | None,
    kind: Kind | None,
) -> str:
    if folder is None:
        assert not isinstance(subject, Path | Run)
        return render_comparison(subject.as_dict(), catalogue)
    is_run = isinstance(subject, Run) or os.path.exists(folder / _RUN)
    if kind == "run" or (kind is None and is_run):
        run = Run.open(folder)
        with reading(folder, f"{_RUN} and what is beside it as inshape wrote it; {_AGAIN}"):
            return render_run(run, catalogue)
    record = _comparison(folder)
    with reading(folder / _COMPARISON, _OF_COMPARISON):
        return render_comparison(record, catalogue)


def _comparison(folder: Path) -> Mapping[str, Any]:
    path = folder / _COMPARISON
    if not os.path.exists(path):
        raise RequestError(
            f"{folder} holds neither {_RUN} nor {_COMPARISON}; expected the folder of a run or of "
            "a comparison (inshape compare --out)"
        )
    with reading(path, _OF_COMPARISON):
        record = read_json(path)
        [c["name"] for c in record["candidates"]]  # what every comparison has
    return record

"""`report`: what stands in a folder, as a page."""

from __future__ import annotations

import json
import warnings
import webbrowser
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from ..data.catalogue import Catalogue
from ..errors import OutputExists, RequestError
from ..requests import takes
from ..runs import Run
from ..writing import make_folder, write_atomically
from .comparison_page import comparison_page
from .page import is_ours
from .request import Kind, ReportRequest
from .training_page import training_page

PAGE = "report.html"
"""The page in a run's or a comparison's folder."""

_RUN = "run.json"
_COMPARISON = "comparison.json"


class Recorded(Protocol):
    """A result that can say what it is in plain values, such as `inshape.compare`'s."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold."""
        ...


@takes(ReportRequest)
def report(request: ReportRequest) -> Path:
    """Write a run or a comparison as one HTML page that needs no other file and no network.

    Args:
        {options}

    Returns:
        The page's path.

    Raises:
        UnknownName: if there is no such kind.
        RequestError: if there is neither a run nor a comparison, or no folder to write into.
        OutputExists: if another file than such a page is there already.
        RunError: if it cannot be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     begun = Run.create(Path(folder, "a"), {"request": {"shape": "96x96x3"}})
        ...     report(begun).name
        'report.html'
    """
    path = _written(request.subject, request.out, None, request.kind)
    if request.open:
        webbrowser.open(path.resolve().as_uri())
    return path


def leave_report(
    folder: Path, catalogue: Catalogue | None = None, *, kind: Kind | None = None
) -> None:
    """Write the page of a folder as the last step of something that is done already.

    Whatever goes wrong is one warning: a finished training or comparison stays one.

    Args:
        folder: of a run or a comparison.
        catalogue: the pictures, which are then not looked for.
        kind: what was done, for a folder that holds a run and a comparison; by default the run.
    """
    try:
        _written(folder, None, catalogue, kind)
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        message = (
            f"{folder / PAGE} is not written ({reason}); everything else is; write it with "
            f"inshape report {folder}"
        )
        warnings.warn(message, UserWarning, stacklevel=3)


def _written(
    what: str | Path | Run | Recorded,
    out: str | Path | None,
    catalogue: Catalogue | None,
    kind: Kind | None,
) -> Path:
    folder = what.folder if isinstance(what, Run) else None
    if isinstance(what, str | Path):
        folder = Path(what)
    if out is None and folder is None:
        raise RequestError("a comparison that is in no folder; expected a page to write; give out=")
    path = Path(out) if out is not None else (folder or Path()) / PAGE
    if path.exists() and not is_ours(path):
        raise OutputExists(
            f"{path} exists already and is no report; expected a new file; move it away"
        )
    text = _text(what, folder, catalogue, kind)
    make_folder(path.parent)
    write_atomically(path, lambda part: part.write_text(text, encoding="utf-8"))
    return path


def _text(
    what: str | Path | Run | Recorded,
    folder: Path | None,
    catalogue: Catalogue | None,
    kind: Kind | None,
) -> str:
    run = what if isinstance(what, Run) else None
    if folder is None:
        assert not isinstance(what, str | Path | Run)
        return comparison_page(what.as_dict(), catalogue)
    if kind == "run" or (kind is None and (run or (folder / _RUN).exists())):
        return training_page(run or Run.open(folder), catalogue)
    return comparison_page(_comparison(folder), catalogue)


def _comparison(folder: Path) -> Mapping[str, Any]:
    path = folder / _COMPARISON
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        [c["name"] for c in found["candidates"]]  # what every comparison has
    except FileNotFoundError:
        raise RequestError(
            f"{folder} holds neither {_RUN} nor {_COMPARISON}; expected the folder of a run or of "
            "a comparison (inshape compare --out)"
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RequestError(
            f"{path} cannot be read ({error!r}); expected the record of a comparison; compare anew"
        ) from error
    return found

"""The table of exported files in a folder, which one export after the other adds to."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ..errors import OutputExists
from ..writing import write_atomically, write_json
from .exported import Exports
from .printing import printed

TABLE = "exports.json"
"""The table; files are named relative to its folder, so that both can be moved."""
_PRINTED = "exports.txt"


def check_table(folder: Path) -> None:
    """Refuse to write over a table that is not one of ours.

    Args:
        folder: of the table.

    Raises:
        OutputExists: if there is a file of its name.
    """
    ours = _record(folder) is not None
    for name in (TABLE, _PRINTED):
        if (folder / name).exists() and not ours:
            raise OutputExists(
                f"{folder / name} exists already and is no table of exports; expected a new file; "
                "add --replace, or name another folder with --out"
            )


def keep_table(folder: Path, found: Exports) -> None:
    """Write the table; rows of earlier exports stay while their files are there.

    Args:
        folder: where to.
        found: the new rows.

    Raises:
        RunError: if it cannot be written.
    """
    record = found.as_dict()
    new = [{**row, "path": _named(Path(row["path"]), folder)} for row in record["exports"]]
    before = _record(folder) or {}
    old = [
        {**row, "path": _named(folder / row["path"], folder)}
        for row in before.get("exports", [])
        if (folder / row["path"]).exists()
    ]
    replaced = {row["path"] for row in new}
    asked = {row["format"] for row in (*record["exports"], *record["refused"])}
    merged = {
        **record,
        "exports": [*(row for row in old if row["path"] not in replaced), *new],
        "refused": [
            *(row for row in before.get("refused", []) if row["format"] not in asked),
            *record["refused"],
        ],
    }
    text = f"{printed(merged)}\n"
    write_json(folder / TABLE, merged)
    write_atomically(folder / _PRINTED, lambda part: part.write_text(text, encoding="utf-8"))


def _record(folder: Path) -> dict[str, Any] | None:
    """What earlier exports left; ``None`` where there is no table of them."""
    try:
        record = json.loads((folder / TABLE).read_text(encoding="utf-8"))
        is_ours = all({"path", "timings", "load_ms"} <= set(row) for row in record["exports"])
        is_ours &= all("written" in row for row in record["refused"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return record if is_ours else None


def _named(path: Path, folder: Path) -> str:
    try:
        return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()
    except ValueError:  # another drive of Windows
        return path.absolute().as_posix()

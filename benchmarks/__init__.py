"""Measurements, each run as ``python -m benchmarks.NAME`` from the root of the repository."""

from __future__ import annotations

from pathlib import Path

RESULTS = Path(__file__).resolve().parent / "results"
"""What measurements left that a page of the documentation prints, a folder each."""

_SHARED = Path(__file__).resolve().parents[2] / "shared"


def backbone_of(network: str) -> str:
    """A network by its name, or by its file in the folder of test data."""
    return str(_SHARED / "models" / network) if network.endswith(".h5") else network


def results_folder(name: str, out: Path | None, *, is_table: bool) -> Path:
    """Where results go, or where a table reads them: what is kept here, unless another is named."""
    folder = out or (RESULTS if is_table else Path("runs")) / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder

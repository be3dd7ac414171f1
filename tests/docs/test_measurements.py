"""Pages of measurements show what is printed from the results that are kept."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks import (
    RESULTS,
    demo_weights,
    dense_fidelity,
    detection,
    exports,
    few_labels,
    fits,
    footprint,
    kills,
    many_pictures,
    model_files,
    patches,
    probe_fidelity,
    segmentation,
    transfer,
    zoo,
)

DOCS = Path(__file__).resolve().parents[2] / "docs"
TABLES = {
    "transfer": transfer.table,
    "demo_weights": demo_weights.tables,
    "probe_fidelity": probe_fidelity.report,
    "zoo": zoo.table,
    "kills": kills.table,
    many_pictures.NAME: many_pictures.table,
    "exports": exports.small_table,
    dense_fidelity.NAME: dense_fidelity.table,
    detection.NAME: detection.table,
    "few_labels": few_labels.table,
    fits.NAME: fits.table,
    footprint.NAME: footprint.table,
    patches.NAME: patches.table,
    model_files.NAME: model_files.table,
    segmentation.NAME: segmentation.table,
}


@pytest.mark.parametrize("name", TABLES)
def test_a_page_shows_the_table_of_its_results(name):
    table = TABLES[name](RESULTS / name)
    assert table.count("\n|") > 2
    assert table in (DOCS / f"{name}.md").read_text(encoding="utf-8")


def test_every_kept_result_has_a_page():
    assert {folder.name for folder in RESULTS.iterdir()} == set(TABLES)

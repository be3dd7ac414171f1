"""Heaps of HDF5 files that have no end, in which the library goes round for ever."""

from __future__ import annotations

import zipfile

import h5py
import pytest

from inshape.errors import WeightsError
from inshape.graph.hdf5 import ARCHIVED, open_checked

TEXT = "what a network's layers are"
FIRST = 16  # where a heap's first object is, behind its own header


@pytest.fixture(params=["earliest", "latest"])
def path(request, tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w", libver=request.param) as file:
        file.attrs["model_config"] = TEXT
        file.create_dataset("names", (600,), h5py.string_dtype())[:] = ["a" * 50] * 600  # 2 heaps
    return path


def test_whole_heaps_are_read(path):
    with open_checked(path) as file:
        assert file.attrs["model_config"] == TEXT
        assert file["names"].asstr()[-1] == "a" * 50


@pytest.mark.parametrize("archived", [False, True])
@pytest.mark.parametrize(
    ("index", "size"),
    [(0, 0), (1, 2**64 - 16), (1, 2**64 - 1), (1, 5000), (0, 8)],
    ids=["free and empty", "round", "to the header", "beyond the end", "shorter than its header"],
)
def test_heaps_without_end_are_refused(path, index, size, archived):
    content = bytearray(path.read_bytes())
    place = content.index(b"GCOL") + FIRST
    content[place : place + 2] = index.to_bytes(2, "little")
    content[place + 8 : place + 16] = size.to_bytes(8, "little")
    path.write_bytes(content)
    if archived:
        path = path.with_suffix(".keras")
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(ARCHIVED, bytes(content))
    with pytest.raises(WeightsError, match=r"heap at byte [\d,]+ has no end"), open_checked(path):
        pass

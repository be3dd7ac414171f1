"""Files that are damaged or made to do harm."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

import inshape
from inshape.data.arrays import list_npz
from inshape.graph.saving import load_model
from inshape.runs import Run
from inshape.runtime.cards import read_card
from inshape.weights.files import open_weights

from .case import BadInput


def _weights(make: Callable[[h5py.Group, Path], object]) -> Callable[[Path], object]:
    def give(folder: Path) -> object:
        with open_weights(_written(make, folder, folder / "a.weights.h5")):
            return "taken"

    return give


def _model(make: Callable[[h5py.Group, Path], object]) -> Callable[[Path], object]:
    """The same inside a ``.keras`` file."""

    def give(folder: Path) -> object:
        inner = _written(make, folder, folder / "model.weights.h5")
        with zipfile.ZipFile(folder / "a.keras", "w") as archive:
            archive.writestr("config.json", "{}")
            archive.write(inner, inner.name)
        return load_model(folder / "a.keras")

    return give


def _written(make: Callable[[h5py.Group, Path], object], folder: Path, path: Path) -> Path:
    (folder / "private").write_bytes(b"PRIVATE-" * 8)
    with h5py.File(path, "w") as file:
        make(file.create_group("layers/conv2d/vars"), folder / "private")
    return path


def _virtual(group: h5py.Group, private: Path) -> None:
    layout = h5py.VirtualLayout((4,), "f4")
    layout[...] = h5py.VirtualSource(str(private), "0", shape=(4,))
    group.create_virtual_dataset("0", layout)


def _external(group: h5py.Group, private: Path) -> None:
    group.create_dataset("0", (4,), "f4", external=[(str(private), 0, 16)])


def _link(group: h5py.Group, private: Path) -> None:
    group["0"] = h5py.ExternalLink(str(private), "0")


def _bomb(group: h5py.Group, _: Path) -> None:
    group.create_dataset("0", (99999999, 100), "f4", chunks=(1000, 100), compression="gzip")


def _archived_bomb(name: str, mebibytes: int) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        path = folder / "a.keras"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            archive.writestr("config.json", "{}")
            with archive.open(name, "w") as part:
                for _ in range(mebibytes):
                    part.write(bytes(2**20))
        return path

    return write


def _twice_packed_bomb(folder: Path) -> Path:
    """Twenty times as large as what stands in the archive, which itself is packed."""
    with h5py.File(folder / "model.weights.h5", "w") as file:
        file["layers/dense/vars/0"] = np.zeros(2**24, np.uint8)
        file.create_dataset("layers/dense/vars/1", (300 * 2**20,), "u1", chunks=(2**20,))
    with zipfile.ZipFile(folder / "a.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(folder / "model.weights.h5", "model.weights.h5")
    return folder / "a.keras"


def _opened(write: Callable[[Path], Path]) -> Callable[[Path], object]:
    """Weights of an unknown network."""

    def give(folder: Path) -> object:
        with open_weights(write(folder)):
            return "taken"

    return give


def _of_small(write: Callable[[Path], Path]) -> Callable[[Path], object]:
    """Weights of a network whose parameters take 7.8 MiB."""

    def give(folder: Path) -> object:
        weights = write(folder)
        return inshape.adapt("MobileNetV3Small-minimalistic", "32x32x3", weights=weights)

    return give


def _packed_zeros(folder: Path) -> Path:
    with h5py.File(folder / "a.weights.h5", "w") as file:
        zeros = {"shape": (64 * 2**18,), "dtype": "f4", "chunks": (2**18,), "compression": "gzip"}
        file.create_dataset("layers/dense/vars/0", **zeros)
    return folder / "a.weights.h5"


def _record(text: str) -> Callable[[Path], object]:
    def give(folder: Path) -> object:
        (folder / "run.json").write_text(text)
        return Run.open(folder)

    return give


def _labels(text: str) -> Callable[[Path], object]:
    def give(folder: Path) -> object:
        (folder / "run.json").write_text('{"format": 1, "status": "complete", "request": {}}')
        (folder / "labels.json").write_text(text)
        return Run.open(folder).labels

    return give


def _card(folder: Path) -> object:
    (folder / "a.tflite.json").write_text("[" * 100_000)
    (folder / "a.tflite").write_bytes(b"")
    return read_card(folder / "a.tflite")


def _arrays(folder: Path) -> object:
    np.savez(folder / "a.npz", x=np.zeros((4, 8, 8)), y=np.arange(4))
    content = bytearray((folder / "a.npz").read_bytes())
    content[200] ^= 1
    (folder / "a.npz").write_bytes(content)
    return list_npz(folder / "a.npz")


def _comparison(folder: Path) -> object:
    (folder / "comparison.json").write_text(json.dumps([1, 2]))
    return inshape.report(folder)


def _long_name(folder: Path) -> object:
    return inshape.train(folder / ("a" * 260), "32x32x3", out=folder / "run", weights=None)


_OUTSIDE = "expected every array in the file itself"
_H5 = "model.weights.h5"
_UNREADABLE = r"run\.json cannot be read"
BAD_INPUTS = [
    BadInput("weights in another file", _weights(_external), f"is in .*private; {_OUTSIDE}"),
    BadInput("weights behind a link", _weights(_link), f"is in .*private; {_OUTSIDE}"),
    BadInput("weights of arrays elsewhere", _weights(_virtual), f"made of arrays .*; {_OUTSIDE}"),
    BadInput("a model with weights elsewhere", _model(_external), _OUTSIDE),
    BadInput("a model with a link", _model(_link), _OUTSIDE),
    BadInput("weights that unpack to 37 GiB", _weights(_bomb), "unpacks from .* to 37.3 GiB"),
    BadInput("300 MiB in an archive", _opened(_archived_bomb(_H5, 300)), "to 300.0 MiB.* 256.0"),
    BadInput("300 MiB in a pickle", _opened(_archived_bomb("a/data.pkl", 300)), "to 300.0 MiB"),
    BadInput("an archive packed twice", _opened(_twice_packed_bomb), "to 316.0 MiB.*256.0 MiB"),
    BadInput("64 MiB for a small network", _of_small(_packed_zeros), "64.0 MiB.*at most 62.8 MiB"),
    BadInput("the same archived", _of_small(_archived_bomb(_H5, 64)), "64.0 MiB.*at most 62.8 MiB"),
    BadInput("a run.json of brackets", _record("[" * 100_000), _UNREADABLE),
    BadInput("a run.json that is a list", _record("[]"), _UNREADABLE),
    BadInput("a run.json of 5,000 digits", _record("9" * 5000), _UNREADABLE),
    BadInput("a run.json without its status", _record('{"format": 1}'), "has the status None"),
    BadInput("labels that are numbers", _labels("[1, 2]"), "not every entry is a name"),
    BadInput("labels that are an object", _labels("{}"), "no list"),
    BadInput("a card of brackets", _card, "nested too deep.*export it again"),
    BadInput("arrays with a bit turned over", _arrays, "write it again"),
    BadInput("a comparison that is a list", _comparison, "compare anew"),
    BadInput("a folder's name of 260 letters", _long_name, "(?i)name too long|no such|too long"),
    BadInput("a size of 99999999", lambda _: inshape.plan("MobileNetV3Small", "99999999x9x3"), "9"),
]

"""Opens a weights file of any kind, which is recognised by what it holds."""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Generator, Iterable
from pathlib import Path

import h5py

from ..errors import WeightsError
from ..graph.hdf5 import ARCHIVED, DAMAGE, check_archive, is_archive
from .state_dict import StateDict
from .stored import FORMS, StoredWeights, damaged, open_hdf5
from .tensors import is_safetensors, open_pickle, open_safetensors


@contextlib.contextmanager
def open_weights(
    path: Path, repository: str = "", *, weights_bytes: int | None = None
) -> Generator[StoredWeights]:
    """Open a weights file; its network's ``weights_bytes`` limit what it may unpack to."""
    if not path.exists():
        raise WeightsError(
            f"no weights file at {path}; expected {FORMS}, 'imagenet', an hf:// or kaggle:// name, "
            "or None; check the path"
        )
    if path.is_dir():
        raise WeightsError(f"{path} is a folder; expected {FORMS}; name the file inside it")
    with contextlib.ExitStack() as stack:
        yield _open(path, stack, repository, weights_bytes)


def _open(
    path: Path, stack: contextlib.ExitStack, repository: str, weights_bytes: int | None
) -> StoredWeights:
    try:
        with path.open("rb") as file:
            start = file.read(9)
        names = _names_in_archive(path, weights_bytes) if is_archive(path) else ()
    except DAMAGE as error:
        raise damaged(path, error) from error
    if ARCHIVED in names:
        return stack.enter_context(open_hdf5(path, weights_bytes))
    if is_safetensors(start):  # before pickles: its header may be 128 bytes long
        tensors = stack.enter_context(open_safetensors(path))
        return StateDict(path, tensors, repository=repository)
    if _is_pickle(start, names):
        tensors = stack.enter_context(open_pickle(path))
        return StateDict(path, tensors, repository=repository)
    if names:
        raise WeightsError(
            f"{path} is an archive without {ARCHIVED}; expected {FORMS}; save the model with "
            "model.save('model.keras')"
        )
    if not h5py.is_hdf5(path):
        content = f"it begins with {start[:8]!r}" if start else "it is empty"
        raise WeightsError(
            f"{path} is no weights file ({content}); expected {FORMS}; download or save it again"
        )
    return stack.enter_context(open_hdf5(path, weights_bytes))


def _is_pickle(start: bytes, names: Iterable[str]) -> bool:
    """Whether a file is PyTorch's, which is an archive since its version 1.6."""
    return start.startswith(b"\x80") or any(name.split("/")[-1] == "data.pkl" for name in names)


def _names_in_archive(path: Path, weights_bytes: int | None) -> tuple[str, ...]:
    with zipfile.ZipFile(path) as archive:
        check_archive(path, archive, weights_bytes)
        return tuple(archive.namelist()) or ("",)

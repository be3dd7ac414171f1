"""Arrays by name out of files that PyTorch's world writes: ``.safetensors`` and ``.pth``.

A ``.safetensors`` file needs no PyTorch. A ``.pth`` file is a pickle, and a pickle is a program: it
is read by ``torch.load(..., weights_only=True)`` alone, which builds tensors and plain containers
and refuses to call anything else.
"""

from __future__ import annotations

import contextlib
import importlib
import pickle
import re
import warnings
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import WeightsError
from ..extras import install

Shape: TypeAlias = tuple[int, ...]

# weights_only=True could be got around before this version (CVE-2025-32434).
_LEAST_TORCH = (2, 6)
_AGAIN = (
    "expected tensors alone; save them with safetensors.torch.save_file(model.state_dict(), "
    "'model.safetensors')"
)
# Where trainings keep their weights, averaged ones first, as in timm.
_WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model", "model_state_dict")


@dataclass(frozen=True, slots=True)
class Tensors:
    """The arrays of an open file.

    Attributes:
        shapes: the shape of each array, by its name, in the file's order.
        read: gives an array by its name; floating point ones as float32.
        facts: what else the file says of itself, such as timm's ``arch``.
    """

    shapes: Mapping[str, Shape]
    read: Callable[[str], NDArray[Any]]
    facts: Mapping[str, str] = field(default_factory=dict[str, str])


def is_safetensors(start: bytes) -> bool:
    r"""Whether a file that begins so is a ``.safetensors`` file.

    Example:
        >>> is_safetensors(b"\x02\0\0\0\0\0\0\0{}"), is_safetensors(b"PK\3\4\0\0\0\0\0")
        (True, False)
    """
    return len(start) >= 9 and start[8:9] == b"{" and start[5:8] == b"\0\0\0"


@contextlib.contextmanager
def open_safetensors(path: Path) -> Generator[Tensors]:
    """Open a ``.safetensors`` file."""
    import safetensors

    try:
        # Lengths, offsets and types are checked here, so nothing is read beyond the file.
        file = safetensors.safe_open(path, framework="numpy")
    except (safetensors.SafetensorError, OSError) as error:
        raise _damaged(path, error) from error
    with file:
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}

        @cache
        def raw() -> dict[str, Any]:
            return dict(safetensors.deserialize(path.read_bytes()))

        def read(name: str) -> NDArray[Any]:
            if file.get_slice(name).get_dtype() != "BF16":
                return _as_float32(file.get_tensor(name))
            # NumPy has no such type: the two bytes are the upper half of a float32.
            upper_half = np.frombuffer(raw()[name]["data"], np.uint16).astype(np.uint32)
            return (upper_half << 16).view(np.float32).reshape(shapes[name])

        yield Tensors(shapes, read, {k: str(v) for k, v in (file.metadata() or {}).items()})


@contextlib.contextmanager
def open_pickle(path: Path) -> Generator[Tensors]:
    """Open a ``.pth`` or ``.pt`` file: a state dict, or a training's checkpoint that holds one."""
    torch = _torch(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about pickle protocols; see the errors
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise _refused(path, error) from error
    except Exception as error:  # a pickle is a program; PyTorch runs it until anything is raised
        raise _damaged(path, error) from error
    facts, state = _unwrapped(loaded)
    tensors = {
        str(name).removeprefix("module."): value  # DataParallel puts that in front
        for name, value in (state.items() if isinstance(state, Mapping) else ())
        if isinstance(value, torch.Tensor)
    }
    if not tensors:
        raise WeightsError(f"{path} holds {_described(loaded)} and no tensors; {_AGAIN}")

    def read(name: str) -> NDArray[Any]:
        tensor = tensors[name].detach()
        return (tensor.float() if tensor.is_floating_point() else tensor).numpy()

    yield Tensors({name: tuple(t.shape) for name, t in tensors.items()}, read, facts)


def _torch(path: Path) -> Any:
    try:
        torch = importlib.import_module("torch")
    except ImportError as error:
        raise WeightsError(
            f"{path} is a file of PyTorch's, which only torch can read, and torch is not "
            f"installed; {install('torch')}, or give the same weights as .safetensors"
        ) from error
    version = tuple(int(part) for part in torch.__version__.split(".")[:2])
    if version < _LEAST_TORCH:
        raise WeightsError(
            f"{path} is a pickle, and torch {torch.__version__} can be made to run code by one; "
            "expected torch 2.6 or newer; pip install -U torch, or give the same "
            "weights as .safetensors"
        )
    return torch


def _unwrapped(loaded: Any) -> tuple[dict[str, str], Any]:
    """The state dict inside a training's checkpoint, and the words beside it."""
    if not isinstance(loaded, Mapping):
        return {}, None
    for key in _WRAPPERS:
        if isinstance(loaded.get(key), Mapping):
            words = {str(k): v for k, v in loaded.items() if isinstance(v, str)}
            return words, loaded[key]
    return {}, loaded


def _described(loaded: Any) -> str:
    if isinstance(loaded, Mapping):
        return f"a dict of {_some(str(key) for key in loaded)}"
    return f"a {type(loaded).__name__}"


def _some(names: Iterable[str]) -> str:
    first = list(names)
    return ", ".join(first[:3]) + (", ..." if len(first) > 3 else "") if first else "nothing"


def _refused(path: Path, error: Exception) -> WeightsError:
    called = re.search(r"GLOBAL ([\w.]+)", str(error))
    if called:
        what = f"is a pickle that calls {called[1]}, not tensors alone"
    else:
        unknown = re.search(r"Unsupported \w+ .*", str(error))
        what = "is a pickle of something else than tensors, or damaged"
        what += f" ({unknown[0].rstrip('.')})" if unknown else ""
    return WeightsError(f"{path} {what}; nothing of it was run; {_AGAIN}, if you trust it")


def _as_float32(values: NDArray[Any]) -> NDArray[Any]:
    return values.astype(np.float32) if values.dtype.kind == "f" else values


def _damaged(path: Path, error: Exception) -> WeightsError:
    return WeightsError(
        f"{path} is truncated or damaged ({_first_sentence(error)}); expected a whole file; "
        "download or save it again"
    )


def _first_sentence(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].split(". ")[0].rstrip(".") if lines else type(error).__name__

"""What is installed, what it computes on, and where downloads and caches lie."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shlex
import subprocess
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from ._version import __version__
from .data.stores import default_cache_dir
from .processor import count_cores
from .requests import Request
from .text import align, format_bytes

PURPOSES = {
    "cpu": "the TensorFlow backend, LiteRT and TensorBoard",
    "gpu": "the same with CUDA, for NVIDIA GPUs on Linux; it takes the place of cpu",
    "jax": "the JAX backend, for plan and adapt",
    "torch": "the PyTorch backend, for plan and adapt; .pth files",
    "onnx": "export to ONNX, and files of that kind",
    "openvino": "export to OpenVINO, and files of that kind",
    "quantize": "other ways to int8",
    "micro": "the arena that an int8 file needs on a micro-controller, measured",
    "parquet": "tables of pictures as .parquet",
    "heic": "pictures as .heic, which phones take",
    "pandas": "tables as data frames",
    "mlflow": "train --mlflow",
    "studio": "the page to see a shape, train and try",
    "ray": "work on several machines",
    "hub": "weights from the Hugging Face Hub",
    "kaggle": "weights from Kaggle",
}
"""What each extra is for. Those for work on inshape itself are left out."""

_PACKAGE = "inshape"
_VERSIONS = ("keras", "numpy", "ai-edge-litert", "scikit-learn", "pillow", "h5py", "tyro")
_BACKENDS = {
    "tensorflow": ("tensorflow", "tensorflow-cpu", "tensorflow-macos"),
    "jax": ("jax",),
    "torch": ("torch",),
}
_NVIDIA = ("nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader")
_NVIDIA_TIMEOUT_S = 10


@dataclass(frozen=True, slots=True)
class DoctorRequest(Request):
    """A diagnosis has no options."""


@dataclass(frozen=True, slots=True)
class Place:
    """A folder that fills up."""

    what: str
    folder: str
    moved_by: str
    """The environment variable that moves it."""
    bytes: int | None
    """How much lies there; ``None`` if there is no such folder."""


@dataclass(frozen=True, slots=True)
class Extra:
    """An optional part, ``inshape[name]``."""

    name: str
    purpose: str
    missing: tuple[str, ...]
    """The requirements that are not met."""

    @property
    def command(self) -> str | None:
        """What to type to have it, or ``None`` if it is there."""
        return shlex.join(("pip", "install", *self.missing)) if self.missing else None


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What is installed, and what is wrong with it."""

    versions: dict[str, str | None]
    """Of inshape, Python, the system, and what inshape stands on; ``None``: missing."""
    backend: str | None
    """The Keras backend in use, ``None`` if Keras cannot be loaded."""
    backends: dict[str, str | None]
    """The version of every backend, ``None`` where it is not installed."""
    devices: tuple[str, ...]
    """What the backend computes on, such as ``gpu:0``."""
    gpus: tuple[str, ...]
    """The NVIDIA GPUs that the driver knows."""
    cores: int
    """Processor cores that this process may use."""
    places: tuple[Place, ...]
    extras: tuple[Extra, ...]
    problems: tuple[str, ...]
    """What keeps inshape from working, each with what to do."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        values = asdict(self)
        for extra, row in zip(self.extras, values["extras"], strict=True):
            row["command"] = extra.command
        return values

    def __str__(self) -> str:
        lines = [
            *_section("versions", [(n, v or "missing") for n, v in self.versions.items()]),
            *_section("Keras backends", [(n, self._state(n)) for n in self.backends]),
            *_section("computes on", [(device, "") for device in self._named_devices()]),
            *_section("downloads and caches", [_place_row(place) for place in self.places]),
            *self._shown_extras(),
            "",
            *(f"problem: {problem}" for problem in self.problems),
        ]
        return "\n".join(lines if self.problems else [*lines, "no problems found"]).lstrip("\n")

    def _shown_extras(self) -> list[str]:
        complete = ", ".join(extra.name for extra in self.extras if not extra.missing)
        lines = _section("extras", [("complete", complete or "none")])
        for extra in self.extras:
            if extra.missing:
                lines += [f"  {extra.name}: {extra.purpose}", f"    {extra.command}"]
        return lines

    def _state(self, backend: str) -> str:
        version = self.backends[backend] or "not installed"
        return f"{version}, in use" if backend == self.backend else version

    def _named_devices(self) -> list[str]:
        cores = f"cpu, {self.cores} cores" if self.cores > 1 else "cpu, 1 core"
        accelerators = [device for device in self.devices if not device.startswith("cpu")]
        return [*accelerators, *(f"{gpu} (known to the driver)" for gpu in self.gpus), cores]


def diagnose() -> Diagnosis:
    """Look at what is installed. Keras and its backend are loaded for it."""
    requirements = _requirements()
    backend, devices, problems = _load_backend()
    gpus = _nvidia_gpus()
    if gpus and devices and all(d.startswith("cpu") for d in devices) and not _are_gpus_hidden():
        problems.append(
            f"the driver knows {', '.join(gpus)}, and {backend} does not see it; "
            f"install the build of {backend} with CUDA (for TensorFlow, the extra gpu)"
        )
    problems += [
        f"{_PACKAGE} needs {missing}, and {_state_of(missing)}; pip install {shlex.quote(missing)}"
        for missing in _unmet(requirements, extra=None)
    ]
    return Diagnosis(
        versions={
            _PACKAGE: __version__,
            "python": platform.python_version(),
            "system": f"{platform.system()} {platform.machine()}",
            **{name: _version(name) for name in _VERSIONS},
        },
        backend=backend,
        backends={
            backend: next(filter(None, map(_version, names)), None)
            for backend, names in _BACKENDS.items()
        },
        devices=devices,
        gpus=gpus,
        cores=count_cores(),
        places=_places(),
        extras=_extras(requirements),
        problems=tuple(problems),
    )


def _load_backend() -> tuple[str | None, tuple[str, ...], list[str]]:
    """The backend in use, what it computes on, and what went wrong."""
    try:
        import keras
    except Exception as error:  # each backend fails in its own way
        reason = " ".join(str(error).split())
        problem = f"Keras cannot be loaded ({reason}); install a backend, such as the extra cpu"
        return None, (), [problem]
    try:
        devices: list[str] = keras.distribution.list_devices()
    except (AttributeError, NotImplementedError):  # not every backend lists them
        devices = []
    return str(keras.backend.backend()), tuple(devices), []


def _nvidia_gpus() -> tuple[str, ...]:
    try:
        query = subprocess.run(
            _NVIDIA, capture_output=True, text=True, check=True, timeout=_NVIDIA_TIMEOUT_S
        )
    except (OSError, subprocess.SubprocessError):
        return ()  # no driver
    return tuple(line.strip() for line in query.stdout.splitlines() if line.strip())


def _are_gpus_hidden() -> bool:
    """Whether the user hides the GPUs on purpose."""
    return os.environ.get("CUDA_VISIBLE_DEVICES", "all") in ("", "-1")


def _places() -> tuple[Place, ...]:
    keras_home = Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser()
    places = (
        ("ImageNet weights, downloaded by Keras", keras_home / "models", "KERAS_HOME"),
        ("weights from the Hugging Face Hub", _hub_cache(), "HF_HUB_CACHE"),
        ("presets from Kaggle", _kaggle_cache(), "KAGGLEHUB_CACHE"),
        ("prepared pictures", default_cache_dir(), "XDG_CACHE_HOME"),
    )
    return tuple(
        Place(what, str(folder), moved_by, _bytes_in(folder)) for what, folder, moved_by in places
    )


def _hub_cache() -> Path:
    """As huggingface-hub says (its environment variables), whether it is installed or not."""
    caches = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache"))
    home = Path(os.environ.get("HF_HOME", caches / "huggingface"))
    return Path(os.environ.get("HF_HUB_CACHE", home / "hub")).expanduser()


def _kaggle_cache() -> Path:
    return Path(os.environ.get("KAGGLEHUB_CACHE", "~/.cache/kagglehub")).expanduser()


def _bytes_in(folder: Path) -> int | None:
    if not folder.is_dir():
        return None
    return sum(
        (Path(parent) / name).lstat().st_size
        for parent, _, names in os.walk(folder)
        for name in names
    )


def _place_row(place: Place) -> tuple[str, str]:
    size = "nothing yet" if place.bytes is None else format_bytes(place.bytes)
    return place.what, f"{place.folder} ({size}; moved by {place.moved_by})"


def _requirements() -> list[Requirement]:
    """What inshape requires, as its installation says."""
    return [Requirement(text) for text in importlib.metadata.requires(_PACKAGE) or ()]


def _extras(requirements: Iterable[Requirement]) -> tuple[Extra, ...]:
    """The optional parts that inshape's users may want; either of cpu and gpu will do."""
    listed = list(requirements)
    unmet = {name: _unmet(listed, extra=name) for name in PURPOSES}
    if not unmet["gpu"]:
        del unmet["cpu"]
    return tuple(Extra(name, PURPOSES[name], missing) for name, missing in unmet.items())


def _unmet(requirements: Iterable[Requirement], *, extra: str | None) -> tuple[str, ...]:
    """Those of an extra, or of inshape itself, that are not installed or too old."""
    return tuple(
        f"{r.name}{_bracketed(r.extras)}{r.specifier}"
        for r in requirements
        if _applies(r, extra) and not _is_met(r)
    )


def _applies(requirement: Requirement, extra: str | None) -> bool:
    marker = requirement.marker
    is_basic = marker is None or marker.evaluate({"extra": ""})
    if extra is None:
        return is_basic
    return not is_basic and marker is not None and marker.evaluate({"extra": extra})


def _is_met(requirement: Requirement) -> bool:
    version = _version(requirement.name)
    return version is not None and requirement.specifier.contains(version, prereleases=True)


def _bracketed(extras: set[str]) -> str:
    return f"[{','.join(sorted(extras))}]" if extras else ""


def _state_of(requirement: str) -> str:
    version = _version(Requirement(requirement).name)
    return "it is not installed" if version is None else f"found {version}"


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _section(title: str, rows: Iterable[tuple[str, str]]) -> list[str]:
    return ["", title, *(f"  {line}" for line in align(list(rows), left=2))]

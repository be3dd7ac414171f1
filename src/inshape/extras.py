"""The optional parts of an installation: what each is for, and what to type to have it."""

from __future__ import annotations

import importlib.metadata
import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from packaging.requirements import Requirement

PACKAGE = "inshape"
PURPOSES: Mapping[str, str] = {
    "cpu": "all that adapts, trains and exports, with TensorFlow, LiteRT and TensorBoard",
    "gpu": "the same with CUDA, for NVIDIA GPUs on Linux; it takes the place of cpu",
    "keras": "the same without a backend, beside one of your own",
    "jax": "the JAX backend, for plan, adapt and train",
    "torch": "the PyTorch backend, for plan, adapt and train; .pth files",
    "onnx": "ONNX: models from such files, export to them, and running them",
    "openvino": "export to OpenVINO, and files of that kind",
    "micro": "files for micro-controllers, and the arena that they need, measured",
    "detection": "measures of boxes, which training on them takes, and lists of classes in YAML",
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

_OF_CPU = (
    "keras", "tensorflow", "ai_edge_litert", "ai_edge_quantizer", "flatbuffers", "h5py", "jinja2",
    "PIL", "plotly", "safetensors", "scipy", "sklearn", "tensorboard", "threadpoolctl", "tifffile",
)  # fmt: skip
"""The modules of the extra cpu, without which no more than named networks can be planned."""


def requirements() -> list[Requirement]:
    """What inshape requires, as its installation says."""
    from packaging.requirements import Requirement  # slow to import

    return [Requirement(text) for text in importlib.metadata.requires(PACKAGE) or ()]


def applies(requirement: Requirement, extra: str | None) -> bool:
    """Whether it is one of an extra here, or of inshape itself."""
    marker = requirement.marker
    is_basic = marker is None or marker.evaluate({"extra": ""})
    if extra is None:
        return is_basic
    return not is_basic and marker is not None and marker.evaluate({"extra": extra})


def of_extra(extra: str | None) -> list[Requirement]:
    """The requirements of an extra, with those of the extras that it takes in."""
    every = requirements()
    found: list[Requirement] = []
    for requirement in every:
        if not applies(requirement, extra):
            continue
        if requirement.name == PACKAGE:
            found += [r for part in requirement.extras for r in of_extra(part)]
        else:
            found.append(requirement)
    return found


def is_met(requirement: Requirement) -> bool:
    """Whether it is installed, and new enough."""
    try:
        version = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return requirement.specifier.contains(version, prereleases=True)


def written(requirement: Requirement) -> str:
    """A requirement as pip takes it."""
    extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
    return f"{requirement.name}{extras}{requirement.specifier}"


def install(*extras: str) -> str:
    """What to type to have extras; it works beside a clone too, whose name no index knows.

    Example:
        >>> install("ray")
        "pip install 'ray[data]>=2.44'"
    """
    try:
        every = [r for extra in extras for r in of_extra(extra)]
        needed = [written(r) for r in every if not is_met(r)] or [written(r) for r in every]
    except importlib.metadata.PackageNotFoundError:
        needed = []  # run from a folder
    return shlex.join(["pip", "install", *(needed or [f"{PACKAGE}[{','.join(extras)}]"])])


def advice_for(missing: ModuleNotFoundError) -> str:
    """What to say of a module that is not there; empty if no extra brings it.

    Example:
        >>> advice_for(ModuleNotFoundError(name="tensorflow")).split("; ")[0]
        'this takes tensorflow, which is not installed'
        >>> advice_for(ModuleNotFoundError(name="my_layers"))
        ''
    """
    name = (missing.name or "").split(".")[0]
    if name not in _OF_CPU:
        return ""
    return (
        f"this takes {name}, which is not installed; expected the extra cpu of inshape, or gpu; "
        f"{install('cpu')}"
    )

"""What torchvision's and timm's own MobileNetV3 answer under seeded weights.

    python -m tools.pytorch_goldens        # needs torch, torchvision and timm

writes ``tests/weights/pytorch_goldens.json``: for each network the names and shapes of its arrays
and the logits of two pictures at two sizes. Weights and pictures themselves are not stored: they
follow from a seed by NumPy, here and in the tests, which so compare with the source frameworks
where these are not installed.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

GOLDENS = Path(__file__).resolve().parent.parent / "tests" / "weights" / "pytorch_goldens.json"
CLASSES = 10
SIZES_HW = ((224, 224), (97, 131))

# How each wants its pictures, as shares of 255: their mean and deviation, as the libraries document
# them.
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
NETWORKS: dict[str, tuple[str, tuple[tuple[float, ...], tuple[float, ...]]]] = {
    "torchvision mobilenet_v3_small": ("MobileNetV3Small", _IMAGENET),
    "torchvision mobilenet_v3_large": ("MobileNetV3Large", _IMAGENET),
    "timm mobilenetv3_small_050": ("MobileNetV3Small-0.5", _IMAGENET),
    "timm mobilenetv3_small_075": ("MobileNetV3Small-0.75", _IMAGENET),
    "timm mobilenetv3_small_100": ("MobileNetV3Small", _IMAGENET),
    "timm mobilenetv3_large_075": ("MobileNetV3Large-0.75", _IMAGENET),
    "timm mobilenetv3_large_100": ("MobileNetV3Large", _IMAGENET),
    "timm tf_mobilenetv3_small_075": ("MobileNetV3Small-0.75", _HALF),
    "timm tf_mobilenetv3_large_minimal_100": ("MobileNetV3Large-minimalistic", _HALF),
}
"""The networks by library and name, each with the backbone's name here and its normalisation."""


def seeded_state(shapes: Mapping[str, tuple[int, ...]], seed: int = 0) -> dict[str, np.ndarray]:
    """A state dict under which outputs are finite and tell inputs apart.

    Batch norm gets statistics that differ from channel to channel, small variances among them, so
    that its epsilon shows.

    Args:
        shapes: of each array, by its name.
        seed: each array depends on it and on its own name alone.

    Returns:
        The arrays, float32; counters are int64.
    """
    state: dict[str, np.ndarray] = {}
    for name, shape in shapes.items():
        rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
        kind = name.rsplit(".", 1)[-1]
        if kind == "num_batches_tracked":
            state[name] = np.zeros(shape, np.int64)
            continue
        if kind == "running_var":
            values = rng.uniform(0.2, 0.9, shape)
        elif kind == "running_mean":
            values = rng.normal(0.0, 0.1, shape)
        elif kind == "bias":
            values = rng.normal(0.0, 0.1, shape)
        elif len(shape) == 1:
            values = rng.uniform(0.45, 0.9, shape)
        else:
            values = rng.normal(0.0, np.sqrt(2 / np.prod(shape[1:])), shape)
        state[name] = values.astype(np.float32)
    return state


def pictures(hw: tuple[int, int], seed: int = 1) -> np.ndarray:
    """Two pictures of coloured waves, of different mean colours.

    Args:
        hw: height and width in pixels.
        seed: the same seed gives the same waves at every size.

    Returns:
        Shape (2, height, width, 3), float32 in [0, 255].
    """
    rng = np.random.default_rng(seed)
    rows, columns = np.meshgrid(*(np.linspace(0, 1, n) for n in hw), indexing="ij")
    pictures: list[np.ndarray] = []
    for _ in range(2):
        waves = [
            np.sin(2 * np.pi * (fy * rows + fx * columns + phase))
            for fy, fx, phase in rng.uniform(-12, 12, (3, 3))
        ]
        mean = rng.uniform(30, 225, 3)
        pictures.append(np.stack(waves, axis=-1) * np.minimum(mean, 255 - mean) + mean)
    return np.stack(pictures).astype(np.float32)


def network(name: str) -> Any:
    """A network of torchvision's or timm's, in evaluation.

    Args:
        name: a key of ``NETWORKS``.

    Returns:
        The module, with random weights and ``CLASSES`` classes.
    """
    library, architecture = name.split()
    if library == "timm":
        timm = _import_beside_cpu_torch("timm")
        return timm.create_model(architecture, num_classes=CLASSES).eval()
    models = _import_beside_cpu_torch("torchvision.models")
    return getattr(models, architecture)(num_classes=CLASSES).eval()


def _import_beside_cpu_torch(module: str) -> Any:
    """Import torchvision, or what needs it, where its compiled part does not fit this torch.

    Its Python part then fails to register operators that classification does not use.
    """
    import importlib

    import torch

    register = torch.library.register_fake

    def lenient(operator: Any, *args: Any, **kwargs: Any) -> Any:
        if str(operator).startswith("torchvision::"):
            return lambda function: function
        return register(operator, *args, **kwargs)

    torch.library.register_fake = lenient
    try:
        return importlib.import_module(module)
    finally:
        torch.library.register_fake = register


def answer(name: str) -> dict[str, Any]:
    """What a network answers under seeded weights.

    Args:
        name: a key of ``NETWORKS``.

    Returns:
        The shapes of its arrays, and its logits of `pictures` at each of ``SIZES_HW``.
    """
    import torch

    module = network(name).double()  # so that the rounding of one side alone counts
    shapes = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    state = {key: torch.from_numpy(v) for key, v in seeded_state(shapes).items()}
    module.load_state_dict(state)
    logits: dict[str, list[list[float]]] = {}
    mean, deviation = (torch.tensor(v).double().view(1, 3, 1, 1) for v in NETWORKS[name][1])
    for height, width in SIZES_HW:
        x = torch.from_numpy(pictures((height, width))).double().permute(0, 3, 1, 2) / 255
        with torch.no_grad():
            y = module((x - mean) / deviation)
        logits[f"{height}x{width}"] = [[round(float(v), 7) for v in row] for row in y]
    return {"shapes": {key: list(shape) for key, shape in shapes.items()}, "logits": logits}


def main() -> None:
    """Ask every network and write the file."""
    lines: list[str] = []
    for name in NETWORKS:
        golden = answer(name)
        lines.append(f"{json.dumps(name)}: {json.dumps(golden, separators=(',', ':'))}")
        for size, rows in golden["logits"].items():
            a, b = np.array(rows)
            print(f"{name} at {size}: logits differ by {np.abs(a - b).max() / np.std(rows):.2f} "
                  "of their spread between the pictures", flush=True)  # fmt: skip
    GOLDENS.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()

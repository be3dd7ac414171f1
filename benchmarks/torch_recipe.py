"""The same recipe as a PyTorch user writes it, to measure `inshape train` against.

    python -m benchmarks.torch_recipe TRAIN VALIDATION --shape 96x96x3 --weights FILE --out a.json

It needs torch, numpy, pillow and h5py, and neither Keras nor inshape: run it in an environment of
its own. As benchmarks/keras_recipe.py: ten epochs of a new classifier behind the frozen backbone,
then ten of everything at 1e-5, with the same network (MobileNetV3Large-minimalistic) and the same
weights, read from Keras's file; in memory format ``channels_last``. One channel is read as grey and
repeated to three. Written to the file: what keras_recipe writes.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from PIL import Image
from torch import nn

EPOCHS = 10
BATCH = 32
# Expansion, filters and stride of each block (Howard et al., arXiv 1905.02244, table 1), without
# squeeze-and-excitation, with kernels of 3x3 throughout and ReLU.
BLOCKS = (
    (1, 16, 1),
    *((4, 24, 2), (3, 24, 1)),
    *((3, 40, 2), (3, 40, 1), (3, 40, 1)),
    *((6, 80, 2), (2.5, 80, 1), (2.3, 80, 1), (2.3, 80, 1)),
    *((6, 112, 1), (6, 112, 1)),
    *((6, 160, 2), (6, 160, 1), (6, 160, 1)),
)
FEATURES = 960
KINDS = {"conv2d": 1, "depthwise_conv2d": 1, "batch_normalization": 4}


class Convolution(nn.Module):
    """A convolution padded as TensorFlow pads, batch norm, and ReLU if any."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int, groups: int, *, relu: bool = True
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs, eps=1e-3)
        self.relu = relu

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """From maps to maps."""
        kernel, stride = self.conv.kernel_size[0], self.conv.stride[0]
        pads: list[int] = []
        for size in (x.shape[3], x.shape[2]):
            all_px = max(0, (-(-size // stride) - 1) * stride + kernel - size)
            pads += [all_px // 2, all_px - all_px // 2]
        x = self.norm(self.conv(nn.functional.pad(x, pads)))
        return nn.functional.relu(x) if self.relu else x


class Block(nn.Module):
    """An inverted residual block."""

    def __init__(self, inputs: int, expansion: float, outputs: int, stride: int) -> None:
        super().__init__()
        inner = divisible(inputs * expansion)
        expand = [] if expansion == 1 else [Convolution(inputs, inner, 1, 1, 1)]
        self.layers = nn.Sequential(
            *expand,
            Convolution(inner, inner, 3, stride, inner),
            Convolution(inner, outputs, 1, 1, 1, relu=False),
        )
        self.is_residual = stride == 1 and inputs == outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """From maps to maps."""
        return x + self.layers(x) if self.is_residual else self.layers(x)


class Classifier(nn.Module):
    """The backbone, dropout and a dense layer, from pictures in 0..255 to logits."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [Convolution(3, 16, 3, 2, 1)]
        channels = 16
        for expansion, outputs, stride in BLOCKS:
            layers.append(Block(channels, expansion, outputs, stride))
            channels = outputs
        layers.append(Convolution(channels, FEATURES, 1, 1, 1))
        self.backbone = nn.Sequential(*layers)
        self.dropout = nn.Dropout(0.2)
        self.head = nn.Linear(FEATURES, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """From pictures to logits."""
        with torch.set_grad_enabled(self.training and self.is_unfrozen):
            features = self.backbone(x / 127.5 - 1).mean((2, 3))
        return self.head(self.dropout(features))

    @property
    def is_unfrozen(self) -> bool:
        """Whether the backbone learns."""
        return next(self.backbone.parameters()).requires_grad


def main() -> None:
    begun = time.perf_counter()
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("train", type=Path)
    parser.add_argument("validation", type=Path)
    parser.add_argument("--shape", default="96x96x3")
    parser.add_argument("--weights", required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="of each of the two phases")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    height, width, channels = map(int, options.shape.split("x"))
    train, validation = (
        Pictures(folder, (height, width), channels)
        for folder in (options.train, options.validation)
    )
    model = Classifier(len(train.classes))
    take(model.backbone, options.weights)
    model = model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    feed = torch.utils.data.DataLoader(
        train, BATCH, shuffle=True, num_workers=os.cpu_count() or 1, persistent_workers=True
    )
    validating = torch.utils.data.DataLoader(validation, BATCH, num_workers=1)
    epochs: list[dict[str, Any]] = []
    right = 0
    for phase, rate in (("frozen", 1e-3), ("unfrozen", 1e-5)):
        model.backbone.requires_grad_(phase == "unfrozen")
        trained = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.Adam(trained, rate, eps=1e-7)  # Keras's
        for epoch in range(options.epochs):
            loss = trained_epoch(model, feed, optimizer)
            right = count_right(model, validating)
            row = {"phase": phase, "epoch": epoch + 1, "seconds": time.perf_counter() - begun}
            epochs.append({**row, "loss": loss, "val_accuracy": right / len(validation)})
    seconds = epochs[-1]["seconds"] - epochs[options.epochs - 1]["seconds"]
    results = {
        "epochs": epochs,
        "right": right,
        "pictures": len(validation),
        "rate": options.epochs * len(train) / seconds,
    }
    options.out.write_text(json.dumps(results, indent=1))


def trained_epoch(model: Classifier, feed: Any, optimizer: torch.optim.Optimizer) -> float:
    """Train on each picture once; the mean loss."""
    model.train()
    model.backbone.eval()  # batch norm keeps its statistics, as in Keras's guide
    total = count = 0.0
    for pictures, labels in feed:
        optimizer.zero_grad()
        pictures = pictures.contiguous(memory_format=torch.channels_last)
        loss = nn.functional.cross_entropy(model(pictures), labels)
        loss.backward()
        optimizer.step()
        total += loss.item() * len(labels)
        count += len(labels)
    return total / count


def count_right(model: Classifier, feed: Any) -> int:
    """Of how many pictures the class is right."""
    model.eval()
    return sum(int((model(pictures).argmax(1) == labels).sum()) for pictures, labels in feed)


class Pictures(torch.utils.data.Dataset[tuple[torch.Tensor, int]]):
    """A folder per class."""

    def __init__(self, folder: Path, size_hw: tuple[int, int], channels: int) -> None:
        self.classes = sorted(path.name for path in folder.iterdir() if path.is_dir())
        self.size_hw, self.mode = size_hw, "L" if channels == 1 else "RGB"
        self.files = [
            (path, label)
            for label, name in enumerate(self.classes)
            for path in sorted((folder / name).iterdir())
        ]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        path, label = self.files[index]
        with Image.open(path) as picture:
            small = picture.convert(self.mode).resize(self.size_hw[::-1], Image.Resampling.BILINEAR)
        values = np.asarray(small.convert("RGB"), np.float32)
        return torch.from_numpy(values).permute(2, 0, 1), label


def take(backbone: nn.Module, weights: str) -> None:
    """Load Keras's ``.weights.h5`` of the whole network, whose layers stand there in order."""
    with h5py.File(weights) as file:
        stored = {kind: of_kind(file["layers"], kind, count) for kind, count in KINDS.items()}
        with torch.no_grad():
            for module in backbone.modules():
                if isinstance(module, nn.Conv2d):
                    is_depthwise = module.groups > 1
                    (kernel,) = next(stored["depthwise_conv2d" if is_depthwise else "conv2d"])
                    order = (2, 3, 0, 1) if is_depthwise else (3, 2, 0, 1)
                    module.weight.copy_(torch.from_numpy(kernel.transpose(order)))
                elif isinstance(module, nn.BatchNorm2d):
                    scale, shift, mean, variance = next(stored["batch_normalization"])
                    module.weight.copy_(torch.from_numpy(scale))
                    module.bias.copy_(torch.from_numpy(shift))
                    for kept, values in (
                        (module.running_mean, mean),
                        (module.running_var, variance),
                    ):
                        assert kept is not None
                        kept.copy_(torch.from_numpy(values))


def of_kind(layers: Any, kind: str, count: int) -> Iterator[list[Any]]:
    """The variables of the layers of one kind, in the network's order."""
    names = [kind, *(f"{kind}_{number}" for number in range(1, len(layers)))]
    for name in names:
        if name in layers:
            yield [layers[name]["vars"][str(index)][()] for index in range(count)]


def divisible(filters: float) -> int:
    """The next number of filters that 8 divides, as MobileNets have them."""
    rounded = max(8, int(filters + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * filters else rounded


if __name__ == "__main__":
    main()

"""Small networks written down by hand, as the arithmetic sees them."""

from __future__ import annotations

from typing import Any

from inshape.geometry.spec import GraphSpec, LayerSpec
from inshape.shapes import InputShape


class Net:
    """Collects layers; each reads the one before it unless told otherwise."""

    def __init__(self, name: str = "net") -> None:
        self.name = name
        self.layers = [LayerSpec(0, "image", "input", (), 0)]

    def add(self, op: Any, *inputs: int, name: str = "", **fields: Any) -> int:
        index = len(self.layers)
        sources = inputs or (index - 1,)
        fields.setdefault("layer", index)
        self.layers.append(
            LayerSpec(index=index, name=name or f"{op}_{index}", op=op, inputs=sources, **fields)
        )
        return index

    def conv(
        self, channels: int, kernel: Any = 3, stride: Any = 1, *inputs: int, **more: Any
    ) -> int:
        more.setdefault("padding", "same")
        return self.add(
            "conv",
            *inputs,
            kernel_hw=_pair(kernel),
            stride_hw=_pair(stride),
            out_channels=channels,
            **more,
        )

    def depthwise(self, kernel: Any = 3, stride: Any = 1, *inputs: int, **more: Any) -> int:
        more.setdefault("padding", "same")
        return self.add(
            "depthwise", *inputs, kernel_hw=_pair(kernel), stride_hw=_pair(stride), **more
        )

    def spec(self, native: str = "224x224x3", outputs: tuple[int, ...] = ()) -> GraphSpec:
        last = (len(self.layers) - 1,)
        return GraphSpec(self.name, tuple(self.layers), outputs or last, InputShape.of(native))


def _pair(value: Any) -> tuple[int, int]:
    return value if isinstance(value, tuple) else (value, value)


def vgg16() -> GraphSpec:
    """Simonyan and Zisserman 2014, configuration D, with its top."""
    net = Net("vgg16")
    for block, (convs, channels) in enumerate(((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)), 1):
        for i in range(1, convs + 1):
            net.conv(channels, name=f"block{block}_conv{i}", use_bias=True)
        net.add("max_pool", name=f"block{block}_pool", kernel_hw=(2, 2), stride_hw=(2, 2))
    net.add("flatten", name="flatten")
    for name, units in (("fc1", 4096), ("fc2", 4096), ("predictions", 1000)):
        net.add("dense", name=name, out_channels=units, use_bias=True)
    return net.spec()


def mobilenet_v1(multiplier: float = 1.0) -> GraphSpec:
    """Howard et al. 2017, table 1."""
    net = Net("mobilenet_v1")
    net.conv(int(32 * multiplier), 3, 2)
    for channels, stride in (
        (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1), (512, 1), (512, 1),
        (512, 1), (512, 1), (1024, 2), (1024, 1),
    ):  # fmt: skip
        net.depthwise(3, stride)
        net.conv(int(channels * multiplier), 1)
    net.add("global_pool", function="mean")
    net.add("dense", out_channels=1000, use_bias=True)
    return net.spec()


def resnet50() -> GraphSpec:
    """He et al. 2015, the first version, with the stride on the first 1x1 of a stage."""
    net = Net("resnet50")
    net.add("pad", pads=((3, 3), (3, 3)))
    net.conv(64, 7, 2, padding="valid")
    net.add("pad", pads=((1, 1), (1, 1)))
    x = net.add("max_pool", kernel_hw=(3, 3), stride_hw=(2, 2))
    for stage, (blocks, channels) in enumerate(((3, 64), (4, 128), (6, 256), (3, 512))):
        for block in range(blocks):
            stride = 2 if block == 0 and stage > 0 else 1
            shortcut = x
            if block == 0:
                shortcut = net.conv(channels * 4, 1, stride, x, padding="valid")
            net.conv(channels, 1, stride, x, padding="valid")
            net.conv(channels, 3)
            y = net.conv(channels * 4, 1, padding="valid")
            x = net.add("elementwise", shortcut, y, function="add")
    net.add("global_pool", function="mean")
    net.add("dense", out_channels=1000)
    return net.spec()


def with_squeeze_and_excite() -> GraphSpec:
    """A stem, a strided depthwise block with a gate, and a projection with a residual."""
    net = Net("gated")
    stem = net.conv(8, 3, 2, name="stem")
    x = net.depthwise((5, 3), 1, stem, name="dw")
    net.add("global_pool", name="squeeze", keepdims=True, function="mean")
    net.conv(4, 1, name="reduce", use_bias=True)
    gate = net.conv(8, 1, name="expand", use_bias=True)
    gated = net.add("elementwise", x, gate, name="gate", function="multiply")
    net.add("elementwise", gated, stem, name="add", function="add")
    net.conv(16, 3, 2, name="down")
    net.add("global_pool", name="pool", function="mean")
    net.add("dense", name="logits", out_channels=10, use_bias=True)
    return net.spec("96x96x3")

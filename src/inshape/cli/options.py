"""Options that several commands share, and how their values are written."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import RequestError, ShapeError
from ..shapes import InputShape
from .completion import backbone_names, words

Network = Annotated[
    str,
    typer.Argument(
        metavar="BACKBONE",
        help="A name, a .keras file, or a run folder.",
        autocompletion=backbone_names,
    ),
]
Shape = Annotated[
    str | None,
    typer.Argument(
        metavar="HxWxC",
        help="New input shape: height, width, channels; ? is any size.",
        show_default=False,
    ),
]
Input = Annotated[
    str | None, typer.Option("--input", metavar="HxWxC", help="The same, as an option.")
]
Strategy = Annotated[
    str,
    typer.Option(
        help="auto, resize, rebuild, restride or flexible.",
        metavar="NAME",
        autocompletion=words("auto", "resize", "rebuild", "restride", "flexible"),
    ),
]
Channels = Annotated[
    str,
    typer.Option(
        help="auto, sum, mean, luma, tile, zero, first, project, or a pretrained channel per band "
        "such as 0,1,2,- (-: start at zero).",
        metavar="RULE",
        autocompletion=words("auto", "sum", "mean", "luma", "tile", "zero", "first", "project"),
    ),
]
WorkingSize = Annotated[
    str | None,
    typer.Option("--working", metavar="HxW", help="resize: the backbone's own size in pixels."),
]
Fit = Annotated[str | None, typer.Option(metavar="FIT", help="resize: stretch, letterbox or crop.")]
Interpolation = Annotated[
    str | None, typer.Option(metavar="NAME", help="resize: bilinear or nearest.")
]
Stem = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="restride: nearest, bilinear or bicubic resample the stem's kernel, plain keeps it.",
    ),
]
Factor = Annotated[
    int | None, typer.Option(metavar="N", help="restride: divides or multiplies the stem's stride.")
]
OutputStride = Annotated[
    int | None,
    typer.Option(metavar="N", help="restride: pixels per pixel of the last map, such as 16."),
]
Weights = Annotated[
    str,
    typer.Option(
        metavar="WEIGHTS",
        help="imagenet, a file (.weights.h5, .h5, .keras; torchvision's or timm's MobileNetV3 as "
        ".safetensors or .pth), hf://OWNER/NAME, kaggle://PRESET, none, or demo: the small "
        "checkpoint that comes with inshape, of MobileNetV3Small-minimalistic.",
    ),
]
Backbone = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="A name of keras.applications, or a .keras file.",
        autocompletion=backbone_names,
    ),
]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON object; text goes to standard error.")
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


def given(context: typer.Context, *, but: Sequence[str]) -> tuple[str, ...]:
    """The options that the user wrote.

    Args:
        context: of the command.
        but: parameters that do not count.

    Returns:
        Their names as they are written, ``--no-`` forms under the plain name.
    """
    written: list[str] = []
    for parameter in context.command.params:
        source = context.get_parameter_source(str(parameter.name))
        if parameter.name not in but and source is not None and source.name == "COMMANDLINE":
            written.append(parameter.opts[0])
    return tuple(written)


def shape_of(argument: str | None, option: str | None) -> InputShape:
    """Read the new input shape, which stands behind the network or after ``--input``.

    Args:
        argument: the positional one.
        option: the one after ``--input``.

    Returns:
        The shape.

    Raises:
        RequestError: if neither is there, or both are and differ.
        ShapeError: if it is no shape.

    Example:
        >>> print(shape_of("96x128x1", None))
        96x128x1
    """
    found = argument or option
    if found is None:
        raise RequestError(
            "no input shape given; expected HxWxC behind the network's name, such as 96x96x1"
        )
    if argument and option and InputShape.of(argument) != InputShape.of(option):
        raise RequestError(f"two input shapes given, {argument} and {option}; leave one out")
    return InputShape.of(found)


def network_of(text: str) -> str:
    """Read a network: a run folder stands for the model in it.

    Args:
        text: a name, a file or a folder.

    Returns:
        What `inshape.plan` takes.

    Example:
        >>> network_of("MobileNetV3Small")
        'MobileNetV3Small'
    """
    model = Path(text) / "model.keras"
    return str(model) if model.is_file() else text


def weights_of(text: str) -> str | None:
    """Read ``--weights``.

    Args:
        text: ``imagenet``, ``demo``, a path, ``hf://`` or ``kaggle://`` and a name, or ``none``.

    Returns:
        What `inshape.adapt` takes.

    Example:
        >>> weights_of("none"), weights_of("imagenet")
        (None, 'imagenet')
    """
    return None if text.lower() == "none" else text


def size_of(option: str, text: str) -> tuple[int, int]:
    """Read a size in pixels, or rows and columns.

    Args:
        option: its name, for the error.
        text: ``HxW``.

    Returns:
        Height and width.

    Raises:
        ShapeError: if it is not a size.

    Example:
        >>> size_of("--working", "160x224")
        (160, 224)
    """
    match = re.fullmatch(r"\s*(\d+)\s*[x×]\s*(\d+)\s*", text, re.IGNORECASE)
    if match is None or 0 in (int(match[1]), int(match[2])):
        raise ShapeError(
            f"{option} {text!r} is not a size; write HxW, height first, such as 160x224"
        )
    return int(match[1]), int(match[2])


def head_of(text: str | None) -> Any:
    """Read ``--head``.

    Args:
        text: a name, or rows and columns of a grid.

    Returns:
        What `inshape.adapt` takes.

    Example:
        >>> head_of("gem"), head_of("2x3")
        ('gem', (2, 3))
    """
    if text is None or not text[:1].isdigit():
        return text
    return size_of("--head", text)


def sizes_of(option: str, text: str | None) -> tuple[int | tuple[int, int], ...]:
    """Read sizes separated by commas.

    Args:
        option: its name, for the error.
        text: such as ``64,96,128x160``; a single number is a square.

    Returns:
        Numbers, and heights and widths.

    Raises:
        RequestError: if it is not a list of sizes.

    Example:
        >>> sizes_of("--sizes", "64,128x160")
        (64, (128, 160))
    """
    parts = [] if text is None else [part.strip() for part in text.split(",")]
    return tuple(int(part) if part.isdecimal() else size_of(option, part) for part in parts)


def numbers_of(option: str, text: str | None) -> tuple[int, ...] | None:
    """Read numbers separated by commas.

    Args:
        option: its name, for the error.
        text: such as ``4,8,16,32``.

    Returns:
        The numbers, or ``None`` if none were given.

    Raises:
        RequestError: if it is not a list of numbers.

    Example:
        >>> numbers_of("--features", "4,8,16,32")
        (4, 8, 16, 32)
    """
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise RequestError(
            f"{option} {text!r} is not a list of numbers; write them with commas, such as 4,8,16,32"
        )
    return tuple(int(part) for part in parts)


def recipe_of(settings: Sequence[str], **named: Any) -> dict[str, Any]:
    """The choices of a training as they were given on the command line.

    Args:
        settings: the values of ``--set``, each ``NAME=VALUE``.
        named: choices with an option of their own; ``None`` where it was not given.

    Returns:
        Choices by name, for ``inshape.Recipe().of``.

    Raises:
        RequestError: if a setting is not ``NAME=VALUE``.

    Example:
        >>> recipe_of(["mixup=0", "flip=no"], epochs=3, unfreeze="2", views=None)
        {'epochs': 3, 'unfreeze': 2, 'mixup': 0, 'flip': False}
    """
    given = {name: value for name, value in named.items() if value is not None}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise RequestError(f"--set {setting!r}: expected NAME=VALUE, such as mixup=0")
        given[name.strip().replace("-", "_")] = text.strip()
    return {
        name: _value_of(value) if isinstance(value, str) else value for name, value in given.items()
    }


_TRUTH = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


def _value_of(text: str) -> Any:
    """A number or a truth value where the text is one."""
    for read in (int, float, _TRUTH.__getitem__):
        try:
            return read(text.lower())
        except (ValueError, KeyError):
            continue
    return text


def planned(
    *,
    strategy: str,
    channels: str,
    working: str | None,
    fit: str | None,
    interpolation: str | None,
    stem: str | None,
    factor: int | None,
    output_stride: int | None,
) -> dict[str, Any]:
    """The keywords of `inshape.plan` as they were given on the command line.

    Args:
        strategy: the strategy's name.
        channels: the channel rule as it is written.
        working: the working size as it is written.
        fit: how a picture fills the working size.
        interpolation: how it is resampled.
        stem: how the stem's kernel is resampled.
        factor: of the stem's stride.
        output_stride: pixels per pixel of the last map.

    Returns:
        Keywords; options that were not given are left out.
    """
    from ..weights.channels import parse_rule

    options: dict[str, Any] = {
        "working_hw": None if working is None else size_of("--working", working),
        "fit": fit,
        "interpolation": interpolation,
        "stem": stem,
        "factor": factor,
        "output_stride": output_stride,
    }
    given = {name: value for name, value in options.items() if value is not None}
    return {"strategy": strategy, "channels": parse_rule(channels), **given}


def words_of(text: str) -> tuple[str, ...]:
    """Read words separated by commas.

    Args:
        text: such as ``rebuild,restride``.

    Returns:
        The words without those that are empty.

    Example:
        >>> words_of("rebuild, restride,")
        ('rebuild', 'restride')
    """
    return tuple(word.strip() for word in text.split(",") if word.strip())


def rules_of(text: str) -> tuple[str, ...]:
    """Read channel rules; a list of bands, which has commas itself, is one rule.

    Args:
        text: separated by semicolons, or by commas where none is a list of bands.

    Returns:
        The rules without those that are empty.

    Example:
        >>> rules_of("sum,luma"), rules_of("0,1,2,-"), rules_of("sum;0,1,2,-")
        (('sum', 'luma'), ('0,1,2,-',), ('sum', '0,1,2,-'))
    """
    found: list[str] = []
    for part in text.split(";"):
        is_list = all(re.fullmatch(r"\s*(\d+|-)\s*", band) for band in part.split(","))
        found += [part.strip()] if is_list else words_of(part)
    return tuple(found)

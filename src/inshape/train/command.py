"""The command that repeats a training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..heads import Head
from .recipe import Recipe

_PLAN_OPTIONS = ("working_hw", "fit", "interpolation", "stem", "factor", "output_stride")


def command_of(
    request: Mapping[str, Any], recipe: Recipe, head: Head, *, seed: int, out: str
) -> tuple[str, ...] | None:
    """The command that repeats a training.

    Args:
        request: what ``run.json`` keeps of it.
        recipe: its choices.
        head: its head.
        seed: its seed.
        out: the run folder to make.

    Returns:
        Its words; ``None`` for what can only be said in Python: pictures or a backbone that are no
        files, and ways of preparing pictures that have no option.

    Example:
        >>> asked = {"source": "/photos", "shape": "97x64x1", "backbone": "MobileNetV3Small",
        ...          "weights": None, "strategy": "auto", "channels": [0, None], "mlflow": None,
        ...          "plan_options": {"working_hw": (96, 64)}, "preparation": {"fit": "crop"}}
        >>> made = command_of(asked, Recipe(epochs=3, flip=False), Head(), seed=1, out="runs/b")
        >>> " ".join(made[:9])
        'inshape train /photos --input 97x64x1 --out runs/b --backbone MobileNetV3Small'
        >>> " ".join(made[9:])  # doctest: +NORMALIZE_WHITESPACE
        '--weights none --strategy auto --channels 0,- --seed 1 --working 96x64 --picture-fit crop
         --set epochs=3 --set flip=false'
    """
    source, backbone = request["source"], request["backbone"]
    preparation, options = request["preparation"], request["plan_options"]
    if (
        source is None
        or backbone is None
        or head.activation != "softmax"
        or not set(preparation) <= {"fit"}
        or not set(options) <= set(_PLAN_OPTIONS)
    ):
        return None
    words = ["inshape", "train", source, "--input", request["shape"], "--out", out]
    words += ["--backbone", backbone, "--weights", request["weights"] or "none"]
    words += ["--strategy", str(request["strategy"]), "--channels", _rule(request["channels"])]
    words += ["--seed", str(seed)]
    for name, value in options.items():
        option = name.removesuffix("_hw").replace("_", "-")
        words += [f"--{option}", _word(value)]
    usual_head = Head()
    for name in ("pool", "dropout", "hidden"):
        value = getattr(head, name)
        if value != getattr(usual_head, name):
            words += [f"--{name}", _word(value)]
    if "fit" in preparation:
        words += ["--picture-fit", preparation["fit"]]
    usual = Recipe().as_dict()
    for name, value in recipe.as_dict().items():
        if value != usual[name]:
            words += ["--set", f"{name}={_word(value)}"]
    if request["mlflow"] is not None:
        words += ["--mlflow", request["mlflow"]]
    return tuple(words)


def _rule(channels: Any) -> str:
    """A channel rule as the command line takes it."""
    if isinstance(channels, str):
        return channels
    return ",".join("-" if band is None else str(band) for band in channels)


def _word(value: Any) -> str:
    """A value as the command line takes it: sizes as ``HxW``, truth as ``true`` or ``false``."""
    if isinstance(value, list | tuple):
        return "x".join(str(part) for part in value)
    return str(value).lower() if isinstance(value, bool) else str(value)

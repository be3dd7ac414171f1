"""Requests that nothing can meet."""

from __future__ import annotations

from pathlib import Path

import inshape

from .case import BadInput


def _backbone(name: str) -> object:
    return inshape.plan(name, "64x64x3")


def _empty_folder(folder: Path) -> object:
    return inshape.train(folder, "64x64x3", out=folder / "run", weights=None)


BAD_INPUTS = [
    BadInput("a misspelt backbone", lambda _: _backbone("MobilNetV3Small"), "MobileNetV3Small"),
    BadInput("an empty folder of pictures", _empty_folder, "no pictures|no folder|class"),
]

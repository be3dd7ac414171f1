"""Pictures as people see them, and as text that a page shows."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def in_rgb(picture: NDArray[Any]) -> NDArray[Any]:
    """Three bands of a picture of any channels: its first three, or the first as grey.

    Example:
        >>> in_rgb(np.zeros((4, 6, 2))).shape, in_rgb(np.zeros((4, 6, 7))).shape
        ((4, 6, 3), (4, 6, 3))
    """
    return picture[..., :3] if picture.shape[-1] >= 3 else picture[..., :1].repeat(3, axis=-1)


def as_image(bands: NDArray[Any]) -> Image.Image:
    """Numbers in [0, 255] as a picture of bytes."""
    return Image.fromarray(np.clip(np.rint(bands), 0, 255).astype(np.uint8))


def as_uri(image: Image.Image, kind: str, **options: Any) -> str:
    """A picture in a page, such as ``data:image/png;base64,...``."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    text = base64.b64encode(file.getvalue()).decode("ascii")
    return f"data:image/{kind};base64,{text}"

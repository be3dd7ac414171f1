"""List the ImageNet files that Keras's constructors download; print ``weights/imagenet.csv`` anew.

    python -m tools.imagenet_downloads > src/inshape/weights/imagenet.csv

Every constructor of ``keras.applications`` is called with ``weights="imagenet"`` and stopped at its
download, of which the file's name, address and hash are written down.
"""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Iterator
from unittest import mock

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras

from inshape.backbones import Backbone, backbones

FIELDS = ("backbone", "top", "file", "url", "hash")


class _Asked(Exception):
    """A constructor wants to download."""


def downloads(backbone: Backbone) -> Iterator[tuple[str, ...]]:
    """The rows of one backbone: with its classifier and without it."""
    for top in (True, False):

        def get_file(
            fname: str, origin: str, *, file_hash: str | None = None, **others: object
        ) -> None:
            assert others.pop("cache_subdir") == "models"
            raise _Asked(fname, origin, file_hash or others.pop("md5_hash", "") or "")

        with mock.patch("keras.src.utils.file_utils.get_file", get_file):
            try:
                getattr(keras.applications, backbone.constructor)(
                    include_top=top,
                    weights="imagenet",
                    input_shape=(*backbone.native_hw, 3),
                    **dict(backbone.options),
                )
            except _Asked as asked:
                yield backbone.name, str(int(top)), *map(str, asked.args)


def main() -> None:
    """Print the table."""
    written = csv.writer(sys.stdout, lineterminator="\n")
    written.writerow(FIELDS)
    for backbone in backbones():
        if backbone.has_imagenet:
            written.writerows(downloads(backbone))
            keras.backend.clear_session()


if __name__ == "__main__":
    main()

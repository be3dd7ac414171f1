"""Store the layer tables of every named backbone, so that ``inspect`` needs no framework.

Run as ``python -m tools.layer_tables`` after a change of `inshape.graph.read` or of Keras; it
builds every network with random weights, which takes minutes and up to three GiB of memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import inshape
from inshape.backbones import backbones
from inshape.geometry.spec import GraphSpec
from inshape.geometry.tables import FILE, is_storable, packed


def read_tables(names: list[str]) -> Iterator[tuple[str, bool, GraphSpec]]:
    """Each network with its head and without."""
    import keras

    from inshape.planning import open_network

    for name in names:
        for top in (False, True):
            keras.backend.clear_session()  # numbers the names of layers from 0 again
            spec = open_network(name, None, top=top).spec
            if is_storable(spec):
                yield name, top, spec
            else:
                print(f"{name}: a layer that only Keras can be asked about; left out")


def main() -> None:
    """Write the file into the package."""
    tables = list(read_tables([backbone.name for backbone in backbones()]))
    path = Path(inshape.__file__).with_name(FILE)
    path.write_bytes(packed(tables))
    print(f"{path.name}: {len(tables)} tables, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()

"""Count parameters and multiply-accumulates of every backbone; print ``backbones.csv`` anew.

    python -m tools.count_backbones > src/inshape/backbones.csv

Each network is built by Keras's own constructor at its native shape, with its classifier of 1,000
classes and random weights. Parameters are Keras's count; multiply-accumulates are those of
``inshape.geometry.cost``. Accuracies and their sources are kept as they stand in the file: they are
read from documentation. The largest networks need about 3 GB of memory.
"""

from __future__ import annotations

import csv
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from inshape.backbones import Backbone, backbones, published
from inshape.geometry.cost import costs, total_of

FIELDS = ("name", "params", "macs", "top1", "source")


def count(backbone: Backbone) -> tuple[int, int]:
    """Build a network and count.

    Args:
        backbone: which.

    Returns:
        Parameters, and multiply-accumulates for one picture of the native shape.
    """
    import keras

    from inshape.graph.read import read

    keras.backend.clear_session()  # lets go of the network before
    model = backbone.build(include_top=True)
    spec = read(model)
    macs = total_of(cost.macs for cost in costs(spec, spec.input_shape))
    assert macs is not None, f"{backbone.name} holds a layer that the arithmetic does not know"
    return model.count_params(), macs


def main() -> None:
    """Print the table."""
    written = csv.writer(sys.stdout, lineterminator="\n")
    written.writerow(FIELDS)
    for backbone in backbones():
        known = published().get(backbone.name)
        top1, source = (known.top1, known.source) if known else (None, None)
        written.writerow((backbone.name, *count(backbone), top1, source))
        sys.stdout.flush()


if __name__ == "__main__":
    main()

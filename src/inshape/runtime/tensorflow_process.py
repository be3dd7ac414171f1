"""What `in_tensorflow` runs in a process of its own: one conversion."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np

from ..errors import DataError, GraphError
from .conversion import convert
from .formats import FORMATS
from .litert_files import to_litert


def main() -> None:
    """Carry out the task on standard input; the kind and text of a refusal are the last line."""
    task = json.load(sys.stdin)
    model: Any = keras.saving.load_model(task["model"], compile=False)
    path, options = Path(task["path"]), task["options"]
    refusal: tuple[str, str] | None = None
    try:
        if task["function"] == "convert":
            options["form"] = FORMATS[options["form"]]
            convert(model, path=path, pictures=list(np.load(task["pictures"])), **options)
        else:
            path.write_bytes(to_litert(model, **options))
    except (DataError, GraphError) as error:
        refusal = type(error).__name__, str(error)
    print(json.dumps(refusal))


if __name__ == "__main__":
    main()

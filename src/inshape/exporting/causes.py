"""Why a file may not answer as the model does: before it is written, and once it has failed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..errors import GraphError
from ..runtime.conversion import layer_of
from ..runtime.formats import Format
from ..runtime.litert_files import to_litert

if TYPE_CHECKING:
    import keras

    from ..runtime.int8 import Hidden

_EIGHT_BITS = ("litert-int8", "litert-dynamic")
_HALF = "litert-float16"
_LARGEST_HALF = 65504.0
_UNSURE = 0.2


def find_faults(
    model: keras.Model, forms: Sequence[Format], pictures: Sequence[NDArray[np.float32]]
) -> dict[str, str]:
    """What rounding would do to a model, by the name of the format, with the remedy.

    The pictures, each ``(1, height, width, channels)``, say which channels count.
    """
    rounded = {form.name for form in forms} & {*_EIGHT_BITS, _HALF}
    if not rounded:
        return {}
    from ..runtime.equalise import equalised
    from ..runtime.int8 import find_hidden, largest_weight  # loads the tools of 8-bit files

    try:
        content = to_litert(model)
    except GraphError:  # which the format itself will say
        return {}
    faults: dict[str, str] = {}
    name, largest = largest_weight(content)
    if largest > _LARGEST_HALF:
        faults[_HALF] = (
            f"layer {layer_of(model, name)!r} holds a weight of {largest:.3g}, and float16 ends at "
            f"{_LARGEST_HALF:g}; export litert"
        )
    remedy = "litert" if _HALF in faults else f"{_HALF} or litert"
    for name in sorted(rounded & {*_EIGHT_BITS}):
        # Weights alone are rounded as they are; where maps are, too, channels are made alike first.
        is_whole = name == _EIGHT_BITS[0]
        for hidden in find_hidden(equalised(content, pictures) if is_whole else content, pictures):
            if hidden.kind == "weights" or is_whole:
                faults.setdefault(name, _hidden_line(model, hidden, remedy))
    return {name: line for name, line in faults.items() if name in rounded}


def _hidden_line(model: keras.Model, hidden: Hidden, remedy: str) -> str:
    layer = layer_of(model, hidden.tensor.split(";")[0])
    if hidden.kind == "weights":
        return (
            f"layer {layer!r} has weights of up to {hidden.largest:.3g}, beside which 8 bits do "
            f"not show the others (their median is {hidden.typical:.2g}); train this layer anew, "
            f"or export {remedy}"
        )
    return (
        f"the values of layer {layer!r} reach {hidden.largest:.3g}, beside which 8 bits do not "
        f"show most of its channels (half of them vary by {hidden.typical:.2g} or less); export "
        f"{remedy}"
    )


def likely_cause(
    form: Format,
    answers: NDArray[np.floating],
    reference: NDArray[np.floating],
    fault: str | None,
) -> str:
    """Why a file answers otherwise than Keras, from both probabilities, and what to try."""
    count = len(answers) - int(np.isfinite(answers).all(axis=1).sum())
    if fault is not None:
        return fault
    if count:
        return (
            f"it answers NaN or infinity to {count} of {len(answers)} pictures; export "
            "another format"
        )
    differs = answers.argmax(axis=1) != reference.argmax(axis=1)
    lead = np.diff(np.sort(reference[differs], axis=1)[:, -2:], axis=1)
    if reference.shape[1] > 1 and np.median(lead) < _UNSURE:
        share = np.floor(100 * (1 - differs.mean())) / 100
        return (
            "Keras itself is unsure of most of these pictures (its two likeliest classes are "
            f"{np.median(lead):.2f} apart), so that rounding decides; train on more pictures, or "
            f"accept it with min_agreement={share:g}"
        )
    if form.is_quantised:
        return (
            "its ranges may not fit these pictures; calibrate on more (calibration=500), on "
            "pictures like these (calibrate_on=FOLDER), or export litert-float16"
        )
    return "the converter computes a layer otherwise; export another format"

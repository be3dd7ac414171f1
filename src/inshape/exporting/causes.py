"""Why a file may not answer as the model does: before it is written, and once it has failed."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..errors import GraphError
from ..geometry.operators import Granularity
from ..runtime.conversion import layer_of
from ..runtime.formats import Format
from ..runtime.litert_files import to_litert
from ..tasks.bootstrap import Score
from ..tasks.task import Task

if TYPE_CHECKING:
    import keras

    from ..runtime.int8 import Hidden

_DYNAMIC, _HALF = "litert-dynamic", "litert-float16"
_LARGEST_HALF = 65504.0
_UNSURE = 0.2


def find_faults(
    model: keras.Model, forms: Sequence[Format], pictures: Sequence[NDArray[np.float32]]
) -> dict[str, str]:
    """What rounding would do to a model, by the name of the format, with the remedy.

    The pictures, each ``(1, height, width, channels)``, say which channels count.
    """
    rounded = [form for form in forms if form.is_quantised or form.name in (_DYNAMIC, _HALF)]
    if not rounded:
        return {}
    from ..runtime.int8 import largest_weight  # loads the tools of 8-bit files

    try:
        content = to_litert(model)
    except GraphError:  # which the format itself will say
        return {}
    name, largest = largest_weight(content)
    is_too_large = largest > _LARGEST_HALF
    remedy = "litert" if is_too_large else f"{_HALF} or litert"
    faults: dict[str, str] = {}
    if is_too_large and any(form.name == _HALF for form in rounded):
        faults[_HALF] = (
            f"layer {layer_of(model, name)!r} holds a weight of {largest:.3g}, and float16 ends at "
            f"{_LARGEST_HALF:g}; export litert"
        )
    hidden = _hidden_in(content, rounded, pictures)
    return faults | {name: _hidden_line(model, one, remedy) for name, one in hidden.items()}


def _hidden_in(
    content: bytes, rounded: Collection[Format], pictures: Sequence[NDArray[np.float32]]
) -> dict[str, Hidden]:
    """The first thing that 8 bits do not show in a file of each of the formats that have 8."""
    from ..runtime.equalise import equalised
    from ..runtime.int8 import find_hidden  # loads the tools of 8-bit files

    found: dict[str, Sequence[Hidden]] = {}
    if any(form.name == _DYNAMIC for form in rounded):  # which rounds weights alone
        found[_DYNAMIC] = [x for x in find_hidden(content, pictures) if x.kind == "weights"]
    quantised = [form.name for form in rounded if form.is_quantised]
    if quantised:
        found |= dict.fromkeys(quantised, find_hidden(equalised(content, pictures), pictures))
    return {name: hidden[0] for name, hidden in found.items() if hidden}


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
        "show most of its channels (half of them vary by "
        f"{hidden.typical:.2g} or less); export {remedy}"
    )


def certain_loss(task: Task, change: Score) -> str | None:
    """What is to be said where a file's score has fallen further than it may."""
    if not change.high < -task.most_lost:
        return None
    return (
        f"its {task.probe_name} is {-change.value:.3f} lower (at least {-change.high:.3f}), "
        f"expected at most {task.most_lost:g}; export litert-float16, or calibrate on more "
        "pictures (calibration=500)"
    )


def likely_cause(
    task: Task,
    form: Format,
    answers: NDArray[np.floating],
    reference: NDArray[np.floating],
    fault: str | None,
    granularity: Granularity = "per-channel",
) -> str:
    """Why a file answers otherwise than Keras, from both answers, and what to try."""
    count = len(answers) - int(np.isfinite(answers.reshape(len(answers), -1)).all(axis=1).sum())
    if fault is not None:
        return fault
    if count:
        return (
            f"it answers NaN or infinity to {count} of {len(answers)} pictures; export "
            "another format"
        )
    if form.is_quantised and granularity == "per-tensor":
        return "all weights of a layer share one scale; export it with granularity per-channel"
    differs = ~task.is_same(answers, reference)
    lead = task.lead(reference[differs])
    if np.median(lead) < _UNSURE:
        share = np.floor(100 * (1 - differs.mean())) / 100
        return (
            "Keras itself is unsure of most of these pictures (its two likeliest answers are "
            f"{np.median(lead):.2f} apart), so that rounding decides; train on more pictures, or "
            f"accept it with min_agreement={share:g}"
        )
    if form.is_quantised:
        return (
            "its ranges may not fit these pictures; calibrate on more (calibration=500), on "
            "pictures like these (calibrate_on=FOLDER), or export litert-float16"
        )
    return "the converter computes a layer otherwise; export another format"

"""What the options of a request are called by those who know ``keras.applications``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from .backbones import backbones, find
from .errors import UnknownName
from .requests import Request, options_of

_Answer: TypeAlias = str | dict[str, str]
"""What to write instead; a dict where that depends on the value."""

_LEFT_OUT = "leave it out; "
_OF_PICTURES = f"{_LEFT_OUT}the classifier's classes are those of your pictures"
_SHAPES: dict[str, _Answer] = {
    name: f"write {name}='96x96x1'" for name in ("input_shape", "shape", "shapes")
}
_ACTIVATION: dict[str, _Answer] = {
    "activation": {
        "softmax": "write activation='softmax'",
        "else": "write activation='logits', which gives the scores before the softmax",
    },
    "pool": f"{_LEFT_OUT}the classifier ends in a softmax",
}
_CLASSES: dict[str, _Answer] = {"classes": "write classes", "pool": _OF_PICTURES}
_ANSWERS: dict[str, dict[str, _Answer]] = {
    "include_top": {
        "features": {
            "True": "head='top' keeps the network's own head",
            "else": f"{_LEFT_OUT}without classes the pooled features come out, and features=[32] "
            "gives the map at stride 32",
        },
        "pool": f"{_LEFT_OUT}a new classifier takes the place of the network's own",
    },
    "pooling": {
        "features": {
            "max": "write pool='max'",
            "None": f"{_LEFT_OUT}features=[32] gives the map at stride 32",
            "else": "write pool='avg'",
        },
        "pool": {"max": "write pool='max'", "else": "write pool='avg'"},
    },
    **dict.fromkeys(("classifier_activation", "activation"), _ACTIVATION),
    **dict.fromkeys(("classes", "num_classes"), _CLASSES),
    "weights": {
        "pool": "a plan needs none; give them to inshape.adapt, or to the plan's build(weights)"
    },
    "dropout_rate": {"dropout": "write dropout, the share of values dropped before the classifier"},
    "include_preprocessing": {
        "pool": f"{_LEFT_OUT}a named backbone takes pictures in [0, 255]",
    },
    "input_tensor": {
        name: f"{answer}; the model has an input of its own" for name, answer in _SHAPES.items()
    },
    "data_format": {"pool": f"{_LEFT_OUT}height, width and channels stand in this order"},
    **dict.fromkeys(("image_size", "input_size", "target_size", *_SHAPES), _SHAPES),
    "model": {
        "backbone": "write backbone, which takes a keras.Model too",
        "backbones": "write backbones, which takes files: model.save('name.keras') makes one",
    },
    "name": {"pool": f"{_LEFT_OUT}the model has its backbone's name"},
    "validation_split": {"validation": "write validation, the share of pictures held out"},
}
"""By word, what is answered to those whose request has an option; the first that it has counts."""


class KerasWords(Request):
    """A request for a network, which answers the words of ``keras.applications``."""

    __slots__ = ()

    @classmethod
    def answer_to(cls, name: str, values: Mapping[str, Any]) -> str:
        """What Keras's word is called here."""
        options = {option.name for option in options_of(cls)}
        if name in ("alpha", "minimalistic"):
            return _variant("backbone" if "backbone" in options else "backbones", values)
        answers = _ANSWERS.get(name, {})
        answer = next((answer for option, answer in answers.items() if option in options), "")
        return answer if isinstance(answer, str) else answer.get(str(values[name]), answer["else"])


def _variant(option: str, values: Mapping[str, Any]) -> str:
    """The names of the backbones that Keras makes by ``alpha`` and ``minimalistic``."""
    defaults = {"alpha": 1.0, "minimalistic": False}
    asked = {name: values.get(name, default) for name, default in defaults.items()}
    try:
        constructor = find(str(values.get(option))).constructor
    except UnknownName:
        return "it is part of a backbone's name, such as 'MobileNetV3Small-0.75'"
    relatives = [backbone for backbone in backbones() if backbone.constructor == constructor]
    names = [
        b.name
        for b in relatives
        if all(dict(b.options).get(name, defaults[name]) == x for name, x in asked.items())
    ] or [b.name for b in relatives]
    return f"it is part of the backbone's name; write {option} {' or '.join(map(repr, names))}"

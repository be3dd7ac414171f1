"""Every exception that inshape raises on purpose.

    InshapeError
    ├── RequestError            the request cannot be met as it stands (exit code 2)
    │   ├── ShapeError          an input shape that cannot be read, or that no map survives
    │   │   ├── VanishingMap    a feature map would have no pixels left
    │   │   ├── MapMismatch     two maps that meet have different sizes
    │   │   └── FixedShape      a layer is tied to one input shape
    │   ├── UnknownName         a backbone, strategy, rule or option that does not exist
    │   ├── StrategyError       the strategy does not apply to this network
    │   │   └── AmbiguousStem   other layers read the picture than the change needs
    │   ├── GraphError          a model that cannot be read or rebuilt
    │   ├── WeightsError        weights that are missing or do not fit
    │   │   └── NoClassifier    weights without the classifier that was asked for
    │   ├── DataError           pictures, labels or folders that cannot be used
    │   │   └── UnreadablePicture   a file that holds no whole picture
    │   ├── NoCandidate         a comparison of which nothing can be taken
    │   └── OutputExists        the output is there already and was not to be replaced
    └── RunError                a run that began and could not be finished (exit code 1)

Each message says what came, what was expected and what to do, in one line.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable
from typing import Any

_BREAK = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]")
_MOST_REPEATED = 80
_LONG = re.compile(r"\S{400,}")
"""No name that people give; what is so long came out of a damaged file."""


class InshapeError(Exception):
    """The base of every error that inshape raises on purpose."""

    exit_code = 1

    def __init__(self, message: str) -> None:
        """Take the message, which stays one line whatever names are in it."""
        super().__init__(_LONG.sub(_shortened, _BREAK.sub(_escaped, message)))


def _escaped(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode("ascii")


def _shortened(match: re.Match[str]) -> str:
    return f"{match[0][:160]}...{match[0][-160:]}"  # the end of a path is its file


def shown(value: object) -> str:
    """What came, in one line and not too long.

    Example:
        >>> shown(["a", 1]), len(shown("a" * 1000))
        ("['a', 1]", 85)
    """
    if isinstance(value, str) and len(value) > _MOST_REPEATED:
        value = f"{value[:_MOST_REPEATED]}..."
        return " ".join(repr(value).split())
    try:
        text = " ".join(repr(value).split())  # an array's text may have several lines
    except ValueError:
        text = "a number of thousands of digits"  # which Python does not write
    return text if len(text) <= _MOST_REPEATED else f"{text[:_MOST_REPEATED]}..."


class RequestError(InshapeError):
    """The request cannot be met as it stands."""

    exit_code = 2


class ShapeError(RequestError):
    """An input shape that cannot be read, or that the network cannot take."""


class VanishingMap(ShapeError):
    """A feature map would have no pixels left at this input shape."""


class MapMismatch(ShapeError):
    """Two feature maps that meet (in an addition, say) have different sizes."""


class FixedShape(ShapeError):
    """A layer is tied to the input shape at which the model was built."""


class UnknownName(RequestError):
    """A backbone, strategy, rule or option that does not exist."""

    def __init__(
        self, kind: str, received: object, choices: Iterable[str], *, answer: str = ""
    ) -> None:
        """Say which names exist, and the closest one first.

        Args:
            kind: what was being named, such as ``"strategy"``.
            received: what the caller wrote.
            choices: the names that exist.
            answer: what to write instead, where that is known.
        """
        self.kind, self.choices = kind, tuple(choices)
        close = difflib.get_close_matches(
            str(received)[:_MOST_REPEATED].lower(),
            [c.lower() for c in self.choices],
            n=1,
            cutoff=0.6,
        )
        match = next((c for c in self.choices if close and c.lower() == close[0]), None)
        hint = f"did you mean {match}? " if match else ""
        advice = answer or f"{hint}choose from: {', '.join(self.choices)}"
        super().__init__(f"unknown {kind} {shown(str(received))}; {advice}")


def check_choice(kind: str, received: object, choices: Collection[str]) -> None:
    """Refuse what is none of the choices; see `UnknownName`."""
    if received not in choices:
        raise UnknownName(kind, received, choices)


class StrategyError(RequestError):
    """The strategy does not apply to this network at this shape."""


class AmbiguousStem(StrategyError):
    """Other layers read the picture than those that a change needs."""

    def __init__(self, stems: Iterable[str], expected: str) -> None:
        """Name the candidates.

        Args:
            stems: names of the layers that read the picture, possibly none.
            expected: what should read it.
        """
        names = tuple(stems)
        readers = "layer reads" if len(names) == 1 else "layers read"
        self.what = "no convolution reads the picture"
        if names:
            self.what = f"{len(names)} {readers} the picture ({', '.join(names)})"
        super().__init__(
            f"{self.what}; expected {expected}; use channels='project', which leaves "
            "the network's own channels alone, and strategy='rebuild' or 'resize'"
        )


class GraphError(RequestError):
    """A model that cannot be read or rebuilt."""


class WeightsError(RequestError):
    """Weights that are missing or do not fit."""


class NoClassifier(WeightsError):
    """Weights without the classifier that was asked for."""


class DataError(RequestError):
    """Pictures, labels or folders that cannot be used."""


class UnreadablePicture(DataError):
    """A file that holds no whole picture: damaged, cut short or of another kind."""


class NoCandidate(RequestError):
    """A comparison of which nothing can be taken: all failed, or none meets the limits."""

    def __init__(self, message: str, comparison: Any) -> None:
        """Keep what was measured.

        Args:
            message: what the nearest candidate needs.
            comparison: a `Comparison` without a recommendation.
        """
        self.comparison = comparison
        super().__init__(message)


class OutputExists(RequestError):
    """The output is there already and was not to be replaced."""


class RunError(InshapeError):
    """A run that began and could not be finished."""

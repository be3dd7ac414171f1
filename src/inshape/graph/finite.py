"""What weights may be: finite floating-point numbers, whatever file or model they come from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import WeightsError

LARGEST = 1e19
"""The square of a larger number is infinite in float32, which networks compute in."""

_KINDS = {
    "b": "truth values",
    "i": "whole numbers",
    "u": "whole numbers",
    "c": "complex numbers",
    "O": "text",
    "S": "text",
    "U": "text",
}


def problem_of(values: NDArray[Any], name: str = "") -> str:
    """Why an array cannot be the weights of that name; empty if it can.

    Example:
        >>> problem_of(np.array([1.0, np.nan])), problem_of(np.array([1, 2]))
        ('holds NaN or infinity in 1 of 2 places', 'holds whole numbers (int64)')
    """
    if values.dtype.kind != "f":
        return f"holds {_KINDS.get(values.dtype.kind, 'raw bytes')} ({values.dtype})"
    odd = int(np.size(values) - np.isfinite(values).sum())
    if odd:
        return f"holds NaN or infinity in {odd} of {values.size} places"
    largest = float(np.abs(values).max(initial=0.0))
    if largest > LARGEST:
        return f"holds {largest:.3g}, whose square is beyond float32"
    if name.endswith("variance") and (values < 0).any():
        return "holds a negative variance"
    return ""


def assign(variables: Iterable[Any], arrays: Iterable[Any], holder: str, advice: str) -> None:
    """Give variables their values; a counter or a seed may be a whole number.

    Raises:
        WeightsError: if a weight cannot be that; it names the holder.
    """
    for variable, values in zip(variables, arrays, strict=True):
        is_weight = "float" in str(variable.dtype)
        problem = problem_of(values, variable.name) if is_weight else ""
        if problem:
            raise WeightsError(
                f"{holder} {problem}; expected finite floating-point numbers; {advice}"
            )
        variable.assign(values)


def problem_in(variables: Iterable[Any]) -> str:
    """The first of Keras's variables that is not finite, and why; empty if all are."""
    import keras  # here, so that run folders can be listed without a framework

    for variable in variables:
        if "float" in str(variable.dtype):
            values = np.asarray(keras.ops.convert_to_numpy(variable)).astype(np.float32)
            problem = problem_of(values, variable.name)
            if problem:
                return f"{variable.path} {problem}"
    return ""

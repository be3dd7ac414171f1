r"""Convolution kernels composed with a resampling of their input.

Resampling a picture and convolving it are both linear, so one convolution can do both.

**Up.** Let x be the small picture and u the one enlarged f times with half-pixel centres: along one
axis u[f q + r] = sum over i of P_r[i] x[q + i], where the phase r = 0 .. f-1 and the weights P_r of
the interpolation belong to the source coordinate (r + 1/2) / f - 1/2. A convolution of u with taps
w[t], stride f s and p zeros in front computes, for output o,

    y[o] = sum_t w[t] u[f s o - p + t]
         = sum_t w[t] sum_i P_r(t)[i] x[s o + q(t) + i],    f q(t) + r(t) = t - p, 0 <= r(t) < f
         = sum_j W[j] x[s o + j],                           W[j] = sum_t w[t] P_r(t)[j - q(t)]

which is a convolution of x with taps W and stride s. For f = 2, three taps, stride 2 and no zeros
in front (TensorFlow's ``same`` at an even size): nearest gives W[-1..1] = 0, w0 + w1, w2, and
bilinear w0/4, 3 (w0 + w1)/4 + w2/4, w1/4 + 3 w2/4.

The zeros in front are as many as W reaches before 0. Those behind follow from the count of outputs:
floor((f S + p + p' - k) / (f s)) = floor((S + floor((p + p' - k) / f)) / s) for every size S.

**Down.** Averaging blocks of f x f pixels and then convolving with taps w, stride s and zeros p is
a convolution with every tap repeated f times and divided by f (per axis), stride f s, zeros f p.

**Borders.** With nearest, and with averaging where f divides the picture's size, both ways agree
everywhere. Bilinear and bicubic differ where a tap reaches over the border: a resizing layer
repeats the border pixel there, a convolution sees zeros.

**Size.** An odd kernel stays odd and is centred on the pixel that W[0] reads, which adds a zero tap
where the reach is one-sided: with stride 1 that is an ordinary ``same`` convolution, it is 3x3 for
3x3 stems with nearest as with bilinear, and the zero taps may learn. An even kernel (a patch
embedding) is kept as small as it can be.

Sources: half-pixel centres as in ``tf.image.resize`` and Keras's ``Resizing``; cubic convolution
with a = -1/2 from Keys, "Cubic convolution interpolation for digital image processing", IEEE
Trans. ASSP 29(6), 1981; resampling patch embeddings as linear maps from FlexiViT, Beyer et al.,
2022 (arXiv:2212.08013).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..geometry.spec import Pads, Resampling

Array: TypeAlias = NDArray[Any]
AxisGeometry: TypeAlias = tuple[int, int, tuple[int, int]]
"""Kernel, stride and zeros (before, after) along one axis, in pixels."""


@dataclass(frozen=True, slots=True)
class ComposedKernel:
    """A convolution that does a resampling and an older convolution at once.

    Attributes:
        kernel: (height, width, input channels, filters).
        stride_hw: its step in pixels.
        pads: the zeros around its input, ``((top, bottom), (left, right))``.
    """

    kernel: Array
    stride_hw: tuple[int, int]
    pads: Pads


def composed_geometry(
    kernel_hw: tuple[int, int], how: Resampling
) -> tuple[tuple[int, int], tuple[int, int], Pads]:
    """Kernel, stride and zeros of a composed convolution, before there are any weights.

    Example:
        >>> how = Resampling(2, "up", "bilinear", (2, 2), ((0, 1), (0, 1)))
        >>> composed_geometry((3, 3), how)
        ((3, 3), (1, 1), ((1, 1), (1, 1)))
    """
    (kernel_h, stride_h, pads_h), (kernel_w, stride_w, pads_w) = (
        _along_axis(kernel_px, how, axis) for axis, kernel_px in enumerate(kernel_hw)
    )
    return (kernel_h, kernel_w), (stride_h, stride_w), (pads_h, pads_w)


def compose(kernel: Array, how: Resampling) -> ComposedKernel:
    """The convolution of a picture that equals resampling it first and convolving with ``kernel``.

    Example:
        >>> how = Resampling(2, "up", "bilinear", (2, 2), ((0, 1), (0, 1)))
        >>> compose(np.ones((3, 3, 1, 1)), how).kernel.sum(axis=0).ravel() / 3
        array([0.25, 1.75, 1.  ])
        >>> row = np.array([1.0, 2.0]).reshape(1, 2, 1, 1)
        >>> how = Resampling(2, "down", "area", (1, 1), ((0, 0), (1, 0)))
        >>> compose(row, how).kernel[0, :, 0, 0]
        array([0.25, 0.25, 0.5 , 0.5 ])
    """
    kernel_hw = (kernel.shape[0], kernel.shape[1])
    new_hw, stride_hw, pads = composed_geometry(kernel_hw, how)
    rows, columns = (
        _matrix(kernel_hw[axis], new_hw[axis], pads[axis][0], how, axis) for axis in (0, 1)
    )
    return ComposedKernel(_both_axes(kernel, rows, columns), stride_hw, pads)


def _along_axis(kernel_px: int, how: Resampling, axis: int) -> AxisGeometry:
    stride_px, (before, after), factor = how.stride_hw[axis], how.pads[axis], how.factor
    if how.direction == "down":
        return kernel_px * factor, stride_px * factor, (before * factor, after * factor)
    if factor == 1:
        return kernel_px, stride_px, (before, after)
    first, last = _reach(kernel_px, before, factor, how.method)
    spare = (before + after - kernel_px) // factor
    return last - first + 1, stride_px // factor, (-first, spare + last + 1)


def _matrix(old_px: int, new_px: int, new_before_px: int, how: Resampling, axis: int) -> Array:
    """What each tap of the composed kernel takes of each old one, along one axis."""
    if how.factor == 1 or how.direction == "down":
        return np.repeat(np.eye(old_px), how.factor, axis=0) / how.factor
    matrix = np.zeros((new_px, old_px))
    for t in range(old_px):
        tap, phase = divmod(t - how.pads[axis][0], how.factor)
        for i, weight in _phase_weights(phase, how.factor, how.method).items():
            matrix[new_before_px + tap + i, t] += weight
    return matrix


def _both_axes(kernel: Array, rows: Array, columns: Array) -> Array:
    composed = np.einsum("ai,bj,ijcd->abcd", rows, columns, kernel.astype(np.float64))
    return composed.astype(kernel.dtype)


def _phase_weights(phase: int, factor: int, method: str) -> dict[int, float]:
    """Weights of the small picture's pixels, by offset, in one pixel of the enlarged one."""
    if method == "nearest":
        return {0: 1.0}
    position = (phase + 0.5) / factor - 0.5
    below = math.floor(position)
    reach = 1 if method == "bilinear" else 2
    weigh = _triangle if method == "bilinear" else _keys_cubic
    weights = {i: weigh(abs(position - i)) for i in range(below - reach + 1, below + reach + 1)}
    # An odd factor puts one pixel of the enlarged picture exactly on one of the small picture.
    return {i: weight for i, weight in weights.items() if abs(weight) > 1e-12}


def _triangle(distance: float) -> float:
    return max(0.0, 1.0 - distance)


def _keys_cubic(distance: float) -> float:
    if distance <= 1.0:
        return (1.5 * distance - 2.5) * distance**2 + 1.0
    if distance < 2.0:
        return ((-0.5 * distance + 2.5) * distance - 4.0) * distance + 2.0
    return 0.0


def _reach(kernel_px: int, before_px: int, factor: int, method: str) -> tuple[int, int]:
    """The first and last pixel, from ``stride * output``, that the composed kernel reads."""
    offsets = [
        tap + i
        for tap, phase in (divmod(t - before_px, factor) for t in range(kernel_px))
        for i in _phase_weights(phase, factor, method)
    ]
    first, last = min(offsets), max(offsets)
    if kernel_px % 2:
        reach = max(-first, last)
        first, last = -reach, reach
    return first, last

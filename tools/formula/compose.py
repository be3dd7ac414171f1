"""From a batch of grey pictures to coloured ones, another way each time they are shown.

Everything is drawn from a seed and a step number, so that a training that goes on after an
interruption sees the pictures that it would have seen.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

_GREY_SHARE = 0.35
_LEAST_CONTRAST = 0.3
_LUMA = (0.299, 0.587, 0.114)


class _Dice:
    """Uniform numbers that depend on a seed, a step and how many draws came before."""

    def __init__(self, seed: int, step: Any) -> None:
        self._seed, self._step, self._draws = seed, step, 0

    def uniform(self, shape: tuple[int, ...], low: float = 0.0, high: float = 1.0) -> Any:
        return tf.random.stateless_uniform(shape, self._next(), low, high)

    def normal(self, shape: tuple[int, ...]) -> Any:
        return tf.random.stateless_normal(shape, self._next())

    def chance(self, count: int, share: float) -> Any:
        drawn = self.uniform((count, 1, 1, 1)) < share
        return tf.cast(drawn, tf.float32)

    def _next(self) -> Any:
        self._draws += 1
        return tf.stack(
            [tf.constant(self._seed * 1000 + self._draws), tf.cast(self._step, tf.int32)]
        )


def compose(grey: Any, fills: Any, step: Any, *, px: int, seed: int) -> Any:
    """Colour, background, place, size, blur and noise.

    Args:
        grey: uint8 ``(pictures, height, height)``, light on black; a multiple of eight pictures.
        fills: bool ``(pictures,)``, which of them fill the picture and must keep filling it.
        step: an integer tensor; another step gives other pictures.
        px: height and width of what comes out.
        seed: of all draws.

    Returns:
        float32 ``(pictures, px, px, 3)`` in [0, 255].
    """
    count = grey.shape[0]
    dice = _Dice(seed, step)
    mask = _moved(tf.cast(grey[..., None], tf.float32) / 255, fills, px, dice)
    near, far = _two_colours(dice, count)
    field = (count, 4, 4, 3)
    ground = far + _soft(dice.uniform(field, -0.3, 0.3), px) * dice.chance(count, 0.5)
    # Another picture, faint, keeps a black background from giving the shape away.
    ghost = tf.roll(mask, 1, 0) * dice.uniform((count, 1, 1, 3), -0.25, 0.25)
    ground += ghost * dice.chance(count, 0.3)
    front = near + _soft(dice.uniform(field, -0.2, 0.2), px) * dice.chance(count, 0.5)
    colour = ground + mask * (front - ground)
    luma = tf.reduce_sum(colour * tf.constant(_LUMA), -1, keepdims=True)
    colour += dice.chance(count, _GREY_SHARE) * (luma - colour)
    colour = _coarse(colour, px)
    strength = dice.uniform((count, 1, 1, 1), 0.0, 0.08) * dice.chance(count, 0.7)
    colour += strength * dice.normal((count, px, px, 1))
    return 255 * tf.clip_by_value(colour, 0.0, 1.0)


def _moved(mask: Any, fills: Any, px: int, dice: _Dice) -> Any:
    """Turned, stretched, slanted and shifted, one affine map per picture."""
    count, old_px = mask.shape[0], mask.shape[1]
    fills = tf.cast(fills, tf.float32)
    zoom = tf.exp(dice.uniform((count,), -0.6, 0.35))
    zoom = fills * tf.exp(dice.uniform((count,), 0.1, 0.5)) + (1 - fills) * zoom
    narrow = tf.exp(dice.uniform((count,), -0.15, 0.15))
    angle = dice.uniform((count,), -0.26, 0.26)
    slant = dice.uniform((count,), -0.15, 0.15)
    # Whatever is smaller than the picture may stand anywhere in it.
    room = 0.5 * px * tf.maximum(tf.abs(1 - zoom), 0.1)
    dy, dx = room * dice.uniform((count,), -0.8, 0.8), room * dice.uniform((count,), -0.8, 0.8)
    cos, sin = tf.cos(angle), tf.sin(angle)
    # The maps lead from the new picture's pixels back to the old one's.
    step_x, step_y = old_px / px / (zoom * narrow), old_px / px / zoom * narrow
    xx, xy = cos * step_x, (sin + slant * cos) * step_x
    yx, yy = -sin * step_y, (cos - slant * sin) * step_y
    middle, old_middle = (px - 1) / 2, (old_px - 1) / 2
    x0 = old_middle - xx * (middle + dx) - xy * (middle + dy)
    y0 = old_middle - yx * (middle + dx) - yy * (middle + dy)
    nothing = tf.zeros((count, 2))
    maps = tf.concat([tf.stack([xx, xy, x0, yx, yy, y0], 1), nothing], 1)
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=mask,
        transforms=maps,
        output_shape=[px, px],
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
        fill_value=0.0,
    )


def _two_colours(dice: _Dice, count: int) -> tuple[Any, Any]:
    """Of the shape and of its background, light on dark or dark on light, apart in luma."""
    near, far = dice.uniform((count, 1, 1, 3)), dice.uniform((count, 1, 1, 3))
    apart = tf.reduce_sum((near - far) * tf.constant(_LUMA), -1, keepdims=True)
    missing = tf.maximum(_LEAST_CONTRAST - tf.abs(apart), 0.0)
    push = tf.where(apart >= 0, 1.0, -1.0) * missing / 2
    return tf.clip_by_value(near + push, 0, 1), tf.clip_by_value(far - push, 0, 1)


def _soft(field: Any, px: int) -> Any:
    return tf.image.resize(field, (px, px), "bilinear")


def _coarse(colour: Any, px: int) -> Any:
    """A quarter of the pictures as if taken by a camera of half or a quarter of the pixels."""
    eighth = colour.shape[0] // 8
    parts = [colour[: 6 * eighth]]
    for number, factor in ((6, 2), (7, 4)):
        part = tf.nn.avg_pool2d(
            colour[number * eighth : (number + 1) * eighth], factor, factor, "VALID"
        )
        parts.append(tf.image.resize(part, (px, px), "bilinear"))
    return tf.concat(parts, 0)

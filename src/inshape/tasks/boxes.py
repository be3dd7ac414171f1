"""Boxes in a map of places: what a detector learns at each, and how its answers are read.

One map answers for objects of all sizes, so that nothing depends on a shape. Every place says how
much it looks like the middle of an object of each class, and how far the object's edges are, in
places of the map: that is CenterNet (arXiv 1904.07850) as TTFNet (arXiv 1909.00700) trains it, all
places near a middle learning the box too.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..heads import EDGES

NO_BOX, UNKNOWN = -1, -2
"""Class numbers of a row that holds no box, and of the first row of a picture of which nobody has
said what is in it."""
SURE = 0.3
"""Probability from which on a box is drawn and counted, where no other is asked for."""
SAME_BOX = 0.5
"""Overlap from which on two boxes are of the same object."""
_SPREAD = 0.54
"""How much of a box its soft middle covers; TTFNet's alpha."""
_BOX_WEIGHT = 5.0
"""Of the boxes in the loss, beside the middles; TTFNet's."""
_TINY = 1e-7


def middles(targets: Any, rows: Any, columns: Any) -> tuple[Any, Any, Any]:
    """What each place of a map is to say, as tensors of Keras.

    ``targets`` are ``(pictures, boxes, 5)``: top, left, bottom and right as shares of the picture,
    and a class number, negative where a row holds no box. Each place belongs to the box whose soft
    middle, a Gaussian as large as a part of the box, is the highest there.

    Returns:
        How much of a middle each place is ``(pictures, rows, columns)``, 1 at the one that holds
        the centre; to which box it belongs, a share of 1 for one of them, ``(pictures, rows,
        columns, boxes)``; and that share times the height of the middle.
    """
    import keras

    ops: Any = keras.ops
    targets = ops.convert_to_tensor(targets)
    boxes, is_box = targets[..., :EDGES], ops.cast(targets[..., EDGES] > -0.5, "float32")
    heights: list[Any] = []
    for axis, count in enumerate((rows, columns)):
        length = ops.cast(count, "float32")
        start, end = boxes[..., axis] * length, boxes[..., axis + 2] * length
        middle = ops.clip(ops.floor((start + end) / 2), 0.0, length - 1)
        radius = ops.floor(_SPREAD * (end - start) / 2)
        places = ops.arange(count, dtype="float32")
        away = ops.abs(places[None, :, None] - middle[:, None, :])
        sigma = (2 * radius + 1) / 6
        soft = ops.exp(-((away / sigma[:, None, :]) ** 2) / 2)
        heights.append(soft * ops.cast(away <= radius[:, None, :], "float32"))
    height = heights[0][:, :, None, :] * heights[1][:, None, :, :] * is_box[:, None, None, :]
    # Where two are as high, such as at a place that both have their centre in, the smaller box.
    area = (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
    rank = height * (1 - 1e-3 * area[:, None, None, :])
    owner = ops.one_hot(ops.argmax(rank, axis=-1), targets.shape[1], dtype="float32")
    mine = owner * height
    return ops.sum(mine, axis=-1), owner, mine


def loss_of_maps(targets: Any, maps: Any) -> Any:
    """The loss of each picture, not yet divided by how many boxes a picture has.

    ``maps`` are ``(pictures, rows, columns, classes + 4)``. Middles are learned by CenterNet's
    focal loss, boxes by generalised IoU (arXiv 1902.09630), each box as much as any other.
    """
    import keras

    ops: Any = keras.ops
    targets, maps = map(ops.convert_to_tensor, (targets, maps))
    shape: Any = ops.shape(maps)
    rows, columns, classes = shape[1], shape[2], maps.shape[-1] - EDGES
    middle, owner, mine = middles(targets, rows, columns)
    number = ops.einsum("brcn,bn->brc", owner, targets[..., EDGES])
    of_class = ops.one_hot(ops.cast(number, "int32"), classes, dtype="float32")
    aim = of_class * middle[..., None]
    logits = maps[..., :classes]
    yes, no = ops.log_sigmoid(logits), ops.log_sigmoid(-logits)
    is_centre = ops.cast(aim > 1 - 1e-4, "float32")
    hit = -is_centre * ops.exp(no) ** 2 * yes
    miss = -(1 - is_centre) * (1 - aim) ** 4 * ops.exp(yes) ** 2 * no
    focal = ops.sum(hit + miss, axis=(1, 2, 3))

    edges = ops.softplus(maps[..., classes:])
    sizes = ops.stack([ops.cast(n, "float32") for n in (rows, columns, rows, columns)])
    box = ops.einsum("brcn,bnk->brck", owner, targets[..., :EDGES]) * sizes
    place_y = ops.arange(rows, dtype="float32")[None, :, None] + 0.5
    place_x = ops.arange(columns, dtype="float32")[None, None, :] + 0.5
    aims = (place_y - box[..., 0], place_x - box[..., 1], box[..., 2] - place_y,
            box[..., 3] - place_x)  # fmt: skip
    total = ops.sum(mine, axis=(1, 2), keepdims=True)
    weight = ops.sum(mine / ops.maximum(total, _TINY), axis=-1)
    apart = 1 - _generalised_iou(ops.stack(aims, axis=-1), edges)
    return focal + _BOX_WEIGHT * ops.sum(weight * apart, axis=(1, 2))


def _generalised_iou(aims: Any, edges: Any) -> Any:
    """Of two boxes around the same place, by the distances to their edges."""
    import keras

    ops: Any = keras.ops

    def area(up: Any, left: Any, down: Any, right: Any) -> Any:
        return ops.maximum(up + down, 0.0) * ops.maximum(left + right, 0.0)

    pairs = [(aims[..., i], edges[..., i]) for i in range(EDGES)]
    common = area(*[ops.minimum(*pair) for pair in pairs])
    hull = area(*[ops.maximum(*pair) for pair in pairs])
    union = area(*[a for a, _ in pairs]) + area(*[e for _, e in pairs]) - common
    return common / ops.maximum(union, _TINY) - (hull - union) / ops.maximum(hull, _TINY)


def read_boxes(
    maps: NDArray[Any], threshold: float = 0.01, most: int = 100, overlap: float = 0.6
) -> NDArray[np.float32]:
    """The boxes in one picture's map ``(rows, columns, classes + 4)``, the surest first.

    Of each: top, left, bottom and right as shares of the picture, class number and probability.
    """
    rows, columns = maps.shape[:2]
    chances = 1 / (1 + np.exp(-np.asarray(maps[..., :-4], np.float64)))
    around = np.pad(chances, ((1, 1), (1, 1), (0, 0)))
    highest = np.max(
        [around[y : y + rows, x : x + columns] for y in range(3) for x in range(3)], axis=0
    )
    y, x, number = np.nonzero((chances == highest) & (chances >= threshold))
    chance = chances[y, x, number]
    order = np.argsort(-chance, kind="stable")[: 4 * most]
    y, x, number, chance = y[order], x[order], number[order], chance[order]
    away = np.logaddexp(0, np.asarray(maps[y, x, -4:], np.float64))
    edges = [y + 0.5 - away[:, 0], x + 0.5 - away[:, 1], y + 0.5 + away[:, 2], x + 0.5 + away[:, 3]]
    sizes = [rows, columns, rows, columns]
    boxes = np.stack([np.clip(e / n, 0, 1) for e, n in zip(edges, sizes, strict=True)], axis=1)
    kept: list[int] = []
    for i in range(len(boxes)):
        rivals = [k for k in kept if number[k] == number[i]]
        if len(kept) < most and (share_of_overlap(boxes[i], boxes[rivals]) < overlap).all():
            kept.append(i)
    return np.column_stack([boxes[kept], number[kept], chance[kept]]).astype(np.float32)


def share_of_overlap(box: NDArray[Any], others: NDArray[Any]) -> NDArray[Any]:
    """What a box and each of others have in common, as a share of what they cover (IoU)."""
    first = np.maximum(box[:2], others[:, :2])
    last = np.minimum(box[2:4], others[:, 2:4])
    common = np.prod(np.clip(last - first, 0, None), axis=1)
    areas = np.prod(others[:, 2:4] - others[:, :2], axis=1)
    return common / np.maximum(np.prod(box[2:4] - box[:2]) + areas - common, 1e-12)


def matched(
    found: NDArray[Any], others: NDArray[Any], overlap: float = SAME_BOX
) -> NDArray[np.bool_]:
    """Of each box, the surest first, whether another of its class lies on it.

    Each of the others is taken once.

    Example:
        >>> one = np.array([[0.0, 0.0, 0.5, 0.5, 1.0]])
        >>> matched(np.concatenate([one, one]), one).tolist()
        [True, False]
    """
    is_free = np.ones(len(others), np.bool_)
    hits = np.zeros(len(found), np.bool_)
    for row, box in enumerate(found):
        shares = np.where(
            is_free & (others[:, EDGES] == box[EDGES]), share_of_overlap(box, others), 0
        )
        if len(others) and shares.max() >= overlap:
            hits[row] = True
            is_free[shares.argmax()] = False
    return hits

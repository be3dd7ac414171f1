"""The few layers that Keras does not have; everything else in an adapted model is Keras's own."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="inshape")
class AdaptivePooling2D(keras.layers.Layer):
    """Pools a map of any size to a fixed grid, also where the size is unknown until run time.

    Cell i of n covers rows floor(i*H/n) to ceil((i+1)*H/n), as in ``torch.nn.AdaptiveAvgPool2d``;
    columns likewise. Keras's own adaptive layers need a static size.

    Args:
        grid_hw: rows and columns of the grid, at least 1 each.
        mode: ``"avg"`` or ``"max"``.

    Example:
        >>> import numpy as np
        >>> row = np.arange(6, dtype="float32").reshape(1, 1, 6, 1)
        >>> np.asarray(AdaptivePooling2D((1, 2))(row)).ravel().tolist()
        [1.0, 4.0]
    """

    def __init__(self, grid_hw: tuple[int, int], mode: str = "avg", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.grid_hw = (int(grid_hw[0]), int(grid_hw[1]))
        if min(self.grid_hw) < 1:
            raise ValueError(f"grid {self.grid_hw}: expected at least 1 row and 1 column")
        if mode not in ("avg", "max"):
            raise ValueError(f"mode {mode!r}: expected 'avg' or 'max'")
        self.mode = mode

    def call(self, inputs: Any) -> Any:
        """Pool rows, then columns."""
        return self._pool(self._pool(inputs, axis=1), axis=2)

    def _pool(self, maps: Any, axis: int) -> Any:
        cells = self.grid_hw[axis - 1]
        shape: Any = ops.shape(maps)
        length = shape[axis]  # a number where it is known, else a tensor
        if isinstance(length, int) and length == cells:
            return maps
        reduce = ops.mean if self.mode == "avg" else ops.max
        strips = []
        for i in range(cells):
            start, stop = (i * length) // cells, ((i + 1) * length + cells - 1) // cells
            strip = maps[:, start:stop] if axis == 1 else maps[:, :, start:stop]
            strips.append(reduce(strip, axis=axis, keepdims=True))
        return strips[0] if cells == 1 else ops.concatenate(strips, axis=axis)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """The grid, whatever the size of the map."""
        return (input_shape[0], *self.grid_hw, input_shape[-1])

    def get_config(self) -> dict[str, Any]:
        """Arguments to build the layer again."""
        return {**super().get_config(), "grid_hw": self.grid_hw, "mode": self.mode}


@keras.saving.register_keras_serializable(package="inshape")
class GeneralizedMeanPooling2D(keras.layers.Layer):
    """Generalised-mean pooling: ``mean(max(x, eps) ** p) ** (1 / p)`` over height and width.

    p = 1 is average pooling of the positive part, p to infinity maximum pooling; p is learned.
    Radenović, Tolias, Chum: Fine-tuning CNN Image Retrieval with No Human Annotation, 2018
    (arXiv 1711.02512), equation 3.

    Args:
        p: the exponent to begin with, above 0; the paper's is 3.
        eps: the least value that a power is taken of, above 0.

    Example:
        >>> import numpy as np
        >>> np.asarray(GeneralizedMeanPooling2D()(np.ones((1, 3, 5, 2), "float32"))).tolist()
        [[1.0, 1.0]]
    """

    def __init__(self, p: float = 3.0, eps: float = 1e-6, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if p <= 0 or eps <= 0:
            raise ValueError(f"p={p}, eps={eps}: expected both above 0")
        self.p, self.eps = float(p), float(eps)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make the exponent, one for all channels."""
        self.exponent = self.add_weight(
            name="exponent", shape=(), initializer=keras.initializers.Constant(self.p)
        )
        super().build(input_shape)

    def call(self, inputs: Any) -> Any:
        """Pool over height and width."""
        powers = ops.power(ops.maximum(inputs, self.eps), self.exponent)
        return ops.power(ops.mean(powers, axis=(1, 2)), 1.0 / self.exponent)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """One value per channel."""
        return (input_shape[0], input_shape[-1])

    def get_config(self) -> dict[str, Any]:
        """Arguments to build the layer again."""
        return {**super().get_config(), "p": self.p, "eps": self.eps}


@keras.saving.register_keras_serializable(package="inshape")
class EnlargeLike(keras.layers.Layer):
    """Brings a map to the size of another, bilinear, also where that is unknown until run time.

    Keras's own resizing layer needs numbers.

    Example:
        >>> import numpy as np
        >>> row = np.arange(2, dtype="float32").reshape(1, 1, 2, 1)
        >>> np.asarray(EnlargeLike()([row, np.zeros((1, 1, 4, 3))])).ravel().tolist()
        [0.0, 0.25, 0.75, 1.0]
    """

    def call(self, inputs: Any) -> Any:
        """The first of two maps, as large as the second."""
        maps, like = inputs
        shape: Any = ops.shape(like)
        return ops.image.resize(maps, shape[1:3], interpolation="bilinear")

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        """Height and width of the second map, channels of the first."""
        maps, like = input_shape
        return (maps[0], *like[1:3], maps[-1])


@keras.saving.register_keras_serializable(package="inshape")
class CornerResizing2D(keras.layers.Layer):
    """Resizes a map bilinearly as TensorFlow 1 did, from its corner instead of its centres.

    Row i of n is computed from the place ``i * (H - 1) / (n - 1)`` of H rows where the corners are
    aligned, and from ``i * H / n`` where they are not; columns likewise. Keras's own layers count
    from the middle of pixels.

    Args:
        height: rows of the new map, at least 1.
        width: its columns.
        align_corners: whether the last pixels lie on each other too.

    Example:
        >>> import numpy as np
        >>> row = np.array([0.0, 1.0, 4.0], "float32").reshape(1, 1, 3, 1)
        >>> np.asarray(CornerResizing2D(1, 5)(row)).ravel().tolist()
        [0.0, 0.5, 1.0, 2.5, 4.0]
    """

    def __init__(self, height: int, width: int, align_corners: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.height, self.width, self.align_corners = int(height), int(width), align_corners
        if min(self.height, self.width) < 1:
            raise ValueError(f"size {height}x{width}: expected at least 1 row and 1 column")

    def call(self, inputs: Any) -> Any:
        """Resize rows, then columns."""
        return self._resized(self._resized(inputs, axis=1), axis=2)

    def _resized(self, maps: Any, axis: int) -> Any:
        new = (self.height, self.width)[axis - 1]
        shape: Any = ops.shape(maps)
        old: Any = ops.cast(shape[axis], "float32")
        step = (old - 1) / max(new - 1, 1) if self.align_corners else old / new
        rows: Any = ops.arange(new, dtype="float32")
        places: Any = ops.minimum(rows * step, old - 1)
        lower: Any = ops.floor(places)
        upper: Any = ops.minimum(lower + 1, old - 1)
        share: Any = ops.reshape(places - lower, (-1, 1, 1) if axis == 1 else (-1, 1))
        share = ops.cast(share, maps.dtype)
        ends: list[Any] = [ops.take(maps, ops.cast(x, "int32"), axis=axis) for x in (lower, upper)]
        return ends[0] + (ends[1] - ends[0]) * share

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """The new size, whatever the size of the map."""
        return (input_shape[0], self.height, self.width, input_shape[-1])

    def get_config(self) -> dict[str, Any]:
        """Arguments to build the layer again."""
        size = {"height": self.height, "width": self.width}
        return {**super().get_config(), **size, "align_corners": self.align_corners}


OWN = (AdaptivePooling2D, GeneralizedMeanPooling2D, EnlargeLike, CornerResizing2D)
"""All of them."""

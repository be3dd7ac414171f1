"""Composed kernels against TensorFlow's own resizing followed by its own convolution."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inshape.geometry.spec import Resampling
from inshape.weights.resample import compose, composed_geometry

UP_METHODS = ("nearest", "bilinear", "bicubic")

tf = pytest.importorskip("tensorflow")


def convolve(picture, kernel, stride_hw, pads):
    padded = tf.pad(picture, [(0, 0), *pads, (0, 0)])
    return tf.nn.conv2d(padded, kernel, strides=stride_hw, padding="VALID").numpy()


def enlarge(picture, factor, method):
    size_hw = (picture.shape[1] * factor, picture.shape[2] * factor)
    # TensorFlow's bicubic looks its weights up in a table of 1024 steps; the antialiased routine
    # computes them, and enlarging needs no antialiasing.
    exact = method == "bicubic"
    return tf.image.resize(picture, size_hw, method=method, antialias=exact)


def inner(outputs, pads, stride_hw):
    """The outputs none of whose taps reach over the border."""
    rows, columns = (
        slice(-(-before // step), size - -(-after // step))
        for (before, after), step, size in zip(pads, stride_hw, outputs.shape[1:3], strict=True)
    )
    return outputs[:, rows, columns]


def along_height(kernel_px, stride_px, pads_px, factor, method):
    direction = "down" if method == "area" else "up"
    how = Resampling(factor, direction, method, (stride_px, factor), (pads_px, (0, 0)))
    (kernel, _), (stride, _), (pads, _) = composed_geometry((kernel_px, 1), how)
    return kernel, stride, pads


def spec(kernel_hw, stride_hw, pads):
    return pytest.param(kernel_hw, stride_hw, pads, id=f"{kernel_hw}-{stride_hw}-{pads}")


UP_CASES = [
    (2, spec((3, 3), (2, 2), ((0, 1), (0, 1)))),
    (2, spec((3, 3), (2, 2), ((1, 1), (1, 1)))),
    (2, spec((3, 3), (2, 2), ((0, 0), (0, 0)))),
    (2, spec((7, 7), (2, 2), ((3, 3), (3, 3)))),
    (2, spec((7, 3), (2, 4), ((2, 3), (0, 1)))),
    (2, spec((2, 2), (2, 2), ((0, 0), (0, 0)))),
    (2, spec((4, 4), (4, 4), ((0, 0), (0, 0)))),
    (4, spec((4, 4), (4, 4), ((0, 0), (0, 0)))),
    (4, spec((5, 7), (4, 4), ((1, 2), (3, 0)))),
    (3, spec((3, 5), (3, 3), ((0, 1), (2, 2)))),
    (2, spec((1, 1), (2, 2), ((0, 0), (0, 0)))),
]
FLAT_UP = [
    pytest.param(factor, *case.values, id=f"x{factor}-{case.id}") for factor, case in UP_CASES
]


@pytest.mark.parametrize(("size_hw", "channels"), [((17, 12), 3), ((12, 21), 1)])
@pytest.mark.parametrize(("factor", "kernel_hw", "stride_hw", "pads"), FLAT_UP)
@pytest.mark.parametrize("method", UP_METHODS)
def test_up_equals_resizing_first(
    rng, method, factor, kernel_hw, stride_hw, pads, size_hw, channels
):
    picture = rng.normal(size=(2, *size_hw, channels)).astype("float32")
    kernel = rng.normal(size=(*kernel_hw, channels, 4)).astype("float32")
    expected = convolve(enlarge(picture, factor, method), kernel, stride_hw, pads)

    composed = compose(kernel, Resampling(factor, "up", method, stride_hw, pads))
    got = convolve(picture, composed.kernel, composed.stride_hw, composed.pads)

    assert got.shape == expected.shape
    if method != "nearest":
        got = inner(got, composed.pads, composed.stride_hw)
        expected = inner(expected, composed.pads, composed.stride_hw)
    assert got.size > 0
    np.testing.assert_allclose(got, expected, rtol=2e-5, atol=2e-5)


@settings(max_examples=200, deadline=None)
@given(
    size_px=st.integers(1, 40),
    kernel_px=st.integers(1, 9),
    factor=st.integers(1, 4),
    step=st.integers(1, 3),
    before=st.integers(0, 5),
    after=st.integers(0, 5),
    method=st.sampled_from(UP_METHODS),
)
def test_the_count_of_outputs_is_kept(size_px, kernel_px, factor, step, before, after, method):
    stride_px = factor * step
    new_kernel, new_stride, (new_before, new_after) = along_height(
        kernel_px, stride_px, (before, after), factor, method
    )
    expected = (factor * size_px + before + after - kernel_px) // stride_px
    assert (size_px + new_before + new_after - new_kernel) // new_stride == expected
    assert min(new_before, new_after) >= 0


@settings(max_examples=60, deadline=None)
@given(
    size_px=st.integers(4, 19),
    kernel_px=st.integers(1, 7),
    factor=st.integers(1, 4),
    step=st.integers(1, 2),
    before=st.integers(0, 3),
    after=st.integers(0, 3),
    seed=st.integers(0, 1000),
)
def test_nearest_is_exact_everywhere(size_px, kernel_px, factor, step, before, after, seed):
    values = np.random.default_rng(seed).normal(size=(size_px, kernel_px + size_px))
    row, taps = values[0, :size_px], values[1, size_px:]
    large = np.pad(np.repeat(row, factor), (before, after))
    stride_px = factor * step
    count = (large.size - kernel_px) // stride_px + 1
    expected = [large[o * stride_px : o * stride_px + kernel_px] @ taps for o in range(count)]

    kernel = taps.reshape(1, -1, 1, 1)
    pads = ((0, 0), (before, after))
    composed = compose(kernel, Resampling(factor, "up", "nearest", (factor, stride_px), pads))
    small = np.pad(row, composed.pads[1])
    new = composed.kernel[composed.kernel.shape[0] // 2].ravel()
    got = [small[o * step : o * step + new.size] @ new for o in range(max(0, count))]
    np.testing.assert_allclose(got, expected, atol=1e-12)


def test_the_known_kernels_of_three_taps():
    taps = np.array([8.0, 12.0, 20.0])

    def composed(method):
        kernel = taps.reshape(1, 3, 1, 1)
        result = compose(kernel, Resampling(2, "up", method, (2, 2), ((0, 0), (0, 1))))
        assert result.stride_hw == (1, 1)
        along_width = result.kernel.sum(axis=0).ravel()  # the weights of an interpolation add to 1
        assert result.pads[1] == (len(along_width) // 2,) * 2
        return along_width

    np.testing.assert_allclose(composed("nearest"), [0.0, 20.0, 20.0])
    np.testing.assert_allclose(composed("bilinear"), [2.0, 15.0 + 5.0, 3.0 + 15.0])
    assert composed("bicubic").shape == (5,)
    np.testing.assert_allclose(composed("bicubic").sum(), 40.0)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((3, 2, (0, 1), 2, "nearest"), (3, 1, (1, 1))),
        ((3, 2, (0, 1), 2, "bilinear"), (3, 1, (1, 1))),
        ((3, 2, (0, 0), 2, "nearest"), (3, 1, (1, 0))),
        ((7, 2, (3, 3), 2, "nearest"), (5, 1, (2, 2))),
        ((4, 4, (0, 0), 2, "nearest"), (2, 2, (0, 0))),
        ((4, 4, (0, 0), 4, "nearest"), (1, 1, (0, 0))),
        ((4, 4, (0, 0), 2, "bilinear"), (4, 2, (1, 1))),
        ((3, 2, (0, 1), 1, "bilinear"), (3, 2, (0, 1))),
    ],
)
def test_geometry_by_hand(arguments, expected):
    assert along_height(*arguments) == expected


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("factor", "kernel_hw", "stride_hw", "pads"),
    [
        (2, (3, 3), (2, 2), ((0, 1), (0, 1))),
        (2, (3, 2), (1, 2), ((1, 1), (0, 0))),
        (3, (7, 4), (2, 4), ((3, 3), (0, 0))),
        (4, (3, 3), (2, 2), ((1, 1), (1, 1))),
        (1, (3, 3), (2, 2), ((0, 1), (0, 1))),
    ],
)
def test_down_equals_averaging_first(rng, factor, kernel_hw, stride_hw, pads, channels):
    picture = rng.normal(size=(2, 15 * factor, 22 * factor, channels)).astype("float32")
    kernel = rng.normal(size=(*kernel_hw, channels, 4)).astype("float32")
    small = tf.nn.avg_pool2d(picture, factor, factor, "VALID")
    expected = convolve(small, kernel, stride_hw, pads)

    composed = compose(kernel, Resampling(factor, "down", "area", stride_hw, pads))
    assert composed.kernel.dtype == np.float32
    got = convolve(picture, composed.kernel, composed.stride_hw, composed.pads)
    np.testing.assert_allclose(got, expected, atol=2e-5)


@settings(max_examples=100, deadline=None)
@given(
    size_px=st.integers(1, 90),
    kernel_px=st.integers(1, 7),
    stride_px=st.integers(1, 4),
    factor=st.integers(1, 4),
    before=st.integers(0, 3),
    after=st.integers(0, 3),
)
def test_down_keeps_the_count_of_outputs(size_px, kernel_px, stride_px, factor, before, after):
    kernel, stride, (top, bottom) = along_height(
        kernel_px, stride_px, (before, after), factor, "area"
    )
    expected = (size_px // factor + before + after - kernel_px) // stride_px
    assert (size_px + top + bottom - kernel) // stride == expected

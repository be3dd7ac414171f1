"""Composed kernels against TensorFlow's own resizing followed by its own convolution."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inshape.errors import StrategyError, UnknownName, WeightsError
from inshape.graph.edits import ResampleKernel
from inshape.weights.resample import (
    UP_METHODS,
    compose_down,
    compose_up,
    composed_down_geometry,
    composed_up_geometry,
    resampled_geometry,
    resampled_kernel,
)

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

    composed = compose_up(kernel, stride_hw=stride_hw, pads=pads, factor=factor, method=method)
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
    new_kernel, new_stride, (new_before, new_after) = composed_up_geometry(
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
    composed = compose_up(
        kernel,
        stride_hw=(factor, stride_px),
        pads=((0, 0), (before, after)),
        factor=factor,
        method="nearest",
    )
    small = np.pad(row, composed.pads[1])
    new = composed.kernel[composed.kernel.shape[0] // 2].ravel()
    got = [small[o * step : o * step + new.size] @ new for o in range(max(0, count))]
    np.testing.assert_allclose(got, expected, atol=1e-12)


def test_the_known_kernels_of_three_taps():
    taps = np.array([8.0, 12.0, 20.0])

    def composed(method):
        kernel = taps.reshape(1, 3, 1, 1)
        result = compose_up(
            kernel, stride_hw=(2, 2), pads=((0, 0), (0, 1)), factor=2, method=method
        )
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
    assert composed_up_geometry(*arguments) == expected


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

    composed = compose_down(kernel, stride_hw=stride_hw, pads=pads, factor=factor)
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
    kernel, stride, (top, bottom) = composed_down_geometry(
        kernel_px, stride_px, (before, after), factor
    )
    expected = (size_px // factor + before + after - kernel_px) // stride_px
    assert (size_px + top + bottom - kernel) // stride == expected


def edit_for(kernel_hw, stride_hw, pads, factor, direction, method):
    new_hw, new_stride, new_pads = resampled_geometry(
        kernel_hw, stride_hw, pads, factor=factor, direction=direction, method=method
    )
    return ResampleKernel(1, factor, direction, method, new_stride, new_hw, new_pads)


@pytest.mark.parametrize("method", UP_METHODS)
def test_an_edit_gives_the_composed_kernel(rng, method):
    kernel = rng.normal(size=(3, 7, 1, 2)).astype("float32")
    old = {"stride_hw": (2, 4), "pads": ((0, 1), (3, 2))}
    edit = edit_for((3, 7), *old.values(), 2, "up", method)
    expected = compose_up(kernel, **old, factor=2, method=method)
    got = resampled_kernel(kernel, edit, **old)
    np.testing.assert_array_equal(got, expected.kernel)
    assert got.dtype == np.float32


def test_an_edit_downwards(rng):
    kernel = rng.normal(size=(3, 5, 3, 2))
    old = {"stride_hw": (2, 1), "pads": ((0, 1), (2, 2))}
    edit = edit_for((3, 5), *old.values(), 3, "down", "area")
    expected = compose_down(kernel, **old, factor=3).kernel
    np.testing.assert_array_equal(resampled_kernel(kernel, edit, **old), expected)


def test_an_edit_of_another_convolution(rng):
    pads = ((0, 1), (0, 1))
    edit = edit_for((3, 3), (2, 2), pads, 2, "up", "nearest")
    kernel = rng.normal(size=(7, 7, 3, 2))
    message = (
        "kernel (7, 7) resampled up by 2 gives (kernel, stride, zeros) "
        "((7, 7), (1, 1), ((3, 1), (3, 1))), the plan expects ((3, 3), (1, 1), ((1, 1), (1, 1))); "
        "make the plan again for this model"
    )
    with pytest.raises(WeightsError, match=re.escape(message)):
        resampled_kernel(kernel, edit, stride_hw=(2, 2), pads=pads)


def test_a_factor_that_does_not_divide_the_stride():
    message = (
        "enlarging 3 times does not divide a stride of 2; expected a divisor of the stem's stride; "
        "use strategy='resize'"
    )
    with pytest.raises(StrategyError, match=re.escape(message)):
        composed_up_geometry(3, 2, (0, 1), 3, "nearest")


@pytest.mark.parametrize("factor", [0, -2, 1.5])
def test_a_factor_that_is_no_factor(factor):
    message = (
        f"resampling factor {factor}; expected an integer of at least 1; use strategy='resize' "
        "for other factors"
    )
    with pytest.raises(StrategyError, match=re.escape(message)):
        composed_up_geometry(3, 2, (0, 1), factor, "nearest")
    with pytest.raises(StrategyError, match=re.escape(message)):
        composed_down_geometry(3, 2, (0, 1), factor)


@pytest.mark.parametrize(
    ("direction", "method", "message"),
    [
        (
            "up",
            "bilnear",
            "unknown interpolation 'bilnear'; did you mean bilinear? choose from: nearest, "
            "bilinear, bicubic",
        ),
        ("down", "nearest", "unknown way to reduce 'nearest'; choose from: area"),
        (
            "sideways",
            "nearest",
            "unknown resampling direction 'sideways'; choose from: up, down",
        ),
    ],
)
def test_unknown_names(direction, method, message):
    with pytest.raises(UnknownName, match=re.escape(message)):
        resampled_geometry(
            (3, 3), (2, 2), ((0, 1), (0, 1)), factor=2, direction=direction, method=method
        )

"""Channel rules: against hand arithmetic and against pictures whose channels are known."""

from __future__ import annotations

import re

import numpy as np
import pytest

from inshape.errors import RequestError, StrategyError, UnknownName, WeightsError
from inshape.weights.channels import (
    CHANNEL_RULES,
    channel_matrix,
    convert_constants,
    convert_kernel,
    projection_kernel,
    read_rule,
    resolve_rule,
)


def respond(picture: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """One output position: the kernel's window times the picture's."""
    return np.tensordot(picture, kernel, axes=3)


@pytest.fixture
def kernel(rng: np.random.Generator) -> np.ndarray:
    return rng.normal(size=(3, 5, 3, 4)).astype("float32")


@pytest.mark.parametrize(
    ("rule", "new", "old", "expected"),
    [
        ("keep", 3, 3, [[1, 0, 0], [0, 1, 0], [0, 0, 1]]),
        ("sum", 1, 3, [[1, 1, 1]]),
        ("sum", 1, 2, [[1, 1]]),
        ("mean", 1, 4, [[0.25, 0.25, 0.25, 0.25]]),
        ("mean", 2, 2, [[0.5, 0.5], [0.5, 0.5]]),
        ("luma", 1, 3, [[0.299, 0.587, 0.114]]),
        ("tile", 3, 3, [[1, 0, 0], [0, 1, 0], [0, 0, 1]]),
        ("tile", 2, 3, [[1.5, 0, 0], [0, 1.5, 0]]),
        ("tile", 3, 1, [[1 / 3], [1 / 3], [1 / 3]]),
        ("zero", 4, 3, [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]]),
        ("first", 2, 3, [[1, 0, 0], [0, 1, 0]]),
        ([2, None, 0], 3, 3, [[0, 0, 1], [0, 0, 0], [1, 0, 0]]),
        ((0, 0), 2, 1, [[1], [1]]),
    ],
)
def test_the_matrix_is_what_the_rule_says(rule, new, old, expected):
    matrix = channel_matrix(rule, new, old)
    assert matrix.shape == (new, old)
    np.testing.assert_allclose(matrix, expected, rtol=1e-15)


def test_tile_is_repeat_and_rescale_at_five_channels():
    expected = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0], [0, 1, 0]]) * 3 / 5
    np.testing.assert_allclose(channel_matrix("tile", 5), expected)


def test_sum_equals_a_grey_picture_repeated(rng, kernel):
    grey = rng.normal(size=(3, 5, 1))
    single = convert_kernel(kernel, channel_matrix("sum", 1))
    assert single.shape == (3, 5, 1, 4)
    expected = respond(np.repeat(grey, 3, axis=2), kernel)
    np.testing.assert_allclose(respond(grey, single), expected, rtol=1e-5)


def test_luma_equals_a_third_of_nothing_but_its_weights(kernel):
    single = convert_kernel(kernel, channel_matrix("luma", 1))
    expected = 0.299 * kernel[:, :, 0] + 0.587 * kernel[:, :, 1] + 0.114 * kernel[:, :, 2]
    np.testing.assert_allclose(single[:, :, 0], expected, rtol=1e-6)


def test_zero_ignores_the_extra_band(rng, kernel):
    picture = rng.normal(size=(3, 5, 4))
    four = convert_kernel(kernel, channel_matrix("zero", 4))
    np.testing.assert_allclose(
        respond(picture, four), respond(picture[..., :3], kernel), rtol=1e-12
    )


def test_tile_keeps_the_response_to_equal_channels_where_the_count_is_a_multiple(rng, kernel):
    grey = rng.normal(size=(3, 5, 1))
    six = convert_kernel(kernel, channel_matrix("tile", 6))
    expected = respond(np.repeat(grey, 3, axis=2), kernel)
    np.testing.assert_allclose(respond(np.repeat(grey, 6, axis=2), six), expected, rtol=1e-5)


def test_an_explicit_list_permutes(kernel):
    bgr = convert_kernel(kernel, channel_matrix([2, 1, 0], 3))
    np.testing.assert_array_equal(bgr, kernel[:, :, ::-1])


def test_the_kernel_keeps_its_dtype_and_the_source_is_untouched(kernel):
    before = kernel.copy()
    assert convert_kernel(kernel, channel_matrix("mean", 1)).dtype == np.float32
    np.testing.assert_array_equal(kernel, before)


@pytest.mark.parametrize(
    ("new", "old", "expected"),
    [(3, 3, "keep"), (1, 3, "sum"), (2, 3, "tile"), (4, 3, "zero"), (1, 1, "keep"), (3, 1, "tile")],
)
def test_auto(new, old, expected):
    assert resolve_rule("auto", new, old) == expected
    assert channel_matrix("auto", new, old).shape == (new, old)


def test_a_list_is_resolved_to_a_tuple():
    assert resolve_rule([0, None], 2) == (0, None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0,1,2,-", (0, 1, 2, None)),
        (" 2, 1 ,0", (2, 1, 0)),
        ("1", (1,)),
        *[(rule, rule) for rule in CHANNEL_RULES],
    ],
)
def test_parsing(text, expected):
    assert read_rule(text) == expected


@pytest.mark.parametrize("text", ["summ", "0,,1", "", "-1", "0;1"])
def test_parsing_refuses(text):
    message = f"unknown channel rule {text!r}; "
    with pytest.raises(UnknownName, match=re.escape(message)):
        read_rule(text)


def test_an_unknown_rule_lists_the_choices():
    message = (
        "unknown channel rule 'summ'; did you mean sum? choose from: auto, keep, sum, mean, luma, "
        'tile, zero, first, project, write one pretrained channel per band and "-" for none, such '
        "as 0,1,2,-"
    )
    with pytest.raises(UnknownName, match=re.escape(message)):
        channel_matrix("summ", 1)


@pytest.mark.parametrize(
    ("rule", "new", "old", "message"),
    [
        (
            "sum",
            3,
            3,
            "channels='sum' with 3 -> 3 channels; expected 1 new channel; use channels='keep'",
        ),
        (
            "luma",
            1,
            4,
            "channels='luma' with 4 -> 1 channels; expected 1 new channel from 3; "
            "use channels='sum'",
        ),
        (
            "zero",
            2,
            3,
            "channels='zero' with 3 -> 2 channels; expected at least 3 channels; "
            "use channels='tile'",
        ),
        (
            "first",
            4,
            3,
            "channels='first' with 3 -> 4 channels; expected at most 3 channels; "
            "use channels='zero'",
        ),
        (
            "keep",
            1,
            3,
            "channels='keep' with 3 -> 1 channels; expected as many channels as before; "
            "use channels='sum'",
        ),
        (
            [0, 1],
            3,
            3,
            "channels=[0, 1] names 2 bands, expected 3; give one pretrained channel, or None, "
            "per band",
        ),
        (
            [0, 3],
            2,
            3,
            "channels=[0, 3]: there is no pretrained channel 3, expected 0 to 2; use None for a "
            "band that starts at zero",
        ),
        (
            [None],
            1,
            3,
            "channels=[None] takes nothing from the pretrained stem; expected at least one "
            "pretrained channel; use channels='project'",
        ),
        (
            "project",
            2,
            3,
            "channels='project' is a convolution in front of the network, not a change of its "
            "stem; expected one of keep, sum, mean, luma, tile, zero, first; use "
            "projection_kernel() for its first weights",
        ),
    ],
)
def test_a_rule_that_does_not_fit(rule, new, old, message):
    with pytest.raises(StrategyError, match=re.escape(message)):
        channel_matrix(rule, new, old)


def test_no_channels():
    message = "3 -> 0 channels; expected at least 1 on each side"
    with pytest.raises(RequestError, match=re.escape(message)):
        channel_matrix("mean", 0)
    with pytest.raises(RequestError, match=re.escape(message)):
        projection_kernel(0)


def test_a_depthwise_stem_is_refused(kernel):
    message = (
        "the first layer is 'depthwise', which keeps its channels apart: 3 channels cannot become "
        "1; expected a convolution; use channels='project'"
    )
    with pytest.raises(StrategyError, match=re.escape(message)):
        convert_kernel(kernel, channel_matrix("sum", 1), op="depthwise")


def test_a_grouped_stem_is_refused(kernel):
    message = (
        "stem kernel (3, 5, 1, 4) does not read 3 channels in one group; expected (height, width, "
        "3, filters); use channels='project'"
    )
    with pytest.raises(WeightsError, match=re.escape(message)):
        convert_kernel(kernel[:, :, :1], channel_matrix("sum", 1))


@pytest.mark.parametrize(
    ("rule", "new", "values", "expected"),
    [
        ("sum", 1, [0.1, 0.2, 0.6], [0.3]),
        ("mean", 1, [0.1, 0.2, 0.6], [0.3]),
        ("luma", 1, [10.0, 20.0, 30.0], [2.99 + 11.74 + 3.42]),
        ("zero", 4, [0.1, 0.2, 0.6], [0.1, 0.2, 0.6, 0.3]),
        ("tile", 2, [0.1, 0.2, 0.6], [0.1, 0.2]),
        ([2, None], 2, [0.1, 0.2, 0.6], [0.6, 0.3]),
        ("sum", 1, [0.5], [0.5]),
    ],
)
def test_constants_follow_the_channels(rule, new, values, expected):
    converted = convert_constants(values, channel_matrix(rule, new), "mean")
    np.testing.assert_allclose(converted, expected, rtol=1e-12)


def test_constants_weigh_by_absolute_share():
    converted = convert_constants([1.0, 4.0], np.array([[-1.0, 0.5]]), "scale")
    np.testing.assert_allclose(converted, [(1.0 * 1.0 + 0.5 * 4.0) / 1.5])


def test_constants_of_another_count():
    message = "variance holds 2 values, expected 3 (one per channel) or 1; use channels='project'"
    with pytest.raises(WeightsError, match=re.escape(message)):
        convert_constants([1.0, 2.0], channel_matrix("sum", 1), "variance")


def test_a_negative_variance():
    message = "variance -2 of the input channels is negative; expected 0 or more"
    with pytest.raises(WeightsError, match=re.escape(message)):
        convert_constants([1.0, -2.0, 1.0], channel_matrix("sum", 1), "variance")


@pytest.mark.parametrize(
    ("new", "old", "expected"),
    [
        (1, 3, [[1, 1, 1]]),
        (2, 3, [[1, 0.5, 0], [0, 0.5, 1]]),
        (3, 3, [[1, 0, 0], [0, 1, 0], [0, 0, 1]]),
        (4, 3, [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]]),
        (3, 1, [[1], [0], [0]]),
    ],
)
def test_projection(new, old, expected):
    kernel = projection_kernel(new, old)
    assert kernel.shape == (1, 1, new, old)
    np.testing.assert_allclose(kernel[0, 0], expected)

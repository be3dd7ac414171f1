"""Where a network can be cut into pieces, and what each piece takes, by hand."""

from __future__ import annotations

import re

import pytest

from inshape.errors import GraphError
from inshape.geometry.cost import costs
from inshape.geometry.patches import Patches, find_spans, first_whole, patched, pieces_of, steps_of
from inshape.geometry.sizes import map_shapes
from inshape.shapes import InputShape

from .nets import Net, mobilenet_v1, resnet50, with_squeeze_and_excite


def spans_of(spec, size):
    return find_spans(spec, map_shapes(spec, InputShape.of(size)))


def test_a_piece_reads_what_its_kernels_reach():
    """By hand: rows 0 to 5 of 10 need rows 0 to 12 of 20, the strided one's pads lie at the end."""
    net = Net()
    net.conv(4, 3, 2)  # of 20 rows "same" pads one below, of 33 columns one at both sides
    net.depthwise((5, 3), 1)
    spec, shape = net.spec(), InputShape.of("20x33x1")
    ((top_left, _), (bottom_left, _)) = steps_of(
        spec, map_shapes(spec, shape), Patches((2, 2), 0, 2)
    )
    stem, depthwise = top_left
    assert depthwise.region == ((0, 5), (0, 8))
    assert depthwise.read == stem.region == ((0, 7), (0, 9))
    assert depthwise.pads == ((2, 0), (1, 0))
    assert (stem.read, stem.pads) == (((0, 15), (0, 18)), ((0, 0), (1, 0)))
    stem, depthwise = bottom_left
    assert depthwise.read == stem.region == ((3, 10), (0, 9))
    assert (stem.read, stem.pads) == (((6, 20), (0, 18)), ((0, 1), (1, 0)))


def test_what_two_layers_read_is_computed_once_for_both():
    """The sum reads the piece itself, the kernel beside it one row more on the inner side."""
    net = Net()
    stem = net.conv(4, 1)
    net.depthwise(3)
    net.add("elementwise", stem, 2)
    spec, shape = net.spec(), InputShape.of("9x5x1")
    halves = patched(spec, shape, [Patches((2, 1), 0, 3)])
    rows = [x.slices[0][:2] for x in halves if x.op == "slice"]
    # of the picture, then of the stem's map in the first piece's own rows; likewise the second
    assert rows == [(0, 5), (0, 4), (3, 9), (1, 6)]
    assert map_shapes(halves, shape)[halves.outputs[0]] == (9, 5, 4)


def test_pieces_cover_a_length_without_overlap():
    assert [pieces_of(10, n) for n in (1, 4)] == [[(0, 10)], [(0, 2), (2, 5), (5, 7), (7, 10)]]


@pytest.mark.parametrize("size", ["97x64x1", "96x131x3"])
@pytest.mark.parametrize("grid_hw", [(2, 1), (3, 2), (4, 4)])
def test_the_graph_is_the_same_network(size, grid_hw):
    """Every end: maps behind it as before, weights counted once, operations of the overlap only."""
    shape = InputShape.of(size)
    for spec in (mobilenet_v1(0.25), resnet50()):
        shapes = map_shapes(spec, shape)
        span = find_spans(spec, shapes)[0]
        for end in span.ends[:5]:
            cut = patched(spec, shape, [Patches(grid_hw, span.start, end)])
            assert map_shapes(cut, shape)[cut.outputs[0]] == shapes[-1]
            new, old = costs(cut, shape), costs(spec, shape)
            assert sum(c.params for c in new) == sum(c.params for c in old)
            assert sum(c.macs for c in old) <= sum(c.macs for c in new)


def test_operations_besides_are_those_of_the_overlap():
    """By hand: the stem's map has 10 rows, of which the halves compute 6 and 6."""
    net = Net()
    net.conv(4, 3, 1)
    net.conv(2, 3, 1)
    spec, shape = net.spec(), InputShape.of("10x7x1")
    halves = patched(spec, shape, [Patches((2, 1), 0, 2)])
    assert sum(c.macs for c in costs(halves, shape)) == 12 * 7 * 9 * 4 + 10 * 7 * 9 * 4 * 2


def test_patches_end_before_what_needs_the_whole_map():
    spec = with_squeeze_and_excite()
    first, second = spans_of(spec, "97x64x1")
    # What is added to later goes round "dw", and "add" is the first that all passes through again.
    assert [spec[i].name for i in first.ends] == ["stem"]
    assert [spec[i].name for i in (second.start, *second.ends)] == ["add", "down"]
    shapes = map_shapes(spec, InputShape.of("97x64x1"))
    assert spec[first_whole(spec, shapes)].name == "squeeze"


def test_regions_follow_each_other():
    """By hand: of the stem's 49 rows 24 and 25 are computed; of them, "down" reads 25 and 25."""
    spec, shape = with_squeeze_and_excite(), InputShape.of("97x64x1")
    (first, second), old = spans_of(spec, "97x64x1"), map_shapes(spec, shape)
    regions = [Patches((2, 1), s.start, s.ends[-1]) for s in (first, second)]
    cut = patched(spec, shape, regions)
    new = map_shapes(cut, shape)
    assert new[cut.outputs[0]] == old[spec.outputs[0]]
    rows = [(x.name, new[x.index][0]) for x in cut if x.name in ("stem", "down", "patch_slice")]
    assert rows == [
        ("patch_slice", 48), ("stem", 24), ("patch_slice", 50), ("stem", 25),
        ("patch_slice", 24), ("down", 12), ("patch_slice", 26), ("down", 13),
    ]  # fmt: skip


def test_activations_belong_to_the_pieces_and_pads_are_no_end():
    net = Net()
    net.add("rescale")
    net.conv(4, 3, 2)
    net.add("norm")
    relu = net.add("activation")
    net.add("pad", pads=((0, 1), (0, 1)))
    down = net.conv(4, 3, 2, padding="valid")
    net.add("global_pool")
    (span,) = spans_of(net.spec(), "33x48x1")
    assert (span.start, span.ends) == (1, (relu, down))


@pytest.mark.parametrize(
    ("op", "facts"),
    [
        ("max_pool", {"kernel_hw": (3, 3), "stride_hw": (2, 2), "padding": "same"}),
        ("avg_pool", {"kernel_hw": (3, 3), "stride_hw": (1, 1), "padding": "same"}),
        ("norm", {"is_local": False}),
        ("conv", {"kernel_hw": (3, 3), "out_channels": 4, "is_plain": False}),
        ("elementwise", {"constants": (("operand", (0.0,) * 16 * 16 * 4),)}),
        ("resize", {"target_hw": (32, 32)}),
        ("opaque", {"native_shape": (16, 16, 4)}),
    ],
)
def test_layers_that_may_look_at_the_whole_map_are_not_cut(op, facts):
    net = Net()
    stem = net.conv(4, 3, 2)
    odd = net.add(op, **facts)
    net.add("global_pool")
    spec = net.spec()
    (span,) = spans_of(spec, "32x32x1")
    assert span.ends == (stem,)
    assert first_whole(spec, map_shapes(spec, InputShape.of("32x32x1"))) == odd


def test_a_layer_that_is_called_again_elsewhere_is_not_cut():
    net = Net()
    net.conv(1, 3, 1)
    net.conv(1, 3, 1, layer=1)
    assert spans_of(net.spec(), "9x9x1") == []


def test_more_pieces_than_places_are_refused():
    net = Net()
    net.conv(4, 3, 8)
    spec = net.spec()
    shapes = map_shapes(spec, InputShape.of("32x24x1"))
    message = (
        'patches 2x4 of "conv_1", which is 4x3; expected pieces with a part of every map before; '
        "use fewer"
    )
    with pytest.raises(GraphError, match=re.escape(message)):
        steps_of(spec, shapes, Patches((2, 4), 0, 1))

"""Colorings: no edge within a group, two groups for bipartite graphs, independent of the order of edges."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eqprop.solvers.coloring import color_groups

RESNET13 = [(n, n + 1) for n in range(9)] + [(0, 2), (2, 4), (4, 6), (6, 8)]  # skips join populations of equal parity
PAIRS = st.lists(st.tuples(st.integers(0, 9), st.integers(1, 9)).filter(lambda ends: ends[0] != ends[1]), max_size=25)


@given(PAIRS)
def test_no_edge_lies_within_a_group_and_every_population_is_in_one(ends):
    groups = color_groups(ends)
    place = {n: k for k, group in enumerate(groups) for n in group}
    assert sorted(n for group in groups for n in group) == sorted({n for pair in ends for n in pair} - {0})
    assert all(place[i] != place[j] for i, j in ends if i)


@given(PAIRS)
def test_groups_are_ordered_by_their_lowest_population(ends):
    groups = color_groups(ends)
    assert [group[0] for group in groups] == sorted(min(group) for group in groups)
    assert all(list(group) == sorted(group) for group in groups)


@given(PAIRS, st.randoms(use_true_random=False))
def test_neither_order_nor_direction_of_edges_matters(ends, random):
    other = [pair if pair[0] == 0 or random.random() < 0.5 else pair[::-1] for pair in ends]
    random.shuffle(other)
    assert color_groups(other) == color_groups(ends)


@given(st.lists(st.booleans(), min_size=10, max_size=10), PAIRS)
def test_a_bipartite_graph_has_two_groups(side, ends):
    across = [(i, j) for i, j in ends if i == 0 or side[i] != side[j]]
    relaxing = [pair for pair in across if pair[0]]
    assert len(color_groups(across)) == (2 if relaxing else bool(across))


def test_a_ring_of_six_has_two_groups_for_any_numbering():
    """A greedy coloring in ascending order would put the opposite populations 1 and 2 in one group, and need a third."""
    assert color_groups([(0, 1), (1, 3), (3, 4), (4, 2), (2, 5), (5, 6), (6, 1)]) == ((1, 4, 5), (2, 3, 6))


@pytest.mark.parametrize("length", range(2, 9))
def test_a_chain_has_odd_and_even_groups(length):
    chain = [(n, n + 1) for n in range(length)]
    assert color_groups(chain) == (tuple(range(1, length + 1, 2)), tuple(range(2, length + 1, 2)))


@pytest.mark.parametrize("length", [3, 5, 7])
def test_odd_cycles_have_three_groups(length):
    assert len(color_groups([(0, 1), (1, length), *((n, n + 1) for n in range(1, length))])) == 3


def test_the_residual_network_of_thirteen_layers_has_three_groups():
    assert len(color_groups(RESNET13)) == 3


def test_edges_from_the_input_do_not_count():
    assert color_groups([(0, 1), (0, 2), (0, 3)]) == ((1, 2, 3),)


def test_self_connections_are_refused():
    with pytest.raises(
        ValueError, match=r"population 2 is connected to itself.*remove the edge, or settle synchronously"
    ):
        color_groups([(0, 1), (1, 2), (2, 2)])

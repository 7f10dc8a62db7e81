r"""Groups of populations that no edge joins: a proper coloring of the graph of the relaxing populations.

While one group moves, everything that it is driven by stands still. Edges from the input do not count, for the input never moves.

DSATUR (Brelaz 1979): the next population to be colored is the one that sees the most colors among its neighbors, of several the
one with most neighbors, then the lowest; it takes the first color that none of them has. This needs two colors on every
bipartite graph, such as a chain, and on other graphs seldom more than the fewest possible.
"""

from collections.abc import Iterable

__all__ = ["color_groups"]

Group = tuple[int, ...]
"""Populations by number, in ascending order."""


def color_groups(ends: Iterable[tuple[int, int]]) -> tuple[Group, ...]:
    """The relaxing populations in groups, each without an edge within; ordered by their lowest populations.

    Args:
        ends: ``(pre, post)`` of each edge, by population number; 0 is the input.

    Raises:
        ValueError: if a population is joined to itself.

    >>> coloring([(0, 1), (1, 2), (2, 3), (3, 4)])
    ((1, 3), (2, 4))
    >>> coloring([(0, 1), (1, 2), (2, 3), (1, 3)])
    ((1,), (2,), (3,))
    """
    near = neighbors(ends)
    color: dict[int, int] = {}
    while len(color) < len(near):
        seen = {n: {color[m] for m in near[n] if m in color} for n in near if n not in color}
        n = max(seen, key=lambda n: (len(seen[n]), len(near[n]), -n))
        color[n] = next(c for c in range(len(near)) if c not in seen[n])
    groups = [tuple(n for n in sorted(near) if color[n] == c) for c in set(color.values())]
    return tuple(sorted(groups))


def neighbors(ends: Iterable[tuple[int, int]]) -> dict[int, set[int]]:
    """Of each relaxing population the relaxing ones that an edge joins it to."""
    near: dict[int, set[int]] = {}
    for pre, post in ends:
        if pre == post:
            raise ValueError(
                f"population {pre} is joined to itself and stands in no group that could move at once: "
                "leave the edge out, or settle synchronously"
            )
        for n, m in ((pre, post), (post, pre)):
            if n:
                near.setdefault(n, set()).update({m} - {0})
    return near

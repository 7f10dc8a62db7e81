r"""Graph coloring: groups of relaxing populations without an edge inside a group.

While one group is updated, everything that drives it is constant. Edges from the input do not count, since the input is static.

DSATUR (Brelaz 1979): the next population to be colored is the one with the most colors among its neighbors; ties are broken by the
larger number of neighbors, then by the lower number. It takes the first color that no neighbor has. This needs two colors on every
bipartite graph, such as a layered network, and on other graphs rarely more than the minimum.
"""

from collections.abc import Iterable

__all__ = ["color_groups"]


def color_groups(ends: Iterable[tuple[int, int]]) -> tuple[tuple[int, ...], ...]:
    """Return the relaxing populations in groups without an inner edge, sorted by the lowest number in each.

    Args:
        ends: ``(pre, post)`` of each edge, by population number; 0 is the input.

    Raises:
        ValueError: if a population is connected to itself.

    >>> color_groups([(0, 1), (1, 2), (2, 3), (3, 4)])
    ((1, 3), (2, 4))
    >>> color_groups([(0, 1), (1, 2), (2, 3), (1, 3)])
    ((1,), (2,), (3,))
    """
    neighbors = _neighbors(ends)
    color: dict[int, int] = {}
    while len(color) < len(neighbors):
        used = {n: {color[m] for m in neighbors[n] if m in color} for n in neighbors if n not in color}
        n = max(used, key=lambda n: (len(used[n]), len(neighbors[n]), -n))
        color[n] = next(c for c in range(len(neighbors)) if c not in used[n])
    groups = [tuple(n for n in sorted(neighbors) if color[n] == c) for c in set(color.values())]
    return tuple(sorted(groups))


def _neighbors(ends: Iterable[tuple[int, int]]) -> dict[int, set[int]]:
    neighbors: dict[int, set[int]] = {}
    for pre, post in ends:
        if pre == post:
            raise ValueError(
                f"population {pre} is connected to itself, so it cannot be updated as part of a group: "
                "remove the edge, or settle synchronously"
            )
        for n, m in ((pre, post), (post, pre)):
            if n:
                neighbors.setdefault(n, set()).update({m} - {0})
    return neighbors

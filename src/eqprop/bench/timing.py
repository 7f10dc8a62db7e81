"""Contenders timed side by side in one run, in turn, so that a drifting machine favours no one."""

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence

__all__ = ["Clock", "Step", "Times", "blocks", "in_turn", "medians", "ratios", "rounded"]

Step = Callable[[], object]
"""What is timed."""

Times = Mapping[str, Sequence[float]]
"""By contender, milliseconds a step, round after round."""

Clock = Callable[[], float]
"""Seconds."""

LASTING = 0.02
"""Seconds that a block of steps is to last at least."""

MOST = 64
"""Steps in a block at most."""


def in_turn(
    steps: Mapping[str, Step],
    rounds: int,
    block: int | Mapping[str, int] = 4,
    *,
    clock: Clock = time.perf_counter,
    tell: Callable[[], object] = lambda: None,
) -> dict[str, list[float]]:
    """Milliseconds a step, round after round; one round more is done first, and not counted.

    In each round every contender does a block of steps, as training does; one step goes before and is not counted, for its weights
    are to be in the caches. Of a block of a single step, a long one, none goes before.

    Args:
        steps: by contender, what is timed.
        rounds: that are counted.
        block: steps in a block: one number for all, or one a contender.
        clock: tells the seconds.
        tell: is called after each round.

    >>> sorted(in_turn({"a": lambda: 1, "b": lambda: 2}, rounds=3))
    ['a', 'b']
    """
    sizes = {name: block if isinstance(block, int) else block[name] for name in steps}
    times: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(rounds + 1):
        for name, step in steps.items():
            if sizes[name] > 1:
                step()
            begin = clock()
            for _ in range(sizes[name]):
                step()
            if turn:
                times[name].append(1e3 * (clock() - begin) / sizes[name])
        tell()
    return times


def blocks(steps: Mapping[str, Step], clock: Clock = time.perf_counter) -> dict[str, int]:
    """For every contender, how many of its steps last long enough to be timed."""
    sizes = {}
    for name, step in steps.items():
        seconds = once(step, clock)
        seconds = seconds if seconds > 10 * LASTING else once(step, clock)  # a first step is slower
        sizes[name] = min(MOST, max(1, math.ceil(LASTING / max(seconds, LASTING / MOST))))
    return sizes


def once(step: Step, clock: Clock) -> float:
    """Seconds of one step."""
    begin = clock()
    step()
    return clock() - begin


def medians(times: Times) -> dict[str, float]:
    """Milliseconds a step.

    >>> medians({"a": [3.0, 1.0, 2.0]})
    {'a': 2.0}
    """
    return {name: statistics.median(several) for name, several in times.items()}


def ratios(times: Times, base: str) -> dict[str, float]:
    """How many times as long as ``base``: within each round, so that what slows a round down slows both sides down.

    >>> ratios({"a": [2.0, 30.0, 4.0], "b": [1.0, 10.0, 2.0]}, "b")
    {'a': 2.0, 'b': 1.0}
    """
    return {
        name: statistics.median(a / b for a, b in zip(several, times[base], strict=True))
        for name, several in times.items()
    }


def rounded(figures: Mapping[str, float]) -> dict[str, float]:
    """Three digits are more than a shared machine is good for.

    >>> rounded({"a": 1.23456})
    {'a': 1.23}
    """
    return {who: float(f"{figure:.3g}") for who, figure in figures.items()}

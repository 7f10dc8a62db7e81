"""Time several functions in one run, in alternating order, so that a slow spell of the machine affects all of them."""

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence

from eqprop._core.checks import ArgumentError, function, mapping, one_of, positive_int

__all__ = ["Clock", "Step", "Times", "choose_block_sizes", "medians", "ratios", "round_figures", "time_steps"]

Step = Callable[[], object]
"""A function to time."""

Times = Mapping[str, Sequence[float]]
"""Milliseconds per step by name, one value per round."""

Clock = Callable[[], float]
"""Returns the time in seconds."""

BLOCK_SECONDS = 0.02
"""A block of steps takes at least this long."""

MAX_BLOCK = 64
"""Largest number of steps in a block."""


def time_steps(
    steps: Mapping[str, Step],
    rounds: int,
    block: int | Mapping[str, int] = 4,
    *,
    clock: Clock = time.perf_counter,
    on_round: Callable[[], object] = lambda: None,
) -> dict[str, list[float]]:
    """Time every function in each round, and return the milliseconds per step of each round.

    One warm-up round is not counted. In each round every function runs a block of steps, as training does. One uncounted step
    precedes a block, to bring its weights into the caches, unless the block has a single (long) step.

    Args:
        steps: functions to time, by name.
        rounds: number of counted rounds.
        block: steps in a block, one number for all or one for each name.
        clock: returns the time in seconds.
        on_round: called after each round.

    >>> sorted(time_steps({"a": lambda: 1, "b": lambda: 2}, rounds=3))
    ['a', 'b']
    """
    for step in mapping("steps", steps).values():
        function("steps", step)
    positive_int("rounds", rounds)
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
        on_round()
    return times


def choose_block_sizes(steps: Mapping[str, Step], clock: Clock = time.perf_counter) -> dict[str, int]:
    """Return for each function how many steps take long enough to be timed."""
    sizes = {}
    for name, step in steps.items():
        seconds = _time_once(step, clock)
        # The first call is slower (allocation, caches): time short steps a second time.
        seconds = seconds if seconds > 10 * BLOCK_SECONDS else _time_once(step, clock)
        sizes[name] = min(MAX_BLOCK, max(1, math.ceil(BLOCK_SECONDS / max(seconds, BLOCK_SECONDS / MAX_BLOCK))))
    return sizes


def _time_once(step: Step, clock: Clock) -> float:
    begin = clock()
    step()
    return clock() - begin


def medians(times: Times) -> dict[str, float]:
    """Return the median milliseconds per step of each name.

    >>> medians({"a": [3.0, 1.0, 2.0]})
    {'a': 2.0}
    """
    return {name: statistics.median(values) for name, values in mapping("times", times).items()}


def ratios(times: Times, base: str) -> dict[str, float]:
    """Return the median over rounds of time divided by the time of ``base`` in the same round.

    Dividing within a round cancels what slows the whole round down.

    >>> ratios({"a": [2.0, 30.0, 4.0], "b": [1.0, 10.0, 2.0]}, "b")
    {'a': 2.0, 'b': 1.0}
    """
    if not mapping("times", times):
        raise ArgumentError("times", "`times` must hold at least one name, got an empty dictionary")
    one_of("base", base, tuple(times))
    return {
        name: statistics.median(a / b for a, b in zip(values, times[base], strict=True))
        for name, values in times.items()
    }


def round_figures(figures: Mapping[str, float]) -> dict[str, float]:
    """Round to three significant digits; a shared machine does not give more.

    >>> round_figures({"a": 1.23456})
    {'a': 1.23}
    """
    return {name: float(f"{figure:.3g}") for name, figure in mapping("figures", figures).items()}

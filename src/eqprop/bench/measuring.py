"""Measure one recipe at one batch size and one number of threads: training steps, free phases and memory."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count

from eqprop._core.memory import peak_bytes
from eqprop.bench.arithmetic import multiply_adds, settling_parts
from eqprop.bench.candidates import BARE, CONTINUAL, EP, Task, make_candidates
from eqprop.bench.settling import STEPS, count_steps, find_method, make_phase_steps, supported_methods
from eqprop.bench.timing import Step, choose_block_sizes, medians, ratios, time_steps
from eqprop.estimators import EquilibriumProp
from eqprop.training.rng import REST, seeded
from eqprop.training.session import threads as use_threads

__all__ = ["Measurement", "PhaseCost", "StepCost", "measure"]

MIN_LIMIT = 200
"""Free phases stop after this many steps, or after 2 T if that is more."""

Progress = Callable[[int, int], None]
"""Called as ``progress(done, total)``."""


@dataclass(frozen=True)
class StepCost:
    """Cost of a training step by one candidate.

    Attributes:
        milliseconds: median time.
        times_bare: time divided by that of the bare arithmetic of EP's step, median over rounds.
        peak_bytes: peak of the tensors that are alive at the same time, without weights and batch; None for the bare arithmetic.
    """

    milliseconds: float
    times_bare: float
    peak_bytes: int | None


@dataclass(frozen=True)
class PhaseCost:
    """Cost of a free phase by one method.

    Attributes:
        milliseconds: median time of a step.
        times_bare: time divided by that of the bare arithmetic of a step, median over rounds.
        steps: steps to the residual with the initial weights; None if it is not reached, or for the bare arithmetic.
        milliseconds_to: time of these steps.
        residual: residual of the last step; None for the bare arithmetic.
    """

    milliseconds: float
    times_bare: float
    steps: int | None = None
    milliseconds_to: float | None = None
    residual: float | None = None


@dataclass(frozen=True)
class Measurement:
    """Result of `measure`.

    Attributes:
        recipe: name of the recipe.
        batch: batch size.
        threads: CPU threads.
        free_steps: T.
        nudged_steps: K.
        nudging: "one-sided", "centred" or "random-sign".
        own: label of the recipe's own estimator.
        own_method: method of the recipe's free phase.
        multiply_adds: multiply-accumulates that EP's training step cannot avoid, whole batch.
        multiply_adds_a_step: the same for one step of the free phase.
        training: cost of a training step by label.
        settling: cost of a free phase by method, and "bare".
        absent: reason by label or method that was not measured.
    """

    recipe: str
    batch: int
    threads: int
    free_steps: int
    nudged_steps: int
    nudging: str
    own: str
    own_method: str
    multiply_adds: int
    multiply_adds_a_step: int
    training: dict[str, StepCost]
    settling: dict[str, PhaseCost]
    absent: dict[str, str]


def measure(
    task: Task, threads: int, rounds: int, residual: float, progress: Progress = lambda done, total: None
) -> Measurement:
    """Measure all candidates and methods of one task, in alternating order.

    Args:
        task: model, phases and batch size.
        threads: CPU threads; the number before is restored at the end.
        rounds: counted rounds.
        residual: residual that free phases must reach.
        progress: called as ``progress(done, total)``.

    Raises:
        ValueError: if the run cannot be built.
        FloatingPointError: if EP's step meets a number that is not finite.
    """
    own = EP if isinstance(task.run.estimator, EquilibriumProp) else CONTINUAL
    with use_threads(threads), seeded(0, REST):  # some dynamics draw random numbers
        model = task.model()
        methods, unsupported = supported_methods(model)
        done, total = count(1), len(make_candidates(task)) + len(methods) + 2 * (rounds + 1)

        def tick() -> None:
            progress(next(done), total)

        trained, absent = _measure_training(task, rounds, tick)
        return Measurement(
            recipe=task.run.name,
            batch=task.batch,
            threads=threads,
            free_steps=task.phases.free.steps,
            nudged_steps=task.phases.nudged.steps,
            nudging=task.phases.nudging,
            own=own,
            own_method=find_method(task.phases.free),
            multiply_adds=multiply_adds(model, task.arithmetic(model)),
            multiply_adds_a_step=multiply_adds(
                model, [replace(part, times=1) for part in settling_parts(model, task.batch, STEPS)]
            ),
            training=trained,
            settling=_measure_settling(task, rounds, residual, tick),
            absent=absent | unsupported,
        )


def _measure_training(task: Task, rounds: int, tick: Callable[[], None]) -> tuple[dict[str, StepCost], dict[str, str]]:
    """Return the cost by label, and the reason for each label that is absent."""
    makers, peaks, absent = dict[str, Callable[[], Step]](), dict[str, int | None](), dict[str, str]()
    for name, make in make_candidates(task).items():
        try:
            if isinstance(make, str):
                raise ValueError(make)
            peaks[name] = None if name == BARE else peak_bytes(make())
            makers[name] = make
        except (ValueError, FloatingPointError) as error:
            if name in (EP, BARE):
                raise
            absent[name] = str(error)
        tick()
    times = _time_rounds({name: make() for name, make in makers.items()}, rounds, tick)
    times_bare = ratios(times, BARE)
    return {name: StepCost(ms, times_bare[name], peaks[name]) for name, ms in medians(times).items()}, absent


def _measure_settling(task: Task, rounds: int, residual: float, tick: Callable[[], None]) -> dict[str, PhaseCost]:
    """Return the cost by method."""
    times = _time_rounds(make_phase_steps(task), rounds, tick)
    times_bare, costs = ratios(times, BARE), dict[str, PhaseCost]()
    limit = max(MIN_LIMIT, 2 * task.phases.free.steps)
    for name, of_all in medians(times).items():
        milliseconds, steps, last = of_all / STEPS, None, None
        if name != BARE:
            steps, last = count_steps(task, name, residual, limit)
            tick()
        total = None if steps is None else steps * milliseconds
        costs[name] = PhaseCost(milliseconds, times_bare[name], steps, total, last)
    return costs


def _time_rounds(steps: dict[str, Step], rounds: int, tick: Callable[[], None]) -> dict[str, list[float]]:
    return time_steps(steps, rounds, choose_block_sizes(steps), on_round=tick)

"""All that is measured of a recipe at one batch size on so many threads."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count

from eqprop._core.memory import peak_bytes
from eqprop.bench.arithmetic import multiply_adds, of_settling
from eqprop.bench.candidates import BARE, CONTINUAL, EP, Task, contenders
from eqprop.bench.settling import STEPS, admitted, own_method, phase_steps, steps_to
from eqprop.bench.timing import Step, blocks, in_turn, medians, ratios
from eqprop.estimators import EquilibriumProp
from eqprop.training.rng import REST, seeded
from eqprop.training.session import threads

__all__ = ["Measured", "Settled", "Trained", "measure"]

LEAST = 200
"""Steps after which no more are taken, or twice T, if that is more."""

Tell = Callable[[int, int], None]
"""Is told ``(done, total)``."""


@dataclass(frozen=True)
class Trained:
    """A contender's training step.

    Attributes:
        milliseconds: median.
        times_bare: how many times as long as the bare arithmetic of EP's step, median of the rounds.
        peak_bytes: the most bytes of tensors that were alive at once, weights and batch apart; None of the bare arithmetic.
    """

    milliseconds: float
    times_bare: float
    peak_bytes: int | None


@dataclass(frozen=True)
class Settled:
    """A method's free phase.

    Attributes:
        milliseconds: of a step, median.
        times_bare: how many times as long as the bare arithmetic of a step, median of the rounds.
        steps: to the residual, at the first weights; None if it was not met, or of the bare arithmetic.
        milliseconds_to: what they take.
        residual: of the last step; None of the bare arithmetic.
    """

    milliseconds: float
    times_bare: float
    steps: int | None = None
    milliseconds_to: float | None = None
    residual: float | None = None


@dataclass(frozen=True)
class Measured:
    """What was found.

    Attributes:
        recipe: its name.
        batch: samples.
        threads: of the CPU.
        free_steps: T.
        nudged_steps: K.
        nudging: "one-sided", "centred" or "random-sign".
        own: which contender is the recipe's own.
        own_method: which method its free phase settles by.
        multiply_adds: of EP's training step, as far as they cannot be avoided.
        multiply_adds_a_step: of a step of the free phase.
        training: by contender.
        settling: by method, and "bare".
        absent: by contender or method, why it is not there.
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
    training: dict[str, Trained]
    settling: dict[str, Settled]
    absent: dict[str, str]


def measure(task: Task, number: int, rounds: int, residual: float, tell: Tell = lambda done, total: None) -> Measured:
    """Measure one setting.

    Args:
        task: what is done.
        number: of threads.
        rounds: that are counted.
        residual: down to which free phases settle.
        tell: is told how far it is.

    Raises:
        ValueError: if the run cannot be built.
        FloatingPointError: if EP's step meets a number that is not finite.
    """
    own = EP if isinstance(task.run.estimator, EquilibriumProp) else CONTINUAL
    with threads(number), seeded(0, REST):  # for dynamics that draw
        model = task.model()
        methods, refused = admitted(model)
        tick = ticking(tell, len(contenders(task)) + len(methods) + 2 * (rounds + 1))
        trained, absent = training(task, rounds, tick)
        settled = settling(task, rounds, residual, tick)
        return Measured(
            task.run.name,
            task.batch,
            number,
            task.phases.free.steps,
            task.phases.nudged.steps,
            task.phases.nudging,
            own,
            own_method(task.phases.free),
            multiply_adds(model, task.arithmetic(model)),
            multiply_adds(model, [replace(part, times=1) for part in of_settling(model, task.batch, STEPS)]),
            trained,
            settled,
            absent | refused,
        )


def ticking(tell: Tell, total: int) -> Callable[[], None]:
    """A function to be called at every one of so many stages."""
    done = count(1)
    return lambda: tell(next(done), total)


def training(task: Task, rounds: int, tick: Callable[[], None]) -> tuple[dict[str, Trained], dict[str, str]]:
    """What the contenders' steps take, and why some are not there."""
    makers, peaks, absent = dict[str, Callable[[], Step]](), dict[str, int | None](), dict[str, str]()
    for name, make in contenders(task).items():
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
    times = timed({name: make() for name, make in makers.items()}, rounds, tick)
    slower = ratios(times, BARE)
    return {name: Trained(ms, slower[name], peaks[name]) for name, ms in medians(times).items()}, absent


def settling(task: Task, rounds: int, residual: float, tick: Callable[[], None]) -> dict[str, Settled]:
    """What the methods' free phases take."""
    times = timed(phase_steps(task), rounds, tick)
    slower, found = ratios(times, BARE), dict[str, Settled]()
    most = max(LEAST, 2 * task.phases.free.steps)
    for name, taken in medians(times).items():
        milliseconds, steps, last = taken / STEPS, None, None
        if name != BARE:
            steps, last = steps_to(task, name, residual, most)
            tick()
        found[name] = Settled(milliseconds, slower[name], steps, None if steps is None else steps * milliseconds, last)
    return found


def timed(steps: dict[str, Step], rounds: int, tick: Callable[[], None]) -> dict[str, list[float]]:
    """Milliseconds of each, round after round."""
    return in_turn(steps, rounds, blocks(steps), tell=tick)

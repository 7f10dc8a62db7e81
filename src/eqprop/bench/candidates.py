"""Who does a training step: estimators of the same gradient with the same phases, and backpropagation beside them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.optim import SGD

from eqprop.bench.arithmetic import Part, bare, of_training
from eqprop.bench.feedforward import Feedforward
from eqprop.bench.timing import Step
from eqprop.estimators import BPTT, ContinualEP, ContinualSGD, EquilibriumProp, ImplicitDiff, NudgedEstimator
from eqprop.estimators.base import Estimator
from eqprop.estimators.ep import Nudging
from eqprop.models.model import Model
from eqprop.solvers.schedules import Synchronous
from eqprop.solvers.settle import Settle
from eqprop.spiking import Spiking
from eqprop.training.config.run import Run

__all__ = [
    "BACKPROP",
    "BARE",
    "CONTINUAL",
    "EP",
    "LABELS",
    "Phases",
    "Task",
    "contenders",
    "descent",
    "estimators",
    "phases_of",
]

EP, CONTINUAL, THROUGH_TIME, IMPLICIT = "EP", "continual EP", "BPTT", "implicit"
BACKPROP, BARE = "backprop", "bare"
LABELS = (EP, CONTINUAL, THROUGH_TIME, IMPLICIT, BACKPROP, BARE)
"""Everyone, in the order of tables."""

RATE = 1e-6
"""Of everyone's plain SGD: all that it costs, and no training that might lead some of them elsewhere than others."""


@dataclass(frozen=True)
class Phases:
    """What EP does in a step.

    Attributes:
        free: the free phase.
        nudged: each nudged phase.
        beta: nudging strength.
        nudging: "one-sided", "centred" or "random-sign".
    """

    free: Settle
    nudged: Settle
    beta: float
    nudging: Nudging

    @property
    def copies(self) -> int:
        """Nudged phases side by side."""
        return 2 if self.nudging == "centred" else 1


def phases_of(run: Run, free: int | None = None, nudged: int | None = None) -> Phases:
    """Those of a run, always at full length: without a tolerance. Other numbers of steps are taken where they are given.

    Raises:
        ValueError: if its estimator has no nudged phase, or a number does not fit.
    """
    own = run.estimator
    if not isinstance(own, NudgedEstimator):
        raise ValueError(f"a run by {type(own).__name__} has no nudged phase: start from one by EP")
    settles = [own.phases[name] for name in ("free_steps", "nudged_steps")]
    return Phases(*(lasting(s, n) for s, n in zip(settles, (free, nudged), strict=True)), own.beta, own.nudging)  # type: ignore[call-arg]


def lasting(settle: Settle, steps: int | None) -> Settle:
    """The same way of settling, for exactly so many steps."""
    steps = steps or settle.steps
    return replace(settle, steps=steps, tol=None, average=min(settle.average, steps))


def estimators(run: Run, phases: Phases) -> dict[str, Estimator | str]:
    """By label an estimator with these phases, or why there is none.

    BPTT is differentiated over the last K steps, through spikes where there are any; the adjoint of implicit differentiation is
    iterated K times.
    """
    free, nudged, beta, nudging = phases.free, phases.nudged, phases.beta, phases.nudging
    spikes = isinstance(run.model.dynamics, Spiking)
    sweeps = nudged.schedule != Synchronous()
    moving = (
        ContinualEP(free, nudged.steps, beta, nudging)
        if isinstance(run.estimator, ContinualEP)
        else ContinualSGD(free, nudged.steps, beta, RATE, nudging)
    )
    return {
        EP: EquilibriumProp(free, nudged, beta, nudging),
        CONTINUAL: "its nudged steps are synchronous, those of the recipe are sweeps" if sweeps else moving,
        THROUGH_TIME: BPTT(free, min(nudged.steps, free.steps), surrogate=spikes),
        IMPLICIT: "spikes have no derivative" if spikes else ImplicitDiff(free, replace(nudged, average=1)),
    }


@dataclass(frozen=True)
class Task:
    """What all contenders are given.

    Attributes:
        run: whose model.
        phases: EP's.
        batch: samples, random ones.
    """

    run: Run
    phases: Phases
    batch: int

    def model(self) -> Model:
        """With its first weights."""
        return self.run.build()

    def samples(self, model: Model) -> tuple[Tensor, Tensor]:
        """Inputs from 0 to 1, ``(B, *shape)``, and classes, ``(B,)``: the same ones for everyone."""
        source, shapes = torch.Generator().manual_seed(0), [p.shape for p in model.network.populations]
        x = torch.rand(self.batch, *shapes[0], generator=source)
        y = torch.randint(model.cost.width(shapes[-1]), (self.batch,), generator=source)
        return x, y

    def arithmetic(self, model: Model) -> tuple[Part, ...]:
        """The products and convolutions of EP's step."""
        p = self.phases
        return of_training(model, self.batch, p.free.steps, p.nudged.steps, p.copies)


def contenders(task: Task) -> dict[str, Callable[[], Step] | str]:
    """By label, what makes a function that does one training step from the first weights on, or why there is none."""
    found: dict[str, Callable[[], Step] | str] = {
        name: one if isinstance(one, str) else by_estimator(task, one)
        for name, one in estimators(task.run, task.phases).items()
    }
    return found | {BACKPROP: lambda: backpropagation(task), BARE: lambda: arithmetic(task)}


def by_estimator(task: Task, estimator: Estimator) -> Callable[[], Step]:
    """A step of the convergent network."""

    def make() -> Step:
        model = task.model()
        x, y = task.samples(model)
        return descent(model, lambda: estimator(model, x, y))

    return make


def backpropagation(task: Task) -> Step:
    """A step of the feedforward network of the same sizes."""
    model = task.model()
    net, (x, y) = Feedforward(model), task.samples(model)
    y = model.cost.encode(y, net(x).detach())
    return descent(net, lambda: [net.loss(x, y)])


def arithmetic(task: Task) -> Step:
    """No step, but what EP's cannot do without."""
    model = task.model()
    return bare(model, task.arithmetic(model))


def descent(model: nn.Module, losses: Callable[[], Iterable[Tensor]], rate: float = RATE) -> Step:
    """A batch's losses, each with a step of plain SGD."""
    optimizer = SGD(model.parameters(), lr=rate)

    def step() -> None:
        for loss in losses():
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return step

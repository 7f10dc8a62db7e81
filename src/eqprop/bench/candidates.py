"""The training steps that are compared: several estimators of the same gradient with the same phases, and backpropagation."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.optim import SGD

from eqprop._core.checks import function, instance, non_negative
from eqprop.bench.arithmetic import Part, make_bare_step, training_parts
from eqprop.bench.feedforward import Feedforward
from eqprop.bench.timing import Step
from eqprop.estimators import BPTT, ContinualEP, ContinualSGD, EquilibriumProp, ImplicitDiff, NudgedEstimator
from eqprop.estimators.base import Estimator
from eqprop.estimators.ep import Nudging
from eqprop.models.memory import check_batch_memory
from eqprop.models.model import Model
from eqprop.solvers.schedules import Synchronous
from eqprop.solvers.settle import Settle
from eqprop.training.config.run import Run

__all__ = [
    "BACKPROP",
    "BARE",
    "CONTINUAL",
    "EP",
    "LABELS",
    "Phases",
    "Task",
    "extract_phases",
    "make_candidates",
    "make_estimator_step",
    "make_estimators",
    "make_sgd_step",
]

EP, CONTINUAL, THROUGH_TIME, IMPLICIT = "EP", "continual EP", "BPTT", "implicit"
BACKPROP, BARE = "backprop", "bare"
LABELS = (EP, CONTINUAL, THROUGH_TIME, IMPLICIT, BACKPROP, BARE)
"""All candidates, in the order of the tables."""

RATE = 1e-6
"""Learning rate of every candidate: SGD at its full cost, but so small that all candidates keep nearly the same weights."""


@dataclass(frozen=True)
class Phases:
    """The phases of one EP training step.

    Attributes:
        free: free phase.
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
        """Number of nudged phases that run as one batch."""
        return 2 if self.nudging == "centred" else 1


def extract_phases(run: Run, free: int | None = None, nudged: int | None = None) -> Phases:
    """Return the phases of a run at full length, without a tolerance.

    Args:
        run: run whose estimator has nudged phases.
        free: free steps T; the run's if None.
        nudged: nudged steps K; the run's if None.

    Raises:
        ValueError: if the run's estimator has no nudged phase.
    """
    own = run.estimator
    if not isinstance(own, NudgedEstimator):
        raise ValueError(f"{type(own).__name__} has no nudged phase: choose a recipe that trains by EP")
    free_phase = _with_steps(own.phases["free_steps"], free)
    nudged_phase = _with_steps(own.phases["nudged_steps"], nudged)
    return Phases(free_phase, nudged_phase, own.beta, own.nudging)


def _with_steps(settle: Settle, steps: int | None) -> Settle:
    """Return the same kind of phase with a fixed number of steps."""
    steps = steps or settle.steps
    return replace(settle, steps=steps, tol=None, average=min(settle.average, steps))


def make_estimators(run: Run, phases: Phases) -> dict[str, Estimator | str]:
    """Return for each label an estimator with these phases, or the reason why there is none.

    BPTT differentiates the last K steps, through surrogate spikes where the network spikes. Implicit differentiation takes K
    steps for its adjoint.
    """
    free, nudged, beta, nudging = phases.free, phases.nudged, phases.beta, phases.nudging
    spiking = run.model.dynamics.spiking
    synchronous = nudged.schedule == Synchronous()
    continual = (
        ContinualEP(free, nudged.steps, beta, nudging)
        if isinstance(run.estimator, ContinualEP)
        else ContinualSGD(free, nudged.steps, beta, RATE, nudging)
    )
    return {
        EP: EquilibriumProp(free, nudged, beta, nudging),
        CONTINUAL: continual if synchronous else "it takes synchronous nudged steps, but the recipe's are sweeps",
        THROUGH_TIME: BPTT(free, min(nudged.steps, free.steps), surrogate=spiking),
        IMPLICIT: "spikes have no derivative" if spiking else ImplicitDiff(free, replace(nudged, average=1)),
    }


@dataclass(frozen=True)
class Task:
    """What every candidate computes: a training step of one model on one batch of random samples.

    Args:
        run: run whose model is trained.
        phases: phases of the EP step.
        batch: batch size B.
    """

    run: Run
    phases: Phases
    batch: int

    def model(self) -> Model:
        """Build the model with its initial weights."""
        return self.run.build()

    def samples(self, model: Model) -> tuple[Tensor, Tensor]:
        """Return inputs in [0, 1], ``(B, *shape)``, and classes, ``(B,)``; the same at every call."""
        check_batch_memory("batch", model, self.batch, self.phases.free, self.phases.nudged)
        generator, shapes = torch.Generator().manual_seed(0), [p.shape for p in model.network.populations]
        x = torch.rand(self.batch, *shapes[0], generator=generator)
        y = torch.randint(model.cost.width(shapes[-1]), (self.batch,), generator=generator)
        return x, y

    def arithmetic(self, model: Model) -> tuple[Part, ...]:
        """Return the products and convolutions of the EP step."""
        p = self.phases
        return training_parts(model, self.batch, p.free.steps, p.nudged.steps, p.copies)


def make_candidates(task: Task) -> dict[str, Callable[[], Step] | str]:
    """Return for each label a function that makes its training step from the initial weights, or the reason why there is none."""
    found: dict[str, Callable[[], Step] | str] = {
        name: one if isinstance(one, str) else make_estimator_step(task, one)
        for name, one in make_estimators(task.run, task.phases).items()
    }
    return found | {BACKPROP: lambda: _make_backprop_step(task), BARE: lambda: _make_bare_step(task)}


def make_estimator_step(task: Task, estimator: Estimator) -> Callable[[], Step]:
    """Return a function that makes a training step of the task's model by ``estimator``."""

    def make() -> Step:
        model = task.model()
        x, y = task.samples(model)
        return make_sgd_step(model, lambda: estimator(model, x, y))

    return make


def _make_backprop_step(task: Task) -> Step:
    """Return a training step of the feedforward network with the same layers."""
    model = task.model()
    net, (x, y) = Feedforward(model), task.samples(model)
    y = model.cost.encode(y, net(x).detach())
    return make_sgd_step(net, lambda: [net.loss(x, y)])


def _make_bare_step(task: Task) -> Step:
    model = task.model()
    return make_bare_step(model, task.arithmetic(model))


def make_sgd_step(model: nn.Module, losses: Callable[[], Iterable[Tensor]], rate: float = RATE) -> Step:
    """Return a function that takes one step of plain SGD for each loss of a batch.

    Args:
        model: model whose parameters move.
        losses: returns the losses of a batch.
        rate: learning rate.
    """
    function("losses", losses)
    optimizer = SGD(instance("model", model, nn.Module).parameters(), lr=non_negative("rate", rate))

    def step() -> None:
        for loss in losses():
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return step

r"""Continual Equilibrium Propagation (Ernoult et al. 2020): in the nudged phase states and weights move together.

Every nudged step is followed by a step of the weights along the increment that it caused, so that a synapse needs only what it
sees now and saw one step ago (their section 3; C-EP),

    s_{t+1}      =  F(x, s_t, theta_t) - beta dC/ds(s_t)
    theta_{t+1}  =  theta_t + eta Delta_t,      Delta_t = (dPhi/dtheta(s_{t+1}) - dPhi/dtheta(s_t)) / beta,

and for untied weights, where there is no Phi, the displacement of post is paired with pre at the old time (section 4; C-VF),

    Delta_t  =  (s_{t+1} - s_t)_post x (s_t)_pre / beta.

Both are minus the gradient of `Network.contrast` between two states in succession, at the free state ``s_t`` where it asks for
one. As eta -> 0 the increments of tied weights sum to the estimate of EP, since Phi's differences telescope.

    one-sided     Delta_t                                            along the trajectory at beta
    random-sign   the same with -beta in half of the batches
    centred       (Delta_t at beta + Delta_t at -beta) / 2           two trajectories on one theta_t, as one batch of 2B

A readout with weights is no part of the relaxing system. It stays while the phase lasts, so that one cost pulls throughout, and
gets its plain gradient at the free state once, with the phase's last step.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from eqprop._core.checks import nonzero, one_of, positive_int
from eqprop._core.precision import full_precision
from eqprop._core.state import State, Units, repeat
from eqprop.dynamics.base import Force
from eqprop.estimators.base import FreePhaseCallback, as_loss, check_grad_enabled
from eqprop.estimators.ep import NUDGINGS, Nudging, nudging_strengths
from eqprop.models.model import Model
from eqprop.network import Activities, Compared, Drive
from eqprop.solvers.settle import Settle, Solution, as_settle, finite, settle

__all__ = ["ContinualEP", "ContinualPhase", "check_choices", "check_finite", "check_static_input"]


@dataclass(frozen=True)
class ContinualEP:
    """Gradient by continual Equilibrium Propagation: a loss for every nudged step, after each of which the weights move.

    The optimizer that takes the losses moves the weights inside the phase. The paper's rule is plain SGD; momentum or weight
    decay would carry one step's increment into the next and leave it. Rates must be some ten times smaller than EP's, for the
    weights' move disturbs the phase that it learns from. Schedules and logs tick once a batch, not once a loss. A loss that is
    never stepped on is one at eta = 0: the losses' gradients then sum to EP's or, for untied weights, to the one-shot
    vector-field rule that pairs each step with its own activities.

    Args:
        free_steps: T, the length of the free phase: steps or `Settle`.
        nudged_steps: K, the length of the nudged phase and the number of losses. Always a plain number: while weights move
            there is no steady state to wait for.
        beta: nudging strength, in units of the cost's force; its sign is that of the one-sided phase.
        nudging: "one-sided", "centred" or "random-sign".

    Raises:
        ValueError: if ``beta`` is zero or not finite, a number of steps is not a positive whole number, or ``nudging`` is
            unknown; on a call, if the batch does not fit the model, ``x`` wants a gradient, or the dynamics do not bear
            ``beta``.
        RuntimeError: on a call under ``no_grad``.
        FloatingPointError: on a call, if the input, a weight or a state is not finite.

    >>> import torch, eqprop as ep
    >>> model = ep.mlp([4, 8, 3])
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    >>> for loss in ContinualEP(20, 10, beta=0.1)(model, torch.rand(5, 4), torch.tensor([0, 1, 2, 0, 1])):
    ...     optimizer.zero_grad()
    ...     loss.backward()
    ...     optimizer.step()
    """

    free_steps: int | Settle
    nudged_steps: int
    beta: float
    nudging: Nudging = "one-sided"

    def __post_init__(self) -> None:
        check_choices(self.free_steps, self.nudged_steps, self.beta, self.nudging)

    def __call__(
        self,
        model: Model,
        x: Tensor,
        y: Tensor,
        *,
        on_free_phase: FreePhaseCallback | None = None,
        generator: Generator | None = None,
    ) -> Iterator[Tensor]:
        """K losses: see `Estimator`."""
        check_grad_enabled(self)
        model.dynamics.check_beta(self.beta)
        return self._losses(model, x, y, on_free_phase, generator)

    def _losses(
        self, model: Model, x: Tensor, y: Tensor, on_free_phase: FreePhaseCallback | None, generator: Generator | None
    ) -> Iterator[Tensor]:
        check_grad_enabled(self)  # again: it is here that gradients must be on
        x = check_static_input(model, x)
        phase, drive = ContinualPhase.begin(
            model, x, y, self.free_steps, nudging_strengths(self.nudging, self.beta, generator), on_free_phase
        )
        value, state = phase.cost().detach(), phase.start()
        before = phase.activity(state)
        for t in range(1, self.nudged_steps + 1):
            with torch.no_grad():
                drive = phase.repeat(model.dynamics.prepare(model.network, x))  # anew: the weights have moved
                state = phase.step(drive, state)
                after = phase.activity(state)
            check_finite([model.dynamics.units(state)], t)
            surrogate, last = model.network.contrast(drive.input, *phase.compare(before, after)), t == self.nudged_steps
            if surrogate.requires_grad or last:
                yield as_loss(phase.cost() if last else value, surrogate)
            before = after


@dataclass(frozen=True, eq=False)
class ContinualPhase:
    """A nudged phase whose weights may move between its steps: one trajectory a strength, side by side as one batch.

    Attributes:
        model: what is trained.
        free: the free phase's solution.
        target: encoded, ``(B, n)``.
        betas: ``(beta,)`` one-sided, ``(-beta, beta)`` centred.
        force: the force on all trajectories, each with its own beta.
    """

    model: Model
    free: Solution
    target: Tensor
    betas: tuple[float, ...]
    force: Force

    @classmethod
    @torch.no_grad()
    def begin(
        cls,
        model: Model,
        x: Tensor,
        y: Tensor,
        steps: int | Settle,
        betas: tuple[float, ...],
        on_free_phase: FreePhaseCallback | None,
    ) -> tuple["ContinualPhase", Drive]:
        """Settle freely, show that to ``watch``, and get ready to nudge; with the drive of all trajectories."""
        drive, start, target = model.prepare_batch(x, y)
        free = settle(model.network, model.dynamics, drive, start, as_settle("free_steps", steps))
        if on_free_phase is not None:
            on_free_phase(free)
        out, n = free.output, len(betas)
        each = torch.cat([out.new_full((out.shape[0], *[1] * (out.dim() - 1)), beta) for beta in betas])
        force = model.cost.nudging_force(torch.cat([target] * n), each)
        return cls(model, free, target, betas, force), drive.repeat(n)

    def cost(self) -> Tensor:
        """Batch mean at the free state; differentiable in a readout's weights."""
        return self.model.cost.value(self.free.output, self.target).mean()

    def start(self) -> State:
        """The state that every trajectory starts from."""
        return repeat(self.free.state, len(self.betas))

    def repeat(self, drive: Drive) -> Drive:
        """The drive of all trajectories."""
        return drive.repeat(len(self.betas))

    def step(self, drive: Drive, state: State) -> State:
        """One nudged step."""
        with full_precision(drive.input):
            return self.model.dynamics.step(self.model.network, state, drive, self.force)

    def activity(self, state: State) -> Activities:
        """What Phi takes."""
        return self.model.dynamics.activity(self.model.network, state)

    def compare(self, before: Activities, after: Activities) -> Compared:
        """From one moment to a later one. At -beta, the first half of a centred batch, the two change places."""
        if len(self.betas) == 1:
            return Compared(before, before, after, self.norm)
        a, b = zip(*(crossed(*pair) for pair in zip(before, after, strict=True)), strict=True)
        return Compared(before, a, b, self.norm)

    @property
    def norm(self) -> float:
        """What differences are divided by; a centred batch, of twice the size, halves them when it takes its mean."""
        return self.betas[-1]


def crossed(before: Tensor, after: Tensor) -> tuple[Tensor, Tensor]:
    """The two with their first halves exchanged."""
    (before_minus, before_plus), (after_minus, after_plus) = before.chunk(2), after.chunk(2)
    return torch.cat([after_minus, before_plus]), torch.cat([before_minus, after_plus])


def check_finite(states: Sequence[Units], first: int) -> None:
    """Raise FloatingPointError if the last of successive states is not finite, and name where it went wrong.

    Args:
        states: after each nudged step.
        first: number of the first of these steps, counted from 1.
    """
    if finite(*states[-1]):
        return
    for t, state in enumerate(states, start=first):
        for n, s in enumerate(state, start=1):
            if not finite(s):
                raise FloatingPointError(
                    f"population {n} is not finite at step {t} of the nudged phase, in which the weights move: "
                    "lower the rates, or look at the targets and beta"
                )


def check_choices(free_steps: int | Settle, nudged_steps: int, beta: float, nudging: Nudging) -> None:
    """Raise ValueError for what no continual estimator takes."""
    as_settle("free_steps", free_steps)
    positive_int("nudged_steps", nudged_steps)
    nonzero("beta", beta)
    one_of("nudging", nudging, NUDGINGS)


def check_static_input(model: Model, x: Tensor) -> Tensor:
    """The input, if it fits and wants no gradient: the weights that would pass it on move meanwhile.

    Raises:
        ValueError: if it does not fit, or wants one.
    """
    x = model.network.check_input(x)
    if x.requires_grad:
        raise ValueError(
            "`x` wants a gradient, which weights on the move cannot give: detach it, or use EquilibriumProp"
        )
    return x

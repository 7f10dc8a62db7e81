r"""The response to a nudge: how far the nudged phases moved, whether they came to rest, and whether they jumped.

EP takes the nudged state for a small displacement of the free one. Three things can make it something else, and each shows in four
numbers of a batch: the last steps ``r_0`` of the free and ``r_K`` of the nudged phase, the distance ``D = max |s^beta - s*|``, and
the nudge ``e = |dt beta dC/ds|``, the first step that the force causes.

1. *The free phase moves.* Its motion goes on in the nudged phase and is divided by beta. It outweighs the nudge where ``r_0 > e``.
2. *The nudged phase moves.* Synchronous steps may alternate between two states, or diverge (`Prototypical`). Then the last step
   leads past the free state, and ``r_K > D``; a phase that approaches a steady state has ``r_K < D``.
3. *The nudged phase jumps* to a steady state that does not go over into the free one as ``beta -> 0``, as at a kink of rho that
   the free state rests on. A bound on D tells: near a stable steady state the steps of a nudged phase are ``J^t e`` with a
   symmetric J (in the coordinates of `Duality`). The powers of a symmetric matrix are log-convex, ``|J^t e|^2 = sum_i lambda_i^2t
   e_i^2``, so that the t-th of K steps is at most ``e^(1 - t/n) r_K^(t/n)`` with ``n = K - 1``, and

       D  <=  sum_{t<K} e q^t,        q = (r_K / e)^(1/n).

   The bound is jointly concave in e and r_K, so that it holds for means over samples if it holds for each. The norms are those of
   all N units; ``max |v| <= |v| <= sqrt(N) max |v|`` gives what residuals are known to be.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import reduce
from math import sqrt
from typing import TypeAlias

import torch
from torch import Tensor

from eqprop._core.warn import warn_user
from eqprop.dynamics.base import Force
from eqprop.solvers.phase import Phase
from eqprop.solvers.settle import Solution

__all__ = [
    "FirstForce",
    "NudgedPhaseCallback",
    "Response",
    "ResponseMeans",
    "ignore_response",
    "measure_response",
    "warn_of_response",
]

FARTHER = 2.5
"""Distance, relative to the bound of a linear response, above which a nudged phase counts as having jumped. The bound holds in the
coordinates of `Duality`; in others, and with untied weights, a linear response may exceed it about twice."""


@dataclass(frozen=True)
class ResponseMeans:
    """Means of a `Response` over samples, as numbers.

    Attributes:
        free_residual: ``max |s_T - s_{T-1}|`` at the end of the free phase.
        residual: the same at the end of the nudged phases.
        distance: ``max |s^beta - s*|``.
        nudge: ``|dt beta dC/ds|``.
        steps: number of nudged steps.
        units: number of relaxing units of one sample.
        eps: relative rounding error of the states.
        plain_steps: whether every nudged step is the same map.
    """

    free_residual: float
    residual: float
    distance: float
    nudge: float
    steps: float
    units: int
    eps: float
    plain_steps: bool = True

    def longest(self) -> float:
        """Return the largest distance of a linear response from a steady state."""
        first = self.nudge + sqrt(self.units) * self.free_residual
        last = sqrt(self.units) * max(self.residual, self.eps)  # a last step of 0 has been rounded
        n = max(self.steps - 1, 1)
        if first == 0:
            return self.steps * last
        q = (last / first) ** (1 / n)
        return first * (self.steps if q == 1 else (1 - q**self.steps) / (1 - q))

    def problems(self) -> list[str]:
        """Return what is wrong and the remedy, a sentence each; nothing if the response is a small displacement."""
        if self.plain_steps and self.distance > FARTHER * self.longest() and self.distance > sqrt(self.eps):
            return [JUMPS]
        found = []
        if self.free_residual > max(self.nudge, sqrt(self.eps)):  # below it, a well-fitted batch has a nudge as small
            found.append(FREE_MOVES)
        if self.residual > max(self.distance, self.eps):
            found.append(NUDGED_MOVES)
        return found


FREE_MOVES = (
    "the free phase has not come to rest: its last step is larger than the nudge, so that EP's gradient is that of the remaining "
    "motion; take more free steps, asynchronous sweeps (`Asynchronous`), smaller weights or a larger `beta`"
)

NUDGED_MOVES = (
    "the nudged phase alternates or diverges: its last step is larger than its distance from the free state, so that EP's gradient "
    "is wrong; take asynchronous sweeps (`Asynchronous`), random signs or centred nudging, a smaller `beta`, or an odd number of "
    "nudged steps"
)

JUMPS = (
    "the nudged phase jumped: it is farther from the free state than a small nudge can move it, so that EP's gradient is wrong by "
    "as much; the free state lies at a kink of an activation or is barely stable: use a smooth activation, a larger `beta`, or "
    "smaller weights"
)


@dataclass(frozen=True, eq=False)
class Response:
    """The response of one batch to its nudges. Of several strengths, each sample has the largest value.

    Attributes:
        residual: ``max |s_K - s_{K-1}|`` over all units, of the last nudged step, ``(B,)``.
        distance: ``max |s^beta - s*|`` over all units, ``(B,)``.
        nudge: ``|dt beta dC/ds|`` at the free state, ``(B,)``: the first step that the force causes.
        free_residual: ``max |s_T - s_{T-1}|`` of the free phase, ``(B,)``.
        steps: number of nudged steps taken.
        units: number of relaxing units of one sample.
        comes_to_rest: whether the dynamics have steady states; noise and spikes do not settle.
        plain_steps: whether every nudged step is the same map. It is not where weights move meanwhile or steps are accelerated.
    """

    residual: Tensor
    distance: Tensor
    nudge: Tensor
    free_residual: Tensor
    steps: int
    units: int
    comes_to_rest: bool
    plain_steps: bool = True

    def means(self) -> ResponseMeans:
        """Return the means over the batch; waits for the device once."""
        parts = torch.stack([self.free_residual, self.residual, self.distance, self.nudge])
        eps = torch.finfo(parts.dtype).eps
        free_residual, residual, distance, nudge = parts.double().mean(1).tolist()
        return ResponseMeans(free_residual, residual, distance, nudge, self.steps, self.units, eps, self.plain_steps)

    def split(self, n: int) -> "list[Response]":
        """Return the responses of ``n`` equal parts of the batch."""
        names = ("residual", "distance", "nudge", "free_residual")
        parts = zip(*(getattr(self, name).chunk(n) for name in names), strict=True)
        return [replace(self, **dict(zip(names, part, strict=True))) for part in parts]


NudgedPhaseCallback: TypeAlias = Callable[[Response], object]
"""Called with the response to the nudge, for residuals and distances in a log."""


class FirstForce:
    """A force that keeps its first value, at the free state, so that measuring it costs no product with weights of a readout.

    Args:
        force: the force.
    """

    def __init__(self, force: Force) -> None:
        self.force, self.first = force, None

    def __call__(self, out: Tensor) -> Tensor:
        """Return the force on an output."""
        force = self.force(out)
        if self.first is None:
            self.first: Tensor | None = force.detach()
        return force


@torch.no_grad()
def measure_response(phase: Phase, free: Solution, nudged: Solution, plain_steps: bool) -> Response:
    """Return the response of nudged phases that started from one free state.

    Args:
        phase: the nudged phases, as one batch of n B samples, under a `FirstForce`.
        free: solution of the free phase, of B samples.
        nudged: solution of ``phase``.
        plain_steps: whether every step was the same map.
    """
    start, end, residual = phase.units(free.state), phase.units(nudged.state), nudged.residual
    batch = free.residual.shape[0]
    n = residual.shape[0] // batch
    distance = reduce(torch.maximum, (_distance(a, b) for a, b in zip(start, end, strict=True)))
    assert isinstance(phase.force, FirstForce)
    force = torch.zeros_like(start[-1]) if phase.force.first is None else phase.force.first[:batch]
    return Response(
        residual if n == 1 else residual.view(n, batch).amax(0),
        distance,
        force.flatten(1).norm(dim=1) * phase.dynamics.time_step(phase.network),
        free.residual,
        nudged.steps,
        sum(s[0].numel() for s in start),
        phase.dynamics.comes_to_rest,
        plain_steps,
    )


def _distance(free: Tensor, nudged: Tensor) -> Tensor:
    """Return the largest difference of each sample over its units and the n phases: ``(B,)``."""
    n = nudged.shape[0] // free.shape[0]
    change = (nudged - free if n == 1 else nudged.unflatten(0, (n, -1)) - free).abs_()
    return change.flatten(1).amax(1) if n == 1 else change.amax([0, *range(2, change.dim())])


def ignore_response(response: Response) -> None:
    """Do nothing. Estimators that are given this callback do not measure the response, which costs some small operations."""


def warn_of_response(response: Response) -> None:
    """Warn if the nudged phase is not a small displacement of a free phase at rest: the callback of those who pass none."""
    if response.comes_to_rest:
        for problem in response.means().problems():
            warn_user(problem, RuntimeWarning)

r"""A model: a network, how it moves, what it is to minimise, and how long it settles.

`Model` ties four orthogonal choices together; estimators take it and ask for nothing else. `relax` runs one phase by hand.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from eqprop.checks import nonzero, positive_int
from eqprop.costs import Cost
from eqprop.dynamics import Dynamics, Force, State
from eqprop.network import Drive, Network
from eqprop.settle import Settle, Solution, as_settle, settle

__all__ = ["Model", "relax"]


class Task(NamedTuple):
    """A batch made ready: the network's drive, the state that a free phase starts in, the encoded target."""

    drive: Drive
    start: State
    target: Tensor


class Model(nn.Module):
    """A convergent network with its dynamics and its cost.

    Args:
        network: populations and connections.
        dynamics: how they move.
        cost: of the output population.
        settle: how long ``model(x)`` settles: steps or `Settle`. Train with the same number: a network trained at
            T = 25 may not stand T = 200.

    >>> import torch, eqprop as ep
    >>> model = ep.mlp([4, 8, 3], settle=20)
    >>> model(torch.rand(5, 4)).shape
    torch.Size([5, 3])
    """

    def __init__(self, network: Network, dynamics: Dynamics, cost: Cost, settle: int | Settle = 30) -> None:
        super().__init__()
        self.network = network
        self.dynamics = dynamics
        self.cost = cost
        self.settle = as_settle("settle", settle)
        cost.width(network.populations[-1].shape)  # a readout that does not fit says so now

    def forward(self, x: Tensor) -> Tensor:
        """Settle from zero and predict: scores ``(B, n)``, whose largest is the class. No gradient is recorded.

        Raises:
            ValueError: if ``x`` does not fit the input population.
            FloatingPointError: if the input, a weight or a state is not finite.
        """
        with torch.no_grad():
            return self.cost.predict(self._settle_freely(x).state[-1])

    def energy(self, state: State, x: Tensor) -> Tensor:
        """Energy of each sample in that state under the input ``x``: ``(B,)``. The free dynamics settle where it is stationary."""
        return self.dynamics.energy(self.network, state, self.network.check_input(x))

    def pose(self, x: Tensor, y: Tensor) -> Task:
        """Check a batch and compute, once, what all of its phases share.

        Raises:
            ValueError: if ``x`` or ``y`` does not fit.
        """
        start = self.dynamics.init(self.network, self.network.check_input(x))
        target = self.cost.encode(y, start[-1])
        return Task(self.dynamics.prepare(self.network, x), start, target)

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, nn.Parameter]]:
        """Input-first, weight then bias for each connection; then feedback weights; then those of a readout."""
        named = super().named_parameters(prefix, recurse, remove_duplicate)
        start = f"{prefix}.network." if prefix else "network."
        yield from sorted(named, key=lambda pair: (not pair[0].startswith(start), pair[0].endswith(".feedback")))

    def _settle_freely(self, x: Tensor) -> Solution:
        start = self.dynamics.init(self.network, self.network.check_input(x))
        return settle(self.network, self.dynamics, self.dynamics.prepare(self.network, x), start, self.settle)


def relax(
    model: Model,
    x: Tensor,
    steps: int | Settle,
    y: Tensor | None = None,
    beta: float = 0.0,
    state: State | None = None,
    trajectory: bool = False,
    average: int = 1,
) -> Solution:
    """Run one phase: free, or nudged by ``-beta dC/ds^L`` if a target is given.

    Args:
        model: what to settle.
        x: input, ``(B, *shape)``.
        steps: number of steps, or `Settle`.
        y: target, ``(B,)`` classes or ``(B, n)`` floats.
        beta: nudging strength; needs ``y``.
        state: where to start; zero if left out.
        trajectory: keep every state in the solution.
        average: number of last steps over which the solution's activity is averaged.

    Raises:
        ValueError: if an argument does not fit, or the dynamics do not bear ``beta``.
        FloatingPointError: if the input, a weight or a state is not finite.

    >>> import torch, eqprop as ep
    >>> solution = relax(ep.mlp([4, 8, 3]), torch.rand(5, 4), steps=20)
    >>> solution.steps, solution.residual.shape
    (20, torch.Size([5]))
    """
    if beta != 0:
        model.dynamics.admit(nonzero("beta", beta))
    steps, average = as_settle("steps", steps), positive_int("average", average)
    with torch.no_grad():
        start = model.dynamics.init(model.network, model.network.check_input(x))
        force = None if beta == 0 else nudging_force(model.cost, start[-1], y, beta)
        drive = model.dynamics.prepare(model.network, x)
        first = start if state is None else check_state(state, start)
        return settle(
            model.network, model.dynamics, drive, first, steps, force=force, trajectory=trajectory, average=average
        )


def nudging_force(cost: Cost, out: Tensor, y: Tensor | None, beta: float) -> Force:
    """``-beta dC/ds^L``, after a check of the target."""
    if y is None:
        raise ValueError(f"`beta` is {beta!r}, but there is no target to be nudged to: give `y`")
    target = cost.encode(y, out)
    return lambda out: beta * cost.force(out, target)


def check_state(state: State, like: State) -> State:
    """``state``, if it has the shapes of ``like``."""
    if [s.shape for s in state] != [s.shape for s in like]:
        raise ValueError(f"`state` must hold {[tuple(s.shape) for s in like]}, got {[tuple(s.shape) for s in state]}")
    return state

r"""A model: a network, how it moves, what it is to minimise, and how long it settles.

`Model` ties four orthogonal choices together; estimators take it and ask for nothing else. `relax` runs one phase by hand.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple
from warnings import warn

import torch
from torch import Tensor, nn

from eqprop._core.checks import instance, nonzero
from eqprop._core.state import State, iter_tensors
from eqprop.costs import Cost
from eqprop.dynamics.base import Dynamics, Force
from eqprop.network import Drive, Network
from eqprop.solvers.settle import Settle, Solution, as_settle, init_phase, settle

__all__ = ["Model", "relax"]


class PreparedBatch(NamedTuple):
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

    Raises:
        ValueError: if the parts do not fit each other.

    >>> import torch, eqprop as ep
    >>> model = ep.mlp([4, 8, 3], settle=20)
    >>> model(torch.rand(5, 4)).shape
    torch.Size([5, 3])
    """

    def __init__(self, network: Network, dynamics: Dynamics, cost: Cost, settle: int | Settle = 30) -> None:
        super().__init__()
        self.network = instance("network", network, Network)
        self.dynamics = instance("dynamics", dynamics, Dynamics)
        self.cost = instance("cost", cost, Cost)
        self.settle = as_settle("settle", settle)
        cost.width(network.populations[-1].shape)  # a readout that does not fit says so now
        dynamics.check_network(network)
        self.settle.admit(network, dynamics)

    def forward(self, x: Tensor) -> Tensor:
        """Settle from zero and predict: scores ``(B, n)``, whose largest is the class. No gradient is recorded.

        Raises:
            ValueError: if ``x`` does not fit the input population.
            FloatingPointError: if the input, a weight or a state is not finite.
        """
        with torch.inference_mode(False), torch.no_grad():
            drive, start = init_phase(self.network, self.dynamics, x)
            return self.cost.predict(settle(self.network, self.dynamics, drive, start, self.settle).output)

    def rate_model(self) -> "Model":
        """Return the model of the same network and cost with `Dynamics.differentiable_equivalent` as its dynamics; often itself."""
        smooth = self.dynamics.differentiable_equivalent()
        return self if smooth is self.dynamics else Model(self.network, smooth, self.cost, self.settle)

    def twin(self) -> "Model":
        """Deprecated alias of `rate_model`."""
        warn("`Model.twin` was renamed: call `Model.rate_model`", DeprecationWarning, stacklevel=2)
        return self.rate_model()

    def energy(self, state: State, x: Tensor) -> Tensor:
        """Energy of each sample in that state under the input ``x``: ``(B,)``. The free dynamics settle where it is stationary."""
        x = self.network.check_input(x)
        return self.dynamics.energy(self.network, check_state(state, self.dynamics.init(self.network, x)), x)

    def prepare_batch(self, x: Tensor, y: Tensor) -> PreparedBatch:
        """Check a batch and compute, once, what all of its phases share.

        Raises:
            ValueError: if ``x`` or ``y`` does not fit.
        """
        drive, start = init_phase(self.network, self.dynamics, x)
        return PreparedBatch(drive, start, self.cost.encode(y, self.dynamics.units(start)[-1]))

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, nn.Parameter]]:
        """Input-first, weight then bias for each connection; then feedback weights; then those of a readout."""
        named = super().named_parameters(prefix, recurse, remove_duplicate)
        start = f"{prefix}.network." if prefix else "network."
        yield from sorted(named, key=lambda pair: (not pair[0].startswith(start), pair[0].endswith(".feedback")))


def relax(
    model: Model,
    x: Tensor,
    steps: int | Settle,
    y: Tensor | None = None,
    beta: float = 0.0,
    state: State | None = None,
    trajectory: bool = False,
    on_step: Callable[[State], object] | None = None,
) -> Solution:
    """Run one phase: free, or nudged by ``-beta dC/ds^L`` if ``beta`` is not zero.

    Args:
        model: what to settle.
        x: input, ``(B, *shape)``.
        steps: number of steps, or `Settle`.
        y: target, ``(B,)`` classes or ``(B, n)`` floats.
        beta: nudging strength; needs ``y``.
        state: where to start; zero if left out.
        trajectory: keep every state in the solution.
        see: is shown the state after every step.

    Raises:
        ValueError: if an argument does not fit, or the dynamics do not bear ``beta``.
        FloatingPointError: if the input, a weight or a state is not finite.

    >>> import torch, eqprop as ep
    >>> solution = relax(ep.mlp([4, 8, 3]), torch.rand(5, 4), steps=20)
    >>> solution.steps, solution.residual.shape
    (20, torch.Size([5]))
    """
    if beta != 0:
        model.dynamics.check_beta(nonzero("beta", beta))
    steps = as_settle("steps", steps)
    with torch.inference_mode(False), torch.no_grad():
        drive, start = init_phase(model.network, model.dynamics, x)
        force = nudging_force(model.cost, model.dynamics.units(start)[-1], y, beta)
        first = start if state is None else check_state(state, start)
        return settle(
            model.network, model.dynamics, drive, first, steps, force=force, trajectory=trajectory, on_step=on_step
        )


def nudging_force(cost: Cost, out: Tensor, y: Tensor | None, beta: float) -> Force | None:
    """``-beta dC/ds^L``, after a check of the target; None without a nudge."""
    if y is None and beta != 0:
        raise ValueError(f"`beta` is {beta!r}, but there is no target to be nudged to: give `y`")
    target = None if y is None else cost.encode(y, out)
    return None if target is None or beta == 0 else cost.nudging_force(target, beta)


def check_state(state: State, like: State) -> State:
    """``state``, if it has the shapes, the kind and the device of ``like``, and is of the same dynamics."""
    if hasattr(like, "_fields") and type(state) is not type(like):
        raise ValueError(
            f"`state` must be a {type(like).__name__}, such as that of a solution, got a {type(state).__name__}"
        )
    got, wanted = ([(tuple(s.shape), s.dtype, s.device) for s in iter_tensors(one)] for one in (state, like))
    if got != wanted:
        brief = (", ".join(f"{shape} {dtype}" for shape, dtype, _ in facts) for facts in (wanted, got))
        raise ValueError("`state` must hold {}, got {}".format(*brief))
    return state

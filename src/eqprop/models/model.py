r"""A model: a network, its dynamics, a cost of its output, and how long it settles.

Estimators take a `Model` and nothing else. `relax` runs one phase by hand.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple
from warnings import warn

import torch
from torch import Tensor, nn

from eqprop._core.checks import ArgumentError, boolean, finite, function, instance
from eqprop._core.customized import is_customized, replaced_method
from eqprop._core.state import State, iter_tensors
from eqprop._core.tensors import check_hooks, check_uniform
from eqprop.costs import Cost, broken_cost_law
from eqprop.dynamics.base import Dynamics, Force
from eqprop.models.nudge import check_precision, check_stability, dtype_of, warn_if_imprecise
from eqprop.network import Network
from eqprop.solvers.phase import Phase, init_phase
from eqprop.solvers.settle import Settle, Solution, as_settle, settle

__all__ = ["Model", "PreparedBatch", "relax"]


class PreparedBatch(NamedTuple):
    """What all phases on one batch share.

    Attributes:
        phase: the free phase under the batch's input.
        start: the state that it starts from.
        target: the encoded target, as the cost takes it.
    """

    phase: Phase
    start: State
    target: Tensor


class Model(nn.Module):
    """A convergent network with its dynamics and its cost.

    Args:
        network: populations and connections.
        dynamics: how the populations move.
        cost: cost of the output population.
        settle: how long ``model(x)`` settles: steps or `Settle`. Use as many steps as in training; accuracy can drop with many
            more.

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
        cost.width(network.populations[-1].shape)  # raises if a readout does not fit
        self._check_cost()
        dynamics.check_network(network)
        self.settle.check_dynamics(network, dynamics)

    def forward(self, x: Tensor) -> Tensor:
        """Settle from zero and predict, without recording a gradient.

        Args:
            x: input, ``(B, *shape)``.

        Returns:
            Scores ``(B, n)``; the largest is that of the predicted class.

        Raises:
            ValueError: if ``x`` does not fit the input population.
            FloatingPointError: if the input, a weight or a state is not finite.
        """
        with torch.inference_mode(False), torch.no_grad():
            phase, start = init_phase(self.network, self.dynamics, x)
            self._check_readout(phase.drive.input)
            return self.cost.predict(settle(phase, start, self.settle).output)

    def _check_readout(self, like: Tensor) -> None:
        """Check a cost with weights, as `Network.check_input` checks the network."""
        if isinstance(self.cost, nn.Module):
            check_hooks("cost", self.cost)
            check_uniform("cost", self.cost, like)

    def _check_cost(self) -> None:
        if name := replaced_method(self.cost, Cost):
            raise ArgumentError("cost", f"`{name}` of `cost` was replaced on the object: override it in a subclass")
        like = next(self.parameters(), torch.zeros(()))
        if not is_customized(self.cost, Cost) or like.is_meta:
            return
        for candidate in (like, like.double()):
            try:
                fault = broken_cost_law(self.cost, self.network.populations[-1].shape, candidate)
            except (
                RuntimeError,
                TypeError,
                ValueError,
            ):  # tensors of a later dtype or device, or targets of another layout
                continue
            if fault:
                raise ArgumentError("cost", f"{type(self.cost).__name__} contradicts itself: {fault}")
            return

    def rate_model(self) -> "Model":
        """Return the model of the same network and cost with `Dynamics.differentiable_equivalent` as its dynamics.

        This is the model itself, unless it spikes.
        """
        rates = self.dynamics.differentiable_equivalent()
        return self if rates is self.dynamics else Model(self.network, rates, self.cost, self.settle)

    def twin(self) -> "Model":
        """Deprecated alias of `rate_model`."""
        warn("`Model.twin` was renamed: call `Model.rate_model`", DeprecationWarning, stacklevel=2)
        return self.rate_model()

    def energy(self, state: State, x: Tensor) -> Tensor:
        """Return the energy ``(B,)`` of each sample in ``state`` under the input ``x``; it is stationary at free steady states."""
        x = self.network.check_input(x)
        return self.dynamics.energy(self.network, check_state(state, self.dynamics.init(self.network, x)), x)

    def prepare_batch(self, x: Tensor, y: Tensor) -> PreparedBatch:
        """Check a batch and compute what its phases share.

        Args:
            x: input, ``(B, *shape)``.
            y: target, ``(B,)`` classes or ``(B, n)`` floats.

        Raises:
            ValueError: if ``x`` or ``y`` does not fit.
        """
        phase, start = init_phase(self.network, self.dynamics, x)
        self._check_readout(phase.drive.input)
        return PreparedBatch(phase, start, self.cost.encode(y, phase.units(start)[-1]))

    def check_beta(self, beta: float, *, both_signs: bool = False, warn: bool = True) -> None:
        """Check that EP can estimate gradients at a nudging strength: in the weights' precision, and that nudged phases settle.

        Args:
            beta: nudging strength.
            both_signs: whether there are phases at -beta too.
            warn: whether to warn of digits that rounding takes, and of an output's feedback at which only some networks settle.

        Raises:
            ArgumentError: if the estimate would mean nothing, or the dynamics are unstable at this ``beta``.
        """
        dtype = dtype_of(self.network)
        check_precision(beta, dtype)
        check_stability(self.dynamics, self.network, self.cost, beta, both_signs=both_signs, warn=warn)
        if warn:
            warn_if_imprecise(beta, dtype)

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield names and parameters: input-first, weight then bias of each connection; feedback weights; those of a readout."""
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
    *,
    see: Callable[[State], object] | None = None,
) -> Solution:
    """Run one phase: free, or nudged by ``-beta dC/ds^L`` if ``beta`` is not zero.

    Args:
        model: the model to settle.
        x: input, ``(B, *shape)``.
        steps: number of steps, or `Settle`.
        y: target, ``(B,)`` classes or ``(B, n)`` floats.
        beta: nudging strength; needs ``y``.
        state: where to start; the initial state of the dynamics if left out.
        trajectory: keep every state in the solution.
        on_step: called with the state after every step.
        see: deprecated name of ``on_step``.

    Raises:
        ValueError: if an argument does not fit, or the dynamics are unstable at this ``beta``.
        FloatingPointError: if the input, a weight or a state is not finite.

    >>> import torch, eqprop as ep
    >>> solution = relax(ep.mlp([4, 8, 3]), torch.rand(5, 4), steps=20)
    >>> solution.steps, solution.residual.shape
    (20, torch.Size([5]))
    """
    if see is not None:
        warn("`see` was renamed: pass `on_step`", DeprecationWarning, stacklevel=2)
        on_step = on_step or see
    instance("model", model, Model)
    boolean("trajectory", trajectory)
    if on_step is not None:
        function("on_step", on_step)
    if finite("beta", beta) != 0:
        check_stability(model.dynamics, model.network, model.cost, beta)
    steps = as_settle("steps", steps)
    with torch.inference_mode(False), torch.no_grad():
        phase, start = init_phase(model.network, model.dynamics, x)
        force = _nudging_force(model.cost, phase.units(start)[-1], y, beta)
        start = start if state is None else check_state(state, start)
        return settle(phase.nudged(force), start, steps, trajectory=trajectory, on_step=on_step)


def _nudging_force(cost: Cost, out: Tensor, y: Tensor | None, beta: float) -> Force | None:
    if y is None and beta != 0:
        raise ArgumentError("y", f"`beta` is {beta!r}, but there is no target: give `y`")
    target = None if y is None else cost.encode(y, out)
    return None if target is None or beta == 0 else cost.nudging_force(target, beta)


def check_state(state: State, like: State) -> State:
    """Return ``state`` if its shapes, dtypes, devices and kind of state are those of ``like``; raise ValueError otherwise."""
    if hasattr(like, "_fields") and type(state) is not type(like):
        expected, got = type(like).__name__, type(state).__name__
        raise ArgumentError("state", f"`state` must be a {expected}, such as that of a solution, got a {got}")
    if not isinstance(state, tuple | list) or not all(
        isinstance(s, Tensor | tuple | list | int | float) for s in state
    ):
        raise ArgumentError(
            "state", f"`state` must be that of a solution, got an object of class {type(state).__name__}"
        )
    got, expected = ([(tuple(s.shape), s.dtype, s.device) for s in iter_tensors(one)] for one in (state, like))
    if got != expected:
        brief = (", ".join(f"{shape} {dtype}" for shape, dtype, _ in facts) for facts in (expected, got))
        raise ArgumentError("state", "`state` must hold {}, got {}".format(*brief))
    return state

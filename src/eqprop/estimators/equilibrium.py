r"""An EP block inside an ordinary network: autograd outside, Equilibrium Propagation inside.

Forward, the block settles to ``s*`` under its input ``x`` and returns the output population's state. Backward, the cotangent
``g = dL/ds^L`` takes the place of a cost's gradient: the block settles again under the constant forces ``-beta g`` and
``+beta g``, and the contrast of the two states gives both ``dL/dtheta`` and ``dL/dx = dPhi/dx``.

The size of ``g`` depends on the outer loss, but the effect of beta must not: ``g`` is divided by the root mean square over the
batch of its samples' norms, and the gradients are multiplied by it.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from eqprop._core.checks import instance, nudging_strength, one_of
from eqprop.dynamics.base import Dynamics, Force
from eqprop.estimators.ep import NUDGINGS, Nudging, nudging_strengths, settle_nudged
from eqprop.estimators.response import warn_of_response
from eqprop.models.nudge import check_precision, dtype_of, warn_if_imprecise
from eqprop.network import Network
from eqprop.solvers.phase import Phase, init_phase
from eqprop.solvers.settle import Settle, Solution, as_settle, settle

__all__ = ["Equilibrium"]


class Equilibrium(nn.Module):
    """A convergent network as a layer: ``(B, *input_shape) -> (B, *output_shape)``.

    The gradients of its parameters and of its input are EP's; differentiating them again raises RuntimeError.

    Args:
        network: populations and connections.
        dynamics: how the populations move; `Prototypical(nudge="inside")` or `EnergyDescent` give the exact limit.
        free_steps: length of the free phase: steps or `Settle`.
        nudged_steps: length of the nudged phases: steps or `Settle`.
        beta: nudging strength, for cotangents of unit size.
        nudging: "centred", "one-sided" or "random-sign".

    Raises:
        ValueError: if ``beta`` is zero or not finite or makes the dynamics unstable, a number of steps is not a positive
            whole number, ``nudging`` is unknown, or a schedule does not apply to the dynamics; on a call, if the input does not
            fit.
        FloatingPointError: on a call, if the input, a weight or a state is not finite.

    >>> import torch, eqprop as ep
    >>> network = ep.mlp([8, 16, 4], activation="tanh").network
    >>> block = Equilibrium(network, ep.Prototypical(nudge="inside"), free_steps=30, nudged_steps=10, beta=0.1)
    >>> torch.nn.Sequential(torch.nn.Linear(3, 8), block, torch.nn.Linear(4, 2))(torch.rand(5, 3)).shape
    torch.Size([5, 2])
    """

    def __init__(
        self,
        network: Network,
        dynamics: Dynamics,
        free_steps: int | Settle,
        nudged_steps: int | Settle,
        beta: float,
        nudging: Nudging = "centred",
    ) -> None:
        super().__init__()
        self.network = instance("network", network, Network)
        self.dynamics = instance("dynamics", dynamics, Dynamics)
        self.free_steps = as_settle("free_steps", free_steps)
        self.nudged_steps = as_settle("nudged_steps", nudged_steps)
        self.beta = nudging_strength("beta", beta)
        self.nudging: Nudging = one_of("nudging", nudging, NUDGINGS)
        dynamics.check_network(network)
        dynamics.check_beta(self.beta)
        for steps in (self.free_steps, self.nudged_steps):
            steps.check_dynamics(network, dynamics)

    def forward(self, x: Tensor) -> Tensor:
        """Return the steady state of the output population, ``(B, *output_shape)``."""
        check_precision(self.beta, dtype_of(self.network))
        warn_if_imprecise(self.beta, dtype_of(self.network))
        if torch.is_autocast_enabled(x.device.type):  # autocast lowers the precision of x; the block keeps its own
            x = x.to(next(self.network.parameters(), x).dtype)
        return _Bridge.apply(self, x, *self.network.parameters())  # type: ignore[no-any-return]

    def solve(self, x: Tensor) -> tuple[Phase, Solution]:
        """Run the free phase under ``x``; return it and its solution."""
        with torch.inference_mode(False), torch.no_grad():
            phase, start = init_phase(self.network, self.dynamics, x)
            return phase, settle(phase, start, self.free_steps)

    def gradients(self, x: Tensor, phase: Phase, free: Solution, cotangent: Tensor) -> Iterator[Tensor | None]:
        """Yield EP's gradients with respect to ``x`` (None if it requires none) and to every parameter."""
        size, force = _normalize(-cotangent)
        betas = nudging_strengths(self.nudging, self.beta, None)
        forces = torch.cat([force] * len(betas))
        contrast = settle_nudged(
            phase, free, self.nudged_steps, betas, lambda beta: _constant(beta * forces), warn_of_response
        )
        leaf = x.detach().requires_grad_(x.requires_grad)
        with torch.enable_grad():
            surrogate = self.network.contrast(self.dynamics.encode(self.network, leaf), *contrast)
        wanted = [p for p in (leaf, *self.network.parameters()) if p.requires_grad]
        found = torch.autograd.grad(surrogate, wanted, allow_unused=True) if wanted else ()
        scaled = iter([None if g is None else g * (size * x.shape[0]) for g in found])
        return (next(scaled) if p.requires_grad else None for p in (leaf, *self.network.parameters()))


class _Bridge(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, block: Equilibrium, x: Tensor, *parameters: Tensor) -> Tensor:
        phase, free = block.solve(x)
        ctx.save_for_backward(x, *parameters)  # autograd then refuses a backward after they were changed in place
        ctx.block, ctx.phase, ctx.free = block, phase, free
        return free.output.clone()  # a copy: the free state must survive in-place changes of the output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, *parameters = ctx.saved_tensors
        if [p.data_ptr() for p in parameters] != [p.data_ptr() for p in ctx.block.network.parameters()]:
            raise RuntimeError(
                "the parameters of an Equilibrium were replaced between its forward and its backward: run forward again"
            )
        return None, *ctx.block.gradients(x, ctx.phase, ctx.free, cotangents[0])


def _constant(force: Tensor) -> Force:
    return lambda _: force


def _normalize(cotangent: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``(size, cotangent / size)``: size is the root mean square of the samples' norms, or 1 if all are zero."""
    largest = cotangent.abs().amax()
    scale = torch.where(largest > 0, largest, torch.ones_like(largest))  # first, so that no square underflows
    rms = (cotangent / scale).flatten(1).square().sum(1).mean().sqrt()
    size = scale * torch.where(rms > 0, rms, torch.ones_like(rms))
    return size, cotangent / size

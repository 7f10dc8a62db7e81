r"""An EP block inside an ordinary network: autograd outside, Equilibrium Propagation inside.

Forward, the block settles to ``s*`` under its input ``x`` and returns the output population's state. Backward, the cotangent
``g = dL/ds^L`` takes the place of a cost's gradient: the block settles again under the constant forces ``-beta g`` and
``+beta g``, and the contrast of the two states gives ``dL/dtheta`` and ``dL/dx = dPhi/dx`` alike.

How large ``g`` is, is the outer loss's affair, and what beta means must not hang on it: ``g`` is divided by the root mean square
over the batch of its samples' norms, and the gradients are multiplied back.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from eqprop._core.checks import instance, nonzero, one_of
from eqprop.dynamics.base import Dynamics, Force
from eqprop.estimators.ep import NUDGINGS, Nudging, nudging_strengths, settle_nudged
from eqprop.network import Drive, Network
from eqprop.solvers.settle import Settle, Solution, as_settle, init_phase, settle

__all__ = ["Equilibrium"]


class Equilibrium(nn.Module):
    """A convergent network as a layer: ``(B, *input_shape) -> (B, *output_shape)``.

    Gradients of its parameters and of its input are EP's; a second backward through them raises RuntimeError.

    Args:
        network: populations and connections.
        dynamics: how they move; `Prototypical(nudge="inside")` or `EnergyDescent` give the exact limit.
        free_steps: length of the free phase: steps or `Settle`.
        nudged_steps: length of the nudged phases: steps or `Settle`.
        beta: nudging strength, for cotangents of unit size.
        nudging: "centred", "one-sided" or "random-sign".

    Raises:
        ValueError: if ``beta`` is zero or not finite or the dynamics do not bear it, a number of steps is not a positive
            whole number, ``nudging`` is unknown, or a schedule cannot move the network by these dynamics; on a call, if the
            input does not fit.
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
        self.beta = nonzero("beta", beta)
        self.nudging: Nudging = one_of("nudging", nudging, NUDGINGS)
        dynamics.check_network(network)
        dynamics.check_beta(self.beta)
        for steps in (self.free_steps, self.nudged_steps):
            steps.admit(network, dynamics)

    def forward(self, x: Tensor) -> Tensor:
        """The output population's steady state."""
        if torch.is_autocast_enabled(x.device.type):  # which lowers what comes in; the block keeps its precision
            x = x.to(next(self.network.parameters(), x).dtype)
        return _Bridge.apply(self, x, *self.network.parameters())  # type: ignore[no-any-return]

    def solve(self, x: Tensor) -> tuple[Drive, Solution]:
        """The free phase."""
        with torch.inference_mode(False), torch.no_grad():
            drive, start = init_phase(self.network, self.dynamics, x)
            return drive, settle(self.network, self.dynamics, drive, start, self.free_steps)

    def gradients(self, x: Tensor, drive: Drive, free: Solution, cotangent: Tensor) -> Iterator[Tensor | None]:
        """EP's gradients with respect to ``x`` (None if it wants none) and to every parameter."""
        size, pull = unit(-cotangent)
        betas = nudging_strengths(self.nudging, self.beta, None)
        pulls = torch.cat([pull] * len(betas))
        pair = settle_nudged(
            self.network, self.dynamics, drive, free, self.nudged_steps, betas, lambda beta: steady(beta * pulls)
        )
        leaf = x.detach().requires_grad_(x.requires_grad)
        with torch.enable_grad():
            surrogate = self.network.contrast(self.dynamics.encode(self.network, leaf), free.activity, *pair)
        wanted = [p for p in (leaf, *self.network.parameters()) if p.requires_grad]
        found = torch.autograd.grad(surrogate, wanted, allow_unused=True) if wanted else ()
        scaled = iter([None if g is None else g * (size * x.shape[0]) for g in found])
        return (next(scaled) if p.requires_grad else None for p in (leaf, *self.network.parameters()))


def steady(force: Tensor) -> Force:
    """A force that does not hang on the state."""
    return lambda _: force


class _Bridge(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, block: Equilibrium, x: Tensor, *parameters: Tensor) -> Tensor:
        drive, free = block.solve(x)
        ctx.save_for_backward(x, *parameters)  # autograd then refuses a backward after they were changed in place
        ctx.block, ctx.drive, ctx.free = block, drive, free
        return free.output.clone()  # the caller's own: the free state must outlive whatever is done to the output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, *parameters = ctx.saved_tensors
        if [p.data_ptr() for p in parameters] != [p.data_ptr() for p in ctx.block.network.parameters()]:
            raise RuntimeError("the parameters of an Equilibrium were exchanged between its forward and its backward")
        return None, *ctx.block.gradients(x, ctx.drive, ctx.free, cotangents[0])


def unit(cotangent: Tensor) -> tuple[Tensor, Tensor]:
    """``(size, cotangent / size)``, the size being the root mean square of the samples' norms; 1 if all are zero."""
    largest = cotangent.abs().amax()
    scale = torch.where(largest > 0, largest, torch.ones_like(largest))  # first, so that no square can underflow
    rms = (cotangent / scale).flatten(1).square().sum(1).mean().sqrt()
    size = scale * torch.where(rms > 0, rms, torch.ones_like(rms))
    return size, cotangent / size

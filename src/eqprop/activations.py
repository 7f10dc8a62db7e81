r"""Activation functions, with what convergent dynamics need of them.

A population with pre-activation ``u`` has activity ``rho(u)``. Three more facts about ``rho`` are used:

- its derivative ``rho'(u)``: energy-based dynamics descend along it;
- a potential ``G`` with ``G'(s) = rho^{-1}(s)``: it makes the prototypical dynamics ``s <- rho(dPhi/ds)`` a fixed-point
  iteration on the energy ``E(s) = sum G(s) - Phi(s)``;
- an affine part, ``rho(u) = unit(gain * u + shift)``: the settling loop folds ``gain`` and ``shift`` into what it
  computes anyway, so that a step calls ``unit`` alone.

The ``sigmoid`` of Ernoult et al. (2019) is ``1 / (1 + exp(-4 (u - 1/2)))``, *not* ``torch.sigmoid``; the ``wide_hard_sigmoid`` of
Laborieux et al. (2021) is ``clamp(u / 2, 0, 1)``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches

import torch
from torch import Tensor

__all__ = ["Activation"]


@dataclass(frozen=True)
class Activation:
    """An elementwise activation ``rho(u) = unit(gain * u + shift)``.

    A user's own needs only ``unit``; the derivative is then taken by autograd.

    Args:
        unit: elementwise function of a tensor of any shape.
        gain: slope of the affine part.
        shift: offset of the affine part.
        slope: the exact ``rho'`` as a function of ``u`` and of ``rho(u)``, which the caller often has already; autograd
            where it is left out.
        potential: ``G`` with ``G' = rho^{-1}``, where rho increases, as a function of ``s = rho(u)``; only the energy
            of prototypical dynamics needs it.
        name: what ``repr`` and messages call it.
        overwrite: `unit` again, but free to write its result over its argument; the settling loop prefers it.
        lowest: no activity is below it. Max pooling needs one that is never negative above it.

    >>> import torch
    >>> Activation(torch.sin, name="sine").derivative(torch.zeros(2))
    tensor([1., 1.])
    """

    unit: Callable[[Tensor], Tensor]
    gain: float = 1.0
    shift: float = 0.0
    slope: Callable[[Tensor, Tensor], Tensor] | None = None
    potential: Callable[[Tensor], Tensor] | None = None
    name: str = "custom"
    overwrite: Callable[[Tensor], Tensor] | None = None
    lowest: float = float("-inf")

    def __repr__(self) -> str:
        return f"Activation({self.name!r})"

    def rho(self, u: Tensor) -> Tensor:
        """Activity of the pre-activation ``u``; same shape."""
        return self.unit(u if (self.gain, self.shift) == (1.0, 0.0) else self.gain * u + self.shift)

    def apply_inplace(self, v: Tensor) -> Tensor:
        """``unit(v)`` for a ``v`` that nobody else holds: it may be overwritten."""
        return self.unit(v) if self.overwrite is None else self.overwrite(v)

    def derivative(self, u: Tensor, activity: Tensor | None = None) -> Tensor:
        """``rho'(u)``; same shape. Saves work if ``activity = rho(u)`` is given. Differentiable where gradients are on."""
        if self.slope is not None:
            return self.slope(u, self.rho(u) if activity is None else activity)
        differentiable = torch.is_grad_enabled() and u.requires_grad
        with torch.enable_grad():
            leaf = u if differentiable else u.detach().requires_grad_()
            (slope,) = torch.autograd.grad(
                self.rho(leaf).sum(), leaf, create_graph=differentiable, allow_unused=True, materialize_grads=True
            )
        return slope


def _identity(u: Tensor) -> Tensor:
    return u


def _clamp_1(u: Tensor) -> Tensor:
    return u.clamp(0, 1)


def _clamp_1_(u: Tensor) -> Tensor:
    return u.clamp_(0, 1)


def _clamp_6(u: Tensor) -> Tensor:
    return u.clamp(0, 6)


def _logistic_slope(u: Tensor, r: Tensor) -> Tensor:
    return 4 * r * (1 - r)


def _logistic_potential(s: Tensor) -> Tensor:
    # rho^{-1}(s) = 1/2 + logit(s) / 4
    return s / 2 + (torch.xlogy(s, s) + torch.xlogy(1 - s, 1 - s)) / 4


def _hard_slope(u: Tensor, r: Tensor) -> Tensor:
    # 1 on the *closed* interval: a unit at rest at 0 must be able to leave it.
    return ((u >= 0) & (u <= 1)).to(u.dtype)


def _wide_slope(u: Tensor, r: Tensor) -> Tensor:
    return ((u >= 0) & (u <= 2)).to(u.dtype) / 2


def _square(s: Tensor) -> Tensor:
    # rho^{-1}(s) = 2 s
    return s * s


def _relu6_slope(u: Tensor, r: Tensor) -> Tensor:
    return ((u >= 0) & (u <= 6)).to(u.dtype)


def _tanh_slope(u: Tensor, r: Tensor) -> Tensor:
    return 1 - r * r


def _tanh_potential(s: Tensor) -> Tensor:
    # The integral of artanh.
    return (torch.xlogy(1 + s, 1 + s) + torch.xlogy(1 - s, 1 - s)) / 2


def _one(u: Tensor, r: Tensor) -> Tensor:
    return torch.ones_like(u)


def _half_square(s: Tensor) -> Tensor:
    return s * s / 2


NAMED = {
    "sigmoid": Activation(
        torch.sigmoid, 4.0, -2.0, _logistic_slope, _logistic_potential, "sigmoid", torch.sigmoid_, lowest=0.0
    ),
    "hard_sigmoid": Activation(
        _clamp_1, slope=_hard_slope, potential=_half_square, name="hard_sigmoid", overwrite=_clamp_1_, lowest=0.0
    ),
    "wide_hard_sigmoid": Activation(
        _clamp_1, 0.5, slope=_wide_slope, potential=_square, name="wide_hard_sigmoid", lowest=0.0
    ),
    "tanh": Activation(
        torch.tanh, slope=_tanh_slope, potential=_tanh_potential, name="tanh", overwrite=torch.tanh_, lowest=-1.0
    ),
    "relu6": Activation(_clamp_6, slope=_relu6_slope, potential=_half_square, name="relu6", lowest=0.0),
    "identity": Activation(_identity, slope=_one, potential=_half_square, name="identity"),
}


def as_activation(activation: "str | Activation") -> Activation:
    """The activation of that name, or the object itself.

    Raises:
        ValueError: if there is no activation of that name.
    """
    if isinstance(activation, Activation):
        return activation
    if isinstance(activation, str) and activation in NAMED:
        return NAMED[activation]
    close = get_close_matches(str(activation), NAMED, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(NAMED)}; or give an `Activation`"
    raise ValueError(f"`activation` {activation!r} is unknown: {hint}")

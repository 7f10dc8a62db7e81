r"""Activation functions and the properties of them that convergent dynamics use.

A population with pre-activation ``u`` has the activity ``rho(u)``. Besides ``rho`` itself, an `Activation` gives

- the derivative ``rho'(u)``, which energy-based dynamics need;
- a potential ``G`` with ``G'(s) = rho^{-1}(s)``. With it, the prototypical dynamics ``s <- rho(dPhi/ds)`` are a fixed-point
  iteration for the stationary points of the energy ``E(s) = sum G(s) - Phi(s)``;
- an affine part, ``rho(u) = unit(gain * u + shift)``. The settling loop folds ``gain`` and ``shift`` into the matrix products, so
  that a step only calls ``unit``.

The ``sigmoid`` of Ernoult et al. (2019) is ``1 / (1 + exp(-4 (u - 1/2)))``, *not* ``torch.sigmoid``. The ``wide_hard_sigmoid`` of
Laborieux et al. (2021) is ``clamp(u / 2, 0, 1)``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from typing import Any, final

import torch
from torch import Tensor

from eqprop._core.checks import ArgumentError, describe_value, finite, function, instance
from eqprop._core.customized import tensors_agree
from eqprop._core.warn import warn_user

__all__ = ["ACTIVATIONS", "Activation", "as_activation", "find_clipped", "steepest_slope"]


@final
@dataclass(frozen=True)
class Activation:
    """An elementwise activation ``rho(u) = unit(gain * u + shift)``.

    A custom activation needs only ``unit``; autograd then computes its derivative. The other functions describe the same ``rho``,
    which is checked at a few points.

    Args:
        unit: elementwise function of a tensor of any shape.
        gain: slope of the affine part.
        shift: offset of the affine part.
        slope: the exact derivative ``rho'`` as a function of ``u`` and ``rho(u)``. Computed by autograd if None.
        potential: ``G`` with ``G' = rho^{-1}``, as a function of ``s = rho(u)``, for an increasing ``rho``. Needed by the energy of
            prototypical dynamics and by asynchronous schedules.
        name: name for ``repr`` and error messages.
        overwrite: in-place version of ``unit``; it may write the result to its argument.
        lowest: lower bound of the activity. A population above a max pooling must have one of at least 0.

    Raises:
        ArgumentError: if ``unit`` is not elementwise, or if ``overwrite``, ``potential`` or ``lowest`` belong to another function.
        TypeError: on subclassing, since the settling loop calls the functions given here and no method.

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

    def __init_subclass__(cls, **kwargs: Any) -> None:
        raise TypeError(
            f"{cls.__name__} cannot derive from Activation: call `Activation(unit, ...)` with your function"
        )

    def __post_init__(self) -> None:
        function("unit", self.unit)
        for name in ("slope", "potential", "overwrite"):
            if getattr(self, name) is not None:
                function(name, getattr(self, name))
        instance("name", self.name, str)
        finite("gain", self.gain)
        finite("shift", self.shift)
        if not (isinstance(self.lowest, float) and self.lowest == float("-inf")):
            finite("lowest", self.lowest)
        u = torch.linspace(-2.9, 3.1, 26, device="cpu").view(13, 2)
        if (activity := self._check_values(u)) is None:
            return
        slope = _autograd_slope(self.rho, u)
        if self.slope is not None and not tensors_agree(self.slope(u, activity), slope):
            warn_user(
                f"`slope` of {self!r} is not the derivative of its `unit`: EP is then not the gradient; leave `slope` out"
            )
        rising = slope > 1e-3  # elsewhere rho has no inverse
        if self.potential is not None and not tensors_agree(
            _autograd_slope(self.potential, activity)[rising], u[rising]
        ):
            raise self._contradiction("potential", "is not the integral of the inverse of `unit`")

    @torch.no_grad()
    def _check_values(self, u: Tensor) -> Tensor | None:
        """Return ``rho(u)`` after comparing it with the other functions; None where ``unit`` is not defined everywhere."""
        v = self.gain * u + self.shift
        try:
            activity = self.rho(u)
        except RuntimeError:  # it holds tensors of another device or dtype
            return None
        if activity.shape == u.shape and not activity.isfinite().all():
            return None
        alone = activity.shape == u.shape and tensors_agree(self.unit(v[:, :1]), activity[:, :1])
        if not alone or not tensors_agree(self.unit(v[:1]), activity[:1]):
            raise ArgumentError(
                "unit", f"`unit` of {self!r} must act on each element alone, keep the shape, and draw nothing at random"
            )
        if not tensors_agree(self.apply_inplace(v.clone()), activity):
            raise self._contradiction("overwrite", "returns other values than `unit`")
        if activity.amin() < self.lowest - 1e-6:
            raise self._contradiction("lowest", f"is {self.lowest}, but `unit` returns {activity.amin():g}")
        return activity

    def _contradiction(self, name: str, fault: str) -> ArgumentError:
        return ArgumentError(name, f"`{name}` of {self!r} {fault}: give that of the same function, or leave it out")

    def __repr__(self) -> str:
        return f"Activation({self.name!r})"

    def rho(self, u: Tensor) -> Tensor:
        """Return the activity ``rho(u)``, of the shape of ``u``."""
        return self.unit(u if (self.gain, self.shift) == (1.0, 0.0) else self.gain * u + self.shift)

    def apply_inplace(self, v: Tensor) -> Tensor:
        """Return ``unit(v)``; ``v`` may be overwritten."""
        return self.unit(v) if self.overwrite is None else self.overwrite(v)

    def derivative(self, u: Tensor, activity: Tensor | None = None) -> Tensor:
        """Return ``rho'(u)``, of the shape of ``u``; differentiable where gradients are enabled.

        Args:
            u: pre-activation.
            activity: ``rho(u)`` if it is known, to save computing it again.
        """
        if self.slope is not None:
            return self.slope(u, self.rho(u) if activity is None else activity)
        return _autograd_slope(self.rho, u)


def _autograd_slope(function: Callable[[Tensor], Tensor], u: Tensor) -> Tensor:
    """Return the derivative of an elementwise function; differentiable where gradients are enabled."""
    differentiable = torch.is_grad_enabled() and u.requires_grad
    with torch.enable_grad():
        leaf = u if differentiable else u.detach().requires_grad_()
        value = function(leaf).sum()
        if not value.requires_grad:  # a constant function, such as a step
            return torch.zeros_like(u)
        (slope,) = torch.autograd.grad(
            value, leaf, create_graph=differentiable, allow_unused=True, materialize_grads=True
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


ACTIVATIONS = {
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


@lru_cache(maxsize=64)
def steepest_slope(activation: Activation) -> float:
    """Return the largest slope of an activation between -10 and 10."""
    return activation.derivative(torch.linspace(-10, 10, 401, device="cpu")).abs().max().item()


ROUNDING = 1e-3
"""Change of a value by clipping that does not count: interpolated pixels exceed 1 by rounding."""


@torch.no_grad()
def find_clipped(activation: Activation, x: Tensor) -> Tensor:
    """Return where an activation clips, as booleans: where it is flat and changes the value, so that others give the same."""
    r = activation.rho(x)
    return (activation.derivative(x, r) == 0) & ((r - x).abs() > ROUNDING)


def as_activation(activation: "str | Activation", name: str = "activation") -> Activation:
    """Return the activation of a name; return an `Activation` unchanged. ``name`` is the argument's, for the error.

    Raises:
        ArgumentError: if there is no activation of that name.
    """
    if isinstance(activation, Activation):
        return activation
    if isinstance(activation, str) and activation in ACTIVATIONS:
        return ACTIVATIONS[activation]
    close = get_close_matches(activation, ACTIVATIONS, n=1) if isinstance(activation, str) else []
    hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(ACTIVATIONS)}; or give an `Activation`"
    raise ArgumentError(name, f"`{name}` {describe_value(activation)} is unknown: {hint}")

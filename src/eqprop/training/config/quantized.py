r"""SGD with quantized weights and updates, as on a device with few conductance levels behind a converter of few bits.

A number of ``n`` bits has a sign and ``n - 1`` bits of magnitude. So a grid of range ``r`` has ``2^n - 1`` levels, including 0,

    levels of r:      k r / top,       k = -top ... top,       top = 2^(n-1) - 1.

The weights' grid has the range ``span`` and the spacing ``h = span / top``. A step of plain SGD becomes

    u  =  Q(-eta g)                    nearest level of the grid whose range is the tensor's largest ``|eta g|``
    k  <-  k + floor(u / h + xi)       xi ~ U[0, 1) per weight: stochastic rounding, with mean u / h
    w  =  h clamp(k, -top, top).

The range of the updates is set for each update (an automatic gain before the converter). So their bits limit the number of
different step sizes within one update, not the smallest step. Rounding weights to the nearest level would lose every update below
``h / 2``. Stochastic rounding keeps their mean (Gupta et al. 2015) and adds a variance of up to ``h |u|`` per step. A rule that
takes many small steps which cancel has more variance for the same sum.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from eqprop._core.checks import ArgumentError, positive, positive_int
from eqprop.estimators.rates import as_rates
from eqprop.models.model import Model
from eqprop.training.config.optimizers import OptimizerSpec, parameter_groups

__all__ = ["Quantized", "QuantizedSGD"]

MAX_BITS = 53
"""Bits of a double-precision mantissa."""


class Quantized(Optimizer):
    """Plain SGD with quantized weights and updates; the constructor rounds the parameters to the nearest level.

    In single precision, weights of more than 24 bits are those of plain SGD, up to rounding. Random numbers come from torch's
    default generator on the CPU, whatever the device of the weights.

    Args:
        params: parameters, or parameter groups.
        lr: learning rate.
        weight_bits: bits per weight, including the sign, at least 2.
        update_bits: bits per update, including the sign, at least 2.
        span: largest absolute value of a weight.

    >>> w = torch.nn.Parameter(torch.tensor([0.4, -3.0]))
    >>> Quantized([w], lr=0.1, weight_bits=3, update_bits=8, span=1.5).param_groups[0]["span"], w.tolist()
    (1.5, [0.5, -1.5])
    """

    def __init__(
        self, params: Iterable[Any], lr: float = 1e-3, *, weight_bits: int = 8, update_bits: int = 8, span: float = 1.0
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_bits": weight_bits, "update_bits": update_bits, "span": span})
        with torch.no_grad():
            for group in self.param_groups:
                for p in group["params"]:
                    p.copy_(on_grid(p, group["span"], top(group["weight_bits"])))

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Update each parameter that has a gradient. Closures are not supported."""
        for group in self.param_groups:
            levels, span = top(group["weight_bits"]), group["span"]
            for p in group["params"]:
                if p.grad is not None:
                    update = quantize_update(p.grad * -group["lr"], top(group["update_bits"]))
                    p.copy_(add_stochastically(p, update, span, levels))


def top(bits: int) -> int:
    """Return the index of the largest level: the grid has ``2 top + 1`` levels."""
    return 2 ** (bits - 1) - 1


def on_grid(weight: Tensor, span: float, levels: int) -> Tensor:
    """Round a weight to the nearest level, clamped to the span."""
    return (weight * (levels / span)).round().clamp(-levels, levels) * (span / levels)


def quantize_update(update: Tensor, levels: int) -> Tensor:
    """Round an update to the nearest level of the grid whose range is its largest entry."""
    grain = update.abs().amax() / levels
    return torch.where(grain == 0, update, (update / grain).round() * grain)


def add_stochastically(weight: Tensor, update: Tensor, span: float, levels: int) -> Tensor:
    """Add the update, stochastically rounded to a whole number of levels, and clamp to the span."""
    grain = span / levels
    xi = torch.rand(weight.shape, dtype=weight.dtype).to(weight.device)
    whole = (weight / grain).round() + (update / grain + xi).floor()
    return whole.clamp(-levels, levels) * grain


@dataclass(frozen=True)
class QuantizedSGD(OptimizerSpec):
    """SGD with quantized weights and updates, `Quantized`; ``build`` rounds the model's weights.

    All parameters are quantized, including biases, feedback weights and a readout. With `ContinualEP` every step inside the phase
    is quantized; `ContinualSGD` updates copies of the weights inside the phase, which are not.

    Args:
        rates: learning rate, one for all or one a connection, input-first.
        weight_bits: bits per weight, including the sign, from 2 to 53.
        update_bits: bits per update, including the sign, from 2 to 53.
        span: largest absolute value of a weight.

    Raises:
        ValueError: if a number is out of its range or not finite.

    >>> QuantizedSGD(0.1, weight_bits=6).rates
    (0.1,)
    """

    rates: float | Sequence[float]
    weight_bits: int = 8
    update_bits: int = 8
    span: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "rates", as_rates(self.rates))
        for name in ("weight_bits", "update_bits"):
            if positive_int(name, getattr(self, name), MAX_BITS) < 2:
                raise ArgumentError(
                    name, f"`{name}` must be at least 2, a sign and one bit, got {getattr(self, name)!r}"
                )
        positive("span", self.span)

    def build(self, model: Model) -> Quantized:
        """Return the optimizer, with one parameter group per learning rate."""
        bits = {"weight_bits": self.weight_bits, "update_bits": self.update_bits}
        return Quantized(parameter_groups(model, self.rates), **bits, span=self.span)

r"""Weights of few bits, moved by updates of few bits: what a device with so many conductances, behind such a converter, can do.

A number of ``n`` bits is a sign and ``n - 1`` bits of magnitude, so that a grid has ``2^n - 1`` levels, with 0 among them,

    levels of r:      k r / top,       k = -top ... top,       top = 2^(n-1) - 1.

With the weights' grid over ``span``, ``h = span / top`` apart, a step of plain SGD becomes

    u  =  Q(-eta g)                    to the nearest level, of the grid that just holds the tensor's largest ``|eta g|``
    k  <-  k + floor(u / h + xi)       xi ~ U[0, 1) for each weight: up or down, so that the mean is u / h
    w  =  h clamp(k, -top, top).

The range of the updates follows each update (an automatic gain before the converter), so their bits bound how many sizes of step
are told apart within one update, and not how small one may be. A nearest rounding of weights would swallow every move below
``h / 2``; the random one keeps their mean (Gupta et al. 2015), at the price of a variance of up to ``h |u|`` a step: a rule that
makes many small steps which cancel pays more for the same sum.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from eqprop._core.checks import positive, positive_int
from eqprop.estimators.rates import as_rates
from eqprop.models.model import Model
from eqprop.training.config.optimizers import OptimizerSpec, groups

__all__ = ["Quantized", "QuantizedSGD"]

MOST_BITS = 53
"""What double precision holds."""


class Quantized(Optimizer):
    """Plain SGD on grids of few levels; the parameters are put on theirs, to the nearest level, when it is made.

    Single precision holds weights of 24 bits: more are those of plain SGD, to round-off. Random numbers come from torch's
    default generator on the CPU, wherever the weights are.

    Args:
        params: parameters, or groups of them with rates of their own.
        lr: learning rate.
        weight_bits: of each weight, sign included, at least 2.
        update_bits: of each update, sign included, at least 2.
        span: the largest weight.

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
        """One step of each parameter that has a gradient; there are no closures."""
        for group in self.param_groups:
            levels, span = top(group["weight_bits"]), group["span"]
            for p in group["params"]:
                if p.grad is not None:
                    update = coarse(p.grad * -group["lr"], top(group["update_bits"]))
                    p.copy_(moved(p, update, span, levels))


def top(bits: int) -> int:
    """The largest level of a grid: its number of levels is twice that and one."""
    return 2 ** (bits - 1) - 1


def on_grid(weight: Tensor, span: float, levels: int) -> Tensor:
    """The nearest level within the span."""
    return (weight * (levels / span)).round().clamp(-levels, levels) * (span / levels)


def coarse(update: Tensor, levels: int) -> Tensor:
    """The nearest level of the grid that the largest entry spans."""
    grain = update.abs().amax() / levels
    return torch.where(grain == 0, update, (update / grain).round() * grain)


def moved(weight: Tensor, update: Tensor, span: float, levels: int) -> Tensor:
    """The weight a whole number of levels on, whose mean is the update, within the span."""
    grain = span / levels
    xi = torch.rand(weight.shape, dtype=weight.dtype).to(weight.device)
    whole = (weight / grain).round() + (update / grain + xi).floor()
    return whole.clamp(-levels, levels) * grain


@dataclass(frozen=True)
class QuantizedSGD(OptimizerSpec):
    """Plain SGD on grids of few levels: `Quantized`. Building it puts the model's weights on their grid.

    It holds for every parameter: biases, feedback weights and a readout too. Of a continual rule it takes every step inside the
    phase, by `ContinualEP`; `ContinualSGD` moves its weights on the side, where nothing is rounded.

    Args:
        rates: learning rate, one for all or one a connection, input-first.
        weight_bits: of each weight, sign included, from 2 to 53.
        update_bits: of each update, sign included, from 2 to 53.
        span: the largest weight.

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
            if positive_int(name, getattr(self, name), MOST_BITS) < 2:
                raise ValueError(f"`{name}` must be at least 2, a sign and one bit, got {getattr(self, name)!r}")
        positive("span", self.span)

    def build(self, model: Model) -> Quantized:
        """One parameter group a learning rate."""
        bits = {"weight_bits": self.weight_bits, "update_bits": self.update_bits}
        return Quantized(groups(model, self.rates), **bits, span=self.span)

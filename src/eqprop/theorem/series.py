r"""Processes: what EP and BPTT say, step by step, of one population or one parameter, and how far the two are apart.

For t = 0 .. K - 1, ``ep[t]`` is EP's increment ``Delta(t)`` of the nudged step t and ``bptt[t]`` is BPTT's gradient ``nabla(t)``,
that of the loss for what step ``T - t`` made or used. The theorem says ``Delta(t) = -nabla(t)`` as beta -> 0. The distance of both
is the relative error of the papers (there "RMSE"), a mean over components ``i``, each with its own process in t:

    mean over i of   sqrt(sum_t (Delta_i + nabla_i)^2) / sqrt(max(sum_t Delta_i^2, sum_t nabla_i^2)),

0 where both vanish, at most 2, and 1 where only one of the two does (Ernoult et al. 2019, section 4).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from eqprop._core.angles import angle_between

__all__ = ["Agreement", "Series"]


class Agreement(NamedTuple):
    """Components of a total update, as fractions.

    Attributes:
        same: those whose two signs agree, among those where not both are zero; 1 if there are none.
        zero: those where both are zero.
    """

    same: float
    zero: float


@dataclass(frozen=True, eq=False)
class Series:
    """EP's increments beside BPTT's gradients.

    Attributes:
        ep: ``Delta(t)``, ``(K, ...)``.
        bptt: ``nabla(t)``, same shape.

    >>> import torch
    >>> process = Process(torch.tensor([[1.0], [0.5]]), torch.tensor([[-1.0], [-0.5]]))
    >>> process.relative_error(), process.cosine()
    (0.0, 1.0)
    """

    ep: Tensor
    bptt: Tensor

    def accumulated(self) -> "Series":
        """The sums up to each t: EP's estimate after t + 1 nudged steps, BPTT over the last t + 1 steps."""
        return Series(self.ep.cumsum(0), self.bptt.cumsum(0))

    def since(self, t: int) -> "Series":
        """Without what is before step t."""
        return Series(self.ep[t:], self.bptt[t:])

    def batch_mean(self) -> "Series":
        """The mean over the samples of a process ``(K, B, ...)``, as the papers take it of neurons."""
        return Series(self.ep.mean(1), self.bptt.mean(1))

    def relative_errors(self, floor: float = 0.0, *, accumulated: bool = False) -> Tensor:
        """The relative error of each component, ``(...)``; norms below ``floor`` count as that much.

        With ``accumulated`` it is that of the sums up to each t, which are not kept.
        """
        apart, ep, bptt = (self.ep.new_zeros(self.ep.shape[1:]) for _ in range(3))
        for e, b in self.running() if accumulated else zip(self.ep, self.bptt, strict=True):
            d = e + b
            for total, part in ((apart, d), (ep, e), (bptt, b)):
                total.addcmul_(part, part)
        norm = torch.maximum(ep, bptt).sqrt_().clamp_min_(floor)
        return torch.where(norm > 0, apart.sqrt_() / norm, 0.0)

    def running(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The sums up to each t, in turn; each is overwritten by the next."""
        ep, bptt = (self.ep.new_zeros(self.ep.shape[1:]) for _ in range(2))
        for e, b in zip(self.ep, self.bptt, strict=True):
            yield ep.add_(e), bptt.add_(b)

    def relative_error(self, floor: float = 0.0, *, accumulated: bool = False) -> float:
        """The mean of `relative_errors`; 0 for a process without steps."""
        return self.relative_errors(floor, accumulated=accumulated).mean().item()

    def cosine(self) -> float:
        """Cosine of the angle between ``Delta`` and ``-nabla``, all steps and components in one vector; 1 if both vanish."""
        return math.cos(math.radians(angle_between([*self.ep], [*-self.bptt])))

    def sign_agreement(self) -> Agreement:
        """Signs of the two total updates, component by component (the "recipe" of the 2019 paper's code)."""
        ep, bptt = self.ep.sum(0).sign(), -self.bptt.sum(0).sign()
        zero = (ep == 0) & (bptt == 0)
        n, zeros = zero.numel(), int(zero.sum())
        return Agreement((int((ep == bptt).sum()) - zeros) / (n - zeros) if n > zeros else 1.0, zeros / n)

    def stuck(self) -> float:
        """Fraction of components that EP never moves although BPTT has a gradient for them."""
        return ((self.ep == 0).all(0) & (self.bptt != 0).any(0)).double().mean().item()

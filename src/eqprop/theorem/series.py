r"""EP's increments and BPTT's gradients of one population or one parameter over time, and the distance between them.

For t = 0 .. K - 1, ``ep[t]`` is EP's increment ``Delta(t)`` in nudged step t, and ``bptt[t]`` is BPTT's gradient ``nabla(t)`` with
respect to the state or the copy of the parameter in step ``T - t``. The theorem states ``Delta(t) = -nabla(t)`` as beta -> 0. Their
distance is the relative error of the papers (called "RMSE" there), a mean over components ``i``:

    mean over i of   sqrt(sum_t (Delta_i + nabla_i)^2) / sqrt(max(sum_t Delta_i^2, sum_t nabla_i^2)).

It is 0 where both vanish, 1 where only one of them does, and at most 2 (Ernoult et al. 2019, section 4).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from eqprop._core.angles import angle_between

__all__ = ["Series", "SignAgreement"]


class SignAgreement(NamedTuple):
    """Sign statistics of two total updates, as fractions of components.

    Attributes:
        same: fraction with equal signs, among the components where at least one update is non-zero; 1 if there are none.
        zero: fraction where both updates are zero.
    """

    same: float
    zero: float


@dataclass(frozen=True, eq=False)
class Series:
    """EP's increments and BPTT's gradients of one population or parameter, one row for each step.

    Attributes:
        ep: ``Delta(t)``, ``(K, ...)``.
        bptt: ``nabla(t)``, same shape.

    >>> import torch
    >>> series = Series(torch.tensor([[1.0], [0.5]]), torch.tensor([[-1.0], [-0.5]]))
    >>> series.relative_error(), series.cosine()
    (0.0, 1.0)
    """

    ep: Tensor
    bptt: Tensor

    def accumulated(self) -> "Series":
        """Return cumulative sums: EP's estimate after t + 1 nudged steps and BPTT over the last t + 1 steps."""
        return Series(self.ep.cumsum(0), self.bptt.cumsum(0))

    def from_step(self, t: int) -> "Series":
        """Return the series without the steps before t."""
        return Series(self.ep[t:], self.bptt[t:])

    def batch_mean(self) -> "Series":
        """Average a series ``(K, B, ...)`` over the batch, as the papers do for neurons."""
        return Series(self.ep.mean(1), self.bptt.mean(1))

    def relative_errors(self, floor: float = 0.0, *, accumulated: bool = False) -> Tensor:
        """Return the relative error of each component, ``(...)``.

        Args:
            floor: lower bound of the norm in the denominator.
            accumulated: compare the cumulative sums instead of the single steps.
        """
        difference, ep, bptt = (self.ep.new_zeros(self.ep.shape[1:]) for _ in range(3))
        for e, b in self._running_sums() if accumulated else zip(self.ep, self.bptt, strict=True):
            for total, part in ((difference, e + b), (ep, e), (bptt, b)):
                total.addcmul_(part, part)
        norm = torch.maximum(ep, bptt).sqrt_().clamp_min_(floor)
        return torch.where(norm > 0, difference.sqrt_() / norm, 0.0)

    def _running_sums(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield cumulative sums in place, so that memory does not grow with K; each pair overwrites the one before."""
        ep, bptt = (self.ep.new_zeros(self.ep.shape[1:]) for _ in range(2))
        for e, b in zip(self.ep, self.bptt, strict=True):
            yield ep.add_(e), bptt.add_(b)

    def relative_error(self, floor: float = 0.0, *, accumulated: bool = False) -> float:
        """Return the mean of `relative_errors`; 0 for a series without steps."""
        return self.relative_errors(floor, accumulated=accumulated).mean().item()

    def cosine(self) -> float:
        """Return the cosine between ``Delta`` and ``-nabla``, each flattened over steps and components; 1 if both vanish."""
        return math.cos(math.radians(angle_between([*self.ep], [*-self.bptt])))

    def sign_agreement(self) -> SignAgreement:
        """Compare the signs of the two total updates, component by component."""
        ep, bptt = self.ep.sum(0).sign(), -self.bptt.sum(0).sign()
        zero = (ep == 0) & (bptt == 0)
        n, zeros = zero.numel(), int(zero.sum())
        return SignAgreement((int((ep == bptt).sum()) - zeros) / (n - zeros) if n > zeros else 1.0, zeros / n)

    def stuck(self) -> float:
        """Return the fraction of components with a non-zero BPTT gradient that EP never updates."""
        return ((self.ep == 0).all(0) & (self.bptt != 0).any(0)).double().mean().item()

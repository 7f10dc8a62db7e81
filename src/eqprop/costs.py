r"""Costs: how far the output ``s^L`` is from the target, and the force that nudges it there.

A cost ``C(s^L, y)`` is one scalar a sample. The force ``-dC/ds^L``, times beta, acts on the output population alone during the
nudged phase. Targets are ``(B,)`` integer classes or ``(B, n)`` floats, for every cost.

- `SquaredError`: ``C = 1/2 |y - s^L|^2``, force ``y - s^L`` (Ernoult et al. 2019).
- `CrossEntropyReadout`: ``C = -sum y log softmax(W s^L + b)``, force ``W^T (y - (sum y) softmax)``; ``W`` and ``b`` read
  the relaxing system out and are not part of it, so they get the plain gradient at the free state (Laborieux et al. 2021).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eqprop._core.checks import instance, positive_int

__all__ = ["Cost", "CrossEntropyReadout", "SquaredError"]


class Cost(ABC):
    """A cost on the output. A user's own needs only `value`; the force is then taken by autograd.

    >>> import torch
    >>> class Absolute(Cost):
    ...     def value(self, out, y):
    ...         return (out - self.target(y, out)).abs().sum(1)
    >>> Absolute().force(torch.zeros(1, 2), torch.tensor([1]))
    tensor([[-0., 1.]])
    """

    @abstractmethod
    def value(self, out: Tensor, y: Tensor) -> Tensor:
        """Cost of each sample: output ``(B, *shape)`` and target to ``(B,)``."""

    def force(self, out: Tensor, y: Tensor) -> Tensor:
        """``-dC/dout``: same shape as ``out``."""
        with torch.enable_grad():
            leaf = out.detach().requires_grad_()
            (slope,) = torch.autograd.grad(self.value(leaf, y).sum(), leaf)
        return -slope

    def nudging_force(self, y: Tensor, strength: float | Tensor) -> Callable[[Tensor], Tensor]:
        """The force of a nudge, ``-strength dC/dout``, as a function of ``out``.

        Args:
            y: target, as `encode` gives it.
            strength: beta: one for all samples, or ``(B, 1, …)``.
        """
        return lambda out: strength * self.force(out, y)

    def predict(self, out: Tensor) -> Tensor:
        """Scores ``(B, n)``; their largest is the class predicted."""
        return out.flatten(1)

    def width(self, shape: tuple[int, ...]) -> int:
        """Number of classes, or of target values, for an output of that shape (without the batch)."""
        return prod(shape)

    def target(self, y: Tensor, out: Tensor) -> Tensor:
        """``y`` as floats ``(B, n)``: classes become one-hot rows, floats stay as they are."""
        if y.is_floating_point():
            return y
        rows = out.new_zeros(y.shape[0], self.width(tuple(out.shape[1:])))
        return rows.scatter_(1, y.long().unsqueeze(1), 1.0)

    def encode(self, y: Tensor, out: Tensor) -> Tensor:
        """`target`, after a check that ``y`` fits the output ``out``.

        Raises:
            ValueError: if the shape, the kind or a class of ``y`` does not fit.
        """
        instance("y", y, Tensor)
        batch, n = out.shape[0], self.width(tuple(out.shape[1:]))
        if y.is_floating_point():
            fits = y.shape in ((batch, n), out.shape) or (n == 1 and y.shape == (batch,))
            if not fits or y.numel() != batch * n:
                raise ValueError(
                    f"`y` must be ({batch}, {n}) floats or ({batch},) classes, got {tuple(y.shape)} floats"
                )
            if not torch.isfinite(y).all():
                raise ValueError("`y` holds values that are not finite: clean the targets")
            return y.reshape(batch, n).to(out)
        if y.shape != (batch,) or y.is_complex() or y.dtype == torch.bool:
            raise ValueError(f"`y` must be ({batch},) classes or ({batch}, {n}) floats, got {tuple(y.shape)} {y.dtype}")
        low, high = (int(bound) for bound in y.aminmax())
        if low < 0 or high >= n:
            raise ValueError(f"`y` must hold classes from 0 to {n - 1}, got {low if low < 0 else high}")
        return self.target(y.to(out.device), out)


@dataclass(frozen=True)
class SquaredError(Cost):
    """``C = 1/2 |y - s^L|^2`` (Ernoult et al. 2019, eq. 4).

    >>> import torch
    >>> SquaredError().value(torch.zeros(1, 3), torch.tensor([2]))
    tensor([0.5000])
    """

    def value(self, out: Tensor, y: Tensor) -> Tensor:
        """``(B,)``."""
        return self.force(out, y).square().flatten(1).sum(1) / 2

    def force(self, out: Tensor, y: Tensor) -> Tensor:
        """``y - s^L``."""
        return self.target(y, out).view_as(out) - out

    def nudging_force(self, y: Tensor, strength: float | Tensor) -> Callable[[Tensor], Tensor]:
        """``strength y - strength s^L``, what does not change computed once; of a subclass with a force of its own, that."""
        if type(self).force is not SquaredError.force:
            return super().nudging_force(y, strength)
        if isinstance(strength, Tensor):
            goal = strength.flatten(1) * y
            return lambda out: torch.addcmul(goal.view_as(out), strength, out, value=-1)
        goal = strength * y
        return lambda out: torch.sub(goal.view_as(out), out, alpha=strength)


class CrossEntropyReadout(nn.Module, Cost):
    """Softmax readout of the output population, with weights of its own (Laborieux et al. 2021, section 2.4).

    Args:
        features: units of the output population.
        classes: number of classes.

    Attributes:
        weight: ``(classes, features)``.
        bias: ``(classes,)``.

    Raises:
        ValueError: if a size is not a positive whole number.

    >>> CrossEntropyReadout(64, 10).predict(torch.zeros(5, 64)).shape
    torch.Size([5, 10])
    """

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.features, self.classes = positive_int("features", features), positive_int("classes", classes)
        self.weight = nn.Parameter(torch.empty(classes, features))
        self.bias = nn.Parameter(torch.empty(classes))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw W and b as `torch.nn.Linear` does."""
        for parameter in (self.weight, self.bias):
            nn.init.uniform_(parameter, -(self.features**-0.5), self.features**-0.5)

    def extra_repr(self) -> str:
        """Sizes, as `print(model)` shows them."""
        return f"{self.features}, {self.classes}"

    def predict(self, out: Tensor) -> Tensor:
        """Logits ``W s^L + b``: ``(B, classes)``."""
        return F.linear(out.flatten(1), self.weight, self.bias)

    def width(self, shape: tuple[int, ...]) -> int:
        """Number of classes.

        Raises:
            ValueError: if an output of that shape does not have as many units as the readout has features.
        """
        if prod(shape) != self.features:
            raise ValueError(
                f"the readout has {self.features} features, but the output population has {prod(shape)} units"
            )
        return self.classes

    def value(self, out: Tensor, y: Tensor) -> Tensor:
        """``(B,)``."""
        return F.cross_entropy(self.predict(out), self.target(y, out), reduction="none")

    def force(self, out: Tensor, y: Tensor) -> Tensor:
        """``W^T (y - (sum y) softmax(W s^L + b))``; classes, and probabilities, sum to 1."""
        target = self.target(y, out)
        pull = target - target.sum(1, keepdim=True) * torch.softmax(self.predict(out), 1)
        return (pull @ self.weight).view_as(out)

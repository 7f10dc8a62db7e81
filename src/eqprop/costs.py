r"""Costs of the output ``s^L`` and the forces that nudge it toward the target.

A cost ``C(s^L, y)`` is one scalar per sample. During a nudged phase the force ``-beta dC/ds^L`` acts on the output population only.
Every cost accepts targets as ``(B,)`` integer classes or ``(B, n)`` floats.

- `SquaredError`: ``C = 1/2 |y - s^L|^2``, force ``y - s^L`` (Ernoult et al. 2019).
- `CrossEntropyReadout`: ``C = -sum y log softmax(W s^L + b)``, force ``W^T (y - (sum y) softmax)``. ``W`` and ``b`` read the output
  and do not take part in the dynamics, so they get the ordinary gradient of the cost at the free state (Laborieux et al. 2021).
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eqprop._core.checks import ArgumentError, instance, positive_int
from eqprop._core.customized import tensors_agree
from eqprop._core.derived import derived_from, replace_stale
from eqprop._core.tensors import check_dense, without_inference

__all__ = ["Cost", "CrossEntropyReadout", "SquaredError", "broken_cost_law"]


class Cost(ABC):
    """Base class of costs. A subclass needs only `value`; autograd then computes the force.

    The same holds for a subclass of `SquaredError` or `CrossEntropyReadout`: forces that these derive by hand from a method that it
    overrides are replaced by autograd. `Model` checks the forces of a user's class against `value`.

    >>> import torch
    >>> class Absolute(Cost):
    ...     def value(self, out, y):
    ...         return (out - y).abs().sum(1)
    >>> Absolute().force(torch.zeros(1, 2), torch.tensor([[0.0, 1.0]]))
    tensor([[-0., 1.]])
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        replace_stale(cls)

    @property
    def curvature(self) -> float | None:
        """The largest eigenvalue of ``d^2C/dout^2``, where it is known: the strength of an output's feedback on itself per beta."""
        return None

    @abstractmethod
    def value(self, out: Tensor, y: Tensor) -> Tensor:
        """Return the cost of each sample, ``(B,)``, for outputs ``(B, *shape)`` and targets as of `encode`."""

    def force(self, out: Tensor, y: Tensor) -> Tensor:
        """Return ``-dC/dout``, of the shape of ``out``."""
        with torch.enable_grad():
            leaf = out.detach().requires_grad_()
            (slope,) = torch.autograd.grad(self.value(leaf, y).sum(), leaf)
        return -slope

    def nudging_force(self, y: Tensor, strength: float | Tensor) -> Callable[[Tensor], Tensor]:
        """Return the force of a nudge, ``-strength dC/dout``, as a function of ``out``.

        Args:
            y: targets as returned by `encode`.
            strength: beta, for all samples or per sample as ``(B, 1, …)``.
        """
        return lambda out: strength * self.force(out, y)

    def predict(self, out: Tensor) -> Tensor:
        """Return scores ``(B, n)``; the predicted class is that of the largest."""
        return out.flatten(1)

    def width(self, shape: tuple[int, ...]) -> int:
        """Return the number of classes or target values for an output of that shape (without the batch)."""
        return prod(shape)

    def target(self, y: Tensor, out: Tensor) -> Tensor:
        """Return targets as floats ``(B, n)``: classes become one-hot rows, floats are returned unchanged.

        Called once for each batch, by `encode`. A subclass may override it, to smooth labels for example.
        """
        if y.is_floating_point():
            return y
        rows = out.new_zeros(y.shape[0], self.width(tuple(out.shape[1:])))
        return rows.scatter_(1, y.long().unsqueeze(1), 1.0)

    def _as_floats(self, y: Tensor, out: Tensor) -> Tensor:
        """Return targets of `encode` unchanged, and the `target` of classes."""
        return y if y.is_floating_point() else self.target(y, out)

    def encode(self, y: Tensor, out: Tensor) -> Tensor:
        """Check targets against the output and return them as floats ``(B, n)``.

        Raises:
            ArgumentError: if the shape, the dtype or a class of ``y`` does not fit, or a value is not finite.
        """
        check_dense("y", instance("y", y, Tensor))
        y = without_inference(y)
        batch, n = out.shape[0], self.width(tuple(out.shape[1:]))
        if y.is_floating_point():
            fits = y.shape in ((batch, n), out.shape) or (n == 1 and y.shape == (batch,))
            if not fits or y.numel() != batch * n:
                raise ArgumentError(
                    "y", f"`y` must be ({batch}, {n}) floats or ({batch},) classes, got {tuple(y.shape)} floats"
                )
            y = y.float() if y.dtype.itemsize == 1 else y  # torch cannot compare numbers of 8 bits
            if not torch.isfinite(y).all():
                raise ArgumentError("y", "`y` holds values that are not finite: clean the targets")
            return self._checked_target(y.reshape(batch, n).to(out), out)
        if y.shape != (batch,) or y.is_complex() or y.dtype == torch.bool:
            raise ArgumentError(
                "y", f"`y` must be ({batch},) classes or ({batch}, {n}) floats, got {tuple(y.shape)} {y.dtype}"
            )
        y = y.long()  # torch has no extrema of unsigned numbers of 16 bits and more
        low, high = (int(bound) for bound in y.aminmax())
        if low < 0 or high >= n:
            raise ArgumentError(
                "y", f"`y` must hold classes from 0 to {n - 1}, got {low if low < 0 else high}: check the labels"
            )
        return self._checked_target(y.to(out.device), out)

    def _checked_target(self, y: Tensor, out: Tensor) -> Tensor:
        target = self.target(y, out)
        if target.shape[:1] != out.shape[:1] or not target.is_floating_point():
            raise ArgumentError(
                "y",
                f"`target` of {type(self).__name__} must return floats, one row for each of the {out.shape[0]} samples, "
                f"got {tuple(target.shape)} {target.dtype}",
            )
        return target


@dataclass(frozen=True)
class SquaredError(Cost):
    """The squared error ``C = 1/2 |y - s^L|^2`` (Ernoult et al. 2019, eq. 4).

    >>> import torch
    >>> SquaredError().value(torch.zeros(1, 3), torch.tensor([2]))
    tensor([0.5000])
    """

    @property
    def curvature(self) -> float | None:
        """1; unknown for a subclass with a value of its own."""
        return 1.0 if type(self).value is SquaredError.value else None

    def value(self, out: Tensor, y: Tensor) -> Tensor:
        """Return ``1/2 |y - s^L|^2``: ``(B,)``."""
        return self._difference(out, y).square().flatten(1).sum(1) / 2

    @derived_from("value")
    def force(self, out: Tensor, y: Tensor) -> Tensor:
        """Return ``y - s^L``."""
        return self._difference(out, y)

    @derived_from("value", "force")
    def nudging_force(self, y: Tensor, strength: float | Tensor) -> Callable[[Tensor], Tensor]:
        """Return ``out -> strength y - strength out``, with ``strength y`` computed once."""
        if isinstance(strength, Tensor):
            scaled = strength.flatten(1) * y
            return lambda out: torch.addcmul(scaled.view_as(out), strength, out, value=-1)
        scaled = strength * y
        return lambda out: torch.sub(scaled.view_as(out), out, alpha=strength)

    def _difference(self, out: Tensor, y: Tensor) -> Tensor:
        return self._as_floats(y, out).view_as(out) - out


class CrossEntropyReadout(nn.Module, Cost):
    """Cross-entropy of a softmax readout of the output population (Laborieux et al. 2021, section 2.4).

    Args:
        features: number of units of the output population.
        classes: number of classes.

    Attributes:
        weight: ``(classes, features)``.
        bias: ``(classes,)``.

    Raises:
        ArgumentError: if a size is not a positive whole number.

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
        """Draw ``W`` and ``b`` as `torch.nn.Linear` does."""
        for parameter in (self.weight, self.bias):
            nn.init.uniform_(parameter, -(self.features**-0.5), self.features**-0.5)

    def extra_repr(self) -> str:
        """Return the sizes for ``repr``."""
        return f"{self.features}, {self.classes}"

    def predict(self, out: Tensor) -> Tensor:
        """Return the logits ``W s^L + b``: ``(B, classes)``."""
        return F.linear(out.flatten(1), self.weight, self.bias)

    def width(self, shape: tuple[int, ...]) -> int:
        """Return the number of classes.

        Raises:
            ArgumentError: if an output of that shape does not have as many units as the readout has features.
        """
        if prod(shape) != self.features:
            raise ArgumentError(
                "features",
                f"the readout has {self.features} features, but the output population has {prod(shape)} units: "
                "make them equal",
            )
        return self.classes

    def value(self, out: Tensor, y: Tensor) -> Tensor:
        """Return ``-sum y log softmax(W s^L + b)``: ``(B,)``."""
        return F.cross_entropy(self.predict(out), self._as_floats(y, out), reduction="none")

    @derived_from("value", "predict")
    def force(self, out: Tensor, y: Tensor) -> Tensor:
        """Return ``W^T (y - (sum y) softmax(W s^L + b))``; ``sum y`` is 1 for classes and for probabilities."""
        target = self._as_floats(y, out)
        error = target - target.sum(1, keepdim=True) * torch.softmax(self.predict(out), 1)
        return (error @ self.weight).view_as(out)


def broken_cost_law(cost: Cost, shape: tuple[int, ...], like: Tensor) -> str | None:
    """Return a sentence about the first law that a user's cost breaks at a random output, or None.

    Args:
        cost: the cost.
        shape: of the output population, without the batch dimension.
        like: tensor of the dtype and device to use.
    """
    generator = torch.Generator().manual_seed(0)
    out = torch.rand(2, *shape, generator=generator).to(like)
    classes = torch.arange(2, device=like.device) % cost.width(shape)
    y = cost.encode(Cost.target(cost, classes, out), out)
    with torch.no_grad():
        value, force = cost.value(out, y), cost.force(out, y)
        if value.shape != (2,):
            return f"its `value` must return one scalar per sample, (2,) for a batch of 2, got {tuple(value.shape)}"
        if not tensors_agree(value, _with_plain_targets(cost).value(out, y)):
            return "its `value` calls `target`, which acts a second time on targets that `encode` returned: use `y` as it is"
        if not tensors_agree(value[:1], cost.value(out[:1], y[:1])):
            return "its `value` mixes samples: a sample's cost must not depend on the others"
        if not tensors_agree(force, Cost.force(cost, out, y)):
            return "its `force` is not minus the derivative of `value`: override both, or only `value`"
        for strength in (0.5, out.new_full((2, *[1] * len(shape)), 0.5)):
            if not tensors_agree(cost.nudging_force(y, strength)(out), 0.5 * force):
                return "its `nudging_force` is not `strength` times `force`: override both, or only `value`"
    return None


def _with_plain_targets(cost: Cost) -> Cost:
    """Return a copy of a cost whose `target` returns floats unchanged, as it should for targets of `encode`."""
    plain = copy.copy(cost)
    object.__setattr__(plain, "target", lambda y, out: y)
    return plain

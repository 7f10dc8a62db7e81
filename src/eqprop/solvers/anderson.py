r"""Acceleration: a phase that reaches its steady state in fewer steps of the same map.

*Anderson acceleration* (Anderson 1965; Walker & Ni 2011), of the fixed-point iteration ``s <- F(s)``, where F is a step of any
schedule, nudged or not. From the last points ``z_i`` that it set out from, with ``g_i = F(z_i)`` and ``f_i = g_i - z_i``, it sets
out next from

    z_{k+1}  =  g_k - sum_j gamma_j dg_j,        gamma = argmin |f_k - sum_j gamma_j df_j|,        dg_j = g_{j+1} - g_j,

over the last m differences: the affine combination of the g whose f would be shortest if F were affine. Then, with m as large as
the number of steps, ``z_{k+1} = F(z)`` for the iterate z of GMRES after k steps. The least squares are solved by their normal
equations, one small system a sample, and no sample sees another. The diagonal is enlarged by a few units in its last place.

*Safeguard*. The residual of a sample is ``|f|``. A mixed point whose residual is more than ``growth`` times that of the point
before is rejected: the sample goes on by the plain step that was at hand, ``z = g`` of the point before, and forgets its history.
Where all mixed points are rejected, every second step is a plain one. At ``growth = 1`` only plain steps raise a residual. Nothing
of it waits for the device.

The points at rest are those of F. Where F has several, as it may with max pooling and with large weights, mixing may come to
another one than plain steps do, one that repels them included: where that matters, take plain steps with a tolerance.

What a phase shows and ends in is the ``g`` of the last point accepted, which is F of something and so within the bounds of
the activations, with the true residual ``|F(z) - z|``. Points to set out from are put back within their bounds first, where a
dynamics has any (`Dynamics.within`).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from math import prod
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from eqprop._core.checks import positive, positive_int
from eqprop._core.state import Units
from eqprop.dynamics.base import Dynamics

__all__ = ["Anderson", "Step", "iterate"]

Step: TypeAlias = tuple[Units, Units]
"""Where a step set out from, and where it led."""

RIDGE = 10
"""By how many units in the last place of 1 the diagonal of the normal equations is enlarged, relatively."""


@dataclass(frozen=True)
class Anderson:
    """Anderson acceleration of the steps of a phase, sample by sample, with a safeguard.

    For dynamics whose state is their units and whose step is a fixed map of them: `Prototypical` and `EnergyDescent`. A step costs
    more, by some tenths of a millisecond on a CPU: worth it for deep dense networks that settle slowly, best in sweeps; not for
    one hidden layer, whose steps cost less than the mixing, nor with max pooling.

    Args:
        window: m, the number of differences that are mixed; as many states are kept twice.
        growth: by how much a mixed step may multiply the residual of a sample, in the Euclidean norm, before it is rejected.

    Raises:
        ValueError: if ``window`` is not a positive whole number, or ``growth`` not a finite number above 0.

    >>> import torch, eqprop as ep
    >>> model = ep.mlp([4, 8, 8, 3], settle=ep.Settle(100, tol=1e-5, accelerate=ep.Anderson()))
    >>> model(torch.rand(5, 4)).shape
    torch.Size([5, 3])
    """

    window: int = 5
    growth: float = 1.0

    def __post_init__(self) -> None:
        positive_int("window", self.window)
        positive("growth", self.growth)

    def admit(self, dynamics: Dynamics) -> None:
        """Refuse dynamics whose states cannot be mixed.

        Raises:
            ValueError: if they are such.
        """
        if not dynamics.supports_acceleration:
            raise ValueError(
                "acceleration needs dynamics whose step is a fixed map of their units, as `Prototypical` and `EnergyDescent` are, "
                f"got {dynamics!r}: leave `accelerate` out"
            )

    @torch.no_grad()
    def path(
        self, step: Callable[[Units], Units], start: Units, project: Callable[[Units], Units] = lambda units: units
    ) -> Iterator[Step]:
        """Where each step set out from, and where it led, without end; the first one sets out from ``start``.

        Args:
            step: the map F.
            start: ``(B, *shape)`` each; not written to.
            within: puts a mixed point back within its bounds.
        """
        units = step(start)
        yield start, units
        z, g = flat(start), flat(units)
        f, past = g - z, History.none(g, self.window)
        for turn in count():
            outset = project(shaped(past.mixed(g), start))
            point, led = flat(outset), flat(step(outset))
            fine = ~past.known.any(1) | (norm(led - point) <= self.growth * norm(f))
            z, led = torch.where(fine[:, None], point, z), torch.where(fine[:, None], led, g)
            change, f = -f, led - z
            past.add(turn % self.window, f, change.add_(f), led - g, fine)
            g = led
            yield shaped(z, start), shaped(g, start)


def iterate(accelerate: Anderson | None, step: Callable[[Units], Units], start: Units) -> Iterator[Step]:
    """Where each step of a map sets out from, and where it leads: accelerated, or from where the last one led."""
    if accelerate is not None:
        yield from accelerate.path(step, start)
    while True:
        yield start, (start := step(start))


class History(NamedTuple):
    """What a phase remembers, written over step by step; nobody else sees it.

    Attributes:
        f: the last m differences of f, and f itself: ``(B, m + 1, N)``.
        dg: those of g, ``(B, m, N)``.
        gram: products of the former with each other and, in the last column, with f: ``(B, m, m + 1)``.
        known: which of them count, ``(B, m)``.
    """

    f: Tensor
    dg: Tensor
    gram: Tensor
    known: Tensor

    @classmethod
    def none(cls, like: Tensor, m: int) -> "History":
        """Nothing, of vectors as in ``like``."""
        batch, units = like.shape[-2:]
        f, dg = (like.new_zeros(rows, batch, units).transpose(0, 1) for rows in (m + 1, m))
        return cls(f, dg, like.new_zeros(batch, m, m + 1), like.new_zeros(batch, m, dtype=torch.bool))

    def add(self, k: int, f: Tensor, df: Tensor, dg: Tensor, fine: Tensor) -> None:
        """Put differences in place k where the point was ``fine``; forget all of the sample elsewhere, where they are 0."""
        m = len(self.known[0])
        self.f[:, k], self.f[:, m], self.dg[:, k] = df, f, dg
        products = torch.bmm(self.f, self.f[:, k :: m - k].mT)  # with rows k and m
        self.gram[:, k] = products[..., 0]
        self.gram[:, :, k], self.gram[:, :, m] = products[:, :-1].unbind(2)
        self.known.logical_and_(fine[:, None])
        self.known[:, k] = fine

    def mixed(self, g: Tensor) -> Tensor:
        """Where to set out from, ``(B, N)``: g itself where nothing is known."""
        rows, ends = self.known[..., None], torch.finfo(g.dtype)
        matrix = torch.where(rows & self.known[:, None], self.gram[..., :-1], 0)
        matrix.diagonal(dim1=1, dim2=2).mul_(1 + RIDGE * ends.eps).add_(ends.tiny)
        right = torch.where(rows, self.gram[..., -1:], 0)
        gamma, _ = torch.linalg.solve_ex(matrix, right)  # which, unlike `solve`, does not wait for the device
        return torch.baddbmm(g[:, None], gamma.mT, self.dg, alpha=-1)[:, 0]


def norm(f: Tensor) -> Tensor:
    """Euclidean norm of each sample: ``(B,)``."""
    return torch.linalg.vector_norm(f, dim=1)


def flat(units: Units) -> Tensor:
    """All units of a sample side by side, ``(B, N)``, images as they lie in memory."""
    return torch.cat([(u.movedim(1, -1) if u.dim() == 4 else u).flatten(1) for u in units], 1)


def shaped(vector: Tensor, like: Units) -> Units:
    """The units that `flat` put side by side: views of ``vector``."""
    parts = vector.split([prod(u.shape[1:]) for u in like], 1)
    return tuple(image(part, u) if u.dim() == 4 else part.view(u.shape) for part, u in zip(parts, like, strict=True))


def image(part: Tensor, like: Tensor) -> Tensor:
    """Pixel by pixel to ``(B, C, H, W)``, channels last."""
    return part.unflatten(1, (*like.shape[2:], like.shape[1])).movedim(-1, 1)

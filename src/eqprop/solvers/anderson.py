r"""Anderson acceleration: reach the steady state of a phase in fewer evaluations of its step.

For the fixed-point iteration ``s <- F(s)``, where F is one step of any schedule, free or nudged (Anderson 1965; Walker & Ni 2011).
Let ``z_i`` be the points where F was evaluated, ``g_i = F(z_i)`` and ``f_i = g_i - z_i``. The next point is

    z_{k+1}  =  g_k - sum_j gamma_j dg_j,        gamma = argmin |f_k - sum_j gamma_j df_j|,        dg_j = g_{j+1} - g_j,

over the last m differences: the affine combination of the g whose f would be shortest if F were affine. If F is affine and m is at
least the number of steps, ``z_{k+1} = F(z)`` for the k-th iterate z of GMRES. The least-squares problems are solved by their normal
equations, one small system for each sample; samples do not interact. The diagonal is increased by a few units in the last place.

*Safeguard*. The residual of a sample is ``|f|``. A mixed point whose residual is more than ``growth`` times that of the point
before it is rejected: the sample continues with a plain step, ``z = g`` of the point before, which is already known, and its
history is cleared. If all mixed points are rejected, every second step is a plain one. At ``growth = 1`` only plain steps can
increase a residual. The host never waits for the device.

The fixed points are those of F. Where F has several, as with max pooling or large weights, mixing can reach another one than plain
steps do, including one that is unstable under plain steps. Where that matters, use plain steps with a tolerance.

The state reported after a step is the ``g`` of the last accepted point. It is a value of F, so it lies within the bounds of the
activations, and its residual ``|F(z) - z|`` is exact. Mixed points are projected onto their bounds, where a dynamics has any
(`Dynamics.project`), before F is evaluated there.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor

from eqprop._core.checks import ArgumentError, positive, positive_int
from eqprop._core.state import Units
from eqprop.dynamics.base import Dynamics

__all__ = ["Anderson"]

RIDGE = 10
"""Relative increase of the diagonal of the normal equations, in units of the machine epsilon."""


_ALWAYS_STORED = 32
"""Windows up to this size are stored whole also in shorter phases, since the size of the systems can change the last bits."""


@dataclass(frozen=True)
class Anderson:
    """Anderson acceleration of the steps of a phase, for each sample separately, with a safeguard.

    For dynamics whose state is their units and whose step is a fixed map of them: `Prototypical` and `EnergyDescent`. Each step
    costs some tenths of a millisecond more on a CPU. This pays off for deep dense networks that settle slowly, most of all with an
    asynchronous schedule. It does not pay off for one hidden layer, where mixing costs more than a step, or with max pooling.

    Args:
        window: m, the number of differences that are mixed; two states are stored for each.
        growth: largest factor by which a mixed step may multiply the residual of a sample (Euclidean norm) before it is rejected.

    Raises:
        ValueError: if ``window`` is not a positive whole number, or ``growth`` is not a finite number above 0.

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

    def check_dynamics(self, dynamics: Dynamics) -> None:
        """Check that states of these dynamics can be mixed.

        Raises:
            ValueError: if they cannot.
        """
        if not dynamics.supports_acceleration:
            raise ValueError(
                "acceleration needs dynamics whose step is a fixed map of their units, such as `Prototypical` and `EnergyDescent`, "
                f"got {dynamics!r}: leave `accelerate` out"
            )

    @torch.no_grad()
    def iterate(
        self,
        step: Callable[[Units], Units],
        start: Units,
        project: Callable[[Units], Units] = lambda units: units,
        steps: int | None = None,
    ) -> Iterator[tuple[Units, Units]]:
        """Yield ``(z, F(z))`` for each step, without end; the first ``z`` is ``start``.

        Args:
            step: the map F.
            start: ``(B, *shape)`` for each population; not modified.
            project: puts a mixed point back within its bounds.
            steps: number of steps that will be taken, if known: a wide window then stores no more differences than there can be.
        """
        if start[0].dtype in (torch.float16, torch.bfloat16):
            raise ArgumentError(
                "accelerate",
                f"`accelerate` needs single or double precision, got {start[0].dtype}: convert the model, or leave it out",
            )
        window = self.window if steps is None else min(self.window, max(steps, _ALWAYS_STORED))
        units = step(start)
        yield start, units
        z, g = _flatten(start), _flatten(units)
        f, history = g - z, _History.empty(g, window)
        for turn in count():
            point = project(_unflatten(history.mix(g), start))
            z_new, g_new = _flatten(point), _flatten(step(point))
            accepted = ~history.valid.any(1) | (_norm(g_new - z_new) <= self.growth * _norm(f))
            z, g_new = torch.where(accepted[:, None], z_new, z), torch.where(accepted[:, None], g_new, g)
            change, f = -f, g_new - z
            history.add(turn % window, f, change.add_(f), g_new - g, accepted)
            g = g_new
            yield _unflatten(z, start), _unflatten(g, start)


class _History(NamedTuple):
    """The last m differences, overwritten in place step by step; private to one `Anderson.iterate`.

    Attributes:
        f: the last m differences of f, and f itself, ``(B, m + 1, N)``.
        dg: the last m differences of g, ``(B, m, N)``.
        gram: inner products of the differences of f with each other and, in the last column, with f, ``(B, m, m + 1)``.
        valid: which differences are in use, ``(B, m)``.
    """

    f: Tensor
    dg: Tensor
    gram: Tensor
    valid: Tensor

    @classmethod
    def empty(cls, like: Tensor, m: int) -> "_History":
        batch, units = like.shape[-2:]
        f, dg = (like.new_zeros(rows, batch, units).transpose(0, 1) for rows in (m + 1, m))
        return cls(f, dg, like.new_zeros(batch, m, m + 1), like.new_zeros(batch, m, dtype=torch.bool))

    def add(self, k: int, f: Tensor, df: Tensor, dg: Tensor, accepted: Tensor) -> None:
        """Store the differences in slot k. A sample whose point was rejected, and whose differences are 0, clears its history."""
        m = len(self.valid[0])
        self.f[:, k], self.f[:, m], self.dg[:, k] = df, f, dg
        changed = self.f[:, k :: m - k]  # rows k and m
        products = torch.bmm(self.f, changed.mT)
        self.gram[:, k] = products[..., 0]
        self.gram[:, :, k], self.gram[:, :, m] = products[:, :-1].unbind(2)
        self.valid.logical_and_(accepted[:, None])
        self.valid[:, k] = accepted

    def mix(self, g: Tensor) -> Tensor:
        """Return the next point, ``(B, N)``; g itself where the history is empty."""
        rows, limits = self.valid[..., None], torch.finfo(g.dtype)
        matrix = torch.where(rows & self.valid[:, None], self.gram[..., :-1], 0)
        matrix.diagonal(dim1=1, dim2=2).mul_(1 + RIDGE * limits.eps).add_(limits.tiny)
        right = torch.where(rows, self.gram[..., -1:], 0)
        gamma, _ = torch.linalg.solve_ex(matrix, right)  # unlike `solve`, does not wait for the device
        return torch.baddbmm(g[:, None], gamma.mT, self.dg, alpha=-1)[:, 0]


def _norm(f: Tensor) -> Tensor:
    return torch.linalg.vector_norm(f, dim=1)


def _flatten(units: Units) -> Tensor:
    """Concatenate all units of a sample, ``(B, N)``; images in channels-last order, which is how they lie in memory."""
    return torch.cat([(u.movedim(1, -1) if u.dim() == 4 else u).flatten(1) for u in units], 1)


def _unflatten(vector: Tensor, like: Units) -> Units:
    """Invert `_flatten`; returns views of ``vector``."""
    parts = vector.split([prod(u.shape[1:]) for u in like], 1)
    return tuple(
        part.unflatten(1, (*u.shape[2:], u.shape[1])).movedim(-1, 1) if u.dim() == 4 else part.view(u.shape)
        for part, u in zip(parts, like, strict=True)
    )

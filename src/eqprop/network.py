r"""Networks: graphs of populations joined by connections.

Population 0 is the input ``x``. Populations ``1 .. L`` relax, and the last one is the output. The primitive function is the sum
of the terms of all connections,

    Phi(x, s) = sum over edges (i, j) of phi_ij(s^i, s^j),

the current into population n is ``u^n = dPhi/ds^n``, and the EP estimate of the gradient of the loss is

    dL/dtheta  ~  (dPhi/dtheta(a) - dPhi/dtheta(b)) / norm,          mean over the batch,

for the states (a, b, norm) = (s*, s^beta, beta) one-sided, (s^-beta, s^beta, 2 beta) centred (Laborieux et al. 2021).

A network does not depend on the dynamics. `Network.prepare` computes what stays constant for a batch, and the `Drive` that it
returns gives the currents of any state. In this module ``x`` and ``s`` are always *activities*.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from eqprop._core.checks import ArgumentError, instance, non_negative_int, positive_int, sequence
from eqprop._core.customized import is_customized, replaced_method
from eqprop._core.memory_format import channels_last
from eqprop._core.precision import full_precision
from eqprop._core.tensors import check_dense, check_parts, without_inference
from eqprop.activations import Activation, as_activation
from eqprop.connections.base import Connection, Ends, PreparedConnection
from eqprop.connections.laws import broken_law

__all__ = ["Activities", "Contrast", "Drive", "Edge", "Network", "Population"]

Activities = tuple[Tensor, ...]
"""Activities of the populations ``1 .. L``, each ``(B, *shape)``."""

Edge = tuple[int, int, Connection]
"""``(pre, post, connection)`` with the numbers of the lower and the upper population; 0 is the input."""


class Contrast(NamedTuple):
    """The states that `Network.contrast` compares: ``network.contrast(x, *contrast)``.

    Attributes:
        free: activities at which untied connections take their currents.
        a: activities of the state whose Phi counts positively.
        b: activities of the state whose Phi counts negatively.
        norm: what the difference is divided by.
    """

    free: Activities
    a: Activities
    b: Activities
    norm: float

    def ends(self, x: Tensor, pre: int, post: int) -> tuple[Ends, Ends, Ends]:
        """Return the activities at the two ends of an edge in each of the three states, under the input ``x``."""
        free, a, b = ((x, *s) for s in (self.free, self.a, self.b))
        return Ends(free[pre], free[post]), Ends(a[pre], a[post]), Ends(b[pre], b[post])


@dataclass(frozen=True, init=False)
class Population:
    """A group of units with one activation.

    Args:
        shape: shape without the batch dimension; an int ``n`` stands for ``(n,)``.
        activation: name or `Activation`.

    Raises:
        ArgumentError: if a size is not a positive whole number or the activation is unknown.

    >>> Population(10, "tanh")
    Population(shape=(10,), activation=Activation('tanh'))
    """

    shape: tuple[int, ...]
    activation: Activation

    def __init__(self, shape: int | Sequence[int], activation: str | Activation = "hard_sigmoid") -> None:
        sizes = tuple(shape) if isinstance(shape, Sequence) and len(shape) else (shape,)
        object.__setattr__(self, "shape", tuple(positive_int("shape", n) for n in sizes))
        object.__setattr__(self, "activation", as_activation(activation))


@dataclass(frozen=True, eq=False)
class Drive:
    """The quantities that stay constant while a network settles; returned by `Network.prepare`.

    Attributes:
        input: activity of population 0, ``(B, *shape)``.
        constant: scaled constant current into each relaxing population, from the input and the biases, ``(B, *shape)``.
        prepared: connections whose currents depend on the state.
        gains: scale of the currents into each relaxing population.
    """

    input: Tensor
    constant: tuple[Tensor, ...]
    prepared: tuple[PreparedConnection, ...]
    gains: tuple[float, ...]

    def currents(self, s: Sequence[Tensor], x: Tensor | None = None) -> list[Tensor]:
        """Return the scaled currents into the relaxing populations, each ``(B, *shape)``; the caller may overwrite them.

        Args:
            s: activities of the relaxing populations.
            x: present activity of an input that changes over time. `constant` is not updated.
        """
        # Entry 0 is a placeholder: no current flows into the input. The lists are indexed by population.
        u = [self.input, *self.constant]
        a = (self.input if x is None else x, *s)
        for connection in self.prepared:
            connection.add(u, a)
        # An entry that no connection replaced still is the shared constant: copy it, so that in-place activations do not change it.
        return [u_n.clone() if u_n is c else u_n for u_n, c in zip(u[1:], self.constant, strict=True)]

    def currents_into(self, group: Sequence[int], s: Sequence[Tensor]) -> list[Tensor]:
        """Return the scaled currents into the populations of ``group`` only, in the order of their numbers in ``group``."""
        u, a = [self.input, *self.constant], (self.input, *s)
        for connection in self.prepared:
            if connection.post in group:
                connection.add_up(u, a)
            if connection.pre in group:
                connection.add_down(u, a)
        return [u[n].clone() if u[n] is self.constant[n - 1] else u[n] for n in group]

    def specialize(self, group: Sequence[int], s: Sequence[Tensor]) -> "Drive":
        """Return a drive specialized for the activities of ``group`` in ``s``; valid while these populations keep them.

        See `PreparedConnection.specialize`.
        """
        a = (self.input, *s)
        prepared = tuple(c.specialize(a) if c.pre in group else c for c in self.prepared)
        return Drive(self.input, self.constant, prepared, self.gains)

    def repeat(self, n: int) -> "Drive":
        """Return the drive of the batch repeated ``n`` times, for phases that run as one batch."""
        if n == 1:
            return self
        constant = tuple(torch.cat([c] * n) for c in self.constant)
        prepared = tuple(connection.repeat(n) for connection in self.prepared)
        return Drive(torch.cat([self.input] * n), constant, prepared, self.gains)


class Network(nn.Module):
    """Populations and the connections between them.

    Args:
        populations: at least two, the input first and the output last.
        edges: ``(pre, post, connection)`` by population number. Lateral (``pre == post``), skip and parallel edges are allowed.

    Attributes:
        populations: all populations; number 0 is the input.
        relaxing: the populations ``1 .. L``.
        connections: the connections in the given order.
        ends: ``(pre, post)`` of each connection.

    Raises:
        ArgumentError: if an edge names a population that does not exist or ends in the input, if a connection does not fit its
            populations, or if no path of edges joins a population to the input.

    >>> from eqprop import Dense
    >>> Network([Population(4), Population(2)], [(0, 1, Dense(4, 2))]).ends
    ((0, 1),)
    """

    def __init__(self, populations: Iterable[Population], edges: Iterable[Edge]) -> None:
        super().__init__()
        self._check_overrides()
        edges = [_as_edge(edge) for edge in _as_tuple("edges", edges, "(pre, post, connection)")]
        self.populations = tuple(
            instance("populations", p, Population) for p in _as_tuple("populations", populations, "`Population`")
        )
        self.relaxing = self.populations[1:]
        self.ends = tuple((pre, post) for pre, post, _ in edges)
        self._check_graph()
        self.connections = nn.ModuleList(connection for _, _, connection in edges)
        self._batch_multiple = max((connection.batch_multiple for _, _, connection in edges), default=1)
        for edge in self.edges():
            self._check_fit(*edge)

    def edges(self) -> list[Edge]:
        """Return ``(pre, post, connection)`` of every edge."""
        return [(pre, post, c) for (pre, post), c in zip(self.ends, self.connections, strict=True)]  # type: ignore[misc]

    def edge_names(self) -> list[str]:
        """Return a name such as ``"1→2"`` for every edge; parallel edges have their index appended, as in ``"1→2 (3)"``."""
        numbers = [f" ({n})" if self.ends.count(ends) > 1 else "" for n, ends in enumerate(self.ends)]
        return [f"{pre}→{post}{number}" for (pre, post), number in zip(self.ends, numbers, strict=True)]

    def phi(self, x: Tensor, s: Sequence[Tensor]) -> Tensor:
        """Return the primitive function ``Phi(x, s)``: ``(B,)``."""
        a = (x, *s)
        terms = [connection.phi(a[pre], a[post]) for pre, post, connection in self.edges()]
        return sum(terms[1:], terms[0])

    def currents(self, x: Tensor, s: Sequence[Tensor]) -> Activities:
        """Return ``u^n = dPhi/ds^n`` for every relaxing population, each ``(B, *shape)``."""
        return tuple(self.prepare(x).currents(s))

    def prepare(
        self,
        x: Tensor,
        gains: Sequence[float] | None = None,
        shifts: Sequence[float] | None = None,
        *,
        static: bool = True,
    ) -> Drive:
        """Compute what stays constant for a batch. Call again when the weights or the input have changed.

        The currents of the drive are ``gain * u + shift``. A dynamics passes the affine part of its activations here, so that a
        step need not apply it.

        Args:
            x: activity of the input, ``(B, *shape)``.
            gains: one per relaxing population; 1 if None.
            shifts: one per relaxing population; 0 if None.
            static: whether the input is constant during a phase. If not, for example because it consists of spikes, its currents
                are computed at every step and `Drive.constant` contains the biases only.
        """
        gain = [0.0, *(gains or [1.0] * len(self.relaxing))]
        offsets = shifts or [0.0] * len(self.relaxing)
        shapes = [(x.shape[0], *p.shape) for p in self.relaxing]
        constant = [channels_last(x.new_full(shape, shift)) for shape, shift in zip(shapes, offsets, strict=True)]
        prepared = []
        with full_precision(x):
            for pre, post, connection in self.edges():
                if pre == 0 and connection.linear and static:
                    current = connection.up(x, constant[post - 1])  # only the shape of post matters: up is linear in it
                else:
                    prepared.append(connection.prepare(pre, post, gain))
                    current = connection.batch_offset(x.shape[0])
                if current is not None:
                    constant[post - 1] = torch.add(constant[post - 1], current, alpha=gain[post])
        return Drive(x, tuple(constant), tuple(prepared), tuple(gain[1:]))

    def contrast(self, x: Tensor, free: Activities, a: Activities, b: Activities, norm: float) -> Tensor:
        """Return a scalar whose gradient is the EP estimate, mean over the batch (taken here and nowhere else).

        Tied connections contribute the exact difference of Phi between ``a`` and ``b``, untied ones the pairing of their currents
        at ``free`` with ``a - b``. Both are divided by ``norm``; arguments as the fields of `Contrast`.
        """
        contrast = Contrast(free, a, b, norm)
        with full_precision(x):
            terms = [connection.contrast(*contrast.ends(x, pre, post)) for pre, post, connection in self.edges()]
            return sum(terms[1:], terms[0]) / (norm * x.shape[0])

    def check_input(self, x: Tensor) -> Tensor:
        """Check an input against the input population and the weights, and return it.

        Raises:
            ArgumentError: if the shape, dtype or device of ``x`` does not fit.
        """
        shape = self.populations[0].shape
        instance("x", x, Tensor)
        if x.shape[1:] != shape or x.dim() == len(shape) or x.shape[0] == 0:
            raise ArgumentError(
                "x", f"`x` must be (B, {', '.join(map(str, shape))}) with B of at least 1, got {tuple(x.shape)}"
            )
        if x.shape[0] % self._batch_multiple:
            raise ArgumentError(
                "x",
                f"`x` must hold the same number of samples for each of the {self._batch_multiple} batched networks, "
                f"got {x.shape[0]} in total",
            )
        check_dense("x", x)
        weight = next(self.parameters(), x)
        if not x.is_floating_point() or (x.dtype, x.device) != (weight.dtype, weight.device):
            raise ArgumentError(
                "x",
                f"`x` is {x.dtype} on {x.device}, the weights are {weight.dtype} on {weight.device}: convert one of them",
            )
        check_parts("network", self, weight)
        return without_inference(x)  # currents may need autograd, which does not accept inference tensors

    def _check_overrides(self) -> None:
        """Refuse a subclass that overrides what the settling loop or the estimators do not call."""
        kind = type(self)
        for name, needed in (("phi", "contrast"), ("phi", "prepare"), ("currents", "prepare"), ("edges", "contrast")):
            if getattr(kind, name) is not getattr(Network, name) and getattr(kind, needed) is getattr(Network, needed):
                raise ArgumentError(
                    "network",
                    f"{kind.__name__} overrides `{name}`, but `{needed}` does not follow it: write a `Connection` instead, or "
                    f"override `{needed}` too",
                )

    def _check_graph(self) -> None:
        last = len(self.populations) - 1
        if last < 1:
            raise ArgumentError(
                "populations", f"`populations` must hold the input and at least one more, got {last + 1}"
            )
        for pre, post in self.ends:
            if not (0 <= pre <= last and 0 <= post <= last):
                raise ArgumentError(
                    "edges",
                    f"edge {pre} -> {post} names a population that does not exist: they are numbered 0 to {last}",
                )
            if post == 0:
                raise ArgumentError(
                    "edges", f"edge {pre} -> 0 ends in the input, which is static: let edges start there"
                )
        reached = {0}
        while neighbors := {n for ends in self.ends if reached & set(ends) for n in ends} - reached:
            reached |= neighbors
        if missing := sorted(set(range(last + 1)) - reached):
            raise ArgumentError(
                "edges", f"`edges`: no path joins population {missing[0]} to the input: add an edge that reaches it"
            )

    def _check_fit(self, pre: int, post: int, connection: Connection) -> None:
        shapes = self.populations[pre].shape, self.populations[post].shape
        like = next(connection.parameters(), torch.zeros(()))
        batch = 2 * connection.batch_multiple
        a, b = (torch.zeros(batch, *shape, device=like.device, dtype=like.dtype) for shape in shapes)
        where = f"edge {pre} -> {post}: {connection} does not fit populations of shapes {shapes[0]} and {shapes[1]}"
        try:
            with torch.no_grad():
                up = connection.up(a, b)
                down = connection.down(b, a) if up.shape == b.shape else None
        except (RuntimeError, IndexError, ValueError) as error:
            raise ArgumentError("edges", f"{where} ({error})") from None
        for name, current, s in (("upward", up, b), ("downward", down, a)):
            if current is not None and current.shape != s.shape:
                raise ArgumentError("edges", f"{where}: its {name} current has shape {tuple(current.shape[1:])}")
        if name := replaced_method(connection, Connection):
            raise ArgumentError(
                "edges", f"edge {pre} -> {post}: `{name}` was replaced on the object: override it in a subclass"
            )
        has_values = is_customized(connection, Connection) and not like.is_meta
        if has_values and (fault := broken_law(connection, shapes, like)):
            raise ArgumentError("edges", f"edge {pre} -> {post}: {connection} contradicts itself: {fault}")
        if pre:
            connection.check_activation(self.populations[post].activation)


def _as_tuple(name: str, values: object, of: str) -> tuple[Any, ...]:
    """Return the elements of an iterable that is no string and no tensor."""
    if not isinstance(values, Iterable) or isinstance(values, str | Mapping | Tensor):
        raise ArgumentError(name, f"`{name}` must be a list of {of}, got an object of class {type(values).__name__}")
    return tuple(values)


def _as_edge(edge: object) -> Edge:
    """Return an edge with plain population numbers."""
    if len(parts := sequence("edges", edge, "a list of (pre, post, connection)")) != 3:
        raise ArgumentError(
            "edges", f"`edges` must hold triples (pre, post, connection), got one of length {len(parts)}"
        )
    pre, post = (non_negative_int("edges", n) for n in parts[:2])
    return pre, post, instance("edges", parts[2], Connection)

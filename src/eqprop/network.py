r"""Networks: populations joined by connections, any graph.

Population 0 is the static input ``x``; populations ``1 .. L`` relax and the last is the output. The primitive function is
the sum over connections of their terms,

    Phi(x, s) = sum over edges (i, j) of phi_ij(s^i, s^j),

the current into population n is ``u^n = dPhi/ds^n``, and the EP estimate of the gradient of the loss is

    dL/dtheta  ~  (dPhi/dtheta(a) - dPhi/dtheta(b)) / norm,          mean over the batch,

for the states (a, b, norm) = (s*, s^beta, beta) one-sided, (s^-beta, s^beta, 2 beta) centred (Laborieux et al. 2021).

A network knows nothing of time: `Network.prepare` computes what is constant while the input is fixed, once a batch, and
the `Drive` that it returns gives the currents of any state. Here ``x`` and ``s`` always are *activities*.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from eqprop._core.checks import instance, positive_int
from eqprop._core.memory_format import channels_last
from eqprop._core.precision import full_precision
from eqprop.activations import Activation, as_activation
from eqprop.connections.base import Connection, Ends, PreparedConnection

__all__ = ["Activities", "Contrast", "Drive", "Edge", "Network", "Population"]

Activities = tuple[Tensor, ...]
"""Activities of the populations ``1 .. L``: ``(B, *shape)`` each, input-first."""

Edge = tuple[int, int, Connection]
"""``(pre, post, connection)``, by population number; 0 is the input."""


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
    """Units that share a shape and an activation.

    Args:
        shape: shape without the batch, ``(n,)``; a bare ``n`` will do.
        activation: name or `Activation`.

    Raises:
        ValueError: if a size is not a positive whole number or the activation is unknown.

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
    """What is constant while a network settles: the input, the currents that it causes, and the wires.

    Attributes:
        input: activity of population 0, ``(B, *shape)``.
        constant: scaled constant current into each relaxing population, from the input and from biases, ``(B, *shape)``.
        wires: the connections whose currents change with the state.
        gains: the scale of the currents into each relaxing population.
    """

    input: Tensor
    constant: tuple[Tensor, ...]
    prepared: tuple[PreparedConnection, ...]
    gains: tuple[float, ...]

    def currents(self, s: Sequence[Tensor], x: Tensor | None = None) -> list[Tensor]:
        """Scaled currents into the relaxing populations at the activities ``s``: ``(B, *shape)`` each, the caller's own.

        Args:
            s: activities of the relaxing populations.
            x: that of the input just now, where it does not stand still; what `constant` holds of it stays.
        """
        u = [self.input, *self.constant]  # place 0 is never written: nothing flows into the input
        a = (self.input if x is None else x, *s)
        for wire in self.prepared:
            wire.add(u, a)
        return [u_n.clone() if u_n is c else u_n for u_n, c in zip(u[1:], self.constant, strict=True)]

    def currents_into(self, group: Sequence[int], s: Sequence[Tensor]) -> list[Tensor]:
        """The same into the populations of ``group`` alone, by number, in its order; nothing else is computed."""
        u, a = [self.input, *self.constant], (self.input, *s)
        for wire in self.prepared:
            if wire.post in group:
                wire.add_up(u, a)
            if wire.pre in group:
                wire.add_down(u, a)
        return [u[n].clone() if u[n] is self.constant[n - 1] else u[n] for n in group]

    def specialize(self, group: Sequence[int], s: Sequence[Tensor]) -> "Drive":
        """Return a drive with the work that depends on the populations of ``group`` alone done; valid while they stay as in ``s``."""
        a = (self.input, *s)
        wires = tuple(wire.specialize(a) if wire.pre in group else wire for wire in self.prepared)
        return Drive(self.input, self.constant, wires, self.gains)

    def repeat(self, n: int) -> "Drive":
        """The drive of the batch repeated ``n`` times, for phases that run side by side."""
        if n == 1:
            return self
        constant = tuple(torch.cat([c] * n) for c in self.constant)
        wires = tuple(wire.repeat(n) for wire in self.prepared)
        return Drive(torch.cat([self.input] * n), constant, wires, self.gains)


class Network(nn.Module):
    """Populations and the connections between them.

    Args:
        populations: input first, output last; at least these two.
        edges: ``(pre, post, connection)`` by population number; lateral (``pre == post``) and skip edges are welcome.

    Attributes:
        populations: as given, population 0 the input.
        relaxing: the populations ``1 .. L``.
        connections: the connections in the order given; their parameters are the network's.
        ends: ``(pre, post)`` of each connection.

    Raises:
        ValueError: if an edge names a population that is not there or ends in the input, if a connection does not fit
            its populations, or if no path of edges joins some population to the input.

    >>> from eqprop import Dense
    >>> Network([Population(4), Population(2)], [(0, 1, Dense(4, 2))]).ends
    ((0, 1),)
    """

    def __init__(self, populations: Iterable[Population], edges: Iterable[Edge]) -> None:
        super().__init__()
        edges = [(pre, post, instance("connection", connection, Connection)) for pre, post, connection in edges]
        self.populations = tuple(instance("population", p, Population) for p in populations)
        self.relaxing = self.populations[1:]
        self.ends = tuple((pre, post) for pre, post, _ in edges)
        self._check_graph()
        self.connections = nn.ModuleList(connection for _, _, connection in edges)
        self._multiple = max((connection.multiple for _, _, connection in edges), default=1)
        for edge in self.edges():
            self._check_fit(*edge)

    def edges(self) -> list[Edge]:
        """``(pre, post, connection)`` of every edge."""
        return [(pre, post, c) for (pre, post), c in zip(self.ends, self.connections, strict=True)]  # type: ignore[misc]

    def edge_names(self) -> list[str]:
        """``"1→2"`` for every edge, by the numbers of its populations; of parallel edges with their own number, ``"1→2 (3)"``."""
        numbers = [f" ({n})" if self.ends.count(ends) > 1 else "" for n, ends in enumerate(self.ends)]
        return [f"{pre}→{post}{number}" for (pre, post), number in zip(self.ends, numbers, strict=True)]

    def phi(self, x: Tensor, s: Sequence[Tensor]) -> Tensor:
        """The primitive function: ``(B,)``, for the activities ``x`` of the input and ``s`` of the rest."""
        a = (x, *s)
        terms = [connection.phi(a[pre], a[post]) for pre, post, connection in self.edges()]
        return sum(terms[1:], terms[0])

    def currents(self, x: Tensor, s: Sequence[Tensor]) -> Activities:
        """``u^n = dPhi/ds^n`` of every relaxing population: ``(B, *shape)`` each."""
        return tuple(self.prepare(x).currents(s))

    def prepare(
        self,
        x: Tensor,
        gains: Sequence[float] | None = None,
        shifts: Sequence[float] | None = None,
        *,
        static: bool = True,
    ) -> Drive:
        """What is constant while the input's activity is ``x``; once a batch.

        The drive's currents are ``gain * u + shift``, with one gain and one shift a relaxing population (1 and 0 if
        left out): a dynamics folds the affine part of its activations in here. An input that is not ``still``, as one that comes in
        spikes, has wires of its own, and the constant currents are those of the biases alone.
        """
        gain = [0.0, *(gains or [1.0] * len(self.relaxing))]
        offsets = shifts or [0.0] * len(self.relaxing)
        shapes = [(x.shape[0], *p.shape) for p in self.relaxing]
        constant = [channels_last(x.new_full(shape, shift)) for shape, shift in zip(shapes, offsets, strict=True)]
        wires = []
        with full_precision(x):
            for pre, post, connection in self.edges():
                if pre == 0 and connection.linear and static:
                    current = connection.up(x, constant[post - 1])  # of the right shape; its values do not count
                else:
                    wires.append(connection.prepare(pre, post, gain))
                    current = connection.offsets(x.shape[0])
                if current is not None:
                    constant[post - 1] = torch.add(constant[post - 1], current, alpha=gain[post])
        return Drive(x, tuple(constant), tuple(wires), tuple(gain[1:]))

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
        """``x``, if it fits the input population and the weights.

        Raises:
            ValueError: if its shape, its kind or its device does not fit.
        """
        shape = self.populations[0].shape
        instance("x", x, Tensor)
        if x.shape[1:] != shape or x.dim() == len(shape) or x.shape[0] == 0:
            raise ValueError(
                f"`x` must be (B, {', '.join(map(str, shape))}) with B of at least 1, got {tuple(x.shape)}"
            )
        if x.shape[0] % self._multiple:
            raise ValueError(
                f"`x` must hold as many samples for each of {self._multiple} networks side by side, got {x.shape[0]} in all"
            )
        weight = next(self.parameters(), x)
        if not x.is_floating_point() or (x.dtype, x.device) != (weight.dtype, weight.device):
            raise ValueError(
                f"`x` is {x.dtype} on {x.device}, the weights are {weight.dtype} on {weight.device}: convert one of them"
            )
        return x.clone() if x.is_inference() else x  # autograd, which may supply currents, takes no inference tensors

    def _check_graph(self) -> None:
        last = len(self.populations) - 1
        if last < 1:
            raise ValueError(f"`populations` must hold the input and at least one more, got {last + 1}")
        for pre, post in self.ends:
            if not (0 <= pre <= last and 0 <= post <= last):
                raise ValueError(f"edge {pre} -> {post} names a population that is not there: they are 0 to {last}")
            if post == 0:
                raise ValueError(f"edge {pre} -> 0 ends in the input, which is static: let edges start there")
        reached = {0}
        while more := {n for ends in self.ends if reached & set(ends) for n in ends} - reached:
            reached |= more
        if cut_off := sorted(set(range(last + 1)) - reached):
            raise ValueError(f"no path joins population {cut_off[0]} to the input: add an edge that reaches it")

    def _check_fit(self, pre: int, post: int, connection: Connection) -> None:
        shapes = self.populations[pre].shape, self.populations[post].shape
        like = next(connection.parameters(), torch.zeros(()))
        batch = 2 * connection.multiple
        a, b = (torch.zeros(batch, *shape, device=like.device, dtype=like.dtype) for shape in shapes)
        where = f"edge {pre} -> {post}: {connection} does not fit populations of shapes {shapes[0]} and {shapes[1]}"
        try:
            with torch.no_grad():
                up = connection.up(a, b)
                down = connection.down(b, a) if up.shape == b.shape else None
        except (RuntimeError, IndexError, ValueError) as error:
            raise ValueError(f"{where} ({error})") from None
        for name, current, s in (("upwards", up, b), ("downwards", down, a)):
            if current is not None and current.shape != s.shape:
                raise ValueError(f"{where}: its current {name} has shape {tuple(current.shape[1:])}")
        if pre:
            connection.check_activation(self.populations[post].activation)

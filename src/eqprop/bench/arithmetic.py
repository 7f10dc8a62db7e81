r"""The arithmetic that a training step of EP cannot avoid: its matrix products and convolutions, bare.

They follow from the graph. With T free steps of B samples, K nudged ones of n B (n = 2 if centred, else 1), for every edge:

    input        up, once, of B samples             edges from an input that stands still
    free step    up and down, T times, of B         the others; nothing goes down to the input
    nudged step  up and down, K times, of n B
    contrast     one for the gradient               of B samples from the input, 2 B elsewhere

for the difference of two outer products, ``post_a^T pre_a - post_b^T pre_b``, has rank 2 B. Untied weights pair two differences,
each of B samples. An input that comes in spikes goes up at every tick, and at the first tick of a free phase no spike has come
yet: decoders after the synapses then take no products. A sweep of an asynchronous schedule takes what a
synchronous step takes. A readout goes up and down at every nudged step, and once more for its own gradient.

Average pooling is a part of the kernel (`eqprop.connections.correlation`); max and softmax pooling go down and into the gradient as images
before pooling. Not counted are activations, poolings, additions, and the optimizer: what a step takes beyond is theirs.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor
from torch.nn.grad import conv2d_weight

from eqprop._core.memory_format import channels_last
from eqprop.bench.timing import Step
from eqprop.connections.base import Connection
from eqprop.connections.conv import PreparedConv
from eqprop.connections.dense import PreparedDense
from eqprop.connections.untied import Untied
from eqprop.costs import CrossEntropyReadout
from eqprop.models.model import Model
from eqprop.spiking import Spiking

__all__ = ["Call", "Part", "bare", "multiply_adds", "of_settling", "of_training"]

READOUT = "readout"

Way = Literal["up", "down", "gradient"]


@dataclass(frozen=True)
class Call:
    """One product or convolution.

    Attributes:
        edge: as `Network.edge_names` has it, or "readout".
        way: "up" with the weights, "down" with their adjoint, or the "gradient" of the weights.
        samples: so many states take part.
    """

    edge: str
    way: Way
    samples: int


@dataclass(frozen=True)
class Part:
    """Calls that are repeated.

    Attributes:
        name: "input", "free step", "nudged step" or "contrast".
        times: how often.
        calls: one after the other.
    """

    name: str
    times: int
    calls: tuple[Call, ...]


def of_training(model: Model, batch: int, free: int, nudged: int, copies: int = 1) -> tuple[Part, ...]:
    """What a training step by EP takes.

    Args:
        model: what is trained.
        batch: samples.
        free: T.
        nudged: K.
        copies: nudged phases side by side: 2 if centred.

    >>> import eqprop as ep
    >>> [(part.name, part.times, len(part.calls)) for part in of_training(ep.mlp([4, 8, 3]), 20, 30, 10)]
    [('input', 1, 1), ('free step', 30, 2), ('nudged step', 10, 2), ('contrast', 1, 2)]
    """
    read = [READOUT] if isinstance(model.cost, CrossEntropyReadout) else []
    many = copies * batch
    pull = [Call(name, way, many) for name in read for way in WAYS]
    own = [Call(name, way, batch) for name in read for way in ("up", "gradient")]
    still = still_input(model)
    return (
        Part("input", 1, tuple(Call(name, "up", batch) for name, pre, _ in edges(model) if still and not pre)),
        *of_settling(model, batch, free),
        Part("nudged step", nudged, (*step(model, many), *pull)),
        Part("contrast", 1, (*(call for edge in edges(model) for call in gradients(*edge, batch)), *own)),
    )


def of_settling(model: Model, batch: int, steps: int) -> tuple[Part, ...]:
    """What the first so many steps of a free phase take, the input's current apart."""
    dynamics = model.dynamics
    silent = isinstance(dynamics, Spiking) and dynamics.decode == "after"
    return (Part("free step", steps - silent, step(model, batch)),)


def multiply_adds(model: Model, parts: Sequence[Part]) -> int:
    """Multiply-accumulates; those of a convolution with the zeros of its padding.

    >>> import eqprop as ep
    >>> model = ep.mlp([4, 8, 3])
    >>> multiply_adds(model, of_settling(model, 20, steps=1)) == 20 * 2 * 8 * 3
    True
    """
    sizes = {name: operands.multiply_adds for name, operands in prepared(model, largest(parts, 1)).items()}
    return sum(part.times * call.samples * sizes[call.edge] for part in parts for call in part.calls)


def bare(model: Model, parts: Sequence[Part]) -> Step:
    """A function that does these products and convolutions, and nothing else, in the layouts of a training step.

    Raises:
        ValueError: if a connection is neither a product nor a convolution.
    """
    operands = prepared(model, largest(parts))
    made = [(part.times, [operands[call.edge].ready(call) for call in part.calls]) for part in parts]

    @torch.no_grad()
    def work() -> None:
        for times, calls in made:
            for _ in range(times):
                for call in calls:
                    call()

    return work


Edge = tuple[str, int, Connection]
"""Name, population below, connection."""

WAYS: tuple[Way, ...] = ("up", "down")


def edges(model: Model) -> list[Edge]:
    """All edges of the graph."""
    network = model.network
    return [(name, pre, c) for name, (pre, _, c) in zip(network.edge_names(), network.edges(), strict=True)]


def still_input(model: Model) -> bool:
    """Whether the current of the input is computed once a batch: no wire starts there."""
    like = next(model.parameters())
    x = like.new_zeros(1, *model.network.populations[0].shape)
    with torch.no_grad():
        return all(wire.pre for wire in model.dynamics.prepare(model.network, x).prepared)


def step(model: Model, samples: int) -> tuple[Call, ...]:
    """What one step of all populations takes."""
    still = still_input(model)
    return tuple(
        Call(name, way, samples)
        for name, pre, _ in edges(model)
        for way in (WAYS if pre else WAYS[:1])
        if pre or not still
    )


def gradients(name: str, pre: int, connection: Connection, batch: int) -> list[Call]:
    """What the contrast of an edge takes."""
    if pre and isinstance(getattr(connection, "written", connection), Untied):
        return [Call(name, "gradient", batch)] * 2
    return [Call(name, "gradient", 2 * batch if pre else batch)]


@dataclass(frozen=True, eq=False)
class Operands(ABC):
    """What the calls of an edge take: weights, and states of as many samples as the largest call has."""

    below: Tensor
    above: Tensor

    @property
    @abstractmethod
    def multiply_adds(self) -> int:
        """A sample, whichever way."""

    @abstractmethod
    def ready(self, call: Call) -> Callable[[], Tensor]:
        """The call with its operands at hand."""


@dataclass(frozen=True, eq=False)
class OfProducts(Operands):
    """Right factors upwards, ``(n_pre, n_post)``, and downwards, ``(n_post, n_pre)``."""

    up: Tensor
    down: Tensor

    @property
    def multiply_adds(self) -> int:
        """Of a vector with the matrix."""
        return self.up.numel()

    def ready(self, call: Call) -> Callable[[], Tensor]:
        """A product."""
        below, above = self.below[: call.samples], self.above[: call.samples]
        factors = {"up": (below, self.up), "down": (above, self.down), "gradient": (above.t(), below)}
        return partial(torch.mm, *factors[call.way])


@dataclass(frozen=True, eq=False)
class OfConvolutions(Operands):
    """The two filters; ``above`` is the image before a pooling that is no part of the kernel."""

    prepare: PreparedConv

    @property
    def multiply_adds(self) -> int:
        """At every pixel of the convolved image, the kernel."""
        return self.prepare.forward.kernel.numel() * self.above[0, 0].numel()

    def ready(self, call: Call) -> Callable[[], Tensor]:
        """A convolution, its transpose or its derivative."""
        below, above, there = self.below[: call.samples], self.above[: call.samples], self.prepare.forward
        if call.way == "up":
            return partial(there.up, below)
        if call.way == "down":
            return partial(self.prepare.feedback.down, above, below.shape)
        return partial(conv2d_weight, below, there.kernel.shape, above, there.stride, there.padding)


def largest(parts: Sequence[Part], most: int | None = None) -> dict[str, int]:
    """For every edge that is called, the most samples of a call; no more than ``most``."""
    found: dict[str, int] = {}
    for call in (call for part in parts for call in part.calls):
        found[call.edge] = max(found.get(call.edge, 0), min(call.samples, most or call.samples))
    return found


@torch.no_grad()
def prepared(model: Model, samples: Mapping[str, int]) -> dict[str, Operands]:
    """Operands of the edges that are named, of so many samples; states are random."""
    like, network, found = next(model.parameters()), model.network, dict[str, Operands]()
    generator = torch.Generator(like.device).manual_seed(0)

    def drawn(name: str, shape: tuple[int, ...]) -> Tensor:
        size = (samples[name], *shape)
        return channels_last(torch.rand(size, generator=generator, dtype=like.dtype, device=like.device))

    for name, (pre, post, connection) in zip(network.edge_names(), network.edges(), strict=True):
        if name in samples:
            found[name] = operands_of(connection, *(drawn(name, network.populations[n].shape) for n in (pre, post)))
    if READOUT in samples:
        assert isinstance(model.cost, CrossEntropyReadout)
        weight = model.cost.weight.detach()
        features, classes = (drawn(READOUT, (n,)) for n in (model.cost.features, model.cost.classes))
        found[READOUT] = OfProducts(features, classes, weight.t(), weight)
    return found


def operands_of(connection: Connection, below: Tensor, above: Tensor) -> Operands:
    """Of a connection between such states."""
    wire = connection.prepare(0, 1, (1.0, 1.0))
    if isinstance(wire, PreparedDense):
        return OfProducts(below.flatten(1), above, wire.up.detach(), wire.down.detach())
    if isinstance(wire, PreparedConv):
        return OfConvolutions(below, above if wire.pooling.fixed else wire.forward.up(below), wire)
    raise ValueError(
        f"the arithmetic of {type(connection).__name__} is not known: only dense connections and convolutions have "
        "bare products"
    )

r"""The matrix products and convolutions that an EP training step cannot avoid: their number, and a function that runs only them.

They follow from the graph. With T free steps on B samples and K nudged steps on n B samples (n = 2 if centred, else 1) they are:

    input        "up", once, B samples                edges from a static input
    free step    "up" and "down", T times, B samples  other edges; nothing goes down to the input
    nudged step  "up" and "down", K times, n B samples
    contrast     one "gradient"                       B samples from the input, 2 B elsewhere

The gradient ``post_a^T pre_a - post_b^T pre_b`` is one product of inner dimension 2 B. Untied weights pair two differences instead:
two products of B samples. A spiking input goes up at every tick; at the first tick of a free phase no spike has arrived yet, so
decoders after the synapses skip that product. One sweep of an asynchronous schedule takes what one synchronous step takes. A
readout goes up and down at every nudged step, and up once more with its own gradient.

Average pooling is folded into the kernel (`eqprop.connections.correlation`). Max and softmax pooling go down, and into the
gradient, as images before pooling. Activations, poolings, additions and the optimizer are not counted.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor
from torch.nn.grad import conv2d_weight

from eqprop._core.checks import instance, non_negative_int, positive_int, sequence
from eqprop._core.memory_format import channels_last
from eqprop.bench.timing import Step
from eqprop.connections.base import Connection
from eqprop.connections.conv import PreparedConv
from eqprop.connections.dense import PreparedDense
from eqprop.connections.untied import Untied
from eqprop.costs import CrossEntropyReadout
from eqprop.models.model import Model
from eqprop.spiking import Spiking

__all__ = ["Call", "Part", "make_bare_step", "multiply_adds", "settling_parts", "training_parts"]

READOUT = "readout"

Direction = Literal["up", "down", "gradient"]

BOTH_WAYS: tuple[Direction, ...] = ("up", "down")


@dataclass(frozen=True)
class Call:
    """One product or convolution.

    Attributes:
        edge: name of the edge as in `Network.edge_names`, or "readout".
        direction: "up" (with the weights), "down" (with their adjoint) or "gradient" (of the weights).
        samples: batch size of the call.
    """

    edge: str
    direction: Direction
    samples: int


@dataclass(frozen=True)
class Part:
    """A group of calls that is repeated.

    Attributes:
        name: "input", "free step", "nudged step" or "contrast".
        times: number of repetitions.
        calls: the calls of one repetition, in order.
    """

    name: str
    times: int
    calls: tuple[Call, ...]


def training_parts(model: Model, batch: int, free: int, nudged: int, copies: int = 1) -> tuple[Part, ...]:
    """Return the products and convolutions of one EP training step.

    Args:
        model: model to train.
        batch: batch size B.
        free: free steps T.
        nudged: nudged steps K.
        copies: nudged phases that run as one batch: 2 if centred, else 1.

    >>> import eqprop as ep
    >>> [(part.name, part.times, len(part.calls)) for part in training_parts(ep.mlp([4, 8, 3]), 20, 30, 10)]
    [('input', 1, 1), ('free step', 30, 2), ('nudged step', 10, 2), ('contrast', 1, 2)]
    """
    instance("model", model, Model)
    for name, number in (("batch", batch), ("free", free), ("nudged", nudged), ("copies", copies)):
        positive_int(name, number)
    static = _has_static_input(model)
    nudge, gradient = [], []
    if isinstance(model.cost, CrossEntropyReadout):
        nudge = [Call(READOUT, way, copies * batch) for way in BOTH_WAYS]
        gradient = [Call(READOUT, "up", batch), Call(READOUT, "gradient", batch)]
    return (
        Part("input", 1, tuple(Call(name, "up", batch) for name, pre, _ in _edges(model) if static and not pre)),
        *settling_parts(model, batch, free),
        Part("nudged step", nudged, (*_step_calls(model, copies * batch), *nudge)),
        Part("contrast", 1, (*(call for edge in _edges(model) for call in _gradient_calls(*edge, batch)), *gradient)),
    )


def settling_parts(model: Model, batch: int, steps: int) -> tuple[Part, ...]:
    """Return the products and convolutions of the first ``steps`` free steps, without those of a static input."""
    dynamics = instance("model", model, Model).dynamics
    positive_int("batch", batch)
    non_negative_int("steps", steps)
    no_spikes_at_first = isinstance(dynamics, Spiking) and dynamics.decode == "after"
    return (Part("free step", steps - no_spikes_at_first, _step_calls(model, batch)),)


def multiply_adds(model: Model, parts: Sequence[Part]) -> int:
    """Return the number of multiply-accumulate operations, including those with the zeros of a convolution's padding.

    >>> import eqprop as ep
    >>> model = ep.mlp([4, 8, 3])
    >>> multiply_adds(model, settling_parts(model, 20, steps=1)) == 20 * 2 * 8 * 3
    True
    """
    _check_parts(model, parts)
    sizes = {name: operands.multiply_adds for name, operands in _make_operands(model, _max_samples(parts, 1)).items()}
    return sum(part.times * call.samples * sizes[call.edge] for part in parts for call in part.calls)


def _check_parts(model: Model, parts: Sequence[Part]) -> None:
    instance("model", model, Model)
    for part in sequence("parts", parts, "a list of `Part`"):
        instance("parts", part, Part)


def make_bare_step(model: Model, parts: Sequence[Part]) -> Step:
    """Return a function that runs these products and convolutions and nothing else, in the memory layouts of a training step.

    Raises:
        ValueError: if a connection is neither dense nor a convolution.
    """
    _check_parts(model, parts)
    operands = _make_operands(model, _max_samples(parts))
    groups = [(part.times, [operands[call.edge].bind(call) for call in part.calls]) for part in parts]

    @torch.no_grad()
    def step() -> None:
        for times, calls in groups:
            for _ in range(times):
                for call in calls:
                    call()

    return step


Edge = tuple[str, int, Connection]
"""Name, presynaptic population, connection."""


def _edges(model: Model) -> list[Edge]:
    network = model.network
    return [(name, pre, c) for name, (pre, _, c) in zip(network.edge_names(), network.edges(), strict=True)]


def _has_static_input(model: Model) -> bool:
    """Whether the input drive is computed once a batch, so that no prepared connection starts at population 0."""
    like = next(model.parameters())
    x = like.new_zeros(1, *model.network.populations[0].shape)
    with torch.no_grad():
        return all(connection.pre for connection in model.dynamics.prepare(model.network, x).prepared)


def _step_calls(model: Model, samples: int) -> tuple[Call, ...]:
    """Calls of one step of all populations."""
    static = _has_static_input(model)
    return tuple(
        Call(name, way, samples)
        for name, pre, _ in _edges(model)
        for way in (BOTH_WAYS if pre else ("up",))
        if pre or not static
    )


def _gradient_calls(name: str, pre: int, connection: Connection, batch: int) -> list[Call]:
    """Calls of one edge's contrast."""
    if pre and isinstance(getattr(connection, "written", connection), Untied):
        return [Call(name, "gradient", batch)] * 2
    return [Call(name, "gradient", 2 * batch if pre else batch)]


@dataclass(frozen=True, eq=False)
class _Operands(ABC):
    """Operands of one edge: its weights, and states ``pre`` and ``post`` with the samples of the largest call."""

    pre: Tensor
    post: Tensor

    @property
    @abstractmethod
    def multiply_adds(self) -> int:
        """Multiply-accumulates of one sample, the same in each direction."""

    @abstractmethod
    def bind(self, call: Call) -> Callable[[], Tensor]:
        """Return the call as a function without arguments."""


@dataclass(frozen=True, eq=False)
class _DenseOperands(_Operands):
    """Right factors of the products: ``up`` ``(n_pre, n_post)`` and ``down`` ``(n_post, n_pre)``."""

    up: Tensor
    down: Tensor

    @property
    def multiply_adds(self) -> int:
        return self.up.numel()

    def bind(self, call: Call) -> Callable[[], Tensor]:
        pre, post = self.pre[: call.samples], self.post[: call.samples]
        factors = {"up": (pre, self.up), "down": (post, self.down), "gradient": (post.t(), pre)}
        return partial(torch.mm, *factors[call.direction])


@dataclass(frozen=True, eq=False)
class _ConvOperands(_Operands):
    """Both filters; ``post`` is the image before a pooling that is not folded into the kernel."""

    prepared: PreparedConv

    @property
    def multiply_adds(self) -> int:
        return self.prepared.forward.kernel.numel() * self.post[0, 0].numel()

    def bind(self, call: Call) -> Callable[[], Tensor]:
        pre, post, there = self.pre[: call.samples], self.post[: call.samples], self.prepared.forward
        if call.direction == "up":
            return partial(there.up, pre)
        if call.direction == "down":
            return partial(self.prepared.feedback.down, post, pre.shape)
        return partial(conv2d_weight, pre, there.kernel.shape, post, there.stride, there.padding)


def _max_samples(parts: Sequence[Part], limit: int | None = None) -> dict[str, int]:
    """Return for each edge the samples of its largest call, at most ``limit``."""
    found: dict[str, int] = {}
    for call in (call for part in parts for call in part.calls):
        found[call.edge] = max(found.get(call.edge, 0), min(call.samples, limit or call.samples))
    return found


@torch.no_grad()
def _make_operands(model: Model, samples: Mapping[str, int]) -> dict[str, _Operands]:
    """Return operands, with random states of ``samples[edge]`` samples, for the edges that ``samples`` names."""
    like, network, found = next(model.parameters()), model.network, dict[str, _Operands]()
    generator = torch.Generator(like.device).manual_seed(0)

    def random_state(name: str, shape: tuple[int, ...]) -> Tensor:
        size = (samples[name], *shape)
        return channels_last(torch.rand(size, generator=generator, dtype=like.dtype, device=like.device))

    for name, (pre, post, connection) in zip(network.edge_names(), network.edges(), strict=True):
        if name in samples:
            states = (random_state(name, network.populations[n].shape) for n in (pre, post))
            found[name] = _operands_of(connection, *states)
    if READOUT in samples:
        assert isinstance(model.cost, CrossEntropyReadout)
        weight = model.cost.weight.detach()
        features, classes = (random_state(READOUT, (n,)) for n in (model.cost.features, model.cost.classes))
        found[READOUT] = _DenseOperands(features, classes, weight.t(), weight)
    return found


def _operands_of(connection: Connection, pre: Tensor, post: Tensor) -> _Operands:
    prepared = connection.prepare(0, 1, (1.0, 1.0))
    if isinstance(prepared, PreparedDense):
        return _DenseOperands(pre.flatten(1), post, prepared.up.detach(), prepared.down.detach())
    if isinstance(prepared, PreparedConv):
        return _ConvOperands(pre, post if prepared.pooling.fixed else prepared.forward.up(pre), prepared)
    raise ValueError(
        f"the arithmetic of {type(connection).__name__} is not known: expected dense connections and convolutions"
    )

r"""How well the gradients of two rules agree, layer by layer: angles and lengths.

A layer is a connection with all of its parameters, laid end to end to one vector g. Of a gradient and one to hold it against,

    cosine  <g, h> / (|g| |h|)        1 where both point the same way
    ratio   |g| / |h|                 noise is divided by beta too: a large ratio beside a small cosine is noise

Networks with max pooling have several steady states. What a spiking network finds is to be compared with a gradient at the state
that lies where *it* came to rest, or the distance of two states would look like an error: `bptt_at_rest` and
`EquilibriumProp.from_state` start there.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from eqprop._core.checks import positive_int
from eqprop._core.state import Units
from eqprop.estimators.base import Estimator, FreePhaseCallback
from eqprop.models.model import Model, relax
from eqprop.solvers.settle import AT_REST, Settle, settle

__all__ = ["Agreement", "Gradient", "agreement", "bptt_at_rest", "gradient", "gradient_of", "layers"]

Gradient = Mapping[str, Tensor]
"""Of the batch-mean cost, by the names that ``model.named_parameters()`` gives; zero where a parameter has none."""


@dataclass(frozen=True)
class Agreement:
    """Of one layer.

    Attributes:
        cosine: of the angle between both gradients; 0 if the first one is zero.
        ratio: length of the first over that of the second.
    """

    cosine: float
    ratio: float


def gradient(
    estimator: Estimator, model: Model, x: Tensor, y: Tensor, *, on_free_phase: FreePhaseCallback | None = None
) -> Gradient:
    """The gradient that an estimator finds for one batch; no parameter and no ``.grad`` is changed.

    Args:
        estimator: one that yields one loss a batch.
        model: what it is asked about.
        x: input, ``(B, *shape)``.
        y: target, ``(B,)`` or ``(B, n)``.
        watch: is handed the free phase.

    Raises:
        ValueError: if it yields more losses than one, or as the estimator.

    >>> import torch, eqprop as ep
    >>> found = gradient(ep.BPTT(20), ep.mlp([4, 8, 3]), torch.rand(2, 4), torch.tensor([0, 1]))
    >>> list(found)[0], found["network.connections.0.weight"].shape
    ('network.connections.0.weight', torch.Size([8, 4]))
    """
    losses = list(estimator(model, x, y, on_free_phase=on_free_phase))
    if len(losses) != 1:
        raise ValueError(
            f"`estimator` must yield one loss a batch, {type(estimator).__name__} yielded {len(losses)}: "
            "take one whose weights stay during a batch"
        )
    return gradient_of(losses[0], model)


def gradient_of(loss: Tensor, model: Model) -> Gradient:
    """The gradient of a loss by every parameter of a model."""
    named = dict(model.named_parameters())
    found = torch.autograd.grad(loss, list(named.values()), allow_unused=True, materialize_grads=True)
    return dict(zip(named, found, strict=True))


def bptt_at_rest(
    model: Model, x: Tensor, y: Tensor, start: Units, *, rest: Settle = AT_REST, unrolled_steps: int = 60
) -> Gradient:
    """BPTT's gradient at the steady state of the `twin` that lies where ``start`` is.

    Args:
        model: spiking or not; its twin is what settles and is differentiated.
        x: input, ``(B, *shape)``.
        y: target, ``(B,)`` or ``(B, n)``.
        start: where the twin begins to settle, such as the potentials of a spiking free phase: ``model.dynamics.units(state)``.
        rest: how long it settles.
        unrolled_steps: steps from there that autograd walks back.

    Raises:
        ValueError: if an argument does not fit.
        FloatingPointError: if the input, a weight or a state is not finite.
    """
    steps, twin = Settle(positive_int("unrolled_steps", unrolled_steps)), model.rate_model()
    still = relax(twin, x, rest, state=start).state
    with torch.enable_grad():
        phase, _, target = twin.prepare_batch(x, y)
        last = settle(phase, still, steps)
        return gradient_of(twin.cost.value(last.output, target).mean(), twin)


def layers(model: Model, found: Gradient) -> dict[str, Tensor]:
    """Each connection's gradient as one vector, under the name of its edge, ``"0→1"``, in the network's order.

    Raises:
        ValueError: if a parameter of a connection is missing.
    """
    vectors = {}
    for n, edge in enumerate(model.network.edge_names()):
        names = [name for name, _ in model.named_parameters() if name.startswith(f"network.connections.{n}.")]
        if lost := [name for name in names if name not in found]:
            raise ValueError(f"the gradient has no {lost[0]!r}: take it of this model by `gradient`")
        if names:
            vectors[edge] = torch.cat([found[name].flatten() for name in names])
    return vectors


def agreement(model: Model, of: Gradient, to: Gradient) -> dict[str, Agreement]:
    """How a gradient agrees with another one, layer by layer.

    Args:
        model: whose parameters they are of; a twin has the same ones.
        of: what is judged.
        to: what it is held against.

    Raises:
        ValueError: if ``to`` is zero in a layer: with nothing to learn there is no direction to agree on.

    >>> import torch, eqprop as ep
    >>> model, x, y = ep.mlp([4, 8, 3]), torch.rand(2, 4), torch.tensor([0, 1])
    >>> found = gradient(ep.BPTT(20), model, x, y)
    >>> [(edge, round(both.cosine, 6), both.ratio) for edge, both in agreement(model, found, found).items()]
    [('0→1', 1.0, 1.0), ('1→2', 1.0, 1.0)]
    """
    left, right = layers(model, of), layers(model, to)
    return {edge: agree(edge, g.double(), right[edge].double()) for edge, g in left.items()}


def agree(edge: str, g: Tensor, h: Tensor) -> Agreement:
    """Of one layer's vectors."""
    if not (length := h.norm()):
        raise ValueError(f"the gradient `to` is zero in layer {edge}: leave this batch out")
    ratio = (g.norm() / length).item()
    return Agreement((g @ h / (g.norm() * length)).item() if ratio else 0.0, ratio)

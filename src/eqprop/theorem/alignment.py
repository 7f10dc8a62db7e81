r"""Layer-by-layer alignment of two gradients: angles and lengths.

The gradient of a layer is that of all parameters of a connection, flattened to one vector. For a gradient g and a reference h,

    cosine  <g, h> / (|g| |h|)        1 where both have the same direction
    ratio   |g| / |h|                 EP divides noise by beta: a large ratio with a small cosine is noise

Networks with max pooling have several steady states. Compare the gradient of a spiking network with one at the steady state next to
its own, or the distance of the two states looks like an error: start `bptt_at_rest` and `EquilibriumProp.from_state` there.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from eqprop._core.checks import ArgumentError, positive_int
from eqprop._core.state import Units
from eqprop.estimators.base import Estimator, FreePhaseCallback
from eqprop.models.model import Model, relax
from eqprop.solvers.settle import AT_REST, Settle, settle

__all__ = [
    "Gradient",
    "LayerAlignment",
    "align_layers",
    "bptt_at_rest",
    "estimate_gradient",
    "layer_vectors",
    "loss_gradient",
]

Gradient = Mapping[str, Tensor]
"""Gradient of the batch-mean cost, keyed as ``model.named_parameters()``; zero for unused parameters."""


@dataclass(frozen=True)
class LayerAlignment:
    """Alignment of a gradient with a reference in one layer.

    Attributes:
        cosine: of the angle between the two; 0 if the gradient is zero.
        ratio: length of the gradient over that of the reference.
    """

    cosine: float
    ratio: float


def estimate_gradient(
    estimator: Estimator, model: Model, x: Tensor, y: Tensor, *, on_free_phase: FreePhaseCallback | None = None
) -> Gradient:
    """Return an estimator's gradient for one batch. Parameters and their ``.grad`` are not changed.

    Args:
        estimator: one that yields a single loss for each batch.
        model: the model.
        x: input, ``(B, *shape)``.
        y: target, ``(B,)`` or ``(B, n)``.
        on_free_phase: called with the solution of the free phase.

    Raises:
        ValueError: if the estimator yields several losses, or an argument is invalid.

    >>> import torch, eqprop as ep
    >>> gradient = estimate_gradient(ep.BPTT(20), ep.mlp([4, 8, 3]), torch.rand(2, 4), torch.tensor([0, 1]))
    >>> list(gradient)[0], gradient["network.connections.0.weight"].shape
    ('network.connections.0.weight', torch.Size([8, 4]))
    """
    losses = list(estimator(model, x, y, on_free_phase=on_free_phase))
    if len(losses) != 1:
        raise ArgumentError(
            "estimator",
            f"`estimator` must yield one loss for each batch, {type(estimator).__name__} yielded {len(losses)}: "
            "use one that keeps the weights fixed during a batch",
        )
    return loss_gradient(losses[0], model)


def loss_gradient(loss: Tensor, model: Model) -> Gradient:
    """Return the gradient of a loss with respect to every parameter of a model."""
    named = dict(model.named_parameters())
    gradient = torch.autograd.grad(loss, list(named.values()), allow_unused=True, materialize_grads=True)
    return dict(zip(named, gradient, strict=True))


def bptt_at_rest(
    model: Model, x: Tensor, y: Tensor, start: Units, *, rest: Settle = AT_REST, unrolled_steps: int = 60
) -> Gradient:
    """Return BPTT's gradient at the steady state of the `Model.rate_model` that is reached from ``start``.

    Args:
        model: spiking or not.
        x: input, ``(B, *shape)``.
        y: target, ``(B,)`` or ``(B, n)``.
        start: initial state, such as the potentials after a spiking free phase: ``model.dynamics.units(state)``.
        rest: how to settle.
        unrolled_steps: further steps, which autograd differentiates.

    Raises:
        ValueError: if an argument is invalid.
        FloatingPointError: if the input, a weight or a state is not finite.
    """
    steps, rate_model = Settle(positive_int("unrolled_steps", unrolled_steps)), model.rate_model()
    steady = relax(rate_model, x, rest, state=start).state
    with torch.enable_grad():
        phase, _, target = rate_model.prepare_batch(x, y)
        last = settle(phase, steady, steps)
        return loss_gradient(rate_model.cost.value(last.output, target).mean(), rate_model)


def layer_vectors(model: Model, gradient: Gradient) -> dict[str, Tensor]:
    """Return each connection's gradient as one vector, by the name of its edge, ``"0→1"``, in the network's order.

    Raises:
        ValueError: if a parameter of a connection is missing.
    """
    vectors = {}
    for n, edge in enumerate(model.network.edge_names()):
        names = [name for name, _ in model.named_parameters() if name.startswith(f"network.connections.{n}.")]
        if missing := [name for name in names if name not in gradient]:
            raise ArgumentError(
                "gradient", f"`gradient` has no {missing[0]!r}: compute it for this model by `estimate_gradient`"
            )
        if names:
            vectors[edge] = torch.cat([gradient[name].flatten() for name in names])
    return vectors


def align_layers(model: Model, gradient: Gradient, reference: Gradient) -> dict[str, LayerAlignment]:
    """Compare a gradient with a reference, layer by layer.

    Args:
        model: the model with these parameters; a rate model has the same ones.
        gradient: the gradient to judge.
        reference: the gradient to compare with.

    Raises:
        ValueError: if the reference is zero in a layer, where it has no direction.

    >>> import torch, eqprop as ep
    >>> model, x, y = ep.mlp([4, 8, 3]), torch.rand(2, 4), torch.tensor([0, 1])
    >>> gradient = estimate_gradient(ep.BPTT(20), model, x, y)
    >>> [(edge, round(a.cosine, 6), a.ratio) for edge, a in align_layers(model, gradient, gradient).items()]
    [('0→1', 1.0, 1.0), ('1→2', 1.0, 1.0)]
    """
    left, right = layer_vectors(model, gradient), layer_vectors(model, reference)
    return {edge: _align(edge, g.double(), right[edge].double()) for edge, g in left.items()}


def _align(edge: str, g: Tensor, h: Tensor) -> LayerAlignment:
    if not (length := h.norm()):
        raise ArgumentError("reference", f"`reference` is zero in layer {edge}: leave this batch out")
    ratio = (g.norm() / length).item()
    return LayerAlignment((g @ h / (g.norm() * length)).item() if ratio else 0.0, ratio)

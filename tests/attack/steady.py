"""At a steady state every estimator gives the gradient of the steady state, whatever the form in which the model is written.

References are independent of EP: BPTT and implicit differentiation, and the same model in another form (untied weights that are
equal, float32, a batch in two parts).
"""

import copy
import warnings
from random import Random

import torch
from torch import Tensor

import eqprop as ep
import zoo
from attack.api import ALLOWED, check_message
from attack.case import Case, Fault

STEPS, REST, CLOSE = 200, 1e-9, 0.8
"""Length of a phase, the residual below which its end counts as a steady state, and a cosine that counts as close."""


def steady_case(rng: Random) -> Case:
    """Compare EP's gradient to the exact one of a random model at rest; the nudge is so small that few units meet a kink."""
    name, cost, seed = rng.choice(list(zoo.GRAPHS)), rng.choice(["squared", "readout"]), rng.randrange(10**6)
    dynamics = rng.choice([ep.Prototypical(), ep.Prototypical(), ep.EnergyDescent(dt=rng.choice([0.3, 0.5, 1.0]))])
    schedule, scale = rng.choice([ep.Synchronous(), ep.Asynchronous()]), rng.choice([0.2, 0.4, 0.6])
    compare = rng.choice([_exact, _exact, _equal_feedback, _single_precision, _in_two_parts])
    how = f"{compare.__name__}: zoo.model({name!r}, {dynamics!r}, {cost!r}, {seed}, {scale}), {schedule!r}"

    def run() -> None:
        model = zoo.model(name, dynamics, cost, seed, scale)
        settle = ep.Settle(STEPS, schedule=schedule)
        x, y = zoo.batch(model, seed)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                if ep.relax(model, x, settle).residual.max() > REST:
                    return  # the theorem says nothing about a model that does not come to rest
                compare(model, settle, x, y)
        except ALLOWED as error:
            check_message(error)

    return Case(how, run)


def _ep(settle: ep.Settle, beta: float = 1e-5) -> ep.Estimator:
    return ep.EquilibriumProp(settle, settle, beta, "centred")


def _gradients(model: ep.Model, estimator: ep.Estimator, x: Tensor, y: Tensor) -> list[Tensor]:
    """Return the gradient of each parameter of the network."""
    model.zero_grad()
    for loss in estimator(model, x, y):
        loss.backward()
    return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in model.network.parameters()]


def _check(found: list[Tensor], right: list[Tensor], tolerance: float, what: str) -> None:
    a, b = (torch.cat([g.double().flatten() for g in gs]) for gs in (found, right))
    if not (a - b).norm() <= tolerance * max(b.norm().item(), 1e-3):
        raise Fault(f"the gradient differs from {what}: {(a - b).norm():.2e} of {b.norm():.2e}")


def _exact(model: ep.Model, settle: ep.Settle, x: Tensor, y: Tensor) -> None:
    """BPTT and implicit differentiation agree, and so does EP on an energy; prototypical dynamics have none: EP is close."""
    exact = _gradients(model, ep.BPTT(settle, STEPS), x, y)
    _check(_gradients(model, ep.ImplicitDiff(settle, STEPS), x, y), exact, 1e-4, "BPTT's")
    found = _gradients(model, _ep(settle), x, y)
    if isinstance(model.dynamics, ep.EnergyDescent):
        return _check(found, exact, 1e-3, "BPTT's")
    a, b = (torch.cat([g.flatten() for g in gs]) for gs in (found, exact))
    if (cosine := torch.cosine_similarity(a, b, 0)) < CLOSE:
        raise Fault(f"the cosine between the gradient and BPTT's is {cosine:.3f}")
    return None


def _equal_feedback(model: ep.Model, settle: ep.Settle, x: Tensor, y: Tensor) -> None:
    """Feedback weights that equal the forward weights settle alike; both parts of the gradient add up to that of shared weights."""
    other = zoo.untied(model, 0.0)
    _gradients(model, _ep(settle), x, y)
    _gradients(other, _ep(settle), x, y)
    pairs = [
        (untied, tied)
        for untied, tied in zip(other.network.connections, model.network.connections, strict=True)
        if isinstance(untied, ep.Untied)
    ]
    summed = [_grad(untied.upward.weight) + _grad(untied.feedback) for untied, _ in pairs]
    _check(summed, [_grad(tied.weight) for _, tied in pairs], 1e-3, "that of shared weights")


def _grad(parameter: Tensor) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def _single_precision(model: ep.Model, settle: ep.Settle, x: Tensor, y: Tensor) -> None:
    """A large nudge loses few digits in float32."""
    right = _gradients(model, _ep(settle, 0.1), x, y)
    _check(_gradients(copy.deepcopy(model).float(), _ep(settle, 0.1), x.float(), y), right, 1e-2, "that of float64")


def _in_two_parts(model: ep.Model, settle: ep.Settle, x: Tensor, y: Tensor) -> None:
    """The gradient of a mean is the mean of the gradients."""
    whole = _gradients(model, _ep(settle), x, y)
    first, rest = (_gradients(model, _ep(settle), x[part], y[part]) for part in (slice(1), slice(1, None)))
    n = len(x)
    mean = [(a + (n - 1) * b) / n for a, b in zip(first, rest, strict=True)]
    _check(mean, whole, 1e-6, "the mean of those of two parts")

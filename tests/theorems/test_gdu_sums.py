"""Summed over steps, the increments are EP's estimate and the gradients are BPTT's, to round-off, settled or not.

``-sum_{t<=k} Delta_theta(t)`` telescopes to the estimate of `EquilibriumProp` with k + 1 nudged steps, and ``sum_{t<=k} nabla(t)``
is the gradient of `BPTT` over the last k + 1 steps: identities, whatever the model does.
"""

import pytest
import torch

import eqprop as ep
import zoo

T, K, BETA = 9, 5, 0.05
DYNAMICS = {
    "energy": ep.EnergyDescent(dt=0.4, clamp=False),
    "clamped": ep.EnergyDescent(dt=0.4, clamp=True),
    "inside": ep.Prototypical(nudge="inside"),
    "outside": ep.Prototypical(nudge="outside"),
}


def untied(dynamics):
    readout = ep.CrossEntropyReadout(5, zoo.CLASSES)
    return ep.mlp([zoo.INPUT, 4, 5], activation="tanh", tied=False, angle=60, dynamics=dynamics, cost=readout).double()


MODELS = {
    "tied": lambda dynamics: zoo.model("input-skip", dynamics),
    "readout": lambda dynamics: zoo.model("own-connection", dynamics, "readout"),
    "nonlinear": lambda dynamics: zoo.model("nonlinear-connection", dynamics),
    "untied": untied,
}


def gradients(model, estimator):
    model.zero_grad()
    for loss in estimator(model, *zoo.batch(model)):
        loss.backward()
    return {n: torch.zeros_like(p) if p.grad is None else p.grad.clone() for n, p in model.named_parameters()}


def same(found, expected):
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-10, atol=1e-13 / BETA, msg=name)


@pytest.mark.parametrize("nudging", ["one-sided", "centred"])
@pytest.mark.parametrize("dynamics", DYNAMICS)
@pytest.mark.parametrize("kind", MODELS)
def test_the_sums_are_the_estimators(kind, dynamics, nudging):
    model = MODELS[kind](DYNAMICS[dynamics])
    report = ep.gdu(model, *zoo.batch(model), T, K, BETA, nudging)
    estimate = gradients(model, ep.EquilibriumProp(T, K, BETA, nudging))
    assert all(gradient.any() for gradient in estimate.values())
    same({name: -p.ep.sum(0) for name, p in report.parameters.items()}, estimate)
    same({name: p.bptt.sum(0) for name, p in report.parameters.items()}, gradients(model, ep.BPTT(T, K)))


@pytest.mark.parametrize("dynamics", DYNAMICS)
@pytest.mark.parametrize("kind", ["readout", "untied"])
def test_every_prefix_is_an_estimator_with_fewer_steps(kind, dynamics):
    model = MODELS[kind](DYNAMICS[dynamics])
    report = ep.gdu(model, *zoo.batch(model), T, K, BETA)
    sums = {name: process.accumulated() for name, process in report.parameters.items()}
    for k in range(K):
        same({name: -p.ep[k] for name, p in sums.items()}, gradients(model, ep.EquilibriumProp(T, k + 1, BETA)))
        same({name: p.bptt[k] for name, p in sums.items()}, gradients(model, ep.BPTT(T, k + 1)))


@pytest.mark.parametrize("dynamics", DYNAMICS)
def test_neurons_telescope_to_the_displacement(dynamics):
    model = zoo.model("skip", DYNAMICS[dynamics])
    x, y = zoo.batch(model)
    report = ep.gdu(model, x, y, T, K, BETA)
    free = ep.relax(model, x, T).state
    end = ep.relax(model, x, K, y, BETA, state=free).state
    for process, a, b in zip(report.neurons, free, end, strict=True):
        torch.testing.assert_close(process.ep.sum(0), (b - a) / (BETA * report.dt), rtol=1e-10, atol=1e-12)


def test_the_whole_free_phase_gives_the_gradient_of_bptt():
    model = zoo.model("skip", DYNAMICS["energy"])
    report = ep.gdu(model, *zoo.batch(model), T, T, BETA)
    same({name: p.bptt.sum(0) for name, p in report.parameters.items()}, gradients(model, ep.BPTT(T)))


def test_the_angle_is_that_of_the_estimators():
    """Of all weights in one vector, biases and readout left out."""
    model = zoo.model("own-connection", DYNAMICS["outside"], "readout")
    report = ep.gdu(model, *zoo.batch(model), T, K, BETA)
    vectors = []
    for estimator in (ep.EquilibriumProp(T, K, BETA), ep.BPTT(T, K)):
        of = gradients(model, estimator)
        vectors.append(torch.cat([g.flatten() for n, g in of.items() if n.startswith("network") and g.dim() > 1]))
    cosine = torch.nn.functional.cosine_similarity(*vectors, dim=0)
    assert report.angle() == pytest.approx(cosine.acos().rad2deg().item(), rel=1e-6)
    assert report.angle() > 1

"""Continual EP in the report: the increments are those by which `ContinualEP` and plain SGD move the weights (float64)."""

import copy

import pytest
import torch

import eqprop as ep
import zoo
from eqprop.estimators.rates import rates_by_parameter

T, K, BETA = 400, 6, 0.05
DYNAMICS = {
    "energy": ep.EnergyDescent(dt=0.4, clamp=False),
    "inside": ep.Prototypical(nudge="inside"),
    "outside": ep.Prototypical(),
}


def untied(dynamics):
    torch.manual_seed(3)
    return ep.mlp([4, 5, 3], activation="tanh", dynamics=dynamics, tied=False, angle=60).double()


def trained(model, x, y, rates, nudging):
    """The gradient of each loss of `ContinualEP`, each followed by a step of SGD, on a copy."""
    private = copy.deepcopy(model)
    rate = rates_by_parameter(private, rates, "test")
    found = []
    for loss in ep.ContinualEP(T, K, BETA, nudging)(private, x, y):
        private.zero_grad()
        loss.backward()
        found.append(
            {n: torch.zeros_like(p) if p.grad is None else p.grad.clone() for n, p in private.named_parameters()}
        )
        with torch.no_grad():
            for n, p in private.named_parameters():
                p.sub_(rate[p] * found[-1][n])
    return found


@pytest.mark.parametrize("nudging", ["one-sided", "centred"])
@pytest.mark.parametrize("dynamics", DYNAMICS)
@pytest.mark.parametrize("name", ["chain", "skip", "lateral", "untied"])
def test_increments_are_minus_the_gradients_of_the_losses(name, dynamics, nudging):
    model = untied(DYNAMICS[dynamics]) if name == "untied" else zoo.model(name, DYNAMICS[dynamics])
    x, y = zoo.batch(model)
    rates = [0.01 * (n + 1) for n in range(len(model.network.connections))]
    report = ep.gdu(model, x, y, T, K, BETA, nudging, rates=rates)
    assert report.rates == tuple(rates)
    for t, grads in enumerate(trained(model, x, y, rates, nudging)):
        for n, grad in grads.items():
            torch.testing.assert_close(report.parameters[n].ep[t], -grad, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dynamics", DYNAMICS)
def test_a_rate_of_zero_gives_the_increments_of_ep(dynamics):
    model = zoo.model("deep-chain", DYNAMICS[dynamics])
    x, y = zoo.batch(model)
    moving, at_rest = (ep.gdu(model, x, y, T, K, BETA, rates=rates) for rates in (0.0, None))
    for n, process in at_rest.parameters.items():
        torch.testing.assert_close(moving.parameters[n].ep, process.ep, rtol=1e-9, atol=1e-13)
    for a, b in zip(moving.neurons, at_rest.neurons, strict=True):
        torch.testing.assert_close(a.ep, b.ep, rtol=0, atol=0)
        torch.testing.assert_close(a.bptt, b.bptt, rtol=0, atol=0)


def test_the_distance_to_ep_is_linear_in_the_rate():
    model = zoo.model("chain", DYNAMICS["energy"])
    x, y = zoo.batch(model)
    ep_total = total(ep.gdu(model, x, y, T, K, BETA))
    far = [(total(ep.gdu(model, x, y, T, K, BETA, rates=rate)) - ep_total).norm().item() for rate in (1e-4, 1e-5)]
    assert far[0] == pytest.approx(10 * far[1], rel=0.02)


def total(report):
    return torch.cat([process.ep.sum(0).flatten() for process in report.parameters.values()])


def test_the_model_is_not_changed():
    model = zoo.model("chain", DYNAMICS["inside"], "readout")
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    ep.gdu(model, *zoo.batch(model), T, K, BETA, rates=0.1)
    assert all(p.equal(before[n]) and p.grad is None for n, p in model.named_parameters())


@pytest.mark.parametrize(("rate", "holds"), [(1e-6, True), (0.1, False)])
def test_a_learning_rate_that_is_too_large_is_reported(rate, holds):
    model = zoo.model("chain", DYNAMICS["energy"])
    report = ep.gdu(model, *zoo.batch(model), 3000, K, 1e-2, rates=rate)
    found = {assumption.name: assumption.holds for assumption in report.assumptions}
    assert found["slow weights"] == holds
    assert report.summary()["rates"] == [rate]


def test_without_rates_there_is_no_slow_weights_assumption():
    model = zoo.model("chain", DYNAMICS["energy"])
    report = ep.gdu(model, *zoo.batch(model), 100, K, BETA)
    assert "slow weights" not in [assumption.name for assumption in report.assumptions]
    assert report.summary()["rates"] is None


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        ((0.1, 0.1, 0.1), "names 3 learning rates"),
        (-0.1, "`rates` must be a finite number of at least 0"),
        ((), "empty"),
    ],
)
def test_bad_rates(rates, message):
    model = zoo.model("chain", DYNAMICS["energy"])
    with pytest.raises(ValueError, match=message):
        ep.gdu(model, *zoo.batch(model), 10, 2, BETA, rates=rates)


def test_diverging_weights_raise():
    model = zoo.model("linear-output", ep.Prototypical(nudge="inside"))
    with pytest.raises(FloatingPointError, match="in which the weights move"):
        ep.gdu(model, *zoo.batch(model), 50, 50, BETA, rates=3e38)


def test_a_diverging_linear_network_raises():
    """Its states are finite, but the backward pass overflows; an angle of 0 degrees would be wrong."""
    torch.manual_seed(0)
    model = ep.mlp([5, 30, 10], activation="identity", dynamics=ep.EnergyDescent(clamp=False))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    with pytest.raises(FloatingPointError, match="not finite"):
        ep.gdu(model, torch.rand(3, 5), torch.tensor([0, 1, 2]), 100, 100, 1e-2)

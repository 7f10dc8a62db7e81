"""EP's gradient tends to BPTT's for small beta, at the order that theory predicts (float64)."""

import math
from functools import cache

import pytest
import torch

import eqprop as ep
import zoo

EXACT = {"inside": ep.Prototypical(nudge="inside"), "energy": ep.EnergyDescent(dt=0.5, clamp=False)}
COSTS = ["squared", "readout"]
FREE = NUDGED = ep.Settle(4000, tol=1e-14, check_every=10)
LONG = 120
"""Unrolled steps after which the gradient has converged."""


@cache
def settled_case(name, dynamics, cost):
    """A model, a batch and its BPTT gradient, unrolled until more steps change nothing."""
    model = zoo.model(name, dynamics, cost)
    x, y = zoo.batch(model)
    return model, x, y, zoo.gradient(model, ep.BPTT(FREE, LONG), x, y)


def slope(betas, errors):
    """Slope of log(error) over log(beta)."""
    return math.log(errors[0] / errors[-1]) / math.log(betas[0] / betas[-1])


@pytest.mark.parametrize("cost", COSTS)
@pytest.mark.parametrize("dynamics", EXACT)
@pytest.mark.parametrize("name", zoo.GRAPHS)
def test_order_in_beta(name, dynamics, cost):
    model, x, y, bptt = settled_case(name, EXACT[dynamics], cost)
    betas = [0.01, 0.0025]
    one_sided, centred = (
        [zoo.distance(zoo.gradient(model, ep.EquilibriumProp(FREE, NUDGED, b, nudging), x, y), bptt) for b in betas]
        for nudging in ("one-sided", "centred")
    )
    assert centred[0] <= 1e-3
    assert abs(slope(betas, one_sided) - 1) < 0.1
    assert abs(slope(betas, centred) - 2) < 0.1


@pytest.mark.parametrize("name", ["chain", "sigmoid-chain", "skip", "lateral"])
def test_the_outside_nudge_keeps_a_distance(name):
    """The force skips rho', so the limit of EP is not BPTT's gradient: the distance tends to a constant, not to zero."""
    model, x, y, bptt = settled_case(name, ep.Prototypical(), "squared")
    far = [
        zoo.distance(zoo.gradient(model, ep.EquilibriumProp(FREE, NUDGED, b, "centred"), x, y), bptt)
        for b in (1e-2, 1e-3, 1e-4)
    ]
    assert far[2] > 1e-3
    assert abs(far[1] - far[2]) < 1e-3 * far[2]


def test_the_outside_nudge_is_exact_for_a_linear_output():
    """Where rho' = 1 there is nothing to skip."""
    model, x, y, bptt = settled_case("linear-output", ep.Prototypical(), "squared")
    estimate = zoo.gradient(model, ep.EquilibriumProp(FREE, NUDGED, 1e-3, "centred"), x, y)
    assert zoo.distance(estimate, bptt) < 1e-5


def test_leaving_the_output_derivative_out_breaks_the_match():
    model, x, y, bptt = settled_case(
        "sigmoid-chain", ep.EnergyDescent(dt=0.5, clamp=False, output_derivative=False), "squared"
    )
    estimate = zoo.gradient(model, ep.EquilibriumProp(FREE, NUDGED, 1e-4, "centred"), x, y)
    assert zoo.distance(estimate, bptt) > 1e-2


@pytest.mark.parametrize("dynamics", EXACT)
def test_random_signs_average_to_the_centred_estimate(dynamics):
    model = zoo.model("chain", EXACT[dynamics])
    x, y = zoo.batch(model)
    generator = torch.Generator().manual_seed(0)
    one = ep.EquilibriumProp(FREE, NUDGED, 0.05, "random-sign")
    drawn = torch.stack([zoo.gradient(model, lambda *a: one(*a, generator=generator), x, y) for _ in range(12)])
    distinct = torch.unique(drawn, dim=0)
    assert len(distinct) == 2
    centred = zoo.gradient(model, ep.EquilibriumProp(FREE, NUDGED, 0.05, "centred"), x, y)
    torch.testing.assert_close(distinct.mean(0), centred, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("cost", COSTS)
@pytest.mark.parametrize("dynamics", [*EXACT.values(), ep.Prototypical()], ids=[*EXACT, "outside"])
@pytest.mark.parametrize("name", zoo.GRAPHS)
def test_implicit_differentiation_is_bptt(name, dynamics, cost):
    model, x, y, bptt = settled_case(name, dynamics, cost)
    implicit = zoo.gradient(model, ep.ImplicitDiff(FREE, FREE), x, y)
    assert zoo.distance(implicit, bptt) < 1e-8


@pytest.mark.parametrize("name", ["chain", "skip", "nonlinear-connection"])
def test_k_adjoint_iterations_are_bptt_over_k_plus_1_steps(name):
    model = zoo.model(name, ep.Prototypical(nudge="inside"))
    x, y = zoo.batch(model)
    implicit = zoo.gradient(model, ep.ImplicitDiff(500, 4), x, y)
    assert zoo.distance(implicit, zoo.gradient(model, ep.BPTT(500, 5), x, y)) < 1e-10


def test_truncation_cuts_the_gradient_and_not_the_state():
    model = zoo.model("chain", ep.EnergyDescent(dt=0.3))
    x, y = zoo.batch(model)
    seen = []
    for unrolled in (2, 12, None):
        (loss,) = ep.BPTT(12, unrolled)(model, x, y, on_free_phase=seen.append)
        seen.append(loss.item())
    short, cost_short, long, cost_long, full, cost_full = seen
    assert cost_short == cost_long == cost_full
    assert short.steps == long.steps == full.steps == 12
    assert not any(s.requires_grad for s in short.state)
    gradients = [zoo.gradient(model, ep.BPTT(12, k), x, y) for k in (2, 12, None)]
    torch.testing.assert_close(gradients[1], gradients[2], rtol=0, atol=0)
    assert zoo.distance(gradients[0], gradients[2]) > 1e-3


@pytest.mark.parametrize("dynamics", EXACT)
def test_the_input_gets_its_gradient_too(dynamics):
    """Layers before the network can be trained with it."""
    model, x, y, _ = settled_case("input-skip", EXACT[dynamics], "squared")

    def of_input(estimator):
        leaf = x.clone().requires_grad_()
        (loss,) = estimator(model, leaf, y)
        return torch.autograd.grad(loss, leaf)[0]

    bptt = of_input(ep.BPTT(FREE, LONG))
    assert zoo.distance(of_input(ep.EquilibriumProp(FREE, NUDGED, 1e-3, "centred")), bptt) < 1e-5
    assert zoo.distance(of_input(ep.ImplicitDiff(FREE)), bptt) < 1e-8


def test_frozen_weights_are_left_out():
    model, x, y, _ = settled_case.__wrapped__(
        "chain", EXACT["inside"], "readout"
    )  # not the cached one: its weights are frozen
    model.network.requires_grad_(False)
    readout = torch.cat([p.grad.flatten() for p in model.cost.parameters()])
    for estimator in (ep.EquilibriumProp(FREE, NUDGED, 1e-3), ep.ImplicitDiff(FREE), ep.BPTT(100)):
        zoo.gradient(model, estimator, x, y)
        assert all(p.grad is None for p in model.network.parameters())
        torch.testing.assert_close(torch.cat([p.grad.flatten() for p in model.cost.parameters()]), readout)


def test_a_readout_of_raw_inputs_can_be_trained_on_a_frozen_layer():
    model = ep.mlp([4, 5], cost=ep.CrossEntropyReadout(5, 3), settle=5)
    model.network.requires_grad_(False)
    (loss,) = ep.ImplicitDiff(5)(model, torch.rand(2, 4), torch.tensor([0, 2]))
    loss.backward()

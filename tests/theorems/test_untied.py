"""Untied weights: at angle 0 forward and feedback updates sum to the tied one; regression tests of two known pitfalls."""

import math

import pytest
import torch

import eqprop as ep
import zoo
from eqprop.connections.base import Ends
from eqprop.connections.untied import Untied

LONG = ep.Settle(4000, tol=1e-15, check_every=50)
DYNAMICS = {"inside": ep.Prototypical(nudge="inside"), "energy": ep.EnergyDescent(dt=0.5, clamp=False)}


def pair(dynamics):
    """A tied model and its untied copy with equal weights."""
    tied = ep.mlp([4, 5, 4, 3], activation="tanh", dynamics=dynamics).double()
    with torch.no_grad():
        for parameter in tied.parameters():
            parameter.mul_(0.6)
    edges = [(i, j, c if i == 0 else Untied(c)) for i, j, c in tied.network.edges()]
    return tied, ep.Model(ep.Network(tied.network.populations, edges), dynamics, ep.SquaredError())


def forward_and_feedback(untied, estimator, x, y):
    untied.zero_grad()
    for loss in estimator(untied, x, y):
        loss.backward()
    layers = list(untied.network.connections)[1:]
    return [c.upward.weight.grad for c in layers], [c.feedback.grad for c in layers]


@pytest.mark.parametrize("dynamics", DYNAMICS)
def test_forward_and_feedback_updates_sum_to_the_tied_one_to_second_order(dynamics):
    """ep.md 3.2: they differ by the product of two displacements, centred by O(beta^2)."""
    tied, untied = pair(DYNAMICS[dynamics])
    x, y = zoo.batch(tied)
    errors = []
    for beta in (0.02, 0.01):
        estimator = ep.EquilibriumProp(LONG, LONG, beta, "centred")
        forward, feedback = forward_and_feedback(untied, estimator, x, y)
        zoo.gradient(tied, estimator, x, y)
        whole = [c.weight.grad for c in list(tied.network.connections)[1:]]
        errors.append(sum(zoo.distance(f + b, w) for f, b, w in zip(forward, feedback, whole, strict=True)))
    assert errors[1] == pytest.approx(errors[0] / 4, rel=0.1)


@pytest.mark.parametrize("dynamics", DYNAMICS)
def test_each_half_is_bptts_at_angle_zero(dynamics):
    _, untied = pair(DYNAMICS[dynamics])
    x, y = zoo.batch(untied)
    errors = []
    bptt = zoo.gradient(untied, ep.BPTT(LONG, 250), x, y)
    for beta in (0.02, 0.01):
        errors.append(zoo.distance(zoo.gradient(untied, ep.EquilibriumProp(LONG, LONG, beta, "centred"), x, y), bptt))
    assert errors[1] < 1e-3
    assert errors[1] == pytest.approx(errors[0] / 4, rel=0.1)  # u at a nudged state would make this a half


def test_pre_activations_are_paired():
    """Pairing rho(u) would count rho' twice: here u and rho(u) differ by far."""
    connection = Untied(ep.Dense(2, 2)).double()
    free, a, b = (Ends(torch.rand(3, 2).double(), torch.rand(3, 2).double()) for _ in range(3))
    connection.contrast(free, a, b).backward()
    torch.testing.assert_close(connection.upward.weight.grad, (a.post - b.post).t() @ free.pre)
    torch.testing.assert_close(connection.upward.bias.grad, (a.post - b.post).sum(0))
    torch.testing.assert_close(connection.feedback.grad, free.post.t() @ (a.pre - b.pre))


@pytest.mark.parametrize("angle", [0, 22.5, 45, 90, 135, 180])
def test_the_initial_angle(angle):
    connection = Untied(ep.Dense(300, 200), angle)
    a, b = connection.upward.weight.detach(), connection.feedback.detach()
    cosine = (a * b).sum() / (a.norm() * b.norm())
    assert math.degrees(math.acos(max(-1.0, min(1.0, cosine.item())))) == pytest.approx(angle, abs=3)
    assert torch.equal(a.abs(), b.abs())


def test_feedback_is_listed_after_forward_weights_and_before_a_readout():
    model = ep.mlp([4, 5, 4, 3], tied=False, angle=30, cost=ep.CrossEntropyReadout(3, 2))
    shapes = [tuple(p.shape) for p in model.parameters()]
    assert shapes == [(5, 4), (5,), (4, 5), (4,), (3, 4), (3,), (4, 5), (3, 4), (2, 3), (2,)]
    assert [tuple(p.shape) for _, p in torch.nn.Sequential(model).named_parameters()][:2] == [(5, 4), (5,)]


def test_untied_weights_have_no_energy():
    with pytest.raises(ValueError, match=r"untied weights have no primitive function.*tie the weights"):
        ep.mlp([4, 5, 3], tied=False).energy((torch.rand(2, 5), torch.rand(2, 3)), torch.rand(2, 4))

"""`ep.Equilibrium` on linear networks: parameter and input gradients for a given cotangent, in closed form.

Backward, a cotangent g becomes the constant force -beta g / r, r the root mean square over the batch of the samples' |g|. With
(I - A)^T lambda = P g the state moves by -beta lambda / r exactly (A is symmetric), so that the centred estimate is the exact
gradient at any beta, the one-sided one misses it by -(beta / r) lambda^j (lambda^i)^T between relaxing populations, and both
give the exact input gradient.
"""

import numpy as np
import pytest
import torch

import eqprop as ep
from closed_form.linear import GRAPHS, case
from reference.bridge import close, tensor

DYNAMICS = {"inside": ep.Prototypical(nudge="inside"), "energy": ep.EnergyDescent(dt=0.5, clamp=False)}
LONG, BETA = 150, 0.4

every_case = [pytest.mark.parametrize("graph", GRAPHS), pytest.mark.parametrize("name", DYNAMICS)]


def over_cases(test):
    for mark in every_case:
        test = mark(test)
    return test


def backward(model, x, weights, nudging):
    """Output, input gradient and parameter gradients for the loss sum(weights * output)."""
    block = ep.Equilibrium(model.network, model.dynamics, LONG, LONG, BETA, nudging)
    model.zero_grad()
    leaf = tensor(x).requires_grad_()
    out = block(leaf)
    (tensor(weights) * out).sum().backward()
    return out.detach().numpy(), leaf.grad.numpy(), [p.grad.numpy() for p in block.parameters()]


def total(samples):
    return [sum(parts) for parts in zip(*samples, strict=True)]


def exact(net, x, g):
    return total([net.chained(one, net.free(one), net.adjoint(h)) for one, h in zip(x, g, strict=True)])


def near(found, expected):
    close(found, expected, rtol=1e-9, atol=1e-11)


@over_cases
def test_centred_is_exact_at_any_beta(graph, name):
    model, net, x, g = case(graph, DYNAMICS[name])
    out, of_x, found = backward(model, x, g, "centred")
    near(out, np.array([net.free(one)[net.output] for one in x]))
    near(of_x, np.array([net.chained_input(net.adjoint(h)) for h in g]))
    near(found, exact(net, x, g))


@over_cases
def test_one_sided_misses_by_a_product_of_displacements(graph, name):
    model, net, x, g = case(graph, DYNAMICS[name])
    _, of_x, found = backward(model, x, g, "one-sided")
    near(of_x, np.array([net.chained_input(net.adjoint(h)) for h in g]))
    r = np.sqrt(np.mean([np.sum(h**2) for h in g]))
    missed = []
    for lam in map(net.adjoint, g):
        parts = []
        for i, j, weight, bias in net.edges:
            outer = np.zeros_like(weight) if i == 0 else np.outer(lam[net.block(j)], lam[net.block(i)])
            parts += [-(BETA / r) * outer, np.zeros_like(bias)]
        missed.append(parts)
    near(found, [a + b for a, b in zip(exact(net, x, g), total(missed), strict=True)])


@over_cases
def test_one_sided_from_the_nudged_states(graph, name):
    """The same from both steady states, as a difference of gradients of Phi."""
    model, net, x, g = case(graph, DYNAMICS[name])
    _, _, found = backward(model, x, g, "one-sided")
    r = np.sqrt(np.mean([np.sum(h**2) for h in g]))
    pairs = [(net.free(one), net.pulled(one, -BETA * h / r)) for one, h in zip(x, g, strict=True)]
    near(found, total([net.contrast(one, a, b, BETA / r) for one, (a, b) in zip(x, pairs, strict=True)]))


@pytest.mark.parametrize("size", [1e-6, 1e6])
def test_gradients_scale_with_the_outer_loss(size):
    model, net, x, g = case("chain", DYNAMICS["inside"])
    _, of_x, found = backward(model, x, size * g, "centred")
    near(of_x / size, np.array([net.chained_input(net.adjoint(h)) for h in g]))
    near([f / size for f in found], exact(net, x, g))


def test_between_other_layers():
    """x = M z before the block, sum of squares after it: chained by hand."""
    model, net, z, target = case("short", DYNAMICS["inside"])
    mixing = np.random.default_rng(50).standard_normal((net.sizes[0], z.shape[1]))
    leaf, matrix = tensor(z), tensor(mixing).requires_grad_()
    block = ep.Equilibrium(model.network, model.dynamics, LONG, LONG, BETA)
    model.zero_grad()
    (block(leaf @ matrix.T) - tensor(target)).square().mean().backward()
    x = [mixing @ one for one in z]
    g = [2 * (net.free(one)[net.output] - t) / target.size for one, t in zip(x, target, strict=True)]
    near([p.grad.numpy() for p in block.parameters()], exact(net, x, g))
    of_x = [net.chained_input(net.adjoint(h)) for h in g]
    near(matrix.grad.numpy(), sum(np.outer(slope, one) for slope, one in zip(of_x, z, strict=True)))


def test_a_cotangent_of_zero_gives_no_gradient():
    model, _, x, g = case("chain", DYNAMICS["inside"])
    _, of_x, found = backward(model, x, 0 * g, "centred")
    assert not of_x.any()
    assert not any(f.any() for f in found)
    assert torch.isfinite(tensor(of_x)).all()

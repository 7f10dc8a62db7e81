"""Phi: currents are its gradient, up and down are adjoint, the contrast has the gradient of its difference."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import eqprop as ep
import zoo

EXACT = {"rtol": 1e-12, "atol": 1e-12}


def currents_by_autograd(network, x, s):
    leaves = [t.clone().requires_grad_() for t in s]
    return torch.autograd.grad(network.phi(x, leaves).sum(), leaves, allow_unused=True, materialize_grads=True)


@pytest.mark.parametrize("name", zoo.GRAPHS)
def test_currents_are_the_gradient_of_phi(name):
    model = zoo.model(name, ep.Prototypical())
    x, s = zoo.batch(model)[0], zoo.state(model)
    for ours, theirs in zip(model.network.currents(x, s), currents_by_autograd(model.network, x, s), strict=True):
        torch.testing.assert_close(ours, theirs, **EXACT)


@pytest.mark.parametrize("batch", [3, 32, 40])
@pytest.mark.parametrize("above", [1, 10, 15, 16, 33])
def test_currents_of_few_or_many_units_and_samples_are_the_gradient_of_phi(above, batch):
    torch.manual_seed(0)
    populations = [ep.Population(3), ep.Population(20), ep.Population(above)]
    network = ep.Network(populations, [(0, 1, ep.Dense(3, 20)), (1, 2, ep.Dense(20, above))]).double()
    x, s = torch.rand(batch, 3).double(), (torch.rand(batch, 20).double(), torch.rand(batch, above).double())
    drive = network.prepare(x, [2.0, 3.0])
    for ours, theirs, gain in zip(drive.currents(s), currents_by_autograd(network, x, s), [2.0, 3.0], strict=True):
        torch.testing.assert_close(ours, gain * theirs, **EXACT)


@st.composite
def random_networks(draw):
    """Draw a graph: a chain, so that every population is reached, and random extra edges."""
    sizes = draw(st.lists(st.integers(1, 4), min_size=2, max_size=5))
    last = len(sizes) - 1
    extra = draw(st.lists(st.tuples(st.integers(0, last), st.integers(1, last)), max_size=5))
    torch.manual_seed(draw(st.integers(0, 100)))
    edges = [(n, n + 1) for n in range(last)] + extra
    connections = [(i, j, ep.Dense(sizes[i], sizes[j], bias=draw(st.booleans()))) for i, j in edges]
    return ep.Network([ep.Population(n, "tanh") for n in sizes], connections).double()


@settings(max_examples=40, deadline=None)
@given(random_networks())
def test_currents_are_the_gradient_of_phi_on_any_graph(network):
    x, *s = (torch.rand(2, *p.shape, dtype=torch.double) for p in network.populations)
    for ours, theirs in zip(network.currents(x, s), currents_by_autograd(network, x, s), strict=True):
        torch.testing.assert_close(ours, theirs, **EXACT)


@pytest.mark.parametrize("name", zoo.GRAPHS)
def test_the_contrast_has_the_gradient_of_the_difference_of_phi(name):
    network = zoo.model(name, ep.Prototypical()).network
    model = ep.Model(network, ep.Prototypical(), ep.SquaredError())
    x, free, a, b = zoo.batch(model)[0], zoo.state(model, 3), zoo.state(model, 4), zoo.state(model, 5)
    norm = 0.3
    mean = (network.phi(x, a) - network.phi(x, b)).mean() / norm
    theirs = torch.autograd.grad(mean, list(network.parameters()), retain_graph=True)
    ours = torch.autograd.grad(network.contrast(x, free, a, b, norm), list(network.parameters()))
    for ours_p, theirs_p in zip(ours, theirs, strict=True):
        torch.testing.assert_close(ours_p, theirs_p, **EXACT)


@pytest.mark.parametrize("name", zoo.GRAPHS)
def test_the_contrast_has_the_input_gradient_of_the_difference_of_phi(name):
    network = zoo.model(name, ep.Prototypical()).network
    model = ep.Model(network, ep.Prototypical(), ep.SquaredError())
    x, a, b = zoo.batch(model)[0].requires_grad_(), zoo.state(model, 4), zoo.state(model, 5)
    (theirs,) = torch.autograd.grad((network.phi(x, a) - network.phi(x, b)).mean(), x)
    (ours,) = torch.autograd.grad(network.contrast(x, a, a, b, 1.0), x)
    torch.testing.assert_close(ours, theirs, **EXACT)


@pytest.mark.parametrize("kind", [ep.Dense, zoo.LowRank])
def test_up_and_down_are_adjoint(kind):
    connection = kind(4, 3).double()
    pre, post, zero = torch.rand(2, 4).double(), torch.rand(2, 3).double(), torch.zeros(2, 4).double()
    up = connection.up(pre, post) - connection.up(zero, post)  # without the bias
    torch.testing.assert_close((up * post).sum(), (pre * connection.down(post, pre)).sum(), **EXACT)


def test_a_float32_contrast_keeps_the_digits_of_a_small_difference():
    """Division by a small beta must not amplify rounding errors: a product of differences, not a difference of products."""
    model = zoo.model("chain", ep.Prototypical()).float()
    x, s = zoo.batch(model)[0].float(), tuple(t.float() for t in zoo.state(model))
    near = tuple(t + 1e-4 * torch.rand_like(t) for t in s)
    exact = model.network.double().contrast(x.double(), *(tuple(t.double() for t in q) for q in (s, near, s)), 1e-4)
    theirs = torch.autograd.grad(exact, list(model.network.parameters()))
    ours = torch.autograd.grad(model.network.float().contrast(x, s, near, s, 1e-4), list(model.network.parameters()))
    for a, b in zip(ours, theirs, strict=True):
        assert zoo.distance(a.double(), b.double()) < 1e-6


def test_gains_and_shifts_are_folded_into_the_drive():
    network = zoo.model("skip", ep.Prototypical()).network
    x, *s = (torch.rand(2, *p.shape, dtype=torch.double) for p in network.populations)
    gains, shifts = [4.0, 2.0, -1.0], [-2.0, 0.5, 0.0]
    scaled = network.prepare(x, gains, shifts).currents(s)
    for ours, u, gain, shift in zip(scaled, network.currents(x, s), gains, shifts, strict=True):
        torch.testing.assert_close(ours, gain * u + shift, **EXACT)


def test_a_repeated_drive_is_that_of_the_repeated_batch():
    network = zoo.model("nonlinear-connection", ep.Prototypical()).network
    x, *s = (torch.rand(2, *p.shape, dtype=torch.double) for p in network.populations)
    twice = [torch.cat([t, t]) for t in s]
    for ours, u in zip(network.prepare(x).repeat(2).currents(twice), network.currents(x, s), strict=True):
        torch.testing.assert_close(ours, torch.cat([u, u]), **EXACT)

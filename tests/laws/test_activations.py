"""Activations: derivatives equal autograd's, potentials invert the activation."""

import pytest
import torch

import eqprop as ep
import zoo
from eqprop.activations import ACTIVATIONS

ALL = {**ACTIVATIONS, "own": zoo.SMOOTH}


@pytest.mark.parametrize("name", ALL)
def test_derivative_equals_autograd(name):
    u = torch.linspace(-1.73, 7.1, 41, dtype=torch.double, requires_grad=True)
    (theirs,) = torch.autograd.grad(ALL[name].rho(u).sum(), u)
    torch.testing.assert_close(ALL[name].derivative(u.detach()), theirs)
    torch.testing.assert_close(ALL[name].derivative(u.detach(), ALL[name].rho(u.detach())), theirs)


@pytest.mark.parametrize("name", ["sigmoid", "tanh", "identity", "own"])
def test_derivative_is_differentiable(name):
    u = torch.linspace(-0.9, 0.9, 7, dtype=torch.double, requires_grad=True)
    (second,) = torch.autograd.grad((ALL[name].derivative(u) + 0 * u).sum(), u)
    step = 1e-5
    theirs = (ALL[name].derivative(u.detach() + step) - ALL[name].derivative(u.detach() - step)) / (2 * step)
    torch.testing.assert_close(second, theirs, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_potential_inverts_the_activation(name):
    u = torch.linspace(0.05, 0.95, 19, dtype=torch.double)  # where every one of them is strictly increasing
    s = ACTIVATIONS[name].rho(u).requires_grad_()
    potential = ACTIVATIONS[name].potential
    assert potential is not None
    (inverse,) = torch.autograd.grad(potential(s).sum(), s)
    torch.testing.assert_close(inverse, u)


def test_the_sigmoid_is_that_of_the_paper():
    u = torch.linspace(-1, 2, 13, dtype=torch.double)
    torch.testing.assert_close(ACTIVATIONS["sigmoid"].rho(u), 1 / (1 + torch.exp(-4 * (u - 0.5))))


@pytest.mark.parametrize(("name", "top"), [("hard_sigmoid", 1.0), ("relu6", 6.0)])
def test_a_unit_at_rest_at_a_bound_can_leave_it(name, top):
    bounds = torch.tensor([0.0, top], dtype=torch.double, requires_grad=True)
    assert ACTIVATIONS[name].derivative(bounds.detach()).tolist() == [1.0, 1.0]
    (slope,) = torch.autograd.grad(ACTIVATIONS[name].rho(bounds).sum(), bounds)
    assert slope.tolist() == [1.0, 1.0]


def test_a_custom_activation_needs_only_the_function():
    own = ep.Activation(torch.sin)
    torch.testing.assert_close(own.derivative(torch.ones(2)), torch.cos(torch.ones(2)))
    assert repr(own) == "Activation('custom')"

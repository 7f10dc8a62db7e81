"""Conversion between the library's models and tensors and the arrays of the NumPy loops."""

import numpy as np
import torch

import eqprop as ep
from reference.loops import Chain, Discrete, Euler, Readout, Squared


def tensor(array):
    return torch.from_numpy(np.array(array))


def filled(model, seed, scale=0.6):
    """The model in double precision with parameters drawn by NumPy; feedback weights are drawn separately."""
    draw = np.random.default_rng(seed)
    model = model.double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(tensor(scale * draw.standard_normal(tuple(parameter.shape))))
    return model


def chain_of(model, names):
    """The loops' chain with the weights of ``ep.mlp``; ``names`` are the activations of its populations, input first."""
    weights, biases, feedback = [], [], []
    for connection in model.network.connections:
        dense = connection.upward if isinstance(connection, ep.Untied) else connection
        back = connection.feedback if isinstance(connection, ep.Untied) else dense.weight
        for store, parameter in ((weights, dense.weight), (biases, dense.bias), (feedback, back)):
            store.append(parameter.detach().numpy().copy())
    return Chain(weights, biases, feedback, names)


def cost_of(model):
    if isinstance(model.cost, ep.SquaredError):
        return Squared()
    return Readout(model.cost.weight.detach().numpy().copy(), model.cost.bias.detach().numpy().copy())


def library_rule(rule):
    if isinstance(rule, Discrete):
        return ep.Prototypical(nudge=rule.nudge)
    assert isinstance(rule, Euler)
    return ep.EnergyDescent(dt=rule.dt, clamp=rule.clamp, output_derivative=rule.output_derivative)


def gradients(estimator, model, x, y, **keywords):
    """Value and gradients of the estimator's one loss, in the order of ``model.parameters()``.

    Where autograd leaves None, since nothing flows there, the gradient is zero.
    """
    model.zero_grad()
    (loss,) = estimator(model, tensor(x), tensor(y), **keywords)
    loss.backward()
    grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()]
    return loss.item(), [grad.numpy().copy() for grad in grads]


def close(found, expected, rtol=1e-10, atol=1e-12):
    """Check that two lists of arrays are equal up to rounding."""
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=rtol, atol=atol)

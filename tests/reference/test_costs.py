"""Costs against NumPy loops: value, force and targets, for outputs with one or more dimensions."""

import numpy as np
import pytest
import torch

import eqprop as ep
from reference.bridge import tensor
from reference.loops import Readout, Squared

SHAPES = [(6,), (2, 3), (1, 6), (6, 1)]


def outputs(shape, seed=70):
    return np.random.default_rng(seed).standard_normal((4, *shape))


def check(cost, loop, out, y, flat_targets):
    """Compare values and forces; ``flat_targets[b]`` is the flat target of sample b."""
    target = cost.encode(tensor(y), tensor(out))
    value, force = cost.value(tensor(out), target), cost.force(tensor(out), target)
    flat = out.reshape(len(out), -1)
    assert value.shape == (len(out),)
    assert force.shape == out.shape
    pairs = list(zip(flat, flat_targets, strict=True))
    np.testing.assert_allclose(value, [loop.value(*pair) for pair in pairs], rtol=1e-12)
    expected = np.array([loop.force(*pair) for pair in pairs]).reshape(out.shape)
    np.testing.assert_allclose(force, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_squared_error_of_classes(shape):
    y = np.array([0, 5, 2, 5])
    check(ep.SquaredError(), Squared(), outputs(shape), y, np.eye(6)[y])


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_squared_error_of_floats(shape):
    y = outputs((6,), seed=71)
    check(ep.SquaredError(), Squared(), outputs(shape), y, y)
    check(ep.SquaredError(), Squared(), outputs(shape), y.reshape(4, *shape), y)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_cross_entropy(shape):
    cost = ep.CrossEntropyReadout(6, 3).double()
    loop = Readout(cost.weight.detach().numpy(), cost.bias.detach().numpy())
    y, soft = np.array([2, 0, 1, 2]), np.random.default_rng(72).dirichlet(np.ones(3), 4)
    with torch.no_grad():
        check(cost, loop, outputs(shape), y, np.eye(3)[y])
        check(cost, loop, outputs(shape), soft, soft)


@pytest.mark.parametrize("classes", [True, False])
def test_gradients_do_not_depend_on_the_shape_of_the_output(classes):
    """With the same weights, an output population of shape (1, 6) and one of 6 units have the same gradients."""

    class Reshaped(ep.Connection):
        def __init__(self):
            super().__init__()
            self.flat = ep.Dense(3, 6).double()

        def phi(self, pre, post):
            return self.flat.phi(pre, post.flatten(1))

    connection, found = Reshaped(), []
    x, y = tensor(outputs((3,))), torch.tensor([1, 4, 0, 4]) if classes else tensor(outputs((6,), seed=73))
    for shape, edge in ((6, connection.flat), ((1, 6), connection)):
        network = ep.Network([ep.Population(3), ep.Population(shape, "tanh")], [(0, 1, edge)])
        model = ep.Model(network, ep.Prototypical(nudge="inside"), ep.SquaredError())
        model.zero_grad()
        (loss,) = ep.EquilibriumProp(3, 4, 0.2)(model, x, y)
        loss.backward()
        found.append([p.grad.numpy().copy() for p in model.parameters()])
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10)


def test_a_readout_rejects_targets_as_wide_as_its_features():
    cost = ep.CrossEntropyReadout(6, 3).double()
    with pytest.raises(ValueError, match="`y` must be"):
        cost.encode(tensor(outputs((6,))), tensor(outputs((6,))))

"""`ep.toy` against its own loop: the graph is not a chain, since the input feeds the output too."""

import numpy as np
import pytest

import eqprop as ep
from reference.bridge import close, filled, gradients, tensor
from reference.toy_loop import ToyNet

DT, FREE, NUDGED, BETA = 0.08, 60, 25, 0.1


def case(seed=20):
    model = filled(ep.toy(inputs=3, hidden=6, outputs=4), seed)
    net = ToyNet(*(p.detach().numpy().copy() for p in model.parameters()))
    draw = np.random.default_rng(seed + 1)
    return model, net, draw.uniform(0, 1, (2, 3)), draw.uniform(0, 1, (2, 4))


def test_parameters_are_input_first():
    shapes = [tuple(p.shape) for p in case()[0].parameters()]
    assert shapes == [(6, 3), (6,), (4, 3), (4,), (4, 6), (4,)]


@pytest.mark.parametrize("beta", [0.0, 0.3, -0.3])
def test_trajectory(beta):
    model, net, x, y = case()
    solution = ep.relax(model, tensor(x), FREE, tensor(y), beta, trajectory=True)
    for b in range(2):
        states = net.trajectory(x[b], y[b], np.zeros(6), np.zeros(4), FREE, DT, beta)
        for found, expected in zip(solution.trajectory, states, strict=True):
            close([s[b].numpy() for s in found], expected)


def test_gradients():
    model, net, x, y = case()
    _, found = gradients(ep.EquilibriumProp(FREE, NUDGED, BETA), model, x, y)
    samples = [net.gradients(x[b], y[b], FREE, NUDGED, DT, BETA) for b in range(2)]
    close(found, [(one + other) / 2 for one, other in zip(*samples, strict=True)])


def test_centred_gradients():
    """(dPhi(-beta) - dPhi(beta)) / 2 beta is the mean of the one-sided estimates at beta and at -beta."""
    model, net, x, y = case()
    _, found = gradients(ep.EquilibriumProp(FREE, NUDGED, BETA, "centred"), model, x, y)
    samples = [net.gradients(x[b], y[b], FREE, NUDGED, DT, beta) for b in range(2) for beta in (BETA, -BETA)]
    close(found, [sum(parts) / 4 for parts in zip(*samples, strict=True)])

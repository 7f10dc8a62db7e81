"""One input, one hidden unit, one output, tanh, discrete time: fixed points by bisection, gradients by hand.

    h = tanh(u1), u1 = w1 x + b1 + w2 o         o = tanh(u2 + f) inside, tanh(u2) + f outside, u2 = w2 h + b2, f = beta (y - o)

With p = tanh'(u1), q = tanh'(u2), D = 1 - p q w2^2 the free fixed point moves by

    do/dw1 = x q w2 p / D    do/db1 = q w2 p / D    do/dw2 = q (h + w2 p o) / D    do/db2 = q / D    do/dx = w1 q w2 p / D.
"""

from dataclasses import dataclass
from math import tanh

import numpy as np
import pytest
import torch

import eqprop as ep
from reference.bridge import filled, gradients, tensor

X, Y = np.array([0.7, -0.4, 1.3]), np.array([0.9, 0.2, -0.5])
LONG, BETA = 150, 0.25


def root(increasing, low, high):
    """Bisection to machine precision."""
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (low, middle) if increasing(middle) > 0 else (middle, high)
    return (low + high) / 2


@dataclass(frozen=True)
class Scalar:
    w1: float
    b1: float
    w2: float
    b2: float

    def output(self, h, y, beta, nudge):
        """o for a given h."""
        u2 = self.w2 * h + self.b2
        if nudge == "outside":
            return (tanh(u2) + beta * y) / (1 + beta)
        return root(lambda o: o - tanh(u2 + beta * (y - o)), -1.0, 1.0)

    def steady(self, x, y=0.0, beta=0.0, nudge="inside"):
        """(h, o)."""

        def excess(h):
            return h - tanh(self.w1 * x + self.b1 + self.w2 * self.output(h, y, beta, nudge))

        h = root(excess, -1.0, 1.0)
        return h, self.output(h, y, beta, nudge)

    def slopes(self, x):
        """(o, q, do/d(w1, b1, w2, b2), do/dx) at the free fixed point."""
        h, o = self.steady(x)
        p, q = 1 - h**2, 1 - o**2
        via_hidden, d = q * self.w2 * p, 1 - p * q * self.w2**2
        of_theta = np.array([via_hidden * x, via_hidden, q * (h + self.w2 * p * o), q]) / d
        return o, q, of_theta, via_hidden * self.w1 / d

    def gradient(self, x, y):
        o, _, of_theta, _ = self.slopes(x)
        return (o - y) * of_theta


def hebb(x, h, o):
    """dPhi/d(w1, b1, w2, b2), Phi = h (w1 x + b1) + o (w2 h + b2)."""
    return np.array([h * x, h, o * h, o])


def estimate(net, x, y, nudge, nudging):
    nudged = hebb(x, *net.steady(x, y, BETA, nudge))
    if nudging == "one-sided":
        return (hebb(x, *net.steady(x)) - nudged) / BETA
    return (hebb(x, *net.steady(x, y, -BETA, nudge)) - nudged) / (2 * BETA)


def case(seed, nudge="inside"):
    model = filled(ep.mlp([1, 1, 1], activation="tanh", dynamics=ep.Prototypical(nudge=nudge)), seed, scale=0.5)
    net = Scalar(*(p.item() for p in model.parameters()))
    assert net.w2**2 / (1 - BETA) < 0.9  # one fixed point, and `excess` increases
    return model, net


def flat(estimator, model, x=X, y=Y):
    return np.concatenate([g.ravel() for g in gradients(estimator, model, x[:, None], y[:, None])[1]])


SEEDS = [pytest.param(seed, id=f"seed{seed}") for seed in (0, 1, 2)]


@pytest.mark.parametrize("nudge", ["inside", "outside"])
@pytest.mark.parametrize("seed", SEEDS)
def test_fixed_points(seed, nudge):
    model, net = case(seed, nudge)
    for beta in (0.0, BETA, -BETA):
        solution = ep.relax(model, tensor(X[:, None]), LONG, tensor(Y[:, None]), beta)
        found = torch.cat(solution.state, 1).numpy()
        expected = [net.steady(x, y, beta, nudge) for x, y in zip(X, Y, strict=True)]
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("nudging", ["one-sided", "centred"])
@pytest.mark.parametrize("nudge", ["inside", "outside"])
@pytest.mark.parametrize("seed", SEEDS)
def test_ep_at_a_finite_beta(seed, nudge, nudging):
    model, net = case(seed, nudge)
    found = flat(ep.EquilibriumProp(LONG, LONG, BETA, nudging), model)
    expected = np.mean([estimate(net, x, y, nudge, nudging) for x, y in zip(X, Y, strict=True)], axis=0)
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("estimator", "rtol"),
    [(ep.BPTT(LONG), 1e-10), (ep.ImplicitDiff(LONG), 1e-10), (ep.EquilibriumProp(LONG, LONG, 1e-4, "centred"), 1e-6)],
    ids=["bptt", "implicit", "ep"],
)
@pytest.mark.parametrize("seed", SEEDS)
def test_gradients_by_hand(seed, estimator, rtol):
    model, net = case(seed)
    expected = np.mean([net.gradient(x, y) for x, y in zip(X, Y, strict=True)], axis=0)
    np.testing.assert_allclose(flat(estimator, model), expected, rtol=rtol, atol=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_outside_nudge_leaves_out_the_slope_of_the_output(seed):
    """The force is added after rho, so for one sample EP tends to the gradient divided by q = rho'(u2)."""
    model, net = case(seed, "outside")
    found = flat(ep.EquilibriumProp(LONG, LONG, 1e-4, "centred"), model, X[:1], Y[:1])
    _, q, _, _ = net.slopes(X[0])
    np.testing.assert_allclose(found, net.gradient(X[0], Y[0]) / q, rtol=1e-6)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_bridge(seed):
    model, net = case(seed)
    block = ep.Equilibrium(model.network, model.dynamics, LONG, LONG, 1e-4)
    x = tensor(X[:, None]).requires_grad_()
    block(x).sin().sum().backward()
    by_sample = [net.slopes(one) for one in X]
    expected = sum(np.cos(o) * of_theta for o, _, of_theta, _ in by_sample)
    found = np.concatenate([p.grad.numpy().ravel() for p in block.parameters()])
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    np.testing.assert_allclose(x.grad.numpy().ravel(), [np.cos(o) * of_x for o, _, _, of_x in by_sample], rtol=1e-6)

"""One input, one hidden unit, one output, rho = tanh, down the energy: steady states by Newton, gradients by hand.

    E = (h^2 + o^2) / 2 - rho(h) (w1 rho(x) + b1) - rho(o) (w2 rho(h) + b2)

rests where h = rho'(h) u1 and o = rho'(o) u2 + f, with u1 = w1 rho(x) + b1 + w2 rho(o), u2 = w2 rho(h) + b2. Its Hessian is

    H = [[1 - rho''(h) u1, -rho'(h) w2 rho'(o)], [.., 1 - rho''(o) u2]],

and a cost with slope g in o has the gradient lambda . (-d grad E / dtheta), H lambda = (0, g).
"""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

import eqprop as ep
from reference.bridge import filled, gradients, tensor

X, Y = np.array([0.7, -0.4, 1.3]), np.array([0.9, 0.2, -0.5])
LONG, BETA = 300, 0.25
SEEDS = [pytest.param(seed, id=f"seed{seed}") for seed in (3, 4, 5)]


def rho(s):
    return np.tanh(s)


def d1(s):
    return 1 - np.tanh(s) ** 2


def d2(s):
    return -2 * np.tanh(s) * d1(s)


@dataclass(frozen=True)
class Scalar:
    w1: float
    b1: float
    w2: float
    b2: float

    def currents(self, x, h, o):
        return self.w1 * rho(x) + self.b1 + self.w2 * rho(o), self.w2 * rho(h) + self.b2

    def hessian(self, x, h, o):
        u1, u2 = self.currents(x, h, o)
        cross = -d1(h) * self.w2 * d1(o)
        return np.array([[1 - d2(h) * u1, cross], [cross, 1 - d2(o) * u2]])

    def steady(self, x, constant=0.0, spring=0.0):
        """(h, o) under the force ``constant - spring * o``."""
        s = np.zeros(2)
        for _ in range(50):
            u1, u2 = self.currents(x, *s)
            pull = np.array([d1(s[0]) * u1, d1(s[1]) * u2 + constant - spring * s[1]])
            s = s - np.linalg.solve(self.hessian(x, *s) + np.diag([0, spring]), s - pull)
        assert np.max(np.abs(s - pull)) < 1e-14
        return s

    def nudged(self, x, y, beta):
        return self.steady(x, beta * y, beta)

    def chained(self, x, g):
        """Gradient in (w1, b1, w2, b2, x) of a cost with slope g in o."""
        h, o = self.steady(x)
        of_h, of_o = np.linalg.solve(self.hessian(x, h, o), [0.0, g])
        left, right = of_h * d1(h), of_o * d1(o)
        return np.array([left * rho(x), left, left * rho(o) + right * rho(h), right, left * self.w1 * d1(x)])

    def hebb(self, x, s):
        """dPhi in (w1, b1, w2, b2, x)."""
        r1, r0 = rho(s)
        return np.array([r1 * rho(x), r1, r0 * r1, r0, r1 * self.w1 * d1(x)])


def case(seed):
    dynamics = ep.EnergyDescent(dt=0.5, clamp=False)
    model = filled(ep.mlp([1, 1, 1], activation="tanh", dynamics=dynamics), seed, scale=0.3)
    return model, Scalar(*(p.item() for p in model.parameters()))


def flat(estimator, model):
    return np.concatenate([g.ravel() for g in gradients(estimator, model, X[:, None], Y[:, None])[1]])


@pytest.mark.parametrize("seed", SEEDS)
def test_steady_states(seed):
    model, net = case(seed)
    for beta in (0.0, BETA, -BETA):
        solution = ep.relax(model, tensor(X[:, None]), LONG, tensor(Y[:, None]), beta)
        expected = [net.nudged(x, y, beta) for x, y in zip(X, Y, strict=True)]
        np.testing.assert_allclose(torch.cat(solution.state, 1).numpy(), expected, rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(torch.cat(solution.activity, 1).numpy(), rho(expected), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("nudging", ["one-sided", "centred"])
@pytest.mark.parametrize("seed", SEEDS)
def test_ep_at_a_finite_beta(seed, nudging):
    model, net = case(seed)
    found = flat(ep.EquilibriumProp(LONG, LONG, BETA, nudging), model)
    low = 0.0 if nudging == "one-sided" else -BETA
    differences = [
        net.hebb(x, net.nudged(x, y, low)) - net.hebb(x, net.nudged(x, y, BETA)) for x, y in zip(X, Y, strict=True)
    ]
    np.testing.assert_allclose(found, np.mean(differences, axis=0)[:4] / (BETA - low), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("estimator", "rtol"),
    [(ep.BPTT(LONG), 1e-10), (ep.ImplicitDiff(LONG), 1e-10), (ep.EquilibriumProp(LONG, LONG, 1e-4, "centred"), 1e-6)],
    ids=["bptt", "implicit", "ep"],
)
@pytest.mark.parametrize("seed", SEEDS)
def test_gradients_by_hand(seed, estimator, rtol):
    model, net = case(seed)
    expected = np.mean([net.chained(x, net.steady(x)[1] - y) for x, y in zip(X, Y, strict=True)], axis=0)
    np.testing.assert_allclose(flat(estimator, model), expected[:4], rtol=rtol, atol=1e-12)


def through_the_bridge(model, beta, nudging):
    """Parameter gradients and input gradients of sum(sin(output))."""
    block = ep.Equilibrium(model.network, model.dynamics, LONG, LONG, beta, nudging)
    model.zero_grad()
    x = tensor(X[:, None]).requires_grad_()
    block(x).sin().sum().backward()
    return np.concatenate([p.grad.numpy().ravel() for p in block.parameters()]), x.grad.numpy().ravel()


@pytest.mark.parametrize("seed", SEEDS)
def test_the_bridge_at_a_small_beta(seed):
    """The input gradient passes through rho(x)."""
    model, net = case(seed)
    found, of_x = through_the_bridge(model, 1e-4, "centred")
    expected = np.array([net.chained(x, np.cos(net.steady(x)[1])) for x in X])
    np.testing.assert_allclose(found, expected.sum(0)[:4], rtol=1e-6)
    np.testing.assert_allclose(of_x, expected[:, 4], rtol=1e-6)


@pytest.mark.parametrize("nudging", ["one-sided", "centred"])
@pytest.mark.parametrize("seed", SEEDS)
def test_the_bridge_at_a_finite_beta(seed, nudging):
    """The cotangent g acts as the constant force -beta g / r, r its root mean square over the batch."""
    model, net = case(seed)
    found, of_x = through_the_bridge(model, BETA, nudging)
    g = np.array([np.cos(net.steady(x)[1]) for x in X])
    r, low = np.sqrt(np.mean(g**2)), 0.0 if nudging == "one-sided" else -BETA
    ends = [(net.steady(x, -low * slope / r), net.steady(x, -BETA * slope / r)) for x, slope in zip(X, g, strict=True)]
    expected = np.array([net.hebb(x, a) - net.hebb(x, b) for x, (a, b) in zip(X, ends, strict=True)])
    expected *= r / (BETA - low)
    np.testing.assert_allclose(found, expected.sum(0)[:4], rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(of_x, expected[:, 4], rtol=1e-10, atol=1e-12)

"""The nudge outside rho is a self-feedback of strength -beta on the output: s <- rho(u) + beta (y - s).

It rests where s (1 + beta) = rho(u) + beta y. With no hidden population u = W x + b is constant, r = rho(u), and from s = r

    s_t = s_inf + (-beta)^t (r - s_inf),      r - s_inf = beta (r - y) / (1 + beta),      |s_t - s_{t-1}| = |beta|^t |r - y|.
"""

import numpy as np
import pytest

import eqprop as ep
from reference.bridge import close, filled, gradients, tensor

BETAS = [0.5, 0.2, -0.5]
NAMED = {"tanh": np.tanh, "identity": lambda u: u, "hard_sigmoid": lambda u: np.clip(u, 0, 1)}


def case(sizes, name, output=None, seed=60, scale=0.4):
    model = filled(ep.mlp(sizes, activation=name, output_activation=output), seed, scale)
    draw = np.random.default_rng(seed + 1)
    x, y = draw.standard_normal((4, sizes[0])), draw.standard_normal((4, sizes[-1]))
    return model, [p.detach().numpy().copy() for p in model.parameters()], x, y


def single(name, weight, bias, x):
    return np.array([NAMED[name](weight @ one + bias) for one in x])


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("name", NAMED)
def test_the_output_alternates_around_its_steady_state(name, beta):
    model, (weight, bias), x, y = case([3, 2], name)
    r = single(name, weight, bias, x)
    rest = (r + beta * y) / (1 + beta)
    free = ep.relax(model, tensor(x), 3)
    close(free.state[-1].numpy(), r)
    for steps in (1, 2, 7):
        nudged = ep.relax(model, tensor(x), steps, tensor(y), beta, state=free.state)
        close(nudged.state[-1].numpy(), rest + (-beta) ** steps * (r - rest))
        residual = abs(beta) ** steps * np.max(np.abs(r - y), axis=1)
        np.testing.assert_allclose(nudged.residual.numpy(), residual, rtol=1e-10)


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("steps", [1, 4, 100])
def test_estimates_of_a_single_layer(name, beta, steps):
    """s^b - s* = (y - r) beta (1 - (-beta)^K) / (1 + beta): shrunk by the feedback, and without rho'."""
    model, (weight, bias), x, y = case([3, 2], name)
    r = single(name, weight, bias, x)

    def error(b):
        return (r - y) * (1 - (-b) ** steps) / (1 + b)

    _, found = gradients(ep.EquilibriumProp(2, steps, beta), model, x, y)
    close(found, slopes(error(beta), x))
    _, found = gradients(ep.EquilibriumProp(2, steps, beta, "centred"), model, x, y)
    close(found, slopes((error(beta) + error(-beta)) / 2, x))


def slopes(errors, x):
    samples = [np.outer(error, one) for error, one in zip(errors, x, strict=True)]
    return [sum(samples) / len(samples), sum(errors) / len(errors)]


@pytest.mark.parametrize("beta", BETAS)
def test_a_linear_output_above_a_hidden_population(beta):
    """s^2 = (W s^1 + b + beta y) / (1 + beta) put into s^1 = tanh(V x + a + W^T s^2), which is then solved by Newton."""
    model, (v, a, w, b), x, y = case([3, 4, 2], "tanh", "identity", scale=0.2)
    assert np.linalg.norm(w, 2) ** 2 < 0.5 * (1 + beta)  # one steady state, which is stable

    def output(hidden, target):
        return (w @ hidden + b + beta * target) / (1 + beta)

    def solve(one, target):
        hidden = np.zeros(4)
        for _ in range(60):
            value = np.tanh(v @ one + a + w.T @ output(hidden, target))
            jacobian = np.eye(4) - np.diag(1 - value**2) @ w.T @ w / (1 + beta)
            hidden = hidden - np.linalg.solve(jacobian, hidden - value)
        assert np.max(np.abs(hidden - value)) < 1e-14
        return hidden, output(hidden, target)

    solution = ep.relax(model, tensor(x), 400, tensor(y), beta)
    for sample, (one, target) in enumerate(zip(x, y, strict=True)):
        close([s[sample].numpy() for s in solution.state], solve(one, target))


def test_without_a_nudge_there_is_no_feedback():
    model, (weight, bias), x, y = case([3, 2], "tanh")
    close(ep.relax(model, tensor(x), 1, tensor(y), 0.0).state[-1].numpy(), single("tanh", weight, bias, x))

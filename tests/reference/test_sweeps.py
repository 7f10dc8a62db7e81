"""Asynchronous sweeps against a NumPy loop, population by population, on any dense graph; and EP's estimate from them."""

import numpy as np
import pytest
import torch

import eqprop as ep
import zoo

ORDER = {  # written down by hand: groups that no edge joins, the one with population 1 first
    "one-layer": [[1]],
    "chain": [[1], [2]],
    "deep-chain": [[1, 3], [2]],
    "input-skip": [[1], [2]],
    "skip": [[1], [2], [3]],
    "parallel": [[1], [2]],
    "downward": [[1], [2]],
    "linear-output": [[1], [2]],
}
T, K, BETA = 12, 7, 0.2
RHO = {"tanh": np.tanh, "sigmoid": lambda u: 1 / (1 + np.exp(-4 * (u - 0.5))), "identity": lambda u: u}


def current(edges, s, n):
    """Into population n, from what the others are now."""
    u = np.zeros_like(s[n])
    for pre, post, w, b in edges:
        if post == n:
            u = u + s[pre] @ w.T + b
        if pre == n:
            u = u + s[post] @ w
    return u


def sweep(edges, order, rho, s, force, nudge):
    """Gauss-Seidel: a group reads what the groups before it have written; ``s`` by population number, the input first."""
    s = list(s)
    for group in order:
        moved = {}
        for n in group:
            u, f = current(edges, s, n), force(s[-1]) if n == len(s) - 1 else 0.0
            moved[n] = rho[n](u + f) if nudge == "inside" else rho[n](u) + f
        for n, value in moved.items():
            s[n] = value
    return s


@pytest.mark.parametrize("nudge", ["outside", "inside"])
@pytest.mark.parametrize("nudging", ["one-sided", "centred"])
@pytest.mark.parametrize("name", ORDER)
def test_states_and_estimate_equal_the_loop(name, nudging, nudge):
    model = zoo.model(name, ep.Prototypical(nudge), scale=1.0)
    inputs, classes = zoo.batch(model)
    x, y = inputs.numpy(), np.eye(zoo.CLASSES)[classes.numpy()]
    edges = [
        (pre, post, c.weight.detach().numpy(), 0.0 if c.bias is None else c.bias.detach().numpy())
        for pre, post, c in model.network.edges()
    ]
    rho = [RHO[p.activation.name] for p in model.network.populations]

    def settle(s, steps, beta):
        path = [s]
        for _ in range(steps):
            path.append(sweep(edges, ORDER[name], rho, path[-1], lambda out: beta * (y - out), nudge))
        return path

    path = settle([x, *(np.zeros((len(x), *p.shape)) for p in model.network.relaxing)], T, 0.0)
    swept = ep.Settle(T, schedule=ep.Asynchronous())
    for ours, theirs in zip(ep.relax(model, inputs, swept, trajectory=True).trajectory, path, strict=True):
        for a, b in zip(ours, theirs[1:], strict=True):
            torch.testing.assert_close(a, torch.from_numpy(b), rtol=1e-12, atol=1e-14)

    def hebbian(s):
        return [
            g for pre, post, _, b in edges for g in ([s[post].T @ s[pre]] + ([s[post].sum(0)] if np.any(b) else []))
        ]

    free = path[-1]
    low, norm = (free, BETA) if nudging == "one-sided" else (settle(free, K, -BETA)[-1], 2 * BETA)
    pairs = zip(hebbian(low), hebbian(settle(free, K, BETA)[-1]), strict=True)
    theirs = np.concatenate([((a - b) / (norm * len(x))).ravel() for a, b in pairs])
    estimator = ep.EquilibriumProp(swept, ep.Settle(K, schedule=ep.Asynchronous()), BETA, nudging)
    torch.testing.assert_close(
        zoo.gradient(model, estimator, inputs, classes), torch.from_numpy(theirs), rtol=1e-10, atol=1e-13
    )

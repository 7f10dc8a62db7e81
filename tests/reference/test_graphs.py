"""The outside nudge on skip, lateral and parallel edges against a NumPy loop over the edges of any dense graph."""

import numpy as np
import pytest
import torch

import eqprop as ep
import zoo

NAMES = ["one-layer", "chain", "input-skip", "skip", "lateral", "parallel", "downward", "linear-output"]
T, K = 12, 7


def activity(name, u):
    return {"tanh": np.tanh, "identity": lambda v: v}[name](u)


def step(network, x, s, force):
    """Return the state after one synchronous step; ``s`` is indexed by population, the input first."""
    u = [0.0 * a for a in s]
    for pre, post, w, b in network:
        u[post] = u[post] + s[pre] @ w.T + b
        u[pre] = u[pre] + s[post] @ w
    moved = [x, *(activity(name, v) for name, v in zip(force["rho"], u[1:], strict=True))]
    moved[-1] = moved[-1] + force["beta"] * (force["y"] - s[-1])
    return moved


def hebbian(network, s):
    """Return the gradients of Phi summed over samples."""
    return [g for pre, post, _, b in network for g in ([s[post].T @ s[pre]] + ([s[post].sum(0)] if np.any(b) else []))]


@pytest.mark.parametrize("nudging", ["one-sided", "centred"])
@pytest.mark.parametrize("name", NAMES)
def test_the_estimate_equals_the_loop(name, nudging):
    beta, model = 0.2, zoo.model(name, ep.Prototypical())
    inputs, classes = zoo.batch(model)
    x, y = inputs.numpy(), np.eye(zoo.CLASSES)[classes.numpy()]
    network = [
        (pre, post, c.weight.detach().numpy(), 0.0 if c.bias is None else c.bias.detach().numpy())
        for pre, post, c in model.network.edges()
    ]
    rho = [p.activation.name for p in model.network.relaxing]

    def settle(s, steps, strength):
        for _ in range(steps):
            s = step(network, x, s, {"beta": strength, "y": y, "rho": rho})
        return s

    free = settle([x, *(np.zeros((len(x), *p.shape)) for p in model.network.relaxing)], T, 0.0)
    low, norm = (free, beta) if nudging == "one-sided" else (settle(free, K, -beta), 2 * beta)
    pairs = zip(hebbian(network, low), hebbian(network, settle(free, K, beta)), strict=True)
    theirs = np.concatenate([((a - b) / (norm * len(x))).ravel() for a, b in pairs])
    ours = zoo.gradient(model, ep.EquilibriumProp(T, K, beta, nudging), inputs, classes)
    torch.testing.assert_close(ours, torch.from_numpy(theirs), rtol=1e-10, atol=1e-13)

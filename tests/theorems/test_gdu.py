"""Step by step: the increments of EP are minus BPTT's gradients (Ernoult et al. 2019, theorem 1; float64).

For t < K: Delta_s(t) = (s_{t+1} - s_t) / (beta dt) against dL/ds_{T-t}, Delta_theta(t) = (dPhi(s_{t+1}) - dPhi(s_t)) / beta
against the gradient of the copy of theta that makes step T - t. With the inside nudge, neurons are compared with the
gradient of the pre-activation.
"""

from itertools import pairwise

import pytest
import torch
from torch.func import functional_call

import eqprop as ep
import zoo

K = 8
SETTLED = ep.Settle(5000, tol=1e-16, check_every=50)
NAMES = ["chain", "sigmoid-chain", "deep-chain", "input-skip", "skip", "lateral", "parallel", "own-connection"]


class Step(torch.nn.Module):
    """One step of the dynamics as a function of the state and of its own copy of the parameters."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x, *state):
        drive = self.model.dynamics.prepare(self.model.network, x)
        return self.model.dynamics.step(self.model.network, state, drive)


def bptt_by_step(model, x, y, state):
    """``(dL/ds_{T-t}, dL/dtheta of step T-t)`` for t = 0 .. K-1, from the steady state."""
    step, names = Step(model), [f"model.network.{n}" for n, _ in model.network.named_parameters()]
    copies = [[p.detach().clone().requires_grad_() for p in model.network.parameters()] for _ in range(K)]
    states = [tuple(s.detach().requires_grad_() for s in state)]
    for theta in copies:
        states.append(functional_call(step, dict(zip(names, theta, strict=True)), (x, *states[-1])))
    loss = model.cost.value(states[-1][-1], y).mean()
    wanted = [s for t in range(K) for s in states[K - t]] + [p for t in range(K) for p in copies[K - 1 - t]]
    found = torch.autograd.grad(loss, wanted, allow_unused=True, materialize_grads=True)
    n, m = len(state), len(copies[0])
    neurons = [found[t * n : (t + 1) * n] for t in range(K)]
    weights = [found[K * n + t * m : K * n + (t + 1) * m] for t in range(K)]
    return neurons, weights


def phi_gradient(model, x, state):
    a = model.dynamics.activity(model.network, state)
    phi = model.network.phi(model.dynamics.encode(model.network, x), a).mean()
    return torch.autograd.grad(phi, list(model.network.parameters()))


def compare(model, beta):
    """Relative errors of neurons and of parameters over all steps."""
    x, y = zoo.batch(model)
    free = ep.relax(model, x, SETTLED).state
    nudged = ep.relax(model, x, K, y, beta, state=free, trajectory=True).trajectory
    neurons, weights = bptt_by_step(model, x, y, free)
    dt = getattr(model.dynamics, "dt", 1.0)
    slopes = [torch.ones_like(s) for s in free]
    if isinstance(model.dynamics, ep.Prototypical):  # dL/du = rho'(u) dL/ds
        u = model.network.currents(x, free)
        slopes = [p.activation.derivative(u_n) for p, u_n in zip(model.network.relaxing, u, strict=True)]
    ours, theirs = [], []
    for t in range(K):
        ours += [(b - a) / (beta * dt * zoo.BATCH) for a, b in zip(nudged[t], nudged[t + 1], strict=True)]
        theirs += [-g * r for g, r in zip(neurons[t], slopes, strict=True)]
    of_neurons = zoo.distance(torch.cat([s.flatten() for s in ours]), torch.cat([s.flatten() for s in theirs]))
    ours = [
        (b - a) / beta
        for t in range(K)
        for a, b in zip(*(phi_gradient(model, x, nudged[t + i]) for i in (0, 1)), strict=True)
    ]
    theirs = [-g for t in range(K) for g in weights[t]]
    return of_neurons, zoo.distance(torch.cat([g.flatten() for g in ours]), torch.cat([g.flatten() for g in theirs]))


@pytest.mark.parametrize("cost", ["squared", "readout"])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "dynamics", [ep.EnergyDescent(dt=0.4, clamp=False), ep.Prototypical(nudge="inside")], ids=["energy", "inside"]
)
def test_every_increment_is_minus_the_gradient_of_its_step(name, dynamics, cost):
    errors = [compare(zoo.model(name, dynamics, cost), beta) for beta in (1e-3, 1e-4, 1e-5)]
    for before, after in pairwise(errors):
        assert after[0] == pytest.approx(before[0] / 10, rel=0.1)
        assert after[1] == pytest.approx(before[1] / 10, rel=0.1)
    assert max(errors[-1]) < 1e-4


def test_the_toy_network_of_the_paper():
    """Reference: relative errors of 6e-5 to 8e-5 at beta = 1e-4, in proportion to beta."""
    torch.manual_seed(0)
    model = ep.toy().double()
    x, y = torch.rand(1, 5, dtype=torch.double), torch.tensor([3])
    errors = []
    free = ep.relax(model, x, SETTLED)
    assert free.residual.max() < 1e-12
    for beta in (1e-3, 1e-4):
        nudged = ep.relax(model, x, K, y, beta, state=free.state, trajectory=True).trajectory
        neurons, _ = bptt_by_step(model, x, y, free.state)
        ours = torch.cat(
            [(b - a).flatten() / (beta * 0.08) for t in range(K) for a, b in zip(nudged[t], nudged[t + 1], strict=True)]
        )
        errors.append(zoo.distance(ours, torch.cat([-g.flatten() for t in range(K) for g in neurons[t]])))
    assert errors[1] < 1e-4
    assert errors[1] == pytest.approx(errors[0] / 10, rel=0.05)


def test_the_outside_nudge_breaks_it():
    assert min(compare(zoo.model("chain", ep.Prototypical()), 1e-5)) > 1e-2


def test_a_free_phase_cut_short_breaks_it():
    model = zoo.model("chain", ep.EnergyDescent(dt=0.4, clamp=False))
    x, y = zoo.batch(model)
    early = ep.relax(model, x, 3).state
    moved = ep.relax(model, x, 1, y, 1e-5, state=early).state
    still = ep.relax(model, x, 1, state=early).state
    assert (torch.cat([(a - b).flatten() for a, b in zip(still, early, strict=True)]) / 1e-5).norm() > 1e2
    assert moved[0].equal(still[0])

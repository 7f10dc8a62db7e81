"""What ``ep.gdu`` must report, computed the slow way: one graph over K steps for BPTT, explicit gradients of Phi for EP.

For t < K: BPTT's side is ``dL/ds_{T-t}`` and ``dL/dtheta`` of the copy of theta that makes step T - t; EP's side is
``(s_{t+1} - s_t) / (beta dt)`` and ``(dPhi/dtheta(s_{t+1}) - dPhi/dtheta(s_t)) / beta`` of the nudged phase. The loss of neurons
is each sample's own; that of parameters is the batch's mean. A readout's plain gradient belongs to t = 0.
"""

import torch
from torch.func import functional_call

import eqprop as ep


class Step(torch.nn.Module):
    """One step of the dynamics as a function of the state and of its own copy of the parameters."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x, *state):
        drive = self.model.dynamics.prepare(self.model.network, x)
        return self.model.dynamics.step(self.model.network, state, drive)


def bptt_by_step(model, x, y, state, steps):
    """``(dL/ds_{T-t}, dL/dtheta of step T-t)`` for t = 0 .. steps - 1, from the state at T - steps; lists by t."""
    step, names = Step(model), [f"model.network.{n}" for n, _ in model.network.named_parameters()]
    copies = [[p.detach().clone().requires_grad_() for p in model.network.parameters()] for _ in range(steps)]
    states = [tuple(s.detach().requires_grad_() for s in state)]
    for theta in copies:
        states.append(functional_call(step, dict(zip(names, theta, strict=True)), (x, *states[-1])))
    loss = model.cost.value(states[-1][-1], y).mean()
    wanted = [s for t in range(steps) for s in states[steps - t]] + [p for copy in reversed(copies) for p in copy]
    found = torch.autograd.grad(loss, wanted, allow_unused=True, materialize_grads=True)
    n, m = len(state), len(copies[0])
    neurons = [[len(x) * g for g in found[t * n : (t + 1) * n]] for t in range(steps)]
    weights = [list(found[steps * n + t * m : steps * n + (t + 1) * m]) for t in range(steps)]
    return neurons, weights


def bptt_of_currents(model, x, y, state, steps):
    """``dL/du_{T-t}`` of prototypical dynamics, ``s_{T-t} = rho(u_{T-t})``, with ``u = dPhi/ds`` taken by autograd of Phi."""
    s, currents = tuple(p.detach().requires_grad_() for p in state), []
    for _ in range(steps):
        phi = model.network.phi(x, s).sum()
        u = torch.autograd.grad(phi, s, create_graph=True, allow_unused=True, materialize_grads=True)
        currents.append(u)
        s = tuple(p.activation.rho(u_n) for p, u_n in zip(model.network.relaxing, u, strict=True))
    wanted = [u_n for u in reversed(currents) for u_n in u]
    loss = model.cost.value(s[-1], y).sum()
    found = torch.autograd.grad(loss, wanted, allow_unused=True, materialize_grads=True)
    return [list(found[t * len(state) : (t + 1) * len(state)]) for t in range(steps)]


def phi_gradient(model, x, state):
    """``dPhi/dtheta`` in that state, mean over the batch, in the order of ``network.parameters()``."""
    a = tuple(s.detach() for s in model.dynamics.activity(model.network, state))
    phi = model.network.phi(model.dynamics.encode(model.network, x), a).mean()
    return torch.autograd.grad(phi, list(model.network.parameters()))


def ep_by_step(model, x, y, free, steps, beta):
    """``(Delta_s(t), Delta_theta(t))`` for t = 0 .. steps - 1; lists by t."""
    path = ep.relax(model, x, steps, y, beta, state=free, trajectory=True).trajectory
    dt = getattr(model.dynamics, "dt", 1.0)
    slopes = [phi_gradient(model, x, state) for state in path]
    neurons = [[(b - a) / (beta * dt) for a, b in zip(*path[t : t + 2], strict=True)] for t in range(steps)]
    weights = [[(b - a) / beta for a, b in zip(*slopes[t : t + 2], strict=True)] for t in range(steps)]
    return neurons, weights


def readout_gradient(model, x, y, free):
    """Gradient of the mean cost for the cost's own parameters, by name."""
    own = {f"cost.{n}": p for n, p in model.cost.named_parameters()} if isinstance(model.cost, torch.nn.Module) else {}
    if not own:
        return {}
    loss = model.cost.value(free[-1], y).mean()
    return dict(zip(own, torch.autograd.grad(loss, list(own.values())), strict=True))

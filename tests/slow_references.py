"""Slow references that follow every documented method of a model literally, and compute derivatives by autograd only.

`phi` of the connections, `value` of the cost and the step of the dynamics are the only functions that they trust.
"""

import torch

import eqprop as ep


def phi_currents(network, x, a):
    """``dPhi/da`` by autograd."""
    with torch.enable_grad():
        leaf = [s.detach().requires_grad_() for s in a]
        return torch.autograd.grad(network.phi(x, leaf).sum(), leaf)


def prototypical_step(model, x, state, force=None):
    """``rho(u)``, or ``rho(u + f)`` at the output."""
    u = list(phi_currents(model.network, x, state))
    if force is not None:
        u[-1] = u[-1] + force(state[-1])
    return tuple(p.activation.rho(u_n) for p, u_n in zip(model.network.relaxing, u, strict=True))


def own_step(model, x, state, force=None):
    """The step of the model's dynamics."""
    dynamics, network = model.dynamics, model.network
    with torch.no_grad():
        return dynamics.step(network, state, dynamics.prepare(network, x), force)


def slow_force(model, target, beta):
    """``-beta dC/ds`` by autograd of `value`."""

    def force(out):
        with torch.enable_grad():
            leaf = out.detach().requires_grad_()
            (slope,) = torch.autograd.grad(model.cost.value(leaf, target).sum(), leaf)
        return -beta * slope

    return force


def slow_ep(model, x, y, free_steps, nudged_steps, beta, step=prototypical_step):
    """Centred EP: the gradient of the mean cost, by parameter."""
    dynamics, network = model.dynamics, model.network
    state = dynamics.init(network, x)
    for _ in range(free_steps):
        state = step(model, x, state)
    target = model.cost.encode(y, dynamics.units(state)[-1])
    ends = []
    for strength in (-beta, beta):
        nudged = state
        for _ in range(nudged_steps):
            nudged = step(model, x, nudged, slow_force(model, target, strength))
        ends.append(dynamics.activity(network, nudged))
    encoded = dynamics.encode(network, x)
    surrogate = (network.phi(encoded, ends[0]) - network.phi(encoded, ends[1])).mean() / (2 * beta)
    cost = model.cost.value(dynamics.units(state)[-1].detach(), target).mean()
    return gradients(model, surrogate + cost)


def gradients(model, loss):
    """Gradient of every parameter as one vector."""
    parameters = list(model.parameters())
    found = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
    return torch.cat([g.flatten() for g in found])


def estimate(estimator, model, x, y):
    """The summed gradient of an estimator's losses as one vector, and the last loss."""
    total, loss = 0, None
    for loss in estimator(model, x, y):
        total = total + gradients(model, loss)
    return total, loss.item()


def chain(kind, cost=None, dynamics=None, settle=30):
    """A 4-5-3 chain with connections of class ``kind``, in float64; small weights, so that it settles."""
    torch.manual_seed(3)
    populations = [ep.Population(n, "tanh") for n in (4, 5, 3)]
    network = ep.Network(populations, [(0, 1, kind(4, 5)), (1, 2, kind(5, 3))])
    return ep.Model(network, dynamics or ep.Prototypical(nudge="inside"), cost or ep.SquaredError(), settle).double()


def batch():
    """Six samples and their classes."""
    generator = torch.Generator().manual_seed(5)
    return torch.rand(6, 4, generator=generator, dtype=torch.double), torch.arange(6) % 3


FREE, NUDGED, BETA = 120, 60, 1e-3

ESTIMATORS = {
    "ep": ep.EquilibriumProp(FREE, NUDGED, BETA, "centred"),
    "ep, asynchronous": ep.EquilibriumProp(
        ep.Settle(FREE, schedule=ep.Asynchronous()), ep.Settle(NUDGED, schedule=ep.Asynchronous()), BETA, "centred"
    ),
    "continual": ep.ContinualEP(FREE, NUDGED, BETA, "centred"),
    "continual-sgd": ep.ContinualSGD(FREE, NUDGED, BETA, 0.0, "centred"),
    "bptt": ep.BPTT(FREE, NUDGED),
    "implicit": ep.ImplicitDiff(FREE, NUDGED),
}
"""With these all estimate the same gradient, up to a thousandth; the first and the third exactly `slow_ep`."""

"""The theorem for graphs drawn at random: skip, lateral, parallel and downward edges, any size, any smooth activations.

With weights small enough to settle the error of every population and parameter falls by ten with every decade of beta, by a
hundred if centred, until round-off: ``eps |s| / (beta dt)`` beside the gradient.
"""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import eqprop as ep

K = 6
SETTLED = ep.Settle(2000, tol=2e-16, check_every=10)
PROFILE = settings(max_examples=12, deadline=None, derandomize=True)


@st.composite
def graphs(draw):
    """Populations and edges by number; every population has an edge from an earlier one, so that the input reaches it."""
    last = draw(st.integers(2, 4))
    sizes = [draw(st.integers(1, 3)), *(draw(st.integers(1, 4)) for _ in range(last))]
    activations = [draw(st.sampled_from(["tanh", "sigmoid"])) for _ in sizes]
    tree = [(draw(st.integers(0, n - 1)), n) for n in range(1, last + 1)]
    more = draw(st.lists(st.tuples(st.integers(0, last), st.integers(1, last)), max_size=4))
    return sizes, activations, tree + more


def build(graph, dynamics, seed):
    """Every weight within 1 / (fan-in of its population), all edges counted, so that no activation amplifies much."""
    sizes, activations, edges = graph
    torch.manual_seed(seed)
    populations = [ep.Population(n, rho) for n, rho in zip(sizes, activations, strict=True)]
    network = ep.Network(populations, [(i, j, ep.Dense(sizes[i], sizes[j])) for i, j in edges])
    model = ep.Model(network, dynamics, ep.SquaredError()).double()
    into = [sum(sizes[i] * (j == n) + sizes[j] * (i == n) for i, j in edges) for n in range(len(sizes))]
    for (i, j), connection in zip(edges, network.connections, strict=True):
        bound = 0.4 / max(into[i] if i else 0, into[j])
        connection.weight.data.uniform_(-bound, bound)
        connection.bias.data.uniform_(-0.2, 0.2)
    return model, torch.rand(2, sizes[0]).double(), torch.randint(sizes[-1], (2,))


def reached(edges, last):
    """Populations that the nudge reaches at all: joined to the output by a path that avoids the input."""
    found = {last}
    while more := {n for edge in edges if 0 not in edge and found & set(edge) for n in edge} - found:
        found |= more
    return found


def falls(model, x, y, betas, by, nudging="one-sided"):
    """The error of every process falls at least so fast; where BPTT finds nothing, neither does EP."""
    reports = [ep.gdu(model, x, y, SETTLED, K, beta, nudging) for beta in betas]
    assert reports[0].residual.max() < 1e-14
    named = [report.populations | report.parameters for report in reports]
    for name in named[0]:
        norm = named[0][name].bptt.norm().item()
        noise = [1e-14 / (beta * reports[0].dt) for beta in betas]
        errors = [(process[name].ep + process[name].bptt).norm().item() for process in named]
        if norm == 0:
            assert all(error < n for error, n in zip(errors, noise, strict=True)), name
        for k in range(1, len(betas)):
            assert errors[k] <= by * errors[k - 1] + noise[k], name
        assert errors[-1] <= 0.01 * norm + noise[-1], name
    return reports


def sound(reports, graph):
    """Whether no assumption is broken, where the nudge reaches everybody."""
    last = len(graph[0]) - 1
    return len(reached(graph[2], last)) < last or all(report.broken == [] for report in reports)


@PROFILE
@given(graphs(), st.sampled_from([0.3, 0.6, 1.0]), st.integers(0, 1000))
def test_energy_dynamics(graph, dt, seed):
    reports = falls(*build(graph, ep.EnergyDescent(dt, clamp=False), seed), (1e-2, 1e-3, 1e-4), by=0.12)
    assert sound(reports, graph)


@PROFILE
@given(graphs(), st.integers(0, 1000))
def test_prototypical_dynamics_nudged_inside(graph, seed):
    reports = falls(*build(graph, ep.Prototypical(nudge="inside"), seed), (1e-2, 1e-3, 1e-4), by=0.12)
    assert sound(reports, graph)


@PROFILE
@given(graphs(), st.booleans(), st.integers(0, 1000))
def test_centred(graph, energy, seed):
    dynamics = ep.EnergyDescent(0.6, clamp=False) if energy else ep.Prototypical(nudge="inside")
    falls(*build(graph, dynamics, seed), (3e-2, 3e-3, 3e-4), by=0.012, nudging="centred")

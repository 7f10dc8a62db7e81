"""Every series of a report agrees with a slow oracle, at the steady state or not: shapes, keys, order, signs and normalization."""

import pytest
import torch

import eqprop as ep
import zoo
from reference.by_step import bptt_by_step, bptt_of_currents, ep_by_step, readout_gradient

T, K, BETA = 12, 5, 0.1
DYNAMICS = {
    "energy": ep.EnergyDescent(dt=0.4, clamp=False),
    "clamped": ep.EnergyDescent(dt=0.3, clamp=True),
    "no-output-derivative": ep.EnergyDescent(dt=0.3, clamp=False, output_derivative=False),
    "inside": ep.Prototypical(nudge="inside"),
    "outside": ep.Prototypical(nudge="outside"),
}


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-11)


def by_population(steps):
    """Stack lists by t to a tensor ``(K, …)`` for each population or parameter."""
    return [torch.stack(path) for path in zip(*steps, strict=True)]


def mean(lists):
    """Average lists of equal length elementwise."""
    return [sum(parts) / len(parts) for parts in zip(*lists, strict=True)]


def check(model, x, y, nudging="one-sided"):
    report = ep.gdu(model, x, y, T, K, BETA, nudging)
    early, free = (ep.relax(model, x, steps).state for steps in (T - K, T))
    neurons, weights = bptt_by_step(model, x, y, early, K)
    if report.against == "dL/du":
        neurons = bptt_of_currents(model, x, y, early, K)

    sides = [ep_by_step(model, x, y, free, K, beta) for beta in ([BETA] if nudging == "one-sided" else [BETA, -BETA])]
    moved, learnt = (mean([by_population(side[which]) for side in sides]) for which in (0, 1))
    assert len(report.neurons) == len(model.network.relaxing)
    for process, delta, nabla in zip(report.neurons, moved, by_population(neurons), strict=True):
        assert process.ep.shape == process.bptt.shape == (K, *nabla.shape[1:])
        close(process.ep, delta)
        close(process.bptt, nabla)

    plain = readout_gradient(model, x, y, free)
    assert list(report.parameters) == [name for name, _ in model.named_parameters()]
    assert set(report.parameters) == {f"network.{name}" for name, _ in model.network.named_parameters()} | set(plain)
    expected = zip(model.network.named_parameters(), learnt, by_population(weights), strict=True)
    for (name, parameter), delta, nabla in expected:
        process = report.parameters[f"network.{name}"]
        assert process.ep.shape == process.bptt.shape == (K, *parameter.shape)
        close(process.ep, delta)
        close(process.bptt, nabla)
    for name, gradient in plain.items():
        at_first = torch.stack([gradient, *[torch.zeros_like(gradient)] * (K - 1)])
        close(report.parameters[name].bptt, at_first)
        close(report.parameters[name].ep, -at_first)


@pytest.mark.parametrize("dynamics", DYNAMICS)
@pytest.mark.parametrize("name", zoo.GRAPHS)
def test_one_sided(name, dynamics):
    model = zoo.model(name, DYNAMICS[dynamics], scale=1.0)
    check(model, *zoo.batch(model))


@pytest.mark.parametrize("nudging", ["one-sided", "centred"])
@pytest.mark.parametrize("dynamics", DYNAMICS)
@pytest.mark.parametrize("name", ["chain", "input-skip", "own-connection"])
def test_with_a_readout(name, dynamics, nudging):
    model = zoo.model(name, DYNAMICS[dynamics], "readout")
    check(model, *zoo.batch(model), nudging)


@pytest.mark.parametrize("dynamics", DYNAMICS)
@pytest.mark.parametrize("name", ["skip", "nonlinear-connection"])
def test_centred_is_the_mean_of_both_sides(name, dynamics):
    model = zoo.model(name, DYNAMICS[dynamics])
    check(model, *zoo.batch(model), nudging="centred")


@pytest.mark.parametrize("dynamics", DYNAMICS)
def test_neurons_are_compared_with_pre_activations_where_the_nudge_is_inside(dynamics):
    """dL/du where the nudge enters at u, below an activation that is not linear; else dL/ds."""
    model = zoo.model("chain", DYNAMICS[dynamics])
    assert ep.gdu(model, *zoo.batch(model), T, K, BETA).against == ("dL/du" if dynamics == "inside" else "dL/ds")
    model = ep.mlp([4, 3], activation="identity", dynamics=DYNAMICS[dynamics]).double()
    assert ep.gdu(model, *zoo.batch(model), T, K, BETA).against == "dL/ds"  # rho' = 1: they are the same


class Grid(ep.Connection):
    """``<post, W pre + b>`` between populations of any shape."""

    def __init__(self, pre, post):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(*post, *pre) / 3)
        self.bias = torch.nn.Parameter(torch.randn(post) / 3)

    def phi(self, pre, post):
        u = pre.flatten(1) @ self.weight.reshape(post[0].numel(), -1).t() + self.bias.flatten()
        return (u * post.flatten(1)).sum(1)


@pytest.mark.parametrize("dynamics", DYNAMICS)
def test_populations_of_any_shape(dynamics):
    shapes = [(2, 2), (2, 1, 3), (3, 2)]
    populations = [ep.Population(shape, "tanh") for shape in shapes]
    edges = [(0, 1, Grid(*shapes[:2])), (1, 2, Grid(*shapes[1:]))]
    model = ep.Model(ep.Network(populations, edges), DYNAMICS[dynamics], ep.SquaredError()).double()
    check(model, torch.rand(4, 2, 2).double(), torch.tensor([0, 5, 3, 3]))


@pytest.mark.parametrize("dynamics", DYNAMICS)
def test_targets_as_floats(dynamics):
    model = zoo.model("chain", DYNAMICS[dynamics])
    x, _ = zoo.batch(model)
    check(model, x, torch.rand(zoo.BATCH, 3).double())


def test_a_negative_beta_divides_its_own_increments():
    model = zoo.model("chain", DYNAMICS["energy"])
    x, y = zoo.batch(model)
    report = ep.gdu(model, x, y, T, K, -BETA)
    moved, learnt = ep_by_step(model, x, y, ep.relax(model, x, T).state, K, -BETA)
    close([p.ep for p in report.neurons], by_population(moved))
    close([p.ep for p in report.parameters.values()], by_population(learnt))


def test_neurons_do_not_depend_on_the_rest_of_the_batch():
    """Each sample's own loss: there is no 1 / B in them, and parameters are the mean of single samples."""
    model = zoo.model("skip", DYNAMICS["inside"])
    x, y = zoo.batch(model)
    whole = ep.gdu(model, x, y, T, K, BETA)
    single = [ep.gdu(model, x[b : b + 1], y[b : b + 1], T, K, BETA) for b in range(len(x))]
    for b, report in enumerate(single):
        for all_samples, one in zip(whole.neurons, report.neurons, strict=True):
            close(all_samples.ep[:, b : b + 1], one.ep)
            close(all_samples.bptt[:, b : b + 1], one.bptt)
    for name, process in whole.parameters.items():
        close(process.ep, sum(report.parameters[name].ep for report in single) / len(x))
        close(process.bptt, sum(report.parameters[name].bptt for report in single) / len(x))


def test_untied_weights_pair_the_free_currents_with_every_step():
    """Delta(t) = <u(s*), a_{t+1} - a_t> / beta, differentiated (ep.md 3.2); no Phi there to differentiate."""
    model = ep.mlp([4, 5, 3], activation="tanh", tied=False, angle=45, dynamics=DYNAMICS["energy"]).double()
    x, y = zoo.batch(model)
    report = ep.gdu(model, x, y, T, K, BETA)
    free = ep.relax(model, x, T).state
    path = ep.relax(model, x, K, y, BETA, state=free, trajectory=True).trajectory
    a = [[torch.tanh(s) for s in state] for state in path]
    for t in range(K):
        hidden, out = (a[t + 1][n] - a[t][n] for n in (0, 1))
        expected = {
            "network.connections.0.weight": hidden.t() @ torch.tanh(x),
            "network.connections.0.bias": hidden.sum(0),
            "network.connections.1.upward.weight": out.t() @ a[0][0],
            "network.connections.1.upward.bias": out.sum(0),
            "network.connections.1.feedback": a[0][1].t() @ hidden,
        }
        for name, found in report.parameters.items():
            close(found.ep[t], expected[name] / (BETA * len(x)))

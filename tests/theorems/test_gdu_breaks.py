"""Faults that break the theorem, one by one; the report names the broken assumption.

A sound model's error falls tenfold with every decade of beta; a broken one's stays (or grows), however small beta is.
"""

import pytest
import torch

import eqprop as ep
import zoo

K = 8
SETTLED = ep.Settle(5000, tol=1e-15, check_every=20)
ENERGY, INSIDE = ep.EnergyDescent(dt=0.4, clamp=False), ep.Prototypical(nudge="inside")


def reports(model, steps=SETTLED, betas=(1e-3, 1e-5)):
    return [ep.gdu(model, *zoo.batch(model), steps, K, beta) for beta in betas]


def names(report):
    return [assumption.name for assumption in report.broken]


def stays(found, name, at_least=0.01):
    """Whether the error of that population or parameter is the same at both betas."""
    first, last = (report.relative_error()[name] for report in found)
    return last > at_least and abs(first - last) < 0.05 * last


def falls(found, name):
    """Whether the error falls by a hundred with two decades of beta."""
    first, last = (report.relative_error()[name] for report in found)
    return last == pytest.approx(first / 100, rel=0.1)


@pytest.mark.parametrize("angle", [45, 90])
@pytest.mark.parametrize("dynamics", [ENERGY, INSIDE], ids=["energy", "inside"])
def test_untied_weights(dynamics, angle):
    model = ep.mlp([4, 6, 5, 3], activation="tanh", tied=False, angle=angle, dynamics=dynamics).double()
    found = reports(model)
    assert [names(report) for report in found] == [["gradient dynamics"]] * 2
    for name in ("s1", "s2", "network.connections.0.weight", "network.connections.1.upward.weight"):
        assert stays(found, name, at_least=0.1)


def test_opposite_weights_have_the_largest_asymmetry():
    """J = [[0, A], [-A^T, 0]] up to slopes: |Jv - J^T v| is twice |Jv|."""
    model = ep.mlp([4, 5, 3], activation="tanh", tied=False, angle=180, dynamics=INSIDE).double()
    for parameter in model.parameters():
        parameter.data.mul_(0.5)
    (assumption,) = reports(model)[0].broken
    assert assumption.name == "gradient dynamics"
    assert assumption.detail == "asymmetry of the step's Jacobian 2.0e+00, of at most 2"


@pytest.mark.parametrize("dynamics", [ENERGY, INSIDE], ids=["energy", "inside"])
def test_a_wrong_derivative(dynamics):
    """``1 - tanh`` for ``1 - tanh^2``: energy dynamics use it in a step, and inside nudging in ``D``."""
    with pytest.warns(UserWarning, match="is not the derivative of its `unit`"):
        wrong = ep.Activation(torch.tanh, slope=lambda u, r: 1 - r, name="mistaken")
    populations = [ep.Population(n, wrong) for n in (4, 5, 3)]
    model = ep.Model(
        ep.Network(populations, [(0, 1, ep.Dense(4, 5)), (1, 2, ep.Dense(5, 3))]), dynamics, ep.SquaredError()
    ).double()
    found = reports(model)
    assert [names(report) for report in found] == [["gradient dynamics"]] * 2
    assert stays(found, "s1")
    assert stays(found, "s2")
    assert falls(found, "network.connections.0.weight") == (dynamics == INSIDE)  # where D is only what we compare with


def test_a_derivative_of_twice_the_size_is_named():
    """The state descends 2 Phi, neurons obey the theorem, but the parameters' increments are half of the gradients."""
    with pytest.warns(UserWarning, match="is not the derivative of its `unit`"):
        wrong = ep.Activation(torch.tanh, slope=lambda u, r: 2 * (1 - r * r), name="mistaken")
    populations = [ep.Population(n, wrong) for n in (4, 5, 3)]
    network = ep.Network(populations, [(0, 1, ep.Dense(4, 5)), (1, 2, ep.Dense(5, 3))])
    for parameter in network.parameters():
        parameter.data.mul_(0.3)
    found = reports(ep.Model(network, ENERGY, ep.SquaredError()).double())
    for name in ("network.connections.0.weight", "network.connections.1.bias"):
        if not stays(found, name) or found[0].relative_error()[name] != pytest.approx(0.5, abs=0.01):
            pytest.fail(f"{name} is not off by one half")
    assert names(found[0]) == ["gradient dynamics"]


def test_an_output_without_its_derivative():
    model = zoo.model("chain", ep.EnergyDescent(dt=0.4, clamp=False, output_derivative=False), scale=1.0)
    found = reports(model)
    assert [names(report) for report in found] == [["gradient dynamics"]] * 2
    assert stays(found, "s1")
    assert stays(found, "network.connections.1.weight")


def test_a_linear_output_needs_no_derivative():
    model = zoo.model("linear-output", ep.EnergyDescent(dt=0.4, clamp=False, output_derivative=False))
    found = reports(model)
    assert [names(report) for report in found] == [[], []]
    assert all(falls(found, name) for name in found[0].relative_error())


def test_units_held_by_a_clamp():
    """They have a gradient and never move. Other gradients are right: these units propagate nothing in either direction."""
    model = zoo.model("chain", ep.EnergyDescent(dt=0.4, clamp=True))
    held = [(s == 0) | (s == 1) for s in ep.relax(model, zoo.batch(model)[0], SETTLED).state]
    assert held[0].any()
    assert not held[0].all()
    found = reports(model)
    assert [names(report) for report in found] == [["gradient dynamics"]] * 2
    assert stays(found, "s1", at_least=0.1)
    assert ((found[1].neurons[0].ep == 0).all(0) == held[0]).all()
    assert (found[1].neurons[0].bptt[1] != 0).all()
    assert found[1].stuck()["s1"] == held[0].all(0).double().mean().item()
    assert all(falls(found, name) for name in found[0].parameters)


def test_a_free_phase_cut_short():
    """Motion without a nudge is divided by beta: the error grows as beta shrinks."""
    model = zoo.model("chain", ENERGY)
    found = reports(model, steps=K + 2)
    assert [names(report) for report in found] == [["steady state"]] * 2
    for name in found[0].relative_error():
        assert found[1].relative_error()[name] > 0.99
    assert min(found[1].free_share().values()) > 0.99
    settled = reports(model)
    assert max(settled[1].free_share().values()) < 1e-8
    assert all(falls(settled, name) for name in settled[0].relative_error())


def alternating(dynamics=INSIDE):
    """Two units, w = 3, biases b and -b: ``s1 = tanh(3 s2 + b)``, ``s2 = tanh(3 s1 - b)``, both steady at near +1 or -1.

    From 0 the sweep that begins in s1 goes to +1, the one that begins in s2 to -1, and synchronous updates run both.
    """
    populations = [ep.Population(1, "tanh")] * 3
    network = ep.Network(populations, [(0, 1, ep.Dense(1, 1)), (1, 2, ep.Dense(1, 1))])
    for connection, (weight, bias) in zip(network.connections, [(0.0, 0.5), (3.0, -0.5)], strict=True):
        connection.weight.data.fill_(weight)
        connection.bias.data.fill_(bias)
    return ep.Model(network, dynamics, ep.SquaredError()).double()


@pytest.mark.parametrize("steps", [200, 201])
def test_a_network_that_alternates(steps):
    model, x, y = alternating(), torch.ones(1, 1).double(), torch.ones(1, 1).double()
    path = ep.relax(model, x, steps, trajectory=True).trajectory
    s1, s2 = (torch.cat([state[n] for state in path[-2:]]).flatten().tolist() for n in (0, 1))
    assert min(abs(s) for s in s1 + s2) > 0.9
    assert s1[0] * s1[1] < 0
    assert s2[0] * s2[1] < 0
    found = [ep.gdu(model, x, y, steps, K, beta) for beta in (1e-3, 1e-5)]
    assert [names(report) for report in found] == [["steady state"]] * 2
    assert all(report.broken[0].detail.endswith(": the network alternates between two states") for report in found)
    assert all(report.residual.item() > 1.8 for report in found)
    assert all(found[1].relative_error()[name] > 0.99 for name in ("s1", "s2", "network.connections.1.bias"))


def test_the_same_network_with_small_steps_does_not():
    """A step smaller than 1 couples the two sweeps."""
    model, x, y = alternating(ep.EnergyDescent(dt=0.2, clamp=False)), torch.ones(1, 1).double(), torch.zeros(1, 1)
    report = ep.gdu(model, x, y.double(), SETTLED, K, 1e-5)
    assert report.broken == []
    assert max(report.relative_error().values()) < 1e-3


def test_the_worst_population_is_named():
    """A unit that alternates, s <- tanh(-6 s + 1), not connected to an output that settles in one step."""
    populations = [ep.Population(n, "tanh") for n in (1, 1, 2)]
    edges = [(0, 1, ep.Dense(1, 1)), (1, 1, ep.Dense(1, 1, bias=False)), (0, 2, ep.Dense(1, 2))]
    model = ep.Model(ep.Network(populations, edges), INSIDE, ep.SquaredError()).double()
    for parameter, value in zip(model.parameters(), (0.0, 1.0, -3.0), strict=False):
        parameter.data.fill_(value)
    report = ep.gdu(model, torch.ones(1, 1).double(), torch.tensor([1]), 50, K, 1e-2)
    assert names(report) == ["steady state"]
    assert "100 % of the motion of population 1 is present without a nudge" in report.broken[0].detail
    assert report.free_share()["s2"] == 0


def test_slow_convergence_is_not_reported_as_alternating():
    report = reports(zoo.model("chain", ep.EnergyDescent(dt=0.05, clamp=False)), steps=K + 5)[0]
    assert names(report) == ["steady state"]
    assert "alternates" not in report.broken[0].detail


def test_the_outside_nudge():
    found = reports(zoo.model("chain", ep.Prototypical(), scale=0.8))
    assert [names(report) for report in found] == [["nudge"]] * 2
    assert found[0].broken[0].detail == "the nudge skips rho' of the output"
    for name in ("s1", "s2", "network.connections.0.weight", "network.connections.1.weight"):
        assert stays(found, name)


@pytest.mark.parametrize("dynamics", [ENERGY, INSIDE], ids=["energy", "inside"])
def test_single_precision_and_a_tiny_beta(dynamics):
    model = zoo.model("chain", dynamics)
    x, y = zoo.batch(model)
    exact = ep.gdu(model, x, y, 300, K, 1e-6)
    report = ep.gdu(model.float(), x.float(), y, 300, K, 1e-6)
    assert exact.broken == []
    assert "precision" in names(report)
    for name, error in report.relative_error().items():
        assert error > 30 * exact.relative_error()[name]
    assert "precision" not in names(ep.gdu(model, x.float(), y, 300, K, 1e-2))


def test_several_faults_are_all_named():
    model = ep.mlp([4, 6, 3], activation="tanh", tied=False, angle=90)  # and nudged outside
    report = ep.gdu(model, torch.rand(2, 4), torch.tensor([0, 1]), K, K, 1e-3)
    assert names(report) == ["gradient dynamics", "steady state", "nudge"]


@pytest.mark.parametrize("steps", [1, 2])
def test_populations_before_the_nudge_arrives_break_nothing(steps):
    """K = 1 moves the output alone: the theorem says 0 = 0 of the rest."""
    model = zoo.model("deep-chain", ENERGY)
    report = ep.gdu(model, *zoo.batch(model), SETTLED, steps, 1e-3)
    assert report.broken == []


def test_populations_that_the_nudge_never_reaches_break_nothing():
    populations = [ep.Population(n, "tanh") for n in (4, 5, 3)]
    network = ep.Network(populations, [(0, 1, ep.Dense(4, 5)), (0, 2, ep.Dense(4, 3))])
    model = ep.Model(network, ENERGY, ep.SquaredError()).double()
    assert reports(model)[0].broken == []


@pytest.mark.parametrize("bias", [3.0, 5.0, 8.0])
@pytest.mark.parametrize("activation", ["tanh", "sigmoid"])
def test_saturated_units_are_not_reported_as_asymmetric(activation, bias):
    """Where ``1 - rho^2`` is only rounding, the two products differ by rounding."""
    model = ep.mlp([2, 1, 1], activation=activation, dynamics=INSIDE).double()
    for connection in model.network.connections:
        connection.weight.data.fill_(0.7)
        connection.bias.data.fill_(bias)
    report = ep.gdu(model, torch.rand(1, 2).double(), torch.zeros(1, 1).double(), 300, K, 1e-2)
    assert "gradient dynamics" not in names(report)

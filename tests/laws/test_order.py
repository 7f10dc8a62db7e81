"""Asynchronous sweeps: updating a group minimizes the energy over its units, so the energy never increases; the steady states
are those of synchronous steps."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import eqprop as ep
import zoo
from eqprop.solvers.coloring import color_groups
from eqprop.solvers.phase import Phase
from eqprop.solvers.settle import settle

LATERAL = ["lateral", "lateral-output", "own-lateral"]
NAMES = [name for name in zoo.GRAPHS if name not in [*LATERAL, "own-activation"]]
TWO_GROUPS = [
    "chain",
    "sigmoid-chain",
    "deep-chain",
    "linear-output",
    "input-skip",
    "parallel",
    "downward",
    "own-connection",
]
RHO = ["sigmoid", "hard_sigmoid", "tanh", "relu6"]
RANGE = {"sigmoid": (0, 1), "hard_sigmoid": (0, 1), "tanh": (-1, 1), "relu6": (0, 6)}


def sweeps(steps, **options):
    return ep.Settle(steps, schedule=ep.Asynchronous(), **options)


def random_state(network, samples=3):
    """Anywhere in the range of the activations."""
    pre = (2 * torch.randn(samples, *p.shape, dtype=torch.double) for p in network.relaxing)
    return tuple(p.activation.rho(u) for p, u in zip(network.relaxing, pre, strict=True))


@st.composite
def random_networks(draw):
    """Any dense graph without self-connections, weights large enough for synchronous steps to overshoot."""
    sizes = draw(st.lists(st.integers(1, 4), min_size=2, max_size=6))
    last = len(sizes) - 1
    pairs = st.tuples(st.integers(0, last), st.integers(1, last)).filter(lambda ends: ends[0] != ends[1])
    edges = [(n, n + 1) for n in range(last)] + draw(st.lists(pairs, max_size=5))
    torch.manual_seed(draw(st.integers(0, 1000)))
    scale = draw(st.sampled_from([1.0, 4.0]))
    populations = [ep.Population(n, draw(st.sampled_from(RHO))) for n in sizes]
    network = ep.Network(populations, [(i, j, ep.Dense(sizes[i], sizes[j])) for i, j in edges]).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(scale)
    return network


def check_energy_never_increases(model, x, start, steps=12):
    """The energy after each update of a group, over several sweeps; returns the last state."""
    dynamics, network = model.dynamics, model.network
    drive, state = dynamics.prepare(network, x), start
    energy = [model.energy(state, x)]
    for _ in range(steps):
        for group in color_groups(network.ends):
            state = dynamics.step_group(network, state, drive, group)
            energy.append(model.energy(state, x))
    path = torch.stack(energy).detach()
    assert (path.diff(dim=0) <= 1e-12 * (1 + path.abs().max())).all()
    return state


@settings(max_examples=60, deadline=None)
@given(random_networks())
def test_no_update_increases_the_energy(network):
    model = ep.Model(network, ep.Prototypical(), ep.SquaredError())
    x, start = torch.randn(3, *network.populations[0].shape, dtype=torch.double), random_state(network)
    with torch.no_grad():
        ended = check_energy_never_increases(model, x, start)
    for a, b in zip(ep.relax(model, x, sweeps(12), state=start).state, ended, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("activation", ["hard_sigmoid", "sigmoid", "relu6"])
@pytest.mark.parametrize("pool", ["max", "avg", None])
def test_no_update_increases_the_energy_of_images(pool, activation, seed):
    """With a skip that closes a triangle; below max pooling updates are not exact minima, but the energy still decreases."""
    torch.manual_seed(seed)
    shapes = {"kernel_size": (3, 2, 1) if pool else (3, 3, 3), "padding": 1, "skips": ((1, 3),), "gain": 4.0}
    model = ep.convnet((1, 9, 9), (2, 3, 2), pool=pool, dense=(3,), activation=activation, **shapes).double()
    assert len(color_groups(model.network.ends)) == 3
    x, start = torch.rand(2, 1, 9, 9, dtype=torch.double), random_state(model.network, 2)
    with torch.no_grad():
        ended = check_energy_never_increases(model, x, start)
    for a, b in zip(ep.relax(model, x, sweeps(12), state=start).state, ended, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)


@settings(max_examples=60, deadline=None)
@given(random_networks())
def test_an_update_is_the_minimum_over_its_group(network):
    """By autograd of the energy, which is convex in the group since Phi is linear in it: stationary, or at a bound."""
    model = ep.Model(network, ep.Prototypical(), ep.SquaredError())
    x, state = torch.randn(3, *network.populations[0].shape, dtype=torch.double), random_state(network)
    drive = model.dynamics.prepare(network, x)
    for group in color_groups(network.ends):
        moved = model.dynamics.step_group(network, state, drive, group)
        assert all(moved[n] is state[n] for n in range(len(state)) if n + 1 not in group)
        leaves = tuple(s.detach().requires_grad_() for s in moved)
        slopes = torch.autograd.grad(model.energy(leaves, x).sum(), leaves)
        for n in group:
            s, slope = leaves[n - 1].detach(), slopes[n - 1]
            rho = network.relaxing[n - 1].activation
            low, high = RANGE[rho.name]
            inside = (s > low + 1e-6) & (s < high - 1e-6)  # nearer, the inverse of a saturated one has no digits left
            assert slope[inside].abs().sum() < 1e-6
            if rho.name in ("hard_sigmoid", "relu6"):
                assert (slope[s == low] >= -1e-9).all()
                assert (slope[s == high] <= 1e-9).all()
        others = tuple(
            t if n + 1 in group else s for n, (s, t) in enumerate(zip(moved, random_state(network), strict=True))
        )
        assert (model.energy(moved, x) <= model.energy(others, x) + 1e-10).all()


@pytest.mark.parametrize("name", TWO_GROUPS)
def test_synchronous_steps_are_two_sequences_of_sweeps(name):
    """Sweep k has the first group's state of step 2k - 1, and the second's of step 2k: an oracle of synchronous code alone."""
    model = zoo.model(name, ep.Prototypical(), scale=1.5)
    x, start = zoo.batch(model)[0], zoo.state(model)
    first, second = color_groups(model.network.ends)
    steps = ep.relax(model, x, 14, state=start, trajectory=True).trajectory
    swept = ep.relax(model, x, sweeps(7), state=start, trajectory=True).trajectory
    assert len(swept) == 8
    for k in range(1, 8):
        for n in (*first, *second):
            theirs = steps[2 * k - 1 if n in first else 2 * k][n - 1]
            torch.testing.assert_close(swept[k][n - 1], theirs, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("nudge", ["outside", "inside"])
@pytest.mark.parametrize("name", NAMES)
def test_sweeps_and_steps_settle_in_the_same_state(name, nudge):
    model = zoo.model(name, ep.Prototypical(nudge))
    x, y = zoo.batch(model)
    for beta in (0.0, 0.3):
        steps, swept = (ep.relax(model, x, s, y, beta) for s in (200, sweeps(100)))
        assert steps.residual.max() < 1e-12
        assert swept.residual.max() < 1e-12
        for a, b in zip(steps.state, swept.state, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


def test_sweeps_settle_where_synchronous_steps_alternate():
    """Two units that copy each other with a strong weight: opposite signs are exchanged at every synchronous step."""
    network = zoo.Graph((1, 1, 1), ("tanh", "tanh"), ((0, 1, ep.Dense), (1, 2, ep.Dense))).network().double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(0.0)
        network.connections[1].weight.fill_(3.0)
    model = ep.Model(network, ep.Prototypical(), ep.SquaredError())
    x, start = torch.zeros(1, 1).double(), (torch.full((1, 1), 0.9).double(), torch.full((1, 1), -0.9).double())
    assert ep.relax(model, x, 500, state=start).residual > 1.9
    assert ep.relax(model, x, sweeps(500), state=start).residual < 1e-14


@pytest.mark.parametrize("name", zoo.GRAPHS)
def test_currents_into_a_group_are_those_into_all(name):
    model = zoo.model(name, ep.Prototypical())
    x, s = zoo.batch(model)[0], zoo.state(model)
    drive = model.dynamics.prepare(model.network, x)
    whole = drive.currents(s)
    for n in range(1, len(s) + 1):
        for known in (drive, drive.specialize([n], s), drive.specialize(range(1, len(s) + 1), s)):
            (current,) = known.currents_into([n], s) if (n, n) not in model.network.ends else (whole[n - 1],)
            torch.testing.assert_close(current, whole[n - 1], rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", NAMES)
def test_samples_do_not_mix(name):
    model = zoo.model(name, ep.Prototypical())
    x, y = zoo.batch(model)
    together = ep.relax(model, x, sweeps(7), y, beta=0.3)
    for i in range(zoo.BATCH):
        alone = ep.relax(model, x[i : i + 1], sweeps(7), y[i : i + 1], beta=0.3)
        for a, b in zip(alone.state, together.state, strict=True):
            torch.testing.assert_close(a[0], b[i], rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", NAMES)
def test_arguments_are_not_modified(name):
    model = zoo.model(name, ep.Prototypical())
    x, y = zoo.batch(model)
    start, drive = zoo.state(model), model.dynamics.prepare(model.network, x)
    given = [x, y, *start, drive.input, *drive.constant, *model.parameters()]
    before = [t.detach().clone() for t in given]
    states = ep.relax(model, x, sweeps(3), y, beta=0.2, state=start, trajectory=True).trajectory
    kept = [[s.clone() for s in state] for state in states]
    with torch.no_grad():
        settle(Phase(model.network, model.dynamics, drive), start, sweeps(3))
    assert all(torch.equal(a, b) for a, b in zip(given, before, strict=True))
    again = ep.relax(model, x, sweeps(3), y, beta=0.2, state=start, trajectory=True).trajectory
    assert all(torch.equal(a, b) for s, t in zip(kept, again, strict=True) for a, b in zip(s, t, strict=True))


def test_a_tolerance_is_on_the_change_of_a_sweep():
    model = zoo.model("skip", ep.Prototypical())
    x, _ = zoo.batch(model)
    states = ep.relax(model, x, sweeps(40), trajectory=True).trajectory
    change = [max((b - a).abs().max() for a, b in zip(s, t, strict=True)) for s, t in pairwise(states)]
    first = next(t for t in range(2, 41, 2) if change[t - 1] <= 1e-6)
    stopped = ep.relax(model, x, sweeps(40, tol=1e-6, check_every=2))
    assert stopped.steps == first < 40
    torch.testing.assert_close(stopped.residual.max(), change[first - 1])


def test_a_sweep_that_goes_wrong_is_named():
    model = zoo.model("linear-output", ep.Prototypical())
    x, _ = zoo.batch(model)
    start = zoo.state(model)
    start[1][0, 0] = torch.nan
    with pytest.raises(FloatingPointError, match="population 2 is not finite at step 0 of the free phase"):
        ep.relax(model, x, sweeps(3), state=start)


REFUSED = {
    "Euler steps": (
        "chain",
        ep.EnergyDescent(),
        r"needs `Prototypical` dynamics.*got EnergyDescent\(dt=0.2.*synchronously",
    ),
    "noise": ("chain", ep.Noisy(ep.Prototypical(), 0.1), r"needs `Prototypical` dynamics.*got Noisy\("),
    "any shape": (
        "own-activation",
        ep.Prototypical(),
        r"increasing.*`potential`.*Activation\('arctangent'\) in population 1",
    ),
    "lateral": ("lateral", ep.Prototypical(), "population 1 is connected to itself"),
    "own lateral": ("own-lateral", ep.Prototypical(), "population 1 is connected to itself"),
    "lateral output": ("lateral-output", ep.Prototypical(), "population 2 is connected to itself"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_unsupported_networks_and_dynamics_are_refused(case):
    name, dynamics, message = REFUSED[case]
    model, swept = zoo.model(name, dynamics), sweeps(3)
    (x, y), beta = zoo.batch(model), 0.1
    for act in (
        lambda: ep.relax(model, x, swept),
        lambda: ep.Model(model.network, dynamics, model.cost, swept),
        lambda: list(ep.EquilibriumProp(swept, 3, beta)(model, x, y)),
        lambda: list(ep.EquilibriumProp(3, swept, beta)(model, x, y)),
        lambda: list(ep.BPTT(swept)(model, x, y)),
        lambda: list(ep.ImplicitDiff(3, swept)(model, x, y)),
        lambda: list(ep.ContinualEP(swept, 3, beta)(model, x, y)),
        lambda: ep.Equilibrium(model.network, dynamics, swept, 3, beta),
        lambda: ep.Equilibrium(model.network, dynamics, 3, swept, beta),
    ):
        with pytest.raises(ValueError, match=message):
            act()


def test_a_schedule_is_an_object():
    for wrong, got in (("asynchronous", "an object of class str"), (ep.Asynchronous, "the class Asynchronous itself")):
        with pytest.raises(ValueError, match=f"`schedule` must be an object of class Schedule, got {got}"):
            ep.Settle(3, schedule=wrong)


def test_gdu_needs_synchronous_steps():
    model = zoo.model("chain", ep.Prototypical())
    with pytest.raises(ValueError, match=r"`free_steps` must be synchronous.*got Asynchronous\(\)"):
        ep.gdu(model, *zoo.batch(model), sweeps(30), 5, 0.1)

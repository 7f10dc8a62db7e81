"""Anderson acceleration: it finds the steady states of plain steps, for each sample separately, and rejects unhelpful points."""

from itertools import islice

import pytest
import torch

import eqprop as ep
import zoo
from eqprop.solvers.phase import Phase
from eqprop.solvers.settle import settle

SWEPT = ["chain", "skip", "linear-output", "images"]
CASES = [(name, ep.Prototypical(nudge), ep.Synchronous()) for name in zoo.GRAPHS for nudge in ("outside", "inside")]
CASES += [(name, ep.EnergyDescent(dt=0.5, clamp=False), ep.Synchronous()) for name in zoo.GRAPHS]
CASES += [(name, ep.Prototypical("inside"), ep.Asynchronous()) for name in SWEPT]
NAMES = [f"{name}-{type(dynamics).__name__}-{n}" for n, (name, dynamics, _) in enumerate(CASES)]


def mixed(steps, tol=None, window=5, growth=1.0, **options):
    return ep.Settle(steps, tol, accelerate=ep.Anderson(window, growth), **options)


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_it_settles_where_plain_steps_do(case):
    name, dynamics, schedule = case
    model = zoo.model(name, dynamics)
    x, y = zoo.batch(model)
    for beta in (0.0, 0.3):
        plain = ep.relax(model, x, ep.Settle(600, 1e-13, schedule), y, beta)
        fast = ep.relax(model, x, mixed(600, 1e-12, schedule=schedule, check_every=1), y, beta)
        assert fast.residual.max() <= 1e-12
        assert fast.steps <= plain.steps
        for a, b in zip(plain.state, fast.state, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", ["chain", "images", "residual-images"])
@pytest.mark.parametrize("dynamics", [ep.Prototypical(), ep.EnergyDescent()], ids=["steps", "euler"])
def test_samples_do_not_mix(name, dynamics):
    """Also when points are rejected for some samples only: weights are large, and start states differ."""
    model = zoo.model(name, dynamics, scale=2.0)
    (x, y), start = zoo.batch(model), zoo.state(model)
    together = ep.relax(model, x, mixed(12, window=2), y, beta=0.3, state=start)
    for i in range(zoo.BATCH):
        own = tuple(s[i : i + 1] for s in start)
        alone = ep.relax(model, x[i : i + 1], mixed(12, window=2), y[i : i + 1], beta=0.3, state=own)
        for a, b in zip(alone.state, together.state, strict=True):
            torch.testing.assert_close(a[0], b[i], rtol=0, atol=1e-8)


def test_arguments_and_reported_states_are_not_modified():
    model = zoo.model("images", ep.Prototypical())
    x, y = zoo.batch(model)
    start, drive = zoo.state(model), model.dynamics.prepare(model.network, x)
    given = [x, y, *start, drive.input, *drive.constant, *model.parameters()]
    before = [t.detach().clone() for t in given]
    shown, kept = [], []
    with torch.no_grad():
        see = lambda state: (shown.append(state), kept.append([s.clone() for s in state]))  # noqa: E731
        settle(Phase(model.network, model.dynamics, drive), start, mixed(9, window=2), on_step=see)
    assert all(torch.equal(a, b) for a, b in zip(given, before, strict=True))
    assert all(torch.equal(a, b) for s, t in zip(shown, kept, strict=True) for a, b in zip(s, t, strict=True))


def wild(seed):
    """Weights with which plain steps do not converge."""
    model = zoo.model("deep-chain", ep.Prototypical(), seed=seed, scale=6.0)
    drive = model.dynamics.prepare(model.network, zoo.batch(model)[0])
    return (lambda s: model.dynamics.step(model.network, s, drive)), zoo.state(model)


@pytest.mark.parametrize("growth", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("seed", range(3))
def test_only_plain_steps_raise_a_residual(seed, growth):
    """By more than ``growth``. Every pair is ``(z, F(z))``. A step starts from the last result, or its residual grows by at most
    ``growth``. A rejected step repeats the pair before it, and a plain step follows."""
    step, start = wild(seed)
    with torch.no_grad():
        path = list(islice(ep.Anderson(2, growth).iterate(step, start), 40))
        led = [torch.cat(step(before), 1) for before, _ in path]
    z, g = (torch.stack([torch.cat(units, 1) for units in side]) for side in zip(*path, strict=True))
    torch.testing.assert_close(g, torch.stack(led), rtol=0, atol=1e-14)
    size = (g - z).norm(dim=2)
    plain = (z[1:] == g[:-1]).all(2)
    repeated = (z[1:] == z[:-1]).all(2)
    assert (plain | repeated | (size[1:] <= growth * size[:-1])).all()
    assert plain[1:][repeated[:-1]].all()
    assert repeated.any()
    assert not repeated[:, repeated.any(0)].all(0).any()


def test_if_all_points_are_rejected_every_second_step_is_plain():
    model = zoo.model("chain", ep.Prototypical())
    x, _ = zoo.batch(model)
    plain = ep.relax(model, x, 8, trajectory=True).trajectory
    slow = ep.relax(model, x, mixed(14, growth=1e-30), trajectory=True).trajectory
    for t in range(1, 15):
        torch.testing.assert_close(slow[t], plain[t // 2 + 1], rtol=1e-13, atol=1e-14)


def test_steps_are_plain_if_residuals_do_not_change():
    """A translation has no differences of residuals, and no fixed point."""
    shift = torch.tensor([[0.5, -0.25], [2.0, 0.0]])
    start = (torch.zeros(2, 2),)
    for t, (before, after) in enumerate(islice(ep.Anderson().iterate(lambda s: (s[0] + shift,), start), 20)):
        torch.testing.assert_close(before[0], t * shift, rtol=0, atol=0)
        torch.testing.assert_close(after[0], (t + 1) * shift, rtol=0, atol=0)


def holding():
    """Two units that copy each other with a strong weight: opposite signs are exchanged at every synchronous step."""
    network = zoo.Graph((1, 1, 1), ("tanh", "tanh"), ((0, 1, ep.Dense), (1, 2, ep.Dense))).network().double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(0.0)
        network.connections[1].weight.fill_(3.0)
    return ep.Model(network, ep.Prototypical(), ep.SquaredError())


@pytest.mark.parametrize("opposite", [-0.9, -0.8, -0.2])
def test_it_settles_where_plain_steps_alternate(opposite):
    model, x = holding(), torch.zeros(1, 1).double()
    start = (torch.full((1, 1), 0.9).double(), torch.full((1, 1), opposite).double())
    plain, fast = (ep.relax(model, x, steps, state=start) for steps in (500, mixed(500)))
    assert plain.residual > 1.9
    assert fast.residual < 1e-12
    torch.testing.assert_close(ep.relax(model, x, 1, state=fast.state).state, fast.state, rtol=0, atol=1e-11)


def test_mixed_points_are_projected_onto_their_bounds():
    model = zoo.model("chain", ep.EnergyDescent(dt=0.2), scale=2.0)
    drive = model.dynamics.prepare(model.network, zoo.batch(model)[0])
    inside = []
    for within in (lambda s: s, lambda s: model.dynamics.project(model.network, s)):
        with torch.no_grad():
            path = ep.Anderson(3).iterate(
                lambda s: model.dynamics.step(model.network, s, drive), zoo.state(model), within
            )
            points = torch.stack([torch.cat(before, 1) for before, _ in islice(path, 30)])
        inside.append(bool(((points >= 0) & (points <= 1)).all()))
    assert inside == [False, True]


def test_projections_of_each_dynamics():
    model = zoo.model("images", ep.Prototypical())
    state = tuple(s - 0.5 for s in zoo.state(model))
    within = model.dynamics.project(model.network, state)
    assert all(torch.equal(a, b.clamp(min=0)) for a, b in zip(within[:2], state[:2], strict=True))
    assert torch.equal(within[2], state[2])  # a nudge may take the output anywhere
    assert all(s.max() <= 1 and s.min() >= 0 for s in ep.EnergyDescent().project(model.network, state))
    assert ep.EnergyDescent(clamp=False).project(model.network, state) is state


def test_a_phase_uses_the_bounds():
    """Clamped Euler steps of hard sigmoids settle at the bounds, outside of which their slope is 0."""
    torch.manual_seed(5)
    model = ep.mlp([4, 12, 3], dynamics=ep.EnergyDescent(dt=0.2)).double()
    with torch.no_grad():
        for parameter in model.network.parameters():
            parameter.mul_(3)
    seen = []
    step = ep.EnergyDescent.step
    watch = lambda self, network, state, *rest: (seen.append(torch.cat(state, 1)), step(self, network, state, *rest))[1]  # noqa: E731
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ep.EnergyDescent, "step", watch)
        ep.relax(model, torch.rand(3, 4).double(), mixed(30))
    points = torch.stack(seen)
    assert ((points >= 0) & (points <= 1)).all()


def test_a_tolerance_is_on_the_change_that_a_step_makes():
    model = zoo.model("skip", ep.Prototypical())
    x, _ = zoo.batch(model)
    drive = model.dynamics.prepare(model.network, x)
    stopped = ep.relax(model, x, mixed(200, 1e-6, check_every=2))
    assert stopped.steps < 30
    assert stopped.steps % 2 == 0
    residuals = [ep.relax(model, x, mixed(t)).residual.max() for t in (stopped.steps - 2, stopped.steps)]
    assert residuals[1] <= 1e-6 < residuals[0]
    after = model.dynamics.step(model.network, stopped.state, drive)
    assert max((a - b).abs().max() for a, b in zip(after, stopped.state, strict=True)) < 1e-5


def test_a_phase_that_is_not_finite_raises():
    model = zoo.model("linear-output", ep.Prototypical())
    start = zoo.state(model)
    start[1][0, 0] = torch.nan
    with pytest.raises(FloatingPointError, match="population 2 is not finite at step 0 of the free phase"):
        ep.relax(model, zoo.batch(model)[0], mixed(5), state=start)


LONG = 400


@pytest.mark.parametrize("nudging", ["one-sided", "centred"])
@pytest.mark.parametrize("dynamics", [ep.Prototypical("inside"), ep.EnergyDescent(clamp=False)], ids=["steps", "euler"])
def test_gradients_are_those_of_many_plain_steps(dynamics, nudging):
    for name in ("skip", "images"):
        model = zoo.model(name, dynamics)
        x, y = zoo.batch(model)
        plain = zoo.gradient(model, ep.EquilibriumProp(LONG, LONG, 0.1, nudging), x, y)
        tolerant = mixed(LONG, 1e-10, check_every=1)
        assert (
            zoo.distance(zoo.gradient(model, ep.EquilibriumProp(tolerant, tolerant, 0.1, nudging), x, y), plain) < 1e-7
        )
        back = zoo.gradient(model, ep.ImplicitDiff(LONG), x, y)
        assert zoo.distance(zoo.gradient(model, ep.ImplicitDiff(mixed(60), mixed(60)), x, y), back) < 1e-8


@pytest.mark.parametrize("name", ["chain", "lateral"])
def test_an_accelerated_adjoint_needs_fewer_steps(name):
    model = zoo.model(name, ep.Prototypical(), scale=0.9)
    x, y = zoo.batch(model)
    exact = zoo.gradient(model, ep.ImplicitDiff(2000), x, y)
    plain, fast = (zoo.distance(zoo.gradient(model, ep.ImplicitDiff(2000, s), x, y), exact) for s in (15, mixed(15)))
    assert fast < plain / 100


def test_bptt_unrolls_plain_steps_after_accelerated_ones():
    model = zoo.model("chain", ep.Prototypical())
    x, y = zoo.batch(model)
    plain, fast = (zoo.gradient(model, ep.BPTT(steps, 10), x, y) for steps in (LONG, mixed(40)))
    assert zoo.distance(fast, plain) < 1e-8
    for unrolled in (None, 40):
        with pytest.raises(ValueError, match=r"`free_steps` are accelerated, .* are plain"):
            ep.BPTT(mixed(40), unrolled)


class Own(ep.Prototypical):
    """A user's dynamics that do not declare support."""

    supports_acceleration = ep.Dynamics.supports_acceleration


@pytest.mark.parametrize(
    "dynamics", [ep.Noisy(ep.Prototypical(), 0.1), ep.Noisy(ep.Prototypical()), ep.Spiking(), Own()]
)
def test_states_that_cannot_be_mixed_are_refused(dynamics):
    model = ep.mlp([4, 5, 3], dynamics=dynamics)
    x, y, beta = torch.rand(2, 4), torch.tensor([0, 1]), 0.1
    for act in (
        lambda: ep.relax(model, x, mixed(3)),
        lambda: ep.Model(model.network, dynamics, model.cost, mixed(3)),
        lambda: list(ep.EquilibriumProp(mixed(3), 3, beta)(model, x, y)),
        lambda: list(ep.EquilibriumProp(3, mixed(3), beta)(model, x, y)),
        lambda: list(ep.ContinualEP(mixed(3), 3, beta)(model, x, y)),
        lambda: ep.Equilibrium(model.network, dynamics, mixed(3), 3, beta),
    ):
        with pytest.raises(ValueError, match="acceleration needs dynamics whose step is a fixed map of their units"):
            act()


MISTAKES = {
    "an object": (lambda: ep.Settle(3, accelerate="anderson"), "`accelerate` must be an object of class Anderson"),
    "the class": (lambda: ep.Settle(3, accelerate=ep.Anderson), "got the class Anderson itself"),
    "a mean": (lambda: ep.Settle(9, average=3, accelerate=ep.Anderson()), "`average` does not apply to accelerated steps"),
    "no window": (lambda: ep.Anderson(0), "`window` must be .* got 0"),
    "no growth": (lambda: ep.Anderson(growth=0.0), "`growth` must be .* got 0.0"),
    "the theorem": (
        lambda: ep.gdu(zoo.model("chain", ep.Prototypical()), *zoo.batch(zoo.model("chain", ep.Prototypical())), mixed(9), 3, 0.1),
        r"`free_steps` must be plain steps.*got Anderson\(window=5, growth=1.0\)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", MISTAKES)
def test_invalid_arguments(case):
    act, message = MISTAKES[case]
    with pytest.raises(ValueError, match=message):
        act()

"""What holds for spiking dynamics: samples do not mix, phases restore everything, linear synapses commute with the decoder."""

from dataclasses import replace
from itertools import product

import pytest
import torch
from torch import Tensor

import eqprop as ep
import zoo
from eqprop._core.state import iter_tensors, map_tensors, repeat
from eqprop.solvers.settle import settle
from eqprop.spiking import OSA, Bernoulli, Decay, Spiking

DYNAMICS = {
    "plain": Spiking(),
    "current": Spiking(eps=Decay(0.775, 0.313), lam=Decay(1.0, 0.75), input="current"),
    "osa": Spiking(eps=OSA(), lam=0.275),
    "before": Spiking(decode="before"),
    "before, current": Spiking(decode="before", input="current"),
    "bernoulli": Spiking(coder=Bernoulli()),
}
T, K, BETA = 30, 12, 0.5
IMAGE = ep.ConvNet((1, 7, 6), (3,), kernel_size=3, pool="avg", dense=(4,))


def image(dynamics, pool="avg", seed=1):
    """A convolution and a dense layer on two images."""
    torch.manual_seed(seed)
    model = replace(IMAGE, pool=pool, dynamics=dynamics).build().double()
    return model, torch.rand(2, 1, 7, 6).double(), torch.tensor([0, 2])


def same(one, other):
    """Return whether two states are equal, bit for bit."""
    ours, theirs = list(iter_tensors(one)), list(iter_tensors(other))
    return len(ours) == len(theirs) and all(map(torch.equal, ours, theirs)) and rest(one) == rest(other)


def rest(state):
    """Return the parts of a state that are not tensors."""
    return [rest(p) if isinstance(p, tuple) else p for p in state if not isinstance(p, Tensor)]


@pytest.mark.parametrize("dynamics", ["plain", "before, current"])
@pytest.mark.parametrize("name", zoo.GRAPHS)
def test_samples_do_not_mix(name, dynamics):
    model = zoo.spiking(name, DYNAMICS[dynamics])
    x, y = zoo.batch(model)
    together = ep.relax(model, x, 15, y, BETA)
    for i in range(zoo.BATCH):
        alone = ep.relax(model, x[i : i + 1], 15, y[i : i + 1], BETA)
        for a, b in zip(iter_tensors(alone.state), iter_tensors(together.state), strict=True):
            torch.testing.assert_close(a[0], b[i], rtol=1e-11, atol=1e-12)
        torch.testing.assert_close(alone.residual[0], together.residual[i], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dynamics", DYNAMICS)
@pytest.mark.parametrize("name", ["chain", "lateral", "images", "residual-images", "own-connection"])
def test_steps_do_not_modify_their_arguments(name, dynamics):
    model = zoo.spiking(name, DYNAMICS[dynamics])
    x, y = zoo.batch(model)
    for start in (model.dynamics.init(model.network, x), ep.relax(model, x, 5).state):
        phase, _, target = model.prepare_batch(x, y)
        given = [x, y, *iter_tensors(start), phase.drive.input, *phase.drive.constant, *model.parameters()]
        before = [t.detach().clone() for t in given]
        with torch.no_grad():
            settle(phase.nudged(lambda s, y=target: 0.5 * (y - s)), start, ep.Settle(3))
        assert all(map(torch.equal, given, before))


@pytest.mark.parametrize("dynamics", DYNAMICS)
def test_two_phases_are_one(dynamics):
    model = zoo.spiking("deep-chain", DYNAMICS[dynamics])
    x, _ = zoo.batch(model)
    torch.manual_seed(4)
    half = ep.relax(model, x, 9)
    torch.manual_seed(4)
    whole = ep.relax(model, x, 20)
    assert same(ep.relax(model, x, 11, state=half.state).state, whole.state)
    assert whole.state.tick == 20


@pytest.mark.parametrize("dynamics", DYNAMICS)
@pytest.mark.parametrize("name", ["deep-chain", "residual-images"])
def test_a_phase_from_the_same_state_is_the_same_phase(name, dynamics):
    """Residuals, traces, coders, ticks and the random streams are all in the state."""
    model = zoo.spiking(name, DYNAMICS[dynamics])
    x, y = zoo.batch(model)
    free = ep.relax(model, x, T)
    copy = map_tensors(Tensor.clone, free.state)
    first = ep.relax(model, x, K, y, BETA, state=free.state)
    other = ep.relax(model, x, K, y, -BETA, state=free.state)
    torch.rand(5)
    again = ep.relax(model, x, K, y, BETA, state=free.state)
    assert same(first.state, again.state)
    assert not same(first.state, other.state)
    assert same(free.state, copy)


@pytest.mark.parametrize("dynamics", DYNAMICS)
@pytest.mark.parametrize("name", ["one-layer", "deep-chain", "residual-images"])
def test_two_phases_in_one_batch_match_separate_phases(name, dynamics):
    model = zoo.spiking(name, DYNAMICS[dynamics])
    x, y = zoo.batch(model)
    free = ep.relax(model, x, T)
    phase, _, target = model.prepare_batch(x, y)
    betas = torch.tensor([-BETA] * len(x) + [BETA] * len(x)).double()[:, None]
    with torch.no_grad():
        nudged = phase.repeat(2).nudged(lambda s: betas * (torch.cat([target] * 2) - s))
        both = settle(nudged, repeat(free.state, 2), ep.Settle(K)).state
    minus, plus = (ep.relax(model, x, K, y, beta, state=free.state).state for beta in (-BETA, BETA))
    for half, alone in enumerate((minus, plus)):
        for u, v in zip(both.potential, alone.potential, strict=True):
            torch.testing.assert_close(u.chunk(2)[half], v, rtol=0, atol=1e-13)
        assert all(torch.equal(q.chunk(2)[half], p) for q, p in zip(both.spike, alone.spike, strict=True))


@pytest.mark.parametrize("dynamics", ["plain", "bernoulli"])
def test_the_phases_of_a_centred_estimate_share_their_noise(dynamics):
    """Where nothing nudges, the contrast is exactly zero: both halves make the same spikes."""
    model = zoo.spiking("deep-chain", DYNAMICS[dynamics])
    x, _ = zoo.batch(model)
    block = ep.Equilibrium(model.network, model.dynamics, T, K, BETA)
    (0.0 * block(x).sum()).backward()
    assert all(bool((p.grad == 0).all()) for p in model.network.parameters())


@pytest.mark.parametrize("dynamics", DYNAMICS)
def test_a_training_step_is_reproduced_by_its_seed(dynamics):
    model = zoo.spiking("deep-chain", DYNAMICS[dynamics])
    x, y = zoo.batch(model)
    found = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        found.append(zoo.gradient(model, ep.EquilibriumProp(T, ep.Settle(K, average=4), BETA, "centred"), x, y))
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2]) == (dynamics != "bernoulli")


LINEAR = [
    "one-layer", "chain", "deep-chain", "input-skip", "skip", "lateral", "parallel", "downward"
]  # fmt: skip


@pytest.mark.parametrize("lam", [0.2, Decay(1.0, 0.75)], ids=str)
@pytest.mark.parametrize(
    ("name", "sent"),
    [
        *product([*LINEAR, "average pooling"], ["spikes", "current"]),
        ("own-connection", "spikes"),  # as a current it passes the decoder, having no promise that phi is linear
    ],
)
def test_linear_synapses_commute_with_the_decoder(name, sent, lam):
    states = []
    for decode in ("after", "before"):
        dynamics = Spiking(lam=lam, input=sent, decode=decode)
        model, x, y = image(dynamics) if name == "average pooling" else with_batch(zoo.spiking(name, dynamics))
        free = ep.relax(model, x, 60)
        states.append([free.state, ep.relax(model, x, 20, y, BETA, state=free.state).state])
    for one, other in zip(*states, strict=True):
        for a, b in zip((*one.potential, *one.coder), (*other.potential, *other.coder), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-10)
        assert all(map(torch.equal, one.spike, other.spike))


def with_batch(model):
    return model, *zoo.batch(model)


@pytest.mark.parametrize("pool", ["max", "softmax"])
def test_max_pooling_does_not_commute_with_the_decoder(pool):
    """The mean of a maximum is above the maximum of the means: pooled spikes drive more than pooled decoded trains."""
    found = []
    for decode in ("after", "before"):
        model, x, _ = image(Spiking(decode=decode), pool)
        twin = ep.relax(model.rate_model(), x, 400).state
        states = ep.relax(model, x, 200, trajectory=True).trajectory[-100:]
        found.append(sum(s.potential[0] for s in states) / 100 - twin[0])
    after, before = found
    assert after.mean() > 0.02
    assert before.abs().mean() < 0.02
    assert after.abs().mean() > 3 * before.abs().mean()


def recurrent(model):
    """The network of a dense chain as matrices: ``(A, W)``, among the relaxing units and from the input."""
    sizes = [p.shape[0] for p in model.network.relaxing]
    at = [0, *torch.tensor(sizes).cumsum(0).tolist()]
    A, W = torch.zeros(at[-1], at[-1]).double(), torch.zeros(at[-1], model.network.populations[0].shape[0]).double()
    for pre, post, connection in model.network.edges():
        rows, weight = slice(at[post - 1], at[post]), connection.weight.detach()
        if pre == 0:
            W[rows] += weight
        else:
            A[rows, at[pre - 1] : at[pre]] += weight
            A[at[pre - 1] : at[pre], rows] += weight.t()
    return A, W


@pytest.mark.parametrize("sent", ["spikes", "current"])
@pytest.mark.parametrize("lam", [0.3, 0.1])
@pytest.mark.parametrize("name", ["chain", "deep-chain", "skip"])
def test_the_distance_to_the_steady_state_of_the_rate_model_is_bounded(name, lam, sent):
    """With d the largest distance of a potential in the last ticks, every input is within ``|A| (d + 2 phi lam) + |W| 2 phi lam``
    of its steady value, phi the largest residual in these ticks, and a potential deviates no more than its input: solved for d."""
    model = zoo.spiking(name, Spiking(lam=lam, input=sent), scale=0.25)
    x, _ = zoo.batch(model)
    A, W = (m.abs().sum(1).max().item() for m in recurrent(model))
    assert A < 0.95  # otherwise there is no bound
    rest = ep.relax(model.rate_model(), x, 400)
    assert rest.residual.max() == 0
    late = ep.relax(model, x, 600, trajectory=True).trajectory[-200:]
    residual = max(phi.abs().max().item() for s in late for phi in s.coder)
    assert residual < 0.75  # no coder is saturated
    error = 2 * residual * lam
    bound = (A * error + (W * error if sent == "spikes" else 0.0)) / (1 - A)
    d = max((u - r).abs().max().item() for s in late for u, r in zip(s.potential, rest.state, strict=True))
    assert 0 < d <= bound


TABLE = {  # mean |u - u*| at 50, 100, 200 ticks: spiking.md 8.1, of a network of this shape on images as dark as these
    "raw spikes": (Spiking(0.5, 1.0), (0.0169, 0.0158, 0.0148)),
    "raw spikes, eps 1/sqrt t": (Spiking(Decay(1.0, 0.5), 1.0), (0.0121, 0.0077, 0.0051)),
    "lam .1": (Spiking(0.5, 0.1), (0.0083, 0.0036, 0.0020)),
    "osa": (Spiking(OSA(0.0346), 0.275), (0.0091, 0.0053, 0.0026)),
    "best mean": (Spiking(Decay(0.758, 0.055), Decay(0.892, 0.556)), (0.0049, 0.0024, 0.00085)),
    "best end": (Spiking(Decay(0.775, 0.313), Decay(0.67, 0.578)), (0.0100, 0.0050, 0.0024)),
    "lam 1/t^.75": (Spiking(0.5, Decay(1.0, 0.75)), (0.0072, 0.0031, 0.0014)),
}


@pytest.fixture(scope="module")
def settled():
    """2C2FC with 8 and 16 channels on two blurred, mostly dark images, and the steady state of its rate model."""
    torch.manual_seed(0)
    model = ep.ConvNet((1, 28, 28), (8, 16), pool="avg", dense=(64, 10), dynamics=Spiking()).build()
    coarse = torch.nn.functional.interpolate(torch.rand(2, 1, 7, 7), size=28, mode="bilinear")
    x = (6 * (coarse - 0.65)).clamp(0, 1)
    rest = ep.relax(model.rate_model(), x, 300)
    assert rest.residual.max() < 1e-6
    return model, x, rest.state


@pytest.mark.parametrize("row", TABLE)
def test_potentials_approach_the_steady_state_as_in_the_table(row, settled):
    model, x, rest = settled
    dynamics, bounds = TABLE[row]
    states = ep.relax(ep.Model(model.network, dynamics, model.cost), x, 200, trajectory=True).trajectory
    for tick, bound in zip((50, 100, 200), bounds, strict=True):
        apart = torch.cat([(u - r).abs().flatten() for u, r in zip(states[tick].potential, rest, strict=True)])
        assert apart.mean() <= bound


def test_time_is_counted_in_ticks_over_both_phases():
    """A decaying size goes on where the free phase left it: after many ticks, a nudge has hardly any effect."""
    model = zoo.spiking("chain", Spiking(eps=Decay(1.0, 1.0), lam=0.5))
    x, y = zoo.batch(model)
    free = ep.relax(model, x, 99)
    after = ep.relax(model, x, 1, y, BETA, state=free.state)
    assert after.state.tick == 100
    assert after.residual.max() <= 3 / 100
    assert ep.relax(model, x, 1, y, BETA).residual.max() > 0.1


@pytest.mark.filterwarnings("ignore:`x` has values that .* dynamics clip")
def test_input_is_clipped_for_spikes_and_contrast():
    model = zoo.spiking("chain", Spiking())
    x = torch.tensor([[-0.5, 0.25, 1.0, 1.5]]).double()
    assert torch.equal(model.dynamics.encode(model.network, x), torch.tensor([[0.0, 0.25, 1.0, 1.0]]).double())
    states = ep.relax(model, x, 200, trajectory=True).trajectory[1:]
    rates = sum(s.spike[0] for s in states) / 200
    torch.testing.assert_close(rates, torch.tensor([[0.0, 0.25, 1.0, 1.0]]).double(), rtol=0, atol=0.03)


def test_energy_and_units_are_those_of_the_rate_model():
    model = zoo.spiking("skip", Spiking(eps=0.3))
    x, _ = zoo.batch(model)
    assert model.dynamics.differentiable_equivalent() == ep.EnergyDescent(dt=0.3)
    assert (
        Spiking(eps=Decay()).differentiable_equivalent()
        == Spiking(eps=OSA()).differentiable_equivalent()
        == ep.EnergyDescent(dt=0.5)
    )
    state = ep.relax(model, x, 20).state
    units = model.dynamics.units(state)
    assert all(map(torch.equal, units, state.potential))
    assert torch.equal(model.energy(state, x), model.rate_model().energy(units, x))
    assert model.rate_model().network is model.network
    twice = model.rate_model()
    assert twice.rate_model() is twice


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "relu6", "identity", "wide_hard_sigmoid"])
def test_other_activations_raise(activation):
    with pytest.raises(ValueError, match=rf"need hard sigmoids.* population 1 has .*{activation}.*hard_sigmoid"):
        ep.mlp([4, 5, 3], activation=activation, dynamics=Spiking())
    with pytest.raises(ValueError, match=rf"population 2 has .*{activation}"):
        ep.mlp([4, 5, 3], output_activation=activation, dynamics=Spiking())
    network = ep.mlp([4, 5, 3], activation=activation).network
    with pytest.raises(ValueError, match=r"need hard sigmoids"):
        ep.Equilibrium(network, Spiking(), 5, 5, 0.1)


def test_asynchronous_schedules_raise():
    with pytest.raises(ValueError, match=r"an asynchronous schedule needs `Prototypical` dynamics.*got Spiking"):
        ep.mlp([4, 5, 3], dynamics=Spiking(), settle=ep.Settle(5, schedule=ep.Asynchronous()))


@pytest.mark.parametrize("changed", ["rates", "shape", "lanes"])
def test_a_state_of_another_kind_raises(changed):
    model = zoo.spiking("chain", Spiking(coder=Bernoulli()))
    x, _ = zoo.batch(model)
    state = ep.relax(model, x, 3).state
    wrong = {"rates": state.potential, "shape": map_tensors(lambda t: t[:1], state), "lanes": state._replace(coder=())}
    with pytest.raises(ValueError, match=r"`state` must (hold \(3, 5\)|be a SpikingState)"):
        ep.relax(model, x, 3, state=wrong[changed])

"""Noise: its mean and variance, the same in every phase, and none at ``std=0``."""

import pytest
import torch

import eqprop as ep
import zoo
from eqprop.dynamics.noisy import Noisy

INNER = {
    "outside": ep.Prototypical(),
    "inside": ep.Prototypical(nudge="inside"),
    "energy": ep.EnergyDescent(dt=0.3, clamp=False),
    "clamped": ep.EnergyDescent(dt=0.3),
}
STD = 0.07


def one_step(model, dynamics, n, nudged):
    """Return the state after one step from ``n`` copies of one random sample, nudged or not."""
    x, y = (t[:1].expand(n, *t.shape[1:]) for t in zoo.batch(model))
    start = tuple(s[:1].expand(n, *s.shape[1:]) for s in zoo.state(model))
    phase, _, target = model.prepare_batch(x, y)
    force = (lambda out: 0.4 * model.cost.force(out, target)) if nudged else None
    with torch.no_grad():
        return dynamics.step(model.network, start, phase.drive, force)


@pytest.mark.parametrize("nudged", [False, True])
@pytest.mark.parametrize("inner", INNER)
def test_mean_and_variance(inner, nudged):
    """Over 20,000 draws a mean of 0 within 5 standard errors, a deviation of ``std`` within 3 percent, no correlation."""
    model, n = zoo.model("deep-chain", INNER[inner]), 20_000
    clean = one_step(model, INNER[inner], 1, nudged)
    noise = torch.cat(
        [a - b for a, b in zip(one_step(model, Noisy(INNER[inner], STD), n, nudged), clean, strict=True)], 1
    )
    assert noise.shape == (n, 5 + 4 + 3)
    assert noise.mean(0).abs().max() < 5 * STD / n**0.5
    covariance = noise.t() @ noise / n / STD**2
    torch.testing.assert_close(covariance.diag(), torch.ones(12).double(), rtol=0, atol=0.03 * 2)
    assert (covariance - covariance.diag().diag()).abs().max() < 5 / n**0.5
    kurtosis = (noise / STD).pow(4).mean()
    assert kurtosis == pytest.approx(3, rel=0.05)


def test_stationary_fluctuations_of_a_leaky_unit():
    """``s <- (1 - dt) s + std xi`` is stationary at ``std / sqrt(dt (2 - dt))``."""
    dt, n = 0.3, 20_000
    model = zoo.model("one-layer", Noisy(ep.EnergyDescent(dt=dt, clamp=False), STD), scale=0.0)
    states = ep.relax(model, torch.zeros(n, 4).double(), 60).state
    assert states[0].std().item() == pytest.approx(STD / (dt * (2 - dt)) ** 0.5, rel=0.02)


@pytest.mark.parametrize("inner", INNER)
def test_zero_noise_equals_the_wrapped_dynamics_exactly(inner):
    clean, noisy = (zoo.model("deep-chain", d) for d in (INNER[inner], Noisy(INNER[inner], 0.0)))
    x, y = zoo.batch(clean)
    before = torch.get_rng_state()
    for estimator in (ep.EquilibriumProp(9, 5, 0.3, "centred"), ep.ContinualEP(9, 5, 0.3), ep.BPTT(9, 5)):
        assert torch.equal(zoo.gradient(clean, estimator, x, y), zoo.gradient(noisy, estimator, x, y))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(clean(x), noisy(x))


@pytest.mark.parametrize("inner", INNER)
def test_all_other_methods_are_those_of_the_wrapped_dynamics(inner):
    bare, noisy = INNER[inner], Noisy(INNER[inner], STD)
    model = zoo.model("sigmoid-chain", bare)
    x, state = zoo.batch(model)[0], zoo.state(model)
    of = model.network
    assert torch.equal(bare.encode(of, x), noisy.encode(of, x))
    assert torch.equal(bare.energy(of, state, x), noisy.energy(of, state, x))
    for a, b in zip(bare.activity(of, state), noisy.activity(of, state), strict=True):
        assert torch.equal(a, b)
    for a, b in zip(bare.init(of, x), noisy.init(of, x), strict=True):
        assert torch.equal(a, b)
    drive = bare.prepare(of, x)
    a, b = bare.duality(of, state, drive), noisy.duality(of, state, noisy.prepare(of, x))
    assert (a.dt, a.through) == (b.dt, b.through)
    assert all(map(torch.equal, a.slopes, b.slopes))


def test_the_wrapped_dynamics_check_beta():
    with pytest.raises(ValueError, match="cannot settle"):
        Noisy(ep.Prototypical(), STD).check_beta(1.0)


def test_the_same_seed_draws_the_same_noise():
    model = zoo.model("chain", Noisy(ep.Prototypical(), STD))
    x, _ = zoo.batch(model)
    draws = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        draws.append(model(x))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_noise_is_added_after_the_clamp_and_clamped_by_the_next_step():
    model = zoo.model("chain", Noisy(ep.EnergyDescent(dt=0.3), 1.0))
    x, _ = zoo.batch(model)
    states = torch.cat(ep.relax(model, x, 5).state, 1)
    assert states.min() < 0
    assert states.max() > 1
    clean = ep.EnergyDescent(dt=0.3)
    after = clean.step(model.network, ep.relax(model, x, 5).state, clean.prepare(model.network, x))
    assert all(s.min() >= 0 and s.max() <= 1 for s in after)


def test_batched_phases_have_independent_noise():
    """Without a nudge a centred estimate is the difference of two independent states: twice the variance of one."""
    model = zoo.model("one-layer", Noisy(ep.EnergyDescent(dt=1.0, clamp=False), STD), scale=0.0)
    n, beta = 4000, 1e-3
    x, target = torch.ones(n, 4).double(), torch.zeros(n, 3).double()
    bias = model.network.connections[0].bias
    found = []
    for _ in range(200):
        model.zero_grad()
        for loss in ep.EquilibriumProp(2, 1, beta, "centred")(model, x, target):
            loss.backward()
        found.append(bias.grad.clone())
    spread = torch.stack(found).std().item()  # tanh passes on nearly all of so little noise
    assert spread == pytest.approx(2**0.5 * STD / (2 * beta) / n**0.5, rel=0.1)


@pytest.mark.parametrize(
    ("dynamics", "std", "message"),
    [
        (ep.Prototypical(), -0.1, "`std` must be a finite number of at least 0, got -0.1"),
        (ep.Prototypical(), float("nan"), "`std` must be a finite number of at least 0, got nan"),
        (ep.Prototypical(), "much", "`std` must be a finite number of at least 0, got 'much'"),
        (ep.Prototypical, 0.1, "`dynamics` must be an object of class Dynamics, got the class Prototypical itself"),
        ("outside", 0.1, "`dynamics` must be an object of class Dynamics"),
    ],
)
def test_invalid_arguments(dynamics, std, message):
    with pytest.raises(ValueError, match=message):
        Noisy(dynamics, std)

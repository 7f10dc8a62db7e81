r"""Coders and their decoder: how far the decoded value may be from the sent one.

With the decoder's value z, the error ``e_t = z_{t+1} - s_t`` after the spike of tick t and the residual phi_t, the update is

    e_t + lam phi_t  =  (1 - lam) (e_{t-1} + lam phi_{t-1}) + lam^2 phi_{t-1},

so that, after n ticks with ``|phi| <= 1/2``, ``|e| <= lam + (1 - lam)^n``, since an error is never above 1.
"""

import math

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import eqprop as ep
from eqprop._core.state import iter_tensors
from eqprop.spiking import OSA, Bernoulli, Decay, SigmaDelta
from eqprop.spiking.step_sizes import step_size_at

ROUND_OFF = 1e-9
FRACTIONS = st.floats(0, 1)


def sent(signal, lam, coder=None):
    """Return errors and residuals, tick by tick, of ``signal``: one value or ``(B, n)`` a tick; it was 0 before the first."""
    coder = SigmaDelta() if coder is None else coder
    values = [torch.as_tensor(s, dtype=torch.double).reshape(1, -1) if not torch.is_tensor(s) else s for s in signal]
    before = z = torch.zeros_like(values[0])
    memory, errors, residuals = coder.init([before]), [], []
    for tick, now in enumerate(values, start=1):
        size = step_size_at(lam, tick + 1)  # the lambda with which the decoder reads this tick's spike
        (spike,), memory = coder.encode([now], [before], memory, size, tick)
        assert bool(((spike == 0) | (spike == 1)).all())
        z, before = (1 - size) * z + size * spike, now
        errors.append(z - now)
        if isinstance(coder, SigmaDelta):
            residuals.append(memory[0].clone())
    return torch.stack(errors), torch.stack(residuals) if residuals else None


@st.composite
def slow_signals(draw):
    """Signals that a decoder can follow, ``s_t = (1 - lam) s_{t-1} + lam a_t`` with any a in [0, 1]: no coder saturates."""
    lam, s, signal = draw(st.floats(0.02, 1)), 0.0, []
    for a, ticks in draw(st.lists(st.tuples(FRACTIONS, st.integers(1, 20)), min_size=1, max_size=6)):
        for _ in range(ticks):
            s = (1 - lam) * s + lam * a
            signal.append(s)
    return lam, signal


@settings(max_examples=150, deadline=None)
@given(slow_signals())
def test_the_error_is_at_most_lambda_where_no_coder_saturates(case):
    lam, signal = case
    errors, residuals = sent(signal, lam)
    assert residuals.abs().max() <= 0.5 + ROUND_OFF / lam
    assert errors.abs().max() <= lam + ROUND_OFF


@settings(max_examples=150, deadline=None)
@given(st.floats(0.02, 1), st.lists(FRACTIONS, min_size=1, max_size=60))
def test_of_any_signal_it_is_once_the_residual_has_been_small_for_long(lam, signal):
    errors, residuals = sent(signal, lam)
    n = 0
    for t, (e, phi) in enumerate(zip(errors.flatten().tolist(), residuals.flatten().tolist(), strict=True)):
        small = abs(phi) <= 0.5
        n = n + 1 if small and t else 0  # ticks since the first of them
        if small:
            assert abs(e) <= lam + (1 - lam) ** n + ROUND_OFF


@settings(max_examples=60, deadline=None)
@given(st.floats(0.1, 1), st.lists(FRACTIONS, min_size=1, max_size=60))
def test_of_a_decaying_lambda_it_is_that_of_the_tick(power, chosen):
    """Of ``1 / t^k`` with k up to 1 the weights of past residuals grow with time, so that they sum to at most the last one."""
    lam, s, signal = Decay(1.0, power), 0.0, []
    for tick, a in enumerate(chosen, start=1):
        s = (1 - lam.at(tick + 1)) * s + lam.at(tick + 1) * a
        signal.append(s)
    errors, _ = sent(signal, lam)
    for tick, e in enumerate(errors.flatten().tolist(), start=1):
        assert abs(e) <= lam.at(tick + 1) + ROUND_OFF


def test_a_jump_saturates_the_coder():
    """A jump to s puts ``s / lam`` into phi, drained by ``1 - s`` a tick: ``(s / lam - s - 1/2) / (1 - s)`` ticks above 1/2."""
    lam, s = 0.05, 0.87
    errors, residuals = (t.flatten() for t in sent([s] * 300, lam))
    assert residuals[0].item() == pytest.approx(s / lam - 1)
    saturated = int((residuals > 0.5).sum())
    assert saturated == math.floor((s / lam - s - 0.5) / (1 - s))
    assert bool((residuals[saturated:].abs() <= 0.5).all())
    assert errors[60:saturated].min() > lam  # it fires at every tick, and its trace goes to 1
    assert errors[-1].abs() <= lam


@settings(max_examples=60, deadline=None)
@given(st.floats(0.05, 1), FRACTIONS, FRACTIONS)
def test_the_residual_is_the_missing_number_of_spikes(lam, first, second):
    """The spikes sum to the code's sum minus the residual."""
    assume(abs(first - second) > 1e-6)
    signal = [first] * 20 + [second] * 20
    _, residuals = sent(signal, lam)
    before = [0.0, *signal[:-1]]
    code = sum((now - (1 - lam) * old) / lam for now, old in zip(signal, before, strict=True))
    rest = code - residuals[-1].item()
    assert rest == pytest.approx(round(rest), abs=1e-6)
    assert 0 <= round(rest) <= 40


@pytest.mark.parametrize("lam", [0.05, 0.02])
def test_rms_of_sigma_delta(lam):
    """The residual is uniform on an interval of length 1, and the error is lambda times that: rms ``lam / sqrt(12)``."""
    s = torch.rand(1, 500, dtype=torch.double)
    slow = [s * (1 - (1 - lam) ** n) for n in range(1, 1200)]
    errors, _ = sent(slow, lam)
    assert errors[-300:].square().mean().sqrt().item() == pytest.approx(lam / 12**0.5, rel=0.05)


@pytest.mark.parametrize("lam", [0.2, 0.05])
def test_rms_of_bernoulli(lam):
    """A sum of independent spikes with weights ``lam (1 - lam)^k``: ``sqrt(s (1 - s) lam / (2 - lam))``; the mean is s."""
    for s in (0.1, 0.5, 0.8):
        errors, _ = sent([torch.full((20_000, 1), s).double()] * round(8 / lam), lam, Bernoulli())
        expected = (s * (1 - s) * lam / (2 - lam)) ** 0.5
        assert errors[-1].std().item() == pytest.approx(expected, rel=0.03)
        assert errors[-1].mean().abs() < 5 * expected / 20_000**0.5


def test_what_bernoulli_draws():
    """The same again from one seed at one tick, others at the next tick, for each sample, unit, population and seed."""
    coder, half = Bernoulli(), [torch.full((2, 3000), 0.5).double(), torch.full((2, 3000), 0.5).double()]
    memory = coder.init(half)

    def spikes(memory, tick):
        return torch.cat(coder.encode(half, half, memory, 0.2, tick)[0])

    first = spikes(memory, 1)
    assert torch.equal(spikes(memory, 1), first)
    for n in range(1, 4):
        assert (first[0] == first[n]).double().mean().item() == pytest.approx(0.5, abs=0.05)
    for other in (spikes(memory, 2), spikes(coder.init(half), 1)):
        assert (other == first).double().mean().item() == pytest.approx(0.5, abs=0.03)


def test_coders_do_not_modify_their_arguments():
    for coder in (SigmaDelta(), Bernoulli()):
        now, before = [torch.rand(2, 3)], [torch.rand(2, 3)]
        memory = coder.init(now)
        _, memory = coder.encode(now, before, memory, 0.2, 1)
        given_tensors = [*now, *before, *iter_tensors(memory)]
        copies = [t.clone() for t in given_tensors]
        coder.encode(now, before, memory, 0.2, 2)
        assert all(map(torch.equal, given_tensors, copies))


def test_osa_averages_noise_and_follows_a_move():
    """Where only noise is left the step goes to its least; of a signal without noise, to 1 and nothing in between."""
    rule, noise = OSA(0.01), torch.Generator().manual_seed(1)
    still = moved = rule.init(torch.zeros(1, 200).double())
    for tick in range(1, 401):
        small, still = rule.update(0.5 + 0.1 * torch.randn(1, 200, generator=noise).double(), still, tick)
        large, moved = rule.update(torch.full((1, 200), 0.01 * tick).double(), moved, tick)
    assert small.mean() < 0.05
    assert still.mean.std() < 0.02
    assert large.mean() > 0.5


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Decay(0.0), r"`start` must be .*, got 0\.0"),
        (lambda: Decay(1.5), r"`start` must be .*, got 1\.5"),
        (lambda: Decay(1.0, 0.0), r"`power` must be a finite number above 0, got 0\.0"),
        (lambda: Decay(1.0, -0.5), r"`power` must be a finite number above 0, got -0\.5"),
        (lambda: OSA(0.0), r"`target` must be .*, got 0\.0"),
        (lambda: OSA(float("nan")), r"`target` must be .*, got nan"),
        (lambda: ep.Spiking(eps=0), r"`eps` must be .*, got 0"),
        (lambda: ep.Spiking(eps=1.5), r"`eps` must be .*, got 1\.5"),
        (lambda: ep.Spiking(eps="much"), r"`eps` must be .*, got 'much'"),
        (lambda: ep.Spiking(lam=0), r"`lam` must be .*, got 0"),
        (
            lambda: ep.Spiking(lam=OSA()),
            r"`lam` must be one of a number in \(0, 1\], `Decay`, got OSA.*must have the same lambda",
        ),
        (lambda: ep.Spiking(coder="bernoulli"), r"`coder` must be an object of class Coder"),
        (lambda: ep.Spiking(coder=SigmaDelta), r"`coder` must be an object of class Coder, got the class SigmaDelta"),
        (lambda: ep.Spiking(input="analog"), r"`input` must be .*'spikes'.*'current'.*got 'analog'"),
        (lambda: ep.Spiking(decode="between"), r"`decode` must be .*'after'.*'before'.*got 'between'"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()

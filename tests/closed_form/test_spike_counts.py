"""Spike counts of coders for constant values, and how long they saturate after a jump: from the balance of the residual."""

import pytest
import torch

import eqprop as ep
from eqprop.spiking import Bernoulli, Decay, lagging, record, saturation


def constant_input(values, **options) -> tuple[ep.Model, torch.Tensor]:
    """A model with these input values and one unit that stays at 0."""
    model = ep.mlp([len(values), 1], dynamics=ep.Spiking(**options)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    return model, torch.tensor([values], dtype=torch.double)


@pytest.mark.parametrize("value", [0.0, 0.1, 0.3, 0.5, 0.77, 1.0])
@pytest.mark.parametrize("steps", [7, 50, 200])
def test_spike_count_of_a_constant_value(value, steps):
    """With lambda 1 the code is the value itself: phi_T = s T - spikes, and |phi| is at most 1/2."""
    model, x = constant_input([value], lam=1.0)
    found = record(model, x, steps)
    assert found.counts[0].item() == pytest.approx(value * steps, abs=0.5 + 1e-9)
    assert found.rates[0].item() == pytest.approx(value, abs=0.5 / steps + 1e-9)
    assert found.counts[1].item() == 0


@pytest.mark.parametrize("lam", [0.5, 0.2, 0.1])
def test_a_jump_adds_spikes_at_the_start(lam):
    """From a zero start the code is s / lambda once, and s afterwards."""
    model, x = constant_input([0.3], lam=lam)
    counts = record(model, x, 60).counts[0].item()
    assert counts == pytest.approx(0.3 * (59 + 1 / lam), abs=0.5 + 1e-9)


@pytest.mark.parametrize(("lam", "peak", "ticks"), [(0.05, 17, 165), (0.1, 8, 75), (0.2, 3.5, 30)])
def test_a_coder_saturates_until_its_residual_is_sent(lam, peak, ticks):
    """For s = 0.9 the first residual is 0.9 / lambda - 1, and each tick reduces it by 0.1 until it is 1/2."""
    model, x = constant_input([0.9], lam=lam)
    found = record(model, x, ticks + 40)
    saturated = found.saturation[0]
    assert record(model, x, 1).state.coder[0].item() == pytest.approx(peak)
    assert saturated[: ticks - 1].eq(1).all()
    assert saturated[ticks + 1 :].eq(0).all()
    assert found.saturation[1].eq(0).all()


@pytest.mark.parametrize(("lam", "last"), [(0.05, 186), (0.1, 15), (0.2, 5)])
def test_how_long_the_decoded_value_is_wrong(lam, last):
    """By more than lambda, for s = .9 from a zero start, as measured with O'Connor's coder; one tick more or less is rounding."""
    model, x = constant_input([0.9], lam=lam)
    off = (record(model, x, 300, units={0: [0]}).traces[0].decoded - 0.9).abs()[:, 0, 0] > lam
    assert int(off.nonzero().max()) + 1 == pytest.approx(last, abs=1)


def test_lagging_units_are_decoded_with_an_error_above_lambda():
    """The fifth unit, at 1, has a constant residual and is decoded correctly; units at 0 send nothing."""
    values = [0.9, 0.5, 0.96, 0.0, 1.0]
    model, x = constant_input(values, lam=0.05)
    state = record(model, x, 100).state
    residuals = [s / 0.05 - 1 - 99 * (1 - s) for s in values]  # while it fires at every tick
    assert [phi > 0.5 for phi in residuals] == [True, False, True, False, True]
    assert saturation(state).each == (3 / 5, 0.0)
    assert saturation(state).total == 3 / 6
    assert lagging(model.dynamics, state, x) == (pytest.approx(1 / 4), 0.0)  # .96 is decoded as 1


def test_a_negative_residual_stops_spikes_until_it_has_recovered():
    """phi = -6 increases by s = .3 per tick, and reaches -1/2 after 18 1/3 ticks."""
    model, x = constant_input([0.3], lam=0.1)
    state = record(model, x, 100).state
    down = state._replace(coder=(torch.full_like(x, -6.0), state.coder[1]))
    assert saturation(down).each[0] == 1.0
    assert lagging(model.dynamics, down, x) == (1.0, 0.0)
    after = record(model, x, 60, state=down)
    assert after.saturation[0].tolist() == [1.0] * 18 + [0.0] * 42
    assert after.counts[0].item() == pytest.approx(-6 + 60 * 0.3, abs=0.5)


@pytest.mark.parametrize(
    "options", [{"coder": Bernoulli(), "lam": 0.05}, {"lam": Decay(1.0, 0.5)}], ids=["Bernoulli", "decay"]
)
def test_coders_without_residual_do_not_saturate(options):
    model, x = constant_input([0.9, 0.2], **options)
    found = record(model, x, 80)
    assert saturation(found.state).total == lagging(model.dynamics, found.state, x)[0] == 0


def test_decoded_values_equal_the_recursion():
    """The recursion is z <- (1 - lambda) z + lambda q with the lambda of the next tick, over two phases."""
    model, x = constant_input([0.37, 0.8], lam=Decay(1.0, 0.5))
    first = record(model, x, 12, units={0: [1, 0]})
    second = record(model, x, 9, state=first)
    z, spikes = torch.zeros(2), torch.cat([part.traces[0].spike[:, 0] for part in (first, second)])
    decoded = torch.cat([part.traces[0].decoded[:, 0] for part in (first, second)])
    for tick in range(1, 22):
        lam = (tick + 1) ** -0.5
        z = (1 - lam) * z + lam * spikes[tick - 1]
        torch.testing.assert_close(decoded[tick - 1], z)
    assert second.ticks == range(13, 22)
    assert second.lam[0] == 14**-0.5

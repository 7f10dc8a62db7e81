"""The settling loop: what it stops at, what it reports."""

from itertools import pairwise

import pytest
import torch

import eqprop as ep
import zoo


@pytest.mark.parametrize("level", [0.0, 2.0])
def test_residual_is_the_largest_last_change_of_each_sample(level):
    """Whether units rise or, from above, fall."""
    model = zoo.model("skip", ep.EnergyDescent(dt=0.3, clamp=False))
    x, _ = zoo.batch(model)
    start = tuple(torch.full_like(s, level) for s in zoo.state(model))
    solution = ep.relax(model, x, 6, state=start, trajectory=True)
    before, after = solution.trajectory[-2:]
    theirs = [max((b[i] - a[i]).abs().max() for a, b in zip(before, after, strict=True)) for i in range(zoo.BATCH)]
    torch.testing.assert_close(solution.residual, torch.stack(theirs))
    assert len(solution.trajectory) == 7
    torch.testing.assert_close(solution.trajectory[-1], solution.state, rtol=0, atol=0)


def test_a_tolerance_stops_at_the_first_look_that_meets_it():
    model = zoo.model("chain", ep.Prototypical())
    x, _ = zoo.batch(model)
    states = ep.relax(model, x, 40, trajectory=True).trajectory
    change = [max((b - a).abs().max() for a, b in zip(s, t, strict=True)) for s, t in pairwise(states)]
    first = next(t for t in range(3, 41, 3) if change[t - 1] <= 1e-4)
    stopped = ep.relax(model, x, ep.Settle(40, tol=1e-4, check_every=3))
    assert stopped.steps == first < 39
    assert stopped.residual.max() <= 1e-4
    torch.testing.assert_close(stopped.state, states[first], rtol=0, atol=0)
    assert ep.relax(model, x, ep.Settle(4, tol=1e-12)).steps == 4


def test_the_late_mean():
    model = zoo.model("chain", ep.EnergyDescent(dt=0.3, clamp=False))
    x, _ = zoo.batch(model)
    states = ep.relax(model, x, 9, trajectory=True).trajectory
    averaged = ep.relax(model, x, ep.Settle(9, average=4))
    for n, p in enumerate(model.network.relaxing):
        mean = sum(p.activation.rho(s[n]) for s in states[-4:]) / 4
        torch.testing.assert_close(averaged.activity[n], mean, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(averaged.state, states[-1], rtol=0, atol=0)


def test_a_phase_of_no_gradient_keeps_no_graph():
    model = zoo.model("own-connection", ep.EnergyDescent())
    x, _ = zoo.batch(model)
    assert not any(s.requires_grad for s in ep.relax(model, x, 3).state)
    assert not model(x).requires_grad


@pytest.mark.parametrize("steps", [7, ep.Settle(7)])
def test_wherever_steps_are_taken_a_settle_is_too(steps):
    model = ep.mlp([4, 5, 3], settle=steps)
    x, y = torch.rand(2, 4), torch.tensor([0, 1])
    assert model.settle == ep.Settle(7)
    for estimator in (ep.EquilibriumProp(steps, steps, 0.1), ep.BPTT(steps), ep.ImplicitDiff(steps, steps)):
        seen = []
        list(estimator(model, x, y, watch=seen.append))
        assert seen[0].steps == 7

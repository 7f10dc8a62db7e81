"""The settling loop: when it stops, and what it reports."""

from itertools import pairwise

import pytest
import torch

import eqprop as ep
import zoo


@pytest.mark.parametrize("level", [0.0, 2.0])
def test_residual_is_the_largest_last_change_of_each_sample(level):
    """Whether units increase or decrease."""
    model = zoo.model("skip", ep.EnergyDescent(dt=0.3, clamp=False))
    x, _ = zoo.batch(model)
    start = tuple(torch.full_like(s, level) for s in zoo.state(model))
    solution = ep.relax(model, x, 6, state=start, trajectory=True)
    before, after = solution.trajectory[-2:]
    theirs = [max((b[i] - a[i]).abs().max() for a, b in zip(before, after, strict=True)) for i in range(zoo.BATCH)]
    torch.testing.assert_close(solution.residual, torch.stack(theirs))
    assert len(solution.trajectory) == 7
    torch.testing.assert_close(solution.trajectory[-1], solution.state, rtol=0, atol=0)


def test_a_tolerance_stops_at_the_first_check_that_meets_it():
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


def test_average_of_the_last_steps():
    model = zoo.model("chain", ep.EnergyDescent(dt=0.3, clamp=False))
    x, _ = zoo.batch(model)
    states = ep.relax(model, x, 9, trajectory=True).trajectory
    averaged = ep.relax(model, x, ep.Settle(9, average=4))
    for n, p in enumerate(model.network.relaxing):
        mean = sum(p.activation.rho(s[n]) for s in states[-4:]) / 4
        torch.testing.assert_close(averaged.activity[n], mean, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(averaged.state, states[-1], rtol=0, atol=0)
    torch.testing.assert_close(averaged.output, sum(s[-1] for s in states[-4:]) / 4, rtol=1e-12, atol=1e-14)
    last = ep.relax(model, x, 9)
    torch.testing.assert_close(last.output, states[-1][-1], rtol=0, atol=0)
    torch.testing.assert_close(averaged.residual, last.residual, rtol=0, atol=0)


def test_predictions_and_losses_use_the_average():
    model = zoo.model("chain", ep.EnergyDescent(dt=0.3, clamp=False))
    x, y = zoo.batch(model)
    out = sum(s[-1] for s in ep.relax(model, x, 9, trajectory=True).trajectory[-4:]) / 4
    free = ep.Settle(9, average=4)
    predicts = ep.Model(model.network, model.dynamics, model.cost, free)
    torch.testing.assert_close(predicts(x), model.cost.predict(out), rtol=1e-12, atol=1e-14)
    for estimator in (ep.EquilibriumProp(free, 3, 0.1), ep.BPTT(free), ep.BPTT(free, 5), ep.ContinualEP(free, 1, 0.1)):
        (loss,) = estimator(model, x, y)
        assert loss.item() == pytest.approx(model.cost.value(out, y).mean().item(), rel=1e-12)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"average": 10}, r"`average` is 10, but only 9 steps are taken"),
        ({"average": 0}, r"`average` must be a whole number of at least 1, got 0"),
        ({"average": 2.0}, r"`average` must be a whole number of at least 1, got 2\.0"),
        (
            {"average": 2, "tol": 0.1},
            r"`average` needs a fixed number of steps: leave `tol` out",
        ),
    ],
)
def test_invalid_averages(wrong, message):
    with pytest.raises(ValueError, match=message):
        ep.Settle(9, **wrong)


def test_phases_without_gradient_keep_no_graph():
    model = zoo.model("own-connection", ep.EnergyDescent())
    x, _ = zoo.batch(model)
    assert not any(s.requires_grad for s in ep.relax(model, x, 3).state)
    assert not model(x).requires_grad


@pytest.mark.parametrize("steps", [7, ep.Settle(7)])
def test_steps_and_settle_are_interchangeable(steps):
    model = ep.mlp([4, 5, 3], settle=steps)
    x, y = torch.rand(2, 4), torch.tensor([0, 1])
    assert model.settle == ep.Settle(7)
    for estimator in (ep.EquilibriumProp(steps, steps, 0.1), ep.BPTT(steps), ep.ImplicitDiff(steps, steps)):
        seen = []
        list(estimator(model, x, y, on_free_phase=seen.append))
        assert seen[0].steps == 7


def test_deprecated_names_still_work():
    model = ep.mlp([4, 5, 3], settle=7)
    x, y, shown, seen = torch.rand(2, 4), torch.tensor([0, 1]), [], []
    with pytest.warns(DeprecationWarning, match="`see` was renamed: pass `on_step`"):
        ep.relax(model, x, 3, see=shown.append)
    with pytest.warns(DeprecationWarning, match="`watch` was renamed: pass `on_free_phase`"):
        list(ep.EquilibriumProp(7, 3, 0.1)(model, x, y, watch=seen.append))
    assert (len(shown), len(seen)) == (3, 1)
    with pytest.warns(DeprecationWarning, match="`SurrogateBPTT` was renamed"):
        assert ep.SurrogateBPTT(7, 3) == ep.BPTT(7, 3, surrogate=True)

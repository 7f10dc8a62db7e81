"""What is measured is what a slow look at each sample alone finds; means are over samples, however they are batched."""

import math
from itertools import pairwise

import pytest
import torch

import eqprop as ep
import zoo
from eqprop.training import evaluate
from eqprop.training.metrics import Metrics

STEPS = 12


def cost_and_class(model, out: list[float], y: int) -> tuple[float, int]:
    """Of one sample, by the formulas of the costs."""
    if isinstance(model.cost, ep.SquaredError):
        return sum((s - (n == y)) ** 2 for n, s in enumerate(out)) / 2, max(range(len(out)), key=out.__getitem__)
    weight, bias = model.cost.weight.tolist(), model.cost.bias.tolist()
    scores = [sum(w * s for w, s in zip(row, out, strict=True)) + b for row, b in zip(weight, bias, strict=True)]
    return math.log(sum(map(math.exp, scores))) - scores[y], max(range(len(scores)), key=scores.__getitem__)


def largest_change(before, after) -> float:
    """``max |s_T - s_{T-1}|`` of one sample."""
    pairs = zip(before, after, strict=True)
    return max(abs(b - a) for p, q in pairs for a, b in zip(p.flatten().tolist(), q.flatten().tolist(), strict=True))


def samples(model, n=7):
    draw = torch.Generator().manual_seed(4)
    x = torch.rand(n, *model.network.populations[0].shape, generator=draw, dtype=torch.double)
    return x, torch.randint(zoo.CLASSES, (n,), generator=draw)


@pytest.mark.parametrize("cost", ["squared", "readout"])
@pytest.mark.parametrize("dynamics", [ep.Prototypical(), ep.EnergyDescent()], ids=["prototypical", "energy"])
@pytest.mark.parametrize("name", ["one-layer", "chain", "skip", "linear-output"])
def test_evaluation_sample_by_sample(name, dynamics, cost):
    model = zoo.model(name, dynamics, cost)
    model.settle = ep.Settle(STEPS)
    x, y = samples(model)
    costs, wrong, residuals = [], 0, []
    for one, truth in zip(x, y.tolist(), strict=True):
        trajectory = ep.relax(model, one[None], STEPS, trajectory=True).trajectory
        value, predicted = cost_and_class(model, trajectory[-1][-1][0].tolist(), truth)
        costs.append(value)
        wrong += predicted != truth
        residuals.append(largest_change(trajectory[-2], trajectory[-1]))
    for size in (1, 3, 4, 7, 100):
        score = evaluate(model, list(zip(x.split(size), y.split(size), strict=True)))
        assert score.samples == len(y)
        assert score.cost == pytest.approx(sum(costs) / len(costs), rel=1e-10)
        assert score.error == pytest.approx(wrong / len(y))
        assert score.residual == pytest.approx(sum(residuals) / len(residuals), rel=1e-9)
        assert score.steps == STEPS


def test_steps_are_those_taken():
    """With a tolerance a batch stops when its slowest sample has come to rest; the mean is over batches."""
    model, tolerance = zoo.model("chain", ep.Prototypical()), 1e-3
    model.settle = ep.Settle(60, tol=tolerance, check_every=1)
    x, y = samples(model)
    x[3:6] *= 0.01
    taken = []
    for batch in x.split(3):
        path = ep.relax(model, batch, 60, trajectory=True).trajectory
        moves = [max((b - a).abs().max() for a, b in zip(*pair, strict=True)) for pair in pairwise(path)]
        taken.append(1 + next(t for t, move in enumerate(moves) if move <= tolerance))
    assert len(set(taken)) > 1
    score = evaluate(model, list(zip(x.split(3), y.split(3), strict=True)))
    assert score.steps == pytest.approx(sum(taken) / len(taken))


def test_targets_that_are_no_classes_have_no_error():
    model = zoo.model("chain", ep.Prototypical())
    x, _ = samples(model)
    y = torch.rand(len(x), 3, dtype=torch.double)
    score = evaluate(model, [(x[:5], y[:5]), (x[5:], y[5:])])
    costs = []
    for one, target in zip(x, y.tolist(), strict=True):
        out = ep.relax(model, one[None], 30).state[-1][0].tolist()
        costs.append(sum((s - t) ** 2 for s, t in zip(out, target, strict=True)) / 2)
    assert score.error is None
    assert score.cost == pytest.approx(sum(costs) / len(costs), rel=1e-10)


def test_a_mixture_of_classes_and_floats_has_no_error():
    model = zoo.model("chain", ep.Prototypical())
    x, y = samples(model)
    assert evaluate(model, [(x, y), (x, torch.rand(len(x), 3, dtype=torch.double))]).error is None


@pytest.mark.parametrize("kind", [torch.uint8, torch.int32, torch.int64])
def test_classes_of_any_whole_kind(kind):
    model = zoo.model("chain", ep.Prototypical())
    x, y = samples(model)
    assert evaluate(model, [(x, y.to(kind))]) == evaluate(model, [(x, y)])


@pytest.mark.parametrize("empty", [[], (), iter([])])
def test_no_samples_are_refused(empty):
    with pytest.raises(ValueError, match=r"`batches` is empty: give at least one batch"):
        evaluate(zoo.model("chain", ep.Prototypical()), empty)


def test_a_batch_that_does_not_fit_is_refused():
    model = zoo.model("chain", ep.Prototypical())
    x, y = samples(model)
    with pytest.raises(ValueError, match=r"`x` must be \(B, 4\)"):
        evaluate(model, [(x[:, :3], y)])
    with pytest.raises(ValueError, match=r"`y` must hold classes from 0 to 2, got 3"):
        evaluate(model, [(x, y + 1)])


def test_evaluation_changes_nothing_and_records_no_gradient():
    model = zoo.model("chain", ep.Prototypical(), "readout")
    before = [p.detach().clone() for p in model.parameters()]
    drawn = torch.get_rng_state()
    evaluate(model, [samples(model)])
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), drawn)
    assert torch.is_grad_enabled()


def filled(parts) -> Metrics:
    tally = Metrics()
    model = zoo.model("chain", ep.Prototypical())
    for x, y in parts:
        solution = ep.relax(model, x, 9)
        tally.add(model.cost.value(solution.state[-1], y).mean(), solution, y, model.cost)
    return tally


def test_a_tally_goes_on_exactly_where_it_was():
    x, y = samples(zoo.model("chain", ep.Prototypical()))
    parts = list(zip(x.split(2), y.split(2), strict=True))
    whole, first = filled(parts), filled(parts[:2])
    second = Metrics()
    sums, counts = first.sums, first.counts()
    second.load_state(sums.clone(), list(counts))
    assert second.score() == first.score()
    model = zoo.model("chain", ep.Prototypical())
    for x, y in parts[2:]:
        solution = ep.relax(model, x, 9)
        second.add(model.cost.value(solution.state[-1], y).mean(), solution, y, model.cost)
    assert second.score() == whole.score()
    assert second.sums.equal(whole.sums)
    assert second.counts() == whole.counts()


def test_a_tally_of_nothing_claims_nothing():
    score = Metrics().score()
    assert score.samples == 0
    assert score.error is None
    assert math.isnan(score.cost)


def test_sums_are_kept_in_double_precision():
    """Thousands of equal costs in single precision would drift."""
    tally, model = Metrics(), zoo.model("chain", ep.Prototypical()).float()
    x, y = (t.float() if t.is_floating_point() else t for t in samples(model))
    solution = ep.relax(model, x, 9)
    for _ in range(3000):
        tally.add(torch.tensor(0.1), solution, y, model.cost)
    assert tally.score().cost == pytest.approx(torch.tensor(0.1).item(), rel=1e-12)

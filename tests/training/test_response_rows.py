"""Rows and warnings of trainings whose nudged phases do not settle."""

import warnings

import pytest
import torch

import eqprop as ep
from eqprop.training.metrics import Metrics
from small_trainings import CENTRED, trainer

NAMES = ("nudged_residual", "nudged_distance", "nudge")


def loop(gain=0.8) -> ep.Model:
    model = ep.mlp([1, 1, 1], activation="identity").double()
    for parameter, value in zip(model.parameters(), (1.0, 0.0, gain, 0.0), strict=True):
        parameter.data.fill_(value)
    return model


def batches(sizes=(3, 2)):
    draw = torch.Generator().manual_seed(2)
    return [(torch.rand(n, 1, generator=draw).double(), torch.rand(n, 1, generator=draw).double()) for n in sizes]


def fit(estimator, epochs=1, gain=0.8, sizes=(3, 2)):
    model = loop(gain)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        rows = ep.Trainer(model, estimator, torch.optim.SGD(model.parameters(), lr=0.0)).fit(batches(sizes), epochs)
    return rows, [str(w.message) for w in caught]


@pytest.mark.parametrize("nudging", ["one-sided", "centred", "random-sign"])
def test_rows_are_means_over_samples(nudging):
    """As of each sample alone; of the batches after the first 64, every eighth is measured."""
    estimator, sizes = ep.EquilibriumProp(300, 6, 0.2, nudging), (3, 2, *[1] * 68)
    (row,), _ = fit(estimator, gain=0.3, sizes=sizes)
    found = []
    for x, y in [*batches(sizes)[:65]]:
        for one in zip(x.split(1), y.split(1), strict=True):
            list(ep.EquilibriumProp(300, 6, 0.2, nudging)(loop(0.3), *one, on_nudged_phase=found.append))
    if nudging != "random-sign":
        for name, field in zip(NAMES, ("residual", "distance", "nudge"), strict=True):
            mean = sum(getattr(each, field).item() for each in found) / len(found)
            assert row[name] == pytest.approx(mean)
    assert all(row[name] > 0 for name in NAMES)


@pytest.mark.parametrize("kind", [ep.EquilibriumProp, ep.ContinualEP, ep.ContinualSGD])
def test_a_training_that_alternates_says_so_once(kind):
    options = {"rates": 0.0} if kind is ep.ContinualSGD else {}
    rows, said = fit(kind(300, 60, 0.5, **options), epochs=3)
    assert len(rows) == 3
    assert all(row["nudged_residual"] > row["nudged_distance"] for row in rows)
    (message,) = said
    assert message.startswith("epoch 1: the nudged phase alternates or diverges")
    assert f"nudged residual {rows[0]['nudged_residual']:.1e}" in message


def test_a_free_phase_that_moves_is_said():
    _, said = fit(ep.EquilibriumProp(20, 10, 1e-3), gain=0.98)
    assert said[0].startswith("epoch 1: the free phase has not come to rest")


def test_a_training_that_settles_says_nothing():
    assert fit(ep.EquilibriumProp(300, 60, 0.5), gain=0.3)[1] == []


def test_without_nudges_there_are_no_columns():
    (row,), said = fit(ep.BPTT(20))
    assert not row.keys() & set(NAMES)
    assert said == []


def test_a_users_own_estimator_without_the_argument_trains():
    def own(model, x, y, *, on_free_phase=None, generator=None):
        return CENTRED(model, x, y, on_free_phase=on_free_phase, generator=generator)

    (row,) = trainer(estimator=own).fit([(torch.rand(5, 4), torch.tensor([0, 1, 2, 0, 1]))], 1)
    assert not row.keys() & set(NAMES)


def test_sums_of_an_earlier_version_are_continued():
    """They end before the response, which is then not known of the whole epoch."""
    metrics = Metrics()
    metrics.load_state(torch.tensor([2.0, 1.0, 0.5]).double(), [4, 4, 4, 1, 9])
    score = metrics.score()
    assert (score.cost, score.error, score.residual, score.steps) == (0.5, 0.25, 0.125, 9)
    assert (score.nudged_residual, score.nudged_distance, score.nudge) == (None, None, None)

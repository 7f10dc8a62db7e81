"""Angles, once an epoch: what they are, where they are looked at, and that looking changes nothing."""

import math

import pytest
import torch

import eqprop as ep
from eqprop.training import SGD, Data, Run, create_run, prepare_run, train_run
from eqprop.training.diagnostics import diagnostics_of, update_angle, weight_angles
from small_trainings import blobs

pytestmark = pytest.mark.filterwarnings("ignore:epoch 2.*does not learn")  # two epochs are not for learning

X, Y = blobs(12)
CENTRED = ep.EquilibriumProp(8, 4, 0.2, "centred")


def model(**options):
    torch.manual_seed(0)
    return ep.mlp([4, 6, 3], activation="sigmoid", settle=8, **options)


def run(estimator=CENTRED, **options):
    spec = ep.MLP((64, 8, 10), "sigmoid", dynamics=ep.Prototypical(nudge="inside"), **options)
    return Run("angles", Data("digits", 200), spec, estimator, SGD(0.1), epochs=2)


def test_the_angle_of_weights_by_hand():
    made = model(tied=False)
    wires = made.network.connections[1]
    with torch.no_grad():
        wires.upward.weight.zero_()[0, 0] = 2.0
        wires.feedback.zero_()[0, :2] = torch.tensor([1.0, math.sqrt(3)])
    assert weight_angles(made) == [pytest.approx(60.0)]
    assert weight_angles(model()) == []


def test_the_angle_of_the_update_is_that_of_the_gradients():
    made, bptt = model(tied=False, angle=45), ep.BPTT(8, 4)
    both = []
    for estimator in (CENTRED, bptt):
        made.zero_grad()
        for loss in estimator(made, X, Y):
            loss.backward()
        both.append(torch.cat([p.grad.flatten() for p in made.network.parameters() if p.dim() == 2]).double())
    cosine = (both[0] @ both[1]) / (both[0].norm() * both[1].norm())
    made.zero_grad()
    assert update_angle(made, CENTRED, bptt, X, Y) == pytest.approx(math.degrees(math.acos(cosine)), abs=1e-2)
    assert all(p.grad is None for p in made.parameters())


def test_looking_draws_nothing_from_the_default_stream():
    made = model(tied=False)
    estimator = ep.ContinualSGD(8, 4, 0.2, 0.01, "random-sign")
    before = torch.get_rng_state()
    angles = {update_angle(made, estimator, ep.BPTT(8, 4), X, Y) for _ in range(3)}
    assert len(angles) == 1
    assert torch.get_rng_state().equal(before)


@pytest.mark.parametrize(
    ("asked", "looks"),
    [
        (run(), False),
        (run(ep.BPTT(8, 4), tied=False), False),
        (run(tied=False), True),
        (run(ep.ContinualSGD(8, 4, 0.2)), True),
        (run(ep.ContinualEP(8, 4, 0.2)), True),
    ],
    ids=["tied EP", "BPTT", "untied EP", "C-EP", "C-EP by losses"],
)
def test_where_there_are_angles_they_stand_in_the_rows(asked, looks, tmp_path):
    assert (diagnostics_of(asked, asked.build(), X, Y) is not None) == looks
    create_run(asked, tmp_path / "run")
    rows = train_run(tmp_path / "run")
    assert [("update_angle" in row, "weight_angles" in row) for row in rows] == [(looks, looks)] * 2
    if looks:
        assert all(0 <= row["update_angle"] <= 180 for row in rows)
        assert [len(row["weight_angles"]) for row in rows] == [int(not asked.model.tied)] * 2


def test_the_weights_are_those_without_a_look(tmp_path):
    asked = run(ep.ContinualSGD(8, 4, 0.2, nudging="random-sign"), tied=False)
    create_run(asked, tmp_path / "run")
    train_run(tmp_path / "run")
    session = prepare_run(asked)
    trainer = session.trainer(tmp_path / "none")
    trainer.folder, trainer.diagnostics = None, None
    trainer.fit(session.train, 2)
    for a, b in zip(session.model.parameters(), ep.load(tmp_path / "run").parameters(), strict=True):
        assert a.equal(b)

"""Continual estimators in ordinary training: optimizers, schedules, the trainer that hands its optimizer's rates on."""

import pytest
import torch
from torch.optim.lr_scheduler import StepLR

import eqprop as ep
from eqprop.estimators.base import bind_estimator
from eqprop.training import SGD, Adam, Data, Run, Trainer, prepare_run
from small_trainings import TEST, TRAIN, blobs, mlp

CHOICES = (8, 4, 0.2)
OPTIMISERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, weight_decay=1e-5),
    "adam": lambda p: torch.optim.Adam(p, lr=0.001),
}


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def trained(estimator, epochs=3, rate=0.1, schedule=True, model=mlp):
    """Weights after epochs of plain SGD, the rate halved after each."""
    one = model()
    optimizer = torch.optim.SGD(one.parameters(), lr=rate)
    scheduler = StepLR(optimizer, 1, 0.5) if schedule else None
    Trainer(one, estimator, optimizer, scheduler=scheduler, seed=3).fit(TRAIN, epochs)
    return weights(one)


@pytest.mark.parametrize(
    ("optimizer", "nudging", "tied"),
    [
        ("sgd", "one-sided", True),
        ("sgd", "centred", False),
        ("momentum", "random-sign", True),
        ("adam", "one-sided", False),
    ],
)
def test_any_optimizer_trains_within_the_phase(optimizer, nudging, tied):
    model = ep.mlp([4, 16, 3], activation="sigmoid", settle=20, tied=tied)
    optimizer, (x, y) = OPTIMISERS[optimizer](model.parameters()), blobs(60)
    for _ in range(15):
        for _ in range(10):
            for loss in ep.ContinualEP(20, 8, 0.2, nudging)(model, x, y):
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        if learned := (model(x).argmax(1) == y).all():
            break
    assert learned


@pytest.mark.parametrize("dynamics", [ep.Prototypical(), ep.EnergyDescent(dt=0.5)], ids=["prototypical", "energy"])
def test_continual_sgd_trains_with_a_readout(dynamics):
    readout = ep.CrossEntropyReadout(16, 3)
    model = ep.mlp([4, 16], activation="hard_sigmoid", dynamics=dynamics, cost=readout, settle=20)
    optimizer, (x, y) = torch.optim.SGD(model.parameters(), lr=0.2), blobs(60)
    for _ in range(150):
        (loss,) = ep.ContinualSGD(20, 8, 0.2, 0.2)(model, x, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (model(x).argmax(1) == y).all()


@pytest.mark.parametrize("nudging", ["one-sided", "random-sign"])
def test_rates_that_are_left_out_are_the_optimizers_whatever_a_schedule_makes_of_them(nudging):
    """The oracle takes its steps by the optimizer itself."""
    oracle = trained(ep.ContinualEP(*CHOICES, nudging))
    torch.testing.assert_close(trained(ep.ContinualSGD(*CHOICES, nudging=nudging)), oracle, rtol=0, atol=1e-6)
    fixed = trained(ep.ContinualSGD(*CHOICES, rates=0.1, nudging=nudging))
    assert (fixed - oracle).abs().max() > 1e-5


def test_parameters_that_the_optimizer_does_not_have_do_not_move_within_the_phase():
    ends = []
    for estimator in (ep.ContinualEP(*CHOICES), ep.ContinualSGD(*CHOICES)):
        model = mlp()
        optimizer = torch.optim.SGD([p for name, p in model.named_parameters() if "bias" not in name], lr=0.1)
        Trainer(model, estimator, optimizer).fit(TRAIN, 2)
        ends.append(weights(model))
    torch.testing.assert_close(ends[0], ends[1], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda p: torch.optim.Adam(p), "Adam"),
        (lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9), "SGD"),
        (lambda p: torch.optim.SGD(p, lr=0.1, weight_decay=1e-4), "SGD"),
        (lambda p: torch.optim.SGD(p, lr=0.1, maximize=True), "SGD"),
    ],
)
def test_other_optimizers_than_plain_sgd_have_no_rates_to_take(make, name):
    model = mlp()
    with pytest.raises(ValueError, match=rf"`rates` is left out, .*another {name}: give `rates`, or use ContinualEP"):
        Trainer(model, ep.ContinualSGD(*CHOICES), make(model.parameters()))
    rows = Trainer(model, ep.ContinualSGD(*CHOICES, rates=0.1), make(model.parameters())).fit(TRAIN, 1, test=TEST)
    assert len(rows) == 1


def test_rates_that_do_not_fit_are_refused_before_the_training():
    model = mlp()
    with pytest.raises(ValueError, match="`rates` names 3 learning rates, but the model has 2 connections"):
        Trainer(model, ep.ContinualSGD(*CHOICES, rates=(0.1, 0.2, 0.3)), torch.optim.SGD(model.parameters(), lr=0.1))


@pytest.mark.parametrize(
    ("estimator", "optimizer"),
    [
        (ep.ContinualSGD(*CHOICES), Adam(0.1)),
        (ep.ContinualSGD(*CHOICES), SGD(0.1, momentum=0.5)),
        (ep.ContinualSGD(*CHOICES, rates=(0.1, 0.2, 0.3)), SGD(0.1)),
    ],
)
def test_a_run_that_does_not_fit_is_refused_before_it_leaves_anything(estimator, optimizer):
    with pytest.raises(ValueError, match=r"estimator: `rates`"):
        prepare_run(Run("mine", Data("digits"), ep.MLP((64, 8, 10)), estimator, optimizer))


def test_most_estimators_do_not_care_for_the_optimizer():
    model = mlp()
    for estimator in (ep.EquilibriumProp(*CHOICES), ep.ContinualEP(*CHOICES), ep.BPTT(3)):
        assert bind_estimator(estimator, model, torch.optim.Adam(model.parameters())) is estimator


def test_the_trainer_steps_for_each_loss_and_counts_a_batch_once():
    model, seen = mlp(), []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    optimizer.register_step_post_hook(lambda *_: seen.append(1))
    (row,) = Trainer(model, ep.ContinualEP(*CHOICES), optimizer).fit(TRAIN, 1)
    assert len(seen) == len(TRAIN) * 4
    assert row["steps"] == 8


def test_training_errors_are_those_of_the_free_phase():
    """With weights that stand still they are the test's."""
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-30)
    for estimator in (ep.ContinualEP(*CHOICES), ep.ContinualSGD(*CHOICES)):
        (row,) = Trainer(model, estimator, optimizer).fit(TRAIN, 1, test=TRAIN)
        assert row["train_error"] == row["test_error"]
        assert row["train_cost"] == pytest.approx(row["test_cost"])

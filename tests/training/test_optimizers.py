"""Estimators under ordinary training code: optimizers, schedules, clipping, decay, accumulation, devices of state."""

import pytest
import torch
from torch import nn

import eqprop as ep
import zoo

ESTIMATORS = {
    "one-sided": ep.EquilibriumProp(20, 10, 0.2),
    "centred": ep.EquilibriumProp(20, 10, 0.2, "centred"),
    "random-sign": ep.EquilibriumProp(20, 10, 0.2, "random-sign"),
    "bptt": ep.BPTT(20, 10),
    "implicit": ep.ImplicitDiff(20, 10),
}
OPTIMISERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.3, momentum=0.9, weight_decay=1e-4, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, lr=0.02),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.02),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.005),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.05),
}


def blobs():
    """Three classes that a line cannot miss."""
    y = torch.arange(60) % 3
    return 0.2 + 0.6 * torch.eye(4)[y] + 0.1 * torch.rand(60, 4), y


def train(model, estimator, optimizer, steps=60, after=lambda: None):
    x, y = blobs()
    costs = []
    for _ in range(steps):
        for loss in estimator(model, x, y):
            optimizer.zero_grad()
            loss.backward()
            after()
            optimizer.step()
            costs.append(loss.item())
    return costs, (model(x).argmax(1) != y).float().mean().item()


@pytest.mark.parametrize("optimizer", OPTIMISERS)
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_every_estimator_trains_with_every_optimizer(estimator, optimizer):
    model = ep.mlp([4, 16, 3], activation="sigmoid", settle=20)
    costs, error = train(model, ESTIMATORS[estimator], OPTIMISERS[optimizer](model.parameters()))
    assert error == 0
    assert costs[-1] < costs[0] / 2


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_readout_and_energy_dynamics_train(estimator):
    dynamics, readout = ep.EnergyDescent(dt=0.5), ep.CrossEntropyReadout(16, 3)
    model = ep.mlp([4, 16], activation="hard_sigmoid", dynamics=dynamics, cost=readout, settle=20)
    assert train(model, ESTIMATORS[estimator], torch.optim.Adam(model.parameters(), lr=0.05))[1] == 0


@pytest.mark.parametrize("connection", [zoo.LowRank, zoo.Bump])
def test_a_connection_given_only_as_phi_trains(connection):
    populations = [ep.Population(n, "tanh") for n in (4, 8, 3)]
    network = ep.Network(populations, [(0, 1, connection(4, 8)), (0, 1, ep.Dense(4, 8)), (1, 2, connection(8, 3))])
    model = ep.Model(network, ep.Prototypical(nudge="inside"), ep.SquaredError(), settle=20)
    costs, _ = train(model, ESTIMATORS["centred"], torch.optim.Adam(model.parameters(), lr=0.05), steps=50)
    assert costs[-1] < costs[0] / 3


def test_schedules_and_clipping_work_unchanged():
    model = ep.mlp([4, 16, 3], activation="sigmoid", settle=20)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 60)
    norms = []

    def after():
        nn.utils.clip_grad_norm_(model.parameters(), 0.05)
        norms.append(torch.cat([p.grad.flatten() for p in model.parameters()]).norm().item())

    for _ in range(60):
        train(model, ESTIMATORS["centred"], optimizer, 1, after)
        schedule.step()
    assert max(norms) <= 0.05 * (1 + 1e-4)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("estimator", ["one-sided", "centred", "bptt", "implicit"])
def test_accumulated_halves_are_the_whole(estimator):
    """Each half's loss is its own mean, and half of it counts."""
    model, (x, y) = zoo.model("chain", ep.Prototypical()), blobs()
    x, whole = x.double(), ESTIMATORS[estimator]
    once = zoo.gradient(model, whole, x, y)
    twice = zoo.gradient(
        model, lambda m, x, y: (0.5 * loss for i in (0, 30) for loss in whole(m, x[i : i + 30], y[i : i + 30])), x, y
    )
    torch.testing.assert_close(twice, once, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_the_value_of_the_loss_is_the_cost_of_the_free_phase(estimator):
    model, seen = zoo.model("skip", ep.Prototypical(), "readout"), []
    x, y = zoo.batch(model)
    (loss,) = ESTIMATORS[estimator](model, x, y, on_free_phase=seen.append)
    free = ep.relax(model, x, 20)
    assert loss.item() == model.cost.value(free.state[-1], y).mean().item()
    assert seen[0].steps == 20
    torch.testing.assert_close(seen[0].state, free.state, rtol=0, atol=0)
    torch.testing.assert_close(seen[0].residual, free.residual, rtol=0, atol=0)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_readout_weights_get_the_plain_gradient_at_the_free_state(estimator):
    model = zoo.model("chain", ep.Prototypical(), "readout")
    x, y = zoo.batch(model)
    zoo.gradient(model, ESTIMATORS[estimator], x, y)
    out = ep.relax(model, x, 20).state[-1]
    theirs = torch.autograd.grad(model.cost.value(out, y).mean(), list(model.cost.parameters()))
    for p, g in zip(model.cost.parameters(), theirs, strict=True):
        torch.testing.assert_close(p.grad, g, rtol=1e-12, atol=1e-15)


def test_estimators_leave_weights_and_random_state_alone():
    model = zoo.model("chain", ep.Prototypical())
    x, y = zoo.batch(model)
    before = [p.detach().clone() for p in model.parameters()]
    drawn = torch.get_rng_state()
    for estimator in ESTIMATORS.values():
        zoo.gradient(model, lambda m, x, y, e=estimator: e(m, x, y, generator=torch.Generator()), x, y)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert torch.equal(drawn, torch.get_rng_state())


def test_the_contrast_stays_in_full_precision_under_autocast():
    model = zoo.model("own-connection", ep.Prototypical()).float()
    x = zoo.batch(model)[0].float()
    free, near = (tuple(s.float() for s in zoo.state(model, seed)) for seed in (3, 4))

    with torch.autocast("cpu", dtype=torch.bfloat16):
        surrogate = model.network.contrast(x, free, free, near, 0.1)
    ours = torch.autograd.grad(surrogate, list(model.network.parameters()))
    phi = (model.network.phi(x, free) - model.network.phi(x, near)).mean() / 0.1
    for a, b in zip(ours, torch.autograd.grad(phi, list(model.network.parameters())), strict=True):
        assert a.dtype == torch.float32
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("estimator", ["one-sided", "centred", "implicit"])
@pytest.mark.parametrize("name", ["chain", "own-connection"])
@pytest.mark.parametrize("dynamics", [ep.Prototypical(), ep.EnergyDescent(dt=0.5)], ids=["prototypical", "energy"])
def test_phases_run_in_full_precision_under_autocast(name, estimator, dynamics):
    model = zoo.model(name, dynamics).float()
    x, y = zoo.batch(model)
    plain = zoo.gradient(model, ESTIMATORS[estimator], x.float(), y)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert ep.relax(model, x.float(), 3).state[0].dtype == torch.float32
        losses = list(ESTIMATORS[estimator](model, x.float(), y))
    mixed = zoo.gradient(model, lambda *_: losses, x.float(), y)
    torch.testing.assert_close(mixed, plain, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", ["chain", "own-connection", "own-activation"])
@pytest.mark.parametrize("dynamics", [ep.Prototypical(), ep.EnergyDescent()], ids=["prototypical", "energy"])
def test_inference_mode_changes_nothing(name, dynamics):
    model = zoo.model(name, dynamics)
    x, _ = zoo.batch(model)
    with torch.inference_mode():
        inferred = model(x.clone())
        passed = ep.Equilibrium(model.network, dynamics, 30, 10, 0.1)(x.clone())
    assert torch.equal(inferred, model(x))
    assert torch.equal(passed, inferred)


def test_a_model_can_be_saved_loaded_and_copied():
    model, other = ep.mlp([4, 8, 3], settle=20), ep.mlp([4, 8, 3], settle=20)
    other.load_state_dict(model.state_dict())
    x = torch.rand(5, 4)
    torch.testing.assert_close(other(x), model(x), rtol=0, atol=0)

"""Each connection has the learning rate that was given for it; steps and schedules are those of their formulas."""

import math

import pytest
import torch

import eqprop as ep
from eqprop.training import SGD, Adam, AdamW, Constant, Cosine, StepDecay
from eqprop.training.config.optimizers import parameter_groups
from zoo import GRAPHS


def readout() -> ep.Model:
    return ep.mlp([4, 6, 5], cost=ep.CrossEntropyReadout(5, 3))


def shared() -> ep.Model:
    """Two edges that are one connection: lateral weights in both hidden populations."""
    one = ep.Dense(5, 5)
    edges = [(0, 1, ep.Dense(4, 5)), (1, 1, one), (1, 2, ep.Dense(5, 5)), (2, 2, one), (2, 3, ep.Dense(5, 3))]
    return ep.Model(ep.Network([ep.Population(n) for n in (4, 5, 5, 3)], edges), ep.Prototypical(), ep.SquaredError())


MODELS = {
    "one": (lambda: ep.mlp([4, 3]), 1),
    "tied": (lambda: ep.mlp([4, 6, 5, 3]), 3),
    "untied": (lambda: ep.mlp([4, 6, 5, 3], tied=False, angle=45), 3),
    "readout": (readout, 3),
    "toy": (lambda: ep.toy(inputs=4, hidden=6, outputs=3), 3),
    "shared": (shared, 4),
    "no bias": (
        lambda: ep.Model(GRAPHS["deep-chain"].network(), ep.Prototypical(), ep.SquaredError()),
        3,
    ),
}


def names_by_rate(model: ep.Model, rates) -> dict[float, set[str]]:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {group["lr"]: {names[id(p)] for p in group["params"]} for group in parameter_groups(model, rates)}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("several", [False, True])
def test_every_parameter_is_in_one_group(name, several):
    make, connections = MODELS[name]
    model = make()
    found = [
        id(p) for group in parameter_groups(model, [0.1] * connections if several else 0.1) for p in group["params"]
    ]
    assert sorted(found) == sorted(id(p) for p in model.parameters())
    assert len(set(found)) == len(found)


def test_rates_are_input_first():
    assert names_by_rate(ep.mlp([4, 6, 5, 3]), (0.3, 0.2, 0.1)) == {
        rate: {f"network.connections.{n}.weight", f"network.connections.{n}.bias"}
        for n, rate in enumerate((0.3, 0.2, 0.1))
    }


def test_feedback_weights_have_the_rate_of_their_connection():
    first, second = "network.connections.0", "network.connections.1"
    assert names_by_rate(ep.mlp([4, 6, 3], tied=False), (0.3, 0.2)) == {
        0.3: {f"{first}.weight", f"{first}.bias"},
        0.2: {f"{second}.upward.weight", f"{second}.upward.bias", f"{second}.feedback"},
    }


def test_a_readout_comes_last():
    rates = names_by_rate(readout(), (0.3, 0.2, 0.1))
    assert rates[0.1] == {"cost.weight", "cost.bias"}
    assert rates[0.2] == {"network.connections.1.weight", "network.connections.1.bias"}


def test_a_shared_connection_counts_once():
    rates = names_by_rate(shared(), (0.4, 0.3, 0.2, 0.1))
    assert rates[0.3] == {"network.connections.1.weight", "network.connections.1.bias"}
    assert rates[0.2] == {"network.connections.2.weight", "network.connections.2.bias"}


def test_one_rate_is_for_all():
    model = readout()
    (group,) = parameter_groups(model, (0.25,))
    assert group["lr"] == 0.25
    assert len(group["params"]) == 6


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("change", [-1, 1])
@pytest.mark.parametrize("optimizer", [SGD, Adam, AdamW])
def test_a_wrong_number_of_rates_is_refused(optimizer, name, change):
    make, connections = MODELS[name]
    number = connections + change
    if number < 2:
        return  # one rate is for all, none is refused earlier
    message = (
        rf"`rates` names {number} learning rates, but the model has {connections} connections .*readout counts as one"
    )
    with pytest.raises(ValueError, match=message):
        optimizer([0.1] * number).build(make())


RATES = (0.5, 0.25)


def before_and_after(optimizer, steps: int):
    """Parameters before, their gradients step by step, and parameters after, with each parameter's rate."""
    model = ep.mlp([4, 6, 3]).double()
    built = optimizer.build(model)
    start = [p.detach().clone() for p in model.parameters()]
    draw = torch.Generator().manual_seed(3)
    gradients = []
    for _ in range(steps):
        gradients.append([torch.randn(p.shape, generator=draw, dtype=torch.double) for p in model.parameters()])
        for p, g in zip(model.parameters(), gradients[-1], strict=True):
            p.grad = g.clone()
        built.step()
    rates = (RATES[0], RATES[0], RATES[1], RATES[1])  # weight and bias of each connection
    return zip(start, zip(*gradients, strict=True), model.parameters(), rates, strict=True)


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


def test_sgd_goes_down_each_connections_own_way():
    for theta, (g,), after, rate in before_and_after(SGD(RATES), 1):
        close(after.detach(), theta - rate * g)


def test_sgd_with_momentum_and_decay():
    for theta, gradients, after, rate in before_and_after(SGD(RATES, momentum=0.9, weight_decay=0.01), 3):
        velocity = torch.zeros_like(theta)
        for g in gradients:
            velocity = 0.9 * velocity + g + 0.01 * theta
            theta = theta - rate * velocity
        close(after.detach(), theta)


@pytest.mark.parametrize("decoupled", [False, True])
def test_adam(decoupled):
    """Kingma & Ba 2015, algorithm 1; Loshchilov & Hutter 2019, algorithm 2."""
    (b1, b2), decay = (0.8, 0.99), 0.01
    optimizer = (AdamW if decoupled else Adam)(RATES, betas=(b1, b2), weight_decay=decay)
    for theta, gradients, after, rate in before_and_after(optimizer, 3):
        m = v = torch.zeros_like(theta)
        for t, g in enumerate(gradients, start=1):
            theta, g = (theta * (1 - rate * decay), g) if decoupled else (theta, g + decay * theta)
            m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
            theta = theta - rate * (m / (1 - b1**t)) / ((v / (1 - b2**t)).sqrt() + 1e-8)
        close(after.detach(), theta)


def rates_of(schedule, epochs: int) -> list[list[float]]:
    """The rate of each group in each epoch."""
    model = ep.mlp([4, 6, 3])
    optimizer = SGD(RATES).build(model)
    scheduler, seen = schedule.build(optimizer, epochs), []
    for _ in range(epochs):
        seen.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
    return seen


@pytest.mark.parametrize("epochs", [1, 2, 7, 30])
@pytest.mark.parametrize("floor", [0.0, 0.05])
def test_cosine(epochs, floor):
    for epoch, seen in enumerate(rates_of(Cosine(floor), epochs)):
        wanted = [floor + (rate - floor) * (1 + math.cos(math.pi * epoch / epochs)) / 2 for rate in RATES]
        assert seen == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize(("every", "factor"), [(1, 0.5), (3, 0.1), (10, 0.3), (2, 0.0)])
def test_step_decay(every, factor):
    for epoch, seen in enumerate(rates_of(StepDecay(every, factor), 8)):
        assert seen == pytest.approx([rate * factor ** (epoch // every) for rate in RATES], rel=1e-12)


def test_constant():
    assert rates_of(Constant(), 5) == [list(RATES)] * 5

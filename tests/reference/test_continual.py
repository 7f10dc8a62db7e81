"""`ep.ContinualEP` and `ep.ContinualSGD` against the loops: every increment of a batch, and the weights at its end."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

import eqprop as ep
from reference.bridge import chain_of, close, cost_of, filled, library_rule, tensor
from reference.continual_loop import continual, readout_gradients, tied, untied
from reference.loops import Discrete, Euler, Schedule, free_cost

RULES = [
    Discrete("outside"),
    Discrete("inside"),
    Euler(0.4, clamp=False),
    Euler(0.3, clamp=True),
    Euler(0.3, clamp=True, output_derivative=False),
]
SIZES = {"1h": [4, 5, 3], "2h": [4, 5, 4, 3]}
COSTS = {"squared": ep.SquaredError(), "readout": ep.CrossEntropyReadout(3, 3)}
TERMS = {"tied": tied, "untied": untied}
FREE, NUDGED, BETA, RATES = 9, 5, 0.3, (0.3, 0.2, 0.5)
Y = np.array([2, 0, 1])


@dataclass
class Case:
    model: ep.Model
    rates: tuple
    x: np.ndarray
    increments: list  # one flat list a step
    end: list  # the network's parameters at theta_K
    readout: list  # gradients of a readout
    value: float


def case(rule, weights, sizes="1h", nudging="one-sided", cost="squared", beta=BETA):
    """A model and the loops' results for its batch; parameters in the library's order, feedback weights last."""
    sizes = SIZES[sizes]
    angle = {} if weights == "tied" else {"tied": False, "angle": 30}
    model = ep.mlp(sizes, activation="tanh", dynamics=library_rule(rule), cost=COSTS[cost], **angle)
    model = filled(model, seed=30, scale=0.5)
    chain, task = chain_of(model, ["tanh"] * len(sizes)), cost_of(model)
    x, rates = np.random.default_rng(31).uniform(0, 1, (3, sizes[0])), RATES[: len(sizes) - 1]
    schedule = Schedule(FREE, NUDGED, beta, nudging)
    increments, end = continual(rule, chain, task, x, np.eye(3)[Y], schedule, rates, TERMS[weights])
    ends = [p for pair in zip(end.weights, end.biases, strict=True) for p in pair]
    return Case(
        model,
        rates,
        x,
        increments,
        ends + (end.feedback[1:] if weights == "untied" else []),
        readout_gradients(rule, chain, task, x, np.eye(3)[Y], FREE),
        free_cost(rule, chain, task, x, np.eye(3)[Y], FREE),
    )


def steps(case, estimator):
    """Yield value and gradients of each loss; after each, take a step of SGD at the case's rates on the network alone."""
    pairs = zip(case.model.network.connections, case.rates, strict=True)
    optimizer = torch.optim.SGD([{"params": list(c.parameters()), "lr": rate} for c, rate in pairs])
    for loss in estimator(case.model, tensor(case.x), tensor(Y)):
        case.model.zero_grad()
        loss.backward()
        grads = [None if p.grad is None else p.grad.numpy().copy() for p in case.model.parameters()]
        n = len(case.end)
        yield loss.item(), grads[:n], grads[n:]
        optimizer.step()


def network(case):
    return [p.detach().numpy() for p in case.model.parameters()][: len(case.end)]


@pytest.mark.parametrize("cost", COSTS)
@pytest.mark.parametrize("nudging", ["one-sided", "centred"])
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("weights", TERMS)
@pytest.mark.parametrize("rule", RULES, ids=str)
def test_each_loss_is_an_increment(rule, weights, sizes, nudging, cost):
    """The gradient is minus the increment of the step; the last loss alone also has a readout's plain gradient."""
    one = case(rule, weights, sizes, nudging, cost)
    found = list(steps(one, ep.ContinualEP(FREE, NUDGED, BETA, nudging)))
    assert len(found) == NUDGED
    for t, ((value, gradients, readout), increment) in enumerate(zip(found, one.increments, strict=True)):
        np.testing.assert_allclose(value, one.value, rtol=1e-12)
        close(gradients, [-d for d in increment])
        if t < NUDGED - 1:
            assert all(g is None for g in readout)
        else:
            close(readout, one.readout)
    close(network(one), one.end)


@pytest.mark.parametrize("cost", COSTS)
@pytest.mark.parametrize("nudging", ["one-sided", "centred"])
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("weights", TERMS)
@pytest.mark.parametrize("rule", RULES, ids=str)
def test_one_loss_is_the_sum_of_the_increments(rule, weights, sizes, nudging, cost):
    one = case(rule, weights, sizes, nudging, cost)
    rates = one.rates if cost == "squared" else (*one.rates, 1.0)
    before = [p.copy() for p in network(one)]
    for value, gradients, readout in steps(one, ep.ContinualSGD(FREE, NUDGED, BETA, rates, nudging)):
        np.testing.assert_allclose(value, one.value, rtol=1e-12)
        close(gradients, [-sum(parts) for parts in zip(*one.increments, strict=True)])
        close(readout, one.readout)
        assert all(
            np.array_equal(a, b) for a, b in zip(network(one), before, strict=True)
        )  # only the optimizer moves them
    close(network(one), one.end)


def same(found, others):
    return all(np.allclose(a, b, rtol=1e-10, atol=1e-12) for a, b in zip(found, others, strict=True))


@pytest.mark.parametrize("kind", ["any", "sgd"])
@pytest.mark.parametrize("weights", TERMS)
@pytest.mark.parametrize("rule", RULES[:3], ids=str)
def test_random_sign_is_one_sided_with_the_sign_drawn(rule, weights, kind):
    ends = [case(rule, weights, beta=beta).end for beta in (BETA, -BETA)]
    assert not same(*ends)
    generator, signs = torch.Generator().manual_seed(0), []
    for _ in range(12):
        one = case(rule, weights)
        choices = {"rates": one.rates, "nudging": "random-sign"} if kind == "sgd" else {"nudging": "random-sign"}
        estimator = (ep.ContinualSGD if kind == "sgd" else ep.ContinualEP)(FREE, NUDGED, BETA, **choices)
        list(steps(one, lambda *batch, e=estimator: e(*batch, generator=generator)))
        assert same(network(one), ends[0]) or same(network(one), ends[1])
        signs.append(same(network(one), ends[0]))
    assert 1 <= sum(signs) <= 11


@pytest.mark.parametrize("weights", TERMS)
def test_the_bias_beside_the_input_is_trained(weights):
    """The official code of C-VF leaves it out."""
    one = case(Discrete("outside"), weights)
    (first,) = ((p.numpy().copy()) for p in [one.model.network.connections[0].bias.detach()])
    list(steps(one, ep.ContinualSGD(FREE, NUDGED, BETA, one.rates)))
    moved = one.model.network.connections[0].bias.detach().numpy() - first
    close([moved], [one.rates[0] * sum(increment[1] for increment in one.increments)])
    assert np.min(np.abs(moved)) > 1e-5

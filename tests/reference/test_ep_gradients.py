"""`ep.EquilibriumProp` against the loops: value of the loss and gradient of every parameter."""

import numpy as np
import pytest
import torch

import eqprop as ep
from reference.bridge import chain_of, close, cost_of, filled, gradients, library_rule
from reference.loops import Discrete, Euler, Schedule, ep_gradients, free_cost

RULES = [
    Discrete("outside"),
    Discrete("inside"),
    Euler(0.3, clamp=True),
    Euler(0.5, clamp=False),
    Euler(0.3, clamp=False, output_derivative=False),
]
CLASSES, FREE, NUDGED, BETA = 3, 12, 6, 0.35


def squared(hidden):
    return [4, *hidden, CLASSES], ep.SquaredError()


def readout(hidden):
    return [4, *hidden, 2], ep.CrossEntropyReadout(2, CLASSES)


def case(rule, task, hidden=(5,), name="tanh", seed=10):
    sizes, cost = task(hidden)
    model = filled(ep.mlp(sizes, activation=name, dynamics=library_rule(rule), cost=cost), seed)
    x = np.random.default_rng(seed + 1).uniform(0, 1, (4, 4))
    return model, chain_of(model, [name] * len(sizes)), x


def targets(kind):
    """``(what the library is given, what it means)``."""
    if kind == "classes":
        y = np.array([2, 0, 1, 2])
        return y, np.eye(CLASSES)[y]
    y = np.random.default_rng(12).dirichlet(np.ones(CLASSES), 4)
    return y, y


def expected(rule, chain, model, x, meaning, beta=BETA, nudging="one-sided"):
    return ep_gradients(rule, chain, cost_of(model), x, meaning, Schedule(FREE, NUDGED, beta, nudging))


@pytest.mark.parametrize("kind", ["classes", "floats"])
@pytest.mark.parametrize("task", [squared, readout])
@pytest.mark.parametrize("nudging", ["one-sided", "centred"])
@pytest.mark.parametrize("hidden", [(5,), (5, 3)], ids=["1h", "2h"])
@pytest.mark.parametrize("rule", RULES, ids=str)
def test_gradients(rule, hidden, nudging, task, kind):
    model, chain, x = case(rule, task, hidden)
    y, meaning = targets(kind)
    value, found = gradients(ep.EquilibriumProp(FREE, NUDGED, BETA, nudging), model, x, y)
    close(found, expected(rule, chain, model, x, meaning, nudging=nudging))
    np.testing.assert_allclose(value, free_cost(rule, chain, cost_of(model), x, meaning, FREE), rtol=1e-12)


@pytest.mark.parametrize("name", ["sigmoid", "hard_sigmoid"])
@pytest.mark.parametrize("nudging", ["one-sided", "centred"])
@pytest.mark.parametrize("rule", RULES, ids=str)
def test_other_activations(rule, nudging, name):
    model, chain, x = case(rule, squared, name=name)
    y, meaning = targets("classes")
    _, found = gradients(ep.EquilibriumProp(FREE, NUDGED, BETA, nudging), model, x, y)
    close(found, expected(rule, chain, model, x, meaning, nudging=nudging))


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_a_negative_beta_nudges_away(rule):
    model, chain, x = case(rule, squared)
    y, meaning = targets("floats")
    _, found = gradients(ep.EquilibriumProp(FREE, NUDGED, -BETA), model, x, y)
    close(found, expected(rule, chain, model, x, meaning, beta=-BETA))


def same(found, others):
    return all(np.allclose(a, b, rtol=1e-10, atol=1e-12) for a, b in zip(found, others, strict=True))


@pytest.mark.parametrize("task", [squared, readout])
@pytest.mark.parametrize("rule", [Discrete("outside"), Euler(0.5, clamp=False)], ids=str)
def test_random_sign_is_one_sided_with_the_sign_drawn(rule, task):
    model, chain, x = case(rule, task)
    y, meaning = targets("classes")
    positive, negative = (expected(rule, chain, model, x, meaning, beta) for beta in (BETA, -BETA))
    assert not same(positive, negative)
    estimator, generator = ep.EquilibriumProp(FREE, NUDGED, BETA, "random-sign"), torch.Generator().manual_seed(0)
    signs = []
    for _ in range(20):
        _, found = gradients(estimator, model, x, y, generator=generator)
        assert same(found, positive) or same(found, negative)
        signs.append(same(found, positive))
    assert 3 <= sum(signs) <= 17  # fails by chance once in 2,500 seeds


def test_random_signs_follow_the_generator():
    model, _, x = case(Discrete(), squared)
    y, _ = targets("classes")
    estimator = ep.EquilibriumProp(FREE, NUDGED, BETA, "random-sign")

    def draws(seed):
        generator = torch.Generator().manual_seed(seed)
        return [gradients(estimator, model, x, y, generator=generator)[1][0].tolist() for _ in range(12)]

    assert draws(3) == draws(3)
    assert draws(3) != draws(4)


def test_gradients_accumulate_over_backwards():
    model, chain, x = case(Discrete("inside"), squared)
    y, meaning = targets("classes")
    once = expected(Discrete("inside"), chain, model, x, meaning)
    (loss,) = ep.EquilibriumProp(FREE, NUDGED, BETA)(model, torch.from_numpy(x), torch.from_numpy(y))
    (3 * loss).backward()
    close([p.grad.numpy() for p in model.parameters()], [3 * g for g in once])

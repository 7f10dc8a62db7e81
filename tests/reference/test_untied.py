"""Untied networks (`tied=False`) against the loops: two sets of weights, and the pairing of u(s*) with a - b."""

import numpy as np
import pytest
import torch

import eqprop as ep
from reference.bridge import chain_of, close, cost_of, filled, gradients, library_rule, tensor
from reference.loops import Discrete, Euler, Schedule, ep_gradients, pairing, phase

RULES = [Discrete("outside"), Discrete("inside"), Euler(0.4, clamp=False), Euler(0.3, clamp=True)]
SIZES = [4, 5, 4, 3]


def case(rule, sizes=SIZES, cost=None, seed=30):
    model = ep.mlp(sizes, activation="tanh", dynamics=library_rule(rule), cost=cost, tied=False, angle=30)
    model = filled(model, seed, scale=0.5)
    x = np.random.default_rng(seed + 1).uniform(0, 1, (3, sizes[0]))
    return model, chain_of(model, ["tanh"] * len(sizes)), x, np.array([2, 0, 1])


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_trajectory(rule):
    model, chain, x, _ = case(rule)
    assert not np.allclose(chain.weights[1], chain.feedback[1])
    solution = ep.relax(model, tensor(x), 15, trajectory=True)
    for b in range(3):
        for found, expected in zip(solution.trajectory, phase(rule, chain, x[b], chain.zeros(), 15), strict=True):
            close([s[b].numpy() for s in found], expected)


@pytest.mark.parametrize("cost", [ep.SquaredError(), ep.CrossEntropyReadout(3, 3)], ids=["squared", "readout"])
@pytest.mark.parametrize("nudging", ["one-sided", "centred"])
@pytest.mark.parametrize("sizes", [[4, 5, 3], SIZES], ids=["1h", "2h"])
@pytest.mark.parametrize("rule", RULES, ids=str)
def test_gradients(rule, sizes, nudging, cost):
    model, chain, x, y = case(rule, sizes, cost)
    _, found = gradients(ep.EquilibriumProp(14, 6, 0.3, nudging), model, x, y)
    schedule = Schedule(14, 6, 0.3, nudging)
    close(found, ep_gradients(rule, chain, cost_of(model), x, np.eye(3)[y], schedule, pairing))


def test_feedback_is_the_forward_weights_with_signs_flipped():
    torch.manual_seed(0)
    model = ep.mlp([2, 150, 100], tied=False, angle=30).double()
    weight, feedback = (p.detach().numpy() for p in list(model.parameters())[2::2])
    assert weight.shape == feedback.shape == (100, 150)
    assert np.array_equal(np.abs(weight), np.abs(feedback))
    cosine = np.sum(weight * feedback) / np.sum(weight * weight)
    # E cos = 1 - 2 p = cos 30 deg; its variance is 4 p (1 - p) sum w^4 / (sum w^2)^2
    variance = np.sin(np.radians(30)) ** 2 * np.sum(weight**4) / np.sum(weight**2) ** 2
    assert abs(cosine - np.cos(np.radians(30))) < 4 * np.sqrt(variance)


@pytest.mark.parametrize("angle", [0, 180])
def test_extreme_angles_flip_no_sign_and_every_sign(angle):
    model = ep.mlp([2, 4, 3], tied=False, angle=angle)
    weight, feedback = (p.detach().numpy() for p in list(model.parameters())[2::2])
    assert np.array_equal(feedback, weight if angle == 0 else -weight)

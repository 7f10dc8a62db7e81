"""`ep.relax` step by step against the loops: every state of every population of every sample."""

import numpy as np
import pytest

import eqprop as ep
from reference.bridge import chain_of, close, cost_of, filled, library_rule, tensor
from reference.loops import Discrete, Euler, no_force, phase

RULES = [
    Discrete("outside"),
    Discrete("inside"),
    Euler(0.2, clamp=True),
    Euler(0.3, clamp=False),
    Euler(1.0, clamp=False),
    Euler(0.2, clamp=True, output_derivative=False),
    Euler(0.3, clamp=False, output_derivative=False),
]
DEPTHS = [[3, 2], [3, 5, 2], [4, 5, 3, 2]]


def case(sizes, names, rule, seed=0, cost=None):
    dynamics = library_rule(rule)
    model = ep.mlp(sizes, activation=names[0], output_activation=names[-1], dynamics=dynamics, cost=cost)
    model = filled(model, seed)
    draw = np.random.default_rng(seed + 100)
    return model, chain_of(model, names), draw.uniform(-0.5, 1.5, (3, sizes[0])), draw.uniform(0, 1, (3, sizes[-1]))


def check(solution, loops):
    """``loops[b][t][n]`` are the states expected."""
    for b, states in enumerate(loops):
        assert len(solution.trajectory) == len(states)
        for found, expected in zip(solution.trajectory, states, strict=True):
            close([s[b].numpy() for s in found], expected)
        moved = [np.max(np.abs(new - old)) for new, old in zip(states[-1], states[-2], strict=True)]
        np.testing.assert_allclose(solution.residual[b], max(moved), rtol=1e-8, atol=1e-14)


@pytest.mark.filterwarnings("ignore:`x` has values that .* dynamics clip")
@pytest.mark.parametrize("sizes", DEPTHS, ids=str)
@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("name", ["sigmoid", "hard_sigmoid", "tanh"])
def test_free_and_nudged_trajectories(name, rule, sizes):
    names = [name] * len(sizes)
    model, chain, x, y = case(sizes, names, rule)
    free = [phase(rule, chain, one, chain.zeros(), 20) for one in x]
    solution = ep.relax(model, tensor(x), 20, trajectory=True)
    check(solution, free)
    for beta in (0.4, -0.4):

        def pull(target, beta=beta):
            return lambda out: beta * (target - out)

        nudged = [phase(rule, chain, one, s[-1], 7, pull(t)) for one, t, s in zip(x, y, free, strict=True)]
        state = solution.state
        check(ep.relax(model, tensor(x), 7, tensor(y), beta, state=state, trajectory=True), nudged)


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_output_activation_of_its_own(rule):
    sizes, names = [3, 4, 2], ["sigmoid", "sigmoid", "tanh"]
    model, chain, x, _ = case(sizes, names, rule, seed=1)
    check(ep.relax(model, tensor(x), 12, trajectory=True), [phase(rule, chain, one, chain.zeros(), 12) for one in x])


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_readout_force(rule):
    sizes, names = [3, 4, 5], ["tanh"] * 3
    model, chain, x, _ = case(sizes, names, rule, seed=2, cost=ep.CrossEntropyReadout(5, 3))
    y, cost = np.array([2, 0, 2]), cost_of(model)

    def pull(target):
        return lambda out: 0.5 * cost.force(out, np.eye(3)[target])

    expected = [phase(rule, chain, one, chain.zeros(), 9, pull(t)) for one, t in zip(x, y, strict=True)]
    check(ep.relax(model, tensor(x), 9, tensor(y), 0.5, trajectory=True), expected)


def test_clamp_is_reached_from_both_sides():
    rule, sizes = Euler(0.3, clamp=True), [3, 5, 2]
    model, chain, x, _ = case(sizes, ["tanh"] * 3, rule, seed=3)
    target = np.array([9.0, -9.0])
    expected = [phase(rule, chain, one, chain.zeros(), 30, lambda out: 0.9 * (target - out)) for one in x]
    ends = np.array([states[-1][-1] for states in expected])
    assert (ends[:, 0] == 1).all()
    assert (ends[:, 1] == 0).all()
    check(ep.relax(model, tensor(x), 30, tensor([target] * 3), 0.9, trajectory=True), expected)


@pytest.mark.parametrize("rule", [Discrete(), Euler(0.2)], ids=str)
def test_a_given_start(rule):
    model, chain, x, _ = case([3, 4, 2], ["sigmoid"] * 3, rule, seed=4)
    draw = np.random.default_rng(5)
    start = [draw.uniform(0, 1, (3, 4)), draw.uniform(0, 1, (3, 2))]
    expected = [phase(rule, chain, x[b], [s[b] for s in start], 5, no_force) for b in range(3)]
    solution = ep.relax(model, tensor(x), 5, state=tuple(tensor(s) for s in start), trajectory=True)
    check(solution, expected)
    close([s.numpy() for s in solution.trajectory[0]], start)

"""What a phase returns besides its last state: mean activity, number of steps, the stop at a tolerance."""

import numpy as np
import pytest

import eqprop as ep
from reference.bridge import chain_of, close, filled, gradients, library_rule, tensor
from reference.loops import Discrete, Euler, phase

RULES = [Discrete(), Euler(0.3, clamp=False), Euler(0.2, clamp=True)]
STEPS = 40


def case(rule, name="tanh"):
    model = filled(ep.mlp([3, 4, 2], activation=name, dynamics=library_rule(rule)), seed=6, scale=0.4)
    chain = chain_of(model, [name] * 3)
    x = np.random.default_rng(7).uniform(0, 1, (3, 3))
    return model, chain, x, [phase(rule, chain, one, chain.zeros(), STEPS) for one in x]


def changes(loops):
    """``changes[t]``: the largest move of any unit of any sample in step t; step 0 does not exist."""
    moves = [np.inf]
    for t in range(1, STEPS + 1):
        moves.append(max(np.max(np.abs(s[t][n] - s[t - 1][n])) for s in loops for n in range(2)))
    return moves


def stop(moves, tol, check_every, limit):
    """The first multiple of ``check_every`` whose step moved no unit by more than ``tol``; the limit if there is none."""
    for t in range(1, limit + 1):
        if t % check_every == 0 and moves[t] <= tol:
            return t
    return limit


@pytest.mark.parametrize("average", [1, 2, 5, 9])
@pytest.mark.parametrize("rule", RULES, ids=str)
def test_average_is_the_mean_of_the_last_activities(rule, average):
    model, chain, x, loops = case(rule, "sigmoid")
    solution = ep.relax(model, tensor(x), ep.Settle(9, average=average))
    for b, states in enumerate(loops):
        late = [rule.activities(chain, x[b], states[t])[1:] for t in range(10 - average, 10)]
        expected = [sum(population) / average for population in zip(*late, strict=True)]
        close([a[b].numpy() for a in solution.activity], expected)
        close([s[b].numpy() for s in solution.state], states[9])


@pytest.mark.parametrize("check_every", [1, 3, 5])
@pytest.mark.parametrize("rule", RULES, ids=str)
def test_tolerance_stops_at_the_first_check_that_meets_it(rule, check_every):
    model, _, x, loops = case(rule)
    moves = changes(loops)
    seen = set()
    for at in (3, 6, 9, 10, 14, 21):
        tol = 1.01 * moves[at]
        expected = stop(moves, tol, check_every, STEPS)
        solution = ep.relax(model, tensor(x), ep.Settle(STEPS, tol=tol, check_every=check_every), trajectory=True)
        seen.add(expected)
        assert solution.steps == expected
        assert len(solution.trajectory) == expected + 1
        for b, states in enumerate(loops):
            close([s[b].numpy() for s in solution.state], states[expected])
    assert len(seen) > 2


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_a_tolerance_out_of_reach_takes_every_step(rule):
    model, _, x, loops = case(rule)
    settle = ep.Settle(13, tol=0.5 * min(changes(loops)[1:14]), check_every=5)
    assert ep.relax(model, tensor(x), settle).steps == 13


def test_one_unsettled_sample_keeps_the_batch_going():
    rule = Discrete()
    model, chain, x, loops = case(rule)
    x[0], loops[0] = 0.0, phase(rule, chain, np.zeros(3), chain.zeros(), STEPS)
    each = [changes([states]) for states in loops]
    tol = 1.01 * each[1][8]
    stops = [stop(moves, tol, 1, STEPS) for moves in each]
    assert len(set(stops)) > 1
    assert ep.relax(model, tensor(x), ep.Settle(STEPS, tol=tol, check_every=1)).steps == max(stops)


@pytest.mark.parametrize("nudging", ["one-sided", "centred"])
def test_on_free_phase_receives_the_free_phase(nudging):
    rule = Discrete()
    model, _, x, loops = case(rule)
    moves = changes(loops)
    tol, seen = 1.01 * moves[10], []
    estimator = ep.EquilibriumProp(ep.Settle(STEPS, tol=tol), 4, 0.3, nudging)
    gradients(estimator, model, x, np.array([0, 1, 1]), on_free_phase=seen.append)
    (solution,) = seen
    assert solution.steps == stop(moves, tol, 5, STEPS)
    for b, states in enumerate(loops):
        close([s[b].numpy() for s in solution.state], states[solution.steps])

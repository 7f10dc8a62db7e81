"""``ep.gdu`` against the NumPy loops: EP's increments step by step, BPTT's gradients by the complex step.

The derivative of an analytic function is ``Im f(p + ih) / h`` with no difference taken: with h = 1e-30 it is exact to round-off.
The loss at T is followed from step T - t on, perturbed in one entry of its state or, for one step alone, of its parameters.
"""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

import eqprop as ep
from reference.bridge import chain_of, cost_of, filled, library_rule, tensor
from reference.loops import SLOPE, Discrete, Euler, hebbian, no_force, pairing, phase

T, K, BETA, H = 9, 4, 0.2, 1e-30
RULES = [
    Discrete("outside"),
    Discrete("inside"),
    Euler(0.3, clamp=False),
    Euler(1.0, clamp=False),
    Euler(0.4, clamp=False, output_derivative=False),
]


def nudge(arrays, place, index):
    """The list with one entry of one array moved by ``ih``."""
    moved = arrays[place].astype(complex)
    moved[index] += 1j * H
    return [*arrays[:place], moved, *arrays[place + 1 :]]


def chains(chain, tied):
    """For every parameter, in the library's order, its shape and a function from an entry to the chain so perturbed."""
    forward, feedback = [], []
    for n, (w, b) in enumerate(zip(chain.weights, chain.biases, strict=True)):

        def weight(at, n=n):
            moved = replace(chain, weights=nudge(chain.weights, n, at))
            return replace(moved, feedback=nudge(chain.feedback, n, at)) if tied else moved

        forward += [(w.shape, weight), (b.shape, lambda at, n=n: replace(chain, biases=nudge(chain.biases, n, at)))]
        if n:
            feedback.append((w.shape, lambda at, n=n: replace(chain, feedback=nudge(chain.feedback, n, at))))
    return forward if tied else forward + feedback


def slope(shape, loss):
    """The gradient, entry by entry, of the loss that ``loss(entry)`` computes with that entry perturbed."""
    return np.array([loss(at).imag / H for at in np.ndindex(shape)]).reshape(shape)


def bptt(rule, chain, cost, x, y, tied):
    """``(nabla_s, nabla_theta)`` of one sample: ``[t][population]`` and ``[t][parameter]``."""
    path = phase(rule, chain, x, chain.zeros(), T)

    def loss(state, steps):
        return cost.value(phase(rule, chain, x, state, steps)[-1][-1], y)

    neurons, weights = [], []
    for t in range(K):
        here, before = path[T - t], path[T - t - 1]
        found = [slope(s.shape, lambda at, n=n: loss(nudge(here, n, at), t)) for n, s in enumerate(here)]  # noqa: B023
        if rule == Discrete("inside"):
            a = [x, *before]
            found = [g * SLOPE[chain.names[n]](chain.current(a, n)) for n, g in enumerate(found, start=1)]
        neurons.append(found)
        weights.append(
            [
                slope(shape, lambda at: loss(rule.step(moved(at), x, before, no_force), t))  # noqa: B023
                for shape, moved in chains(chain, tied)
            ]
        )
    return neurons, weights


def increments(rule, chain, cost, x, y, tied, beta):
    """``(Delta_s, Delta_theta)`` of one sample, as `bptt`."""
    free = phase(rule, chain, x, chain.zeros(), T)[-1]
    path = phase(rule, chain, x, free, K, lambda out: beta * cost.force(out, y))
    a = [rule.activities(chain, x, s) for s in path]
    contrast, dt = hebbian if tied else pairing, getattr(rule, "dt", 1.0)
    neurons = [[(new - old) / (beta * dt) for old, new in zip(*path[t : t + 2], strict=True)] for t in range(K)]
    return neurons, [[g / beta for g in contrast(a[0], a[t + 1], a[t])] for t in range(K)]


def compare(report, sides, which, kind, samples):
    """``sides`` are `bptt` or `increments` of every sample; neurons keep them apart, parameters are their mean."""
    neurons, weights = zip(*sides, strict=True)
    for n, process in enumerate(report.neurons):
        expected = np.array([[side[t][n] for side in neurons] for t in range(K)])
        np.testing.assert_allclose(getattr(process, which).numpy(), expected, rtol=1e-9, atol=1e-12)
    network = [p for name, p in report.parameters.items() if name.startswith("network")]
    assert len(network) == len(weights[0][0])
    for n, process in enumerate(network):
        expected = np.array([sum(side[t][n] for side in weights) / samples for t in range(K)])
        np.testing.assert_allclose(getattr(process, which).numpy(), expected, rtol=1e-9, atol=1e-12, err_msg=kind)


@pytest.mark.parametrize("cost", ["squared", "readout"])
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("rule", RULES, ids=str)
def test_every_step_of_both_sides(rule, tied, cost):
    sizes, names = [3, 4, 3, 2], ["tanh", "tanh", "sigmoid", "tanh"]
    populations = [ep.Population(n, r) for n, r in zip(sizes, names, strict=True)]
    dense = [ep.Dense(m, n) for m, n in pairwise(sizes)]
    edges = [(n, n + 1, c if tied or n == 0 else ep.Untied(c)) for n, c in enumerate(dense)]
    readout = ep.SquaredError() if cost == "squared" else ep.CrossEntropyReadout(2, 3)
    model = filled(ep.Model(ep.Network(populations, edges), library_rule(rule), readout), seed=7)
    chain, draw = chain_of(model, names), np.random.default_rng(8)
    x, y = draw.uniform(-0.5, 1.5, (2, 3)), draw.uniform(0, 1, (2, 2 if cost == "squared" else 3))
    y = y / y.sum(1, keepdims=True)  # as probabilities, for the readout

    report = ep.gdu(model, tensor(x), tensor(y), T, K, BETA)
    samples = list(zip(x, y, strict=True))
    sides = [bptt(rule, chain, cost_of(model), *sample, tied) for sample in samples]
    compare(report, sides, "bptt", "BPTT", len(x))
    sides = [increments(rule, chain, cost_of(model), *sample, tied, BETA) for sample in samples]
    compare(report, sides, "ep", "EP", len(x))


@pytest.mark.parametrize("rule", [Discrete("inside"), Euler(0.3, clamp=False)], ids=str)
def test_centred(rule):
    sizes, names = [3, 4, 2], ["tanh"] * 3
    model = filled(ep.mlp(sizes, activation="tanh", dynamics=library_rule(rule)), seed=9)
    chain, x, y = chain_of(model, names), np.array([[0.2, -0.4, 1.1]]), np.array([[0.3, 0.9]])
    report = ep.gdu(model, tensor(x), tensor(y), T, K, BETA, "centred")
    up, down = (increments(rule, chain, cost_of(model), x[0], y[0], True, beta) for beta in (BETA, -BETA))
    for side in (0, 1):
        for t in range(K):
            up[side][t] = [(a + b) / 2 for a, b in zip(up[side][t], down[side][t], strict=True)]
    compare(report, [up], "ep", "EP", 1)

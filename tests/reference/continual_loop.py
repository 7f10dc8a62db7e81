"""Continual EP (Ernoult et al. 2020) of one batch as a plain NumPy loop: states and weights move in turn.

Every nudged step moves the states of each sample at the same weights, then the weights by the mean increment. With the
activities ``a`` before a step and ``c`` after it, and the output first in the outer product as in ``W^n``,

    C-EP    dW^n = (c^n c^{n-1}^T - a^n a^{n-1}^T) / beta                                    V^n is W^n
    C-VF    dW^n = (c^n - a^n) a^{n-1}^T / beta       dV^n = a^n (c^{n-1} - a^{n-1})^T / beta
    both    db^n = (c^n - a^n) / beta

Centred, a sample has two trajectories, at beta and at -beta, and its increment is the mean of theirs.
"""

from dataclasses import replace

import numpy as np

from reference.loops import phase


def tied(a, c):
    """C-EP: the terms of W^1, b^1, W^2, ..., and none of feedback weights."""
    terms = []
    for n in range(1, len(a)):
        terms += [np.outer(c[n], c[n - 1]) - np.outer(a[n], a[n - 1]), c[n] - a[n]]
    return terms, []


def untied(a, c):
    """C-VF: the terms of W^1, b^1, W^2, ..., then those of V^2, V^3, ..."""
    forward, feedback = [], []
    for n in range(1, len(a)):
        forward += [np.outer(c[n] - a[n], a[n - 1]), c[n] - a[n]]
        if n > 1:
            feedback.append(np.outer(a[n], c[n - 1] - a[n - 1]))
    return forward, feedback


def updated(chain, forward, feedback, rates):
    """The chain after a step along an increment; ``rates[n - 1]`` is the rate of layer n and its feedback weights."""
    weights = [w + r * d for w, r, d in zip(chain.weights, rates, forward[::2], strict=True)]
    biases = [b + r * d for b, r, d in zip(chain.biases, rates, forward[1::2], strict=True)]
    if not feedback:
        return replace(chain, weights=weights, biases=biases, feedback=weights)
    back = [chain.feedback[0]] + [v + r * d for v, r, d in zip(chain.feedback[1:], rates[1:], feedback, strict=True)]
    return replace(chain, weights=weights, biases=biases, feedback=back)


def mean(samples):
    """Mean over samples of pairs of lists of arrays."""
    return tuple(
        [sum(parts) / len(samples) for parts in zip(*lists, strict=True)] for lists in zip(*samples, strict=True)
    )


def continual(rule, chain, cost, xs, ys, schedule, rates, terms):
    """The increments of every step, each a flat list in the order of the library's parameters, and the chain at the end."""
    betas = [schedule.beta, -schedule.beta] if schedule.nudging == "centred" else [schedule.beta]
    free = [phase(rule, chain, x, chain.zeros(), schedule.free_steps)[-1] for x in xs]
    states, increments = {(i, beta): s for i, s in enumerate(free) for beta in betas}, []
    for _ in range(schedule.nudged_steps):
        found = []
        for (i, beta), old in states.items():
            new = rule.step(chain, xs[i], old, lambda out, i=i, beta=beta: beta * cost.force(out, ys[i]))
            a, c = (rule.activities(chain, xs[i], s) for s in (old, new))
            found.append([[d / beta for d in part] for part in terms(a, c)])
            states[i, beta] = new
        forward, feedback = mean(found)
        chain = updated(chain, forward, feedback, rates)
        increments.append(forward + feedback)
    return increments, chain


def readout_gradients(rule, chain, cost, xs, ys, free_steps):
    """The plain gradient of the mean cost at the free state in a readout's weights."""
    ends = [phase(rule, chain, x, chain.zeros(), free_steps)[-1][-1] for x in xs]
    samples = [cost.readout_gradients(out, y) for out, y in zip(ends, ys, strict=True)]
    return [sum(parts) / len(samples) for parts in zip(*samples, strict=True)]

"""The equations of Equilibrium Propagation as plain NumPy loops: slow, in double precision, one sample at a time.

A chain has populations 0 (the input x) to L (the output). Layer n = 1 .. L has weights ``W^n`` of shape (n_post, n_pre), a
bias ``b^n`` and feedback weights ``V^n`` of the same shape (``V^n = W^n`` where weights are tied). With the activities
``a^0 .. a^L`` of one sample, the current into population n is

    u^n = W^n a^{n-1} + b^n + (V^{n+1})^T a^{n+1}.

Ernoult et al. (2019) count layers from the output; here the input comes first, as in the library.
"""

from dataclasses import dataclass

import numpy as np


def hard_slope(u):
    return np.where((u < 0) | (u > 1), 0.0, 1.0)


def logistic(u):
    return 1 / (1 + np.exp(-4 * (u - 1 / 2)))


RHO = {"sigmoid": logistic, "hard_sigmoid": lambda u: np.clip(u, 0, 1), "tanh": np.tanh, "identity": lambda u: 1 * u}
SLOPE = {
    "sigmoid": lambda u: 4 * logistic(u) * (1 - logistic(u)),
    "hard_sigmoid": hard_slope,
    "tanh": lambda u: 1 - np.tanh(u) ** 2,
    "identity": np.ones_like,
}


@dataclass(frozen=True)
class Chain:
    """``weights[n - 1]``, ``biases[n - 1]`` and ``feedback[n - 1]`` belong to layer n; ``names[n]`` is population n's rho."""

    weights: list
    biases: list
    feedback: list
    names: list

    def zeros(self):
        return [np.zeros(len(b)) for b in self.biases]

    def current(self, a, n):
        u = self.weights[n - 1] @ a[n - 1] + self.biases[n - 1]
        if n < len(self.weights):
            u = u + self.feedback[n].T @ a[n + 1]
        return u


def no_force(out):
    return np.zeros_like(out)


@dataclass(frozen=True)
class Discrete:
    """Prototypical: s^n <- rho(u^n), raw input; the force acts on the output, outside or inside rho."""

    nudge: str = "outside"

    def activities(self, chain, x, s):
        return [x, *s]

    def step(self, chain, x, s, force):
        a = self.activities(chain, x, s)
        new = []
        for n in range(1, len(a)):
            u, rho = chain.current(a, n), RHO[chain.names[n]]
            if n < len(a) - 1:
                new.append(rho(u))
            elif self.nudge == "inside":
                new.append(rho(u + force(a[n])))
            else:
                new.append(rho(u) + force(a[n]))
        return new


@dataclass(frozen=True)
class Euler:
    """Energy-based: s^n <- s^n + dt (-s^n + rho'(s^n) u^n), currents of rho(x) and rho(s); the force enters the bracket."""

    dt: float = 0.2
    clamp: bool = True
    output_derivative: bool = True

    def activities(self, chain, x, s):
        return [RHO[name](v) for name, v in zip(chain.names, [x, *s], strict=True)]

    def step(self, chain, x, s, force):
        a = self.activities(chain, x, s)
        new = []
        for n in range(1, len(a)):
            old, u = s[n - 1], chain.current(a, n)
            is_output = n == len(a) - 1
            slope = SLOPE[chain.names[n]](old) if not is_output or self.output_derivative else 1.0
            rate = -old + slope * u + (force(old) if is_output else 0.0)
            moved = old + self.dt * rate
            new.append(np.clip(moved, 0, 1) if self.clamp else moved)
        return new


def phase(rule, chain, x, start, steps, force=no_force):
    """States 0 to ``steps`` of one sample."""
    states = [start]
    for _ in range(steps):
        states.append(rule.step(chain, x, states[-1], force))
    return states


class Squared:
    """C = 1/2 |y - s^L|^2."""

    def value(self, out, y):
        return 0.5 * np.sum((y - out) ** 2)

    def force(self, out, y):
        return y - out

    def readout_gradients(self, out, y):
        return []


@dataclass(frozen=True)
class Readout:
    """C = -sum_c y_c log p_c with p = softmax(V s^L + c); the readout's own gradient is the plain one."""

    weight: np.ndarray
    bias: np.ndarray

    def probabilities(self, out):
        scores = np.exp(self.weight @ out + self.bias)
        return scores / np.sum(scores)

    def value(self, out, y):
        return -np.sum(y * np.log(self.probabilities(out)))

    def force(self, out, y):
        return self.weight.T @ (y - self.probabilities(out))

    def readout_gradients(self, out, y):
        error = self.probabilities(out) - y
        return [np.outer(error, out), error]


def hebbian(free, a, b):
    """dPhi/dtheta(a) - dPhi/dtheta(b) for W^1, b^1, W^2, b^2, ...; tied weights."""
    gradients = []
    for n in range(1, len(a)):
        gradients += [np.outer(a[n], a[n - 1]) - np.outer(b[n], b[n - 1]), a[n] - b[n]]
    return gradients


def pairing(free, a, b):
    """d/dtheta <u(free), a - b> for W^1, b^1, ..., then for the feedback weights V^2, V^3, ...; untied weights."""
    forward, feedback = [], []
    for n in range(1, len(a)):
        forward += [np.outer(a[n] - b[n], free[n - 1]), a[n] - b[n]]
        if n > 1:
            feedback.append(np.outer(free[n], a[n - 1] - b[n - 1]))
    return forward + feedback


@dataclass(frozen=True)
class Schedule:
    """T free steps, K nudged steps of strength beta, one-sided or centred."""

    free_steps: int
    nudged_steps: int
    beta: float
    nudging: str = "one-sided"


def sample_gradients(rule, chain, cost, x, y, schedule, contrast):
    """EP's estimates for one sample, then the readout's gradients at the free state."""

    def nudged(beta):
        states = phase(rule, chain, x, free, schedule.nudged_steps, lambda out: beta * cost.force(out, y))
        return rule.activities(chain, x, states[-1])

    free = phase(rule, chain, x, chain.zeros(), schedule.free_steps)[-1]
    at_rest = rule.activities(chain, x, free)
    if schedule.nudging == "centred":
        a, b, norm = nudged(-schedule.beta), nudged(schedule.beta), 2 * schedule.beta
    else:
        a, b, norm = at_rest, nudged(schedule.beta), schedule.beta
    return [g / norm for g in contrast(at_rest, a, b)] + cost.readout_gradients(free[-1], y)


def ep_gradients(rule, chain, cost, xs, ys, schedule, contrast=hebbian):
    """Mean over the batch of the estimates of every parameter."""
    samples = [sample_gradients(rule, chain, cost, x, y, schedule, contrast) for x, y in zip(xs, ys, strict=True)]
    return [sum(parts) / len(samples) for parts in zip(*samples, strict=True)]


def free_cost(rule, chain, cost, xs, ys, steps):
    """Mean over the batch of the cost at the end of the free phase."""
    ends = [phase(rule, chain, x, chain.zeros(), steps)[-1][-1] for x in xs]
    return sum(cost.value(out, y) for out, y in zip(ends, ys, strict=True)) / len(ends)

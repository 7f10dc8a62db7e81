"""The sigma-delta module of O'Connor, Gavves & Welling (2019) as a plain NumPy loop: one sample, one unit, one tick at a time.

A chain of populations, whose synapses are matrices ``M^n`` (n_post, n_pre): of a convolution with average pooling, the matrix that
does both. State per unit: potential u, last encoded value s, residual phi, trace r, spike q; all start at 0. At tick t = 1, 2, ...

    in      I  =  M^n q^{n-1} + (M^{n+1})^T q^{n+1}          spikes of the last tick alone; no bias
    decode  r  <- (1 - lam_t) r + lam_t I
    press   p  =  r + b   [+ beta (y - u) on the output]
    move    u  <- clip((1 - eps_t) u + eps_t p, 0, 1)
    encode  a  =  (u - (1 - lam_{t+1}) s) / lam_{t+1};   s <- u
    spike   phi <- phi + a;   q = 1 if phi > 1/2 else 0;   phi <- phi - q

An input in spikes is encoded likewise with u = clip(x, 0, 1); an input as current adds ``M^1 x`` to the bias. The encoder takes the
lambda of the next tick, with which its spike is decoded; the authors' code takes that of its own tick.
"""

from dataclasses import dataclass, field

import numpy as np


def constant(value):
    return lambda t: value


def decaying(start, power):
    return lambda t: start / t**power


@dataclass
class Optimal:
    """George & Powell's step size of one unit, tick by tick (O'Connor et al.'s code)."""

    target: float
    theta: float = 0.0
    nu: float = 1.0
    bias: float = 0.0
    variance: float = 0.0
    L: float = 0.0
    first: bool = True

    def size(self, x):
        e = x - self.theta
        self.nu = self.nu / (1 + self.nu - self.target)
        self.bias = (1 - self.nu) * self.bias + self.nu * e
        self.variance = (1 - self.nu) * self.variance + self.nu * e**2
        sigma2 = (self.variance - self.bias**2) / (1 + self.L)
        alpha = 1.0 if self.first else 1 - (sigma2 + 1e-15) / (self.variance + 1e-15)
        self.L = (1 - alpha) ** 2 * self.L + alpha**2
        self.theta = (1 - alpha) * self.theta + alpha * x
        self.first = False
        return alpha


@dataclass
class Unit:
    """What a unit that spikes carries from tick to tick."""

    u: float = 0.0
    s: float = 0.0
    phi: float = 0.0
    r: float = 0.0
    q: float = 0.0
    osa: Optimal | None = None

    def encode(self, lam):
        self.phi += (self.u - (1 - lam) * self.s) / lam
        self.s = self.u
        self.q = 1.0 if self.phi > 1 / 2 else 0.0
        self.phi -= self.q


@dataclass
class SpikingChain:
    """``matrices[n - 1]`` and ``biases[n - 1]`` are of layer n; ``lam`` is a function of the tick, ``eps`` too or OSA's target."""

    matrices: list
    biases: list
    eps: object
    lam: object
    x: np.ndarray
    spiking_input: bool = True
    units: list = field(default_factory=list)
    tick: int = 0

    def __post_init__(self):
        osa = (lambda: Optimal(self.eps)) if isinstance(self.eps, float) else (lambda: None)
        x = np.clip(self.x, 0, 1)
        self.units = [[Unit(u=value) for value in x], *([Unit(osa=osa()) for _ in b] for b in self.biases)]

    def spikes(self, n):
        return np.array([unit.q for unit in self.units[n]])

    def potentials(self, n):
        return np.array([unit.u for unit in self.units[n]])

    def step(self, beta=0.0, y=None):
        self.tick += 1
        lam, sent = self.lam(self.tick), [self.spikes(n) for n in range(len(self.units))]
        for n in range(1, len(self.units)):
            still = self.biases[n - 1]
            received = np.zeros(len(still))
            if n > 1 or self.spiking_input:
                received = received + self.matrices[n - 1] @ sent[n - 1]
            else:
                still = still + self.matrices[0] @ self.potentials(0)
            if n < len(self.matrices):
                received = received + self.matrices[n].T @ sent[n + 1]
            for i, unit in enumerate(self.units[n]):
                unit.r = (1 - lam) * unit.r + lam * received[i]
                p = unit.r + still[i]
                if beta and n == len(self.matrices):
                    p += beta * (y[i] - unit.u)
                eps = unit.osa.size(p) if unit.osa else self.eps(self.tick)
                unit.u = min(max((1 - eps) * unit.u + eps * p, 0.0), 1.0)
        for layer in self.units[0 if self.spiking_input else 1 :]:
            for unit in layer:
                unit.encode(self.lam(self.tick + 1))

    def phase(self, steps, beta=0.0, y=None):
        """After each tick ``{name: one array a population}``; of spikes and residuals the input's first, if it spikes."""
        seen = []
        for _ in range(steps):
            self.step(beta, y)
            of = {
                name: [np.array([getattr(u, name) for u in layer]) for layer in self.units]
                for name in ("u", "phi", "r", "q")
            }
            first = 0 if self.spiking_input else 1
            seen.append({"u": of["u"][1:], "r": of["r"][1:], "q": of["q"][first:], "phi": of["phi"][first:]})
        return seen


def pooled_convolution(weight, bias, shape, size):
    """``(M, b)`` of a convolution without padding and the mean over windows of ``size`` x ``size``; odd rests left out."""
    out_channels, in_channels, k, _ = weight.shape
    _, height, width = shape
    rows, columns = (height - k + 1) // size, (width - k + 1) // size
    matrix = np.zeros((out_channels, rows, columns, in_channels, height, width))
    for c, i, j, d in np.ndindex(out_channels, rows, columns, in_channels):
        for m, n in np.ndindex(size, size):
            top, left = i * size + m, j * size + n
            matrix[c, i, j, d, top : top + k, left : left + k] += weight[c, d] / size**2
    return matrix.reshape(out_channels * rows * columns, -1), np.repeat(bias, rows * columns)

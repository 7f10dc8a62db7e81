"""The toy network of Ernoult et al. (2019), figure 2, as a plain NumPy loop; populations are numbered as there.

The input x feeds the hidden population s1 and the output s0; s1 and s0 feed each other. With rho = tanh,

    ds0/dt = -s0 + rho'(s0) (W01 rho(s1) + b01 + W0x rho(x) + b0x) + beta (y - s0)
    ds1/dt = -s1 + rho'(s1) (W1x rho(x) + b1x + W01^T rho(s0)).
"""

from dataclasses import dataclass

import numpy as np


def slope(s):
    return 1 - np.tanh(s) ** 2


@dataclass(frozen=True)
class ToyNet:
    w1x: np.ndarray
    b1x: np.ndarray
    w0x: np.ndarray
    b0x: np.ndarray
    w01: np.ndarray
    b01: np.ndarray

    def trajectory(self, x, y, s1, s0, steps, dt, beta):
        """Pairs (s1, s0) at the times 0 to ``steps``."""
        states = [(s1, s0)]
        for _ in range(steps):
            u0 = self.w01 @ np.tanh(s1) + self.b01 + self.w0x @ np.tanh(x) + self.b0x
            u1 = self.w1x @ np.tanh(x) + self.b1x + self.w01.T @ np.tanh(s0)
            ds0 = -s0 + slope(s0) * u0 + beta * (y - s0)
            ds1 = -s1 + slope(s1) * u1
            s0, s1 = s0 + dt * ds0, s1 + dt * ds1
            states.append((s1, s0))
        return states

    def phi_slopes(self, x, s1, s0):
        """dPhi/dtheta of w1x, b1x, w0x, b0x, w01, b01."""
        rx, r1, r0 = np.tanh(x), np.tanh(s1), np.tanh(s0)
        return [np.outer(r1, rx), r1, np.outer(r0, rx), r0, np.outer(r0, r1), r0]

    def gradients(self, x, y, free_steps, nudged_steps, dt, beta):
        """One-sided EP estimates for one sample."""
        zero = np.zeros(len(self.b1x)), np.zeros(len(self.b0x))
        free = self.trajectory(x, y, *zero, free_steps, dt, 0.0)[-1]
        nudged = self.trajectory(x, y, *free, nudged_steps, dt, beta)[-1]
        pairs = zip(self.phi_slopes(x, *free), self.phi_slopes(x, *nudged), strict=True)
        return [(at_rest - pulled) / beta for at_rest, pulled in pairs]

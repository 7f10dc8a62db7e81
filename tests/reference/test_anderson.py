"""Anderson acceleration against a plain NumPy loop, one sample at a time, least squares by QR; and on linear maps against GMRES."""

import numpy as np
import pytest
import torch

import eqprop as ep
from closed_form.linear import case


def anderson(step, start, window, growth, steps):
    """The pairs ``(z, F(z))`` of one sample and the kind of each step, transcribed from the module docstring."""
    z, g = start, step(start)
    pairs, kinds, history = [(z, g)], ["plain"], []
    for _ in range(steps - 1):
        f = g - z
        if history:
            df, dg = (np.stack(columns, 1) for columns in zip(*history, strict=True))
            point, kind = g - dg @ np.linalg.lstsq(df, f, rcond=None)[0], "mixed"
        else:
            point, kind = g, "plain"
        led = step(point)
        if kind == "mixed" and not np.linalg.norm(led - point) <= growth * np.linalg.norm(f):
            history, kind = [], "rejected"
        else:
            history = [*history, (led - point - f, led - g)][-window:]
            z, g = point, led
        pairs.append((z, g))
        kinds.append(kind)
    return pairs, kinds


def wavy(seed, units=6, scale=1.6):
    """A map that is neither a contraction nor monotone, for NumPy and for torch."""
    draw = np.random.default_rng(seed)
    weight, bias = scale * draw.standard_normal((units, units)) / units**0.5, draw.standard_normal(units)
    w, b = torch.tensor(weight), torch.tensor(bias)

    def together(parts):
        return torch.tanh(torch.cat(parts, 1) @ w.T + b).split([2, units - 2], 1)

    return (lambda s: np.tanh(weight @ s + bias)), together, draw.standard_normal((4, units))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("window", "growth"), [(1, 1.0), (2, 1.0), (2, 0.5), (3, 2.0)])
def test_every_step_is_that_of_a_plain_loop(window, growth, seed):
    alone, together, start = wavy(seed)
    path = ep.Anderson(window, growth).iterate(together, tuple(torch.tensor(start).split([2, 4], 1)))
    ours = [[torch.cat(units, 1).numpy() for units in next(path)] for _ in range(16)]
    seen = set()
    for i, first in enumerate(start):
        pairs, kinds = anderson(alone, first, window, growth, 16)
        seen |= set(kinds)
        for mine, theirs in zip(ours, pairs, strict=True):
            np.testing.assert_allclose(mine[0][i], theirs[0], rtol=0, atol=1e-6)
            np.testing.assert_allclose(mine[1][i], theirs[1], rtol=0, atol=1e-6)
    assert {"plain", "mixed"} <= seen


def test_some_points_of_these_are_rejected():
    kinds = [anderson(*(wavy(seed)[0], wavy(seed)[2][i]), 2, 0.5, 16)[1] for seed in range(4) for i in range(4)]
    assert 10 < sum(kind.count("rejected") for kind in kinds) < 100


def krylov(matrix, residual, k):
    """An orthonormal basis of the first k powers, and the rank that they reach."""
    basis = np.zeros((len(residual), 0))
    for _ in range(k):
        new = residual if not basis.size else matrix @ basis[:, -1]
        for _ in range(2):
            new = new - basis @ (basis.T @ new)
        if np.linalg.norm(new) < 1e-9 * np.linalg.norm(residual):
            break
        basis = np.column_stack([basis, new / np.linalg.norm(new)])
    return basis


@pytest.mark.parametrize("dynamics", [ep.Prototypical(), ep.EnergyDescent(dt=0.5, clamp=False)], ids=["steps", "euler"])
@pytest.mark.parametrize("graph", ["chain", "short", "skip", "lateral"])
def test_on_a_linear_network_it_is_gmres(graph, dynamics):
    """Step t ends in F(F(x)), x the iterate of GMRES after t - 2 steps; exact when the Krylov space is exhausted."""
    model, linear, x, _ = case(graph, dynamics)
    dt, n = getattr(dynamics, "dt", 1.0), linear.units
    move = np.eye(n) + dt * (linear.matrix() - np.eye(n))
    ours = ep.relax(model, torch.tensor(x), ep.Settle(n + 3, accelerate=ep.Anderson(n, growth=100.0)), trajectory=True)
    for i, sample in enumerate(x):
        shift = dt * linear.drive(sample)
        grade = krylov(move, shift, n).shape[1]
        for t in range(2, n + 4):
            basis = krylov(move, shift, t - 2)  # the phase starts from 0, whose residual is the shift
            best = basis @ np.linalg.lstsq((move - np.eye(n)) @ basis, -shift, rcond=None)[0] if t > 2 else np.zeros(n)
            theirs = move @ (move @ best + shift) + shift
            mine = torch.cat([s[i] for s in ours.trajectory[t]]).numpy()
            np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-7)
            if t >= grade + 2:
                np.testing.assert_allclose(mine, linear.free(sample), rtol=0, atol=1e-8)

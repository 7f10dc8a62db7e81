"""P-conv of Ernoult et al. (2019), appendix, as plain NumPy loops over pixels, one sample at a time."""

import numpy as np
import pytest
import torch

import eqprop as ep

BETA, T, K = 0.3, 4, 3


def correlate(image, kernel, bias):
    """``(C_in, H, W) -> (C_out, H - k + 1, W - k + 1)``."""
    c_out, _, k, _ = kernel.shape
    height, width = image.shape[1] - k + 1, image.shape[2] - k + 1
    z = np.zeros((c_out, height, width))
    for c in range(c_out):
        for i in range(height):
            for j in range(width):
                z[c, i, j] = np.sum(kernel[c] * image[:, i : i + k, j : j + k]) + bias[c]
    return z


def max_pool(z):
    """Return the maxima of 2 x 2 windows and their positions."""
    height, width = z.shape[1] // 2, z.shape[2] // 2
    pooled, where = np.zeros((len(z), height, width)), {}
    for c in range(len(z)):
        for i in range(height):
            for j in range(width):
                window = z[c, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
                a, b = np.unravel_index(window.argmax(), (2, 2))
                pooled[c, i, j], where[c, i, j] = window[a, b], (2 * i + a, 2 * j + b)
    return pooled, where


def unpool(s, where, shape):
    q = np.zeros(shape)
    for (c, i, j), (a, b) in where.items():
        q[c, a, b] = s[c, i, j]
    return q


def transposed(q, kernel, shape):
    """The adjoint of `correlate`."""
    image, k = np.zeros(shape), kernel.shape[-1]
    for c in range(len(q)):
        for i in range(q.shape[1]):
            for j in range(q.shape[2]):
                image[:, i : i + k, j : j + k] += q[c, i, j] * kernel[c]
    return image


def step(x, s, theta, force):
    """Update all populations from the old state, with the pool indices of the old state."""
    (w1, b1), (w2, b2), (w3, b3) = theta
    s1, s2, s3 = s
    u1, _ = max_pool(correlate(x, w1, b1))
    z2 = correlate(s1, w2, b2)
    u2, where = max_pool(z2)
    u1 = u1 + transposed(unpool(s2, where, z2.shape), w2, s1.shape)
    u2 = u2 + (w3.T @ s3).reshape(s2.shape)
    u3 = w3 @ s2.ravel() + b3
    return [np.clip(u1, 0, 1), np.clip(u2, 0, 1), np.clip(u3, 0, 1) + force(s3)]


def slopes(x, s, theta):
    """Return ``dPhi/dtheta``."""
    (w1, b1), (w2, b2), _ = theta
    found = []
    for pre, post, w, b in ((x, s[0], w1, b1), (s[0], s[1], w2, b2)):
        z = correlate(pre, w, b)
        q = unpool(post, max_pool(z)[1], z.shape)
        k, grad = w.shape[-1], np.zeros_like(w)
        for c in range(len(q)):
            for i in range(q.shape[1]):
                for j in range(q.shape[2]):
                    grad[c] += q[c, i, j] * pre[:, i : i + k, j : j + k]
        found += [grad, q.sum((1, 2))]
    return [*found, np.outer(s[2], s[1].ravel()), s[2]]


@pytest.fixture(scope="module")
def case():
    torch.manual_seed(4)
    model = ep.convnet((1, 12, 13), (2, 3), kernel_size=(3, 2), dense=(4,), gain=1.5, settle=T).double()
    theta = [[p.detach().numpy() for p in c.parameters()] for c in model.network.connections]
    x, y = torch.rand(3, 1, 12, 13, dtype=torch.double), torch.tensor([2, 0, 3])
    return model, theta, x, y


def test_states_equal_the_loops(case):
    model, theta, x, y = case
    free = ep.relax(model, x, T, trajectory=True)
    nudged = ep.relax(model, x, K, y, BETA, state=free.state, trajectory=True)
    for n in range(len(x)):
        target, s = np.eye(4)[y[n]], [np.zeros(p.shape) for p in model.network.relaxing]
        for phase, steps, beta in ((free, T, 0.0), (nudged, K, BETA)):
            for t in range(1, steps + 1):
                s = step(x[n].numpy(), s, theta, lambda out, beta=beta, target=target: beta * (target - out))
                for ours, theirs in zip(phase.trajectory[t], s, strict=True):
                    np.testing.assert_allclose(ours[n].numpy(), theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("nudging", ["one-sided", "centred"])
def test_the_gradient_equals_the_loops(case, nudging):
    model, theta, x, y = case
    model.zero_grad()
    for loss in ep.EquilibriumProp(T, K, BETA, nudging)(model, x, y):
        loss.backward()
    sums = [np.zeros(p.shape) for p in model.parameters()]
    for n in range(len(x)):
        target, free = np.eye(4)[y[n]], [np.zeros(p.shape) for p in model.network.relaxing]
        for _ in range(T):
            free = step(x[n].numpy(), free, theta, lambda out: 0 * out)
        ends = {0.0: free}
        for beta in (BETA, -BETA):
            s = free
            for _ in range(K):
                s = step(x[n].numpy(), s, theta, lambda out, beta=beta, target=target: beta * (target - out))
            ends[beta] = s
        a, norm = (free, BETA) if nudging == "one-sided" else (ends[-BETA], 2 * BETA)
        pairs = zip(slopes(x[n].numpy(), a, theta), slopes(x[n].numpy(), ends[BETA], theta), strict=True)
        sums = [total + (first - second) / (norm * len(x)) for total, (first, second) in zip(sums, pairs, strict=True)]
    for p, total in zip(model.parameters(), sums, strict=True):
        assert p.grad is not None
        np.testing.assert_allclose(p.grad.numpy(), total, rtol=1e-9, atol=1e-12)

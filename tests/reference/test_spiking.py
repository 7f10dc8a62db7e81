"""`ep.Spiking` tick by tick against the loop: potentials, traces, spikes and residuals of every unit of every sample."""

from copy import deepcopy

import numpy as np
import pytest

import eqprop as ep
from eqprop.spiking import OSA, Decay
from reference.bridge import close, filled, gradients, tensor
from reference.spiking_loop import SpikingChain, constant, decaying, pooled_convolution

T, K, BETA = 60, 15, 0.5
EPS = {
    "constant": (0.5, constant(0.5)),
    "decaying": (Decay(0.775, 0.313), decaying(0.775, 0.313)),
    "osa": (OSA(0.0346), 0.0346),
}
LAM = {"constant": (0.2, constant(0.2)), "decaying": (Decay(1.0, 0.75), decaying(1.0, 0.75))}
SIZES = [("constant", "constant"), ("constant", "decaying"), ("decaying", "decaying"), ("osa", "constant")]


def dense(sizes, dynamics):
    model = filled(ep.mlp(sizes, dynamics=dynamics), seed=3)
    layers = model.network.connections
    return model, [c.weight.detach().numpy() for c in layers], [c.bias.detach().numpy() for c in layers]


def image(dynamics):
    """A convolution whose image of 5 x 4 has an odd side, pooled to 2 x 2, and a dense layer."""
    spec = ep.ConvNet((1, 7, 6), (2,), kernel_size=3, pool="avg", dense=(3,), dynamics=dynamics)
    model = filled(spec.build(), seed=4)
    conv, head = model.network.connections
    matrix, bias = pooled_convolution(conv.weight.detach().numpy(), conv.bias.detach().numpy(), (1, 7, 6), 2)
    return model, [matrix, head.weight.detach().numpy()], [bias, head.bias.detach().numpy()]


NETWORKS = {
    "4-5-3": lambda dynamics: dense([4, 5, 3], dynamics),
    "4-5-4-3": lambda dynamics: dense([4, 5, 4, 3], dynamics),
    "image": image,
}


def case(network, eps, lam, sent):
    model, matrices, biases = NETWORKS[network](ep.Spiking(EPS[eps][0], LAM[lam][0], input=sent))
    draw = np.random.default_rng(7)
    x = draw.uniform(-0.2, 1.2, (3, *model.network.populations[0].shape))  # beyond [0, 1] too: it is clipped
    loops = [SpikingChain(matrices, biases, EPS[eps][1], LAM[lam][1], one.ravel(), sent == "spikes") for one in x]
    return model, x, draw.uniform(0, 1, (3, matrices[-1].shape[0])), loops


def check(found, loops, static):
    """The library keeps the bias, and an input that does not spike, within the trace."""
    for b, seen in enumerate(loops):
        assert len(found) == len(seen)
        for state, expected in zip(found, seen, strict=True):
            for ours, name in ((state.potential, "u"), (state.coder, "phi")):
                close([t[b].numpy().ravel() for t in ours], expected[name])
            close(
                [(r - c)[b].numpy().ravel() for r, c in zip(state.trace, static, strict=True)],
                expected["r"],
                atol=1e-11,
            )
            for ours, theirs in zip(state.spike, expected["q"], strict=True):
                np.testing.assert_array_equal(ours[b].numpy().ravel(), theirs)


@pytest.mark.filterwarnings("ignore:`x` has values that .* dynamics clip")
@pytest.mark.parametrize("sent", ["spikes", "current"])
@pytest.mark.parametrize(("eps", "lam"), SIZES)
@pytest.mark.parametrize("network", NETWORKS)
def test_free_and_nudged_trajectories(network, eps, lam, sent):
    model, x, y, loops = case(network, eps, lam, sent)
    still = [c.detach() for c in model.dynamics.prepare(model.network, tensor(x)).constant]
    free = ep.relax(model, tensor(x), T, trajectory=True)
    check(free.trajectory[1:], [loop.phase(T) for loop in loops], still)
    assert [s.tick for s in free.trajectory] == list(range(T + 1))
    for beta in (BETA, -BETA):
        nudged = ep.relax(model, tensor(x), K, tensor(y), beta, state=free.state, trajectory=True)
        expected = [deepcopy(loop).phase(K, beta, target) for loop, target in zip(loops, y, strict=True)]
        check(nudged.trajectory[1:], expected, still)


@pytest.mark.filterwarnings("ignore:`x` has values that .* dynamics clip")
@pytest.mark.parametrize("sent", ["spikes", "current"])
@pytest.mark.parametrize("network", ["4-5-4-3", "image"])
def test_the_estimate_takes_mean_potentials_and_the_input_itself(network, sent):
    """``dL/dM ~ (u- u-^T - u+ u+^T) / 2 beta``, u the mean over the last M ticks of each nudged phase, the input exact."""
    model, x, y, loops = case(network, "constant", "constant", sent)
    late = 6
    for loop in loops:
        loop.phase(T)

    def mean(loop, beta, target):
        seen = deepcopy(loop).phase(K, beta, target)[-late:]
        return [loop.potentials(0), *(np.mean([s["u"][n] for s in seen], axis=0) for n in range(len(loop.matrices)))]

    ends = [(mean(loop, -BETA, t), mean(loop, BETA, t)) for loop, t in zip(loops, y, strict=True)]
    expected = []
    for n in range(1, len(loops[0].units)):
        moved = [np.outer(a[n], a[n - 1]) - np.outer(b[n], b[n - 1]) for a, b in ends]
        expected += [np.mean(moved, 0) / (2 * BETA), np.mean([a[n] - b[n] for a, b in ends], 0) / (2 * BETA)]
    if network == "image":  # the gradient of the kernel is that of the matrix, which is linear in it
        kernel, bias = (p.detach().numpy() for p in model.network.connections[0].parameters())
        probes = np.eye(kernel.size).reshape(kernel.size, *kernel.shape)
        images = [pooled_convolution(probe, bias, (1, 7, 6), 2)[0] for probe in probes]
        expected[0] = np.array([(m * expected[0]).sum() for m in images]).reshape(kernel.shape)
        expected[1] = expected[1].reshape(len(bias), -1).sum(1)
    estimator = ep.EquilibriumProp(T, ep.Settle(K, average=late), BETA, "centred")
    value, found = gradients(estimator, model, x, y)
    close(found, expected, rtol=1e-9, atol=1e-12)
    outs = np.array([loop.potentials(len(loop.matrices)) for loop in loops])
    assert value == pytest.approx(0.5 * ((outs - y) ** 2).sum(1).mean(), rel=1e-10)

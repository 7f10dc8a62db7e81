"""Linear networks: phases, EP at a finite beta, BPTT and implicit differentiation against the solved linear systems."""

import numpy as np
import pytest

import eqprop as ep
from closed_form.linear import GRAPHS, case, mean
from reference.bridge import close, gradients, tensor

DT = 0.8
DYNAMICS = {
    "inside": ep.Prototypical(nudge="inside"),
    "outside": ep.Prototypical(nudge="outside"),  # the same as inside, for rho is the identity
    "energy": ep.EnergyDescent(dt=DT, clamp=False),
    "bare": ep.EnergyDescent(dt=DT, clamp=False, output_derivative=False),  # rho' is 1 anyway
}
LONG, BETA = 180, 0.3  # the influence of the start is at most (1 - dt (1/2 - |beta|))^180, below 1e-13

every_graph = pytest.mark.parametrize("graph", GRAPHS)
every_dynamics = pytest.mark.parametrize("name", DYNAMICS)


def stacked(state):
    return np.concatenate([s.numpy() for s in state], axis=1)


def near(found, expected):
    close(found, expected, rtol=1e-9, atol=1e-11)


@every_graph
def test_the_implicit_function_theorem_agrees_with_finite_differences(graph):
    _, net, xs, ys = case(graph, DYNAMICS["inside"])
    x, y, small = xs[0], ys[0], 1e-6
    arrays = [array for _, _, *pair in net.edges for array in pair]
    for array, slope in zip(arrays, net.gradients(x, y), strict=True):
        for index in np.ndindex(array.shape):
            kept = array[index]
            array[index] = kept + small
            above = net.loss(x, y)
            array[index] = kept - small
            below = net.loss(x, y)
            array[index] = kept
            assert slope[index] == pytest.approx((above - below) / (2 * small), rel=1e-6, abs=1e-8)


@every_graph
@every_dynamics
def test_steady_states(graph, name):
    model, net, x, y = case(graph, DYNAMICS[name])
    free = ep.relax(model, tensor(x), LONG)
    near(stacked(free.state), np.array([net.free(one) for one in x]))
    assert free.residual.max() < 1e-13
    for beta in (BETA, -BETA):
        nudged = ep.relax(model, tensor(x), LONG, tensor(y), beta, state=free.state)
        near(stacked(nudged.state), np.array([net.nudged(one, t, beta) for one, t in zip(x, y, strict=True)]))


@every_graph
@every_dynamics
@pytest.mark.parametrize("beta", [BETA, -BETA, 0.05])
def test_one_sided_at_a_finite_beta(graph, name, beta):
    model, net, x, y = case(graph, DYNAMICS[name])
    value, found = gradients(ep.EquilibriumProp(LONG, LONG, beta), model, x, y)
    near(found, mean([net.ep(one, t, beta) for one, t in zip(x, y, strict=True)]))
    assert value == pytest.approx(np.mean([net.loss(one, t) for one, t in zip(x, y, strict=True)]), rel=1e-11)


@every_graph
@every_dynamics
def test_centred_at_a_finite_beta(graph, name):
    model, net, x, y = case(graph, DYNAMICS[name])
    _, found = gradients(ep.EquilibriumProp(LONG, LONG, BETA, "centred"), model, x, y)
    near(found, mean([net.centred(one, t, BETA) for one, t in zip(x, y, strict=True)]))


@every_graph
@every_dynamics
@pytest.mark.parametrize("estimator", [ep.BPTT(LONG), ep.ImplicitDiff(LONG)], ids=["bptt", "implicit"])
def test_exact_gradients(graph, name, estimator):
    model, net, x, y = case(graph, DYNAMICS[name])
    value, found = gradients(estimator, model, x, y)
    near(found, mean([net.gradients(one, t) for one, t in zip(x, y, strict=True)]))
    assert value == pytest.approx(np.mean([net.loss(one, t) for one, t in zip(x, y, strict=True)]), rel=1e-11)


def truncated(net, x, y, dt, steps):
    """K steps at the steady state: lambda = dt sum_{k<K} (M^T)^k dL/ds for the step s <- M s + dt d, M = (1 - dt) I + dt A."""
    s = net.free(x)
    step = (1 - dt) * np.eye(net.units) + dt * net.matrix()
    back, total = net.at_output(s[net.output] - y), np.zeros(net.units)
    for _ in range(steps):
        total, back = total + dt * back, step.T @ back
    return net.chained(x, s, total)


@every_graph
@pytest.mark.parametrize(("name", "dt"), [("inside", 1.0), ("energy", DT)])
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_truncated_gradients(graph, name, dt, steps):
    model, net, x, y = case(graph, DYNAMICS[name])
    expected = mean([truncated(net, one, t, dt, steps) for one, t in zip(x, y, strict=True)])
    near(gradients(ep.BPTT(LONG, steps), model, x, y)[1], expected)
    if steps > 1:  # k iterations of the adjoint are BPTT over k + 1 steps
        near(gradients(ep.ImplicitDiff(LONG, steps - 1), model, x, y)[1], expected)


def unrolled(net, x, y, dt, free, steps):
    """From zero, not settled: step t was taken from s_{t-1} and its slope is lambda_t = dt (M^T)^{T-t} dL/ds_T."""
    step, states = (1 - dt) * np.eye(net.units) + dt * net.matrix(), [np.zeros(net.units)]
    for _ in range(free):
        states.append(step @ states[-1] + dt * net.drive(x))
    back, parts = net.at_output(states[-1][net.output] - y), []
    for before in states[-2 : -2 - steps : -1]:
        parts.append(net.chained(x, before, dt * back))
        back = step.T @ back
    return [sum(slopes) for slopes in zip(*parts, strict=True)]


@every_graph
@pytest.mark.parametrize(("name", "dt"), [("inside", 1.0), ("energy", DT)])
@pytest.mark.parametrize(("free", "steps"), [(1, 1), (6, 1), (6, 3), (6, 6)])
def test_bptt_before_the_steady_state(graph, name, dt, free, steps):
    model, net, x, y = case(graph, DYNAMICS[name])
    seen = []
    _, found = gradients(ep.BPTT(free, steps), model, x, y, on_free_phase=seen.append)
    near(found, mean([unrolled(net, one, t, dt, free, steps) for one, t in zip(x, y, strict=True)]))
    assert [solution.steps for solution in seen] == [free]


@every_dynamics
def test_a_batch_is_the_mean_of_its_samples(name):
    model, _, x, y = case("chain", DYNAMICS[name])
    for estimator in (ep.EquilibriumProp(30, 9, BETA, "centred"), ep.BPTT(30, 9), ep.ImplicitDiff(30)):
        alone = [gradients(estimator, model, x[[b]], y[[b]])[1] for b in range(len(x))]
        close(gradients(estimator, model, x, y)[1], mean(alone))

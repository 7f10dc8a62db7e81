"""Gradients at the steady states of asynchronous sweeps: EP, implicit differentiation and BPTT through sweeps agree."""

import pytest
import torch

import eqprop as ep
import zoo

INSIDE = ep.Prototypical(nudge="inside")
NAMES = [
    "one-layer",
    "chain",
    "sigmoid-chain",
    "deep-chain",
    "input-skip",
    "skip",
    "downward",
    "own-connection",
    "images",
]


def sweeps(steps, **options):
    return ep.Settle(steps, schedule=ep.Asynchronous(), **options)


LONG = sweeps(2000, tol=1e-15, check_every=50)


@pytest.mark.parametrize("cost", ["squared", "readout"])
@pytest.mark.parametrize("name", NAMES)
def test_the_estimate_is_the_implicit_gradient_to_its_order_in_beta(name, cost):
    model = zoo.model(name, INSIDE, cost)
    x, y = zoo.batch(model)
    implicit = zoo.gradient(model, ep.ImplicitDiff(LONG), x, y)
    for nudging, order in (("one-sided", 2), ("centred", 4)):
        estimates = (ep.EquilibriumProp(LONG, LONG, beta, nudging) for beta in (0.01, 0.005))
        far, near = (zoo.distance(zoo.gradient(model, estimate, x, y), implicit) for estimate in estimates)
        assert far < 0.1
        assert abs(far / near - order) < 0.1 * order


@pytest.mark.parametrize("name", NAMES)
def test_implicit_differentiation_of_a_sweep_is_that_of_a_step(name):
    model = zoo.model(name, ep.Prototypical())
    x, y = zoo.batch(model)
    steps = ep.Settle(4000, tol=1e-15, check_every=50)
    gradients = [
        zoo.gradient(model, e, x, y)
        for e in (ep.ImplicitDiff(steps), ep.ImplicitDiff(LONG), ep.ImplicitDiff(LONG, steps))
    ]
    for gradient in gradients[1:]:
        assert zoo.distance(gradient, gradients[0]) < 1e-10


@pytest.mark.parametrize("name", NAMES)
def test_bptt_through_sweeps_is_implicit_differentiation(name):
    model = zoo.model(name, ep.Prototypical())
    x, y = zoo.batch(model)
    implicit = zoo.gradient(model, ep.ImplicitDiff(LONG), x, y)
    assert zoo.distance(zoo.gradient(model, ep.BPTT(LONG, 120), x, y), implicit) < 1e-10
    four = ep.ImplicitDiff(sweeps(300), sweeps(4))  # what is unrolled are sweeps too: k iterations are k + 1 of them
    assert zoo.distance(zoo.gradient(model, four, x, y), zoo.gradient(model, ep.BPTT(sweeps(300), 5), x, y)) < 1e-10


@pytest.mark.parametrize("name", ["skip", "images"])
def test_bptt_through_few_sweeps_is_the_slope_of_the_cost(name):
    model = zoo.model(name, ep.Prototypical())
    x, y = zoo.batch(model)
    direction = [torch.randn_like(p) for p in model.parameters()]

    def cost(size):
        with torch.no_grad():
            for p, d in zip(model.parameters(), direction, strict=True):
                p.add_(d, alpha=size)
            out = ep.relax(model, x, sweeps(3)).state[-1]
            for p, d in zip(model.parameters(), direction, strict=True):
                p.sub_(d, alpha=size)
            return model.cost.value(out, model.cost.encode(y, out)).mean()

    slope = (cost(1e-5) - cost(-1e-5)) / 2e-5
    found = zoo.gradient(model, ep.BPTT(sweeps(3)), x, y) @ torch.cat([d.flatten() for d in direction])
    torch.testing.assert_close(found, slope, rtol=1e-7, atol=1e-10)


def test_where_synchronous_steps_alternate_sweeps_have_a_gradient():
    """Two units whose mutual weight exceeds their biases of opposite sign."""
    network = zoo.Graph((1, 1, 1), ("tanh", "tanh"), ((0, 1, ep.Dense), (1, 2, ep.Dense))).network().double()
    with torch.no_grad():
        for parameter, value in zip(network.parameters(), (0.1, 0.5, 1.5, -0.5), strict=True):
            parameter.fill_(value)
    model = ep.Model(network, INSIDE, ep.SquaredError())
    x, y = torch.rand(3, 1, dtype=torch.double), torch.rand(3, 1, dtype=torch.double)
    assert ep.relax(model, x, 3000).residual.min() > 0.5
    assert ep.relax(model, x, LONG).residual.max() < 1e-14
    implicit = zoo.gradient(model, ep.ImplicitDiff(LONG), x, y)
    assert zoo.distance(zoo.gradient(model, ep.EquilibriumProp(LONG, LONG, 1e-3, "centred"), x, y), implicit) < 1e-5
    assert zoo.distance(zoo.gradient(model, ep.BPTT(LONG, 200), x, y), implicit) < 1e-10


@pytest.mark.parametrize("nudging", ["one-sided", "centred", "random-sign"])
def test_equilibrium_with_sweeps(nudging):
    """With the cost's gradient as cotangent it is the estimator at the strength that the cotangent's size makes of beta."""
    model = zoo.model("skip", INSIDE)
    x, y = zoo.batch(model)
    target = model.cost.encode(y, zoo.state(model)[-1])
    block = ep.Equilibrium(model.network, INSIDE, LONG, LONG, 1e-4, nudging)
    model.zero_grad()
    model.cost.value(block(x), target).mean().backward()
    bridge = torch.cat([p.grad.flatten() for p in model.parameters()])
    assert zoo.distance(bridge, zoo.gradient(model, ep.ImplicitDiff(LONG), x, y)) < 1e-3


@pytest.mark.parametrize("estimator", [ep.ContinualEP, ep.ContinualSGD])
def test_continual_estimators_settle_freely_by_sweeps(estimator):
    """Their nudged steps stay synchronous: the estimate depends only on the free state."""
    model = zoo.model("deep-chain", INSIDE)
    x, y = zoo.batch(model)
    rates = {"rates": 0.0} if estimator is ep.ContinualSGD else {}
    seen = []
    swept = zoo.gradient(model, lambda *a: estimator(LONG, 6, 0.1, **rates)(*a, on_free_phase=seen.append), x, y)
    steps = zoo.gradient(model, estimator(ep.Settle(4000, tol=1e-15, check_every=50), 6, 0.1, **rates), x, y)
    assert zoo.distance(swept, steps) < 1e-9
    assert seen[0].steps < 100

"""What a nudged phase may not do without a word: alternate, diverge, jump, or start from a free phase that moves.

The scalar loop ``h <- a s, s <- a h + b (y - s)`` (identity activations, outside nudge) has the Jacobian ((0, a), (a, -b)), whose
eigenvalue below -1 appears where ``a^2 > 1 - b``. A linear response is bounded by the geometric series of its first and last step.
"""

import math
import warnings

import pytest
import torch

import eqprop as ep
from eqprop.estimators.response import FREE_MOVES, JUMPS, NUDGED_MOVES, ResponseMeans
from zoo import distance, gradient

JUMPED, ALTERNATES, MOVES = (text[:30] for text in (JUMPS, NUDGED_MOVES, FREE_MOVES))
T, K = 400, 200


def loop(gain: float, **options) -> ep.Model:
    """One hidden unit and one output in a loop of that gain; the input enters the hidden unit."""
    model = ep.mlp([1, 1, 1], activation="identity", **options).double()
    for parameter, value in zip(model.parameters(), (1.0, 0.0, gain, 0.0), strict=True):
        parameter.data.fill_(value)
    return model


X, Y = torch.ones(1, 1).double(), torch.full((1, 1), 0.3).double()


def response(model, estimator, x=X, y=Y) -> ResponseMeans:
    found = []
    list(estimator(model, x, y, on_nudged_phase=found.append))
    (one,) = found
    return one.means()


def warned(model, estimator, x=X, y=Y) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for loss in estimator(model, x, y):
            loss.backward()
    return [str(w.message)[:30] for w in caught]


@pytest.mark.parametrize("gain", [0.3, 0.6, 0.69, 0.72, 0.8])
@pytest.mark.parametrize("beta", [0.5, -0.5, 0.2])
def test_a_loop_is_unstable_where_its_gain_squared_exceeds_one_minus_beta(gain, beta):
    """Of the last two steps the later is larger where the phase diverges, smaller where it settles."""
    model = loop(gain)
    free = ep.relax(model, X, T).state
    one, two = (ep.relax(model, X, steps, Y, beta, state=free).residual.item() for steps in (K, K + 2))
    assert (two > one) == (gain**2 > 1 - abs(beta))


def test_a_diverging_nudged_phase_is_measured_and_warned_of():
    """The eigenvalue of the unstable mode is -(b + sqrt(b^2 + 4 a^2)) / 2; each step grows by its size."""
    model, beta = loop(0.8), 0.5
    rate = (beta + math.sqrt(beta**2 + 4 * 0.64)) / 2
    found = [response(model, ep.EquilibriumProp(T, steps, beta)).residual for steps in (100, 101)]
    assert found[1] / found[0] == pytest.approx(rate, rel=1e-6)
    assert warned(model, ep.EquilibriumProp(T, 100, beta)) == [ALTERNATES]
    swept = ep.EquilibriumProp(T, ep.Settle(100, schedule=ep.Asynchronous()), beta)
    assert response(model, swept).residual < 1e-12
    assert warned(model, swept) == []


@pytest.mark.parametrize("estimator", [ep.ContinualEP(T, 100, 0.5), ep.ContinualSGD(T, 100, 0.5, 0.0)])
def test_continual_rules_measure_their_last_step(estimator):
    """With weights that do not move, the phase is that of EP."""
    model = loop(0.8)
    own, other = response(model, estimator), response(model, ep.EquilibriumProp(T, 100, 0.5))
    assert (own.residual, own.distance, own.nudge) == pytest.approx((other.residual, other.distance, other.nudge))
    assert warned(model, estimator) == [ALTERNATES]


def test_the_layer_checks_its_phases():
    model = loop(0.8)
    block = ep.Equilibrium(model.network, ep.Prototypical(), T, 100, 0.5, "one-sided")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        block(X).sum().backward()  # the force is constant: no feedback
    block = ep.Equilibrium(loop(0.99).network, ep.Prototypical(), 20, 10, 0.001, "one-sided")
    with pytest.warns(RuntimeWarning, match=MOVES):
        block(X).sum().backward()


def test_a_response_by_hand():
    """One step from rest: the output moves by beta (y - s), nothing else moves."""
    model = loop(0.0)
    found = response(model, ep.EquilibriumProp(T, 1, 0.2, "centred"))
    assert (found.residual, found.distance, found.nudge) == pytest.approx((0.06, 0.06, 0.06))
    assert (found.free_residual, found.steps, found.units) == (0, 1, 2)


def kinked(clamp=False) -> tuple[ep.Model, torch.Tensor, torch.Tensor]:
    """A free state with units at the kink of relu6, which a nudge in one direction leaves for good."""
    torch.manual_seed(44)
    model = ep.mlp([2, 3, 2], activation="relu6", dynamics=ep.EnergyDescent(dt=0.2, clamp=clamp)).double()
    return model, torch.rand(1, 2).double(), torch.tensor([0])


@pytest.mark.parametrize("beta", [1e-2, 1e-3, 1e-4])
@pytest.mark.parametrize("phases", [(T, K), (50, 20), (30, 10)])
def test_a_jump_at_a_kink_is_said(phases, beta):
    model, x, y = kinked()
    estimator = ep.EquilibriumProp(*phases, beta, "centred")
    found = gradient(model, lambda *batch: estimator(*batch, on_nudged_phase=lambda _: None), x, y)
    assert distance(found, gradient(model, ep.BPTT(*phases), x, y)) > 10
    assert len(warned(model, estimator, x, y)) == 1
    assert warned(model, estimator, x, y)[0] in (JUMPED, MOVES)


def test_gdu_lists_a_jump():
    model, x, y = kinked()
    assert [a.name for a in ep.gdu(model, x, y, T, K, 1e-3, "centred").broken] == ["small response"]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("nudging", ["one-sided", "centred"])
@pytest.mark.parametrize("dynamics", [ep.EnergyDescent(dt=0.3, clamp=False), ep.Prototypical(nudge="inside")])
def test_smooth_networks_respond_within_the_bound(dynamics, nudging, seed):
    torch.manual_seed(seed)
    model = ep.mlp([4, 6, 3], activation="tanh", dynamics=dynamics).double()
    x, y = torch.rand(5, 4).double(), torch.tensor([0, 1, 2, 0, 1])
    for beta in (1e-4, 1e-2, 0.1):
        found = response(model, ep.EquilibriumProp(T, 40, beta, nudging), x, y)
        assert found.distance <= found.longest() * (1 + 2 * beta)
        assert found.problems() == []


def test_a_free_phase_that_moves_is_said():
    """The loop s <- .98^2 s moves by much more in a step than a nudge of 1e-3 does."""
    model = loop(0.98)
    assert warned(model, ep.EquilibriumProp(20, 10, 1e-3)) == [MOVES]
    assert warned(model, ep.EquilibriumProp(3000, 10, 1e-3)) == []


@pytest.mark.parametrize("dynamics", [ep.Spiking(), ep.Noisy(ep.Prototypical(nudge="inside"), 0.1)])
def test_states_that_never_rest_are_not_warned_of(dynamics):
    torch.manual_seed(0)
    model = ep.mlp([4, 6, 3], dynamics=dynamics)
    assert warned(model, ep.EquilibriumProp(20, 10, 1e-2), torch.rand(3, 4), torch.tensor([0, 1, 2])) == []


def test_measuring_changes_no_gradient():
    model, x, y = kinked()
    estimator, found = ep.EquilibriumProp(30, 10, 0.2, "centred"), []
    one = gradient(model, estimator, x, y)
    two = gradient(model, lambda *batch: estimator(*batch, on_nudged_phase=found.append), x, y)
    assert torch.equal(one, two)


STEEP = {
    "a steep output": lambda: _scaled(
        ep.mlp([10, 8, 3], activation=ep.Activation(torch.tanh, gain=8.0), dynamics=INSIDE), 0.03
    ),
    "outside, large weights": lambda: _scaled(ep.mlp([10, 8, 3], activation="sigmoid"), 1.0, last=8.0, bias=-2.0),
    "untied, large feedback": lambda: _scaled(
        ep.mlp([10, 8, 3], activation="sigmoid", tied=False, angle=90), 1.0, feedback=8.0
    ),
}
INSIDE = ep.Prototypical(nudge="inside")


def _scaled(model, every, last=1.0, bias=0.0, feedback=1.0):
    model = model.double()
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(every)
        upper = model.network.connections[1]
        getattr(upper, "upward", upper).weight.mul_(last)
        getattr(upper, "upward", upper).bias.add_(bias)
        if feedback != 1:
            upper.feedback.mul_(feedback)
    return model


@pytest.mark.parametrize("name", STEEP)
def test_correct_estimates_are_not_called_jumps(name):
    """Their gradients at two strengths agree, so that nothing jumped; warnings are errors here."""
    torch.manual_seed(4)
    model = STEEP[name]()
    x, y = torch.rand(6, 10).double(), torch.arange(6) % 3
    found = []
    for beta in (1e-3, 1e-5):
        (loss,) = ep.EquilibriumProp(300, 10, beta, "centred")(model, x, y)
        found.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))]))
    assert (found[0] - found[1]).norm() < 1e-3 * found[0].norm()


def test_a_batch_that_is_fitted_is_no_problem():
    """The nudge vanishes with the error, and so may not be compared with what rounding leaves of the free phase."""
    torch.manual_seed(0)
    model = ep.mlp([10, 32, 3], dynamics=ep.EnergyDescent(0.2))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    x, y = torch.rand(4, 10), torch.arange(4) % 3
    for _ in range(200):
        for loss in ep.EquilibriumProp(50, 10, 0.5)(model, x, y):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    assert loss.item() < 1e-3

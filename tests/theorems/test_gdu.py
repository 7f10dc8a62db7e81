"""Step by step, EP's increments are minus BPTT's gradients as beta -> 0 (Ernoult et al. 2019; float64).

At a steady state the difference is the second order of the nudged phase: proportional to beta, and to its square if centred.
"""

from itertools import pairwise

import pytest
import torch

import eqprop as ep
import zoo

K = 8
SETTLED = ep.Settle(5000, tol=1e-15, check_every=20)
NAMES = ["chain", "sigmoid-chain", "deep-chain", "input-skip", "skip", "lateral", "parallel", "own-connection"]
DYNAMICS = {"energy": ep.EnergyDescent(dt=0.4, clamp=False), "inside": ep.Prototypical(nudge="inside")}


def apart(processes):
    """Return the relative distance of all increments to minus all gradients, each in one vector."""
    ups, downs = zip(*((p.ep.flatten(), -p.bptt.flatten()) for p in processes), strict=True)
    return zoo.distance(torch.cat(ups), torch.cat(downs))


def errors(model, betas, nudging="one-sided"):
    """Return the errors of neurons and of parameters for each beta."""
    reports = [ep.gdu(model, *zoo.batch(model), SETTLED, K, beta, nudging) for beta in betas]
    assert reports[0].residual.max() < 1e-14
    return [(apart(r.neurons), apart(r.parameters.values())) for r in reports]


@pytest.mark.parametrize("cost", ["squared", "readout"])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dynamics", DYNAMICS)
def test_every_increment_is_minus_the_gradient_of_its_step(name, dynamics, cost):
    found = errors(zoo.model(name, DYNAMICS[dynamics], cost), (1e-3, 1e-4, 1e-5))
    for before, after in pairwise(found):
        assert after[0] == pytest.approx(before[0] / 10, rel=0.1)
        assert after[1] == pytest.approx(before[1] / 10, rel=0.1)
    assert max(found[-1]) < 1e-4


@pytest.mark.parametrize("name", ["chain", "skip", "own-connection"])
@pytest.mark.parametrize("dynamics", DYNAMICS)
def test_centred_increments_gain_an_order(name, dynamics):
    before, after = errors(zoo.model(name, DYNAMICS[dynamics], "readout"), (1e-1, 1e-2), "centred")
    assert after[0] == pytest.approx(before[0] / 100, rel=0.1)
    assert after[1] == pytest.approx(before[1] / 100, rel=0.1)


def test_both_signs_of_beta_have_the_same_error():
    found = errors(zoo.model("chain", DYNAMICS["energy"]), (1e-4, -1e-4))
    assert found[1] == pytest.approx(found[0], rel=0.01)


def test_the_toy_network_of_the_paper():
    """ep.md 2.9: 5e-5 to 8e-5 at beta = 1e-4, in proportion to beta from 1e-2 to 1e-5, every population and parameter."""
    model = ep.toy().double()
    x, y = torch.rand(1, 5, dtype=torch.double), torch.tensor([3])
    reports = [ep.gdu(model, x, y, 5000, 80, beta) for beta in (1e-2, 1e-3, 1e-4, 1e-5)]
    assert reports[0].residual.max() < 1e-14
    found = [report.relative_error() for report in reports]
    assert list(found[0]) == ["s1", "s2", *(name for name, _ in model.named_parameters())]
    for name in found[0]:
        for before, after in pairwise(found):
            assert after[name] == pytest.approx(before[name] / 10, rel=0.1)
        assert 1e-6 < found[2][name] <= 1e-4
    for report in reports:
        assert report.broken == []
        assert report.against == "dL/ds"
        assert min(report.cosine().values()) > 0.9999
        assert all(agreement.same > 0.99 for agreement in report.sign_agreement().values())
        assert report.angle() < 1


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dynamics", DYNAMICS)
@pytest.mark.parametrize("nudging", ["one-sided", "centred"])
def test_no_assumption_is_broken_where_the_theorem_holds(name, dynamics, nudging):
    model = zoo.model(name, DYNAMICS[dynamics])
    report = ep.gdu(model, *zoo.batch(model), SETTLED, K, 1e-3, nudging)
    assert [assumption.name for assumption in report.assumptions] == [
        "gradient dynamics",
        "steady state",
        "nudge",
        "precision",
    ]
    assert report.broken == []


@pytest.mark.parametrize("dynamics", DYNAMICS)
def test_equal_untied_weights_satisfy_the_theorem(dynamics):
    """At angle 0 the Jacobian is still symmetric, and the pairing gives the gradient of each direction separately."""
    torch.manual_seed(5)
    model = ep.mlp([4, 5, 4, 3], activation="tanh", tied=False, dynamics=DYNAMICS[dynamics]).double()
    before, after = errors(model, (1e-3, 1e-4))
    assert after[0] == pytest.approx(before[0] / 10, rel=0.1)
    assert after[1] == pytest.approx(before[1] / 10, rel=0.1)
    assert ep.gdu(model, *zoo.batch(model), SETTLED, K, 1e-4).broken == []


def test_an_inactive_clamp_satisfies_the_theorem():
    model = zoo.model("sigmoid-chain", ep.EnergyDescent(dt=0.4, clamp=True), scale=0.2)
    for connection in model.network.connections:
        connection.bias.data.fill_(0.5)
    state = ep.relax(model, zoo.batch(model)[0], SETTLED).state
    assert all(((s > 0.05) & (s < 0.95)).all() for s in state)
    before, after = errors(model, (1e-3, 1e-4))
    assert after == pytest.approx([e / 10 for e in before], rel=0.1)
    assert ep.gdu(model, *zoo.batch(model), SETTLED, K, 1e-4).broken == []


@pytest.mark.parametrize("name", ["chain", "lateral-output"])
def test_the_outside_nudge_error_does_not_vanish_with_beta(name):
    """It skips rho' of the output: the error does not vanish with beta."""
    first, last = errors(zoo.model(name, ep.Prototypical(), scale=0.8), (1e-3, 1e-6))
    assert min(last) > 1e-2
    assert last == pytest.approx(first, rel=0.05)


@pytest.mark.parametrize("beta", [1e-2, 1e-5])
def test_the_outside_nudge_of_one_layer_omits_the_output_derivative(beta):
    """s = tanh(u): Delta_b = y - s where nabla_b = -(1 - s^2) (y - s), a relative error of s^2 whatever beta is."""
    model = zoo.model("one-layer", ep.Prototypical(), scale=1.0)
    x, y = (part[:1] for part in zoo.batch(model))
    report = ep.gdu(model, x, y, 5, 1, beta)
    out = ep.relax(model, x, 5).state[0]
    assert report.relative_error()["network.connections.0.bias"] == pytest.approx(out.square().mean().item(), rel=1e-6)
    assert report.relative_error()["s1"] < 1e-9  # dC/ds itself


def test_the_outside_nudge_of_a_linear_output_is_exact_for_parameters():
    """rho' = 1: outside and inside are the same nudge."""
    model = zoo.model("linear-output", ep.Prototypical())
    before, after = errors(model, (1e-3, 1e-4))
    assert after[1] == pytest.approx(before[1] / 10, rel=0.1)
    assert after[1] < 1e-3
    report = ep.gdu(model, *zoo.batch(model), SETTLED, K, 1e-4)
    assert report.broken == []
    assert apart([report.neurons[-1]]) < 1e-3


def test_the_outside_nudge_of_a_linear_output_is_exact_for_neurons():
    before, after = errors(zoo.model("linear-output", ep.Prototypical()), (1e-3, 1e-4))
    assert after[0] == pytest.approx(before[0] / 10, rel=0.1)

"""Mismatch: the feedback deviates as specified, the learning rule ignores it, and at 0 nothing deviates."""

import math

import pytest
import torch

import eqprop as ep
import zoo
from eqprop.connections.base import Ends
from eqprop.connections.mismatched import Mismatched, forward_and_feedback

LONG = ep.Settle(4000, tol=1e-15, check_every=50)
ESTIMATORS = {
    "ep": ep.EquilibriumProp(9, 5, 0.3),
    "centred": ep.EquilibriumProp(9, 5, 0.3, "centred"),
    "continual": ep.ContinualEP(9, 5, 0.3),
    "sgd": ep.ContinualSGD(9, 5, 0.3, rates=0.02),
    "bptt": ep.BPTT(9, 5),
}


def spec(tied: bool, mismatch: float, **options) -> ep.MLP:
    return ep.MLP((4, 5, 4, 3), "tanh", dynamics=ep.Prototypical("inside"), tied=tied, mismatch=mismatch, **options)


def built(tied: bool, mismatch: float, seed: int = 4, **options) -> ep.Model:
    torch.manual_seed(seed)
    return spec(tied, mismatch, **options).build().double()


def written(kind: str) -> ep.Dense | ep.Untied:
    dense = ep.Dense(5, 4).double()
    return dense if kind == "tied" else ep.Untied(dense, angle=60)


def ends(seed: int) -> Ends:
    draw = torch.Generator().manual_seed(seed)
    pre, post = (torch.randn(3, n, generator=draw, dtype=torch.double) for n in (5, 4))
    return Ends(pre, post)


@pytest.mark.parametrize("kind", ["tied", "untied"])
def test_the_downward_current_uses_the_deviating_weights(kind):
    one = written(kind)
    connection = Mismatched(one, 0.3)
    pre, post = ends(1)
    back = one.weight if isinstance(one, ep.Dense) else one.feedback
    entries = [[back[i, j] * (1 + 0.3 * connection.deviation[i, j]) for j in range(5)] for i in range(4)]
    wanted = torch.stack([sum(post[:, i] * entries[i][j] for i in range(4)) for j in range(5)], 1)
    torch.testing.assert_close(connection.down(post), wanted)
    assert torch.equal(connection.up(pre), one.up(pre))
    assert not torch.allclose(wanted, one.down(post))


@pytest.mark.parametrize("kind", ["tied", "untied"])
def test_the_prepared_connection_adds_the_same_currents(kind):
    connection = Mismatched(written(kind), 0.3)
    pre, post = ends(2)
    u = [torch.zeros(0), torch.zeros_like(pre), torch.zeros_like(post)]
    connection.prepare(1, 2, [0.0, 2.0, 3.0]).add(u, [torch.zeros(0), pre, post])
    torch.testing.assert_close(u[1], 2 * connection.down(post))
    torch.testing.assert_close(u[2], 3 * (connection.up(pre) - connection.offset()))


@pytest.mark.parametrize("kind", ["tied", "untied"])
def test_the_contrast_ignores_the_deviation(kind):
    """At the same activities, the gradient is that without mismatch."""
    one = written(kind)
    states = [ends(seed) for seed in (1, 2, 3)]
    found = []
    for connection in (one, Mismatched(one, 0.5)):
        connection.zero_grad()
        connection.contrast(*states).backward()
        found.append([p.grad.clone() for p in one.parameters()])
    assert len(found[0]) == (2 if kind == "tied" else 3)
    assert all(map(torch.equal, *found))


def test_deviations_are_standard_normal():
    connection = Mismatched(ep.Dense(300, 200), 0.2)
    assert connection.deviation.mean().abs() < 5 / 60_000**0.5
    assert connection.deviation.std().item() == pytest.approx(1, rel=0.02)


@pytest.mark.parametrize("std", [0.1, 1.0])
def test_the_angle_between_forward_and_feedback_weights(std):
    forward, feedback = (w.detach() for w in forward_and_feedback(Mismatched(ep.Dense(300, 200), std)))
    cosine = (forward * feedback).sum() / forward.norm() / feedback.norm()
    assert math.acos(cosine) == pytest.approx(math.atan(std), rel=0.03)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_zero_mismatch_equals_the_stored_connection_exactly(estimator, tied):
    plain = built(tied, 0.0)
    edges = [(i, j, Mismatched(c, 0.0) if i else c) for i, j, c in plain.network.edges()]
    other = ep.Model(ep.Network(plain.network.populations, edges), plain.dynamics, plain.cost)
    x, y = zoo.batch(plain)
    wanted = zoo.gradient(plain, ESTIMATORS[estimator], x, y)
    found = zoo.gradient(other, ESTIMATORS[estimator], x, y)
    if estimator == "sgd":  # the plain connection is updated by fast weights, the mismatched one as in `ContinualEP`
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-14)
    else:
        assert torch.equal(found, wanted)


@pytest.mark.parametrize("tied", [True, False])
def test_continual_sgd_is_continual_ep(tied):
    rate, models = 0.02, [built(tied, 0.4) for _ in range(2)]
    x, y = zoo.batch(models[0])
    estimators = ep.ContinualEP(9, 5, 0.3, "centred"), ep.ContinualSGD(9, 5, 0.3, rate, "centred")
    for model, estimator in zip(models, estimators, strict=True):
        optimizer = torch.optim.SGD(model.parameters(), lr=rate)
        for loss in estimator(model, x, y):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    for a, b in zip(*(model.parameters() for model in models), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-13)


def test_the_distance_of_ep_to_bptt_is_proportional_to_the_mismatch():
    distances = []
    for std in (0.0, 0.02, 0.04):
        model = built(True, 0.0)
        with torch.no_grad():
            for p in model.parameters():
                p.mul_(0.6)
        torch.manual_seed(9)
        edges = [(i, j, Mismatched(c, std) if i else c) for i, j, c in model.network.edges()]
        model = ep.Model(ep.Network(model.network.populations, edges), model.dynamics, model.cost)
        x, y = zoo.batch(model)
        estimator = ep.EquilibriumProp(LONG, LONG, 1e-3, "centred")
        distances.append(
            zoo.distance(zoo.gradient(model, estimator, x, y), zoo.gradient(model, ep.BPTT(LONG, 250), x, y))
        )
    assert distances[0] < 1e-5
    assert distances[2] == pytest.approx(2 * distances[1], rel=0.1)


@pytest.mark.parametrize("tied", [True, False])
def test_the_initial_weights_do_not_depend_on_the_mismatch(tied):
    plain, deviating = (built(tied, std, cost=ep.CrossEntropyReadout(3, 3)) for std in (0.0, 0.4))
    pairs = list(zip(plain.parameters(), deviating.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in pairs)
    kinds = [type(c) for c in deviating.network.connections]
    assert kinds == [ep.Dense, Mismatched, Mismatched]  # no current flows into the input


def test_the_deviation_is_saved_with_the_weights():
    first, second = built(True, 0.4, seed=4), built(True, 0.4, seed=5)
    x, _ = zoo.batch(first)
    assert not torch.equal(first(x), second(x))
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(x), second(x))
    assert sum(name.endswith("deviation") for name in first.state_dict()) == 2


def test_the_energy_raises():
    model = built(True, 0.1)
    x, _ = zoo.batch(model)
    with pytest.raises(ValueError, match="mismatched weights have no primitive function Phi"):
        model.energy(zoo.state(model), x)


@pytest.mark.parametrize("std", [-0.1, float("inf"), "much"])
def test_invalid_deviations(std):
    for make in (lambda: Mismatched(ep.Dense(3, 2), std), lambda: ep.MLP((4, 3), mismatch=std)):
        with pytest.raises(ValueError, match=r"`(std|mismatch)` must be a finite number of at least 0, got"):
            make()


def test_unsupported_connections_raise():
    with pytest.raises(ValueError, match="`written` must be a Dense, a Conv2d or an Untied connection, got LowRank"):
        Mismatched(zoo.LowRank(3, 2), 0.1)
    with pytest.raises(ValueError, match="`written` must be a Dense, a Conv2d or an Untied connection, got Mismatched"):
        Mismatched(Mismatched(ep.Dense(3, 2), 0.1), 0.1)

"""Batched networks against the same networks one by one: gradients, and weights after 20 steps."""

import copy

import pytest
import torch

import eqprop as ep
from eqprop.connections.batched import BatchedConnection
from eqprop.models.batched import batch_models, unsupported_reason
from eqprop.models.model import relax
from zoo import model as of_zoo

N, B, STEPS = 3, 4, 20
SIZES = {"no hidden layer": (4, 3), "one": (4, 6, 3), "two": (4, 6, 5, 3)}
ESTIMATORS = {
    "one-sided": ep.EquilibriumProp(12, 5, 0.1),
    "centred": ep.EquilibriumProp(12, 5, 0.1, "centred"),
    "averaged": ep.EquilibriumProp(ep.Settle(12, average=3), 5, 0.1),
    "sweeps": ep.EquilibriumProp(ep.Settle(6, schedule=ep.Asynchronous()), 5, 0.1, "centred"),
    "bptt": ep.BPTT(12, 5),
    "bptt, whole": ep.BPTT(6),
    "implicit": ep.ImplicitDiff(12),
}
INSIDE = ep.Prototypical("inside")


def models(sizes=(4, 6, 3), dynamics=INSIDE, angle=None, n=N, **options) -> list[ep.Model]:
    """Return models with different weights."""
    found = []
    for seed in range(n):
        torch.manual_seed(seed)
        untied = {} if angle is None else {"tied": False, "angle": angle}
        found.append(ep.mlp(list(sizes), activation="sigmoid", dynamics=dynamics, **untied, **options).double())
    return found


def batches(steps=STEPS, n=N) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return ``(n, B, 4)`` inputs and ``(n, B)`` classes for each step."""
    draw = torch.Generator().manual_seed(5)
    return [
        (
            torch.rand(n, B, 4, generator=draw, dtype=torch.double),
            torch.randint(3, (n, B), generator=draw),
        )
        for _ in range(steps)
    ]


def descend(model, estimator, x, y, optimizers, times=1) -> None:
    for optimizer in optimizers:
        optimizer.zero_grad()
    for loss in estimator(model, x, y):
        (times * loss).backward()
    for optimizer in optimizers:
        optimizer.step()


def sgd(each, rate=0.5) -> list[torch.optim.Optimizer]:
    return [torch.optim.SGD(model.parameters(), lr=rate, momentum=0.5) for model in each]


def largest_difference(each, others) -> float:
    """Return the largest difference of any weight."""
    pairs = zip(each, others, strict=True)
    return max(
        (p - q).abs().max().item() for a, b in pairs for p, q in zip(a.parameters(), b.parameters(), strict=True)
    )


def train_separately_and_batched(each, estimator) -> tuple[list[ep.Model], list[ep.Model]]:
    """Return the models after 20 steps, trained one by one and as one batched model."""
    alone = copy.deepcopy(each)
    joint, together, apart = batch_models(each), sgd(each), sgd(alone)
    for x, y in batches():
        descend(joint, estimator, x.flatten(0, 1), y.flatten(), together, times=N)
        for model, optimizer, own_x, own_y in zip(alone, apart, x, y, strict=True):
            descend(model, estimator, own_x, own_y, [optimizer])
    return alone, each


@pytest.mark.parametrize(
    ("name", "angle"),
    [(name, angle) for name in ESTIMATORS for angle in (None, 40.0) if (name, angle) != ("sweeps", 40.0)],
)
@pytest.mark.parametrize("sizes", SIZES)
def test_twenty_steps_equal_those_of_separate_models(sizes, name, angle):
    """Sweeps need symmetric weights."""
    each = models(SIZES[sizes], angle=angle)
    before = copy.deepcopy(each)
    alone, together = train_separately_and_batched(each, ESTIMATORS[name])
    assert largest_difference(alone, together) < 1e-10
    assert largest_difference(before, together) > 1e-2


@pytest.mark.parametrize("dynamics", [ep.Prototypical("outside"), ep.EnergyDescent(dt=0.3)])
@pytest.mark.parametrize("nudging", ["one-sided", "centred"])
def test_other_dynamics(dynamics, nudging):
    alone, together = train_separately_and_batched(models(dynamics=dynamics), ep.EquilibriumProp(12, 5, 0.1, nudging))
    assert largest_difference(alone, together) < 1e-10


@pytest.mark.parametrize(
    "name", ["deep-chain", "input-skip", "skip", "lateral", "lateral-output", "parallel", "downward"]
)
@pytest.mark.parametrize("nudging", ["one-sided", "centred"])
def test_other_graphs(name, nudging):
    """Graphs with edges without a bias, laterals and skips."""
    each = [of_zoo(name, INSIDE, seed=seed) for seed in range(N)]
    alone, together = train_separately_and_batched(each, ep.EquilibriumProp(12, 5, 0.1, nudging))
    assert largest_difference(alone, together) < 1e-10


def test_phases_equal_those_of_separate_models():
    each, ((x, y),) = models(), batches(1)
    joint = batch_models(each)
    found = relax(joint, x.flatten(0, 1), 7, y.flatten(), beta=0.2)
    for r, model in enumerate(each):
        own = relax(model, x[r], 7, y[r], beta=0.2)
        for whole, part in zip((*found.activity, found.residual), (*own.activity, own.residual), strict=True):
            torch.testing.assert_close(whole.chunk(N)[r], part, rtol=0, atol=1e-14)
    torch.testing.assert_close(joint(x.flatten(0, 1)), torch.cat([m(own) for m, own in zip(each, x, strict=True)]))


def test_currents_and_phi_equal_those_of_separate_models():
    each, ((x, _),) = models(), batches(1)
    joint = batch_models(each).network
    s = [torch.rand(N, B, p.shape[0], dtype=torch.double) for p in joint.relaxing]
    phi = joint.phi(x.flatten(0, 1), [part.flatten(0, 1) for part in s])
    currents = joint.currents(x.flatten(0, 1), [part.flatten(0, 1) for part in s])
    for r, model in enumerate(each):
        own = [part[r] for part in s]
        torch.testing.assert_close(phi.chunk(N)[r], model.network.phi(x[r], own))
        for whole, part in zip(currents, model.network.currents(x[r], own), strict=True):
            torch.testing.assert_close(whole.chunk(N)[r], part)
    connection = joint.connections[1]
    up, down = connection.both(s[0].flatten(0, 1), s[1].flatten(0, 1))
    torch.testing.assert_close(up, torch.cat([m.network.connections[1].up(a) for m, a in zip(each, s[0], strict=True)]))
    torch.testing.assert_close(connection.down(s[1].flatten(0, 1)), down)


@pytest.mark.parametrize("angle", [None, 40.0])
def test_the_gradient_of_the_input(angle):
    """Needed where the model is part of a larger network."""
    each, ((x, y),) = models(angle=angle), batches(1)
    estimator = ep.EquilibriumProp(12, 5, 0.1, "centred")
    whole = x.flatten(0, 1).requires_grad_()
    (loss,) = estimator(batch_models(each), whole, y.flatten())
    (slope,) = torch.autograd.grad(N * loss, whole)
    for r, model in enumerate(each):
        own = x[r].clone().requires_grad_()
        (loss,) = estimator(model, own, y[r])
        torch.testing.assert_close(slope.chunk(N)[r], torch.autograd.grad(loss, own)[0])


def test_a_frozen_replica_gets_no_gradient():
    each, ((x, y),) = models(), batches(1)
    each[1].requires_grad_(False)
    (loss,) = ep.EquilibriumProp(12, 5, 0.1)(batch_models(each), x.flatten(0, 1), y.flatten())
    loss.backward()
    assert [all(p.grad is None for p in model.parameters()) for model in each] == [False, True, False]


def test_a_replica_that_is_not_finite_does_not_affect_the_others():
    """Only its own states become NaN."""
    each, ((x, _),) = models(), batches(1)
    joint = batch_models(each).network
    s = [torch.rand(N * B, p.shape[0], dtype=torch.double) for p in joint.relaxing]
    before = joint.currents(x.flatten(0, 1), s)
    with torch.no_grad():
        each[1].network.connections[1].weight.fill_(float("nan"))
    for old, new in zip(before, joint.currents(x.flatten(0, 1), s), strict=True):
        finite = torch.isfinite(new.view(N, -1)).all(1)
        assert finite.tolist() == [True, False, True]
        assert torch.equal(old.view(N, -1)[finite], new.view(N, -1)[finite])


@pytest.mark.parametrize(
    "wrong",
    [[], [ep.Dense(3, 2), ep.Dense(3, 4)], [ep.Dense(3, 2), ep.Dense(3, 2, bias=False)], [ep.Conv2d(1, 1, 2)],
     [ep.Dense(3, 2), ep.Untied(ep.Dense(3, 2))]],
)  # fmt: skip
def test_different_connections_raise(wrong):
    with pytest.raises(ValueError, match=r"`connections` must be dense, all of one type and of the same sizes"):
        BatchedConnection(wrong)


def test_models_that_differ_in_more_than_their_weights_raise():
    for other in (models((4, 7, 3), n=1), models(dynamics=ep.EnergyDescent(), n=1), models(settle=5, n=1)):
        with pytest.raises(ValueError, match=r"differ in their weights only|the same sizes"):
            batch_models([*models(n=2), *other])
    with pytest.raises(ValueError, match=r"cannot be batched: its cost, CrossEntropyReadout, has weights"):
        batch_models(models((4, 6), cost=ep.CrossEntropyReadout(6, 3)))


def test_unsupported_reason():
    assert unsupported_reason(models(n=1)[0]) is None
    assert unsupported_reason(models(n=1, angle=0.0)[0]) is None
    net = ep.convnet((1, 6, 6), [2], kernel_size=3, dense=(3,))
    assert unsupported_reason(net) == "it has a connection of class Conv2d, and only dense ones can be batched"


def test_batches_that_cannot_be_split_raise():
    with pytest.raises(ValueError, match=r"`models` is empty: give at least one"):
        batch_models([])
    joint = batch_models(models(n=3))
    for batch in (2, 8):
        x = torch.rand(batch, *joint.network.populations[0].shape, dtype=torch.double)
        with pytest.raises(
            ValueError, match=rf"same number of samples for each of the 3 batched networks, got {batch} in total"
        ):
            joint(x)

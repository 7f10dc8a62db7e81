"""Continual EP equals EP if the weights do not move and tends to it for small rates; two estimators give one rule (float64)."""

import copy
from itertools import pairwise

import pytest
import torch

import eqprop as ep
import zoo

DYNAMICS = {
    "outside": ep.Prototypical(),
    "inside": ep.Prototypical(nudge="inside"),
    "energy": ep.EnergyDescent(dt=0.5, clamp=False),
    "clamped": ep.EnergyDescent(dt=0.3, output_derivative=False),
}
NUDGINGS = ["one-sided", "centred", "random-sign"]
T, K, BETA = 12, 5, 0.3
QUICK = ["one-layer", "sigmoid-chain", "deep-chain", "input-skip", "skip", "lateral", "parallel", "downward"]
OTHER = ["own-connection", "own-lateral", "nonlinear-connection"]


def vector(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()]).clone()


def walk(model, estimator, optimizer, batches=1, **keywords):
    """Train, and return the values of the losses."""
    values = []
    for n in range(batches):
        for loss in estimator(model, *zoo.batch(model, seed=n + 2), **keywords):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            values.append(loss.item())
    return values


def sgd(model, rate):
    return torch.optim.SGD(model.parameters(), lr=rate)


def both(model, rate, nudging, batches, optimizer=sgd):
    """The weights after those batches by `ContinualEP`, and by `ContinualSGD`, with the same signs drawn."""
    ends = []
    for estimator in (ep.ContinualEP(T, K, BETA, nudging), ep.ContinualSGD(T, K, BETA, rate, nudging)):
        one = copy.deepcopy(model)
        walk(one, estimator, optimizer(one, rate), batches, generator=torch.Generator().manual_seed(5))
        ends.append(vector(one))
    assert (ends[0] - vector(model)).norm() > 1e-3
    return ends


@pytest.mark.parametrize("cost", ["squared", "readout"])
@pytest.mark.parametrize("nudging", ["one-sided", "centred"])
@pytest.mark.parametrize("dynamics", DYNAMICS)
@pytest.mark.parametrize("name", zoo.GRAPHS)
def test_increments_at_constant_weights_sum_to_ep(name, dynamics, nudging, cost):
    """Differences of Phi telescope, and a readout's gradient comes once."""
    model = zoo.model(name, DYNAMICS[dynamics], cost)
    x, y = zoo.batch(model)
    once = zoo.gradient(model, ep.EquilibriumProp(T, K, BETA, nudging), x, y)
    for estimator in (ep.ContinualEP(T, K, BETA, nudging), ep.ContinualSGD(T, K, BETA, 0.0, nudging)):
        torch.testing.assert_close(zoo.gradient(model, estimator, x, y), once, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("nudging", ["one-sided", "centred"])
@pytest.mark.parametrize("dynamics", DYNAMICS)
@pytest.mark.parametrize("name", ["chain", "skip", "nonlinear-connection"])
def test_the_distance_to_ep_is_linear_in_the_rate(name, dynamics, nudging):
    model, errors = zoo.model(name, DYNAMICS[dynamics]), []
    once = zoo.gradient(model, ep.EquilibriumProp(T, K, BETA, nudging), *zoo.batch(model))
    for rate in (1e-3, 1e-4, 1e-5):
        moved = copy.deepcopy(model)
        walk(moved, ep.ContinualEP(T, K, BETA, nudging), sgd(moved, rate))
        errors.append(zoo.distance((vector(model) - vector(moved)) / rate, once))
    assert errors[-1] > 1e-8
    for before, after in pairwise(errors):
        assert after == pytest.approx(before / 10, rel=0.05)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("nudging", NUDGINGS)
@pytest.mark.parametrize("dynamics", ["outside", "clamped"])
@pytest.mark.parametrize("name", QUICK)
def test_the_two_estimators_agree(name, dynamics, nudging, tied):
    model = zoo.model(name, DYNAMICS[dynamics])
    any_optimizer, plain = both(model if tied else zoo.untied(model), 0.1, nudging, batches=5)
    torch.testing.assert_close(plain, any_optimizer, rtol=0, atol=1e-10)


@pytest.mark.parametrize("nudging", NUDGINGS)
@pytest.mark.parametrize("dynamics", ["outside", "clamped"])
@pytest.mark.parametrize("name", OTHER)
def test_the_two_estimators_agree_on_all_connections(name, dynamics, nudging):
    for model in (zoo.model(name, DYNAMICS[dynamics], "readout"), zoo.untied(zoo.model(name, DYNAMICS[dynamics]))):
        any_optimizer, plain = both(model, 0.1, nudging, batches=3)
        torch.testing.assert_close(plain, any_optimizer, rtol=0, atol=1e-12)


class Doubled(ep.Dense):
    """A user's dense connection."""

    def phi(self, pre, post):
        return 2 * super().phi(pre, post)

    def up(self, pre, post=None):
        return 2 * super().up(pre)

    def down(self, post, pre=None):
        return 2 * super().down(post)

    def contrast(self, free, a, b):
        return 2 * super().contrast(free, a, b)

    def offset(self):
        return 2 * self.bias

    def prepare(self, pre, post, gains):
        return super().prepare(pre, post, [2 * gain for gain in gains])


def chain(*connections):
    sizes = [4, *[5] * (len(connections) - 1), 3]
    edges = [(n, n + 1, kind(*sizes[n : n + 2])) for n, kind in enumerate(connections)]
    populations = [ep.Population(n, "tanh") for n in sizes]
    return ep.Model(ep.Network(populations, edges), ep.Prototypical(), ep.SquaredError()).double()


def shared():
    """One connection on two edges: both contribute increments."""
    one = ep.Dense(5, 5)
    edges = [(0, 1, ep.Dense(4, 5)), (1, 1, one), (1, 2, ep.Dense(5, 5)), (2, 2, one), (2, 3, ep.Dense(5, 3))]
    populations = [ep.Population(n, "tanh") for n in (4, 5, 5, 3)]
    model = ep.Model(ep.Network(populations, edges), ep.Prototypical(), ep.SquaredError()).double()
    with torch.no_grad():
        one.weight.mul_(0.3)
    return model


def frozen(*names):
    model = zoo.untied(zoo.model("deep-chain", ep.Prototypical()))
    for name, p in model.named_parameters():
        p.requires_grad_(not any(part in name for part in names))
    return model


SPECIAL = {
    "own kind of dense": lambda: chain(ep.Dense, Doubled),
    "shared connection": shared,
    "untied beside tied": lambda: chain(lambda *n: ep.Untied(ep.Dense(*n), 60), ep.Dense, lambda *n: ep.Untied(ep.Dense(*n))),
    "frozen biases": lambda: frozen("bias"),
    "frozen feedback": lambda: frozen("feedback"),
    "frozen input weights": lambda: frozen("connections.0.upward.weight"),
    "frozen hidden weights": lambda: frozen("connections.1"),
}  # fmt: skip


@pytest.mark.parametrize("nudging", ["one-sided", "centred"])
@pytest.mark.parametrize("case", SPECIAL)
def test_the_two_estimators_agree_on_all_networks(case, nudging):
    any_optimizer, plain = both(SPECIAL[case](), 0.05, nudging, batches=5)
    torch.testing.assert_close(plain, any_optimizer, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["deep-chain", "own-connection"])
@pytest.mark.parametrize("tied", [True, False])
def test_each_connection_has_its_rate(name, tied):
    model = zoo.model(name, ep.Prototypical(), "readout")
    model = model if tied else zoo.untied(model)
    rates = (0.2, 0.05, 0.1, 0.02, 0.3)[-1 - len(model.network.connections) :]
    owners = [*model.network.connections, model.cost]

    def optimizer(one, rates):
        own = [*one.network.connections, one.cost]
        return torch.optim.SGD([{"params": list(c.parameters()), "lr": r} for c, r in zip(own, rates, strict=True)])

    assert len(owners) == len(rates)
    any_optimizer, plain = both(model, rates, "one-sided", 5, optimizer)
    torch.testing.assert_close(plain, any_optimizer, rtol=0, atol=1e-12)


def halves(model):
    """A tied model, its untied copy with equal weights, and the layers that are untied."""
    edges = [(i, j, c if i == 0 else ep.Untied(c)) for i, j, c in model.network.edges()]
    return ep.Model(ep.Network(model.network.populations, edges), model.dynamics, model.cost)


@pytest.mark.parametrize("dynamics", ["outside", "inside", "energy"])
def test_forward_and_feedback_increments_sum_to_the_tied_one_to_second_order(dynamics):
    """ep.md 3.2: what is missing is the product of the two displacements, which, centred, is of order beta squared."""
    tied, errors = zoo.model("deep-chain", DYNAMICS[dynamics]), []
    untied = halves(tied)
    x, y = zoo.batch(tied)
    for beta in (0.02, 0.01):
        for one in (untied, tied):
            zoo.gradient(one, ep.ContinualSGD(400, 8, beta, 0.0, "centred"), x, y)
        layers = zip(list(untied.network.connections)[1:], list(tied.network.connections)[1:], strict=True)
        errors.append(sum(zoo.distance(u.upward.weight.grad + u.feedback.grad, w.weight.grad) for u, w in layers))
    assert errors[1] == pytest.approx(errors[0] / 4, rel=0.1)


def test_the_missing_part_is_the_product_of_displacements():
    """ep.md 3.2, the third step of one batch, when all populations move: exact at any beta."""
    model = zoo.model("chain", ep.Prototypical())
    untied = halves(model)
    x, y = zoo.batch(model)
    states = ep.relax(model, x, 3, y, BETA, state=ep.relax(model, x, T).state, trajectory=True).trajectory
    for one in (model, untied):
        *_, third = ep.ContinualEP(T, 3, BETA)(one, x, y)
        one.zero_grad()
        third.backward()
    lower, upper = (after - before for before, after in zip(*states[2:], strict=True))
    product = upper.t() @ lower / (BETA * zoo.BATCH)
    layer, whole = untied.network.connections[1], model.network.connections[1]
    torch.testing.assert_close(layer.upward.weight.grad + layer.feedback.grad, whole.weight.grad + product)
    assert zoo.distance(whole.weight.grad + product, whole.weight.grad) > 1e-3


def test_the_one_shot_vector_field_rules_differ_at_first_order_in_beta():
    """The "new" form pairs each step with its own activities, the "former" with those of the free state."""
    model, errors = zoo.untied(zoo.model("chain", ep.Prototypical(nudge="inside"))), []
    x, y = zoo.batch(model)
    for beta in (0.02, 0.01):
        new = zoo.gradient(model, ep.ContinualSGD(500, 8, beta, 0.0), x, y)
        errors.append(zoo.distance(new, zoo.gradient(model, ep.EquilibriumProp(500, 8, beta), x, y)))
    assert errors[1] == pytest.approx(errors[0] / 2, rel=0.1)


@pytest.mark.parametrize("kind", ["any", "sgd"])
def test_only_the_last_step_carries_a_readouts_gradient(kind):
    """The cost does not change during the phase; the gradient is the plain one."""
    model = zoo.model("chain", ep.Prototypical(), "readout")
    x, y = zoo.batch(model)
    out = ep.relax(model, x, T).state[-1]
    theirs = torch.autograd.grad(model.cost.value(out, y).mean(), list(model.cost.parameters()))
    estimator = ep.ContinualEP(T, K, BETA) if kind == "any" else ep.ContinualSGD(T, K, BETA, 0.1)
    optimizer, start = sgd(model, 0.1), [p.detach().clone() for p in model.cost.parameters()]
    losses = estimator(model, x, y)
    for n, loss in enumerate(losses, start=1):
        optimizer.zero_grad()
        loss.backward()
        last = n == (K if kind == "any" else 1)
        for p, g, s in zip(model.cost.parameters(), theirs, start, strict=True):
            assert torch.equal(p, s)
            assert (p.grad is None) != last
            if last:
                torch.testing.assert_close(p.grad, g, rtol=1e-12, atol=1e-15)
        optimizer.step()


@pytest.mark.parametrize("name", ["chain", "own-connection"])
def test_a_frozen_network_trains_only_its_readout(name):
    model = zoo.model(name, ep.Prototypical(), "readout")
    model.network.requires_grad_(False)
    before = vector(model.network)
    for estimator in (ep.ContinualEP(T, K, BETA), ep.ContinualSGD(T, K, BETA, 0.1)):
        (loss,) = estimator(model, *zoo.batch(model))
        model.zero_grad()
        loss.backward()
        assert all(p.grad.norm() > 0 for p in model.cost.parameters())
    assert torch.equal(vector(model.network), before)


@pytest.mark.parametrize("name", ["chain", "own-connection"])
@pytest.mark.parametrize("kind", ["any", "sgd"])
def test_parameters_move_only_by_the_optimizer(name, kind):
    model = zoo.model(name, ep.Prototypical())
    before, drawn = vector(model), torch.get_rng_state()
    estimator = ep.ContinualEP(T, K, BETA) if kind == "any" else ep.ContinualSGD(T, K, BETA, 0.5)
    losses = list(estimator(model, *zoo.batch(model)))
    assert len(losses) == (K if kind == "any" else 1)
    for loss in losses:
        loss.backward()
    assert torch.equal(vector(model), before)
    assert torch.equal(torch.get_rng_state(), drawn)


@pytest.mark.parametrize("name", ["chain", "own-connection"])
@pytest.mark.parametrize("estimator", [ep.ContinualEP(T, K, BETA), ep.ContinualSGD(T, K, BETA, 0.1)])
def test_the_free_phase_is_reported_once_and_gives_the_loss_value(estimator, name):
    model, seen = zoo.model(name, ep.Prototypical(), "readout"), []
    free = ep.relax(model, zoo.batch(model)[0], T)
    cost = model.cost.value(free.state[-1], zoo.batch(model)[1]).mean().item()
    values = walk(model, estimator, sgd(model, 0.1), on_free_phase=seen.append)
    assert len(seen) == 1
    torch.testing.assert_close(seen[0].state, free.state, rtol=0, atol=0)
    assert values == pytest.approx([cost] * len(values), rel=1e-12)


def test_a_free_phase_with_a_tolerance_ends_early():
    model, seen = zoo.model("chain", ep.Prototypical()), []
    settle = ep.Settle(500, tol=1e-6)
    ends = []
    for estimator in (ep.ContinualEP(settle, K, BETA), ep.ContinualSGD(settle, K, BETA, 0.1)):
        one = copy.deepcopy(model)
        walk(one, estimator, sgd(one, 0.1), on_free_phase=seen.append)
        ends.append(vector(one))
    assert seen[0].steps == seen[1].steps < 500
    torch.testing.assert_close(ends[0], ends[1], rtol=0, atol=1e-12)


@pytest.mark.parametrize("rate", [1e-2, 1e-9, 0.0])
@pytest.mark.parametrize("tied", [True, False])
def test_small_rates_keep_their_precision_in_float32(tied, rate):
    """Computed as a difference of weights, the update would be lost to rounding (ep.md 3.5); increments are summed."""
    double = zoo.model("deep-chain", ep.Prototypical())
    double = double if tied else zoo.untied(double)
    x, y = zoo.batch(double)
    estimator = ep.ContinualSGD(T, K, BETA, rate)
    exact = zoo.gradient(double, estimator, x, y)
    assert zoo.distance(zoo.gradient(copy.deepcopy(double).float(), estimator, x.float(), y), exact) < 1e-5


@pytest.mark.parametrize("name", ["chain", "own-connection"])
@pytest.mark.parametrize("dynamics", ["outside", "energy"])
def test_phases_run_in_full_precision_under_autocast(name, dynamics):
    model = zoo.model(name, DYNAMICS[dynamics]).float()
    x, y = zoo.batch(model)[0].float(), zoo.batch(model)[1]
    for estimator in (ep.ContinualEP(T, K, BETA), ep.ContinualSGD(T, K, BETA, 0.1, "centred")):
        plain = zoo.gradient(model, estimator, x, y)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            losses = list(estimator(model, x, y))
        torch.testing.assert_close(
            zoo.gradient(model, lambda *_, found=losses: found, x, y), plain, rtol=1e-5, atol=1e-7
        )

"""Spiking models compared with their rate models: EP of both, gradients of the rate model, and BPTT through spikes."""

import copy

import pytest
import torch

import eqprop as ep
import zoo
from eqprop.spiking import OSA, Bernoulli, Decay, Spiking
from eqprop.theorem.tuning import Grid, tune

BETA = 0.5
SPECS = {
    "dense": ep.MLP((12, 20, 15, 4), "hard_sigmoid"),
    "images": ep.ConvNet((1, 10, 10), (4,), kernel_size=3, pool="avg", dense=(12, 4)),
}


def case(name, dynamics):
    """Return a network with most units between 0 and 1, and a batch."""
    torch.manual_seed(1)
    model = SPECS[name].build().double()
    with torch.no_grad():
        for key, parameter in model.network.named_parameters():
            if key.endswith("bias"):
                parameter.add_(0.3)
    x = torch.rand(4, *model.network.populations[0].shape).double()
    return ep.Model(model.network, dynamics, model.cost), x, torch.arange(4)


def cosine(a, b):
    return (a @ b / a.norm() / b.norm()).item()


def by_parameter(model, vector):
    return vector.split([p.numel() for p in model.parameters()])


@pytest.mark.parametrize("name", SPECS)
def test_ep_of_spikes_is_ep_of_rates(name):
    """spiking.md 8.4: of lambda .2, T 100, K 50, beta .5 the cosine in every layer was .97 to 1."""
    model, x, y = case(name, Spiking(eps=0.5, lam=0.2))
    spikes = zoo.gradient(model, ep.EquilibriumProp(100, ep.Settle(50, average=12), BETA, "centred"), x, y)
    rates = zoo.gradient(model.rate_model(), ep.EquilibriumProp(100, 50, BETA, "centred"), x, y)
    assert spikes.norm().item() == pytest.approx(rates.norm().item(), rel=0.1)
    for ours, theirs in zip(by_parameter(model, spikes), by_parameter(model, rates), strict=True):
        assert cosine(ours, theirs) > 0.95


@pytest.mark.parametrize("name", SPECS)
def test_the_alignment_improves_without_limit(name):
    """As T and K grow and lambda decays."""
    model, x, y = case(name, Spiking(eps=0.5, lam=Decay(1.0, 0.75)))
    errors = []
    for T, K in ((25, 12), (400, 200)):
        spikes = zoo.gradient(model, ep.EquilibriumProp(T, ep.Settle(K, average=K // 4), 0.1, "centred"), x, y)
        rates = zoo.gradient(model.rate_model(), ep.EquilibriumProp(T, K, 0.1, "centred"), x, y)
        errors.append(zoo.distance(spikes, rates))
    assert errors[1] < min(0.04, errors[0] / 2)


@pytest.mark.parametrize("cost", ["squared", "readout"])
@pytest.mark.parametrize("dynamics", [Spiking(eps=0.3), Spiking(eps=OSA(), coder=Bernoulli())], ids=["eps", "osa"])
@pytest.mark.parametrize(
    "estimator", [ep.BPTT(20), ep.BPTT(20, 7), ep.ImplicitDiff(20, 15)], ids=["whole", "truncated", "implicit"]
)
def test_gradients_are_those_of_the_rate_model(estimator, dynamics, cost):
    for name in ("deep-chain", "residual-images"):
        model = zoo.spiking(name, dynamics, cost)
        x, y = zoo.batch(model)
        seen = []
        ours = zoo.gradient(
            model, lambda *batch, on_free_phase=seen.append: estimator(*batch, on_free_phase=on_free_phase), x, y
        )
        rates = ep.Model(model.network, ep.EnergyDescent(dt=0.3 if dynamics.eps == 0.3 else 0.5), model.cost)
        assert torch.equal(ours, zoo.gradient(rates, estimator, x, y))
        assert ours.norm() > 0
        assert all(map(torch.equal, seen[0].state, ep.relax(rates, x, 20).state))


@pytest.mark.parametrize(
    "estimator", [(20,), (20, 7), (ep.Settle(20, average=5), 7)], ids=["whole", "truncated", "mean"]
)
@pytest.mark.parametrize("dynamics", [ep.Prototypical(), ep.EnergyDescent(dt=0.3)], ids=["prototypical", "energy"])
def test_through_spikes_of_a_model_without_any_is_bptt(dynamics, estimator):
    model = zoo.model("deep-chain", dynamics, "readout")
    x, y = zoo.batch(model)
    through, plain = (zoo.gradient(model, ep.BPTT(*estimator, surrogate=s), x, y) for s in (True, False))
    assert torch.equal(through, plain)


def arctangent(v):
    """1 where v > 0; backward, the slope of ``arctan(pi v) / pi``, which is ``1 / (1 + (pi v)^2)``."""
    soft = torch.arctan(torch.pi * v) / torch.pi
    return (v > 0).to(v.dtype) + soft - soft.detach()


def clipped(v):
    """Within [0, 1]; backward, 1 there, and outside the slope of the same arctangent at the distance to it."""
    outside = torch.arctan(torch.pi * (v - v.detach().clamp(0, 1))) / torch.pi
    soft = torch.where((v < 0) | (v > 1), outside, v)
    return v.detach().clamp(0, 1) + soft - soft.detach()


def by_hand(model, x, y, lam, eps, T, unrolled, mean, threshold=None):
    """Gradients of a network with one hidden layer by an unrolled loop: sigma-delta, or spikes of values above a threshold."""
    (w1, b1), (w2, b2) = ((c.weight, c.bias) for c in model.network.connections)
    u = [x.clamp(0, 1), torch.zeros(len(x), len(b1)).double(), torch.zeros(len(x), len(b2)).double()]
    s, phi, q = ([torch.zeros_like(v) for v in u] for _ in range(3))
    r, outs = [torch.zeros_like(v) for v in u[1:]], []
    for tick in range(1, T + 1):
        received = [q[0] @ w1.t() + q[2] @ w2, q[1] @ w2.t()]
        r = [(1 - lam) * old + lam * new for old, new in zip(r, received, strict=True)]
        u = [u[0], *(clipped((1 - eps) * v + eps * (p + b)) for v, p, b in zip(u[1:], r, (b1, b2), strict=True))]
        if threshold is None:
            above = [f + (now - (1 - lam) * old) / lam for f, now, old in zip(phi, u, s, strict=True)]
            q = [arctangent(f - 0.5) for f in above]
            phi = [f - fired for f, fired in zip(above, q, strict=True)]
        else:
            q = [arctangent(now - threshold) for now in u]
        s = u
        if tick == T - unrolled:
            u, s, phi, q, r = ([t.detach() for t in part] for part in (u, s, phi, q, r))
        outs.append(u[2])
    target = torch.nn.functional.one_hot(y, len(b2)).double()
    loss = 0.5 * (sum(outs[-mean:]) / mean - target).square().sum(1).mean()
    return loss, torch.cat([g.flatten() for g in torch.autograd.grad(loss, [w1, b1, w2, b2])])


@pytest.mark.parametrize(("unrolled", "mean"), [(12, 1), (5, 1), (5, 3)])
@pytest.mark.parametrize("coder", ["sigma-delta", "threshold"])
def test_through_spikes_by_hand(coder, unrolled, mean, monkeypatch):
    if coder == "threshold":  # chance that always draws 0.4
        monkeypatch.setattr(torch, "rand", lambda *shape, generator, dtype: torch.full(shape, 0.4, dtype=dtype))
    dynamics = Spiking(0.4, 0.3) if coder == "sigma-delta" else Spiking(0.4, 0.3, coder=Bernoulli())
    model = zoo.spiking("chain", dynamics)
    generator = torch.Generator().manual_seed(2)
    x, y = torch.empty(5, 4).double().uniform_(0, 1, generator=generator), torch.tensor([0, 1, 2, 0, 1])
    estimator = ep.BPTT(ep.Settle(12, average=mean), unrolled, surrogate=True)
    found = zoo.gradient(model, estimator, x, y)
    loss, expected = by_hand(model, x, y, 0.3, 0.4, 12, unrolled, mean, None if coder == "sigma-delta" else 0.4)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    assert found.norm() > 1e-3
    (value,) = (loss.item() for loss in estimator(model, x, y))
    assert value == pytest.approx(loss.item(), rel=1e-12)


@pytest.mark.parametrize("unrolled", [15, 6])
@pytest.mark.parametrize("sent", ["spikes", "current"])
def test_through_spikes_the_place_of_the_decoder_does_not_matter(sent, unrolled):
    """Of fewer ticks it does for weights: what a decoder kept of the ticks before has passed them, or has yet to pass."""
    model = zoo.spiking("skip", Spiking(decode="before", input=sent))
    x, y = zoo.batch(model)
    other = ep.Model(model.network, Spiking(input=sent), model.cost)
    biases = [p.dim() == 1 for p in model.parameters()]
    found, expected = (
        by_parameter(m, zoo.gradient(m, ep.BPTT(15, unrolled, surrogate=True), x, y)) for m in (model, other)
    )
    for ours, theirs, bias in zip(found, expected, biases, strict=True):
        if bias or unrolled == 15:
            torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", SPECS)
def test_the_theorem_is_checked_against_the_rate_model(name):
    T, K = 400, 12
    model, x, y = case(name, Spiking(eps=0.5, lam=Decay(1.0, 0.75)))
    report = ep.gdu(model, x, y, T, K, 0.1, "centred")
    (twin,) = [a for a in report.assumptions if a.name == "differentiable steps"]
    assert not twin.holds
    assert "EnergyDescent(dt=0.5" in twin.detail
    rates = model.rate_model()
    assert not [a for a in ep.gdu(rates, x, y, T, K, 0.1).assumptions if a.name == twin.name]
    # BPTT's side: K steps of the twin from where the spiking model came to rest, unrolled
    state = tuple(u.clone().requires_grad_() for u in ep.relax(model, x, T).state.potential)
    phase, _, target = rates.prepare_batch(x, y)
    for _ in range(K):
        state = phase.step(state)
    names, parameters = zip(*rates.network.named_parameters(), strict=True)
    whole = torch.autograd.grad(rates.cost.value(state[-1], target).mean(), parameters)
    for key, gradient in zip(names, whole, strict=True):
        summed = report.parameters[f"network.{key}"].bptt.sum(0)
        torch.testing.assert_close(summed, gradient, rtol=1e-8, atol=1e-12)
    # EP's side telescopes to the estimate
    once = zoo.gradient(model, ep.EquilibriumProp(T, K, 0.1, "centred"), x, y)
    increments = torch.cat([-report.parameters[f"network.{key}"].ep.sum(0).flatten() for key in names])
    torch.testing.assert_close(increments, once, rtol=1e-8, atol=1e-11)


def test_tune_compares_with_the_rate_model():
    model, x, y = case("dense", Spiking(eps=0.5, lam=0.2))
    (cell,) = tune(model, [(x, y)], Grid((60,), (30,), (BETA,), "centred"))
    ep_side = zoo.gradient(model, ep.EquilibriumProp(60, 30, BETA, "centred"), x, y)
    bptt = zoo.gradient(model, ep.BPTT(60), x, y)
    assert cell.cosine == pytest.approx(cosine(ep_side, bptt), rel=1e-9)
    assert cell.relative_error == pytest.approx(zoo.distance(ep_side, bptt), rel=1e-9)
    assert cell.cosine > 0.8


CONTINUAL = {
    "plain": Spiking(),
    "bernoulli": Spiking(coder=Bernoulli()),
    "current": Spiking(eps=OSA(), input="current"),
}


@pytest.mark.parametrize("nudging", ["one-sided", "centred"])
@pytest.mark.parametrize("dynamics", CONTINUAL)
@pytest.mark.parametrize("name", ["chain", "skip", "residual-images", "own-connection"])
def test_increments_at_fixed_weights_sum_to_ep(name, dynamics, nudging):
    model = zoo.spiking(name, CONTINUAL[dynamics], "readout")
    x, y = zoo.batch(model)
    found = []
    for estimator in (
        ep.EquilibriumProp(12, 5, BETA, nudging),
        ep.ContinualEP(12, 5, BETA, nudging),
        ep.ContinualSGD(12, 5, BETA, 0.0, nudging),
    ):
        torch.manual_seed(6)
        found.append(zoo.gradient(model, estimator, x, y))
    for continual in found[1:]:
        torch.testing.assert_close(continual, found[0], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("dynamics", CONTINUAL)
def test_both_estimators_of_continual_ep_are_one_rule(dynamics, tied):
    model = zoo.spiking("deep-chain", CONTINUAL[dynamics])
    model = model if tied else zoo.untied(model)
    x, y = zoo.batch(model)
    ends = []
    for estimator in (ep.ContinualEP(12, 5, BETA, "centred"), ep.ContinualSGD(12, 5, BETA, 0.1, "centred")):
        one = copy.deepcopy(model)
        optimizer = torch.optim.SGD(one.parameters(), lr=0.1)
        torch.manual_seed(6)
        for _ in range(4):
            for loss in estimator(one, x, y):
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        ends.append(torch.cat([p.detach().flatten() for p in one.parameters()]))
    torch.testing.assert_close(ends[1], ends[0], rtol=0, atol=1e-11)
    assert (ends[0] - torch.cat([p.detach().flatten() for p in model.parameters()])).norm() > 1e-3


def test_an_equilibrium_block_has_the_gradients_of_the_rate_model():
    """Of its weights and of its input, by spikes at lambda .2."""
    model, x, y = case("dense", Spiking(eps=0.5, lam=0.2))
    found = []
    for dynamics in (model.dynamics, model.rate_model().dynamics):
        block = ep.Equilibrium(model.network, dynamics, 100, ep.Settle(50, average=12), BETA)
        leaf = x.clone().requires_grad_()
        block.zero_grad()
        torch.nn.functional.cross_entropy(3 * block(leaf), y).backward()
        found.append([torch.cat([p.grad.flatten() for p in block.parameters()]), leaf.grad.flatten()])
    for ours, theirs in zip(*found, strict=True):
        assert cosine(ours, theirs) > 0.95
        assert ours.norm().item() == pytest.approx(theirs.norm().item(), rel=0.15)


def test_a_clipped_input_has_no_gradient():
    """The input is clipped before it is encoded."""
    model, x, y = case("dense", Spiking())
    leaf = (3 * x - 1).requires_grad_()
    block = ep.Equilibrium(model.network, model.dynamics, 30, 15, BETA)
    with pytest.warns(UserWarning, match="`x` has values that Spiking dynamics clip"):
        torch.nn.functional.cross_entropy(block(leaf), y).backward()
    outside = (leaf < 0) | (leaf > 1)
    assert outside.any()
    assert (leaf.grad[outside] == 0).all()
    assert (leaf.grad[~outside] != 0).any()


@pytest.mark.parametrize("cost", ["squared", "readout"])
def test_untied_feedback_weights(cost):
    """Phases are long, so that the remaining error is that of the estimate."""
    model = zoo.untied(zoo.spiking("deep-chain", Spiking(lam=Decay(1.0, 0.75)), cost))
    x, y = zoo.batch(model)
    spikes = zoo.gradient(model, ep.EquilibriumProp(300, ep.Settle(150, average=30), 0.2, "centred"), x, y)
    rates = zoo.gradient(model.rate_model(), ep.EquilibriumProp(300, 150, 0.2, "centred"), x, y)
    assert zoo.distance(spikes, rates) < 0.1


def test_a_readout_gets_its_gradient_at_the_mean_output():
    model = zoo.spiking("chain", Spiking(), "readout")
    x, y = zoo.batch(model)
    steps = ep.Settle(30, average=8)
    zoo.gradient(model, ep.EquilibriumProp(steps, 10, BETA), x, y)
    states = ep.relax(model, x, 30, trajectory=True).trajectory
    out = sum(s.potential[-1] for s in states[-8:]) / 8
    cost = model.cost.value(out, y).mean()
    theirs = torch.autograd.grad(cost, list(model.cost.parameters()))
    for p, g in zip(model.cost.parameters(), theirs, strict=True):
        torch.testing.assert_close(p.grad, g, rtol=1e-11, atol=1e-13)

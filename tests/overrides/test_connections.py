"""A subclass of a connection that overrides one method: every estimator follows it, or the network refuses it."""

import inspect

import pytest
import torch
from torch.nn import functional as F

import eqprop as ep
from slow_references import BETA, ESTIMATORS, FREE, NUDGED, batch, chain, estimate, slow_ep


class Phi(ep.Dense):
    def phi(self, pre, post):
        return 1.5 * super().phi(pre, post)


class NonlinearPhi(ep.Dense):
    """Not linear in post, and without ``super()``."""

    def phi(self, pre, post):
        return (post * F.linear(pre, self.weight, self.bias)).sum(1) - 0.02 * post.square().sum(1) * pre.square().sum(1)


class Up(ep.Dense):
    def up(self, pre, post=None):
        return 1.5 * super().up(pre)


class UpWithPost(ep.Dense):
    """Another signature: ``post`` by position."""

    def up(self, pre, post):
        return F.linear(pre, self.weight * self.weight.sign(), self.bias)


class Down(ep.Dense):
    """Another way to compute the same."""

    def down(self, post, pre=None):
        return F.linear(post, self.weight.t())


class Both(ep.Dense):
    def both(self, pre, post):
        return F.linear(pre, self.weight, self.bias), post @ self.weight


class Prepare(ep.Dense):
    def prepare(self, pre, post, gains):
        return super().prepare(pre, post, list(gains))


class PrepareWithFeedback(ep.Dense):
    def prepare_with_feedback(self, feedback, pre, post, gains):
        return super().prepare_with_feedback(feedback.clone(), pre, post, gains)


class FeedbackCurrent(ep.Dense):
    def feedback_current(self, feedback, post, pre):
        return F.linear(post, feedback.t())


class FeedbackWeight(ep.Dense):
    def feedback_weight(self):
        return self.weight


FOLLOWED = [
    Phi,
    NonlinearPhi,
    Up,
    UpWithPost,
    Down,
    Both,
    Prepare,
    PrepareWithFeedback,
    FeedbackCurrent,
    FeedbackWeight,
]


@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.parametrize("kind", FOLLOWED, ids=lambda kind: kind.__name__)
def test_every_estimator_follows(kind, name):
    model, (x, y) = chain(kind), batch()
    expected = slow_ep(model, x, y, FREE, NUDGED, BETA)
    if "asynchronous" in name and kind is NonlinearPhi:
        pytest.skip("sweeps end elsewhere than as many synchronous steps")
    got, _ = estimate(ESTIMATORS[name], model, x, y)
    tolerance = 1e-9 if name in ("ep", "continual") else 2e-3
    assert (got - expected).norm() <= tolerance * expected.norm()


def overriding(base, **methods):
    return type("Own", (base,), methods)


CONTRADICTIONS = {
    "down": lambda self, post, pre=None: 2 * (post @ self.weight),
    "both": lambda self, pre, post: (F.linear(pre, self.weight, self.bias), 2 * (post @ self.weight)),
    "offset": lambda self: 2 * self.bias,
    "batch_offset": lambda self, batch: self.bias + 1,
    "prepare": lambda self, pre, post, gains: ep.Dense.prepare(self, pre, post, [2 * g for g in gains]),
    "prepare_with_feedback": lambda self, feedback, pre, post, gains: ep.Dense.prepare_with_feedback(
        self, 2 * feedback, pre, post, gains
    ),
    "feedback_current": lambda self, feedback, post, pre: 2 * (post @ feedback),
    "feedback_weight": lambda self: 2 * self.weight,
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_an_override_that_contradicts_phi_is_refused(name):
    with pytest.raises(ValueError, match=r"edge 0 -> 1: .*contradicts itself: its `\w+` .*: override"):
        chain(overriding(ep.Dense, **{name: CONTRADICTIONS[name]}))


def test_an_up_that_depends_on_post_is_refused():
    kind = overriding(
        ep.Dense, up=lambda self, pre, post=None: F.linear(pre, self.weight) * (1 if post is None else post)
    )
    with pytest.raises(ValueError, match="contradicts itself"):
        chain(kind)


def test_a_phi_that_mixes_samples_is_refused():
    kind = overriding(ep.Dense, phi=lambda self, pre, post: (F.linear(pre - pre.mean(0), self.weight) * post).sum(1))
    with pytest.raises(ValueError, match="mixes samples"):
        chain(kind)


def test_a_method_replaced_on_the_object_is_refused():
    layer = ep.Dense(4, 3)
    layer.up = lambda pre, post=None: 2 * F.linear(pre, layer.weight)
    with pytest.raises(ValueError, match="`up` was replaced on the object: override it in a subclass"):
        ep.Network([ep.Population(4), ep.Population(3)], [(0, 1, layer)])


def test_a_contrast_of_its_own_is_the_learning_rule():
    """EP's estimate is the gradient of `contrast`; BPTT differentiates the dynamics, which do not change."""
    kind = overriding(ep.Dense, contrast=lambda self, free, a, b: 3 * ep.Dense.contrast(self, free, a, b))
    x, y = batch()
    plain, own = chain(ep.Dense), chain(kind)
    for name in ("ep", "continual", "continual-sgd"):
        expected, got = (estimate(ESTIMATORS[name], model, x, y)[0] for model in (plain, own))
        torch.testing.assert_close(got, 3 * expected, rtol=1e-8, atol=1e-10)
    expected, got = (estimate(ESTIMATORS["bptt"], model, x, y)[0] for model in (plain, own))
    assert torch.equal(got, expected)


def test_the_forward_connection_is_final():
    with pytest.raises(TypeError, match="`forward_connection` of LinearConnection cannot be overridden, as Own does"):
        overriding(ep.Dense, forward_connection=property(lambda self: self))


@pytest.mark.parametrize("method", ["phi", "up", "down", "contrast", "feedback_current", "offset"])
def test_separate_feedback_of_a_changed_connection_is_refused(method):
    signature = inspect.signature(getattr(ep.Dense, method))
    kind = overriding(ep.Dense, **{method: lambda self, *a, **k: getattr(super(kind, self), method)(*a, **k)})
    assert signature
    with pytest.raises(ValueError, match=r"Own has currents of its own: separate feedback weights need `\w+`"):
        ep.Untied(kind(4, 3), 90)


def test_other_overrides_change_no_gradient():
    """`reset_parameters`, `check_activation`, `fan_out` and `extra_repr` are called, and the formulas stay."""
    kind = overriding(
        ep.Dense,
        reset_parameters=lambda self: [torch.nn.init.constant_(p, 0.1) for p in self.parameters()] and None,
        fan_out=lambda self, pre, post: (torch.ones(*pre), torch.ones(*post)),
        extra_repr=lambda self: "mine",
    )
    assert kind.prepare is ep.Dense.prepare
    assert bool((kind(2, 2).weight == 0.1).all())
    assert repr(kind(2, 2)) == "Own(mine)"


KNOWN = {
    *CONTRADICTIONS,
    "phi",
    "up",
    "contrast",
    "contrast_with_feedback",
    "forward_connection",
    "fan_out",
    "check_activation",
    "reset_parameters",
    "extra_repr",
    "check_separate_feedback",
}


@pytest.mark.parametrize("kind", [ep.Dense, ep.Conv2d])
def test_no_method_is_forgotten(kind):
    own = (c for c in kind.__mro__ if c.__module__.startswith("eqprop"))
    names = {name for c in own for name, member in vars(c).items() if callable(member) or isinstance(member, property)}
    assert {name for name in names if not name.startswith("_")} <= KNOWN | {"feedback_gain"}


class PhiImage(ep.Conv2d):
    def phi(self, pre, post):
        return 1.5 * super().phi(pre, post)


class UpImage(ep.Conv2d):
    def up(self, pre, post=None):
        return 1.5 * super().up(pre)


@pytest.mark.parametrize("pool", [None, "avg", "max", "softmax"])
@pytest.mark.parametrize("kind", [PhiImage, UpImage])
def test_convolutions_follow(kind, pool):
    torch.manual_seed(3)
    populations = [
        ep.Population((1, 6, 6), "sigmoid"),
        ep.Population((2, 4, 4) if pool is None else (2, 2, 2), "sigmoid"),
    ]
    populations += [ep.Population((2, 1, 1), "sigmoid"), ep.Population(3, "tanh")]
    layers = [kind(1, 2, 3, pool=pool), kind(2, 2, 4 if pool is None else 2), ep.Dense(2, 3)]
    network = ep.Network(populations, [(n, n + 1, layer) for n, layer in enumerate(layers)])
    model = ep.Model(network, ep.Prototypical(nudge="inside"), ep.SquaredError()).double()
    x, y = torch.rand(5, 1, 6, 6).double(), torch.arange(5) % 3
    expected = slow_ep(model, x, y, FREE, NUDGED, BETA)
    for name in ("ep", "continual", "bptt"):
        got, _ = estimate(ESTIMATORS[name], model, x, y)
        assert (got - expected).norm() <= (2e-3 if name == "bptt" else 1e-9) * expected.norm()


class FixedFeedback(ep.Untied):
    """Random feedback that does not learn: the forward weights' signs."""

    def feedback_weight(self):
        return 0.1 * self.upward.weight.detach().sign()


class OwnDown(ep.Untied):
    def down(self, post, pre=None):
        return torch.tanh(post @ self.feedback)


class OwnUp(ep.Untied):
    def up(self, pre, post=None):
        return 1.5 * super().up(pre)


@pytest.mark.parametrize("kind", [FixedFeedback, OwnDown, OwnUp])
def test_untied_weights_follow(kind):
    """The rule is the pairing of the currents at the free state with the displacement (Ernoult et al. 2020, section 4)."""
    model, (x, y) = chain(lambda n_pre, n_post: kind(ep.Dense(n_pre, n_post), 40)), batch()
    network, cost = model.network, model.cost
    (_, first), (_, second) = ((c.up, c) for c in network.connections)

    def step(s, force=None):
        with torch.no_grad():
            u = first.up(x) + second.down(s[1], s[0]), second.up(s[0]) + (0 if force is None else force(s[1]))
            return tuple(map(torch.tanh, u))

    free = (x.new_zeros(6, 5), x.new_zeros(6, 3))
    for _ in range(FREE):
        free = step(free)
    target, ends = cost.encode(y, free[1]), []
    for beta in (-BETA, BETA):
        nudged = free
        for _ in range(NUDGED):
            nudged = step(nudged, lambda out, beta=beta: beta * (target - out))
        ends.append(nudged)
    move = [a - b for a, b in zip(*ends, strict=True)]
    pairing = (first.up(x) * move[0]).sum() + (second.up(free[0]) * move[1]).sum()
    pairing = (pairing + (second.down(free[1], free[0]) * move[0]).sum()) / (2 * BETA * 6)
    expected = torch.autograd.grad(pairing, list(model.parameters()), allow_unused=True, materialize_grads=True)
    expected = torch.cat([g.flatten() for g in expected])
    got, _ = estimate(ESTIMATORS["ep"], model, x, y)
    torch.testing.assert_close(got, expected, rtol=1e-8, atol=1e-10)


def test_a_mismatch_of_changed_currents_is_refused():
    with pytest.raises(ValueError, match="OwnDown with currents of its own: wrap an `Untied`"):
        ep.Mismatched(OwnDown(ep.Dense(4, 3)), 0.1)
    with pytest.raises(ValueError, match="Phi has currents of its own"):
        ep.Mismatched(Phi(4, 3), 0.1)


def test_a_block_follows_its_connections():
    """`Equilibrium` has no cost: its gradient is that of an outer loss, here a squared error."""
    model, (x, y) = chain(Phi), batch()
    expected = slow_ep(model, x, y, FREE, NUDGED, BETA)
    block = ep.Equilibrium(model.network, model.dynamics, FREE, NUDGED, BETA)
    loss = (block(x) - F.one_hot(y, 3)).square().sum() / (2 * len(x))
    got = torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))])
    assert (got - expected).norm() <= 2e-3 * expected.norm()


def test_networks_of_own_classes_are_not_batched():
    from eqprop.models.batched import batch_models

    with pytest.raises(ValueError, match="connection of class Phi, and only dense ones can be batched"):
        batch_models([chain(Phi), chain(Phi)])

    class Own(ep.Prototypical):
        pass

    with pytest.raises(ValueError, match="cannot be batched: Own dynamics may draw at random"):
        batch_models([chain(ep.Dense, dynamics=Own()), chain(ep.Dense, dynamics=Own())])

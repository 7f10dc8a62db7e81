"""A subclass of a cost that overrides one method: every estimator follows it, or the model refuses it."""

import pytest
import torch
from torch.nn import functional as F

import eqprop as ep
from slow_references import BETA, ESTIMATORS, FREE, NUDGED, batch, chain, estimate, slow_ep

WEIGHTS = torch.tensor([1.0, 3.0, 0.5], dtype=torch.double)


class Weighted(ep.SquaredError):
    """Class weights."""

    def value(self, out, y):
        return super().value(out, y) * (y @ WEIGHTS)


class OwnFloats(ep.SquaredError):
    """Without ``super()``."""

    def value(self, out, y):
        return (out - y).pow(4).sum(1)


class Smoothed(ep.SquaredError):
    """Label smoothing, which must act once on each target."""

    def target(self, y, out):
        return 0.9 * super().target(y, out) + 0.1 / 3


class Encoded(ep.SquaredError):
    def encode(self, y, out):
        return 2 * super().encode(y, out)


class SameForce(ep.SquaredError):
    def force(self, out, y):
        return -(out - y)


class SameNudge(ep.SquaredError):
    def nudging_force(self, y, strength):
        return lambda out: strength * (y - out)


class Negative(ep.SquaredError):
    """Reads the output with the opposite sign in predictions only."""

    def predict(self, out):
        return -super().predict(out)


class WeightedReadout(ep.CrossEntropyReadout):
    def value(self, out, y):
        return super().value(out, y) * (y @ WEIGHTS)


class SmoothedReadout(ep.CrossEntropyReadout):
    def value(self, out, y):
        return F.cross_entropy(self.predict(out), 0.9 * y + 0.1 / 3, reduction="none")


class Tempered(ep.CrossEntropyReadout):
    """A temperature of the softmax."""

    def predict(self, out):
        return 2 * super().predict(out)


class SmoothedTarget(ep.CrossEntropyReadout):
    def target(self, y, out):
        return 0.9 * super().target(y, out) + 0.1 / 3


FOLLOWED = [Weighted, OwnFloats, Smoothed, Encoded, SameForce, SameNudge, Negative]
READOUTS = [WeightedReadout, SmoothedReadout, Tempered, SmoothedTarget]


@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.parametrize("kind", FOLLOWED + READOUTS, ids=lambda kind: kind.__name__)
def test_every_estimator_follows(kind, name):
    """`slow_ep` differentiates `value`; the value that an estimator reports is that of the free state too."""
    model, (x, y) = chain(ep.Dense, kind(3, 3) if kind in READOUTS else kind()), batch()
    expected = slow_ep(model, x, y, FREE, NUDGED, BETA)
    got, loss = estimate(ESTIMATORS[name], model, x, y)
    assert (got - expected).norm() <= (1e-9 if name in ("ep", "continual") else 2e-3) * expected.norm()
    out = ep.relax(model, x, FREE).output
    assert loss == pytest.approx(model.cost.value(out, model.cost.encode(y, out)).mean().item(), rel=1e-6)


def test_a_target_is_smoothed_once():
    """The minimum of the cost is the smoothed target, not one that was smoothed twice."""
    out, y = torch.zeros(1, 3), torch.tensor([1])
    smooth = torch.tensor([[0.1 / 3, 0.9 + 0.1 / 3, 0.1 / 3]])
    cost = Smoothed()
    encoded = cost.encode(y, out)
    torch.testing.assert_close(encoded, smooth)
    torch.testing.assert_close(cost.force(out, encoded), smooth)
    torch.testing.assert_close(cost.force(out, y), smooth)
    torch.testing.assert_close(cost.nudging_force(encoded, 1.0)(out), smooth)
    assert cost.value(smooth, encoded).item() == 0


def own(base=ep.SquaredError, **methods):
    return type("Own", (base,), methods)


CONTRADICTIONS = {
    "force": (lambda self, out, y: 3 * (y - out), "`force` is not minus the derivative of `value`"),
    "nudging_force": (lambda self, y, strength: lambda out: y - out, "`nudging_force` is not `strength` times `force`"),
    "value": (
        lambda self, out, y: (out - y).square().mean(),
        r"`value` must return one scalar per sample, .* got \(\)",
    ),
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_a_contradiction_is_refused(name):
    method, message = CONTRADICTIONS[name]
    with pytest.raises(ValueError, match="Own contradicts itself: its " + message):
        chain(ep.Dense, own(**{name: method})())


@pytest.mark.parametrize("name", ["force", "value"])
def test_so_it_is_for_a_readout(name):
    method, message = CONTRADICTIONS[name]
    with pytest.raises(ValueError, match="Own contradicts itself: its " + message):
        chain(ep.Dense, own(ep.CrossEntropyReadout, **{name: method})(3, 3))


def test_a_value_that_mixes_samples_is_refused():
    mixed = own(value=lambda self, out, y: (out - y - (out - y).mean(0)).square().sum(1))
    with pytest.raises(ValueError, match="its `value` mixes samples"):
        chain(ep.Dense, mixed())


@pytest.mark.parametrize("target", [lambda self, y, out: y, lambda self, y, out: out[:1]], ids=["classes", "one row"])
def test_a_target_of_another_form_is_refused(target):
    cost = own(target=target)()
    with pytest.raises(ValueError, match=r"`target` of Own must return floats, one row for each of the 2 samples, got"):
        cost.encode(torch.tensor([0, 1]), torch.zeros(2, 3))


def test_a_method_replaced_on_the_object_is_refused():
    cost = ep.CrossEntropyReadout(3, 3)
    cost.predict = lambda out: 2 * out
    with pytest.raises(ValueError, match="`predict` of `cost` was replaced on the object: override it in a subclass"):
        chain(ep.Dense, cost)


def test_predictions_follow():
    model, (x, _) = chain(ep.Dense, Negative()), batch()
    assert torch.equal(model(x), -ep.relax(model, x, 30).output)


KNOWN = {"value", "force", "nudging_force", "predict", "width", "target", "encode", "reset_parameters", "extra_repr"}


@pytest.mark.parametrize("kind", [ep.SquaredError, ep.CrossEntropyReadout])
def test_no_method_is_forgotten(kind):
    names = {
        name for c in kind.__mro__ if c.__module__.startswith("eqprop") for name, m in vars(c).items() if callable(m)
    }
    assert {name for name in names if not name.startswith("_")} <= KNOWN


def test_a_value_that_applies_its_target_again_is_refused():
    class Twice(ep.SquaredError):
        def target(self, y, out):
            return 0.9 * super().target(y, out) + 0.1 / 3

        def value(self, out, y):
            return (out - self.target(y, out)).square().sum(1)

    with pytest.raises(ValueError, match="its `value` calls `target`, which acts a second time"):
        chain(ep.Dense, Twice())


def test_targets_of_another_layout_are_the_costs_own():
    """The library cannot build them, so that it checks nothing."""

    class Columns(ep.SquaredError):
        def encode(self, y, out):
            if y.shape[1] != 4:
                raise ValueError(f"want 4 columns, got {y.shape[1]}")
            return y[:, :3]

    assert isinstance(chain(ep.Dense, Columns()), ep.Model)


def test_models_without_storage_can_be_made():
    with torch.device("meta"):
        model = ep.Model(ep.mlp([4, 3]).network, ep.Prototypical(), Weighted())
    assert next(model.parameters()).is_meta


def test_another_prediction_keeps_the_curvature():
    assert Negative().curvature == 1
    assert Weighted().curvature is None

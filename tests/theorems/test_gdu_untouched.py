"""A comparison changes no state, and its result does not depend on the caller's torch modes."""

import pytest
import torch

import eqprop as ep
import zoo

DYNAMICS = {
    "energy": ep.EnergyDescent(dt=0.4, clamp=False),
    "inside": ep.Prototypical(nudge="inside"),
    "outside": ep.Prototypical(nudge="outside"),
}
COSTS = ["squared", "readout"]


def tensors(report):
    """Return all tensors and numbers of a report in one list."""
    processes = [*report.neurons, *report.parameters.values()]
    return [t for p in processes for t in (p.ep, p.bptt)] + [*report.free, report.residual]


def same(a, b):
    assert all(one.equal(other) for one, other in zip(tensors(a), tensors(b), strict=True))
    assert a.summary() == b.summary()


def case(dynamics, cost, dtype=torch.double):
    model = zoo.model("skip", DYNAMICS[dynamics], cost).to(dtype)
    x, _ = zoo.batch(model)
    return model, x.to(dtype), torch.rand(zoo.BATCH, 3, dtype=dtype).softmax(1)


def compare(model, x, y):
    return ep.gdu(model, x, y, 60, 6, 0.01, "centred")


@pytest.mark.parametrize("cost", COSTS)
@pytest.mark.parametrize("dynamics", DYNAMICS)
def test_nothing_is_changed(dynamics, cost):
    model, x, y = case(dynamics, cost)
    parameters = dict(model.named_parameters())
    first = next(iter(parameters))
    parameters[first].grad = torch.full_like(parameters[first], 7.0)
    kept = {name: p.detach().clone() for name, p in parameters.items()}
    given, target, flags = x.clone(), y.clone(), [p.requires_grad for p in parameters.values()]
    versions = [p._version for p in parameters.values()]
    model.train()
    seed = torch.random.get_rng_state()
    report = compare(model, x, y)
    assert torch.random.get_rng_state().equal(seed)
    assert model.training
    assert torch.is_grad_enabled()
    assert list(dict(model.named_parameters())) == list(kept)
    for name, p in model.named_parameters():
        assert p is parameters[name]
        assert p.equal(kept[name])
    assert [p._version for p in parameters.values()] == versions
    assert [p.requires_grad for p in parameters.values()] == flags
    assert (parameters[first].grad == 7).all()
    assert all(p.grad is None for name, p in parameters.items() if name != first)
    assert x.equal(given)
    assert y.equal(target)
    assert not any(t.requires_grad for t in tensors(report))
    model.eval()
    same(compare(model, x, y), report)
    assert not model.training


@pytest.mark.parametrize("cost", COSTS)
@pytest.mark.parametrize("dynamics", DYNAMICS)
@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_where_gradients_are_off(context, dynamics, cost):
    model, x, y = case(dynamics, cost)
    report = compare(model, x, y)
    with context():
        same(compare(model, x, y), report)
        same(compare(model, x.clone(), y.clone()), report)  # inference tensors, in one of the two
    assert not any(t.is_inference() for t in tensors(report))


@pytest.mark.parametrize("cost", COSTS)
@pytest.mark.parametrize("dynamics", DYNAMICS)
def test_under_autocast(dynamics, cost):
    model, x, y = case(dynamics, cost, torch.float)
    report = compare(model, x, y)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        same(compare(model, x, y), report)
        assert torch.is_autocast_enabled("cpu")
    assert all(t.dtype == torch.float for t in tensors(report))


@pytest.mark.parametrize("cost", COSTS)
@pytest.mark.parametrize("dynamics", DYNAMICS)
def test_frozen_parameters_are_omitted(dynamics, cost):
    model, x, y = case(dynamics, cost)
    whole = compare(model, x, y)
    model.network.connections[1].requires_grad_(False)
    part = compare(model, x, y)
    assert list(part.parameters) == [name for name in whole.parameters if not name.startswith("network.connections.1.")]
    for name, process in part.parameters.items():
        torch.testing.assert_close(process.ep, whole.parameters[name].ep)
        torch.testing.assert_close(process.bptt, whole.parameters[name].bptt)


@pytest.mark.parametrize("attached", [False, True], ids=["input", "input-with-gradient"])
@pytest.mark.parametrize("cost", COSTS)
@pytest.mark.parametrize("dynamics", DYNAMICS)
def test_neurons_need_no_parameters(dynamics, cost, attached):
    model, x, y = case(dynamics, cost)
    whole = compare(model, x, y)
    model.requires_grad_(False)
    x.requires_grad_(attached)
    report = compare(model, x, y)
    assert report.parameters == {}
    assert report.angle() == 0
    assert list(report.relative_error()) == ["s1", "s2", "s3"]
    for process, expected in zip(report.neurons, whole.neurons, strict=True):
        assert process.ep.equal(expected.ep)
        torch.testing.assert_close(process.bptt, expected.bptt)
    assert x.grad is None


def test_only_a_readout_learns():
    model, x, y = case("energy", "readout")
    whole = compare(model, x, y)
    model.network.requires_grad_(False)
    report = compare(model, x, y)
    assert list(report.parameters) == ["cost.weight", "cost.bias"]
    for name, process in report.parameters.items():
        torch.testing.assert_close(process.ep, whole.parameters[name].ep)
        torch.testing.assert_close(process.bptt, whole.parameters[name].bptt)


def test_the_default_dtype_does_not_matter():
    model, x, y = case("inside", "squared")
    report = compare(model, x, y)
    torch.set_default_dtype(torch.double)
    try:
        again = compare(model, x, y)
    finally:
        torch.set_default_dtype(torch.float)
    assert all(one.equal(other) for one, other in zip(tensors(again), tensors(report), strict=True))
    assert again.relative_error() == report.relative_error()

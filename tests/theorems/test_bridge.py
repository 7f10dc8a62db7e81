"""`ep.Equilibrium`: its gradients inside an ordinary network equal those of autograd through the steady state."""

import math

import pytest
import torch
from torch import nn

import eqprop as ep
import zoo

DYNAMICS = {"inside": ep.Prototypical(nudge="inside"), "energy": ep.EnergyDescent(dt=0.5, clamp=False)}
LONG = ep.Settle(4000, tol=1e-14, check_every=10)


class Unrolled(nn.Module):
    """Oracle: the same block with autograd through its last steps."""

    def __init__(self, block):
        super().__init__()
        self.block = block

    def forward(self, x):
        network, dynamics = self.block.network, self.block.dynamics
        with torch.no_grad():
            _, free = self.block.solve(x)
        state, drive = free.state, dynamics.prepare(network, x)
        for _ in range(120):
            state = dynamics.step(network, state, drive)
        return state[-1]


def sandwich(name, dynamics, beta=1e-4, nudging="centred"):
    network = zoo.model(name, DYNAMICS[dynamics]).network
    block = ep.Equilibrium(network, DYNAMICS[dynamics], LONG, LONG, beta, nudging)
    shape = network.populations[0].shape
    first = nn.Sequential(nn.Linear(3, math.prod(shape)), nn.Unflatten(1, shape)).double()
    last = nn.Linear(network.populations[-1].shape[0], 2).double()
    return nn.Sequential(first, block, last), nn.Sequential(first, Unrolled(block), last), torch.rand(5, 3).double()


def gradients(net, x, scale=1.0):
    leaf = x.clone().requires_grad_()
    loss = scale * net(leaf).square().sum()
    return torch.autograd.grad(loss, [leaf, *net.parameters()])


@pytest.mark.parametrize("dynamics", DYNAMICS)
@pytest.mark.parametrize("name", zoo.GRAPHS)
def test_gradients_equal_those_through_the_steady_state(name, dynamics):
    ours, theirs, x = sandwich(name, dynamics)
    for a, b in zip(gradients(ours, x), gradients(theirs, x), strict=True):
        assert zoo.distance(a, b) < 1e-6


@pytest.mark.parametrize("power", [16, -16])
@pytest.mark.parametrize("dynamics", DYNAMICS)
def test_gradients_scale_with_the_outer_loss(power, dynamics):
    ours, _, x = sandwich("chain", dynamics)
    for a, b in zip(gradients(ours, x, 2.0**power), gradients(ours, x), strict=True):
        torch.testing.assert_close(a, 2.0**power * b, rtol=1e-14, atol=0)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_extreme_scales_neither_vanish_nor_overflow_in_float32(scale):
    ours, _, x = sandwich("chain", "inside", beta=0.1)
    tiny = gradients(ours.float(), x.float(), scale)
    for a, b in zip(tiny, gradients(ours, x.float()), strict=True):
        assert zoo.distance(a / scale, b) < 1e-3


def test_equilibrium_equals_the_estimator():
    """With the cost's gradient as cotangent only the scale of beta differs: O(beta^2) when centred."""
    model = zoo.model("chain", ep.Prototypical(nudge="inside"))
    x, y = zoo.batch(model)
    estimate = zoo.gradient(model, ep.EquilibriumProp(LONG, LONG, 1e-4, "centred"), x, y)
    block = ep.Equilibrium(model.network, model.dynamics, LONG, LONG, 1e-4)
    model.zero_grad()
    model.cost.value(block(x), y).mean().backward()
    assert zoo.distance(torch.cat([p.grad.flatten() for p in model.parameters()]), estimate) < 1e-6


def test_a_zero_cotangent_gives_zero_gradients():
    ours, _, x = sandwich("chain", "inside")
    assert all(not g.any() for g in gradients(ours, x, 0.0))


def test_a_second_backward_is_refused():
    ours, _, x = sandwich("chain", "inside")
    leaf = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(ours(leaf).square().sum(), leaf, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()


def test_weights_changed_before_the_backward_are_refused():
    ours, _, x = sandwich("chain", "inside")
    loss = ours(x).square().sum()
    with torch.no_grad():
        ours[1].network.connections[0].weight.add_(1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_only_tensors_that_require_a_gradient_get_one():
    ours, _, x = sandwich("chain", "inside")
    ours[0].requires_grad_(False)
    ours[1].network.connections[1].weight.requires_grad_(False)
    ours(x).square().sum().backward()
    assert ours[1].network.connections[1].weight.grad is None
    assert ours[1].network.connections[0].weight.grad.any()


def test_the_output_may_be_modified_in_place():
    ours, _, x = sandwich("chain", "inside")
    out = ours[1](ours[0](x))
    loss = out.mul_(2).square().sum()
    loss.backward()
    changed = ours[0][0].weight.grad.clone()
    ours.zero_grad()
    (2 * ours[1](ours[0](x))).square().sum().backward()
    torch.testing.assert_close(changed, ours[0][0].weight.grad)


def test_replaced_parameters_are_refused():
    ours, _, x = sandwich("chain", "inside")
    others = {name: p.detach().clone().requires_grad_() for name, p in ours.named_parameters()}
    loss = torch.func.functional_call(ours, others, (x,)).square().sum()
    with pytest.raises(RuntimeError, match="were replaced between its forward and its backward"):
        loss.backward()


def test_the_block_keeps_its_precision_under_autocast():
    ours, _, x = sandwich("chain", "inside", beta=0.1)
    ours, x = ours.float(), x.float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = ours[1](ours[0](x))
    assert out.dtype == torch.float32
    out.sum().backward()
    assert all(p.grad is not None for p in ours[:2].parameters())

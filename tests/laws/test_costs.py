"""Costs: forces are minus the gradient, and both kinds of targets are equivalent."""

import pytest
import torch

import eqprop as ep


class Quartic(ep.Cost):
    def value(self, out, y):
        return (out.flatten(1) - self.target(y, out)).pow(4).sum(1)


class Twice(ep.SquaredError):
    def value(self, out, y):
        return (out.flatten(1) - self.target(y, out)).square().sum(1)

    def force(self, out, y):
        return 2 * (self.target(y, out).view_as(out) - out)


COSTS = {
    "squared": ep.SquaredError(),
    "twice": Twice(),
    "readout": ep.CrossEntropyReadout(5, 5).double(),
    "own": Quartic(),
}


@pytest.mark.parametrize("cost", COSTS)
def test_the_force_is_minus_the_gradient(cost):
    out = torch.rand(4, 5, dtype=torch.double, requires_grad=True)
    for y in (torch.tensor([0, 4, 2, 2]), torch.rand(4, 5, dtype=torch.double)):
        (slope,) = torch.autograd.grad(COSTS[cost].value(out, y).sum(), out)
        torch.testing.assert_close(COSTS[cost].force(out.detach(), y), -slope)


@pytest.mark.parametrize("shape", [(5,), (5, 1)])
@pytest.mark.parametrize("cost", COSTS)
def test_a_nudging_force_is_the_force_times_its_strength_for_all_samples_or_for_each(cost, shape):
    y, each = torch.rand(4, 5, dtype=torch.double), torch.tensor([0.5, -0.5, 2.0, -0.1], dtype=torch.double)
    one, several = COSTS[cost].nudging_force(y, -0.3), COSTS[cost].nudging_force(y, each.view(4, *(1 for _ in shape)))
    for _ in range(2):  # the function can be called repeatedly
        out = torch.rand(4, *shape, dtype=torch.double, requires_grad=True)
        (slope,) = torch.autograd.grad(COSTS[cost].value(out, y).sum(), out)
        torch.testing.assert_close(one(out.detach()), 0.3 * slope)
        torch.testing.assert_close(several(out.detach()), -each.view(4, *(1 for _ in shape)) * slope)


@pytest.mark.parametrize("cost", COSTS)
def test_classes_and_one_hot_rows_are_equivalent(cost):
    out, y = torch.rand(4, 5, dtype=torch.double), torch.tensor([0, 4, 2, 2])
    rows = torch.eye(5, dtype=torch.double)[y]
    torch.testing.assert_close(COSTS[cost].value(out, y), COSTS[cost].value(out, rows))
    torch.testing.assert_close(COSTS[cost].encode(y.to(torch.uint8), out), rows)


def test_squared_error_is_half_the_squared_distance():
    out = torch.tensor([[0.0, 3.0], [1.0, 1.0]])
    assert ep.SquaredError().value(out, torch.tensor([[4.0, 0.0], [1.0, 1.0]])).tolist() == [12.5, 0.0]


def test_the_readout_is_the_cross_entropy_of_a_linear_layer():
    readout = ep.CrossEntropyReadout(5, 3).double()
    out, y = torch.rand(4, 5, dtype=torch.double), torch.tensor([0, 2, 1, 1])
    logits = out @ readout.weight.t() + readout.bias
    theirs = torch.logsumexp(logits, 1) - logits[torch.arange(4), y]
    torch.testing.assert_close(readout.value(out, y), theirs)
    torch.testing.assert_close(readout.predict(out), logits)


def test_one_target_value_needs_no_second_dimension():
    out = torch.rand(4, 1)
    assert ep.SquaredError().encode(torch.rand(4), out).shape == (4, 1)


def test_scores_are_flat_whatever_the_shape_of_the_output():
    assert ep.SquaredError().predict(torch.rand(4, 2, 3)).shape == (4, 6)

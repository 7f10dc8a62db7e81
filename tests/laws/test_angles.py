"""The angle between two lists of tensors."""

import math

import pytest
import torch

from eqprop._core.angles import angle_between


def test_known_angles():
    x, y = torch.tensor([1.0, 0.0]), torch.tensor([[0.0], [2.0]])
    assert angle_between([x, y], [x, y]) == pytest.approx(0, abs=1e-5)
    assert angle_between([x, y], [-x, -y]) == pytest.approx(180)
    assert angle_between([x, 0 * y], [0 * x, y]) == pytest.approx(90)
    assert angle_between([torch.tensor([1.0, 0.0])], [torch.tensor([1.0, math.sqrt(3)])]) == pytest.approx(60)


def test_zero_vectors():
    assert angle_between([torch.zeros(3)], [torch.zeros(3)]) == 0
    assert angle_between([torch.zeros(3)], [torch.ones(3)]) == 90


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_values_that_are_not_finite_give_nan(bad):
    assert math.isnan(angle_between([torch.tensor([bad, 1.0])], [torch.ones(2)]))

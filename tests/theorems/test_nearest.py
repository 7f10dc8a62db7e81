"""Average pooling with plain upsampling in the backward direction: EP's estimate is a known multiple of the gradient."""

import pytest
import torch
from torch.nn import functional as F

import eqprop as ep


def build_model(pool):
    torch.manual_seed(3)
    spec = ep.ConvNet(
        (1, 11, 11), (2, 3), kernel_size=3, pool=pool, dense=(4, 3), activation="sigmoid",
        dynamics=ep.Prototypical(nudge="inside"), gain=0.7,
    )  # fmt: skip
    if pool != "avg-nearest":
        return spec.build().double()
    with pytest.warns(
        UserWarning, match=r"feeds 4 times the adjoint back, so that EP's estimate is 4 times that of connection 1, "
    ):
        return spec.build().double()


def test_the_backward_direction_is_an_interpolation():
    layer = ep.Conv2d(2, 3, 3, pool="avg-nearest", bias=False).double()
    pre, post = torch.rand(2, 2, 9, 9, dtype=torch.double), torch.rand(2, 3, 3, 3, dtype=torch.double)
    up = F.avg_pool2d(F.conv2d(pre, layer.weight), 2)
    back = F.pad(F.interpolate(post, scale_factor=2, mode="nearest"), (0, 1, 0, 1))
    down = F.conv_transpose2d(back, layer.weight)
    torch.testing.assert_close(layer.up(pre), up)
    torch.testing.assert_close(layer.down(post, pre), down)
    for both, alone in zip(layer.both(pre, post), (up, down), strict=True):
        torch.testing.assert_close(both, alone)
    u = [torch.zeros_like(pre), torch.zeros_like(pre), torch.zeros_like(post)]
    layer.prepare(1, 2, (0.0, 1.0, 1.0)).add(u, (pre, pre, post))
    torch.testing.assert_close(u[1], down)
    torch.testing.assert_close(u[2], up)


@pytest.mark.parametrize(("pool", "factor"), [("avg", 1), ("avg-nearest", 4)])
def test_the_estimate_is_a_known_multiple_of_the_gradient(pool, factor):
    model = build_model(pool)
    x, y = torch.rand(4, 1, 11, 11, dtype=torch.double), torch.tensor([0, 1, 2, 0])
    grads = []
    for estimator in (ep.EquilibriumProp(300, 300, 1e-3, "centred"), ep.BPTT(300)):
        (loss,) = estimator(model, x, y)
        grads.append(torch.autograd.grad(loss, list(model.parameters())))
    # only the first convolution lies below a pooled edge between two relaxing populations
    wanted = [factor] * 2 + [1] * 6
    for multiple, mine, true in zip(wanted, *grads, strict=True):
        torch.testing.assert_close(mine, multiple * true, rtol=1e-4, atol=1e-8)

"""Convolutions: currents and contrasts equal derivatives of a phi that is written with torch's convolution and poolings."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

import eqprop as ep
from eqprop.connections.base import Ends
from eqprop.connections.pooling import DEFAULT_POOL_SIZE

EXACT = {"rtol": 1e-10, "atol": 1e-12}
POOLS = ("max", "avg", "softmax", None)


def pooled(z, pool, size):
    """Pool by definition; `unfold` gives the windows."""
    if pool is None:
        return z
    if pool == "avg":
        return F.avg_pool2d(z, size)
    windows = z.unfold(2, size, size).unfold(3, size, size).flatten(4)
    if pool == "max":
        return windows.amax(-1)
    return (windows.softmax(-1) * windows).sum(-1)


def phi(layer, pre, post, weight=None):
    """Return ``<post, P(W * pre + b)>``, with the bias inside the pooling, as in the paper."""
    weight = layer.weight if weight is None else weight
    z = F.conv2d(pre, weight, layer.bias, layer.stride, layer.padding)
    return (pooled(z, layer.pool, layer.pool_size) * post).flatten(1).sum(1)


@st.composite
def cases(draw, pools=POOLS):
    """Draw a layer with any stride, padding and pooling on an image of any size that fits, and three states."""
    kernel, stride, padding = draw(st.integers(1, 4)), draw(st.integers(1, 3)), draw(st.integers(0, 2))
    pool = draw(st.sampled_from(pools))
    size = draw(st.integers(1, 3)) if pool else DEFAULT_POOL_SIZE
    least = kernel - 2 * padding + (size - 1) * stride if pool else kernel - 2 * padding
    height, width = (max(1, least) + draw(st.integers(0, 5)) for _ in "hw")
    torch.manual_seed(draw(st.integers(0, 1000)))
    c_pre, c_post = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    bias = draw(st.booleans())
    layer = ep.Conv2d(
        c_pre, c_post, kernel, stride=stride, padding=padding, pool=pool, pool_size=size, bias=bias
    ).double()
    pre = [torch.rand(2, c_pre, height, width, dtype=torch.double) for _ in range(3)]
    post = [torch.rand_like(layer.up(pre[0]).detach()) for _ in range(3)]
    return layer, [Ends(*ends) for ends in zip(pre, post, strict=True)]


@settings(max_examples=150, deadline=None)
@given(cases())
def test_phi_equals_its_definition(case):
    layer, (ends, *_) = case
    torch.testing.assert_close(layer.phi(*ends), phi(layer, *ends), **EXACT)


@settings(max_examples=150, deadline=None)
@given(cases())
def test_currents_are_the_gradient_of_phi(case):
    layer, (ends, *_) = case
    leaves = [t.clone().requires_grad_() for t in ends]
    down, up = torch.autograd.grad(phi(layer, *leaves).sum(), leaves)
    for ours in (layer.both(*ends), (layer.up(ends.pre), layer.down(ends.post, ends.pre))):
        torch.testing.assert_close(ours[0], up, **EXACT)
        torch.testing.assert_close(ours[1], down, **EXACT)


@settings(max_examples=100, deadline=None)
@given(cases())
def test_a_prepared_connection_adds_the_same_currents_separately_and_together(case):
    layer, (ends, *_) = case
    up, down = layer.both(*ends)
    up = up if layer.bias is None else up - layer.bias[:, None, None]  # the drive adds the bias once per batch
    prepared = layer.prepare(1, 2, (1.0, 3.0, 0.5))
    a, zeros = [torch.zeros(()), *ends], [torch.zeros(()), *map(torch.zeros_like, ends)]
    both, single = list(zeros), list(zeros)
    prepared.add(both, a)
    prepared.add_up(single, a)
    assert single[1] is zeros[1]
    prepared.add_down(single, a)
    for u in (both, single):
        torch.testing.assert_close(u[1], 3.0 * down, **EXACT)
        torch.testing.assert_close(u[2], 0.5 * up, **EXACT)
    assert all(not t.any() for t in zeros)
    from_input = [torch.zeros(()), *zeros[2:]]
    layer.prepare(0, 1, (0.0, 1.0)).add(from_input, [ends.pre, ends.post])
    assert not from_input[0].any()


@settings(max_examples=100, deadline=None)
@given(cases(), st.booleans())
def test_the_contrast_has_the_gradient_of_the_difference_of_phi(case, static):
    layer, (free, a, b) = case
    if static:
        leaf = free.pre.clone().requires_grad_()
        a, b = Ends(leaf, a.post), Ends(leaf, b.post)
    wanted = [*layer.parameters(), *([a.pre] if static else [])]
    theirs = torch.autograd.grad((phi(layer, *a) - phi(layer, *b)).sum(), wanted)
    ours = torch.autograd.grad(layer.contrast(free, a, b), wanted)
    for mine, exact in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, exact, **EXACT)


def test_the_contrast_of_a_static_image_uses_its_maxima():
    layer = ep.Conv2d(2, 3, 3, pool="max").double()
    pre = torch.rand(2, 2, 8, 8, dtype=torch.double)
    a, b = (Ends(pre, torch.rand(2, 3, 3, 3, dtype=torch.double)) for _ in "ab")
    theirs = torch.autograd.grad((phi(layer, *a) - phi(layer, *b)).sum(), list(layer.parameters()))
    ours = torch.autograd.grad(layer.contrast(a, a, b), list(layer.parameters()))
    for mine, exact in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, exact, **EXACT)


def untied_currents(untied, ends):
    """Return the upward current, and the downward current through the feedback kernel and the pooling of the forward image."""
    layer = untied.upward
    z = F.conv2d(ends.pre, layer.weight, layer.bias, layer.stride, layer.padding)
    image = pooled(z, layer.pool, layer.pool_size)
    (q,) = torch.autograd.grad((image * ends.post).sum(), z, create_graph=True)
    leaf = torch.zeros_like(ends.pre).requires_grad_()
    (down,) = torch.autograd.grad(
        F.conv2d(leaf, untied.feedback, None, layer.stride, layer.padding), leaf, q, create_graph=True
    )
    return image, down


@settings(max_examples=100, deadline=None)
@given(cases())
def test_currents_of_untied_kernels(case):
    layer, (ends, *_) = case
    untied = ep.Untied(layer, 60).double()
    for ours, exact in zip(untied.both(*ends), untied_currents(untied, ends), strict=True):
        torch.testing.assert_close(ours, exact, **EXACT)


@settings(max_examples=100, deadline=None)
@given(cases())
def test_contrast_of_untied_kernels(case):
    """d/dtheta <u(s*), a - b>; with a smooth pooling the downward current depends on the forward kernel too."""
    layer, (free, a, b) = case
    untied = ep.Untied(layer, 60).double()
    up, down = untied_currents(untied, free)
    pairing = (up * (a.post - b.post)).sum() + (down * (a.pre - b.pre)).sum()
    theirs = torch.autograd.grad(pairing, list(untied.parameters()))
    for ours, exact in zip(
        torch.autograd.grad(untied.contrast(free, a, b), list(untied.parameters())), theirs, strict=True
    ):
        torch.testing.assert_close(ours, exact, **EXACT)


@settings(max_examples=60, deadline=None)
@given(cases(pools=("avg",)))
def test_the_feedback_of_average_pooling_is_its_exact_adjoint(case):
    """<P z, s> = <z, P^T s> with P the mean; rows and columns that do not fill a window are left out."""
    layer, (ends, *_) = case
    zero = torch.zeros_like(ends.pre)
    up = layer.up(ends.pre) - layer.up(zero)
    torch.testing.assert_close((up * ends.post).sum(), (ends.pre * layer.down(ends.post, ends.pre)).sum(), **EXACT)


def test_a_float32_contrast_keeps_the_digits_of_a_small_difference():
    torch.manual_seed(0)
    layer = ep.Conv2d(3, 4, 3, pool="max")
    pre, post = torch.rand(2, 3, 8, 8), torch.rand(2, 4, 3, 3)
    near = Ends(pre + 1e-5 * torch.rand_like(pre), post + 1e-5 * torch.rand_like(post))
    ours = torch.autograd.grad(layer.contrast(Ends(pre, post), near, Ends(pre, post)), layer.weight)[0]
    exact = layer.double()
    a, b = (Ends(*(t.double() for t in ends)) for ends in (near, Ends(pre, post)))
    theirs = torch.autograd.grad((phi(exact, *a) - phi(exact, *b)).sum(), exact.weight)[0]
    assert (
        (ours - theirs).norm() / theirs.norm()
    ).item() < 1e-2  # a difference of products would be off by more than itself


@pytest.mark.parametrize("activation", ["tanh", "identity"])
def test_max_pooling_below_negative_activities_raises(activation):
    with pytest.raises(ValueError, match=r"max pooling below .* can be negative, has no steady state .*avg"):
        ep.convnet((1, 8, 8), (2, 3), kernel_size=3, padding=1, activation=activation)
    ep.convnet((1, 8, 8), (2, 3), kernel_size=3, padding=1, activation=activation, pool="avg")
    ep.convnet((1, 8, 8), (2,), kernel_size=3, activation=activation)  # allowed from the input, which is static
    own = ep.Activation(torch.sin, name="sine")
    with pytest.raises(ValueError, match="can be negative"):
        ep.convnet((1, 8, 8), (2, 3), kernel_size=3, padding=1, activation=own)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"kernel_size": 0}, "`kernel_size` must be a whole number of at least 1, got 0"),
        ({"padding": -1}, "`padding` must be a whole number of at least 0, got -1"),
        ({"stride": 1.5}, "`stride` must be a whole number of at least 1, got 1.5"),
        ({"pool": "mean"}, "`pool` must be one of .*'avg'.*, got 'mean'"),
        ({"pool_size": 0}, "`pool_size` must be a whole number"),
        ({"pool_size": 3}, "`pool_size` is 3, but `pool` is None: leave it out, or name a pooling"),
    ],
)
def test_invalid_arguments(wrong, message):
    with pytest.raises(ValueError, match=message):
        ep.Conv2d(**({"c_pre": 1, "c_post": 2, "kernel_size": 3} | wrong))


def test_repr_and_the_required_image_below():
    layer = ep.Conv2d(1, 2, 3, stride=2, padding=1, pool="avg")
    assert repr(layer) == "Conv2d(1, 2, 3, stride=2, padding=1, pool='avg', pool_size=2, bias=True)"
    with pytest.raises(ValueError, match=r"call `down\(post, pre\)`"):
        layer.down(torch.rand(1, 2, 2, 2))


def test_initial_weights_have_the_bounds_of_torch():
    torch.manual_seed(3)
    ours = ep.Conv2d(3, 8, 5)
    bound = (3 * 5 * 5) ** -0.5
    for parameter in (ours.weight, ours.bias):
        assert 0.8 * bound < parameter.abs().max() <= bound


def test_both_currents_come_from_one_convolution(monkeypatch):
    calls = []
    plain = F.conv2d
    monkeypatch.setattr(F, "conv2d", lambda *args: calls.append(1) or plain(*args))
    ep.Conv2d(1, 2, 3, pool="max").both(torch.rand(1, 1, 6, 6), torch.rand(1, 2, 2, 2))
    assert len(calls) == 1


def test_a_network_rejects_images_that_do_not_fit():
    with pytest.raises(ValueError, match=r"edge 0 -> 1: .*does not fit populations of shapes"):
        ep.Network([ep.Population((1, 8, 8)), ep.Population((2, 5, 5))], [(0, 1, ep.Conv2d(1, 2, 3))])
    with pytest.raises(ValueError, match=r"edge 0 -> 1: .*does not fit"):
        ep.Network([ep.Population((1, 2, 2)), ep.Population((2, 1, 1))], [(0, 1, ep.Conv2d(1, 2, 5))])
    with pytest.raises(ValueError, match=r"edge 0 -> 1: .*takes images \(B, channels, height, width\)"):
        ep.Network([ep.Population((6, 6)), ep.Population((2, 4, 4))], [(0, 1, ep.Conv2d(2, 2, 3))])

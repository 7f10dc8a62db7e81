"""Centred EP is BPTT to second order in beta on small networks of images: poolings, strides, skips, untied kernels (float64)."""

import math

import pytest
import torch

import eqprop as ep
import zoo

LONG = ep.Settle(3000, tol=1e-14, check_every=10)
INSIDE = ep.Prototypical(nudge="inside")
NETWORKS = {
    "max": {"pool": "max"},
    "avg": {"pool": "avg"},
    "softmax": {"pool": "softmax"},
    "strides": {"pool": None, "stride": 2},
    "skips": {"pool": None, "stride": (2, 1), "skips": ((0, 2),)},
    "untied-max": {"pool": "max", "tied": False},
    "untied-softmax": {"pool": "softmax", "tied": False},
    "untied-skips": {"pool": None, "stride": (1, 2), "skips": ((1, 2),), "tied": False},
}


@pytest.mark.parametrize("cost", ["squared", "readout"])
@pytest.mark.parametrize("name", NETWORKS)
def test_order_in_beta(name, cost):
    torch.manual_seed(5)
    choices = {"kernel_size": 3, "padding": 1, "dense": (3,), "activation": "sigmoid", "gain": 0.5} | NETWORKS[name]
    head = {"squared": ep.SquaredError(), "readout": ep.CrossEntropyReadout(3, 3)}[cost]
    model = ep.convnet((2, 9, 7), (3, 2), dynamics=INSIDE, cost=head, **choices).double()
    x, y = zoo.batch(model)
    bptt = zoo.gradient(model, ep.BPTT(LONG, 200), x, y)
    betas = (0.01, 0.0025)
    errors = [
        zoo.distance(zoo.gradient(model, ep.EquilibriumProp(LONG, LONG, b, "centred"), x, y), bptt) for b in betas
    ]
    assert errors[0] <= 1e-3
    assert abs(math.log(errors[0] / errors[1]) / math.log(betas[0] / betas[1]) - 2) < 0.1


def test_hard_sigmoids_and_max_pooling_if_beta_moves_no_unit_over_a_kink():
    torch.manual_seed(2)
    rho = {"activation": "hard_sigmoid", "output_activation": "identity"}
    model = ep.convnet(
        (1, 8, 8), (2, 3), kernel_size=3, padding=1, dense=(3,), dynamics=INSIDE, gain=0.7, **rho
    ).double()
    x, y = zoo.batch(model)
    bptt = zoo.gradient(model, ep.BPTT(LONG, 200), x, y)
    assert bptt.norm() > 0
    assert zoo.distance(zoo.gradient(model, ep.EquilibriumProp(LONG, LONG, 1e-6, "centred"), x, y), bptt) < 1e-6


def test_continual_rules_on_images_tend_to_ep_for_small_rates():
    """ContinualSGD uses its general path for convolutions."""
    torch.manual_seed(3)
    model = ep.convnet((1, 6, 6), (2,), kernel_size=3, dense=(3,), activation="sigmoid", dynamics=INSIDE).double()
    x, y = zoo.batch(model)
    once = zoo.gradient(model, ep.EquilibriumProp(40, 10, 0.1), x, y)
    torch.testing.assert_close(zoo.gradient(model, ep.ContinualSGD(40, 10, 0.1, 0.0), x, y), once)
    far = [zoo.distance(zoo.gradient(model, ep.ContinualSGD(40, 10, 0.1, rate), x, y), once) for rate in (1e-4, 1e-5)]
    assert far[0] / far[1] == pytest.approx(10, rel=0.1)

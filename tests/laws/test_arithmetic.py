"""The arithmetic of a training step: counted by hand for small networks, by torch as it is carried out, and in the step itself."""

from collections import Counter
from dataclasses import replace
from math import prod

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import eqprop as ep
import zoo
from eqprop.bench import (
    Call,
    Feedforward,
    Part,
    Task,
    bare,
    contenders,
    multiply_adds,
    of_settling,
    of_training,
    phases_of,
)
from eqprop.estimators.ep import nudging_strengths
from eqprop.papers.registry import recipe

B, T, K = 2, 4, 3

SMALL = (
    "p-1h", "eb-2h", "vf-1h", "cvf-2h", "hardware-centred", "p-conv-small", "laborieux-cifar10-small", "dchn-mnist-small",
    "resnet13-cifar10-small", "spiking-digits", "spiking-mnist-small",
)  # fmt: skip
"""Every kind of dynamics, connection, pooling, nudging, cost and schedule that recipes have."""


def operations(work) -> int:
    """Multiplications and additions of products and convolutions, as torch counts them while they are carried out."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def chain(**choices) -> ep.Model:
    return ep.mlp([4, 5, 3], **choices)


def images(**choices) -> ep.Model:
    """9 x 9 with 2 channels; 7 x 7, pooled to 3 x 3, with 3 channels; 5 units."""
    return ep.convnet((2, 9, 9), (3,), kernel_size=3, dense=(5,), **choices)


def test_a_chain_by_hand():
    """The input's current once; the other layer up and down at every step; the contrast of 2 B states, but for the input."""
    parts = of_training(chain(), 7, 30, 10)
    assert parts == (
        Part("input", 1, (Call("0→1", "up", 7),)),
        Part("free step", 30, (Call("1→2", "up", 7), Call("1→2", "down", 7))),
        Part("nudged step", 10, (Call("1→2", "up", 7), Call("1→2", "down", 7))),
        Part("contrast", 1, (Call("0→1", "gradient", 7), Call("1→2", "gradient", 14))),
    )
    assert multiply_adds(chain(), parts) == 7 * (4 * 5 + 40 * 2 * 5 * 3 + 4 * 5 + 2 * 5 * 3)


def test_two_nudged_phases_side_by_side():
    one, two = (of_training(chain(), 7, 30, 10, copies) for copies in (1, 2))
    assert two[2] == Part("nudged step", 10, (Call("1→2", "up", 14), Call("1→2", "down", 14)))
    assert (two[0], two[1], two[3]) == (one[0], one[1], one[3])


def test_steps_of_a_free_phase_by_hand():
    assert of_settling(chain(), 7, 30) == (of_training(chain(), 7, 30, 10)[1],)


def test_untied_weights_learn_from_two_products():
    *_, contrast = of_training(chain(tied=False), 7, 30, 10)
    assert contrast.calls == (Call("0→1", "gradient", 7), Call("1→2", "gradient", 7), Call("1→2", "gradient", 7))


def test_mismatched_weights_learn_as_those_that_are_written():
    for tied in (True, False):
        assert of_training(chain(tied=tied, mismatch=0.1), 7, 30, 10) == of_training(chain(tied=tied), 7, 30, 10)


def test_an_input_in_spikes_goes_up_at_every_tick_but_the_first():
    first, free, nudged, _ = of_training(chain(dynamics=ep.Spiking()), 7, 30, 10)
    assert first.calls == ()
    assert (free.times, nudged.times) == (29, 10)
    assert free.calls == nudged.calls == (Call("0→1", "up", 7), Call("1→2", "up", 7), Call("1→2", "down", 7))
    still, *_ = of_training(chain(dynamics=ep.Spiking(input="current")), 7, 30, 10)
    assert still.calls == (Call("0→1", "up", 7),)


def test_convolutions_by_hand():
    """A convolution takes its kernel at each of 7 x 7 pixels; the average over windows is 4 x 4 wide and has 3 x 3."""
    for pool, kernel, pixels in (("max", 3 * 3, 7 * 7), ("avg", 4 * 4, 3 * 3)):
        parts = of_training(images(pool=pool), 7, 30, 10)
        assert [c.edge for part in parts for c in part.calls if c.edge == "0→1"] == ["0→1"] * 2
        first, head = 2 * 3 * kernel * pixels, 3 * 3 * 3 * 5
        assert multiply_adds(images(pool=pool), parts) == 7 * (2 * first + (40 * 2 + 2) * head)


def test_a_readout_by_hand():
    model = ep.Model(ep.mlp([4, 5]).network, ep.Prototypical(), ep.CrossEntropyReadout(5, 3))
    _, free, nudged, contrast = of_training(model, 7, 30, 10, 2)
    assert free.calls == ()
    assert nudged.calls == (Call("readout", "up", 14), Call("readout", "down", 14))
    assert contrast.calls[1:] == (Call("readout", "up", 7), Call("readout", "gradient", 7))


@pytest.mark.parametrize("name", ["skip", "lateral", "parallel", "downward", "input-skip", "residual-images", "images"])
def test_every_edge_of_a_graph(name):
    """From the edges alone: which populations it joins, and of what size."""
    model = zoo.model(name, ep.Prototypical())
    counts = Counter((c.edge, c.way) for part in of_training(model, 1, 1, 1) for c in part.calls)
    for edge, (pre, _) in zip(model.network.edge_names(), model.network.ends, strict=True):
        found = {way: n for (at, way), n in counts.items() if at == edge}
        assert found == ({"up": 2, "down": 2, "gradient": 1} if pre else {"up": 1, "gradient": 1})
    step = bare(model, of_training(model, B, T, K, 2))
    assert operations(step) == 2 * multiply_adds(model, of_training(model, B, T, K, 2))


def test_a_connection_of_ones_own_is_not_known():
    model = zoo.model("own-connection", ep.Prototypical())
    with pytest.raises(ValueError, match="arithmetic of LinearLowRank is not known"):
        bare(model, of_training(model, 1, 1, 1))


def task(name: str) -> Task:
    run = recipe(name)
    return Task(run, phases_of(run, T, K), B)


@pytest.mark.parametrize("name", SMALL)
def test_what_is_carried_out_is_what_is_counted(name):
    model = task(name).model()
    assert operations(contenders(task(name))["bare"]()) == 2 * multiply_adds(model, task(name).arithmetic(model))


@pytest.mark.parametrize("name", SMALL)
def test_a_step_of_ep_takes_these_products_and_convolutions_and_no_others(name):
    """Max pooling convolves again for the contrast, and a sweep before its phase begins: where are the largest values now?

    Average pooling is folded into the kernels: for the phases, for the contrast, and back from the gradient.
    """
    it = task(name)
    model = it.model()
    sizes = zip(model.network.edges(), kernels(model), strict=True)
    pooled = [(pre, size) for (pre, _, c), size in sizes if getattr(c, "pool", None) == "max"]
    again = sum((2 * B if pre else B) * size for pre, size in pooled)
    sweeps = it.phases.free.schedule != ep.Synchronous()
    again += sum((B + it.phases.copies * B) * size for pre, size in pooled if pre and sweeps)
    again += sum(3 * 2 * 2 * c.weight.numel() for c in model.network.connections if getattr(c, "pool", None) == "avg")
    assert operations(contenders(it)["EP"]()) == 2 * (multiply_adds(model, it.arithmetic(model)) + again)


def kernels(model: ep.Model) -> list[int]:
    """Multiply-accumulates of each connection for a sample: the weights at every pixel of what a convolution gives; no strides."""
    sizes = []
    for pre, _, connection in model.network.edges():
        if not isinstance(connection, ep.Conv2d):
            sizes.append(0)
            continue
        k, p = connection.weight.shape[-1], connection.padding
        pixels = [n + 2 * p - k + 1 for n in model.network.populations[pre].shape[1:]]
        sizes.append(connection.weight.numel() * prod(pixels))
    return sizes


def test_a_feedforward_network_is_the_way_up():
    """Its output is that of the layers one after the other, by the definitions of torch; its gradient autograd's."""
    model = images(pool="max", activation="sigmoid")
    first, head = model.network.connections
    x, y = torch.rand(6, 2, 9, 9), torch.randint(5, (6,))
    u = torch.nn.functional.max_pool2d(torch.nn.functional.conv2d(x, first.weight), 2) + first.bias[:, None, None]
    u = torch.sigmoid(4 * (u - 0.5)).flatten(1) @ head.weight.T + head.bias
    out = torch.sigmoid(4 * (u - 0.5))
    net = Feedforward(model)
    torch.testing.assert_close(net(x), out)
    loss = (out - torch.nn.functional.one_hot(y, 5)).square().sum(1).mean() / 2
    wanted = torch.autograd.grad(loss, [first.weight, head.weight])
    net.loss(x, y).backward()
    for layer, gradient in zip(net.layers, wanted, strict=True):
        torch.testing.assert_close(layer.weight.grad, gradient)
    assert all(p.grad is None for p in model.parameters())


def test_a_feedforward_network_has_no_feedback_weights():
    net = Feedforward(chain(tied=False, mismatch=0.1))
    assert [tuple(p.shape) for p in net.parameters()] == [(5, 4), (5,), (3, 5), (3,)]


@pytest.mark.parametrize("name", ["skip", "lateral", "own-connection", "parallel"])
def test_what_is_no_chain_has_no_feedforward_network(name):
    with pytest.raises(ValueError, match=r"no chain|no layer"):
        Feedforward(zoo.model(name, ep.Prototypical()))


def test_phases_are_those_of_the_recipe_at_full_length():
    run = recipe("spiking-digits")
    phases = phases_of(run)
    assert (phases.free, phases.nudged) == (ep.Settle(50), ep.Settle(25, average=6))
    assert (phases.beta, phases.nudging, phases.copies) == (
        0.5,
        "centred",
        len(nudging_strengths("centred", 0.5, None)),
    )
    assert phases_of(run, 9, 4).nudged == ep.Settle(4, average=4)
    early = replace(run.estimator, free_steps=ep.Settle(70, tol=1e-3, accelerate=ep.Anderson()))
    assert phases_of(replace(run, estimator=early)).free == ep.Settle(70, accelerate=ep.Anderson())
    sweeps = phases_of(recipe("dchn-mnist-small"), 3).free
    assert sweeps == ep.Settle(3, schedule=ep.Asynchronous())
    with pytest.raises(ValueError, match="BPTT has no nudged phase"):
        phases_of(replace(run, estimator=ep.BPTT(5)))

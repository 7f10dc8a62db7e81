"""The arithmetic of a training step, counted by hand for small networks, by torch at run time, and in the step itself."""

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
    extract_phases,
    make_bare_step,
    make_candidates,
    multiply_adds,
    settling_parts,
    training_parts,
)
from eqprop.estimators.ep import nudging_strengths
from eqprop.papers.registry import recipe

B, T, K = 2, 4, 3

SMALL = (
    "p-1h", "eb-2h", "vf-1h", "cvf-2h", "hardware-centred", "p-conv-small", "laborieux-cifar10-small", "dchn-mnist-small",
    "resnet13-cifar10-small", "spiking-digits", "spiking-mnist-small",
)  # fmt: skip
"""Every kind of dynamics, connection, pooling, nudging, cost and schedule of the recipes."""


def operations(work) -> int:
    """Multiplications and additions of products and convolutions, counted by torch while ``work`` runs."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def chain(**choices) -> ep.Model:
    return ep.mlp([4, 5, 3], **choices)


def images(**choices) -> ep.Model:
    """2 channels of 9 x 9; 3 channels of 7 x 7, pooled to 3 x 3; 5 units."""
    return ep.convnet((2, 9, 9), (3,), kernel_size=3, dense=(5,), **choices)


def test_layered_network_by_hand():
    """Input drive once; the other layer up and down at every step; contrast of 2 B states, or B from the input."""
    parts = training_parts(chain(), 7, 30, 10)
    assert parts == (
        Part("input", 1, (Call("0→1", "up", 7),)),
        Part("free step", 30, (Call("1→2", "up", 7), Call("1→2", "down", 7))),
        Part("nudged step", 10, (Call("1→2", "up", 7), Call("1→2", "down", 7))),
        Part("contrast", 1, (Call("0→1", "gradient", 7), Call("1→2", "gradient", 14))),
    )
    assert multiply_adds(chain(), parts) == 7 * (4 * 5 + 40 * 2 * 5 * 3 + 4 * 5 + 2 * 5 * 3)


def test_centred_nudged_steps_have_twice_the_samples():
    one, two = (training_parts(chain(), 7, 30, 10, copies) for copies in (1, 2))
    assert two[2] == Part("nudged step", 10, (Call("1→2", "up", 14), Call("1→2", "down", 14)))
    assert (two[0], two[1], two[3]) == (one[0], one[1], one[3])


def test_steps_of_a_free_phase_by_hand():
    assert settling_parts(chain(), 7, 30) == (training_parts(chain(), 7, 30, 10)[1],)


def test_contrast_of_untied_weights_is_two_products():
    *_, contrast = training_parts(chain(tied=False), 7, 30, 10)
    assert contrast.calls == (Call("0→1", "gradient", 7), Call("1→2", "gradient", 7), Call("1→2", "gradient", 7))


def test_mismatched_weights_need_the_same_operations():
    for tied in (True, False):
        assert training_parts(chain(tied=tied, mismatch=0.1), 7, 30, 10) == training_parts(chain(tied=tied), 7, 30, 10)


def test_spiking_input_goes_up_at_every_tick_but_the_first():
    first, free, nudged, _ = training_parts(chain(dynamics=ep.Spiking()), 7, 30, 10)
    assert first.calls == ()
    assert (free.times, nudged.times) == (29, 10)
    assert free.calls == nudged.calls == (Call("0→1", "up", 7), Call("1→2", "up", 7), Call("1→2", "down", 7))
    static, *_ = training_parts(chain(dynamics=ep.Spiking(input="current")), 7, 30, 10)
    assert static.calls == (Call("0→1", "up", 7),)


def test_convolutions_by_hand():
    """A convolution applies its kernel at 7 x 7 pixels; with average pooling, a 4 x 4 kernel at 3 x 3 pixels."""
    for pool, kernel, pixels in (("max", 3 * 3, 7 * 7), ("avg", 4 * 4, 3 * 3)):
        parts = training_parts(images(pool=pool), 7, 30, 10)
        assert [c.edge for part in parts for c in part.calls if c.edge == "0→1"] == ["0→1"] * 2
        first, head = 2 * 3 * kernel * pixels, 3 * 3 * 3 * 5
        assert multiply_adds(images(pool=pool), parts) == 7 * (2 * first + (40 * 2 + 2) * head)


def test_a_readout_by_hand():
    model = ep.Model(ep.mlp([4, 5]).network, ep.Prototypical(), ep.CrossEntropyReadout(5, 3))
    _, free, nudged, contrast = training_parts(model, 7, 30, 10, 2)
    assert free.calls == ()
    assert nudged.calls == (Call("readout", "up", 14), Call("readout", "down", 14))
    assert contrast.calls[1:] == (Call("readout", "up", 7), Call("readout", "gradient", 7))


@pytest.mark.parametrize("name", ["skip", "lateral", "parallel", "downward", "input-skip", "residual-images", "images"])
def test_every_edge_of_a_graph(name):
    """Expected calls follow from the populations that each edge joins."""
    model = zoo.model(name, ep.Prototypical())
    counts = Counter((c.edge, c.direction) for part in training_parts(model, 1, 1, 1) for c in part.calls)
    for edge, (pre, _) in zip(model.network.edge_names(), model.network.ends, strict=True):
        found = {way: n for (at, way), n in counts.items() if at == edge}
        assert found == ({"up": 2, "down": 2, "gradient": 1} if pre else {"up": 1, "gradient": 1})
    step = make_bare_step(model, training_parts(model, B, T, K, 2))
    assert operations(step) == 2 * multiply_adds(model, training_parts(model, B, T, K, 2))


def test_unknown_connection_is_refused():
    model = zoo.model("own-connection", ep.Prototypical())
    with pytest.raises(ValueError, match="arithmetic of LinearLowRank is not known"):
        make_bare_step(model, training_parts(model, 1, 1, 1))


def task(name: str) -> Task:
    run = recipe(name)
    return Task(run, extract_phases(run, T, K), B)


@pytest.mark.parametrize("name", SMALL)
def test_bare_step_runs_what_is_counted(name):
    model = task(name).model()
    assert operations(make_candidates(task(name))["bare"]()) == 2 * multiply_adds(model, task(name).arithmetic(model))


@pytest.mark.parametrize("name", SMALL)
def test_ep_step_runs_these_operations_and_no_others(name):
    """Max pooling convolves once more for the contrast, and before each phase of sweeps, to find the largest values.

    Average pooling is folded into the kernels three times: for the phases, for the contrast, and for the gradient.
    """
    one = task(name)
    model = one.model()
    sizes = zip(model.network.edges(), kernels(model), strict=True)
    pooled = [(pre, size) for (pre, _, c), size in sizes if getattr(c, "pool", None) == "max"]
    again = sum((2 * B if pre else B) * size for pre, size in pooled)
    sweeps = one.phases.free.schedule != ep.Synchronous()
    again += sum((B + one.phases.copies * B) * size for pre, size in pooled if pre and sweeps)
    again += sum(3 * 2 * 2 * c.weight.numel() for c in model.network.connections if getattr(c, "pool", None) == "avg")
    assert operations(make_candidates(one)["EP"]()) == 2 * (multiply_adds(model, one.arithmetic(model)) + again)


def kernels(model: ep.Model) -> list[int]:
    """Multiply-accumulates per sample of each convolution (stride 1): weights times output pixels; 0 for dense edges."""
    sizes = []
    for pre, _, connection in model.network.edges():
        if not isinstance(connection, ep.Conv2d):
            sizes.append(0)
            continue
        k, p = connection.weight.shape[-1], connection.padding
        pixels = [n + 2 * p - k + 1 for n in model.network.populations[pre].shape[1:]]
        sizes.append(connection.weight.numel() * prod(pixels))
    return sizes


def test_feedforward_network_matches_torch():
    """Output and gradient equal those of the same layers written with torch functions."""
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


def test_feedforward_network_has_no_feedback_weights():
    net = Feedforward(chain(tied=False, mismatch=0.1))
    assert [tuple(p.shape) for p in net.parameters()] == [(5, 4), (5,), (3, 5), (3,)]


@pytest.mark.parametrize("name", ["skip", "lateral", "own-connection", "parallel"])
def test_feedforward_network_must_be_a_chain(name):
    with pytest.raises(ValueError, match=r"must be a chain|is not a layer"):
        Feedforward(zoo.model(name, ep.Prototypical()))


def test_phases_are_the_recipes_at_full_length():
    run = recipe("spiking-digits")
    phases = extract_phases(run)
    assert (phases.free, phases.nudged) == (ep.Settle(50), ep.Settle(25, average=6))
    assert (phases.beta, phases.nudging, phases.copies) == (
        0.5,
        "centred",
        len(nudging_strengths("centred", 0.5, None)),
    )
    assert extract_phases(run, 9, 4).nudged == ep.Settle(4, average=4)
    early = replace(run.estimator, free_steps=ep.Settle(70, tol=1e-3, accelerate=ep.Anderson()))
    assert extract_phases(replace(run, estimator=early)).free == ep.Settle(70, accelerate=ep.Anderson())
    sweeps = extract_phases(recipe("dchn-mnist-small"), 3).free
    assert sweeps == ep.Settle(3, schedule=ep.Asynchronous())
    with pytest.raises(ValueError, match="BPTT has no nudged phase"):
        extract_phases(replace(run, estimator=ep.BPTT(5)))

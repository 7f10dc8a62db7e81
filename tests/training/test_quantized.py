"""Weights stay on their grid, move by the update's mean, and with bits enough are those of plain SGD."""

from dataclasses import replace

import pytest
import torch

import eqprop as ep
from eqprop.training import SGD, QuantizedSGD, Run
from eqprop.training.config.quantized import Quantized, add_stochastically, on_grid, quantize_update, top
from small_trainings import blobs, mlp


def levels(bits: int, span: float) -> torch.Tensor:
    n = 2 ** (bits - 1) - 1
    return torch.tensor([k * span / n for k in range(-n, n + 1)], dtype=torch.double)


def distance_to(values: torch.Tensor, grid: torch.Tensor) -> float:
    return (values.double().reshape(-1, 1) - grid).abs().amin(1).max().item()


def trained(optimizer, estimator=None, batches: int = 6) -> ep.Model:
    model = mlp().double()
    built, (x, y), signs = optimizer.build(model), blobs(24), torch.Generator().manual_seed(8)
    estimator = estimator or ep.EquilibriumProp(8, 4, 0.2, "centred")
    for _ in range(batches):
        for loss in estimator(model, x.double(), y, generator=signs):
            built.zero_grad()
            loss.backward()
            built.step()
    return model


@pytest.mark.parametrize("bits", [2, 3, 5, 8])
def test_weights_begin_on_the_nearest_level(bits):
    model, before = mlp(), mlp()
    QuantizedSGD(0.1, weight_bits=bits, span=0.3).build(model)
    for p, was in zip(model.parameters(), before.parameters(), strict=True):
        grid = levels(bits, 0.3)
        wanted = grid[(was.detach().double().reshape(-1, 1) - grid).abs().argmin(1)].reshape(was.shape)
        torch.testing.assert_close(p.detach().double(), wanted, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("bits", [2, 3, 5, 8])
@pytest.mark.parametrize("estimator", [None, ep.ContinualEP(8, 4, 0.2)])
def test_weights_stay_on_the_grid_and_within_the_span(bits, estimator):
    model = trained(QuantizedSGD(0.5, weight_bits=bits, update_bits=8, span=0.4), estimator)
    for p in model.parameters():
        assert distance_to(p.detach(), levels(bits, 0.4)) < 1e-12
    assert max(p.abs().max().item() for p in model.parameters()) <= 0.4 + 1e-12


def test_building_twice_changes_nothing_more():
    model = mlp()
    choice = QuantizedSGD(0.1, weight_bits=4)
    choice.build(model)
    before = [p.detach().clone() for p in model.parameters()]
    choice.build(model)
    assert all(torch.equal(p, was) for p, was in zip(model.parameters(), before, strict=True))


@pytest.mark.parametrize("update", [0.013, -0.013, 0.11, -0.04, 1e-4])
def test_rounding_is_unbiased_and_goes_to_a_neighbor(update):
    """The mean of n draws is the update within 5 standard errors; its variance is ``h^2 p (1 - p)``."""
    n, span, bits = 400_000, 1.0, 5
    h = span / top(bits)
    start = on_grid(torch.full((n,), 0.2, dtype=torch.double), span, top(bits))
    after = add_stochastically(start, torch.full((n,), update, dtype=torch.double), span, top(bits))
    below = torch.floor(torch.tensor(update / h))
    p = update / h - below.item()
    steps = ((after - start) / h).round()
    assert set(steps.unique().tolist()) <= {below.item(), below.item() + 1}
    assert (after - start).mean().item() == pytest.approx(update, abs=5 * h * (p * (1 - p) / n) ** 0.5)
    assert (after - start).var().item() == pytest.approx(h**2 * p * (1 - p), rel=0.25)


def test_every_weight_has_a_draw_of_its_own():
    """The rounding of one says nothing of another's."""
    n, span, bits = 2000, 1.0, 5
    half = torch.full((n, 3, 2), 0.5 * span / top(bits))
    up = (add_stochastically(torch.zeros(n, 3, 2), half, span, top(bits)) > 0).double().reshape(n, 6) - 0.5
    together = 4 * up.t() @ up / n
    assert (together - torch.eye(6).double()).abs().max() < 5 / n**0.5
    assert up.mean(0).abs().max() < 2.5 / n**0.5


def test_what_has_no_update_does_not_move():
    """Also far up a fine grid, where a level divided by the spacing is no whole number in single precision."""
    weight = on_grid(torch.rand(100_000) * 2 - 1, 1.0, top(16))
    for _ in range(20):
        assert torch.equal(add_stochastically(weight, torch.zeros_like(weight), 1.0, top(16)), weight)


def test_weights_stop_at_the_span():
    weight = torch.tensor([0.9, -0.9])
    assert add_stochastically(weight, torch.tensor([5.0, -5.0]), 1.0, top(4)).tolist() == [1.0, -1.0]


@pytest.mark.parametrize("bits", [2, 3, 6])
def test_updates_are_on_the_grid_that_their_largest_spans(bits):
    update = torch.randn(40, 30, dtype=torch.double)
    found = quantize_update(update, top(bits))
    grid = levels(bits, update.abs().max().item())
    wanted = grid[(update.reshape(-1, 1) - grid).abs().argmin(1)].reshape(update.shape)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-14)
    assert len(found.unique()) <= 2**bits - 1


def test_an_update_of_nothing_is_nothing():
    assert torch.equal(quantize_update(torch.zeros(3), 7), torch.zeros(3))


@pytest.mark.parametrize("estimator", [None, ep.ContinualEP(8, 4, 0.2), ep.ContinualEP(8, 4, 0.2, "random-sign")])
def test_with_bits_enough_it_is_plain_sgd(estimator):
    plain, fine = (
        trained(choice, estimator)
        for choice in (SGD((0.5, 0.2)), QuantizedSGD((0.5, 0.2), weight_bits=44, update_bits=44, span=4.0))
    )
    for a, b in zip(plain.parameters(), fine.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-9)


def test_either_limit_alone():
    """Coarse updates of fine weights: each update, once rounded, is what the weights move by."""
    model = mlp().double()
    built = QuantizedSGD(0.5, weight_bits=44, update_bits=3, span=4.0).build(model)
    before = [p.detach().clone() for p in model.parameters()]
    x, y = blobs(24)
    for loss in ep.EquilibriumProp(8, 4, 0.2)(model, x.double(), y):
        loss.backward()
    built.step()
    for p, was in zip(model.parameters(), before, strict=True):
        assert len(((p.detach() - was) / (0.5 * p.grad.abs().max())).mul(3).round().unique()) <= 7
        torch.testing.assert_close(p.detach() - was, quantize_update(-0.5 * p.grad, 3), rtol=0, atol=1e-10)


def test_a_parameter_without_gradient_stays():
    p = torch.nn.Parameter(torch.tensor([0.5]))
    Quantized([p], lr=1.0, weight_bits=3).step()
    assert p.item() == pytest.approx(2 / 3)


def test_continual_sgd_is_refused():
    model = mlp()
    optimizer = QuantizedSGD(0.1).build(model)
    with pytest.raises(ValueError, match="the optimizer is another Quantized: give `rates`, or use ContinualEP"):
        ep.ContinualSGD(8, 4, 0.2).bind(model, optimizer)


def test_a_file_carries_it():
    run = Run(
        "r",
        ep.training.Data("digits"),
        ep.MLP((64, 10)),
        ep.EquilibriumProp(8, 4, 0.2),
        QuantizedSGD((0.1,), 5, 4, 2.0),
    )
    assert Run.from_json(run.to_json()) == run
    assert replace(run, optimizer=QuantizedSGD(0.1, 5, 4)) != run


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight_bits": 1}, "`weight_bits` must be at least 2, a sign and one bit, got 1"),
        ({"update_bits": 1}, "`update_bits` must be at least 2, a sign and one bit, got 1"),
        ({"weight_bits": 2.5}, "`weight_bits` must be a whole number of at least 1, got 2.5"),
        ({"update_bits": 54}, "`update_bits` must be at most 53, got 54"),
        ({"span": 0.0}, "`span` must be a finite number above 0, got 0.0"),
        ({"rates": -0.1}, "`rates` must be a finite number above 0, got -0.1"),
    ],
)
def test_bad_input(options, message):
    with pytest.raises(ValueError, match=message):
        QuantizedSGD(**{"rates": 0.1} | options)

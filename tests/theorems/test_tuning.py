"""The grid of settings compared with a slow oracle that computes EP's estimate and BPTT's gradient anew for every cell."""

import math
from dataclasses import replace
from itertools import product

import pytest
import torch

import eqprop as ep
import zoo
from eqprop.theorem.tuning import Cell, Grid, cheapest, tune

DYNAMICS = {
    "energy": ep.EnergyDescent(dt=0.5, clamp=False),
    "clamped": ep.EnergyDescent(dt=0.5),
    "inside": ep.Prototypical(nudge="inside"),
    "outside": ep.Prototypical(),
}
GRID = Grid((2, 3, 7), (1, 3, 6), (-0.3, 0.1))


def batches(model, sizes=(3, 2)):
    """Batches of different sizes; the first input is never lit, so that some weights have no gradient."""
    found = []
    for n, size in enumerate(sizes):
        x, y = zoo.batch(model, seed=20 + n)
        x[:, 0] = 0
        found.append((x[:size], y[:size]))
    return found


def of_the_network(model, estimator, x, y):
    """Return the gradient of each trainable parameter of the network; a readout does not learn by EP.

    Round-off, by which the two sides of a difference are equal or not, is taken for zero.
    """
    zoo.gradient(model, estimator, x, y)
    wanted = [p for p in model.network.parameters() if p.requires_grad]
    found = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in wanted]
    model.zero_grad()
    return [grad.where(grad.abs() > 1e-14, 0.0).flatten() for grad in found]


def same_signs(ep_gradient, bptt_gradient):
    """Component by component; where neither has a sign there is nothing to agree on."""
    pairs = [(e, b) for e, b in zip(ep_gradient.tolist(), bptt_gradient.tolist(), strict=True) if e != 0 or b != 0]
    return sum((e > 0) == (b > 0) and (e < 0) == (b < 0) for e, b in pairs) / len(pairs) if pairs else 1.0


def motion(model, x, steps):
    """The largest of any unit in the last free step."""
    now = ep.relax(model, x, steps).state
    before = ep.relax(model, x, steps - 1).state if steps > 1 else [torch.zeros_like(s) for s in now]
    return max((a - b).abs().max().item() for a, b in zip(now, before, strict=True))


def by_hand(model, given, steps, nudged, beta, nudging):
    """Return the expected cell: computed for every batch, and averaged."""
    found = []
    for x, y in given:
        one = of_the_network(model, ep.EquilibriumProp(steps, nudged, beta, nudging), x, y)
        other = of_the_network(model, ep.BPTT(steps), x, y)
        a, b = torch.cat(one), torch.cat(other)
        found.append(
            (
                same_signs(a, b),
                min(map(same_signs, one, other)),
                math.dist(a, b) / math.hypot(*b),
                (torch.dot(a, b) / (a.norm() * b.norm())).item(),
            )
        )
    same, lowest, error, cosine = (sum(values) / len(given) for values in zip(*found, strict=True))
    cost = steps + nudged * (2 if nudging == "centred" else 1)
    return Cell(steps, nudged, beta, cost, max(motion(model, x, steps) for x, _ in given), same, lowest, error, cosine)


def check(model, grid, given=None):
    """Compare every cell with its expected value, in the order of the grid; return the cells."""
    given = given or batches(model)
    cells = tune(model, given, grid)
    settings = [
        setting
        for setting in product(sorted(grid.free_steps), sorted(grid.nudged_steps), sorted(grid.betas))
        if setting[1] <= setting[0]
    ]
    assert [(c.free_steps, c.nudged_steps, c.beta) for c in cells] == settings
    for cell in cells:
        wanted = by_hand(model, given, cell.free_steps, cell.nudged_steps, cell.beta, grid.nudging)
        assert vars(cell) == pytest.approx(vars(wanted), rel=1e-8, abs=1e-14)
    return cells


@pytest.mark.parametrize("nudging", ["one-sided", "centred"])
@pytest.mark.parametrize("dynamics", DYNAMICS)
def test_every_cell_matches_a_computation_from_scratch(dynamics, nudging):
    cells = check(zoo.model("deep-chain", DYNAMICS[dynamics]), replace(GRID, nudging=nudging))
    assert len(cells) == 2 * (1 + 2 + 3)
    assert len({cell.same_sign for cell in cells}) > 1, "a grid in which all agree tests nothing"


@pytest.mark.parametrize("nudging", ["one-sided", "centred"])
def test_connections_that_autograd_differentiates(nudging):
    """From K = 2 on: before, some of their gradients are rounding errors with an arbitrary sign."""
    check(zoo.model("own-connection", DYNAMICS["energy"]), Grid((3, 7), (2, 6), (-0.3, 0.1), nudging))


@pytest.mark.parametrize("nudging", ["one-sided", "centred"])
def test_readout_weights_are_not_compared(nudging):
    """Their gradient is the same by EP and by BPTT."""
    check(zoo.model("skip", DYNAMICS["inside"], "readout"), replace(GRID, nudging=nudging))


def test_untied_weights():
    torch.manual_seed(3)
    model = ep.mlp([4, 5, 3], activation="tanh", tied=False, angle=60, dynamics=DYNAMICS["inside"]).double()
    check(model, GRID)


def test_frozen_parameters_are_not_compared():
    model = zoo.model("chain", DYNAMICS["inside"])
    free = tune(model, batches(model), GRID)
    model.network.connections[0].weight.requires_grad_(False)
    held = check(model, GRID)
    assert [cell.cosine for cell in free] != [cell.cosine for cell in held]


def test_one_nudged_step_trains_only_the_output():
    """With K = 1 the nudge has reached no hidden unit: EP's gradient for what is below is zero, and BPTT's is not.

    Centred, since both phases then move alike where the nudge is not.
    """
    model = zoo.model("chain", DYNAMICS["inside"])
    given = batches(model, (3,))
    small, larger = tune(model, given, Grid((9,), (1, 8), (0.01,), "centred"))
    assert small.lowest == 0.0
    assert small.relative_error > 0.1
    assert larger.relative_error < 0.1 * small.relative_error
    assert larger.lowest == 1.0


def test_small_beta_and_long_phases_are_the_whole_gradient():
    """The theorem, summed up: at the steady state, with K that reaches everywhere, EP is BPTT up to the order of beta."""
    model = zoo.model("skip", DYNAMICS["energy"])
    found = tune(model, batches(model), Grid((80,), (40,), (1e-3, 1e-2)))
    assert found[1].relative_error == pytest.approx(10 * found[0].relative_error, rel=0.1)
    assert found[0].relative_error < 1e-2
    assert [cell.same_sign for cell in found] == [1.0, 1.0]
    centred = tune(model, batches(model), Grid((120,), (80,), (1e-2, 3e-2), "centred"))
    assert centred[1].relative_error == pytest.approx(9 * centred[0].relative_error, rel=0.1)


def test_the_reference_is_the_gradient_over_all_steps():
    model = zoo.model("chain", DYNAMICS["inside"])
    (x, y), *_ = given = batches(model, (3,))
    cell = tune(model, given, Grid((9,), (2,), (0.05,)))[0]
    ours = zoo.gradient(model, ep.EquilibriumProp(9, 2, 0.05), x, y)
    whole, last = (zoo.gradient(model, ep.BPTT(9, k), x, y) for k in (9, 2))
    assert cell.relative_error == pytest.approx(zoo.distance(ours, whole), rel=1e-8)
    assert abs(cell.relative_error - zoo.distance(ours, last)) > 1e-2


def test_the_model_is_unchanged():
    model = zoo.model("own-connection", DYNAMICS["energy"], "readout")
    first, *others = model.parameters()
    first.grad = torch.full_like(first, 7.0)
    others[-1].requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    given = batches(model)
    copies = [(x.clone(), y.clone()) for x, y in given]
    random, mode = torch.get_rng_state(), model.training
    tune(model, given, GRID)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert torch.equal(first.grad, torch.full_like(first, 7.0))
    assert all(p.grad is None for p in others)
    assert [p.requires_grad for p in (first, *others)] == [True] * len(others) + [False]
    assert torch.equal(torch.get_rng_state(), random)
    assert model.training == mode
    for (x, y), (x_0, y_0) in zip(given, copies, strict=True):
        assert torch.equal(x, x_0)
        assert torch.equal(y, y_0)


def test_gradient_mode_does_not_matter():
    model = zoo.model("chain", DYNAMICS["inside"])
    wanted = tune(model, batches(model), GRID)
    with torch.no_grad():
        assert tune(model, batches(model), GRID) == wanted


def test_inference_mode_does_not_matter():
    """Batches are inference tensors; `tune` is called inside and outside inference mode."""
    model = zoo.model("chain", DYNAMICS["inside"])
    wanted = tune(model, batches(model), GRID)
    with torch.inference_mode():
        given = batches(model)
        assert tune(model, given, GRID) == wanted
    assert tune(model, given, GRID) == wanted


def test_autocast_does_not_matter():
    model = zoo.model("chain", DYNAMICS["inside"]).float()
    given = [(x.float(), y) for x, y in batches(model.double())]
    model.float()
    wanted = tune(model, given, GRID)
    with torch.autocast("cpu", torch.bfloat16):
        assert tune(model, given, GRID) == wanted


def test_no_batch_or_no_trainable_parameter_raises():
    model = zoo.model("chain", DYNAMICS["inside"])
    with pytest.raises(ValueError, match=r"`batches` must hold at least one batch, got none"):
        tune(model, [], GRID)
    model.network.requires_grad_(False)
    with pytest.raises(ValueError, match=r"must have at least one network parameter"):
        tune(model, batches(model), GRID)


def test_batches_are_averaged_and_the_residual_is_the_largest():
    model = zoo.model("chain", DYNAMICS["inside"])
    given = batches(model, (3, 1, 2))
    alone = [tune(model, [batch], GRID) for batch in given]
    for together, *parts in zip(tune(model, given, GRID), *alone, strict=True):
        assert together.residual == max(cell.residual for cell in parts)
        for name in ("same_sign", "lowest", "relative_error", "cosine"):
            assert getattr(together, name) == pytest.approx(sum(getattr(cell, name) for cell in parts) / 3)


@pytest.mark.parametrize("count", [1, 2])
def test_progress_reaches_its_total(count):
    model, told = zoo.model("chain", DYNAMICS["inside"]), []
    cells = tune(model, batches(model)[:count], GRID, lambda done, total: told.append((done, total)))
    assert [done for done, _ in told] == list(range(1, count * len(cells) + 1))
    assert {total for _, total in told} == {count * len(cells)}


def test_only_cells_whose_nudged_phase_is_no_longer_than_the_free_one():
    grid = Grid((2, 6), (4,), (0.1,))
    model = zoo.model("chain", DYNAMICS["inside"])
    assert [(c.free_steps, c.nudged_steps) for c in tune(model, batches(model), grid)] == [(6, 4)]


def test_a_grid_is_sorted_without_duplicates():
    grid = Grid((6, 2, 6), (1, 2, 1), (0.5, -0.5, 0.5))
    assert (grid.free_steps, grid.nudged_steps, grid.betas) == ((2, 6), (1, 2), (-0.5, 0.5))
    assert list(grid.settings()) == [(t, k, b) for t in (2, 6) for k in (1, 2) for b in (-0.5, 0.5)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((), (1,), (0.1,)), r"`free_steps` must name at least one value"),
        (((5,), (), (0.1,)), r"`nudged_steps` must name at least one value"),
        (((5,), (1,), ()), r"`betas` must name at least one value"),
        (((5, 0), (1,), (0.1,)), r"`free_steps` must be a whole number of at least 1, got 0"),
        (((2.5,), (1,), (0.1,)), r"`free_steps` must be a whole number of at least 1, got 2.5"),
        (((5,), (-1,), (0.1,)), r"`nudged_steps` must be a whole number of at least 1, got -1"),
        (((5,), (1,), (0.1, 0.0)), r"`betas` must be non-zero and finite, got 0.0"),
        (((5,), (1,), (math.nan,)), r"`betas` must be non-zero and finite, got nan"),
        (((3, 5), (6, 9), (0.1,)), r"`nudged_steps` must be at most the 5 free steps, got 6"),
    ],
)
def test_invalid_grids_raise(arguments, message):
    with pytest.raises(ValueError, match=message):
        Grid(*arguments)


@pytest.mark.parametrize("beta", [1.0, 1.5, -2.0])
def test_an_unstable_beta_raises_before_any_computation(beta):
    model, told = zoo.model("chain", DYNAMICS["outside"]), []
    with pytest.raises(ValueError, match=rf"`betas` = {beta}"):
        tune(model, batches(model), Grid((5,), (2,), (0.1, beta)), lambda *step: told.append(step))
    assert told == []


def test_a_barely_stable_beta_warns():
    model = zoo.model("chain", DYNAMICS["outside"])
    with pytest.warns(UserWarning, match=r"0\.8.* alternates or diverges where"):
        tune(model, batches(model), Grid((5,), (2,), (0.8,)))


def test_non_finite_numbers_raise():
    model = zoo.model("chain", DYNAMICS["inside"])
    (x, y), *_ = batches(model)
    x[1, 2] = math.nan
    with pytest.raises(FloatingPointError, match="input"):
        tune(model, [(x, y)], GRID)


def test_an_invalid_batch_raises():
    model = zoo.model("chain", DYNAMICS["inside"])
    (x, y), *_ = batches(model)
    with pytest.raises(ValueError, match=r"`x` must be \(B, 4\)"):
        tune(model, [(x[:, 1:], y)], GRID)


def cell(cost, same_sign, error=1.0):
    """Return a cell in which only these fields matter."""
    return Cell(cost - 1, 1, 0.1, cost, 0.0, same_sign, 0.0, error, 0.0)


@pytest.mark.parametrize(
    ("cells", "wanted", "chosen"),
    [
        ([(30, 0.99), (20, 0.95), (10, 0.8)], 0.9, 1),  # the fewest steps of those that agree enough
        ([(30, 0.99), (20, 0.95), (10, 0.8)], 0.8, 2),  # just enough is enough
        ([(30, 0.99), (20, 0.95), (10, 0.8)], 0.96, 0),
        ([(20, 0.92, 0.5), (20, 0.97, 0.2), (20, 0.98, 0.4)], 0.9, 1),  # of the same cost that of the least error
        ([(30, 0.99), (20, 0.95)], 0.995, None),
        ([], 0.0, None),
    ],
)
def test_cheapest_cell_with_enough_agreement(cells, wanted, chosen):
    cells = [cell(*facts) for facts in cells]
    assert cheapest(iter(cells), wanted) is (None if chosen is None else cells[chosen])

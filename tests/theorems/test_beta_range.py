"""Bounds of beta: by the precision that divides, by the output's feedback on itself, at every place that takes it."""

import warnings

import pytest
import torch

import eqprop as ep
from eqprop.theorem.tuning import Grid
from zoo import distance, gradient

INSIDE, ENERGY = ep.Prototypical(nudge="inside"), ep.EnergyDescent(dt=0.2, clamp=False)
EPS = {dtype: torch.finfo(dtype).eps for dtype in (torch.float32, torch.float64, torch.float16, torch.bfloat16)}


def small(dtype=torch.float32, dynamics=INSIDE, **options) -> ep.Model:
    torch.manual_seed(0)
    return ep.mlp([4, 6, 3], **{"activation": "tanh", "dynamics": dynamics} | options).to(dtype)


def batch(dtype=torch.float32):
    torch.manual_seed(1)
    return torch.rand(5, 4).to(dtype), torch.tensor([0, 1, 2, 0, 1])


CALLS = {
    "EP": lambda model, beta: list(ep.EquilibriumProp(30, 10, beta)(model, *batch(dtype(model)))),
    "centred": lambda model, beta: list(ep.EquilibriumProp(30, 10, beta, "centred")(model, *batch(dtype(model)))),
    "from state": lambda model, beta: list(
        ep.EquilibriumProp(30, 10, beta).from_state(
            model, *batch(dtype(model)), ep.relax(model, batch(dtype(model))[0], 1).state
        )
    ),
    "C-EP": lambda model, beta: list(ep.ContinualEP(30, 10, beta)(model, *batch(dtype(model)))),
    "C-SGD": lambda model, beta: list(ep.ContinualSGD(30, 10, beta, 0.01)(model, *batch(dtype(model)))),
    "layer": lambda model, beta: ep.Equilibrium(model.network, model.dynamics, 30, 10, beta)(batch(dtype(model))[0]),
}
COMPARISONS = {
    "gdu": lambda model, beta: ep.gdu(model, *batch(dtype(model)), 30, 5, beta),
    "tune": lambda model, beta: _tune(model, beta),
}


def dtype(model) -> torch.dtype:
    return next(model.parameters()).dtype


def _tune(model, beta):
    from eqprop.theorem.tuning import tune

    return tune(model, [batch(dtype(model))], Grid((10,), (2,), (beta,)))


@pytest.mark.parametrize("call", CALLS | COMPARISONS)
@pytest.mark.parametrize("sign", [1, -1])
def test_a_beta_below_the_rounding_of_states_is_refused(call, sign):
    """In single precision; in double precision it is one of the best."""
    for beta in (1e-8, 1e-7, 1.1e-7):
        with pytest.raises(ValueError, match=r"`betas?` must be above 1e-07 in size in float32, got -?1"):
            (CALLS | COMPARISONS)[call](small(), sign * beta)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "the (free|nudged) phase", RuntimeWarning)
        (CALLS | COMPARISONS)[call](small(torch.float64), sign * 1e-7)


@pytest.mark.parametrize("beta", [5e-324, 1e-300, 1e-30, 2e-16, 5e15, 1e38, -1e38])
@pytest.mark.parametrize(
    "make",
    [
        lambda beta: ep.EquilibriumProp(9, 5, beta),
        lambda beta: ep.ContinualEP(9, 5, beta),
        lambda beta: ep.ContinualSGD(9, 5, beta),
        lambda beta: ep.Equilibrium(small().network, INSIDE, 9, 5, beta),
        lambda beta: Grid((9,), (5,), (beta,)),
    ],
)
def test_no_precision_bears_these(make, beta):
    with pytest.raises(ValueError, match=r"`betas?` must be between 2e-16 and 5e\+15 in size"):
        make(beta)


@pytest.mark.parametrize("kind", EPS)
def test_bounds_follow_the_dtype(kind):
    eps, model = EPS[kind], small(kind)
    with pytest.raises(ValueError, match="must be above"):
        model.check_beta(eps)
    with pytest.raises(ValueError, match="must be below"):
        model.check_beta(1 / eps)
    with pytest.warns(UserWarning, match="loses more than half of the digits"):
        model.check_beta(0.9 * eps**0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.check_beta(1.1 * eps**0.5)
        with torch.autocast("cpu", torch.bfloat16):
            model.check_beta(1.1 * eps**0.5)


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_what_is_accepted_has_the_error_that_it_should(kind):
    """Rounding takes eps / beta of the estimate, here of a response of about a tenth of the nudge."""
    model, (x, y) = small(kind), batch(kind)
    exact = gradient(small(torch.float64), ep.BPTT(300, 300), *batch(torch.float64))
    for beta in (3 * EPS[kind] ** 0.5, 0.01):
        found = gradient(model, ep.EquilibriumProp(300, 60, beta, "centred"), x, y).double()
        assert distance(found, exact) < 100 * EPS[kind] / beta + 10 * beta**2 + 1e-4  # the phases end


@pytest.mark.parametrize("beta", [1.0, 2.0, -3.0])
def test_a_strong_inside_nudge_is_warned_of(beta):
    for estimator in (ep.EquilibriumProp(30, 10, beta), ep.ContinualEP(30, 10, beta, "centred")):
        with pytest.warns(UserWarning, match="alternates, or has two steady states"):
            estimator(small(), *batch())
    with pytest.warns(UserWarning, match="alternates, or has two steady states"):
        ep.relax(small(), batch()[0], 3, batch()[1], beta)


def test_an_inside_nudge_beyond_the_bounds_is_refused():
    for beta in (10.0, 1000.0, -1000.0):
        with pytest.raises(ValueError, match="drives the output to its bounds"):
            ep.EquilibriumProp(30, 10, beta)(small(), *batch())


def test_of_a_linear_output_inside_is_outside():
    with pytest.raises(ValueError, match="cannot settle"):
        ep.EquilibriumProp(30, 10, 1.0)(small(output_activation="identity"), *batch())


def test_the_response_of_a_bounded_output_vanishes_with_beta():
    """Why the strength is refused: states move by at most 2, so that EP's gradient is at most of order 2 / beta."""
    model, (x, y) = small(), batch()
    free = ep.relax(model, x, 50)
    with pytest.warns(UserWarning, match="alternates"):
        ends = [ep.relax(model, x, 50, y, beta, state=free.state).state[-1] for beta in (2.0, 8.0)]
    moved = [(end - free.state[-1]).abs().max().item() for end in ends]
    assert max(moved) <= 2


def test_costs_of_unknown_curvature_are_left_alone():
    class Mean(ep.Cost):
        def value(self, out, y):
            return (out - self.target(y, out)).square().mean(1) / 2

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ep.EquilibriumProp(30, 10, 2.0)(small(cost=Mean()), *batch())


def test_euler_steps_overshoot_beyond_two_over_dt():
    """The output alone moves by the factor 1 - dt (1 + beta): -1 at beta = 2 / dt - 1 = 9."""
    with pytest.raises(ValueError, match=r"below 2 / dt - 1 = 9"):
        ep.EquilibriumProp(30, 10, 9.0)(small(dynamics=ENERGY), *batch())
    list(ep.EquilibriumProp(30, 200, 8.9)(small(dynamics=ENERGY), *batch()))


def test_energy_without_a_minimum_at_minus_beta():
    """``(1 - beta) |s|^2 / 2`` falls without end."""
    list(ep.EquilibriumProp(30, 10, 1.5)(small(dynamics=ENERGY), *batch()))
    for estimator in (ep.EquilibriumProp(30, 10, 1.5, "centred"), ep.EquilibriumProp(30, 10, -1.5)):
        with pytest.raises(ValueError, match="no minimum"):
            estimator(small(dynamics=ENERGY), *batch())
        with pytest.warns(UserWarning, match="runs to a bound"):
            estimator(small(dynamics=ep.EnergyDescent()), *batch())

"""An activation is its functions: they must describe one rho."""

from dataclasses import replace

import pytest
import torch

import eqprop as ep
from eqprop.activations import ACTIVATIONS
from slow_references import batch, chain


def test_a_subclass_is_refused():
    with pytest.raises(
        TypeError, match=r"Own cannot derive from Activation: call `Activation\(unit, \.\.\.\)` with your function"
    ):
        type("Own", (ep.Activation,), {"rho": lambda self, u: u})


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("other", [torch.sin, lambda u: 0.5 * u])
def test_another_unit_needs_other_functions(name, other):
    """`replace` keeps the in-place form and the potential of the old function."""
    if name == "relu6":  # no in-place form; the potential is that of any slope of one
        return
    with pytest.raises(
        ValueError, match=r"`(overwrite|potential|lowest)` of Activation\('\w+'\) .*: give that of the same function"
    ):
        replace(ACTIVATIONS[name], unit=other, slope=None)


@pytest.mark.parametrize(
    ("choices", "fault"),
    [
        ({"overwrite": torch.sigmoid_}, "`overwrite` of .* returns other values than `unit`"),
        ({"lowest": 0.0}, r"`lowest` of .* is 0\.0, but `unit` returns -0\.9"),
        ({"potential": lambda s: s}, "`potential` of .* is not the integral of the inverse of `unit`"),
    ],
)
def test_contradictions_are_refused(choices, fault):
    with pytest.raises(ValueError, match=fault):
        ep.Activation(torch.tanh, **choices)


@pytest.mark.parametrize(
    "unit", [lambda u: torch.softmax(u, -1), lambda u: u - u.mean(), lambda u: u.sum(), lambda u: u[:1]]
)
def test_a_unit_acts_on_elements(unit):
    with pytest.raises(
        ValueError, match=r"`unit` of Activation\('custom'\) must act on each element alone, keep the shape"
    ):
        ep.Activation(unit)


def test_a_slope_that_is_no_derivative_is_said():
    with pytest.warns(
        UserWarning, match="`slope` of .* is not the derivative of its `unit`: EP is then not the gradient"
    ):
        ep.Activation(torch.tanh, slope=lambda u, r: 1 - r)


def test_a_step_function_has_slope_zero():
    assert not ep.Activation(lambda u: (u > 0).to(u)).derivative(torch.randn(5)).any()


def test_a_network_that_overrides_phi_alone_is_refused():
    class Own(ep.Network):
        def phi(self, x, s):
            return 2 * super().phi(x, s)

    class Currents(ep.Network):
        def currents(self, x, s):
            return super().currents(x, s)

    for kind, name in ((Own, "phi"), (Currents, "currents")):
        with pytest.raises(ValueError, match=f"overrides `{name}`, but `(contrast|prepare)` does not follow it"):
            kind([ep.Population(4), ep.Population(3)], [(0, 1, ep.Dense(4, 3))])


def test_the_theorem_sees_a_contrast_of_its_own():
    class Own(ep.Dense):
        def contrast(self, free, a, b):
            return 3 * super().contrast(free, a, b)

    x, y = batch()
    for kind, holds in ((ep.Dense, True), (Own, False)):
        report = ep.gdu(chain(kind), x, y, 200, 5, 1e-4)
        assert {a.name: a.holds for a in report.assumptions}["gradient dynamics"] is holds

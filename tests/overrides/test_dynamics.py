"""A subclass of a dynamics or a schedule that overrides one method: every estimator follows it, or refuses it."""

from dataclasses import replace

import pytest
import torch

import eqprop as ep
from eqprop.network import Drive
from eqprop.solvers.schedules import Schedule
from slow_references import BETA, ESTIMATORS, FREE, NUDGED, batch, chain, estimate, own_step, slow_ep


def damped(base):
    """Half a step: other transients, the same steady states."""

    class Damped(base):
        def step(self, network, state, drive, force=None):
            after = super().step(network, state, drive, force)
            return tuple(torch.lerp(s, t, 0.5) for s, t in zip(state, after, strict=True))

    return Damped


def scaled_input(base):
    class ScaledInput(base):
        def encode(self, network, x):
            return 0.5 * super().encode(network, x)

    return ScaledInput


def background(base):
    """A constant current into every unit, which depends on no parameter."""

    class Background(base):
        def prepare(self, network, x):
            drive = super().prepare(network, x)
            return Drive(drive.input, tuple(c + 0.2 for c in drive.constant), drive.prepared, drive.gains)

    return Background


def started(base):
    class Started(base):
        def init(self, network, x):
            return tuple(s + 0.3 for s in super().init(network, x))

    return Started


def projected(base):
    class Projected(base):
        def project(self, network, state):
            return tuple(s.clamp(-0.9, 0.9) for s in super().project(network, state))

    return Projected


VARIANTS = [damped, scaled_input, background, started, projected]
BASES = {
    "prototypical": (ep.Prototypical, {"nudge": "inside"}),
    "energy": (ep.EnergyDescent, {"dt": 0.5, "clamp": False}),
}


@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.__name__)
def test_every_estimator_follows(variant, base, name):
    """`slow_ep` calls `encode`, `prepare`, `init`, `step`, `activity` and `units` of the subclass."""
    if "asynchronous" in name:
        pytest.skip("below")
    kind, choices = BASES[base]
    model, (x, y) = chain(ep.Dense, dynamics=variant(kind)(**choices)), batch()
    expected = slow_ep(model, x, y, FREE, NUDGED, BETA, own_step)
    got, _ = estimate(ESTIMATORS[name], model, x, y)
    assert (got - expected).norm() <= (1e-9 if name in ("ep", "continual") else 3e-3) * expected.norm()


@pytest.mark.parametrize("variant", [scaled_input, background, started, projected], ids=lambda v: v.__name__)
def test_sweeps_settle_where_steps_do(variant):
    model, (x, y) = chain(ep.Dense, dynamics=variant(ep.Prototypical)(nudge="inside")), batch()
    expected = slow_ep(model, x, y, FREE, NUDGED, BETA, own_step)
    got, _ = estimate(ESTIMATORS["ep, asynchronous"], model, x, y)
    assert (got - expected).norm() <= 1e-6 * expected.norm()


def test_a_step_of_its_own_has_no_sweeps():
    model, (x, y) = chain(ep.Dense, dynamics=damped(ep.Prototypical)()), batch()
    with pytest.raises(
        ValueError, match="Damped overrides `step` alone: for an asynchronous schedule override `step_group` too"
    ):
        estimate(ESTIMATORS["ep, asynchronous"], model, x, y)
    with pytest.raises(ValueError, match="settle synchronously"):
        replaced(model, ep.Settle(5, schedule=ep.Asynchronous()))


def replaced(model, settle):
    return ep.Model(model.network, model.dynamics, model.cost, settle)


def test_a_group_step_of_its_own_is_followed():
    class Both(damped(ep.Prototypical)):
        def step_group(self, network, state, drive, group, force=None):
            after = ep.Prototypical.step_group(self, network, state, drive, group, force)
            return tuple(torch.lerp(s, t, 0.5) for s, t in zip(state, after, strict=True))

    model, (x, y) = chain(ep.Dense, dynamics=Both(nudge="inside")), batch()
    expected, _ = estimate(ESTIMATORS["implicit"], model, x, y)
    got, _ = estimate(ESTIMATORS["ep, asynchronous"], model, x, y)
    assert (got - expected).norm() <= 2e-3 * expected.norm()


@pytest.mark.parametrize("base", BASES)
def test_what_was_derived_from_the_step_is_refused(base):
    kind, choices = BASES[base]
    model, (x, y) = chain(ep.Dense, dynamics=damped(kind)(**choices)), batch()
    with pytest.raises(ValueError, match="the energy of Damped is not known: override `energy`"):
        model.energy(ep.relax(model, x, 5).state, x)
    with pytest.raises(
        ValueError, match="relation of EP to BPTT is not known for the steps of Damped: override `duality`"
    ):
        ep.gdu(model, x, y, 20, 5, 1e-3)
    with pytest.raises(ValueError, match="Damped"):
        ep.relax(model, x, ep.Settle(20, accelerate=ep.Anderson()))


def test_noise_of_its_own_has_no_energy():
    model, (x, _) = chain(ep.Dense, dynamics=damped(ep.Noisy)(ep.Prototypical(), 0.1)), batch()
    with pytest.raises(ValueError, match="the energy of Damped is not known"):
        model.energy(ep.relax(model, x, 5).state, x)


def test_a_subclass_states_anew_that_it_can_be_accelerated():
    class Own(damped(ep.Prototypical)):
        supports_acceleration = True

    model, (x, _) = chain(ep.Dense, dynamics=Own(nudge="inside")), batch()
    fast = ep.relax(model, x, ep.Settle(60, tol=1e-9, accelerate=ep.Anderson()))
    torch.testing.assert_close(fast.output, ep.relax(model, x, 200).output)


def test_a_strength_that_a_subclass_refuses_is_refused_by_all_that_nudge():
    class Weak(ep.Prototypical):
        def check_beta(self, beta):
            raise ValueError(f"no nudge of {beta}")

    model, (x, y) = chain(ep.Dense, dynamics=Weak(nudge="inside")), batch()
    for name in ("ep", "continual", "continual-sgd"):
        with pytest.raises(ValueError, match=r"no nudge of 0\.001"):
            estimate(ESTIMATORS[name], model, x, y)


class Twice(ep.Synchronous):
    """Two steps count as one."""

    def transform(self, phase):
        return lambda state: phase.step(phase.step(state))


class TwoSweeps(ep.Asynchronous):
    def transform(self, phase):
        sweep = super().transform(phase)
        return lambda state: sweep(sweep(state))


class Refusing(ep.Synchronous):
    def check_dynamics(self, network, dynamics):
        raise ValueError("not these dynamics")


@pytest.mark.parametrize("kind", [Twice, TwoSweeps])
def test_a_schedule_of_its_own_is_followed(kind):
    model, (x, y) = chain(ep.Dense), batch()
    plain = kind.__mro__[1]()

    def settle(steps, schedule):
        return ep.Settle(steps, schedule=schedule)

    for one in (ep.EquilibriumProp, ep.BPTT, ep.ImplicitDiff):
        extra = (BETA,) if one is ep.EquilibriumProp else ()
        second = (3, 6) if one is ep.BPTT else (settle(3, kind()), settle(6, plain))
        if one is ep.ImplicitDiff:
            second = (settle(40, kind()), settle(40, plain))
        got, _ = estimate(one(settle(20, kind()), second[0], *extra), model, x, y)
        expected, _ = estimate(one(settle(40, plain), second[1], *extra), model, x, y)
        torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-9)


def test_a_schedule_that_refuses_is_asked_by_every_estimator():
    model, (x, y) = chain(ep.Dense), batch()
    steps = ep.Settle(5, schedule=Refusing())
    for estimator in (
        ep.EquilibriumProp(steps, 5, BETA),
        ep.EquilibriumProp(5, steps, BETA),
        ep.BPTT(steps),
        ep.ImplicitDiff(steps),
    ):
        with pytest.raises(ValueError, match="not these dynamics"):
            estimate(estimator, model, x, y)


def test_theorem_needs_the_papers_schedule():
    model, (x, y) = chain(ep.Dense), batch()
    with pytest.raises(ValueError, match="`free_steps` must be synchronous"):
        ep.gdu(model, x, y, ep.Settle(20, schedule=Twice()), 5, BETA)
    assert issubclass(Twice, Schedule)


def with_more_steps(base, more):
    """``base`` with ``more`` steps in every phase."""

    class Own(base):
        @property
        def phases(self):
            return {name: replace(steps, steps=steps.steps + more) for name, steps in super().phases.items()}

    return Own


@pytest.mark.parametrize(
    ("base", "args", "longer"),
    [
        (ep.EquilibriumProp, (20, 3, BETA), (24, 7, BETA)),
        (ep.ContinualEP, (20, 3, BETA), (24, 7, BETA)),
        (ep.ContinualSGD, (20, 3, BETA, 0.01), (24, 7, BETA, 0.01)),
        (ep.BPTT, (20, 3), (24, 3)),
        (ep.ImplicitDiff, (20, 3), (24, 7)),
    ],
)
def test_phases_of_its_own_are_those_that_run(base, args, longer):
    model, (x, y) = chain(ep.Dense), batch()
    got, _ = estimate(with_more_steps(base, 4)(*args), model, x, y)
    expected, _ = estimate(base(*longer), model, x, y)
    assert torch.equal(got, expected)


class Leaky(ep.Spiking):
    """Potentials that leak, and a dimmed input."""

    def step(self, network, state, drive, force=None):
        after = super().step(network, state, drive, force)
        return after._replace(potential=tuple(0.95 * u for u in after.potential))

    def encode(self, network, x):
        return 0.8 * super().encode(network, x)


def test_spiking_dynamics_follow():
    torch.manual_seed(3)
    populations = [ep.Population(n, "hard_sigmoid") for n in (4, 5, 3)]
    network = ep.Network(populations, [(0, 1, ep.Dense(4, 5)), (1, 2, ep.Dense(5, 3))])
    model, (x, y) = ep.Model(network, Leaky(), ep.SquaredError()).double(), batch()
    expected = slow_ep(model, x, y, 20, 10, 0.3, own_step)
    got, _ = estimate(ep.EquilibriumProp(20, 10, 0.3, "centred"), model, x, y)
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-12)


def test_nir_refuses_what_it_cannot_express():
    pytest.importorskip("nir")
    from eqprop.spiking import to_nir

    class Changed(ep.Dense):
        def up(self, pre, post=None):
            return 2 * super().up(pre)

    class Negated(ep.SquaredError):
        def predict(self, out):
            return -out

    populations = [ep.Population(n, "hard_sigmoid") for n in (4, 3)]
    for kind, dynamics, cost, message in (
        (Changed, ep.Spiking(), ep.SquaredError(), "connection 0→1 is a class of your own"),
        (ep.Dense, Leaky(), ep.SquaredError(), "`dynamics` are Leaky"),
        (ep.Dense, ep.Spiking(), Negated(), "`cost` is a Negated, whose `predict`"),
    ):
        model = ep.Model(ep.Network(populations, [(0, 1, kind(4, 3))]), dynamics, cost)
        with pytest.raises(ValueError, match=message):
            to_nir(model)

"""One free phase, one backward pass, one nudged phase: number of steps, memory, and errors."""

import math
import weakref
from dataclasses import dataclass, field

import pytest
import torch

import eqprop as ep
import zoo

ENERGY = ep.EnergyDescent(dt=0.4, clamp=False)


@dataclass(frozen=True)
class Watched(ep.Dynamics):
    """Wraps other dynamics, and counts steps and states in memory."""

    inner: ep.Dynamics
    calls: dict = field(default_factory=lambda: {"step": 0, "prepare": 0, "alive": 0, "most": 0})

    def step(self, network, state, drive, force=None):
        new = self.inner.step(network, state, drive, force)
        self.calls["step"] += 1
        self.calls["alive"] += 1
        self.calls["most"] = max(self.calls["most"], self.calls["alive"])
        weakref.finalize(new[0], self.gone)
        return new

    def gone(self):
        self.calls["alive"] -= 1

    def prepare(self, network, x):
        self.calls["prepare"] += 1
        return self.inner.prepare(network, x)

    def encode(self, network, x):
        return self.inner.encode(network, x)

    def init(self, network, x):
        return self.inner.init(network, x)

    def activity(self, network, state):
        return self.inner.activity(network, state)

    def energy(self, network, state, x):
        return self.inner.energy(network, state, x)

    def duality(self, network, state, drive):
        return self.inner.duality(network, state, drive)

    def check_beta(self, beta):
        self.inner.check_beta(beta)


def counted(inner, steps, nudged_steps, nudging="one-sided"):
    model = zoo.model("chain", ENERGY)
    watched = ep.Model(model.network, Watched(inner), model.cost)
    ep.gdu(watched, *zoo.batch(model), steps, nudged_steps, 0.1, nudging)
    return watched.dynamics.calls


@pytest.mark.parametrize("inner", [ENERGY, ep.Prototypical()], ids=["energy", "prototypical"])
def test_the_free_phase_runs_once(inner):
    """T free steps, K differentiated ones, K nudged ones for each sign, and a constant number of others."""
    more, drives = set(), set()
    for steps, nudged_steps in ((8, 8), (9, 1), (40, 8), (700, 8), (1203, 3)):
        for phases, nudging in ((1, "one-sided"), (2, "centred")):
            calls = counted(inner, steps, nudged_steps, nudging)
            more.add(calls["step"] - steps - nudged_steps - phases * nudged_steps)
            drives.add(calls["prepare"])
    assert len(more) == len(drives) == 1
    assert more.pop() <= 4
    assert drives.pop() <= 4


def test_memory_does_not_grow_with_the_free_phase():
    most = [counted(ENERGY, steps, 5)["most"] for steps in (20, 200, 2000)]
    assert most[0] == most[1] == most[2]
    assert counted(ENERGY, 2000, 10)["most"] > most[0]  # they grow with K
    assert most[0] <= 3 * (5 + 1)


@pytest.mark.parametrize("steps", [6, 7, 500, 506, 1203])
@pytest.mark.parametrize("dynamics", [ENERGY, ep.Prototypical(nudge="inside")], ids=["energy", "inside"])
def test_the_free_phase_is_that_of_relax(dynamics, steps):
    model = zoo.model("skip", dynamics)
    x, y = zoo.batch(model)
    report = ep.gdu(model, x, y, steps, 6, 1e-2)
    free = ep.relax(model, x, steps, trajectory=True)
    assert report.steps == steps
    assert report.residual.equal(free.residual)
    for n, moved in enumerate(report.free):
        path = torch.stack([state[n] for state in free.trajectory[-7:]])
        assert moved.equal(path.diff(dim=0) / (1e-2 * report.dt))
    assert (report.nudged_steps, report.beta, report.nudging) == (6, 1e-2, "one-sided")
    assert report.dt == (0.4 if dynamics == ENERGY else 1.0)


def test_a_tolerance_ends_the_steps_before_the_last():
    """As in `BPTT`: it applies to the T - K steps before the differentiated ones."""
    model = zoo.model("skip", ENERGY)
    x, y = zoo.batch(model)
    free = ep.Settle(3000, tol=1e-9)
    report = ep.gdu(model, x, y, free, 6, 1e-2)
    assert report.steps == ep.relax(model, x, ep.Settle(2994, tol=1e-9)).steps + 6 < 200
    assert report.residual.equal(ep.relax(model, x, report.steps).residual)
    assert report.residual.max() <= 1e-9
    seen = []
    list(ep.BPTT(free, 6)(model, x, y, on_free_phase=seen.append))
    assert seen[0].steps == report.steps
    assert seen[0].residual.equal(report.residual)
    assert ep.gdu(model, x, y, ep.Settle(6, tol=1.0), 6, 1e-2).steps == 6
    assert ep.gdu(model, x, y, ep.Settle(20, tol=1e-30), 6, 1e-2).steps == 20


def test_progress_is_reported():
    model = zoo.model("chain", ENERGY)
    told = []
    ep.gdu(model, *zoo.batch(model), 1203, 3, 1e-2, progress=lambda done, total: told.append((done, total)))
    assert len(told) > 1
    assert {total for _, total in told} == {1203}
    done = [done for done, _ in told]
    assert done == sorted(set(done))
    assert 0 < done[0] <= done[-1] <= 1203


def call(model=None, x=None, y=None, free_steps=10, nudged_steps=4, beta=0.1, nudging="one-sided"):
    model = model or zoo.model("chain", ENERGY)
    given, target = zoo.batch(model)
    return ep.gdu(model, given if x is None else x, target if y is None else y, free_steps, nudged_steps, beta, nudging)


MISTAKES = [
    ({"beta": 0.0}, r"`beta` must be non-zero and finite, got 0\.0"),
    ({"beta": 0}, r"`beta` must be non-zero and finite, got 0"),
    ({"beta": math.nan}, r"`beta` must be non-zero and finite, got nan"),
    ({"beta": math.inf}, r"`beta` must be non-zero and finite, got inf"),
    ({"beta": "0.1"}, r"`beta` must be non-zero and finite, got '0\.1'"),
    ({"nudging": "random-sign"}, r"`nudging` must be one of 'one-sided', 'centred', got 'random-sign'"),
    ({"nudging": "centered"}, r"`nudging` must be one of 'one-sided', 'centred', got 'centered'"),
    ({"nudged_steps": 11}, r"`nudged_steps` must be at most the 10 free steps, which BPTT differentiates, got 11"),
    (
        {"free_steps": ep.Settle(3, tol=1e-3)},
        r"`nudged_steps` must be at most the 3 free steps, which BPTT differentiates, got 4",
    ),
    ({"nudged_steps": 0}, r"`nudged_steps` must be a whole number of at least 1, got 0"),
    ({"nudged_steps": 2.0}, r"`nudged_steps` must be a whole number of at least 1, got 2\.0"),
    ({"nudged_steps": True}, r"`nudged_steps` must be a whole number of at least 1, got True"),
    ({"nudged_steps": ep.Settle(4)}, r"`nudged_steps` must be a whole number of at least 1, got Settle"),
    ({"free_steps": 0}, r"`free_steps` must be a whole number of at least 1, got 0"),
    ({"free_steps": 9.5}, r"`free_steps` must be a whole number of at least 1, got 9\.5"),
    ({"x": torch.rand(3, 5).double()}, r"`x` must be \(B, 4\) with B of at least 1, got \(3, 5\)"),
    ({"x": torch.rand(4).double()}, r"`x` must be \(B, 4\)"),
    ({"x": torch.rand(0, 4).double()}, r"`x` must be \(B, 4\) with B of at least 1, got \(0, 4\)"),
    ({"x": torch.rand(3, 4)}, r"`x` is torch\.float32 on cpu, the weights are torch\.float64 on cpu"),
    ({"x": [[1.0] * 4]}, r"`x` must be an object of class Tensor, got an object of class list"),
    ({"y": torch.tensor([0, 1])}, r"`y` must be \(3,\) classes or \(3, 3\) floats, got \(2,\)"),
    ({"y": torch.tensor([0, 1, 3])}, r"`y` must hold classes from 0 to 2, got 3"),
    ({"y": torch.rand(3, 2)}, r"`y` must be \(3, 3\) floats or \(3,\) classes, got \(3, 2\)"),
    ({"y": torch.full((3, 3), math.nan)}, r"`y` holds values that are not finite"),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES, ids=[str(n) for n in range(len(MISTAKES))])
def test_invalid_arguments_raise(arguments, message):
    with pytest.raises(ValueError, match=message):
        call(**arguments)


def test_unstable_beta_raises():
    model = zoo.model("chain", ep.Prototypical())
    with pytest.raises(ValueError, match=r"with `beta` = 1\.0 it cannot settle"):
        call(model, beta=1.0)
    with pytest.warns(UserWarning, match=r"alternates or diverges where"):
        call(model, beta=0.7)
    assert call(zoo.model("chain", ep.Prototypical(nudge="inside")), beta=0.9).nudged_steps == 4


@pytest.mark.parametrize("free_steps", [4, 10, 1200])
def test_non_finite_weights_raise(free_steps):
    model = zoo.model("chain", ENERGY)
    model.network.connections[1].weight.data[0, 0] = math.nan
    with pytest.raises(FloatingPointError, match=r"parameter connections\.1\.weight is not finite"):
        call(model, free_steps=free_steps)


def test_non_finite_input_raises():
    x = torch.rand(3, 4).double()
    x[1, 2] = math.nan
    with pytest.raises(
        FloatingPointError, match=r"the input \(population 0\) is not finite in 1 of 3 samples.*index 1"
    ):
        call(x=x)


def test_a_diverging_free_phase_names_the_step():
    """s <- 1.2 s and more: beyond the largest double after some thousand steps."""
    model = ep.mlp([2, 3, 2], activation="identity", dynamics=ep.EnergyDescent(dt=0.2, clamp=False)).double()
    for parameter in model.parameters():
        parameter.data.fill_(1.0)
    x = torch.rand(1, 2).double()
    with pytest.raises(FloatingPointError, match=r"population 1 is not finite at step \d+") as plain:
        ep.relax(model, x, 6000)
    with pytest.raises(FloatingPointError, match=r"population 1 is not finite at step \d+") as found:
        ep.gdu(model, x, torch.tensor([0]), 6000, 5, 0.1)
    assert str(found.value) == str(plain.value)

"""Timing with a simulated clock, figures as defined, and the candidates of every recipe."""

import json
from dataclasses import replace

import pytest
import torch

import eqprop as ep
from eqprop import bench, plots
from eqprop._core.memory import peak_bytes
from eqprop.bench import (
    Measurement,
    PhaseCost,
    StepCost,
    Task,
    extract_phases,
    make_candidates,
    make_estimators,
    measure,
    medians,
    ratios,
    time_steps,
)
from eqprop.bench.measuring import _measure_settling
from eqprop.bench.settling import count_steps
from eqprop.bench.tables import as_json, describe_setting, list_absent, make_tables
from eqprop.bench.timing import BLOCK_SECONDS, MAX_BLOCK, choose_block_sizes
from eqprop.papers.registry import RECIPES, recipe
from eqprop.solvers.settle import residual
from picture_files import check


@pytest.fixture(autouse=True, scope="module")
def _short_measurements():
    """One step in each block: the times themselves are not tested."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("eqprop.bench.measuring.MIN_LIMIT", 40)
        patch.setattr("eqprop.bench.measuring.choose_block_sizes", lambda steps: dict.fromkeys(steps, 1))
        yield


class Clock:
    """A simulated clock."""

    def __init__(self):
        self.now, self.calls = 0.0, []

    def __call__(self) -> float:
        return self.now

    def step(self, name: str, *seconds: float):
        """Return a step that takes these seconds, call by call; the last value repeats."""
        left = list(seconds)

        def work():
            self.calls.append(name)
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return work


def test_steps_alternate_and_the_first_round_is_not_counted():
    clock, ends = Clock(), []
    steps = {"a": clock.step("a", 9.0, 9.0, 9.0, 1.0, 2.0, 4.0, 1.0, 3.0, 5.0), "b": clock.step("b", 0.5)}
    found = time_steps(steps, 2, block=2, clock=clock, on_round=lambda: ends.append(clock.now))
    assert clock.calls == (["a"] * 3 + ["b"] * 3) * 3
    assert found == {"a": [3000.0, 4000.0], "b": [500.0, 500.0]}
    assert ends == [28.5, 37.0, 47.5]


def test_block_of_one_step_has_no_warm_up():
    clock = Clock()
    found = time_steps({"a": clock.step("a", 2.0), "b": clock.step("b", 1.0)}, 1, {"a": 1, "b": 3}, clock=clock)
    assert clock.calls == (["a"] + ["b"] * 4) * 2
    assert found == {"a": [2000.0], "b": [1000.0]}


def test_block_sizes_reach_the_minimum_time():
    clock = Clock()
    steps = {
        "long": clock.step("long", 1.0),
        "slow at first": clock.step("slow at first", 5 * BLOCK_SECONDS, BLOCK_SECONDS / 4.5),
        "quick": clock.step("quick", BLOCK_SECONDS / 7.5),
        "instant": clock.step("instant", 0.0),
    }
    assert choose_block_sizes(steps, clock) == {"long": 1, "slow at first": 5, "quick": 8, "instant": MAX_BLOCK}


def test_medians_and_ratios():
    times = {"ours": [2.0, 40.0, 3.0], "base": [1.0, 10.0, 3.0]}
    assert medians(times) == {"ours": 3.0, "base": 3.0}
    assert ratios(times, "base") == {"ours": 2.0, "base": 1.0}, "median of ratios, not ratio of medians"


def small(name: str = "digits", free: int | None = 5, nudged: int | None = 3, batch: int = 4) -> Task:
    run = recipe(name)
    return Task(run, extract_phases(run, free, nudged), batch)


def test_estimators_have_the_phases_of_the_recipe():
    run = recipe("hardware-centred")
    phases = extract_phases(run)
    assert make_estimators(run, phases) == {
        "EP": ep.EquilibriumProp(ep.Settle(20), ep.Settle(8), 0.5, "centred"),
        "continual EP": ep.ContinualSGD(ep.Settle(20), 8, 0.5, 1e-6, "centred"),
        "BPTT": ep.BPTT(ep.Settle(20), 8),
        "implicit": ep.ImplicitDiff(ep.Settle(20), ep.Settle(8)),
    }
    assert make_estimators(run, extract_phases(run, 3, 8))["BPTT"] == ep.BPTT(ep.Settle(3), 3)
    assert isinstance(make_estimators(recipe("hardware-cep"), phases)["continual EP"], ep.ContinualEP)


def test_missing_estimators_have_a_reason():
    spiking, sweeps = (
        make_estimators(run, extract_phases(run)) for run in map(recipe, ("spiking-digits", "dchn-mnist-small"))
    )
    assert spiking["BPTT"] == ep.BPTT(ep.Settle(50), 25, surrogate=True)
    assert "no derivative" in spiking["implicit"]
    assert "synchronous" in sweeps["continual EP"]


def test_candidates_of_every_recipe():
    for name in RECIPES:
        found = make_candidates(small(name))
        assert list(found) == ["EP", "continual EP", "BPTT", "implicit", "backprop", "bare"]
        assert callable(found["EP"])


def test_samples_are_the_same_at_every_call():
    task = small()
    (x, y), (again, classes) = (task.samples(task.model()) for _ in range(2))
    assert torch.equal(x, again)
    assert torch.equal(y, classes)
    assert x.shape == (4, 64)
    assert 0 <= x.min() < x.max() <= 1


@pytest.fixture(scope="module")
def found() -> Measurement:
    return measure(small(), 1, 2, 1e-3)


def test_what_is_measured(found):
    assert (found.recipe, found.batch, found.threads, found.free_steps, found.nudged_steps) == ("digits", 4, 1, 5, 3)
    assert (found.nudging, found.own, found.own_method, found.absent) == ("centred", "EP", "sync", {})
    assert list(found.training) == ["EP", "continual EP", "BPTT", "implicit", "backprop", "bare"]
    assert list(found.settling) == ["sync", "async", "anderson", "async+anderson", "bare"]
    assert all(one.milliseconds > 0 for one in (*found.training.values(), *found.settling.values()))
    assert found.training["bare"].times_bare == found.settling["bare"].times_bare == 1
    a, b, c = recipe("digits").model.sizes
    assert found.multiply_adds_a_step == 4 * 2 * b * c
    assert found.multiply_adds == 4 * (2 * a * b + (5 + 2 * 3) * 2 * b * c + 2 * b * c)


def test_peak_memory_is_that_of_a_step(found):
    for name in ("EP", "BPTT", "backprop"):
        assert found.training[name].peak_bytes == peak_bytes(make_candidates(small())[name]())
    assert found.training["bare"].peak_bytes is None


def test_steps_to_a_residual_are_the_fewest_that_reach_it(found):
    task = small()
    model = task.model()
    x, _ = task.samples(model)
    states = ep.relax(model, x, 40, trajectory=True).trajectory
    first = next(t for t in range(1, 41) if residual(states[t - 1], states[t]).max() <= 1e-3)
    sync = found.settling["sync"]
    assert sync.steps == first
    assert sync.residual == residual(states[first - 1], states[first]).max().item()
    assert sync.milliseconds_to == first * sync.milliseconds
    assert count_steps(task, "sync", 1e-3, first - 1)[0] is None


def test_phases_are_timed_in_units_of_twenty_steps(monkeypatch):
    """The median round takes 30 ms for twenty steps, twice as long as the bare arithmetic."""
    rounds = {"sync": [20.0, 30.0, 40.0], "bare": [10.0, 15.0, 20.0]}
    monkeypatch.setattr("eqprop.bench.measuring._time_rounds", lambda *arguments: rounds)
    found = _measure_settling(small(), 3, 1e-3, lambda: None)
    assert (found["sync"].milliseconds, found["sync"].times_bare) == (1.5, 2.0)
    assert found["sync"].milliseconds_to == found["sync"].steps * 1.5
    assert found["bare"] == PhaseCost(0.75, 1.0)


def test_own_estimator_and_method_of_continual_and_asynchronous_recipes():
    cep = measure(small("hardware-cep"), 1, 1, 1e-3)
    assert (cep.own, sorted(cep.absent)) == ("continual EP", ["anderson", "async", "async+anderson"])
    sweeps = measure(small("dchn-mnist-small", 2, 2, 1), 1, 1, 0.5)
    assert (sweeps.own, sweeps.own_method, list(sweeps.absent)) == ("EP", "async", ["continual EP"])


def test_threads_and_random_state_are_restored(monkeypatch):
    def draw(*arguments):
        return torch.get_num_threads(), torch.rand(3).tolist()

    for part in ("training", "settling"):
        monkeypatch.setattr(
            f"eqprop.bench.measuring._measure_{part}", (lambda *a: (draw(), {})) if part == "training" else draw
        )
    torch.manual_seed(3)
    wanted = torch.rand(3)
    torch.manual_seed(3)
    seen = [measure(small(), 2, 1, 1e-3) for _ in range(2)]
    assert torch.equal(torch.rand(3), wanted)
    assert torch.get_num_threads() == 1
    assert seen[0].training[0] == 2
    assert seen[0].training == seen[1].training, "the same random numbers in each measurement"


def test_progress_reaches_its_total():
    for name in ("digits", "spiking-digits"):
        calls = []
        measure(small(name), 1, 2, 1e-3, lambda *call, calls=calls: calls.append(call))
        assert calls == [(n, len(calls)) for n in range(1, len(calls) + 1)]


def test_candidate_that_diverges_is_absent_but_ep_raises(monkeypatch):
    def diverge(*arguments):
        raise FloatingPointError("the adjoint is not finite")

    monkeypatch.setattr(ep.ImplicitDiff, "__call__", diverge)
    assert measure(small(), 1, 1, 1e-3).absent == {"implicit": "the adjoint is not finite"}
    monkeypatch.setattr(ep.EquilibriumProp, "__call__", diverge)
    with pytest.raises(FloatingPointError):
        measure(small(), 1, 1, 1e-3)


MADE = Measurement(
    "p-1h", 20, 2, 30, 10, "one-sided", "continual EP", "async", 100, 10,
    {"EP": StepCost(2.345, 1.5, 3 * 2**20), "continual EP": StepCost(20.0, 12.25, 2**19), "bare": StepCost(1.5, 1.0, None)},
    {"sync": PhaseCost(0.5, 2.0, 8, 4.0, 1e-5), "async": PhaseCost(0.25, 1.25, None, None, 0.1), "bare": PhaseCost(0.125, 1.0)},
    {"BPTT": "not differentiable, got A", "anderson": "unsupported"},
)  # fmt: skip


def test_tables():
    one = replace(MADE, threads=1, absent={"BPTT": "not differentiable, got B"})
    training, steps, phases, memory = make_tables([MADE, one], 1e-4).values()
    assert training.head == ("setting", "T", "K", "EP", "continual EP", "BPTT", "implicit", "backprop", "bare")
    assert training.rows[0] == [
        "p-1h, batch 20, 2 threads",
        "30",
        "10",
        "2.35 (1.5)",
        "20 (12.2) *",
        "–",
        "–",
        "–",
        "1.5",
    ]
    assert [row[0] for row in steps.rows] == [describe_setting(MADE), describe_setting(one)]
    assert steps.rows[0][1:] == ["0.5 (2)", "0.25 (1.25) *", "–", "–", "0.125"]
    assert phases.rows[0][1:] == ["8, 4", "not reached *", "–", "–"]
    assert memory.rows[0][1:] == ["3", "0.5 *", "–", "–", "–"]
    assert list_absent([MADE, one]) == ["no BPTT for p-1h: not differentiable", "no anderson for p-1h: unsupported"]


def test_json_has_every_figure():
    facts = json.loads(as_json("eqprop bench", {"threads": 1}, {"rounds": 5}, [MADE]))
    assert (facts["command"], facts["environment"], facts["rounds"]) == ("eqprop bench", {"threads": 1}, 5)
    (row,) = facts["rows"]
    assert row["training"]["EP"] == {"milliseconds": 2.345, "times_bare": 1.5, "peak_bytes": 3 * 2**20}
    assert row["settling"]["sync"]["steps"] == 8
    assert row["absent"] == MADE.absent
    assert set(row) == set(vars(MADE))


@pytest.mark.parametrize("old", ["contenders", "phases_of", "in_turn", "Measured", "of_training"])
def test_old_names_are_deprecated(old):
    with pytest.warns(DeprecationWarning, match=f"`eqprop.bench.{old}` is deprecated"):
        assert getattr(bench, old) in vars(bench).values()


def test_dot_plot(tmp_path):
    panels = {
        "time (ms)": {"p-1h, batch 20": {"EP": 2.0, "BPTT": 3.0}, "p-2h, batch 20": {"BPTT": 30.0}},
        "nothing": {"p-1h, batch 20": {}},
    }
    plots.dot_plot(panels, tmp_path / "bench", "time and memory")
    check(tmp_path / "bench", "p-1h, batch 20", "p-2h, batch 20", "EP", "BPTT", "time (ms)", "time and memory")
    assert "nothing" not in (tmp_path / "bench.svg").read_text()
    with pytest.raises(ValueError, match="`panels` is empty"):
        plots.dot_plot({"nothing": {"p-1h": {}}}, tmp_path / "none")

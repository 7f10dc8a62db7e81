"""What a measurement consists of: times by a clock of ours, figures as defined, who takes part, and what is drawn."""

import json
from dataclasses import replace

import pytest
import torch

import eqprop as ep
from eqprop import plots
from eqprop._core.memory import peak_bytes
from eqprop.bench import (
    Measured,
    Settled,
    Task,
    Trained,
    contenders,
    estimators,
    in_turn,
    measure,
    medians,
    phases_of,
    ratios,
)
from eqprop.bench.measuring import settling
from eqprop.bench.settling import steps_to
from eqprop.bench.tables import as_json, notes, setting, tables
from eqprop.bench.timing import LASTING, MOST, blocks
from eqprop.papers.registry import RECIPES, recipe
from eqprop.solvers.settle import residual
from picture_files import check


@pytest.fixture(autouse=True, scope="module")
def _hasty():
    """Times mean nothing here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("eqprop.bench.measuring.LEAST", 40)
        patch.setattr("eqprop.bench.measuring.blocks", lambda steps: dict.fromkeys(steps, 1))
        yield


class Clock:
    """Tells how many seconds have been spent."""

    def __init__(self):
        self.now, self.calls = 0.0, []

    def __call__(self) -> float:
        return self.now

    def step(self, name: str, *seconds: float):
        """A step of so many seconds each time it is called; the last number goes on for ever."""
        left = list(seconds)

        def work():
            self.calls.append(name)
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return work


def test_contenders_take_turns_and_the_first_round_does_not_count():
    clock, told = Clock(), []
    steps = {"a": clock.step("a", 9.0, 9.0, 9.0, 1.0, 2.0, 4.0, 1.0, 3.0, 5.0), "b": clock.step("b", 0.5)}
    found = in_turn(steps, 2, block=2, clock=clock, tell=lambda: told.append(clock.now))
    assert clock.calls == (["a"] * 3 + ["b"] * 3) * 3
    assert found == {"a": [3000.0, 4000.0], "b": [500.0, 500.0]}
    assert told == [28.5, 37.0, 47.5]


def test_no_step_goes_before_a_long_one():
    clock = Clock()
    found = in_turn({"a": clock.step("a", 2.0), "b": clock.step("b", 1.0)}, 1, {"a": 1, "b": 3}, clock=clock)
    assert clock.calls == (["a"] + ["b"] * 4) * 2
    assert found == {"a": [2000.0], "b": [1000.0]}


def test_blocks_last_long_enough():
    clock = Clock()
    steps = {
        "long": clock.step("long", 1.0),
        "slow at first": clock.step("slow at first", 5 * LASTING, LASTING / 4.5),
        "quick": clock.step("quick", LASTING / 7.5),
        "instant": clock.step("instant", 0.0),
    }
    assert blocks(steps, clock) == {"long": 1, "slow at first": 5, "quick": 8, "instant": MOST}


def test_figures_of_times():
    times = {"ours": [2.0, 40.0, 3.0], "base": [1.0, 10.0, 3.0]}
    assert medians(times) == {"ours": 3.0, "base": 3.0}
    assert ratios(times, "base") == {"ours": 2.0, "base": 1.0}, "of the rounds, not of the medians"


def small(name: str = "digits", free: int | None = 5, nudged: int | None = 3, batch: int = 4) -> Task:
    run = recipe(name)
    return Task(run, phases_of(run, free, nudged), batch)


def test_everyone_has_the_phases_of_the_recipe():
    run = recipe("hardware-centred")
    phases = phases_of(run)
    assert estimators(run, phases) == {
        "EP": ep.EquilibriumProp(ep.Settle(20), ep.Settle(8), 0.5, "centred"),
        "continual EP": ep.ContinualSGD(ep.Settle(20), 8, 0.5, 1e-6, "centred"),
        "BPTT": ep.BPTT(ep.Settle(20), 8),
        "implicit": ep.ImplicitDiff(ep.Settle(20), ep.Settle(8)),
    }
    assert estimators(run, phases_of(run, 3, 8))["BPTT"] == ep.BPTT(ep.Settle(3), 3)
    assert isinstance(estimators(recipe("hardware-cep"), phases)["continual EP"], ep.ContinualEP)


def test_who_is_missing_says_why():
    spiking, sweeps = (estimators(run, phases_of(run)) for run in map(recipe, ("spiking-digits", "dchn-mnist-small")))
    assert spiking["BPTT"] == ep.BPTT(ep.Settle(50), 25, surrogate=True)
    assert "no derivative" in spiking["implicit"]
    assert "synchronous" in sweeps["continual EP"]


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_has_contenders(name):
    found = contenders(small(name))
    assert list(found) == ["EP", "continual EP", "BPTT", "implicit", "backprop", "bare"]
    assert callable(found["EP"])


def test_samples_are_the_same_for_everyone():
    task = small()
    (x, y), (again, classes) = (task.samples(task.model()) for _ in range(2))
    assert torch.equal(x, again)
    assert torch.equal(y, classes)
    assert x.shape == (4, 64)
    assert 0 <= x.min() < x.max() <= 1


@pytest.fixture(scope="module")
def found() -> Measured:
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


def test_memory_is_that_of_a_step(found):
    for name in ("EP", "BPTT", "backprop"):
        assert found.training[name].peak_bytes == peak_bytes(contenders(small())[name]())
    assert found.training["bare"].peak_bytes is None


def test_steps_to_a_residual_are_the_first_that_meet_it(found):
    task = small()
    model = task.model()
    x, _ = task.samples(model)
    states = ep.relax(model, x, 40, trajectory=True).trajectory
    first = next(t for t in range(1, 41) if residual(states[t - 1], states[t]).max() <= 1e-3)
    sync = found.settling["sync"]
    assert sync.steps == first
    assert sync.residual == residual(states[first - 1], states[first]).max().item()
    assert sync.milliseconds_to == first * sync.milliseconds
    assert steps_to(task, "sync", 1e-3, first - 1)[0] is None


def test_the_time_of_a_step_is_a_share_of_its_phase(monkeypatch):
    """Twenty steps are timed together; 30 ms are the median of their rounds, twice as long as the bare ones."""
    rounds = {"sync": [20.0, 30.0, 40.0], "bare": [10.0, 15.0, 20.0]}
    monkeypatch.setattr("eqprop.bench.measuring.timed", lambda *arguments: rounds)
    found = settling(small(), 3, 1e-3, lambda: None)
    assert (found["sync"].milliseconds, found["sync"].times_bare) == (1.5, 2.0)
    assert found["sync"].milliseconds_to == found["sync"].steps * 1.5
    assert found["bare"] == Settled(0.75, 1.0)


def test_continual_recipes_and_sweeps_are_told_as_their_own():
    cep = measure(small("hardware-cep"), 1, 1, 1e-3)
    assert (cep.own, sorted(cep.absent)) == ("continual EP", ["anderson", "async", "async+anderson"])
    sweeps = measure(small("dchn-mnist-small", 2, 2, 1), 1, 1, 0.5)
    assert (sweeps.own, sweeps.own_method, list(sweeps.absent)) == ("EP", "async", ["continual EP"])


def test_threads_and_random_numbers_are_as_before(monkeypatch):
    def drawn(*arguments):
        return torch.get_num_threads(), torch.rand(3).tolist()

    for part in ("training", "settling"):
        monkeypatch.setattr(
            f"eqprop.bench.measuring.{part}", (lambda *a: (drawn(), {})) if part == "training" else drawn
        )
    torch.manual_seed(3)
    wanted = torch.rand(3)
    torch.manual_seed(3)
    seen = [measure(small(), 2, 1, 1e-3) for _ in range(2)]
    assert torch.equal(torch.rand(3), wanted)
    assert torch.get_num_threads() == 1
    assert seen[0].training[0] == 2
    assert seen[0].training == seen[1].training, "the same numbers again"


def test_progress_comes_to_its_end():
    told = {"digits": [], "spiking-digits": []}
    for name, heard in told.items():
        measure(small(name), 1, 2, 1e-3, lambda *how_far, heard=heard: heard.append(how_far))
        assert heard == [(n, len(heard)) for n in range(1, len(heard) + 1)]


def test_a_contender_that_does_not_bear_the_weights_is_missing_and_ep_is_not(monkeypatch):
    def diverge(*arguments):
        raise FloatingPointError("the adjoint is not finite")

    monkeypatch.setattr("eqprop.estimators.implicit._solve_adjoint", diverge)
    assert measure(small(), 1, 1, 1e-3).absent == {"implicit": "the adjoint is not finite"}
    monkeypatch.setattr("eqprop.estimators.ep.settle_nudged", diverge)
    with pytest.raises(FloatingPointError):
        measure(small(), 1, 1, 1e-3)


MADE = Measured(
    "p-1h", 20, 2, 30, 10, "one-sided", "continual EP", "async", 100, 10,
    {"EP": Trained(2.345, 1.5, 3 * 2**20), "continual EP": Trained(20.0, 12.25, 2**19), "bare": Trained(1.5, 1.0, None)},
    {"sync": Settled(0.5, 2.0, 8, 4.0, 1e-5), "async": Settled(0.25, 1.25, None, None, 0.1), "bare": Settled(0.125, 1.0)},
    {"BPTT": "too tired, got up late", "anderson": "too wild"},
)  # fmt: skip


def test_tables_say_what_was_found():
    one = replace(MADE, threads=1, absent={"BPTT": "too tired, got up early"})
    training, steps, phases, memory = tables([MADE, one], 1e-4).values()
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
    assert [row[0] for row in steps.rows] == [setting(MADE), setting(one)]
    assert steps.rows[0][1:] == ["0.5 (2)", "0.25 (1.25) *", "–", "–", "0.125"]
    assert phases.rows[0][1:] == ["8, 4", "not reached *", "–", "–"]
    assert memory.rows[0][1:] == ["3", "0.5 *", "–", "–", "–"]
    assert notes([MADE, one]) == ["no BPTT of p-1h: too tired", "no anderson of p-1h: too wild"]


def test_a_file_has_every_figure():
    facts = json.loads(as_json("eqprop bench", {"threads": 1}, {"rounds": 5}, [MADE]))
    assert (facts["command"], facts["environment"], facts["rounds"]) == ("eqprop bench", {"threads": 1}, 5)
    (row,) = facts["rows"]
    assert row["training"]["EP"] == {"milliseconds": 2.345, "times_bare": 1.5, "peak_bytes": 3 * 2**20}
    assert row["settling"]["sync"]["steps"] == 8
    assert row["absent"] == MADE.absent
    assert set(row) == set(vars(MADE))


def test_dots(tmp_path):
    panels = {
        "time (ms)": {"p-1h, batch 20": {"EP": 2.0, "BPTT": 3.0}, "p-2h, batch 20": {"BPTT": 30.0}},
        "nothing": {"p-1h, batch 20": {}},
    }
    plots.dots(panels, tmp_path / "bench", "what it costs")
    check(tmp_path / "bench", "p-1h, batch 20", "p-2h, batch 20", "EP", "BPTT", "time (ms)", "what it costs")
    assert "nothing" not in (tmp_path / "bench.svg").read_text()
    with pytest.raises(ValueError, match="`panels` is empty"):
        plots.dots({"nothing": {"p-1h": {}}}, tmp_path / "none")

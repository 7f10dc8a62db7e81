"""EP keeps only the last states: the peak memory of a training step does not depend on the length of its phases."""

import pytest

from eqprop._core.memory import StorageCounter, peak_bytes
from eqprop.bench import Task, extract_phases, make_candidates
from eqprop.bench.candidates import make_estimators
from eqprop.papers.registry import RECIPES, recipe

FEW, MANY, NUDGED = 4, 16, 2


def peaks(name: str) -> tuple[list[int], list[int]]:
    """Peaks of the phases alone, which gradients of many weights might hide, and of the whole step, for few and many steps."""
    run, phases, steps = recipe(name), [], []
    model = run.build()
    for free in (FEW, MANY):
        task = Task(run, extract_phases(run, free, NUDGED), 1)
        x, y = task.samples(model)
        model.zero_grad()
        with StorageCounter() as ledger:
            (loss,) = make_estimators(run, task.phases)["EP"](model, x, y)
            phases.append(ledger.peak)
            loss.backward()
        steps.append(ledger.peak)
    return phases, steps


@pytest.mark.parametrize("name", RECIPES)
def test_peak_memory_of_ep_does_not_depend_on_the_free_steps(name):
    for few, many in peaks(name):
        assert many == pytest.approx(few, rel=0.01)
        assert few > 0


def test_peak_memory_of_ep_does_not_depend_on_the_nudged_steps():
    run = recipe("p-2h")
    few, many = (peak_bytes(make_candidates(Task(run, extract_phases(run, 4, k), 20))["EP"]()) for k in (2, 12))
    assert many == pytest.approx(few, rel=0.01)


def test_peak_memory_of_bptt_grows_with_the_steps():
    """By at least the states of the unrolled steps: here 20 samples of 1034 units, four bytes each."""
    run = recipe("p-2h")
    few, many = (peak_bytes(make_candidates(Task(run, extract_phases(run, k, k), 20))["BPTT"]()) for k in (4, 16))
    assert many - few >= 12 * 20 * 1034 * 4

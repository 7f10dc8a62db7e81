"""Asynchronous trainings: what files carry of the order, what older files mean, what the command line takes and refuses."""

import json
import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

import eqprop as ep
from command import call, files
from eqprop import plots
from eqprop.papers.registry import baseline, recipe
from eqprop.plots.phases import draw_residual_curves
from eqprop.theorem.experiment import Experiment
from eqprop.training import SGD, Data, Run, create_run, load, prepare_run, train_run
from eqprop.training.session import read_run
from small_sets import secluded

MODEL = ep.MLP((64, 8, 10), "sigmoid", dynamics=ep.Prototypical(nudge="inside"))
SWEEPS = ep.Settle(8, schedule=ep.Asynchronous())
TOLERANT = ep.Settle(20, tol=1e-3)


def run(free=SWEEPS, nudged=4, **options) -> Run:
    given = {"data": Data("digits", 60), "model": MODEL, "optimizer": SGD((0.6, 0.3)), "epochs": 2}
    return Run("mine", estimator=ep.EquilibriumProp(free, nudged, 0.2, "centred"), **given | options)


@pytest.fixture
def here(tmp_path, monkeypatch):
    return secluded(tmp_path, monkeypatch)


def test_a_file_carries_the_schedule():
    one = run(nudged=ep.Settle(4, tol=1e-3, schedule=ep.Asynchronous()))
    assert Run.from_json(one.to_json()) == one
    assert one.to_json().count('"Asynchronous"') == 2


def test_files_from_before_there_were_schedules_are_those_of_synchronous_runs():
    """To the letter: a training that was killed then goes on now, and a record is found by its text."""
    text = run(TOLERANT).to_json()
    settle = json.loads(text)["estimator"]["free_steps"]
    assert settle == {"type": "Settle", "steps": 20, "tol": 1e-3, "check_every": 5}
    assert Run.from_json(text) == run(TOLERANT)
    explicit = text.replace('"tol": 0.001', '"tol": 0.001, "schedule": {"type": "Synchronous"}')
    assert explicit != text
    assert Run.from_json(explicit).to_json() == text


def test_a_model_is_tested_in_the_order_that_it_was_trained_in():
    assert run().build().settle == SWEEPS
    assert run(model=replace(MODEL, settle=30)).build().settle == ep.Settle(30)
    assert baseline(run()).estimator == ep.BPTT(SWEEPS, 5)


def test_a_training_by_sweeps_learns(tmp_path):
    create_run(run(ep.Settle(20, schedule=ep.Asynchronous()), epochs=8), tmp_path / "run")
    rows = train_run(tmp_path / "run")
    assert rows[-1]["test_error"] < 0.2
    model = load(tmp_path / "run")
    assert model.settle.schedule == ep.Asynchronous()
    assert ep.relax(model, torch.rand(2, 64), model.settle).steps == 20


@pytest.mark.parametrize(
    ("words", "free", "nudged"),
    [
        ("--estimator.free-steps 12:async", ep.Settle(12, schedule=ep.Asynchronous()), 10),
        ("--estimator.free-steps 12:1e-3:async", ep.Settle(12, 1e-3, ep.Asynchronous()), 10),
        ("--estimator.free-steps 12:1e-3", ep.Settle(12, 1e-3), 10),
        ("--estimator.free-steps 12:anderson3", ep.Settle(12, accelerate=ep.Anderson(3)), 10),
        (
            "--estimator.free-steps 12:1e-3:async:anderson",
            ep.Settle(12, 1e-3, ep.Asynchronous(), accelerate=ep.Anderson()),
            10,
        ),
        ("--estimator.free-steps 12 --estimator.nudged-steps 5:async", 12, ep.Settle(5, schedule=ep.Asynchronous())),
    ],
)
def test_the_command_line_chooses_it(here, words, free, nudged):
    call(f"train digits --epochs 1 --no-plots --out run {words}").done()
    assert read_run(here / "run").estimator == replace(recipe("digits").estimator, free_steps=free, nudged_steps=nudged)
    call("evaluate run").done()


def test_the_help_shows_the_word_for_it(here):
    create_run(run(), here / "run")
    assert "STEPS[:TOL][:async][:andersonM][:meanM]" in call("train digits --help").out
    call("train digits --epochs 1 --no-plots --out other --model.settle 9:async").done()
    assert read_run(here / "other").model.settle == ep.Settle(9, schedule=ep.Asynchronous())


WORDS = "must be STEPS[:TOL][:async][:andersonM][:meanM]"
MISTAKES = {
    "train digits --estimator.free-steps 12:asynch": f"{WORDS}, got 'asynch': did you mean 'async'?",
    "train digits --estimator.free-steps 12:async:1e-3": f"--estimator.free-steps {WORDS}, such as",
    "train digits --estimator.free-steps 12:anderson5:async": "got 'anderson5': did you mean 'anderson'?",
    "train digits --estimator.free-steps 12:andersen5": "got 'andersen5': did you mean 'anderson'?",
    "train digits --estimator.free-steps 12:anderson0": "got 0",
    "train digits --estimator.free-steps 12:andersonx": "must be a whole number, got 'x'",
    "train digits --estimator.free-steps 12:anderson5:mean3": "does not apply to accelerated steps",
    "train digits --estimator bptt --estimator.free-steps 11:anderson": "unrolled steps, here all of them, are plain",
    "train spiking-digits --estimator.free-steps 12:anderson": "acceleration needs dynamics whose step is a fixed map",
    "gdu digits --estimator.free-steps 12:anderson": "must be plain steps, which the theorem assumes",
    "train digits --estimator.free-steps 12:1e-3:1e-4": "got '12:1e-3:1e-4'",
    "train digits --estimator.free-steps :async": "got ':async'",
    "train digits --estimator.free-steps 12::async": "got '12::async'",
    "train digits --estimator.free-steps 0:async": "got 0",
    "train digits --estimator.free-steps 12:0:async": "got 0.0",
    "train digits --estimator continual-ep --estimator.nudged-steps 5:async": "'5:async'",
    "train eb-1h --estimator.free-steps 12:async": "got EnergyDescent(dt=0.2, clamp=True",
    "train eb-1h --estimator.nudged-steps 12:async": "an asynchronous schedule needs `Prototypical` dynamics",
    "train eb-1h --model.settle 12:async": "an asynchronous schedule needs `Prototypical` dynamics",
    "gdu digits --estimator.free-steps 12:async": "must be synchronous, which the theorem assumes",
    "gdu digits --estimator.nudged-steps 5:async": "must be synchronous, which the theorem assumes",
}


@pytest.mark.parametrize("command", MISTAKES)
def test_a_mistake_is_told_in_a_line_and_leaves_nothing(here, command):
    before = files(here.parent)
    assert MISTAKES[command] in call(command).complaint()
    assert files(here.parent) == before


def test_noise_is_refused_before_anything_is_written():
    noisy = replace(MODEL, dynamics=ep.Noisy(ep.Prototypical(), 0.1))
    with pytest.raises(ValueError, match=r"needs `Prototypical` dynamics.*got Noisy"):
        prepare_run(run(model=noisy))
    with pytest.raises(ValueError, match=r"needs `Prototypical` dynamics.*got Noisy"):
        prepare_run(run(30, SWEEPS, model=noisy))


def test_the_theorem_is_checked_on_plain_steps():
    """As many as an acceleration would take; two for each sweep."""
    free, swept = (
        ep.Settle(80, accelerate=ep.Anderson()),
        ep.Settle(30, schedule=ep.Asynchronous(), accelerate=ep.Anderson()),
    )
    estimator = Experiment.from_run(run(free, swept)).estimator
    assert (estimator.free_steps, estimator.nudged_steps) == (ep.Settle(80), ep.Settle(60))


COURSE = plots.ResidualCurve([0.5, 0.01, 0.02, 0.001], 2.0)


def test_steps_to_a_residual_are_those_after_which_it_stays_below():
    assert [COURSE.steps_to(r) for r in (1.0, 0.5, 0.015, 0.001, 1e-4)] == [1, 1, 4, 4, None]
    assert plots.ResidualCurve([0.1, float("nan")], 1.0).steps_to(0.5) is None


def test_courses_are_drawn_over_steps_and_over_time():
    found = {
        "net": {"synchronous": {"initial": COURSE}, "asynchronous": {"initial": plots.ResidualCurve([0.1, 0.0], 3.0)}}
    }
    over_steps, over_time = draw_residual_curves(found).axes
    for axes, scale in ((over_steps, (1, 1)), (over_time, (2, 3))):
        first, second = axes.get_lines()
        assert first.get_label() == "synchronous, initial"
        assert list(first.get_xdata()) == pytest.approx([scale[0] * t for t in (1, 2, 3, 4)])
        assert list(first.get_ydata()) == pytest.approx(COURSE.residuals)
        assert list(second.get_xdata()) == pytest.approx([scale[1], 2 * scale[1]])
        assert second.get_color() != first.get_color()
    assert (over_steps.get_xlabel(), over_time.get_xlabel()) == ("step", "milliseconds")


def test_an_order_has_one_color_in_all_networks():
    found = {"a": {"synchronous": {"": COURSE}, "asynchronous": {"": COURSE}}, "b": {"asynchronous": {"": COURSE}}}
    panels = draw_residual_curves(found).axes
    colors = {axes.get_title(): [line.get_color() for line in axes.get_lines()] for axes in panels if axes.get_title()}
    assert colors["a"][1:] == colors["b"]


def test_courses_as_files(tmp_path):
    plots.residual_curves({"net": {"synchronous": {"": COURSE}}}, tmp_path / "new" / "courses", "both")
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["courses.png", "courses.svg"]
    assert "synchronous" in (tmp_path / "new" / "courses.svg").read_text()
    with pytest.raises(ValueError, match="`found` is empty"):
        plots.residual_curves({}, tmp_path / "none")


def test_settling_is_drawn_in_the_order_of_the_model(monkeypatch):
    figures = []
    monkeypatch.setattr(plots.phases, "save", lambda figure, path: figures.append(figure))
    model, x = run().build(), torch.rand(3, 64)
    plots.settling(model, x, None)
    states = ep.relax(model, x, ep.Settle(16, schedule=ep.Asynchronous()), trajectory=True).trajectory
    largest = [max((b - a).abs().max().item() for a, b in zip(s, t, strict=True)) for s, t in pairwise(states)]
    drawn = figures[0].axes[0].get_lines()[1].get_ydata()
    assert list(drawn) == pytest.approx([d or math.nan for d in largest], nan_ok=True)

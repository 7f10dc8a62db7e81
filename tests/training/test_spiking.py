"""Spiking runs in ordinary use: words of the command line, files, trainings that are stopped and go on, recipes and baselines."""

import re
from dataclasses import replace

import pytest
import torch

import eqprop as ep
from command import call, files
from eqprop.cli import parsers
from eqprop.papers import RECIPES, baseline, published_errors, recipe, surrogate_baseline
from eqprop.solvers.settle import Settle
from eqprop.spiking import OSA, Bernoulli, Decay, SigmaDelta, Spiking
from eqprop.training import SGD, Run, Trainer
from eqprop.training.session import read_run
from small_sets import secluded
from small_trainings import TEST, TRAIN, VALIDATION, after, mlp, outcome, timeless


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working folder of a user without data sets and without a network."""
    return secluded(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("25", 25),
        ("25:mean6", Settle(25, average=6)),
        ("25:async:mean6", Settle(25, schedule=ep.Asynchronous(), average=6)),
        ("25:async", Settle(25, schedule=ep.Asynchronous())),
        ("100:0.001", Settle(100, tol=1e-3)),
        ("100:1e-05:async", Settle(100, 1e-5, ep.Asynchronous())),
    ],
)
def test_words_of_phases(word, value):
    assert parsers.parse_steps(word) == value
    assert parsers.format_steps(value) == word


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("0.5", 0.5),
        ("1.0/t^0.75", Decay(1.0, 0.75)),
        ("0.67/t^0.578", Decay(0.67, 0.578)),
        ("osa:0.03", OSA(0.03)),
    ],
)
def test_words_of_sizes(word, value):
    assert parsers.parse_step_size(word) == value
    assert parsers.format_step_size(value) == word


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("1", 1.0),
        ("1/t^0.75", Decay(1.0, 0.75)),
        ("1/t", Decay(1.0, 1.0)),
        ("osa", OSA()),
        ("5e-1/t^1", Decay(0.5, 1.0)),
    ],
)
def test_shorter_words_of_sizes(word, value):
    assert parsers.parse_step_size(word) == value
    assert parsers.parse_step_size(parsers.format_step_size(value)) == value


@pytest.mark.parametrize(("word", "value"), [("sigma-delta", SigmaDelta()), ("bernoulli", Bernoulli())])
def test_words_of_coders(word, value):
    assert parsers.parse_coder(word) == value
    assert parsers.format_coder(value) == word


SIZE = r"must be NUMBER, START/t\^POWER or osa:TARGET, got "
MISTAKES = {
    "--estimator.nudged-steps 25:mean": r"nudged-steps must be STEPS\[:TOL\]\[:async\]\[:andersonM\]\[:meanM\], .* got '25:mean'",
    "--estimator.nudged-steps :mean3": r"nudged-steps must be STEPS.* got ':mean3'",
    "--estimator.nudged-steps 25:meanx": "nudged-steps must be a whole number, got 'x'",
    "--estimator.nudged-steps 25:mean0": "nudged-steps: `average` must be a whole number of at least 1, got 0",
    "--estimator.nudged-steps 25:mean26": "nudged-steps: `average` is 26, but only 25 steps are taken",
    "--estimator.free-steps 25:1e-3:mean3": "free-steps: `average` needs a fixed number of steps",
    "--estimator.free-steps 25:mean2:async": "free-steps must be a number, got 'mean2'",
    "--estimator.free-steps 25:async": "asynchronous schedule needs `Prototypical` dynamics",
    "--model.dynamics.eps 1/t^": f"eps {SIZE}'1/t\\^'",
    "--model.dynamics.eps 1/x": f"eps {SIZE}'1/x'",
    "--model.dynamics.eps /t^1": f"eps {SIZE}'/t\\^1'",
    "--model.dynamics.eps osa:": f"eps {SIZE}'osa:'",
    "--model.dynamics.eps osax": f"eps {SIZE}'osax'",
    "--model.dynamics.eps osa:much": f"eps {SIZE}'osa:much'",
    "--model.dynamics.eps osa:2": r"eps: `target` must be a number in \(0, 1\], got 2\.0",
    "--model.dynamics.eps 0": r"eps must be a number in \(0, 1\], got 0",
    "--model.dynamics.eps 2/t^0.5": r"eps: `start` must be a number in \(0, 1\], got 2\.0",
    "--model.dynamics.eps 1/t^-1": r"eps: `power` must be a finite number above 0, got -1\.0",
    "--model.dynamics.lam much": f"lam {SIZE}'much'",
    "--model.dynamics.lam osa:0.03": r"lam must be one of a number in \(0, 1\], `Decay`, got OSA\(target=0\.03\)",
    "--model.dynamics.coder sigma": "coder must be one of sigma-delta, bernoulli, got 'sigma'",
    "--model.dynamics.input analog": "'analog'.*'spikes', 'current'",
    "--model.dynamics.decode between": "'between'.*'after', 'before'",
    "--model.dynamics.ep 0.5": "Perhaps you meant: --model.dynamics.eps",
    "--model.activation tanh": "spiking dynamics need hard sigmoids.*population 1",
    "--dynamics spikes": "no --dynamics 'spikes': did you mean 'spiking'",
    "--dynamics prototypical --model.dynamics.eps 0.5": "Unrecognized options: --model.dynamics.eps",
}


@pytest.mark.parametrize("words", MISTAKES)
def test_mistakes_are_told_in_a_line_and_leave_nothing(words, here):
    before = files(here)
    complaint = call(f"train spiking-digits {words} --out run").complaint()
    assert re.search(MISTAKES[words], complaint), complaint
    assert files(here) == before


def test_a_training_by_options_is_what_they_say(here):
    words = "--model.dynamics.eps osa:0.05 --model.dynamics.lam 1/t^0.75 --model.dynamics.coder bernoulli"
    words += " --model.dynamics.input current --model.dynamics.decode before --estimator.nudged-steps 6:mean2"
    words += " --estimator.free-steps 9 --model.sizes 64 8 10 --data.batch-size 500 --epochs 1 --no-plots"
    call(f"train spiking-digits {words} --out run").done()
    run = read_run(here / "run")
    assert run.model.dynamics == Spiking(OSA(0.05), Decay(1.0, 0.75), Bernoulli(), "current", "before")
    assert run.estimator == ep.EquilibriumProp(9, Settle(6, average=2), 0.5, "centred")
    said = [call("evaluate run").done() for _ in range(2)]
    assert said[0] == said[1]  # what Bernoulli draws is drawn by the run's seed
    assert ep.load(here / "run").dynamics == run.model.dynamics


QUICK = "--epochs 1 --no-plots --data.batch-size 500 --model.sizes 64 8 10 --estimator.free-steps 12"
CENTRED = ep.EquilibriumProp(12, Settle(6, average=2), 0.3, "centred")


@pytest.mark.parametrize(
    ("words", "dynamics", "estimator"),
    [
        ("--dynamics energy", ep.EnergyDescent(dt=0.5), CENTRED),
        ("--dynamics spiking", Spiking(), CENTRED),
        ("--dynamics prototypical", ep.Prototypical(), CENTRED),
        ("--dynamics energy --model.dynamics.dt 0.25", ep.EnergyDescent(dt=0.25), CENTRED),
        ("--estimator surrogate-bptt --estimator.unrolled-steps 12", Spiking(), ep.BPTT(12, 12, surrogate=True)),
        ("--estimator surrogate-bptt --estimator.unrolled-steps 4", Spiking(), ep.BPTT(12, 4, surrogate=True)),
        ("--dynamics energy --estimator bptt --estimator.unrolled-steps 5", ep.EnergyDescent(dt=0.5), ep.BPTT(12, 5)),
    ],
)
def test_twins_by_a_word(words, dynamics, estimator, here):
    """The rate twin of a spiking run has its eps for a step; what is trained is otherwise the same."""
    nudged = "" if "--estimator" in words else " --estimator.nudged-steps 6:mean2 --estimator.beta 0.3"
    call(f"train spiking-digits {QUICK} {words}{nudged} --out run").done()
    run = read_run(here / "run")
    assert run.model.dynamics == dynamics
    assert run.estimator == estimator
    assert (run.optimizer, run.name) == (recipe("spiking-digits").optimizer, "spiking-digits")


def test_spikes_for_a_recipe_of_rates(here):
    call(f"train digits {QUICK} --dynamics spiking --model.activation hard_sigmoid --out run").done()
    assert read_run(here / "run").model.dynamics == Spiking()
    assert (
        "hard sigmoids"
        in call(f"train digits {QUICK} --dynamics spiking --model.activation sigmoid --out other").complaint()
    )


SPIKING = [name for name in RECIPES if name.startswith("spiking")]


@pytest.mark.parametrize("name", SPIKING)
def test_a_recipe(name):
    """Average pooling, hard sigmoids, centred EP at beta .5, means over the last part of each nudged phase."""
    run = recipe(name)
    assert run.model.dynamics == Spiking(eps=0.5, lam=0.2)
    assert run.model.activation == "hard_sigmoid"
    assert getattr(run.model, "pool", "avg") == "avg"
    assert (run.estimator.beta, run.estimator.nudging) == (0.5, "centred")
    steps = run.estimator.nudged_steps
    assert run.estimator.free_steps == 2 * steps.steps
    assert steps.steps / 4 - 1 < steps.average <= steps.steps / 2
    small = name.endswith("-small")
    shapes = [p.shape for p in run.build().network.relaxing]
    if isinstance(run.model, ep.ConvNet):
        assert [s[0] for s in shapes] == ([8, 16, 64, 10] if small else [32, 64, 128, 10])
        assert [s[1:] for s in shapes[:2]] == [(12, 12), (4, 4)]
    assert Run.from_json(run.to_json()) == run
    assert len(published_errors(run)) == (name in ("spiking-mnist", "spiking-fashion", "spiking-dense"))
    free = run.estimator.free_steps
    assert surrogate_baseline(run).estimator == ep.BPTT(free, free // 2 + 1, surrogate=True)  # K + 1
    assert replace(surrogate_baseline(run), estimator=run.estimator) == run
    assert baseline(run).build().rate_model().dynamics == ep.EnergyDescent(dt=0.5)


@pytest.mark.parametrize(
    ("name", "error"), [("spiking-mnist", "0.97"), ("spiking-fashion", "8.89"), ("spiking-dense", "2.58")]
)
def test_published_figures(name, error):
    (line,) = published_errors(recipe(name))
    assert (line.method, line.text) == ("EP", error)
    assert line.remark


def test_a_file_says_what_a_person_would():
    run = recipe("spiking-digits")
    dynamics = Spiking(OSA(0.05), Decay(1.0, 0.75), Bernoulli(), "current", "before")
    text = replace(run, model=replace(run.model, dynamics=dynamics)).to_json()
    assert Run.from_json(text).model.dynamics == dynamics
    for part in ('"type": "Spiking"', '"type": "OSA"', '"target": 0.05', '"type": "Decay"', '"power": 0.75',
                 '"type": "Bernoulli"', '"input": "current"', '"decode": "before"', '"average": 6'):  # fmt: skip
        assert part in text
    assert '"average"' not in recipe("digits").to_json()  # files of before stay the same text


ATTEMPTS = {
    "sigma-delta": (Spiking(), ep.EquilibriumProp(12, Settle(6, average=2), 0.5, "centred")),
    "bernoulli": (Spiking(coder=Bernoulli()), ep.EquilibriumProp(12, Settle(6, average=2), 0.5, "random-sign")),
    "osa, continual": (Spiking(OSA(0.1), coder=Bernoulli()), ep.ContinualEP(12, 4, 0.5, "centred")),
    "through spikes": (Spiking(coder=Bernoulli()), ep.BPTT(8, surrogate=True)),
}


def attempt(name, folder, callbacks=(), resume=False, noise=7):
    dynamics, estimator = ATTEMPTS[name]
    model = mlp(activation="hard_sigmoid", dynamics=dynamics, settle=12)
    trainer = Trainer(
        model, estimator, SGD((0.3, 0.2)).build(model), folder=folder, seed=3, callbacks=callbacks, checkpoint_every=0.0
    )
    torch.manual_seed(noise)
    go = trainer.resume if resume else trainer.fit
    return go(TRAIN, 2, validation=VALIDATION, test=TEST)


class Stopped(Exception):
    pass


def stop():
    raise Stopped


@pytest.mark.parametrize("name", ATTEMPTS)
def test_a_resumed_training_ends_with_the_same_bytes(name, tmp_path):
    attempt(name, tmp_path / "whole")
    wanted = outcome(tmp_path / "whole")
    for batches in (1, 3, 4):
        folder = tmp_path / str(batches)
        with pytest.raises(Stopped):
            attempt(name, folder, [after(batches, stop)])
        attempt(name, folder, resume=True, noise=99)
        assert outcome(folder) == wanted


def test_another_stream_of_random_numbers_is_another_training(tmp_path):
    rows = [timeless(attempt("bernoulli", tmp_path / str(n), noise=noise)) for n, noise in enumerate((1, 1, 2))]
    assert rows[0] == rows[1] != rows[2]


LATE = Settle(20, average=5)


@pytest.mark.parametrize(
    ("estimator", "rates", "left"),
    [
        (ep.EquilibriumProp(LATE, Settle(10, average=3), 0.5, "centred"), (1.0, 0.5), 0.3),
        (ep.BPTT(LATE, surrogate=True), (0.4, 0.2), 0.8),
    ],
    ids=["EP", "BPTT"],
)
def test_a_network_of_spikes_learns(estimator, rates, left):
    """Three classes that a line cannot miss."""
    model = mlp(activation="hard_sigmoid", dynamics=Spiking(), settle=LATE)
    rows = Trainer(model, estimator, SGD(rates).build(model)).fit(TRAIN, 15, test=TEST)
    assert rows[-1]["train_cost"] < left * rows[0]["train_cost"]
    assert rows[-1]["test_error"] < rows[0]["test_error"]

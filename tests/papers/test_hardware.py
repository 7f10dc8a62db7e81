"""Recipes of analog hardware: equal budgets, ideal by default; imperfections survive files and interruptions."""

import re
from dataclasses import replace

import pytest
import torch

import eqprop as ep
from command import call
from eqprop.papers import published_errors, recipe
from eqprop.papers.hardware.recipes import BITS, MISMATCH, NOISE, with_bits, with_mismatch, with_noise
from eqprop.training import SGD, QuantizedSGD, Run, Trainer, checkpoint, create_run, load, train_run
from eqprop.training.diagnostics import diagnostics_of
from eqprop.training.run_folder import RunFolder
from small_trainings import TEST, TRAIN, VALIDATION, after, mlp, outcome, timeless

RULES = {"hardware-ep": "EP", "hardware-centred": "EP", "hardware-cep": "C-EP", "hardware-cvf": "C-VF"}
WORSE = {
    "noise": lambda run: with_noise(run, 0.05),
    "mismatch": lambda run: with_mismatch(run, 0.3),
    "bits": lambda run: with_bits(run, 5),
    "all": lambda run: with_noise(with_mismatch(with_bits(run, 5), 0.3), 0.05),
}


def test_all_rules_have_the_same_budget():
    runs = [recipe(name) for name in RULES]
    estimators = [run.estimator for run in runs]
    assert len({(e.free_steps, e.nudged_steps, e.beta) for e in estimators}) == 1
    assert len({(run.data, run.epochs, run.schedule, run.threads, run.seed) for run in runs}) == 1
    assert len({replace(run.model, tied=True) for run in runs}) == 1
    assert [run.method for run in runs] == list(RULES.values())
    assert [run.model.tied for run in runs] == [True, True, True, False]
    assert [e.nudging for e in estimators] == ["one-sided", "centred", "one-sided", "centred"]


@pytest.mark.parametrize("name", RULES)
def test_the_recipes_are_ideal(name):
    run = recipe(name)
    assert run.model.dynamics == ep.Noisy(ep.Prototypical(nudge="inside"), 0.0)
    assert run.model.mismatch == 0
    assert type(run.optimizer) is SGD
    assert published_errors(run) == ()


@pytest.mark.parametrize("name", RULES)
def test_the_first_level_of_each_is_the_recipe(name):
    run = recipe(name)
    assert with_noise(run, NOISE[0]) == with_mismatch(run, MISMATCH[0]) == with_bits(run, BITS[0]) == run


@pytest.mark.parametrize("worse", WORSE)
@pytest.mark.parametrize("name", RULES)
def test_every_level_survives_json(name, worse):
    run = WORSE[worse](recipe(name))
    assert run != recipe(name)
    assert Run.from_json(run.to_json()) == run
    assert with_noise(with_noise(run, 0.3), 0.1).model.dynamics == ep.Noisy(ep.Prototypical("inside"), 0.1)


def test_bits_apply_to_weights_and_updates():
    assert with_bits(recipe("hardware-cep"), 4).optimizer == QuantizedSGD(
        recipe("hardware-cep").optimizer.rates, weight_bits=4, update_bits=4, span=1.0
    )


def test_levels_go_from_ideal_to_worse():
    assert list(NOISE) == sorted(NOISE)
    assert list(MISMATCH) == sorted(MISMATCH)
    assert list(BITS[1:]) == sorted(BITS[1:], reverse=True)


def test_a_model_without_mismatch():
    with pytest.raises(ValueError, match="`run` must have an MLP as its model, got Toy"):
        with_mismatch(replace(recipe("hardware-ep"), model=ep.Toy(64)), 0.1)


@pytest.mark.parametrize("name", RULES)
def test_a_trained_model_is_loaded_unchanged(name, tmp_path):
    run = WORSE["all"](replace(recipe(name), epochs=1, data=replace(recipe(name).data, batch_size=500)))
    create_run(run, tmp_path / "run")
    (row,) = train_run(tmp_path / "run")
    assert 0 < row["test_error"] <= 1
    kept = checkpoint.read(RunFolder(tmp_path / "run").last)[0]
    found = load(tmp_path / "run").state_dict()
    assert torch.equal(found["network.connections.1.deviation"], kept["model.network.connections.1.deviation"])
    assert all(torch.equal(found[key], kept[f"model.{key}"]) for key in found)


ATTEMPTS = {
    "noise": ({"dynamics": ep.Noisy(ep.Prototypical(), 0.1)}, ep.EquilibriumProp(8, 4, 0.2, "centred"), SGD(0.5)),
    "mismatch": ({"mismatch": 0.4}, ep.EquilibriumProp(8, 4, 0.2), SGD(0.5)),
    "bits": ({}, ep.EquilibriumProp(8, 4, 0.2), QuantizedSGD((0.5, 0.2), 5, 4)),
    "all, continual": (
        {"dynamics": ep.Noisy(ep.EnergyDescent(dt=0.5), 0.1), "mismatch": 0.4, "tied": False},
        ep.ContinualEP(8, 4, 0.2, "random-sign"),
        QuantizedSGD(0.05, 6, 6),
    ),
}


def attempt(name, folder, callbacks=(), resume=False, noise=7):
    options, estimator, optimizer = ATTEMPTS[name]
    model = mlp(**options)
    if resume:  # a new process draws other deviations, and must read those of the checkpoint
        for key, buffer in model.named_buffers():
            assert key.endswith("deviation")
            buffer.zero_()
    trainer = Trainer(
        model, estimator, optimizer.build(model), folder=folder, seed=3, callbacks=callbacks, checkpoint_every=0.0
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
    for batches in range(1, 7):
        folder = tmp_path / str(batches)
        with pytest.raises(Stopped):
            attempt(name, folder, [after(batches, stop)])
        attempt(name, folder, resume=True, noise=99)
        assert outcome(folder) == wanted


@pytest.mark.parametrize("name", ["noise", "bits"])
def test_noise_depends_on_the_random_stream(name, tmp_path):
    rows = [timeless(attempt(name, tmp_path / str(n), noise=noise)) for n, noise in enumerate((1, 1, 2))]
    assert rows[0] == rows[1] != rows[2]


def test_the_angles_of_a_mismatched_run_are_kept(tmp_path):
    run = with_mismatch(replace(recipe("hardware-ep"), epochs=1), 1.0)
    create_run(replace(run, data=replace(run.data, batch_size=500)), tmp_path / "run")
    (row,) = train_run(tmp_path / "run")
    assert row["weight_angles"] == pytest.approx([45.0], abs=5)
    assert 0 < row["update_angle"] < 180


def test_diagnostics_leave_the_random_stream_untouched(tmp_path):
    """The random numbers of the training are not used up, and the noise of the diagnostics is the same every time."""
    run = with_noise(recipe("hardware-cep"), 0.1)
    model = run.build()
    x, y = torch.rand(6, 64), torch.arange(6)
    probe, before = diagnostics_of(run, model, x, y), torch.get_rng_state()
    first = probe(model, run.estimator)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(11)
    assert probe(model, run.estimator) == first


def test_the_command_line(tmp_path):
    folder = tmp_path / "run"
    words = "--model.dynamics.std 0.1 --model.mismatch 0.3 --optimizer quantized --optimizer.weight-bits 5"
    call(f"train hardware-cep --no-plots --epochs 1 --data.batch-size 500 {words} --out {folder}").done()
    run = Run.from_json(RunFolder(folder).config.read_text())
    assert run.model.dynamics == ep.Noisy(ep.Prototypical("inside"), 0.1)
    assert run.model.mismatch == 0.3
    assert run.optimizer == QuantizedSGD(recipe("hardware-cep").optimizer.rates, weight_bits=5)
    said = [call(f"evaluate {folder}").done() for _ in range(2)]
    assert said[0] == said[1]  # noise is drawn by the run's seed


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--model.dynamics.std -1", r"--model\.dynamics\.std must be a finite number of at least 0, got -1"),
        ("--model.mismatch -1", r"--model\.mismatch must be a finite number of at least 0, got -1"),
        (
            "--optimizer quantized --optimizer.weight-bits 1",
            r"--optimizer\.weight-bits must be at least 2, a sign and one bit, got 1",
        ),
    ],
)
def test_mistakes_on_the_command_line(words, message):
    assert re.search(message, call(f"train hardware-cep {words}").complaint())

"""Checkpoints without a part are refused on resume with nothing appended, and what only reads weights builds no optimizer."""

import shutil
from dataclasses import replace
from random import Random

import pytest
import torch

import eqprop as ep
from attack.folders import build_folders, damage
from command import call, files
from eqprop._core.files import DamagedError
from eqprop.papers import recipe
from eqprop.training import checkpoint, create_run, train_run
from eqprop.training.config.optimizers import Adam
from eqprop.training.run_folder import RunFolder
from eqprop.training.session import prepare_data


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    top = tmp_path_factory.mktemp("runs") / "run"
    create_run(replace(recipe("digits"), epochs=1, optimizer=Adam(1e-3)), top)
    train_run(top)
    return top


@pytest.fixture
def unfinished(finished, tmp_path, monkeypatch):
    """A run of two epochs that was stopped after the first."""
    monkeypatch.chdir(tmp_path)
    folder = RunFolder(shutil.copytree(finished, tmp_path / "run"))
    config = replace(folder.run, epochs=2).to_json()
    folder.config.write_text(config)
    tensors, facts = checkpoint.read(folder.last)
    checkpoint.write(folder.last, tensors, facts | {"config": config})
    return RunFolder(folder.path)


@pytest.mark.parametrize("command", ["evaluate run", "evaluate run --which best", "plot run"])
def test_readers_of_weights_build_no_optimizer(finished, tmp_path, monkeypatch, command):
    """The first optimizer of a process loads torch's compiler, which takes seconds."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(finished, "run")
    expected = call(command).done()

    def refuse(*arguments, **choices):
        raise AssertionError("an optimizer was built")

    monkeypatch.setattr(torch.optim.Optimizer, "__init__", refuse)
    assert call(command).done() == expected
    assert isinstance(ep.load("run"), ep.Model)


def test_data_are_checked_against_the_model():
    run = recipe("digits")
    assert prepare_data(run, run.build()).test.x.shape[1:] == (64,)
    with pytest.raises(ValueError, match="the model's input has 63 units"):
        prepare_data(run, ep.mlp([63, 10]))


FACTS = ["epoch", "batch", "counts", "optimizer", "spent", "best", "config"]
TENSORS = ["tally", "random.torch", "random.epoch", "random.estimator", "model.", "optimizer."]


@pytest.mark.parametrize("name", FACTS + TENSORS + ["kind", "groups", "numbers"])
def test_resume_refuses_a_checkpoint_without_a_part(unfinished, name):
    tensors, facts = checkpoint.read(unfinished.last)
    tensors = {key: value for key, value in tensors.items() if not (name in TENSORS and key.startswith(name))}
    optimizer = {key: value for key, value in facts["optimizer"].items() if key != name}
    facts = {key: value for key, value in (facts | {"optimizer": optimizer}).items() if key != name}
    checkpoint.write(unfinished.last, tensors, facts)
    before = files(unfinished.path)
    for _ in range(2):
        assert len(call("train --resume run --no-plots").complaint().splitlines()) <= 3
        assert files(unfinished.path) == before


@pytest.mark.slow
def test_damaged_folders_are_refused_or_give_the_same_model(tmp_path, monkeypatch):
    """`ep.load` of a folder with damage by a fixed seed returns the weights of before, or refuses; the commands: tests/attack."""
    monkeypatch.chdir(tmp_path)
    originals, rng, expected, outcomes = build_folders(tmp_path / "originals"), Random(18), {}, {True: 0, False: 0}
    for name in ("finished", "stopped"):
        for which in ("last", "best"):
            expected[name, which] = ep.load(originals[name], which).state_dict()
    for number in range(300):
        name, which = rng.choice(list(expected))
        place = shutil.copytree(originals[name], tmp_path / f"run-{number}")
        done, before = damage(rng, place, [*originals.values()]), files(place)
        try:
            weights = ep.load(place, which).state_dict()
        except (DamagedError, ValueError, FileNotFoundError, OSError) as error:
            refusal = str(error)
            assert len(refusal.splitlines()) <= 3, (done, refusal)
            outcomes[False] += 1
        else:
            assert weights.keys() == expected[name, which].keys(), done
            assert all(torch.equal(w, weights[key]) for key, w in expected[name, which].items()), done
            outcomes[True] += 1
        assert files(place) == before, done
        shutil.rmtree(place)
    assert min(outcomes.values()) > 30, outcomes

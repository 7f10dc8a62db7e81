"""Runs, checkpoints and public names of the first release still work."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import eqprop as ep
from eqprop import training
from eqprop.data import load as load_data
from eqprop.data.augmentation import Normalize
from eqprop.training import SGD, Data, QuantizedSGD, Run, Trainer, create_run, load, train_run
from eqprop.training.config.run import same_config
from eqprop.training.run_folder import RunFolder
from small_trainings import CENTRED, mlp, sgd, timeless

OLD = Path(__file__).parent / "data" / "first-release"
"""Stopped after batch 2 of epoch 2 of 2. Its file names `optimiser` and `QuantisedSGD`, its checkpoint `Quantised` and `tally`."""


@pytest.fixture
def begun(tmp_path) -> Path:
    """A copy of the old run, as if it had begun on this machine."""
    folder = Path(shutil.copytree(OLD, tmp_path / "old"))
    here = RunFolder(create_run(RunFolder(folder).run, tmp_path / "here").path)
    shutil.copyfile(here.environment, folder / "environment.json")
    return folder


def test_an_old_run_resumes_to_the_rows_of_an_uninterrupted_one(begun, tmp_path):
    rows, whole = train_run(begun), train_run(tmp_path / "here")
    assert len(rows) == 2
    for row, other in zip(timeless(rows), timeless(whole), strict=True):
        assert row.pop("rates") == other.pop("rates")
        for name in ("nudged_residual", "nudged_distance", "nudge"):
            row.pop(name, None)  # not known of the batches before
        other = {name: other[name] for name in row}
        assert row == pytest.approx(other, rel=1e-6)  # the old epoch comes from another machine
    for a, b in zip(load(begun).parameters(), load(tmp_path / "here").parameters(), strict=True):
        assert torch.allclose(a, b)


def test_an_old_configuration_of_another_run_is_refused(begun):
    config = begun / "config.json"
    config.write_text(config.read_text().replace('"beta": 0.2', '"beta": 0.3'))
    with pytest.raises(ValueError, match=r"was written with another configuration"):
        train_run(begun)


def test_configurations_are_compared_as_runs():
    old = (OLD / "config.json").read_text()
    run = Run.from_json(old)
    assert same_config(old, run.to_json())
    assert not same_config(old, replace(run, seed=5).to_json())
    assert not same_config(old, None)
    assert not same_config("one text", "another")
    assert "optimizer" in json.loads(run.to_json())


def test_a_state_dict_restores_a_trainer():
    """Two epochs in one trainer, or one in each of two."""
    (x, y), _ = load_data("digits")
    batches = list(zip(x[:60].split(20), y[:60].split(20), strict=True))
    models = [ep.mlp([64, 6, 10], settle=8) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    one, other = (Trainer(m, CENTRED, sgd(m)) for m in models)
    one.fit(batches, 1)
    other.load_state_dict(one.state_dict())
    one.fit(batches, 2)
    other.fit(batches, 2)
    for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert a.equal(b)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("start", "create_run"),
        ("proceed", "train_run"),
        ("prepare", "prepare_run"),
        ("proceed_at_once", "train_seeds"),
        ("Session", "PreparedRun"),
        ("QuantisedSGD", "QuantizedSGD"),
    ],
)
def test_old_names(old, new):
    with pytest.warns(DeprecationWarning, match=f"`eqprop.training.{old}` is deprecated: use `{new}`"):
        assert getattr(training, old) is getattr(training, new)


def test_old_arguments():
    run = Run("new", Data("digits"), ep.MLP((64, 10)), ep.EquilibriumProp(5, 3, 0.1), QuantizedSGD(0.1))
    with pytest.warns(DeprecationWarning, match="argument `optimiser` is deprecated: use `optimizer`"):
        old = Run("new", run.data, run.model, run.estimator, optimiser=run.optimizer)
    assert old == run
    with pytest.warns(DeprecationWarning, match="`normalise`"):
        assert Data("mnist", normalise=Normalize((0.1,), (0.3,))).normalize == Normalize((0.1,), (0.3,))
    model = mlp()
    with pytest.warns(DeprecationWarning, match="`reports`"):
        Trainer(model, CENTRED, SGD(0.1).build(model), reports=[])

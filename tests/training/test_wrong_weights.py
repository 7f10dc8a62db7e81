"""Weights and rows that are not those of the folder's run are refused by every reader; diverged weights replace no good ones."""

import json
import os
import shutil
import warnings
from dataclasses import replace

import pytest
import torch

import eqprop as ep
from command import call
from eqprop.papers import recipe
from eqprop.training import Trainer, checkpoint, create_run, train_run
from eqprop.training.history import read_rows
from eqprop.training.run_folder import RunFolder

RUN = replace(recipe("digits"), epochs=1)

READERS = ["evaluate {}", "evaluate {} --which best", "plot {}", "train --resume {}", "gdu {}", "tune {}"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run, and one of another seed."""
    top = tmp_path_factory.mktemp("runs")
    for seed in (0, 1):
        create_run(replace(RUN, seed=seed), top / str(seed))
        train_run(top / str(seed))
    return top


@pytest.fixture
def folder(finished, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return RunFolder(shutil.copytree(finished / "0", tmp_path / "run"))


def contents(folder):
    return {
        path: path.read_bytes() for path in sorted(folder.path.rglob("*")) if path.is_file() and path.name != ".lock"
    }


def change_config(folder, finished):
    folder.config.write_text(folder.config.read_text().replace('"sigmoid"', '"tanh"'))


def other_seed(folder, finished):
    shutil.copy(RunFolder(finished / "1").last, folder.last)
    shutil.copy(RunFolder(finished / "1").best, folder.best)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("change", [change_config, other_seed])
def test_every_reader_refuses(folder, finished, change, reader):
    change(folder, finished)
    before = contents(folder)
    said = call(reader.format("run")).complaint()
    assert "was written with another configuration than run/config.json (" in said
    assert ("'sigmoid', not 'tanh'" if change is change_config else "seed: 1, not 0") in said
    assert contents(folder) == before


def test_load_refuses(folder, finished):
    other_seed(folder, finished)
    for which in ("last", "best"):
        with pytest.raises(ValueError, match=r"another configuration .*\(seed: 1, not 0\): restore"):
            ep.load(folder.path, which)


def test_files_of_earlier_versions_say_nothing(folder):
    tensors, facts = checkpoint.read(folder.best)
    checkpoint.write(folder.best, tensors, {name: value for name, value in facts.items() if name != "config"})
    assert isinstance(ep.load(folder.path, "best"), ep.Model)


def test_weights_of_the_best_epoch_are_no_training(folder):
    shutil.copy(folder.best, folder.last)
    for reader in ("train --resume run", "gdu run", "plot run"):
        assert "last.safetensors is not the state of a training: its" in call(reader).complaint()


ROWS = {
    "train_error": ["wrong", -0.1, 1.5, [0.1], True],
    "test_cost": ["1", [1]],
    "train_cost": [None, "1"],
    "residual": [-1.0, "1e-3"],
    "seconds": [None, -1, "2"],
    "rates": ["0.1", [-0.1], ["0.1"], {}],
    "epoch": [2, 0, "1", None],
}


@pytest.mark.parametrize(("column", "value"), [(name, value) for name, values in ROWS.items() for value in values])
def test_damaged_rows_are_refused_before_anything_is_appended(folder, column, value):
    row = json.loads(folder.metrics.read_text())
    folder.metrics.write_text(json.dumps(row | {column: value}) + "\n" + json.dumps(row | {"epoch": 2}) + "\n")
    before = contents(folder)
    assert "metrics.jsonl is damaged: line 1 is not the row of epoch 1" in call("plot run").complaint()
    assert contents(folder) == before
    tensors, facts = checkpoint.read(folder.last)
    config = replace(folder.run, epochs=2).to_json()
    folder.config.write_text(config)
    checkpoint.write(folder.last, tensors, facts | {"config": config})  # not finished any more
    before = contents(folder)
    assert "metrics.jsonl is damaged: line 1 is not the row of epoch 1" in call("train --resume run").complaint()
    assert contents(folder) == before


@pytest.mark.parametrize("text", ["[" * 100_000, "NaN", '{"epoch": NaN}', "[]"])
def test_lines_that_are_no_rows(text):
    with pytest.raises(ValueError, match="line 1 is not the row of epoch 1"):
        read_rows(f'{text}\n{{"epoch": 2}}\n'.encode(), "metrics.jsonl")


FILES = [
    "config.json",
    "environment.json",
    "metrics.jsonl",
    "checkpoint/last.safetensors",
    "checkpoint/best.safetensors",
]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "nested", "list", "empty"])
def test_a_file_of_another_kind_ends_no_reader_badly(folder, name, kind):
    """Nothing hangs, and whatever is refused is refused in one line with the file's name."""
    path = folder.path / name
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    else:
        path.write_text({"nested": "[" * 100_000, "list": "[]", "empty": ""}[kind])
    for reader in ("evaluate run", "evaluate run --which best", "plot run", "train --resume run"):
        answer = call(reader)
        assert "Traceback" not in answer.err
        if answer.code:
            assert path.name in answer.error() or "is finished" in answer.err


DIVERGING = "train digits --no-plots --epochs 3 --optimizer.rates 1e6 --model.activation identity --checkpoint-every 0 --out run"


def test_diverged_weights_are_not_kept(tmp_path, monkeypatch):
    """With a checkpoint after every batch, the last one has a finite cost: what the error advises works."""
    monkeypatch.chdir(tmp_path)
    answer = call(DIVERGING + " --model.output-activation identity --estimator.free-steps 5 --estimator.nudged-steps 2")
    assert answer.code == 1
    assert "the training diverged" in answer.err
    weights = ep.load("run").state_dict()
    assert all(bool(torch.isfinite(w).all()) for w in weights.values())
    assert "nan" not in call("evaluate run").out
    again = call("train --resume run")
    assert (again.code, "the training diverged" in again.err) == (1, True)


def batches(n=4):
    generator = torch.Generator().manual_seed(1)
    return [(torch.rand(6, 4, generator=generator), torch.arange(6) % 3) for _ in range(n)]


def trainer(folder=None, **choices):
    torch.manual_seed(0)
    model = ep.mlp([4, 5, 3], settle=10)
    optimizer = torch.optim.SGD(model.parameters(), lr=choices.pop("lr", 0.1))
    return Trainer(model, ep.EquilibriumProp(10, 5, 0.1), optimizer, folder=folder, **choices)


def test_a_refused_fit_leaves_the_folder_to_a_corrected_one(tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(ValueError, match=r"`x` must be \(B, 4\)"):
        trainer(folder).fit([(torch.rand(6, 5), torch.arange(6) % 3)], 1)
    assert len(trainer(folder).fit(batches(), 1)) == 1


@pytest.mark.parametrize(
    ("batch", "got"),
    [
        ({"x": 1, "y": 2}, "a dict with the keys 'x', 'y': yield its inputs and its targets"),
        ((torch.rand(2, 4), torch.arange(2), torch.ones(2)), r"3 parts \(Tensor, Tensor, Tensor\): yield two tensors"),
        ((torch.rand(2, 4).numpy(), torch.arange(2).numpy()), r"2 parts \(ndarray, ndarray\): yield two tensors"),
        (torch.rand(2, 4), "an object of class Tensor"),
        (5, "an object of class int"),
    ],
)
def test_batches_of_another_form(batch, got):
    for fit in (lambda t: t.fit([batch], 1), lambda t: t.fit(batches(), 1, test=[batch])):
        with pytest.raises(ValueError, match=rf"every batch must be a pair \(x, y\) of tensors, got {got}"):
            fit(trainer())


def test_arguments_of_another_kind(tmp_path):
    with pytest.raises(ValueError, match=r"`batches` must be an iterable of batches \(x, y\), got 5"):
        trainer(tmp_path / "run").fit(5, 1)
    assert not (tmp_path / "run").exists()
    with pytest.raises(ValueError, match=r"`test` must be an iterable of batches \(x, y\), got 0\.5"):
        trainer().fit(batches(), 1, test=0.5)
    with pytest.raises(
        ValueError, match="`scheduler` must be an object of class LRScheduler, got an object of class str"
    ):
        trainer(scheduler="x")
    model = ep.mlp([4, 3])
    with pytest.raises(ValueError, match="`optimizer` is an LBFGS, which needs a closure"):
        Trainer(model, ep.EquilibriumProp(5, 3, 0.1), torch.optim.LBFGS(model.parameters()))
    for other in (torch.nn.Linear(4, 3), torch.nn.DataParallel(model)):
        with pytest.raises(ValueError, match="`model` must be an object of class Model, got an object of class"):
            Trainer(other, ep.EquilibriumProp(5, 3, 0.1), torch.optim.SGD(model.parameters(), lr=0.1))


def test_rates_that_are_tensors_are_those_of_their_epoch():
    rate = torch.tensor(0.5)
    one = trainer(lr=rate)
    one.scheduler = torch.optim.lr_scheduler.StepLR(one.optimizer, 1, gamma=0.5)
    assert [row["rates"] for row in one.fit(batches(), 3)] == [[0.5], [0.25], [0.125]]


@pytest.mark.parametrize("number", ["ENOSYS", "ENOLCK", "EOPNOTSUPP"])
def test_a_file_system_without_locks(tmp_path, monkeypatch, number):
    import errno
    import fcntl

    def refuse(*arguments):
        raise OSError(getattr(errno, number), "no locks")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.warns(UserWarning, match=r"cannot be locked \(no locks\): train it in one process at a time"):
        rows = trainer(tmp_path / "run").fit(batches(), 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert trainer(tmp_path / "run").resume(batches(), 1) == rows


def test_a_folder_of_a_trainer_has_no_run(tmp_path):
    trainer(tmp_path / "run").fit(batches(), 1)
    with pytest.raises(
        FileNotFoundError, match=r"no config\.json in it: build the model .* and call `Trainer\.resume`"
    ):
        ep.load(tmp_path / "run")


def test_evaluation_builds_no_optimizer(folder, monkeypatch):
    """An optimizer imports the compiler, which takes seconds."""
    monkeypatch.setattr(type(RUN.optimizer), "build", lambda self, model: pytest.fail("an optimizer was built"))
    assert "| test " in call("evaluate run").done()
    assert isinstance(ep.load(folder.path), ep.Model)


class Jump(torch.optim.SGD):
    """Its third step leads to weights that are finite and whose states are not."""

    def step(self, closure=None):
        self.steps = getattr(self, "steps", 0) + 1
        for group in self.param_groups:
            for p in group["params"]:
                p.data.fill_(1e30 if self.steps == 3 else 0.1)


def test_finite_weights_with_an_infinite_cost_replace_no_checkpoint(tmp_path):
    model = ep.mlp([4, 5, 3], activation="identity", settle=10)
    optimizer = Jump(model.parameters(), lr=0.1)
    one = Trainer(model, ep.EquilibriumProp(10, 5, 0.1), optimizer, folder=tmp_path, checkpoint_every=0.0)
    with pytest.raises(FloatingPointError, match="epoch 1, batch 4"):
        one.fit(batches(6), 1)
    tensors, facts = checkpoint.read(RunFolder(tmp_path).last)
    assert facts["batch"] == 2
    assert all(bool((w == torch.tensor(0.1)).all()) for name, w in tensors.items() if name.startswith("model."))

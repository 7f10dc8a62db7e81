"""A refused resume leaves the folder as it was, and computes nothing in vain."""

import json
import os
from pathlib import Path

import pytest

from command import call, files
from eqprop.training import checkpoint
from eqprop.training.run_folder import RunFolder

SHORT = "train digits --no-plots --data.batch-size 500 --estimator.free-steps 3 --estimator.nudged-steps 2"


@pytest.fixture
def stopped(tmp_path, monkeypatch):
    """A run that was killed after it wrote the row of its second epoch and before the checkpoint."""
    monkeypatch.chdir(tmp_path)
    assert call(f"{SHORT} --epochs 1 --out one").code == 0
    assert call(f"{SHORT} --epochs 2 --out run").code == 0
    place = RunFolder(Path("run"))
    tensors, facts = checkpoint.read(RunFolder(Path("one")).last)
    checkpoint.write(place.last, tensors, facts | {"config": place.config.read_text()})
    return place


def folder_for_best(place):
    place.best.unlink()
    place.best.mkdir()


def pipe_for_best(place):
    place.best.unlink()
    os.mkfifo(place.best)


def device_for_best(place):
    place.best.unlink()
    place.best.symlink_to("/dev/zero")


def weight_of_another_shape(place):
    tensors, facts = checkpoint.read(place.last)
    name = next(key for key in tensors if key.endswith("weight"))
    checkpoint.write(place.last, tensors | {name: tensors[name][:1].clone()}, facts)


@pytest.mark.parametrize("damage", [folder_for_best, pipe_for_best, device_for_best, weight_of_another_shape])
def test_refused_resume_changes_nothing(stopped, damage):
    damage(stopped)
    before = files(stopped.path)
    answer = call("train --resume run --no-plots")
    assert answer.code == 2
    answer.error()
    assert files(stopped.path) == before


@pytest.mark.parametrize("damage", [{"train_error": None}, {"test_error": None}])
def test_a_row_with_half_of_its_errors_is_damaged(stopped, damage):
    rows = [json.loads(line) for line in stopped.metrics.read_text().splitlines()]
    stopped.metrics.write_text("".join(json.dumps(row | damage) + "\n" for row in [rows[0] | damage, rows[1]]))
    before = files(stopped.path)
    answer = call("train --resume run --no-plots")
    assert answer.code == 2
    assert "metrics.jsonl is damaged" in answer.error()
    assert files(stopped.path) == before


def test_the_undamaged_folder_goes_on(stopped):
    assert call("train --resume run --no-plots").code == 0
    assert [row["epoch"] for row in stopped.rows()] == [1, 2]

"""``--seeds N``: seeds that are trained as one batched computation, and seeds that cannot be."""

import re
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from command import call, frames
from eqprop.cli.runs import group_seeds
from eqprop.papers.registry import recipe
from eqprop.training import checkpoint, create_run
from eqprop.training import seeds as training_seeds
from eqprop.training.distributed.processes import SingleProcess
from eqprop.training.progress.callbacks import PlainLines, ProgressBar
from eqprop.training.run_folder import RunFolder
from small_trainings import assert_nearly, outcome

TRAIN = "train digits --no-plots --epochs 2 --data.batch-size 100"
LINE = re.compile(r"^digits, EP, seed (\d)   epoch (\d)/2", re.MULTILINE)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Work in an empty folder."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Three seeds that were trained as one computation, and the output."""
    folder = tmp_path_factory.mktemp("trained") / "all"
    return folder, call(f"{TRAIN} --seeds 3 --out {folder}").done()


@pytest.fixture
def spoiled(monkeypatch):
    """One sample of seed 1 alone is no number."""
    sound = training_seeds.prepare_run

    def spoil(run, *arguments, **options):
        session = sound(run, *arguments, **options)
        if run.seed != 1:
            return session
        x = session.train.x.clone()
        x[700] = float("nan")
        return replace(session, train=replace(session.train, x=x))

    monkeypatch.setattr(training_seeds, "prepare_run", spoil)


def test_each_seed_matches_a_separate_run(trained, here):
    folder, said = trained
    assert LINE.findall(said) == [("0", "1"), ("1", "1"), ("2", "1"), ("0", "2"), ("1", "2"), ("2", "2")]
    for seed in (1, 2):
        call(f"{TRAIN} --seed {seed} --out alone-{seed}").done()
        assert_nearly(folder / f"seed-{seed}", here / f"alone-{seed}")


def test_seeds_begin_with_the_one_that_is_named(here):
    said = call(f"{TRAIN} --seeds 2 --seed 4 --out all --epochs 1").done()
    assert re.findall(r"^digits, EP, seed (\d)", said, re.MULTILINE) == ["4", "5"]


def test_seeds_stopped_and_resumed_have_the_same_results(trained, here, monkeypatch):
    told = PlainLines.on_epoch_end

    def stop(self, row):
        told(self, row)
        if self.title.endswith("seed 1"):
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(PlainLines, "on_epoch_end", stop)
        answer = call(f"{TRAIN} --seeds 3 --out stopped")
    assert (answer.code, answer.err) == (130, "stopped; go on with `eqprop train --resume stopped`\n")
    said = call("train --no-plots --resume stopped").done()
    assert said.count("resumes after epoch 1") == 3 - LINE.findall(said).count(("2", "1"))
    for seed in range(3):
        assert outcome(here / "stopped" / f"seed-{seed}") == outcome(trained[0] / f"seed-{seed}")


def test_a_seed_that_diverges_is_reported_and_the_others_finish(here, spoiled):
    answer = call(f"{TRAIN} --seeds 3 --out all")
    assert answer.code == 1
    assert answer.error().startswith("eqprop: all/seed-1: the training diverged: epoch 1, batch ")
    assert [LINE.findall(answer.out).count((seed, "2")) for seed in "012"] == [1, 0, 1]
    for seed in (0, 2):
        facts = checkpoint.read(RunFolder(here / "all" / f"seed-{seed}").last)[1]
        assert facts["epoch"] == 2
    again = call("train --no-plots --resume all")
    assert again.error() == answer.error()
    assert again.out.splitlines() == ["all/seed-0 is finished", "all/seed-2 is finished"]


def test_all_seeds_that_diverge_are_named(here):
    wild = "--model.activation identity --optimizer.rates 1e6"
    answer = call(f"{TRAIN} {wild} --seeds 3 --out all")
    assert answer.code == 1
    assert answer.error().startswith("eqprop: all/seed-0: the training diverged: epoch 1, batch ")
    named = re.findall(r"^all/(seed-\d): the training diverged: epoch 1, batch ", answer.out, re.MULTILINE)
    assert named == ["seed-1", "seed-2"]


def test_seeds_that_cannot_be_batched_are_trained_one_after_the_other_with_the_reason(here):
    said = call(f"{TRAIN} --seeds 2 --estimator.nudging random-sign --out all").done()
    assert said.splitlines()[0] == (
        "digits, EP: one seed after the other: random signs are drawn for each batch of each seed"
    )
    assert LINE.findall(said) == [("0", "1"), ("0", "2"), ("1", "1"), ("1", "2")]
    call(f"{TRAIN} --seed 1 --estimator.nudging random-sign --out alone").done()
    assert outcome(here / "all" / "seed-1") == outcome(here / "alone")


def test_several_processes_train_one_seed_together(here, capsys):
    class Two(SingleProcess):
        size = 2

    for seed in (0, 1):
        create_run(replace(recipe("digits"), seed=seed), here / str(seed))

    def grouped(processes):
        groups = group_seeds([Path("0"), Path("1")], processes)
        return [[place.path.name for place in group] for group in groups]

    assert grouped(SingleProcess()) == [["0", "1"]]
    assert capsys.readouterr().out == ""
    assert grouped(Two()) == [["0"], ["1"]]
    assert "one seed after the other: several processes train one seed together" in capsys.readouterr().out


def test_one_seed_is_not_batched(here, monkeypatch):
    monkeypatch.setattr("eqprop.cli.runs.train_seeds", None)
    call(f"{TRAIN} --out one").done()


def test_compare_batches_the_seeds_of_each_method(here):
    said = call("compare digits --no-plots --epochs 1 --data.batch-size 100 --seeds 2 --out all").done()
    titles = re.findall(r"^digits, (\w+), seed (\d)", said, re.MULTILINE)
    assert titles == [("EP", "0"), ("EP", "1"), ("BPTT", "0"), ("BPTT", "1")]
    assert not any("one seed after the other" in line for line in said.splitlines())


def test_a_terminal_shows_one_bar_and_the_lines_of_all_seeds(here, monkeypatch):
    monkeypatch.setenv("COLUMNS", "140")
    monkeypatch.setattr(ProgressBar, "INTERVAL", 0.0)
    shown = frames(call(f"{TRAIN} --seeds 3 --out all", terminal=True).out)
    bars = [line for line in shown if line.startswith("digits, EP, 3 seeds")]
    assert re.match(r"digits, EP, 3 seeds 1/2 .*cost \d\.\d{4}  train +\d+\.\d\d%", bars[3])
    assert any(re.match(r"digits, EP, 3 seeds 2/2 .*test +\d+\.\d\d%", line) for line in bars)
    assert {found for line in shown for found in LINE.findall(line)} == {
        (seed, epoch) for seed in "012" for epoch in "12"
    }
    speeds = [float(found.replace(",", "")) for line in bars for found in re.findall(r"([\d,-]+) samples/s", line)]
    assert min(speeds) > 0

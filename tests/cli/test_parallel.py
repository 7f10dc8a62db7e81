"""``torchrun -m eqprop train``: only rank 0 prints and writes, and exactly one process reports an error."""

import json
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from command import Answer, call, files
from eqprop.papers.registry import recipe
from eqprop.training import checkpoint, create_run, load, train_run
from eqprop.training.run_folder import RunFolder
from eqprop.training.signals import Interrupted
from forked import COMPLAINED, SAID, appears, torchrun
from small_team import another, elsewhere, meeting, team
from small_trainings import CallbackSpy, outcome
from team_trainings import commands

pytestmark = pytest.mark.slow

TRAIN = "train digits --no-plots --epochs 2"
WORDS = {
    "trains": f"{TRAIN} --out run",
    "is finished": "train --no-plots --resume run",
    "is there already": f"{TRAIN} --out run",
    "goes on": "train --no-plots --resume begun",
    "compares": "compare digits --no-plots --epochs 1 --out both",
    "an option": f"{TRAIN} --epohcs 3",
    "cannot be split": f"{TRAIN} --estimator continual-sgd --out none",
    "a command": "trian digits",
    "no training": "evaluate run",
    "diverges": f"{TRAIN} --model.activation identity --optimizer.rates 1e9 --out wild",
}
COMPLAINTS = {
    "is finished": "eqprop: run is finished: all 2 epochs are done; train in another folder\n",
    "is there already": "eqprop: run already holds a run: continue it with `--resume run`, or use another folder\n",
    "cannot be split": "eqprop: --estimator cannot train in 2 processes: ContinualSGD moves weights inside the phase, by the "
    "samples of one process alone: use ContinualEP (continual-ep), which is the same rule, or train in one process\n",
    "a command": "eqprop: there is no command 'trian': did you mean 'train'?\n",
    "no training": "eqprop: `eqprop evaluate` cannot run in 2 processes: start it without torchrun\n",
}


@pytest.fixture(scope="module")
def said(tmp_path_factory) -> tuple[Path, dict[str, list[Answer]]]:
    """The folder in which two processes ran these commands, and the answers of both."""
    folder = tmp_path_factory.mktemp("said")
    create_run(replace(recipe("digits"), epochs=2), folder / "begun")
    with pytest.raises(Interrupted):
        train_run(folder / "begun", callbacks=[CallbackSpy(epoch=lambda row: signal.raise_signal(signal.SIGINT))])
    meetings = [meeting() for _ in WORDS]
    first, second = (
        end.done() for end in team(2, commands, [one.port for one in meetings], list(WORDS.values()), folder)
    )
    return folder, {name: list(pair) for name, *pair in zip(WORDS, first, second, strict=True)}


def test_only_rank_0_prints(said):
    """Rank 0 prints what a single process prints."""
    _, answers = said
    first, second = answers["trains"]
    lines = first.done().splitlines()
    assert [line.split("   ")[1] for line in lines[:2]] == ["epoch 1/2", "epoch 2/2"]
    assert lines[2:] == ["results in run"]
    assert second == Answer(0, "", "")


def near(folder, other) -> bool:
    """Return whether weights are equal up to rounding: sums are in another order."""
    pairs = zip(load(folder).parameters(), load(other).parameters(), strict=True)
    return all(torch.allclose(a, b, atol=1e-4) for a, b in pairs)


def test_only_rank_0_writes(said, tmp_path):
    """The files are those of a single process, except that the environment names the number of processes."""
    folder, _ = said
    call(f"{TRAIN} --out {tmp_path / 'run'}").done()
    found, wanted = files(folder / "run"), files(tmp_path / "run")
    assert found.keys() == wanted.keys()
    assert found["config.json"] == wanted["config.json"]
    told, other = (json.loads(each["environment.json"]) for each in (found, wanted))
    assert (told["processes"], other["processes"]) == (2, 1)
    assert told | {"processes": 1} == other
    assert near(folder / "run", tmp_path / "run")


def test_two_processes_resume_the_run_of_one(said):
    """A warning says that the results can differ in the last bits."""
    folder, answers = said
    first, second = answers["goes on"]
    assert (first.code, second) == (0, Answer(0, "", ""))
    change = "begun is resumed with processes 2, not 1"
    warning = f"eqprop: warning: {change}: results can differ in the last bits from an uninterrupted run\n"
    assert first.err == warning
    assert "resumes after epoch 1" in first.out
    assert near(folder / "begun", folder / "run")
    assert json.loads(RunFolder(folder / "begun").environment.read_text())["resumed_on"][0]["processes"] == 2


def test_several_trainings(said):
    folder, answers = said
    first, second = answers["compares"]
    assert first.done().endswith("results in both\n")
    assert second == Answer(0, "", "")
    assert len(list((folder / "both").rglob("best.safetensors"))) == 2


def test_one_process_reports_an_unknown_option(said):
    _, answers = said
    (answer,) = [answer for answer in answers["an option"] if answer.err]
    assert "--epohcs, 3 Perhaps you meant: --epochs" in answer.complaint()
    assert [answer.code for answer in answers["an option"]] == [2, 2]


@pytest.mark.parametrize("name", COMPLAINTS)
def test_one_process_reports_an_error(name, said):
    folder, answers = said
    assert "".join(answer.err for answer in answers[name]) == COMPLAINTS[name]
    assert all(answer.out == "" for answer in answers[name])
    assert [answer.code for answer in answers[name] if answer.err] == [2]
    assert not (folder / "none").exists()


def test_one_process_reports_a_divergence(said):
    folder, answers = said
    assert [answer.code for answer in answers["diverges"]] == [1, 1]
    (error,) = [answer.error() for answer in answers["diverges"] if answer.err]
    assert error.startswith(
        "eqprop: wild: the training diverged: epoch 1, batch 2: population 1 is not finite at step "
    )
    assert RunFolder(folder / "wild").last.is_file()


def ours(folder: Path) -> list[str]:
    """Return the errors of eqprop without those of torchrun."""
    lines = (folder / COMPLAINED).read_text().splitlines()
    return [line for line in lines if line.startswith(("eqprop: ", "stopped", "the last")) and "eqprop" in line]


def test_by_torchrun(said, tmp_path):
    """The results are bit-identical to those of two processes that connect without torchrun."""
    folder, answers = said
    elsewhere(torchrun, [*TRAIN.split(), "--out", "run"], tmp_path).done()
    assert ours(tmp_path) == []
    assert len((tmp_path / SAID).read_text().splitlines()) == len(answers["trains"][0].out.splitlines())
    assert outcome(tmp_path / "run") == outcome(folder / "run")


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
@pytest.mark.parametrize("stop", ["a worker is killed", "Ctrl-C"])
def test_stopped_under_torchrun(stop, tmp_path):
    """All processes end soon, with one message and a checkpoint."""
    words = [*TRAIN.split(), "--epochs", "100", "--checkpoint-every", "0.1", "--out", "run"]
    with another(torchrun, words, tmp_path) as agent:
        assert appears(tmp_path / SAID, "epoch   1/100")
        pid = agent.processes[0].pid
        if stop == "a worker is killed":
            workers = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            os.kill(int(workers[-1]), signal.SIGKILL)
        else:
            os.killpg(pid, signal.SIGINT)
        asked = time.monotonic()
        (end,) = agent.ends()
    assert time.monotonic() - asked < 40
    assert end.error
    if stop == "a worker is killed":
        lost, kept = ours(tmp_path)
        assert lost == "eqprop: run: another process of this training has ended, or does not answer"
        assert kept == "the last checkpoint is complete: go on with `torchrun … -m eqprop train --resume run`"
    else:
        assert ours(tmp_path) == ["stopped; go on with `eqprop train --resume run`"]
    assert checkpoint.read(RunFolder(tmp_path / "run").last)[1]["epoch"] >= 1

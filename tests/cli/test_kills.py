"""Commands killed with SIGKILL at random moments, also while they create their folders: no run is lost, and the bytes are the same.

The moments are drawn from fixed seeds. ``EQPROP_KILLS=100`` draws more of them.
"""

import os
import random
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from eqprop.cli.layout import find_runs
from eqprop.training.run_folder import RunFolder
from forked import COMPLAINED, command, torchrun
from small_team import another, elsewhere
from small_trainings import outcome

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")]

KILLS = int(os.environ.get("EQPROP_KILLS", "10"))
KINDS = ("one", "seeds", "compare", "seeds", "rank", "one", "compare", "seeds", "launcher", "compare")
TRAIN = "--no-plots --epochs 3 --model.sizes 64 16 10 --data.batch-size 60 --checkpoint-every 0.02 --out r"
COMMANDS = {
    "one": f"train digits {TRAIN}",
    "seeds": f"train digits {TRAIN} --seeds 3",
    "compare": f"compare digits {TRAIN}",
    "rank": f"train digits {TRAIN}",
    "launcher": f"train digits {TRAIN}",
}
RUNS = {"one": 1, "seeds": 3, "compare": 2, "rank": 1, "launcher": 1}
RESUME = "train --no-plots --checkpoint-every 0.02 --resume r"
LIMIT = 60
LAYOUT, TRAINING = 0.3, 1.0
"""Seconds after the folder and after the first checkpoint within which a kill comes."""


def starter(kind):
    return torchrun if kind in ("rank", "launcher") else command


def outcomes(folder: Path) -> dict:
    return {str(found.relative_to(folder)): outcome(found) for found in find_runs(folder)}


_WHOLE: dict[str, dict] = {}


@pytest.fixture
def whole(kind, tmp_path):
    """The results of a command that was not killed."""
    key = "rank" if kind == "launcher" else kind
    if key not in _WHOLE:
        (tmp_path / "whole").mkdir()
        end = elsewhere(starter(kind), COMMANDS[kind].split(), tmp_path / "whole")
        assert end.done() in (0, None)
        _WHOLE[key] = outcomes(tmp_path / "whole" / "r")
    return _WHOLE[key]


@pytest.fixture
def kind(number):
    return KINDS[number % len(KINDS)]


def wait(ready, running) -> None:
    end = time.monotonic() + LIMIT
    while not ready() and running.processes[0].is_alive() and time.monotonic() < end:
        time.sleep(0.001)


def children(pid: int) -> list[int]:
    with suppress(OSError):
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def kill_at(draw: random.Random, kind: str, words: str, here: Path) -> str:
    """Start a command, kill it, and return when."""
    when = draw.choice(("before", "layout", "layout", "training"))
    workers: list[int] = []
    with another(starter(kind), words.split(), here) as running:
        pid = running.processes[0].pid
        if when == "before":
            time.sleep(draw.uniform(0, LAYOUT))
        elif when == "layout":
            wait((here / "r").exists, running)
            time.sleep(draw.uniform(0, LAYOUT))
        else:
            wait(lambda: any((here / "r").rglob("last.safetensors")), running)
            time.sleep(draw.uniform(0, TRAINING))
        workers = children(pid) if kind in ("rank", "launcher") else []
        target = draw.choice(workers) if kind == "rank" and workers else pid
        with suppress(ProcessLookupError):
            os.kill(target, signal.SIGKILL)
        running.ends()
    if kind == "launcher" and draw.random() < 0.5:
        for worker in workers:  # a launcher that is killed leaves its workers; some are killed too, some go on
            with suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)
    return when


def finish(kind: str, here: Path) -> None:
    """Do what the messages say until all is trained."""
    end = time.monotonic() + LIMIT
    while time.monotonic() < end:
        words = COMMANDS[kind] if RunFolder(here / "r").is_unused() else RESUME
        (here / COMPLAINED).unlink(missing_ok=True)
        ended = elsewhere(starter(kind), words.split(), here)
        said = (here / COMPLAINED).read_text()
        if (ended.value == 0 or starter(kind) is torchrun) and not ended.error:
            return
        if "is finished: all" in said:
            return
        assert "is in use by another process" in said or "already holds" in said, (words, ended, said)
        time.sleep(0.2)  # workers of a launcher that was killed are still at work
    raise AssertionError("it does not finish")


@pytest.mark.parametrize("number", range(KILLS))
def test_killed(number, kind, whole, tmp_path):
    draw, moments = random.Random(1800 + number), []
    moments.append(kill_at(draw, kind, COMMANDS[kind], tmp_path))
    finish(kind, tmp_path)
    found = outcomes(tmp_path / "r")
    assert len(found) == RUNS[kind]
    assert found == whole, (kind, moments)
    assert not [path for path in (tmp_path / "r").rglob("*") if path.name.endswith(".part")]

"""Trainings in processes of their own, killed with SIGKILL at random moments: the end is the same, byte by byte."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from eqprop.training import checkpoint
from eqprop.training.run_folder import RunFolder
from forked import appears, digits
from small_team import End, another, elsewhere
from small_trainings import outcome

EPOCHS = 5


@pytest.fixture(scope="module")
def never_killed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("never") / "killed"
    elsewhere(digits, folder, EPOCHS).done()
    return folder


def test_the_same_training_in_another_process_gives_the_same_bytes(never_killed, tmp_path):
    """Which has loaded everything by itself, and whatever Python's own hashes are."""
    program = f"import sys, pathlib, forked; forked.digits(pathlib.Path(sys.argv[1]), {EPOCHS})"
    command = [sys.executable, "-W", "error", "-c", program, str(tmp_path / "again")]
    environment = os.environ | {"PYTHONHASHSEED": "2"}
    subprocess.run(command, cwd=Path(__file__).parents[1], env=environment, timeout=120, check=True)
    assert outcome(tmp_path / "again") == outcome(never_killed)
    for name in ("config", "environment"):
        one, two = (getattr(RunFolder(path), name).read_bytes() for path in (never_killed, tmp_path / "again"))
        assert one == two


def test_killed_three_times(never_killed, tmp_path):
    wanted = outcome(never_killed)
    length = sum(row["seconds"] for row in RunFolder(never_killed).rows())
    seed = random.SystemRandom().randrange(2**32)
    draw, folder, done = random.Random(seed), tmp_path / "killed", []
    begins = folder.with_suffix(".begins")
    for _ in range(3):
        with another(digits, folder, EPOCHS) as process:
            assert appears(begins)
            time.sleep(draw.uniform(0.02, length / 6))  # half of it in all, whatever else the machine does
            process.send(0, signal.SIGKILL)
            assert process.ends() == [End(code=-signal.SIGKILL)]
        begins.unlink()
        facts = checkpoint.read(RunFolder(folder).last)[1]
        done.append((facts["epoch"], facts["batch"]))
    elsewhere(digits, folder, EPOCHS).done()
    assert outcome(folder) == wanted, f"seed {seed}, killed after {done}"

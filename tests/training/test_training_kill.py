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
from eqprop.training.folder import Folder
from small_trainings import outcome

EPOCHS = 8

PROGRAM = r"""
import sys
from dataclasses import replace
from pathlib import Path
from eqprop import EquilibriumProp
from eqprop.recipes import recipe
from eqprop.training import proceed, start
from eqprop.training.folder import Folder
from small_trainings import Told

class Tells(Told):
    def begin(self, epochs, batches, rows):
        sys.stdout.write("begins\n")
        sys.stdout.flush()

folder, epochs = Path(sys.argv[1]), int(sys.argv[2])
original = recipe("digits")
signs = EquilibriumProp(20, 10, beta=0.2, nudging="random-sign")
run = replace(original, epochs=epochs, estimator=signs, data=replace(original.data, validation=100))
if not Folder(folder).config.exists():
    start(run, folder)
proceed(folder, reports=[Tells()], checkpoint_every=0.02)
"""


def train(folder: Path, hash_seed: int) -> subprocess.Popen:
    """Begin or go on, in a new process."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", PROGRAM, str(folder), str(EPOCHS)],
        cwd=Path(__file__).parents[1],
        env=os.environ | {"PYTHONHASHSEED": str(hash_seed)},
        stdout=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen) -> int:
    try:
        return process.wait(120)
    finally:
        process.kill()
        process.stdout.close()


@pytest.fixture(scope="module")
def never_killed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("never") / "killed"
    assert ended(train(folder, 1)) == 0
    return folder


def test_the_same_training_in_another_process_gives_the_same_bytes(never_killed, tmp_path):
    """Whatever Python's own hashes are."""
    assert ended(train(tmp_path / "again", 2)) == 0
    assert outcome(tmp_path / "again") == outcome(never_killed)
    for name in ("config", "environment"):
        one, two = (getattr(Folder(path), name).read_bytes() for path in (never_killed, tmp_path / "again"))
        assert one == two


def test_killed_three_times(never_killed, tmp_path):
    wanted = outcome(never_killed)
    length = sum(row["seconds"] for row in Folder(never_killed).rows())
    seed = random.SystemRandom().randrange(2**32)
    draw, folder, done = random.Random(seed), tmp_path / "killed", []
    for kill in range(3):
        process = train(folder, kill)
        assert process.stdout.readline() == "begins\n"
        time.sleep(draw.uniform(0.02, length / 6))  # half of it in all, whatever else the machine does
        process.send_signal(signal.SIGKILL)
        assert ended(process) == -signal.SIGKILL
        facts = checkpoint.read(Folder(folder).last)[1]
        done.append((facts["epoch"], facts["batch"]))
    assert ended(train(folder, 3)) == 0
    assert outcome(folder) == wanted, f"seed {seed}, killed after {done}"

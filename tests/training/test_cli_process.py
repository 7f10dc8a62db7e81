"""The command line as a process of its own: how it starts, how it is stopped, and what becomes of its output."""

import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from command import call, frames
from eqprop.training.folder import Folder
from small_trainings import outcome

EQPROP = [sys.executable, "-W", "error", "-m", "eqprop"]
TRAIN = ["train", "digits", "--no-plots", "--epochs", "3", "--checkpoint-every", "0.1", "--out", "run"]
RESUME = ["train", "--no-plots", "--resume", "run"]
PLAIN = {name: value for name, value in os.environ.items() if name not in ("PYTHONUNBUFFERED", "COLUMNS")}


def run(*words: str, cwd: Path, **options) -> subprocess.CompletedProcess[str]:
    options = {"stdout": subprocess.PIPE} | options
    return subprocess.run(
        [*EQPROP, *words], cwd=cwd, env=PLAIN, stderr=subprocess.PIPE, text=True, timeout=120, check=False, **options
    )


def begin(folder: Path, *words: str, number: int, epochs: int = 1) -> tuple[int, str, str]:
    """Start a training, send it a signal after so many epochs, and wait."""
    process = subprocess.Popen(
        [*EQPROP, *words], cwd=folder, env=PLAIN, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        said = [process.stdout.readline() for _ in range(epochs)]
        process.send_signal(number)
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
        process.wait()
    return process.returncode, "".join(said) + out, err


def test_it_is_a_module_and_a_mistake_is_three_lines_at_most(tmp_path):
    done = run("trian", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "eqprop: there is no command 'trian': did you mean 'train'?\n"
    assert list(tmp_path.iterdir()) == []


def test_killed_and_resumed(tmp_path):
    """Another process goes on, and ends where this one ends without a stop."""
    call(" ".join(TRAIN[:-1]), str(tmp_path / "whole")).done()
    code, said, err = begin(tmp_path, *TRAIN, number=signal.SIGKILL)
    assert (code, err) == (-signal.SIGKILL, "")
    assert len(said.splitlines()) < 3
    done = run(*RESUME, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "goes on after epoch" in done.stdout
    assert outcome(tmp_path / "run") == outcome(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped_by_a_signal(number, code, tmp_path):
    found, said, err = begin(tmp_path, *TRAIN, number=number)
    assert (found, err) == (code, "stopped; go on with `eqprop train --resume run`\n")
    assert said.startswith("digits, EP, seed 0   epoch 1/3 ")
    assert call(f"evaluate {tmp_path / 'run'}").code == 0
    assert Folder(tmp_path / "run").last.is_file()


@pytest.mark.parametrize(
    "words", ["--help", pytest.param("train digits --no-plots --epochs 2 --out run", marks=pytest.mark.slow)]
)
def test_a_reader_that_has_gone(words, tmp_path):
    """As of ``eqprop recipes | head -1``: the code of a broken pipe, and not a word of it."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = run(*words.split(), cwd=tmp_path, stdout=writing)
    finally:
        os.close(writing)
    assert done.returncode == 141
    assert "Broken pipe" not in done.stderr
    assert "Traceback" not in done.stderr
    assert ("--resume run" in done.stderr) == ("train" in words)


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")
def test_an_output_on_a_full_disk(tmp_path):
    """A code that is not 0, and a line that says why."""
    with open("/dev/full", "w") as full:
        done = run("--help", cwd=tmp_path, stdout=full)
        full.flush()
    assert done.returncode in (1, 2)
    assert "No space left on device" in done.stderr
    assert len(done.stderr.splitlines()) <= 3


@pytest.mark.skipif(sys.platform == "win32", reason="terminals of POSIX")
@pytest.mark.parametrize("interrupted", [pytest.param(False, marks=pytest.mark.slow), True])
def test_on_a_terminal(interrupted, tmp_path):
    """The bar is drawn in one line and taken away, Ctrl-C is a key, and the cursor is shown again."""
    import fcntl
    import struct
    import termios

    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    process = subprocess.Popen(
        [*EQPROP, *TRAIN, "--epochs", "300" if interrupted else "3"],
        cwd=tmp_path, env=PLAIN | {"TERM": "xterm-256color"}, stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )  # fmt: skip
    os.close(slave)
    shown, asked, end = b"", False, time.monotonic() + 60
    while time.monotonic() < end:
        if select.select([master], [], [], 0.1)[0]:
            try:
                shown += os.read(master, 65536)
            except OSError:  # the other side is closed
                break
        if interrupted and not asked and b"epoch   2/300" in shown:
            asked = bool(os.write(master, b"\x03"))
    assert process.wait(60) == (130 if interrupted else 0)
    os.close(master)
    text = shown.decode().replace("^C", "")  # the terminal's echo
    last = frames(text)[-1]
    assert last == ("stopped; go on with `eqprop train --resume run`" if interrupted else "results in run")
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")
    assert any("━" in line for line in frames(text))
    assert max(map(len, frames(text))) <= 80, "a line is wrapped by the terminal, and the bar is left behind"

"""The command line as a process: how it starts, how signals stop it, and where its output goes."""

import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from command import call, frames
from eqprop.training.run_folder import RunFolder
from forked import COMPLAINED, SAID, appears, command, command_on_terminal, command_to_full_disk, command_to_nobody
from small_team import End, another, elsewhere
from small_trainings import outcome

pytestmark = pytest.mark.slow

TRAIN = ["train", "digits", "--no-plots", "--epochs", "3", "--checkpoint-every", "0.1", "--out", "run"]
RESUME = ["train", "--no-plots", "--resume", "run"]


def run(word: str, **options) -> subprocess.CompletedProcess[str]:
    """Run a new Python process to its end."""
    command = [sys.executable, "-W", "error", "-m", "eqprop", word]
    return subprocess.run(command, text=True, timeout=120, check=False, **options)


def begin(folder: Path, *words: str, number: int) -> tuple[End, str, str]:
    """Start a training, send it a signal after its first epoch, and return how it ends, its output and its errors."""
    with another(command, words, folder) as process:
        assert appears(folder / SAID, "\n")
        process.send(0, number)
        (end,) = process.ends()
    return end, *((folder / name).read_text() for name in (SAID, COMPLAINED))


def test_it_is_a_module_and_reports_a_mistake_in_one_line(tmp_path):
    done = run("trian", cwd=tmp_path, capture_output=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "eqprop: there is no command 'trian': did you mean 'train'?\n"
    assert list(tmp_path.iterdir()) == []


def test_killed_and_resumed(tmp_path):
    """A resumed training has the results of one that was not killed."""
    call(" ".join(TRAIN[:-1]), str(tmp_path / "whole")).done()
    end, said, complained = begin(tmp_path, *TRAIN, number=signal.SIGKILL)
    assert (end, complained) == (End(code=-signal.SIGKILL), "")
    assert len(said.splitlines()) < 3
    assert elsewhere(command, RESUME, tmp_path).done() == 0
    assert (tmp_path / COMPLAINED).read_text() == ""
    assert "resumes after epoch" in (tmp_path / SAID).read_text()
    assert outcome(tmp_path / "run") == outcome(tmp_path / "whole")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped_by_a_signal(number, code, tmp_path):
    end, said, complained = begin(tmp_path, *TRAIN, number=number)
    assert (end.done(), complained) == (code, "stopped; go on with `eqprop train --resume run`\n")
    assert said.startswith("digits, EP, seed 0   epoch 1/3 ")
    assert call(f"evaluate {tmp_path / 'run'}").code == 0
    assert RunFolder(tmp_path / "run").last.is_file()


def test_standard_output_is_closed(tmp_path):
    """As in ``eqprop recipes | head -1``: the exit code of a broken pipe, and no message."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = run("--help", cwd=tmp_path, stdout=writing, stderr=subprocess.PIPE)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


def test_standard_output_is_closed_during_a_training(tmp_path):
    """The error says how to go on."""
    assert elsewhere(command_to_nobody, TRAIN, tmp_path).done() == 141
    complained = (tmp_path / COMPLAINED).read_text()
    assert "Broken pipe" not in complained
    assert "Traceback" not in complained
    assert "--resume run" in complained


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")
def test_an_output_on_a_full_disk(tmp_path):
    """The exit code is not 0, and a line says why."""
    assert elsewhere(command_to_full_disk, ["--help"], tmp_path).done() in (1, 2)
    complained = (tmp_path / COMPLAINED).read_text()
    assert "No space left on device" in complained
    assert len(complained.splitlines()) <= 3


def open_terminal() -> tuple[int, int]:
    """Open a terminal of 80 columns and return both of its ends."""
    import fcntl
    import struct
    import termios

    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    return master, slave


def shown_on(master: int, stop_at: bytes | None = None) -> str:
    """Return all that a terminal shows until its process ends; press Ctrl-C when it shows ``stop_at``."""
    shown, asked, end = b"", stop_at is None, time.monotonic() + 60
    while time.monotonic() < end:
        if select.select([master], [], [], 0.1)[0]:
            try:
                shown += os.read(master, 65536)
            except OSError:  # the other side is closed
                break
        if not asked and stop_at in shown:
            asked = bool(os.write(master, b"\x03"))
    os.close(master)
    return shown.decode().replace("^C", "")  # the terminal's echo


def assert_clean(text: str, last: str) -> None:
    """Assert that the bar was drawn in one line and removed, and that the cursor is visible again."""
    assert frames(text)[-1] == last
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")
    assert any("━" in line for line in frames(text))
    assert max(map(len, frames(text))) <= 80, "a line is wrapped by the terminal, and the bar is left behind"


def on_terminal(folder: Path, *words: str, stop_at: bytes | None = None) -> tuple[int, str]:
    """Return the exit code of a command and what its terminal shows."""
    master, slave = open_terminal()
    with another(command_on_terminal, words, folder, os.ttyname(slave)) as process:
        assert appears(folder / "run" / "config.json")  # it has opened the terminal
        os.close(slave)
        text = shown_on(master, stop_at)
        (end,) = process.ends()
    return end.done(), text


@pytest.mark.skipif(sys.platform == "win32", reason="terminals of POSIX")
def test_on_a_terminal(tmp_path):
    code, text = on_terminal(tmp_path, *TRAIN)
    assert code == 0
    assert_clean(text, "results in run")


@pytest.mark.skipif(sys.platform == "win32", reason="terminals of POSIX")
def test_interrupted_on_a_terminal(tmp_path):
    """Ctrl-C is pressed on the terminal."""
    code, text = on_terminal(tmp_path, *TRAIN, "--epochs", "300", stop_at=b"epoch   2/300")
    assert code == 130
    assert_clean(text, "stopped; go on with `eqprop train --resume run`")

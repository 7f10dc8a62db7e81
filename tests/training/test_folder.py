"""A run folder belongs to one process at a time, is never made over something else, and tells nothing of its owner."""

import getpass
import json
import os
import platform
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from PIL import Image

import eqprop
from eqprop.training import SGD, Data, Run, checkpoint, create_run, train_run
from eqprop.training.environment import environment
from eqprop.training.run_folder import RunFolder
from forked import appears, holding
from small_team import End, another
from small_trainings import CENTRED, TRAIN, CallbackSpy, trainer

ROOT = Path(__file__).parents[2]


def test_the_folder_is_in_use_while_it_is_held(tmp_path):
    folder = RunFolder(tmp_path)
    with (
        folder.lock(),
        pytest.raises(BlockingIOError, match=r"is in use by another process: wait for it, or stop it"),
        folder.lock(),
    ):
        pass
    with folder.lock():
        pass


def test_the_hold_ends_with_an_error(tmp_path):
    folder = RunFolder(tmp_path)
    with pytest.raises(RuntimeError, match="tripped"), folder.lock():
        raise RuntimeError("tripped")
    with folder.lock():
        pass


def test_another_process_holds_the_folder_until_it_is_killed(tmp_path):
    folder = tmp_path / "run"
    trainer(folder).fit(TRAIN, 1)
    before = RunFolder(folder).last.read_bytes()
    with another(holding, folder) as holder:
        assert appears(folder.with_suffix(".held"))
        with pytest.raises(BlockingIOError, match=r"is in use by another process"):
            trainer(folder).resume(TRAIN, 2)
        assert RunFolder(folder).last.read_bytes() == before
        holder.send(0, signal.SIGKILL)
        assert holder.ends() == [End(code=-signal.SIGKILL)]
    trainer(folder).resume(TRAIN, 2)
    assert checkpoint.read(RunFolder(folder).last)[1]["epoch"] == 2


def test_a_training_holds_its_folder_and_lets_it_go(tmp_path):
    refused = []

    def try_too(epoch, batch):
        with pytest.raises(BlockingIOError):
            trainer(tmp_path).resume(TRAIN, 2)
        refused.append(batch)

    trainer(tmp_path, callbacks=[CallbackSpy(batch=try_too)]).fit(TRAIN, 1)
    assert refused == [1, 2, 3]
    trainer(tmp_path).resume(TRAIN, 2)


def test_the_second_of_two_that_begin_at_once_is_refused(tmp_path):
    """Wherever it is between looking at the folder and taking hold of it."""
    inside, done = threading.Event(), threading.Event()

    def hold():
        with RunFolder(tmp_path).lock():
            inside.set()
            done.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    try:
        assert inside.wait(60)
        with pytest.raises(BlockingIOError):
            trainer(tmp_path).fit(TRAIN, 1)
        assert not RunFolder(tmp_path).last.exists()
    finally:
        done.set()
        holder.join()


def test_a_new_folder_or_an_empty_one_is_taken(tmp_path):
    assert RunFolder(tmp_path / "a" / "b").create().last.parent.is_dir()
    (tmp_path / "empty").mkdir()
    assert RunFolder(tmp_path / "empty").create().last.parent.is_dir()


def test_what_is_there_is_not_touched(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(FileExistsError, match=r"already holds files: use another folder"):
        RunFolder(tmp_path).create()
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def run(seed=0, threads=1, root=None) -> Run:
    model, data = eqprop.MLP((64, 8, 10), "sigmoid"), Data("digits", 50, root=root)
    return Run("mine", data, model, CENTRED, SGD(0.5), epochs=1, seed=seed, threads=threads)


def test_a_run_is_not_begun_over_a_run(tmp_path):
    create_run(run(), tmp_path / "a")
    before = (tmp_path / "a" / "config.json").read_text()
    with pytest.raises(
        FileExistsError, match=r"already holds a run: continue it with `--resume .*a`, or use another folder"
    ):
        create_run(run(seed=5), tmp_path / "a")
    assert (tmp_path / "a" / "config.json").read_text() == before


def test_a_file_in_the_folders_place(tmp_path):
    (tmp_path / "a").write_text("")
    with pytest.raises(OSError, match=r"a"):
        create_run(run(), tmp_path / "a")


def test_a_finished_run_is_not_gone_on_with(tmp_path):
    create_run(run(), tmp_path / "a")
    train_run(tmp_path / "a")
    before = {path: path.read_bytes() for path in (tmp_path / "a").rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match=r"a is finished: all 1 epochs are done; train in another folder"):
        train_run(tmp_path / "a")
    assert {path: path.read_bytes() for path in (tmp_path / "a").rglob("*") if path.is_file()} == before


def test_nothing_is_left_over(tmp_path):
    create_run(run(), tmp_path / "a")
    train_run(tmp_path / "a", checkpoint_every=0.0)
    names = {path.relative_to(tmp_path / "a").as_posix() for path in (tmp_path / "a").rglob("*") if path.is_file()}
    weights = {"checkpoint/last.safetensors", "checkpoint/best.safetensors"}
    assert names == weights | {"config.json", "environment.json", "metrics.jsonl", ".lock"}


KEYS = {"eqprop", "commit", "python", "torch", "numpy", "system", "cpu", "cores", "processes", "threads", "gpu"}


def test_the_environment_is_what_is_promised(tmp_path):
    """Versions, processor, cores, processes, threads, GPU and commit; nothing else."""
    place = create_run(run(threads=2), tmp_path / "a")
    found = json.loads(place.environment.read_text())
    assert set(found) == KEYS
    assert found["python"] == platform.python_version()
    assert found["torch"] == torch.__version__
    assert found["eqprop"] == eqprop.__version__
    assert found["cores"] == os.cpu_count()
    assert (found["processes"], found["threads"]) == (1, 2)
    assert found["gpu"] is None
    assert found["commit"] is None or re.fullmatch(r"[0-9a-f]{12,40}(-dirty)?", found["commit"])
    assert torch.get_num_threads() == 1


HERE = {path.parts[1] for path in (ROOT, Path.home(), Path(sys.prefix)) if len(path.parts) > 1}
TOPS = HERE | {"home", "root", "Users", "tmp", "var", "usr", "opt", "mnt", "media", "srv", "data", "scratch", "proc"}
"""Folders that absolute paths begin with, on most machines and on this one."""

COMMON = {"", "root", "user", "localhost", "runner", "home", "build", "linux", "ubuntu", "debian", "macos"}
"""Names that give nobody away."""


def secrets() -> list[str]:
    """Patterns of what must not leave a machine."""
    host = socket.gethostname()
    names = {host, host.split(".")[0], platform.node(), getpass.getuser(), Path.home().name}
    owned = [name for name in names if name.lower() not in COMMON and len(name) > 2]
    patterns = [rf"(?<![\w.-]){re.escape(name)}(?![\w-])" for name in owned]
    patterns.append(rf"(?<![\w.:/~-])/({'|'.join(map(re.escape, sorted(TOPS)))})\b")
    return [*patterns, r"\b[A-Za-z]:\\", r"[\w.+-]+@[\w-]+\.\w+"]


def leaks(text: str) -> list[str]:
    return [found.group() for pattern in secrets() for found in re.finditer(pattern, text)]


def test_the_search_for_leaks_finds_some():
    for text in (
        "/home/somebody/x",
        '"/Users/a"',
        "C:\\Users",
        "see /tmp/a",
        "me@example.org",
        str(ROOT / "src"),
        f"in {Path(sys.prefix)}",
    ):
        assert leaks(text)
    for text in (
        "and/or",
        "2 ± 1 %",
        "runs/p-1h/seed-0",
        "https://example.org/data/x",
        "EP/BPTT",
        "x86_64",
        "1/2",
        "--data.root",
    ):
        assert not leaks(text)


def test_the_environment_names_nobody():
    assert not leaks(json.dumps(environment()))


def test_a_run_folder_names_nobody(tmp_path):
    """Neither the folder nor the root of the data is in any file of it."""
    create_run(run(root=str(tmp_path)), tmp_path / "a")
    train_run(tmp_path / "a")
    for path in (tmp_path / "a").rglob("*"):
        if path.is_file():
            raw = path.read_bytes()
            assert str(tmp_path).encode() not in raw
            assert socket.gethostname().encode() not in raw or len(socket.gethostname()) < 5
            if path.suffix in (".json", ".jsonl"):
                assert not leaks(raw.decode())


RECORDS = sorted(path for path in (ROOT / "records").rglob("*") if path.is_file())


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_records_name_nobody(path):
    if path.suffix == ".png":  # beside its pixels, in which anything may be read
        with Image.open(path) as picture:
            assert not leaks(repr(picture.info))
    else:
        assert not leaks(path.read_text())


def test_there_are_records():
    assert RECORDS


def test_the_commit_is_not_that_of_a_repository_around_the_package(tmp_path, monkeypatch):
    """Where the package is installed into some checkout, that one's commit says nothing."""
    for words in (
        ["init", "-q"],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "--allow-empty", "-m", "a"],
    ):
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True)
    monkeypatch.setattr("eqprop.training.environment.__file__", str(tmp_path / "environment.py"))
    (tmp_path / "environment.py").write_text("")
    assert environment()["commit"] is None


def test_without_git_there_is_no_commit(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert environment()["commit"] is None

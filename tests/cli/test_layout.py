"""Folders of runs are created whole or can be completed: after a kill or a full disk at any step, and beside other processes."""

import threading
from contextlib import suppress
from dataclasses import replace

import pytest

import eqprop
from command import files
from eqprop.cli.errors import CommandFailedError
from eqprop.cli.layout import complete_runs, create_folders, find_runs, missing_runs
from eqprop.training import SGD, Data, Run
from eqprop.training.distributed.processes import SINGLE_PROCESS
from faults import FullDisk, Kill, KilledError, Steps
from small_trainings import CENTRED

ONE = Run("mine", Data("digits", 50), eqprop.MLP((64, 8, 10), "sigmoid"), CENTRED, SGD(0.5), epochs=1)
LAYOUTS = {
    "train": {".": ONE},
    "seeds": {f"seed-{n}": replace(ONE, seed=n) for n in range(2)},
    "compare": {f"{m}/seed-{n}": replace(ONE, name=m, seed=n) for n in range(2) for m in ("ep", "bptt")},
}
QUICK = ("train", "run"), ("train", None), ("train", "empty"), ("seeds", "a/b")
CASES = [*QUICK, ("train", "a/b"), ("seeds", "empty"), ("seeds", None), ("compare", "run")]


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    """An empty folder, and an environment that needs no other program."""
    facts = {"eqprop": "1", "torch": "2", "threads": 1, "gpu": None}
    monkeypatch.setattr("eqprop.training.session.environment", lambda device, processes: facts)
    monkeypatch.chdir(tmp_path)


def lay_out(kind, out):
    return create_folders(LAYOUTS[kind], out, "mine", "cpu", SINGLE_PROCESS)


@pytest.fixture(params=[pytest.param(c, marks=() if c in QUICK else pytest.mark.slow) for c in CASES], ids=str)
def case(request):
    """What is created, and ``--out``."""
    return request.param


@pytest.fixture
def kind(case):
    return case[0]


@pytest.fixture
def place(case, tmp_path):
    """A function that returns ``--out`` below a new folder, which becomes the working directory."""

    def new(number, monkeypatch):
        folder = tmp_path / str(number)
        (folder / "empty").mkdir(parents=True)
        monkeypatch.chdir(folder)
        return folder, None if case[1] is None else folder / case[1]

    return new


def steps_of(kind, place, monkeypatch):
    """Return the steps of a layout and the files that it leaves, below its top."""
    folder, out = place("whole", monkeypatch)
    with Steps(folder).counted() as steps:
        top = lay_out(kind, out)
    assert len(steps.kinds) >= 8  # or the steps are not seen
    return steps.kinds, files(top)


def test_a_kill_at_any_step(kind, place, monkeypatch):
    """The same command starts anew, or refuses and names the one that completes the folders."""
    kinds, whole = steps_of(kind, place, monkeypatch)
    refused = []
    for number in range(1, len(kinds) + 1):
        folder, out = place(number, monkeypatch)
        with pytest.raises(KilledError), Kill(folder, number).counted():
            lay_out(kind, out)
        try:
            top = lay_out(kind, out)
        except FileExistsError as error:
            refused.append(str(error))
            complete_runs(out, None)
            top = out
        else:
            first = folder / "runs" / "mine"
            if out is None and top != folder / "runs" / "mine" and first.exists():
                with suppress(FileNotFoundError):  # killed before it held anything to resume
                    complete_runs(first, None)
                    assert find_runs(first)
                    assert files(first) == whole, kinds[number - 1]
        assert files(top) == whole, (number, kinds[number - 1])
        assert not missing_runs(top)
    assert refused or kind == "train" or out is None
    assert all("with `--resume " in text for text in refused)


def test_a_kill_while_they_are_completed(kind, place, monkeypatch):
    """It can be completed again."""
    if kind == "train":
        pytest.skip("one run has nothing to complete")
    kinds, whole = steps_of(kind, place, monkeypatch)
    for number in range(1, len(kinds) + 1):
        folder, out = place(number, monkeypatch)
        top = out or folder / "runs" / "mine"
        with pytest.raises(KilledError), Kill(folder, number).counted():
            lay_out(kind, out)
        if not (top / "runs.json").exists():
            continue
        with suppress(KilledError), Kill(folder, number % 7 + 1).counted():
            complete_runs(top, None)
        complete_runs(top, None)
        assert files(top) == whole


@pytest.mark.parametrize("lasts", [True, False], ids=["stays full", "full once"])
def test_a_full_disk_at_any_step(lasts, kind, place, monkeypatch):
    """Nothing is left, and with room the same command succeeds."""
    kinds, whole = steps_of(kind, place, monkeypatch)
    said = []
    for number in range(1, len(kinds) + 1):
        folder, out = place(number, monkeypatch)
        before = files(folder)
        disk = FullDisk(folder, number, lasts=lasts)
        try:
            with disk.counted():
                top = lay_out(kind, out)
        except (CommandFailedError, OSError) as error:
            said.append(str(error))
            assert files(folder) == before | ({"runs": None} if out is None and (folder / "runs").exists() else {})
            top = lay_out(kind, out)
        else:
            assert kinds[number - 1] not in ("open", "fsync")  # an existing folder needs no room
        assert files(top) == whole
    assert said
    assert all("No space left on device" in text for text in said)


def test_another_process_at_any_step(kind, place, monkeypatch):
    """Of two that create the same folder, one does and one is refused; no matter where the second comes in."""
    kinds, whole = steps_of(kind, place, monkeypatch)
    for number in range(1, len(kinds) + 1):
        folder, out = place(number, monkeypatch)
        tops = []

        def other(step, path, out=out, tops=tops):
            with suppress(FileExistsError, BlockingIOError):
                tops.append(lay_out(kind, out))

        with suppress(FileExistsError, BlockingIOError), Steps(folder, number, other).counted():
            tops.append(lay_out(kind, out))
        assert len(tops) == (2 if out is None else 1)
        assert len({*tops}) == len(tops)
        assert all(files(top) == whole for top in tops)


def test_a_resume_at_any_step(kind, place, monkeypatch):
    """It is refused while the folders are created, and disturbs nothing."""
    kinds, whole = steps_of(kind, place, monkeypatch)
    for number in range(1, len(kinds) + 1):
        folder, out = place(number, monkeypatch)
        top = out or folder / "runs" / "mine"

        def resume(step, path, top=top):
            with suppress(BlockingIOError):
                complete_runs(top, None)

        with Steps(folder, number, resume).counted():
            lay_out(kind, out)
        assert files(top) == whole


@pytest.mark.parametrize("kind", LAYOUTS)
def test_many_at_the_same_moment(kind, tmp_path):
    for number in range(3):
        start, tops, refused = threading.Barrier(6), [], []

        def one(out=tmp_path / str(number), start=start, tops=tops, refused=refused):
            start.wait(60)
            try:
                tops.append(lay_out(kind, out))
            except (FileExistsError, BlockingIOError) as error:
                refused.append(str(error))

        threads = [threading.Thread(target=one) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert (len(tops), len(refused)) == (1, 5)
        lay_out(kind, tmp_path / f"{number}-alone")
        assert files(tops[0]) == files(tmp_path / f"{number}-alone")


FOREIGN = {
    "a text": ("thesis.tex", "years of work"),
    "a hidden file": (".notes", ""),
    "a lock with content": (".lock", "mine"),
    "a part of something else": (".film.part", "half"),
    "weights": ("checkpoint/last.safetensors", "weights"),
    "a folder within": ("checkpoint/mine/file", "mine"),
    "another environment": ("environment.json", '{"PATH": "/bin"}'),
    "no environment": ("environment.json", "[1]"),
    "rows": ("metrics.jsonl", ""),
    "a list of runs": ("runs.json", "[]"),
    "plots": ("plots/errors.png", ""),
}


@pytest.mark.parametrize("kind", ["train", "seeds"])
@pytest.mark.parametrize("what", FOREIGN)
def test_what_is_there_is_not_touched(what, kind, tmp_path):
    name, content = FOREIGN[what]
    file = tmp_path / "mine" / name
    file.parent.mkdir(parents=True)
    file.write_text(content)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "mine").rglob("*")}
    with pytest.raises(FileExistsError, match=r"mine already holds .*use another folder$"):
        lay_out(kind, tmp_path / "mine")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "mine").rglob("*")} == before
    assert file.read_text() == content

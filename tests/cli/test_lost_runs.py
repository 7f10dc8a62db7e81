"""Runs that are missing from a folder of several: a resume trains them too, or refuses; it never reports results without them."""

import json
import shutil

import pytest

from command import call, files
from eqprop.training.run_folder import RunFolder
from faults import Kill, KilledError
from small_trainings import assert_nearly, outcome

SMALL = "--no-plots --epochs 1 --model.sizes 64 8 10 --data.batch-size 200"
COMMANDS = {"train": f"train digits {SMALL} --seeds 2", "compare": f"compare digits {SMALL}"}
PARTS = {"train": ["seed-0", "seed-1"], "compare": ["ep/seed-0", "bptt/seed-0"]}
RESUME = "train --no-plots --resume"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Both commands, never interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    for name, words in COMMANDS.items():
        call(f"{words} --out {folder / name}").done()
    return folder


@pytest.fixture(params=COMMANDS)
def name(request):
    return request.param


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def lost(name, whole, here):
    """A copy without the last run."""
    shutil.copytree(whole / name, here / "r")
    shutil.rmtree(here / "r" / PARTS[name][-1])
    return here / "r"


def assert_same(name, folder, whole):
    for part in PARTS[name]:
        assert outcome(folder / part) == outcome(whole / name / part)
        assert RunFolder(folder / part).config.read_bytes() == RunFolder(whole / name / part).config.read_bytes()


@pytest.mark.parametrize("step", [12, 16])
def test_killed_while_the_folders_are_created(step, name, whole, here):
    with pytest.raises(KilledError), Kill(here / "r", step).counted():
        call(f"{COMMANDS[name]} --out r")
    assert not all((here / "r" / part / "config.json").exists() for part in PARTS[name])
    assert "continue them with `--resume r`" in call(f"{COMMANDS[name]} --out r").complaint()
    said = call(f"{RESUME} r").done()
    assert f"r/{PARTS[name][-1]} was missing and is created now\n" in said
    assert said.endswith("results in r\n")
    assert_same(name, here / "r", whole)


@pytest.mark.parametrize("named", ["the run", "the folder above it", "all"])
def test_a_missing_run_is_trained_by_a_resume_of(named, name, whole, lost):
    part = lost / PARTS[name][-1]
    folder = {"the run": part, "the folder above it": part.parent, "all": lost}[named]
    assert f"{part} was missing and is created now\n" in call(f"{RESUME} {folder}").done()
    if named != "the run" or name == "compare":
        assert_same(name, lost, whole)
    else:  # two seeds in one computation match one alone up to rounding
        assert_nearly(part, whole / name / PARTS[name][-1])


def test_a_resume_of_another_part_creates_nothing_else(name, lost):
    before = files(lost)
    call(f"{RESUME} {lost / PARTS[name][0]}").complaint()  # it is finished
    assert files(lost) == before


@pytest.mark.slow
def test_plots_name_a_missing_run(lost, name):
    pytest.importorskip("matplotlib")
    said = call(f"plot {lost}").done().splitlines()
    assert said[-1] == f"{lost / PARTS[name][-1]} is missing: `eqprop train --resume {lost}` trains it"


def test_a_folder_without_a_list_resumes_with_the_runs_that_are_there(lost, name):
    """Earlier versions wrote none."""
    (lost / "runs.json").unlink()
    (lost / PARTS[name][0] / "checkpoint" / "last.safetensors").unlink()
    for file in ("metrics.jsonl", "checkpoint/best.safetensors"):
        (lost / PARTS[name][0] / file).unlink()
    assert call(f"{RESUME} {lost}").done().endswith(f"results in {lost}\n")
    assert not (lost / PARTS[name][-1]).exists()


@pytest.mark.filterwarnings("always")
def test_a_folder_without_a_list_where_a_run_was_begun_is_warned_of(lost, name):
    """The part of an earlier version's folder that a kill left."""
    (lost / "runs.json").unlink()
    (lost / PARTS[name][0] / "checkpoint" / "last.safetensors").unlink()
    for file in ("metrics.jsonl", "checkpoint/best.safetensors"):
        (lost / PARTS[name][0] / file).unlink()
    (lost / PARTS[name][-1] / "checkpoint").mkdir(parents=True)
    answer = call(f"{RESUME} {lost}")
    assert answer.code == 0
    assert answer.err.startswith(f"eqprop: warning: {lost / PARTS[name][-1]} holds no run")


def damaged_list(case, text):
    facts = json.loads(text)
    if case == "half":
        return text[: len(text) // 2]
    if case == "a list":
        return "[]"
    if case == "no runs":
        return json.dumps({"device": "cpu"})
    if case == "no device":
        return json.dumps({"runs": facts["runs"]})
    if case == "deep":
        return "[" * 100_000
    run = next(iter(facts["runs"].values()))
    part = {"outside": "../x", "absolute": "/tmp/x", "the folder itself": "."}.get(case, "seed-7")
    return json.dumps(facts | {"runs": {part: run if case != "no run" else {"type": "Run"}}})


@pytest.mark.parametrize(
    "case", ["half", "a list", "no runs", "no device", "deep", "outside", "absolute", "the folder itself", "no run"]
)
def test_a_damaged_list_is_refused(case, lost, here):
    (lost / "runs.json").write_text(damaged_list(case, (lost / "runs.json").read_text()))
    before = files(here)
    for words in (RESUME, "plot"):
        assert "runs.json is not a list of runs" in call(f"{words} r").complaint()
    assert files(here) == before


@pytest.mark.parametrize("left", ["everything else", "the checkpoint"])
def test_a_lost_config_is_not_replaced(left, name, whole, here):
    shutil.copytree(whole / name, here / "r")
    folder = here / "r" / PARTS[name][-1]
    for file in ["config.json"] if left == "everything else" else ["config.json", "environment.json", "metrics.jsonl"]:
        (folder / file).unlink()
    before = files(here)
    assert "holds files, but its config.json is missing: restore it" in call(f"{RESUME} r").complaint()
    assert files(here) == before


@pytest.mark.parametrize("step", range(1, 10))
def test_a_single_run_killed_before_it_exists_is_begun_anew(step, here):
    words = f"train digits {SMALL} --out r"
    with pytest.raises(KilledError), Kill(here / "r", step).counted():
        call(words)
    if (here / "r").exists():
        assert "r contains no run" in call(f"{RESUME} r").complaint()
    call(words).done()
    assert (RunFolder(here / "r").rows()[0]["epoch"]) == 1


def test_a_full_disk_in_the_second_run_advises_to_resume_all(here, monkeypatch):
    """Advice to resume that run alone would lose those after it."""
    written = []

    def write(path, tensors, facts):
        written.append(path)
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("eqprop.training.checkpoint.write", write)
    answer = call(f"{COMMANDS['compare']} --out r")
    assert answer.code == 1
    assert "`eqprop train --resume r`" in answer.error()
    assert len(written) == 1

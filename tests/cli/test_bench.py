"""``eqprop bench``: output, files and error messages."""

import json
import sys

import pytest
import torch

from command import call, files, obstruct
from eqprop.cli.commands.bench import DEFAULT_RECIPES, Bench, command, list_settings
from eqprop.cli.options import parse
from eqprop.papers.registry import recipe
from picture_files import pixels
from small_sets import secluded

SMALL = "bench digits spiking-digits --batch 2 3 --free-steps 4 --nudged-steps 2 --rounds 1 --residual 0.01"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """An empty working folder, without data sets and without a network."""
    return secluded(tmp_path, monkeypatch)


@pytest.fixture(autouse=True, scope="module")
def _short_measurements():
    """One step in each block: the times themselves are not tested."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("eqprop.bench.measuring.MIN_LIMIT", 20)
        patch.setattr("eqprop.bench.measuring.choose_block_sizes", lambda steps: dict.fromkeys(steps, 1))
        yield


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """The output folder and the standard output."""
    folder = tmp_path_factory.mktemp("measured") / "out"
    return folder, call(f"{SMALL} --out {folder}").done()


def table(text: str, column: str) -> list[dict[str, str]]:
    """The rows of the first table with that column, as dictionaries by column name."""
    part = next(part for part in text.split("| setting ")[1:] if f" {column} " in part.splitlines()[0])
    lines = [line for line in f"| setting {part}".splitlines() if line.startswith("| ")]
    head, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [dict(zip(head, row, strict=True)) for row in rows]


def facts(folder) -> dict:
    return json.loads((folder / "bench.json").read_text())


def test_files(measured):
    folder, said = measured
    assert sorted(files(folder)) == ["bench.json", "plots", "plots/bench.png", "plots/bench.svg", "report.md"]
    assert said.splitlines()[-1] == f"results in {folder}"
    assert pixels((folder / "plots/bench.png").read_bytes())[0] >= 600
    assert all(line in (folder / "report.md").read_text() for line in said.splitlines()[:-1])


def test_json(measured):
    found = facts(measured[0])
    assert found["command"] == f"eqprop {SMALL}"
    assert found["environment"]["torch"] == torch.__version__
    assert (found["rounds"], found["residual"]) == (1, 0.01)
    rows = [
        (row["recipe"], row["batch"], row["threads"], row["free_steps"], row["nudged_steps"]) for row in found["rows"]
    ]
    assert rows == [(name, batch, 1, 4, 2) for name in ("digits", "spiking-digits") for batch in (2, 3)]
    first, last = found["rows"][0], found["rows"][-1]
    assert list(first["training"]) == ["EP", "continual EP", "BPTT", "implicit", "backprop", "bare"]
    assert list(last["training"]) == ["EP", "continual EP", "BPTT", "backprop", "bare"]
    assert sorted(last["absent"]) == ["anderson", "async", "async+anderson", "implicit"]
    assert first["absent"] == {}


def test_table_agrees_with_json(measured):
    folder, said = measured
    for line, row in zip(table(said, "backprop"), facts(folder)["rows"], strict=True):
        assert line["setting"] == f"{row['recipe']}, batch {row['batch']}, 1 thread"
        assert (line["T"], line["K"]) == ("4", "2")
        for name, one in row["training"].items():
            assert float(line[name].split(" ")[0]) == pytest.approx(one["milliseconds"], rel=0.01)
        assert line["EP"].endswith(" *")
    assert "no implicit for spiking-digits: spikes have no derivative" in said.splitlines()


def test_default_settings():
    chosen = list_settings(parse(Bench, [], "eqprop bench"))
    assert [(task.run.name, task.batch, number) for task, number in chosen] == [
        (name, recipe(name).data.batch_size, recipe(name).threads) for name in DEFAULT_RECIPES
    ]
    assert all(task.phases.free.steps == task.run.estimator.free_steps for task, _ in chosen)


def test_repeated_settings_are_measured_once():
    words = "p-1h p-2h p-1h --batch 20 128 20 --threads 1 2"
    chosen = [(t.run.name, t.batch, n) for t, n in list_settings(parse(Bench, words.split(), "eqprop bench"))]
    assert chosen == [(name, batch, number) for name in ("p-1h", "p-2h") for batch in (20, 128) for number in (1, 2)]


def test_command_reproduces_the_options():
    words = "p-1h --threads 1 2 --nudged-steps 3 --rounds 7 --residual 0.001"
    options = parse(Bench, [*words.split(), "--out", "somewhere", "--no-plots"], "eqprop bench")
    assert command(options) == f"eqprop bench {words}"
    again = parse(Bench, command(options).split()[2:], "eqprop bench")
    assert (again.recipes, again.threads, again.nudged_steps) == (("p-1h",), (1, 2), 3)


MISTAKES = {
    "bench p-1": "'p-1': did you mean 'p-1h'",
    "bench p-1h xyzzy": "'xyzzy'",
    "bench --batch": "--batch",
    "bench digits --batch 0": "--batch must be a whole number of at least 1, got 0",
    "bench digits --batch 20 p-2h": "--batch must be a whole number, got 'p-2h'",
    "bench digits --threads 0": "--threads",
    "bench digits --threads 5000": "--threads must be at most 1024",
    "bench digits --rounds 0": "--rounds",
    "bench digits --round 2": "--rounds",
    "bench digits --residual 0": "--residual",
    "bench digits --residual nan": "--residual",
    "bench digits --free-steps x": "--free-steps must be a whole number, got 'x'",
    "bench digits --free-steps 0": "--free-steps",
    "bench digits --nudged-steps -1": "--nudged-steps",
    "bench digits --device cuda": "--device",
    "bench digits --out full": "full is not empty",
    "bench digits --out file": "not a folder",
    "bench digits --out=": "must name a folder",
}


@pytest.mark.parametrize("words", MISTAKES)
def test_mistakes(words, here):
    obstruct(here)
    before = files(here)
    assert MISTAKES[words] in call(words).complaint()
    assert files(here) == before


def test_interrupted_measurement_leaves_no_files(here, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("eqprop.cli.commands.bench.measure", interrupted)
    answer = call(f"{SMALL} --out out")
    assert (answer.code, answer.out, answer.err) == (130, "", "stopped\n")
    assert files(here) == {}


def test_non_finite_numbers_are_an_error(here, monkeypatch):
    def diverged(*arguments):
        raise FloatingPointError("population 1 is not finite")

    monkeypatch.setattr("eqprop.cli.commands.bench.measure", diverged)
    answer = call(SMALL)
    assert (answer.code, answer.error()) == (1, "eqprop: digits, batch 2, 1 thread: population 1 is not finite\n")
    assert files(here) == {}


def test_progress_names_the_setting(monkeypatch):
    monkeypatch.setattr("eqprop.cli.console.PATIENCE", -1.0)
    answer = call("bench digits --batch 2 --free-steps 4 --nudged-steps 2 --rounds 1 --no-plots --out out")
    assert answer.code == 0
    assert answer.err.splitlines()
    assert all(line.startswith("digits, batch 2, 1 thread: ") for line in answer.err.splitlines())


def test_without_matplotlib_json_and_report_are_saved(here, monkeypatch):
    for name in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    answer = call("bench digits --batch 2 --free-steps 4 --nudged-steps 2 --rounds 1 --out out")
    assert answer.code == 0
    assert answer.err == "eqprop: no pictures without matplotlib: pip install 'eqprop[plot]'\n"
    assert sorted(files(here / "out")) == ["bench.json", "report.md"]

"""Results do not depend on figures, names or folders: what can be checked is checked before computing, the rest is kept."""

import json
import os
import sys

import pytest

from command import call, files
from eqprop import plots
from eqprop._core.measured_json import dump_measured
from eqprop.theorem.result import read_result
from small_sets import secluded

SMALL = "--model.sizes 64 4 10 --estimator.free-steps 4 --estimator.nudged-steps 2"
TRAIN = f"train digits --epochs 1 {SMALL}"
GDU = "gdu toy --estimator.free-steps 20 --estimator.nudged-steps 3"
TUNE = f"tune digits {SMALL} --batches 1 --free-steps 4 --nudged-steps 2 --betas 0.1"
BENCH = "bench digits --rounds 1 --batch 2 --free-steps 4 --nudged-steps 2"
DRAWN = {
    f"{GDU} --out x": ("eqprop.plots.increments", "report.json"),
    f"{TUNE} --out x": ("eqprop.plots.agreement_map", "tuning.json"),
    f"{TRAIN} --out x": ("eqprop.plots.activities", "metrics.jsonl"),
    f"{TRAIN} --seeds 2 --out x": ("eqprop.cli.summary.error_curves", "comparison.md"),
    f"compare digits --epochs 1 {SMALL} --out x": ("eqprop.cli.summary.error_curves", "comparison.md"),
}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    return secluded(tmp_path, monkeypatch)


@pytest.mark.parametrize("error", [ValueError("no picture\nof this"), MemoryError(), RuntimeError("no font")])
@pytest.mark.parametrize("words", DRAWN)
def test_a_figure_that_fails_loses_nothing(words, error, here, monkeypatch):
    def fail(*arguments, **options):
        raise error

    function, result = DRAWN[words]
    monkeypatch.setattr(function, fail)
    answer = call(words)
    assert answer.code == 1
    assert "figures could not be drawn" in answer.error()
    assert (here / "x" / result).stat().st_size > 0


def test_a_benchmark_whose_figure_fails(here, monkeypatch):
    def fail(*arguments, **options):
        raise ValueError("no picture")

    monkeypatch.setattr("eqprop.plots.dot_plot", fail)
    answer = call(f"{BENCH} --out x")
    assert answer.code == 1
    assert "no picture" in answer.err
    assert json.loads((here / "x" / "bench.json").read_text())["rows"]


def test_each_run_is_drawn_though_one_fails(here, monkeypatch):
    call(f"{TRAIN} --no-plots --seeds 2 --out x").done()
    draw = plots.activities

    def fail(model, x, path, title):
        if "seed 0" in title:
            raise ValueError("no picture")
        draw(model, x, path, title)

    monkeypatch.setattr("eqprop.plots.activities", fail)
    answer = call("plot x")
    assert answer.code == 1
    assert "seed-0" in answer.err
    assert not (here / "x" / "seed-0" / "plots" / "settling.svg").exists()
    assert (here / "x" / "seed-1" / "plots" / "settling.svg").exists()
    assert (here / "x" / "plots" / "errors.svg").exists()


NAMES = ["a$b{$c", "$", "$$", r"$\nope$", r"\frac", "_hidden", "n" * 200, "50%", "a b", "#", "{}", "é"]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_not_a_formula(name, here):
    for words in (GDU, *([TRAIN] if name in NAMES[:1] else [])):
        from eqprop.cli import main

        assert main([*words.split(), "--name", name, "--out", f"x{words[:3]}"]) == 0
        assert [file for file in files(here) if file.endswith(".svg")]


@pytest.mark.parametrize("text", ["a$b$", "$", r"$\alpha$", "_x", "plain"])
def test_plain_text_is_drawn_as_it_is(text):
    from matplotlib.cbook import is_math_text

    assert not is_math_text(plots.plain(text))
    assert plots.plain(text).replace(r"\$", "$").strip() == text


@pytest.mark.parametrize("words", [TRAIN, GDU, TUNE, f"compare digits --epochs 1 {SMALL}"])
@pytest.mark.parametrize("name", ["n" * 400, "é" * 150, "n" * 201])
def test_a_name_too_long_for_a_folder(words, name, here):
    assert "--name must have at most 200 bytes" in call(f"{words} --name {name}").complaint()
    assert files(here) == {}


def forbid(monkeypatch):
    for name in ("gdu.run_experiment", "tune.tune", "bench.measure"):
        monkeypatch.setattr(f"eqprop.cli.commands.{name}", lambda *a, **o: pytest.fail("computed"))


@pytest.mark.parametrize("words", [GDU, TUNE, BENCH])
@pytest.mark.parametrize("out", [f"--out {'n' * 400}", "--out file/x", "--out /proc/x", "--out full"])
def test_a_folder_that_cannot_be_written_is_found_before_computing(words, out, here, monkeypatch):
    forbid(monkeypatch)
    (here / "file").write_text("mine")
    (here / "full").mkdir()
    (here / "full" / "x").write_text("mine")
    before = files(here)
    assert out.split()[1][:5] in call(f"{words} {out}").complaint()
    assert files(here) == before


@pytest.mark.parametrize("words", [GDU, TUNE, BENCH])
def test_a_default_folder_that_cannot_be_created(words, here, monkeypatch):
    forbid(monkeypatch)
    (here / "runs").write_text("mine")
    assert "runs" in call(words).complaint()
    assert (here / "runs").read_text() == "mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
@pytest.mark.parametrize("words", [GDU, TUNE, BENCH])
def test_an_unwritable_folder(words, here, monkeypatch):
    forbid(monkeypatch)
    (here / "out").mkdir()
    (here / "out").chmod(0o555)
    assert "out" in call(f"{words} --out out").complaint()


@pytest.mark.parametrize("words", [GDU, TUNE, BENCH])
def test_a_computation_that_fails_leaves_no_folder(words, here, monkeypatch):
    def fail(*arguments, **options):
        raise FloatingPointError("a number is not finite")

    for name in ("gdu.run_experiment", "tune.tune", "bench.measure"):
        monkeypatch.setattr(f"eqprop.cli.commands.{name}", fail)
    (here / "empty").mkdir()
    for out in ("", "--out new/below", "--out empty"):
        assert call(f"{words} {out}".strip()).code == 1
        assert files(here) == {"empty": None}


@pytest.mark.parametrize("words", [GDU, TUNE, BENCH])
def test_a_reader_that_exits_loses_nothing(words, here, monkeypatch):
    def closed(text):
        raise BrokenPipeError

    for name in ("gdu", "tune", "bench"):
        monkeypatch.setattr(f"eqprop.cli.commands.{name}.echo", closed)
    monkeypatch.setattr("eqprop.cli._discard_stdout", lambda: None)
    assert call(f"{words} --no-plots --out x").code == 141
    assert any(file.endswith(".json") for file in files(here / "x"))
    assert "report.md" in files(here / "x")


def test_numbers_that_are_not_finite_are_written_as_null(here, monkeypatch):
    """A cosine of two zero vectors is no number; the rest of the results is."""
    assert json.loads(dump_measured({"a": [float("nan"), 1.0], "b": {"c": (float("inf"), None, 2)}})) == {
        "a": [None, 1.0],
        "b": {"c": [None, None, 2]},
    }
    summary = "eqprop.theorem.report.GDUReport.summary"
    from eqprop.theorem.report import GDUReport

    right = GDUReport.summary
    monkeypatch.setattr(summary, lambda report: right(report) | {"angle": float("nan")})
    call(f"{GDU} --no-plots --out x").done()
    result = read_result(here / "x")
    assert result is not None
    assert result.summary["angle"] != result.summary["angle"]
    assert result.summary["rates"] is None


def test_a_figure_without_matplotlib_is_no_failure(here, monkeypatch):
    for name in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    assert call(f"{GDU} --out x").code == 0

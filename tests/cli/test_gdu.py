"""``eqprop gdu``: output, files, agreement with `eqprop.gdu`, and errors."""

import errno
import json
import math
import re
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace

import pytest
import torch

import eqprop as ep
from command import Output, call, files, frames, obstruct
from eqprop.cli import main
from eqprop.data.sources import SOURCES
from eqprop.papers.registry import EXPERIMENTS, RECIPES, baseline, experiment, recipe
from eqprop.theorem.experiment import Experiment
from eqprop.theorem.result import read_result
from eqprop.training import create_run, load
from eqprop.training.session import read_run
from forked import COMPLAINED, SAID, command
from small_sets import secluded, small_mnist
from small_team import elsewhere

PHASES = "--estimator.free-steps 12 --estimator.nudged-steps 4"
DIGITS = f"gdu digits --model.sizes 64 6 10 {PHASES}"
TOY = "gdu toy --estimator.free-steps 60 --estimator.nudged-steps 5"
PLAIN = "--no-plots --out out"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """An empty working folder of a user without data sets and without a network."""
    return secluded(tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A check with all files, and its output."""
    folder = tmp_path_factory.mktemp("drawn") / "out"
    return folder, call(f"{DIGITS} --betas 0.1 0.05 --out {folder}").done()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A short training."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    options = "--model.sizes 64 6 10 --epochs 1 --data.batch-size 50 --estimator.beta 0.3 --seed 3 --no-plots"
    call(f"train digits {options} {PHASES} --out {folder}").done()
    return folder


def cells(text: str) -> list[list[str]]:
    """The rows of a table in Markdown."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def report(folder) -> dict:
    return json.loads((folder / "report.json").read_text())


def test_one_row_for_every_population_and_parameter(drawn):
    _, said = drawn
    head, *lines = cells(said)
    assert head[0] == "layer"
    assert [line[0] for line in lines] == ["s1", "s2 (output)", "0→1 weight", "0→1 bias", "1→2 weight", "1→2 bias"]
    assert all(len(line) == len(head) for line in lines)


def test_the_table_agrees_with_the_file(drawn):
    folder, said = drawn
    (head, *lines), summary = cells(said), report(folder)["summary"]
    facts = [*summary["populations"].values(), *summary["parameters"].values()]
    for line, of in zip(lines, facts, strict=True):
        row = dict(zip(head, line, strict=True))
        for column, key in (("relative error", "relative_error"), ("accumulated", "accumulated"), ("cosine", "cosine")):
            assert float(row[column]) == pytest.approx(of[key], rel=0.05, abs=5e-5)
        for column, key in (("same sign", "same_sign"), ("stuck", "stuck"), ("without nudge", "free_share")):
            assert row[column] == (f"{100 * of[key]:.1f}%" if key in of else "–")


def test_files_of_a_check(drawn):
    folder, said = drawn
    assert [name for name in files(folder) if "." in name] == [
        "environment.json", "experiment.json",
        *(f"plots/{name}.{ending}" for name in ("betas", "errors", "increments") for ending in ("png", "svg")),
        "report.json", "report.md",
    ]  # fmt: skip
    text = (folder / "report.md").read_text()
    assert cells(text) == cells(said)
    assert text.startswith("# digits-training\n")
    for line in said.splitlines()[:-1]:
        assert line in text
    assert said.splitlines()[-1] == f"results in {folder}"


def test_the_result_agrees_with_the_library(drawn):
    folder, _ = drawn
    one = Experiment.from_json((folder / "experiment.json").read_text())
    original = experiment("digits")
    assert one == replace(
        original,
        model=replace(original.model, sizes=(64, 6, 10)),
        estimator=replace(original.estimator, free_steps=12, nudged_steps=4),
    )
    model = one.build()
    x, y = one.batch(model)
    found = report(folder)
    summaries = {
        beta: ep.gdu(model, x, y, 12, 4, beta, "centred").summary() for beta in (original.estimator.beta, 0.1, 0.05)
    }
    assert found["summary"] == summaries[original.estimator.beta]
    assert found["betas"] == [summaries[0.1], summaries[0.05]]
    assert found["weights"] == "initial"
    assert 0 < found["seconds"] < 100


def test_settings_assumptions_and_verdict_are_printed(drawn):
    folder, said = drawn
    summary = report(folder)["summary"]
    assert "T = 12, K = 4, beta = 0.2, centred; 20 samples, float32, initial weights" in said
    assert "dt = 1, compared with dL/ds of pre-activations, dL/du" in said  # nudged inside: theorem 1 is about these
    assert f"{summary['residual']:.1e}" in said
    for assumption in summary["assumptions"]:
        word = "holds" if assumption["holds"] else "FAILS"
        assert f"{word}: {assumption['name']}: {assumption['detail']}" in said
    assert "The theorem cannot be exact here: steady state fails." in said


def test_the_order_of_the_remaining_error_is_printed():
    said = call(f"{DIGITS} --estimator.free-steps 60 {PLAIN}").done()
    assert "FAILS" not in said
    assert "Every assumption of the theorem holds: the remaining error is of order beta squared." in said
    again = call(f"{DIGITS} --estimator.free-steps 60 --estimator.nudging one-sided --no-plots --out again")
    assert "the remaining error is of order beta." in again.done()


def test_an_incomplete_free_phase_is_reported(here):
    said = call(f"{TOY} {PLAIN}").done()
    assert re.search(r"^FAILS: steady state: .* of the motion of population \d is present without a nudge", said, re.M)
    assert "1 sample, " in said
    assert "compared with dL/ds; " in said
    assert [line[0] for line in cells(said)[1:]] == [
        "s1", "s2 (output)", *(f"{ends} {part}" for ends in ("0→1", "0→2", "1→2") for part in ("weight", "bias")),
    ]  # fmt: skip


def test_the_outside_nudge_is_reported():
    said = call(f"{DIGITS} --model.dynamics.nudge outside {PLAIN}").done()
    assert "FAILS: nudge: the nudge skips rho' of the output" in said
    assert "The theorem cannot be exact here: steady state, nudge fail." in said


def test_double_precision(here):
    said = call(f"{DIGITS} --dtype float64 {PLAIN}").done()
    assert "float64" in said
    found = report(here / "out")["summary"]
    assert found["dtype"] == "float64"
    single = call(f"{DIGITS} --no-plots --out single").done()
    assert cells(single)[0] == cells(said)[0]
    other = report(here / "single")["summary"]
    assert found != other
    assert found["angle"] == pytest.approx(other["angle"], rel=1e-2)  # the same weights and the same batch


def test_the_seed_gives_weights_and_batch(here):
    for out, seed in (("a", 1), ("b", 1), ("c", 2)):
        call(f"{TOY} --seed {seed} --no-plots --out {out}").done()
    a, b, c = (report(here / out)["summary"] for out in "abc")
    assert a == b != c


def test_the_next_free_folder_is_used(here):
    for _ in range(2):
        call(f"{TOY} --no-plots").done()
    call(f"{TOY} --no-plots --name mine").done()
    assert sorted(path.name for path in (here / "runs").iterdir()) == ["gdu-mine", "gdu-toy", "gdu-toy-2"]


def test_an_empty_folder_is_used(here):
    (here / "out").mkdir()
    call(f"{TOY} {PLAIN}").done()
    assert read_result(here / "out") is not None


def test_no_plots_option(here):
    call(f"{TOY} --betas 0.1 {PLAIN}").done()
    assert not (here / "out" / "plots").exists()


def test_number_of_components(here, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "eqprop.plots.increments", lambda report, path, **options: asked.append((path.name, options["components"]))
    )
    monkeypatch.setattr("eqprop.plots.relative_errors", lambda *arguments: None)
    call(f"{TOY} --components 3 --out out").done()
    assert asked == [("increments", 3)]


def test_the_plot_over_beta_has_every_beta_once(here, monkeypatch):
    shown = []
    monkeypatch.setattr("eqprop.plots.increments", lambda *arguments, **options: None)
    monkeypatch.setattr("eqprop.plots.relative_errors", lambda *arguments: None)
    monkeypatch.setattr("eqprop.plots.against_beta", lambda points, path, **options: shown.append((points, path.name)))
    call(f"{TOY} --betas 0.1 -0.05 0.01 --out out").done()
    ((points, name),) = shown
    assert (list(points), name) == ([-0.05, 0.01, 0.1], "betas")
    assert all(summary["beta"] == beta for beta, summary in points.items())


def test_random_inputs_for_any_network(here):
    said = call(f"{DIGITS} --data.name random --data.batch-size 3 {PLAIN}").done()
    assert "3 samples" in said


def test_averages_of_last_states_are_not_used_and_reported(here):
    line = "last states, without the average over 3 steps used in training"
    assert line not in call(f"{DIGITS} {PLAIN}").done()
    assert line in call(f"{DIGITS} --estimator.nudged-steps 4:mean3 --no-plots --out late").done()
    assert report(here / "out")["summary"] == report(here / "late")["summary"]


def test_another_data_set(here, monkeypatch):
    small = small_mnist()
    monkeypatch.setitem(SOURCES, "mnist", small.source)
    small.put(here / "root")
    options = "--model.sizes 784 5 10 --estimator.free-steps 20 --estimator.nudged-steps 3 --data.root root"
    said = call(f"gdu p-1h-exact {options} {PLAIN}").done()
    assert "6 samples, float64" in said  # there are no more
    for content in files(here / "out").values():
        assert b"root" not in content


# trained weights


def test_a_run_folder_provides_weights_and_phases(trained, here):
    said = call(f"gdu {trained} {PLAIN}").done()
    assert "T = 12, K = 4, beta = 0.3, centred; 50 samples, float32, trained, epoch 1 weights" in said
    assert (here / "out" / "report.md").read_text().startswith("# digits-trained\n")
    model, run = load(trained), read_run(trained)
    x, y = Experiment.from_run(run).batch(model)
    found = report(here / "out")
    assert found["summary"] == ep.gdu(model, x, y, 12, 4, 0.3, "centred").summary()
    assert found["weights"] == "trained, epoch 1"
    drawn_anew = run.build()
    assert found["summary"] != ep.gdu(drawn_anew, x, y, 12, 4, 0.3, "centred").summary()


def test_a_run_folder_in_double_precision_with_other_phases(trained, here):
    call(f"gdu {trained} --dtype float64 --estimator.nudged-steps 6 --estimator.beta 0.01 {PLAIN}").done()
    model = load(trained).double()
    x, y = Experiment.from_run(read_run(trained)).batch(model)
    assert report(here / "out")["summary"] == ep.gdu(model, x, y, 12, 6, 0.01, "centred").summary()


def test_a_run_folder_is_not_modified(trained):
    before = files(trained)
    call(f"gdu {trained} {PLAIN}").done()
    assert files(trained) == before


def test_a_recipe_takes_precedence_over_a_folder(here, trained):
    (here / "toy").mkdir()
    assert "initial weights" in call(f"{TOY} {PLAIN}").done()


def test_help_of_a_recipe_and_of_a_folder(trained):
    assert "(default: 800)" in call("gdu eb-1h --help").done()
    assert "(default: 0.3)" in call(f"gdu {trained} --help").done()
    said = call("gdu --help").done()
    names = set(re.findall(r"[\w-]+", said.split("recipes:")[1].split("RUN_FOLDER:")[0]))
    assert names == {*EXPERIMENTS, *RECIPES}


# mistakes

OPTIONS = {
    "xyzzy": "'xyzzy'",
    "toi": "'toi': did you mean 'toy'",
    "p-1": "'p-1': did you mean 'p-1h'",
    "--seed 1 toy": "'--seed'",
    "toy extra": "extra",
    "toy --beta 0.1": "--betas",
    "toy --component 3": "--components",
    "toy --epochs 3": "--epochs",
    "digits --estimator bptt": "bptt",
    "toy --estimator.nudged-steps 6000": "must be at most the 5000 free steps, got 6000",
    "toy --estimator.free-steps 79": "got 80",
    "toy --estimator.free-steps 0": "got 0",
    "toy --estimator.beta 0": "--estimator.beta must be non-zero and finite, got 0.0",
    "toy --estimator.beta nan": "got nan",
    "toy --betas 0.1 0": "--betas must be non-zero and finite, got 0.0",
    "toy --betas inf": "got inf",
    "toy --betas small": "'small'",
    "digits --model.dynamics.nudge outside --estimator.beta 1.5": " = 1.5",
    "digits --model.dynamics.nudge outside --betas 0.1 -1.5": " = -1.5",
    "toy --components 0": "--components must be a whole number of at least 1, got 0",
    "toy --dtype float16": "'float16'",
    "toy --seed -1": "got -1",
    "toy --threads 0": "got 0",
    "toy --device nonsense": "'nonsense'",
    "toy --name a/b": "'a/b'",
    "toy --data.batch-size 0": "got 0",
    "toy --data.name digits": "5 units",
    "toy --model.hidden 0": "got 0",
    "digits --model.sizes 63 10": "63 units",
    "digits --model.sizes 64 9": "got 9",
    "digits --model.activation sigmod": "did you mean 'sigmoid'",
    "digits --data.name minst": "did you mean 'mnist'",
    "toy --out=": "--out",
    "toy --out full": "full is not empty",
    "toy --out file": "file",
    "toy --out file/below": "file",
    "toy --out dangling": "dangling",
    "p-1h": "eqprop data fetch mnist",
    "p-1h --data.root missing": "missing",
    "full": "full holds no run",
    "file": "'file'",
}


@pytest.mark.parametrize("options", OPTIONS)
def test_mistakes(options, here, tmp_path):
    obstruct(here)
    before = files(tmp_path)
    assert OPTIONS[options] in call(f"gdu {options}").complaint()
    assert files(tmp_path) == before


def test_nothing_named():
    answer = call("gdu")
    assert (answer.code, answer.err) == (2, "")
    assert answer.out == call("gdu --help").done()


def test_weights_of_another_size(trained, tmp_path):
    before = files(tmp_path)
    complaint = call(f"gdu {trained} --model.sizes 64 7 10").complaint()
    assert "last.safetensors" in complaint
    assert files(tmp_path) == before


def test_a_run_without_a_checkpoint(here, tmp_path):
    create_run(recipe("digits"), here / "begun")
    before = files(tmp_path)
    assert "last.safetensors" in call("gdu begun").complaint()
    assert files(tmp_path) == before


def test_a_run_by_bptt(here, tmp_path):
    create_run(baseline(recipe("digits")), here / "bptt")
    before = files(tmp_path)
    assert "this run trains by BPTT" in call("gdu bptt").complaint()
    assert files(tmp_path) == before


def test_a_damaged_checkpoint(here, tmp_path):
    call("train digits --epochs 1 --no-plots --out run --model.sizes 64 4 10").done()
    weights = here / "run" / "checkpoint" / "last.safetensors"
    raw = weights.read_bytes()
    weights.write_bytes(raw[:-9] + bytes([raw[-9] ^ 1]) + raw[-8:])
    before = files(tmp_path)
    assert "last.safetensors" in call("gdu run").complaint()
    assert files(tmp_path) == before


# what cannot be helped


def test_interrupted_while_settling(tmp_path, monkeypatch):
    """Ctrl-C leaves no partial result."""

    monkeypatch.setattr("eqprop.cli.commands.gdu.run_experiment", interrupted)
    before = files(tmp_path)
    answer = call(f"{TOY} --out out")
    assert (answer.code, answer.out, answer.err) == (130, "", "stopped\n")
    assert files(tmp_path) == before


def test_interrupted_by_progress_of_a_free_phase(tmp_path, monkeypatch):
    told = []

    def tell(done, total):
        told.append((done, total))
        if done >= 1000:
            raise KeyboardInterrupt

    monkeypatch.setattr("eqprop.cli.console.tenths", lambda title: tell)
    before = files(tmp_path)
    assert call("gdu toy --estimator.free-steps 5000").code == 130
    assert told == [(500, 5000), (1000, 5000)]
    assert files(tmp_path) == before


@pytest.mark.parametrize("part", ["weights", "input"])
def test_non_finite_numbers_raise(part, tmp_path, monkeypatch):
    """Not a usage error: exit code 1 and one line."""
    build, batch = Experiment.build, Experiment.batch

    def bad_weights(self, *arguments):
        model = build(self, *arguments)
        with torch.no_grad():
            model.network.connections[0].weight[0, 0] = math.nan
        return model

    def bad_input(self, *arguments):
        x, y = batch(self, *arguments)
        x[2] = math.inf
        return x, y

    monkeypatch.setattr(Experiment, *(("build", bad_weights) if part == "weights" else ("batch", bad_input)))
    before = files(tmp_path)
    answer = call(f"{DIGITS} --out out")
    assert (answer.code, answer.out) == (1, "")
    assert ("connections.0.weight is not finite" if part == "weights" else "index 2") in answer.error()
    assert len(answer.err.splitlines()) == 1
    assert files(tmp_path) == before


@pytest.mark.parametrize("where", ["eqprop.cli.commands.gdu", "eqprop.theorem.result"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk(where, number, here, monkeypatch):
    def full(path, content):
        raise OSError(number, "the disk is full", str(path))

    monkeypatch.setattr(f"{where}.write_atomic", full)
    answer = call(f"{TOY} {PLAIN}")
    assert answer.code == 1
    assert answer.error() == "eqprop: out: the disk is full: make room, then do it again in another folder\n"
    assert cells(answer.out), "the table was said before"
    assert "results in" not in answer.out
    assert read_result(here / "out") is None


def test_a_full_disk_while_plotting(here, monkeypatch):
    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, "the disk is full", "increments.png")

    monkeypatch.setattr("eqprop.plots.increments", full)
    answer = call(f"{TOY} --out out")
    assert answer.code == 1
    assert "the results are written, but its figures could not be drawn: the disk is full: make room" in answer.error()
    assert read_result(here / "out") is not None


def test_a_read_only_folder(here, monkeypatch):
    """The error comes before any computation."""
    monkeypatch.setattr("eqprop.cli.targets.os.access", lambda path, mode: False)
    assert "is not writable" in call(f"{TOY} {PLAIN}").complaint()
    assert files(here) == {}


def test_without_matplotlib_results_are_written_and_the_extra_is_named(here, monkeypatch):
    for name in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    answer = call(f"{TOY} --betas 0.1 --out out")
    assert answer.code == 0
    assert answer.err == "eqprop: no pictures without matplotlib: pip install 'eqprop[plot]'\n"
    assert read_result(here / "out") is not None
    assert not (here / "out" / "plots").exists()
    call(f"{TOY} --no-plots --out other").done()  # who wants none is told nothing


def test_progress_of_a_long_run_is_printed(monkeypatch):
    monkeypatch.setattr("eqprop.cli.console.PATIENCE", -1.0)
    answer = call("gdu toy --estimator.free-steps 5000 --no-plots --out out")
    assert answer.code == 0
    assert answer.err.splitlines() == [f"toy, free phase: {done} of 5000" for done in range(500, 5000, 500)]


@pytest.mark.parametrize("columns", [60, 80, 160])
def test_tables_are_not_truncated_on_a_terminal(columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm-256color")
    said = frames(call(f"{TOY} {PLAIN}", terminal=True).done())
    ruled = [line for line in said if line[0] in "│┃|┏┡└├"]
    assert max(map(len, ruled)) <= columns
    text = "\n".join(ruled)
    assert "…" not in text
    for word in ("s2 (output)", "0→1 weight", "1→2 bias", "cosine", "relative error", "without nudge"):
        assert word in text


@pytest.mark.parametrize("stopped", [False, True])
def test_a_bar_on_a_terminal(stopped, monkeypatch):
    """The bar is removed and the cursor is shown, even after an error."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm-256color")
    if stopped:
        monkeypatch.setattr("eqprop.cli.commands.gdu.run_experiment", interrupted)
    out, err = Output(), Output(terminal=True)
    with redirect_stdout(out), redirect_stderr(err):
        code = main([*TOY.split(), "--no-plots", "--out", "out"])
    assert code == (130 if stopped else 0)
    shown = err.text()
    bars = [line for line in frames(shown) if "toy, free phase" in line]
    assert bars
    assert max(map(len, bars)) <= 80
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")
    assert shown.rindex("\x1b[2K") > shown.rindex("toy, free phase")
    assert shown.endswith("stopped\n") == stopped


def interrupted(*arguments, progress, **options):
    progress(20, 60)
    raise KeyboardInterrupt


def test_another_process_gets_the_same_result(here):
    assert elsewhere(command, [*TOY.split(), "--no-plots", "--out", "out"], here).done() == 0
    assert (here / COMPLAINED).read_text() == ""
    assert (here / SAID).read_text().splitlines()[-1] == "results in out"
    call(f"{TOY} --no-plots --out other").done()
    assert report(here / "out")["summary"] == report(here / "other")["summary"]

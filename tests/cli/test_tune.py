"""``eqprop tune``: table, heat map and file of all settings, and the recommended training command."""

import errno
import json
import math
import re
import sys
from dataclasses import asdict, replace
from itertools import islice, product

import pytest
import torch

import eqprop as ep
from command import call, files, obstruct
from eqprop.cli.commands.tune import Tune
from eqprop.data.sources import SOURCES
from eqprop.papers.registry import RECIPES, baseline, recipe
from eqprop.theorem.tuning import Cell, Grid, tune
from eqprop.training import create_run, load
from eqprop.training.config.run import Run
from eqprop.training.session import prepare_run, read_run
from small_sets import secluded, small_mnist

SMALL = "tune digits --model.sizes 64 6 10"
GRID = "--free-steps 4 9 --nudged-steps 2 6 --betas 0.1 0.2 --batches 2"
PLAIN = "--no-plots --out out"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """An empty working folder of a user without data sets and without a network."""
    return secluded(tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A tuning with all files, and its output."""
    folder = tmp_path_factory.mktemp("drawn") / "out"
    return folder, call(f"{SMALL} {GRID} --wanted 0.95 --out {folder}").done()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A short training."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    phases = "--estimator.free-steps 12 --estimator.nudged-steps 4 --estimator.beta 0.3"
    call(f"train digits --model.sizes 64 6 10 --epochs 1 --seed 3 --no-plots {phases} --out {folder}").done()
    return folder


def table(text: str) -> list[dict[str, str]]:
    """The rows of a table in Markdown, by the names of its columns."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    head, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [dict(zip(head, row, strict=True)) for row in rows]


def facts(folder) -> dict:
    return json.loads((folder / "tuning.json").read_text())


def small_run() -> Run:
    """Return the run of ``SMALL``."""
    run = recipe("digits")
    return replace(run, model=replace(run.model, sizes=(64, 6, 10)))


def test_the_table_has_every_setting(drawn):
    _, said = drawn
    settings = [(int(row["T"]), int(row["K"]), float(row["beta"])) for row in table(said)]
    assert settings == [(t, k, b) for t, k, b in product((4, 9), (2, 6), (0.1, 0.2)) if k <= t]


def test_the_table_agrees_with_the_file(drawn):
    folder, said = drawn
    assert "means over 2 batches, initial weights, centred." in said
    for row, cell in zip(table(said), facts(folder)["cells"], strict=True):
        assert int(row["T"]) == cell["free_steps"]
        assert int(row["steps per batch"]) == cell["cost"] == cell["free_steps"] + 2 * cell["nudged_steps"]
        assert row["same sign"] == f"{100 * cell['same_sign']:.1f}%"
        assert row["worst layer"] == f"{100 * cell['lowest']:.1f}%"
        assert float(row["relative error"]) == pytest.approx(cell["relative_error"], rel=0.01)
        assert float(row["cosine"]) == pytest.approx(cell["cosine"], abs=1e-4)
        assert float(row["residual"]) == pytest.approx(cell["residual"], rel=0.1)


def test_files_of_a_tuning(drawn):
    folder, said = drawn
    assert [name for name in files(folder) if "." in name] == [
        "environment.json", "plots/agreement.png", "plots/agreement.svg", "report.md", "tuning.json",
    ]  # fmt: skip
    text = (folder / "report.md").read_text()
    assert text.startswith("# digits\n")
    assert table(text) == table(said)
    for line in said.splitlines()[:-1]:
        assert line in text
    assert said.splitlines()[-1] == f"results in {folder}"


def test_the_result_agrees_with_the_library(drawn):
    folder, _ = drawn
    found, session = facts(folder), prepare_run(small_run())
    cells = tune(session.model, list(islice(session.train, 2)), Grid((4, 9), (2, 6), (0.1, 0.2), "centred"))
    assert found["cells"] == [asdict(cell) for cell in cells]
    assert Run.from_json(json.dumps(found["run"])) == small_run()
    assert {key: found[key] for key in ("weights", "batches", "wanted", "nudging")} == {
        "weights": "initial", "batches": 2, "wanted": 0.95, "nudging": "centred",
    }  # fmt: skip
    assert json.loads((folder / "environment.json").read_text())["torch"] == torch.__version__


def cheapest_by_hand(cells: list[dict], wanted: float) -> dict:
    return min((c for c in cells if c["same_sign"] >= wanted), key=lambda c: (c["cost"], -c["same_sign"]))


def command(said: str) -> list[str]:
    """Return the options of the estimator in the recommendation."""
    (line,) = [line for line in said.splitlines() if "--estimator.free-steps" in line]
    return line[line.index("--estimator") :].split()


@pytest.mark.parametrize("wanted", [0.0, 0.9, 0.95])
def test_the_recommended_options_train(wanted, drawn, here):
    folder, _ = drawn
    best = cheapest_by_hand(facts(folder)["cells"], wanted)
    said = call(f"{SMALL} {GRID} --wanted {wanted} {PLAIN}").done()
    setting = f"T = {best['free_steps']}, K = {best['nudged_steps']}, beta = {best['beta']}"
    line = f"Cheapest with at least {100 * wanted:g}% of the signs: {setting} ({best['cost']} steps per batch, "
    assert f"{line}{best['same_sign']:.1%})" in said
    call("train digits --model.sizes 64 6 10 --epochs 1 --no-plots --out run", *command(said)).done()
    assert read_run(here / "run").estimator == ep.EquilibriumProp(
        best["free_steps"], best["nudged_steps"], best["beta"], "centred"
    )


def test_the_command_for_an_unchanged_recipe_can_be_pasted(here):
    said = call(f"tune digits {GRID} --wanted 0 {PLAIN}").done()
    (line,) = [line.strip() for line in said.splitlines() if "eqprop train" in line]
    assert line.startswith("eqprop train digits --estimator.free-steps 4 --estimator.nudged-steps 2 --estimator.beta ")
    call(line.removeprefix("eqprop "), "--epochs 1 --no-plots --out run").done()
    assert read_run(here / "run").model == recipe("digits").model


@pytest.mark.parametrize(
    "options", ["--model.sizes 64 6 10", "--estimator.nudging one-sided", "--data.batch-size 7", "--name mine"]
)
def test_no_command_is_printed_for_a_changed_recipe(options):
    """The settings were measured with another model, nudging or batch size than the recipe's."""
    said = call(f"tune digits {GRID} {options} {PLAIN}").done()
    assert "eqprop train" not in said
    assert "train with the same options and --estimator.free-steps " in said


def test_beta_is_printed_in_full():
    said = call(f"{SMALL} --free-steps 9 --nudged-steps 6 --betas 0.123456789 --batches 1 {PLAIN}").done()
    assert "means over 1 batch, initial weights, centred." in said
    assert command(said)[-1] == "0.123456789"


def test_the_closest_setting_is_named_if_none_agrees_enough():
    said = call(f"{SMALL} --free-steps 4 --nudged-steps 1 2 --betas 0.1 --wanted 0.9999 {PLAIN}").done()
    top = max(table(said), key=lambda row: float(row["same sign"].rstrip("%")))
    assert (
        f"No setting agrees in 99.99% of the signs. The closest is T = {top['T']}, K = {top['K']}, beta = 0.1 (" in said
    )
    assert "eqprop train" not in said


def test_default_grid(here):
    """Half, once and twice the recipe's phases, a quarter to twice its strength."""
    call(
        f"tune digits --model.sizes 64 3 10 --estimator.free-steps 6 --estimator.nudged-steps 3 --batches 1 {PLAIN}"
    ).done()
    cells = facts(here / "out")["cells"]
    settings = [(c["free_steps"], c["nudged_steps"], c["beta"]) for c in cells]
    assert settings == [
        (t, k, b) for t, k, b in product((3, 6, 12), (1, 3, 6), (0.05, 0.1, 0.2, 0.4)) if k <= t
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("dynamics", "beta", "tried"),
    [
        (ep.Prototypical(), 0.5, (0.125, 0.25, 0.5)),  # beyond 0.6 the outside nudge alternates
        (ep.Prototypical(), 0.7, (0.175, 0.35, 0.7)),
        (ep.Prototypical(), -0.5, (-0.5, -0.25, -0.125)),
        (ep.Prototypical(nudge="inside"), 0.5, (0.125, 0.25, 0.5)),  # from 1 on the inside nudge may alternate
        (ep.Prototypical(nudge="inside"), 0.4, (0.1, 0.2, 0.4, 0.8)),
        (ep.EnergyDescent(), 0.5, (0.125, 0.25, 0.5)),  # from 1 on the phase at -beta has no minimum
    ],
)
def test_default_betas_are_stable(dynamics, beta, tried):
    run = small_run()
    options = Tune(
        replace(run, model=replace(run.model, dynamics=dynamics), estimator=replace(run.estimator, beta=beta))
    )
    assert options.grid.betas == pytest.approx(tried)
    assert options.grid.nudging == "centred"


def test_one_step_is_the_shortest_phase():
    run = replace(small_run(), estimator=ep.EquilibriumProp(1, 1, 0.1))
    assert (Tune(run).grid.free_steps, Tune(run).grid.nudged_steps) == ((1, 2), (1, 2))


def test_nudging_is_that_of_the_estimator(here):
    call(f"{SMALL} {GRID} --estimator.nudging one-sided {PLAIN}").done()
    found = facts(here / "out")
    assert found["nudging"] == "one-sided"
    assert all(cell["cost"] == cell["free_steps"] + cell["nudged_steps"] for cell in found["cells"])


def test_number_and_size_of_batches(here, monkeypatch):
    seen = []

    def noted(model, batches, grid, progress):
        seen.extend((len(x), len(y)) for x, y in batches)
        return [Cell(4, 2, 0.1, 8, 0.0, 1.0, 1.0, 0.0, 1.0)]

    monkeypatch.setattr("eqprop.cli.commands.tune.tune", noted)
    call(f"{SMALL} --batches 4 --data.batch-size 30 {PLAIN}").done()
    assert seen == [(30, 30)] * 4


def test_threads_are_those_of_the_run(here):
    call(f"{SMALL} --free-steps 4 --nudged-steps 2 --betas 0.1 --batches 1 --threads 2 {PLAIN}").done()
    assert json.loads((here / "out" / "environment.json").read_text())["threads"] == 2
    assert torch.get_num_threads() == 1


def test_a_run_folder_provides_weights(trained, here):
    said = call(f"tune {trained} --free-steps 12 --nudged-steps 4 --betas 0.3 --batches 2 {PLAIN}").done()
    assert "trained, epoch 1 weights, centred" in said
    found, session = facts(here / "out"), prepare_run(read_run(trained))
    grid, batches = Grid((12,), (4,), (0.3,), "centred"), list(islice(session.train, 2))
    assert found["cells"] == [asdict(cell) for cell in tune(load(trained), batches, grid)]
    assert found["cells"] != [asdict(cell) for cell in tune(session.model, batches, grid)]
    assert found["weights"] == "trained, epoch 1"


def test_a_run_folder_provides_the_default_phases_and_is_not_modified(trained, here):
    before = files(trained)
    call(f"tune {trained} --batches 1 {PLAIN}").done()
    assert files(trained) == before
    cells = facts(here / "out")["cells"]
    assert {c["free_steps"] for c in cells} == {6, 12, 24}
    assert {c["nudged_steps"] for c in cells} == {2, 4, 8}


def test_the_next_free_folder_is_used(here):
    for _ in range(2):
        call(f"{SMALL} --free-steps 2 --nudged-steps 1 --betas 0.1 --batches 1 --no-plots").done()
    assert sorted(path.name for path in (here / "runs").iterdir()) == ["tune-digits", "tune-digits-2"]


def test_files_contain_no_personal_data(here, monkeypatch):
    small = small_mnist()
    monkeypatch.setitem(SOURCES, "mnist", small.source)
    small.put(here / "root")
    options = "--model.sizes 784 5 10 --free-steps 4 --nudged-steps 2 --betas 0.1 --batches 1"
    call(f"tune p-1h {options} --data.root {here / 'root'} {PLAIN}").done()
    assert all(str(here).encode() not in content for content in files(here / "out").values())


def test_help_texts():
    said = call("tune --help").done()
    names = set(re.findall(r"[\w-]+", said.split("recipes:")[1].split("RUN_FOLDER:")[0]))
    assert names == set(RECIPES)
    for option in (
        "--free-steps",
        "--nudged-steps",
        "--betas",
        "--batches",
        "--wanted",
        "--out",
        "--device",
        "--plots",
    ):
        assert f"│ {option}" in call("tune digits --help").done()


# mistakes

OPTIONS = {
    "xyzzy": "'xyzzy'",
    "digts": "'digts': did you mean 'digits'",
    "toy": "'toy'",  # a check of the theorem, and nothing to train
    "--batches 2 digits": "'--batches'",
    "digits extra": "extra",
    "digits --beta 0.1": "--betas",
    "digits --free-steps 0": "--free-steps must be a whole number of at least 1, got 0",
    "digits --free-steps ten": "'ten'",
    "digits --nudged-steps -1": "got -1",
    "digits --free-steps 5 8 --nudged-steps 9": "must be at most the 8 free steps, got 9",
    "digits --estimator.free-steps 4": "must be at most the 4 free steps, got 10",
    "digits --estimator.free-steps 0": "got 0",
    "digits --betas 0": "--betas must be non-zero and finite, got 0.0",
    "digits --betas nan": "got nan",
    "digits --model.dynamics.nudge outside --betas 1.5": " = 1.5",
    "digits --model.dynamics.nudge outside --estimator.beta 1.5": "1.5",
    "digits --batches 0": "--batches must be a whole number of at least 1, got 0",
    "digits --wanted 90": "--wanted must be",
    "digits --wanted -0.1": "got -0.1",
    "digits --wanted nan": "got nan",
    "digits --device nonsense": "'nonsense'",
    "digits --name a/b": "'a/b'",
    "digits --estimator bptt": "bptt",
    "digits --estimator.beta 0": "got 0.0",
    "digits --model.sizes 63 10": "63 units",
    "digits --model.sizes 64 9": "got 9",
    "digits --data.name minst": "did you mean 'mnist'",
    "digits --out=": "--out",
    "digits --out full": "full is not empty",
    "digits --out file": "file",
    "digits --out file/below": "file",
    "digits --out dangling": "dangling",
    "p-1h": "eqprop data fetch mnist",
    "full": "full holds no run",
}


@pytest.mark.parametrize("options", OPTIONS)
def test_mistakes(options, here, tmp_path):
    obstruct(here)
    before = files(tmp_path)
    assert OPTIONS[options] in call(f"tune {options}").complaint()
    assert files(tmp_path) == before


def test_weights_of_another_size(trained, tmp_path):
    before = files(tmp_path)
    assert "last.safetensors" in call(f"tune {trained} --model.sizes 64 7 10").complaint()
    assert files(tmp_path) == before


def test_a_run_by_bptt(here, tmp_path):
    create_run(baseline(recipe("digits")), here / "bptt")
    before = files(tmp_path)
    assert "this run trains by BPTT" in call("tune bptt").complaint()
    assert files(tmp_path) == before


# what cannot be helped


def test_interrupted_while_tuning(tmp_path, monkeypatch):
    told = []

    def tell(done, total):
        told.append((done, total))
        if done == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("eqprop.cli.console.tenths", lambda title: tell)
    before = files(tmp_path)
    answer = call(f"{SMALL} {GRID} --out out")
    assert (answer.code, answer.out, answer.err) == (130, "", "stopped\n")
    assert told == [(n, 2 * 6) for n in (1, 2, 3)]
    assert files(tmp_path) == before


def test_non_finite_weights(tmp_path, monkeypatch):
    build = Run.build

    def bad(self):
        model = build(self)
        with torch.no_grad():
            model.network.connections[0].weight[0, 0] = math.nan
        return model

    monkeypatch.setattr(Run, "build", bad)
    before = files(tmp_path)
    answer = call(f"{SMALL} {GRID} --out out")
    assert (answer.code, answer.out) == (1, "")
    assert "digits: parameter connections.0.weight is not finite" in answer.error()
    assert files(tmp_path) == before


def test_a_full_disk(here, monkeypatch):
    def full(path, content):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr("eqprop.cli.commands.tune.write_atomic", full)
    answer = call(f"{SMALL} {GRID} {PLAIN}")
    assert answer.code == 1
    assert answer.error() == "eqprop: out: No space left on device: make room, then do it again in another folder\n"
    assert len(table(answer.out)) == 6, "the table was said before"
    assert not (here / "out" / "tuning.json").exists()


def test_without_matplotlib_results_are_written_and_the_extra_is_named(here, monkeypatch):
    for name in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    answer = call(f"{SMALL} {GRID} --out out")
    assert answer.code == 0
    assert answer.err == "eqprop: no pictures without matplotlib: pip install 'eqprop[plot]'\n"
    assert [name for name in files(here / "out") if "." in name] == ["environment.json", "report.md", "tuning.json"]
    call(f"{SMALL} {GRID} --no-plots --out other").done()

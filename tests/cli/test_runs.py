"""Commands that succeed: their output without a terminal, and the files that they write."""

import getpass
import json
import platform
import re
import sys
from dataclasses import replace

import pytest
import torch

from command import call, files
from eqprop import BPTT, ContinualEP, EquilibriumProp, Settle
from eqprop.cli import main
from eqprop.cli.overrides import apply_overrides
from eqprop.papers.registry import RECIPES, baseline, recipe
from eqprop.training import checkpoint
from eqprop.training.run_folder import RunFolder
from eqprop.training.session import create_run, read_run
from picture_files import sketched
from small_trainings import assert_nearly, timeless

TRAIN = "train digits --no-plots"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of two epochs with a validation split and figures, and the output of its training."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    return folder, call(f"train digits --epochs 2 --data.validation 200 --seed 3 --out {folder}").done()


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """EP and BPTT, two seeds, with a learning rate that does not change the weights, and too few samples for a warning."""
    folder = tmp_path_factory.mktemp("compared") / "runs"
    options = "--no-plots --epochs 1 --seeds 2 --seed 5 --optimizer.rates 1e-30 --data.validation 1340"
    return folder, call(f"compare digits {options} --out {folder}").done()


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Work in an empty folder."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def rows(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def cells(table: str) -> list[list[str]]:
    """Return the cells of a Markdown table."""
    lines = [line for line in table.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def weights(folder) -> dict[str, torch.Tensor]:
    tensors, _ = checkpoint.read(RunFolder(folder).last)
    return {name: tensor for name, tensor in tensors.items() if name.startswith("model.")}


def test_a_line_an_epoch_without_a_terminal(trained):
    folder, said = trained
    *lines, last = said.splitlines()
    number = r"\d+\.\d+"
    for line, row in zip(lines, rows(folder), strict=True):
        assert re.fullmatch(
            rf"digits, EP, seed 3   epoch {row['epoch']}/2   train +{number}%   validation +{number}%   test +{number}%   "
            rf"cost {number}   residual \d\.\de-\d\d   nudged \d\.\de-\d\d   20 steps   {number} s",
            line,
        )
        percents = [float(found) for found in re.findall(rf"({number})%", line)]
        assert percents == [round(100 * row[f"{part}_error"], 2) for part in ("train", "validation", "test")]
    assert last == f"results in {folder}"


def test_what_a_run_leaves(trained):
    folder, _ = trained
    assert sorted(name for name in files(folder) if "." in name) == [
        "checkpoint/best.safetensors", "checkpoint/last.safetensors", "config.json", "environment.json", "metrics.jsonl",
        *(f"plots/{name}.{ending}" for name in ("activities", "errors", "settling") for ending in ("png", "svg")),
    ]  # fmt: skip
    names = {"epoch", "train_cost", "train_error", "validation_error", "test_error", "residual", "steps", "seconds"}
    assert all(names <= row.keys() for row in rows(folder))
    assert [row["epoch"] for row in rows(folder)] == [1, 2]
    run = read_run(folder)
    assert (run.seed, run.epochs, run.data.validation) == (3, 2, 200)
    assert (run.model, run.estimator, run.optimizer) == tuple(
        getattr(recipe("digits"), part) for part in ("model", "estimator", "optimizer")
    )


def test_files_of_a_run_do_not_name_user_machine_or_folder(trained):
    folder, _ = trained
    for name, content in files(folder).items():
        if content is not None and not name.endswith(".png"):
            text = content[: 8 + int.from_bytes(content[:8], "little")] if name.endswith(".safetensors") else content
            for secret in (str(folder), platform.node(), f"/{getpass.getuser()}", str(folder.parent)):
                assert secret.encode() not in text, (
                    name
                )  # of weights their header: in numbers any two letters may stand


@pytest.mark.parametrize("which", ["last", "best"])
def test_evaluate_finds_what_was_measured(which, trained):
    folder, _ = trained
    found = rows(folder)
    row = found[-1] if which == "last" else min(found, key=lambda row: row["validation_error"])
    head, *parts = cells(call(f"evaluate {folder} --which {which}").done())
    assert head == ["part", "samples", "cost", "error", "residual", "steps"]
    assert [(part[0], part[1]) for part in parts] == [("train", "1237"), ("validation", "200"), ("test", "360")]
    for name, _, cost, error, _, steps in parts[1:]:
        assert cost == f"{row[f'{name}_cost']:.5f}"
        assert error == f"{row[f'{name}_error']:.2%}"
        assert steps == "20"


def test_the_next_free_folder_is_taken(here):
    for _ in range(2):
        call(f"{TRAIN} --epochs 1").done()
    call("compare digits --no-plots --epochs 1").done()
    assert sorted(path.name for path in (here / "runs").iterdir()) == ["compare-digits", "digits", "digits-2"]
    assert timeless(rows(here / "runs" / "digits")) == timeless(rows(here / "runs" / "digits-2"))


def test_several_at_once_take_a_folder_each(here, monkeypatch):
    """Without --out, a run that another process creates meanwhile is no error: the next number is taken."""

    def other(*arguments):
        create_run(replace(recipe("digits"), seed=9), "runs/digits")

    monkeypatch.setattr("eqprop.cli.runs.prepare_run", other)
    monkeypatch.setattr("eqprop.cli.runs.check_training", lambda prepared: None)
    call(f"{TRAIN} --epochs 1").done()
    assert read_run(here / "runs" / "digits").seed == 9
    assert read_run(here / "runs" / "digits-2").seed == 0


@pytest.mark.parametrize("out", ["a/b/c", "Größe 網"])
def test_a_folder_may_be_called_anything(out, here, monkeypatch):
    (here / "empty").mkdir()
    monkeypatch.chdir(here / "empty")
    assert main(["train", "digits", "--no-plots", "--epochs", "1", "--out", out]) == 0
    assert main(["evaluate", out]) == 0
    assert len(rows(here / "empty" / out)) == 1


def test_both_ways_to_write_an_option_and_the_last_one_counts(here):
    call(f"{TRAIN} --epochs=3 --epochs 1 --optimizer=adam --optimizer adamw --optimizer.rates=1e-3 --out=run").done()
    run = read_run(here / "run")
    assert run.epochs == 1
    assert type(run.optimizer).__name__ == "AdamW"


@pytest.mark.parametrize(
    ("options", "part", "expected"),
    [
        ("--estimator ep", "estimator", "EquilibriumProp(free_steps=20, nudged_steps=10, beta=0.2, nudging='centred')"),
        ("--estimator bptt", "estimator", "BPTT(free_steps=20, unrolled_steps=11, surrogate=False)"),
        (
            "--estimator bptt --estimator.unrolled-steps 5",
            "estimator",
            "BPTT(free_steps=20, unrolled_steps=5, surrogate=False)",
        ),
        ("--estimator implicit", "estimator", "ImplicitDiff(free_steps=20"),
        (
            "--estimator continual-ep",
            "estimator",
            "ContinualEP(free_steps=20, nudged_steps=10, beta=0.2, nudging='centred')",
        ),
        ("--estimator continual-sgd", "estimator", "ContinualSGD(free_steps=20, nudged_steps=10, beta=0.2, rates=None"),
        ("--estimator continual-sgd --estimator.rates 0.02 0.01", "estimator", "rates=(0.02, 0.01), nudging='centred'"),
        ("--estimator continual-sgd --estimator.rates 0", "estimator", "rates=(0.0,), nudging='centred'"),
        ("--estimator continual-sgd --estimator.rates None", "estimator", "rates=None, nudging='centred'"),
        ("--estimator.free-steps 40:1e-3", "estimator", "free_steps=Settle(steps=40, tol=0.001"),
        ("--estimator.beta -0.3 --estimator.nudging one-sided", "estimator", "beta=-0.3, nudging='one-sided'"),
        ("--optimizer adam", "optimizer", "Adam(rates=(0.001,), betas=(0.9, 0.999)"),
        ("--optimizer adam --optimizer.betas 0.8 0.99", "optimizer", "betas=(0.8, 0.99)"),
        ("--optimizer.rates 0.2 0.1 --optimizer.momentum 0.5", "optimizer", "SGD(rates=(0.2, 0.1), momentum=0.5"),
        ("--optimiser adam --optimiser.rates=0.01", "optimizer", "Adam(rates=(0.01,)"),
        ("--data.normalise 0.1:0.3", "data", "normalize=Normalize(mean=(0.1,), std=(0.3,))"),
        ("--schedule constant", "schedule", "Constant()"),
        ("--schedule step --schedule.every 2", "schedule", "StepDecay(every=2"),
        ("--schedule.floor 0.1", "schedule", "Cosine(floor=0.1)"),
        ("--model.sizes 64 32 16 10 --model.activation tanh", "model", "MLP(sizes=(64, 32, 16, 10), activation='tanh'"),
        ("--model.no-tied --model.angle 45", "model", "tied=False, angle=45.0"),
        ("--model.dynamics.nudge outside --estimator.beta 0.1", "model", "Prototypical(nudge='outside')"),
        ("--data.batch-size 100 --data.validation 30", "data", "batch_size=100, validation=30"),
    ],
)
def test_options_set_fields_of_the_run(options, part, expected, here, monkeypatch):
    monkeypatch.setattr("eqprop.cli.commands.train.train_runs", lambda *arguments: None)
    assert call(f"{TRAIN} --out run {options}").done() == "results in run\n"
    run = read_run(here / "run")
    assert expected in repr(getattr(run, part))


def test_a_step_schedule_steps_also_in_a_short_training(here):
    call(f"{TRAIN} --epochs 3 --schedule step --out run").done()
    assert rows(here / "run")[-1]["rates"][0] < 0.3


def test_another_estimator_trains_as_well(here):
    for word, name in (
        ("bptt", "BPTT"),
        ("implicit", "ImplicitDiff"),
        ("continual-ep", "C-EP"),
        ("continual-sgd", "C-EP"),
    ):
        options = f"--epochs 1 --estimator {word} --out {word}" + (" --optimizer.rates 0.15" if name == "C-EP" else "")
        assert f"digits, {name}, seed 0" in call(f"{TRAIN} {options}").done()
        assert rows(here / word)[0]["test_error"] < 0.5


def test_estimators_are_replaced_and_restored():
    """Replacing an estimator keeps T, K, beta and nudging, so that replacing it back restores the run."""
    run = recipe("cvf-1h")
    for words in (["ep", "continual-sgd"], ["continual-ep", "continual-sgd"], ["continual-sgd"]):
        again = run
        for word in words:
            again = apply_overrides(again, ["--estimator", word])
        assert again == run
    assert apply_overrides(recipe("p-1h"), ["--estimator", "ep"]) == recipe("p-1h")
    settle = replace(run, estimator=EquilibriumProp(40, Settle(15, tol=1e-3), 0.2))
    assert apply_overrides(settle, ["--estimator", "continual-ep"]).estimator == ContinualEP(40, 15, 0.2)


def test_rates_of_the_optimizer_are_those_of_a_continual_phase(here):
    """--optimizer.rates also sets the rates inside the nudged phase, unless --estimator.rates is given."""
    words = f"{TRAIN} --epochs 1 --estimator continual-sgd --optimizer.rates 0.05 0.02"
    call(f"{words} --out one").done()
    call(f"{words} --estimator.rates 0.05 0.02 --schedule constant --out two").done()
    call(f"{words} --estimator.rates 0 --out three").done()
    one, two, three = (rows(here / name)[0]["train_cost"] for name in ("one", "two", "three"))
    assert one == two != three


def test_a_continual_recipe_is_compared_with_bptt(here):
    words = "--no-plots --epochs 1 --data.name digits --model.sizes 64 16 10 --estimator.free-steps 20"
    _, *lines = cells(call(f"compare cvf-1h {words} --out both").done())
    assert [line[0] for line in lines] == ["cvf-1h, C-VF", "cvf-1h, BPTT"]
    assert read_run(here / "both" / "c-vf" / "seed-0").estimator.free_steps == 20
    assert read_run(here / "both" / "bptt" / "seed-0").estimator == BPTT(20, 16)


def test_seeds_are_runs_of_their_own(here):
    said = call(f"{TRAIN} --epochs 1 --seeds 2 --seed 4 --out both").done()
    call(f"{TRAIN} --epochs 1 --seed 5 --out alone").done()
    assert_nearly(here / "both" / "seed-5", here / "alone")
    assert (here / "both" / "seed-5" / "config.json").read_bytes() == (here / "alone" / "config.json").read_bytes()
    head, line = cells(said)
    assert head[:3] == ["run", "seeds", "epochs"]
    assert line[:3] == ["digits, EP", "2", "1"]
    assert cells((here / "both" / "comparison.md").read_text()) == [head, line]
    assert said.splitlines()[-1] == "results in both"


def test_ep_and_bptt_start_from_the_same_weights(compared):
    folder, _ = compared
    for seed in (5, 6):
        first, second = (weights(folder / method / f"seed-{seed}") for method in ("ep", "bptt"))
        drawn = read_run(folder / "ep" / f"seed-{seed}").build().state_dict()
        assert first.keys() == second.keys() == {f"model.{name}" for name in drawn}
        for name, tensor in first.items():
            assert torch.equal(tensor, second[name])
            assert torch.equal(tensor, drawn[name.removeprefix("model.")])
    assert not torch.equal(*(next(iter(weights(folder / "ep" / f"seed-{seed}").values())) for seed in (5, 6)))


def test_ep_and_bptt_see_the_same_batches_and_nothing_else_differs(compared):
    folder, _ = compared
    for seed in (5, 6):
        ep, bptt = (read_run(folder / method / f"seed-{seed}") for method in ("ep", "bptt"))
        assert bptt == baseline(ep)
        (one,), (two,) = (timeless(rows(folder / method / f"seed-{seed}")) for method in ("ep", "bptt"))
        assert one.pop("rates") == two.pop("rates")
        assert all(one.pop(name) > 0 for name in ("nudged_residual", "nudged_distance", "nudge"))  # of EP alone
        assert one == pytest.approx(two)  # with weights that do not move all means are over the same samples


def test_compare_says_and_leaves_a_table(compared):
    folder, said = compared
    head, *lines = cells(said)
    assert [line[:3] for line in lines] == [["digits, EP", "2", "1"], ["digits, BPTT", "2", "1"]]
    assert all(len(line) == len(head) for line in lines)
    text = (folder / "comparison.md").read_text()
    assert cells(text) == [head, *lines]
    assert "as recalled" in text
    errors = [rows(folder / "ep" / f"seed-{seed}")[0]["test_error"] * 100 for seed in (5, 6)]
    assert lines[0][head.index("test error")].startswith(f"{sum(errors) / 2:.2f} ± ")


def test_a_comparison_that_is_resumed_tells_the_same(compared):
    folder, said = compared
    before = files(folder)
    again = call(f"train --resume {folder} --no-plots").done()
    assert again.count("is finished") == 4
    assert cells(again) == cells(said)
    assert files(folder) == before


def test_compare_draws_a_picture(here, monkeypatch):
    sketched(monkeypatch)
    said = call("compare digits --epochs 1 --out both").done()
    for ending in ("png", "svg"):
        assert (here / "both" / "plots" / f"errors.{ending}").is_file()
        assert (here / "both" / "ep" / "seed-0" / "plots" / f"errors.{ending}").is_file()
    assert "both/plots/errors.png" in said


def test_pictures_of_a_run_can_be_drawn_again(trained, here):
    folder, _ = trained
    before = files(folder)
    assert call(f"plot {folder}").done() == f"plots in {folder / 'plots'}\n"
    assert files(folder) == before


def test_pictures_of_several_runs(compared, monkeypatch):
    sketched(monkeypatch)
    folder = compared[0] / "ep"
    said = call(f"plot {folder}").done().splitlines()
    places = [folder / "seed-5", folder / "seed-6", folder]
    assert sorted(said) == sorted(f"plots in {place / 'plots'}" for place in places)
    assert all((place / "plots" / "errors.png").is_file() for place in places)


@pytest.mark.parametrize("command", ["evaluate {}", "plot {}"])
def test_a_device_that_is_not_there(command, trained):
    folder, _ = trained
    before = files(folder)
    assert "'nonsense'" in call(f"{command.format(folder)} --device nonsense").complaint()
    assert files(folder) == before


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard(here):
    pytest.importorskip("tensorboard")
    call(f"{TRAIN} --epochs 1 --tensorboard --out run").done()
    assert [path.name.startswith("events.") for path in (here / "run" / "tensorboard").iterdir()] == [True]


def test_without_matplotlib_the_training_succeeds_and_a_line_says_how_to_install_it(here, monkeypatch):
    for name in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    answer = call("train digits --epochs 1 --seeds 2 --out run")
    assert answer.code == 0
    assert [len(rows(here / "run" / f"seed-{seed}")) for seed in (0, 1)] == [1, 1]
    assert "pip install 'eqprop[plot]'" in answer.err
    assert len(answer.err.splitlines()) == 1
    assert "eqprop[plot]" in call("plot run").complaint()


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_has_its_help(name):
    said = call(f"train {name} --help").done()
    assert f"usage: eqprop train {name}" in said
    assert str(recipe(name).epochs) in said

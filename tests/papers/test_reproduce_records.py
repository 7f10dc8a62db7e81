"""``eqprop reproduce`` with records, in its reduced version, without data; and whether the paper's commands are its trainings."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import eqprop as ep
from command import call, files
from eqprop.cli.commands.reproduce import Reproduce
from eqprop.data.sources import SOURCES
from eqprop.models.toy import Toy
from eqprop.papers.ernoult2019.reproduction import ERNOULT2019
from eqprop.papers.registry import baseline, experiment, recipe
from eqprop.papers.reproduction.paper import Check, Paper, Row
from eqprop.papers.reproduction.records import find_result, find_trainings, result_in
from eqprop.theorem.experiment import RANDOM
from eqprop.theorem.result import read
from eqprop.training import SGD, Data, Run
from eqprop.training.run_folder import RunFolder
from eqprop.training.session import read_run
from eqprop.training.summary import summarize
from small_paper import (
    CALL,
    EXACT,
    PAPER,
    ROWS,
    TINY,
    TOY,
    account,
    begin,
    forbidden,
    keep,
    known,
    moments,
    tables,
    undrawn,
)
from small_sets import secluded, small_mnist

CHECKOUT = (Path(ep.__file__).parents[2] / "records").is_dir()


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A user without data sets and without a network, who knows one tiny paper."""
    known(monkeypatch)
    undrawn(monkeypatch)
    return secluded(tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """Records of both checks, and of the first seed of both trainings, in folders of any name."""
    folder = tmp_path_factory.mktemp("records")
    for n, check in enumerate((TOY, EXACT)):
        keep(check.experiment, folder / "checks" / str(n), check.betas)
    for n, run in enumerate((TINY, baseline(TINY))):
        begin(run, folder / f"trained-{n}")
    return folder


# records


def test_records_are_taken(records, here, monkeypatch):
    for name in ("conduct", "carry_out", "start"):
        monkeypatch.setattr(f"eqprop.cli.reproduction.{name}", forbidden)
    before = files(records)
    said = call(f"reproduce tiny2026 --records {records} --train tiny --seeds 1 --out out").done()
    assert [line.split(": ")[1] for line in said.splitlines()[:4]] == ["taken from the records"] * 2 + ["is there"] * 2
    assert files(records) == before
    for n, check in enumerate((TOY, EXACT)):
        assert read(here / "out" / "theorem" / check.experiment.name) == read(records / "checks" / str(n))
    *_, errors, runs = tables(account(here / "out"))
    assert [row["seeds"] for row in errors] == ["1", "1"]
    assert [row["seeds"] for row in runs] == ["0", "0"]
    rows = summarize([RunFolder(records / "trained-0").rows()])
    assert errors[0]["test error here"] == rows.test.percent()


def test_of_what_is_recorded_only_the_rest_is_trained(records, here):
    said = call(f"reproduce tiny2026 --records {records} --train tiny --seeds 2 --out out").done()
    assert said.count(": trained") == 2
    assert sorted(path.parent.name for path in (here / "out").rglob("config.json")) == ["seed-1", "seed-1"]
    assert [row["seeds"] for row in tables(account(here / "out"))[-1]] == ["0, 1", "0, 1"]


def test_fresh_takes_nothing_from_them(records, here):
    said = call(f"reproduce tiny2026 --records {records} --fresh --train tiny --seeds 1 --out out").done()
    assert said.count(": done in") == 2
    assert said.count(": trained") == 2
    found = tables(account(here / "out"))
    call(f"reproduce tiny2026 --records {records} --fresh --out other").done()
    assert [row["test error here"] for row in tables(account(here / "other"))[2]] == ["not run yet"] * 2
    assert [row["seeds"] for row in found[2]] == ["1", "1"]


CHANGES = {
    "seed": {"seed": 1},
    "beta": {"estimator": ep.EquilibriumProp(60, 5, 0.02)},
    "K": {"estimator": ep.EquilibriumProp(60, 4, 0.01)},
    "T": {"estimator": ep.EquilibriumProp(61, 5, 0.01)},
    "nudging": {"estimator": ep.EquilibriumProp(60, 5, 0.01, "centred")},
    "precision": {"dtype": "float64"},
    "model": {"model": Toy(hidden=7)},
    "batch": {"data": Data(RANDOM, 2)},
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_recorded_experiment_of_another_configuration_is_not_taken(change, tmp_path):
    """Whatever its folder is called."""
    keep(replace(TOY.experiment, **CHANGES[change]), tmp_path / "theorem" / "tiny-toy")
    assert find_result(TOY, tmp_path) is None
    assert result_in(tmp_path / "theorem" / "tiny-toy", TOY) is None
    keep(TOY.experiment, tmp_path / "x")
    assert find_result(TOY, tmp_path) == tmp_path / "x"


def test_a_recorded_experiment_on_trained_weights_is_not_taken(tmp_path):
    keep(TOY.experiment, tmp_path / "a", weights="trained, epoch 3")
    assert find_result(TOY, tmp_path) is None


@pytest.mark.parametrize(
    ("betas", "taken"), [((), False), ((0.1,), False), ((0.1, 0.001), True), ((1.0, 0.001, 0.1), True)]
)
def test_a_recorded_experiment_has_all_strengths_or_is_not_taken(betas, taken, tmp_path):
    keep(EXACT.experiment, tmp_path / "a", betas)
    assert (find_result(EXACT, tmp_path) is not None) == taken


def test_a_damaged_record_is_passed_over(tmp_path):
    keep(TOY.experiment, tmp_path / "a")
    (tmp_path / "a" / "report.json").write_bytes(b"\xff")
    assert find_result(TOY, tmp_path) is None
    keep(TOY.experiment, tmp_path / "b")
    assert find_result(TOY, tmp_path) == tmp_path / "b"


RUNS = {
    "rates": {"optimizer": SGD(0.2)},
    "epochs": {"epochs": 1},
    "beta": {"estimator": ep.EquilibriumProp(6, 3, 0.1, "centred")},
    "method": {"estimator": baseline(TINY).estimator},
    "model": {"model": replace(TINY.model, sizes=(64, 7, 10))},
    "batch": {"data": Data("digits", 61)},
    "held out": {"data": Data("digits", 60, validation=10)},
    "name": {"name": "other"},
    "threads": {"threads": 2},
}


@pytest.mark.parametrize("change", RUNS)
def test_a_recorded_training_of_another_configuration_is_not_taken(change, tmp_path, records):
    shutil.copytree(records / "trained-0", tmp_path / "ep-seed-0")
    row = Row(TINY, ROWS[0])
    assert [training.run for training in find_trainings(row, [tmp_path])] == [TINY]
    RunFolder(tmp_path / "ep-seed-0").config.write_text(replace(TINY, **RUNS[change]).to_json())
    assert find_trainings(row, [tmp_path]) == []


def test_seeds_are_found_in_their_order_and_each_once(tmp_path, records):
    for n, seed in enumerate((3, 0, 3, 1)):
        shutil.copytree(records / "trained-0", tmp_path / str(n))
        RunFolder(tmp_path / str(n)).config.write_text(replace(TINY, seed=seed).to_json())
    found = find_trainings(Row(TINY, ROWS[0]), [tmp_path, records])
    assert [training.run.seed for training in found] == [0, 1, 3]
    assert found[0].epochs == RunFolder(records / "trained-0").rows()


@pytest.mark.parametrize("file", ["config.json", "metrics.jsonl", "environment.json"])
@pytest.mark.parametrize("damage", [None, b"", b"\xff{"])
def test_a_damaged_training_is_passed_over(file, damage, tmp_path, records):
    shutil.copytree(records / "trained-0", tmp_path / "a")
    path = tmp_path / "a" / file
    path.unlink()
    if damage is not None:
        path.write_bytes(damage)
    assert find_trainings(Row(TINY, ROWS[0]), [tmp_path]) == []


@pytest.mark.skipif(not CHECKOUT, reason="the package is not in its checkout, as when it is installed")
def test_the_records_of_the_checkout_are_where_they_are_looked_for():
    """Left out, `--records` is the folder beside the package; there are trainings of this paper in it."""
    from eqprop.cli.commands.reproduce import recorded

    (folder,) = recorded(Reproduce())
    assert (folder / "README.md").is_file()
    assert recorded(Reproduce(fresh=True)) == []
    rows = {row.command: row for row in ERNOULT2019.rows}
    assert [t.run.seed for t in find_trainings(rows["eqprop train p-1h"], [folder])] == [0, 1, 2, 3, 4]


# a reduced version


def test_quick_is_a_reduced_version(here):
    said = call("reproduce tiny2026 --quick --fresh").done()
    out = here / "runs" / "reproduce-tiny2026-quick"
    assert "theorem 1/1, tiny-toy: done in" in said
    assert said.count(": trained") == 2
    assert {read_run(config.parent).epochs for config in out.rglob("config.json")} == {1}
    text = account(out)
    assert "## Reduced trainings" in text
    *_, errors, runs = tables(text)
    assert [row["published test error"] for row in errors] == ["–", "–"], "these figures are of whole trainings"
    assert [run["command"] for run in runs] == [
        "`eqprop train tiny --epochs 1`", "`eqprop train tiny --epochs 1 --estimator bptt`",
    ]  # fmt: skip
    assert [row["seeds"] for row in errors] == ["1", "1"]
    assert [row["test error here"] for row in tables(text)[2]] == ["not run yet"] * 2
    assert "1 of 1 experiments run" in text


def test_quick_does_what_it_can_and_takes_the_rest(records, here, monkeypatch):
    """Who tries it wants to see it happen; whole trainings are shown as they are recorded."""
    said = call(f"reproduce tiny2026 --quick --records {records} --out out").done()
    assert "tiny-toy: done in" in said
    assert [row["seeds"] for row in tables(account(here / "out"))[2]] == ["1", "1"]


def test_quick_and_the_whole_do_not_get_in_each_others_way(here):
    call("reproduce tiny2026 --quick --fresh --out out").done()
    call(f"{CALL} --train tiny --seeds 1").done()
    assert [row["seeds"] for row in tables(account(here / "out"))[2]] == ["1", "1"]
    before = moments(here / "out" / "trainings")
    said = call("reproduce tiny2026 --quick --fresh --out out").done()
    assert said.count("is there") == 3
    assert moments(here / "out" / "trainings") == before


# data that are not to be had


def on_mnist() -> tuple[Paper, Run]:
    """The same paper, half of it on data that have to be fetched."""
    model = replace(TINY.model, sizes=(784, 3, 10))
    one = replace(TOY.experiment, name="tiny-mnist", data=Data("mnist", 3), model=model)
    run = replace(TINY, name="tiny-m", data=Data("mnist", 3), model=model)
    rows = (Row(run, "eqprop train tiny-m"), Row(baseline(run), "eqprop train tiny-m --estimator bptt"), *PAPER.rows)
    return replace(PAPER, checks=(TOY, Check(one, "Fig. 9"), EXACT), rows=rows), run


def test_missing_data_are_told_of_and_the_rest_is_done(here, tmp_path, monkeypatch):
    known(monkeypatch, *on_mnist())
    said = call(f"{CALL} --train tiny-m tiny --seeds 1").done()
    lines = said.splitlines()
    assert re.search(r"tiny-toy: done in", lines[0])
    assert "tiny-mnist: not run: mnist was not found" in lines[1]
    assert re.search(r"tiny-exact: done in", lines[2])
    assert "tiny-m by EP: not run: mnist was not found" in said
    assert said.count(": trained") == 2
    reason = "not run: mnist is not on this machine (`eqprop data fetch mnist`)"
    checks, _, errors, _ = tables(account(here / "out"))
    assert [row["residual"] == reason for row in checks] == [False, True, False]
    assert [row["test error here"] == reason for row in errors] == [True, True, False, False]
    for name in ("report.md", "report.html"):
        assert str(tmp_path) not in (here / "out" / name).read_text()
    assert "2 of 3 experiments run" in account(here / "out")


def test_missing_data_that_come_later(here, monkeypatch):
    known(monkeypatch, *on_mnist())
    call(f"{CALL} --train tiny-m --seeds 1").done()
    small = small_mnist()
    monkeypatch.setitem(SOURCES, "mnist", small.source)
    small.put(here / "root")
    said = call(f"{CALL} --train tiny-m --seeds 1 --data.root root").done()
    assert "tiny-mnist: done in" in said
    assert said.count(": trained") == 2
    assert [row["seeds"] for row in tables(account(here / "out"))[2]] == ["1", "1", "", ""]
    for name, content in files(here / "out").items():
        assert content is None or str(here).encode() not in content, name


def test_where_data_are_missing_the_records_help(records, here, tmp_path, monkeypatch):
    """In a reduced version too."""
    paper, run = on_mnist()
    check = paper.checks[1]
    known(monkeypatch, replace(paper, quick_checks=("tiny-toy", "tiny-mnist")), run)
    small = small_mnist()
    with monkeypatch.context() as patch:
        patch.setitem(SOURCES, "mnist", small.source)
        small.put(tmp_path / "root")
        keep(
            replace(check.experiment, data=replace(check.experiment.data, root=str(tmp_path / "root"))),
            here / "rec" / "a",
        )
    said = call("reproduce tiny2026 --quick --records rec --out out").done()
    assert re.search(r"tiny-mnist: not run: mnist was not found .*; taken from the records", said)
    checks, *_ = tables(account(here / "out"))
    assert "not run" not in checks[1]["residual"]
    assert read(here / "out" / "theorem" / "tiny-mnist").experiment == check.experiment


def test_damaged_data_are_not_called_missing(here, monkeypatch):
    known(monkeypatch, *on_mnist())
    small = small_mnist()
    monkeypatch.setitem(SOURCES, "mnist", small.source)
    file = small.put(here / "root") / "mnist" / "train-images-idx3-ubyte.gz"
    file.write_bytes(file.read_bytes()[:-20])
    said = call(f"{CALL} --data.root root").done()
    assert "train-images-idx3-ubyte.gz is damaged" in said
    checks, *_ = tables(account(here / "out"))
    assert checks[1]["residual"] == "not run: mnist could not be read or fetched (`eqprop data` tells more)"
    assert str(here) not in account(here / "out")


# the paper itself


def test_the_paper_has_its_figures_and_its_table():
    """Ernoult et al. 2019: Figures 2 to 4, 8 to 13 and 16, and Table 1, EP and BPTT."""
    places = {check.experiment.name: check.place for check in ERNOULT2019.checks}
    figures = {"toy": "Fig. 2"} | {
        name: f"Figs. 3, {n}" for n, name in enumerate(("eb-1h", "eb-2h", "eb-3h", "p-1h", "p-2h", "p-3h"), start=8)
    }
    figures["p-conv"] = "Figs. 4, 16"
    assert {name: place for name, place in places.items() if place != "–"} == figures
    for check in ERNOULT2019.checks:
        assert check.experiment == experiment(check.experiment.name)
        assert (check.betas == (0.1, 0.01, 0.001, 0.0001, 0.00001)) == check.experiment.name.endswith("-exact")
    rows = ERNOULT2019.rows
    assert [(row.run.name, row.run.method) for row in rows] == [
        (name, method)
        for name in ("eb-1h", "eb-2h", "p-1h", "p-2h", "p-3h", "p-conv", "p-conv-small")
        for method in ("EP", "BPTT")
    ]
    for row in rows:
        own = recipe(row.run.name)
        assert row.run == (own if row.run.method == "EP" else baseline(own))
        assert not row.reduced


def test_the_commands_of_the_rows_train_them(here, monkeypatch):
    """Whole and reduced ones: what the account tells to call has that configuration."""
    monkeypatch.setattr("eqprop.cli.commands.train.carry_out", lambda *arguments: None)
    monkeypatch.setattr("eqprop.cli.runs.prepare_run", lambda *arguments: None)
    for n, row in enumerate([*ERNOULT2019.rows, *ERNOULT2019.quick_rows]):
        call(row.command.removeprefix("eqprop "), f"--no-plots --out {n}").done()
        assert read_run(here / str(n)) == row.run
        assert read_run(here / str(n)).seed == 0


def test_the_commands_of_the_experiments_do_them(here, monkeypatch):
    asked = []

    def noted(options, trained):
        asked.append(options)
        raise KeyboardInterrupt

    monkeypatch.setattr("eqprop.cli.commands.gdu.found", noted)
    for check in ERNOULT2019.checks:
        betas = " --betas " + " ".join(map(str, check.betas)) if check.betas else ""
        assert call(f"gdu {check.experiment.name}{betas}").code == 130
        assert asked[-1].experiment == check.experiment
        assert tuple(asked[-1].betas) == check.betas


def test_a_reduced_version_is_part_of_the_whole():
    names = [check.experiment.name for check in ERNOULT2019.checks]
    assert set(ERNOULT2019.quick_checks) < set(names)
    for row in ERNOULT2019.quick_rows:
        assert row.run.epochs <= recipe(row.run.name).epochs
        assert row.reduced == (row.run.epochs < recipe(row.run.name).epochs)

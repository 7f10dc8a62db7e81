"""``eqprop reproduce`` with records, in its quick version, and without data; commands in reports train the rows."""

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
from eqprop.papers.catalog import PAPERS
from eqprop.papers.ernoult2019.reproduction import ERNOULT2019
from eqprop.papers.registry import baseline, experiment, recipe
from eqprop.papers.reproduction.paper import Check, Paper, Row
from eqprop.papers.reproduction.records import config_key, find_result, load_result, load_trainings
from eqprop.theorem.experiment import RANDOM
from eqprop.theorem.result import read_result
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
    disable_figures,
    forbid,
    modification_times,
    report_text,
    tables,
    train_in,
    use_paper,
    write_result,
)
from small_sets import secluded, small_mnist

REPRODUCED = list(PAPERS)  # before the fixtures add a tiny one
CHECKOUT = (Path(ep.__file__).parents[2] / "records").is_dir()


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A user without data sets and without a network, and one tiny paper."""
    use_paper(monkeypatch)
    disable_figures(monkeypatch)
    return secluded(tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """Records of both checks and of the first seed of both trainings; the names of the folders do not matter."""
    folder = tmp_path_factory.mktemp("records")
    for n, check in enumerate((TOY, EXACT)):
        write_result(check.experiment, folder / "checks" / str(n), check.betas)
    for n, run in enumerate((TINY, baseline(TINY))):
        train_in(run, folder / f"trained-{n}")
    return folder


def finished(row, *roots):
    """The finished trainings of a row below some folders."""
    return load_trainings(roots).get(config_key(row.run), [])


# records


def test_records_are_used(records, here, monkeypatch):
    for name in ("run_experiment", "train_runs", "create_run"):
        monkeypatch.setattr(f"eqprop.cli.reproduction.{name}", forbid)
    before = files(records)
    said = call(f"reproduce tiny2026 --records {records} --train tiny --seeds 1 --out out").done()
    assert [line.split(": ")[1] for line in said.splitlines()[:4]] == ["copied from the records"] * 2 + [
        "already finished"
    ] * 2
    assert files(records) == before
    for n, check in enumerate((TOY, EXACT)):
        assert read_result(here / "out" / "theorem" / check.experiment.name) == read_result(records / "checks" / str(n))
    *_, errors, runs = tables(report_text(here / "out"))
    assert [row["seeds"] for row in errors] == ["1", "1"]
    assert [row["seeds"] for row in runs] == ["0", "0"]
    rows = summarize([RunFolder(records / "trained-0").rows()])
    assert errors[0]["test error here"] == rows.test.percent()


def test_only_seeds_that_are_not_recorded_are_trained(records, here):
    said = call(f"reproduce tiny2026 --records {records} --train tiny --seeds 2 --out out").done()
    assert said.count(": trained") == 2
    assert sorted(path.parent.name for path in (here / "out").rglob("config.json")) == ["seed-1", "seed-1"]
    assert [row["seeds"] for row in tables(report_text(here / "out"))[-1]] == ["0, 1", "0, 1"]


def test_fresh_ignores_the_records(records, here):
    said = call(f"reproduce tiny2026 --records {records} --fresh --train tiny --seeds 1 --out out").done()
    assert said.count(": done in") == 2
    assert said.count(": trained") == 2
    found = tables(report_text(here / "out"))
    call(f"reproduce tiny2026 --records {records} --fresh --out other").done()
    assert [row["test error here"] for row in tables(report_text(here / "other"))[2]] == ["not run yet"] * 2
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
def test_a_recorded_experiment_of_another_configuration_is_not_used(change, tmp_path):
    """Whatever the name of its folder."""
    write_result(replace(TOY.experiment, **CHANGES[change]), tmp_path / "theorem" / "tiny-toy")
    assert find_result(TOY, tmp_path) is None
    assert load_result(tmp_path / "theorem" / "tiny-toy", TOY) is None
    write_result(TOY.experiment, tmp_path / "x")
    assert find_result(TOY, tmp_path) == tmp_path / "x"


def test_a_recorded_experiment_on_trained_weights_is_not_used(tmp_path):
    write_result(TOY.experiment, tmp_path / "a", weights="trained, epoch 3")
    assert find_result(TOY, tmp_path) is None


@pytest.mark.parametrize(
    ("betas", "taken"), [((), False), ((0.1,), False), ((0.1, 0.001), True), ((1.0, 0.001, 0.1), True)]
)
def test_a_recorded_experiment_is_used_only_with_all_betas(betas, taken, tmp_path):
    write_result(EXACT.experiment, tmp_path / "a", betas)
    assert (find_result(EXACT, tmp_path) is not None) == taken


def test_a_damaged_record_is_skipped(tmp_path):
    write_result(TOY.experiment, tmp_path / "a")
    (tmp_path / "a" / "report.json").write_bytes(b"\xff")
    assert find_result(TOY, tmp_path) is None
    write_result(TOY.experiment, tmp_path / "b")
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
def test_a_recorded_training_of_another_configuration_is_not_used(change, tmp_path, records):
    shutil.copytree(records / "trained-0", tmp_path / "ep-seed-0")
    row = Row(TINY, ROWS[0])
    assert [training.run for training in finished(row, tmp_path)] == [TINY]
    RunFolder(tmp_path / "ep-seed-0").config.write_text(replace(TINY, **RUNS[change]).to_json())
    assert finished(row, tmp_path) == []


def test_seeds_are_sorted_and_unique(tmp_path, records):
    for n, seed in enumerate((3, 0, 3, 1)):
        shutil.copytree(records / "trained-0", tmp_path / str(n))
        RunFolder(tmp_path / str(n)).config.write_text(replace(TINY, seed=seed).to_json())
    trainings = finished(Row(TINY, ROWS[0]), tmp_path, records)
    assert [training.run.seed for training in trainings] == [0, 1, 3]
    assert trainings[0].epochs == RunFolder(records / "trained-0").rows()


@pytest.mark.parametrize("file", ["config.json", "metrics.jsonl", "environment.json"])
@pytest.mark.parametrize("damage", [None, b"", b"\xff{"])
def test_a_damaged_training_is_skipped(file, damage, tmp_path, records):
    shutil.copytree(records / "trained-0", tmp_path / "a")
    path = tmp_path / "a" / file
    path.unlink()
    if damage is not None:
        path.write_bytes(damage)
    assert finished(Row(TINY, ROWS[0]), tmp_path) == []


@pytest.mark.skipif(not CHECKOUT, reason="the package is not in its checkout, as when it is installed")
def test_the_default_folder_of_records():
    """The folder of the checkout, which holds trainings of this paper."""
    from eqprop.cli.commands.reproduce import record_folders

    (folder,) = record_folders(Reproduce())
    assert (folder / "README.md").is_file()
    assert record_folders(Reproduce(fresh=True)) == []
    rows = {row.command: row for row in ERNOULT2019.rows}
    assert [t.run.seed for t in finished(rows["eqprop train p-1h"], folder)] == [0, 1, 2, 3, 4]


# the quick version


def test_quick_is_a_reduced_version(here):
    said = call("reproduce tiny2026 --quick --fresh").done()
    out = here / "runs" / "reproduce-tiny2026-quick"
    assert "theorem 1/1, tiny-toy: done in" in said
    assert said.count(": trained") == 2
    assert {read_run(config.parent).epochs for config in out.rglob("config.json")} == {1}
    text = report_text(out)
    assert "## Reduced trainings" in text
    *_, errors, runs = tables(text)
    assert [row["published test error"] for row in errors] == ["–", "–"], "these figures are of whole trainings"
    assert [run["command"] for run in runs] == [
        "`eqprop train tiny --epochs 1`", "`eqprop train tiny --epochs 1 --estimator bptt`",
    ]  # fmt: skip
    assert [row["seeds"] for row in errors] == ["1", "1"]
    assert [row["test error here"] for row in tables(text)[2]] == ["not run yet"] * 2
    assert "1 of 1 experiments run" in text


def test_quick_computes_what_it_can_and_shows_recorded_trainings(records, here, monkeypatch):
    """Checks are computed, not copied; full trainings are shown from the records."""
    said = call(f"reproduce tiny2026 --quick --records {records} --out out").done()
    assert "tiny-toy: done in" in said
    assert [row["seeds"] for row in tables(report_text(here / "out"))[2]] == ["1", "1"]


def test_quick_and_full_reproductions_can_share_a_folder(here):
    call("reproduce tiny2026 --quick --fresh --out out").done()
    call(f"{CALL} --train tiny --seeds 1").done()
    assert [row["seeds"] for row in tables(report_text(here / "out"))[2]] == ["1", "1"]
    before = modification_times(here / "out" / "trainings")
    said = call("reproduce tiny2026 --quick --fresh --out out").done()
    assert said.count("already finished") == 3
    assert modification_times(here / "out" / "trainings") == before


# missing data


def on_mnist() -> tuple[Paper, Run]:
    """The same paper, half of it on data that are not there."""
    model = replace(TINY.model, sizes=(784, 3, 10))
    one = replace(TOY.experiment, name="tiny-mnist", data=Data("mnist", 3), model=model)
    run = replace(TINY, name="tiny-m", data=Data("mnist", 3), model=model)
    rows = (Row(run, "eqprop train tiny-m"), Row(baseline(run), "eqprop train tiny-m --estimator bptt"), *PAPER.rows)
    return replace(PAPER, checks=(TOY, Check(one, "Fig. 9"), EXACT), rows=rows), run


def test_missing_data_are_reported_and_the_rest_is_computed(here, tmp_path, monkeypatch):
    use_paper(monkeypatch, *on_mnist())
    said = call(f"{CALL} --train tiny-m tiny --seeds 1").done()
    lines = said.splitlines()
    assert re.search(r"tiny-toy: done in", lines[0])
    assert "tiny-mnist: not run: mnist was not found" in lines[1]
    assert re.search(r"tiny-exact: done in", lines[2])
    assert "tiny-m by EP: not run: mnist was not found" in said
    assert said.count(": trained") == 2
    reason = "not run: mnist is not on this machine (`eqprop data fetch mnist`)"
    checks, _, errors, _ = tables(report_text(here / "out"))
    assert [row["residual"] == reason for row in checks] == [False, True, False]
    assert [row["test error here"] == reason for row in errors] == [True, True, False, False]
    for name in ("report.md", "report.html"):
        assert str(tmp_path) not in (here / "out" / name).read_text()
    assert "2 of 3 experiments run" in report_text(here / "out")


def test_missing_data_that_are_added_later(here, monkeypatch):
    use_paper(monkeypatch, *on_mnist())
    call(f"{CALL} --train tiny-m --seeds 1").done()
    small = small_mnist()
    monkeypatch.setitem(SOURCES, "mnist", small.source)
    small.put(here / "root")
    said = call(f"{CALL} --train tiny-m --seeds 1 --data.root root").done()
    assert "tiny-mnist: done in" in said
    assert said.count(": trained") == 2
    assert [row["seeds"] for row in tables(report_text(here / "out"))[2]] == ["1", "1", "", ""]
    for name, content in files(here / "out").items():
        assert content is None or str(here).encode() not in content, name


def test_records_are_used_where_data_are_missing(records, here, tmp_path, monkeypatch):
    """In the quick version too."""
    paper, run = on_mnist()
    check = paper.checks[1]
    use_paper(monkeypatch, replace(paper, quick_checks=("tiny-toy", "tiny-mnist")), run)
    small = small_mnist()
    with monkeypatch.context() as patch:
        patch.setitem(SOURCES, "mnist", small.source)
        small.put(tmp_path / "root")
        write_result(
            replace(check.experiment, data=replace(check.experiment.data, root=str(tmp_path / "root"))),
            here / "rec" / "a",
        )
    said = call("reproduce tiny2026 --quick --records rec --out out").done()
    assert re.search(r"tiny-mnist: not run: mnist was not found .*; copied from the records", said)
    checks, *_ = tables(report_text(here / "out"))
    assert "not run" not in checks[1]["residual"]
    assert read_result(here / "out" / "theorem" / "tiny-mnist").experiment == check.experiment


def test_damaged_data_are_not_reported_as_missing(here, monkeypatch):
    use_paper(monkeypatch, *on_mnist())
    small = small_mnist()
    monkeypatch.setitem(SOURCES, "mnist", small.source)
    file = small.put(here / "root") / "mnist" / "train-images-idx3-ubyte.gz"
    file.write_bytes(file.read_bytes()[:-20])
    said = call(f"{CALL} --data.root root").done()
    assert "train-images-idx3-ubyte.gz is damaged" in said
    checks, *_ = tables(report_text(here / "out"))
    assert checks[1]["residual"] == "not run: mnist could not be read or fetched (`eqprop data` shows details)"
    assert str(here) not in report_text(here / "out")


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


@pytest.mark.parametrize("name", REPRODUCED)
def test_the_commands_of_the_rows_train_them(name, here, monkeypatch):
    """The commands that the report shows have the configurations of the rows, quick version and figures included."""
    paper = PAPERS[name]
    monkeypatch.setattr("eqprop.cli.commands.train.train_runs", lambda *arguments: None)
    monkeypatch.setattr("eqprop.cli.runs.prepare_run", lambda *arguments: None)
    monkeypatch.setattr("eqprop.cli.runs.check_training", lambda prepared: None)
    rows = {row.command: row for row in (*paper.rows, *paper.quick_rows, *paper.figure_rows())}
    for n, row in enumerate(rows.values()):
        call(row.command.removeprefix("eqprop "), f"--no-plots --out {n}").done()
        assert read_run(here / str(n)) == row.run, row.command
        assert row.run.seed == 0
    assert len({row.folder for row in rows.values()}) == len(rows)


def test_the_commands_of_the_experiments(here, monkeypatch):
    asked = []

    def noted(options, trained):
        asked.append(options)
        raise KeyboardInterrupt

    monkeypatch.setattr("eqprop.cli.commands.gdu._run", noted)
    for check in ERNOULT2019.checks:
        betas = " --betas " + " ".join(map(str, check.betas)) if check.betas else ""
        assert call(f"gdu {check.experiment.name}{betas}").code == 130
        assert asked[-1].experiment == check.experiment
        assert tuple(asked[-1].betas) == check.betas


def test_the_quick_version_is_part_of_the_full_one():
    names = [check.experiment.name for check in ERNOULT2019.checks]
    assert set(ERNOULT2019.quick_checks) < set(names)
    for row in ERNOULT2019.quick_rows:
        assert row.run.epochs <= recipe(row.run.name).epochs
        assert row.reduced == (row.run.epochs < recipe(row.run.name).epochs)

"""Parts of a reproduction besides checks and rows: sweeps, studies, figures of several checks, packed records."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

import eqprop as ep
from command import call, files
from eqprop import plots
from eqprop.models.mlp import MLP
from eqprop.models.toy import Toy
from eqprop.papers.catalog import PAPERS
from eqprop.papers.ernoult2020.reproduction import ERNOULT2020, initial_angles
from eqprop.papers.ernoult2020.studies import RateDependence, UpdateAngles
from eqprop.papers.registry import CONTINUAL, PUBLISHED
from eqprop.papers.reproduction.paper import Check, CheckFigure, Paper, Row, Sweep
from eqprop.papers.reproduction.records import config_key, load_study, load_trainings
from eqprop.papers.reproduction.studies import Study
from eqprop.report import Table
from eqprop.theorem.experiment import RANDOM, Experiment
from eqprop.training import SGD, Data, Run, create_run, train_run
from eqprop.training.run_folder import RunFolder
from eqprop.training.session import read_run
from small_paper import disable_figures
from small_sets import isolate

INSIDE = ep.Prototypical(nudge="inside")
TINY = Run(
    "tiny", Data("digits", 100), MLP((64, 8, 10), "sigmoid", dynamics=INSIDE),
    ep.EquilibriumProp(6, 3, 0.2, "centred"), SGD(1.0), epochs=1,
)  # fmt: skip
TOYS = {
    rule: Check(Experiment(f"tiny-{rule}", Data(RANDOM, 1), Toy(hidden=5), estimator), "Fig. 1")
    for rule, estimator in {
        "ep": ep.EquilibriumProp(60, 4, 0.01),
        "cep": ep.ContinualSGD(60, 4, 0.01, 1e-4),
    }.items()
}
RATES = {
    rate: Row(replace(TINY, optimizer=SGD(rate)), f"eqprop train tiny --optimizer.rates {rate}") for rate in (0.5, 1.0)
}
SWEEP = Sweep(
    "tiny-rates", "Error by rate", "rate", "Two rates.", {"own": RATES}, {"known": {0.5: (12.5, 1.0)}}, seeds=2
)


DONE: list[str] = []


class Count(Study):
    """A study that counts how often it is computed."""

    name = "count"
    title = "A count"
    text = "Counted."
    key: ClassVar[list[str]] = []

    def compute(self, device: str, root: str | None, tell: Any) -> dict[str, Any]:
        DONE.append(self.name)
        return {"times": len(DONE)}

    def table(self, found: dict[str, Any]) -> Table:
        return Table(("times",), [[f"counted {found['times']}"]])

    def draw(self, found: dict[str, Any], path: Path) -> None:
        plots.proportional([1.0, 2.0], {"a": [1.0, 2.0]}, path, ("x", "y"))


COLUMNS = CheckFigure("beside", "Both rules.", {"EP": "tiny-ep", "C-EP": "tiny-cep"})
PAPER = Paper(
    "parts2026", "Parts 2026", "A claim.", tuple(TOYS.values()), (), (), (), (COLUMNS,), (SWEEP,), (Count(),)
)  # fmt: skip
CALL = "reproduce parts2026 --fresh --out out"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    isolate(tmp_path, monkeypatch)
    monkeypatch.setitem(PAPERS, PAPER.name, PAPER)
    DONE.clear()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


@dataclass(frozen=True)
class Reproduced:
    """Output and files of three calls: without trainings and figures, with both, and the same again."""

    here: Path
    said: tuple[str, str, str]
    untrained: str
    left: dict[str, bytes | None]
    done: list[str]

    @property
    def report(self) -> str:
        return (self.here / "out" / "report.md").read_text()


@pytest.fixture(scope="module")
def reproduced(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reproduced")
    with pytest.MonkeyPatch.context() as patch:
        isolate(folder, patch)
        patch.setitem(PAPERS, PAPER.name, PAPER)
        patch.chdir(folder)
        DONE.clear()
        with pytest.MonkeyPatch.context() as blind:
            disable_figures(blind)
            first = call(CALL).done()
        untrained = (folder / "out" / "report.md").read_text()
        second = call(f"{CALL} --train tiny-rates").done()
        left = files(folder / "out")
        third = call(f"{CALL} --train tiny-rates").done()
        return Reproduced(folder, (first, second, third), untrained, left, [*DONE])


def test_sweeps_mark_missing_trainings_and_show_published_errors(reproduced):
    first, second, _ = reproduced.said
    assert "count: done in" in first
    assert "2 of 2 trainings are not run yet: `eqprop reproduce parts2026 --train tiny-rates`" in reproduced.untrained
    assert "| 0.5  | –   | 12.50 ± 1.00 % |" in reproduced.untrained
    assert "count: already finished" in second
    assert reproduced.done == ["count"]
    rates = {"0-5": 0.5, "1-0": 1.0}
    folders = [f"out/trainings/tiny-optimizer-rates-{name}/ep/seed-{seed}" for name in rates for seed in (0, 1)]
    found = [read_run(reproduced.here / folder).optimizer for folder in folders]
    assert found == [SGD(rate) for rate in rates.values() for _ in range(2)]
    errors = [RunFolder(reproduced.here / f).rows()[-1]["test_error"] for f in folders[:2]]
    assert f"{100 * sum(errors) / 2:.2f} ± " in reproduced.report
    assert "trainings are not run yet" not in reproduced.report


def test_the_figures_are_in_the_report(reproduced):
    report = reproduced.report
    for name in ("beside", "tiny-rates", "count"):
        assert f"](plots/{name}.png)" in report
        assert (reproduced.here / f"out/plots/{name}.svg").stat().st_size > 1000
    assert "increments.png" not in report  # both checks are columns of one figure
    assert "counted 1" in report
    html = (reproduced.here / "out/report.html").read_text()
    assert html.count("data:image/svg+xml") == 4  # and the errors, layer by layer


def test_nothing_is_computed_twice(reproduced):
    *lines, _ = reproduced.said[2].splitlines()
    assert [line.split(": ")[1] for line in lines] == ["already finished"] * 5
    assert files(reproduced.here / "out") == reproduced.left


def test_an_unknown_figure_is_an_error(here):
    assert "did you mean 'tiny-rates'?" in call(f"{CALL} --train tiny-rate").complaint()
    assert not (here / "out").exists()


def test_packed_trainings_are_found(here):
    run = RATES[0.5].with_seed(3)
    create_run(run, here / "run")
    rows = train_run(here / "run")
    facts = {"config": json.loads(run.to_json()), "rows": rows, "environment": {"gpu": None}}
    (here / "pack").mkdir()
    (here / "pack/trainings.jsonl").write_text(json.dumps(facts) + "\nnot JSON\n")
    for root in ("pack", "run"):
        (found,) = load_trainings([here / root])[config_key(run)]
        assert (found.run, found.epochs) == (run, rows)
    assert len(load_trainings([here / "run", here / "pack"])[config_key(run)]) == 1


def test_an_unfinished_training_is_not_found(here):
    run = replace(TINY, epochs=2)
    create_run(run, here / "run")
    train_run(here / "run")
    lines = (here / "run/metrics.jsonl").read_text().splitlines()
    (here / "run/metrics.jsonl").write_text(lines[0] + "\n")
    assert load_trainings([here]) == {}


def on_digits(**options) -> Experiment:
    estimator = ep.ContinualSGD(30, 4, 0.05, (0.1, 0.05))
    return Experiment("small", Data("digits", 5), TINY.model, estimator, "float64", **options)


def test_the_distance_falls_with_the_rate():
    study = RateDependence(on_digits(), scales=(1.0, 1e-3, 1e-4))
    found = study.compute("cpu", None, lambda done, total: None)
    assert list(found) == ["0→1 weight", "1→2 weight"]
    for apart in found.values():
        assert apart[1] == pytest.approx(10 * apart[2], rel=0.05)
        assert apart[0] > apart[1] > 0
    assert [row[0] for row in study.table(found).rows] == ["1 x", "0.001 x", "0.0001 x"]


def test_the_angles_are_those_of_gdu():
    rule = on_digits(seed=2)
    study = UpdateAngles({"rule": rule}, {"rule": 12.0})
    found = study.compute("cpu", None, lambda done, total: None)
    model = rule.build()
    report = ep.gdu(model, *rule.batch(model), 30, 4, 0.05, rates=(0.1, 0.05))
    assert found["rule"]["angle"][2] == pytest.approx(report.angle())
    assert found["rule"]["without_first"][2] == pytest.approx(report.angle(first=False))
    assert len(found["rule"]["angle"]) == 5
    assert study.table(found).rows[0][3] == "12.0°"


def test_a_study_of_another_configuration_is_not_used(here):
    study = RateDependence(on_digits())
    file = here / "study.json"
    for text, taken in (
        (study.key, True),
        ([*study.key, "more"], False),
        (RateDependence(on_digits(seed=1)).key, False),
    ):
        file.write_text(json.dumps({"key": text, "found": {}}))
        assert (load_study(file, study) is not None) == taken
    file.write_text("damaged")
    assert load_study(file, study) is None


def test_the_parts_of_ernoult2020():
    """Figures 5b and 8 to 15 of discrete and real time, the table of Figure 4, its angles."""
    assert {check.experiment.name for check in ERNOULT2020.checks} == set(CONTINUAL)
    assert [row.run.name for row in ERNOULT2020.rows] == [
        "p-1h",
        "p-2h",
        "cep-1h",
        "cep-2h",
        "cvf-1h",
        "cvf-1h-decay",
        "cvf-2h",
    ]
    known = {p.angle: (p.test, p.spread) for p in PUBLISHED if p.recipe == "cvf-1h"}
    (curve,) = initial_angles().curves.values()
    assert list(curve) == [0.0, 22.5, 45.0, 67.5, 90.0, 112.5, 135.0, 157.5, 180.0] == sorted(known)
    assert list(initial_angles().published.values()) == [known]
    names = {check.experiment.name for check in ERNOULT2020.checks}
    assert all(set(columns.checks.values()) <= names for columns in ERNOULT2020.check_figures)

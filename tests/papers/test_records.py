"""Every record loads, has the configuration of its command or experiment, and is what the README quotes."""

import json
import re
from pathlib import Path
from statistics import mean

import pytest

from eqprop.cli.commands.train import Train
from eqprop.cli.options import parse
from eqprop.cli.overrides import apply_overrides
from eqprop.papers import EXPERIMENTS, PUBLISHED, RECIPES, recipe
from eqprop.papers.catalog import PAPERS
from eqprop.papers.reproduction.records import config_key, find_result, load_run_folders, load_study, load_trainings
from eqprop.theorem.result import INITIAL, read_result
from eqprop.training.config.run import Run
from eqprop.training.run_folder import RunFolder
from eqprop.training.session import read_run
from eqprop.training.summary import summarize

ROOT = Path(__file__).parents[2]
RECORDS = ROOT / "records"
README = (ROOT / "README.md").read_text()
ROW = r"^\| `([\w-]+)` \| ((?:EP|BPTT|C-EP|C-VF|SurrogateBPTT)(?:, rates)?) \| (.*) \|$"
ROWS = re.findall(ROW, README, re.MULTILINE)
THEOREM_ROWS = re.findall(r"^\| `([\w-]+)` \| (\d+ \| \d+ \| .*) \|$", README, re.MULTILINE)
RUNS = sorted(config.parent for config in RECORDS.rglob("config.json"))
PACKED = sorted(RECORDS.rglob("trainings.jsonl"))
EXPERIMENT_FOLDERS = sorted(path.parent for path in RECORDS.rglob("experiment.json"))
COMMANDS = re.findall(r"^\| `(\S+?)/?` \| `eqprop (\w+) (.*?)` \|$", (RECORDS / "README.md").read_text(), re.MULTILINE)


def folder_label(cell):
    """The beginning of a run folder's name for the method of a row: "rates-ep" for "EP, rates"."""
    method, rates, _ = cell.partition(", rates")
    return ("rates-" if rates else "") + method.lower()


def check_run(folder):
    run = read_run(folder)
    rates = recipe(run.name).model.dynamics.spiking and not run.model.dynamics.spiking
    cell = f"{run.method}, rates" if rates else run.method
    assert folder.parts[-2:] == (run.name, f"{folder_label(cell)}-seed-{run.seed}")
    assert len(RunFolder(folder).rows()) == run.epochs
    assert any(row[:2] == (run.name, cell) for row in ROWS), "not in the README"


def check_packed(file):
    for line in file.read_text().splitlines():
        facts = json.loads(line)
        run = Run.from_json(json.dumps(facts["config"]))
        assert run.name in RECIPES
        assert len(facts["rows"]) == run.epochs
        assert facts["environment"]


def check_experiment(folder):
    result = read_result(folder)
    assert result is not None
    assert result.experiment == EXPERIMENTS[folder.name]()
    assert result.weights == INITIAL
    assert not result.environment["commit"].endswith("-dirty")


def check_diverged(file):
    assert Run.from_json(file.read_text()).name in RECIPES


def test_every_record_loads():
    """Written by any version; all failures are reported together."""
    failures, diverged = [], sorted(RECORDS.rglob("run.json"))
    kinds = (
        (check_run, RUNS),
        (check_packed, PACKED),
        (check_experiment, EXPERIMENT_FOLDERS),
        (check_diverged, diverged),
    )
    for check, paths in kinds:
        assert paths
        for path in paths:
            try:
                check(path)
            except (AssertionError, ValueError, KeyError, OSError) as error:
                failures.append(f"{path.relative_to(RECORDS)}: {error!r}")
    for file in RECORDS.rglob("*.json"):
        json.loads(file.read_text())
    assert failures == []


def test_the_records_of_trainings_are_found_by_a_reproduction():
    found = [t.run for trainings in load_trainings([RECORDS]).values() for t in trainings]
    expected = {(config_key(run), run.seed) for run in map(read_run, RUNS)}
    assert expected <= {(config_key(run), run.seed) for run in found}
    assert len(list(load_run_folders(RECORDS))) == len(RUNS)


def test_a_reproduction_finds_its_checks_and_studies():
    for paper in PAPERS.values():
        for check in paper.checks:
            assert find_result(check, RECORDS) is not None, check.experiment.name
        for study in paper.studies:
            assert load_study(RECORDS / f"studies/{study.name}.json", study) is not None, study.name


def test_a_record_has_the_configuration_of_its_command():
    failures = []
    for record, command, words in COMMANDS:
        name, *options = words.split()
        given = apply_overrides(recipe(name), options)
        if command == "train":
            given = parse(Train, options, "eqprop train", Train(given)).run
        for folder in (run for run in RUNS if run.is_relative_to(RECORDS / record)):
            run = read_run(folder)
            wanted = apply_overrides(given, ["--estimator", run.method.lower()]) if command == "compare" else given
            same = ("data", "model", "estimator", "optimizer", "schedule", "epochs")
            failures += [f"{record}: {part}" for part in same if getattr(run, part) != getattr(wanted, part)]
    assert failures == []


def test_every_run_folder_has_its_command():
    named = [record for record, *_ in COMMANDS]
    assert [run for run in RUNS if not any(run.is_relative_to(RECORDS / record) for record in named)] == []


def test_the_readmes_table_of_trainings_is_that_of_the_records():
    assert len(ROWS) == 20
    for name, method, cells in ROWS:
        runs = [folder for folder in RUNS if folder.match(f"{name}/{folder_label(method)}-seed-*")]
        found = summarize([RunFolder(folder).rows() for folder in runs])
        assert found is not None
        known = [p for p in PUBLISHED if (p.recipe, p.method) == (name, method)]
        published = f"{known[0].text} % ({known[0].train:.2f} %)" if known else "–"
        errors = [spread.percent() if spread else "–" for spread in (found.train, found.test, found.test_last)]
        assert cells.split(" | ") == [str(found.seeds), *errors, published], (name, method)


def test_the_readmes_table_of_the_theorem_is_that_of_the_records():
    assert THEOREM_ROWS
    for name, cells in THEOREM_ROWS:
        result = read_result(RECORDS / "theorem" / name)
        assert result is not None
        s = result.summary
        populations = max(facts["relative_error"] for facts in s["populations"].values())
        weights = max(facts["relative_error"] for facts in s["parameters"].values() if facts["weight"])
        failing = ", ".join(a["name"] for a in s["assumptions"] if not a["holds"]) or "none"
        start = f"{s['free_steps']} | {s['nudged_steps']} | {s['beta']:g}"
        seconds = f"{result.seconds:.2g}" if result.seconds < 100 else f"{result.seconds:.0f}"
        assert cells == f"{start} | {populations:.2g} | {weights:.2g} | {failing} | {seconds}", name


def test_the_angles_that_the_readme_quotes():
    found = found_by("update-angles")
    own = [f"{mean(found[rule]['without_first']):.1f}" for rule in ("EP-1h", "EP-2h", "C-EP-1h", "C-EP-2h")]
    assert f"{own[0]}, {own[1]}, {own[2]} and {own[3]} degrees" in README.replace("\n", " ")


def test_the_errors_at_the_smallest_beta_that_the_readme_quotes():
    largest = []
    for name in ("toy-exact", "eb-1h-exact", "p-1h-exact"):
        result = read_result(RECORDS / "theorem" / name)
        assert result is not None
        least = min(result.betas, key=lambda summary: summary["beta"])
        assert least["beta"] == 1e-5
        both = [*least["populations"].values(), *(p for p in least["parameters"].values() if p["weight"])]
        largest.append(f"{max(facts['relative_error'] for facts in both):.1e}")
    assert f"{largest[0]}, {largest[1]} and {largest[2]} (" in README.replace("\n", " ")


POOLINGS = {
    "average": "average pooling",
    "max, of spikes": "max, on spikes",
    "max, of decoded trains": "max, decoded",
    "average, Bernoulli coder": "average, Bernoulli spikes",
}
SPIKING = rf"^\| ({'|'.join(POOLINGS)}) \| ([\d., ]+) \| ([\d., ]+) \| ([\d., ]+) \|$"


def found_by(study):
    """The recorded result of a study."""
    return json.loads((RECORDS / f"studies/{study}.json").read_text())["found"]


def cosines(weights, pooling, to):
    """Means over batches, by layer."""
    layers = found_by("spiking-alignment")[weights][pooling][to]["layers"]
    return [mean(layer["cosine"]) for layer in layers.values()]


def test_the_readmes_cosines_of_spiking_gradients():
    rows = re.findall(SPIKING, README, re.MULTILINE)
    assert [row[0] for row in rows] == list(POOLINGS)
    columns = (("initial", "rate EP, own basin"), ("trained", "rate EP, own basin"), ("trained", "rate EP"))
    for label, *cells in rows:
        found = [cosines(weights, POOLINGS[label], to) for weights, to in columns]
        assert cells == [", ".join(f"{value:.2f}" for value in values) for values in found]


def test_average_pooling_keeps_the_gradient_of_spikes_and_max_pooling_does_not():
    assert min(cosines("trained", "average pooling", "rate EP")) >= 0.95
    assert max(cosines("trained", "max, on spikes", "rate EP")[:2]) < 0.4
    assert max(cosines("initial", "max, on spikes", "rate EP, own basin")[:2]) < 0.4


def test_the_memory_of_spiking_ep_does_not_grow_and_is_far_below_bptts():
    peaks = found_by("training-memory")["peaks"]  # at T = 25, 50, 100, 200
    assert max(peaks["EP, spikes"]) <= 1.02 * min(peaks["EP, spikes"])
    assert all(peaks[rule][2] >= 10 * peaks["EP, spikes"][2] for rule in ("BPTT, rates", "BPTT through spikes"))


@pytest.mark.parametrize(("name", "most"), [("spiking-mnist-small", 0.05), ("spiking-digits", 0.06)])
def test_spiking_networks_learn(name, most):
    folders = [run for run in RUNS if run.match(f"{name}/ep-seed-*")]
    assert folders
    for folder in folders:
        rows = RunFolder(folder).rows()
        assert rows[-1]["test_error"] <= most
        assert sum(row["seconds"] for row in rows) <= 3600

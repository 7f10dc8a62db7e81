"""The README's figures are those of the records, and the records' commands give their configurations."""

import json
import re
from pathlib import Path
from statistics import mean

import pytest

import eqprop as ep
from eqprop.cli.commands.train import Train
from eqprop.cli.options import parse
from eqprop.cli.overrides import apply_overrides
from eqprop.papers.registry import PUBLISHED, recipe
from eqprop.training.run_folder import RunFolder
from eqprop.training.session import read_run
from eqprop.training.summary import summarize

ROOT = Path(__file__).parents[2]
ROW = r"^\| `([\w-]+)` \| ((?:EP|BPTT|C-EP|C-VF|SurrogateBPTT)(?:, rates)?) \| (.*) \|$"
ROWS = re.findall(ROW, (ROOT / "README.md").read_text(), re.MULTILINE)
RUNS = sorted(config.parent for config in (ROOT / "records").rglob("config.json"))
COMMANDS = re.findall(
    r"^\| `(\S+?)/?` \| `eqprop (\w+) (.*?)` \|$", (ROOT / "records/README.md").read_text(), re.MULTILINE
)


def rule(cell):
    """How folders call what a row calls "EP", or "EP, rates" where the recipe's units spike."""
    method, rates, _ = cell.partition(", rates")
    return ("rates-" if rates else "") + method.lower()


@pytest.mark.parametrize(("name", "method", "cells"), ROWS)
def test_a_row_of_the_readme_is_that_of_the_records(name, method, cells):
    runs = [folder for folder in RUNS if folder.match(f"{name}/{rule(method)}-seed-*")]
    found = summarize([RunFolder(folder).rows() for folder in runs])
    assert found is not None
    known = [p for p in PUBLISHED if (p.recipe, p.method) == (name, method)]
    published = f"{known[0].text} % ({known[0].train:.2f} %)" if known else "–"
    errors = [spread.percent() if spread else "–" for spread in (found.train, found.test, found.test_last)]
    assert cells.split(" | ") == [str(found.seeds), *errors, published]


@pytest.mark.parametrize("folder", RUNS, ids=lambda folder: "/".join(folder.parts[-2:]))
def test_a_record_is_whole(folder):
    run = read_run(folder)
    twin = isinstance(recipe(run.name).model.dynamics, ep.Spiking) and not isinstance(run.model.dynamics, ep.Spiking)
    cell = f"{run.method}, rates" if twin else run.method
    assert folder.parts[-2:] == (run.name, f"{rule(cell)}-seed-{run.seed}")
    assert len(RunFolder(folder).rows()) == run.epochs
    assert any(row[:2] == (run.name, cell) for row in ROWS)


@pytest.mark.parametrize(("record", "command", "words"), COMMANDS)
def test_a_record_has_the_configuration_of_its_command(record, command, words):
    name, *options = words.split()
    given = apply_overrides(recipe(name), options)
    if command == "train":
        given = parse(Train, options, "eqprop train", Train(given)).run
    for folder in (run for run in RUNS if run.is_relative_to(ROOT / "records" / record)):
        run = read_run(folder)
        wanted = apply_overrides(given, ["--estimator", run.method.lower()]) if command == "compare" else given
        assert run.model == wanted.model
        assert run.estimator == wanted.estimator
        assert run.optimizer == wanted.optimizer
        assert (run.data, run.schedule, run.epochs) == (wanted.data, wanted.schedule, wanted.epochs)


def test_every_record_has_its_command():
    named = [record for record, *_ in COMMANDS]
    assert all(any(run.is_relative_to(ROOT / "records" / record) for record in named) for run in RUNS)
    assert len(ROWS) == 20


POOLINGS = {
    "average": "average pooling",
    "max, of spikes": "max, on spikes",
    "max, of decoded trains": "max, decoded",
    "average, Bernoulli coder": "average, Bernoulli spikes",
}
SPIKING = rf"^\| ({'|'.join(POOLINGS)}) \| ([\d., ]+) \| ([\d., ]+) \| ([\d., ]+) \|$"


def found_by(study):
    """What a study found, as recorded."""
    return json.loads((ROOT / f"records/studies/{study}.json").read_text())["found"]


def cosines(weights, pooling, to):
    """Means over batches, by layer."""
    layers = found_by("spiking-alignment")[weights][pooling][to]["layers"]
    return [mean(layer["cosine"]) for layer in layers.values()]


def test_the_readmes_cosines_of_spiking_gradients():
    rows = re.findall(SPIKING, (ROOT / "README.md").read_text(), re.MULTILINE)
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
    for folder in (run for run in RUNS if run.match(f"{name}/ep-seed-*")):
        rows = RunFolder(folder).rows()
        assert rows[-1]["test_error"] <= most
        assert sum(row["seconds"] for row in rows) <= 3600

"""A tiny paper for ``eqprop reproduce``: two checks, two trainings, their quick versions; helpers to read its report."""

import re
from dataclasses import replace

import eqprop as ep
from eqprop.models.mlp import MLP
from eqprop.models.toy import Toy
from eqprop.papers import RECIPES, Published, baseline
from eqprop.papers.catalog import PAPERS
from eqprop.papers.reproduction.paper import Check, Paper, Row
from eqprop.theorem import result
from eqprop.theorem.experiment import RANDOM, Experiment
from eqprop.training import SGD, Data, Run, create_run, train_run

INSIDE = ep.Prototypical(nudge="inside")
TINY = Run(
    "tiny", Data("digits", 60), MLP((64, 12, 10), "sigmoid", dynamics=INSIDE),
    ep.EquilibriumProp(6, 3, 0.2, "centred"), SGD(1.0), epochs=2,
)  # fmt: skip
TOY = Check(Experiment("tiny-toy", Data(RANDOM, 1), Toy(hidden=6), ep.EquilibriumProp(60, 5, 0.01)), "Fig. 1")
EXACT = Check(
    Experiment("tiny-exact", Data("digits", 3), TINY.model, ep.EquilibriumProp(60, 4, 0.01), "float64"),
    "–",
    (0.1, 0.001),
)
ROWS = ["eqprop train tiny", "eqprop train tiny --estimator bptt"]
SHORT = replace(TINY, epochs=1)
PAPER = Paper(
    "tiny2026",
    "Tiny & others 2026: less < more",
    "A claim, as plain as can be.",
    (TOY, EXACT),
    (Row(TINY, ROWS[0]), Row(baseline(TINY), ROWS[1])),
    ("tiny-toy",),
    (
        Row(SHORT, "eqprop train tiny --epochs 1", reduced=True),
        Row(baseline(SHORT), "eqprop train tiny --epochs 1 --estimator bptt", reduced=True),
    ),
)
KNOWN = (
    Published("tiny", "EP", 12.34, 0.56, 7.89, "Tiny 2026, Table 1", "the published figure is made up"),
    Published("tiny", "BPTT", 0.01, 0.02, None, "Tiny 2026, Table 1"),
)
CALL = "reproduce tiny2026 --fresh --out out"
TRAIN = f"{CALL} --train tiny --seeds 2"
FOLDERS = [f"trainings/tiny/{method}/seed-{seed}" for method in ("ep", "bptt") for seed in (0, 1)]


def use_paper(patch, paper: Paper = PAPER, *runs: Run) -> None:
    """Register a paper with its recipes and published errors."""
    patch.setitem(PAPERS, paper.name, paper)
    for run in (TINY, *runs):
        patch.setitem(RECIPES, run.name, lambda run=run: run)
    patch.setattr("eqprop.papers.registry.PUBLISHED", KNOWN)


def disable_figures(patch) -> None:
    """Draw no figures; they take longer than everything else."""
    patch.setattr("eqprop.cli.reproduction.can_draw", lambda: False)
    patch.setattr("eqprop.cli.reproduction.drawable", lambda: False)


def write_result(one: Experiment, folder, betas=(), **options) -> None:
    """Compute an experiment and write its result to a folder."""
    model = one.build()
    result.write_result(result.run_experiment(one, model, one.batch(model), betas, **options)[1], folder)


def train_in(run: Run, folder, *, end: bool = True) -> None:
    """Create a run folder, and train it unless ``end`` is False."""
    create_run(run, folder)
    if end:
        train_run(folder)


def tables(text: str) -> list[list[dict[str, str]]]:
    """Return the rows of every table of a Markdown report, as dictionaries by column."""
    found = []
    for block in text.split("\n\n"):
        if block.startswith("| "):
            head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines()]
            found.append([dict(zip(head, row, strict=True)) for row in rows])
    return found


def report_text(folder) -> str:
    return (folder / "report.md").read_text()


def without_times(text: str) -> str:
    """Return a text with times replaced by a word."""
    return re.sub(r" +\|", " |", re.sub(r"\d[\d.e+-]* (s|min|h)\b", "TIME", re.sub(r"-{3,}", "---", text)))


def modification_times(folder) -> dict[str, int]:
    """Return the time of the last change of each file."""
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def forbid(*arguments, **options):
    raise AssertionError("this is finished already")

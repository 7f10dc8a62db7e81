"""``eqprop reproduce PAPER``: the figures and tables of a paper, computed or taken from the records, and a report of them."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import tyro

from eqprop._core.checks import ArgumentError, positive_int
from eqprop.cli.console import echo
from eqprop.cli.errors import UsageError, report_full_disk, unknown
from eqprop.cli.options import HIDE_DEFAULT, parse
from eqprop.cli.parsers import as_device
from eqprop.cli.reproduction import Reproduction
from eqprop.cli.runs import MAX_SEEDS
from eqprop.cli.targets import check_creatable, check_writable
from eqprop.papers.catalog import PAPERS
from eqprop.papers.reproduction.paper import Paper, Row
from eqprop.papers.reproduction.records import Findings, config_key

__all__ = ["Reproduce", "main"]


@dataclass(frozen=True)
class Reproduce:
    """Repeat the experiments of a paper, or take them from the records, and write report.html and report.md.

    Args:
        out: output folder; an existing one is continued. Default: runs/reproduce-PAPER.
        quick: run a reduced version that takes a few minutes on two cores.
        train: recipes of the table, or figures, whose missing trainings are run; hours to days on a CPU. Default: none.
        seeds: number of seeds of each recipe of the table.
        records: folder of records. Default: that of the source checkout.
        fresh: ignore the records.
        device: where to compute: "cpu", "cuda" or "cuda:1".
        root: folder in which to look for data sets first.
    """

    out: Annotated[Path | None, HIDE_DEFAULT] = None
    quick: bool = False
    train: Sequence[str] = ()
    seeds: int = 5
    records: Annotated[Path | None, HIDE_DEFAULT] = None
    fresh: bool = False
    device: str = "cpu"
    root: Annotated[str | None, tyro.conf.arg(name="data.root", help_behavior_hint="")] = None

    def __post_init__(self) -> None:
        positive_int("seeds", self.seeds, most=MAX_SEEDS)
        as_device(self.device)
        if self.records is not None and not self.records.is_dir():
            raise ArgumentError("records", f"`records` must be an existing folder, got {str(self.records)!r}")
        if self.root is not None and not Path(self.root).expanduser().is_dir():
            raise ArgumentError("root", f"`root` must be an existing folder, got {self.root!r}")
        if self.quick and self.train:
            raise ArgumentError("train", "`train` applies to the full reproduction: leave `quick` out")


def main(words: list[str]) -> int:
    """Run the command."""
    paper, rest = _split_paper(words)
    options = parse(Reproduce, rest, f"eqprop reproduce {paper.name}")
    rows = _rows_to_train(paper, options)
    out = options.out or Path("runs", f"reproduce-{paper.name}" + "-quick" * options.quick)
    check_creatable(out)
    checks = [c for c in paper.checks if not options.quick or c.experiment.name in paper.quick_checks]
    if options.quick and paper.quick_studies:
        paper = replace(paper, studies=paper.quick_studies)
    if out.is_dir():
        check_writable(out)
    work = Reproduction(paper, Findings(out), record_folders(options), options.device, options.root, options.quick)
    with report_full_disk(out, "call it again"):
        for n, check in enumerate(checks, start=1):
            echo(f"theorem {n}/{len(checks)}, {check.experiment.name}: {work.run_check(check)}")
        if not options.quick:
            work.draw_check_figures()
        for study in paper.quick_studies if options.quick else paper.studies:
            echo(f"{study.name}: {work.run_study(study)}")
        finished = work.trainings(records=not options.quick)
        for n, (row, seeds) in enumerate(rows, start=1):
            done = [training.run.seed for training in finished.get(config_key(row.run), [])]
            left = [seed for seed in range(seeds) if seed not in done]
            echo(f"training {n}/{len(rows)}, {row.run.name} by {row.method}: {work.run_training(row, left)}")
        work.write_report(checks, [row for row, _ in rows])
    return 1 if work.undrawn else 0


def _split_paper(words: list[str]) -> tuple[Paper, list[str]]:
    if not words or words[0] in ("-h", "--help"):
        sys.stdout.write(f"usage: eqprop reproduce PAPER [OPTIONS]\n\npapers: {', '.join(PAPERS)}\n\n")
        sys.stdout.write("`eqprop reproduce PAPER --help` lists the options\n")
        raise SystemExit(0 if words else 2)
    if words[0].startswith("-"):
        raise UsageError(f"the paper comes first: `eqprop reproduce PAPER [OPTIONS]`, got {words[0]!r}")
    if words[0] not in PAPERS:
        raise unknown("paper", words[0], list(PAPERS), f"known: {', '.join(PAPERS)}")
    return PAPERS[words[0]], words[1:]


def _rows_to_train(paper: Paper, options: Reproduce) -> list[tuple[Row, int]]:
    for name in options.train:
        if name not in paper.trainable_names:
            known = paper.trainable_names
            raise unknown("recipe or figure", name, known, f"--train takes {', '.join(known)}")
    if options.quick:
        return [(row, 1) for row in paper.quick_rows]
    return [pair for name in dict.fromkeys(options.train) for pair in paper.rows_named(name, options.seeds)]


def record_folders(options: Reproduce) -> list[Path]:
    """Return the folder of records in a list; an empty list if there is none or it is not to be used."""
    folder = options.records or Path(__file__).parents[4] / "records"
    return [] if options.fresh or not folder.is_dir() else [folder]

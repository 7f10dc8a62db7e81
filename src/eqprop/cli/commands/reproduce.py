"""``eqprop reproduce PAPER``: the figures and the table of a paper, run or taken from the records, and an account of them."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import tyro

from eqprop._core.checks import positive_int
from eqprop.cli.console import echo
from eqprop.cli.errors import UsageError, report_full_disk, unknown
from eqprop.cli.options import HIDE_DEFAULT, parse
from eqprop.cli.parsers import as_device
from eqprop.cli.reproduction import Work, checked, columns, studied, tell, trained
from eqprop.cli.targets import check_creatable
from eqprop.papers.catalog import PAPERS
from eqprop.papers.reproduction.paper import Paper, Row
from eqprop.papers.reproduction.records import key, trainings_in
from eqprop.papers.reproduction.tables import Findings

__all__ = ["Reproduce", "main"]


@dataclass(frozen=True)
class Reproduce:
    """Run the experiments of a paper, or take what was run with the same configuration; write report.html and report.md.

    Args:
        out: folder of everything; the same one again goes on where it stopped. runs/reproduce-PAPER where left out.
        quick: a reduced version, in a few minutes on two cores.
        train: recipes of the table, or figures of trainings, to train where they are not in the records, all seeds; hours to
            days on a CPU. Nothing is trained where left out.
        seeds: so many seeds of each recipe of the table.
        records: folder of records; that of the checkout where left out.
        fresh: take nothing from the records.
        device: where to compute: "cpu", "cuda" or "cuda:1".
        root: a folder to look for the data in first.
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
        positive_int("seeds", self.seeds)
        as_device(self.device)
        if self.records is not None and not self.records.is_dir():
            raise ValueError(f"`records` must name a folder, got {str(self.records)!r}")
        if self.root is not None and not Path(self.root).expanduser().is_dir():
            raise ValueError(f"`root` must name a folder, got {self.root!r}")
        if self.quick and self.train:
            raise ValueError("`train` is for the whole reproduction: leave `quick` out")


def main(words: list[str]) -> int:
    """Do what is missing, and tell of all of it."""
    paper, rest = named(words)
    options = parse(Reproduce, rest, f"eqprop reproduce {paper.name}")
    rows = asked(paper, options)
    out = options.out or Path("runs", f"reproduce-{paper.name}" + "-quick" * options.quick)
    check_creatable(out)
    checks = [c for c in paper.checks if not options.quick or c.experiment.name in paper.quick_checks]
    if options.quick and paper.quick_studies:
        paper = replace(paper, studies=paper.quick_studies)
    work = Work(Findings(out), recorded(options), options.device, options.root, quick=options.quick)
    with report_full_disk(out, "call it again"):
        for n, check in enumerate(checks, start=1):
            echo(f"theorem {n}/{len(checks)}, {check.experiment.name}: {checked(check, work)}")
        if not options.quick:
            columns(paper, work)
        for study in paper.quick_studies if options.quick else paper.studies:
            echo(f"{study.name}: {studied(study, work)}")
        there = trainings_in(work.here if options.quick else work.everywhere)
        for n, (row, seeds) in enumerate(rows, start=1):
            done = [training.run.seed for training in there.get(key(row.run), [])]
            left = [seed for seed in range(seeds) if seed not in done]
            echo(f"training {n}/{len(rows)}, {row.run.name} by {row.by}: {trained(row, left, work)}")
        work.take(trainings_in(work.everywhere), [*paper.rows, *(row for row, _ in rows), *paper.figured()])
        tell(paper, work, checks, list(paper.quick_rows) if options.quick else [])
    return 0


def named(words: list[str]) -> tuple[Paper, list[str]]:
    """The paper of the first word, and the rest.

    Raises:
        UsageError: if there is none of that name.
        SystemExit: after ``--help``.
    """
    if not words or words[0] in ("-h", "--help"):
        sys.stdout.write(f"usage: eqprop reproduce PAPER [OPTIONS]\n\npapers: {', '.join(PAPERS)}\n\n")
        sys.stdout.write("`eqprop reproduce PAPER --help` lists the options\n")
        raise SystemExit(0 if words else 2)
    if words[0].startswith("-"):
        raise UsageError(f"the paper comes first: `eqprop reproduce PAPER [OPTIONS]`, got {words[0]!r}")
    if words[0] not in PAPERS:
        raise unknown("paper", words[0], list(PAPERS), f"known: {', '.join(PAPERS)}")
    return PAPERS[words[0]], words[1:]


def asked(paper: Paper, options: Reproduce) -> list[tuple[Row, int]]:
    """The trainings to be done, and how many seeds of each.

    Raises:
        UsageError: if a name is neither a recipe of the paper's table nor one of its figures of trainings.
    """
    for name in options.train:
        if name not in paper.names:
            raise unknown("row", name, paper.names, f"--train takes {', '.join(paper.names)}")
    if options.quick:
        return [(row, 1) for row in paper.quick_rows]
    return [pair for name in dict.fromkeys(options.train) for pair in paper.named(name, options.seeds)]


def recorded(options: Reproduce) -> list[Path]:
    """The folder of records, if there is one and it is to be used."""
    folder = options.records or Path(__file__).parents[4] / "records"
    return [] if options.fresh or not folder.is_dir() else [folder]

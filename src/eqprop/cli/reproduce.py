"""``eqprop reproduce PAPER``: the figures and the table of a paper, run or taken from the records, and an account of them."""

import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated

import tyro

from eqprop import plots
from eqprop.checks import positive_int
from eqprop.cli.devices import as_device
from eqprop.cli.errors import Failed, UsageError, unknown
from eqprop.cli.gdu import draw
from eqprop.cli.parse import parse
from eqprop.cli.pictures import drawable
from eqprop.cli.show import counting, download_progress, say
from eqprop.cli.study import Means, carry_out
from eqprop.cli.subject import can_draw, makeable, writing
from eqprop.cli.train import LeftOut
from eqprop.data import DataError
from eqprop.files import write_atomic
from eqprop.report import html, markdown
from eqprop.reproduction.account import account
from eqprop.reproduction.evidence import find_result, find_trainings, result_in
from eqprop.reproduction.paper import PAPERS, Check, Paper, Row
from eqprop.reproduction.tables import Findings
from eqprop.theorem.report import layer_errors
from eqprop.theorem.result import conduct, write
from eqprop.training.folder import Folder
from eqprop.training.run import Data
from eqprop.training.session import read_run, start

__all__ = ["Reproduce", "main"]


@dataclass(frozen=True)
class Reproduce:
    """Run the experiments of a paper, or take what was run with the same configuration; write report.html and report.md.

    Args:
        out: folder of everything; the same one again goes on where it stopped. runs/reproduce-PAPER where left out.
        quick: a reduced version, in a few minutes on two cores.
        train: recipes of the table to train where they are not in the records, all seeds; hours to days on a CPU. Nothing is
            trained where left out.
        seeds: so many seeds of each.
        records: folder of records; that of the checkout where left out.
        fresh: take nothing from the records.
        device: where to compute: "cpu", "cuda" or "cuda:1".
        root: a folder to look for the data in first.
    """

    out: Annotated[Path | None, LeftOut] = None
    quick: bool = False
    train: Sequence[str] = ()
    seeds: int = 5
    records: Annotated[Path | None, LeftOut] = None
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
    makeable(out)
    checks = [c for c in paper.checks if not options.quick or c.experiment.name in paper.quick_checks]
    found = Findings(out)
    with writing(out, "call it again"):
        for n, check in enumerate(checks, start=1):
            say(f"theorem {n}/{len(checks)}, {check.experiment.name}: {done(check, found, options)}")
        for n, row in enumerate(rows, start=1):
            say(f"training {n}/{len(rows)}, {row.run.name} by {row.run.method}: {trained(row, found, options)}")
        for row in {row.command: row for row in (*paper.rows(), *rows)}.values():
            if there := find_trainings(row, [*here(out), *recorded(options)]):
                found.trainings[row.command] = there
        tell(paper, found, checks, paper.quick_rows() if options.quick else [])
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


def asked(paper: Paper, options: Reproduce) -> list[Row]:
    """The trainings to be done.

    Raises:
        UsageError: if a recipe is not in the paper's table.
    """
    for name in options.train:
        if name not in paper.trainings:
            raise unknown("row", name, list(paper.trainings), f"--train takes {', '.join(paper.trainings)}")
    return paper.quick_rows() if options.quick else [row for row in paper.rows() if row.run.name in options.train]


def recorded(options: Reproduce) -> list[Path]:
    """The folder of records, if there is one and it is to be used."""
    folder = options.records or Path(__file__).parents[3] / "records"
    return [] if options.fresh or not folder.is_dir() else [folder]


def done(check: Check, found: Findings, options: Reproduce) -> str:
    """See that a check is done, and say how; a quick reproduction takes from the records only what it cannot do."""
    name = check.experiment.name
    place = found.folder / "theorem" / name
    said = "is there"
    if result_in(place, check) is None:
        first = None if options.quick else taken(check, place, options)
        said = first or attempt(lambda: carried_out(check, place, options), name, check.experiment.data, found)
        if name in found.reasons and (instead := taken(check, place, options)):
            said = f"{said}; {instead}"
    if (result := result_in(place, check)) is not None:
        found.results[name] = result
    return said


def taken(check: Check, place: Path, options: Reproduce) -> str | None:
    """Copy a result out of the records, if it is there."""
    for root in recorded(options):
        if (source := find_result(check, root)) is not None:
            draft = place.with_name(f".{place.name}.part")
            for old in (place, draft):
                shutil.rmtree(old, ignore_errors=True)
            shutil.copytree(source, draft)
            draft.rename(place)  # so that a kill leaves all of it or nothing
            return "taken from the records"
    return None


def carried_out(check: Check, place: Path, options: Reproduce) -> str:
    """Do a check, and leave result and pictures."""
    asked = replace(check.experiment, data=replace(check.experiment.data, root=options.root))
    model = asked.build(options.device)
    batch = asked.batch(model, download_progress(asked.data.name))
    with counting(f"{asked.name}, free phase") as progress:
        report, result = conduct(asked, model, batch, check.betas, progress=progress)
    if drawable():
        draw(report, result, place)
    write(result, place)
    return f"done in {result.seconds:.1f} s"


def trained(row: Row, found: Findings, options: Reproduce) -> str:
    """Train what is missing of a row, and say so."""
    seeds = range(1 if options.quick else options.seeds)
    roots = here(found.folder) if options.quick else [*here(found.folder), *recorded(options)]
    there = {training.run.seed for training in find_trainings(row, roots)}
    left = [seed for seed in seeds if seed not in there]
    work = partial(trainings, row, left, found, options)
    return attempt(work, row.command, row.run.data, found) if left else "is there"


def here(folder: Path) -> list[Path]:
    """The folder of this reproduction, if it has begun."""
    return [folder] if folder.is_dir() else []


def trainings(row: Row, seeds: Sequence[int], found: Findings, options: Reproduce) -> str:
    """Train some seeds, or go on with them."""
    means = Means(device=options.device, plots=False)
    name = row.run.name + f"-{row.run.epochs}-epochs" * row.reduced
    top = found.folder / "trainings" / name / row.run.method.lower()
    folders = [top / f"seed-{seed}" for seed in seeds]
    for seed, folder in zip(seeds, folders, strict=True):
        if not Folder(folder).config.exists():
            start(row.seed(seed), folder, options.device)
        elif read_run(folder).to_json() != row.seed(seed).to_json():
            raise FileExistsError(f"{folder} holds another training: name another folder by --out")
    carry_out(folders, means, options.root, found.folder)
    return "trained"


def attempt(work: Callable[[], str], key: str, data: Data, found: Findings) -> str:
    """Do some work; if its data are not to be had, the account says so, and the rest goes on."""
    try:
        return work()
    except (FileNotFoundError, DataError) as error:
        found.reasons[key] = (
            f"not run: {data.name} is not on this machine (`eqprop data fetch {data.name}`)"
            if isinstance(error, FileNotFoundError)
            else f"not run: {data.name} could not be read or fetched (`eqprop data` tells more)"
        )
        return f"not run: {str(error).splitlines()[0]}"
    except FloatingPointError as error:
        raise Failed(f"{key}: {error}") from None


def tell(paper: Paper, found: Findings, checks: list[Check], reduced: list[Row]) -> None:
    """Write the account."""
    found.folder.mkdir(parents=True, exist_ok=True)
    if can_draw():
        pictures(paper, found)
    document = account(paper, found, checks, reduced)
    write_atomic(found.folder / "report.md", markdown(document, found.folder))
    write_atomic(found.folder / "report.html", html(document))
    owed = [row.command for row in paper.rows() if not found.trainings.get(row.command)]
    if owed:
        say(f"{len(owed)} rows of the table are not run yet, such as `{owed[0]}`")
    say(f"account in {found.folder / 'report.html'} and {found.folder / 'report.md'}")


def pictures(paper: Paper, found: Findings) -> None:
    """Those of several experiments or trainings."""
    if errors := {name: layer_errors(result.summary) for name, result in found.results.items()}:
        plots.relative_errors(errors, found.folder / "plots" / "errors")
    for ep, bptt in zip(paper.rows()[::2], paper.rows()[1::2], strict=True):
        curves = {
            row.run.method: [training.epochs for training in found.trainings[row.command]]
            for row in (ep, bptt)
            if found.trainings.get(row.command)
        }
        if curves:
            plots.error_curves(curves, found.folder / "plots" / f"training-{ep.run.name}", ep.run.name)

"""What a training came to: one line for a run, a table and a picture for several."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from eqprop._core.files import write_atomic
from eqprop.cli.console import echo, table
from eqprop.cli.figures import drawable
from eqprop.papers.registry import published_errors
from eqprop.plots import error_curves
from eqprop.report import markdown_table
from eqprop.training.config.run import Run
from eqprop.training.run_folder import Row, RunFolder
from eqprop.training.session import read_run
from eqprop.training.summary import Spread, summarize

__all__ = ["group", "tell"]

ORDER = ("EP", "C-EP", "VF", "C-VF", "BPTT")

HEAD = ("run", "seeds", "epochs", "train error", "test error", "last 5 epochs", "lowest", "s a run", "published")
REMARKS = """\
Errors in percent, mean ± standard deviation over seeds: after the last epoch; mean of the last five; lowest of all epochs,
which is what choosing the epoch on the test set would give. Published figures are as recalled. Seconds are by the clock: of seeds
that were trained at once, those of all together."""


def tell(out: Path, folders: Sequence[Path], *, plots: bool) -> int:
    """Say where the results are; of several runs, compare them."""
    if len(folders) > 1:
        compare(out, folders, plots=plots)
    echo(f"results in {out}")
    return 0


def compare(out: Path, folders: Sequence[Path], *, plots: bool) -> None:
    """Print the table of all runs, and leave it and the picture in ``out``."""
    groups = group(folders)
    lines = [line(label, members) for label, members in groups.items()]
    known = dict.fromkeys(
        p for members in groups.values() for run, _ in members for p in published_errors(run) if p.remark
    )
    remarks = [REMARKS, *(f"{p.recipe}, {p.method}: {p.remark}." for p in known)]
    write_atomic(out / "comparison.md", "\n\n".join([markdown_table(HEAD, lines), *remarks]) + "\n")
    table(HEAD, lines)
    curves = {label: [rows for _, rows in members] for label, members in groups.items()}
    if plots and drawable():
        error_curves(curves, out / "plots" / "errors", read_run(folders[0]).name)
        echo(f"picture: {out / 'plots' / 'errors.png'}")


Members = list[tuple[Run, list[Row]]]
"""Runs with their rows."""


def group(folders: Sequence[Path]) -> dict[str, Members]:
    """Those runs under one label that differ in nothing but their seed; in the same order wherever their folders are."""
    same: dict[str, Members] = {}
    found = [(read_run(folder), RunFolder(folder).rows()) for folder in folders]
    for run, rows in sorted(found, key=lambda member: place(member[0])):
        if rows:
            same.setdefault(replace(run, seed=0).to_json(), []).append((run, rows))
    groups: dict[str, Members] = {}
    for members in same.values():
        label = f"{members[0][0].name}, {members[0][0].method}"
        groups[label if label not in groups else f"{label} ({len(groups)})"] = members
    return groups


def place(run: Run) -> tuple[str, int, int]:
    """Where a run belongs in a table: first by an estimate, then by BPTT, what it estimates."""
    return run.name, ORDER.index(run.method) if run.method in ORDER else len(ORDER), run.seed


def line(label: str, members: Members) -> list[str]:
    """A group's row of the table."""
    found = summarize([rows for _, rows in members])
    if found is None:
        costs = Spread.of([rows[-1]["train_cost"] for _, rows in members])
        return [label, str(len(members)), str(len(members[0][1])), f"cost {costs.mean:.4g}", "", "", "", "", ""]
    errors = [s.percent() if s else "–" for s in (found.train, found.test, found.test_last, found.test_lowest)]
    known = ", ".join(f"{p.text} %" for p in published_errors(members[0][0]))
    return [
        label,
        str(found.seeds),
        str(found.epochs),
        *errors,
        f"{found.seconds:.{1 if found.seconds < 10 else 0}f}",
        known or "–",
    ]

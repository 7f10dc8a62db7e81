"""Summarize trainings: one line for a run; a table and a figure for several."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from eqprop._core.files import write_atomic
from eqprop.cli.console import echo, table
from eqprop.cli.figures import drawable, report_failed_drawing
from eqprop.papers.registry import published_errors
from eqprop.plots import error_curves, plain
from eqprop.report import markdown_table
from eqprop.training.config.run import Run
from eqprop.training.run_folder import Row
from eqprop.training.session import read_history, read_run
from eqprop.training.summary import Spread, summarize

__all__ = ["draw_all", "group_runs", "print_summary"]

METHODS = ("EP", "C-EP", "VF", "C-VF", "BPTT")
"""Order of the methods in a table."""

HEAD = ("run", "seeds", "epochs", "train error", "test error", "last 5 epochs", "lowest", "s a run", "published")
REMARKS = """\
Errors in percent, mean ± standard deviation over seeds: after the last epoch; mean of the last five epochs; lowest of all
epochs, as if the epoch were selected on the test set. Published figures are as recalled. Seconds are wall-clock time; for seeds
that were trained together, it is the time of all of them."""

RunsWithRows = list[tuple[Run, list[Row]]]
"""Runs and the rows of their metrics."""


def print_summary(out: Path, folders: Sequence[Path], *, plots: bool) -> int:
    """Print where the results are and, for several runs, compare them; return the exit code."""
    if len(folders) > 1:
        _compare(out, folders, plots=plots)
    echo(f"results in {out}")
    return 0


def _compare(out: Path, folders: Sequence[Path], *, plots: bool) -> None:
    """Print the table of all runs; write it and the figure to ``out``.

    Raises:
        DrawingFailedError: if the figure could not be drawn.
    """
    groups = group_runs(folders)
    lines = [_line(label, members) for label, members in groups.items()]
    known = dict.fromkeys(
        p for members in groups.values() for run, _ in members for p in published_errors(run) if p.remark
    )
    remarks = [REMARKS, *(f"{p.recipe}, {p.method}: {p.remark}." for p in known)]
    write_atomic(out / "comparison.md", "\n\n".join([markdown_table(HEAD, lines), *remarks]) + "\n")
    table(HEAD, lines)
    curves = {label: [rows for _, rows in members] for label, members in groups.items()}
    if plots and drawable():
        with report_failed_drawing(out, "all runs are trained", f"eqprop plot {out}"):
            draw_all(curves, out, read_run(folders[0]).name)
        echo(f"picture: {out / 'plots' / 'errors.png'}")


def draw_all(curves: Mapping[str, Sequence[Sequence[Row]]], out: Path, name: str) -> None:
    """Draw the errors of all runs in one figure."""
    error_curves({plain(label): rows for label, rows in curves.items()}, out / "plots" / "errors", plain(name))


def group_runs(folders: Sequence[Path]) -> dict[str, RunsWithRows]:
    """Return runs that differ in the seed only under one label; the order does not depend on the names of the folders."""
    runs = [(read_run(folder), read_history(folder)) for folder in folders]
    same: dict[str, RunsWithRows] = {}
    for run, rows in sorted(runs, key=lambda member: _sort_key(member[0])):
        if rows:
            same.setdefault(replace(run, seed=0).to_json(), []).append((run, rows))
    groups: dict[str, RunsWithRows] = {}
    for members in same.values():
        label = f"{members[0][0].name}, {members[0][0].method}"
        groups[label if label not in groups else f"{label} ({len(groups)})"] = members
    return groups


def _sort_key(run: Run) -> tuple[str, int, int]:
    return run.name, METHODS.index(run.method) if run.method in METHODS else len(METHODS), run.seed


def _line(label: str, members: RunsWithRows) -> list[str]:
    """Return the row of one group of runs."""
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

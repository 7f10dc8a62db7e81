"""The account of a reproduction, as a document: the claim, the theorem, the trainings; what is owed says so."""

from collections.abc import Iterator

from eqprop.papers.ernoult2020.error_by_angle import angle_table, untrained
from eqprop.papers.registry import published
from eqprop.papers.reproduction.paper import Check, ErrorByAngle, Paper, Row, Sweep
from eqprop.papers.reproduction.studies import Study, Telling
from eqprop.papers.reproduction.tables import OWED, Findings, check_tables, failing, sweep_table, training_tables
from eqprop.report import Document, Picture, Section, Table
from eqprop.theorem.report import layer_errors
from eqprop.theorem.result import Result
from eqprop.training.summary import summarize
from eqprop.version import __version__

__all__ = ["account"]

Part = str | Table | Picture

THEOREM = (
    "A free phase of T steps settles each network from zero; from where it ends, a nudged phase of K steps pulls the output "
    "towards the target with strength beta. Errors are of EP's increments against BPTT's gradients over the K steps, relative, as "
    "in the paper (there “RMSE”): means over units (of batch means), or over synapses. The published figures show no numbers.",
    "- s1 is the first hidden population, 0→1 the weights from the input to it; the last population is the output.\n"
    "- residual: the largest motion of any unit in the last free step; angle: between EP's update of all weights and BPTT's.\n"
    "- What the theorem assumes is measured. *gradient dynamics* fails where a derivative is left out, as the paper's code does at "
    "the output of the energy-based networks; *nudge*, where it enters outside of the activation, as in the paper's prototypical "
    "networks; *steady state*, where the free phase had not come to rest; *precision*, where rounding errors show once they "
    "are divided by beta.\n"
    "- *slow weights* is of continual EP alone, and fails where the weights move enough within a phase to change its increments.\n"
    "- Experiments named `-exact` have the derivative and the inner nudge, in double precision: at a steady state their error must "
    "fall with beta.",
)
TRAININGS = (
    "Errors in percent after the last epoch, mean ± standard deviation over seeds; last five: mean of the test errors after the "
    "last five epochs. Published figures are over five runs, and as remembered from the paper, not checked against it."
)
REDUCED = "For a first look only: fewer epochs than were published, or a data set of our own."
AGAIN = (
    "`eqprop reproduce {name}` carries out the experiments on the theorem, takes trainings and experiments with the same "
    "configuration from the records of the checkout, and writes this account. `--train RECIPE ...` trains what is missing, "
    "`--fresh` takes nothing from the records, `--quick` does a reduced version. Called again it goes on where it stopped. "
    "`--seed N` gives another seed to a training or an experiment of the table."
)


def account(paper: Paper, found: Findings, checks: list[Check], reduced: list[Row]) -> Document:
    """The document.

    Args:
        paper: what was reproduced.
        found: what is there, pictures included.
        checks: those that were to be done.
        reduced: trainings that were to be done in a reduced form.
    """
    sections = [
        Section("The claim", [paper.claim]),
        Section("In short", ["\n".join(f"- {line}" for line in in_short(paper, found, checks))]),
        *theorem(paper, found, checks),
        Section("Training", trained(paper, found)),
    ]
    sections += [Section(study.title, studied(study, found)) for study in paper.studies]
    sections += [Section(figure.title, against_angles(paper, figure, found)) for figure in paper.by_angle]
    sections += [Section(sweep.title, swept_over(paper, sweep, found)) for sweep in paper.sweeps]
    if reduced:
        sections.append(Section("Reduced trainings", [REDUCED, *training_tables(reduced, found)]))
    sections.append(Section("How to make this again", [AGAIN.format(name=paper.name)]))
    return Document(f"{paper.title} – reproduced with eqprop {__version__}", sections)


def theorem(paper: Paper, found: Findings, checks: list[Check]) -> Iterator[Section]:
    """The section on experiments, if the paper has some."""
    if checks:
        parts = [*THEOREM, *check_tables(checks, found), *theorem_pictures(paper, found, checks)]
        yield Section("The theorem", parts)


def trained(paper: Paper, found: Findings) -> list[Part]:
    """The table of trainings, what others published, and curves."""
    others = [] if paper.others is None else [paper.others]
    tables = training_tables(paper.rows, found)
    return [paper.trainings or TRAININGS, *tables, *others, *remarks(paper), *curves(paper, found)]


def in_short(paper: Paper, found: Findings, checks: list[Check]) -> Iterator[str]:
    """One line for each thing that a reader in a hurry wants to know."""
    done = [found.results[check.experiment.name] for check in checks if check.experiment.name in found.results]
    sound = [result for result in done if not failing(result.summary)]
    if checks:
        yield f"**Theorem**: {len(done)} of {len(checks)} experiments run; all assumptions hold in {len(sound)} of them."
    yield from (swept(result) for result in sound if result.betas)
    for study in paper.studies:
        if isinstance(study, Telling) and study.name in found.studies:
            yield from study.short(found.studies[study.name]["found"])
    rows = paper.rows
    ran = sum(bool(found.trainings.get(row.command)) for row in rows)
    others = f"“{OWED}”" + " or as diverged" * any(row.command in found.diverged for row in rows)
    yield f"**Training**: {ran} of {len(rows)} rows of the table run; the others are marked {others}."
    yield from filter(None, (error_of(row, found) for row in rows))


def error_of(row: Row, found: Findings) -> str | None:
    """A row that is there beside what was published; a single run is held against the spread of the published runs."""
    trainings = found.trainings.get(row.command)
    summary = summarize([training.epochs for training in trainings]) if trainings else None
    diverged = found.divergence(row.command)
    if summary is None:
        return f"`{row.run.name}` by {row.by}: {diverged}." if diverged else None
    said = f"`{row.run.name}` by {row.by}: test error {summary.test.percent()}"
    said += f" over {summary.seeds} seeds" if summary.seeds > 1 else " (one seed)"
    for known in published(row.run):
        reached = 100 * summary.test.mean <= known.test + 2 * (known.spread or 0.0)
        said += f", published {known.text} %"
        said += "" if reached else ": **not reached**"
    return f"{said}; {diverged}." if diverged else f"{said}."


def swept(result: Result) -> str:
    """How the error falls with beta."""
    by_beta = {s["beta"]: max(layer_errors(s).values()) for s in (*result.betas, result.summary)}
    (most, high), (least, low) = max(by_beta.items()), min(by_beta.items())
    name = result.experiment.name
    return f"`{name}`: the largest relative error is {high:.2g} at beta = {most:g} and {low:.2g} at beta = {least:g}."


def theorem_pictures(paper: Paper, found: Findings, checks: list[Check]) -> Iterator[Part]:
    """Those of the checks that are there; a check that stands beside others in a picture has none of its own."""
    yield from picture(found, "plots/errors", "Relative errors, layer by layer.")
    yield from (f"{c.name}: {found.reasons[c.name]}." for c in paper.columns if c.name in found.reasons)
    together = [(c, list(picture(found, f"plots/{c.name}", c.caption))) for c in paper.columns]
    yield from (drawn for _, pictures in together for drawn in pictures)
    beside = {name for columns, pictures in together if pictures for name in columns.checks.values()}
    for check in checks:
        if check.experiment.name in beside:
            continue
        name = check.experiment.name
        where = f" ({check.place} of the paper)" if check.place != "–" else ""
        by_beta = f"{name}: relative error, and angle of the total update, against beta."
        plain = f"{name}{where}: EP's increments (dashed) and minus BPTT's gradients (solid), some units and synapses."
        which, caption = ("betas", by_beta) if check.betas else ("increments", plain)
        if name in found.results:
            yield from picture(found, f"theorem/{name}/plots/{which}", caption)


def studied(study: Study, found: Findings) -> list[Part]:
    """A computation: what it is, its table and its picture."""
    facts = found.studies.get(study.name)
    if facts is None:
        return [study.text, f"{found.reasons.get(study.name, OWED)}."]
    return [study.text, study.table(facts["found"]), *picture(found, f"plots/{study.name}", study.title)]


def swept_over(paper: Paper, sweep: Sweep, found: Findings) -> list[Part]:
    """A figure of trainings: its table, with what was not run, and its picture."""
    parts: list[Part] = [sweep.text, sweep_table(sweep, found), *picture(found, f"plots/{sweep.name}", sweep.title)]
    owed = [row for row in sweep.rows() if row.command not in (*found.trainings, *found.diverged)]
    if owed:
        command = f"eqprop reproduce {paper.name} --train {sweep.name}"
        parts.append(f"{len(owed)} of {len(sweep.rows())} trainings are {OWED}: `{command}`.")
    return parts


def against_angles(paper: Paper, figure: ErrorByAngle, found: Findings) -> list[Part]:
    """A figure of errors against angles: its table, its picture, and which points of our own it lacks."""
    parts: list[Part] = [figure.text, angle_table(figure, found), *picture(found, f"plots/{figure.name}", figure.title)]
    if figure.study not in found.studies:
        parts.append(f"No points of our own: their angles are {OWED}.")
    elif lacking := untrained(figure, found):
        command = f"eqprop reproduce {paper.name} --train {figure.name}"
        parts.append(
            f"Without a point of their own, for want of a whole training: {lacking}. `{command}` trains one seed of each."
        )
    return parts


def remarks(paper: Paper) -> Iterator[Part]:
    """What published figures leave open."""
    said = dict.fromkeys(f"- {p.recipe}: {p.remark}." for row in paper.rows for p in published(row.run) if p.remark)
    if said:
        yield "\n".join(said)


def curves(paper: Paper, found: Findings) -> Iterator[Part]:
    """Errors over the epochs of the trainings that are there."""
    for name in dict.fromkeys(row.run.name for row in paper.rows):
        caption = f"{name}: errors over the epochs; bands from the least to the most of several seeds."
        yield from picture(found, f"plots/training-{name}", caption)


def picture(found: Findings, name: str, caption: str) -> Iterator[Picture]:
    """The picture of that name, if it was drawn."""
    path = found.folder / name
    if all(path.with_name(f"{path.name}.{kind}").exists() for kind in ("png", "svg")):
        yield Picture(path, caption)

"""The report of a reproduction: the claim, a summary, theorem, trainings, studies and figures; missing work is marked."""

from collections.abc import Iterator

from eqprop.papers.registry import published_errors
from eqprop.papers.reproduction.paper import Check, ErrorByAngle, Paper, Row, Sweep
from eqprop.papers.reproduction.records import Findings
from eqprop.papers.reproduction.studies import Study
from eqprop.papers.reproduction.tables import (
    NOT_RUN,
    angle_table,
    rules_without_training,
    source_text,
    summary_of,
    sweep_table,
    theorem_tables,
    training_tables,
    violated_assumptions,
)
from eqprop.report import Document, Picture, Section, Table
from eqprop.theorem.report import layer_errors
from eqprop.theorem.result import Result
from eqprop.version import __version__

__all__ = ["build_report"]

Part = str | Table | Picture

_THEOREM = (
    "A free phase of T steps settles each network from zero. From its end, a nudged phase of K steps pulls the output towards the "
    "target with strength beta. Errors are relative errors of EP's increments against BPTT's gradients over the K steps, as "
    "in the paper (there “RMSE”): means over neurons (of batch means), or over synapses. The paper's figures show no numbers.",
    "- Layers: s1 is the first hidden layer, 0→1 the weights from the input to it; the last layer is the output.\n"
    "- Residual: the largest change of any unit in the last free step. Angle: between EP's update of all weights and BPTT's.\n"
    "- The assumptions of the theorem are measured. *gradient dynamics* is violated where a derivative is left out, as in the "
    "paper's code at the output of the energy-based networks; *nudge*, where the nudge enters outside the activation, as in the "
    "paper's prototypical networks; *steady state*, where the free phase has not converged; *precision*, where rounding errors "
    "are visible after division by beta; *slow weights* (continual EP only), where the weights move enough within a "
    "phase to change its increments.\n"
    "- Experiments named `-exact` keep the derivative, nudge inside the activation and use double precision: at a steady state "
    "their error must decrease with beta.",
)
_TRAININGS = (
    "Errors are in percent after the last epoch, mean ± standard deviation over seeds; “last five epochs” is the mean of the test "
    "errors after each of the last five epochs. Published errors are over five runs. “From memory” means that a published error "
    "was not checked against the paper."
)
_REDUCED = "For a first look only: fewer epochs than published, or the 8x8 digits of this package."
_AGAIN = (
    "`eqprop reproduce {name}` runs the experiments on the theorem, takes trainings and experiments with the same "
    "configuration from the records of the checkout, and writes this report. `--train RECIPE ...` trains what is missing, "
    "`--fresh` ignores the records, `--quick` runs a reduced version. Called again, it continues where it stopped. "
    "`--seed N` gives another seed to a training or an experiment of the tables."
)


def build_report(paper: Paper, found: Findings, checks: list[Check], reduced: list[Row]) -> Document:
    """Return the report.

    Args:
        paper: the paper.
        found: results, trainings and images found so far.
        checks: the theorem experiments to report.
        reduced: the trainings of the quick version to report.
    """
    sections = [
        Section("Claim", [paper.claim]),
        Section("Summary", ["\n".join(f"- {line}" for line in _summary(paper, found, checks))]),
    ]
    if checks:
        pictures = _theorem_pictures(paper, found, checks)
        sections.append(Section("Theorem", [*_THEOREM, *theorem_tables(checks, found), *pictures]))
    sections.append(Section("Training", list(_training_parts(paper, found))))
    sections += [Section(study.title, _study_parts(study, found)) for study in paper.studies]
    sections += [Section(figure.title, _angle_parts(paper, figure, found)) for figure in paper.angle_figures]
    sections += [Section(sweep.title, _sweep_parts(paper, sweep, found)) for sweep in paper.sweeps]
    if reduced:
        sections.append(Section("Reduced trainings", [_REDUCED, *training_tables(reduced, found)]))
    sections.append(Section("How to repeat this", [_AGAIN.format(name=paper.name)]))
    return Document(f"{paper.title} – reproduced with eqprop {__version__}", sections)


def _summary(paper: Paper, found: Findings, checks: list[Check]) -> Iterator[str]:
    done = [found.results[check.experiment.name] for check in checks if check.experiment.name in found.results]
    valid = [result for result in done if not violated_assumptions(result.summary)]
    if checks:
        yield f"**Theorem**: {len(done)} of {len(checks)} experiments run; all assumptions hold in {len(valid)} of them."
    yield from (_error_by_beta(result) for result in valid if result.betas)
    for study in paper.studies:
        if study.name in found.studies:
            yield from study.summary(found.studies[study.name]["found"])
    rows = paper.rows
    ran = sum(bool(found.trainings.get(row.command)) for row in rows)
    others = f"“{NOT_RUN}”" + " or as diverged" * any(row.command in found.diverged for row in rows)
    yield f"**Training**: {ran} of {len(rows)} rows of the table run; the others are marked {others}."
    yield from filter(None, (_row_summary(row, found) for row in rows))


def _error_by_beta(result: Result) -> str:
    by_beta = {s["beta"]: max(layer_errors(s).values()) for s in (*result.betas, result.summary)}
    (most, high), (least, low) = max(by_beta.items()), min(by_beta.items())
    name = result.experiment.name
    return f"`{name}`: the largest relative error is {high:.2g} at beta = {most:g} and {low:.2g} at beta = {least:g}."


def _row_summary(row: Row, found: Findings) -> str | None:
    summary, diverged = summary_of(row, found), found.divergence(row.command)
    if summary is None:
        return f"`{row.run.name}` by {row.method}: {diverged}." if diverged else None
    text = f"`{row.run.name}` by {row.method}: test error {summary.test.percent()}"
    text += f" over {summary.seeds} seeds" if summary.seeds > 1 else " (one seed)"
    for known in published_errors(row.run):
        # two standard deviations of the published runs: about what a single run may differ by
        reached = 100 * summary.test.mean <= known.test + 2 * (known.spread or 0.0)
        text += f", published {known.text} % ({source_text(known)})" + ("" if reached else ": **not reached**")
    return f"{text}; {diverged}." if diverged else f"{text}."


def _theorem_pictures(paper: Paper, found: Findings, checks: list[Check]) -> Iterator[Part]:
    yield from _picture(found, "plots/errors", "Relative errors, layer by layer.")
    shared: set[str] = set()  # checks that are a column of a figure have none of their own
    for figure in paper.check_figures:
        if figure.name in found.reasons:
            yield f"{figure.name}: {found.reasons[figure.name]}."
        for picture in _picture(found, f"plots/{figure.name}", figure.caption):
            shared.update(figure.checks.values())
            yield picture
    for check in checks:
        name = check.experiment.name
        if name in shared or name not in found.results:
            continue
        if check.betas:
            caption = f"{name}: relative error, and angle of the total update, over beta."
            yield from _picture(found, f"theorem/{name}/plots/betas", caption)
        else:
            where = f" ({check.place} of the paper)" if check.place != "–" else ""
            caption = (
                f"{name}{where}: EP's increments (dashed) and minus BPTT's gradients (solid), some units and synapses."
            )
            yield from _picture(found, f"theorem/{name}/plots/increments", caption)


def _training_parts(paper: Paper, found: Findings) -> Iterator[Part]:
    yield paper.training_text or _TRAININGS
    yield from training_tables(paper.rows, found)
    if paper.other_results:
        yield paper.other_results
    known = (p for row in paper.rows for p in published_errors(row.run))
    remarks = dict.fromkeys(f"- {p.recipe}: {p.remark}." for p in known if p.remark)
    if remarks:
        yield "\n".join(remarks)
    for name in dict.fromkeys(row.run.name for row in paper.rows):
        caption = f"{name}: errors over epochs; bands span the smallest to the largest of several seeds."
        yield from _picture(found, f"plots/training-{name}", caption)


def _study_parts(study: Study, found: Findings) -> list[Part]:
    facts = found.studies.get(study.name)
    if facts is None:
        return [study.text, f"{found.reasons.get(study.name, NOT_RUN)}."]
    return [study.text, study.table(facts["found"]), *_picture(found, f"plots/{study.name}", study.title)]


def _sweep_parts(paper: Paper, sweep: Sweep, found: Findings) -> list[Part]:
    parts: list[Part] = [sweep.text, sweep_table(sweep, found), *_picture(found, f"plots/{sweep.name}", sweep.title)]
    missing = [row for row in sweep.rows() if row.command not in (*found.trainings, *found.diverged)]
    if missing:
        command = f"eqprop reproduce {paper.name} --train {sweep.name}"
        parts.append(f"{len(missing)} of {len(sweep.rows())} trainings are {NOT_RUN}: `{command}`.")
    return parts


def _angle_parts(paper: Paper, figure: ErrorByAngle, found: Findings) -> list[Part]:
    parts: list[Part] = [
        figure.text,
        angle_table(figure, found),
        *_picture(found, f"plots/{figure.name}", figure.title),
    ]
    if figure.study not in found.studies:
        parts.append(f"No points found here: the study of their angles is {NOT_RUN}.")
    elif missing := rules_without_training(figure, found):
        command = f"eqprop reproduce {paper.name} --train {figure.name}"
        parts.append(
            f"Rules without a point, because their training is {NOT_RUN}: {missing}. `{command}` trains one seed of each."
        )
    return parts


def _picture(found: Findings, name: str, caption: str) -> Iterator[Picture]:
    path = found.folder / name
    if all(path.with_name(f"{path.name}.{kind}").exists() for kind in ("png", "svg")):
        yield Picture(path, caption)

"""Errors against angles of first updates: the figure of a paper, and what there is of it here (Ernoult et al. 2020, Figure 5a)."""

from dataclasses import replace
from statistics import mean

from eqprop.models.mlp import MLP
from eqprop.papers.ernoult2020.recipes import UPDATE_ANGLES
from eqprop.papers.published_results import PublishedAngle
from eqprop.papers.registry import published
from eqprop.papers.reproduction.paper import AnglePoint, ErrorByAngle, Row, alone
from eqprop.papers.reproduction.studies import rule_name, update_angles
from eqprop.papers.reproduction.tables import Findings
from eqprop.report import Table
from eqprop.training.summary import Spread

__all__ = ["angle_table", "error_by_angle", "panels", "trained_rules", "untrained"]

HEAD = (
    "rule",
    "published angle, without t = 0",
    "published test error",
    "angle here, without t = 0",
    "angle here",
    "test error here",
)

DEFINITIONS = {"whole update": "angle", "t = 0 left out, as published": "without_first"}
"""Titles of panels, and what the study calls the angle."""


def error_by_angle() -> ErrorByAngle:
    """Figure 5a."""
    return ErrorByAngle(
        "error-by-angle",
        "Error against the angle of the first update",
        "Test error after the last epoch against the angle of the first update to BPTT's gradient, as Figure 5a of the paper, by "
        "both definitions of that angle: of the whole update, and with t = 0 left out of it, as the paper's code does. Published "
        "errors are as recalled, published angles read off the figure, both over five runs, and bars are deviations where they "
        "could be read. Here angles are means over five seeds and errors over those that were trained, and bars reach from least "
        "to most. Points of a rule with feedback weights of its own are joined in the order of their initial angles to the "
        "forward weights. Trainings of fewer epochs than were published have no point." + remarks(),
        update_angles().name,
        tuple(point(known) for known in UPDATE_ANGLES),
    )


def remarks() -> str:
    """What the published angles leave open."""
    said: dict[str, list[str]] = {}
    for known in UPDATE_ANGLES:
        said.setdefault(known.remark, []).append(rule_name(known))
    return "".join(f" {'; '.join(names)}: {remark}." for remark, names in said.items() if remark)


def point(known: PublishedAngle) -> AnglePoint:
    """What was published of a rule, and its training."""
    row = whole(known)
    error = published(row.run)[0]
    return AnglePoint(rule_name(known), row, (known.mean, known.spread), (error.test, error.spread or 0.0))


def whole(known: PublishedAngle) -> Row:
    """The training with all epochs."""
    row = alone(known.recipe)
    if not known.angle:
        return row
    assert isinstance(row.run.model, MLP)
    turned = replace(row.run, model=replace(row.run.model, angle=known.angle))
    return Row(turned, f"{row.command} --model.angle {known.angle:g}")


def trained_rules(figure: ErrorByAngle, found: Findings) -> dict[str, list[float]]:
    """Test errors in percent of the rules that have an angle and a training, by name."""
    angles = found.studies.get(figure.study, {"found": {}})["found"]
    return {
        p.name: [100 * training.epochs[-1]["test_error"] for training in found.trainings[p.row.command]]
        for p in figure.points
        if p.name in angles and found.trainings.get(p.row.command)
    }


Own = dict[str, list[tuple[list[float], list[float]]]]
Known = dict[str, list[tuple[tuple[float, float | None], tuple[float, float]]]]


def panels(figure: ErrorByAngle, found: Findings) -> dict[str, tuple[Own, Known]]:
    """What `eqprop.plots.error_by_angle` takes; what was published stands where its definition is."""
    known: Known = {}
    for p in figure.points:
        known.setdefault(p.rule, []).append((p.angle, p.error))
    return {
        title: (own_points(figure, found, which), known if which == "without_first" else {})
        for title, which in DEFINITIONS.items()
    }


def own_points(figure: ErrorByAngle, found: Findings, which: str) -> Own:
    """Angles by one definition, and errors, of every rule that has both."""
    errors, points = trained_rules(figure, found), Own()
    for p in figure.points:
        if p.name in errors:
            angles = found.studies[figure.study]["found"][p.name][which]
            points.setdefault(p.rule, []).append((angles, errors[p.name]))
    return points


def angle_table(figure: ErrorByAngle, found: Findings) -> Table:
    """A line for every rule."""
    angles, errors = found.studies.get(figure.study, {"found": {}})["found"], trained_rules(figure, found)
    return Table(
        HEAD, [line(p, angles.get(p.name), errors.get(p.name), found.divergence(p.row.command)) for p in figure.points]
    )


def line(p: AnglePoint, angles: dict[str, list[float]] | None, errors: list[float] | None, diverged: str) -> list[str]:
    """What was published of a rule, and what is here."""
    deviation = "" if p.angle[1] is None else f" ± {p.angle[1]:.1f}"
    known = [f"{p.angle[0]:.1f}{deviation}°", f"{p.error[0]:.2f} ± {p.error[1]:.2f} %"]
    own = ["–", "–"] if angles is None else [f"{mean(angles[which]):.1f}°" for which in ("without_first", "angle")]
    error = "" if errors is None else Spread.of([e / 100 for e in errors]).percent()
    return [p.name, *known, *own, "; ".join(filter(None, (error, diverged))) or "–"]


def untrained(figure: ErrorByAngle, found: Findings) -> str:
    """The rules without a point of their own, those that differ in their initial angles in one piece."""
    errors = trained_rules(figure, found)
    lacking: dict[str, list[str]] = {}
    for p in figure.points:
        if p.name not in errors:
            lacking.setdefault(p.rule, []).extend(p.name.split(", ")[1:])
    return "; ".join(f"{rule} from {', '.join(angles)}" if angles else rule for rule, angles in lacking.items())

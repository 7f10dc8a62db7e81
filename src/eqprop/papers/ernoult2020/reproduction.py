"""Reproduction of Ernoult et al. (2020): continual weight updates and untied weights; the theorem, angles and trainings."""

from dataclasses import replace

from eqprop.models.mlp import MLP
from eqprop.papers.ernoult2020.recipes import ANGLES, UPDATE_ANGLES
from eqprop.papers.ernoult2020.studies import RateDependence, published_update_angles, rule_name
from eqprop.papers.hardware.reproduction import hardware_sweeps
from eqprop.papers.published_results import PublishedAngle
from eqprop.papers.registry import PUBLISHED, experiment, published_errors
from eqprop.papers.reproduction.paper import AnglePoint, Check, CheckFigure, ErrorByAngle, Paper, Row, Sweep, recipe_row

__all__ = ["ERNOULT2020", "initial_angles"]

_EPOCHS = 5  # of 100 published, for each initial angle

_FIGURES = {
    "ep-p-1h": "Figs. 8, 9, left",
    "cep-p-1h": "Figs. 8, 9, right",
    "cvf-p-1h": "Figs. 12, 13, right",
    "ep-eb-1h": "Figs. 5b, 10, 11, left",
    "cep-eb-1h": "Figs. 5b, 10, 11, right",
    "cvf-eb-1h": "Fig. 5b",
}


def initial_angles() -> Sweep:
    """Return Figure 4 for C-VF-1h, with fewer epochs."""
    known = {p.angle: (p.test, p.spread or 0.0) for p in PUBLISHED if p.recipe == "cvf-1h"}
    return Sweep(
        "cvf-1h-angles",
        "Error over the initial angle of the weights",
        "initial angle of feedback to forward weights (degrees)",
        f"Test error of C-VF-1h after {_EPOCHS} of the 100 published epochs, with feedback weights that start at nine angles to "
        "the forward weights. The published errors are after 100 epochs, over five runs (Ernoult et al. 2020, Fig. 4, from "
        "memory). Compare the angle beyond which the network does not learn, not the errors.",
        {f"here, {_EPOCHS} epochs": {angle: _row_at("cvf-1h", angle, _EPOCHS) for angle in ANGLES}},
        {"published, 100 epochs": known},
    )


def _row_at(name: str, angle: float, epochs: int | None = None) -> Row:
    row = recipe_row(name, epochs)
    assert isinstance(row.run.model, MLP)
    command = f"eqprop train {name} --model.angle {angle:g}" + (f" --epochs {epochs}" if epochs else "")
    return replace(row, run=replace(row.run, model=replace(row.run.model, angle=angle)), command=command)


def error_by_angle() -> ErrorByAngle:
    """Return Figure 5a."""
    remarks: dict[str, list[str]] = {}
    for known in UPDATE_ANGLES:
        remarks.setdefault(known.remark, []).append(rule_name(known))
    return ErrorByAngle(
        "error-by-angle",
        "Error over the angle of the first update",
        "Test error after the last epoch over the angle of the first update to BPTT's gradient, as in Figure 5a of the paper. The "
        "angle has two definitions: of the total update, and without t = 0, as in the paper's code. Published errors are from "
        "memory and published angles were read off the figure, both over five runs; bars are standard deviations where they could "
        "be read. Here, angles are means over five seeds, errors are means over the trained seeds, and bars span the smallest to "
        "the largest value. Points of a rule with separate feedback weights are joined in the order of the initial angles. Only "
        "trainings with all published epochs have a point."
        + "".join(f" {'; '.join(names)}: {remark}." for remark, names in remarks.items() if remark),
        published_update_angles().name,
        tuple(_point(known) for known in UPDATE_ANGLES),
    )


def _point(known: PublishedAngle) -> AnglePoint:
    row = _row_at(known.recipe, known.angle) if known.angle else recipe_row(known.recipe)
    error = published_errors(row.run)[0]
    return AnglePoint(rule_name(known), row, (known.mean, known.spread), (error.test, error.spread or 0.0))


ERNOULT2020 = Paper(
    "ernoult2020",
    "Ernoult, Grollier, Querlioz, Bengio, Scellier 2020: Equilibrium Propagation with Continual Weight Updates",
    "Weights can be updated at every step of the nudged phase (C-EP), so that a synapse needs only its current and previous "
    "inputs. For slow weights and weak nudging, the increments still equal minus BPTT's gradients. Feedback weights can differ "
    "from the forward weights (C-VF); the theorem then no longer holds. The closer a rule's update is to BPTT's gradient, the "
    "lower is the error after training.",
    checks=tuple(Check(experiment(name), place) for name, place in _FIGURES.items()),
    rows=tuple(map(recipe_row, ("p-1h", "p-2h", "cep-1h", "cep-2h", "cvf-1h", "cvf-1h-decay", "cvf-2h"))),
    quick_checks=("ep-p-1h", "cep-p-1h", "cvf-p-1h"),
    quick_rows=(recipe_row("cep-1h", 1), recipe_row("cvf-1h", 1)),
    check_figures=(
        CheckFigure(
            "columns-real-time",
            "Real time, as in Figure 5b of the paper: EP, C-EP, and C-VF from an angle of 45 degrees; increments (dashed) and "
            "minus BPTT's gradients (solid), some units and synapses.",
            {"EP": "ep-eb-1h", "C-EP": "cep-eb-1h", "C-VF": "cvf-eb-1h"},
        ),
        CheckFigure(
            "columns-discrete-time",
            "Discrete time, as in Figures 8, 9, 12 and 13 of the paper: EP, C-EP, and C-VF from an angle of 0.",
            {"EP": "ep-p-1h", "C-EP": "cep-p-1h", "C-VF": "cvf-p-1h"},
        ),
    ),
    sweeps=(initial_angles(), *hardware_sweeps()),
    studies=(published_update_angles(), RateDependence(replace(experiment("cep-1h-training"), dtype="float64"))),
    angle_figures=(error_by_angle(),),
)

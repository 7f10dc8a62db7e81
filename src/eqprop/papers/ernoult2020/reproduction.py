"""Ernoult et al. (2020): weights that move inside the nudged phase, and untied weights; the theorem, and the trainings."""

from dataclasses import replace

from eqprop.models.mlp import MLP
from eqprop.papers.ernoult2020.error_by_angle import error_by_angle
from eqprop.papers.hardware.reproduction import imperfections
from eqprop.papers.registry import CONTINUAL, PUBLISHED, recipe
from eqprop.papers.reproduction.paper import Check, Columns, Paper, Row, Sweep, alone
from eqprop.papers.reproduction.studies import dependence_on_the_rate, update_angles

__all__ = ["ERNOULT2020", "initial_angles"]

EPOCHS = 5
"""Of a hundred, for each angle."""

ANGLES = (0.0, 22.5, 45.0, 67.5, 90.0, 112.5, 135.0, 157.5, 180.0)
"""Degrees (Figure 4)."""

FIGURES = {
    "ep-p-1h": "Figs. 8, 9, left",
    "cep-p-1h": "Figs. 8, 9, right",
    "cvf-p-1h": "Figs. 12, 13, right",
    "ep-eb-1h": "Figs. 5b, 10, 11, left",
    "cep-eb-1h": "Figs. 5b, 10, 11, right",
    "cvf-eb-1h": "Fig. 5b",
}


def initial_angles() -> Sweep:
    """C-VF-1h from feedback weights at every angle of the figure, for fewer epochs."""
    known = {p.angle: (p.test, p.spread or 0.0) for p in PUBLISHED if p.recipe == "cvf-1h"}
    return Sweep(
        "cvf-1h-angles",
        "Error against the initial angle of the weights",
        "initial angle of feedback to forward weights (degrees)",
        f"C-VF-1h after {EPOCHS} epochs of the 100 that were published, from feedback weights at nine angles to the forward ones "
        "(Figure 4). The published errors, over five runs and as recalled, are those after 100 epochs: what is to be compared is "
        "the angle at which learning ends.",
        {f"here, {EPOCHS} epochs": {angle: at_angle(angle) for angle in ANGLES}},
        {"published, 100 epochs": known},
    )


def at_angle(angle: float) -> Row:
    """The reduced training from that angle."""
    run = recipe("cvf-1h")
    assert isinstance(run.model, MLP)
    command = f"eqprop train {run.name} --model.angle {angle:g} --epochs {EPOCHS}"
    return Row(replace(run, model=replace(run.model, angle=angle), epochs=EPOCHS), command, reduced=True)


ERNOULT2020 = Paper(
    "ernoult2020",
    "Ernoult, Grollier, Querlioz, Bengio, Scellier 2020: Equilibrium Propagation with Continual Weight Updates",
    "Weights may move at every step of the nudged phase (C-EP), so that a synapse needs only what it sees now and saw one step "
    "ago; for slow weights and weak nudging the increments still equal minus BPTT's gradients. Feedback weights may be others than "
    "the forward ones (C-VF), at the price of the theorem. The closer a rule's update is to BPTT's gradient, the better it trains.",
    checks=tuple(Check(make(), FIGURES[name]) for name, make in CONTINUAL.items()),
    rows=tuple(map(alone, ("p-1h", "p-2h", "cep-1h", "cep-2h", "cvf-1h", "cvf-1h-decay", "cvf-2h"))),
    quick_checks=("ep-p-1h", "cep-p-1h", "cvf-p-1h"),
    quick_rows=(alone("cep-1h", 1), alone("cvf-1h", 1)),
    columns=(
        Columns(
            "columns-real-time",
            "Real time, as Figure 5b of the paper: EP, C-EP, and C-VF from an angle of 45 degrees; increments dashed, minus BPTT's "
            "gradients solid, some units and synapses.",
            {"EP": "ep-eb-1h", "C-EP": "cep-eb-1h", "C-VF": "cvf-eb-1h"},
        ),
        Columns(
            "columns-discrete-time",
            "Discrete time, as Figures 8, 9, 12 and 13: EP, C-EP, and C-VF from an angle of 0.",
            {"EP": "ep-p-1h", "C-EP": "cep-p-1h", "C-VF": "cvf-p-1h"},
        ),
    ),
    sweeps=(initial_angles(), *imperfections()),
    studies=(update_angles(), dependence_on_the_rate()),
    by_angle=(error_by_angle(),),
)

"""Time and memory of training steps and free phases, measured in one run and compared with their bare arithmetic."""

from eqprop._core.deprecation import former_names
from eqprop.bench.arithmetic import Call, Part, make_bare_step, multiply_adds, settling_parts, training_parts
from eqprop.bench.candidates import Phases, Task, extract_phases, make_candidates, make_estimators, make_sgd_step
from eqprop.bench.feedforward import Feedforward
from eqprop.bench.measuring import Measurement, PhaseCost, StepCost, measure
from eqprop.bench.settling import METHODS
from eqprop.bench.timing import Step, medians, ratios, round_figures, time_steps

__all__ = [
    "METHODS",
    "Call",
    "Feedforward",
    "Measurement",
    "Part",
    "PhaseCost",
    "Phases",
    "Step",
    "StepCost",
    "Task",
    "extract_phases",
    "make_bare_step",
    "make_candidates",
    "make_estimators",
    "make_sgd_step",
    "measure",
    "medians",
    "multiply_adds",
    "ratios",
    "round_figures",
    "settling_parts",
    "time_steps",
    "training_parts",
]

__getattr__ = former_names(
    __name__,
    globals(),
    {
        "Measured": "Measurement",
        "Settled": "PhaseCost",
        "Trained": "StepCost",
        "bare": "make_bare_step",
        "contenders": "make_candidates",
        "descent": "make_sgd_step",
        "estimators": "make_estimators",
        "in_turn": "time_steps",
        "of_settling": "settling_parts",
        "of_training": "training_parts",
        "phases_of": "extract_phases",
        "rounded": "round_figures",
    },
)

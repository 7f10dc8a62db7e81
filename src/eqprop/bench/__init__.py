"""What training steps and free phases cost: time and memory, side by side in one run, beside their bare arithmetic."""

from eqprop.bench.arithmetic import Call, Part, bare, multiply_adds, of_settling, of_training
from eqprop.bench.candidates import Phases, Task, contenders, descent, estimators, phases_of
from eqprop.bench.feedforward import Feedforward
from eqprop.bench.measuring import Measured, Settled, Trained, measure
from eqprop.bench.settling import METHODS
from eqprop.bench.timing import Step, in_turn, medians, ratios, rounded

__all__ = [
    "METHODS",
    "Call",
    "Feedforward",
    "Measured",
    "Part",
    "Phases",
    "Settled",
    "Step",
    "Task",
    "Trained",
    "bare",
    "contenders",
    "descent",
    "estimators",
    "in_turn",
    "measure",
    "medians",
    "multiply_adds",
    "of_settling",
    "of_training",
    "phases_of",
    "ratios",
    "rounded",
]

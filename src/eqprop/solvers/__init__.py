"""Solvers: run the dynamics of a phase until it settles."""

from eqprop.solvers.anderson import Anderson
from eqprop.solvers.phase import Phase
from eqprop.solvers.schedules import Asynchronous, Schedule, Synchronous
from eqprop.solvers.settle import Settle, Solution

__all__ = ["Anderson", "Asynchronous", "Phase", "Schedule", "Settle", "Solution", "Synchronous"]

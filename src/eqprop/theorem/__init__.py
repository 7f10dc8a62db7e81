"""The theorem of Ernoult et al. (2019), made visible: EP's increments against BPTT's gradients, step by step, for any model."""

from eqprop.theorem.comparison import gdu
from eqprop.theorem.process import Agreement, Process
from eqprop.theorem.report import GDUReport

__all__ = ["Agreement", "GDUReport", "Process", "gdu"]

"""The theorem of Ernoult et al. (2019), made visible: EP's increments against BPTT's gradients, step by step, for any model."""

from eqprop.theorem.gdu import gdu
from eqprop.theorem.report import GDUReport
from eqprop.theorem.series import Agreement, Series

__all__ = ["Agreement", "GDUReport", "Series", "gdu"]

"""Step-by-step comparison of EP's increments with BPTT's gradients, for any model (Ernoult et al. 2019)."""

from eqprop.theorem.gdu import gdu
from eqprop.theorem.report import GDUReport
from eqprop.theorem.series import Series, SignAgreement

__all__ = ["GDUReport", "Series", "SignAgreement", "gdu"]

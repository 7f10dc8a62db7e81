"""Papers reproduced: what they consist of, what of it has been done, and the account of both."""

from eqprop.reproduction.ernoult2019 import ERNOULT2019
from eqprop.reproduction.ernoult2020 import ERNOULT2020
from eqprop.reproduction.lin2024 import LIN2024
from eqprop.reproduction.paper import Paper

__all__ = ["PAPERS", "Paper"]

PAPERS: dict[str, Paper] = {paper.name: paper for paper in (ERNOULT2019, ERNOULT2020, LIN2024)}
"""Every paper that ``eqprop reproduce`` knows."""

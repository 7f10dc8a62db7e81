"""The papers that ``eqprop reproduce`` knows."""

from eqprop.papers.ernoult2019.reproduction import ERNOULT2019
from eqprop.papers.ernoult2020.reproduction import ERNOULT2020
from eqprop.papers.lin2024.reproduction import LIN2024
from eqprop.papers.reproduction.paper import Paper

__all__ = ["PAPERS"]

PAPERS: dict[str, Paper] = {paper.name: paper for paper in (ERNOULT2019, ERNOULT2020, LIN2024)}
"""Papers by the name that the command line takes."""

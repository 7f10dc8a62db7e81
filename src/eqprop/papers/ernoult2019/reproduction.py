"""Reproduction of Ernoult et al. (2019): the theorem on dense and convolutional networks, and training by EP and by BPTT."""

from eqprop.papers.registry import experiment
from eqprop.papers.reproduction.paper import Check, Paper, recipe_rows

__all__ = ["ERNOULT2019"]

_BETAS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)

_FIGURES = {
    "toy": "Fig. 2",
    "eb-1h": "Figs. 3, 8",
    "eb-2h": "Figs. 3, 9",
    "eb-3h": "Figs. 3, 10",
    "p-1h": "Figs. 3, 11",
    "p-2h": "Figs. 3, 12",
    "p-3h": "Figs. 3, 13",
    "p-conv": "Figs. 4, 16",
}

_TABLE_1 = ("eb-1h", "eb-2h", "p-1h", "p-2h", "p-3h", "p-conv", "p-conv-small")  # the last is P-conv with fewer steps

ERNOULT2019 = Paper(
    "ernoult2019",
    "Ernoult, Grollier, Querlioz, Bengio, Scellier 2019: Updates of Equilibrium Prop Match Gradients of Backprop Through Time "
    "in an RNN with Static Input",
    "In a convergent network at its steady state, the increments of Equilibrium Propagation (EP) at step t of the nudged phase "
    "equal minus the gradients that Backpropagation Through Time (BPTT) computes at step T - t of the free phase, for every "
    "neuron and every weight, in the limit beta → 0. Networks trained by EP reach the same errors as networks trained by BPTT.",
    checks=(
        *(Check(experiment(name), place) for name, place in _FIGURES.items()),
        *(Check(experiment(f"{name}-exact"), "–", _BETAS) for name in ("toy", "eb-1h", "p-1h", "p-conv")),
    ),
    rows=tuple(line for name in _TABLE_1 for line in recipe_rows(name)),
    quick_checks=("toy", "eb-1h", "p-1h", "toy-exact", "p-1h-exact"),
    quick_rows=(*recipe_rows("digits"), *recipe_rows("p-1h", epochs=2)),
)

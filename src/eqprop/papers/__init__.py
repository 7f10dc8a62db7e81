"""Recipes, published figures and reproductions, one folder a paper."""

from eqprop.papers.published_results import Published, baseline, surrogate
from eqprop.papers.registry import CONTINUAL, EXPERIMENTS, PUBLISHED, RECIPES, experiment, published, recipe

__all__ = [
    "CONTINUAL",
    "EXPERIMENTS",
    "PUBLISHED",
    "RECIPES",
    "Published",
    "baseline",
    "experiment",
    "published",
    "recipe",
    "surrogate",
]

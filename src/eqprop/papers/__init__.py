"""Recipes, published results and reproductions, one folder for each paper."""

from eqprop.papers.published_results import Published, baseline, surrogate_baseline
from eqprop.papers.registry import CONTINUAL, EXPERIMENTS, PUBLISHED, RECIPES, experiment, published_errors, recipe

__all__ = [
    "CONTINUAL",
    "EXPERIMENTS",
    "PUBLISHED",
    "RECIPES",
    "Published",
    "baseline",
    "experiment",
    "published_errors",
    "recipe",
    "surrogate_baseline",
]

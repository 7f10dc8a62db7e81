"""Memory that a model and its phases need, known before any of it is allocated."""

import warnings
from math import prod
from typing import Any

import torch

from eqprop._core.available_memory import check_fits
from eqprop.models.model import Model
from eqprop.solvers.settle import Settle

__all__ = ["check_batch_memory", "check_weights_memory", "count_bytes", "size_argument"]


def size_argument(spec: Any) -> str:
    """Return the argument of an architecture that decides how many weights it has."""
    return next((name for name in ("sizes", "channels", "hidden") if hasattr(spec, name)), "model")


def count_bytes(model: Model) -> int:
    """Return the bytes of all weights."""
    return sum(p.numel() * p.element_size() for p in model.parameters())


def check_weights_memory(spec: Any) -> None:
    """Check that the weights of an architecture fit into memory, before they are drawn.

    Raises:
        ArgumentError: if they do not.
    """
    try:
        with torch.device("meta"), warnings.catch_warnings():  # shapes without storage
            warnings.simplefilter("ignore")
            shapes: Model = spec.build()
    except (
        RuntimeError,
        NotImplementedError,
    ):  # an architecture that needs the values of its weights is built as it is
        return
    check_fits(size_argument(spec), count_bytes(shapes), "the weights")


def check_batch_memory(argument: str, model: Model, samples: int, *phases: Settle, states: int = 2) -> None:
    """Check that the states of a batch fit into memory.

    Args:
        argument: name of the batch size.
        model: the model.
        samples: batch size.
        phases: settings of the phases; an acceleration keeps two states for each difference that it mixes.
        states: number of states alive at once otherwise.

    Raises:
        ArgumentError: if they do not fit.
    """
    populations = model.network.populations
    parameter = next(model.parameters())
    if parameter.device.type != "cpu":
        return
    units = sum(prod(population.shape) for population in populations)
    kept = max((2 * min(p.accelerate.window, p.steps) for p in phases if p.accelerate is not None), default=0)
    check_fits(argument, samples * units * parameter.element_size() * (states + kept), f"{samples} samples")

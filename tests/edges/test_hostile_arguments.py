"""Every argument of every public constructor, replaced in turn by hostile values: it is accepted, or refused by its name.

The right outcome does not come from the code: a value that has no meaning must end in a ValueError or TypeError whose message
names the argument, and never in another exception. `ACCEPTED` lists the values that have a meaning where others have none.
"""

import inspect
import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

import eqprop as ep
from eqprop import bench, data, spiking

X, Y = torch.rand(4, 3), torch.tensor([0, 1, 1, 0])
HOSTILE: dict[str, object] = {
    "true": True,
    "text": "x",
    "empty text": "",
    "nan": math.nan,
    "inf": math.inf,
    "negative": -1,
    "zero": 0,
    "fraction": 2.5,
    "none": None,
    "numpy float": np.float64(0.5),
    "numpy int": np.int64(3),
    "array": np.ones(2),
    "scalar tensor": torch.tensor(0.5),
    "tensor": torch.ones(2),
    "empty list": [],
    "list of text": ["a"],
    "object": object(),
    "huge": 10**400,
    "unprintable": 10**5000,
    "complex": 1j,
    "dictionary": {},
}


def chain(**kwargs: Any) -> ep.Model:
    return ep.mlp([3, 4, 2], **kwargs)


def spiking_chain() -> ep.Model:
    return chain(dynamics=ep.Spiking())


def phases() -> dict[str, Any]:
    return {"free_steps": 5, "nudged_steps": 3, "beta": 0.1}


CASES: list[tuple[Callable[..., object], dict[str, Any]]] = [
    (ep.Activation, {"unit": torch.sin, "gain": 1.0, "shift": 0.0}),
    (ep.Population, {"shape": 3, "activation": "tanh"}),
    (ep.Network, {"populations": [ep.Population(3), ep.Population(2)], "edges": [(0, 1, ep.Dense(3, 2))]}),
    (ep.Dense, {"n_pre": 3, "n_post": 2}),
    (ep.Conv2d, {"c_pre": 1, "c_post": 2, "kernel_size": 3, "pool": "max"}),
    (ep.Untied, {"forward": ep.Dense(3, 2)}),
    (ep.Mismatched, {"written": ep.Dense(3, 2), "std": 0.1}),
    (ep.CrossEntropyReadout, {"features": 3, "classes": 2}),
    (ep.EnergyDescent, {}),
    (ep.Prototypical, {}),
    (ep.Noisy, {"dynamics": ep.Prototypical()}),
    (ep.Spiking, {}),
    (ep.EquilibriumProp, phases()),
    (ep.BPTT, {"free_steps": 5}),
    (ep.ImplicitDiff, {"free_steps": 5}),
    (ep.ContinualEP, phases()),
    (ep.ContinualSGD, phases()),
    (ep.Settle, {"steps": 5}),
    (ep.Anderson, {}),
    (ep.Asynchronous, {}),
    (ep.Equilibrium, {"network": chain().network, "dynamics": ep.Prototypical(), **phases()}),
    (ep.Model, {"network": chain().network, "dynamics": ep.Prototypical(), "cost": ep.SquaredError()}),
    (ep.MLP, {"sizes": (3, 2)}),
    (ep.mlp, {"sizes": (3, 2)}),
    (ep.ConvNet, {"input_shape": (1, 8, 8), "channels": (2,)}),
    (ep.convnet, {"input_shape": (1, 8, 8), "channels": (2,)}),
    (ep.Toy, {}),
    (ep.toy, {}),
    (ep.as_loss, {"cost": torch.tensor(1.0), "surrogate": torch.tensor(1.0)}),
    (ep.gdu, {"model": chain(), "x": X, "y": Y, **phases()}),
    (ep.relax, {"model": chain(), "x": X, "steps": 3, "y": Y, "beta": 0.1}),
    (spiking.Decay, {}),
    (spiking.OSA, {}),
    (spiking.record, {"model": spiking_chain(), "x": X, "steps": 3}),
    (spiking.fan_out, {"network": chain().network}),
    (spiking.input_spikes, {"model": spiking_chain(), "x": X, "ticks": 3}),
    (spiking.operations, {"model": spiking_chain()}),
    (data.Batches, {"x": X, "y": Y, "size": 2}),
    (data.hold_out, {"samples": (X, Y), "count": 1}),
    (data.shape_of, {"name": "digits"}),
    (data.sizes, {"name": "digits"}),
    (bench.Feedforward, {"model": chain()}),
    (bench.settling_parts, {"model": chain(), "batch": 2, "steps": 2}),
    (bench.training_parts, {"model": chain(), "batch": 2, "free": 2, "nudged": 2}),
    (bench.multiply_adds, {"model": chain(), "parts": ()}),
    (bench.make_bare_step, {"model": chain(), "parts": ()}),
    (bench.make_sgd_step, {"model": chain(), "losses": list}),
    (bench.medians, {"times": {"a": [1.0]}}),
    (bench.ratios, {"times": {"a": [1.0]}, "base": "a"}),
    (bench.round_figures, {"figures": {"a": 1.0}}),
]

ALIASES = {"see": "on_step", "state": "state"}
NO_NUMBER = (
    "true",
    "text",
    "empty text",
    "nan",
    "inf",
    "array",
    "scalar tensor",
    "tensor",
    "huge",
    "unprintable",
    "complex",
)
NUMBERS = [
    (ep.EquilibriumProp, "beta"),
    (ep.ContinualSGD, "beta"),
    (ep.Settle, "tol"),
    (ep.Noisy, "std"),
    (ep.EnergyDescent, "dt"),
    (ep.Mismatched, "std"),
    (ep.Anderson, "growth"),
    (ep.Untied, "angle"),
    (ep.MLP, "mismatch"),
    (ep.ConvNet, "gain"),
    (spiking.Decay, "start"),
]
SWITCHES = [
    (ep.EnergyDescent, "clamp"),
    (ep.EnergyDescent, "output_derivative"),
    (ep.Dense, "bias"),
    (ep.Conv2d, "bias"),
    (ep.MLP, "tied"),
    (ep.convnet, "tied"),
    (ep.BPTT, "surrogate"),
    (ep.relax, "trajectory"),
    (data.Batches, "shuffle"),
]
PARTS = [
    (kind, name) for kind in (ep.MLP, ep.mlp, ep.ConvNet, ep.convnet, ep.Toy, ep.toy) for name in ("dynamics", "cost")
]


def well_formed(kind: Callable[..., object]) -> dict[str, Any]:
    return next(arguments for known, arguments in CASES if known is kind)


def refusals(kind: Callable[..., object], arguments: dict[str, Any], name: str) -> Iterator[str]:
    """Yield what is wrong with the answer to each hostile value."""
    for label, value in HOSTILE.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                kind(**{**arguments, name: value})
            except (ValueError, TypeError) as error:
                if f"`{ALIASES.get(name, name)}`" not in str(error):
                    yield f"{label}: {type(error).__name__} does not name it: {error}"
            except Exception as error:
                yield f"{label}: {type(error).__name__}: {error}"


@pytest.mark.parametrize(("kind", "arguments"), CASES, ids=[kind.__name__ for kind, _ in CASES])
def test_accepted_or_refused_by_name(kind: Callable[..., object], arguments: dict[str, Any]) -> None:
    names = [n for n, p in inspect.signature(kind).parameters.items() if p.kind is not p.VAR_POSITIONAL]
    assert [f"{name}: {fault}" for name in names for fault in refusals(kind, arguments, name)] == []


@pytest.mark.parametrize(("kind", "name"), NUMBERS, ids=lambda v: getattr(v, "__name__", v))
@pytest.mark.parametrize("label", NO_NUMBER)
def test_what_is_no_number_is_refused(kind: Callable[..., object], name: str, label: str) -> None:
    with pytest.raises((ValueError, TypeError), match=f"`{name}`"):
        kind(**{**well_formed(kind), name: HOSTILE[label]})


@pytest.mark.parametrize(("kind", "name"), SWITCHES, ids=lambda v: getattr(v, "__name__", v))
@pytest.mark.parametrize("label", [label for label in HOSTILE if label != "true"])
def test_a_switch_is_true_or_false(kind: Callable[..., object], name: str, label: str) -> None:
    # "False" and numpy.nan count as true in Python: a switch that is not a bool would silently do the opposite.
    with pytest.raises(ValueError, match=f"`{name}` must be True or False"):
        kind(**{**well_formed(kind), name: HOSTILE[label]})


def test_a_numpy_bool_is_a_switch() -> None:
    assert ep.Dense(3, 2, bias=np.bool_(False)).bias is None  # type: ignore[arg-type]


@pytest.mark.parametrize(("kind", "name"), PARTS, ids=lambda v: getattr(v, "__name__", v))
@pytest.mark.parametrize("value", ["", "x", 0, False, ep.SquaredError, torch.ones(2)], ids=repr)
def test_a_part_that_is_none_of_its_class_is_refused(kind: Callable[..., object], name: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"`{name}` must be an object of class"):
        kind(**{**well_formed(kind), name: value})


@pytest.mark.parametrize(
    "edges", [5, None, "ab", [5], [(0, 1)], [(0.5, 1, ep.Dense(3, 2))], [(True, 1, ep.Dense(3, 2))]]
)
def test_edges_that_are_no_triples(edges: Any) -> None:
    with pytest.raises(ValueError, match="`edges`"):
        ep.Network([ep.Population(3), ep.Population(2)], edges)


@pytest.mark.parametrize("value", [10**5000, "a" * 10_000, list(range(10_000)), torch.rand(100, 100)], ids=type)
def test_a_message_stays_short(value: object) -> None:
    with pytest.raises(ValueError, match="`beta`") as caught:
        ep.EquilibriumProp(5, 3, beta=value)  # type: ignore[arg-type]
    assert len(str(caught.value)) < 400
    assert "\n" not in str(caught.value)

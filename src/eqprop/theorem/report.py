"""The report of a comparison: both processes of every population and parameter, what is measured of them, what was assumed."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from eqprop._core.angles import angle_between
from eqprop.network import Network
from eqprop.theorem.assumptions import Assumption, share
from eqprop.theorem.series import Agreement, Series

__all__ = ["GDUReport", "distances", "labels", "layer_errors"]


@dataclass(frozen=True, eq=False)
class GDUReport:
    """EP's increments against BPTT's gradients, step by step; the theorem says ``ep = -bptt``.

    Attributes:
        neurons: a `Series` ``(K, B, *shape)`` for each relaxing population, input-first (index 0 is the first hidden one,
            the last the output): ``Delta_s(t)``, and of each sample's own loss ``dL/ds_{T-t}`` or ``dL/du_{T-t}``, see ``against``.
        parameters: a `Series` ``(K, *shape)`` for each parameter that wants a gradient, keyed as ``named_parameters()``:
            ``Delta_theta(t)``, and the gradient of the batch-mean loss for the copy of theta that step T - t used. A readout's
            plain gradient is at t = 0 in both.
        free: motion without a nudge, ``(K, B, *shape)`` a population, over the last K free steps, scaled like ``Delta_s``.
        residual: ``max |s_T - s_{T-1}|``, ``(B,)``.
        steps: T, the steps of the free phase that were taken.
        beta: nudging strength.
        nudging: "one-sided" or "centred".
        rates: at which the weights moved inside the nudged phase (continual EP); None if they were at rest.
        dt: duration of a step; ``Delta_s`` is divided by ``beta dt``, ``Delta_theta`` by ``beta``.
        against: "dL/ds", or "dL/du" where the theorem is about pre-activations.
        assumptions: what the theorem assumes, and whether it holds.
        labels: a short name for each parameter, as tables and pictures use it.
        distances: steps that the nudge takes from the output to each population.
    """

    neurons: list[Series]
    parameters: dict[str, Series]
    free: list[Tensor]
    residual: Tensor
    steps: int
    beta: float
    nudging: Literal["one-sided", "centred"]
    rates: tuple[float, ...] | None
    dt: float
    against: Literal["dL/ds", "dL/du"]
    assumptions: list[Assumption]
    labels: dict[str, str]
    distances: list[int]

    @property
    def nudged_steps(self) -> int:
        """K."""
        return len(self.neurons[0].ep)

    @property
    def populations(self) -> dict[str, Series]:
        """The neurons by name, "s1" the first hidden population."""
        return {f"s{n}": process for n, process in enumerate(self.neurons, start=1)}

    @property
    def broken(self) -> list[Assumption]:
        """The assumptions that do not hold."""
        return [assumption for assumption in self.assumptions if not assumption.holds]

    def relative_error(
        self, *, accumulated: bool = False, first: bool = True, mask: bool = False, floor: float = 0.0
    ) -> dict[str, float]:
        """The papers' relative error of every population ("s1", …) and parameter: see `eqprop.theorem.series`.

        Neurons are averaged over the batch first, as the papers do.

        Args:
            accumulated: of the sums up to t in the place of the single steps.
            first: count t = 0; the code of both papers leaves it out for weights.
            mask: leave out, of neurons, the steps before the nudge can have reached them, as that code does: what moves there
                is a free phase that has not settled.
            floor: norms below it count as that much, so that components without a gradient do not count as errors.
        """
        found = {}
        for (name, process), distance in zip(self.populations.items(), self.distances, strict=True):
            found[name] = process.batch_mean().since(max(int(not first), distance * mask))
        found |= {name: process.since(int(not first)) for name, process in self.parameters.items()}
        return {name: process.relative_error(floor, accumulated=accumulated) for name, process in found.items()}

    def cosine(self) -> dict[str, float]:
        """Cosine between increments and minus the gradients, all steps in one vector, by population and parameter."""
        return {name: process.cosine() for name, process in (self.populations | self.parameters).items()}

    def sign_agreement(self) -> dict[str, Agreement]:
        """How many components of each parameter's total update have the sign of BPTT's."""
        return {name: process.sign_agreement() for name, process in self.parameters.items()}

    def stuck(self) -> dict[str, float]:
        """Fraction of units of each population that EP never moves although BPTT has a gradient for them."""
        return {name: process.batch_mean().stuck() for name, process in self.populations.items()}

    def free_share(self) -> dict[str, float]:
        """How much of each population's motion is there without a nudge: 0 at a steady state, at most 1."""
        return {
            name: share(free, process.ep)
            for (name, process), free in zip(self.populations.items(), self.free, strict=True)
        }

    def angle(self, *, first: bool = True) -> float:
        """Angle in degrees between the total update of EP and that of BPTT: all weights of the network, no biases.

        Args:
            first: count t = 0; Ernoult et al. 2020, Figure 5a, leave it out.
        """
        weights = [p.since(int(not first)) for n, p in self.parameters.items() if is_weight(n, p)]
        return angle_between([p.ep.sum(0) for p in weights], [-p.bptt.sum(0) for p in weights])

    def summary(self) -> dict[str, Any]:
        """All that was measured, as JSON takes it."""
        errors = {
            "relative_error": self.relative_error(),
            "accumulated": self.relative_error(accumulated=True),
            "without_first": self.relative_error(first=False),
            "masked": self.relative_error(mask=True),
            "cosine": self.cosine(),
        }
        by_name: dict[str, dict[str, Any]] = {
            name: {what: found[name] for what, found in errors.items()} for name in errors["cosine"]
        }
        for name in self.populations:
            by_name[name] |= {"stuck": self.stuck()[name], "free_share": self.free_share()[name]}
        for name, agreement in self.sign_agreement().items():
            by_name[name] |= {"label": self.labels[name], "weight": is_weight(name, self.parameters[name])}
            by_name[name] |= {"same_sign": agreement.same, "both_zero": agreement.zero}
        return {
            "free_steps": self.steps,
            "nudged_steps": self.nudged_steps,
            "beta": self.beta,
            "nudging": self.nudging,
            "rates": None if self.rates is None else list(self.rates),
            "samples": len(self.residual),
            "dtype": str(self.residual.dtype).removeprefix("torch."),
            "dt": self.dt,
            "against": self.against,
            "residual": self.residual.max().item(),
            "assumptions": [vars(assumption) for assumption in self.assumptions],
            "angle": self.angle(),
            "angle_without_first": self.angle(first=False),
            "populations": {name: by_name[name] for name in self.populations},
            "parameters": {name: by_name[name] for name in self.parameters},
        }

    def plot(self, path: str | Path) -> None:
        """Draw increments against gradients as ``path`` with the endings ``.png`` and ``.svg``.

        Raises:
            ModuleNotFoundError: if matplotlib is not installed.
        """
        from eqprop.plots import increments

        increments(self, Path(path).with_suffix("") if Path(path).suffix in (".png", ".svg") else Path(path))


def layer_errors(summary: Mapping[str, Any]) -> dict[str, float]:
    """The relative error of each population and each weight of the network in a summary, by short names."""
    weights = [facts for facts in summary["parameters"].values() if facts["weight"]]
    found = {name: facts["relative_error"] for name, facts in summary["populations"].items()}
    return found | {facts["label"]: facts["relative_error"] for facts in weights}


def is_weight(name: str, process: Series) -> bool:
    """Whether a parameter is a weight of the network, and no bias or readout."""
    return name.startswith("network.") and process.ep.dim() > 2


def labels(network: Network, names: list[str]) -> dict[str, str]:
    """``network.connections.0.weight`` is "0→1 weight"; of parallel edges the number is added."""
    return {name: label(network, name) for name in names}


def label(network: Network, name: str) -> str:
    """The short name of one parameter; its own where it is not a connection's."""
    found = re.fullmatch(r"network\.connections\.(\d+)\.(.+)", name)
    return name if found is None else f"{network.edge_names()[int(found[1])]} {found[2]}"


def distances(network: Network) -> list[int]:
    """Edges between the output and each relaxing population, along which the nudge travels one a step."""
    last = len(network.relaxing)
    found, front, steps = {last: 0}, {last}, 0
    while front:
        steps += 1
        near = {n for ends in network.ends for n in ends if 0 not in ends and front & set(ends)}
        front = near - set(found)
        found |= dict.fromkeys(front, steps)
    return [found.get(n, steps) for n in range(1, last + 1)]

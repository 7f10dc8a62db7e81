"""The report of `gdu`: EP's and BPTT's series of every population and parameter, their distances, and the theorem's assumptions."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from eqprop._core.angles import angle_between
from eqprop.network import Network
from eqprop.theorem.assumptions import Assumption, noise_share
from eqprop.theorem.series import Series, SignAgreement

__all__ = ["GDUReport", "layer_errors", "output_distances", "parameter_labels"]


@dataclass(frozen=True, eq=False)
class GDUReport:
    """EP's increments and BPTT's gradients, step by step; the theorem states ``ep = -bptt``.

    Attributes:
        neurons: a `Series` ``(K, B, *shape)`` for each relaxing population, input-first (index 0 is the first hidden
            population, the last one the output): ``Delta_s(t)``, and ``dL/ds_{T-t}`` or ``dL/du_{T-t}`` of each sample's own loss,
            see ``against``.
        parameters: a `Series` ``(K, *shape)`` for each trainable parameter, keyed as ``named_parameters()``: ``Delta_theta(t)``,
            and the gradient of the batch-mean loss for the copy of theta in step T - t. The gradient of
            a readout, the same for EP and BPTT, is at t = 0 in both.
        free: motion without a nudge, ``(K, B, *shape)`` for each population, over the last K free steps, scaled as ``Delta_s``.
        residual: ``max |s_T - s_{T-1}|``, ``(B,)``.
        steps: T, the number of free steps taken.
        beta: nudging strength.
        nudging: "one-sided" or "centred".
        rates: learning rates inside the nudged phase (continual EP); None for fixed weights.
        dt: duration of a step; ``Delta_s`` is divided by ``beta dt``, ``Delta_theta`` by ``beta``.
        against: "dL/ds", or "dL/du" where the theorem holds for pre-activations.
        assumptions: the theorem's assumptions, and whether they hold.
        labels: a short name for each parameter, for tables and plots.
        distances: number of steps in which the nudge travels from the output to each population.
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
        """The series of the neurons by name; "s1" is the first hidden population."""
        return {f"s{n}": series for n, series in enumerate(self.neurons, start=1)}

    @property
    def weights(self) -> dict[str, Series]:
        """The series of the network's weights: no biases and no readout."""
        return {name: series for name, series in self.parameters.items() if _is_weight(name, series)}

    @property
    def broken(self) -> list[Assumption]:
        """The assumptions that do not hold."""
        return [assumption for assumption in self.assumptions if not assumption.holds]

    def relative_error(
        self, *, accumulated: bool = False, first: bool = True, mask: bool = False, floor: float = 0.0
    ) -> dict[str, float]:
        """Return the papers' relative error of every population ("s1", …) and parameter: see `eqprop.theorem.series`.

        Neurons are first averaged over the batch, as in the papers.

        Args:
            accumulated: compare the sums up to t instead of the single steps.
            first: include t = 0; the code of both papers omits it for weights.
            mask: omit, for neurons, the steps before the nudge can reach them, as the papers' code does. Motion in these steps
                comes from an incomplete free phase.
            floor: lower bound of the norm in the denominator, so that components with a tiny gradient do not count as errors.
        """
        series = {}
        for (name, population), distance in zip(self.populations.items(), self.distances, strict=True):
            series[name] = population.batch_mean().from_step(max(int(not first), distance * mask))
        series |= {name: parameter.from_step(int(not first)) for name, parameter in self.parameters.items()}
        return {name: one.relative_error(floor, accumulated=accumulated) for name, one in series.items()}

    def cosine(self) -> dict[str, float]:
        """Return the cosine between increments and minus the gradients, flattened over steps, by population and parameter."""
        return {name: series.cosine() for name, series in (self.populations | self.parameters).items()}

    def sign_agreement(self) -> dict[str, SignAgreement]:
        """Compare the signs of EP's and BPTT's total update of each parameter."""
        return {name: series.sign_agreement() for name, series in self.parameters.items()}

    def stuck(self) -> dict[str, float]:
        """Return the fraction of units in each population with a non-zero BPTT gradient that EP never moves."""
        return {name: series.batch_mean().stuck() for name, series in self.populations.items()}

    def free_share(self) -> dict[str, float]:
        """Return the share of each population's motion that is present without a nudge: 0 at a steady state, at most 1."""
        return {
            name: noise_share(free, series.ep)
            for (name, series), free in zip(self.populations.items(), self.free, strict=True)
        }

    def angle(self, *, first: bool = True) -> float:
        """Return the angle in degrees between EP's and BPTT's total update of all weights of the network, without biases.

        Args:
            first: include t = 0; Ernoult et al. 2020, Figure 5a, omit it.
        """
        weights = [series.from_step(int(not first)) for series in self.weights.values()]
        return angle_between([w.ep.sum(0) for w in weights], [-w.bptt.sum(0) for w in weights])

    def summary(self) -> dict[str, Any]:
        """Return all measurements as JSON-serializable values."""
        errors = {
            "relative_error": self.relative_error(),
            "accumulated": self.relative_error(accumulated=True),
            "without_first": self.relative_error(first=False),
            "masked": self.relative_error(mask=True),
            "cosine": self.cosine(),
        }
        by_name: dict[str, dict[str, Any]] = {
            name: {measure: values[name] for measure, values in errors.items()} for name in errors["cosine"]
        }
        stuck, free_share, weights = self.stuck(), self.free_share(), self.weights
        for name in self.populations:
            by_name[name] |= {"stuck": stuck[name], "free_share": free_share[name]}
        for name, agreement in self.sign_agreement().items():
            by_name[name] |= {"label": self.labels[name], "weight": name in weights}
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
        """Plot increments and gradients over t, as ``path`` with the suffixes ``.png`` and ``.svg``; see `eqprop.plots.increments`.

        Raises:
            ModuleNotFoundError: if matplotlib is not installed.
        """
        from eqprop.plots import increments

        increments(self, Path(path).with_suffix("") if Path(path).suffix in (".png", ".svg") else Path(path))


def layer_errors(summary: Mapping[str, Any]) -> dict[str, float]:
    """Return the relative errors of the populations and the network's weights in a `GDUReport.summary`, by short name."""
    weights = [facts for facts in summary["parameters"].values() if facts["weight"]]
    errors = {name: facts["relative_error"] for name, facts in summary["populations"].items()}
    return errors | {facts["label"]: facts["relative_error"] for facts in weights}


def _is_weight(name: str, series: Series) -> bool:
    return name.startswith("network.") and series.ep.dim() > 2


def parameter_labels(network: Network, names: list[str]) -> dict[str, str]:
    """Return a short name for each parameter: "0→1 weight" for ``network.connections.0.weight``; parallel edges are numbered."""
    return {name: _parameter_label(network, name) for name in names}


def _parameter_label(network: Network, name: str) -> str:
    match = re.fullmatch(r"network\.connections\.(\d+)\.(.+)", name)
    return name if match is None else f"{network.edge_names()[int(match[1])]} {match[2]}"


def output_distances(network: Network) -> list[int]:
    """Return the number of edges between the output and each relaxing population; the nudge travels one edge a step."""
    last = len(network.relaxing)
    distances, front, steps = {last: 0}, {last}, 0
    while front:
        steps += 1
        neighbors = {n for ends in network.ends for n in ends if 0 not in ends and front & set(ends)}
        front = neighbors - set(distances)
        distances |= dict.fromkeys(front, steps)
    return [distances.get(n, steps) for n in range(1, last + 1)]

r"""Which T, K and beta to train with: EP's estimate against the whole gradient of BPTT, over a grid, on a few batches.

What is compared is what training uses: EP's estimate after T free and K nudged steps, and the gradient of BPTT over all T steps.
(BPTT over K steps is what the theorem holds EP against; as a guide it misleads: with K = 1 both are alike, and teach the last layer
alone.)

Nothing is done twice: a longer free phase goes on from the shorter one, the steps of a nudged phase serve every smaller K, and one
pass backwards gives the gradient of its T for every K and beta.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import mean
from typing import Literal

import torch
from torch import Tensor

from eqprop._core.checks import nonzero, positive_int
from eqprop._core.state import State
from eqprop.estimators.ep import nudging_strengths
from eqprop.models.model import Model
from eqprop.solvers.settle import Settle, Solution, settle
from eqprop.theorem.gdu import admit, shadowed
from eqprop.theorem.gradients import by_step, trainable
from eqprop.theorem.increments import Move, Nudged, gradient, nudged
from eqprop.theorem.series import Series

__all__ = ["Cell", "Grid", "cheapest", "tune"]


@dataclass(frozen=True)
class Grid:
    """The settings to try: every T with every K of at most T and every beta.

    Args:
        free_steps: values of T.
        nudged_steps: values of K.
        betas: nudging strengths.
        nudging: "one-sided" or "centred".

    Raises:
        ValueError: if a value is not in its range, or no K is as small as a T.

    >>> len(list(Grid((10, 20), (5, 15), (0.1,)).settings()))
    3
    """

    free_steps: tuple[int, ...]
    nudged_steps: tuple[int, ...]
    betas: tuple[float, ...]
    nudging: Literal["one-sided", "centred"] = "one-sided"

    def __post_init__(self) -> None:
        for name, check in (("free_steps", positive_int), ("nudged_steps", positive_int), ("betas", nonzero)):
            values = getattr(self, name)
            if not values:
                raise ValueError(f"`{name}` must name at least one value")
            object.__setattr__(self, name, tuple(sorted({check(name, value) for value in values})))
        if self.nudged_steps[0] > self.free_steps[-1]:
            raise ValueError(
                f"`nudged_steps` must be at most the {self.free_steps[-1]} free steps, got {self.nudged_steps[0]}"
            )

    def settings(self) -> Iterator[tuple[int, int, float]]:
        """Every ``(T, K, beta)``."""
        return ((t, k, b) for t in self.free_steps for k in self.nudged_steps if k <= t for b in self.betas)

    @property
    def phases(self) -> int:
        """Nudged phases a batch."""
        return len(nudging_strengths(self.nudging, 1.0, None))


@dataclass(frozen=True)
class Cell:
    """One setting, and the means over batches of what it gives.

    Attributes:
        free_steps: T.
        nudged_steps: K.
        beta: nudging strength.
        cost: steps a batch, nudged phases counted each.
        residual: largest ``max |s_T - s_{T-1}|`` of a sample.
        same_sign: fraction of weights and biases whose gradient has the sign of BPTT's, those where both are zero left out.
        lowest: the same in the parameter where it is lowest.
        relative_error: ``|g_EP - g_BPTT| / |g_BPTT|``, all parameters in one vector.
        cosine: of the angle between the two gradients.
    """

    free_steps: int
    nudged_steps: int
    beta: float
    cost: int
    residual: float
    same_sign: float
    lowest: float
    relative_error: float
    cosine: float


def cheapest(cells: Iterable[Cell], wanted: float) -> Cell | None:
    """Of the cells that agree in a fraction ``wanted`` of the signs the one of fewest steps; of these that of the least error."""
    enough = [cell for cell in cells if cell.same_sign >= wanted]
    return min(enough, key=lambda cell: (cell.cost, cell.relative_error), default=None)


def tune(
    model: Model,
    batches: Sequence[tuple[Tensor, Tensor]],
    grid: Grid,
    progress: Callable[[int, int], object] | None = None,
) -> list[Cell]:
    """Try every setting of a grid. No parameter is changed.

    Args:
        model: the model.
        batches: ``(x, y)``, at least one.
        grid: the settings.
        progress: called as ``progress(done, total)``.

    Raises:
        ValueError: if there is no batch or one does not fit, the dynamics do not bear a beta, or no parameter is to be trained.
        FloatingPointError: if an input, a weight or a state is not finite.
    """
    admit(model, grid.betas)
    if not batches:
        raise ValueError("`batches` must hold at least one batch, got none")
    if not relaxing(trainable(model)):
        raise ValueError("no parameter of the network wants a gradient: there is nothing to compare")
    found: dict[tuple[int, int, float], list[Cell]] = {setting: [] for setting in grid.settings()}
    with torch.inference_mode(False):
        for done, batch in enumerate(batches):
            x, y = (part.clone() if part.is_inference() else part for part in batch)  # autograd takes no others
            for n, cell in enumerate(on_batch(model, x, y, grid), start=1):
                found[cell.free_steps, cell.nudged_steps, cell.beta].append(cell)
                if progress is not None:
                    progress(done * len(found) + n, len(batches) * len(found))
    return [merged(cells) for cells in found.values()]


def merged(cells: Sequence[Cell]) -> Cell:
    """The same setting on several batches: means, and of the residual the largest."""
    means = {name: mean(getattr(cell, name) for cell in cells) for name in MEANS}
    return replace(cells[0], residual=max(cell.residual for cell in cells), **means)


MEANS = ("same_sign", "lowest", "relative_error", "cosine")


def on_batch(model: Model, x: Tensor, y: Tensor, grid: Grid) -> Iterator[Cell]:
    """Every setting on one batch."""
    with torch.no_grad():
        phase, state, target = model.prepare_batch(x, y)
    states: tuple[State, ...] = (state,)
    twin = model.rate_model()
    for steps in grid.free_steps:
        with torch.no_grad():
            more = Settle(steps + 1 - len(states))
            free = settle(phase, states[-1], more, trajectory=True)
        states += (free.trajectory or ())[1:]
        walked = states if twin is model else shadowed(twin, x, twin.dynamics.init(twin.network, x), steps)
        bptt = whole_gradient(twin, x, target, walked)
        for beta in grid.betas:
            shorter = [k for k in grid.nudged_steps if k <= steps]
            phases = (
                nudged(model, phase, target, free, shorter[-1], nudging_strengths(grid.nudging, beta, None))
                if shorter
                else []
            )
            for k in shorter:
                yield measured(grid, (steps, k, beta), free, estimate(model, x, free, phases, k), bptt)


def whole_gradient(model: Model, x: Tensor, target: Tensor, states: tuple[State, ...]) -> list[Tensor]:
    """BPTT's gradient over all steps for the network's parameters; a readout's is the same by EP."""
    steps = by_step(model, x, target, states)
    total = relaxing(next(steps).parameters)
    for step in steps:
        for whole, part in zip(total, relaxing(step.parameters), strict=True):
            whole += part
    return total


def estimate(model: Model, x: Tensor, free: Solution, phases: Sequence[Nudged], steps: int) -> list[Tensor]:
    """EP's estimate after so many nudged steps, for the network's parameters."""
    dynamics, network = model.dynamics, model.network
    with torch.no_grad():
        ends = [(beta, dynamics.activity(network, states[steps])) for beta, states in phases]
        moves = [Move(beta, free.activity, free.activity, end) for beta, end in ends]
        given = dynamics.encode(network, x)
    return relaxing(dict(zip(trainable(model), gradient(model, given, moves), strict=True)))


def relaxing(parameters: Mapping[str, Tensor]) -> list[Tensor]:
    """Those of the network."""
    return [tensor for name, tensor in parameters.items() if name.startswith("network.")]


def measured(
    grid: Grid, setting: tuple[int, int, float], free: Solution, ep: Sequence[Tensor], bptt: Sequence[Tensor]
) -> Cell:
    """How far an estimate is from the gradient."""
    steps, k, beta = setting
    whole, target = (torch.cat([g.flatten() for g in grads]) for grads in (ep, bptt))
    norm = target.norm().item()
    agreements = [agreement(e, b) for e, b in zip((whole, *ep), (target, *bptt), strict=True)]
    return Cell(
        steps,
        k,
        beta,
        steps + k * grid.phases,
        free.residual.max().item(),
        agreements[0],
        min(agreements[1:]),
        (whole - target).norm().item() / norm if norm else 0.0,
        cosine(whole, target),
    )


def agreement(ep: Tensor, bptt: Tensor) -> float:
    """Fraction of equal signs."""
    return Series(-ep[None], bptt[None]).sign_agreement().same


def cosine(ep: Tensor, bptt: Tensor) -> float:
    """Of the angle between two gradients."""
    return Series(-ep[None], bptt[None]).cosine()

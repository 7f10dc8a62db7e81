r"""Compare EP's gradient estimate with BPTT's full gradient on a few batches, over a grid of T, K and beta.

The comparison uses the quantities of a training: EP's estimate after T free and K nudged steps, and the gradient of BPTT over all T
steps. (The theorem is about BPTT over K steps, which is a poor guide: with K = 1 the two agree, but train only the last layer.)

No step is computed twice. A longer free phase continues the shorter one, the states of a nudged phase serve every smaller K, and
one backward pass over T steps serves every K and beta.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import mean
from typing import Literal

import torch
from torch import Tensor

from eqprop._core.checks import ArgumentError, nudging_strength, positive_int
from eqprop._core.state import State
from eqprop.estimators.ep import nudging_strengths
from eqprop.models.model import Model
from eqprop.network import Contrast
from eqprop.solvers.settle import Settle, Solution, settle
from eqprop.theorem.gdu import check_betas, rate_states
from eqprop.theorem.gradients import step_gradients, trainable_parameters
from eqprop.theorem.increments import NudgedPhase, contrast_gradient, nudged_phases
from eqprop.theorem.series import Series

__all__ = ["Cell", "Grid", "cheapest", "tune"]


@dataclass(frozen=True)
class Grid:
    """The settings to compare: every T with every K of at most T and every beta.

    Args:
        free_steps: values of T.
        nudged_steps: values of K.
        betas: nudging strengths.
        nudging: "one-sided" or "centred".

    Raises:
        ValueError: if a value is out of its range, or every K is larger than every T.

    >>> len(list(Grid((10, 20), (5, 15), (0.1,)).settings()))
    3
    """

    free_steps: tuple[int, ...]
    nudged_steps: tuple[int, ...]
    betas: tuple[float, ...]
    nudging: Literal["one-sided", "centred"] = "one-sided"

    def __post_init__(self) -> None:
        for name, check in (("free_steps", positive_int), ("nudged_steps", positive_int), ("betas", nudging_strength)):
            values = getattr(self, name)
            if not values:
                raise ArgumentError(name, f"`{name}` must name at least one value")
            object.__setattr__(self, name, tuple(sorted({check(name, value) for value in values})))
        if (least := self.nudged_steps[0]) > (most := self.free_steps[-1]):
            raise ArgumentError("nudged_steps", f"`nudged_steps` must be at most the {most} free steps, got {least}")

    def settings(self) -> Iterator[tuple[int, int, float]]:
        """Iterate over ``(T, K, beta)``."""
        return ((t, k, b) for t in self.free_steps for k in self.nudged_steps if k <= t for b in self.betas)

    @property
    def phases(self) -> int:
        """Number of nudged phases of each batch."""
        return len(nudging_strengths(self.nudging, 1.0, None))


@dataclass(frozen=True)
class Cell:
    """One setting of a grid, and the agreement of EP with BPTT, as means over batches.

    Attributes:
        free_steps: T.
        nudged_steps: K.
        beta: nudging strength.
        cost: steps of each batch: T, and K for each nudged phase.
        residual: largest ``max |s_T - s_{T-1}|`` of a sample.
        same_sign: fraction of weights and biases whose gradient has the same sign as BPTT's, without those where both are zero.
        lowest: ``same_sign`` of the parameter where it is lowest.
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
    """Return the cell with the fewest steps among those with ``same_sign >= wanted``; ties go to the lowest relative error."""
    enough = [cell for cell in cells if cell.same_sign >= wanted]
    return min(enough, key=lambda cell: (cell.cost, cell.relative_error), default=None)


def tune(
    model: Model,
    batches: Sequence[tuple[Tensor, Tensor]],
    grid: Grid,
    progress: Callable[[int, int], object] | None = None,
) -> list[Cell]:
    """Measure every setting of a grid. No parameter is changed.

    Args:
        model: the model.
        batches: ``(x, y)``, at least one.
        grid: the settings.
        progress: called as ``progress(done, total)``, in settings times batches.

    Returns:
        A cell for each setting, in the order of `Grid.settings`.

    Raises:
        ValueError: if a batch is invalid or there is none, the dynamics are unstable at a beta, or no parameter is trainable.
        FloatingPointError: if an input, a weight or a state is not finite.
    """
    check_betas(model, grid.betas, grid.nudging)
    if not batches:
        raise ArgumentError("batches", "`batches` must hold at least one batch, got none")
    if not _network_parameters(trainable_parameters(model)):
        raise ArgumentError("model", "`model` must have at least one network parameter with `requires_grad`, got none")
    by_setting: dict[tuple[int, int, float], list[Cell]] = {setting: [] for setting in grid.settings()}
    with torch.inference_mode(False):
        for done, batch in enumerate(batches):
            # autograd rejects inference tensors
            x, y = (part.clone() if part.is_inference() else part for part in batch)
            for n, cell in enumerate(_measure_batch(model, x, y, grid), start=1):
                by_setting[cell.free_steps, cell.nudged_steps, cell.beta].append(cell)
                if progress is not None:
                    progress(done * len(by_setting) + n, len(batches) * len(by_setting))
    return [_average(cells) for cells in by_setting.values()]


def _average(cells: Sequence[Cell]) -> Cell:
    """Average the same setting over several batches; the residual is the largest."""
    names = ("same_sign", "lowest", "relative_error", "cosine")
    means = {name: mean(getattr(cell, name) for cell in cells) for name in names}
    return replace(cells[0], residual=max(cell.residual for cell in cells), **means)


def _measure_batch(model: Model, x: Tensor, y: Tensor, grid: Grid) -> Iterator[Cell]:
    """Yield a cell for every setting on one batch."""
    with torch.no_grad():
        phase, state, target = model.prepare_batch(x, y)
    states: tuple[State, ...] = (state,)
    rate_model = model.rate_model()
    for steps in grid.free_steps:
        with torch.no_grad():
            more = Settle(steps + 1 - len(states))
            free = settle(phase, states[-1], more, trajectory=True)
        states += (free.trajectory or ())[1:]
        trajectory = states
        if rate_model is not model:
            trajectory = rate_states(rate_model, x, rate_model.dynamics.init(rate_model.network, x), steps)
        bptt = _bptt_gradient(rate_model, x, target, trajectory)
        shorter = [k for k in grid.nudged_steps if k <= steps]
        for beta in grid.betas if shorter else ():
            betas = nudging_strengths(grid.nudging, beta, None)
            phases = nudged_phases(model, phase, target, free, shorter[-1], betas)
            for k in shorter:
                yield _compare_gradients(grid, (steps, k, beta), free, _ep_gradient(model, x, free, phases, k), bptt)


def _bptt_gradient(model: Model, x: Tensor, target: Tensor, states: tuple[State, ...]) -> list[Tensor]:
    """Return BPTT's gradient over all steps for the network's parameters; that of a readout is the same with EP."""
    steps = step_gradients(model, x, target, states)
    total = _network_parameters(next(steps).parameters)
    for step in steps:
        for whole, part in zip(total, _network_parameters(step.parameters), strict=True):
            whole += part
    return total


def _ep_gradient(model: Model, x: Tensor, free: Solution, phases: Sequence[NudgedPhase], steps: int) -> list[Tensor]:
    """Return EP's estimate after a number of nudged steps, for the network's parameters."""
    dynamics, network = model.dynamics, model.network
    with torch.no_grad():
        ends = [(beta, dynamics.activity(network, states[steps])) for beta, states in phases]
        contrasts = [Contrast(free.activity, free.activity, end, len(phases) * beta) for beta, end in ends]
        encoded = dynamics.encode(network, x)
    gradients = contrast_gradient(model, encoded, contrasts)
    return _network_parameters(dict(zip(trainable_parameters(model), gradients, strict=True)))


def _network_parameters(parameters: Mapping[str, Tensor]) -> list[Tensor]:
    return [tensor for name, tensor in parameters.items() if name.startswith("network.")]


def _compare_gradients(
    grid: Grid, setting: tuple[int, int, float], free: Solution, ep: Sequence[Tensor], bptt: Sequence[Tensor]
) -> Cell:
    steps, k, beta = setting
    estimate, target = (torch.cat([g.flatten() for g in grads]) for grads in (ep, bptt))
    norm = target.norm().item()
    return Cell(
        free_steps=steps,
        nudged_steps=k,
        beta=beta,
        cost=steps + k * grid.phases,
        residual=free.residual.max().item(),
        same_sign=_single_step(estimate, target).sign_agreement().same,
        lowest=min(_single_step(e, b).sign_agreement().same for e, b in zip(ep, bptt, strict=True)),
        relative_error=(estimate - target).norm().item() / norm if norm else 0.0,
        cosine=_single_step(estimate, target).cosine(),
    )


def _single_step(ep: Tensor, bptt: Tensor) -> Series:
    """Return two gradients as a series of one step; EP's increment is minus its gradient."""
    return Series(-ep[None], bptt[None])

"""EP's increments and BPTT's gradients over t (Ernoult et al. 2019)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from eqprop._core.checks import non_negative_int, positive_int
from eqprop.plots.canvas import PALETTE, canvas, placed, save, scientific, small_print, symbol, whole_numbers, wrapped

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Panel", "choose", "draw_panel", "increments", "keys"]


def increments(
    report: Any,
    path: Path,
    *,
    components: int | Mapping[str, Sequence[int]] = 5,
    seed: int = 0,
    accumulated: bool = False,
    title: str = "",
) -> None:
    """Plot EP's increments (dashed) and minus BPTT's gradients (solid) over t: a panel for each population and weight.

    Each color is one component. Populations are averaged over the batch, as in the papers.

    Args:
        report: an `eqprop.GDUReport`, or an object with its attributes; plots do not import the theorem.
        path: output path without suffix.
        components: how many components to draw at random in each panel, those first for which BPTT's gradient is not zero
            throughout (many pixels are always black); or the components themselves, as places in the flattened population or
            weight, for keys of ``report.populations`` and ``report.weights``; panels that are not named get 5 at random.
        seed: seed of the random choice.
        accumulated: draw the sums up to t instead of single steps.
        title: title of the figure (default: beta, T and K).

    Raises:
        ValueError: if a name has no panel, or a component is not there.
        ModuleNotFoundError: if matplotlib is not installed.
    """
    panels = choose(report, components, non_negative_int("seed", seed))
    if accumulated:
        panels = [[panel.accumulated() for panel in kind] for kind in panels]
    with small_print():
        save(draw_increments(panels, signs(report, accumulated), title or settings(report)), path)


@dataclass(frozen=True, eq=False)
class Panel:
    """The plotted components of one population or weight.

    Attributes:
        title: of the panel.
        ep: EP's increments, ``(K, n)``.
        bptt: BPTT's gradients, ``(K, n)``.
    """

    title: str
    ep: Tensor
    bptt: Tensor

    def accumulated(self) -> "Panel":
        """Return the sums up to each t."""
        return Panel(self.title, self.ep.cumsum(0), self.bptt.cumsum(0))


def choose(report: Any, components: int | Mapping[str, Sequence[int]], seed: int) -> list[list[Panel]]:
    """Return the panels of the populations, averaged over the batch, and those of the weights."""
    populations = {name: (series.ep.mean(1), series.bptt.mean(1)) for name, series in report.populations.items()}
    weights = {name: (series.ep, series.bptt) for name, series in report.weights.items()}
    titles = {name: symbol(name) for name in populations} | {name: weight(report.labels[name]) for name in weights}
    titles[list(populations)[-1]] += " (output)"
    given = components if isinstance(components, Mapping) else {}
    for name in given:
        if name not in titles:
            raise ValueError(f"`components` names {name!r}, which has no panel: there are {', '.join(titles)}")
    count = 5 if isinstance(components, Mapping) else positive_int("components", components)
    generator = torch.Generator().manual_seed(seed)

    def panel(name: str, sides: tuple[Tensor, Tensor]) -> Panel:
        ep, bptt = (side.detach().flatten(1) for side in sides)
        places = inside(name, given[name], bptt.shape[1]) if name in given else drawn(bptt, count, generator)
        return Panel(titles[name], ep[:, places].cpu(), bptt[:, places].cpu())

    return [[panel(*item) for item in kind.items()] for kind in (populations, weights) if kind]


def weight(label: str) -> str:
    """Return the title of a weight's panel."""
    return symbol(label) + " (feedback)" * label.endswith(" feedback")


def drawn(bptt: Tensor, count: int, generator: torch.Generator) -> list[int]:
    """Draw ``count`` components of ``(K, n)`` at random; those that are zero at every step only if there are not enough others."""
    moving = (bptt != 0).any(0).cpu()
    order = torch.rand(len(moving), generator=generator, dtype=torch.float64) + moving
    return sorted(order.topk(min(count, len(moving))).indices.tolist())


def inside(name: str, places: Sequence[int], n: int) -> list[int]:
    """Check that all components exist, and return them."""
    for place in places:
        if non_negative_int("components", place) >= n:
            raise ValueError(f"`components` of {name!r} must be below {n}, got {place}")
    return [*places]


def settings(report: Any) -> str:
    """Return beta, T and K as text."""
    sign = r"\pm" if report.nudging == "centred" else ""
    return rf"$\beta = {sign}{scientific(report.beta)}$, $T = {report.steps}$, $K = {report.nudged_steps}$"


def signs(report: Any, accumulated: bool) -> list[str]:
    """Return the axis labels of populations and of weights."""
    total = r"\sum" if accumulated else ""
    by = "u" if report.against == "dL/du" else "s"
    return [
        rf"${total}\Delta_s$, $-{total}\nabla_{{\!{by}}}$",
        rf"${total}\Delta_\theta$, $-{total}\nabla_{{\!\theta}}$",
    ]


def draw_increments(panels: list[list[Panel]], heights: Sequence[str], title: str) -> "Figure":
    """Draw populations above, weights below, and the legend at the bottom."""
    rows = [(height, row) for height, kind in zip(heights, panels, strict=False) for row in wrapped(kind)]
    columns = max(len(row) for _, row in rows)
    figure = canvas(0.5 + 1.55 * columns, 0.7 + 1.3 * len(rows))
    grid = placed(figure, [row for _, row in rows])
    for (height, _), line in zip(rows, grid, strict=True):
        line[0][0].set_ylabel(height)
        for axes, panel in line:
            draw_panel(axes, panel)
    for axes, _ in grid[-1]:
        axes.set_xlabel("step $t$")
    figure.suptitle(title)
    figure.legend(handles=keys(len(rows[0][1][0].ep)), loc="outside lower center", ncols=2, frameon=False)
    return figure


def draw_panel(axes: Any, panel: Panel) -> None:
    """Draw BPTT's gradient and then EP's increment of every component, in the component's color."""
    ep, bptt = panel.ep, -panel.bptt
    for side, look in zip((bptt, ep), looks(len(ep)), strict=True):
        for n, curve in enumerate(side.T):
            axes.plot(range(len(curve)), curve, color=PALETTE[n % len(PALETTE)], **look)
    axes.set_title(panel.title, y=1.0, pad=13)  # above the power of ten
    axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3), useMathText=True)
    whole_numbers(axes, most=5)
    if len(ep) == 1:
        axes.set(xlim=(-1, 1), xticks=[0], ymargin=0.2)
    if not ep.any() and not bptt.any():
        axes.set(ylim=(-1, 1), yticks=[0])


def looks(steps: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the line styles of BPTT (solid) and EP (dashed), or markers if there is a single step."""
    if steps == 1:
        return {"marker": "o", "markersize": 7, "alpha": 0.4, "linestyle": ""}, {"marker": "x", "linestyle": ""}
    solid = {"linewidth": 3.2, "alpha": 0.4, "solid_capstyle": "butt"}
    return solid, {"linewidth": 1.1, "linestyle": (0, (3, 2))}


def keys(steps: int) -> list[Any]:
    """Return the legend entries of BPTT and EP."""
    from matplotlib.lines import Line2D

    labels = (r"BPTT, $-\nabla(t)$", r"EP, $\Delta(t)$")
    return [
        Line2D([], [], color="black", label=label, **look) for label, look in zip(labels, looks(steps), strict=True)
    ]

"""Shared by all figures: an empty figure, output files, colors, axes, and names in mathtext."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from eqprop._core.files import write_atomic

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "PALETTE",
    "canvas",
    "placed",
    "plain",
    "plain_numbers",
    "positive",
    "save",
    "scientific",
    "small_print",
    "symbol",
    "whole_numbers",
    "wrapped",
]

T = TypeVar("T")

SIZE = (6.4, 4.0)
"""Inches."""

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Colors for color-blind readers (Okabe and Ito, 2008)."""

MISSING = "plots need matplotlib: pip install 'eqprop[plot]'"


def canvas(width: float = SIZE[0], height: float = SIZE[1]) -> "Figure":
    """Return an empty figure without a window; sizes in inches."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ModuleNotFoundError(MISSING) from None
    return Figure(figsize=(width, height), layout="constrained")


@contextmanager
def small_print() -> Iterator[None]:
    """Use the font sizes and line widths of a paper's column: 8 points at the figure's own size."""
    try:
        from matplotlib import rc_context
    except ImportError:
        raise ModuleNotFoundError(MISSING) from None
    style: dict[Any, Any] = {
        "font.size": 8,
        "axes.titlesize": 8,
        "figure.titlesize": 9,
        "legend.fontsize": 8,
        "xtick.labelsize": 7,
        "ytick.labelsize": 7,
        "xtick.major.size": 2.5,
        "ytick.major.size": 2.5,
        "axes.linewidth": 0.6,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    with rc_context(style):
        yield


def save(figure: "Figure", path: Path) -> None:
    """Write the figure as PNG and SVG; the same data give the same bytes."""
    from matplotlib import rc_context

    path.parent.mkdir(parents=True, exist_ok=True)
    with rc_context({"svg.hashsalt": "eqprop"}):
        png, svg = BytesIO(), BytesIO()
        figure.savefig(png, format="png", dpi=200, metadata={"Software": None})
        figure.set_layout_engine("none")  # keep the layout of the first format
        figure.savefig(svg, format="svg", metadata={"Date": None})
    write_atomic(path.with_name(f"{path.name}.png"), png.getvalue())
    write_atomic(path.with_name(f"{path.name}.svg"), svg.getvalue())


def plain(text: str) -> str:
    r"""Return text of a user so that matplotlib writes it as it is: not as a formula, and not as a label to hide.

    >>> plain("a$b$"), plain("_x")
    ('a\\$b\\$', ' _x')
    """
    return (" " if text.startswith("_") else "") + text.replace("$", r"\$")


def positive(values: Tensor) -> Tensor:
    """Replace values that are not positive by NaN, which leaves a gap on a logarithmic axis."""
    return values.where(values > 0, torch.nan)


def whole_numbers(axes: Any, most: int = 10) -> None:
    """Put ticks at integers only, with at most ``most`` intervals: there is no epoch 2.5."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(most, integer=True))


def plain_numbers(axes: Any) -> None:
    """Write 2 and 50 instead of powers of ten on a logarithmic axis."""
    from matplotlib.ticker import FuncFormatter, LogLocator

    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, place: f"{value:g}"))
    axes.yaxis.set_minor_formatter(FuncFormatter(lambda value, place: ""))


def scientific(value: float) -> str:
    r"""Format a number for mathtext.

    >>> scientific(0.02), scientific(1e-5), scientific(2.5e-6)
    ('0.02', '10^{-5}', '2.5 \\times 10^{-6}')
    """
    mantissa, _, exponent = f"{value:g}".partition("e")
    power = f"10^{{{int(exponent or 0)}}}"
    return mantissa if not exponent else power if mantissa == "1" else rf"{mantissa} \times {power}"


def wrapped(panels: Sequence[T], most: int = 4) -> list[Sequence[T]]:
    """Split panels into rows of at most ``most``, as even as possible.

    >>> wrapped("abcde"), wrapped("abcde", most=2)
    (['abc', 'de'], ['ab', 'cd', 'e'])
    """
    width = ceil(len(panels) / ceil(len(panels) / most))
    return [panels[n : n + width] for n in range(0, len(panels), width)]


def placed(figure: "Figure", rows: Sequence[Sequence[T]], **options: Any) -> list[list[tuple[Any, T]]]:
    """Return rows of ``(axes, panel)``; unused places stay empty. Options are passed to ``subplots``."""
    grid = figure.subplots(len(rows), max(map(len, rows)), squeeze=False, **options)
    for line, row in zip(grid, rows, strict=True):
        for axes in line[len(row) :]:
            axes.remove()
    return [list(zip(line, row, strict=False)) for line, row in zip(grid, rows, strict=True)]


LETTERS = {"weight": "W", "upward.weight": "W", "bias": "b", "upward.bias": "b", "feedback": "W"}


def symbol(name: str) -> str:
    r"""Return the symbol of a population or parameter, or the name itself if it has none.

    >>> symbol("s2"), symbol("0→1 weight"), symbol("1→2 feedback"), symbol("readout.weight")
    ('$s^{2}$', '$W_{0\\to1}$', '$W_{2\\to1}$', 'readout.weight')
    """
    if found := re.fullmatch(r"s(\d+)", name):
        return f"$s^{{{found[1]}}}$"
    found = re.fullmatch(r"(\d+)→(\d+)(?: \((\d+)\))? (.+)", name)
    if found is None or found[4] not in LETTERS:
        return name
    pre, post = (found[2], found[1]) if found[4] == "feedback" else (found[1], found[2])
    number = f"^{{({found[3]})}}" if found[3] else ""
    return rf"${LETTERS[found[4]]}_{{{pre}\to{post}}}{number}$"

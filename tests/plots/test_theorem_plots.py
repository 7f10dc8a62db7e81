"""Pictures of the theorem show the numbers that they were given."""

import math
import sys
from dataclasses import dataclass, replace
from xml.etree import ElementTree

import pytest
import torch

import eqprop as ep
from eqprop import plots
from eqprop.theorem import Series

ENERGY = ep.EnergyDescent(dt=0.3, clamp=False)


def network(sizes=(5, 7, 4), **options) -> ep.Model:
    torch.manual_seed(1)
    return ep.mlp(sizes, **{"activation": "tanh", "dynamics": ENERGY} | options).double()


def report(model=None, steps=6, beta=0.02, x=None, **options) -> ep.GDUReport:
    model = model or network()
    n = model.network.populations[0].shape[0]
    x = torch.rand(3, n, generator=torch.Generator().manual_seed(2), dtype=torch.double) if x is None else x
    return ep.gdu(model, x, torch.arange(len(x)), 80, steps, beta, **options)


def still(steps=6) -> ep.GDUReport:
    """Nothing moves, and nothing has a gradient."""
    found = report(steps=steps)
    zero = {name: Series(torch.zeros_like(p.ep), torch.zeros_like(p.bptt)) for name, p in found.parameters.items()}
    neurons = [Series(torch.zeros_like(p.ep), torch.zeros_like(p.bptt)) for p in found.neurons]
    return replace(found, neurons=neurons, parameters=zero)


@dataclass(frozen=True)
class Cell:
    """What a map asks of a setting."""

    free_steps: int
    nudged_steps: int
    beta: float
    cosine: float
    same_sign: float


CELLS = [
    Cell(t, k, beta, 1 - k / (t + 5) + beta, k / t)
    for t in (10, 30, 20)
    for k in (20, 5, 10)
    for beta in (0.1, 0.5, 1e-5)
    if k <= t
]


def summary(errors, angle=1.0, nudging="one-sided") -> dict:
    """A report's, as far as a picture asks: populations s1 and s2, a weight, its bias, and a readout's weight."""
    s1, s2, weight = errors
    return {
        "nudging": nudging,
        "angle": angle,
        "populations": {"s1": {"relative_error": s1}, "s2": {"relative_error": s2}},
        "parameters": {
            "network.connections.0.weight": {"label": "0→1 weight", "weight": True, "relative_error": weight},
            "network.connections.0.bias": {"label": "0→1 bias", "weight": False, "relative_error": 9.0},
            "cost.readout.weight": {"label": "cost.readout.weight", "weight": False, "relative_error": 8.0},
        },
    }


POINTS = {
    0.1: summary((0.3, 0.2, 0.1), 5.0),
    0.001: summary((0.003, 0.002, 0.0), 0.04),
    0.01: summary((0.03, 0.0, 0.01), 0.5),
}
ERRORS = {"EB-1h": {"s1": 0.02, "s2": 0.001, "0→1 weight": 0.5}, "P-2h": {"s1": 0.0, "0→1 bias": 1.5}}

DRAWINGS = {
    "increments": (lambda path: plots.increments(report(), path), ["step $t$", r"$\beta = 0.02$, $T = 80$, $K = 6$"]),
    "relative_errors": (lambda path: plots.relative_errors(ERRORS, path, "errors"), ["EB-1h", "P-2h", "errors"]),
    "against_beta": (lambda path: plots.against_beta(POINTS, path, "of beta"), ["relative error", "angle", "of beta"]),
    "agreement_map": (
        lambda path: plots.agreement_map(CELLS, path, wanted=0.9, chosen=CELLS[3], title="the map"),
        ["$T = 30$", "nudged steps $K$", "at least 90 % of the signs", "the map"],
    ),
}


@pytest.fixture
def drawn(monkeypatch):
    """The figures, instead of files."""
    figures = []
    for module in (plots.curves, plots.errors, plots.tuning):
        monkeypatch.setattr(module, "save", lambda figure, path: figures.append(figure))
    return figures


@pytest.mark.parametrize("name", DRAWINGS)
def test_both_files_are_written_and_the_same_data_give_the_same_bytes(tmp_path, name):
    draw, words = DRAWINGS[name]
    for folder in ("a", "b"):
        draw(tmp_path / folder / "picture")
        assert sorted(p.name for p in (tmp_path / folder).iterdir()) == ["picture.png", "picture.svg"]
    for ending in ("png", "svg"):
        one, two = (tmp_path / folder / f"picture.{ending}" for folder in ("a", "b"))
        assert one.read_bytes() == two.read_bytes()
    text = (tmp_path / "a" / "picture.svg").read_text()
    assert ElementTree.fromstring(text).tag.endswith("svg")
    for word in words:
        assert word in text


@pytest.mark.parametrize("name", DRAWINGS)
def test_without_matplotlib_it_is_said_how_to_get_it(monkeypatch, tmp_path, name):
    for module in [module for module in sys.modules if module.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'eqprop\[plot\]'"):
        DRAWINGS[name][0](tmp_path / "a" / "picture")
    assert not (tmp_path / "a").exists()


def test_the_style_of_a_paper_stays_within_its_pictures(tmp_path):
    import matplotlib

    before = dict(matplotlib.rcParams)
    plots.relative_errors(ERRORS, tmp_path / "errors")
    assert dict(matplotlib.rcParams) == before


def test_a_report_draws_itself(tmp_path):
    report().plot(tmp_path / "one")
    report().plot(str(tmp_path / "two.png"))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["one.png", "one.svg", "two.png", "two.svg"]
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()


# Increments ---------------------------------------------------------------------------------------


def panels(figure) -> dict[str, object]:
    return {axes.get_title(): axes for axes in figure.axes}


def curves(axes) -> tuple[list, list]:
    """The lines of BPTT, which are thick, and those of EP."""
    lines = axes.get_lines()
    thick = [line for line in lines if line.get_linewidth() > 2]
    return thick, [line for line in lines if line not in thick]


def heights(lines) -> list[list[float]]:
    assert all(list(line.get_xdata()) == list(range(len(line.get_xdata()))) for line in lines)
    return [[float(y) for y in line.get_ydata()] for line in lines]


def test_there_is_a_panel_for_each_population_and_each_weight(tmp_path, drawn):
    model = ep.Model(network().network, ENERGY, ep.CrossEntropyReadout(4, 3).double())
    plots.increments(report(model), tmp_path)
    assert list(panels(drawn[0])) == ["$s^{1}$", "$s^{2}$ (output)", r"$W_{0\to1}$", r"$W_{1\to2}$"]


def test_the_panels_of_the_toy_network(tmp_path, drawn):
    plots.increments(report(ep.toy(inputs=3, hidden=4, outputs=3).double()), tmp_path)
    assert list(panels(drawn[0]))[2:] == [r"$W_{0\to1}$", r"$W_{0\to2}$", r"$W_{1\to2}$"]


def test_feedback_weights_have_panels_of_their_own(tmp_path, drawn):
    plots.increments(report(network((5, 6, 6, 4), tied=False, angle=30.0)), tmp_path)
    forward = [r"$W_{0\to1}$", r"$W_{1\to2}$", r"$W_{2\to3}$"]
    assert list(panels(drawn[0]))[3:] == [*forward, r"$W_{2\to1}$ (feedback)", r"$W_{3\to2}$ (feedback)"]


@pytest.mark.parametrize("hidden", [0, 3, 4, 6])
def test_deep_networks_have_all_their_panels(tmp_path, drawn, hidden):
    plots.increments(report(network((5, *[3] * hidden, 4))), tmp_path)
    names = list(panels(drawn[0]))
    assert len(names) == 2 * (hidden + 1)
    assert names[hidden] == f"$s^{{{hidden + 1}}}$ (output)"
    assert [bool(axes.get_xlabel()) for axes in drawn[0].axes][-1]


def test_curves_are_the_processes(tmp_path, drawn):
    """Solid is minus BPTT's gradient, dashed EP's increment; neurons are means over the batch."""
    found = report()
    chosen = {
        "s1": [6, 0],
        "s2": [3],
        "network.connections.0.weight": [8, 34, 2],
        "network.connections.1.weight": [27],
    }
    plots.increments(found, tmp_path, components=chosen)
    for axes, (name, places) in zip(drawn[0].axes, chosen.items(), strict=True):
        solid, dashed = curves(axes)
        process = found.parameters[name] if "." in name else found.neurons[int(name[1]) - 1]
        for place, bptt, increment in zip(places, heights(solid), heights(dashed), strict=True):
            if "." in name:
                pre = process.ep.shape[2]
                expected = [p[:, place // pre, place % pre].tolist() for p in (-process.bptt, process.ep)]
            else:
                expected = [(sum(p[:, b, place] for b in range(3)) / 3).tolist() for p in (-process.bptt, process.ep)]
            assert bptt == pytest.approx(expected[0])
            assert increment == pytest.approx(expected[1])
            assert bptt != increment


def test_one_component_has_one_color_and_ep_is_on_top(tmp_path, drawn):
    plots.increments(report(), tmp_path)
    for axes in drawn[0].axes:
        solid, dashed = curves(axes)
        colors = [line.get_color() for line in solid]
        assert colors == [line.get_color() for line in dashed]
        assert len(set(colors)) == len(colors) == min(5, len(colors))
        assert list(axes.get_lines()) == solid + dashed
        assert {line.get_linestyle() for line in solid} == {"-"}
        assert {line.get_linestyle() for line in dashed} == {"--"}
        assert all(line.get_alpha() < 1 for line in solid)
    (legend,) = drawn[0].legends
    assert [text.get_text() for text in legend.get_texts()] == [r"BPTT, $-\nabla(t)$", r"EP, $\Delta(t)$"]


def test_accumulated_curves_are_sums(tmp_path, drawn):
    found = report()
    plots.increments(found, tmp_path, components={"network.connections.0.weight": [3]}, accumulated=True)
    (solid,), (dashed,) = curves(panels(drawn[0])[r"$W_{0\to1}$"])
    process = found.parameters["network.connections.0.weight"]
    for line, side in ((solid, -process.bptt[:, 0, 3]), (dashed, process.ep[:, 0, 3])):
        sums, total = [], 0.0
        for value in side.tolist():
            total += value
            sums.append(total)
        assert heights([line])[0] == pytest.approx(sums)
    assert all(r"\sum" in drawn[0].axes[n].get_ylabel() for n in (0, 2))


def test_components_drawn_at_random_are_different_ones_of_the_panel(tmp_path, drawn):
    found = report()
    plots.increments(found, tmp_path, components=6)
    solid, _ = curves(panels(drawn[0])[r"$W_{1\to2}$"])
    given = [list(map(float, curve)) for curve in -found.parameters["network.connections.1.weight"].bptt.flatten(1).T]
    places = [given.index(curve) for curve in heights(solid)]
    assert places == sorted(set(places))
    assert len(places) == 6
    assert len(curves(drawn[0].axes[1])[0]) == 4  # the output has no more


def test_a_seed_decides_what_is_drawn_and_no_other_generator(tmp_path, drawn):
    found = report(network((30, 20, 4)))
    state = torch.get_rng_state()
    for seed in (3, 3, 4):
        plots.increments(found, tmp_path, seed=seed)
    shown = [heights(figure.axes[2].get_lines()) for figure in drawn]
    assert shown[0] == shown[1] != shown[2]
    assert torch.equal(torch.get_rng_state(), state)


def test_components_that_never_move_are_drawn_only_when_the_others_do_not_suffice(tmp_path, drawn):
    """The weights of a pixel that is black in the whole batch have no gradient: here of all pixels but one."""
    x = torch.zeros(3, 30, dtype=torch.double)
    x[:, 17] = 0.5
    found = report(network((30, 4, 4)), x=x)
    for count in (4, 7):
        plots.increments(found, tmp_path, components=count)
        solid, _ = curves(panels(drawn[-1])[r"$W_{0\to1}$"])
        assert sum(any(curve) for curve in heights(solid)) == 4
        assert len(solid) == count


@pytest.mark.parametrize(
    ("dynamics", "label"),
    [(ENERGY, r"$\Delta_s$, $-\nabla_{\!s}$"), (ep.Prototypical("inside"), r"$\Delta_s$, $-\nabla_{\!u}$")],
)
def test_the_axis_says_what_the_theorem_is_about(tmp_path, drawn, dynamics, label):
    found = report(network(dynamics=dynamics))
    assert found.against == ("dL/du" if "u" in label else "dL/ds")
    plots.increments(found, tmp_path)
    assert drawn[0].axes[0].get_ylabel() == label


def test_titles(tmp_path, drawn):
    plots.increments(report(beta=2e-5, nudging="centred"), tmp_path)
    plots.increments(report(), tmp_path, title="mine")
    assert drawn[0].get_suptitle() == r"$\beta = \pm2 \times 10^{-5}$, $T = 80$, $K = 6$"
    assert drawn[1].get_suptitle() == "mine"


def test_a_single_step_is_a_dot_and_a_cross(tmp_path, drawn):
    found = report(steps=1)
    plots.increments(found, tmp_path, components={"s2": [1]})
    dot, cross = drawn[0].axes[1].get_lines()
    assert (dot.get_marker(), cross.get_marker()) == ("o", "x")
    assert heights([dot]) == [pytest.approx([-found.neurons[1].bptt[0, :, 1].mean().item()])]
    plots.increments(report(), tmp_path)
    assert {line.get_marker() for axes in drawn[1].axes for line in axes.get_lines()} == {"None"}


@pytest.mark.parametrize("steps", [1, 6])
def test_a_network_that_never_moves_can_be_drawn(tmp_path, steps):
    plots.increments(still(steps), tmp_path / "still")
    assert (tmp_path / "still.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"components": 0}, r"`components` must be a whole number of at least 1, got 0"),
        ({"components": {"s3": [0]}}, r"`components` names 's3', which has no panel: there are s1, s2, network"),
        ({"components": {"network.connections.0.bias": [0]}}, r"`components` names .*bias', which has no panel"),
        ({"components": {"s2": [4]}}, r"`components` of 's2' must be below 4, got 4"),
        ({"components": {"s2": [-1]}}, r"`components` must be a whole number of at least 0, got -1"),
        ({"seed": -1}, r"`seed` must be a whole number of at least 0, got -1"),
    ],
)
def test_mistakes_in_what_to_draw(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        plots.increments(report(), tmp_path / "a" / "picture", **options)
    assert not (tmp_path / "a").exists()


# Relative errors ----------------------------------------------------------------------------------


def bars(axes) -> dict[str, tuple[float, str, str]]:
    """For each name the bar's end, its color and the number beside it; names are from the top."""
    assert axes.yaxis_inverted()
    names = [label.get_text() for label in axes.get_yticklabels()]
    ends = [(bar.get_x() + bar.get_width(), bar.get_facecolor()) for bar in axes.patches]
    return {name: (*end, text.get_text()) for name, end, text in zip(names, ends, axes.texts, strict=True)}


def test_bars_are_the_errors(tmp_path, drawn):
    plots.relative_errors(ERRORS, tmp_path)
    first, second = (bars(axes) for axes in drawn[0].axes)
    assert [axes.get_title() for axes in drawn[0].axes] == ["EB-1h", "P-2h"]
    assert {name: bar[0] for name, bar in first.items()} == {"$s^{1}$": 0.02, "$s^{2}$": 0.001, r"$W_{0\to1}$": 0.5}
    assert {name: bar[2] for name, bar in first.items()} == {
        "$s^{1}$": "0.020",
        "$s^{2}$": "0.0010",
        r"$W_{0\to1}$": "0.50",
    }
    assert [bar[2] for bar in second.values()] == ["$0$", "1.5"]
    assert list(second) == ["$s^{1}$", r"$b_{0\to1}$"]


def test_kinds_differ_in_color(tmp_path, drawn):
    plots.relative_errors(ERRORS, tmp_path)
    first, second = (bars(axes) for axes in drawn[0].axes)
    assert first["$s^{1}$"][1] == first["$s^{2}$"][1] == second["$s^{1}$"][1]
    assert len({first["$s^{1}$"][1], first[r"$W_{0\to1}$"][1], second[r"$b_{0\to1}$"][1]}) == 3
    assert [text.get_text() for text in drawn[0].legends[0].get_texts()] == ["population", "weight", "bias"]


def test_every_bar_can_be_seen_and_compared(tmp_path, drawn):
    plots.relative_errors(ERRORS, tmp_path)
    limits = {axes.get_xlim() for axes in drawn[0].axes}
    assert len(limits) == 1
    ((low, high),) = limits
    assert low < 0.001 < 1.5 < high
    assert all(axes.get_xscale() == "log" for axes in drawn[0].axes)


@pytest.mark.parametrize("count", [1, 4, 5, 8])
def test_every_experiment_has_its_panel(tmp_path, drawn, count):
    errors = {f"model {n}": {f"s{m}": 0.1 / m for m in range(1, 2 + n % 7)} for n in range(count)}
    plots.relative_errors(errors, tmp_path)
    assert [axes.get_title() for axes in drawn[0].axes] == list(errors)
    assert [len(axes.patches) for axes in drawn[0].axes] == [len(several) for several in errors.values()]


def test_errors_of_zero_can_be_drawn(tmp_path):
    plots.relative_errors({"exact": {"s1": 0.0, "0→1 weight": 0.0}}, tmp_path / "exact")
    assert (tmp_path / "exact.png").stat().st_size > 1000


def test_there_must_be_an_experiment(tmp_path):
    with pytest.raises(ValueError, match="`errors` must hold at least one experiment"):
        plots.relative_errors({}, tmp_path)


# Against beta -------------------------------------------------------------------------------------


def by_label(axes) -> dict[str, list[tuple[float, float]]]:
    return {line.get_label(): list(zip(*line.get_data(), strict=True)) for line in axes.get_lines()}


def slope(points) -> float:
    (x0, y0), (x1, y1) = points
    return math.log(y1 / y0) / math.log(x1 / x0)


def test_errors_and_angle_against_beta(tmp_path, drawn):
    """Betas in order, zeros as gaps, and neither biases nor the readout."""
    plots.against_beta(POINTS, tmp_path)
    left, right = drawn[0].axes
    found = by_label(left)
    assert set(found) == {"$s^{1}$", "$s^{2}$", r"$W_{0\to1}$", r"$\propto\beta$"}
    assert found["$s^{1}$"] == [(0.001, 0.003), (0.01, 0.03), (0.1, 0.3)]
    assert found["$s^{2}$"][::2] == [(0.001, 0.002), (0.1, 0.2)]
    assert found["$s^{2}$"][1] == (0.01, pytest.approx(math.nan, nan_ok=True))
    assert found[r"$W_{0\to1}$"][1:] == [(0.01, 0.01), (0.1, 0.1)]
    assert (left.get_xscale(), left.get_yscale(), right.get_xscale()) == ("log", "log", "log")
    (angles,) = by_label(right).values()
    assert angles == [(0.001, 0.04), (0.01, 0.5), (0.1, 5.0)]


@pytest.mark.parametrize(("nudging", "order"), [("one-sided", 1), ("centred", 2)])
def test_the_order_of_theory_is_a_line_below_the_errors(tmp_path, drawn, nudging, order):
    points = {beta: summary((beta, 3 * beta, beta**2), nudging=nudging) for beta in (0.5, 0.1, 0.02)}
    plots.against_beta(points, tmp_path)
    found = by_label(drawn[0].axes[0])
    line = found[r"$\propto\beta$" if order == 1 else r"$\propto\beta^2$"]
    assert slope(line) == pytest.approx(order)
    (x0, y0), _ = line
    for beta in points:
        assert y0 * (beta / x0) ** order < min(beta, beta**2)


def test_mixed_nudgings_are_of_the_first_order(tmp_path, drawn):
    plots.against_beta(POINTS | {0.5: summary((0.1, 0.1, 0.1), nudging="centred")}, tmp_path)
    assert r"$\propto\beta$" in by_label(drawn[0].axes[0])


def test_reports_can_be_drawn_against_beta(tmp_path, drawn):
    found = {beta: report(beta=beta) for beta in (0.1, 0.01)}
    plots.against_beta({beta: one.summary() for beta, one in found.items()}, tmp_path)
    curve = by_label(drawn[0].axes[0])[r"$W_{1\to2}$"]
    for beta, error in curve:
        process = found[beta].parameters["network.connections.1.weight"]
        apart, size = (
            (process.ep + process.bptt).norm(dim=0),
            torch.maximum(process.ep.norm(dim=0), process.bptt.norm(dim=0)),
        )
        assert error == pytest.approx((apart / size).mean().item())


def test_the_sign_of_beta_does_not_count(tmp_path, drawn):
    plots.against_beta({-0.1: summary((0.1, 0.2, 0.3)), -0.01: summary((0.01, 0.02, 0.03))}, tmp_path)
    assert by_label(drawn[0].axes[0])["$s^{1}$"] == [(0.01, 0.01), (0.1, 0.1)]


@pytest.mark.parametrize("errors", [(0.1, 0.2, 0.3), (0.0, 0.0, 0.1), (0.0, 0.0, 0.0)])
@pytest.mark.parametrize("angle", [0.0, 3.0, 180.0])
def test_a_single_beta_can_be_drawn(tmp_path, drawn, errors, angle):
    plots.against_beta({0.1: summary(errors, angle)}, tmp_path)
    left, right = drawn[0].axes
    low, high = left.get_xlim()
    assert low < 0.1 < high
    assert all(line.get_marker() in ("o", "s") for line in left.get_lines() if line.get_label() != r"$\propto\beta$")
    bottom, top = right.get_ylim()
    assert bottom <= angle <= top


def test_no_errors_at_all_can_be_drawn(tmp_path):
    plots.against_beta({beta: summary((0.0, 0.0, 0.0), 0.0) for beta in (0.1, 0.2)}, tmp_path / "exact")
    assert (tmp_path / "exact.png").stat().st_size > 1000


def test_there_must_be_a_beta(tmp_path):
    with pytest.raises(ValueError, match="`points` must hold at least one beta"):
        plots.against_beta({}, tmp_path)


# The map ------------------------------------------------------------------------------------------


def test_every_cell_is_in_its_place(tmp_path, drawn):
    """Panels by T, K to the right, beta upwards; the number and the color are those of its cosine."""
    plots.agreement_map(CELLS, tmp_path, wanted=0.5)
    maps = [axes for axes in drawn[0].axes if axes.get_title()]
    assert [axes.get_title() for axes in maps] == ["$T = 10$", "$T = 20$", "$T = 30$"]
    steps, betas = [5, 10, 20], [1e-5, 0.1, 0.5]
    for axes, time in zip(maps, (10, 20, 30), strict=True):
        assert [label.get_text() for label in axes.get_xticklabels()] == ["5", "10", "20"]
        shown = {tuple(text.get_position()): text for text in axes.texts}
        (mesh,) = axes.collections
        colors = mesh.get_array()
        for x, k in enumerate(steps):
            for y, beta in enumerate(betas):
                cell = next((c for c in CELLS if (c.free_steps, c.nudged_steps, c.beta) == (time, k, beta)), None)
                if cell is None:
                    assert colors.mask[y, x]
                    assert (x, y) not in shown
                    continue
                assert float(colors[y, x]) == cell.cosine
                assert shown[x, y].get_text() == f"{cell.cosine:.2f}"
                assert shown[x, y].get_fontweight() == ("bold" if k / time >= 0.5 else "normal")
    assert [label.get_text() for label in maps[0].get_yticklabels()] == ["$10^{-5}$", "$0.1$", "$0.5$"]


def test_all_panels_have_one_scale_which_is_shown(tmp_path, drawn):
    low = replace(CELLS[0], cosine=-0.34)
    plots.agreement_map([low, *CELLS[1:]], tmp_path, wanted=0.5)
    *maps, bar = drawn[0].axes
    assert {axes.collections[0].norm.vmin for axes in maps} == {-0.4}
    assert {axes.collections[0].norm.vmax for axes in maps} == {1.0}
    assert bar.get_ylim() == pytest.approx((-0.4, 1.0))
    assert any(text.get_text() == "\N{MINUS SIGN}0.34" for text in maps[0].texts)


def test_the_chosen_cell_is_framed(tmp_path, drawn):
    chosen = next(cell for cell in CELLS if (cell.free_steps, cell.nudged_steps, cell.beta) == (20, 10, 0.5))
    plots.agreement_map(CELLS, tmp_path, wanted=0.5, chosen=chosen)
    frames = {axes.get_title(): [patch.get_bbox().bounds for patch in axes.patches] for axes in drawn[0].axes[:3]}
    assert frames == {"$T = 10$": [], "$T = 20$": [(0.5, 1.5, 1.0, 1.0)], "$T = 30$": []}
    texts = [text.get_text() for text in drawn[0].legends[0].get_texts()]
    assert texts == ["bold: at least 50 % of the signs agree", r"chosen: $T = 20$, $K = 10$, $\beta = 0.5$"]


def test_without_a_choice_there_is_no_frame(tmp_path, drawn):
    plots.agreement_map(CELLS, tmp_path, wanted=0.95)
    assert not any(axes.patches for axes in drawn[0].axes[:3])
    assert [text.get_text() for text in drawn[0].legends[0].get_texts()] == ["bold: at least 95 % of the signs agree"]


def test_numbers_can_be_read_on_every_color(tmp_path, drawn):
    """Contrast of at least 4.5 between letters and their ground (WCAG 2, level AA)."""
    cells = [Cell(100, k, 0.1, 2 * k / 60 - 1, 0.5) for k in range(1, 61)]
    plots.agreement_map(cells, tmp_path, wanted=0.9)

    def luminance(rgb) -> float:
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb[:3]]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    (mesh,) = drawn[0].axes[0].collections
    for text, cell in zip(drawn[0].axes[0].texts, cells, strict=True):
        letters = {"white": 1.0, "black": 0.0}[text.get_color()]
        dark, light = sorted((letters, luminance(mesh.cmap(mesh.norm(cell.cosine)))))
        assert (light + 0.05) / (dark + 0.05) >= 4.5


@pytest.mark.parametrize("times", [(10,), (10, 20, 30, 40, 50)])
def test_maps_of_any_number_of_panels(tmp_path, times):
    cells = [Cell(time, k, 0.1, 0.95, 0.5) for time in times for k in (1, 2, 4, 6, 8, 10)[: len(times)]]
    plots.agreement_map(cells, tmp_path / "map", wanted=0.9, chosen=cells[0])
    assert (tmp_path / "map.png").stat().st_size > 1000


def test_there_must_be_a_cell_and_the_choice_is_one_of_them(tmp_path):
    with pytest.raises(ValueError, match="`cells` must hold at least one setting"):
        plots.agreement_map([], tmp_path, wanted=0.9)
    with pytest.raises(ValueError, match=r"`chosen` must be one of the cells, got Cell\(free_steps=10"):
        plots.agreement_map(CELLS[1:], tmp_path, wanted=0.9, chosen=CELLS[0])

"""Figures of errors over angles of first updates: their points, table, axes and missing rules."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

import eqprop as ep
from command import call
from eqprop import plots
from eqprop.models.mlp import MLP
from eqprop.papers.catalog import PAPERS
from eqprop.papers.ernoult2020.recipes import UPDATE_ANGLES
from eqprop.papers.ernoult2020.reproduction import ERNOULT2020
from eqprop.papers.registry import PUBLISHED, recipe
from eqprop.papers.reproduction.paper import AnglePoint, ErrorByAngle, Paper, Row
from eqprop.papers.reproduction.records import Findings, Training
from eqprop.papers.reproduction.studies import Study
from eqprop.papers.reproduction.tables import angle_panels, angle_table, rules_without_training
from eqprop.report import Table
from eqprop.training import SGD, Data, Run
from eqprop.training.run_folder import RunFolder
from picture_files import check
from small_sets import isolate

INSIDE = ep.Prototypical(nudge="inside")
TINY = Run(
    "tiny", Data("digits", 100), MLP((64, 8, 10), "sigmoid", dynamics=INSIDE),
    ep.EquilibriumProp(6, 3, 0.2, "centred"), SGD(1.0), epochs=1,
)  # fmt: skip
ROWS = [
    Row(replace(TINY, optimizer=SGD(rate)), f"eqprop train tiny --optimizer.rates {rate}") for rate in (1.0, 0.5, 0.2)
]
FIGURE = ErrorByAngle(
    "tiny-by-angle",
    "Error by angle",
    "Three rules.",
    "angles",
    (
        AnglePoint("EP-t", ROWS[0], (11.0, 1.5), (2.25, 0.5)),
        AnglePoint("VF-t, 0°", ROWS[1], (44.0, None), (3.25, 1.0)),
        AnglePoint("VF-t, 90°", ROWS[2], (88.0, None), (50.0, 60.0)),
    ),
)
ANGLES = {
    "EP-t": {"angle": [10.0, 20.0], "without_first": [30.0, 50.0]},
    "VF-t, 0°": {"angle": [60.0, 61.0], "without_first": [70.0, 72.0]},
    "VF-t, 90°": {"angle": [90.0, 91.0], "without_first": [95.0, 96.0]},
}
WHOLE, REST = "total update", "without t = 0, as published"


class Known(Study):
    """A study with fixed angles."""

    name = "angles"
    title = "Angles"
    text = "Fixed angles."
    key: ClassVar[list[str]] = []

    def compute(self, device: str, root: str | None, tell: Any) -> dict[str, Any]:
        return ANGLES

    def table(self, found: dict[str, Any]) -> Table:
        return Table(("rules",), [[str(len(found))]])

    def draw(self, found: dict[str, Any], path: Path) -> None:
        plots.beside_published({"a": [(1.0, [2.0])]}, path, "angle")


def findings(errors: dict[int, list[float]], angles: dict | None = ANGLES) -> Findings:
    """Return findings with trainings of some rows, by index, with these final errors, and the study."""
    found = Findings(Path("nowhere"))
    for n, values in errors.items():
        epochs = [[{"test_error": 0.9}, {"test_error": value}] for value in values]
        found.trainings[ROWS[n].command] = [Training(ROWS[n].run, rows, {}) for rows in epochs]
    if angles is not None:
        found.studies["angles"] = {"found": angles}
    return found


def test_a_point_needs_an_angle_and_a_training():
    drawn = angle_panels(FIGURE, findings({0: [0.02, 0.04], 2: [0.5]}))
    assert list(drawn) == [WHOLE, REST]
    assert drawn[WHOLE][0] == {"EP-t": [([10.0, 20.0], [2.0, 4.0])], "VF-t": [([90.0, 91.0], [50.0])]}
    assert drawn[REST][0] == {"EP-t": [([30.0, 50.0], [2.0, 4.0])], "VF-t": [([95.0, 96.0], [50.0])]}


def test_published_points_are_in_the_panel_of_their_definition():
    drawn = angle_panels(FIGURE, findings({0: [0.02]}))
    assert drawn[WHOLE][1] == {}
    assert drawn[REST][1] == {
        "EP-t": [((11.0, 1.5), (2.25, 0.5))],
        "VF-t": [((44.0, None), (3.25, 1.0)), ((88.0, None), (50.0, 60.0))],
    }


@pytest.mark.parametrize("angles", [None, {}, {"VF-t, 0°": ANGLES["VF-t, 0°"]}])
def test_a_training_without_an_angle_has_no_point(angles):
    assert angle_panels(FIGURE, findings({0: [0.02]}, angles))[WHOLE][0] == {}


def test_the_table():
    table = angle_table(FIGURE, findings({0: [0.02, 0.04]}))
    assert [name.split(",")[0] for name in table.head[1:]] == [
        "published angle", "published test error", "angle here", "angle here", "test error here",
    ]  # fmt: skip
    assert ["without t = 0" in name for name in table.head] == [False, True, False, True, False, False]
    ours, half, nothing = table.rows
    assert ours == ["EP-t", "11.0 ± 1.5°", "2.25 ± 0.50 %", "40.0°", "15.0°", "3.00 ± 1.41 %"]
    assert half == ["VF-t, 0°", "44.0°", "3.25 ± 1.00 %", "71.0°", "60.5°", "–"]
    assert nothing[1:] == ["88.0°", "50.00 ± 60.00 %", "95.5°", "90.5°", "–"]
    assert [row[3:] for row in angle_table(FIGURE, findings({}, None)).rows] == [["–", "–", "–"]] * 3


def test_rules_without_training():
    assert rules_without_training(FIGURE, findings({})) == "EP-t; VF-t from 0°, 90°"
    assert rules_without_training(FIGURE, findings({0: [0.1], 1: [0.1]})) == "VF-t from 90°"
    assert rules_without_training(FIGURE, findings({0: [0.1], 1: [0.1], 2: [0.1]})) == ""


# the figure

OWN = {"EP-t": [([10.0, 20.0], [2.0, 6.0])], "VF-t": [([90.0], [3.0]), ([95.0, 96.0, 100.0], [50.0, 60.0])]}
PUBLISHED_ONES = {
    "EP-t": [((11.0, 1.5), (2.25, 0.5))],
    "VF-t": [((44.0, None), (3.25, 1.0)), ((88.0, 2.0), (50.0, 60.0))],
}
PANELS = {"left": (OWN, {}), "right": (OWN, PUBLISHED_ONES)}


@pytest.fixture
def drawn(monkeypatch):
    """The list of drawn figures; no files are written."""
    figures = []
    monkeypatch.setattr(plots.published, "save", lambda figure, path: figures.append(figure))
    return figures


def bars(container, axis: int) -> list[tuple[float, float]]:
    """The ends of the error bars at each point: horizontal for axis 0, vertical for axis 1."""
    return [tuple(sorted(segment[:, axis])) for segment in container[2][axis].get_segments()]


def points(container) -> list[tuple[float, float]]:
    return list(zip(*map(list, container[0].get_data()), strict=True))


def test_the_image_files(tmp_path):
    for name in ("a", "b"):
        plots.error_by_angle(PANELS, tmp_path / name / "figure", "the figure", published="digitised")
        words = ("left", "right", "EP-t", "VF-t", "here", "digitised", "the figure", "test error (%)", "(degrees)")
        check(tmp_path / name / "figure", *words)
    for ending in ("png", "svg"):
        assert (tmp_path / f"a/figure.{ending}").read_bytes() == (tmp_path / f"b/figure.{ending}").read_bytes()


def test_own_points_are_means_with_bars_from_least_to_most(tmp_path, drawn):
    plots.error_by_angle(PANELS, tmp_path)
    for axes in drawn[0].axes:
        one, several = axes.containers[-2:]
        assert points(one) == [(15.0, 4.0)]
        assert (bars(one, 0), bars(one, 1)) == ([(10.0, 20.0)], [(2.0, 6.0)])
        assert points(several) == [(90.0, 3.0), (97.0, 55.0)]
        assert (bars(several, 0), bars(several, 1)) == ([(90.0, 90.0), (95.0, 100.0)], [(3.0, 3.0), (50.0, 60.0)])
        assert {one[0].get_marker(), several[0].get_marker()} == {"o"}


def test_published_points_are_hollow_with_bars_of_their_deviation(tmp_path, drawn):
    """There is no bar for an unknown deviation; on a logarithmic axis a bar ends above zero."""
    plots.error_by_angle(PANELS, tmp_path)
    left, right = drawn[0].axes
    assert (len(left.containers), len(right.containers)) == (2, 4)
    one, several = right.containers[:2]
    assert points(one) == [(11.0, 2.25)]
    assert (bars(one, 0), bars(one, 1)) == ([(9.5, 12.5)], [(1.75, 2.75)])
    assert points(several) == [(44.0, 3.25), (88.0, 50.0)]
    assert bars(several, 0) == [(44.0, 44.0), (86.0, 90.0)]
    assert bars(several, 1)[0] == (2.25, 4.25)
    low, high = bars(several, 1)[1]
    assert (0 < low < 50, high) == (True, 110.0)
    assert {each[0].get_markerfacecolor() for each in (one, several)} == {"white"}


def test_a_rule_has_one_color(tmp_path, drawn):
    plots.error_by_angle(PANELS, tmp_path)
    left, right = drawn[0].axes
    colors = [container[0].get_color() for container in (*left.containers, *right.containers)]
    assert colors == colors[:2] * 3
    assert len(set(colors)) == 2
    handles = {line.get_label(): line.get_color() for line in drawn[0].legends[0].get_lines()}
    assert [handles["EP-t"], handles["VF-t"]] == colors[:2]
    assert {"here", "published"} <= handles.keys()


def test_ninety_degrees_is_marked_and_all_points_are_visible(tmp_path, drawn):
    plots.error_by_angle(PANELS, tmp_path)
    for axes in drawn[0].axes:
        assert [90, 90] in [list(line.get_xdata()) for line in axes.get_lines()]
        assert axes.get_yscale() == "log"
        assert axes.get_xlim()[0] == 0
        assert axes.get_xlim()[1] >= 120
        assert axes.get_ylim()[0] > 0
        assert axes.get_ylim()[1] > 110
    plots.error_by_angle({"all": ({"EP": [([150.0, 170.0], [50.0])]}, {})}, tmp_path)
    assert 170 < drawn[1].axes[0].get_xlim()[1] <= 185


def test_without_published_points_the_legend_has_none(tmp_path, drawn):
    plots.error_by_angle({"left": (OWN, {})}, tmp_path)
    assert [text.get_text() for text in drawn[0].legends[0].get_texts()] == ["EP-t", "VF-t", "here"]


@pytest.mark.parametrize("nothing", [{}, {"a": ({}, {})}, {"a": ({"EP": []}, {"EP": []})}])
def test_there_must_be_a_point(tmp_path, nothing):
    with pytest.raises(ValueError, match="`panels` holds no point"):
        plots.error_by_angle(nothing, tmp_path)


def test_without_matplotlib(monkeypatch, tmp_path):
    for module in [module for module in sys.modules if module.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'eqprop\[plot\]'"):
        plots.error_by_angle(PANELS, tmp_path / "a" / "picture")
    assert not (tmp_path / "a").exists()


def test_found_angles_over_published_ones(tmp_path, drawn):
    """Points of one label share a color; the diagonal reaches the largest value."""
    plots.beside_published({"a": [(10.0, [8.0, 14.0])], "b": [(50.0, [60.0]), (70.0, [61.0, 81.0])]}, tmp_path, "angle")
    (axes,) = drawn[0].axes
    one, several = axes.containers
    assert (points(one), points(several)) == ([(10.0, 11.0)], [(50.0, 60.0), (70.0, 71.0)])
    assert several[2][0].get_segments()[1][:, 1].tolist() == [61.0, 81.0]
    assert list(axes.get_lines()[0].get_xdata()) == list(axes.get_lines()[0].get_ydata()) == [0, 81.0]


# in a report


@pytest.fixture
def here(tmp_path, monkeypatch):
    isolate(tmp_path, monkeypatch)
    paper = Paper("angles2026", "Angles 2026", "A claim.", (), (), (), studies=(Known(),), angle_figures=(FIGURE,))
    monkeypatch.setitem(PAPERS, paper.name, paper)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


CALL = "reproduce angles2026 --fresh --out out"


def report_text(here) -> str:
    return (here / "out" / "report.md").read_text()


def test_the_report_has_the_figure_and_lists_missing_rules(here):
    call(CALL).done()
    text = report_text(here).split("## Error by angle")[1]
    missing = "because their training is not run yet: EP-t; VF-t from 0°, 90°. `eqprop reproduce angles2026 --train tiny-by-angle`"
    assert missing in text
    assert "![" not in text
    call(f"{CALL} --train tiny-by-angle").done()
    text = report_text(here).split("## Error by angle")[1]
    assert "because their training" not in text
    assert "](plots/tiny-by-angle.png)" in text
    folders = [here / "out/trainings" / row.folder / "seed-0" for row in ROWS]
    for row, folder in zip(FIGURE.points, folders, strict=True):
        assert f"{100 * RunFolder(folder).rows()[-1]['test_error']:.2f} %" in text.split(row.name)[1].splitlines()[0]
    assert "published (from memory and the figure)" in (here / "out/plots/tiny-by-angle.svg").read_text()


def test_a_missing_study_is_reported(here):
    call(f"{CALL} --quick").done()
    text = report_text(here).split("## Error by angle")[1]
    assert "No points found here: the study of their angles is not run yet." in text
    assert "| VF-t, 0°" in text


# the paper's figure


def test_the_published_figure():
    """Every published error of C-EP and C-VF has a published angle of the same recipe and initial angle."""
    assert {(p.recipe, p.angle) for p in UPDATE_ANGLES if p.recipe[0] == "c"} == {
        (p.recipe, p.angle) for p in PUBLISHED if p.source.startswith("Ernoult et al. 2020")
    }
    (figure,) = ERNOULT2020.angle_figures
    names = [point.name for point in figure.points]
    assert names[:4] == ["EP-1h", "EP-2h", "C-EP-1h", "C-EP-2h"]
    turned = ("0", "22.5", "45", "67.5", "90", "112.5", "135", "157.5", "180")
    assert names[4:] == [f"C-VF-{n}h, {angle}°" for n in (1, 2) for angle in turned]
    (study,) = [study for study in ERNOULT2020.studies if study.name == figure.study]
    assert list(study.rules) == names
    known = {(p.recipe, p.method, p.angle): (p.test, p.spread) for p in PUBLISHED}
    for point, angle in zip(figure.points, UPDATE_ANGLES, strict=True):
        run = recipe(angle.recipe)
        assert point.row.run == replace(run, model=replace(run.model, angle=angle.angle))
        assert study.rules[point.name].model == point.row.run.model
        assert point.error == known[angle.recipe, run.method, angle.angle]
        assert point.angle == (angle.mean, angle.spread)
        assert not point.row.reduced
    assert figure.text.endswith(
        "C-VF-2h, 157.5°; C-VF-2h, 180°: read off the figure, where the last two angles may be exchanged."
    )
